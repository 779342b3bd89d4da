"""Darknet's convolution, the body of YOLOv3-tiny, which timm does not have, and YOLOv3's heads."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from timm.models._features import FeatureInfo
from torch import Tensor, nn

from foodbox.layers.convolutions import ConvNormAct, Norm, norm_layer

DARKNET_TINY = "darknet_tiny"
"""The name by which `Backbone` knows `DarknetTiny`."""

LEAKY_SLOPE = 0.1
"""Of LeakyReLU below 0: darknet's src/activations.h, leaky_activate."""


class DarknetUnit(ConvNormAct):
    """A convolution without bias, norm, LeakyReLU: YOLOv3 table 1's "Convolutional"; size 3 is padded by 1.

    Args:
        norm: "group" is for training with few photos a step, whose statistics are too rough for batch norm.
        eps: of batch norm.
        slope: of LeakyReLU below 0.
    """

    def __init__(
        self, before: int, width: int, size: int, norm: Norm = "batch", eps: float = 1e-5, slope: float = LEAKY_SLOPE
    ) -> None:
        act = nn.LeakyReLU(slope, inplace=True)
        super().__init__(before, width, size, norm_layer(norm, width, eps), act, padding=size // 2)
        nn.init.kaiming_normal_(self.conv.weight, slope)


class DarknetTiny(nn.Module):
    """The seven convolutions before YOLOv3-tiny's heads (darknet's cfg/yolov3-tiny.cfg), a maximum of 2 x 2 between.

    Maps are halved rounding up, as in darknet. The last maximum has stride 1: each place sees its right and lower
    neighbours, and beyond the border there is nothing.

    Attributes:
        feature_info: the maps, described as timm's networks describe theirs.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 64, 128, 256, 512, 1024)
        self.units = nn.ModuleList(DarknetUnit(a, b, 3) for a, b in itertools.pairwise(widths))
        maps = [{"num_chs": widths[i + 1], "reduction": 2**i, "module": f"units.{i}"} for i in range(5)]
        maps.append({"num_chs": widths[-1], "reduction": 32, "module": "units.6"})
        self.feature_info = FeatureInfo(maps, tuple(range(6)))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [B, 3, H, W] → maps of strides 1, 2, 4, 8, 16 and 32: [B, 16, H, W] ... [B, 1024, H/32, W/32]."""
        maps = [self.units[0](images)]
        for unit in list(self.units)[1:6]:
            maps.append(unit(F.max_pool2d(maps[-1], 2, ceil_mode=True)))
        whole = F.pad(maps.pop(), (0, 1, 0, 1), value=-float("inf"))
        return [*maps, self.units[6](F.max_pool2d(whole, 2, stride=1))]


class DarknetHead(nn.Module):
    """One scale of YOLOv3 (section 2.3): joins the coarser scale's features to the backbone's, and predicts from them.

    Args:
        before: channels of the backbone's map.
        coarser: channels that come from the coarser scale; 0 for the coarsest one.
        width: of the 1 x 1 convolutions; the 3 x 3 ones between have twice as many.
        layers: convolutions before what the next scale gets.
        values: channels of the prediction.
        unit: norm, epsilon and slope of each convolution.
    """

    def __init__(
        self,
        before: int,
        coarser: int,
        width: int,
        layers: int,
        values: int,
        unit: tuple[Norm, float, float],
    ) -> None:
        super().__init__()
        self.reduce = DarknetUnit(coarser, width, 1, *unit) if coarser else None
        widths = [before + (width if coarser else 0), *((1 + i % 2) * width for i in range(layers))]
        self.layers = nn.Sequential(
            *(DarknetUnit(widths[i], widths[i + 1], 1 + 2 * (i % 2), *unit) for i in range(layers))
        )
        self.channels = widths[-1]
        self.last = DarknetUnit(widths[-1], 2 * width, 3, *unit)
        self.output = nn.Conv2d(2 * width, values, 1)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, coarser: Tensor | None) -> tuple[Tensor, Tensor]:
        """The backbone's map [B, before, H, W] and the coarser scale's → for the finer one, and [B, values, H, W]."""
        if self.reduce is not None and coarser is not None:
            larger = F.interpolate(self.reduce(coarser), size=features.shape[-2:], mode="nearest")
            features = torch.cat((larger, features), dim=1)
        features = self.layers(features)
        return features, self.output(self.last(features))
