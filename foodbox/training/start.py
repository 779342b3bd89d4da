"""What a run starts from: the weights that the person names, and the settings that come with them."""

from __future__ import annotations

from typing import Any

from foodbox import configure
from foodbox.config import TrainSettings
from foodbox.console import say
from foodbox.detectors.base import Detector, DetectorSettings
from foodbox.errors import UsageError
from foodbox.weights import pretrained
from foodbox.weights.transfer import Weights, put


def find_weights(settings: DetectorSettings, chosen: TrainSettings) -> Weights | None:
    """What the person starts from; None for nothing.

    Raises:
        UsageError: the weights are another detector's.
        FoodboxError: they cannot be had.
    """
    weights = pretrained.find(chosen.weights, settings.model_dump(), chosen.detector)
    if weights and weights.detector and weights.detector != chosen.detector:
        raise UsageError(
            f"{weights.origin} is a {weights.detector}, and {chosen.detector} was asked for: "
            f"take --detector {weights.detector}."
        )
    return weights


def settle(
    kind: type[Detector], preset: DetectorSettings, changes: dict[str, Any], weights: Weights | None
) -> DetectorSettings:
    """The settings of what is trained: the person's go before the weights', these before the preset's.

    Args:
        changes: what the person chose.

    Raises:
        UsageError: the weights have another backbone than the person asked for.
    """
    if weights is None:
        return configure.apply(preset, {"frozen_stages": 0} | changes)  # frozen random numbers teach little
    dictated = weights.settings
    theirs, asked = (values.get("backbone") for values in (dictated, changes))
    if theirs and asked and theirs != asked:
        raise UsageError(f"{weights.origin} has the backbone {theirs}, not {asked}: leave --backbone out.")
    if weights.detector:
        # The whole network as it was built; how it is trained the preset says, unless the run was ours.
        whole = configure.build(kind.Settings, weights.settings)
        kept = set(kind.Training.model_fields) - set(DetectorSettings.model_fields) if not weights.run else set()
        dictated = {name: getattr(whole, name) for name in kind.Settings.model_fields if name not in kept}
    return configure.apply(configure.apply(preset, dictated), changes)


def put_in(detector: Detector, weights: Weights | None) -> Detector:
    """The detector with its starting weights, and says what they are."""
    if weights is None:
        say("Starting from nothing: no weights are carried over, and no stage is frozen, unless you say so.")
    else:
        say(f"Starting from {weights.origin}: {put(weights, detector)}.")
    return detector
