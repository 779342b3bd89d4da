"""Whether there is room for what the processes that open photos hand over."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from foodbox.console import say
from foodbox.files import amount
from foodbox.records import Photo, Preprocessing

PLACE = Path("/dev/shm")
"""Where Linux has it; other systems take what memory there is."""
AHEAD = 3
"""Batches of a worker at once: torch has two prepared ahead, and one may be in use."""


class Photos(Protocol):
    """Photos that are opened for batches, with masks or without."""

    photos: Sequence[Photo]
    preprocessing: Preprocessing
    masks: bool


def with_room(workers: int, items: Photos, batches: Iterable[Sequence[object]]) -> int:
    """As many of the processes that open photos as find room for their batches.

    They hand them over in shared memory, of which a container has 64 MB unless it is told otherwise. Where it is full,
    torch's worker stops without a word to the process that waits for it, which then waits for ever.
    """
    if not PLACE.is_dir() or not items.photos:
        return workers
    pixels = max(math.prod(items.preprocessing.shape(photo.width, photo.height)) for photo in items.photos)
    planes = 3 + (max(len(photo.boxes) for photo in items.photos) if items.masks else 0)
    batch = max(map(len, batches), default=0) * pixels * planes
    free = shutil.disk_usage(PLACE).free
    most = min(workers, free // max(1, AHEAD * batch))
    if most < workers:
        say(
            f"{PLACE} has {amount(free)}, room for the batches of {most} of {workers} processes that open photos: so "
            "many are taken. docker run --shm-size 2g gives a container more."
        )
    return most
