"""Keeps decoded photos, so that each is decoded once and not once an epoch; in a file, disk_cache.py does."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class PixelCache(Protocol):
    """Pixels of photos, uint8 [3, h, w], by the photo's number."""

    def get(self, index: int) -> Tensor | None:
        """The photo's pixels, or None where they are not kept."""

    def put(self, index: int, pixels: Tensor) -> None:
        """Keeps the photo's pixels, if there is room."""


class MemoryCache:
    """Keeps the first photos that come, up to so many bytes, of one process; 0 bytes keep nothing."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self._kept: dict[int, Tensor] = {}

    def get(self, index: int) -> Tensor | None:
        return self._kept.get(index)

    def put(self, index: int, pixels: Tensor) -> None:
        if self.bytes + pixels.nbytes <= self.most_bytes:
            self._kept[index] = pixels
            self.bytes += pixels.nbytes
