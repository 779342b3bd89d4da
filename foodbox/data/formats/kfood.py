"""AI Hub's Korean food photos (kfood): a file crop_area.properties in each folder, a line NAME=x,y,w,h for each photo.

NAME is the photo's name without its ending; the numbers are the box's top left corner and its size in pixels. The class
is the name of the folder that the file lies in. People wrote these files by hand and with many programs, so a line is
read if its meaning is plain, and else refused. `read_corners` and `write_corners` are for files of x1,y1,x2,y2.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from unicodedata import normalize

from foodbox.data.formats.common import (
    Labels,
    RawBox,
    RawPhoto,
    bad_label,
    copy_photos,
    numbers,
    plain,
    read_text,
    without_photo,
)
from foodbox.data.images import ENDINGS
from foodbox.data.listing import Listing
from foodbox.files import free_name, write_whole
from foodbox.findings import Finding, Source
from foodbox.records import Dataset, Photo

FILE = "crop_area.properties"
UNLABELLED = "unlabelled"
"""The folder that photos without a box are written to; it gets no such file."""
NOTHING = frozenset({"", "null", "none"})
"""Values that say that nobody cropped the photo; Java writes null."""
SEPARATORS = ("(?<!\\\\)=", "(?<!\\\\):", r"\s+")
"""What may stand between a name and its numbers, the likeliest first: NAME=..., NAME: ... or NAME ..."""
CUTS = 20
"""Places where a line is tried to be cut: more = stand in no name, but in files of another kind."""
NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(?:px)?", re.I)
BETWEEN = re.compile(r"\s*[,;]\s*|(?<=\d)\s*[x×*]\s*(?=\d)|\s+", re.I)
"""What may stand between two numbers: a comma, a semicolon, blanks, or the x of a size such as 30x40."""

WIDE = {sign: sign - 0xFEE0 for sign in range(0xFF01, 0xFF5F)} | {0x3000: " ", 0x3001: ","}
"""The wide signs of East Asian keyboards, and the plain ones that they stand for."""

Names = list[dict[str, list[Path]]]
"""Photos by stem, by name, and by both whatever their capitals."""


def fits(listing: Listing) -> bool:
    """Whether some folder has a file crop_area.properties."""
    return bool(_files(listing))


def fits_by_name_only(listing: Listing) -> bool:
    """Never: four numbers do not say whether they are corners."""
    return False


def read(listing: Listing) -> Labels:
    """The photos of all folders, each with its box; those without an entry are photos that nobody labelled."""
    return _read(listing, corners=False)


def read_corners(listing: Listing) -> Labels:
    """The same where the four numbers are x1,y1,x2,y2."""
    return _read(listing, corners=True)


def write(dataset: Dataset, folder: Path) -> None:
    """Copies the photos into a folder for each class, and writes their boxes beside them."""
    _write(dataset, folder, corners=False)


def write_corners(dataset: Dataset, folder: Path) -> None:
    """The same with x1,y1,x2,y2."""
    _write(dataset, folder, corners=True)


# -- Reading --------------------------------------------------------------------------------------------------------


def _files(listing: Listing) -> list[Path]:
    found = listing.ending(".properties")
    return [path for path in found if path.name.lower() == FILE or path == listing.label]


def _read(listing: Listing, corners: bool) -> Labels:
    labels = Labels()
    by_folder = defaultdict(list)
    for path in listing.photos:
        by_folder[path.parent].append(path)
    found: dict[Path, RawPhoto] = {}
    for file in _files(listing):
        _read_file(file, _names(by_folder[file.parent]), corners, found, labels.findings)
    labels.photos = [found.get(path) or RawPhoto(path, labelled=False) for path in listing.photos]
    return labels


def _read_file(
    file: Path, names: Names, corners: bool, found: dict[Path, RawPhoto], findings: list[Finding]
) -> None:  # fmt: skip
    """Adds the photos that one file has lines for to `found`."""
    label = normalize("NFC", Path(os.path.abspath(file)).parent.name).strip()  # noqa: PTH100 - links keep their names
    form = "x1,y1,x2,y2" if corners else "x,y,w,h"
    for number, line in _lines(read_text(file, findings) or ""):
        source = Source(file, number)
        key, value, paths = _split(line, names)
        if not key:
            if value:
                what = f"found {line[:40]!r} where NAME={form} was expected"
                findings.append(bad_label(source, what, None))
            continue
        if not paths:
            findings.append(without_photo(source, f"named {key} in this folder"))
            continue
        path = paths[0]
        if len(paths) > 1:
            shown = " and ".join(path.name for path in paths)
            what = f"{key} could be {shown}: expected one photo of that name"
            findings.append(bad_label(source, what, path, "Write the name with its ending"))
            continue
        photo = found.setdefault(path, RawPhoto(path, labelled=False))
        if value.strip(",; ").casefold() in NOTHING:
            what = "the entry is empty: nobody said where the food is"
            todo = "Write its box, or leave the photo as one that nobody labelled"
            findings.append(Finding(source, what, todo, "warning", path, "empty entry"))
            continue
        photo.labelled = True
        values = _four(value)
        if values is None:
            what = f"found {value[:40]!r} where four numbers {form} were expected"
            findings.append(bad_label(source, what, path))
            continue
        x, y, w, h = values
        if not corners and (w < 0 or h < 0):
            what = f"the box {value[:40]} (x,y,w,h) has a side below 0, expected both above 0"
            findings.append(bad_label(source, what, path))
            continue
        box = RawBox((x, y, w, h) if corners else (x, y, x + w, y + h), label, source)
        if photo.boxes:
            findings.append(_twice(box, photo))
            continue
        photo.boxes = [box]


def _twice(box: RawBox, photo: RawPhoto) -> Finding:
    first = photo.boxes[0]
    if box.corners == first.corners and box.label == first.label:
        what = f"the photo {photo.path.name} has the same entry in line {first.source.line} already"
        return Finding(box.source, what, "Remove one of the two", "warning", photo.path, "entry twice")
    what = f"the photo {photo.path.name} has another box in line {first.source.line}: expected one a photo"
    return bad_label(box.source, what, photo.path, "Keep the right one of the two lines")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Entries, and the line that each begins on: without comments, and joined where a backslash ends a line.

    A line such as [sections], which a well-known script puts at the top of these files, is passed over.
    """
    entry, start = "", 0
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        line = line.lstrip("\ufeff \t\f\u3000\xa0")
        if not start and (not line or line[0] in "#!" or re.fullmatch(r"\[[^=:]*\]\s*", line)):
            continue
        start = start or number
        entry += line
        if (len(entry) - len(entry.rstrip("\\"))) % 2:
            entry = entry[:-1]
            continue
        yield start, entry.strip()
        entry, start = "", 0
    if start:
        yield start, entry.strip()


