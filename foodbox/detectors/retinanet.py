"""RetinaNet: Focal Loss for Dense Object Detection, Lin, Goyal, Girshick, He, Dollár, ICCV 2017 (arXiv 1708.02002).

In the order of the paper's section 4: backbone and pyramid, anchors, the two subnets, then inference and training with
the focal loss of section 3. `docs/retinanet.md` walks through one step with the equations.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, ValidationInfo, field_validator
from torch import Tensor

from foodbox.detectors.base import DetectorSettings, Device, Grids, OneStageDetector, Outputs
from foodbox.layers.backbones import Backbone
from foodbox.layers.heads import Tower, TowerInit, per_anchor, start_at_prior
from foodbox.layers.pyramids import FeaturePyramid, class_map_for
from foodbox.ops.anchor_fitting import pyramid_choices
from foodbox.ops.anchors import pyramid_anchors
from foodbox.ops.boxes import gather_boxes
from foodbox.ops.coding import CODINGS
from foodbox.ops.losses import box_loss, sigmoid_focal_loss
from foodbox.ops.matching import BACKGROUND, match, only, overlaps
from foodbox.ops.nms import best_pairs
from foodbox.records import Preprocessing, Target, stack_targets

Sizes = Annotated[tuple[PositiveFloat, ...], Field(min_length=4, max_length=6)]
Sides = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]


class RetinaNetTraining(DetectorSettings):
    """What concerns training alone: the same weights work with any of it."""

    frozen_stages: int = Field(0, ge=0, le=5, description="Freeze the backbone through stride 2^n; 5 freezes it all.")
    tower_init: TowerInit = Field("paper", description="Initialisation of the subnets' weights.")
    prior: float = Field(0.01, gt=0, lt=1, description="Prior pi of section 4.1: the initial score of all anchors.")
    match_high: float = Field(0.5, gt=0, le=1, description="IoU from which an anchor is positive.")
    match_low: float = Field(0.4, ge=0, le=1, description="IoU below which an anchor is background.")
    match_best: bool = Field(True, description="Each box's best anchors are positive even below match_high.")
    focal_alpha: float = Field(0.25, ge=0, le=1, description="Weight of the positives in the focal loss.")
    focal_gamma: float = Field(2.0, ge=0, description="Focusing parameter: how far easy anchors are down-weighted.")
    box_loss: Literal["smooth_l1", "giou"] = Field("smooth_l1", description="The box loss of positive anchors.")
    smooth_l1_beta: float = Field(1 / 9, ge=0, description="Where smooth L1 turns linear; 0 makes it L1.")
    box_weight: float = Field(1.0, gt=0, description="Weight of the box loss.")
    loss_per: Literal["photo", "batch"] = Field("batch", description="Whose positives the losses are divided by.")

    @field_validator("match_low")
    @classmethod
    def _not_over_high(cls, low: float, info: ValidationInfo) -> float:
        if low > info.data.get("match_high", 1.0):
            raise ValueError("expected at most match_high")
        return low


class RetinaNetSettings(RetinaNetTraining):
    """The paper's choices; presets change some."""

    backbone: str = Field("resnet50", description="timm's name of the backbone, or mobilenet_v3_large_reduced.")
    frozen_batch_norm: bool = Field(True, description="Keep the backbone's batch norm statistics and weights fixed.")
    batch_norm_eps: float = Field(1e-5, ge=0, description="Epsilon of the backbone's batch norm; weights bring theirs.")
    expansion: bool = Field(False, description="MobileNets: take each map before its block's narrowing convolution.")
    keras_layout: bool = Field(False, description="Strides and padding as keras-retinanet's ResNets.")

    pyramid_channels: int = Field(256, ge=8, description="Channels of the pyramid and of the subnets.")
    extra_from: Literal["C5", "P5"] = Field("C5", description="What P6 is computed from.")

    anchor_sizes: Sizes = Field((32, 64, 128, 256, 512), description="Pixels, from P3 to P7; four are from P4.")
    anchor_scales: Sides = Field((1.0, 2 ** (1 / 3), 2 ** (2 / 3)), description="Factors of each level's size.")
    anchor_ratios: Sides = Field((0.5, 1.0, 2.0), description="Height over width.")
    anchor_places: Literal["centre", "torchvision"] = Field(
        "centre", description="At the cells' centres, or at their corners in whole pixels as in torchvision."
    )

    tower_layers: int = Field(4, ge=0, description="Convolutions in each subnet before its output.")
    tower_norm: Literal["none", "group"] = Field("none", description="Group normalisation in the subnets.")
    scores: Literal["sigmoid", "objectness"] = Field(
        "sigmoid", description="The paper's sigmoid per class, or one objectness times a softmax over the classes."
    )
    box_coding: Literal["centre", "corner"] = Field("centre", description="Offsets of centre and size, or of corners.")
    candidates: int = Field(1000, ge=1, description="Best scores of each level that are decoded.")
    max_detections: int = Field(300, ge=1, description="Most detections on a photo.")


