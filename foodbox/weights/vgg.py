"""VGG-16 as SSD and M2Det start from it: the reduced file that their repositories share, or ImageNet's → our names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from foodbox.layers.vgg import VGG16
from foodbox.weights import checkpoint
from foodbox.weights.transfer import Weights

NETWORK = "the reduced VGG-16 that SSDs start from"

# Places in the sequence that ssd.pytorch's vgg() makes: convolutions, ReLUs and poolings are counted.
REDUCED = {
    0: "conv1_1", 2: "conv1_2", 5: "conv2_1", 7: "conv2_2", 10: "conv3_1", 12: "conv3_2", 14: "conv3_3",
    17: "conv4_1", 19: "conv4_2", 21: "conv4_3", 24: "conv5_1", 26: "conv5_2", 28: "conv5_3", 31: "fc6", 33: "fc7",
}  # fmt: skip
# Caffe's pixels, red green blue, as ssd.pytorch feeds them to these weights: the mean taken off, no spread.
CAFFE = {"mean": (123 / 255, 117 / 255, 104 / 255), "std": (1 / 255, 1 / 255, 1 / 255)}


def fits(state: dict[str, Tensor]) -> bool:
    """Whether a checkpoint's names are those of the reduced VGG-16."""
    return any(f"{place}.weight" in state for place in REDUCED) and all(name.split(".")[0].isdigit() for name in state)


def convert(state: dict[str, Tensor], origin: str) -> Weights:
    """The reduced VGG-16's tensors under our names.

    Raises:
        FoodboxError: some are missing, or of another shape.
    """
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in VGG16().state_dict().items()}
    theirs = {f"{name}.{part}": f"{place}.{part}" for place, name in REDUCED.items() for part in ("weight", "bias")}
    checkpoint.compare(state, {theirs[name]: shape for name, shape in shapes.items()}, NETWORK, origin)
    tensors = {f"backbone.{name}": state[other] for name, other in theirs.items()}
    return Weights(tensors, origin, settings={"backbone": "vgg16"} | CAFFE)


def reduce(state: dict[str, Tensor], origin: str, mean: tuple[float, ...], std: tuple[float, ...]) -> Weights:
    """Timm's VGG-16 with its classifier, trained on ImageNet, under our names.

    fc6 and fc7 are thinned out as SSD section 3 says ("subsample parameters from fc6 and fc7"): every fourth channel,
    and every third place of fc6's 7 x 7.
    """
    tensors: dict[str, Tensor] = {}
    for place, name in REDUCED.items():
        if name.startswith("conv"):
            tensors |= {f"{name}.{part}": state[f"features.{place}.{part}"] for part in ("weight", "bias")}
    tensors["fc6.weight"] = state["pre_logits.fc1.weight"][::4, :, ::3, ::3]  # [4096, 512, 7, 7] → [1024, 512, 3, 3]
    tensors["fc7.weight"] = state["pre_logits.fc2.weight"][::4, ::4]  # [4096, 4096, 1, 1] → [1024, 1024, 1, 1]
    tensors |= {"fc6.bias": state["pre_logits.fc1.bias"][::4], "fc7.bias": state["pre_logits.fc2.bias"][::4]}
    settings: dict[str, Any] = {"backbone": "vgg16", "mean": mean, "std": std}
    return Weights({f"backbone.{name}": tensor.clone() for name, tensor in tensors.items()}, origin, settings=settings)
