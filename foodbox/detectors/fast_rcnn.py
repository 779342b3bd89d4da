"""Fast R-CNN, Girshick, ICCV 2015 (arXiv 1504.08083).

In the order of the paper, section 2: the network with its RoI pooling layer (2.1) and a pretrained backbone (2.2),
fine-tuning with the multi-task loss and mini-batch sampling (2.3), then detection (3). Regions come from outside, by
selective search. On a pyramid it is that of Feature Pyramid Networks, Lin et al. 2017 (arXiv 1612.03144), section 4.2.
`docs/fast_rcnn.md` walks through it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from foodbox.detectors.base import Detector, DetectorSettings, Outputs
from foodbox.layers import roi_heads
from foodbox.layers.convolutions import Norm
from foodbox.layers.pyramids import class_map_for
from foodbox.layers.roi_heads import BoxHead, BoxLoss, RegionScores
from foodbox.layers.trunks import Neck, make_trunk, map_strides
from foodbox.ops.proposals import Sizes, borders
from foodbox.ops.roi import Pooling, pool_regions
from foodbox.records import Preprocessing, SelectiveSearch, Target, stack_targets


class FastRCNNTraining(DetectorSettings):
    """What concerns training alone: the same weights work with any of it."""

    frozen_stages: int = Field(0, ge=0, le=5, description="Freeze the backbone through stride 2^n; 5 freezes it all.")
    samples: int = Field(64, ge=1, description="Regions sampled from a photo in a step, R / N of the paper.")
    positives: float = Field(0.25, gt=0, le=1, description="The share of them that may be positive.")
    match_high: float = Field(0.5, gt=0, le=1, description="IoU from which a region is positive.")
    match_low: float = Field(0.5, ge=0, le=1, description="IoU below which a region is background.")
    match_floor: float = Field(0.1, ge=0, le=1, description="IoU from which a region may be background.")
    box_loss: BoxLoss = Field("smooth_l1", description="The box loss of positive regions.")
    smooth_l1_beta: float = Field(1.0, ge=0, description="Where smooth L1 turns linear; 0 makes it L1.")
    box_weight: float = Field(1.0, gt=0, description="Weight of the box loss, lambda of equation 1.")

    @field_validator("match_low", "match_floor")
    @classmethod
    def _not_over(cls, value: float, info: ValidationInfo) -> float:
        above = {"match_low": "match_high", "match_floor": "match_low"}[str(info.field_name)]
        if value > info.data.get(above, 1.0):
            raise ValueError(f"expected at most {above}")
        return value


class FastRCNNSettings(FastRCNNTraining):
    """The paper's choices; presets change some."""

    search: SelectiveSearch = Field(default_factory=SelectiveSearch)
    backbone: str = Field("vgg16", description="timm's name, or mobilenet_v3_large, torchvision's.")
    frozen_batch_norm: bool = Field(True, description="Keep the backbone's batch norm statistics and weights fixed.")
    batch_norm_eps: float = Field(1e-5, ge=0, description="Epsilon of the backbone's batch norm; weights bring theirs.")
    neck: Neck = Field("c4", description="One map, of stride 16, as in the paper, or a pyramid.")
    first_level: Literal[2, 3] = Field(2, description="The pyramid's finest level: P2 or P3.")
    channels: int = Field(512, ge=8, description="Channels of the map, or of the pyramid.")
    norm: Norm = Field("none", description="Normalisation in the pyramid and in the head's convolutions.")

    pooling: Pooling = Field("pool", description="RoI pooling as in the paper, or Mask R-CNN's RoIAlign.")
    pool_size: int = Field(7, ge=1, description="Width and height of a region's pooled features, H = W.")
    pool_base: float = Field(224.0, gt=0, description="Side in px of a region that P4 is for (FPN equation 1).")
    box_convs: int = Field(0, ge=0, description="Convolutions of the head before its linear layers.")
    box_layers: int = Field(2, ge=0, description="Linear layers of the head before its outputs: fc6 and fc7.")
    box_width: int = Field(4096, ge=8, description="Width of these.")
    class_agnostic: bool = Field(False, description="One box per region instead of one per class.")
    scores: RegionScores = Field("softmax", description="The paper's softmax, or an objectness times a class map.")
    nms_iou: float = Field(0.3, ge=0, le=1, description="NMS: boxes of a class with a higher IoU are thinned.")
    max_detections: int = Field(100, ge=1, description="Most detections on a photo.")


PAPER_SIZE = Preprocessing(size=600, fit="shortest", max_size=1000, antialias=False)
# What a computer without a GPU trains in minutes: the features and the head of Faster R-CNN's light preset, on regions
# of photos of 250 px, which are found in a fifth of a second. docs/benchmarks.md has the measurements.
LIGHT = {
    "preprocessing": Preprocessing(size=320, fit="longest"),
    "search": SelectiveSearch(proposals=600, search_size=250),
    "backbone": "mobilenetv2_100", "frozen_stages": 3,
    "neck": "pyramid", "first_level": 3, "channels": 64, "norm": "group",
    "pooling": "align", "pool_base": 112.0,  # half the paper's, as photos have less than half of its pixels across
    "match_floor": 0.0,  # a photo without boxes teaches, too
    "box_layers": 1, "box_width": 256, "class_agnostic": True, "scores": "objectness",
    "box_loss": "giou", "box_weight": 2.0,
}  # fmt: skip