# What a computer without a GPU trains in minutes: a light backbone, a pyramid and towers of a quarter of the width,
# photos of 320 px. docs/benchmarks.md has the measurements behind each choice.
LIGHT = {
    "preprocessing": Preprocessing(size=320, fit="longest"),
    "backbone": "mobilenetv2_100",
    "frozen_stages": 3,
    "pyramid_channels": 64,
    "tower_layers": 1,  # what ten epochs of few photos do not fill costs time and scores
    "tower_init": "kaiming",
    "tower_norm": "group",
    "scores": "objectness",
    "box_loss": "giou",
    "box_weight": 2.0,
}
# For `--freeze backbone`, whose maps are kept: of what is left to train, three quarters are P3's, for small boxes.
COARSE = LIGHT | {"anchor_sizes": (64, 128, 256, 512), "tower_layers": 2}
PAPER_SIZE = Preprocessing(size=800, fit="shortest", max_size=1333, antialias=False)
TORCHVISION_V1 = {
    "preprocessing": PAPER_SIZE, "extra_from": "P5", "anchor_places": "torchvision", "smooth_l1_beta": 0.0,
    "loss_per": "photo", "batch_norm_eps": 0.0, "frozen_stages": 2,
}  # fmt: skip
V2 = {"extra_from": "C5", "tower_norm": "group", "box_loss": "giou", "batch_norm_eps": 1e-5}
# ImageNet's mean without a spread. Caffe's order blue, green, red is undone in the first convolution on import.
CAFFE = PAPER_SIZE.model_copy(update={"mean": (123.68 / 255, 116.779 / 255, 103.939 / 255), "std": (1 / 255,) * 3})
KERAS = {"preprocessing": CAFFE, "keras_layout": True, "box_coding": "corner", "match_best": False}


