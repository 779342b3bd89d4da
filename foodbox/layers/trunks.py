"""What the two-stage detectors share below their regions: a backbone, and a pyramid or one map made of its features."""

from __future__ import annotations

from typing import Literal

from torch import nn

from foodbox.errors import UsageError
from foodbox.layers.backbones import Backbone
from foodbox.layers.heads import Norm
from foodbox.layers.mobilenetv3 import MobileNetV3Large
from foodbox.layers.pyramids import FeaturePyramid, SingleMap

Neck = Literal["pyramid", "c4"]
MOBILENET_V3 = "mobilenet_v3_large"
"""Torchvision's, whose two maps have one stride; other names are timm's."""


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
