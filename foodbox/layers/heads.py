"""Heads: the small networks that run over every pyramid level with the same weights."""

import math
from typing import Literal

from torch import Tensor, nn

from foodbox.layers.convolutions import ConvNormAct, Norm, norm_layer

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
        self, channels: int, layers: int, outputs: int, norm: Norm = "none", init: TowerInit = "paper"
    ) -> None:
        super().__init__()
        for i in range(layers):
            unit = ConvNormAct(channels, channels, 3, norm_layer(norm, channels), nn.ReLU(inplace=True), padding=1)
            for name, part in unit.named_children():
                self.add_module(f"{name}{i}", part)
        self.output = nn.Conv2d(channels, outputs, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if init == "kaiming" and module is not self.output:
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                else:
                    nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def per_anchor(output: Tensor, values: int) -> Tensor:
    """[B, A x values, H, W] → [B, H x W x A, values]: a head's output in the order of the anchors."""
    batch, channels, height, width = output.shape
    anchors = channels // values  # all sizes by name: a batch of no photos has no other size to find -1 by
    output = output.view(batch, anchors, values, height, width).permute(0, 3, 4, 1, 2)  # [B, H, W, A, values]
    return output.reshape(batch, height * width * anchors, values)


def start_at_prior(output: nn.Module, prior: float) -> None:
    """RetinaNet section 4.1, "Initialization": all scores start at pi, the prior."""
    nn.init.constant_(output.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]
