"""What `foodbox detect` takes and leaves: photos found by their names; pictures, tables and cut-out regions written."""

from __future__ import annotations

import csv
import functools
import glob
import io
import os
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path
from typing import Any

from PIL import Image

from foodbox.console import progress_bar, say
from foodbox.data.facts import look
from foodbox.data.formats.common import broken
from foodbox.data.images import open_photo
from foodbox.data.listing import find_photos, is_written
from foodbox.detections import Detections
from foodbox.drawing.boxes import draw_detections, jpeg
from foodbox.errors import UsageError
from foodbox.files import PathLike, as_json, as_path, free_name, make_folder, readable, write_whole
from foodbox.findings import Finding
from foodbox.records import Photo, counted

JPEG_QUALITY = 92
LONGEST = 65_500
"""Pixels that a side of a JPEG may have."""
CROPS = "crops"
"""Folder of the regions."""
WAITING = 16
"""Pictures that may wait to be written, so that their masks do not fill the memory where writing is slow."""
TABLES = "detections.json", "detections.csv"
COLUMNS = ("path", "width", "height", "label", "score", "x1", "y1", "x2", "y2", "picture", "crop")


def find_all(paths: PathLike | Iterable[PathLike]) -> tuple[list[Photo], list[Finding]]:
    """The photos that paths, folders and patterns name, each once, in the order of the call; what is no photo is found.

    Args:
        paths: one or many.

    Raises:
        UsageError: there is nothing at a path, or a folder without photos, or it is no path.
    """
    files: dict[str, Path] = {}  # by the whole way there

    def add(some: Iterable[Path]) -> None:
        for path in some:
            files.setdefault(os.path.abspath(path), path)  # noqa: PTH100 - links keep their names

    if isinstance(paths, str | bytes | Path) or not isinstance(paths, Iterable):
        paths = [paths]
    for given in paths:
        path = as_path(given, "A photo", "; pictures and arrays are for Model.detect, one by one")
        if path.is_dir():
            inside = find_photos(path)
            if not inside:
                raise UsageError(f"The folder {path} holds no photos: expected files such as .jpg, .png or .webp.")
            add(inside)
        elif path.exists():
            add([path])
        elif matches := _matches(str(given)):
            add(matches)
        else:
            raise UsageError(f"There is no photo, folder or match for {given}: check the name.")
    with progress_bar("looking at photos", len(files)) as bar:
        facts = look(files.values(), progress=bar.to)
    photos = [Photo(path, it.width, it.height, labelled=False) for path, it in facts.items() if not it.fault]
    return photos, [broken(path, it.fault) for path, it in facts.items() if it.fault]


