"""What is known of each photo's file: size, EXIF turn, whether it is whole, what it looks like. Kept between runs.

Opening 40,000 photos takes a while, and they seldom change: what was seen is kept in the user's cache folder, and
looked up again by path, size and time.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import imagehash
import numpy as np

from foodbox.data import heif
from foodbox.data.images import PhotoError, decode, open_header, seen_size
from foodbox.data.processes import cores, processes
from foodbox.errors import FoodboxError
from foodbox.files import Stamp, cache_folder, make_folder, stamp

# Photos that are looked at before what was seen is written down: what Ctrl-C can lose.
BATCH = 1000
# Photos from which processes that look at them pay.
MANY = 2000
TABLE = """CREATE TABLE IF NOT EXISTS photos2 (
    path BLOB PRIMARY KEY, bytes INT, time INT, width INT, height INT, turn INT, kind TEXT, fault TEXT, hash INT
) WITHOUT ROWID"""


class Facts(NamedTuple):
    """What is known of one photo.

    Attributes:
        width, height: pixels, as a person sees the photo.
        turn: EXIF orientation, 1 to 8.
        kind: what the file is, whatever its name says: Pillow's word, such as "JPEG".
        fault: why it cannot be opened, said of "the file" by whatever path it is reached, or "".
        hash: 64 bits as a signed number that are nearly the same for photos that look the same (perceptual hash); None
            where only the file's head was looked at.
    """

    width: int
    height: int
    turn: int
    kind: str
    fault: str
    hash: int | None

    @property
    def is_known(self) -> bool:
        """Whether the photo was read to its end."""
        return self.hash is not None or bool(self.fault)


def look(
    paths: Iterable[Path],
    whole: bool = False,
    stamp: Callable[[Path], Stamp] = stamp,
    progress: Callable[[int], None] = lambda count: None,
) -> dict[Path, Facts]:
    """The facts of many photos, opened by all cores, or remembered from the last time.

    Args:
        whole: read each photo to its end instead of its head alone; only this finds one that is cut short.
        stamp: gives a photo's size and time, where that is quicker than asking the disk.
        progress: called now and then with the number of photos done.
    """
    paths = list(dict.fromkeys(paths))
    now = {path: stamp(path) for path in paths}
    with closing(_database()) as database:
        found = _remembered(database, now, whole)
        missing = iter([path for path in paths if path not in found])
        progress(len(found))
        with _pool(len(paths) - len(found)) as pool:
            while some := list(islice(missing, BATCH)):
                seen = {}
                for path, facts in zip(some, pool.map(partial(_look, whole=whole), some, chunksize=20), strict=True):
                    seen[path] = facts
                    progress(len(found) + len(seen))
                _remember(database, seen, now)
                found |= seen
    return {path: found[path] for path in paths}


def _pool(count: int) -> AbstractContextManager[Executor]:
    """All cores: threads for few photos; processes, which start slowly, for many: half the work is Python's own."""
    return ThreadPoolExecutor(cores()) if count < MANY else processes()


def _look(path: Path, whole: bool) -> Facts:
    try:
        with open_header(path) as image:
            size, kind = seen_size(image), image.format or ""
            if not whole:
                return Facts(*size, kind, "", None)
            # A JPEG is read to its end, but decoded at an eighth of its size. 32 pixels are what the hash looks at.
            pixels = decode(image, path, at_least=(32, 1))
    except PhotoError as fault:
        _, why = fault.args
        return Facts(0, 0, 1, "", f"the file {why.rstrip('.')}", None)
    bits = np.packbits(imagehash.phash(pixels).hash.flatten())
    return Facts(*size, kind, "", int(bits.view(">i8")[0]))


def _database() -> sqlite3.Connection:
    """The store in the user's cache folder, or one in memory where that cannot be used: it only saves time."""
    try:
        make_folder(cache_folder())
        try:
            return _connect(_store())
        except sqlite3.DatabaseError as fault:
            _remove_damaged(fault)
            return _connect(_store())
    except (sqlite3.Error, OSError, FoodboxError):
        return _connect(":memory:")


def _store() -> Path:
    return cache_folder() / "photos.sqlite"


def _connect(file: Path | str) -> sqlite3.Connection:
    database = sqlite3.connect(file)
    try:
        database.execute("PRAGMA synchronous = OFF")  # what is lost is looked at again
        database.execute(TABLE)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _remove_damaged(fault: sqlite3.DatabaseError) -> None:
    # An operational error is another process that writes, or a folder that may only be read.
    if not isinstance(fault, sqlite3.OperationalError):
        _store().unlink(missing_ok=True)


def _key(path: Path | str) -> bytes:
    return os.fsencode(os.path.abspath(path))  # noqa: PTH100 - resolve() asks the disk about every part


def _remembered(database: sqlite3.Connection, now: Mapping[Path, Stamp], whole: bool) -> dict[Path, Facts]:
    keys = {_key(path): path for path in now}
    if not keys:
        return {}
    found = {}
    query = "SELECT * FROM photos2 WHERE path BETWEEN ? AND ?"
    try:
        for key, size, time, *rest in database.execute(query, (min(keys), max(keys))):
            path = keys.get(key)
            if path is not None and now[path] == (size, time) and ((facts := Facts(*rest)).is_known or not whole):
                found[path] = facts
    except sqlite3.DatabaseError as fault:
        with suppress(OSError):  # as Windows says of an open file
            _remove_damaged(fault)
    return found


def _remember(database: sqlite3.Connection, seen: Mapping[Path, Facts], now: Mapping[Path, Stamp]) -> None:
    # Not what may be opened the next time, the file unchanged.
    kept = {path: facts for path, facts in seen.items() if heif.EXTRA not in facts.fault}
    rows = [(_key(path), *now[path], *facts) for path, facts in kept.items() if now[path] != (0, 0)]
    try:
        with database:
            database.executemany(f"REPLACE INTO photos2 VALUES ({', '.join('?' * 9)})", rows)
    except sqlite3.Error:
        pass  # a full disk, or another process: it is looked at again the next time
