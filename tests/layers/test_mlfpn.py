"""MLFPN: the shapes of figures 2 to 4, what is shared and what is not, and small maps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foodbox.layers.mlfpn import MLFPN, TUM, ChannelAttention, Unit, scale_sides


def small(variant: str = "released", levels: int = 3, scales: int = 4, norm: str = "batch") -> MLFPN:
    return MLFPN([24, 40], (16, 32), 32, levels, scales, variant, norm)


def as_it_comes(module: nn.Module) -> nn.Module:
    """Norms and ReLUs that change nothing, so that what is left can be worked out by hand."""
    for unit in module.modules():
        if isinstance(unit, Unit):
            unit.norm, unit.relu = nn.Identity(), nn.Identity()
    return module


def constant(unit: nn.Module, value: float) -> None:
    """A convolution that multiplies the sum of the channels at its middle place."""
    weight = unit.conv.weight.data
    weight.zero_()
    weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2] = value


# -- Scales ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "sides"),
    [
        (320, [40, 20, 10, 5, 3, 1]),  # figure 2
        (512, [64, 32, 16, 8, 4, 2]),
        (704, [88, 44, 22, 11, 6, 4]),
        (800, [100, 50, 25, 13, 7, 5]),
        (32, [4, 2, 1, 1, 1, 1]),
    ],
)
def test_sides_of_the_scales(size: int, sides: list[int]) -> None:
    """Those of the released configurations (`reglayer_scale` in their data/anchors.py), and of a small input."""
    assert scale_sides(size // 8, 6) == sides


@pytest.mark.parametrize("variant", ["released", "released_sfam", "paper"])
@pytest.mark.parametrize(("height", "width"), [(40, 40), (13, 7), (4, 4), (1, 1), (3, 20)])
def test_the_pyramid_has_these_sides(variant: str, height: int, width: int) -> None:
    net = small(variant, scales=6).eval()
    deep = torch.rand(2, 40, -(-height // 2), -(-width // 2))
    with torch.no_grad():
        pyramid = net(torch.rand(2, 24, height, width), deep)
    assert [tuple(x.shape) for x in pyramid] == [
        (2, net.out_channels, h, w) for h, w in zip(scale_sides(height, 6), scale_sides(width, 6), strict=True)
    ]


@pytest.mark.parametrize(("variant", "channels"), [("released", 8 * 256), ("paper", 8 * 128)])
def test_channels_of_the_paper_and_of_the_code(variant: str, channels: int) -> None:
    """Figure 3 has 1024 channels in SFAM; the code's `Norm` has 256 x 8."""
    with torch.device("meta"):
        net = MLFPN([512, 1024], (256, 512), 256, 8, 6, variant, "batch")
    assert net.out_channels == channels
    inputs = [tum.encoder[0].conv.in_channels for tum in net.tums]
    assert inputs == ([256] * 8 if variant == "paper" else [128] + [384] * 7)


# -- Modules by hand ------------------------------------------------------------------------------------------------


def test_the_released_tum_by_hand() -> None:
    """Three scales over 4 x 4 places of 1: encoders give 2 (all channels, x 1) at every place; see the comments."""
    tum = as_it_comes(TUM(16, 16, 3, paper=False, norm="batch"))
    assert isinstance(tum, TUM)
    for unit in (*tum.encoder, *tum.decoder, tum.top, *tum.smooth):
        constant(unit, 1 / 16)  # the mean of the channels
    constant(tum.encoder[0], 2 / 16)  # E1 = 2 on 2 x 2
    constant(tum.encoder[1], 3 / 16)  # E2 = 6 on 1 x 1: padded to 3 x 3, whose middle is E1's last place
    constant(tum.decoder[0], 5 / 16)  # lateral of E1: 10
    constant(tum.decoder[1], 7 / 16)  # lateral of the input: 7
    constant(tum.smooth[1], 10 / 16)
    with torch.no_grad():
        finest, middle, coarsest = tum(torch.ones(1, 16, 4, 4))
    assert (coarsest.shape[2:], middle.shape[2:], finest.shape[2:]) == ((1, 1), (2, 2), (4, 4))
    assert coarsest.unique().tolist() == pytest.approx([6])
    assert middle.unique().tolist() == pytest.approx([6 + 10])
    assert finest.unique().tolist() == pytest.approx([10 * (6 + 10 + 7)])