def _matches(pattern: str) -> list[Path]:
    """The files of a pattern, and the photos below its folders; none from a folder that foodbox wrote into."""
    fixed = Path(*takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    known = functools.cache(is_written)
    found: list[Path] = []
    for match in map(Path, sorted(glob.glob(pattern, recursive=True))):  # noqa: PTH207 - may be absolute
        unnamed = takewhile(lambda folder: folder != fixed, (match, *match.parents))
        if any(map(known, unnamed)):
            continue
        if match.is_file():
            found.append(match)
        elif "**" not in pattern:  # which matches what is in the folders, too
            found += find_photos(match)
    return found


def expect_elsewhere(photos: Sequence[Photo], folder: Path) -> None:
    """Looks that no photo lies where pictures of the photos' names will be written to.

    Raises:
        UsageError: one does, and might be overwritten.
    """
    written = {folder.resolve(), (folder / CROPS).resolve()}
    if (photo := next((photo for photo in photos if photo.path.parent.resolve() in written), None)) is not None:
        raise UsageError(
            f"{photo.path} lies in the folder that pictures are written to, and might be overwritten: name another "
            "folder with --out."
        )


class DetectionWriter:
    """Writes pictures as detections come in, beside the network in a thread, and the tables of all at the end.

    Args:
        folder: made if it is not there.
        crop: write each region to folder/crops as its own photo.

    Raises:
        FoodboxError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, crop: bool) -> None:
        self.folder = make_folder(folder)
        self.crop = crop
        self._names: set[str] = set()
        self._pictures: dict[Path, str] = {}  # the name of each photo's picture, without its ending
        self._thread = ThreadPoolExecutor(1)
        self._writing: deque[Future[None]] = deque()
        self._older: set[Path] = set()
        if any((self.folder / name).exists() for name in TABLES):
            self._older = {*self.folder.glob("*.jpg"), *(self.folder / CROPS).glob("*.jpg")}
        else:
            self._write_tables([])  # by which the folder is known again, whatever ends this call

    def add(self, detections: Detections) -> None:
        """The photo with its boxes, and its regions, full size.

        Raises:
            FoodboxError: this one or one before could not be written.
        """
        assert detections.path is not None
        name = free_name(_short(readable(detections.path.stem), 120), self._names)
        self._pictures[detections.path] = name
        self._writing.append(self._thread.submit(self._write, detections, name))
        while len(self._writing) > WAITING:
            self._writing.popleft().result()

    def _write(self, detections: Detections, name: str) -> None:
        assert detections.path is not None
        image = open_photo(detections.path)
        picture = self.folder / f"{name}.jpg"
        write_whole(picture, _file(draw_detections(image, detections)))
        self._older.discard(picture)
        for i, row in enumerate(detections.rows() if self.crop else (), start=1):
            x1, y1, x2, y2 = (round(v) for v in row["box"])
            region = image.crop((x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)))
            path = self.folder / _region(name, i, row["label"])
            write_whole(path, _file(region))
            self._older.discard(path)

    def finish(self, found: Sequence[Detections]) -> None:
        """detections.json and detections.csv, one for all photos, once all pictures are written or could not be.

        Pictures and regions of an earlier call, which are in neither, stay and are said.

        Raises:
            FoodboxError: a picture could not be written, or a table.
        """
        self._thread.shutdown()
        self._write_tables(found)
        while self._writing:
            self._writing.popleft().result()
        if self._older:
            older = f"{self.folder} holds {counted(len(self._older), 'picture')} of an earlier call besides"
            say(f"{older}, which the tables do not name: choose another --out to have these alone.")

    def _write_tables(self, found: Sequence[Detections]) -> None:
        rows = [self._entry(one) for one in found]
        write_whole(self.folder / TABLES[0], as_json(rows, indent=1))
        table = io.StringIO()
        writer = csv.writer(table)
        writer.writerow(COLUMNS)
        for photo in rows:
            for one in photo["detections"]:
                start = (photo["path"], photo["width"], photo["height"])
                end = (photo.get("picture"), one.get("crop"))
                writer.writerow((*start, one["label"], one["score"], *one["box"], *end))
        write_whole(self.folder / TABLES[1], table.getvalue())

    def _entry(self, found: Detections) -> dict[str, Any]:
        """The detections of a photo, with the names of the files that show them: photos may have one name."""
        entry = found.to_dict()
        if found.path is None or (name := self._pictures.get(found.path)) is None:
            return entry
        if self.crop:
            for i, row in enumerate(entry["detections"], start=1):
                row["crop"] = _region(name, i, row["label"])
        rows = entry.pop("detections")
        return entry | {"picture": f"{name}.jpg", "detections": rows}


def _region(name: str, place: int, label: str) -> str:
    """A region's file below the folder: that of the detection in this place, counted from 1, of a picture."""
    return f"{CROPS}/{name}_{place}_{_short(_plain(label), 60)}.jpg"


def _file(image: Image.Image) -> bytes:
    if max(image.size) > LONGEST:
        image.thumbnail((LONGEST, LONGEST))
    return jpeg(image, JPEG_QUALITY)


def _short(name: str, most: int) -> str:
    """As much of a name as has so many bytes: file systems take 255, Korean letters three each."""
    return name.encode()[:most].decode(errors="ignore")


def _plain(label: str) -> str:
    """A class name as part of a file name."""
    return "".join(letter if letter.isalnum() else "_" for letter in label)
