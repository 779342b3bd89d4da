"""The second stage of the two-stage detectors, Fast R-CNN's: from the features of regions to classes and boxes.

A detector pools its regions (ops/roi.py), gives their features to a `BoxHead`, and asks `region_losses` in training or
`detect` otherwise. Nothing here knows where the regions come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foodbox.layers.convolutions import ConvNormAct, Norm, norm_layer
from foodbox.ops import boxes as box_ops
from foodbox.ops.boxes import gather_boxes
from foodbox.ops.coding import decode_ssd
from foodbox.ops.losses import box_loss
from foodbox.ops.nms import best_by_group
from foodbox.ops.proposals import match_regions, sample, too_thin
from foodbox.records import Target, stack_targets

BoxLoss = Literal["smooth_l1", "giou"]
RegionScores = Literal["softmax", "objectness"]
Side = int | Tensor
ClassProbabilities = Callable[[Tensor], Tensor]


def conv_relu(before: int, width: int, norm: Norm) -> ConvNormAct:
    """A 3 x 3 convolution of regions' features, a norm behind it where one is wished, and ReLU."""
    unit = ConvNormAct(before, width, 3, norm_layer(norm, width), nn.ReLU(inplace=True), padding=1)
    nn.init.kaiming_normal_(unit.conv.weight, mode="fan_out", nonlinearity="relu")
    if unit.conv.bias is not None:
        nn.init.zeros_(unit.conv.bias)
    return unit


class BoxHead(nn.Module):
    """Fast R-CNN section 2.1: the features of a region → a softmax over background and classes, and boxes.

    Args:
        channels: of the pooled features.
        classes: K, without background; 1 where a score only says whether anything is there.
        size: places across and down of the pooled features.
        convs: 3 x 3 convolutions of the same width before the linear layers (torchvision's second models have 4).
        layers: linear layers with ReLU before the outputs; the papers have 2, fc6 and fc7.
        width: of these.
        norm: behind each convolution.
        agnostic: one box a region, instead of one for each class (R-FCN, Dai et al. 2016, section 2).
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        size: int = 7,
        convs: int = 0,
        layers: int = 2,
        width: int = 1024,
        norm: Norm = "none",
        agnostic: bool = False,
    ) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(part for _ in range(convs) for part in conv_relu(channels, channels, norm)))
        widths = [channels * size**2, *[width] * layers]
        linear = [(nn.Linear(a, b), nn.ReLU(inplace=True)) for a, b in pairwise(widths)]
        self.linear = nn.Sequential(*(part for pair in linear for part in pair))
        self.classes = nn.Linear(widths[-1], 1 + classes)
        # Coordinate by coordinate and in each class by class, so that rows of classes can be carried over by name.
        self.boxes = nn.Linear(widths[-1], 4 * (1 if agnostic else classes))
        # Fast R-CNN section 2.3, "SGD hyper-parameters".
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.normal_(self.boxes.weight, std=0.001)
        nn.init.zeros_(self.classes.bias)
        nn.init.zeros_(self.boxes.bias)
        self.agnostic = agnostic

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, C, size, size] → logits [N, 1 + K], the first background; deltas [N, K, 4], or [N, 1, 4]."""
        x = self.linear(self.convs(features).flatten(1))  # [N, width]
        return self.classes(x).float(), self.boxes(x).float().unflatten(1, (4, -1)).transpose(1, 2)

    def class_rows(self, name: str) -> dict[str, tuple[int, int]]:
        """What `Detector.class_rows` says of this head, which the detector calls `name`."""
        outputs = [("classes", (1, 1)), *([] if self.agnostic else [("boxes", (4, 0))])]
        return {f"{name}.{output}.{part}": entries for output, entries in outputs for part in ("weight", "bias")}


