"""What detectors stand on: a backbone of their paper's or of timm's, and a pyramid or one map made of its features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from foodbox.errors import UsageError
from foodbox.layers.backbones import Backbone
from foodbox.layers.convolutions import Norm
from foodbox.layers.mobilenetv3 import MobileNetV3Large
from foodbox.layers.pyramids import FeaturePyramid
from foodbox.layers.vgg import VGG16

Neck = Literal["pyramid", "c4"]
VGG = "vgg16"
"""To SSD its own, with two maps; to the two-stage detectors timm's."""
MOBILENET_V3 = "mobilenet_v3_large"
"""Torchvision's, whose two maps have one stride in Faster R-CNN, and strides of 16 and 32 in SSDLite."""
OWN_STRIDES = {VGG: (8, 16), MOBILENET_V3: (16, 32), f"{MOBILENET_V3}_reduced": (16, 32)}
"""SSD's backbones that are not timm's, and the strides of their maps."""


def ssd_backbone(
    name: str, frozen_stages: int, frozen_batch_norm: bool, batch_norm_eps: float, expansion: bool
) -> VGG16 | MobileNetV3Large | Backbone:
    """SSD's backbone without its weights: VGG-16 as SSD changed it, torchvision's MobileNetV3, or one of timm's.

    Args:
        name: one of `OWN_STRIDES`, or timm's name.
        frozen_stages, frozen_batch_norm, batch_norm_eps, expansion: as `Backbone` has them.

    Raises:
        UsageError: timm has no such network, or it has no such feature maps.
    """
    if name == VGG:
        return VGG16(frozen_stages)
    if name in OWN_STRIDES:
        return MobileNetV3Large(name.endswith("_reduced"), frozen_stages, frozen_batch_norm)
    return Backbone(name, frozen_stages, frozen_batch_norm, batch_norm_eps, expansion=expansion)


def make_trunk(
    name: str,
    neck: Neck,
    first_level: int,
    channels: int,
    norm: Norm = "none",
    frozen_stages: int = 0,
    frozen_batch_norm: bool = True,
    batch_norm_eps: float = 1e-5,
) -> tuple[nn.Module, nn.Module]:
    """The backbone and the neck, without weights of their own: neck(backbone(images)) are maps of `channels`.

    Args:
        name: "mobilenet_v3_large" (torchvision's) or timm's name.
        neck: "pyramid", FPN from C`first_level` to C5 with a P6 of every second place of P5; "c4", one map.
        norm: behind the pyramid's convolutions.
        frozen_stages, frozen_batch_norm, batch_norm_eps: as `Backbone` has them.

    Raises:
        UsageError: timm has no such network, or it has no such feature maps.
    """
    body: Backbone | MobileNetV3Large
    if name == MOBILENET_V3:
        if neck == "c4":
            raise UsageError(f"The backbone {name} has no map C4 here: take neck pyramid, or another backbone.")
        body = MobileNetV3Large(False, frozen_stages, frozen_batch_norm, batch_norm_eps, behind_block=True)
    else:
        levels = (4, 4) if neck == "c4" else (first_level, 5)
        body = Backbone(name, frozen_stages, frozen_batch_norm, batch_norm_eps, levels=levels)
    if neck == "c4":
        return body, SingleMap(body.channels[-1], channels)
    return body, FeaturePyramid(body.channels, channels, "pool", norm=norm)


def map_strides(name: str, neck: Neck, first_level: int) -> tuple[int, ...]:
    """Pixels of the input for one place of each map, from fine to coarse; a pyramid's last is P6."""
    if neck == "c4":
        return (16,)
    if name == MOBILENET_V3:
        return (32, 32, 64)
    return tuple(2**level for level in range(first_level, 7))


def anchor_strides(name: str, neck: Neck, first_level: int, sizes: Sequence[float]) -> tuple[int, ...]:
    """`map_strides` for anchors of so many sizes, one size a map.

    Raises:
        UsageError: there are more or fewer.
    """
    strides = map_strides(name, neck, first_level)
    if len(sizes) != len(strides):
        raise UsageError(
            f"There are {len(sizes)} anchor sizes: expected {len(strides)}, one for each map of the {name} that "
            "proposals come from."
        )
    return strides


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
