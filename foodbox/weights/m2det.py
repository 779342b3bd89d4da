"""M2Det's checkpoints as its authors' code saves them (qijiezhao/M2Det, MIT): .pth files → our names.

The authors published one, m2det512_vgg.pth, on Google Drive and Baidu; their README has the links.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from foodbox.detectors.m2det import M2Det, M2DetSettings, released
from foodbox.errors import FoodboxError, UsageError
from foodbox.weights import checkpoint
from foodbox.weights.torchvision import COCO_CLASSES
from foodbox.weights.transfer import Weights
from foodbox.weights.vgg import REDUCED

NETWORK = "M2Det"
EXPECTED = "M2Det as its authors' code saves it, with VGG-16, resnet50, resnet101 or resnet152"
DEPTHS = {6: "resnet50", 23: "resnet101", 36: "resnet152"}
"""By the blocks of the third stage."""
WIDTHS = {512: "C3", 1024: "C4", 2048: "C5"}
PLACES = 6
"""Default boxes a place."""
# Sides of the default boxes, as shares of the input's, in the released configurations.
SIZES = {
    320: (0.08, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
    512: (0.06, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
    704: (0.04, 0.11, 0.23, 0.39, 0.58, 0.80, 1.05),
    800: (0.04, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
}
PUBLISHED = 512
README = "https://github.com/qijiezhao/M2Det"
VOC = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]  # fmt: skip

VGG_PLACES = {name: place for place, name in REDUCED.items()}

# Ours → theirs. Of the copies of a shared layer, the one that their code would load last counts.
RENAMED = [
    (r"mlfpn\.shallow\.(.*)", r"reduce.\1"),
    (r"mlfpn\.deep\.(.*)", r"up_reduce.\1"),
    (r"mlfpn\.finest_norm\.(.*)", r"Norm.\1"),
    (r"mlfpn\.thin\.0\.(.*)", r"leach.{tums}.\1"),
    (r"mlfpn\.attention\.0\.(fc\d)\.(.*)", r"sfam_module.\1.{scales}.\2"),
    (r"mlfpn\.tums\.(\d+)\.encoder\.(.*)", r"unet\1.layers.\2"),
    (r"mlfpn\.tums\.(\d+)\.decoder\.(.*)", r"unet\1.latlayer.\2"),
    (r"mlfpn\.tums\.(\d+)\.top\.(.*)", r"unet\1.toplayer.0.\2"),
    (r"mlfpn\.tums\.(\d+)\.smooth\.(.*)", r"unet\1.smooth.\2"),
    (r"class_heads\.(.*)", r"conf.\1"),
    (r"box_heads\.(.*)", r"loc.\1"),
    (r"backbone\.(.*)", r"base.\1"),
]


def fits(state: dict[str, Tensor]) -> bool:
    """Whether tensors of these names are an M2Det's, whole or not."""
    return any(re.match(r"unet\d+\.|leach\.", name) for name in state)


