"""M2Det, a single-shot detector on a Multi-Level Feature Pyramid Network: Zhao et al., AAAI 2019 (arXiv 1811.04533).

In the order of the paper's section 3: backbone and MLFPN (FFMs, TUMs and SFAM: layers/mlfpn.py), default boxes and two
convolutions a scale as SSD has them, the losses, then inference with soft-NMS. `docs/m2det.md` walks through it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, ValidationInfo, field_validator
from torch import Tensor, nn

from foodbox.detections import Detections
from foodbox.detectors.base import DetectorSettings, Device, Grids, OneStageDetector, Outputs
from foodbox.layers.backbones import Backbone
from foodbox.layers.heads import per_anchor, start_at_prior
from foodbox.layers.mlfpn import MLFPN, Variant, scale_sides
from foodbox.layers.pyramids import class_map_for
from foodbox.layers.trunks import VGG
from foodbox.layers.vgg import VGG16
from foodbox.ops.anchor_fitting import default_box_choices
from foodbox.ops.anchors import grid_anchors
from foodbox.ops.boxes import gather_boxes
from foodbox.ops.coding import decode_ssd
from foodbox.ops.default_boxes import default_box_shapes, hard_negative_loss, match_default_boxes
from foodbox.ops.losses import box_loss, sigmoid_focal_loss
from foodbox.ops.matching import overlaps
from foodbox.ops.nms import best_pairs, soft_nms
from foodbox.records import Frame, Preprocessing, Target, stack_targets

Maps = Literal["C3+C4", "C3+C5", "C4+C5"]
Width = Annotated[int, Field(ge=8)]


class M2DetTraining(DetectorSettings):
    """What concerns training alone: the same weights work with any of it."""

    frozen_stages: int = Field(0, ge=0, le=5, description="Freeze the backbone through stride 2^n; 5 freezes it all.")
    match_high: float = Field(0.5, gt=0, le=1, description="IoU from which a default box is positive.")
    match_low: float = Field(0.5, ge=0, le=1, description="IoU below which a default box is background.")
    negatives: float = Field(3.0, gt=0, description="Hard negatives for each positive; with scores=softmax.")
    focal_alpha: float = Field(0.25, ge=0, le=1, description="Weight of the positives in the focal loss.")
    focal_gamma: float = Field(2.0, ge=0, description="Focusing parameter of the focal loss.")
    prior: float = Field(0.01, gt=0, lt=1, description="The initial score of all default boxes, for the focal loss.")
    box_loss: Literal["smooth_l1", "giou"] = Field("smooth_l1", description="The box loss of positive default boxes.")
    box_weight: float = Field(1.0, gt=0, description="Weight of the box loss.")


class M2DetSettings(M2DetTraining):
    """The released code's choices at 320 px; presets change some."""

    preprocessing: Preprocessing = Field(default_factory=lambda: released(320))
    backbone: str = Field(VGG, description="vgg16 (SSD's, with dilated fc6), or timm's name of a backbone.")
    frozen_batch_norm: bool = Field(False, description="Keep the backbone's batch norm statistics and weights fixed.")
    batch_norm_eps: float = Field(1e-5, ge=0, description="Epsilon of the backbone's batch norm; weights bring theirs.")
    fine_c4: bool = Field(False, description="ResNets: C4 with stride 8, C5 with stride 16, as the authors' have.")
    base_maps: Maps = Field("C3+C5", description="What FFMv1 fuses; for VGG, conv4_3 and fc7 whatever stands here.")

    variant: Variant = Field("released", description="MLFPN of the released code, the same with SFAM, or the paper's.")
    base_channels: tuple[Width, Width] = Field((256, 512), description="Widths that FFMv1 gives the two maps.")
    planes: int = Field(256, ge=16, multiple_of=16, description="Width inside the TUMs.")
    tums: int = Field(8, ge=1, description="Levels: TUMs one behind the other.")
    scales: int = Field(6, ge=3, description="Maps that each TUM gives.")
    norm: Literal["batch", "group"] = Field("batch", description="The norm in MLFPN; group for steps of few photos.")

    anchor_sizes: tuple[PositiveFloat, ...] = Field(
        (0.08, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05), description="Sides at each scale, and one more, of the input's."
    )
    anchor_ratios: tuple[PositiveFloat, ...] = Field((2.0, 3.0), description="Long side over short; lying and upright.")

    scores: Literal["softmax", "sigmoid", "objectness"] = Field(
        "softmax", description="A softmax with background; or, with the focal loss, a sigmoid per class or objectness."
    )
    candidates: int = Field(1000, ge=1, description="Best scores of a photo that are decoded.")
    nms: Literal["linear", "gaussian", "hard"] = Field("linear", description="Soft-NMS of either kind, or hard NMS.")
    nms_iou: float = Field(0.3, ge=0, le=1, description="Overlap of a class's boxes over which the less sure loses.")
    nms_sigma: float = Field(0.5, gt=0, description="sigma of the gaussian kernel.")
    max_detections: int = Field(200, ge=1, description="Most detections on a photo.")

    @field_validator("anchor_sizes")
    @classmethod
    def _one_more_than_scales(cls, sizes: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        if len(sizes) != (wanted := info.data.get("scales", len(sizes) - 1) + 1):
            raise ValueError(f"expected {wanted} sizes, one more than scales")
        return sizes


def released(size: int) -> Preprocessing:
    """Photos stretched to a square, "Caffe" pixels: ImageNet's mean in whole numbers, no spread."""
    mean = (123 / 255, 117 / 255, 104 / 255)
    return Preprocessing(size=size, fit="stretch", mean=mean, std=(1 / 255,) * 3)


# What a computer without a GPU trains in minutes: see docs/m2det.md and docs/benchmarks.md.
LIGHT = {
    "preprocessing": Preprocessing(size=320, fit="longest"),
    "backbone": "mobilenetv2_100",
    "frozen_batch_norm": True,
    "frozen_stages": 3,
    "variant": "paper",
    "base_channels": (64, 128),
    "planes": 128,
    "tums": 2,
    "scales": 5,
    "norm": "group",
    "anchor_sizes": (0.08, 0.15, 0.33, 0.51, 0.69, 0.87),
    "scores": "objectness",
    "match_low": 0.4,
    "box_loss": "giou",
    "box_weight": 2.0,
}
AT_512 = {"preprocessing": released(512), "anchor_sizes": (0.06, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)}
AT_800 = {"preprocessing": released(800), "anchor_sizes": (0.04, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)}
# Pixels from place to place in the released configurations, where they are not the side over the map's places.
STEPS = {320: (8, 16, 32, 64, 107, 320), 704: (8, 16, 32, 64, 117, 176), 800: (8, 16, 32, 62, 115, 160)}


class M2Det(OneStageDetector):
    """M2Det with VGG-16, a ResNet or any other backbone, at 320, 512, 800 px or any other size.

    With the paper's weights it would have to reproduce table 2, single scale: COCO test-dev AP 33.5 at 320 px, 37.6 at
    512 and 41.0 at 800 with VGG-16; 34.3 at 320 with ResNet-101. The authors released m2det512_vgg.pth alone.

    Their code (github.com/qijiezhao/M2Det, MIT) is another network than their paper's. variant="released" is the code,
    so that its weights fit; "paper" is figures 2 to 4. What differs, first the code:

    - SFAM's attention is off in every configuration (variant="released_sfam": on, one pair of layers for all scales);
      in the paper each scale has its own;
    - one 1 x 1 convolution, `leach`, serves all FFMv2; in the paper each has its own, the first of twice the width;
    - a TUM gives maps of 256 channels, 2048 together; 128 and 1024 in the paper. Its way up differs, too;
    - the finest scale has one more batch norm; none in the paper;
    - the learning rates: 0.004 falling until epoch 160; in the paper 0.002 until 150 (ours: training/optimiser.py).

    Both fuse conv4_3 with fc7 (the paper's text says conv5_3, its figure 4 has fc7's 1024 channels), and train as SSD
    does. Preset "m2det320_vgg_focal" takes the focal loss instead, as keras-m2det does.
    """

    Settings = M2DetSettings
    Training = M2DetTraining
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "light": LIGHT,
        "m2det320_vgg": {},
        "m2det512_vgg": AT_512,
        "m2det800_vgg": AT_800,
        "m2det320_resnet101": {"backbone": "resnet101", "fine_c4": True},
        "m2det320_vgg_paper": {"variant": "paper"},
        "m2det512_vgg_paper": AT_512 | {"variant": "paper"},
        "m2det800_vgg_paper": AT_800 | {"variant": "paper"},
        "m2det320_vgg_focal": {"scores": "sigmoid", "match_low": 0.4},
    }
    settings: M2DetSettings

    def __init__(self, names: list[str], settings: M2DetSettings) -> None:
        super().__init__(names, settings)
        s = settings
        self.backbone: VGG16 | Backbone
        if s.backbone == VGG:
            self.backbone, self.map_indices = VGG16(s.frozen_stages), [0, 1]
        else:
            norms = s.frozen_batch_norm, s.batch_norm_eps
            self.backbone = Backbone(s.backbone, s.frozen_stages, *norms, fine_c4=s.fine_c4)
            self.map_indices = [("C3", "C4", "C5").index(name) for name in s.base_maps.split("+")]
        channels = [self.backbone.channels[i] for i in self.map_indices]
        self.mlfpn = MLFPN(channels, s.base_channels, s.planes, s.tums, s.scales, s.variant, s.norm)
        self.anchors_per_place = 2 + 2 * len(s.anchor_ratios)
        # With an objectness, one score says whether anything is there at all, and the box's contents which class.
        self.before = int(s.scores == "softmax")  # the background
        self.scores_per_anchor = 1 if s.scores == "objectness" else self.before + len(names)
        self.class_heads, self.box_heads = self._heads(self.scores_per_anchor), self._heads(4)
        if s.scores != "softmax":
            for head in self.class_heads:
                nn.init.normal_(head.weight, std=0.01)  # type: ignore[arg-type]
                start_at_prior(head, s.prior)
        self.classes = class_map_for(s.scores, channels, len(names), _stride(s))

    def _heads(self, values: int) -> nn.ModuleList:
        width, outputs = self.mlfpn.out_channels, self.anchors_per_place * values
        return nn.ModuleList(nn.Conv2d(width, outputs, 3, padding=1) for _ in range(self.settings.scales))

    # -- The network: sections 3.1 and 3.2, figure 2 ----------------------------------------------------------------

    def forward(self, images: Tensor) -> Outputs:
        """Pixels [B, 3, H, W] → logits [B, A, values], deltas [B, A, 4], anchors [A, 4].

        Anchors run scale by scale from the finest, row by row, and at one place in the order of SSD's code. With
        scores="objectness" logits are [B, A, 1], and `classes` [B, K, h, w], at the finest map's places, tells several
        classes apart.
        """
        maps = self.backbone_maps(images)
        maps = [maps[i] for i in self.map_indices]
        levels = self.mlfpn(*maps)  # scales x [B, out_channels, H / 2^l, W / 2^l]
        logits = [per_anchor(head(x), self.scores_per_anchor) for head, x in zip(self.class_heads, levels, strict=True)]
        deltas = [per_anchor(head(x), 4) for head, x in zip(self.box_heads, levels, strict=True)]
        outputs = {
            "logits": torch.cat(logits, 1).float(),  # [B, A, values]
            "deltas": torch.cat(deltas, 1).float(),  # [B, A, 4]
            "anchors": self.anchors_at(images, [x.shape[2:] for x in levels]),
        }
        if self.classes is not None:
            outputs["classes"] = self.classes(maps)
        return outputs

    @classmethod
    def anchors_of(cls, settings: Any, height: int, width: int, grids: Grids = None, on: Device = None) -> Tensor:
        """Section 3.2: six default boxes a place, two sizes of square and each ratio lying and upright. → [A, 4].

        Sizes are shares of the side for which the photos are prepared, so that padding makes no box larger.
        """
        s, size, found = settings, settings.preprocessing.size, []
        stride = _stride(s)
        rows, columns = (scale_sides(-(-side // stride), s.scales) for side in (height, width))
        places = grids or list(zip(rows, columns, strict=True))  # some backbones round down
        for scale, (high, wide) in enumerate(places):
            shapes = default_box_shapes(s.anchor_sizes[scale] * size, s.anchor_sizes[scale + 1] * size, s.anchor_ratios)
            most = shapes.new_tensor((width, height, width, height)) / 2
            shapes = shapes.clamp(-most, most)  # as the code: no box is larger than the input
            step = height / high, width / wide
            if s.variant != "paper" and (height, width, s.scales) == (size, size, 6) and size in STEPS:
                step = (STEPS[size][scale],) * 2
            found.append(grid_anchors(shapes.to(on), high, wide, step))
        return torch.cat(found)

    @classmethod
    def anchor_choices(cls, settings: M2DetSettings, boxes: Tensor) -> list[dict[str, Any]]:
        """All sizes times one factor, the ratios as they are or as the boxes'."""
        return default_box_choices("anchor_sizes", settings.anchor_sizes, settings.anchor_ratios, boxes)

    # -- Training: SSD section 2.2 ----------------------------------------------------------------------------------

    def losses_of(self, outputs: Outputs, targets: list[Target]) -> dict[str, Tensor]:
        """SSD equation 1, divided by the default boxes that took a box: "classes" over all, "boxes" over these.

        With scores="objectness" that is over all, and "classes", of several, the cross entropy, a box's mean.
        """
        s = self.settings
        logits, deltas, anchors = outputs["logits"], outputs["deltas"], outputs["anchors"]
        boxes, labels = stack_targets(targets)  # [B, M, 4], [B, M]
        overlap = overlaps(boxes, anchors)  # [B, M, A]
        matched = match_default_boxes(overlap, s.match_high)  # [B, A]
        positive = matched >= 0
        valid = positive | (overlap.amax(1) < s.match_low)
        matched_index = matched.clamp(min=0)
        label = labels.gather(1, matched_index)  # [B, A]
        box = gather_boxes(boxes, matched_index)[positive]  # [P, 4], P matched default boxes
        anchor = anchors.expand(len(targets), -1, -1)[positive]  # [P, 4]
        count = positive.sum().clamp(min=1)
        of_box = box_loss(deltas[positive], box, anchor, s.box_loss, "ssd")  # [P]
        parts = {"boxes": of_box.sum() * s.box_weight / count}
        if s.scores == "softmax":
            class_target = torch.where(positive, label + 1, torch.where(valid, 0, -1))
            return {"classes": hard_negative_loss(logits, class_target, s.negatives).sum() / count} | parts
        target = positive.float()[..., None]
        if s.scores == "sigmoid":
            target = F.one_hot(label, len(self.names)) * target  # [B, A, K]
        focal = (sigmoid_focal_loss(logits, target, s.focal_alpha, s.focal_gamma) * valid[..., None]).sum() / count
        losses = {"classes" if s.scores == "sigmoid" else "objectness": focal}
        if self.classes is not None:
            losses["classes"] = self.classes.loss(outputs["classes"], boxes, labels)
        return losses | parts

    # -- Inference: section 3.2 -------------------------------------------------------------------------------------

    def candidates(self, outputs: Outputs) -> Outputs:
        """At most `candidates` best scores of a photo."""
        s = self.settings
        logits = outputs["logits"]
        every = logits.softmax(-1)[..., 1:] if s.scores == "softmax" else logits.sigmoid()
        scores, label, anchor = best_pairs(every, s.candidates)  # [B, C]
        deltas = gather_boxes(outputs["deltas"], anchor)
        boxes = decode_ssd(deltas, outputs["anchors"][anchor])  # [B, C, 4]
        return self.told_apart(outputs, scores, label, boxes)

    def decode(self, outputs: Outputs, frames: list[Frame], min_score: float | None = None) -> list[Detections]:
        """The candidates over the threshold, whose scores soft-NMS lowers class by class."""
        s = self.settings
        if s.nms == "hard":
            return super().decode(outputs, frames, min_score)
        found = outputs if "scores" in outputs else self.candidates(outputs)
        boxes, labels, scores = found["boxes"], found["labels"], self.over(found["scores"], min_score)
        least = max(self.threshold(min_score), 1e-3)
        scores = soft_nms(boxes, scores, labels, s.max_detections, s.nms, s.nms_iou, s.nms_sigma, least)
        return self.select(scores, labels, boxes, frames, nms_iou=1.0)

    @property
    def class_rows(self) -> dict[str, tuple[int, int]]:
        if self.settings.scores == "objectness":
            return super().class_rows
        parts = [f"class_heads.{i}.{part}" for i in range(self.settings.scales) for part in ("weight", "bias")]
        return dict.fromkeys(parts, (self.anchors_per_place, self.before))


def _stride(s: M2DetSettings) -> int:
    """Of the finest map that the network takes from the backbone, in pixels of the input."""
    return 16 if s.base_maps == "C4+C5" and s.backbone != VGG and not s.fine_c4 else 8
