"""Feature pyramids: the same width at every level, with what the deep levels know carried to the fine ones."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn

from foodbox.layers.convolutions import strided


class FeaturePyramid(nn.Module):
    """Feature Pyramid Network (Lin et al. 2017a, section 3) with RetinaNet's P6 and P7 (Lin et al. 2017b, footnote 2).

    Args:
        in_channels: widths of C3, C4, C5.
        channels: width of every level that comes out.
        extra_from: what P6 is computed from; the paper's text says C5, torchvision's first model takes P5.
        keras_layout: P6 and P7 with TensorFlow's "same" padding.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        extra_from: Literal["C5", "P5"] = "C5",
        keras_layout: bool = False,
    ) -> None:
        super().__init__()
        self.extra_from = extra_from
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
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
        """C3, C4, C5 [B, in_channels[i], H/8, W/8] ... → P3 ... P7 [B, channels, H/8, W/8] ... [H/128, W/128]."""
        merged = [lateral(c) for lateral, c in zip(self.lateral, features, strict=True)]
        for i in range(len(merged) - 1, 0, -1):
            merged[i - 1] = merged[i - 1] + F.interpolate(merged[i], size=merged[i - 1].shape[-2:], mode="nearest")
        levels = [output(m) for output, m in zip(self.output, merged, strict=True)]
        p6 = strided(self.p6, features[-1] if self.extra_from == "C5" else levels[-1])
        return [*levels, p6, strided(self.p7, F.relu(p6))]
