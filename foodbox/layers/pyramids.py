"""Feature pyramids, in which the fine levels get what the deep ones know, and a map of classes summed alike."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn

from foodbox.layers.convolutions import ConvNormAct, Norm, norm_layer, strided
from foodbox.ops.boxes import area, box_means, gather_boxes
from foodbox.ops.nms import best_pairs


def top_down(lateral: nn.ModuleList, features: Sequence[Tensor]) -> list[Tensor]:
    """FPN section 3, figure 3: maps from fine to coarse, by a convolution each, plus the coarser sum, enlarged."""
    merged = [conv(c) for conv, c in zip(lateral, features, strict=True)]
    for i in range(len(merged) - 1, 0, -1):
        merged[i - 1] = merged[i - 1] + F.interpolate(merged[i], size=merged[i - 1].shape[-2:], mode="nearest")
    return merged


class FeaturePyramid(nn.Module):
    """Feature Pyramid Network (Lin et al. 2017a, section 3) with RetinaNet's P6 and P7 (Lin et al. 2017b, footnote 2).

    Args:
        in_channels: widths of C3, C4, C5, or of whatever maps there are, from fine to coarse.
        channels: width of every level that comes out.
        extra_from: what P6 is computed from; the paper's text says C5, torchvision's first model takes P5. "pool" has a
            P6 alone, every second place of P5 (FPN section 4.1, footnote 1).
        keras_layout: P6 and P7 with TensorFlow's "same" padding.
        norm: behind each convolution of the pyramid proper.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        extra_from: Literal["C5", "P5", "pool"] = "C5",
        keras_layout: bool = False,
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        self.extra_from = extra_from
        self.lateral = nn.ModuleList(_unit(width, channels, 1, norm) for width in in_channels)
        self.output = nn.ModuleList(_unit(channels, channels, 3, norm) for _ in in_channels)
        if extra_from != "pool":
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
        """C3, C4, C5 [B, in_channels[i], H/8, W/8] ... → P3 ... P7 [B, channels, H/8, W/8] ... [H/128, W/128].

        With extra_from="pool" to P6.
        """
        levels = [output(m) for output, m in zip(self.output, top_down(self.lateral, features), strict=True)]
        if self.extra_from == "pool":
            return [*levels, levels[-1][..., ::2, ::2]]
        p6 = strided(self.p6, features[-1] if self.extra_from == "C5" else levels[-1])
        return [*levels, p6, strided(self.p7, F.relu(p6))]


class ClassMap(nn.Module):
    """The classes' logits at each place of the backbone's finest map; a box's are their mean over it.

    So all that lies in a box speaks for its class. An anchor's own 3 x 3 places see little of a large object, by layers
    that few photos have to teach first.

    Args:
        channels: of the backbone's maps, from fine to coarse.
        stride: of the finest map, in pixels of the input.
        width: the channels in which the maps are summed.
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
        finest = top_down(self.lateral, maps)[0]
        normed = self.norm(finest.movedim(1, 3)).movedim(3, 1)  # each place by itself
        logits: Tensor = self.output(normed.relu())
        return logits.float()

    def loss(self, class_map: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """The mean cross entropy of boxes [B, M, 4] with labels [B, M]; empty boxes are padding and count nothing."""
        there = area(boxes) > 0
        logits = box_means(class_map, boxes, self.stride)  # [B, M, K]
        loss = F.cross_entropy(logits.mT, labels, reduction="none") * there
        return loss.sum() / there.sum().clamp(min=1)

    def probabilities(self, class_map: Tensor, boxes: Tensor) -> Tensor:
        """The classes' probabilities for boxes [B, N, 4]: [B, N, K], together 1."""
        return box_means(class_map, boxes, self.stride).softmax(-1)

    def score_classes(
        self, class_map: Tensor, boxes: Tensor, scores: Tensor, top_k: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores [B, N] times the classes' probabilities, of the `top_k` surest of N boxes: scores, labels, boxes."""
        scores, surest = scores.topk(min(top_k, scores.shape[1]))
        boxes = gather_boxes(boxes, surest)
        every = scores[..., None] * self.probabilities(class_map, boxes)  # [B, N, K]
        score, label, box = best_pairs(every, top_k)  # [B, C]
        return score, label, gather_boxes(boxes, box)


def class_map_for(scores: str, channels: list[int], classes: int, stride: int) -> ClassMap | None:
    """The class map of a detector whose score is an objectness, where it has several classes to tell."""
    return ClassMap(channels, classes, stride) if scores == "objectness" and classes > 1 else None


def _unit(before: int, width: int, kernel: int, norm: Norm) -> nn.Module:
    """A convolution, alone or with a norm behind it."""
    unit = ConvNormAct(before, width, kernel, norm_layer(norm, width), padding=kernel // 2)
    return unit.conv if norm == "none" else unit
