"""Boxes against torchvision's, and what must hold for any."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_area, box_iou, clip_boxes_to_image

from foodbox.ops.boxes import area, clip, iou


def some_boxes(*shape: int, side: float = 100) -> Tensor:
    corner = torch.rand(*shape, 2) * side
    return torch.cat((corner, corner + 1 + torch.rand(*shape, 2) * side), dim=-1)


side = st.floats(0, 500, width=32)
box = st.tuples(side, side, side, side).map(lambda v: (v[0], v[1], v[0] + v[2] + 1, v[1] + v[3] + 1))


def test_area_is_torchvisions() -> None:
    boxes = some_boxes(50)
    assert torch.equal(area(boxes), box_area(boxes))


@pytest.mark.parametrize(("m", "n"), [(1, 1), (7, 200), (200, 7)])
def test_iou_is_torchvisions(m: int, n: int) -> None:
    a, b = some_boxes(m), some_boxes(n)
    torch.testing.assert_close(iou(a, b), box_iou(a, b), rtol=0, atol=1e-6)


def test_iou_by_hand() -> None:
    a = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    b = torch.tensor([[5.0, 0.0, 15.0, 10.0], [0.0, 0.0, 10.0, 10.0], [10.0, 0.0, 20.0, 10.0], [2.0, 2.0, 4.0, 7.0]])
    torch.testing.assert_close(iou(a, b), torch.tensor([[50 / 150, 1.0, 0.0, 0.1]]))


def test_iou_of_a_batch_is_that_of_each_photo() -> None:
    boxes, anchors = some_boxes(3, 5), some_boxes(40)
    together = iou(boxes, anchors[None])
    assert together.shape == (3, 5, 40)
    for i in range(3):
        torch.testing.assert_close(together[i], box_iou(boxes[i], anchors), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("m", "n"), [(0, 3), (3, 0), (0, 0)])
def test_iou_without_boxes(m: int, n: int) -> None:
    assert iou(some_boxes(m), some_boxes(n)).shape == (m, n)
    assert iou(some_boxes(2, m), some_boxes(1, n)).shape == (2, m, n)


def test_iou_of_empty_boxes_is_nothing() -> None:
    empty = torch.tensor([[3.0, 3.0, 3.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(iou(empty, empty), torch.zeros(2, 2))


@given(box, box)
def test_iou_is_symmetric_and_a_share(one: tuple[float, ...], other: tuple[float, ...]) -> None:
    a, b = torch.tensor([one]), torch.tensor([other])
    assert 0 <= float(iou(a, b)) <= 1 + 1e-6
    assert float(iou(a, b)) == pytest.approx(float(iou(b, a)), abs=1e-6)
    assert float(iou(a, a)) == pytest.approx(1, abs=1e-6)


def test_clip_is_torchvisions() -> None:
    boxes = some_boxes(100, side=300) - 100
    assert torch.equal(clip(boxes, 150, 90), clip_boxes_to_image(boxes, (90, 150)))


def test_clip_takes_a_size_for_each_photo() -> None:
    boxes = some_boxes(3, 20, side=300) - 100
    sizes = torch.tensor([[150, 90], [10, 200], [1, 1]])
    together = clip(boxes, sizes[:, None, :1], sizes[:, None, 1:])
    for i, (width, height) in enumerate(sizes.tolist()):
        assert torch.equal(together[i], clip_boxes_to_image(boxes[i], (height, width)))


def test_clip_without_boxes() -> None:
    assert clip(torch.zeros(0, 4), 10, 10).shape == (0, 4)