def _split(line: str, names: Names) -> tuple[str, str, list[Path]]:
    """A line's name, its value, and the photos of that name.

    A name may itself hold = or blanks. Of all places where the line could be cut, the one counts that leaves a photo's
    name before it and four numbers behind it.
    """
    best: tuple[bool, bool] | None = None
    result: tuple[str, str, list[Path]] = ("", line, [])
    narrow = line.translate(WIDE)  # as long as the line
    for separator in SEPARATORS:
        for cut in islice(re.finditer(separator, narrow), CUTS):
            key = re.sub(r"(?<!\\)\s+$", "", line[: cut.start()].lstrip())  # an escaped blank is part of the name
            value = _bare(narrow[cut.end() :].lstrip("= "))
            paths = _photos(key, names)
            rank = bool(paths), not value or _four(value) is not None
            if best is None or rank > best:
                best, result = rank, (key, value, paths)
        if best is not None:
            return result if separator != SEPARATORS[-1] or best[0] else ("", line, [])
    # One word: a name without a value, if it is one.
    paths = _photos(line, names)
    return (line, "", paths) if paths else ("", line, [])


def _bare(value: str) -> str:
    """A value without brackets and quotes."""
    return re.sub(r"[\[\](){}\"']", " ", value).strip()


def _four(value: str) -> tuple[float, ...] | None:
    """The four numbers that a value begins with. Words may follow, but not a fifth number: which four would count?"""
    words = [NUMBER.fullmatch(word) for word in BETWEEN.split(value.rstrip(",; "), maxsplit=5)[:5]]
    if len(words) < 4 or (len(words) == 5 and words[4]):
        return None
    return numbers([match[1] if match else "" for match in words[:4]])


