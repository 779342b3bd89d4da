"""pjreddie's darknet (public domain): .weights files, with the .cfg and .names that lie beside them → our names."""

from __future__ import annotations

import re
import urllib.error
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foodbox.console import say
from foodbox.detectors.yolo import DARKNET, YOLO, YOLOSettings
from foodbox.errors import FoodboxError, first_line
from foodbox.layers.darknet import DARKNET_TINY
from foodbox.weights.torchvision import COCO_CLASSES
from foodbox.weights.transfer import Weights, not_downloaded

TITLES = {"yolov3": "YOLOv3", "yolov3_tiny": "YOLOv3-tiny"}
MISTAKEN = (10.0, 14.0, 23.0, 27.0, 37.0, 58.0, 81.0, 82.0, 135.0, 169.0, 344.0, 319.0)
"""The priors of darknet's own cfg/yolov3-tiny.cfg, with which its weights were not trained, by what they find."""

MOST_CLASSES = 10_000
"""More than YOLO9000 has. A tiny network of more would have as many values as a large one."""

# Values of darknet's other networks, counted from the files in its folder cfg. Darknet-53 as it was trained on ImageNet
# is the backbone, and with its classifier of 1000 classes; both are of use.
BACKBONE = {40_620_640: "darknet53.conv.74", 41_645_640: "darknet53"}
OTHERS = {
    63_052_381: "YOLOv3-SPP",
    50_983_561: "YOLOv2",
    50_676_061: "YOLOv2 for VOC",
    48_807_501: "YOLO9000",
    15_867_885: "YOLOv2-tiny for VOC",
    11_237_145: "YOLOv2-tiny",
    20_856_776: "Darknet-19",
    7_323_480: "Darknet reference",
    21_639_080: "ResNet-34",
    22_825_896: "ResNet-50",
    41_870_248: "ResNet-101",
    57_559_976: "ResNet-152",
    17_206_440: "DenseNet-201",
}

URL = "https://pjreddie.com/media/files/"
PUBLISHED = {"darknet53": ("yolov3.weights", 248_007_048), DARKNET_TINY: ("yolov3-tiny.weights", 35_434_956)}
"""By backbone: the official file and its bytes; its author publishes no hash."""


def download(backbone: str) -> Weights:
    """The official COCO weights by their official URL; kept in torch's cache.

    Raises:
        FoodboxError: there is no network, or what came is not the file.
    """
    name, size = PUBLISHED[backbone]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    try:
        if not path.is_file() or path.stat().st_size != size:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL + name, str(path))
        if (there := path.stat().st_size) != size:
            path.unlink()
            raise OSError(f"{there:,} bytes came instead of {size:,}")
    except (urllib.error.URLError, OSError, RuntimeError) as fault:
        raise not_downloaded(f"darknet's COCO weights from {URL}{name}", fault) from fault
    return read(path)


def of_timm(weights: Weights) -> Weights:
    """Timm's ImageNet Darknet-53, which was trained with torch's own slope of LeakyReLU instead of darknet's 0.1."""
    weights.settings["leaky_slope"] = 0.01
    return weights


def read(path: Path) -> Weights:
    """YOLOv3 or YOLOv3-tiny of any classes, or Darknet-53 alone.

    A .cfg of the file's name beside it says which network it is, and its priors; else the number of values says which.
    A .names beside it holds the classes.

    Raises:
        FoodboxError: the file is cut short, is another network's, or does not fit the .cfg or .names beside it.
    """
    values = _values(path)
    config, names = _beside(path, ".cfg"), _beside(path, ".names")
    if config is None and len(values) in BACKBONE:
        return _backbone(values, path)
    preset, classes, settings = _network_of(len(values), path) if config is None else _network_in(config)
    detector = _empty(preset, classes, settings)
    if config is not None:
        _check_convolutions(config, detector, preset)
    return Weights(
        _tensors(values, detector, TITLES[preset], path), str(path), _names(names, classes), "yolo", settings
    )


