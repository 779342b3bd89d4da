"""Convolutions with norm and activation, and the depthwise-separable parts of which SSDLite is made."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from foodbox.layers.convolutions import ConvNormAct, Norm, norm_layer, strided


def conv_unit(
    before: int, width: int, kernel: int = 1, stride: int = 1, padding: int = 0, groups: int = 1, norm: Norm = "none"
) -> ConvNormAct:
    """A convolution with ReLU; with a norm, ReLU6 behind it, as in the MobileNets.

    Epsilon and momentum of batch norm are those of SSDLite (MobileNetV3's authors, and torchvision).
    """
    act = nn.ReLU(inplace=True) if norm == "none" else nn.ReLU6(inplace=True)
    layer = norm_layer(norm, width, eps=1e-3, momentum=0.03)
    return ConvNormAct(before, width, kernel, layer, act, stride=stride, padding=padding, groups=groups)


class ExtraMap(nn.Module):
    """One of SSD's extra feature layers (figure 2): a smaller map, made of the one before.

    Args:
        before: channels that come in.
        between: channels after the first 1 x 1 convolution.
        width: channels that go out.
        kernel, stride, padding: of the convolution that makes the map smaller.
        lite: that convolution depthwise, and a 1 x 1 convolution behind it (MobileNetV2 section 6.2).
    """

    def __init__(
        self, before: int, between: int, width: int, kernel: int, stride: int, padding: int, lite: bool, norm: Norm
    ) -> None:
        super().__init__()
        self.window, self.stride, self.padding = kernel, stride, padding
        self.squeeze = conv_unit(before, between, norm=norm)
        groups = between if lite else 1
        self.shrink = conv_unit(between, between if lite else width, kernel, stride, padding, groups, norm)
        self.expand = conv_unit(between, width, norm=norm) if lite else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, before, H, W] → [B, width, size_after(H), size_after(W)]."""
        x = self.squeeze(x)
        down, right = (max(0, self.window - 2 * self.padding - side) for side in x.shape[2:])
        if down or right:  # photos smaller than the network is for: one place is left
            x = F.pad(x, (0, right, 0, down))
        result: Tensor = self.expand(strided(self.shrink, x))
        return result


def size_after(side: int, kernel: int, stride: int, padding: int) -> int:
    """The side of an `ExtraMap`, from that of the map before; at least 1."""
    return max(0, side + 2 * padding - kernel) // stride + 1


def lite_head(width: int, outputs: int, norm: Norm) -> nn.Sequential:
    """SSDLite's head, MobileNetV2 section 6.2: a depthwise 3 x 3 convolution and a 1 x 1 that gives the outputs."""
    depthwise = conv_unit(width, width, 3, padding=1, groups=width, norm=norm)
    return nn.Sequential(OrderedDict(depthwise=depthwise, output=nn.Conv2d(width, outputs, 1)))
