"""Keeps decoded photos in a file, for other processes, and on the disk for later runs."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from foodbox.console import say
from foodbox.errors import FoodboxError
from foodbox.files import amount, cache_folder, make_folder, write_sparse
from foodbox.records import Photo

CRC_BYTES = 4
# Goes into the names of the files. To be counted up when photos are decoded or resized in another way, or the layout
# changes.
VERSION = 3


class FileCache:
    """Keeps photos in one file, which other processes use too.

    Behind each photo's pixels stands their CRC-32. What was never written, half written or damaged does not fit it, and
    is decoded again. The photos' places follow from their sizes, so that processes need not agree on anything.

    The file is read and written and not mapped into memory: a full disk or a file cut short would then end a process
    (SIGBUS), and pixels that are checked are read anyway.

    Args:
        path: the file, which may not be there yet.
        sizes: width and height in pixels at which each photo is kept.
    """

    def __init__(self, path: Path, sizes: Sequence[tuple[int, int]]) -> None:
        self.path = path
        self.sizes = sizes
        lengths = (3 * width * height + CRC_BYTES for width, height in sizes)
        *self._starts, self.size = itertools.accumulate(lengths, initial=0)

    def get(self, index: int) -> Tensor | None:
        width, height = self.sizes[index]
        length = 3 * width * height
        try:
            stored = np.fromfile(self.path, np.uint8, length + CRC_BYTES, offset=self._starts[index])
        except OSError:
            return None
        pixels, crc = stored[:length], stored[length:].tobytes()
        return torch.from_numpy(pixels.reshape(3, height, width)) if crc == _crc(pixels) else None

    def put(self, index: int, pixels: Tensor) -> None:
        array = pixels.contiguous().numpy()
        # What cannot be kept is decoded again: that is slower, and no reason to end a run.
        with contextlib.suppress(OSError), self.path.open("r+b", buffering=0) as file:
            file.seek(self._starts[index])
            file.write(array.data)
            file.write(_crc(array))


class DiskCache(FileCache):
    """Keeps all photos in one file, which later runs with the same photos and sizes use too.

    Args:
        photos: photos, or tiles of them.
        sizes: width and height in pixels at which each is kept.
        antialias: how they were resized.

    Raises:
        FoodboxError: the disk has not enough room, or cannot be written to.
    """

    def __init__(self, photos: Sequence[Photo], sizes: Sequence[tuple[int, int]], antialias: bool = True) -> None:
        folder = make_folder(cache_folder())
        super().__init__(folder / f"{_digest(photos, sizes, antialias)}.pixels", sizes)
        whole = self.path.exists() and self.path.stat().st_size == self.size
        missing = self.size - _bytes_on_disk(self.path) if whole else self.size
        free = shutil.disk_usage(folder).free
        if free < missing:
            raise FoodboxError(
                f"Keeping {len(photos):,} decoded photos on disk needs {amount(missing)}, and {folder} has "
                f"{amount(free)} left: make room there, name a folder on another disk in the environment variable "
                "FOODBOX_CACHE, or train with --cache memory."
            )
        size = amount(self.size)
        say(f"Keeping {len(photos):,} decoded photos on disk: {size} in {self.path}, which you may delete.")
        if not whole:
            write_sparse(self.path, self.size)


class SharedCache(FileCache):
    """Keeps the first photos, up to so many bytes, for a loader's workers together.

    They get other photos in each epoch, so that what one of them has decoded another one needs next. The file is among
    the system's temporary ones, whose pages stay in memory while there is room, and goes with the object.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], most_bytes: int) -> None:
        handle, name = tempfile.mkstemp(suffix=".pixels", prefix="foodbox.")
        os.close(handle)
        super().__init__(Path(name), sizes)
        self._most_bytes = most_bytes
        weakref.finalize(self, _remove, self.path, os.getpid())

    def get(self, index: int) -> Tensor | None:
        return super().get(index) if self._has_room(index) else None

    def put(self, index: int, pixels: Tensor) -> None:
        if self._has_room(index):
            super().put(index, pixels)

    def _has_room(self, index: int) -> bool:
        return self._starts[index] + 3 * math.prod(self.sizes[index]) <= self._most_bytes


def _remove(path: Path, maker: int) -> None:
    if os.getpid() == maker:  # a forked worker's copy may end before
        path.unlink(missing_ok=True)


def _crc(pixels: npt.NDArray[np.uint8]) -> bytes:
    return zlib.crc32(pixels.data).to_bytes(CRC_BYTES, "little")


def _digest(photos: Sequence[Photo], sizes: Sequence[tuple[int, int]], antialias: bool) -> str:
    """A name that is another one when a photo's path, bytes, time or size in the cache is another one."""
    digest = hashlib.sha256(f"{VERSION} {antialias}\n".encode())
    for photo, size in zip(photos, sizes, strict=True):
        path = photo.path
        try:
            stat = path.stat()
        except OSError as fault:
            raise FoodboxError(f"There is no photo {path} any more. Put it back, or start anew without it.") from fault
        about = f"\n{stat.st_size} {stat.st_mtime_ns} {size} {photo.window and tuple(photo.window)}\n"
        digest.update(os.fsencode(path.absolute()) + about.encode())
    return digest.hexdigest()[:32]


def _bytes_on_disk(path: Path) -> int:
    """What a file takes of the disk so far: less than its size, as long as parts of it were never written."""
    stat = path.stat()
    return stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size  # Windows takes all from the start
