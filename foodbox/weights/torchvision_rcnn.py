"""torchvision's COCO-trained Faster and Mask R-CNNs (BSD-3-Clause code; weights under its terms) → our names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import detection

from foodbox.detectors import DETECTORS
from foodbox.weights import checkpoint
from foodbox.weights.torchvision import TRAINED_NORMS, drop_unused, fetch
from foodbox.weights.torchvision_ssd import imagenet_mobilenet
from foodbox.weights.transfer import Weights

COCO = {
    ("faster_rcnn", "torchvision"): detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    ("faster_rcnn", "torchvision_v2"): detection.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
    ("faster_rcnn", "mobilenet_v3"): detection.FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1,
    ("faster_rcnn", "mobilenet_v3_320"): detection.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1,
    ("mask_rcnn", "torchvision"): detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
    ("mask_rcnn", "torchvision_v2"): detection.MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
}
"""Detector and preset → the published weights."""
MAKERS = {
    ("faster_rcnn", "torchvision"): detection.fasterrcnn_resnet50_fpn,
    ("faster_rcnn", "torchvision_v2"): detection.fasterrcnn_resnet50_fpn_v2,
    ("faster_rcnn", "mobilenet_v3"): detection.fasterrcnn_mobilenet_v3_large_fpn,
    ("faster_rcnn", "mobilenet_v3_320"): detection.fasterrcnn_mobilenet_v3_large_320_fpn,
    ("mask_rcnn", "torchvision"): detection.maskrcnn_resnet50_fpn,
    ("mask_rcnn", "torchvision_v2"): detection.maskrcnn_resnet50_fpn_v2,
}

# The published first models were saved when a unit was a bare convolution.
OLD = [
    (r"(backbone\.fpn\.\w+_blocks\.\d)\.(weight|bias)", r"\1.0.\2"),
    (r"rpn\.head\.conv\.(weight|bias)", r"rpn.head.conv.0.0.\1"),
    (r"roi_heads\.mask_head\.mask_fcn(\d)\.(\w+)", lambda m: f"roi_heads.mask_head.{int(m[1]) - 1}.0.{m[2]}"),
]
UNIT = {"0": "conv", "1": "norm"}
# In the second models a norm stands behind each convolution, then ReLU: three layers instead of two.
RENAMED: list[tuple[str, Any]] = [
    (r"backbone\.body\.(.*)", r"backbone.body.\1"),
    (r"rpn\.head\.conv\.(\d)\.0\.(\w+)", lambda m: f"rpn_head.convs.{2 * int(m[1])}.{m[2]}"),
    (r"rpn\.head\.cls_logits\.(\w+)", r"rpn_head.objectness.\1"),
    (r"rpn\.head\.bbox_pred\.(\w+)", r"rpn_head.boxes.\1"),
    (r"roi_heads\.box_head\.fc6\.(\w+)", r"box_head.linear.0.\1"),
    (r"roi_heads\.box_head\.fc7\.(\w+)", r"box_head.linear.2.\1"),
    (r"roi_heads\.box_head\.5\.(\w+)", r"box_head.linear.0.\1"),
    (r"roi_heads\.box_predictor\.cls_score\.(\w+)", r"box_head.classes.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(\w+)", r"box_head.boxes.\1"),
    (r"roi_heads\.mask_predictor\.conv5_mask\.(\w+)", r"mask_head.upsample.\1"),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(\w+)", r"mask_head.masks.\1"),
]
PLAIN_UNITS: list[tuple[str, Any]] = [
    (r"backbone\.fpn\.inner_blocks\.(\d)\.0\.(\w+)", r"neck.lateral.\1.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.0\.(\w+)", r"neck.output.\1.\2"),
    (r"roi_heads\.mask_head\.(\d)\.0\.(\w+)", lambda m: f"mask_head.convs.{2 * int(m[1])}.{m[2]}"),
]
NORM_UNITS: list[tuple[str, Any]] = [
    (r"backbone\.fpn\.inner_blocks\.(\d)\.([01])\.(\w+)", lambda m: f"neck.lateral.{m[1]}.{UNIT[m[2]]}.{m[3]}"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.([01])\.(\w+)", lambda m: f"neck.output.{m[1]}.{UNIT[m[2]]}.{m[3]}"),
    (
        r"roi_heads\.(box|mask)_head\.(\d)\.([01])\.(\w+)",
        lambda m: f"{m[1]}_head.convs.{3 * int(m[2]) + int(m[3])}.{m[4]}",
    ),
]


def find(choice: str, settings: dict[str, Any], detector: str) -> Weights | None:
    """The weights for a two-stage detector of these settings: all of torchvision's, or the backbone's alone.

    Args:
        choice: "coco" or "imagenet".
        detector: "faster_rcnn" or "mask_rcnn"; another gets the backbone of Faster R-CNN's.

    Returns:
        None where torchvision has none, for other backbones.

    Raises:
        FoodboxError: there is no network, or what came is not the file.
    """
    backbone = settings["backbone"]
    if choice == "imagenet" and backbone == "mobilenet_v3_large":
        return imagenet_mobilenet()
    if choice != "coco" or backbone not in ("resnet50", "mobilenet_v3_large"):
        return None
    if backbone == "resnet50":
        preset = "torchvision_v2" if settings.get("norm") == "batch" else "torchvision"
    else:
        preset = "mobilenet_v3_320" if settings["preprocessing"]["size"] <= 320 else "mobilenet_v3"
    kind = detector if (detector, preset) in COCO else "faster_rcnn"
    weights = download(kind, preset)
    whole = DETECTORS[kind].Settings(**DETECTORS[kind].presets[preset]).model_dump()
    built = ("neck", "first_level", "channels", "norm", "rpn_convs", "box_convs", "box_layers", "box_width")
    same = kind == detector and all(settings.get(name) == whole[name] for name in built)
    return weights if same else weights.backbone_only()


def download(detector: str, preset: str) -> Weights:
    """The official checkpoint by its official URL, whose name holds its SHA-256; kept in torch's cache.

    Raises:
        FoodboxError: there is no network, or what came is not the file.
    """
    url = COCO[detector, preset].url
    return convert(fetch(url), f"torchvision's {url.rsplit('/', 1)[-1]}")


def fits(state: dict[str, Tensor]) -> bool:
    """Whether a checkpoint's names are those of torchvision's Faster or Mask R-CNN."""
    found = "roi_heads.box_predictor.cls_score.weight" in state
    return found and not any(name.startswith("roi_heads.keypoint") for name in state)


def convert(state: dict[str, Tensor], origin: str) -> Weights:
    """A torchvision Faster or Mask R-CNN's tensors under our names, without unused categories.

    Background stays the first row of the classes, and has no box and no mask. The two models with MobileNetV3 have
    tensors of the same names and shapes: one whose file's name holds "320" is taken for the one of 320 px.

    Raises:
        FoodboxError: some are missing, or of another shape.
    """
    state = {checkpoint.rename(name, OLD) or name: tensor for name, tensor in state.items()}
    detector, preset = _which(state, origin)
    categories = len(state["roi_heads.box_predictor.cls_score.weight"])
    make = MAKERS[detector, preset]
    with torch.device("meta"):
        expected = make(weights=None, weights_backbone=None, num_classes=categories).state_dict()
    shapes = {name: tensor.shape for name, tensor in expected.items()}
    checkpoint.compare(state, shapes, f"torchvision's {make.__name__}", origin)

    counters = {name: torch.tensor(0) for name in expected if name.endswith("num_batches_tracked")}  # never used
    renamed = RENAMED + (NORM_UNITS if preset == "torchvision_v2" else PLAIN_UNITS)
    tensors = {checkpoint.rename(name, renamed): tensor for name, tensor in (counters | state).items()}
    names: list[str] = []
    for part in ("weight", "bias"):
        name = f"box_head.classes.{part}"
        tensors[name], names = drop_unused(tensors[name], 1, keep_background=True)
        name = f"box_head.boxes.{part}"
        by_class = tensors[name]
        by_coordinate = by_class.view(categories, 4, *by_class.shape[1:]).transpose(0, 1).flatten(0, 1)
        tensors[name], _ = drop_unused(by_coordinate, 4)
        if (name := f"mask_head.masks.{part}") in tensors:
            tensors[name], _ = drop_unused(tensors[name], 1)
    settings = dict(DETECTORS[detector].presets[preset])
    if preset == "torchvision" and "backbone.body.bn1.num_batches_tracked" in state:
        settings |= TRAINED_NORMS
    return Weights(tensors, origin, names, detector, settings)


def _which(state: dict[str, Tensor], origin: str) -> tuple[str, str]:
    """Detector and preset of a checkpoint."""
    detector = "mask_rcnn" if any(name.startswith("roi_heads.mask") for name in state) else "faster_rcnn"
    if detector == "faster_rcnn" and any(name.startswith("backbone.body.0.") for name in state):
        return detector, "mobilenet_v3_320" if "320" in Path(origin).name else "mobilenet_v3"
    return detector, "torchvision_v2" if "roi_heads.box_head.0.0.weight" in state else "torchvision"
