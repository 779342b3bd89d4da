"""Boxes against torchvision's, and what must hold for any."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_area, box_iou, clip_boxes_to_image

from foodbox.ops.boxes import area, box_means, clip, iou


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


quarter = st.integers(0, 64)
sides_of_a_quarter = st.tuples(quarter, quarter, st.integers(4, 64), st.integers(4, 64))


@given(st.lists(sides_of_a_quarter, min_size=1, max_size=5))
def test_a_maps_mean_over_a_box_is_that_of_its_places(quarters: list[tuple[int, int, int, int]]) -> None:
    """Each place shown as 4 x 4, so that boxes end between them; of a box that sticks out what is inside counts."""
    maps = torch.arange(2 * 3 * 8 * 12, dtype=torch.float32).view(2, 3, 8, 12).sin()
    large = F.interpolate(maps, scale_factor=4, mode="nearest")
    corners = [(min(x, 44), min(y, 28), x + w, y + h) for x, y, w, h in quarters]
    boxes = torch.tensor(corners, dtype=torch.float32)[None].expand(2, -1, -1)
    found = box_means(maps, boxes * 4, stride=16)
    assert found.shape == (2, len(quarters), 3)
    for i, (x1, y1, x2, y2) in enumerate(corners):
        torch.testing.assert_close(found[:, i], large[:, :, y1:y2, x1:x2].mean((2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ([20.0, 20, 21, 22], (2, 2)),  # less than a place of 8 px
        ([88.0, 56, 400, 300], (7, 11)),
        ([0.0, 30, 8, 32], (3, 0)),
        ([20.0, 20, 20, 20], None),
        ([-50.0, 3, -20, 5], None),  # beside the map
    ],
)
def test_less_than_a_place_has_the_places_mean_and_nothing_has_none(
    box: list[float], place: tuple[int, int] | None
) -> None:
    maps = torch.randn(1, 5, 8, 12)
    expected = torch.zeros(5) if place is None else maps[0, :, place[0], place[1]]
    torch.testing.assert_close(box_means(maps, torch.tensor([[box]]), stride=8)[0, 0], expected, rtol=1e-3, atol=1e-3)


def test_small_boxes_on_a_large_map_keep_their_digits() -> None:
    """A summed-area table in float32 of values that all lie to one side loses what small boxes differ by."""
    torch.manual_seed(0)
    maps = torch.randn(1, 4, 200, 336) - 6
    corner = torch.rand(1, 300, 2) * torch.tensor([333.0, 197.0])
    boxes = torch.cat((corner, corner + 0.3 + 2 * torch.rand(1, 300, 2)), dim=2)
    table = F.pad(maps.double().cumsum(2).cumsum(3), (1, 0, 1, 0))

    def at(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The table between its places, by hand: [C, N]."""
        left, top = x.floor().long().clamp(max=335), y.floor().long().clamp(max=199)
        right, down = x - left, y - top
        upper = table[0, :, top, left] * (1 - right) + table[0, :, top, left + 1] * right
        lower = table[0, :, top + 1, left] * (1 - right) + table[0, :, top + 1, left + 1] * right
        return upper * (1 - down) + lower * down

    x1, y1, x2, y2 = boxes[0].double().unbind(1)
    expected = (at(x2, y2) - at(x1, y2) - at(x2, y1) + at(x1, y1)) / ((x2 - x1) * (y2 - y1))
    torch.testing.assert_close(box_means(maps, boxes, stride=1)[0].T.double(), expected, rtol=0, atol=3e-3)
