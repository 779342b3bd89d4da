"""Which shapes fit boxes best: worked out by hand, and against torchvision's overlaps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou

from foodbox.ops.anchor_fitting import best_overlap, kmeans_shapes, ratios_of


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