def _names(photos: Sequence[Path]) -> Names:
    names: Names = [defaultdict(list) for _ in range(4)]
    for path in photos:
        stem, name = normalize("NFC", path.stem), normalize("NFC", path.name)
        for table, key in zip(names, (stem, name, stem.casefold(), name.casefold()), strict=True):
            table[key].append(path)
    return names


def _photos(key: str, names: Names) -> list[Path]:
    """The photos that a name in a label file may mean: one, none, or several of one stem."""
    for word in _spellings(key):
        for table, name in zip(names, (word, word, word.casefold(), word.casefold()), strict=True):
            if name in table:
                return table[name]
    return []


def _spellings(key: str) -> Iterator[str]:
    """A name as it stands, then as Java escapes it, without quotes, without its folders, without a photo's ending."""
    yield normalize("NFC", key)
    key = normalize("NFC", key.strip("\"'"))
    plain_key = _unescaped(key)
    yield plain_key
    last = re.split(r"[/\\]", key)[-1]
    yield last
    for word in (plain_key, last):
        stem, ending = os.path.splitext(word)  # noqa: PTH122 - a word, not a path
        if ending.lower() in ENDINGS:
            yield stem


def _unescaped(key: str) -> str:
    r"""A name without Java's escapes: \uXXXX, \t, \n, \r, \f, and a backslash before any other sign."""

    def sign(match: re.Match[str]) -> str:
        word = match[1]
        return (
            chr(int(word[1:], 16)) if len(word) == 5 else {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}.get(word, word)
        )

    text = re.sub(r"\\(u[0-9a-fA-F]{4}|.)", sign, key)
    # Signs beyond \uFFFF are two escapes.
    return normalize("NFC", text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


# -- Writing --------------------------------------------------------------------------------------------------------


def _write(dataset: Dataset, folder: Path, corners: bool) -> None:
    groups: dict[str, list[Photo]] = defaultdict(list)
    rest = []
    for photo in dataset:
        if len(photo.boxes):
            groups[dataset.names[int(photo.labels[0])]].append(photo)
        else:
            rest.append(photo)
    taken: set[str] = set()
    for name, photos in groups.items():
        inside = folder / free_name(folder_name(name), taken)
        lines = []
        for photo, target in copy_photos(dataset.with_photos(photos), inside):
            x1, y1, x2, y2 = photo.boxes[0].tolist()
            values = (x1, y1, x2, y2) if corners else (x1, y1, x2 - x1, y2 - y1)
            lines.append(f"{_escaped(target.stem)}={','.join(map(plain, values))}\n")
        write_whole(inside / FILE, "".join(lines))
    if rest:
        for _ in copy_photos(dataset.with_photos(rest), folder / free_name(UNLABELLED, taken)):
            pass


def folder_name(name: str) -> str:
    """A class's name without what some system does not allow in a folder's name, or hides."""
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", normalize("NFC", name)).strip(" .") or "food"


def _escaped(stem: str) -> str:
    """A photo's name as a key of a properties file."""
    signs = {"\t": r"\t", "\n": r"\n", "\r": r"\r", "\f": r"\f"}
    return "".join(signs.get(s, "\\" + s if s in "\\=:#! " else s) for s in normalize("NFC", stem))
