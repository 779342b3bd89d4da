"""SSD: Single Shot MultiBox Detector, Liu, Anguelov, Erhan, Szegedy, Reed, Fu, Berg, ECCV 2016 (arXiv 1512.02325).

In the order of the paper: the network with its extra feature layers and predictors (section 2.1), default boxes,
matching and the loss with hard negative mining (2.2), detection (3). SSDLite (MobileNetV2, Sandler et al. 2018, section
6.2) is the same with depthwise-separable convolutions. `docs/ssd.md` walks through it.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from foodbox.detectors.base import DetectorSettings, Device, Grids, OneStageDetector, Outputs
from foodbox.errors import UsageError
from foodbox.layers.convolutions import Norm
from foodbox.layers.heads import per_anchor
from foodbox.layers.pyramids import class_map_for
from foodbox.layers.separable import ExtraMap, lite_head, size_after
from foodbox.layers.trunks import OWN_STRIDES, VGG, ssd_backbone
from foodbox.ops.anchor_fitting import default_box_choices
from foodbox.ops.anchors import grid_anchors
from foodbox.ops.boxes import gather_boxes
from foodbox.ops.coding import decode_ssd
from foodbox.ops.default_boxes import default_box_shapes, hard_negative_loss, match_default_boxes
from foodbox.ops.losses import box_loss
from foodbox.ops.matching import overlaps
from foodbox.records import Preprocessing, Target, stack_targets

Ratio = Annotated[float, Field(gt=1)]

# The extra feature layers: channels between and out, then kernel, stride and padding of what makes the map smaller.
# SSD300 is figure 2, SSD512 footnote 3 with the authors' code; SSDLite's widths are torchvision's.
EXTRAS = {
    "ssd300": [(256, 512, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 1, 0), (128, 256, 3, 1, 0)],
    "ssd512": [(256, 512, 3, 2, 1), *[(128, 256, 3, 2, 1)] * 3, (128, 256, 4, 1, 1)],
    "lite": [(256, 512, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 2, 1), (64, 128, 3, 2, 1)],
}


class SSDTraining(DetectorSettings):
    """What concerns training alone: the same weights work with any of it."""

    frozen_stages: int = Field(0, ge=0, le=5, description="Freeze the backbone through stride 2^n; 5 freezes it all.")
    match_high: float = Field(0.5, gt=0, le=1, description="IoU from which a default box is positive.")
    negatives: float = Field(3.0, ge=0, description="Hard negatives of a photo for each of its positives.")
    least_negatives: int = Field(0, ge=0, description="Hard negatives of a photo with fewer positives or none.")
    box_loss: Literal["smooth_l1", "giou"] = Field("smooth_l1", description="The box loss of positive default boxes.")
    box_weight: float = Field(1.0, gt=0, description="alpha of equation 1.")


class SSDSettings(SSDTraining):
    """The paper's choices for SSD300; presets change some."""

    backbone: str = Field(VGG, description="vgg16 (SSD's own), mobilenet_v3_large(_reduced), or a timm name.")
    first_map: Literal[3, 4] = Field(4, description="The first map taken of a timm network: C3 or C4.")
    frozen_batch_norm: bool = Field(True, description="Keep the backbone's batch norm statistics and weights fixed.")
    batch_norm_eps: float = Field(1e-5, ge=0, description="Epsilon of a timm network's batch norm.")
    layout: Literal["ssd300", "ssd512", "lite"] = Field("ssd300", description="Whose extra layers and predictors.")
    norm: Norm = Field("none", description="Normalisation in extra layers and in SSDLite's predictors.")

    scales: Annotated[tuple[PositiveFloat, ...], Field(min_length=2)] = Field(
        (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
        description="Sizes of the default boxes map by map, and one more, as shares of the input's sides.",
    )
    anchor_ratios: Annotated[tuple[Ratio, ...], Field(min_length=1)] = Field(
        (2.0, 3.0), description="Long over short side of the default boxes, lying and upright."
    )
    maps_of_four: tuple[int, ...] = Field((0, 4, 5), description="Maps that have the first ratio only; 0 is the first.")
    steps: tuple[PositiveFloat, ...] = Field(
        (), description="Pixels between places map by map; else input over places."
    )

    scores: Literal["softmax", "objectness"] = Field(
        "softmax", description="The paper's softmax with background; or against it an objectness, times a class map."
    )
    score_threshold: float = Field(0.01, ge=0, le=1, description="Lower scores are dropped before NMS.")
    candidates: int = Field(400, ge=1, description="Best scores of each class that go into NMS.")
    nms_iou: float = Field(0.45, ge=0, le=1, description="NMS: boxes of a class with a higher IoU are thinned.")
    max_detections: int = Field(200, ge=1, description="Most detections on a photo.")


# Photos stretched to a square as torchvision does it. Caffe's pixels have their mean taken off and keep their spread.
SQUARE = Preprocessing(size=300, fit="stretch", multiple=1, antialias=False)
CAFFE = {"mean": (0.48235, 0.45882, 0.40784), "std": (1 / 255, 1 / 255, 1 / 255)}
HALVES = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

SSDLITE = {"layout": "lite", "norm": "batch", "scales": (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0), "maps_of_four": ()}
# What a computer without a GPU trains in minutes. docs/benchmarks.md has the measurements behind each choice.
LIGHT = SSDLITE | {
    "preprocessing": Preprocessing(size=320, fit="stretch"),
    "backbone": "mobilenetv2_100",
    "frozen_stages": 3,
    "first_map": 3,  # smaller boxes than SSDLite's, which begins at C4
    "norm": "group",
    "scales": (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0),
    "least_negatives": 30,
    "scores": "objectness",
}
# Section 3.4. What comes before the second pooling stays as it came: its edges and colours hold for any photo.
SSD300 = {
    "preprocessing": SQUARE.model_copy(update=CAFFE),
    "steps": (8, 16, 32, 64, 100, 300),
    "frozen_stages": 1,
}
SSD512 = {
    "preprocessing": SQUARE.model_copy(update=CAFFE | {"size": 512}),
    "layout": "ssd512",
    "scales": (0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06),
    "maps_of_four": (0, 5, 6),
    "frozen_stages": 1,
}
SSDLITE320 = SSDLITE | {
    "preprocessing": SQUARE.model_copy(update=HALVES | {"size": 320}),
    "backbone": "mobilenet_v3_large_reduced",
    "frozen_batch_norm": False,
    "score_threshold": 0.001,
    "nms_iou": 0.55,
    "candidates": 300,
    "max_detections": 300,
}


class SSD(OneStageDetector):
    """SSD with VGG-16, and SSDLite with any backbone.

    With torchvision's `SSD300_VGG16_Weights.COCO_V1` (preset "ssd300") it must reproduce their COCO val2017 AP of 25.1,
    which stands for the paper's table 6, SSD300* on test-dev (25.1); with preset "ssdlite320" and their
    `SSDLite320_MobileNet_V3_Large_Weights.COCO_V1` an AP of 21.3.

    Settings follow section 3.4, COCO. Where the authors' Caffe code says more than the paper, it is followed: offsets
    are divided by variances (ops/coding.py), and SSD300's default boxes lie in steps of 8, 16, 32, 64, 100 and 300 px
    (`steps`), where the paper divides the input by the places of a map, as the other presets do. With both, a photo
    without boxes has no negatives and teaches nothing; `least_negatives` changes that. The optimiser is
    training/optimiser.py's, not the paper's.
    """

    Settings = SSDSettings
    Training = SSDTraining
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "light": LIGHT,
        "ssd300": SSD300,
        "ssd512": SSD512,
        "ssdlite320": SSDLITE320,
    }
    settings: SSDSettings

    def __init__(self, names: list[str], settings: SSDSettings) -> None:
        super().__init__(names, settings)
        s, lite = settings, settings.layout == "lite"
        maps = len(_strides(s)) + len(EXTRAS[s.layout])
        if len(s.scales) != maps + 1 or len(s.steps) not in (0, maps):
            raise UsageError(
                f"There are {len(s.scales)} scales and {len(s.steps)} steps: expected {maps + 1} scales, one for each "
                f"of {maps} maps and one more, and {maps} steps or none."
            )
        self.backbone = ssd_backbone(s.backbone, s.frozen_stages, s.frozen_batch_norm, s.batch_norm_eps, lite)
        widths = self.backbone.channels[-len(_strides(s)) :]
        # With an objectness, one score says whether anything is there at all, and the box's contents which class.
        self.scores_per_anchor = 1 + (len(names) if s.scores == "softmax" else 1)  # the background first
        self.classes = class_map_for(s.scores, widths, len(names), _strides(s)[0])
        if s.backbone == VGG:
            # Section 3.1: conv4_3 has another scale than the maps behind it. Its norm is set to 20, and learns.
            self.conv4_3_norm = nn.Parameter(torch.full((512,), 20.0))
        self.extras = nn.ModuleList()
        for between, width, kernel, stride, padding in EXTRAS[s.layout]:
            self.extras.append(ExtraMap(widths[-1], between, width, kernel, stride, padding, lite, s.norm))
            widths.append(width)
        self.class_heads, self.box_heads = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(widths):
            for heads, values in ((self.class_heads, self.scores_per_anchor), (self.box_heads, 4)):
                outputs = len(_shapes(s, i)) * values
                heads.append(lite_head(width, outputs, s.norm) if lite else nn.Conv2d(width, outputs, 3, padding=1))
        for part in (self.extras, self.class_heads, self.box_heads):
            for conv in (m for m in part.modules() if isinstance(m, nn.Conv2d)):
                # "xavier" (section 3.1), by inputs and outputs; Caffe's goes by inputs alone. SSDLite as torchvision.
                nn.init.normal_(conv.weight, std=0.03) if lite else nn.init.xavier_uniform_(conv.weight)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)

    # -- The network: section 2.1, figure 2 -------------------------------------------------------------------------

    def forward(self, images: Tensor) -> Outputs:
        """Pixels [B, 3, H, W] → logits [B, A, 1 + K], the first background; deltas [B, A, 4]; anchors [A, 4].

        Default boxes run map by map, row by row, and at one place as `default_box_shapes` has them. With
        scores="objectness" logits are [B, A, 2], and `classes` [B, K, h, w], at the finest map's places, tells several
        classes apart.
        """
        maps = self.backbone_maps(images)[-len(_strides(self.settings)) :]  # [B, widths[i], H/8, W/8] ...
        if self.settings.backbone == VGG:
            maps[0] = F.normalize(maps[0].float(), dim=1) * self.conv4_3_norm.view(1, -1, 1, 1)
        outputs = {} if self.classes is None else {"classes": self.classes(maps)}
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        logits = [per_anchor(head(x), self.scores_per_anchor) for head, x in zip(self.class_heads, maps, strict=True)]
        deltas = [per_anchor(head(x), 4) for head, x in zip(self.box_heads, maps, strict=True)]
        outputs["logits"] = torch.cat(logits, dim=1).float()  # [B, A, 1 + K]
        outputs["deltas"] = torch.cat(deltas, dim=1).float()  # [B, A, 4]
        return outputs | {"anchors": self.anchors_at(images, [x.shape[2:] for x in maps])}

    # -- Default boxes: section 2.2, "Choosing scales and aspect ratios for default boxes" --------------------------

    @classmethod
    def anchors_of(cls, settings: Any, height: int, width: int, grids: Grids = None, on: Device = None) -> Tensor:
        """The default boxes on an input of height x width pixels: [A, 4]; 8732 on SSD300."""
        places = [(math.ceil(height / stride), math.ceil(width / stride)) for stride in _strides(settings)]
        for _, _, *shape in EXTRAS[settings.layout]:
            places.append((size_after(places[-1][0], *shape), size_after(places[-1][1], *shape)))
        places = [(rows, columns) for rows, columns in grids or places]  # some backbones round down
        found = []
        for i, (rows, columns) in enumerate(places):
            cell = (_shapes(settings, i) * torch.tensor([width, height, width, height])).to(on)
            step = (settings.steps[i],) * 2 if settings.steps else (height / rows, width / columns)
            found.append(grid_anchors(cell, rows, columns, step))
        return torch.cat(found)

    @classmethod
    def anchor_choices(cls, settings: SSDSettings, boxes: Tensor) -> list[dict[str, Any]]:
        """All scales times one factor, the ratios as they are or as the boxes'."""
        return default_box_choices("scales", settings.scales, settings.anchor_ratios, boxes)

    # -- Training: section 2.2, "Matching strategy", "Training objective", "Hard negative mining" --------------------

    def losses_of(self, outputs: Outputs, targets: list[Target]) -> dict[str, Tensor]:
        """Equation 1: the confidence loss ("classes", equation 3) and the localisation loss ("boxes", equation 2).

        Both are divided by N, the number of the batch's default boxes that took a box. With scores="objectness" the
        first is on "objectness", and "classes" is the cross entropy over several classes, a box's mean.
        """
        s, anchors = self.settings, outputs["anchors"]
        boxes, labels = stack_targets(targets)  # [B, M, 4], [B, M]
        overlap = overlaps(boxes, anchors)  # [B, M, A]
        matched = match_default_boxes(overlap, s.match_high)  # [B, A]
        positive = matched >= 0
        matched_index = matched.clamp(min=0)
        class_target = torch.where(positive, labels.gather(1, matched_index) + 1, 0)  # [B, A]; 0 is background
        class_target = class_target.clamp(max=self.scores_per_anchor - 1)  # with an objectness all else is 1
        class_loss = hard_negative_loss(outputs["logits"], class_target, s.negatives, s.least_negatives)  # [B, A]
        box = gather_boxes(boxes, matched_index)[positive]  # [P, 4], P matched default boxes
        anchor = anchors.expand(len(targets), -1, -1)[positive]  # [P, 4]
        of_box = box_loss(outputs["deltas"][positive], box, anchor, s.box_loss, "ssd")  # [P]; equation 2
        count = positive.sum().clamp(min=1)
        losses = {"classes" if s.scores == "softmax" else "objectness": class_loss.sum() / count}
        if self.classes is not None:
            losses["classes"] = self.classes.loss(outputs["classes"], boxes, labels)
        return losses | {"boxes": s.box_weight * of_box.sum() / count}

    # -- Detection: section 3.7, "Inference time" -------------------------------------------------------------------

    def candidates(self, outputs: Outputs) -> Outputs:
        """Of each class, or objectness, at most `candidates` best scores; then NMS class by class (`decode`)."""
        s = self.settings
        scores = outputs["logits"].softmax(-1)[..., 1:].transpose(1, 2)  # [B, K, A]
        score, anchor = scores.topk(min(s.candidates, scores.shape[2]))  # [B, K, C]
        label = torch.arange(score.shape[1], device=score.device)[:, None].expand_as(score)
        score, label, anchor = (x.flatten(1) for x in (score, label, anchor))  # [B, K x C]
        delta = gather_boxes(outputs["deltas"], anchor)
        boxes = decode_ssd(delta, outputs["anchors"][anchor])
        return self.told_apart(outputs, score, label, boxes)

    @property
    def class_rows(self) -> dict[str, tuple[int, int]]:
        if self.settings.scores == "objectness":
            return super().class_rows
        last = ".output" if self.settings.layout == "lite" else ""
        places = [len(_shapes(self.settings, i)) for i in range(len(self.class_heads))]
        names = [(f"class_heads.{i}{last}", count) for i, count in enumerate(places)]
        return {f"{name}.{part}": (count, 1) for name, count in names for part in ("weight", "bias")}


def _strides(s: SSDSettings) -> tuple[int, ...]:
    """Pixels of the input for one place of each of the backbone's maps."""
    return OWN_STRIDES.get(s.backbone, (8, 16, 32)[s.first_map - 3 :])


def _shapes(s: SSDSettings, i: int) -> Tensor:
    """The default boxes of one place of map i, as shares of the input's sides, none of them over 1: [4 or 6, 4]."""
    ratios = s.anchor_ratios[: 1 if i in s.maps_of_four else None]
    return default_box_shapes(s.scales[i], s.scales[i + 1], ratios).clamp(-0.5, 0.5)