class MaskHead(nn.Module):
    """Mask R-CNN figure 4, right: a small fully convolutional network → a mask of each class.

    Args:
        channels: of the pooled features.
        classes: K, without background.
        convs: 3 x 3 convolutions; the paper has 4.
        width: of these, and of the deconvolution behind them.
        norm: behind each convolution.
    """

    def __init__(self, channels: int, classes: int, convs: int = 4, width: int = 256, norm: Norm = "none") -> None:
        super().__init__()
        widths = [channels, *[width] * convs]
        self.convs = nn.Sequential(*(part for a, b in pairwise(widths) for part in conv_relu(a, b, norm)))
        self.upsample = nn.ConvTranspose2d(widths[-1], width, 2, stride=2)
        self.masks = nn.Conv2d(width, classes, 1)
        for layer in (self.upsample, self.masks):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, C, S, S] → logits [N, K, 2 S, 2 S]."""
        logits: Tensor = self.masks(F.relu(self.upsample(self.convs(features)), inplace=True))
        return logits.float()

    def class_rows(self, name: str) -> dict[str, tuple[int, int]]:
        """What `Detector.class_rows` says of this head, which the detector calls `name`."""
        return {f"{name}.masks.{part}": (1, 0) for part in ("weight", "bias")}


# -- Training: Fast R-CNN section 2.3 -------------------------------------------------------------------------------


@dataclass
class Regions:
    """The N regions of a batch that a training step looks at.

    Attributes:
        photo: int64 [N], the photo of the batch.
        boxes: [N, 4] in the input's pixels.
        labels: int64 [N], 0 for background, 1 + class elsewhere.
        matched_index: int64 [N], the place of its box among the photo's target boxes; of no meaning for background.
        matched_boxes: [N, 4], that box.
    """

    photo: Tensor
    boxes: Tensor
    labels: Tensor
    matched_index: Tensor
    matched_boxes: Tensor

    def positives(self) -> Regions:
        """Those of an object."""
        positive = self.labels > 0
        columns = self.photo, self.boxes, self.labels, self.matched_index, self.matched_boxes
        return Regions(*(column[positive] for column in columns))


def sample_regions(
    proposals: Tensor,
    targets: Sequence[Target],
    number: int = 512,
    share: float = 0.25,
    high: float = 0.5,
    low: float = 0.5,
    floor: float = 0.0,
) -> Regions:
    """Mini-batch sampling: of each photo's proposals, `number` at random, of which at most a `share` is positive.

    Args:
        proposals: [B, R, 4] in the input's pixels; an empty box is padding.
        high: IoU with a target's box from which a proposal is positive.
        low, floor: background overlaps its box by less than `low` and by `floor` or more (the paper: 0.5 and 0.1).
    """
    boxes, labels = stack_targets(list(targets))  # [B, M, 4], [B, M]
    proposals = torch.cat((proposals, boxes), dim=1)  # [B, R + M, 4]; boxes too, as in the authors' code
    matched_index, positive, negative = match_regions(proposals, boxes, high, low, floor)  # [B, R + M] each
    photo, place = torch.where(sample(positive, negative, number, share))  # [N]
    matched_index = matched_index[photo, place]
    label = torch.where(positive[photo, place], labels[photo, matched_index] + 1, 0)
    return Regions(photo, proposals[photo, place], label, matched_index, boxes[photo, matched_index])


def region_losses(
    logits: Tensor, deltas: Tensor, regions: Regions, loss: BoxLoss = "smooth_l1", beta: float = 1.0
) -> dict[str, Tensor]:
    """Fast R-CNN equation 1: the log loss of the true class ("classes") and the box loss of positives ("boxes").

    Both are divided by the number of regions. Offsets are those of R-CNN, divided by 0.1 and 0.2 (`encode_ssd`), which
    gives them a spread of about one, as the paper asks for; detectron and torchvision have the same figures.

    Args:
        logits: [N, 1 + K], or [N, 2] to tell objects from background; deltas: [N, K, 4] or [N, 1, 4].
        loss: smooth L1 of the offsets (equation 3), or 1 - GIoU of the boxes.
        beta: where smooth L1 bends; 1 in the paper, 1/9 in torchvision.
    """
    count = max(1, len(regions.labels))
    label = regions.labels.clamp(max=logits.shape[1] - 1)
    classes = F.cross_entropy(logits, label, reduction="sum") / count
    place = torch.where(regions.labels > 0)[0]  # [P], P positives
    box, matched = regions.boxes[place], regions.matched_boxes[place]
    delta = deltas[place, 0 if deltas.shape[1] == 1 else regions.labels[place] - 1]  # [P, 4]
    of_box = box_loss(delta, matched, box, loss, "ssd", beta)  # [P]
    return {"classes": classes, "boxes": of_box.sum() / count}


# -- Detection: Fast R-CNN section 3 ---------------------------------------------------------------------------------


def detect(
    head: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], proposals: Tensor, height: Side, width: Side,
    nms_iou: float, max_detections: int, class_probabilities: ClassProbabilities | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Every region of a batch through the head, and the detections that come of them.

    Args:
        head: regions [N, 4] of photos int64 [N] → logits [N, 1 + K] and deltas [N, K, 4] or [N, 1, 4].
        proposals: [B, R, 4]; an empty box is padding.
        height, width, nms_iou, max_detections, class_probabilities: as `select_detections` has them.

    Returns:
        logits [B, R, 1 + K], deltas [B, R, ...] and what `select_detections` gives.
    """
    photos, count = proposals.shape[:2]
    photo = torch.arange(photos, device=proposals.device).repeat_interleave(count)
    logits, deltas = (x.reshape(photos, count, *x.shape[1:]) for x in head(proposals.flatten(0, 1), photo))
    found = select_detections(logits, deltas, proposals, height, width, nms_iou, max_detections, class_probabilities)
    return {"logits": logits, "deltas": deltas} | found


