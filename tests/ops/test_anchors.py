"""Anchors against torchvision's, keras-retinanet's, and a few worked out by hand; the shapes that fit boxes best."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from foodbox.ops.anchors import (
    best_overlap,
    cell_anchors,
    default_box_shapes,
    grid_anchors,
    kmeans_shapes,
    ratios_of,
)

SIZES = (32, 64, 128, 256, 512)
SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
RATIOS = (0.5, 1.0, 2.0)


def test_one_places_anchors_by_hand() -> None:
    """Height over width: 4 means half as wide and twice as high; the area stays."""
    found = cell_anchors(32, (1.0, 2.0), (1.0, 4.0))
    expected = [[-16, -16, 16, 16], [-32, -32, 32, 32], [-8, -32, 8, 32], [-16, -64, 16, 64]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


def test_one_places_default_boxes_by_hand() -> None:
    """A square of s_k, one of the geometric mean with the next; for ratio 4 a box twice as long, and one upright."""
    found = default_box_shapes(16, 64, (4.0,))
    expected = [[-8, -8, 8, 8], [-16, -16, 16, 16], [-16, -4, 16, 4], [-4, -16, 4, 16]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("ratios", [(2,), (2, 3)])
def test_one_places_default_boxes_are_torchvisions(ratios: tuple[int, ...]) -> None:
    pairs = DefaultBoxGenerator([list(ratios)], scales=[0.2, 0.35])._wh_pairs[0]
    torch.testing.assert_close(default_box_shapes(0.2, 0.35, ratios), torch.cat((-pairs, pairs), dim=1) / 2)


def test_a_grid_by_hand() -> None:
    """Centres of cells of 8 x 4 pixels, row by row, and at each place one anchor after the other."""
    cell = torch.tensor([[-1.0, -1.0, 1.0, 1.0], [-2.0, -2.0, 2.0, 2.0]])
    found = grid_anchors(cell, height=2, width=3, stride=(4, 8))
    centres = (found[:, :2] + found[:, 2:]) / 2
    expected = [(4, 2), (12, 2), (20, 2), (4, 6), (12, 6), (20, 6)]
    assert centres.tolist() == [list(map(float, place)) for place in expected for _ in range(2)]
    assert (found[:, 2] - found[:, 0]).tolist() == [2.0, 4.0] * 6


def test_a_grid_of_no_places_is_empty() -> None:
    assert grid_anchors(torch.zeros(9, 4), 0, 3, (8, 8)).shape == (0, 4)


@pytest.mark.parametrize(("height", "width"), [(256, 320), (192, 192), (32, 416)])
def test_whole_pixel_anchors_are_torchvisions(height: int, width: int) -> None:
    sizes = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in SIZES)
    generator = AnchorGenerator(sizes, (RATIOS,) * len(sizes))
    grids = [(-(-height // 2**level), -(-width // 2**level)) for level in range(3, 8)]
    images = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
    theirs = generator(images, [torch.zeros(1, 1, *grid) for grid in grids])[0]
    ours = [
        grid_anchors(
            cell_anchors(size, SCALES, RATIOS, whole_pixels=True),
            *grid,
            (height // grid[0], width // grid[1]),
            offset=0,
        )
        for size, grid in zip(SIZES, grids, strict=True)
    ]
    assert torch.equal(torch.cat(ours), theirs)


def test_centre_anchors_are_keras_retinanets(keras_reference: dict[str, Any], fill: ModuleType) -> None:
    height, width = keras_reference["input"][2:]
    levels: list[Tensor] = []
    for level, size in enumerate(SIZES, start=3):
        grid = -(-height // 2**level), -(-width // 2**level)
        levels.append(grid_anchors(cell_anchors(size, SCALES, RATIOS), *grid, (2**level, 2**level)))
    anchors = torch.cat(levels).numpy()
    expected = keras_reference["outputs"]["anchors"]
    assert list(anchors.shape) == expected["shape"]
    np.testing.assert_allclose(fill.sample(anchors), expected["sample"], atol=1e-3)
    assert anchors.mean() == pytest.approx(expected["mean"], abs=1e-3)
    assert anchors.std() == pytest.approx(expected["std"], abs=1e-3)


# -- What fits boxes best ---------------------------------------------------------------------------------------------


def boxes_of(shapes: Tensor) -> Tensor:
    """Widths and heights [N, 2] → boxes [N, 4], somewhere."""
    corner = torch.rand(len(shapes), 2) * 100
    return torch.cat((corner, corner + shapes), dim=1)


def mean_overlap(shapes: Tensor, centres: Tensor) -> float:
    """What k-means makes large: the mean IoU of each shape with its best centre, both at one corner."""
    both = (torch.cat((torch.zeros_like(some), some), dim=1) for some in (shapes, centres))
    return float(box_iou(*both).amax(1).mean())


@pytest.mark.parametrize(("boxes", "anchors"), [(0, 5), (1, 1), (300, 40), (7, 30_000), (3, 1_200_000)])
def test_best_overlap_is_that_of_torchvisions_iou(boxes: int, anchors: int) -> None:
    """Whatever pieces it is worked out in."""
    some, others = (boxes_of(1 + torch.rand(count, 2) * 80) for count in (boxes, anchors))
    found = best_overlap(some, others)
    torch.testing.assert_close(found, box_iou(some, others).amax(1))


def test_best_overlap_without_anchors_is_none() -> None:
    assert best_overlap(torch.rand(3, 4), torch.zeros(0, 4)).tolist() == [0, 0, 0]
    assert best_overlap(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)


def test_two_clusters_by_hand() -> None:
    """Small squares and large flat ones: their means, the small one first, whatever order they come in."""
    shapes = torch.tensor([[100.0, 40.0], [10.0, 10.0], [104.0, 44.0], [12.0, 10.0], [96.0, 36.0], [11.0, 13.0]])
    expected = torch.tensor([[11.0, 11.0], [100.0, 40.0]])
    torch.testing.assert_close(kmeans_shapes(shapes, 2), expected)
    for seed in range(5):
        order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(kmeans_shapes(shapes[order], 2), expected)


def test_one_cluster_is_the_mean() -> None:
    shapes = torch.rand(50, 2) * 90 + 10
    torch.testing.assert_close(kmeans_shapes(shapes, 1), shapes.mean(0, keepdim=True))


def test_more_clusters_than_shapes() -> None:
    shapes = torch.tensor([[30.0, 10.0], [5.0, 5.0]])
    assert kmeans_shapes(shapes, 9).tolist() == [[5, 5], [30, 10]]
    assert kmeans_shapes(shapes[:0], 3).shape == (0, 2)


def test_equal_shapes() -> None:
    assert kmeans_shapes(torch.tensor([[30.0, 10.0]] * 8), 3).tolist() == [[30, 10]] * 3


@given(
    st.lists(st.tuples(st.integers(4, 400), st.integers(4, 400)), min_size=1, max_size=40, unique=True),
    st.integers(1, 6),
)
def test_clusters_lie_within_the_shapes_by_area_and_fit_better_than_one(sides: list[tuple[int, int]], k: int) -> None:
    shapes = torch.tensor(sides, dtype=torch.float32)
    centres = kmeans_shapes(shapes, k)
    assert centres.shape == (min(k, len(shapes)), 2)
    assert centres.dtype == torch.float32
    assert (centres >= shapes.amin(0) - 1e-3).all()
    assert (centres <= shapes.amax(0) + 1e-3).all()
    area = centres.double().prod(1)
    assert (area.diff() >= -1e-6 * area[1:]).all()
    assert mean_overlap(shapes, centres) >= mean_overlap(shapes, shapes.mean(0, keepdim=True))
    if k >= len(shapes):
        assert mean_overlap(shapes, centres) > 0.9


def test_three_clouds_of_shapes_are_found_again() -> None:
    """Clouds of 100 shapes with a spread of a twentieth: the centres are theirs to a fiftieth."""
    true = torch.tensor([[20.0, 20.0], [120.0, 40.0], [60.0, 200.0]])
    shapes = (true.repeat(100, 1) * (1 + 0.05 * torch.randn(300, 2))).clamp(min=1)
    torch.testing.assert_close(kmeans_shapes(shapes, 3), true, rtol=0.02, atol=0)


def test_ratios_by_hand() -> None:
    """Flat, square and tall boxes of any size: heights over widths of 0.5, 1 and 3, from flat to tall."""
    shapes = torch.tensor([[s, s * r] for s in (10.0, 50.0, 200.0) for r in (3.0, 0.5, 1.0)])
    assert ratios_of(boxes_of(shapes), 3) == pytest.approx((0.5, 1.0, 3.0), rel=1e-4)


def test_ratios_of_equal_boxes() -> None:
    assert ratios_of(boxes_of(torch.tensor([[20.0, 10.0]] * 4)), 3) == pytest.approx((0.5, 0.5, 0.5), rel=1e-4)
    assert ratios_of(torch.zeros(0, 4), 3) == ()


def test_ratios_of_fewer_boxes_than_ratios() -> None:
    assert ratios_of(boxes_of(torch.tensor([[10.0, 20.0], [20.0, 10.0]])), 3) == pytest.approx((0.5, 2, 2), rel=1e-4)
