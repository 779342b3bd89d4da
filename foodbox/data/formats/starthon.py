"""AI Starthon 2019, task "food region": NAME.txt beside NAME.jpg, whose first line is x,y,w,h in pixels.

One box a photo, its top left corner and its size, decimals allowed; no class. A photo without a text file is one that
nobody labelled (the contest's own test photos).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from foodbox.data.formats.common import RawBox, make_photo, numbers, plain
from foodbox.data.images import find_photos
from foodbox.errors import FoodboxError
from foodbox.files import free_name, make_folder, write_whole
from foodbox.records import Dataset, Finding, Photo, Source

NAME = "food"
"""The one class: the format has no names."""


def fits(folder: Path) -> bool:
    """Whether some photo has a text file of its name beside it that begins with four numbers and commas."""
    labels = (photo.with_suffix(".txt") for photo in find_photos(folder))
    return any(label.is_file() and _numbers(_first_line(label)) is not None for label in labels)


def read(folder: Path) -> tuple[Dataset, list[Finding]]:
    """The folder's photos, subfolders included, each with its box."""
    findings: list[Finding] = []
    photos = []
    for path in find_photos(folder):
        label = path.with_suffix(".txt")
        raw = [] if not label.is_file() else _read_box(label, findings, path)
        if raw is not None and (photo := make_photo(path, raw, findings)) is not None:
            photo.labelled = label.is_file()
            photos.append(photo)
    return Dataset(photos, [NAME]), findings


def write(dataset: Dataset, folder: Path) -> None:
    """Copies the photos and writes their boxes.

    Raises:
        FoodboxError: a photo has more boxes than the one that the format can hold.
    """
    make_folder(folder)
    taken: set[str] = set()
    for photo in dataset:
        if len(photo.boxes) > 1:
            raise FoodboxError(
                f"{photo.path} has {len(photo.boxes)} boxes and the AI Starthon format holds one a photo: "
                "choose another format."
            )
        name = free_name(photo.path.stem, taken)
        shutil.copyfile(photo.path, folder / f"{name}{photo.path.suffix}")
        if photo.labelled:
            write_whole(folder / f"{name}.txt", "".join(_line(photo)))


def _line(photo: Photo) -> list[str]:
    return [",".join(map(plain, (x1, y1, x2 - x1, y2 - y1))) + "\n" for x1, y1, x2, y2 in photo.boxes.tolist()]


def _read_box(label: Path, findings: list[Finding], photo: Path) -> list[RawBox] | None:
    """The one box of a label file, none of an empty one; None where the file is at fault."""
    source = Source(label, 1)
    line = _first_line(label)
    if not line:
        return []
    values = _numbers(line)
    if values is None:
        what = f"found {line[:40]!r} where four numbers x,y,w,h were expected"
        findings.append(Finding(source, what, "Correct the line", photo=photo))
        return None
    x, y, w, h = values
    if w <= 0 or h <= 0:
        what = f"the box has the size {w:g} x {h:g} (x,y,w,h), expected both above 0"
        findings.append(Finding(source, what, "Correct the line", photo=photo))
        return None
    if max(values) <= 1:
        what = f"the box {line} is smaller than a pixel, which looks like fractions of the photo"
        findings.append(Finding(source, what, "Write x,y,w,h in pixels", photo=photo))
        return None
    return [RawBox((x, y, x + w, y + h), 0, source)]


def _first_line(label: Path) -> str:
    with label.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline().strip()


def _numbers(line: str) -> tuple[float, float, float, float] | None:
    values = numbers(line.split(","))
    return values if values is not None and len(values) == 4 else None  # type: ignore[return-value]
