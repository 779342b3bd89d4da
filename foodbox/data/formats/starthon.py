"""AI Starthon 2019, task "food region": NAME.txt beside NAME.jpg, whose first line is x,y,w,h in pixels.

One box a photo, its top left corner and its size, decimals allowed; no class. NAME.box is read as well as NAME.txt. A
photo without such a file is one that nobody labelled (the contest's own test photos); an empty file says that there is
nothing on the photo.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

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
from foodbox.data.formats.photo_names import composed
from foodbox.data.listing import Listing
from foodbox.files import write_whole
from foodbox.findings import Finding, Source
from foodbox.records import Dataset

NAME = "food"
"""The one class: the format has no names."""
ENDINGS = (".txt", ".box", ".TXT", ".BOX")
LOOKED_AT = 100
"""Label files that are looked into to find out the format."""


def fits(listing: Listing) -> bool:
    """Whether some photo has a text file of its name beside it that begins with four numbers and commas."""
    if listing.label is not None:  # which would be of one photo
        return False
    if not (texts := _texts(listing)):
        return False
    beside = (label for photo in listing.photos for label in _labels(photo, texts)[:1])
    return any(_numbers(_first_line(read_text(label, []) or "")) is not None for label in islice(beside, LOOKED_AT))


def read(listing: Listing) -> Labels:
    """The folder's photos, subfolders included, each with its box."""
    labels = Labels(names=[NAME])
    texts = _texts(listing)
    found: set[str] = set()
    for path in listing.photos:
        own = _labels(path, texts)
        found.update(own)
        labels.photos.append(_read(own[0], path, labels.findings) if own else RawPhoto(path, labelled=False))
    for label in sorted(label for label in texts.values() if label not in found):
        # Other text files lie about in such folders; one that begins with a box was some photo's.
        if _numbers(_first_line(read_text(label, []) or "")) is not None:
            labels.findings.append(without_photo(Source(label), f"named {Path(label).stem} beside it"))
    return labels


def write(dataset: Dataset, folder: Path) -> None:
    """Copies the photos and writes the box of each."""
    for photo, target in copy_photos(dataset, folder):
        if photo.labelled:
            boxes = photo.boxes.tolist()
            lines = [",".join(map(plain, (x1, y1, x2 - x1, y2 - y1))) + "\n" for x1, y1, x2, y2 in boxes]
            write_whole(target.with_suffix(ENDINGS[0]), "".join(lines))


def _texts(listing: Listing) -> dict[str, str]:
    """All files that may be labels by their paths, letters in one piece (macOS writes Korean ones in several)."""
    return {composed(file): file for file in listing.files if file[-4:] in ENDINGS}


def _labels(photo: Path, texts: Mapping[str, str]) -> list[str]:
    """The label files beside a photo, of which the first counts."""
    stem = composed(str(photo).rpartition(".")[0])
    return [texts[stem + ending] for ending in ENDINGS if stem + ending in texts]


def _read(label: str, path: Path, findings: list[Finding]) -> RawPhoto:
    """A photo with the one box of its label file, none of an empty one."""
    photo = RawPhoto(path)
    text = read_text(label, findings, path)
    line = _first_line(text or "")
    if not line:
        return photo
    values = _numbers(line)
    source = Source(label, 1)
    if values is None:
        what = f"found {line[:40]!r} where four numbers x,y,w,h were expected"
        findings.append(bad_label(source, what, path))
        return photo
    x, y, w, h = values
    if w < 0 or h < 0:
        findings.append(bad_label(source, f"the box {line} (x,y,w,h) has a side below 0, expected both above 0", path))
        return photo
    photo.boxes = [RawBox((x, y, x + w, y + h), NAME, source)]
    return photo


def _first_line(text: str) -> str:
    return text.splitlines()[0].strip() if text else ""


def _numbers(line: str) -> tuple[float, ...] | None:
    values = numbers(line.split(","))
    return values if values is not None and len(values) == 4 else None