def _values(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What follows the header: major, minor and revision as int32, and the photos seen, int64 from version 0.2 on."""
    size = path.stat().st_size
    head = np.fromfile(path, "<i4", 3)
    if len(head) < 3 or size < 16 or not all(0 <= number < 1000 for number in head.tolist()):
        raise FoodboxError(
            f"{path} is not a whole .weights file of darknet: it does not begin with its version. Download it again."
        )
    start = 20 if 10 * head[0] + head[1] >= 2 else 16
    if (size - start) % 4:
        raise FoodboxError(
            f"{path} is not a whole .weights file: after its header it has {size - start:,} bytes, and each of its "
            "numbers has four. Download it again."
        )
    return np.fromfile(path, "<f4", offset=start)


def _beside(path: Path, ending: str) -> Path | None:
    """The file of the same name, as darknet saves it ("food_final.weights", "food_1000.weights" for food.cfg) too.

    Names are also taken from coco.names, or whatever the folder's only file of names is called.
    """
    stems = [path.stem, re.sub(r"_(final|last|best|\d+)$", "", path.stem)]
    for stem in stems:
        if (file := path.with_name(stem + ending)).is_file():
            return file
    lists = sorted(path.parent.glob("*.names")) if ending == ".names" else []
    return lists[0] if len(lists) == 1 else None


# -- Which network --------------------------------------------------------------------------------------------------


def _empty(preset: str, classes: int, settings: dict[str, Any] | None = None) -> YOLO:
    """The detector without memory for its weights: for names, shapes and order alone."""
    with torch.device("meta"):
        return YOLO([str(i) for i in range(classes)], YOLOSettings.model_validate(settings or YOLO.presets[preset]))


def _order(detector: nn.Module) -> list[str]:
    """The names of the tensors as darknet writes them: convolutions as they run, each behind its norm or bias."""
    layers = [(n, m) for n, m in detector.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    names = []
    for i, (name, layer) in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            norm = layers[i + 1][0] if layer.bias is None else ""
            parts = ("bias", "weight", "running_mean", "running_var")
            names += [f"{norm}.{part}" for part in parts] if norm else [f"{name}.bias"]
            names.append(f"{name}.weight")
    return names


def _network_of(count: int, path: Path) -> tuple[str, int, dict[str, Any]]:
    """Preset, classes and settings of the network that has so many values."""
    sizes = {}
    for preset in TITLES:
        one, two = (sum(t.numel() for t in _in_order(_empty(preset, classes)).values()) for classes in (1, 2))
        classes, rest = divmod(count - one, two - one)
        if rest == 0 and 0 <= classes < MOST_CLASSES:
            return preset, classes + 1, YOLO.presets[preset]
        sizes[preset] = one + (len(COCO_CLASSES) - 1) * (two - one)
    known = " and ".join(
        f"{TITLES[preset]} has {size:,} for {len(COCO_CLASSES)} classes" for preset, size in sizes.items()
    )
    raise FoodboxError(f"{path} holds {count:,} values, which fit neither network: {known}. {_guess(count, sizes)}")


def _guess(count: int, sizes: dict[str, int]) -> str:
    """What a file with a wrong number of values may be."""
    if count in OTHERS:
        return f"It looks like {OTHERS[count]}, which foodbox does not have; take a YOLOv3."
    larger = [preset for preset, size in sizes.items() if size > count]
    if not larger:
        return "It goes on behind both networks' last tensor: take a YOLOv3, or lay its .cfg beside it."
    preset = min(larger, key=lambda preset: sizes[preset])
    ends = list(accumulate(t.numel() for t in _in_order(_empty(preset, len(COCO_CLASSES))).values()))
    last = list(_in_order(_empty(preset, len(COCO_CLASSES))))[next(i for i, end in enumerate(ends) if end > count)]
    return f"If it is a {TITLES[preset]}, it is cut short in {last}: download it again, or lay its .cfg beside it."


def _in_order(detector: YOLO) -> dict[str, Tensor]:
    state = detector.state_dict()
    return {name: state[name] for name in _order(detector)}


def _network_in(config: Path) -> tuple[str, int, dict[str, Any]]:
    """Preset, classes and settings of the network that a .cfg describes."""
    parts = _sections(config)
    scales = [values for kind, values in parts if kind == "yolo"]
    preset = {3: "yolov3", 2: "yolov3_tiny"}.get(len(scales))
    if preset is None:
        raise FoodboxError(
            f"{config} describes another network: it has {len(scales)} [yolo] layers, YOLOv3 has 3 and YOLOv3-tiny 2."
        )
    if parts[0][0] not in ("net", "network"):
        raise FoodboxError(f"{config} does not begin with [net], as darknet's .cfg do: lay the network's beside it.")
    try:
        classes = {int(scale["classes"]) for scale in scales}
        priors: list[float] = []
        for scale in reversed(scales):
            sides = [float(v) for v in scale["anchors"].split(",")]
            for i in map(int, scale["mask"].split(",")):
                priors += sides[2 * i : 2 * i + 2]
        net = parts[0][1]
        size = max(int(net["width"]), int(net["height"]))
        settings = YOLO.presets[preset] | {
            "preprocessing": DARKNET.model_validate(DARKNET.model_dump() | {"size": size}),
            "priors": tuple(priors),
            "ignore_threshold": float(scales[0].get("ignore_thresh", 0.5)),
        }
        YOLOSettings.model_validate(settings)
        (count,) = classes
        if settings["priors"] == MISTAKEN:
            say(
                f"{config} gives the finer scale the priors 10,14 23,27 37,58. The published yolov3-tiny.weights find "
                "more with 23,27 37,58 81,82, which are taken where no .cfg is beside them."
            )
    except (KeyError, ValueError) as fault:
        raise FoodboxError(
            f"{config} cannot be used ({first_line(fault)}): expected width and height in [net], and classes, anchors "
            "and mask in each [yolo], the same number of them."
        ) from fault
    return preset, count, settings


def _sections(config: Path) -> list[tuple[str, dict[str, str]]]:
    """The layers of a .cfg, and their values by name."""
    parts: list[tuple[str, dict[str, str]]] = [("", {})]
    for line in config.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        words = line.split("#")[0].strip()
        if words.startswith("["):
            parts.append((words.strip("[]"), {}))
        elif "=" in words:
            name, value = words.split("=", 1)
            parts[-1][1][name.strip()] = value.strip()
    return parts[1:] or parts


def _check_convolutions(config: Path, detector: YOLO, preset: str) -> None:
    """Raises FoodboxError where a .cfg has other convolutions than our network."""
    wanted = [m for m in detector.modules() if isinstance(m, nn.Conv2d)]
    found = [values for kind, values in _sections(config) if kind == "convolutional"]
    if len(found) != len(wanted):
        raise FoodboxError(
            f"{config} describes another network: it has {len(found)} convolutions, {TITLES[preset]} has {len(wanted)}."
        )
    for i, (values, conv) in enumerate(zip(found, wanted, strict=True), start=1):
        theirs = [values.get(name, usual) for name, usual in (("filters", "1"), ("size", "1"), ("stride", "1"))]
        ours = [str(number) for number in (conv.out_channels, conv.kernel_size[0], conv.stride[0])]
        if theirs != ours:
            raise FoodboxError(
                f"{config} describes another network: its convolution {i} has filters, size and stride "
                f"{' '.join(theirs)}, {TITLES[preset]} has {' '.join(ours)}."
            )


# -- What it holds --------------------------------------------------------------------------------------------------


def _tensors(values: np.ndarray[Any, Any], detector: nn.Module, title: str, path: Path) -> dict[str, Tensor]:
    """The file's values, cut into the detector's tensors."""
    state = detector.state_dict()
    tensors: dict[str, Tensor] = {}
    place = 0
    for name in _order(detector):
        shape = state[name].shape
        if place + shape.numel() > len(values):
            raise FoodboxError(
                f"{path} is cut short, or another network's: it ends in {name}, of which it has "
                f"{len(values) - place:,} of {shape.numel():,} values; as {title} it should hold "
                f"{sum(state[n].numel() for n in _order(detector)):,} and not {len(values):,}. Download it again."
            )
        tensors[name] = torch.from_numpy(values[place : place + shape.numel()].copy()).view(shape)
        place += shape.numel()
    if place < len(values):
        looks = f"; it looks like {OTHERS[len(values)]}" if len(values) in OTHERS else ""
        raise FoodboxError(
            f"{path} is another network's than its .cfg says: {len(values) - place:,} values are left over behind "
            f"{list(tensors)[-1]}, the last tensor of {title}{looks}. Lay the right .cfg beside it."
        )
    tensors |= {n: torch.tensor(0) for n in state if n.endswith("num_batches_tracked")}
    return tensors


def _backbone(values: np.ndarray[Any, Any], path: Path) -> Weights:
    """Darknet-53 trained on ImageNet, without the classifier that may stand at its end."""
    backbone = nn.ModuleDict({"backbone": _empty("yolov3", 1).backbone})
    tensors = _tensors(values[: min(BACKBONE)], backbone, BACKBONE[len(values)], path)
    settings = {"backbone": "darknet53", "batch_norm_eps": 1e-6, "mean": DARKNET.mean, "std": DARKNET.std}
    return Weights(tensors, str(path), settings=settings)


def _names(file: Path | None, classes: int) -> list[str]:
    if file is None:
        return COCO_CLASSES if classes == len(COCO_CLASSES) else [str(i) for i in range(classes)]
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as fault:
        raise FoodboxError(f"{file} is no text in UTF-8, as names of classes should be: save it as such.") from fault
    if len(names) != classes:
        raise FoodboxError(
            f"{file} holds {len(names)} names, and the network has {classes} classes: lay the right file beside it."
        )
    return names
