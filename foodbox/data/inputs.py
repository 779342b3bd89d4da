"""Boxes as a network sees them, in the pixels of its input, and how large that input should be for them."""

from __future__ import annotations

import random
from typing import NamedTuple

import torch
from torch import Tensor

from foodbox.data.tiles import cut
from foodbox.records import Dataset, Photo, Preprocessing

BOXES = 1000
"""Boxes that are looked at; of more, so many are drawn: a share of them is right to two hundredths."""
SMALL = 46
"""Pixels. Where a quarter of the boxes is smaller, as the root of their area, a larger input finds more of them;
where they are larger it finds few more for its time (docs/benchmarks.md, "The size of the input")."""
ALIKE = 20
"""Where small boxes are counted, a class of more boxes counts as this many, since AP is the mean over classes whatever
their size. In a smaller class each box counts once, so that a single one decides nothing."""
TIMES = 2
"""An input grows to so many times its size at most, for its time grows with the square."""
TINY = 16
"""Pixels. Where a quarter of the boxes is smaller, half the side of the smallest anchors, next to none is found
(docs/benchmarks.md, "Tiles")."""

REACHED = 0.5
"""IoU from which an anchor or a region takes a box (RetinaNet section 4, SSD section 2.2, Fast R-CNN section 2.3; an
RPN asks for 0.7)."""
FEW_REACHED = 0.8
"""The share of boxes that are reached below which that is said: more than one in five is hardly learnt then."""


class InputBoxes(NamedTuple):
    """Boxes as a network sees them.

    Attributes:
        boxes: float32 [N, 4] in the input's pixels.
        labels: int64 [N].
        height, width: pixels of an input that holds all of their photos.
    """

    boxes: Tensor
    labels: Tensor
    height: int
    width: int


def boxes_in_input(dataset: Dataset, preprocessing: Preprocessing) -> InputBoxes:
    """The boxes that count, at most `BOXES` of them, always the same ones, as the network sees them.

    Where photos are cut into tiles it sees the whole ones too, but for what is larger than a tile: they are left out.
    """
    draw = random.Random(0)
    photos = cut(_drawn(dataset, draw), preprocessing.tile_size)
    frames = [preprocessing.frame(photo.width, photo.height) for photo in photos]
    found = [frame.to_input(photo.boxes[~photo.ignore]) for photo, frame in zip(photos, frames, strict=True)]
    boxes = torch.cat([torch.zeros((0, 4)), *found])
    labels = torch.cat([torch.zeros(0, dtype=torch.int64), *(photo.labels[~photo.ignore] for photo in photos)])
    if len(boxes) > BOXES:
        drawn = sorted(draw.sample(range(len(boxes)), BOXES))
        boxes, labels = boxes[drawn], labels[drawn]
    height = preprocessing.padded(max((frame.input_height for frame in frames), default=1))
    width = preprocessing.padded(max((frame.input_width for frame in frames), default=1))
    return InputBoxes(boxes, labels, height, width)


def _drawn(dataset: Dataset, draw: random.Random) -> list[Photo]:
    """At most BOXES of the photos that have boxes."""
    photos = [photo for photo in dataset if photo.boxes.shape[0]]
    return draw.sample(photos, BOXES) if len(photos) > BOXES else photos


def small_boxes(boxes: Tensor, labels: Tensor) -> float:
    """Pixels that a quarter of the boxes stay under, as the root of their area, classes of many boxes counting alike.

    Args:
        boxes: [N, 4] with labels [N]; 0 is returned where there are none.
    """
    if not len(boxes):
        return 0.0
    sides, order = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt().sort()
    share = (ALIKE / labels.bincount()).clamp(max=1)[labels[order]].double().cumsum(0)
    return float(sides[share >= share[-1] / 4][0])


def size_for(under: float, preprocessing: Preprocessing) -> int:
    """The input's size with which few boxes are small, where `small_boxes` has so many pixels in it now."""
    wanted = preprocessing.size * min(TIMES, SMALL / under) if under else 0
    return max(preprocessing.size, preprocessing.multiple * round(wanted / preprocessing.multiple))


def tile_size_for(under: float, dataset: Dataset, preprocessing: Preprocessing) -> int:
    """The side in pixels of tiles in whose inputs few boxes are small; 0 for none.

    Args:
        under: what `small_boxes` are in the inputs of whole photos.
    """
    if not 0 < under < TINY:
        return 0
    some = [photo.keep(~photo.ignore) for photo in _drawn(dataset, random.Random(0))]
    in_photo = small_boxes(torch.cat([photo.boxes for photo in some]), torch.cat([photo.labels for photo in some]))
    return max(preprocessing.multiple, round(preprocessing.size * in_photo / SMALL))
