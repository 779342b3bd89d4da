"""What training chooses where the person leaves it open: input, tiles, detections and anchors, and a step's launch."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Literal

import torch

from foodbox import configure
from foodbox.config import TrainSettings, batch_size_for, epochs_for
from foodbox.console import say
from foodbox.data.inputs import boxes_in_input, size_for, small_boxes, tile_size_for
from foodbox.data.report import AnchorReach, anchor_reach
from foodbox.data.tiles import cut, tile_count, training_tiles
from foodbox.detectors.base import Detector, DetectorSettings
from foodbox.errors import UsageError
from foodbox.records import Dataset, counted

Way = Literal["plain", "replayed", "compiled"]
"""How a GPU is given the work of a step (step.py)."""
MOST_TILES = 1000
"""Tiles and photos that training takes without being asked: at most sixteen times the pixels of 250 photos."""


def large_enough(
    kind: type[Detector], preset: DetectorSettings, dataset: Dataset, changes: dict[str, Any]
) -> DetectorSettings:
    """The light preset with a larger input where boxes are small in its own, and with tiles where they are tiny.

    The other presets are as their papers say, and what the person chose (`changes`) stays.
    """
    if "size" in changes or preset != configure.build(kind.Settings, kind.presets["light"]):
        return preset
    usual = configure.apply(preset, {"tile_size": changes.get("tile_size", 0)}).preprocessing
    boxes, labels, *_ = boxes_in_input(dataset, usual)
    under = small_boxes(boxes, labels)
    size = size_for(under, usual)
    if size == usual.size:
        return preset
    times = (size / usual.size) ** 2
    say(
        f"A quarter of the boxes, classes counted alike, are under {under:.0f} px in an input of {usual.size} px: "
        f"training takes {size} px and up to {times:.1f} times the time (--size {usual.size} keeps it)."
    )
    larger: dict[str, Any] = {"size": size}
    still = under * size / usual.size
    if "tile_size" not in changes and (side := tile_size_for(still, dataset, usual.model_copy(update=larger))):
        tiny = f"There a quarter is still under {still:.0f} px, and of so small ones few are found:"
        most = tile_count(dataset, side)
        of = f"up to {most:,} of {counted(len(dataset), 'photo')}"
        if kind.needs_proposals:
            say(f"{tiny} take a larger --size, or a detector that proposes its regions itself.")
        elif most > MOST_TILES:
            say(f"{tiny} --tile-size {side} shows them in tiles, {of}.")
        else:
            larger["tile_size"] = side
            say(f"{tiny} training sees tiles of {side} px too, {of} (--tile-size 0 keeps photos whole).")
    if (search := getattr(preset, "search", None)) is not None:  # what no region reaches, no input shows
        larger["search_size"] = round(search.search_size * size / usual.size)
    return configure.apply(preset, larger)


def enough_detections(preset: DetectorSettings, dataset: Dataset) -> DetectorSettings:
    """The preset with as many detections of a photo, or a tile, as one of these has boxes, where that is more."""
    most = max(int((~shown.ignore).sum()) for shown in cut(dataset.photos, preset.preprocessing.tile_size))
    kept = getattr(preset, "max_detections", most)
    if most <= kept:
        return preset
    say(f"A photo has {most} boxes, and {kept} detections are kept of one: --max-detections is {most} here.")
    return configure.apply(preset, {"max_detections": most})


def left_open(
    run: TrainSettings, kind: type[Detector], dataset: Dataset, settled: DetectorSettings, own_network: bool
) -> dict[str, Any]:
    """What the settings of a run leave open and foodbox decides: a run's record has it, whatever later versions choose.

    Args:
        dataset: what is trained on.
        settled: the detector's settings.
        own_network: the starting weights bring the network, and no preset counts.
    """
    shown = len(training_tiles(dataset.photos, settled.preprocessing.tile_size))
    chosen: dict[str, Any] = {
        "preset": run.preset or (None if own_network else next(iter(kind.presets))),
        "epochs": run.epochs or (epochs_for(shown) if run.time is None else None),
        "batch_size": run.batch_size or batch_size_for(shown),
        "learning_rate": run.peak_rate,
    }
    return chosen if run.freeze == "backbone" else chosen | {"backbone_rate": run.backbone_share}


def reach_of(
    kind: type[Detector], settings: DetectorSettings, dataset: Dataset, name: str, kept: Container[str] = ()
) -> AnchorReach | None:
    """How well the detector's anchors fit the boxes, and which would fit better; None where either is missing.

    Args:
        kept: names of settings that are not to be changed.
    """
    boxes, _, height, width = boxes_in_input(dataset, settings.preprocessing)
    fitting = kind.fit_anchors(settings, boxes, height, width) if len(boxes) else {}
    better = {setting: value for setting, value in fitting.items() if setting not in kept}
    anchors, fitted = (kind.anchors_of(s, height, width) for s in (settings, settings.model_copy(update=better)))
    return anchor_reach(name, boxes, anchors, fitted, better)


def way_of(settings: TrainSettings, detector: Detector, device: torch.device, processes: int) -> Way:
    """How steps are launched: as the person says; else replayed where the detector can be, and inputs have few shapes.

    Raises:
        UsageError: see `expect_way`.
    """
    expect_way(settings, type(detector), device, processes)
    if settings.gpu_step != "auto":
        return settings.gpu_step
    alike = detector.preprocessing.fit != "shortest"
    return "replayed" if alike and _is_able(settings, type(detector), device, processes) else "plain"


def expect_way(settings: TrainSettings, kind: type[Detector], device: torch.device, processes: int = 1) -> None:
    """Raises UsageError where steps of this kind of detector cannot be launched as the person says."""
    if settings.gpu_step in ("replayed", "compiled") and not _is_able(settings, kind, device, processes):
        raise UsageError(
            f"--gpu-step {settings.gpu_step} needs one CUDA GPU, a detector whose losses never wait for it, such as "
            "retinanet, and no --freeze: leave it out."
        )


def _is_able(settings: TrainSettings, kind: type[Detector], device: torch.device, processes: int) -> bool:
    return device.type == "cuda" and kind.replays and settings.freeze is None and processes == 1