def convert(state: dict[str, Tensor], origin: str) -> Weights:
    """The tensors of a checkpoint under our names, without background, for red green blue instead of blue green red.

    The network's form is seen from its tensors. Its input's size cannot be seen: it is taken from the file's name
    (320, 512, 704 or 800), and is 512, as of the one that was published, where that names none.

    Raises:
        FoodboxError: they are not those of a whole M2Det.
    """
    if not fits(state):
        raise checkpoint.refuse(state, origin, EXPECTED)
    try:
        settings = _settings(state, Path(origin).stem)
    except ValidationError as fault:
        wrong = fault.errors()[0]
        raise FoodboxError(
            f"{origin} looks like {NETWORK}, but its {wrong['loc'][0]} are {wrong['input']}, which cannot be built "
            f"({wrong['msg']}): take another file."
        ) from fault
    names = _names(_side(state, "conf.0.bias", 0, 81 * PLACES) // PLACES - 1)
    with torch.device("meta"):
        shapes = {name: mine.shape for name, mine in M2Det(names, settings).state_dict().items()}
    # Their ResNets keep ImageNet's classifier, which nothing asks.
    state = {name: tensor for name, tensor in state.items() if not name.startswith("base.fc.")}
    theirs = {name: _theirs(name, settings) for name in shapes}
    expected = {theirs[name]: shape for name, shape in shapes.items()}
    for name in list(expected):  # the other copies of what they share
        if copy := re.match(r"(leach\.|sfam_module\.fc\d\.)(\d+)(\..*)", name):
            expected |= {f"{copy[1]}{i}{copy[3]}": expected[name] for i in range(int(copy[2]))}
    checkpoint.compare(state, expected, NETWORK, origin)
    tensors = {name: state.get(other, torch.tensor(0)) for name, other in theirs.items()}
    first = next(name for name in tensors if name.startswith("backbone.") and name.endswith("weight"))
    tensors[first] = tensors[first].flip(1)
    return Weights(tensors, origin, names, "m2det", settings.model_dump())


def not_for_download(backbone: str) -> UsageError:
    """The sentence for somebody who wants COCO weights of an M2Det of paper size."""
    none = "" if backbone == "vgg16" else f", and none with {backbone}"
    return UsageError(
        f"M2Det's authors published COCO weights of m2det512_vgg alone{none}, on drives that no program can count on: "
        f"fetch m2det512_vgg.pth by the links of {README} (--weights m2det512_vgg.pth), start from ImageNet (--weights "
        "imagenet), or take the default preset with its embedded weights (--preset light)."
    )


def _settings(state: dict[str, Tensor], stem: str) -> M2DetSettings:
    """The settings that give a network of such tensors; the released ones where those that show them are missing."""
    size = next((int(s) for s in re.findall(r"\d+", stem) if int(s) in SIZES), PUBLISHED)
    changes: dict[str, Any] = {
        "preprocessing": released(size),
        "anchor_sizes": SIZES[size],
        "variant": "released_sfam" if any(n.startswith("sfam_module.") for n in state) else "released",
        "base_channels": (_side(state, "reduce.conv.weight", 0, 256), _side(state, "up_reduce.conv.weight", 0, 512)),
        "planes": _side(state, "unet1.layers.0.conv.weight", 0, 256),
        "tums": max((int(match[1]) for n in state if (match := re.match(r"unet(\d+)\.", n))), default=8),
    }
    blocks = [int(match[1]) for n in state if (match := re.match(r"base\.layer3\.(\d+)\.", n))]
    if any(n.startswith("base.layer") for n in state):
        shallow, deep = (_side(state, f"{part}.conv.weight", 1, 0) for part in ("reduce", "up_reduce"))
        changes |= {"backbone": DEPTHS.get(1 + max(blocks, default=0), "resnet101"), "fine_c4": True}
        if (maps := f"{WIDTHS.get(shallow)}+{WIDTHS.get(deep)}") in ("C3+C4", "C3+C5", "C4+C5"):
            changes["base_maps"] = maps
    return M2DetSettings(**changes)


def _side(state: dict[str, Tensor], name: str, dimension: int, otherwise: int) -> int:
    """How long a tensor is; `otherwise` where it is missing."""
    shape = state[name].shape if name in state else ()
    return shape[dimension] if len(shape) > dimension else otherwise


def _names(classes: int) -> list[str]:
    """Without background, by their number: COCO's and VOC's are known, others are numbered."""
    known = {80: COCO_CLASSES, 20: VOC}
    return known.get(classes) or [str(i) for i in range(1, classes + 1)]


def _theirs(name: str, settings: M2DetSettings) -> str:
    """Our name of a tensor → theirs."""
    if vgg := re.fullmatch(r"backbone\.((?:conv|fc)[\d_]+)\.(\w+)", name):
        return f"base.{VGG_PLACES[vgg[1]]}.{vgg[2]}"
    name = name.replace("backbone.body.", "backbone.")
    for pattern, theirs in RENAMED:
        if match := re.fullmatch(pattern, name):
            other = match.expand(theirs).format(tums=settings.tums - 1, scales=settings.scales - 1)
            other = re.sub(r"^unet(\d+)", lambda m: f"unet{int(m[1]) + 1}", other)
            return other if other.startswith("base.") else other.replace(".norm.", ".bn.")
    raise AssertionError(name)
