"""torchvision's COCO-trained RetinaNets (BSD-3-Clause code; weights under its terms) → our names."""

from __future__ import annotations

import re
import urllib.error
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet_ResNet50_FPN_V2_Weights, RetinaNet_ResNet50_FPN_Weights

from foodbox.detectors import DETECTORS
from foodbox.errors import FoodboxError, first_line
from foodbox.weights import checkpoint
from foodbox.weights.transfer import Weights, not_downloaded

COCO = {
    "torchvision": RetinaNet_ResNet50_FPN_Weights.COCO_V1,
    "torchvision_v2": RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1,
}
CATEGORIES: list[str] = RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
"""COCO's 91 category numbers: "__background__", 80 classes, and "N/A" where a number was never used."""
COCO_CLASSES = [name for name in CATEGORIES if name not in ("__background__", "N/A")]

TRAINED_NORMS = {"batch_norm_eps": 1e-5}
"""Of first models whose batch norms are not the published ones, which have no epsilon."""
PYRAMID_CHANNELS = 256
"""The width of torchvision's pyramids; a detector of another width can only use their backbones."""

NEEDED = {
    f"head.{head}.{part}"
    for head in ("classification_head.cls_logits", "regression_head.bbox_reg")
    for part in ("weight", "bias")
}

RENAMED = [
    (r"backbone\.body\.(.*)", r"backbone.body.\1"),
    (r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?\.(\w+)", r"pyramid.lateral.\1.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?\.(\w+)", r"pyramid.output.\1.\2"),
    (r"backbone\.fpn\.extra_blocks\.(p\d)\.(\w+)", r"pyramid.\1.\2"),
    (r"head\.classification_head\.conv\.(\d)\.0\.(\w+)", r"class_tower.conv\1.\2"),
    (r"head\.classification_head\.conv\.(\d)\.1\.(\w+)", r"class_tower.norm\1.\2"),
    (r"head\.classification_head\.cls_logits\.(\w+)", r"class_tower.output.\1"),
    (r"head\.regression_head\.conv\.(\d)\.0\.(\w+)", r"box_tower.conv\1.\2"),
    (r"head\.regression_head\.conv\.(\d)\.1\.(\w+)", r"box_tower.norm\1.\2"),
    (r"head\.regression_head\.bbox_reg\.(\w+)", r"box_tower.output.\1"),
]
# The published first model was saved when a tower was a plain sequence: convolutions at 0, 2, 4 and 6, ReLUs between.
OLD_TOWER = re.compile(r"(head\.\w+\.conv)\.(\d)\.(weight|bias)")


def download(preset: Literal["torchvision", "torchvision_v2"]) -> Weights:
    """The official checkpoint by its official URL, whose name holds its SHA-256; kept in torch's cache.

    Raises:
        FoodboxError: there is no network, or what came is not the file.
    """
    url = COCO[preset].url
    return convert(fetch(url), f"torchvision's {url.rsplit('/', 1)[-1]}")


def fetch(url: str) -> dict[str, Tensor]:
    """The tensors behind one of torchvision's official URLs.

    Raises:
        FoodboxError: there is no network, or what came is not the file.
    """
    kept = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    was_there = kept.exists()
    try:
        state: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True
        )
    except Exception as fault:  # a damaged pickle raises anything, see checkpoint.load
        if was_there:
            raise FoodboxError(
                f"{kept}, which was downloaded before, is not a whole file of weights ({first_line(fault)}). "
                "Delete it, so that it is downloaded again."
            ) from fault
        if not isinstance(fault, urllib.error.URLError | OSError | RuntimeError):
            raise
        raise not_downloaded(f"torchvision's weights from {url}", fault) from fault
    return state


def fits(state: dict[str, Tensor]) -> bool:
    """Whether a checkpoint's names are those of one of torchvision's RetinaNets."""
    return state.keys() >= NEEDED


def convert(state: dict[str, Tensor], origin: str) -> Weights:
    """A torchvision RetinaNet's tensors under our names, without background and unused categories.

    The published first model has batch norms without an epsilon; one that somebody trained with batch norms of its own
    has the usual one, and is known by their counters.

    Raises:
        FoodboxError: some are missing, or of another shape.
    """
    if "head.classification_head.conv.6.weight" in state:
        state = {OLD_TOWER.sub(lambda m: f"{m[1]}.{int(m[2]) // 2}.0.{m[3]}", k): v for k, v in state.items()}
    tensors = {ours: tensor for name, tensor in state.items() if (ours := checkpoint.rename(name, RENAMED))}
    preset = "torchvision_v2" if "class_tower.norm0.weight" in tensors else "torchvision"

    places = len(tensors["box_tower.output.weight"]) // 4
    names: list[str] = []
    for name in ("class_tower.output.weight", "class_tower.output.bias"):
        tensors[name], names = drop_unused(tensors[name], places)
    trained = "backbone.body.bn1.num_batches_tracked" in tensors
    tensors |= batch_counters(tensors)
    backbone = checkpoint.resnet_of(tensors) or "resnet50"
    settings = DETECTORS["retinanet"].presets[preset] | {"backbone": backbone} | (TRAINED_NORMS if trained else {})
    kind = DETECTORS["retinanet"]
    with torch.device("meta"):
        whole = kind(names, kind.Settings.model_validate(settings)).state_dict()
    shapes = {name: tensor.shape for name, tensor in whole.items()}
    checkpoint.compare(tensors, shapes, f"torchvision's RetinaNet on {backbone}", origin)
    return Weights(tensors, origin, names, "retinanet", settings)


def drop_unused(rows: Tensor, places: int, keep_background: bool = False) -> tuple[Tensor, list[str]]:
    """A tensor [places x categories, ...] without COCO's unused categories, and the names of the classes.

    Args:
        keep_background: leave its row before the classes'; it is no name in any case.
    """
    categories = len(rows) // places
    known = CATEGORIES if categories == len(CATEGORIES) else ["__background__", *map(str, range(1, categories))]
    names = [name for name in known if name not in ("__background__", "N/A")]
    kept = [i for i, name in enumerate(known) if name in names or (keep_background and i == 0)]
    rows = rows.view(places, categories, *rows.shape[1:])[:, kept]
    return rows.reshape(-1, *rows.shape[2:]), names


def batch_counters(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Frozen batch norms are saved without the counter that ours have; it is never used."""
    ends = "running_mean"
    return {n.removesuffix(ends) + "num_batches_tracked": torch.tensor(0) for n in tensors if n.endswith(ends)}
