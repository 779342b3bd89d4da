"""Weights in our own names, and putting them into a detector, whatever classes it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from foodbox.detectors.base import BACKBONE, Detector
from foodbox.errors import FoodboxError, first_line
from foodbox.records import Preprocessing


@dataclass
class Weights:
    """Tensors under our names, and what is known of the network that they were trained in.

    Attributes:
        tensors: name → tensor, as in a detector's `state_dict`; a backbone alone has `backbone.body.*` only.
        origin: where they come from, in words that complete "weights of ...".
        names: the classes they were trained for; empty for a backbone.
        detector: the detector they belong to; empty for a backbone.
        settings: the settings that they only work with, by name.
        run: what is known of the training run; only our own model files have it.
    """

    tensors: dict[str, Tensor]
    origin: str
    names: list[str] = field(default_factory=list)
    detector: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)

    def backbone_only(self) -> Weights:
        """The backbone's tensors, with the settings that these need."""
        of_backbone = ("backbone", "batch_norm_eps", "keras_layout")
        settings = {name: self.settings[name] for name in of_backbone if name in self.settings}
        if "preprocessing" in self.settings:
            prepared = Preprocessing.model_validate(self.settings["preprocessing"])
            settings |= {"mean": prepared.mean, "std": prepared.std}
        tensors = {name: tensor for name, tensor in self.tensors.items() if name.startswith(BACKBONE)}
        return Weights(tensors, f"the backbone of {self.origin}", settings=settings)


@dataclass
class Transfer:
    """What `put` did: which tensors came over, which start anew, and which classes were carried over by name."""

    kept: list[str]
    fresh: list[str]
    classes: list[str]

    def __str__(self) -> str:
        words = f"{len(self.kept)} of {len(self.kept) + len(self.fresh)} tensors kept"
        if self.classes:
            words += f"; classes kept: {', '.join(self.classes)}"
        if self.fresh:
            words += f"; randomly initialised: {', '.join(sorted({_part(name) for name in self.fresh}))}"
        return words


def _part(name: str) -> str:
    """The part of the network that a tensor belongs to: its first name, and the last layer where only that is new."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if rest and rest[0] == "output" and "tower" in first else first


@torch.no_grad()
def put(weights: Weights, detector: Detector) -> Transfer:
    """Copies into the detector all tensors that fit by name and shape, and the rows of the classes that it shares.

    A tensor with an entry for each class is taken over class by class, by the classes' names, so that the same classes
    in another order and a part of them both keep what they know.
    """
    state = detector.state_dict()
    result = Transfer([], [], [])
    for name, mine in state.items():
        theirs = weights.tensors.get(name)
        if name.endswith("num_batches_tracked"):
            continue
        if theirs is None:
            result.fresh.append(name)
        elif name in detector.class_rows and weights.names != detector.names:
            places, before = detector.class_rows[name]
            shared = _put_classes(mine, theirs, places, before, detector.names, weights.names)
            result.classes = shared
            (result.kept if len(shared) == len(detector.names) else result.fresh).append(name)
        elif theirs.shape == mine.shape:
            mine.copy_(theirs)
            result.kept.append(name)
        else:
            result.fresh.append(name)
    return result


def _put_classes(
    mine: Tensor, theirs: Tensor, places: int, before: int, names: list[str], their_names: list[str]
) -> list[str]:
    """Copies the entries of the classes that both have (and those before the classes); returns their names."""
    if theirs.shape[1:] != mine.shape[1:] or len(theirs) != places * (before + len(their_names)):
        return []
    to = mine.view(places, before + len(names), *mine.shape[1:])
    given = theirs.reshape(places, before + len(their_names), *mine.shape[1:])
    to[:, :before] = given[:, :before]
    shared = [name for name in names if name in their_names]
    for name in shared:
        to[:, before + names.index(name)] = given[:, before + their_names.index(name)]
    return shared


def not_downloaded(what: str, fault: BaseException) -> FoodboxError:
    """The fault of weights that did not come, with the two ways on."""
    return FoodboxError(
        f"Could not download {what} ({first_line(fault)}). Go on without a network with the embedded weights of the "
        "default preset (--preset light --weights coco), or with a file of your own (--weights FILE)."
    )
