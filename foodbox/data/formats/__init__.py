"""Label formats: one file each, with `fits`, `read` and `write`. A new one is a file here and a line in FORMATS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from foodbox.data.formats import starthon, voc
from foodbox.data.images import find_photos
from foodbox.errors import UsageError
from foodbox.records import Dataset, Finding


@dataclass(frozen=True)
class Format:
    """One way to lay photos and boxes out in a folder.

    Attributes:
        title: its name for people.
        looks: what a folder of this format holds, in words.
        fits: whether a folder looks like it.
        read: a folder → its photos, boxes and class names, and everything that was found on the way.
        write: a dataset into a folder.
    """

    title: str
    looks: str
    fits: Callable[[Path], bool]
    read: Callable[[Path], tuple[Dataset, list[Finding]]]
    write: Callable[[Dataset, Path], None]


FORMATS: dict[str, Format] = {
    "starthon": Format("AI Starthon", "NAME.txt beside NAME.jpg", starthon.fits, starthon.read, starthon.write),
    "voc": Format("Pascal VOC", ".xml files", voc.fits, voc.read, voc.write),
}


def read(folder: Path, format: str | None = None) -> tuple[Dataset, list[Finding]]:
    """Photos and boxes of a folder, in the format that it looks like.

    Args:
        format: a name in FORMATS, where looking is not enough.

    Raises:
        UsageError: the folder is missing or holds no labels that are known, or two formats fit.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise UsageError(f"The folder {folder} {what}: expected a folder with photos and their boxes. Check its name.")
    if format is None:
        fitting = [name for name, kind in FORMATS.items() if kind.fits(folder)]
    elif format in FORMATS:
        fitting = [format]
    else:
        raise UsageError(f"Unknown format {format!r}: expected one of {', '.join(FORMATS)}.")
    if len(fitting) > 1:
        raise UsageError(f"{folder} could be read as {' or as '.join(fitting)}: say which with --format.")
    if not fitting:
        count = len(find_photos(folder))
        known = "; ".join(f"{kind.title} ({kind.looks})" for kind in FORMATS.values())
        raise UsageError(f"{folder} holds {count} photos and no labels of a known format: expected one of {known}.")
    dataset, findings = FORMATS[fitting[0]].read(folder)
    dataset.format = fitting[0]
    return dataset, findings
