"""torchvision's COCO-trained SSD300 and SSDLite320 (BSD-3-Clause code; weights under its terms) → our names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.models import MobileNet_V3_Large_Weights
from torchvision.models.detection import (
    SSD300_VGG16_Weights,
    SSDLite320_MobileNet_V3_Large_Weights,
    ssd300_vgg16,
    ssdlite320_mobilenet_v3_large,
)

from foodbox.detectors import DETECTORS
from foodbox.weights import checkpoint
from foodbox.weights.torchvision import drop_unused, fetch
from foodbox.weights.transfer import Weights
from foodbox.weights.vgg import REDUCED

COCO = {
    "ssd300": SSD300_VGG16_Weights.COCO_V1,
    "ssdlite320": SSDLite320_MobileNet_V3_Large_Weights.COCO_V1,
}
"""Preset → the published weights."""
HEAD = "head.classification_head.module_list."

UNIT = {"0": "conv", "1": "norm"}
LITE_RENAMED: list[tuple[str, Any]] = [
    (r"backbone\.features\.0\.13\.(.*)", r"backbone.body.13.block.0.\1"),
    (r"backbone\.features\.0\.(.*)", r"backbone.body.\1"),
    (r"backbone\.features\.1\.0\.(.*)", r"backbone.body.13.block.\1"),
    (r"backbone\.features\.1\.(\d)\.(.*)", lambda m: f"backbone.body.{13 + int(m[1])}.{m[2]}"),
    (
        r"backbone\.extra\.(\d)\.([012])\.([01])\.(\w+)",
        lambda m: f"extras.{m[1]}.{('squeeze', 'shrink', 'expand')[int(m[2])]}.{UNIT[m[3]]}.{m[4]}",
    ),
    (r"HEAD\.module_list\.(\d)\.0\.([01])\.(\w+)", lambda m: f"HEADS.{m[1]}.depthwise.{UNIT[m[2]]}.{m[3]}"),
    (r"HEAD\.module_list\.(\d)\.1\.(\w+)", r"HEADS.\1.output.\2"),
]
VGG_RENAMED: list[tuple[str, Any]] = [
    (r"backbone\.scale_weight", "conv4_3_norm"),
    (r"backbone\.features\.(\d+)\.(\w+)", lambda m: f"backbone.{REDUCED[int(m[1])]}.{m[2]}"),
    # Behind conv4_3 counting begins anew at its pooling, and behind conv5_3 at pool5.
    (r"backbone\.extra\.0\.([135])\.(\w+)", lambda m: f"backbone.{REDUCED[23 + int(m[1])]}.{m[2]}"),
    (r"backbone\.extra\.0\.7\.([13])\.(\w+)", lambda m: f"backbone.{REDUCED[30 + int(m[1])]}.{m[2]}"),
    (
        r"backbone\.extra\.(\d)\.([02])\.(\w+)",
        lambda m: f"extras.{int(m[1]) - 1}.{'squeeze' if m[2] == '0' else 'shrink'}.conv.{m[3]}",
    ),
    (r"HEAD\.module_list\.(\d)\.(\w+)", r"HEADS.\1.\2"),
]


def find(choice: str, settings: dict[str, Any]) -> Weights | None:
    """The weights for an SSD of these settings: all of torchvision's, or the backbone's where the rest cannot fit.

    Args:
        choice: "coco" or "imagenet".

    Returns:
        None where torchvision has none, for other backbones.

    Raises:
        FoodboxError: there is no network, or what came is not the file.
    """
    mobilenet = settings["backbone"].startswith("mobilenet_v3_large")
    if choice == "imagenet" and mobilenet:
        return imagenet_mobilenet()
    if choice != "coco" or not (mobilenet or settings["backbone"] == "vgg16"):
        return None
    preset = "ssdlite320" if mobilenet else "ssd300"
    weights = download(preset)
    whole = DETECTORS["ssd"].Settings(**DETECTORS["ssd"].presets[preset]).model_dump()
    same = all(settings[name] == whole[name] for name in ("layout", "norm"))
    return weights if same else weights.backbone_only()


def download(preset: str) -> Weights:
    """The official checkpoint by its official URL, whose name holds its SHA-256; kept in torch's cache.

    Raises:
        FoodboxError: there is no network, or what came is not the file.
    """
    url = COCO[preset].url
    return convert(fetch(url), f"torchvision's {url.rsplit('/', 1)[-1]}")


def imagenet_mobilenet() -> Weights:
    """MobileNetV3-Large of torchvision, trained on ImageNet, with its whole tail.

    Raises:
        FoodboxError: there is no network, or what came is not the file.
    """
    url = MobileNet_V3_Large_Weights.IMAGENET1K_V1.url
    tensors = {f"backbone.body.{n.removeprefix('features.')}": t for n, t in fetch(url).items() if "features" in n}
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    settings = {"backbone": "mobilenet_v3_large", "batch_norm_eps": 1e-3, "mean": mean, "std": std}
    return Weights(tensors, f"torchvision's {url.rsplit('/', 1)[-1]}", settings=settings)


def fits(state: dict[str, Tensor]) -> bool:
    """Whether a checkpoint's names are those of one of torchvision's SSDs."""
    return any(name.startswith(HEAD) for name in state)


def convert(state: dict[str, Tensor], origin: str) -> Weights:
    """A torchvision SSD's tensors under our names, without unused categories; background stays the first row.

    Raises:
        FoodboxError: some are missing, or of another shape.
    """
    lite = any(name.startswith(f"{HEAD}0.0.") for name in state)
    places = (6,) * 6 if lite else (4, 6, 6, 6, 4, 4)
    first = state.get(f"{HEAD}0.1.bias" if lite else f"{HEAD}0.bias", torch.zeros(2 * places[0]))
    categories = len(first) // places[0]
    kind = "ssdlite320_mobilenet_v3_large" if lite else "ssd300_vgg16"
    make = ssdlite320_mobilenet_v3_large if lite else ssd300_vgg16
    with torch.device("meta"):
        expected = make(weights=None, weights_backbone=None, num_classes=categories).state_dict()
    checkpoint.compare(state, {name: t.shape for name, t in expected.items()}, f"torchvision's {kind}", origin)

    counters = {name: torch.tensor(0) for name in expected if name.endswith("num_batches_tracked")}  # never used
    tensors = {_rename(name, LITE_RENAMED if lite else VGG_RENAMED): t for name, t in (counters | state).items()}
    names: list[str] = []
    for i, count in enumerate(places):
        for part in ("weight", "bias"):
            name = f"class_heads.{i}.{'output.' if lite else ''}{part}"
            tensors[name], names = drop_unused(tensors[name], count, keep_background=True)
    return Weights(tensors, origin, names, "ssd", dict(DETECTORS["ssd"].presets["ssdlite320" if lite else "ssd300"]))


def _rename(name: str, renamed: list[tuple[str, Any]]) -> str:
    for theirs, ours in (("classification_head", "class_heads"), ("regression_head", "box_heads")):
        if theirs in name:
            return checkpoint.rename(name.replace(f"head.{theirs}", "HEAD"), renamed).replace("HEADS", ours)
    return checkpoint.rename(name, renamed)
