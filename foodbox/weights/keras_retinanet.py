"""fizyr's keras-retinanet (Apache-2.0), ResNet backbones: .h5 weight files → our names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foodbox.detectors import DETECTORS
from foodbox.errors import FoodboxError
from foodbox.weights import checkpoint
from foodbox.weights.torchvision import COCO_CLASSES, batch_counters
from foodbox.weights.transfer import Weights

NEEDED = {"backbone.body.conv1.weight", "class_tower.output.weight", "class_tower.output.bias", "box_tower.output.bias"}
FIXED = {
    "conv1": "backbone.body.conv1",
    "bn_conv1": "backbone.body.bn1",
    "C3_reduced": "pyramid.lateral.0",
    "C4_reduced": "pyramid.lateral.1",
    "C5_reduced": "pyramid.lateral.2",
    "P3": "pyramid.output.0",
    "P4": "pyramid.output.1",
    "P5": "pyramid.output.2",
    "P6": "pyramid.p6",
    "P7": "pyramid.p7",
    "pyramid_classification": "class_tower.output",
    "pyramid_regression": "box_tower.output",
}
VALUES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
BRANCHES = {"2a": "1", "2b": "2", "2c": "3"}


def read(path: Path) -> Weights:
    """A keras-retinanet training model or its weights from an .h5 file (needs the h5py package).

    Raises:
        FoodboxError: h5py is missing, the file is cut short, or it is another network's.
    """
    try:
        import h5py
    except ImportError as fault:
        raise FoodboxError(f"Reading {path} needs the package h5py: pip install 'foodbox[keras]'.") from fault
    values: dict[str, np.ndarray[Any, Any]] = {}

    def collect(name: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset):
            values[name] = entry[()]

    try:
        with h5py.File(path) as file:
            file.get("model_weights", file).visititems(collect)
    except OSError as fault:
        raise FoodboxError(f"{path} is not a whole .h5 file ({fault}). Download it again.") from fault
    return convert(values, str(path))


def convert(values: dict[str, np.ndarray[Any, Any]], origin: str) -> Weights:
    """The arrays of a weight file, by their paths in it, under our names and in our order of dimensions.

    Raises:
        FoodboxError: they are not those of a RetinaNet on a ResNet.
    """
    tensors = {ours: _tensor(value, path) for path, value in values.items() if (ours := _rename(path))}
    backbone = checkpoint.resnet_of(tensors, bottleneck=True)
    if backbone is None or not tensors.keys() >= NEEDED:
        raise FoodboxError(
            f"{origin} is no keras-retinanet model on a ResNet (it holds {', '.join(list(values)[:3])} ...): expected "
            "one that keras-retinanet wrote with backbone resnet50, resnet101 or resnet152."
        )
    # Keras photos are blue green red; ours red green blue.
    tensors["backbone.body.conv1.weight"] = tensors["backbone.body.conv1.weight"].flip(1)
    tensors |= batch_counters(tensors)
    places = len(tensors["box_tower.output.bias"]) // 4
    classes = len(tensors["class_tower.output.bias"]) // places
    names = COCO_CLASSES if classes == len(COCO_CLASSES) else [str(i) for i in range(classes)]
    settings: dict[str, Any] = {"backbone": backbone} | DETECTORS["retinanet"].presets["keras"]
    return Weights(tensors, origin, names, "retinanet", settings)


def _rename(path: str) -> str:
    """res2a_branch2a/res2a_branch2a/kernel:0 → backbone.body.layer1.0.conv1.weight; "" for what is not ours."""
    *_, layer, value = ["", *path.split("/")]
    value = VALUES.get(value.split(":")[0], "")
    if not value:
        return ""
    if layer in FIXED:
        return f"{FIXED[layer]}.{value}"
    if tower := re.fullmatch(r"pyramid_(classification|regression)_(\d)", layer):
        return f"{'class' if tower[1] == 'classification' else 'box'}_tower.conv{tower[2]}.{value}"
    if not (block := re.fullmatch(r"(res|bn)([2-5])([a-z]\d*)_branch(1|2[abc])", layer)):
        return ""
    kind, stage, letter, branch = block.groups()
    index = int(letter[1:]) if len(letter) > 1 else ord(letter) - ord("a")  # a, b, c ... or, when deep, a, b1, b2 ...
    stem = f"backbone.body.layer{int(stage) - 1}.{index}"
    if branch == "1":
        return f"{stem}.downsample.{0 if kind == 'res' else 1}.{value}"
    return f"{stem}.{'conv' if kind == 'res' else 'bn'}{BRANCHES[branch]}.{value}"


def _tensor(value: np.ndarray[Any, Any], path: str) -> Tensor:
    """Keras orders a kernel height, width, in, out; torch out, in, height, width."""
    tensor = torch.from_numpy(np.ascontiguousarray(value)).float()
    return tensor.permute(3, 2, 0, 1).contiguous() if "kernel" in path.rsplit("/", 1)[-1] else tensor