def test_the_papers_tum_by_hand() -> None:
    """The convolution of the way up runs over the coarser map, and all three scales are smoothed to half the width."""
    tum = as_it_comes(TUM(16, 16, 3, paper=True, norm="batch"))
    assert isinstance(tum, TUM)
    for unit in (*tum.encoder, *tum.decoder, *tum.smooth):
        constant(unit, 1 / 16)
    constant(tum.encoder[0], 2 / 16)  # E1 = 2
    constant(tum.encoder[1], 3 / 16)  # E2 = 6
    constant(tum.decoder[0], 5 / 16)  # 30, enlarged, and E1 = 2
    constant(tum.decoder[1], 0.5 / 16)  # 16, enlarged, and the input, 1
    with torch.no_grad():
        finest, middle, coarsest = tum(torch.ones(1, 16, 4, 4))
    assert coarsest.unique().tolist() == pytest.approx([6])
    assert middle.unique().tolist() == pytest.approx([32])
    assert finest.unique().tolist() == pytest.approx([17])
    assert finest.shape == (1, 8, 4, 4)


def test_the_attention_by_hand() -> None:
    """Each channel times sigmoid(W2 relu(W1 mean)): equations 2 and 3."""
    attention = ChannelAttention(32)
    x = torch.randn(2, 32, 3, 5)
    w1, w2 = attention.fc1.weight[:, :, 0, 0], attention.fc2.weight[:, :, 0, 0]
    z = x.mean((2, 3))
    s = (F.relu(z @ w1.T + attention.fc1.bias) @ w2.T + attention.fc2.bias).sigmoid()
    torch.testing.assert_close(attention(x), x * s[:, :, None, None])
    assert w1.shape == (2, 32)  # 32 / 16


def test_later_tums_see_the_finest_map_of_the_one_before() -> None:
    """FFMv2. What the first TUM found reaches the second level's channels, and never the other way round."""
    net = small(levels=2).eval()
    shallow, deep = torch.rand(1, 24, 16, 16), torch.rand(1, 40, 8, 8)
    with torch.no_grad():
        before = net(shallow, deep)
        net.tums[1].smooth[2].conv.weight.mul_(2)
        second = net(shallow, deep)
        net.tums[0].smooth[2].conv.weight.mul_(2)
        first = net(shallow, deep)
    assert torch.equal(before[0][:, :32], second[0][:, :32])
    assert not torch.equal(before[0][:, 32:], second[0][:, 32:])
    assert all(not torch.equal(a[:, 32:], b[:, 32:]) for a, b in zip(second, first, strict=True))


def test_what_is_shared() -> None:
    """The code's `leach` and SFAM are one module each, whatever the level and the scale; the paper's are not."""
    assert (len(small("released").thin), len(small("released").attention)) == (1, 0)
    assert (len(small("released_sfam").thin), len(small("released_sfam").attention)) == (1, 1)
    assert (len(small("paper").thin), len(small("paper").attention)) == (3, 4)
    assert isinstance(small("released").finest_norm, nn.BatchNorm2d)
    assert isinstance(small("paper").finest_norm, nn.Identity)


# -- Training on little ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("variant", ["released", "released_sfam", "paper"])
def test_one_photos_map_of_one_place_trains(variant: str, norm: str) -> None:
    """Torch's batch norm refuses a single value a channel."""
    net = small(variant, scales=6, norm=norm).train()
    pyramid = net(torch.rand(1, 24, 4, 4), torch.rand(1, 40, 2, 2))
    torch.stack([x.square().mean() for x in pyramid]).sum().backward()
    assert all(x.isfinite().all() for x in pyramid)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_in_bfloat16_gradients_are_finite() -> None:
    """Maps of width 1 go through strided convolutions, whose bfloat16 gradients are wrong on some processors."""
    net = small("paper", norm="group").train()
    with torch.autocast("cpu", torch.bfloat16):
        pyramid = net(torch.rand(2, 24, 16, 2), torch.rand(2, 40, 8, 1))
    torch.stack([x.float().square().mean() for x in pyramid]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
