"""Masks against torchvision, pycocotools, matplotlib and numbers worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from pycocotools import mask as theirs
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from foodbox import masks
from foodbox.detections import Detections

SIDE = 28


def square(left: float, top: float, side: float) -> Tensor:
    return torch.tensor([[left, top], [left + side, top], [left + side, top + side], [left, top + side]])


# -- From outlines --------------------------------------------------------------------------------------------------


def test_squares_have_their_pixels() -> None:
    """In one piece, in none, in two pieces that do not touch and in two that overlap; cut off at the border."""
    one = square(10, 20, 10)
    objects = [[one], [], [one, square(40, 0, 5)], [one, square(15, 25, 10)], [square(-5, -5, 10)]]
    found = masks.rasterise(objects, 50, 60)
    assert found.shape == (5, 50, 60)
    assert found.dtype == torch.bool
    assert found.sum((1, 2)).tolist() == [100, 0, 125, 175, 25]
    assert found[0, 20:30, 10:20].all()
    assert found[4, :5, :5].all()


def test_of_an_outline_that_crosses_itself_even_and_odd_count() -> None:
    """A square of 30 that goes on as a square of 10 within it: the inner one is a hole."""
    ring = torch.cat((square(0, 0, 30), square(0, 0, 30)[:1], square(10, 10, 10), square(10, 10, 10)[:1]))
    found = masks.rasterise([[ring]], 30, 30)[0]
    assert found.sum() == 900 - 100
    assert not found[10:20, 10:20].any()


def test_no_objects_are_no_masks() -> None:
    assert masks.rasterise([], 4, 5).shape == (0, 4, 5)


def test_what_is_no_outline_is_nothing() -> None:
    assert not masks.rasterise([[square(0, 0, 4)[:2]], [torch.zeros(0, 2)]], 4, 5).any()


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(-20, 80, width=32), st.floats(-20, 60, width=32)), min_size=3, max_size=8),
    st.integers(1, 40),
    st.integers(1, 60),
)
def test_pixels_are_those_whose_middle_is_inside(points: list[tuple[float, float]], height: int, width: int) -> None:
    """As Matplotlib sees it, of convex outlines, up to those that a line goes through or near."""
    middle = torch.tensor(points).mean(0)
    outline = torch.tensor(sorted(points, key=lambda p: np.arctan2(p[1] - float(middle[1]), p[0] - float(middle[0]))))
    found = masks.rasterise([[outline]], height, width)[0].numpy()
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    spots = np.stack((x.ravel(), y.ravel()), 1)
    closed = np.concatenate((outline.numpy(), outline.numpy()[:1]))
    inside = Outline(closed).contains_points(spots).reshape(height, width)
    start, step = closed[:-1], np.diff(closed, axis=0)
    along = np.clip(
        ((spots[:, None] - start) * step).sum(-1) / np.maximum((step**2).sum(-1), 1e-9), 0, 1
    )  # [pixels, lines]
    away = np.linalg.norm(spots[:, None] - start - along[..., None] * step, axis=-1).min(1).reshape(height, width)
    clear = away > 1.2
    assert (found == inside)[clear].all()


# -- From probability maps -------------------------------------------------------------------------------------------


def some(seed: int, count: int = 4) -> Detections:
    """Boxes anywhere on a small picture, some of them thin, and smooth maps."""
    draw = torch.Generator().manual_seed(seed)
    width, height = torch.randint(1, 150, (2,), generator=draw).tolist()
    boxes = torch.rand(count, 2, 2, generator=draw) * torch.tensor([width, height])
    boxes = boxes.sort(1).values.flatten(1)
    coarse = torch.rand(count, 1, 5, 5, generator=draw)
    maps = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic")[:, 0].clamp(0, 1)
    return Detections(
        boxes, torch.ones(count), torch.zeros(count, dtype=torch.int64), ["rice"], width, height, masks=maps
    )


@pytest.mark.parametrize("seed", range(40))
def test_bitmaps_are_torchvisions_to_the_bit(seed: int) -> None:
    found = some(seed)
    assert found.masks is not None
    pasted = paste_masks_in_image(found.masks[:, None], found.boxes, (found.height, found.width))[:, 0]
    assert torch.equal(found.bitmaps(), pasted > 0.5)


def test_bitmaps_of_boxes_that_reach_beyond_the_picture_are_torchvisions() -> None:
    found = some(0)
    assert found.masks is not None
    found.width, found.height = 40, 30
    found.boxes = torch.tensor([[-20.5, -3, 12, 60], [30, 20, 90, 31], [-9, -9, 80, 80], [38.9, 29.9, 39.9, 30.0]])
    pasted = paste_masks_in_image(found.masks[:, None], found.boxes, (30, 40))[:, 0]
    assert torch.equal(found.bitmaps(), pasted > 0.5)
    assert found.bitmaps().any()


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_are_pycocotools(seed: int) -> None:
    """Those of the whole bitmap, made from its part."""
    found = some(seed)
    assert found.masks is not None
    for i in range(len(found)):
        part, left, top = masks.paste_mask(found.masks[i], found.boxes[i], found.height, found.width)
        mine = masks.rle_from_bitmap(part, left, top, found.height, found.width)
        whole = theirs.encode(np.asfortranarray(found.bitmap(i).numpy().astype(np.uint8)))
        assert mine == whole


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**36 - 1))
def test_run_lengths_of_whole_pictures_are_pycocotools(height: int, width: int, bits: int) -> None:
    """Runs go on from one column to the next; with a mask that covers all, too."""
    whole = np.array([bits >> i & 1 for i in range(height * width)], np.uint8).reshape(height, width)
    for pixels in (whole, np.ones_like(whole)):
        mine = masks.rle_from_bitmap(torch.from_numpy(pixels).bool(), 0, 0, height, width)
        assert mine == theirs.encode(np.asfortranarray(pixels))


def test_an_empty_part_has_no_pixels() -> None:
    mine: dict[str, Any] = masks.rle_from_bitmap(torch.zeros(0, 3, dtype=torch.bool), 2, 4, 4, 5)
    assert theirs.area(mine) == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(20))
def test_outlines_enclose_what_bitmaps_cover(seed: int) -> None:
    """Traced on the map and rasterised by pycocotools, holes aside: the same pixels, but for some at the edge."""
    found = some(seed, 1)
    found.boxes, found.width, found.height = torch.tensor([[20.3, 10.1, 160.7, 110.2]]), 200, 140
    coarse = torch.zeros(6, 6)
    coarse[1:5, 1:5] = torch.rand(4, 4, generator=torch.Generator().manual_seed(seed)) * 0.4 + 0.6  # without holes
    found.masks = torch.nn.functional.interpolate(coarse[None, None], (SIDE, SIDE), mode="bilinear")[0]
    [outlines] = found.outlines()
    flat = [outline.double().flatten().tolist() for outline in outlines]
    drawn = theirs.decode(theirs.merge(theirs.frPyObjects(flat, 140, 200))) > 0
    pasted = found.bitmap(0).numpy()
    assert (drawn & pasted).sum() / (drawn | pasted).sum() > 0.97


def test_a_full_map_is_outlined_by_its_box() -> None:
    outlines = masks.outlines_in_box(torch.ones(4, 4), torch.tensor([10.0, 20.0, 50.0, 40.0]))
    assert len(outlines) == 1
    x, y = outlines[0].T
    assert (x.min(), x.max(), y.min(), y.max()) == (10, 50, 20, 40)
    shoelace = float((x * y.roll(-1) - y * x.roll(-1)).sum().abs()) / 2
    # A cell is 10 x 5 px, and each of four corners loses a triangle of half a cell's sides.
    assert shoelace == pytest.approx(40 * 20 - 4 * 5 * 2.5 / 2)


def test_an_empty_map_has_no_outline() -> None:
    assert masks.outlines_in_box(torch.full((SIDE, SIDE), 0.5), torch.tensor([0.0, 0.0, 9.0, 9.0])) == []
