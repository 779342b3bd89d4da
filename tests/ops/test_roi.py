"""Regions of maps: which map, and their features, against torchvision and by hand."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign, roi_pool

from foodbox.ops.roi import assign_levels, pool_regions

SIZE = (256, 320)
STRIDES = (4, 8, 16, 32)


def some_boxes(count: int) -> torch.Tensor:
    """Boxes of 4 to 600 px, some of them over the border of the input."""
    side = torch.exp(torch.empty(count, 1).uniform_(1.4, 6.4) + torch.empty(count, 2).uniform_(-0.3, 0.3))
    corner = torch.rand(count, 2) * 200
    return torch.cat((corner, corner + side), dim=1)


def maps() -> list[torch.Tensor]:
    return [torch.randn(2, 6, SIZE[0] // s, SIZE[1] // s) for s in STRIDES]


def test_levels_by_hand() -> None:
    """FPN section 4.2: 224² goes to P4; half the side one level down, double one up."""
    sides = torch.tensor([223.0, 224, 111, 112, 447, 448, 1, 5000, 0])
    boxes = torch.stack((torch.zeros(9), torch.zeros(9), sides, sides), dim=1)
    assert assign_levels(boxes, STRIDES).tolist() == [1, 2, 0, 1, 2, 3, 0, 3, 0]
    assert assign_levels(boxes, STRIDES, base=112.0).tolist() == [2, 3, 1, 2, 3, 3, 0, 3, 0]
    assert assign_levels(boxes, (8, 16, 32)).tolist() == [0, 1, 0, 0, 1, 2, 0, 2, 0]
    assert assign_levels(boxes, (16,)).tolist() == [0] * 9


def test_the_level_goes_by_the_area_and_not_by_the_shape() -> None:
    boxes = torch.tensor([[0.0, 0, 112, 448], [5.0, 5, 453, 117], [0.0, 0, 223, 224]])
    assert assign_levels(boxes, STRIDES).tolist() == [2, 2, 1]


def test_the_base_is_the_papers_up_to_rounding() -> None:
    """Boxes of 224² somewhere, whose area float32 makes a little too small."""
    corner = torch.rand(1000, 2) * 800
    assert (assign_levels(torch.cat((corner, corner + 224.0001), dim=1), STRIDES) == 2).all()


@pytest.mark.parametrize("size", [7, 14])
def test_aligned_features_are_torchvisions(size: int) -> None:
    features, boxes = maps(), [some_boxes(30), some_boxes(12)]
    theirs = MultiScaleRoIAlign(list("0123"), size, 2)
    expected = theirs(OrderedDict(zip("0123", features, strict=True)), boxes, [SIZE, SIZE])
    photo = torch.tensor([0] * 30 + [1] * 12)
    torch.testing.assert_close(pool_regions(features, torch.cat(boxes), photo, STRIDES, size), expected)
    assert len(assign_levels(torch.cat(boxes), STRIDES).unique()) >= 3


def test_one_map_is_asked_for_all_regions() -> None:
    features, boxes = maps()[2:3], some_boxes(20)
    photo = torch.arange(20) % 2
    rois = torch.cat((photo[:, None], boxes), dim=1)
    expected = roi_pool(features[0], rois, 7, 1 / 16)
    torch.testing.assert_close(pool_regions(features, boxes, photo, (16,), 7, "pool"), expected)


def test_pooling_by_hand() -> None:
    """A map that counts its 8 x 8 places, and a region of its left upper 4 x 4: the largest of each quarter."""
    counted = torch.arange(64.0).view(1, 1, 8, 8)
    box = torch.tensor([[0.0, 0, 48, 48]])  # up to and with place 3, at a stride of 16
    found = pool_regions([counted], box, torch.tensor([0]), (16,), 2, "pool")
    assert found.flatten().tolist() == [9, 11, 25, 27]


def test_aligning_by_hand() -> None:
    """On a plane, the mean of a cell is its middle's value: place (y, x) of a map that is 10 y + x."""
    plane = 10 * torch.arange(8.0)[:, None] + torch.arange(8.0)
    box = torch.tensor([[16.0, 32, 80, 96]])  # places 1 to 5 across and 2 to 6 down
    found = pool_regions([plane[None, None]], box, torch.tensor([0]), (16,), 2)
    # Torchvision's regions start at the places, not half a place before them.
    assert found.flatten().tolist() == pytest.approx([10 * y + x for y in (3, 5) for x in (2, 4)])


def test_no_regions() -> None:
    found = pool_regions(maps(), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), STRIDES, 7)
    assert found.shape == (0, 6, 7, 7)


@pytest.mark.parametrize("method", ["align", "pool"])
def test_an_empty_region_has_finite_features(method: str) -> None:
    found = pool_regions(maps(), torch.zeros(3, 4), torch.tensor([0, 1, 1]), STRIDES, 7, method)  # type: ignore[arg-type]
    assert found.isfinite().all()


def test_gradients_go_to_the_regions_own_map() -> None:
    features = [m.requires_grad_() for m in maps()]
    boxes = torch.tensor([[0.0, 0, 230, 230]])
    pool_regions(features, boxes, torch.tensor([1]), STRIDES, 7).sum().backward()
    grads = [0.0 if m.grad is None else float(m.grad.abs().sum()) for m in features]
    assert [g > 0 for g in grads] == [False, False, True, False]
    assert features[2].grad is not None
    assert float(features[2].grad[0].abs().sum()) == 0
