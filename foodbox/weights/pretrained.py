"""Starting weights by the person's choice: coco, imagenet, none, or a file."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError
from safetensors.torch import load_file

from foodbox.errors import FoodboxError, UsageError, first_line
from foodbox.layers.backbones import check_backbone
from foodbox.layers.reduced_mobilenet import REDUCED_MOBILENET_V3
from foodbox.layers.trunks import MOBILENET_V3
from foodbox.weights import (
    checkpoint,
    darknet,
    keras_retinanet,
    m2det,
    mobilenetv3,
    model_file,
    timm_backbone,
    torchvision,
    torchvision_rcnn,
    torchvision_ssd,
    vgg,
)
from foodbox.weights.transfer import Weights, not_downloaded

CHOICES = ("coco", "imagenet", "none")
CHECKPOINTS = (torchvision, torchvision_rcnn, torchvision_ssd, m2det, vgg)
"""Whose checkpoints are read: each says by the names whether one is its own (`fits`), and renames it (`convert`)."""
TWO_STAGES = ("fast_rcnn", "faster_rcnn", "mask_rcnn")
COCO_BACKBONES = ("mobilenetv2_100", mobilenetv3.LARGE, REDUCED_MOBILENET_V3, "resnet50")
"""What has COCO weights in every detector."""
MORE_COCO_BACKBONES = dict.fromkeys(TWO_STAGES, (MOBILENET_V3,)) | {
    "ssd": (MOBILENET_V3, "vgg16"),
    "yolo": tuple(darknet.PUBLISHED),
}
OWN_LAYOUTS = (("ssd", "vgg16"), ("m2det", "vgg16"), ("yolo", "darknet53"))
"""Detectors whose network is not quite timm's of this name, so that a file of timm's does not fit."""


def read_checkpoint(path: Path, backbone: str = "") -> Weights:
    """A .pth or .pt file of a network that we have, or of timm's network `backbone` alone.

    Raises:
        FoodboxError: the file is cut short, or is another network's.
    """
    state = checkpoint.load(path)
    for importer in CHECKPOINTS:
        if importer.fits(state):
            weights: Weights = importer.convert(state, str(path))
            return weights
    if backbone and timm_backbone.fits(state, backbone):
        return timm_backbone.convert(state, backbone, str(path))
    known = "torchvision's RetinaNet, Faster or Mask R-CNN, SSD300 or SSDLite320, of M2Det, or the reduced VGG-16"
    known += f", or of timm's {backbone}, the --backbone that is asked for" if backbone else ""
    raise checkpoint.refuse(state, str(path), f"a checkpoint of {known}")


READERS = {
    ".safetensors": model_file.read_model,
    ".pth": read_checkpoint,
    ".pt": read_checkpoint,
    ".h5": keras_retinanet.read,
    ".hdf5": keras_retinanet.read,
    ".weights": darknet.read,
}
EMBEDDED = Path(__file__).with_name("mobilenetv2_coco.safetensors")


def find(choice: str, settings: dict[str, Any], detector: str = "retinanet") -> Weights | None:
    """The weights to start from.

    Args:
        choice: "coco", "imagenet", "none", or the path of a file.
        settings: the detector's, as the person wants them; they decide whose COCO weights fit.
        detector: its name.

    Returns:
        None for "none".

    Raises:
        UsageError: no such choice or file, or nobody published COCO weights that fit.
        FoodboxError: the file is broken, or the network is needed and not there.
    """
    if choice == "none":
        return None
    backbone = settings["backbone"]
    if detector == "ssd" and (theirs := torchvision_ssd.find(choice, settings)) is not None:
        return theirs
    if detector in TWO_STAGES and (theirs := torchvision_rcnn.find(choice, settings, detector)) is not None:
        return theirs
    if choice == "coco" and detector == "yolo" and backbone in darknet.PUBLISHED:
        return darknet.download(backbone)
    if choice == "imagenet" and detector == "yolo" and backbone == "darknet53":
        return darknet.of_timm(imagenet(backbone))
    if choice == "coco" and detector == "m2det" and backbone in ("vgg16", "resnet101", "resnet152"):
        raise m2det.not_for_download(backbone)
    if choice in ("imagenet", "coco"):
        check_backbone(backbone)
    if choice == "imagenet":
        return imagenet(backbone, reduced=backbone == "vgg16" and detector in ("ssd", "m2det"))
    if choice == "coco":
        if backbone == "mobilenetv2_100":
            return embedded()
        if backbone == "resnet50":
            if detector != "retinanet" or settings["pyramid_channels"] != torchvision.PYRAMID_CHANNELS:
                return torchvision.download("torchvision").backbone_only()
            return torchvision.download("torchvision_v2" if settings["tower_norm"] == "group" else "torchvision")
        if backbone in (mobilenetv3.LARGE, REDUCED_MOBILENET_V3):
            return mobilenetv3.download(settings)
        *known, last = sorted({*COCO_BACKBONES, *MORE_COCO_BACKBONES.get(detector, ())})
        raise UsageError(
            f"There are no COCO weights for the backbone {backbone!r}, only for {', '.join(known)} and {last}; "
            "start from ImageNet (--weights imagenet), from a file (--weights FILE) or from nothing (--weights none)."
        )
    of_timm = timm.is_model(backbone) and (detector, backbone) not in OWN_LAYOUTS
    weights = read(Path(choice), backbone if of_timm else "")
    return mobilenetv3.convert(weights, settings) if mobilenetv3.fits(weights, settings, detector) else weights


def read(path: Path, backbone: str = "") -> Weights:
    """Any weight file that foodbox knows: its own models, and those of other programs in READERS.

    Args:
        path: the file, or a run folder for its best model.
        backbone: timm's name of a network; a .pth may then hold that alone.

    Raises:
        UsageError: there is no such file, or its ending is none of these.
        FoodboxError: the file is broken or another network's.
    """
    path = file_at(path)
    if not path.is_file():
        raise UsageError(
            f"There is no weight file {path}: expected the path of a {', '.join(READERS)} file, for detecting also of "
            f"an exported model's .xml or .onnx, or for training one of {', '.join(CHOICES)}."
        )
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        exported = path.with_suffix(".xml")
        name = exported if exported != path and exported.is_file() else "an exported model's .xml or .onnx"
        raise UsageError(
            f"{path} does not end in any of {', '.join(READERS)}: give a model file of one of these kinds, or for "
            f"detecting {name}."
        )
    return read_checkpoint(path, backbone) if reader is read_checkpoint else reader(path)


def file_at(path: Path) -> Path:
    """The weight file that a path means: of a run folder, its best model."""
    best = path / "best.safetensors"
    return best if best.is_file() else path


def embedded() -> Weights:
    """The MobileNetV2 of TensorFlow's ssd_mobilenet_v2_coco_2018_03_29, which the package carries (see NOTICE).

    It was trained with red green blue pixels scaled to -1 ... 1 and batch norm with epsilon 1e-3.
    """
    tensors = {f"backbone.body.{name}": t.float() for name, t in load_file(EMBEDDED).items()}
    half = (0.5, 0.5, 0.5)
    settings: dict[str, Any] = {"backbone": "mobilenetv2_100", "batch_norm_eps": 1e-3, "mean": half, "std": half}
    return Weights(tensors, "the embedded COCO backbone (MobileNetV2)", settings=settings)


def imagenet(backbone: str, reduced: bool = False) -> Weights:
    """Timm's ImageNet weights of a backbone, downloaded from its hub once and kept in its cache.

    Args:
        reduced: VGG-16 as SSD and M2Det have it, with fc6 and fc7 thinned out.

    Raises:
        FoodboxError: there is no network and no copy in the cache, or timm has no weights for this backbone.
    """
    try:
        config = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    except RuntimeError:  # a tag behind the name's point that does not exist
        config = None
    if config is None or not config.has_weights:
        raise UsageError(f"timm has no ImageNet weights for the backbone {backbone!r}; take --weights none or a file.")
    origin = f"timm's ImageNet {backbone}"
    try:
        _reachable(config.hf_hub_id)
        body = timm.create_model(backbone, features_only=not reduced, pretrained=True)
    except SafetensorError as fault:
        raise FoodboxError(
            f"{origin} was downloaded before, and is not whole any more ({first_line(fault)}). Delete "
            f"{config.hf_hub_id} in Hugging Face's cache (HF_HOME, or ~/.cache/huggingface), so that it comes again."
        ) from fault
    except (OSError, RuntimeError, ValueError) as fault:
        raise not_downloaded(origin, fault) from fault
    if reduced:
        return vgg.reduce(body.state_dict(), origin, config.mean, config.std)
    tensors = {f"backbone.body.{name}": tensor for name, tensor in body.state_dict().items()}
    return Weights(tensors, origin, settings=timm_backbone.needs(backbone, body))


def _reachable(hub_id: str | None) -> None:
    """Fails at once where the hub cannot be reached: its client would try again for three quarters of a minute.

    Raises:
        urllib.error.URLError: (an OSError) no network, and the cache holds no copy.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if hub_id is None or any(
        isinstance(try_to_load_from_cache(hub_id, file), str) for file in ("model.safetensors", "pytorch_model.bin")
    ):
        return
    with contextlib.suppress(urllib.error.HTTPError):  # an answer all the same
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=10).close()
