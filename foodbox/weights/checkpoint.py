"""torch's checkpoints (.pth, .pt): opened without running code from them, and known by the names of their tensors."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foodbox.errors import FoodboxError, first_line

# Where training scripts put the tensors beside their optimiser.
WRAPPERS = ("model", "state_dict", "model_state_dict")

# How a tensor's name begins that each network has, and the network. The first one that is found counts.
NETWORKS = [
    (r"unet1\.|leach\.", "M2Det"),
    (r"head\.classification_head\.module_list\.0\.\d", "torchvision's ssdlite320_mobilenet_v3_large"),
    (r"head\.classification_head\.module_list\.", "torchvision's ssd300_vgg16"),
    (r"head\.classification_head\.(cls_logits|conv)\b", "torchvision's RetinaNet"),
    (r"head\.regression_head\.bbox_ctrness", "torchvision's FCOS"),
    (r"roi_heads\.keypoint", "torchvision's Keypoint R-CNN"),
    (r"roi_heads\.mask", "torchvision's Mask R-CNN"),
    (r"roi_heads\.", "torchvision's Faster R-CNN"),
    (r"transformer\.decoder\.", "DETR"),
    (r"(vgg|extras|loc|conf)\.0\.weight", "ssd.pytorch's SSD"),
    (r"31\.weight", "the reduced VGG-16 that SSDs start from"),
    (r"features\.\d+\.weight", "a VGG that sorts photos"),
    (r"features\.0\.0\.weight", "a MobileNet that sorts photos"),
    (r"layer1\.0\.conv1\.weight", "a ResNet that sorts photos"),
    (r"conv_stem\.weight", "a MobileNet or EfficientNet of timm's"),
]


RESNETS = {
    (False, (2, 2, 2, 2)): "resnet18", (False, (3, 4, 6, 3)): "resnet34", (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101", (True, (3, 8, 36, 3)): "resnet152",
}  # fmt: skip
"""Whether blocks are bottlenecks, and how many each stage has → timm's name (He et al. 2016, table 1)."""


def rename(name: str, patterns: list[tuple[str, Any]]) -> str:
    """A tensor's name by the first pattern that fits it whole; empty where none does.

    Args:
        patterns: of other people's names, each with ours: a template such as r"box.\1", or a function of the match.
    """
    for pattern, ours in patterns:
        if match := re.fullmatch(pattern, name):
            return str(ours(match) if callable(ours) else match.expand(ours))
    return ""


def load(path: Path) -> dict[str, Tensor]:
    """A checkpoint's tensors by name, also where it was saved beside an optimiser or from DataParallel ("module.").

    Raises:
        FoodboxError: the file is cut short, or holds program objects, or no tensors by name.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        raise FoodboxError(
            f"{path} is not a whole checkpoint of tensors alone. Download it again; files that hold program objects "
            "besides are not loaded, for safety: save the state_dict() of what is in it."
        ) from fault
    except Exception as fault:  # a damaged pickle raises anything: IndexError, AssertionError, struct.error ...
        raise FoodboxError(
            f"{path} is not a whole checkpoint of tensors ({first_line(fault)}). Download it again."
        ) from fault
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    tensors = state if isinstance(state, dict) else {}
    if not any(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise FoodboxError(f"{path} is no checkpoint of a network: expected tensors by name, and found none.")
    return {str(n).removeprefix("module."): t for n, t in tensors.items() if isinstance(t, Tensor)}


def looks_like(state: Mapping[str, Any]) -> str:
    """In words, the network that tensors of these names are of."""
    for pattern, network in NETWORKS:
        if any(re.match(pattern, name) for name in state):
            return network
    return "no network that foodbox knows"


def refuse(state: Mapping[str, Any], origin: str, expected: str) -> FoodboxError:
    """The sentence for another network's checkpoint."""
    some = ", ".join(list(state)[:3])
    return FoodboxError(f"{origin} looks like {looks_like(state)} (it holds {some} ...): expected {expected}.")


def resnet_of(tensors: Iterable[str], bottleneck: bool | None = None) -> str | None:
    """Timm's name of the ResNet whose blocks tensors of our names are of; None where there is none of such depth.

    Args:
        bottleneck: whether its blocks are, where that is known.
    """
    blocks = {match[0]: match for name in tensors if (match := re.match(r"backbone\.body\.layer([1-4])\.\d+\.", name))}
    depths = tuple(sum(match[1] == stage for match in blocks.values()) for stage in "1234")
    if bottleneck is None:
        bottleneck = any(name.endswith("layer1.0.conv3.weight") for name in tensors)
    return RESNETS.get((bottleneck, depths))


def compare(state: Mapping[str, Tensor], expected: Mapping[str, torch.Size], network: str, origin: str) -> None:
    """Raises FoodboxError where a checkpoint lacks tensors of a network, has others, or some of another shape.

    Args:
        expected: the shapes of the network's tensors, by the checkpoint's names; counters of batches may be missing.
        network: it, in words.
    """
    needed = {name: shape for name, shape in expected.items() if not name.endswith("num_batches_tracked")}
    faults = [f"{name} is missing" for name in needed if name not in state]
    faults += [
        f"{name} is {list(state[name].shape)} and should be {list(shape)}"
        for name, shape in needed.items()
        if name in state and state[name].shape != shape
    ]
    faults += [f"{name} is not of this network" for name in state if name not in expected]
    if faults:
        raise FoodboxError(
            f"{origin} looks like {network}, but {len(faults)} of its tensors do not fit ({'; '.join(faults[:3])}"
            f"{' ...' if len(faults) > 3 else ''}). It was cut short, or is of another version: download it again, or "
            "take another file."
        )
