"""Starts for any detector on timm's MobileNetV3-Large: torchvision's small COCO detectors → timm's names.

Which of them, the backbone says: "mobilenetv3_large_100" is that of Faster R-CNN, whose pyramid's coarsest level fits
besides; "mobilenet_v3_large_reduced" is that of SSDLite320. SSD and the two-stage detectors have torchvision's own
layout of both networks too, which torchvision_ssd.py and torchvision_rcnn.py fill.
"""

from __future__ import annotations

from typing import Any

import torch
from torchvision.models import mobilenet_v3_large

from foodbox.layers.backbones import Backbone
from foodbox.layers.reduced_mobilenet import REDUCED_MOBILENET_V3 as REDUCED
from foodbox.layers.trunks import MOBILENET_V3
from foodbox.weights import torchvision_rcnn, torchvision_ssd
from foodbox.weights.transfer import Weights

LARGE = "mobilenetv3_large_100"
SSD_EPS = 1e-3
"""Epsilon of the batch norms that SSDLite320 was trained with, and that layers/mobilenetv3.py has."""


def download(settings: dict[str, Any]) -> Weights:
    """The official checkpoint for a detector's backbone, `LARGE` or `REDUCED`, by its URL, whose name holds its hash.

    Raises:
        FoodboxError: there is no network, or what came is not the file.
    """
    if settings["backbone"] == LARGE:
        return convert(torchvision_rcnn.download("faster_rcnn", "mobilenet_v3"), settings)
    return convert(torchvision_ssd.download("ssdlite320"), settings)


def fits(weights: Weights, settings: dict[str, Any], detector: str) -> bool:
    """Whether weights have torchvision's names of a MobileNetV3 that a detector of these settings wants by timm's.

    So it is where the backbone is timm's, and where the weights are another detector's and say what the backbone is.
    """
    if "backbone.body.16.0.weight" not in weights.tensors:
        return False
    wanted = settings["backbone"]
    if wanted == MOBILENET_V3 or (wanted == REDUCED and detector == "ssd"):
        return False
    return wanted in (LARGE, REDUCED) or weights.detector != detector


def convert(weights: Weights, settings: dict[str, Any]) -> Weights:
    """The backbone under timm's names, and the pyramid's P5 where the detector's pyramid is as wide.

    Timm's network and torchvision's have the same tensors in the same order. Torchvision's pyramid stands on two maps
    of stride 32; what it computes from C5 alone is our P5, whereas its second level is none of ours.

    Args:
        weights: under our names for torchvision's own layout.
        settings: those of the detector that starts with them.
    """
    name = REDUCED if weights.settings["backbone"] == REDUCED else LARGE
    with torch.device("meta"):
        theirs = mobilenet_v3_large(reduced_tail=name == REDUCED).features.state_dict()
    ours = Backbone(name).body.state_dict()

    start = weights.backbone_only()
    start.tensors = {
        f"backbone.body.{mine}": start.tensors[f"backbone.body.{other}"]
        for mine, other in zip(ours, theirs, strict=True)
    }
    start.settings["backbone"] = name
    if weights.detector == "ssd":
        start.settings["batch_norm_eps"] = SSD_EPS

    place = "neck" if "neck" in settings else "pyramid"
    width = settings.get("channels", settings.get("pyramid_channels"))
    level = 5 - settings.get("first_level", 3)
    for unit in ("lateral", "output"):
        for part in ("weight", "bias"):
            tensor = weights.tensors.get(f"neck.{unit}.1.{part}")
            if tensor is not None and len(tensor) == width:
                start.tensors[f"{place}.{unit}.{level}.{part}"] = tensor
                start.origin = f"the backbone and P5 of {weights.origin}"
    return start