class RetinaNet(OneStageDetector):
    """RetinaNet with any backbone.

    With torchvision's `RetinaNet_ResNet50_FPN_Weights.COCO_V1` (preset "torchvision") it must reproduce their
    COCO val2017 AP of 36.4, which stands for the paper's table 1e, ResNet-50-FPN at 800 px (AP 35.7).

    Settings follow the paper; where code differs from it, a preset says so: "torchvision" computes P6 from P5, puts
    anchors at the cells' corners and takes L1 averaged photo by photo; "torchvision_v2" adds group norm and GIoU;
    "keras" (keras-retinanet) codes corners instead of centres. The paper names the IoU bounds 0.5 and 0.4 only;
    torchvision keeps each box's best anchors besides, as is the default here, for a small box may reach no anchor at
    0.5. Losses are divided by the positives of the batch, as Detectron does; the paper's "of an image" is
    loss_per="photo". The optimiser is training/optimiser.py's, not the paper's.
    """

    Settings = RetinaNetSettings
    Training = RetinaNetTraining
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "light": LIGHT,
        "coarse": COARSE,
        "resnet50": {"preprocessing": PAPER_SIZE, "frozen_stages": 2},
        "torchvision": TORCHVISION_V1,
        "torchvision_v2": TORCHVISION_V1 | V2,
        "keras": KERAS,
    }
    replays = True
    settings: RetinaNetSettings

    def __init__(self, names: list[str], settings: RetinaNetSettings) -> None:
        super().__init__(names, settings)
        s = settings
        self.backbone = Backbone(
            s.backbone, s.frozen_stages, s.frozen_batch_norm, s.batch_norm_eps, s.keras_layout, expansion=s.expansion,
            levels=(_levels(s)[0], 5),
        )  # fmt: skip
        self.pyramid = FeaturePyramid(self.backbone.channels, s.pyramid_channels, s.extra_from, s.keras_layout)
        self.anchors_per_place = len(s.anchor_scales) * len(s.anchor_ratios)
        # With an objectness, one score says whether anything is there at all, and the box's contents which class.
        self.scores_per_anchor = len(names) if s.scores == "sigmoid" else 1
        self.class_tower, self.box_tower = (
            Tower(s.pyramid_channels, s.tower_layers, self.anchors_per_place * values, s.tower_norm, s.tower_init)
            for values in (self.scores_per_anchor, 4)
        )
        start_at_prior(self.class_tower.output, s.prior)
        self.classes = class_map_for(s.scores, self.backbone.channels, len(names), 2 ** _levels(s)[0])

    # -- The network: section 4, figure 3 ---------------------------------------------------------------------------

    def forward(self, images: Tensor) -> Outputs:
        """Pixels [B, 3, H, W] → logits [B, A, K], deltas [B, A, 4], anchors [A, 4], levels [L].

        Anchors run level by level to P7, row by row, and at one place ratio by ratio; `levels` counts each level's.
        With scores="objectness" logits are [B, A, 1], and `classes` [B, K, h, w], at the finest map's places, tells
        several classes apart.
        """
        maps = self.backbone_maps(images)
        levels = self.pyramid(maps)  # L x [B, channels, H / 2^l, W / 2^l]
        logits = [per_anchor(self.class_tower(level), self.scores_per_anchor) for level in levels]
        deltas = [per_anchor(self.box_tower(level), 4) for level in levels]
        outputs = {
            "logits": torch.cat(logits, dim=1).float(),  # [B, A, K]
            "deltas": torch.cat(deltas, dim=1).float(),  # [B, A, 4]
            "anchors": self.anchors_at(images, [level.shape[2:] for level in levels]),
            "levels": torch.tensor([level.shape[1] for level in logits]),
        }
        if self.classes is not None:
            outputs["classes"] = self.classes(maps)
        return outputs

    @classmethod
    def anchors_of(cls, settings: Any, height: int, width: int, grids: Grids = None, on: Device = None) -> Tensor:
        """Section 4, "Anchors": sizes 32² to 512² on P3 to P7, three ratios and three scales. → [A, 4] in pixels."""
        s, strides, whole = settings, [2**level for level in _levels(settings)], settings.anchor_places == "torchvision"
        shape = (height, width)
        return pyramid_anchors(s.anchor_sizes, strides, s.anchor_scales, s.anchor_ratios, shape, grids, whole, on)

    @classmethod
    def anchor_choices(cls, settings: RetinaNetSettings, boxes: Tensor) -> list[dict[str, Any]]:
        """All sizes times one factor, the ratios as they are or as the boxes'."""
        return pyramid_choices(settings.anchor_sizes, settings.anchor_ratios, boxes)

    # -- Training: sections 3 and 4.1 -------------------------------------------------------------------------------

    def losses_of(self, outputs: Outputs, targets: list[Target]) -> dict[str, Tensor]:
        """The focal loss over all anchors ("classes"), the box loss over the matched ones ("boxes").

        Both are divided by the number of anchors that took a box (section 4.1, "Focal Loss"). With scores="objectness"
        the focal loss is on "objectness", and "classes" is the cross entropy over several classes, a box's mean.
        """
        s = self.settings
        logits, deltas, anchors = outputs["logits"], outputs["deltas"], outputs["anchors"]
        boxes, labels = stack_targets(targets)  # [B, M, 4], [B, M]
        overlap = overlaps(boxes, anchors)  # [B, M, A]
        matched = match(overlap, s.match_high, s.match_low, s.match_best)  # [B, A]
        positive = matched >= 0
        matched_index = matched.clamp(min=0)

        valid = (positive | (matched == BACKGROUND)).float()
        label = labels.gather(1, matched_index)  # [B, A]
        some = only(positive)  # of P anchors: the matched ones, or all, of which the others then weigh nothing
        box = gather_boxes(boxes, matched_index)  # [B, A, 4]
        anchor = anchors.expand_as(box)[some]  # [P, 4]
        box = torch.where(positive[some][..., None], box[some], anchor)  # [P, 4]
        of_box = box_loss(deltas[some], box, anchor, s.box_loss, s.box_coding, s.smooth_l1_beta)  # [P]

        count = positive.sum(1)  # [B]
        if s.loss_per == "photo":
            weight = 1 / count.clamp(min=1) / len(targets)
        else:
            weight = 1 / count.sum().clamp(min=1).expand_as(count)
        positive_weight = (weight[:, None] * positive)[some]  # [P]

        score_loss = (self._score_loss(logits, label, positive, valid) * weight[:, None]).sum()
        losses = {"classes" if s.scores == "sigmoid" else "objectness": score_loss}
        if self.classes is not None:
            losses["classes"] = self.classes.loss(outputs["classes"], boxes, labels)
        return losses | {"boxes": (of_box * positive_weight).sum() * s.box_weight}

    def _score_loss(self, logits: Tensor, label: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
        """Equation 5 for every anchor: [B, A]. Anchors between the two IoU bounds count nothing."""
        s = self.settings
        truth = positive[..., None].float()  # [B, A, 1]
        if s.scores == "sigmoid":
            truth = F.one_hot(label, len(self.names)) * truth  # [B, A, K]
        return sigmoid_focal_loss(logits, truth, s.focal_alpha, s.focal_gamma).sum(-1) * valid

    # -- Inference: section 4.1 -------------------------------------------------------------------------------------

    def candidates(self, outputs: Outputs) -> Outputs:
        """At most `candidates` best scores of each level; then come the threshold and NMS class by class (`decode`)."""
        s, logits = self.settings, outputs["logits"]
        start, chosen = 0, []
        for count in outputs["levels"].tolist():
            score, label, anchor = best_pairs(logits[:, start : start + count], s.candidates)
            chosen.append((score, label, start + anchor))
            start += count
        scores, labels, anchors = (torch.cat(parts, dim=1) for parts in zip(*chosen, strict=True))  # [B, C]
        deltas = gather_boxes(outputs["deltas"], anchors)
        boxes = CODINGS[s.box_coding][1](deltas, outputs["anchors"][anchors])
        # The sigmoid keeps the order, so that only what is chosen goes through it.
        return self.told_apart(outputs, scores.sigmoid(), labels, boxes)

    @property
    def class_rows(self) -> dict[str, tuple[int, int]]:
        if self.settings.scores == "objectness":
            return super().class_rows
        return {f"class_tower.output.{part}": (self.anchors_per_place, 0) for part in ("weight", "bias")}


def _levels(s: RetinaNetSettings) -> range:
    """The pyramid's, to P7: as many as anchor sizes."""
    return range(8 - len(s.anchor_sizes), 8)
