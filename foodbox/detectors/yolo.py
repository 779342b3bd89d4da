"""YOLOv3: An Incremental Improvement, Redmon and Farhadi, 2018 (arXiv 1804.02767), and YOLOv3-tiny.

In the order of the paper's section 2: predictions across scales on Darknet-53 (2.3, 2.4), bounding boxes (2.1), their
classes (2.2), training (2.5), then detection. `docs/yolo.md` walks through one step with the equations.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, ValidationInfo, field_validator
from torch import Tensor, nn

from foodbox.detectors.base import DetectorSettings, Device, Grids, OneStageDetector, Outputs
from foodbox.layers.backbones import Backbone
from foodbox.layers.darknet import DARKNET_TINY, LEAKY_SLOPE, DarknetHead
from foodbox.layers.heads import per_anchor
from foodbox.layers.pyramids import class_map_for
from foodbox.ops.anchor_fitting import kmeans_shapes
from foodbox.ops.anchors import grid_anchors
from foodbox.ops.boxes import gather_boxes, iou
from foodbox.ops.coding import MAX_LOG_RATIO
from foodbox.ops.losses import giou_loss
from foodbox.ops.nms import best_pairs
from foodbox.ops.priors import cells_and_priors, match_priors
from foodbox.records import Preprocessing, Target, stack_targets

STRIDES = (32, 16, 8)
"""Pixels from cell to cell, scale by scale from the coarsest, which section 2.3 predicts first."""

Width = Annotated[int, Field(ge=8)]
Count = Annotated[int, Field(ge=0)]


class YOLOTraining(DetectorSettings):
    """What concerns training alone: the same weights work with any of it."""

    frozen_stages: int = Field(0, ge=0, le=5, description="Freeze the backbone through stride 2^n; 5 freezes it all.")
    start: float = Field(0.5, gt=0, lt=1, description="The initial objectness of all priors.")
    share_iou: float = Field(1.0, gt=0, le=1, description="Priors whose shape fits a box by this IoU have it, too.")
    ignore_threshold: float = Field(0.7, ge=0, le=1, description="Objectness does not count over this IoU with a box.")
    ignore_by: Literal["prediction", "prior"] = Field("prediction", description="Whose IoU that is.")
    box_loss: Literal["darknet", "squared", "giou"] = Field("darknet", description="The loss on boxes.")
    box_weight: float = Field(1.0, gt=0, description="Weight of the box loss.")
    loss_per: Literal["photo", "box"] = Field("photo", description="Divide by the photos or by their boxes' priors.")


class YOLOSettings(YOLOTraining):
    """YOLOv3 as darknet has it; presets change some."""

    backbone: str = Field("darknet53", description=f"timm's name of the backbone, or {DARKNET_TINY}.")
    frozen_batch_norm: bool = Field(False, description="Keep the backbone's batch norm statistics and weights fixed.")
    batch_norm_eps: float = Field(1e-6, ge=0, description="Epsilon of the batch norm.")
    leaky_slope: float = Field(LEAKY_SLOPE, ge=0, description="Negative slope of every LeakyReLU.")
    head_widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=3)] = Field(
        (512, 256, 128), description="Width of each scale's head, from the coarsest scale."
    )
    head_layers: tuple[Count, ...] = Field((5, 5, 5), description="Convolutions before each head's last two.")
    head_norm: Literal["batch", "group"] = Field("batch", description="Normalisation in the heads.")
    priors: tuple[PositiveFloat, ...] = Field(
        (10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326),
        description="Width and height of each prior, px; from the finest scale, which has the first, to the coarsest.",
    )
    scores: Literal["sigmoid", "objectness"] = Field(
        "sigmoid", description="Objectness times the paper's sigmoid per class, or times a class map's softmax."
    )
    score_threshold: float = Field(0.005, ge=0, le=1, description="Lower scores are dropped before NMS.")
    candidates: int = Field(1000, ge=1, description="Best scores of a photo that go into NMS.")
    nms_iou: float = Field(0.45, ge=0, le=1, description="NMS: boxes of a class with a higher IoU are thinned.")
    max_detections: int = Field(300, ge=1, description="Most detections on a photo.")

    @field_validator("head_layers", "priors")
    @classmethod
    def _for_each_scale(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        scales = len(info.data.get("head_widths", values))
        if info.field_name == "head_layers" and len(values) != scales:
            raise ValueError(f"expected one number for each of the {scales} head_widths")
        if info.field_name == "priors" and (not values or len(values) % (2 * scales)):
            raise ValueError(f"expected widths and heights of as many priors for each of the {scales} scales")
        return values


# Darknet's pixels are 0 to 1, and photos are resized without antialias.
DARKNET = Preprocessing(size=416, fit="letterbox", antialias=False, mean=(0, 0, 0), std=(1, 1, 1))
# What a computer without a GPU trains in minutes. docs/benchmarks.md has the measurements behind each choice.
LIGHT: dict[str, Any] = {
    "preprocessing": Preprocessing(size=320, fit="longest"),
    "backbone": "mobilenetv2_100",
    "frozen_stages": 3,
    "frozen_batch_norm": True,
    "head_widths": (128, 64, 32),
    "head_layers": (3, 3, 3),
    "head_norm": "group",
    "start": 0.01,
    "share_iou": 0.5,
    "box_loss": "giou",
    "box_weight": 2.0,
    "loss_per": "box",
    "scores": "objectness",
}


class YOLO(OneStageDetector):
    """YOLOv3 and YOLOv3-tiny, with any backbone.

    With darknet's yolov3.weights at 416 px (preset "yolov3") it must reproduce their COCO test-dev AP50 of 55.3, figure
    3's table; with yolov3-tiny.weights (preset "yolov3_tiny") the 33.1 of its authors' page.

    How it came about. YOLO (Redmon et al. 2016, section 2) divides the photo into a grid of 7 x 7; the cell that an
    object's centre lies in has two boxes, each with a confidence, and classes once, by fully connected layers: boxes
    come from nowhere, and a cell knows one class. YOLO9000 (Redmon and Farhadi 2017, section 2) is convolutional: five
    priors in each of 13 x 13 cells, found by k-means on the training boxes with 1 - IoU as the distance, box sides as
    multiples of a prior's, centres by a sigmoid inside their cell, a softmax over the classes for each prior. YOLOv3
    has three such grids with three priors each, a logistic a class instead of the softmax, and a deeper backbone.

    Losses follow darknet's src/yolo_layer.c where section 2.1 says other things: cross entropy on the sigmoids of t_x
    and t_y and half the squared error on t_w and t_h, times 2 - w h of the box in shares of the input;
    box_loss="squared" is the paper's "sum of squared error" on all four, whose gradient is the truth minus the
    prediction; box_loss="giou" is Rezatofighi et al. 2019. Objectness does not count where a predicted box overlaps any
    box by over 0.7; ignore_by="prior" with ignore_threshold=0.5 is the paper's text. Each box belongs to the one prior
    whose shape overlaps it best; share_iou below 1 lets others have it too, as YOLOv4 does (Bochkovskiy et al. 2020,
    section 3.4). Where two boxes want one prior in one cell, the later has it, as in darknet, which lets both have
    their classes. Sums are divided by the photos, or by the priors with a box (loss_per="box"). Darknet resizes photos
    with corner pixels on corner pixels, we as torchvision does. The optimiser is training/optimiser.py's, and the input
    keeps its size while training.
    """

    Settings = YOLOSettings
    Training = YOLOTraining
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "light": LIGHT,
        "yolov3": {"preprocessing": DARKNET},
        "yolov3_tiny": {
            "preprocessing": DARKNET,
            "backbone": DARKNET_TINY,
            "head_widths": (256, 128),
            "head_layers": (1, 0),
            # The published .cfg gives the finer scale 10 x 14 instead of 81 x 82; its weights then reach an AP50 of
            # 0.29 instead of 0.45 on coco128 (docs/yolo.md).
            "priors": (23, 27, 37, 58, 81, 82, 81, 82, 135, 169, 344, 319),
        },
    }
    settings: YOLOSettings

    def __init__(self, names: list[str], settings: YOLOSettings) -> None:
        super().__init__(names, settings)
        s = settings
        norm, slope = (s.frozen_batch_norm, s.batch_norm_eps), s.leaky_slope
        self.backbone = Backbone(s.backbone, s.frozen_stages, *norm, leaky_slope=slope)
        self.priors_per_scale = len(s.priors) // 2 // len(s.head_widths)
        # t_x, t_y, t_w, t_h, objectness, classes
        self.values_per_prior = 5 + (len(names) if s.scores == "sigmoid" else 0)
        self.classes = class_map_for(s.scores, self.backbone.channels, len(names), STRIDES[-1])
        self.heads, coarser = nn.ModuleList(), 0
        for before, width, layers in zip(self.backbone.channels[::-1], s.head_widths, s.head_layers, strict=False):
            unit = (s.head_norm, s.batch_norm_eps, slope)
            head = DarknetHead(before, coarser, width, layers, self.priors_per_scale * self.values_per_prior, unit)
            bias = head.output.get_parameter("bias").detach()
            bias.view(-1, self.values_per_prior)[:, 4] = math.log(s.start / (1 - s.start))
            coarser = head.channels
            self.heads.append(head)

    # -- The network: sections 2.3 and 2.4 --------------------------------------------------------------------------

    def forward(self, images: Tensor) -> Outputs:
        """Pixels [B, 3, H, W] → values [B, A, 5 + K] at anchors [A, 4] with strides [A, 1]; S scales of grids [S, 2].

        Values are t_x, t_y, t_w, t_h, and the logits of objectness and classes. They run scale by scale from the
        coarsest, row by row, and in one cell prior by prior; `grids` has each scale's rows and columns. With
        scores="objectness" values are [B, A, 5], and `classes` [B, K, h, w], at the finest map's places, tells several
        classes apart.
        """
        features, values, grids = None, [], []
        maps = self.backbone_maps(images)
        for head, level in zip(self.heads, maps[::-1], strict=False):
            features, output = head(level, features)
            values.append(per_anchor(output, self.values_per_prior))
            grids.append(tuple(output.shape[2:]))
        strides = [torch.full((part.shape[1], 1), stride) for part, stride in zip(values, STRIDES, strict=False)]
        outputs = {} if self.classes is None else {"classes": self.classes(maps)}
        return outputs | {
            "values": torch.cat(values, dim=1).float(),  # [B, A, 5 + K]
            "anchors": self.anchors_at(images, grids),
            "strides": torch.cat(strides).to(images.device),
            "grids": torch.tensor(grids, device=images.device),
        }

    # -- Bounding box prediction: section 2.1 -----------------------------------------------------------------------

    @classmethod
    def anchors_of(cls, settings: Any, height: int, width: int, grids: Grids = None, on: Device = None) -> Tensor:
        """The priors in the middle of each cell: [A, 4] in pixels."""
        scales = len(settings.head_widths)
        half = torch.tensor(settings.priors).view(scales, -1, 2).flip(0) / 2  # [S, priors, 2], the coarsest scale first
        grids = grids or [(math.ceil(height / stride), math.ceil(width / stride)) for stride in STRIDES[:scales]]
        cells = torch.cat((-half, half), dim=-1).to(on)  # [S, priors, 4]
        levels = zip(cells, grids, STRIDES, strict=False)
        return torch.cat([grid_anchors(cell, rows, columns, (s, s)) for cell, (rows, columns), s in levels])

    def boxes(self, outputs: Outputs) -> Tensor:
        """b_x = σ(t_x) + c_x, b_y = σ(t_y) + c_y in cells, b_w = p_w e^t_w, b_h = p_h e^t_h: [B, A, 4] in pixels."""
        corner, prior = cells_and_priors(outputs["anchors"], outputs["strides"])
        t = outputs["values"]
        centre = corner + t[..., :2].sigmoid() * outputs["strides"]  # [B, A, 2]
        half = prior * t[..., 2:4].clamp(max=MAX_LOG_RATIO).exp() / 2
        return torch.cat((centre - half, centre + half), dim=-1)

    @classmethod
    def anchor_choices(cls, settings: YOLOSettings, boxes: Tensor) -> list[dict[str, Any]]:
        """The priors as they are, or as many by k-means on the boxes (YOLO9000 section 2, "Dimension Clusters")."""
        found = kmeans_shapes(boxes[:, 2:] - boxes[:, :2], wanted := len(settings.priors) // 2)
        found = torch.cat((found, found[-1:].expand(wanted - len(found), -1)))  # of few boxes, the largest once more
        return [{"priors": settings.priors}, {"priors": tuple(round(side, 2) for side in found.flatten().tolist())}]

    # -- Training: sections 2.1, 2.2 and 2.5 ------------------------------------------------------------------------

    def losses_of(self, outputs: Outputs, targets: list[Target]) -> dict[str, Tensor]:
        """The losses on "boxes" and "classes" over the priors with a box, and on "objectness" over all not ignored.

        With scores="objectness" that on "classes" is the cross entropy over several classes, a box's mean.
        """
        s, values = self.settings, outputs["values"]
        boxes, labels = stack_targets(targets)  # [B, M, 4], [B, M]
        places = outputs["anchors"], outputs["strides"], outputs["grids"]
        matched = match_priors(boxes, *places, self.priors_per_scale, s.share_iou)  # [B, A]
        positive = matched >= 0
        matched_index = matched.clamp(min=0)
        box = gather_boxes(boxes, matched_index)[positive]  # [P, 4], P priors with a box

        predicted = self.boxes(outputs)
        reference = outputs["anchors"][None] if s.ignore_by == "prior" else predicted.detach()
        ignored = (iou(boxes, reference) > s.ignore_threshold).any(1) & ~positive  # [B, A]
        objectness = F.binary_cross_entropy_with_logits(values[..., 4], positive.float(), reduction="none") * ~ignored
        giou = s.box_loss == "giou"
        box_loss = giou_loss(predicted[positive], box) if giou else self._offset_loss(outputs, positive, box)  # [P]
        weight = 1 / (len(targets) if s.loss_per == "photo" else max(1, len(box)))
        losses = {"boxes": box_loss.sum() * s.box_weight * weight, "objectness": objectness.sum() * weight}
        if s.scores == "sigmoid":
            truth = F.one_hot(labels.gather(1, matched_index)[positive], len(self.names)).float()  # [P, K]
            classes = F.binary_cross_entropy_with_logits(values[positive][:, 5:], truth, reduction="sum")
            losses["classes"] = classes * weight
        if self.classes is not None:
            losses["classes"] = self.classes.loss(outputs["classes"], boxes, labels)
        return losses

    def _offset_loss(self, outputs: Outputs, positive: Tensor, boxes: Tensor) -> Tensor:
        """The losses on t_x, t_y, t_w, t_h of P priors with boxes [P, 4]: [P]."""
        places = cells_and_priors(outputs["anchors"], outputs["strides"])
        corner, prior = (x.expand(len(positive), -1, -1)[positive] for x in places)  # [P, 2]
        stride = outputs["strides"].expand(len(positive), -1, -1)[positive]  # [P, 1]
        t = outputs["values"][positive]  # [P, 5 + K]
        sides = boxes[:, 2:] - boxes[:, :2]
        inside = ((boxes[:, :2] + sides / 2 - corner) / stride).clamp(0, 1)  # σ(t_x), σ(t_y) of the truth
        wide = (t[:, 2:4] - (sides / prior).log()).square() / 2
        if self.settings.box_loss == "squared":
            # At a cell's border the truth would be infinite: 1e-3 of a cell is as near as it gets.
            return ((t[:, :2] - inside.logit(eps=1e-3)).square() / 2 + wide).sum(1)
        across = F.binary_cross_entropy_with_logits(t[:, :2], inside, reduction="none")
        share = sides.prod(1) / (outputs["grids"][0].prod() * STRIDES[0] ** 2)
        return (across + wide).sum(1) * (2 - share)

    # -- Detection: sections 2.1 and 2.2 ----------------------------------------------------------------------------

    def candidates(self, outputs: Outputs) -> Outputs:
        """The `candidates` best of objectness times class on a photo; then NMS class by class (`decode`)."""
        s = self.settings
        scores = outputs["values"][..., 4:].sigmoid()  # [B, A, 1 + K]: objectness, classes
        if s.scores == "sigmoid":
            scores = scores[..., :1] * scores[..., 1:]
        score, label, anchor = best_pairs(scores, s.candidates)  # [B, C]
        boxes = gather_boxes(self.boxes(outputs), anchor)  # [B, C, 4]
        return self.told_apart(outputs, score, label, boxes)

    @property
    def class_rows(self) -> dict[str, tuple[int, int]]:
        if self.settings.scores == "objectness":
            return super().class_rows
        parts = [f"heads.{i}.output.{part}" for i in range(len(self.heads)) for part in ("weight", "bias")]
        return dict.fromkeys(parts, (self.priors_per_scale, 5))
