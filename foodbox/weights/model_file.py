"""Our one-file models: a .safetensors whose header says all that using it needs. Loading runs no code from the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from foodbox.detectors import DETECTORS
from foodbox.detectors.base import Detector
from foodbox.errors import FoodboxError
from foodbox.files import as_json, write_whole
from foodbox.weights.transfer import Weights

FORMAT_VERSION = "3"
"""2: group norm in groups of at least 8 channels. 3: beside an objectness classes have a map of their own."""


def save_model(path: Path, detector: Detector, run: dict[str, Any], *others: Path) -> None:
    """Writes the detector to `path`, whole or not at all.

    Args:
        run: what should be known of the run that it came from; plain values only.
        others: files that become the same.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in detector.state_dict().items()}
    content = save(tensors, header_of(detector, run))
    for file in (path, *others):
        write_whole(file, content)


def header_of(detector: Detector, run: dict[str, Any]) -> dict[str, str]:
    """What a file must say of a detector besides its tensors, and what is known of the run that it came from."""
    return {
        "format": "foodbox",
        "format_version": FORMAT_VERSION,
        "detector": next(name for name, cls in DETECTORS.items() if type(detector) is cls),
        "settings": detector.settings.model_dump_json(),
        "names": as_json(detector.names),
        "run": as_json(run),
    }


def read_model(path: Path) -> Weights:
    """What a model file holds.

    Raises:
        FoodboxError: the file is cut short, is no safetensors file, or is not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as fault:
        raise FoodboxError(
            f"{path} is not a whole model file ({fault}); it may have been cut short while it was copied. "
            "Copy it again, or train the model anew."
        ) from fault
    return understand(header, tensors, path)


def understand(header: dict[str, str], tensors: dict[str, Tensor], path: Path) -> Weights:
    """What a file's header says, with its tensors; an exported model has none (inference/exported.py).

    Raises:
        FoodboxError: the header is none of ours, or is damaged.
    """
    if header.get("format") != "foodbox":
        raise FoodboxError(
            f"{path} holds tensors but no foodbox model: its header names no detector. "
            "Give a file that foodbox train wrote, such as runs/NAME/best.safetensors."
        )
    if (version := header.get("format_version")) != FORMAT_VERSION:
        raise FoodboxError(
            f"{path} has format version {version}, and this foodbox reads version {FORMAT_VERSION}. "
            "Use the foodbox that wrote it, or train the model anew."
        )
    try:
        names, settings, run = (json.loads(header[part]) for part in ("names", "settings", "run"))
        return Weights(tensors, str(path), names, header["detector"], settings, run)
    except (KeyError, ValueError) as fault:
        raise FoodboxError(
            f"{path} has a damaged header ({type(fault).__name__}: {fault}). Copy it again, or train the model anew."
        ) from fault


def build(weights: Weights, empty: bool = False) -> Detector:
    """The detector that the weights were trained in, with all of them in it.

    Args:
        empty: leave the weights out, for an exported model, whose network runs elsewhere.

    Raises:
        FoodboxError: the weights name an unknown detector or setting, or do not fill it.
    """
    kind = DETECTORS.get(weights.detector)
    if kind is None:
        raise FoodboxError(
            f"{weights.origin} holds no whole detector"
            + (f" that this foodbox knows ({weights.detector!r})" if weights.detector else " but a backbone")
            + f": expected one of {', '.join(DETECTORS)}. Train with it (--weights), then use the model that comes out."
        )
    try:
        detector = kind(weights.names, kind.Settings.model_validate(weights.settings))
        if not empty:
            detector.load_state_dict(weights.tensors, strict=True)
    except (ValidationError, RuntimeError) as fault:
        first = str(fault).splitlines()[-1].strip()
        if isinstance(fault, ValidationError):
            wrong = fault.errors()[0]
            first = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
        raise FoodboxError(
            f"{weights.origin} does not fit the detector {weights.detector} that its header names ({first}). "
            "It was written by another version; train anew or use that version."
        ) from fault
    return detector.eval()
