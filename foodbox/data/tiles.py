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
from foodbox.detections import Detections
from foodbox.ops.boxes import area, clip
from foodbox.ops.nms import nms_by_group
from foodbox.records import Photo, Window

Place = tuple[int, int, int, int]
"""A tile's left, top, right and bottom in pixels of the photo."""

OVERLAP = 0.2
"""The share of a tile's side that its neighbour shows too, but for the few pixels of `ALIGNED`. Any object smaller than
that less twice `CUT` lies whole in one of them. Photos that are larger than a tile by no more are not cut: two tiles
would show nearly the same."""
ALIGNED = 8
"""Corners, but the last tile's, lie at multiples of so many pixels: whole ones still in a JPEG decoded at an eighth."""
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
    return [photo, *(_tile(photo, place) for place in _places(photo, side))]


def every_tile(photos: Iterable[Photo], side: int) -> list[Photo]:
    """`tiles` of photo after photo."""
    return [tile for photo in photos for tile in tiles(photo, side)]


def tile_count(photos: Iterable[Photo], side: int) -> int:
    """How many `every_tile` has."""
    return sum(1 + len(_places(photo, side)) for photo in photos)


def cut(photos: Sequence[Photo], side: int) -> list[Photo]:
    """Each photo's tiles, or the photo where it is not cut: the views in which small boxes are seen largest."""
    return [tile for photo in photos for tile in tiles(photo, side)[1:] or [photo]]


def training_tiles(photos: Sequence[Photo], side: int) -> list[Photo]:
    """The photos, their tiles that show a box, and as many that show none, drawn from these."""
    every = every_tile(photos, side)
    empty = [i for i, tile in enumerate(every) if tile.window and not len(tile.boxes)]
    most = sum(tile.window is not None for tile in every) - len(empty)
    left_out = set(empty) - set(random.Random(0).sample(empty, min(most, len(empty))))
    return [tile for i, tile in enumerate(every) if i not in left_out]


def open_tile(tile: Photo, at_least: tuple[int, int], opened: dict[Path, Image.Image]) -> Image.Image:
    """The pixels of a tile, or of a whole photo; as `open_photo`.

    Args:
        opened: what is kept from one call to the next, the last photo: its tiles mostly come one after the other.
    """
    if tile.window is None:  # decoded at as many pixels whether or not its tiles came before
        return open_photo(tile.path, at_least)
    whole = opened.get(tile.path)
    _, _, *sides = tile.window
    wide, high = (math.ceil(n * s / own) for n, s, own in zip(at_least, sides, (tile.width, tile.height), strict=True))
    if whole is None or max(whole.size) < min(max(wide, high), max(sides)):
        opened.clear()
        whole = opened[tile.path] = open_photo(tile.path, (wide, high))
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
        places = _places(photo, side)
        whole = next(found)
        yield _joined(photo, whole, places, list(itertools.islice(found, len(places)))) if places else whole


def _joined(photo: Photo, whole: Detections, places: list[Place], found: list[Detections]) -> Detections:
    """What an inner border cuts is left to the neighbour or to the whole photo, which show all of it."""
    uncut = [one.keep(~_cut(one.boxes, place, photo)) for one, place in zip(found, places, strict=True)]
    moved = [one.boxes + one.boxes.new_tensor(place[:2] * 2) for one, place in zip(uncut, places, strict=True)]
    boxes = torch.cat([whole.boxes, *moved])
    scores, labels = (torch.cat([getattr(one, name) for one in (whole, *uncut)]) for name in ("scores", "labels"))
    masks = None if whole.masks is None else torch.cat([one.masks for one in (whole, *uncut) if one.masks is not None])
    every = dataclasses.replace(whole, boxes=boxes, scores=scores, labels=labels, masks=masks)
    return every.keep(nms_by_group(boxes, scores, labels, SAME))


def _cut(boxes: Tensor, place: Place, photo: Photo) -> Tensor:
    """Which boxes [N, 4] of a tile end at one of its borders that is none of the photo's: bool [N]."""
    left, top, right, bottom = place
    width, height = right - left, bottom - top
    x, y = CUT * width, CUT * height
    inner = [left > 0, top > 0, right < photo.width, bottom < photo.height]
    x1, y1, x2, y2 = boxes.unbind(1)
    return (torch.stack((x1 < x, y1 < y, x2 > width - x, y2 > height - y), dim=1) & torch.tensor(inner)).any(1)


def _places(photo: Photo, side: int) -> list[Place]:
    """Where its tiles lie, row by row; none of a photo that is hardly larger than one."""
    rows, columns = (_spans(whole, side or whole) for whole in (photo.height, photo.width))
    if len(rows) == len(columns) == 1:
        return []
    return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def _spans(whole: int, side: int) -> list[tuple[int, int]]:
    """Where tiles begin and end that cover a photo's side of so many pixels and overlap by OVERLAP."""
    if whole <= side * (1 + OVERLAP):
        return [(0, whole)]
    steps = math.ceil((whole - side) / (side * (1 - OVERLAP)))
    starts = [(whole - side) * i // steps // ALIGNED * ALIGNED for i in range(steps)]
    return [(start, start + side) for start in (*starts, whole - side)]


def _tile(photo: Photo, place: Place) -> Photo:
    left, top, right, bottom = place
    moved = photo.boxes - photo.boxes.new_tensor([left, top, left, top])
    shown = clip(moved, right - left, bottom - top)
    masks = photo.masks and [[outline - outline.new_tensor([left, top]) for outline in own] for own in photo.masks]
    window = Window(left, top, photo.width, photo.height)
    tile = dataclasses.replace(
        photo, width=right - left, height=bottom - top, boxes=shown, masks=masks, window=window, hash=None
    )
    return tile.keep(area(shown) > VISIBLE * area(moved))
