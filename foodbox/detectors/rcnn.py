"""R-CNN: Rich Feature Hierarchies for Accurate Object Detection, Girshick, Donahue, Darrell, Malik, CVPR 2014.

In the order of the paper (arXiv 1311.2524): its modules, which are regions from outside, warped (section 2.1, appendix
A), and a network that makes features of each; detection (2.2); training, which is fine-tuning and then an SVM for each
class (2.3, appendix B) and box regression (3.5, appendix C). `docs/rcnn.md` walks through it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn
from torchvision.ops import roi_align

from foodbox.detectors.base import Detector, DetectorSettings, Outputs
from foodbox.layers.backbones import Backbone
from foodbox.layers.region_fits import BoxRegressors, RandomSubset, RegionSVMs
from foodbox.layers.roi_heads import sample_regions
from foodbox.ops import boxes as box_ops
from foodbox.ops.boxes import gather_boxes
from foodbox.ops.coding import decode_centre, encode_centre
from foodbox.ops.nms import best_by_group
from foodbox.ops.proposals import Sizes, borders
from foodbox.records import Batch, Preprocessing, SelectiveSearch, Target, stack_targets

# Bytes of features that the last fit keeps of all photos, and as many of those near a box; above, a part at random.
KEPT_BYTES = 2**29


class RCNNTraining(DetectorSettings):
    """What concerns training alone: the same weights work with any of it."""

    frozen_stages: int = Field(0, ge=0, le=5, description="Freeze the backbone through stride 2^n; 5 freezes it all.")
    regions_per_photo: int = Field(64, ge=1, description="Regions sampled from a photo in a step.")
    positives: float = Field(0.25, gt=0, le=1, description="The share of them that may be positive: 32 of 128.")
    match_iou: float = Field(0.5, gt=0, le=1, description="IoU from which a region is its box's class in fine-tuning.")
    svm_negative_iou: float = Field(0.3, gt=0, le=1, description="IoU under which a region is an SVM's negative.")
    box_iou: float = Field(0.6, gt=0, le=1, description="IoU over which a region teaches box regression.")


class RCNNSettings(RCNNTraining):
    """The paper's choices; presets change some."""

    search: SelectiveSearch = Field(default_factory=SelectiveSearch)
    backbone: str = Field("vgg16", description="timm's name of the network that looks at regions.")
    frozen_batch_norm: bool = Field(True, description="Keep the backbone's batch norm statistics and weights fixed.")
    batch_norm_eps: float = Field(1e-5, ge=0, description="Epsilon of the backbone's batch norm; weights bring theirs.")
    crop_size: int = Field(224, ge=32, multiple_of=32, description="Side in pixels to which a region is warped.")
    context: int = Field(16, ge=0, description="Pixels of it on each side that show what is around the region, p.")
    layers: int = Field(2, ge=1, description="Linear layers behind the network's last map: fc6 and fc7.")
    width: int = Field(4096, ge=8, description="Width of these.")
    classifier: Literal["svm", "softmax"] = Field("svm", description="Scores by SVMs fitted last, or fine-tuning's.")
    at_once: int = Field(64, ge=1, description="Regions that go through the network together, to bound memory.")
    nms_iou: float = Field(0.3, ge=0, le=1, description="NMS: boxes of a class with a higher IoU are thinned.")
    max_detections: int = Field(100, ge=1, description="Most detections on a photo.")

    @field_validator("context")
    @classmethod
    def _leaves_a_region(cls, context: int, info: ValidationInfo) -> int:
        if 2 * context >= info.data.get("crop_size", 2**31):
            raise ValueError("expected less than half of crop_size")
        return context


# What a computer without a GPU trains in minutes. docs/benchmarks.md has the measurements behind each choice.
LIGHT = {
    "preprocessing": Preprocessing(size=448, fit="longest"),
    "search": SelectiveSearch(proposals=200, search_size=250),
    "backbone": "mobilenetv2_100", "frozen_stages": 3,
    "crop_size": 96, "context": 8, "layers": 1, "width": 256, "regions_per_photo": 32,
}  # fmt: skip


