"""UECFOOD-100 and UECFOOD-256: a numbered folder for each kind of dish, with photos and a file bb_info.txt.

Its lines are NUMBER x1 y1 x2 y2 in pixels, for the photo NUMBER.jpg beside it. category.txt, above the folders, says
what the folders' numbers are called. A photo that shows several dishes lies in the folder of each, under one number.
"""

from __future__ import annotations

import filecmp
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from foodbox.data.facts import look
from foodbox.data.formats.common import (
    ONE_CLASS,
    Labels,
    RawBox,
    RawPhoto,
    bad_label,
    copy_file,
    numbers,
    numbers_first,
    read_text,
    right_ending,
    without_photo,
)
from foodbox.data.listing import Listing
from foodbox.files import make_folder, write_whole
from foodbox.findings import Finding, Source
from foodbox.records import Dataset

BOXES = "bb_info.txt"
CATEGORIES = "category.txt"
BOXES_HEAD = "img x1 y1 x2 y2"
CATEGORIES_HEAD = "id\tname"
UNLABELLED = "unlabelled"
"""The folder that photos without a box are written to; it gets no such file."""


def fits(listing: Listing) -> bool:
    """Whether some folder has a bb_info.txt."""
    return bool(listing.named(BOXES))


def read(listing: Listing) -> Labels:
    """The photos of all folders. Those that have one name and are the same file are one, with the boxes of all."""
    labels = Labels()
    by_folder = defaultdict(list)
    for path in listing.photos:
        by_folder[path.parent].append(path)
    files = listing.named(BOXES)
    # Absolute, so that the folder "." has a name and one above it.
    folders = {file: Path(os.path.abspath(file)).parent for file in files}  # noqa: PTH100 - links keep their names
    names = _names(list(folders.values()), labels.findings)
    labels.names = list(dict.fromkeys(names.values()))
    alike: dict[tuple[Path, str, int], list[RawPhoto]] = defaultdict(list)
    found: set[Path] = set()
    for file, folder in folders.items():
        own: dict[str, RawPhoto] = {}
        for path in by_folder[file.parent]:
            key = (folder.parent, path.name, listing.stamp(path)[0])
            photo = next((one for one in alike[key] if _same_content(one.path, path)), None)
            if photo is None:
                photo = RawPhoto(path, labelled=False)
                alike[key].append(photo)
                labels.photos.append(photo)
            own |= {path.stem: photo, path.name: photo}
            found.add(path)
        _read_boxes(file, names[folder], own, labels.findings)
    labels.photos += [RawPhoto(path, labelled=False) for path in listing.photos if path not in found]
    return labels


def write(dataset: Dataset, folder: Path) -> None:
    """Copies the photos, which get numbers for names, into the folder of each class that they show.

    Boxes are written in whole pixels, as the format has them.
    """
    lines = defaultdict(list)
    facts = look([photo.path for photo in dataset])
    for number, photo in enumerate(dataset, start=1):
        name = f"{number}{right_ending(photo.path, facts[photo.path].kind)}"
        for box, label in zip(photo.boxes.tolist(), photo.labels.tolist(), strict=True):
            lines[label].append(f"{number} {' '.join(map(str, _whole(box)))}\n")
        for inside in sorted({str(label + 1) for label in photo.labels.tolist()}) or [UNLABELLED]:
            copy_file(photo.path, make_folder(folder / inside) / name)
    for label, own in lines.items():
        write_whole(folder / str(label + 1) / BOXES, f"{BOXES_HEAD}\n{''.join(own)}")
    names = "".join(f"{i}\t{' '.join(name.split())}\n" for i, name in enumerate(dataset.names, start=1))
    write_whole(folder / CATEGORIES, f"{CATEGORIES_HEAD}\n{names}")


def _whole(box: Sequence[float]) -> tuple[int, int, int, int]:
    """The nearest whole pixels, at least one of them."""
    x1, y1, x2, y2 = (math.floor(value + 0.5) for value in box)
    if x1 == x2:
        x1, x2 = math.floor(box[0]), math.ceil(box[2])
    if y1 == y2:
        y1, y2 = math.floor(box[1]), math.ceil(box[3])
    return x1, y1, x2, y2


def _same_content(one: Path, other: Path) -> bool:
    """Whether two files of one size are the same. People number each folder from 1, and sizes meet by chance."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _names(folders: Sequence[Path], findings: list[Finding]) -> dict[Path, str]:
    """The class of each numbered folder, and of those that category.txt alone knows, in its order."""
    names: dict[Path, str] = {}
    for root in dict.fromkeys(folder.parent for folder in folders):
        file = root / CATEGORIES
        inside = sorted(
            (folder for folder in folders if folder.parent == root), key=lambda folder: numbers_first(folder.name)
        )
        known: dict[str, str] = {}
        if file.exists():
            known = _read_names(file, findings)
            names |= {root / number: name for number, name in known.items()}
        else:
            what = f"there is no {CATEGORIES}: classes are called like their folders"
            findings.append(Finding(Source(file), what, harm="note", kind="no class names"))
        for folder in inside:
            if folder not in names:
                names[folder] = folder.name
                if known:
                    what = f"the folder {folder.name} has no line: its class is called {folder.name!r}"
                    findings.append(Finding(Source(file), what, "Add its name", "warning", kind="no class names"))
    return names


def _read_names(file: Path, findings: list[Finding]) -> dict[str, str]:
    """A folder's number → the name of its class."""
    names: dict[str, str] = {}
    for number, line in _lines(read_text(file, findings) or ""):
        source = Source(file, number)
        key, *rest = line.split(maxsplit=1)
        if number == 1 and key.lower() == "id":
            continue
        if not rest:
            what = f"found {line!r} where a folder's number and the name of its class were expected"
            findings.append(bad_label(source, what, None))
        elif key in names:
            what = f"the folder {key} is {names[key]!r} already, and here {rest[0]!r}"
            findings.append(bad_label(source, what, None, "Remove one of the two lines"))
        else:
            if rest[0] in names.values():
                other = next(folder for folder, name in names.items() if name == rest[0])
                what = f"the class {rest[0]!r} stands twice, for the folders {other} and {key}, and is taken as one"
                todo = "Give them different names, if they are two"
                kind = "repeated class name"
                findings.append(Finding(source, what, todo, "warning", kind=kind, mend=ONE_CLASS))
            names[key] = rest[0]
    return names


def _read_boxes(file: Path, label: str, photos: dict[str, RawPhoto], findings: list[Finding]) -> None:
    """Gives the photos of a folder, known by name and by stem, the boxes of its bb_info.txt."""
    for number, line in _lines(read_text(file, findings) or ""):
        source = Source(file, number)
        key, *words = line.split()
        if number == 1 and key.lower() == "img":
            continue
        photo = photos.get(key)
        corners = numbers(words)
        if photo is not None:
            photo.labelled = True
        if corners is None or len(corners) != 4:
            what = f"found {line[:60]!r} where NUMBER x1 y1 x2 y2 were expected"
            findings.append(bad_label(source, what, photo.path if photo else None))
        elif photo is None:
            findings.append(without_photo(source, f"named {key} beside it"))
        else:
            photo.boxes.append(RawBox(corners, label, source))  # type: ignore[arg-type]


def _lines(text: str) -> list[tuple[int, str]]:
    """The lines that are not blank, and their numbers."""
    return [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
