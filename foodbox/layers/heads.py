"""Heads: the small networks that run over every pyramid level with the same weights."""

import math
from collections.abc import Iterable
from itertools import cycle
from typing import Literal

import torch
import torch.nn.functional as F
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
        self,
        channels: int,
        layers: int,
        outputs: int,
        norm: TowerNorm = "none",
        init: TowerInit = "paper",
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

    def hidden(self, x: Tensor) -> Tensor:
        """What the last convolution gets: [B, channels, H, W] → the same shape."""
        for module in list(self)[:-1]:
            x = module(x)
        return x


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


def start_at_prior(output: nn.Module, values: int, scores: int, prior: float) -> None:
    """RetinaNet section 4.1, "Initialization": scores, of each anchor's values the first, start at pi, the prior."""
    bias = torch.zeros(len(output.bias) // values, values)  # type: ignore[arg-type]
    bias[:, :scores] = -math.log((1 - prior) / prior)
    output.bias = nn.Parameter(bias.flatten())


def first_values(outputs: Iterable[nn.Module], maps: list[Tensor], values: int) -> list[Tensor]:
    """Of each anchor's values the first alone: of each map [B, H x W x A, 1]. As for `other_values`."""
    firsts = [(weight[:, 0], bias[:, 0]) for weight, bias in (_by_anchor(output, values) for output in outputs)]
    pairs = zip(maps, cycle(firsts), strict=False)
    return [per_anchor(F.conv2d(x, weight, bias, padding=1), 1) for x, (weight, bias) in pairs]


def other_values(outputs: Iterable[nn.Module], maps: list[Tensor], values: int, chosen: Tensor) -> Tensor:
    """All but the first value, of chosen anchors alone: training asks for the classes of few.

    Computed for all anchors, 256 classes take longer than all the rest of a light network.

    Args:
        outputs: 3 x 3 convolutions to A x values channels, one for each map, or one for all.
        maps: each [B, C, H, W].
        chosen: bool [B, anchors], P of them true; map by map in the order of `per_anchor`.

    Returns:
        float32 [P, values - 1], in the order of x[chosen].
    """
    weights, biases = zip(*(_by_anchor(output, values) for output in outputs), strict=True)
    kinds = len(weights[0])  # of anchors at a place
    weight, bias = torch.cat(weights)[:, 1:], torch.cat(biases)[:, 1:]  # [A, values - 1, C, 3, 3] and [A, values - 1]
    tables, windows, first_kind, start = [], [], [], 0
    for i, x in enumerate(maps):
        padded = F.pad(x.float(), (1, 1, 1, 1))
        rows = start + torch.arange(padded[0, 0].numel()).view(padded.shape[2:])
        windows.append(rows.unfold(0, 3, 1).unfold(1, 3, 1).reshape(-1, 9))  # the rows around each place
        first_kind.append(torch.full((len(windows[-1]),), i * kinds % len(weight)))
        tables.append(padded.flatten(2).mT)  # [B, rows, C]
        start += rows.numel()
    photo, anchor = chosen.nonzero(as_tuple=True)  # [P]
    place = anchor // kinds
    kind = torch.cat(first_kind)[place] + anchor % kinds
    order = kind.argsort()  # so that each kind is one product of matrices
    rows = (torch.cat(windows)[place] + start * photo[:, None])[order]  # [P, 9]
    patches = F.embedding(rows, torch.cat(tables, 1).flatten(0, 1)).mT.flatten(1)  # [P, C x 9]
    of_kind = torch.split(patches, kind.bincount(minlength=len(weight)).tolist())
    found = [F.linear(*part) for part in zip(of_kind, weight.flatten(2), bias, strict=True)]
    return torch.cat(found)[order.argsort()].float()


def _by_anchor(output: nn.Module, values: int) -> tuple[Tensor, Tensor]:
    """A convolution's weight [A, values, C, 3, 3] and bias [A, values]."""
    weight, bias = output.parameters()
    return weight.view(-1, values, *weight.shape[1:]), bias.view(-1, values)
