"""Convolutions that run faster than they are written: norms folded into them, and no bfloat16 where it does harm."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn


def strided(conv: nn.Module, x: Tensor) -> Tensor:
    """A module of strided convolutions, in float32 where bfloat16 is wrong: [B, C, H, W] → [B, C', H', W'].

    On the CPU, the weights' gradient of a strided bfloat16 convolution over maps of width 1 is wrong, up to NaN
    (torch 2.15 with oneDNN). Photos of 64 px, or far taller than wide, have such maps. The input's gradient of a
    strided depthwise one is right, but takes forty times as long as in float32.
    """
    if x.device.type == "cpu" and (x.shape[-1] == 1 or any(_depthwise(part) for part in conv.modules())):
        with torch.autocast("cpu", enabled=False):
            result: Tensor = conv(x.float())
    else:
        result = conv(x)
    return result


def _depthwise(module: nn.Module) -> bool:
    """Whether it is a strided convolution of each channel by itself."""
    return isinstance(module, nn.Conv2d) and max(module.stride) > 1 and module.groups == module.in_channels > 1


class FoldedConv(nn.Conv2d):
    """A convolution that does the work of the batch norm behind it too, as long as that one rests.

    Both keep their weights and these their names. The norm's factor goes into the kernel anew each time, in float32.
    """

    norm: tuple[nn.BatchNorm2d]
    """In a tuple, so that the norm stays where it is in the network."""

    def forward(self, input: Tensor) -> Tensor:
        norm = self.norm[0]
        weight, bias = (self.weight, self.bias) if norm.training else self._folded(norm)
        if input.device.type == "cpu" and _depthwise(self):  # see `strided`
            with torch.autocast("cpu", enabled=False):
                result: Tensor = self._conv_forward(input.to(weight), weight, bias)
        else:
            result = self._conv_forward(input, weight, bias)
        return result

    def _folded(self, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
        """Kernel and bias that do the resting norm's work too."""
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # [C']
        bias = norm.bias - norm.running_mean * scale
        if self.bias is not None:
            bias = bias + self.bias * scale
        return self.weight * scale.view(-1, 1, 1, 1), bias


class FoldedNorm(nn.BatchNorm2d):
    """A batch norm whose work the convolution before it does, as long as it rests."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if self.training else input


class FoldedNormAct(BatchNormAct2d):  # type: ignore[misc]  # timm has no types
    """The same with an activation, as timm's networks have it."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = super().forward(x) if self.training else self.act(self.drop(x))
        return result


FOLDED: dict[type[nn.Module], type[nn.Module]] = {nn.BatchNorm2d: FoldedNorm, BatchNormAct2d: FoldedNormAct}


def fold_norms(network: nn.Module, example: Tensor) -> None:
    """Lets convolutions do the work of the batch norms that follow them directly, whenever these rest.

    A norm rests in detection and, frozen, in training: it is then a factor and a summand a channel, and a pass over the
    whole map is saved (Jacob et al. 2018, section 3.2). Which norm follows which convolution, a run shows.

    Args:
        example: an input for the run.
    """
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # outputs by their identity; held, so that none has another's
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def remember(module: nn.Module, inputs: Any, output: Any) -> None:
        made[id(output)] = (module, output)  # type: ignore[assignment]

    def pair(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][0], module))  # type: ignore[arg-type]

    hooks = [m.register_forward_hook(remember) for m in network.modules() if type(m) is nn.Conv2d]
    hooks += [m.register_forward_pre_hook(pair) for m in network.modules() if type(m) in FOLDED and m.affine]  # type: ignore[arg-type]
    with torch.no_grad():
        network(example)
    for hook in hooks:
        hook.remove()
    for conv, norm in pairs:
        conv.__class__, norm.__class__ = FoldedConv, FOLDED[type(norm)]  # type: ignore[assignment]
        conv.norm = (norm,)  # type: ignore[assignment]
