"""Heads: the small networks that run over every pyramid level with the same weights."""

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from foodbox.layers.convolutions import BatchNorm
from foodbox.ops.boxes import area, box_means
from foodbox.ops.nms import best_pairs

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


class ClassMap(nn.Module):
    """The classes' logits at each place of the backbone's finest map; a box's are their mean over it.

    So all that lies in a box speaks for its class. An anchor's own 3 x 3 places see little of a large object, by layers
    that few photos have to teach first.

    Args:
        channels: of the backbone's maps, from fine to coarse.
        stride: of the finest map, in pixels of the input.
        width: the maps' channels when they are summed, after a 1 x 1 convolution each, as a feature pyramid's.
    """

    def __init__(self, channels: list[int], classes: int, stride: int, width: int = 128) -> None:
        super().__init__()
        self.stride = stride
        self.lateral = nn.ModuleList(nn.Conv2d(inputs, width, 1, bias=False) for inputs in channels)
        self.norm = nn.LayerNorm(width)
        self.output = nn.Conv2d(width, classes, 1)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The backbone's maps → float32 [B, K, H, W]."""
        parts: list[Tensor] = [conv(x) for conv, x in zip(self.lateral, maps, strict=True)]
        total = parts.pop()
        while parts:
            total = F.interpolate(total, size=parts[-1].shape[2:]) + parts.pop()
        total = self.norm(total.movedim(1, 3)).movedim(3, 1)  # each place by itself
        logits: Tensor = self.output(total.relu())
        return logits.float()

    def loss(self, class_map: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """The mean cross entropy of boxes [B, M, 4] with labels [B, M]; empty boxes are padding and count nothing."""
        there = area(boxes) > 0
        logits = box_means(class_map, boxes, self.stride)  # [B, M, K]
        loss = F.cross_entropy(logits.mT, labels, reduction="none") * there
        return loss.sum() / there.sum().clamp(min=1)

    def pairs(self, class_map: Tensor, boxes: Tensor, scores: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """`best_pairs` of scores [B, N] of boxes [B, N, 4], times their classes' shares by the softmax."""
        return best_pairs(scores[..., None] * box_means(class_map, boxes, self.stride).softmax(-1), most)
