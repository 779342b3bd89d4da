"""Towers: their start, their size, and the order of what comes out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torchvision.models.detection.retinanet import RetinaNetRegressionHead

from foodbox.layers.heads import Tower, per_anchor, start_at_prior


def test_the_papers_start_is_a_spread_of_a_hundredth_and_no_bias() -> None:
    tower = Tower(64, 4, 36)
    convolutions = [m for m in tower.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 5
    for convolution in convolutions:
        assert float(convolution.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
        assert convolution.bias is not None
        assert not convolution.bias.any()


def test_the_kaiming_start_keeps_the_spread_but_in_the_last_layer() -> None:
    tower = Tower(64, 4, 36, init="kaiming")
    *inner, last = [m for m in tower.modules() if isinstance(m, nn.Conv2d)]
    for convolution in inner:
        assert float(convolution.weight.detach().std()) == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.05)
    assert float(last.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    signal = nn.Sequential(*list(tower)[:-1])(torch.randn(1, 64, 24, 24)).detach()
    assert float(signal.square().mean()) == pytest.approx(1, abs=0.6)


def test_group_norm_stands_behind_each_convolution_which_has_no_bias_then() -> None:
    tower = Tower(64, 2, 9, norm="group")
    assert [type(m).__name__ for m in tower] == ["Conv2d", "GroupNorm", "ReLU"] * 2 + ["Conv2d"]
    assert tower[0].bias is None
    assert tower[1].num_groups == 8


@pytest.mark.parametrize("channels", [8, 9, 16, 32, 48, 64, 256])
def test_a_tower_of_any_width_can_have_group_norm(channels: int) -> None:
    """On the smallest level of the smallest photo, too: a single place, where a group needs more than one channel."""
    tower = Tower(channels, 1, 9, norm="group")
    assert tower(torch.randn(1, channels, 1, 1)).shape == (1, 9, 1, 1)


def test_an_output_is_put_in_the_order_of_the_anchors() -> None:
    """Channel a x values + v at (y, x) becomes value v of anchor (y x width + x) x A + a."""
    output = torch.randn(2, 3 * 5, 4, 6)
    found = per_anchor(output, 5)
    assert found.shape == (2, 4 * 6 * 3, 5)
    for b, a, v, y, x in [(0, 0, 0, 0, 0), (1, 2, 4, 3, 5), (0, 1, 3, 2, 1), (1, 0, 2, 0, 4)]:
        assert found[b, (y * 6 + x) * 3 + a, v] == output[b, a * 5 + v, y, x]


def test_a_tower_computes_what_torchvisions_does() -> None:
    tower, theirs = Tower(8, 4, 3 * 4, init="kaiming"), RetinaNetRegressionHead(8, 3)
    for i in range(4):
        theirs.conv[i][0].load_state_dict(tower[2 * i].state_dict())
    theirs.bbox_reg.load_state_dict(tower[-1].state_dict())
    levels = [torch.randn(2, 8, 4, 6), torch.randn(2, 8, 2, 3)]
    found = torch.cat([per_anchor(tower(level), 4) for level in levels], dim=1)
    torch.testing.assert_close(found, theirs(levels))


def test_scores_start_at_the_prior() -> None:
    conv = nn.Conv2d(8, 3 * 5, 1)
    start_at_prior(conv, 0.01)
    assert conv.bias is not None
    torch.testing.assert_close(conv.bias.detach().sigmoid(), torch.full((15,), 0.01))
