"""SSD's extra maps and SSDLite's parts: sizes, small inputs, and torchvision's blocks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.detection.ssdlite import _extra_block, _prediction_block

from foodbox.layers.convolutions import BatchNorm
from foodbox.layers.separable import ExtraMap, conv_unit, lite_head, size_after


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (3, 1, 0), (4, 1, 1)])
@pytest.mark.parametrize("lite", [False, True])
@pytest.mark.parametrize("side", [1, 2, 3, 5, 10, 19])
def test_extra_maps_have_the_size_that_is_foretold(
    side: int, lite: bool, kernel: int, stride: int, padding: int
) -> None:
    extra = ExtraMap(8, 4, 16, kernel, stride, padding, lite, "group" if lite else "none")
    with torch.no_grad():
        found = extra(torch.randn(2, 8, side, side + 1))
    sides = [size_after(s, kernel, stride, padding) for s in (side, side + 1)]
    assert found.shape == (2, 16, *sides)
    assert found.isfinite().all()


def test_sizes_on_ssd300_by_hand() -> None:
    """Figure 2: 19, 10, 5, 3, 1."""
    sides = [19]
    for kernel, stride, padding in ((3, 2, 1), (3, 2, 1), (3, 1, 0), (3, 1, 0)):
        sides.append(size_after(sides[-1], kernel, stride, padding))
    assert sides == [19, 10, 5, 3, 1]


def copied(ours: nn.Module, theirs: nn.Module) -> None:
    """Random weights for both, in the same order."""
    for mine, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.copy_(torch.rand_like(mine) + 0.1)
            other.copy_(mine)


@torch.no_grad()
@pytest.mark.parametrize("train", [False, True])
def test_ssdlites_parts_are_torchvisions(train: bool) -> None:
    def norm(width: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(width, eps=0.001, momentum=0.03)

    parts = [
        (ExtraMap(12, 16, 32, 3, 2, 1, lite=True, norm="batch"), _extra_block(12, 32, norm)),
        (lite_head(12, 20, "batch"), _prediction_block(12, 20, 3, norm)),
    ]
    for ours, theirs in parts:
        copied(ours, theirs)
        x = torch.randn(2, 12, 7, 7)
        torch.testing.assert_close(ours.train(train)(x), theirs.train(train)(x))
        for mine, other in zip(ours.buffers(), theirs.buffers(), strict=True):
            torch.testing.assert_close(mine, other)


def test_batch_norm_trains_on_one_photo_and_one_place() -> None:
    """Where torch's refuses, for one value has no spread."""
    norm, x = BatchNorm(4), torch.randn(1, 4, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm2d(4)(x)
    torch.testing.assert_close(norm(x), x, rtol=1e-4, atol=1e-4)
    assert not norm.running_mean.any()  # type: ignore[union-attr]


@pytest.mark.parametrize(("norm", "parts"), [
    ("none", ["Conv2d", "ReLU"]),
    ("batch", ["Conv2d", "BatchNorm", "ReLU6"]),
    ("group", ["Conv2d", "GroupNorm", "ReLU6"]),
])  # fmt: skip
def test_a_norm_takes_the_place_of_the_bias(norm: str, parts: list[str]) -> None:
    unit = conv_unit(8, 16, norm=norm)  # type: ignore[arg-type]
    assert [type(part).__name__ for part in unit] == parts
    assert (unit.conv.bias is None) is (norm != "none")
