"""Large photos cut into tiles that overlap, and what was found on the tiles put together: for boxes that are tiny in a
whole photo's input. The whole photo is seen too, for what is larger than a tile.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from foodbox.data.augment import VISIBLE
from foodbox.data.images import open_photo
from foodbox.ops.boxes import area, clip
from foodbox.ops.nms import nms_by_group
from foodbox.records import Detections, Photo, Window

OVERLAP = 0.2
"""The share of a tile's side that its neighbour shows too: what is smaller lies whole in one of them. What is larger
than a tile by no more is not cut: two tiles would show nearly the same."""
ALIGNED = 8
"""Corners lie at multiples of so many pixels, which are whole ones still in a JPEG that is decoded at an eighth."""
CUT = 0.02
"""A box that ends within this share of a tile's side from an inner border is taken for one that goes on behind it."""
SAME = 0.5
"""IoU over which detections of one class on several tiles are of one object, as the detectors' own NMS has it."""


def tiles(photo: Photo, side: int) -> list[Photo]:
    """A photo, and where it is larger its tiles of side x side pixels, row by row, with the boxes that they show.

    A tile's borders cut boxes off; those of which it shows no more than augmentation keeps (`VISIBLE`) are left out.

    Args:
        side: 0 for no tiles.
    """
    rows, columns = (_spans(whole, side or whole) for whole in (photo.height, photo.width))
    if len(rows) == len(columns) == 1:
        return [photo]
    return [photo, *(_tile(photo, x, y) for y, x in itertools.product(rows, columns))]


def cut(photos: Sequence[Photo], side: int) -> list[Photo]:
    """The tiles of photos that are larger, and the others, in which small boxes are as large."""
    return [tile for photo in photos for tile in tiles(photo, side)[1:] or [photo]]


def training_tiles(photos: Sequence[Photo], side: int) -> list[Photo]:
    """The photos, their tiles that show a box, and as many that show none, drawn from these."""
    every = [tile for photo in photos for tile in tiles(photo, side)]
    empty = [i for i, tile in enumerate(every) if tile.window and not len(tile.boxes)]
    most = sum(tile.window is not None for tile in every) - len(empty)
    left_out = set(empty) - set(random.Random(0).sample(empty, min(most, len(empty))))
    return [tile for i, tile in enumerate(every) if i not in left_out]


def open_tile(tile: Photo, at_least: int, opened: dict[Path, Image.Image]) -> Image.Image:
    """The pixels of a tile; as `open_photo`.

    Args:
        opened: what is kept from one call to the next, the last photo: its tiles mostly come one after the other.
    """
    whole = opened.get(tile.path)
    _, _, *sides = tile.window or (0, 0, tile.width, tile.height)
    needed = math.ceil(at_least * max(sides) / max(tile.width, tile.height))
    if whole is None or max(whole.size) < min(needed, max(sides)):
        opened.clear()
        whole = opened[tile.path] = open_photo(tile.path, needed)
    return shown_by(tile, whole)


def shown_by(tile: Photo, whole: Image.Image) -> Image.Image:
    """What a tile shows of a photo's pixels, which may be fewer than the photo's own."""
    if tile.window is None:
        return whole
    left, top, width, height = tile.window
    across, down = whole.width / width, whole.height / height
    right, bottom = left + tile.width, top + tile.height
    return whole.crop((round(left * across), round(top * down), round(right * across), round(bottom * down)))


def together(photos: Iterable[Photo], side: int, found: Iterable[Detections]) -> Iterator[Detections]:
    """What was found on the tiles of photos, in their order → what is on each photo, best first."""
    found = iter(found)
    for photo in photos:
        own = tiles(photo, side)
        on_tiles = list(itertools.islice(found, len(own)))
        yield _joined(photo, own, on_tiles) if len(own) > 1 else on_tiles[0]


def _joined(photo: Photo, own: list[Photo], found: list[Detections]) -> Detections:
    """What an inner border cuts is left to the neighbour or to the whole photo, which show all of it."""
    uncut = [one.keep(~_cut(one.boxes, tile)) for one, tile in zip(found, own, strict=True)]
    corners = [tile.window[:2] * 2 if tile.window else (0,) * 4 for tile in own]
    boxes = torch.cat([one.boxes + one.boxes.new_tensor(at) for one, at in zip(uncut, corners, strict=True)])
    scores, labels = (torch.cat([getattr(one, name) for one in uncut]) for name in ("scores", "labels"))
    masks = None if found[0].masks is None else torch.cat([one.masks for one in uncut if one.masks is not None])
    every = Detections(boxes, scores, labels, found[0].names, photo.width, photo.height, found[0].path, masks)
    return every.keep(nms_by_group(boxes, scores, labels, SAME))


def _cut(boxes: Tensor, tile: Photo) -> Tensor:
    """Which boxes [N, 4] of a tile end at one of its borders that is none of the photo's: bool [N]."""
    if tile.window is None:
        return torch.zeros(len(boxes), dtype=torch.bool)
    left, top, width, height = tile.window
    x, y = CUT * tile.width, CUT * tile.height
    inner = [left > 0, top > 0, left + tile.width < width, top + tile.height < height]
    x1, y1, x2, y2 = boxes.unbind(1)
    at_border = torch.stack((x1 < x, y1 < y, x2 > tile.width - x, y2 > tile.height - y), dim=1)
    return (at_border & torch.tensor(inner)).any(1)


def _spans(whole: int, side: int) -> list[tuple[int, int]]:
    """Where tiles begin and end that cover a photo's side of so many pixels and overlap by OVERLAP or more."""
    if whole <= side * (1 + OVERLAP):
        return [(0, whole)]
    steps = math.ceil((whole - side) / (side * (1 - OVERLAP)))
    starts = [(whole - side) * i // steps // ALIGNED * ALIGNED for i in range(steps)]
    return [(start, start + side) for start in (*starts, whole - side)]


def _tile(photo: Photo, x: tuple[int, int], y: tuple[int, int]) -> Photo:
    """The part of a photo between two pixels across and two down."""
    (left, right), (top, bottom) = x, y
    moved = photo.boxes - photo.boxes.new_tensor([left, top, left, top])
    shown = clip(moved, right - left, bottom - top)
    masks = photo.masks and [[outline - outline.new_tensor([left, top]) for outline in own] for own in photo.masks]
    window = Window(left, top, photo.width, photo.height)
    tile = dataclasses.replace(
        photo, width=right - left, height=bottom - top, boxes=shown, masks=masks, window=window, hash=None
    )
    return tile.keep(area(shown) > VISIBLE * area(moved))