class FastRCNN(Detector):
    """Fast R-CNN on one map or on a pyramid, with any backbone.

    Preset "vgg16" is the paper's model L (section 4.1), whose VOC 2007 mAP is 66.9 (table 1), with selective search.

    Settings follow the paper. Where the authors' code says more, it is followed: the targets' boxes are regions too,
    and offsets are divided by 0.1 and 0.2, which makes them of one spread, where the paper normalises them by their own
    mean and deviation. Single scale only (section 5.2); truncated SVD (3.1) is left out. With a pyramid, RoIAlign and
    Faster R-CNN's proposals it is that detector's second stage, down to its weights' names: a test holds them together.
    The optimiser is training/optimiser.py's, not the paper's.
    """

    Settings = FastRCNNSettings
    Training = FastRCNNTraining
    needs_proposals: ClassVar[bool] = True
    takes_sizes = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "light": LIGHT,
        "vgg16": {"preprocessing": PAPER_SIZE, "frozen_stages": 1},  # section 4.5: from conv3_1 up
        "resnet50_fpn": {
            "preprocessing": Preprocessing(size=800, fit="shortest", max_size=1333, antialias=False),
            "backbone": "resnet50", "frozen_stages": 2, "neck": "pyramid", "channels": 256,
            "pooling": "align", "box_width": 1024, "samples": 512, "nms_iou": 0.5,
        },
    }  # fmt: skip
    settings: FastRCNNSettings

    def __init__(self, names: list[str], settings: FastRCNNSettings) -> None:
        super().__init__(names, settings)
        s = settings
        self.backbone, self.neck = make_trunk(
            s.backbone,
            s.neck,
            s.first_level,
            s.channels,
            s.norm,
            s.frozen_stages,
            s.frozen_batch_norm,
            s.batch_norm_eps,
        )
        # With an objectness, the head says whether anything is there at all, and the box's contents which class.
        values = len(names) if s.scores == "softmax" else 1
        self.box_head = BoxHead(
            s.channels, values, s.pool_size, s.box_convs, s.box_layers, s.box_width, s.norm, s.class_agnostic
        )
        stride = map_strides(s.backbone, s.neck, s.first_level)[0]
        self.classes = class_map_for(s.scores, self.backbone.channels, len(names), stride)

    # -- The network: section 2, figure 1 ---------------------------------------------------------------------------

    def forward(  # type: ignore[override]  # regions from outside
        self, images: Tensor, proposals: Tensor, sizes: Sizes = None
    ) -> Outputs:
        """Pixels [B, 3, H, W] and proposals [B, R, 4] → boxes [B, D, 4], scores [B, D] (-1: none), labels [B, D].

        Best first; and what they came of: logits [B, R, 1 + K], the first background, and deltas [B, R, K, 4], or
        [B, R, 1, 4]. With scores="objectness" logits are [B, R, 2].
        """
        return self.detect(*self.maps(images), proposals, images, sizes)

    def maps(self, images: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Section 2.1: the whole photo through the network once. Pixels [B, 3, H, W] → [B, channels, H/16, W/16].

        A pyramid gives P2 ... P5; its P6 is for proposals alone (FPN section 4.1, footnote 1). And the map of several
        classes that an objectness does not tell, [B, K, ...] on the finest map's places.
        """
        features = self.backbone_maps(images)
        found = self.neck(features)[: 1 if self.settings.neck == "c4" else -1]
        return found, None if self.classes is None else self.classes(features)

    def head(self, maps: list[Tensor], boxes: Tensor, photo: Tensor) -> tuple[Tensor, Tensor]:
        """Section 2.1, the RoI pooling layer and the sibling outputs: regions [N, 4] of photos [N] → [N, ...] each."""
        s = self.settings
        strides = map_strides(s.backbone, s.neck, s.first_level)[: len(maps)]
        pooled = pool_regions(maps, boxes, photo, strides, s.pool_size, s.pooling, s.pool_base)  # [N, C, 7, 7]
        logits, deltas = self.box_head(pooled)
        return logits, deltas

    # -- Training: section 2.3 --------------------------------------------------------------------------------------

    def losses(  # type: ignore[override]  # regions from outside
        self, images: Tensor, targets: list[Target], proposals: Tensor
    ) -> dict[str, Tensor]:
        """Equation 1: the log loss of the true class ("classes"), and smooth L1 of positives ("boxes", equation 2).

        Of each photo `samples` regions are drawn, "Mini-batch sampling": a quarter overlaps a box by 0.5 or more, the
        others by 0.1 to 0.5, which the paper takes for a heuristic of hard examples. With scores="objectness" the log
        loss is on "regions", and "classes" is the cross entropy over several classes.
        """
        s = self.settings
        regions = roi_heads.sample_regions(
            proposals, targets, s.samples, s.positives, high=s.match_high, low=s.match_low, floor=s.match_floor
        )
        maps, class_map = self.maps(images)
        logits, deltas = self.head(maps, regions.boxes, regions.photo)
        found = roi_heads.region_losses(logits, deltas, regions, s.box_loss, s.smooth_l1_beta)
        losses = {"classes" if s.scores == "softmax" else "regions": found["classes"]}
        if self.classes is not None and class_map is not None:
            losses["classes"] = self.classes.loss(class_map, *stack_targets(targets))
        return losses | {"boxes": s.box_weight * found["boxes"]}

    # -- Detection: section 3 ---------------------------------------------------------------------------------------

    def detect(
        self, maps: list[Tensor], class_map: Tensor | None, proposals: Tensor, images: Tensor, sizes: Sizes = None
    ) -> Outputs:
        """A score and a box of each class for every region, then NMS class by class; as `forward`."""
        s, (width, height), head = self.settings, borders(images, sizes, 4), partial(self.head, maps)
        classes_of = partial(self.classes.probabilities, class_map) if self.classes and class_map is not None else None
        return roi_heads.detect(head, proposals, height, width, s.nms_iou, s.max_detections, classes_of)

    @property
    def class_rows(self) -> dict[str, tuple[int, int]]:
        if self.settings.scores == "objectness":
            return super().class_rows
        return self.box_head.class_rows("box_head")
