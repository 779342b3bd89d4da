"""Boxes as a network sees them, in the pixels of its input, and how large that input should be for them."""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor

from foodbox.records import Dataset, Preprocessing

BOXES = 1000
"""Boxes that are looked at; of more, so many are drawn: a share of them is right to two hundredths."""
SMALL = 46
"""Pixels. Where a quarter of the boxes is smaller, as the root of their area, a larger input finds more of them;
where they are larger it finds few more for its time (docs/benchmarks.md, "The size of the input")."""
TIMES = 2
"""An input grows to so many times its size at most, for its time grows with the square."""


def boxes_in_input(dataset: Dataset, preprocessing: Preprocessing) -> tuple[Tensor, int, int]:
    """Boxes as a network sees them.

    Returns:
        float32 [N, 4] in the input's pixels, those that count, at most `BOXES`, always the same ones; and the height
        and width of an input that holds all of their photos.
    """
    draw = random.Random(0)
    photos = [photo for photo in dataset if photo.boxes.shape[0]]
    if len(photos) > BOXES:
        photos = draw.sample(photos, BOXES)
    frames = [preprocessing.frame(photo.width, photo.height) for photo in photos]
    found = [frame.to_input(photo.boxes[~photo.ignore]) for photo, frame in zip(photos, frames, strict=True)]
    boxes = torch.cat(found) if found else torch.zeros((0, 4))
    if len(boxes) > BOXES:
        boxes = boxes[sorted(draw.sample(range(len(boxes)), BOXES))]
    sizes = [(frame.input_width, frame.input_height) for frame in frames]
    longest = [max((size[side] for size in sizes), default=1) for side in (0, 1)]
    width, height = (preprocessing.multiple * math.ceil(side / preprocessing.multiple) for side in longest)
    return boxes, height, width


def small_boxes(boxes: Tensor) -> float:
    """Pixels that a quarter of boxes [N, 4] stay under, as the root of their area; 0 without boxes."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return float(sides.prod(1).sqrt().quantile(0.25)) if len(boxes) else 0.0


def size_for(boxes: Tensor, preprocessing: Preprocessing) -> int:
    """The input's size with which few of the boxes that are [N, 4] in it now would be small."""
    now = small_boxes(boxes)
    wanted = preprocessing.size * min(TIMES, SMALL / now) if now else 0
    return max(preprocessing.size, preprocessing.multiple * round(wanted / preprocessing.multiple))
