"""Heads: the small networks that run over every pyramid level with the same weights."""

import math
from typing import Literal

from torch import Tensor, nn

from foodbox.layers.convolutions import BatchNorm

Norm = Literal["none", "batch", "group"]
TowerNorm = Literal["none", "group"]
TowerInit = Literal["paper", "kaiming"]


class Tower(nn.Sequential):
    """RetinaNet's subnet (section 4): 3 x 3 convolutions with ReLU, and one more that gives the outputs.

    Args:
        channels: width in and between.
        layers: convolutions before the last one; the paper has 4.
        outputs: channels of the last convolution.
        norm: "group" puts group normalisation behind each convolution, as torchvision's second model.
        init: "paper" draws the weights with standard deviation 0.01. Narrow towers need "kaiming", which keeps the
            spread of what flows through: with 64 channels the paper's shrinks it some six times a layer.
    """

    def __init__(
        self, channels: int, layers: int, outputs: int, norm: TowerNorm = "none", init: TowerInit = "paper"
    ) -> None:
        super().__init__()
        for i in range(layers):
            self.add_module(f"conv{i}", nn.Conv2d(channels, channels, 3, padding=1, bias=norm == "none"))
            if norm == "group":
                self.add_module(f"norm{i}", nn.GroupNorm(group_count(channels), channels))
            self.add_module(f"relu{i}", nn.ReLU(inplace=True))
        self.output = nn.Conv2d(channels, outputs, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if init == "kaiming" and module is not self.output:
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                else:
                    nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def norm_layer(norm: Literal["batch", "group"], width: int) -> nn.Module:
    """A norm of so many channels."""
    return BatchNorm(width) if norm == "batch" else nn.GroupNorm(group_count(width), width)


def group_count(channels: int) -> int:
    """32 groups as in the paper (Wu and He 2018), or fewer, so that each has 8 channels at least.

    Smaller groups cost time (on the CPU, 32 groups of 2 channels ten times as much as one group), and one channel alone
    on one place would have no spread.
    """
    return math.gcd(min(32, max(1, channels // 8)), channels)


def per_anchor(output: Tensor, values: int) -> Tensor:
    """[B, A x values, H, W] → [B, H x W x A, values]: a head's output in the order of the anchors."""
    batch, channels, height, width = output.shape
    anchors = channels // values  # all sizes by name: a batch of no photos has no other size to find -1 by
    output = output.view(batch, anchors, values, height, width).permute(0, 3, 4, 1, 2)  # [B, H, W, A, values]
    return output.reshape(batch, height * width * anchors, values)


def start_at_prior(output: nn.Module, prior: float) -> None:
    """RetinaNet section 4.1, "Initialization": all scores start at pi, the prior."""
    nn.init.constant_(output.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]
