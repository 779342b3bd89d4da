"""Feature pyramids: the same width at every level, with what the deep levels know carried to the fine ones."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn

from foodbox.layers.convolutions import strided
from foodbox.layers.heads import Norm, norm_layer


class FeaturePyramid(nn.Module):
    """Feature Pyramid Network (Lin et al. 2017a, section 3) with RetinaNet's P6 and P7 (Lin et al. 2017b, footnote 2).

    Args:
        in_channels: widths of C3, C4, C5, or of whatever maps there are, from fine to coarse.
        channels: width of every level that comes out.
        extra_from: what P6 is computed from; the paper's text says C5, torchvision's first model takes P5. "pool" has a
            P6 alone, every second place of P5 (FPN section 4.1, footnote 1).
        keras_layout: P6 and P7 with TensorFlow's "same" padding.
        norm: behind each convolution of the pyramid proper.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        extra_from: Literal["C5", "P5", "pool"] = "C5",
        keras_layout: bool = False,
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        self.extra_from = extra_from
        self.lateral = nn.ModuleList(_unit(width, channels, 1, norm) for width in in_channels)
        self.output = nn.ModuleList(_unit(channels, channels, 3, norm) for _ in in_channels)
        if extra_from != "pool":
            width = in_channels[-1] if extra_from == "C5" else channels
            convolution = Conv2dSame if keras_layout else nn.Conv2d
            padding = 0 if keras_layout else 1
            self.p6 = convolution(width, channels, 3, stride=2, padding=padding)
            self.p7 = convolution(channels, channels, 3, stride=2, padding=padding)
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_uniform_(conv.weight, a=1)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """C3, C4, C5 [B, in_channels[i], H/8, W/8] ... → P3 ... P7 [B, channels, H/8, W/8] ... [H/128, W/128].

        With extra_from="pool" to P6.
        """
        merged = [lateral(c) for lateral, c in zip(self.lateral, features, strict=True)]
        for i in range(len(merged) - 1, 0, -1):
            merged[i - 1] = merged[i - 1] + F.interpolate(merged[i], size=merged[i - 1].shape[-2:], mode="nearest")
        levels = [output(m) for output, m in zip(self.output, merged, strict=True)]
        if self.extra_from == "pool":
            return [*levels, levels[-1][..., ::2, ::2]]
        p6 = strided(self.p6, features[-1] if self.extra_from == "C5" else levels[-1])
        return [*levels, p6, strided(self.p7, F.relu(p6))]


class SingleMap(nn.Module):
    """One level instead of a pyramid: C4, made as narrow as a pyramid's by a 1 x 1 convolution.

    Of a map that is as wide already, as VGG-16's conv5_3 in Faster R-CNN's paper, nothing is changed.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.narrow = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """C4 [B, in_channels, H/16, W/16], the last of the features → [B, channels, H/16, W/16] alone."""
        return [self.narrow(features[-1])]


def _unit(before: int, width: int, kernel: int, norm: Norm) -> nn.Module:
    """A convolution, alone or with a norm behind it."""
    conv = nn.Conv2d(before, width, kernel, padding=kernel // 2, bias=norm == "none")
    if norm == "none":
        return conv
    return nn.Sequential(OrderedDict(conv=conv, norm=norm_layer(norm, width)))
