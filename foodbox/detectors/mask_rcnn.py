"""Mask R-CNN, He, Gkioxari, Dollár, Girshick, ICCV 2017 (arXiv 1703.06870).

In the order of the paper's section 3: it is Faster R-CNN (faster_rcnn.py, with RoIAlign), "and adds a branch for
predicting an object mask in parallel": the branch, its loss (training), and masks of the detections (inference).
`docs/mask_rcnn.md` walks through it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from foodbox.detectors.base import Outputs
from foodbox.detectors.faster_rcnn import (
    LIGHT,
    RESNET50,
    TORCHVISION_V1,
    V2,
    FasterRCNN,
    FasterRCNNSettings,
    FasterRCNNTraining,
)
from foodbox.errors import FoodboxError
from foodbox.layers.roi_heads import MaskHead, Regions
from foodbox.ops.masks import project_masks
from foodbox.ops.proposals import Sizes
from foodbox.records import Target


class MaskRCNNTraining(FasterRCNNTraining):
    """What concerns training alone: the same weights work with any of it."""

    mask_weight: float = Field(1.0, gt=0, description="Weight of the mask loss.")


class MaskRCNNSettings(FasterRCNNSettings, MaskRCNNTraining):
    """The paper's choices; presets change some."""

    mask_pool_size: int = Field(14, ge=1, description="Places of a region's features; its mask has twice as many.")
    mask_convs: int = Field(4, ge=0, description="Convolutions of the mask branch.")
    mask_width: int = Field(256, ge=8, description="Channels of the mask branch.")


class MaskRCNN(FasterRCNN):
    """Mask R-CNN on a pyramid, with any backbone.

    With torchvision's `MaskRCNN_ResNet50_FPN_Weights.COCO_V1` (preset "torchvision") it must reproduce their COCO
    val2017 box AP of 37.9 and mask AP of 34.6, which stand for the paper's table 2 (a), ResNet-50-FPN on minival (mask
    AP 33.6); "torchvision_v2" has 47.4 and 41.8.

    All else is Faster R-CNN's, and its choices where code and paper differ. Section 3.1 takes masks from the best 100
    detections after NMS, as here; in training from the positive ones of the sampled regions.
    """

    Settings = MaskRCNNSettings
    Training = MaskRCNNTraining
    needs_masks = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "light": LIGHT | {"mask_convs": 2, "mask_width": 64, "max_detections": 50},
        "resnet50": RESNET50,
        "torchvision": TORCHVISION_V1,
        "torchvision_v2": TORCHVISION_V1 | V2,
    }
    settings: MaskRCNNSettings

    def __init__(self, names: list[str], settings: MaskRCNNSettings) -> None:
        super().__init__(names, settings)
        s = settings
        self.mask_head = MaskHead(s.channels, len(names), s.mask_convs, s.mask_width, s.norm)

    # -- The mask branch: section 3, "Mask Representation" and "RoIAlign" -------------------------------------------

    def mask_logits(self, maps: list[Tensor], boxes: Tensor, photo: Tensor, labels: Tensor) -> Tensor:
        """Regions [N, 4] of photos [N] → the logits of the masks of their own classes [N]: [N, M, M].

        Each class has its mask, and which one counts the class branch decides: "without competition among classes".
        """
        logits = self.mask_head(self.pool(maps, boxes, photo, self.settings.mask_pool_size))  # [N, K, M, M]
        own: Tensor = logits[torch.arange(len(labels), device=labels.device), labels]
        return own

    # -- Training: section 3, "L = L_cls + L_box + L_mask", and 3.1 -------------------------------------------------

    def second_losses(self, maps: list[Tensor], regions: Regions, targets: list[Target]) -> dict[str, Tensor]:
        """Faster R-CNN's, and "masks": the mean binary cross entropy of the places of the positive regions' masks."""
        positives = regions.positives()
        masks = [target.masks for target in targets if target.masks is not None]
        if len(masks) < len(targets):
            raise FoodboxError("Mask R-CNN learns from masks, and there are targets with boxes only.")
        logits = self.mask_logits(maps, positives.boxes, positives.photo, positives.labels - 1)  # [P, M, M]
        truth = project_masks(masks, positives.photo, positives.matched_index, positives.boxes, logits.shape[-1])
        loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="sum") / max(1, truth.numel())
        return super().second_losses(maps, regions, targets) | {"masks": self.settings.mask_weight * loss}

    # -- Inference: section 3.1 -------------------------------------------------------------------------------------

    def detect(
        self, maps: list[Tensor], class_map: Tensor | None, proposals: Tensor, images: Tensor, sizes: Sizes = None
    ) -> Outputs:
        """Faster R-CNN's, and masks [B, D, M, M], the object's probability at M x M places of each detection's box.

        "The mask branch is then applied to the highest scoring 100 detection boxes", and to no other region.
        """
        found = super().detect(maps, class_map, proposals, images, sizes)
        photos, count = found["scores"].shape
        photo = torch.arange(photos, device=proposals.device).repeat_interleave(count)
        logits = self.mask_logits(maps, found["boxes"].flatten(0, 1), photo, found["labels"].flatten())
        return found | {"masks": logits.sigmoid().view(photos, count, *logits.shape[1:])}

    @property
    def class_rows(self) -> dict[str, tuple[int, int]]:
        return super().class_rows | self.mask_head.class_rows("mask_head")
