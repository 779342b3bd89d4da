"""The files below a folder, looked up once for all who ask: which there are, how large, how old."""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path

from foodbox.data.images import ENDINGS
from foodbox.errors import UsageError
from foodbox.files import Stamp

WRITTEN = (
    {"config.yaml", "split.json"}, {"compare.json", "split.json"}, {"detections.json", "detections.csv"},
    {"report.html", "precision_recall.png"},
)  # fmt: skip
"""What lies together in a folder that a run, a comparison, a detection or an evaluation wrote. Its pictures are no
photos."""

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
"""Endings of files that hold others, which are not looked into."""

HERE = os.path.join(os.curdir, "")  # noqa: PTH118
"""What the system's names below "." begin with, and a Path's do not."""


class Listing:
    """What a folder holds, its subfolders included, in the order of the paths.

    Hidden files and folders are left out, and folders that foodbox wrote runs or detections into.

    Attributes:
        root: the folder.
        label: the label file that the person named instead of a folder, or None.
        files: the paths, and where their sizes and times can be asked for.
    """

    def __init__(self, root: Path, files: dict[str, os.DirEntry[str]], label: Path | None = None) -> None:
        self.root = root
        self.label = label
        self.files = files
        self._by_ending: dict[str, list[str]] = {}
        for path in files:
            # Not os.path.splitext nor Path.suffix: each would take as long as all the rest, for 80,000 files.
            self._by_ending.setdefault(path[path.rfind(".") :].lower(), []).append(path)

    @cached_property
    def photos(self) -> list[Path]:
        """All files whose ending is a photo's."""
        kinds = [paths for ending, paths in self._by_ending.items() if ending in ENDINGS]
        # Of one kind they are in order already.
        return [Path(path) for path in (kinds[0] if len(kinds) == 1 else self._in_order(kinds))]

    def ending(self, *endings: str) -> list[Path]:
        """The label files with one of these endings (in lower case, with the dot); only the named one where one is."""
        if self.label is not None:
            return [self.label] if self.label.suffix.lower() in endings else []
        return [Path(path) for path in self._in_order([self._by_ending.get(ending, []) for ending in endings])]

    def named(self, *names: str) -> list[Path]:
        """The label files of one of these names, such as classes.txt; only the named one where one is."""
        if self.label is not None:
            return [self.label] if self.label.name in names else []
        behind = tuple(os.sep + name for name in names)
        return [Path(path) for path in self.files if path.endswith(behind) or path in names]

    def stamp(self, path: Path | str) -> Stamp:
        """A file's size and time; (0, 0) where it is not there. Asked for late: labels are seldom asked about."""
        entry = self.files.get(str(path))
        about = _stat(entry) if entry is not None else None
        return (about.st_size, about.st_mtime_ns) if about is not None else (0, 0)

    def digest(self) -> bytes:
        """SHA-256 over all files' paths, sizes and times: another one says that something has changed."""
        lines = []
        for path, entry in self.files.items():
            about = _stat(entry)
            # The time of the last change of any kind, too: unpacking and copying give files the times that they had.
            times = f"{about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}\n" if about else ""
            lines.append(f"{path}\n{times}")
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).digest()

    def own(self, path: Path | str) -> Path:
        """The path under which the listing has a file that is named another way, such as from the disk's root on.

        A file that is not below the folder keeps its path.
        """
        real = os.path.realpath(path)
        if real.startswith(self._real_root):
            inside = self.root / real.removeprefix(self._real_root)
            if inside in self:
                return inside
        return Path(path)

    @cached_property
    def _real_root(self) -> str:
        return os.path.join(os.path.realpath(self.root), "")  # noqa: PTH118

    def __contains__(self, path: Path) -> bool:
        return str(path) in self.files

    def _in_order(self, kinds: list[list[str]]) -> list[str]:
        place = {path: i for i, path in enumerate(self.files)} if len(kinds) > 1 else {}
        return sorted((path for paths in kinds for path in paths), key=lambda path: place.get(path, 0))


def scan(place: Path) -> Listing:
    """The files below a folder, or around one label file (annotations.csv, instances.json, data.yaml).

    A label file's photos are looked for in its folder, and one above where there are none: COCO keeps its labels in a
    folder of their own.

    Raises:
        UsageError: there is nothing at the place, one photo, or an archive.
    """
    if place.is_dir():
        return Listing(place, _files(place))
    if not place.exists():
        raise UsageError(
            f"The folder {place} is not there: expected a folder with photos and their boxes. Check its name."
        )
    if place.suffix.lower() in ENDINGS:
        raise UsageError(f"{place} is one photo: expected a folder with photos and their boxes.")
    if place.suffix.lower() in ARCHIVES:
        raise UsageError(f"{place} is an archive: unpack it and name the folder that comes of it.")
    around = Listing(place.parent, _files(place.parent), place)
    if not around.photos:
        above = place.parent.resolve().parent
        around = Listing(above, _files(above), place.resolve())
    return around


def above(root: Path) -> Listing:
    """The files right in the folder above; none where it may not be looked into."""
    folder = Path(os.path.abspath(root)).parent  # noqa: PTH100 - as the person sees it, no link followed
    try:
        with os.scandir(folder) as entries:
            inside = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
        return Listing(folder, {entry.path: entry for entry in inside if _kind(entry) == "file"})
    except OSError:
        return Listing(folder, {})


def find_photos(folder: Path) -> list[Path]:
    """All photos below a folder, hidden files left out, in the order of their paths."""
    return scan(folder).photos


def _files(root: Path) -> dict[str, os.DirEntry[str]]:
    found: dict[str, os.DirEntry[str]] = {}
    seen: set[tuple[int, int]] = set()

    def look_into(folder: str) -> None:
        try:
            about = os.stat(folder)  # noqa: PTH116 - a Path for each of 80,000 files would take longer than all the rest
            if (about.st_dev, about.st_ino) in seen:  # a link that leads back into itself
                return
            seen.add((about.st_dev, about.st_ino))
            with os.scandir(folder) as entries:
                # Name by name and folder by folder: the order that Paths have.
                inside = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
            kinds = [_kind(entry) for entry in inside]
        except PermissionError as fault:
            raise UsageError(
                f"The folder {folder} cannot be read ({fault.strerror}): give yourself the right to."
            ) from fault
        if folder != str(root) and _is_written({entry.name for entry in inside}):
            return
        for entry, kind in zip(inside, kinds, strict=True):
            path = entry.path.removeprefix(HERE)
            if kind == "folder":
                look_into(path)
            elif kind == "file":
                found[path] = entry

    look_into(str(root))
    return found


def is_written(folder: Path) -> bool:
    """Whether foodbox wrote a folder, see `WRITTEN`."""
    return folder.is_dir() and _is_written({inside.name for inside in folder.iterdir()})


def _is_written(names: set[str]) -> bool:
    """The same of a folder with these names in it."""
    return any(marks <= names for marks in WRITTEN)


def _kind(entry: os.DirEntry[str]) -> str:
    """Nothing for what leads nowhere: a link to a missing file or to itself, or a file that went away just now."""
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    except PermissionError:
        raise
    except OSError:
        return ""


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None for what leads nowhere: a link to a missing file or to itself, or a file that went away just now."""
    try:
        return entry.stat()
    except PermissionError:
        raise
    except OSError:
        return None
