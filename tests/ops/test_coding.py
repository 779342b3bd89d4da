"""Offsets from anchors against torchvision's coder and by hand; coding and decoding undo each other."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from foodbox.ops.coding import decode_centre, decode_corner, decode_ssd, encode_centre, encode_corner, encode_ssd

PAIRS = [(encode_centre, decode_centre), (encode_corner, decode_corner), (encode_ssd, decode_ssd)]
place = st.floats(-200, 1200, width=32)
length = st.floats(1, 1000, width=32)
box = st.tuples(place, place, length, length).map(lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3]))


def some_boxes(count: int) -> Tensor:
    corner = torch.rand(count, 2) * 300
    return torch.cat((corner, corner + 1 + torch.rand(count, 2) * 200), dim=1)


def test_centre_coding_is_torchvisions() -> None:
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    boxes, anchors = some_boxes(200), some_boxes(200)
    torch.testing.assert_close(encode_centre(boxes, anchors), coder.encode_single(boxes, anchors), rtol=1e-5, atol=1e-5)


def test_ssds_coding_is_torchvisions() -> None:
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    boxes, anchors, deltas = some_boxes(200), some_boxes(200), torch.randn(200, 4) * 4
    torch.testing.assert_close(encode_ssd(boxes, anchors), coder.encode_single(boxes, anchors), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(decode_ssd(deltas, anchors), coder.decode_single(deltas, anchors), rtol=1e-5, atol=1e-2)


def test_centre_decoding_is_torchvisions() -> None:
    """Also where exp() has to be held back."""
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    deltas, anchors = torch.randn(200, 4) * 4, some_boxes(200)
    assert (deltas[:, 2:] > math.log(1000 / 16)).any()
    torch.testing.assert_close(
        decode_centre(deltas, anchors), coder.decode_single(deltas, anchors), rtol=1e-5, atol=1e-2
    )


def test_centre_coding_by_hand() -> None:
    """A box twice as wide and half as high, 5 right and 10 down of a 10 x 20 anchor's centre."""
    anchor, box = torch.tensor([[0.0, 0.0, 10.0, 20.0]]), torch.tensor([[0.0, 15.0, 20.0, 25.0]])
    expected = torch.tensor([[0.5, 0.5, math.log(2), math.log(0.5)]])
    torch.testing.assert_close(encode_centre(box, anchor), expected)


def test_corner_coding_by_hand() -> None:
    """keras-retinanet: (x1 - anchor x1) / anchor width / 0.2, and so on."""
    anchor, box = torch.tensor([[10.0, 20.0, 30.0, 60.0]]), torch.tensor([[12.0, 16.0, 29.0, 68.0]])
    expected = torch.tensor([[2 / 20 / 0.2, -4 / 40 / 0.2, -1 / 20 / 0.2, 8 / 40 / 0.2]])
    torch.testing.assert_close(encode_corner(box, anchor), expected)
    torch.testing.assert_close(decode_corner(expected, anchor), box)


@pytest.mark.parametrize(("encode", "decode"), PAIRS)
@given(box=box, anchor=box)
def test_decoding_undoes_coding(
    encode: Callable[..., Tensor], decode: Callable[..., Tensor], box: tuple[float, ...], anchor: tuple[float, ...]
) -> None:
    """As long as the box is no more than 62.5 times its anchor, where centre decoding stops."""
    boxes, anchors = torch.tensor([box]).double(), torch.tensor([anchor]).double()
    sides = (boxes[:, 2:] - boxes[:, :2]) / (anchors[:, 2:] - anchors[:, :2])
    if float(sides.max()) < 62:
        torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("encode", "decode"), PAIRS)
def test_no_offsets_are_the_anchor_and_no_boxes_are_no_boxes(
    encode: Callable[..., Tensor], decode: Callable[..., Tensor]
) -> None:
    anchors = some_boxes(5)
    torch.testing.assert_close(decode(torch.zeros(5, 4), anchors), anchors)
    assert encode(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
    assert decode(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
