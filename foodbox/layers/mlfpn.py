"""Multi-Level Feature Pyramid Network: M2Det (Zhao et al. 2019) section 3.1, figures 2 to 4.

Two forms of it: the one that the authors released, and the one that their paper describes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foodbox.layers.convolutions import ConvNormAct, Norm, norm_layer, strided

Variant = Literal["released", "released_sfam", "paper"]
MAX_GROUPS = 8
"""Of group norm, at most. At the coarsest scale a map has one place, so that a group must have several channels."""
REDUCTION_RATIO = 16
"""r of section 3.1, "SFAM": how much narrower the attention's middle layer is."""


class Unit(ConvNormAct):
    """What the network is built of: a convolution without bias, a norm, ReLU.

    Args:
        norm: "batch", as the authors have it, with their momentum; "group" for steps of few photos.
    """

    def __init__(
        self, before: int, after: int, kernel: int, stride: int = 1, padding: int = 0, norm: Norm = "batch"
    ) -> None:
        layer = norm_layer(norm, after, momentum=0.01, groups=MAX_GROUPS)
        super().__init__(before, after, kernel, layer, nn.ReLU(inplace=True), stride=stride, padding=padding)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")


class TUM(nn.Module):
    """Thinned U-shape Module, figure 4c: maps of several scales from one.

    Going down, 3 x 3 convolutions of stride 2 halve the map; the last has stride 1 and no padding, so that 3 places
    become 1. Going up, each map is enlarged and added to the next finer one, and 1 x 1 convolutions smooth the sums.

    In the paper, a 3 x 3 convolution runs over the coarser map before it is enlarged (bilinearly), and the smoothing
    halves the width at all scales. In the released code the 3 x 3 convolution runs over the finer map instead, what is
    coarser is enlarged by copying, the coarsest has its own 1 x 1 convolution, and all stay as wide.

    Args:
        before: channels of the map that comes in; the paper has them as wide as `planes`.
        planes: width inside.
        scales: how many maps come out, 3 at least.
    """

    def __init__(self, before: int, planes: int, scales: int, paper: bool, norm: Norm) -> None:
        super().__init__()
        self.paper = paper
        steps = [(2, 1)] * (scales - 2) + [(1, 0)]  # stride and padding
        self.encoder = nn.ModuleList(
            Unit(before if i == 0 else planes, planes, 3, *step, norm=norm) for i, step in enumerate(steps)
        )
        self.decoder = nn.ModuleList(Unit(planes, planes, 3, 1, 1, norm) for _ in range(scales - 2))
        self.decoder.append(Unit(planes if paper else before, planes, 3, 1, 1, norm))
        self.top = nn.Identity() if paper else Unit(planes, planes, 1, norm=norm)
        self.smooth = nn.ModuleList(
            Unit(planes, planes // 2 if paper else planes, 1, norm=norm) for _ in range(scales if paper else scales - 1)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, before, H, W] → maps of each scale: [B, planes or planes / 2, H, W], then of H / 2 x W / 2 and so on."""
        encoded = [x]
        for unit in self.encoder[:-1]:
            encoded.append(strided(unit, encoded[-1]))
        encoded.append(self.encoder[-1](_at_least_three(encoded[-1])))
        return self._up_paper(*reversed(encoded)) if self.paper else self._up_released(*reversed(encoded))

    def _up_paper(self, coarsest: Tensor, *finer: Tensor) -> list[Tensor]:
        decoded = [coarsest]
        for unit, x in zip(self.decoder, finer, strict=True):
            decoded.append(F.interpolate(unit(decoded[-1]), size=x.shape[-2:], mode="bilinear") + x)
        return [unit(x) for unit, x in zip(self.smooth, decoded, strict=True)][::-1]

    def _up_released(self, coarsest: Tensor, *finer: Tensor) -> list[Tensor]:
        decoded = [self.top(coarsest)]
        for unit, x in zip(self.decoder, finer, strict=True):
            decoded.append(F.interpolate(decoded[-1], size=x.shape[-2:], mode="nearest") + unit(x))
        return [decoded[0], *(unit(x) for unit, x in zip(self.smooth, decoded[1:], strict=True))][::-1]


class ChannelAttention(nn.Module):
    """Squeeze and excitation (Hu et al. 2018), section 3.1, "SFAM", equations 2 and 3: each channel gets a weight."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, max(1, channels // REDUCTION_RATIO), 1)
        self.fc2 = nn.Conv2d(max(1, channels // REDUCTION_RATIO), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        squeezed = x.mean((2, 3), keepdim=True)  # [B, C, 1, 1]
        weight: Tensor = self.fc2(F.relu(self.fc1(squeezed))).sigmoid()  # [B, C, 1, 1]
        return x * weight


class MLFPN(nn.Module):
    """Two maps of a backbone → a pyramid, whose every scale holds what TUMs of all depths found.

    Args:
        channels: widths of the backbone's shallow and its deep map.
        base_channels: widths that FFMv1 makes of them; 256 and 512 with the authors.
        levels: how many TUMs stand one behind the other.
        scales: maps that each gives.
        variant: "paper": figures 2 to 4. "released": the authors' code, whose every configuration leaves SFAM's
            attention out; one 1 x 1 convolution serves all FFMv2, and the finest scale has a batch norm at the end.
            "released_sfam": the same with its switch `sfam` on; one attention serves all scales.

    Attributes:
        out_channels: width of every map of the pyramid.
    """

    def __init__(
        self, channels: Sequence[int], base_channels: Sequence[int], planes: int, levels: int, scales: int,
        variant: Variant, norm: Norm,
    ) -> None:  # fmt: skip
        super().__init__()
        paper, half = variant == "paper", planes // 2
        self.shallow = Unit(channels[0], base_channels[0], 3, padding=1, norm=norm)  # FFMv1
        self.deep = Unit(channels[1], base_channels[1], 1, norm=norm)
        base = sum(base_channels)
        thinned = [planes] + [half] * (levels - 1) if paper else [half]
        self.thin = nn.ModuleList(Unit(base, width, 1, norm=norm) for width in thinned)  # FFMv2
        widths = [planes] * levels if paper else [half] + [half + planes] * (levels - 1)
        self.tums = nn.ModuleList(TUM(width, planes, scales, paper, norm) for width in widths)
        self.out_channels = levels * (half if paper else planes)
        attentions = {"released": 0, "released_sfam": 1, "paper": scales}[variant]
        self.attention = nn.ModuleList(ChannelAttention(self.out_channels) for _ in range(attentions))
        self.finest_norm = nn.Identity() if paper else nn.BatchNorm2d(self.out_channels)

    def forward(self, shallow: Tensor, deep: Tensor) -> list[Tensor]:
        """[B, channels[0], H, W] and [B, channels[1], H/2, W/2] → maps [B, out_channels, H, W], H / 2 x W / 2 ...

        Section 3.1, equation 1: the first TUM sees the base feature, each later one what the TUM before made, too.
        """
        enlarged = F.interpolate(self.deep(deep), size=shallow.shape[-2:], mode="nearest")
        base = torch.cat((self.shallow(shallow), enlarged), 1)  # FFMv1: [B, 768, H, W] in the paper
        found: list[list[Tensor]] = []  # by level, then by scale
        for level, tum in enumerate(self.tums):
            thin = self.thin[min(level, len(self.thin) - 1)](base)
            found.append(tum(torch.cat((thin, found[-1][0]), 1) if found else thin))  # FFMv2, then TUM
        pyramid = [torch.cat(same_scale, 1) for same_scale in zip(*found, strict=True)]  # SFAM
        if len(self.attention):
            pyramid = [self.attention[min(i, len(self.attention) - 1)](x) for i, x in enumerate(pyramid)]
        return [self.finest_norm(pyramid[0]), *pyramid[1:]]


def scale_sides(side: int, scales: int) -> list[int]:
    """Places along one side of each of a TUM's maps, from those of the finest."""
    sides = [side]
    for _ in range(scales - 2):
        sides.append(-(-sides[-1] // 2))
    return [*sides, max(3, sides[-1]) - 2]


def _at_least_three(x: Tensor) -> Tensor:
    """The map [B, C, H, W] with zeros right and below where it has less than the 3 x 3 places of a convolution."""
    # 2 // side is max(0, 3 - side) as a plain operation, which an exported network can do for any size.
    return F.pad(x, (0, 2 // x.shape[3], 0, 2 // x.shape[2]))