def select_detections(
    logits: Tensor, deltas: Tensor, proposals: Tensor, height: Side, width: Side, nms_iou: float, max_detections: int,
    class_probabilities: ClassProbabilities | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Regions of a batch → its detections, thinned by NMS class by class; no threshold, for that changes nothing here.

    Args:
        logits: [B, R, 1 + K], or [B, R, 2] with `class_probabilities`; deltas: [B, R, K, 4] or [B, R, 1, 4].
        proposals: [B, R, 4]; an empty box is padding.
        height, width: of the inputs, or [B, 1, 1, 1] of the photos in them, whose borders cut boxes off.
        nms_iou: of two boxes of a class that overlap more, the less sure goes.
        max_detections: detections that a photo keeps.
        class_probabilities: of boxes [B, R, 4] → [B, R, K], for logits that tell objects from background and one box a
            region.

    Returns:
        boxes [B, D, 4] in the input's pixels, scores [B, D], -1 where there is none, and labels int64 [B, D], best
        first.
    """
    boxes = box_ops.clip(decode_ssd(deltas, proposals[:, :, None]), width, height)  # [B, R, K, 4]
    scores = logits.softmax(-1)[..., 1:]  # [B, R, K]
    if class_probabilities is not None:
        scores = scores * class_probabilities(boxes[:, :, 0])
    classes = scores.shape[2]
    boxes = boxes.expand(-1, -1, classes, -1).flatten(1, 2)  # [B, R x K, 4]
    scores = scores.flatten(1)  # [B, R x K]
    padding = (box_ops.area(proposals) <= 0).repeat_interleave(classes, dim=1)
    scores = scores.masked_fill(padding | too_thin(boxes, 1e-2), -1.0)  # 0.01 px as torchvision
    label = torch.arange(classes, device=logits.device).repeat(logits.shape[1]).expand_as(scores)
    index, scores = best_by_group(boxes, scores, label, nms_iou, max_detections)  # [B, D]
    boxes = gather_boxes(boxes, index)
    return {"boxes": boxes * (scores >= 0)[..., None], "scores": scores, "labels": label.gather(1, index)}
