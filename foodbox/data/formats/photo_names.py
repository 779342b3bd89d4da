"""Photos found by the names that label files give, which may have been written on another computer."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from foodbox.data.images import ENDINGS


class PhotoFinder:
    """Finds photos by the names that label files give, which may have been written on another computer.

    Attributes:
        folders: the folders that hold photos, themselves or below them.
    """

    def __init__(self, photos: Sequence[Path]) -> None:
        self._by_path = {composed(path): path for path in photos}
        self._by_name = defaultdict(list)
        self._by_stem = defaultdict(list)
        for path in photos:
            self._by_name[composed(path.name).casefold()].append(path)
            self._by_stem[composed(path.stem).casefold()].append(path)
        self.folders = {folder for near in {path.parent for path in photos} for folder in (near, *near.parents)}

    def find(self, name: str, folders: Sequence[Path]) -> Path | None:
        """The photo of this path below the first of the folders that has it.

        Folders at the front of the path, such as /home/somebody/ or ../, are taken off one by one.
        """
        parts = [part for part in composed(name).replace("\\", "/").split("/") if part not in ("", ".", "..")]
        places = [composed(folder / "_")[:-1] for folder in folders]  # with a slash behind, and nothing for "."
        for first in range(len(parts)):
            tail = "/".join(parts[first:])
            for place in places:
                if path := self._by_path.get(place + tail):
                    return path
        return None

    def anywhere(self, name: str) -> list[Path]:
        """All photos of the name at the end of this path, whatever its capitals."""
        return self._by_name.get(bare(name).casefold(), [])

    def of_another_ending(self, name: str) -> list[Path]:
        """All photos of the name at the end of this path, whatever its ending; it may have none."""
        return self._by_stem.get(without_ending(bare(name).casefold()), [])


def without_ending(name: str) -> str:
    """A photo's name without its ending, if it has one."""
    stem, ending = os.path.splitext(name)  # noqa: PTH122 - a word, not a path
    return stem if ending.lower() in ENDINGS else name


def composed(path: Path | str) -> str:
    """A path as text: slashes, and letters in one piece, which macOS writes in pieces (Korean ones above all)."""
    return unicodedata.normalize("NFC", path if isinstance(path, str) else path.as_posix())


def bare(name: str) -> str:
    """The last name of a path, which may be another system's."""
    return composed(name).replace("\\", "/").rsplit("/", 1)[-1]


class NearestPhotos:
    """Finds, of photos with a label's name, the nearest to it; several where nothing tells which one is meant.

    That is who has most folders in common with it from the first on, and then from the last on: of two photos 1.jpg,
    Annotations/cam2/1.xml labels JPEGImages/cam2/1.jpg. The frames of many films may all have the same names, so that
    no label is held against all of them.
    """

    def __init__(self) -> None:
        self._below: dict[tuple[str, tuple[str, ...]], list[Path]] = defaultdict(list)  # by name and first folders
        self._ends: dict[tuple[str, tuple[str, ...]], dict[tuple[str, ...], list[Path]]] = {}  # by last folders, too
        self._parts: dict[Path, tuple[str, ...]] = {}

    def add(self, name: str, path: Path) -> None:
        """One more photo that is called so."""
        parts = self._folders(path.parent)
        for count in range(len(parts) + 1):
            self._below[name, parts[:count]].append(path)

    def find(self, name: str, label: Path) -> list[Path]:
        """The nearest of those that are called so, in the order in which they were added."""
        mine = self._folders(label.parent)
        key = next(((name, mine[:n]) for n in range(len(mine), -1, -1) if (name, mine[:n]) in self._below), None)
        if key is None:
            return []
        if key not in self._ends:
            ends = self._ends[key] = defaultdict(list)
            for path in self._below[key]:
                folders = self._folders(path.parent)
                for start in range(len(folders) + 1):
                    ends[folders[start:]].append(path)
        return next(self._ends[key][mine[n:]] for n in range(len(mine) + 1) if mine[n:] in self._ends[key])

    def _folders(self, folder: Path) -> tuple[str, ...]:
        if folder not in self._parts:
            self._parts[folder] = tuple(map(composed, folder.parts))
        return self._parts[folder]
