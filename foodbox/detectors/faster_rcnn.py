"""Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks, Ren, He, Girshick, Sun, NIPS 2015.

In the order of the paper (arXiv 1506.01497), section 3: the region proposal network with its anchors and its loss
(3.1), the detector that shares its features, which is Fast R-CNN (3.2), and proposals and detection (3.3). On a pyramid
it is that of Feature Pyramid Networks, Lin et al. 2017 (arXiv 1612.03144), sections 4.1 and 4.2. `docs/faster_rcnn.md`
walks through it.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, ValidationInfo, field_validator
from torch import Tensor

from foodbox.detectors.base import Detector, DetectorSettings, Device, Grids, Outputs
from foodbox.layers import roi_heads
from foodbox.layers.convolutions import Norm
from foodbox.layers.pyramids import class_map_for
from foodbox.layers.roi_heads import BoxHead, BoxLoss, Regions, RegionScores
from foodbox.layers.rpn_head import RPNHead
from foodbox.layers.trunks import Neck, anchor_strides, make_trunk
from foodbox.ops import boxes as box_ops
from foodbox.ops.anchor_fitting import pyramid_choices
from foodbox.ops.anchors import pyramid_anchors
from foodbox.ops.boxes import gather_boxes
from foodbox.ops.coding import decode_centre
from foodbox.ops.losses import box_loss
from foodbox.ops.matching import BACKGROUND, match, overlaps
from foodbox.ops.proposals import Sizes, borders, pick_proposals, sample
from foodbox.ops.roi import Pooling, pool_regions
from foodbox.records import Preprocessing, Target, stack_targets

Sides = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]


class FasterRCNNTraining(DetectorSettings):
    """What concerns training alone: the same weights work with any of it."""

    frozen_stages: int = Field(0, ge=0, le=5, description="Freeze the backbone through stride 2^n; 5 freezes it all.")
    rpn_match_high: float = Field(0.7, gt=0, le=1, description="IoU from which an anchor is positive.")
    rpn_match_low: float = Field(0.3, ge=0, le=1, description="IoU below which an anchor is background.")
    rpn_samples: int = Field(256, ge=1, description="Anchors sampled from a photo in a step.")
    rpn_positives: float = Field(0.5, gt=0, le=1, description="The share of them that may be positive.")
    train_candidates: int = Field(2000, ge=1, description="candidates, in training.")
    train_proposals: int = Field(2000, ge=1, description="proposals, in training.")
    match: float = Field(0.5, gt=0, le=1, description="IoU from which a region is positive; others are background.")
    samples: int = Field(512, ge=1, description="Regions sampled from a photo in a step.")
    positives: float = Field(0.25, gt=0, le=1, description="The share of them that may be positive.")
    box_loss: BoxLoss = Field("smooth_l1", description="The box loss of both stages.")
    smooth_l1_beta: float = Field(1 / 9, ge=0, description="Where smooth L1 turns linear; 0 makes it L1.")
    box_weight: float = Field(1.0, gt=0, description="Weight of the box losses, lambda of equation 1.")

    @field_validator("rpn_match_low")
    @classmethod
    def _not_over_high(cls, low: float, info: ValidationInfo) -> float:
        if low > info.data.get("rpn_match_high", 1.0):
            raise ValueError("expected at most rpn_match_high")
        return low


class FasterRCNNSettings(FasterRCNNTraining):
    """The choices of Feature Pyramid Networks; presets change some."""

    backbone: str = Field("resnet50", description="timm's name, or mobilenet_v3_large, torchvision's.")
    frozen_batch_norm: bool = Field(True, description="Keep the backbone's batch norm statistics and weights fixed.")
    batch_norm_eps: float = Field(1e-5, ge=0, description="Epsilon of the backbone's batch norm; weights bring theirs.")
    neck: Neck = Field("pyramid", description="A pyramid, or one map, C4, as in Faster R-CNN's paper.")
    first_level: Literal[2, 3] = Field(2, description="The pyramid's finest level: P2 or P3.")
    channels: int = Field(256, ge=8, description="Channels of the pyramid and of the proposal network.")
    norm: Norm = Field("none", description="Normalisation in the pyramid and in the heads' convolutions.")

    anchor_sizes: Sides = Field((32, 64, 128, 256, 512), description="Pixels, level by level.")
    anchor_scales: Sides = Field((1.0,), description="Factors of each level's size.")
    anchor_ratios: Sides = Field((0.5, 1.0, 2.0), description="Height over width.")
    anchor_places: Literal["centre", "torchvision"] = Field(
        "centre", description="At the cells' centres, or at their corners in whole pixels as in torchvision."
    )
    rpn_convs: int = Field(1, ge=1, description="3 x 3 convolutions of the proposal network.")
    rpn_nms_iou: float = Field(0.7, ge=0, le=1, description="NMS: proposals with a higher IoU are thinned.")
    rpn_threshold: float = Field(0.0, ge=0, le=1, description="Proposals with a lower objectness are dropped.")
    candidates: int = Field(1000, ge=1, description="Best boxes of each level that NMS makes proposals of.")
    proposals: int = Field(1000, ge=1, description="Regions of a photo that the second stage looks at.")

    pooling: Pooling = Field("align", description="RoIAlign, or RoI pooling as in Fast R-CNN's paper.")
    pool_size: int = Field(7, ge=1, description="Width and height of a region's pooled features.")
    pool_base: float = Field(224.0, gt=0, description="Side in px of a region that P4 is for (FPN equation 1).")
    box_convs: int = Field(0, ge=0, description="Convolutions of the box head before its linear layers.")
    box_layers: int = Field(2, ge=0, description="Linear layers of the box head before its outputs.")
    box_width: int = Field(1024, ge=8, description="Width of these.")
    class_agnostic: bool = Field(False, description="One box per region instead of one per class.")
    scores: RegionScores = Field("softmax", description="The paper's softmax, or an objectness times a class map.")
    max_detections: int = Field(100, ge=1, description="Most detections on a photo.")


# What a computer without a GPU trains in minutes. docs/benchmarks.md has the measurements behind each choice.
LIGHT = {
    "preprocessing": Preprocessing(size=320, fit="longest"),
    "backbone": "mobilenetv2_100", "frozen_stages": 3, "first_level": 3, "channels": 64, "norm": "group",
    "anchor_sizes": (32, 64, 128, 256),
    "train_candidates": 200, "train_proposals": 256, "candidates": 200, "proposals": 256, "samples": 64,
    "pool_base": 112.0,  # half the paper's, as photos have less than half of its pixels across
    "box_layers": 1, "box_width": 256, "class_agnostic": True, "scores": "objectness",
    "box_loss": "giou", "box_weight": 2.0,
}  # fmt: skip
PAPER_SIZE = Preprocessing(size=800, fit="shortest", max_size=1333, antialias=False)
RESNET50 = {"preprocessing": PAPER_SIZE, "frozen_stages": 2}
TORCHVISION_V1 = RESNET50 | {"batch_norm_eps": 0.0, "anchor_places": "torchvision"}
V2 = {"batch_norm_eps": 1e-5, "norm": "batch", "rpn_convs": 2, "box_convs": 4, "box_layers": 1}
MOBILENET_V3 = TORCHVISION_V1 | {
    "backbone": "mobilenet_v3_large", "frozen_stages": 3, "batch_norm_eps": 1e-5,
    "anchor_sizes": (32, 32, 32), "anchor_scales": (1, 2, 4, 8, 16), "rpn_threshold": 0.05,
}  # fmt: skip
SIZE_320 = PAPER_SIZE.model_copy(update={"size": 320, "max_size": 640})
# Sections 3.3 and 4: shorter side 600 px, anchors of 128², 256² and 512², 2000 proposals in training, 300 in detection.
# 12000 and 6000 boxes before NMS: py-faster-rcnn. The second stage as in Fast R-CNN, section 2.3: 64 regions a photo.
VGG16 = {
    "preprocessing": Preprocessing(size=600, fit="shortest", max_size=1000, antialias=False),
    "backbone": "vgg16", "frozen_stages": 1, "neck": "c4", "channels": 512,
    "anchor_sizes": (128,), "anchor_scales": (1.0, 2.0, 4.0),
    "train_candidates": 12000, "candidates": 6000, "proposals": 300, "samples": 64,
    "pooling": "pool", "box_width": 4096, "smooth_l1_beta": 1.0, "nms_iou": 0.3,
}  # fmt: skip


class FasterRCNN(Detector):
    """Faster R-CNN on a pyramid or on one map, with any backbone.

    With torchvision's `FasterRCNN_ResNet50_FPN_Weights.COCO_V1` (preset "torchvision") it must reproduce their COCO
    val2017 AP of 37.0, which stands for FPN's table 3 (c), ResNet-50-FPN on minival (AP 33.9; longer trained, and with
    RoIAlign). "torchvision_v2" 46.7, "mobilenet_v3" 32.8 and "mobilenet_v3_320" 22.8 are theirs besides.

    Both stages are trained at once, section 3.2's "approximate joint training", on a step's losses together. Where the
    authors' code says more than the paper, torchvision is followed, as it follows them: the targets' boxes are
    proposals too, offsets of the second stage are divided by 0.1 and 0.2, and each box's best anchors stay positive.
    Anchors that cross the border are kept and their boxes cut off, as in FPN, where the paper ignores them in training
    (3.1.3). The paper normalises the loss of boxes by the number of places, and lambda of 10 evens that out; here, as
    in torchvision, both losses are divided by the number of sampled anchors. The optimiser is training/optimiser.py's.
    """

    Settings = FasterRCNNSettings
    Training = FasterRCNNTraining
    takes_sizes = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "light": LIGHT,
        "resnet50": RESNET50,
        "vgg16": VGG16,
        "torchvision": TORCHVISION_V1,
        "torchvision_v2": TORCHVISION_V1 | V2,
        "mobilenet_v3": MOBILENET_V3,
        "mobilenet_v3_320": MOBILENET_V3 | {"preprocessing": SIZE_320, "candidates": 150, "proposals": 150},
    }
    settings: FasterRCNNSettings

    def __init__(self, names: list[str], settings: FasterRCNNSettings) -> None:
        super().__init__(names, settings)
        s = settings
        self.strides = anchor_strides(s.backbone, s.neck, s.first_level, s.anchor_sizes)
        self.backbone, self.neck = make_trunk(
            s.backbone, s.neck, s.first_level, s.channels, s.norm,
            s.frozen_stages, s.frozen_batch_norm, s.batch_norm_eps,
        )  # fmt: skip
        self.rpn_head = RPNHead(s.channels, len(s.anchor_scales) * len(s.anchor_ratios), s.rpn_convs)
        # With an objectness, the head says whether anything is there at all, and the box's contents which class.
        values = len(names) if s.scores == "softmax" else 1
        self.box_head = BoxHead(
            s.channels, values, s.pool_size, s.box_convs, s.box_layers, s.box_width, s.norm, s.class_agnostic
        )
        self.classes = class_map_for(s.scores, self.backbone.channels, len(names), self.strides[0])

    def forward(self, images: Tensor, sizes: Sizes = None) -> Outputs:
        """Pixels [B, 3, H, W] → the detections: boxes [B, D, 4], scores [B, D] (-1: none), labels [B, D], best first.

        And what they came of: rpn_logits [B, A], rpn_deltas [B, A, 4], anchors [A, 4], level by level, row by row;
        levels [L], how many each has; proposals [B, R, 4], logits [B, R, 1 + K], the first background, and deltas
        [B, R, K, 4]. With scores="objectness" logits are [B, R, 2] and deltas [B, R, 1, 4].
        """
        maps, class_map = self.maps(images)
        rpn = self.rpn(maps, images)
        proposals = self.propose(rpn, images, self.settings.candidates, self.settings.proposals, sizes)
        return rpn | {"proposals": proposals} | self.detect(maps, class_map, proposals, images, sizes)

    def maps(self, images: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Pixels [B, 3, H, W] → P2 ... P6, [B, channels, H / strides[i], W / strides[i]]; or one map of stride 16.

        And the map of several classes that an objectness does not tell, [B, K, H / strides[0], W / strides[0]].
        """
        features = self.backbone_maps(images)
        return self.neck(features), None if self.classes is None else self.classes(features)

    # -- Region proposal networks: section 3.1, FPN section 4.1 -----------------------------------------------------

    def rpn(self, maps: list[Tensor], images: Tensor) -> Outputs:
        """A score and a box for each anchor: rpn_logits [B, A], rpn_deltas [B, A, 4], anchors [A, 4], levels [L]."""
        logits, deltas = zip(*(self.rpn_head(features) for features in maps), strict=True)
        return {
            "rpn_logits": torch.cat(logits, dim=1),  # [B, A]
            "rpn_deltas": torch.cat(deltas, dim=1),  # [B, A, 4]
            "anchors": self.anchors_at(images, [level.shape[2:] for level in maps]),
            "levels": torch.tensor([level.shape[1] for level in logits]),
        }

    @classmethod
    def anchors_of(cls, settings: Any, height: int, width: int, grids: Grids = None, on: Device = None) -> Tensor:
        """Section 3.1.1, "Anchors", and FPN section 4.1: one size a level, three ratios. → [A, 4] in pixels."""
        s, shape, whole = settings, (height, width), settings.anchor_places == "torchvision"
        strides = anchor_strides(s.backbone, s.neck, s.first_level, s.anchor_sizes)
        return pyramid_anchors(s.anchor_sizes, strides, s.anchor_scales, s.anchor_ratios, shape, grids, whole, on)

    @classmethod
    def anchor_choices(cls, settings: FasterRCNNSettings, boxes: Tensor) -> list[dict[str, Any]]:
        """All sizes times one factor, the ratios as they are or as the boxes'."""
        return pyramid_choices(settings.anchor_sizes, settings.anchor_ratios, boxes)

    def rpn_losses(self, rpn: Outputs, targets: list[Target], chosen: Tensor | None = None) -> dict[str, Tensor]:
        """Equation 1, section 3.1.2: the log loss of "objectness" and the loss of boxes, of sampled anchors.

        Args:
            chosen: bool [B, A], the anchors that count; drawn at random (section 3.1.3) where they are not given.
        """
        s, anchors = self.settings, rpn["anchors"]
        boxes, _ = stack_targets(targets)  # [B, M, 4]
        overlap = overlaps(boxes, anchors)  # [B, M, A]
        matched = match(overlap, s.rpn_match_high, s.rpn_match_low, keep_best=True)  # [B, A]
        positive = matched >= 0
        if chosen is None:
            chosen = sample(positive, matched == BACKGROUND, s.rpn_samples, s.rpn_positives)
        count, positive_sample = chosen.sum().clamp(min=1), chosen & positive

        truth = positive[chosen].float()
        objectness = F.binary_cross_entropy_with_logits(rpn["rpn_logits"][chosen], truth, reduction="sum")
        box = gather_boxes(boxes, matched.clamp(min=0))[positive_sample]  # [P, 4], P positives
        delta, anchor = rpn["rpn_deltas"][positive_sample], anchors.expand(len(targets), -1, -1)[positive_sample]
        of_box = box_loss(delta, box, anchor, s.box_loss, "centre", s.smooth_l1_beta)  # [P]
        return {"objectness": objectness / count, "proposals": s.box_weight * of_box.sum() / count}

    # -- Training of both: section 3.2 ------------------------------------------------------------------------------

    def losses(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Those of the proposal network, "objectness" and "proposals", and Fast R-CNN's, "classes" and "boxes".

        With scores="objectness" its loss is on "regions", and "classes" is the cross entropy over several classes.
        """
        s = self.settings
        maps, class_map = self.maps(images)
        rpn = self.rpn(maps, images)
        proposals = self.propose(rpn, images, s.train_candidates, s.train_proposals)
        regions = roi_heads.sample_regions(proposals, targets, s.samples, s.positives, high=s.match, low=s.match)
        losses = self.rpn_losses(rpn, targets) | self.second_losses(maps, regions, targets)
        if self.classes is not None and class_map is not None:
            losses["classes"] = self.classes.loss(class_map, *stack_targets(targets))
        return losses

    def second_losses(self, maps: list[Tensor], regions: Regions, targets: list[Target]) -> dict[str, Tensor]:
        """Fast R-CNN's losses of sampled regions, from the same features."""
        s = self.settings
        logits, deltas = self.head(maps, regions.boxes, regions.photo)
        found = roi_heads.region_losses(logits, deltas, regions, s.box_loss, s.smooth_l1_beta)
        name = "classes" if s.scores == "softmax" else "regions"
        return {name: found["classes"], "boxes": s.box_weight * found["boxes"]}

    # -- Proposals and detection: section 3.3, FPN section 4.2 ------------------------------------------------------

    @torch.no_grad()
    def propose(self, rpn: Outputs, images: Tensor, candidates: int, top_k: int, sizes: Sizes = None) -> Tensor:
        """The best boxes of the proposal network [B, R, 4], which are not trained through, padded with zero boxes."""
        s = self.settings
        boxes = box_ops.clip(decode_centre(rpn["rpn_deltas"], rpn["anchors"]), *borders(images, sizes, 3))
        scores, levels = rpn["rpn_logits"].sigmoid(), rpn["levels"].tolist()
        return pick_proposals(boxes, scores, levels, candidates, top_k, s.rpn_nms_iou, s.rpn_threshold)[0]

    def pool(self, maps: list[Tensor], boxes: Tensor, photo: Tensor, size: int) -> Tensor:
        """The features of regions [N, 4] of photos [N], each from its level: [N, channels, size, size].

        A pyramid's P6 is for proposals alone (FPN section 4.1, footnote 1).
        """
        s, last = self.settings, 1 if self.settings.neck == "c4" else -1
        return pool_regions(maps[:last], boxes, photo, self.strides[:last], size, s.pooling, s.pool_base)

    def head(self, maps: list[Tensor], boxes: Tensor, photo: Tensor) -> tuple[Tensor, Tensor]:
        """Fast R-CNN's outputs of regions [N, 4] of photos [N]: logits [N, 1 + K], deltas [N, K, 4] or [N, 1, 4]."""
        logits, deltas = self.box_head(self.pool(maps, boxes, photo, self.settings.pool_size))
        return logits, deltas

    def detect(
        self, maps: list[Tensor], class_map: Tensor | None, proposals: Tensor, images: Tensor, sizes: Sizes = None
    ) -> Outputs:
        """Fast R-CNN on proposals [B, R, 4]: its logits and deltas for each, and the detections that they give."""
        s, (width, height), head = self.settings, borders(images, sizes, 4), partial(self.head, maps)
        classes_of = partial(self.classes.probabilities, class_map) if self.classes and class_map is not None else None
        return roi_heads.detect(head, proposals, height, width, s.nms_iou, s.max_detections, classes_of)

    @property
    def class_rows(self) -> dict[str, tuple[int, int]]:
        if self.settings.scores == "objectness":
            return super().class_rows
        return self.box_head.class_rows("box_head")