class RCNN(Detector):
    """R-CNN with any backbone.

    Preset "vgg16" is the paper's "O-Net" (section 3.3), whose VOC 2007 mAP is 66.0 with box regression (table 3), with
    selective search.

    It is slow, and that is the paper's state, not a fault: every region goes through the whole network, 2000 times for
    a photo that Fast R-CNN looks at once. The paper has 47 s a photo with this network on its GPU (as told by Fast
    R-CNN, section 1.1). `proposals` and `crop_size` are what to turn down; "light" looks at 200 regions of 96 px.

    Until the last epoch's end, while there are no SVMs, scores are fine-tuning's softmax and boxes are the regions as
    they came; `finish` fits both. Where the authors' code says more than the paper, it is followed: features are scaled
    to a norm of 20, C of the SVMs is 0.001, the targets' boxes are regions in fine-tuning. Scores of the SVMs become 0
    to 1 by a sigmoid a class, which keeps their order. The optimiser is training/optimiser.py's, not the paper's.
    """

    Settings = RCNNSettings
    Training = RCNNTraining
    needs_proposals: ClassVar[bool] = True
    takes_sizes = True
    has_maps: ClassVar[bool] = False  # each region goes through the backbone by itself
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "light": LIGHT,
        "vgg16": {"preprocessing": Preprocessing(size=600, fit="shortest", max_size=1000)},
    }
    settings: RCNNSettings

    def __init__(self, names: list[str], settings: RCNNSettings) -> None:
        super().__init__(names, settings)
        s = settings
        self.backbone = Backbone(s.backbone, s.frozen_stages, s.frozen_batch_norm, s.batch_norm_eps)
        map_width = self.backbone.channels[-1] * (s.crop_size // 32) ** 2
        linear = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise([map_width, *[s.width] * s.layers])]
        self.linear = nn.Sequential(*(part for pair in linear for part in pair))
        self.classes = nn.Linear(s.width, 1 + len(names))
        nn.init.normal_(self.classes.weight, std=0.01)  # section 2.3: the new layer starts at random
        nn.init.zeros_(self.classes.bias)
        self.svms = RegionSVMs(s.width, len(names))
        self.regressors = BoxRegressors(map_width, len(names))

    # -- Modules: section 2.1, appendix A ---------------------------------------------------------------------------

    def warp(self, images: Tensor, boxes: Tensor, photo: Tensor) -> Tensor:
        """Appendix A, "warp" with context: regions [N, 4] of photos [N] → [N, 3, crop_size, crop_size], normalised.

        Each is stretched to the square, whatever its shape, with `context` pixels of the square around it. What lies
        beyond the photo is its mean, which is 0 here, as is a batch's padding.
        """
        size, context = self.settings.crop_size, self.settings.context
        middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        half = half * size / (size - 2 * context)
        rows = torch.cat((photo[:, None].to(boxes.dtype), middle - half, middle + half), dim=1)  # [N, 5]
        # A grid over each cell, as fine as the photo's pixels are in it: a region that shrinks is not aliased.
        crops: Tensor = roi_align(images, rows, size, aligned=True, sampling_ratio=-1)
        return crops.contiguous(memory_format=torch.channels_last)

    def features(self, images: Tensor, boxes: Tensor, photo: Tensor) -> tuple[Tensor, Tensor]:
        """Section 2.1, "Feature extraction": the last map [N, C x S x S] and the last linear layer [N, width]."""
        last: Tensor = self.backbone(self.warp(images, boxes, photo))[-1]  # [N, C, S, S], S = crop_size / 32
        map_features = last.flatten(1)
        return map_features.float(), self.linear(map_features).float()

    def features_in_parts(self, images: Tensor, boxes: Tensor, photo: Tensor) -> tuple[Tensor, Tensor]:
        """`features` of any number of regions, some at once."""
        size = self.settings.at_once
        split = zip(torch.split(boxes, size), torch.split(photo, size), strict=True)
        parts = [self.features(images, *part) for part in split]
        maps, last = zip(*parts, strict=True)
        return torch.cat(maps), torch.cat(last)

    # -- Detection: section 2.2 -------------------------------------------------------------------------------------

    def forward(  # type: ignore[override]  # regions from outside
        self, images: Tensor, proposals: Tensor, sizes: Sizes = None
    ) -> Outputs:
        """Pixels [B, 3, H, W] and proposals [B, R, 4] → boxes [B, D, 4], scores [B, D] (-1: none), labels [B, D].

        Best first, "greedy non-maximum suppression (for each class independently)"; and what they came of, for every
        region: region_scores [B, R, K] and region_boxes [B, R, K, 4].
        """
        s, classes = self.settings, len(self.names)
        photo, place = torch.where(box_ops.area(proposals) > 0)  # [N]; zero boxes are padding
        regions = proposals[photo, place]
        maps, last = self.features_in_parts(self.normalise(images), regions, photo)
        ends = None if sizes is None else sizes[photo]  # [N, 2]
        found = box_ops.clip(decode_centre(self.regressors(maps), regions[:, None]), *borders(images, ends, 3))
        boxes = proposals.new_zeros((*proposals.shape[:2], classes, 4))  # [B, R, K, 4]
        scores = boxes.new_full(boxes.shape[:3], -1.0)  # [B, R, K]
        boxes[photo, place] = found
        scores[photo, place] = self.probabilities(last).masked_fill(box_ops.area(found) <= 0, -1.0)

        label = torch.arange(classes, device=scores.device).expand_as(scores).flatten(1)
        index, best = best_by_group(boxes.flatten(1, 2), scores.flatten(1), label, s.nms_iou, s.max_detections)
        kept = gather_boxes(boxes.flatten(1, 2), index) * (best >= 0)[..., None]
        detections = {"boxes": kept, "scores": best, "labels": label.gather(1, index)}
        return detections | {"region_scores": scores, "region_boxes": boxes}

    def probabilities(self, features: Tensor) -> Tensor:
        """Features [N, width] → scores [N, K], 0 to 1: of the SVMs, as far as they are fitted, or of the softmax."""
        softmax: Tensor = self.classes(features).float().softmax(-1)[:, 1:]
        if self.settings.classifier == "softmax":
            return softmax
        return torch.where(self.svms.fitted > 0, self.svms(features), softmax)

    # -- Training: section 2.3, "Domain-specific fine-tuning" -------------------------------------------------------

    def losses(  # type: ignore[override]  # regions from outside
        self, images: Tensor, targets: list[Target], proposals: Tensor
    ) -> dict[str, Tensor]:
        """The log loss of the softmax over background and classes ("classes").

        Of each photo `regions_per_photo` are drawn, a quarter of which overlaps a box by 0.5 or more; all others are
        background.
        """
        s = self.settings
        if self.training:  # what was fitted last was fitted on features that now change
            self.svms.forget()
            self.regressors.forget()
        iou = s.match_iou
        regions = sample_regions(proposals, targets, s.regions_per_photo, s.positives, high=iou, low=iou)
        _, last = self.features(self.normalise(images), regions.boxes, regions.photo)
        loss = F.cross_entropy(self.classes(last).float(), regions.labels, reduction="sum")
        return {"classes": loss / max(1, len(regions.labels))}

    # -- Training: section 2.3, "Object category classifiers", appendices B and C -----------------------------------

    @torch.no_grad()
    def finish(self, batches: Iterable[Batch]) -> None:
        """The SVMs and the box regressors, on features that are cached, as in the paper.

        They are cached in memory, in half precision, and not more than `KEPT_BYTES`: of many photos a part of the
        regions decides, at random.
        """
        s = self.settings
        all_regions, truths, near = (RandomSubset(KEPT_BYTES) for _ in range(3))
        for batch in batches:
            assert batch.proposals is not None
            assert isinstance(batch.images, Tensor)
            images = self.normalise(batch.images)
            boxes, labels = stack_targets(batch.targets)  # [B, M, 4], [B, M]
            photo, place = torch.where(box_ops.area(boxes) > 0)
            if len(photo):
                _, last = self.features_in_parts(images, boxes[photo, place], photo)
                truths.add(last.half(), labels[photo, place])
            photo, place = torch.where(box_ops.area(batch.proposals) > 0)  # [N]
            if not len(photo):
                continue
            regions = batch.proposals[photo, place]
            maps, last = self.features_in_parts(images, regions, photo)
            overlap = box_ops.iou(batch.proposals, boxes)[photo, place]  # [N, M]; 0 with boxes that are padding
            of_class = F.one_hot(labels, len(self.names))[photo]  # [N, M, K]
            all_regions.add(last.half(), (overlap[..., None] * of_class).amax(1))
            most, matched_index = overlap.max(1)  # [N]
            chosen = most > s.box_iou
            truth = boxes[photo, matched_index][chosen]
            near.add(maps[chosen].half(), encode_centre(truth, regions[chosen]), labels[photo, matched_index][chosen])
        if s.classifier == "svm" and truths.count and all_regions.count:
            (features, overlaps), (positives, labels) = all_regions.rows(), truths.rows()
            self.svms.fit(features.float(), overlaps, positives.float(), labels, s.svm_negative_iou)
        if near.count:
            features, offsets, labels = near.rows()
            self.regressors.fit(features.float(), offsets, labels)

    @property
    def class_rows(self) -> dict[str, tuple[int, int]]:
        rows = {f"classes.{part}": (1, 1) for part in ("weight", "bias")}
        rows |= {f"svms.{part}": (1, 0) for part in ("weight", "bias", "slope", "offset", "fitted")}
        return rows | {f"regressors.{part}": (4, 0) for part in ("weight", "bias")}
