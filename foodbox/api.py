"""The verbs: train, resume, check, convert, export, detect, demo: the parts of the house together.

`load` and `evaluate` stand with the model (model.py).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foodbox import configure
from foodbox.config import TrainSettings
from foodbox.console import is_speaker, progress_bar, say
from foodbox.data import formats, proposals, splits, tables
from foodbox.data.check import examine, look_whole, sound, without_left_out
from foodbox.data.images import PhotoError
from foodbox.data.mend import changes as list_of_changes
from foodbox.data.mend import mend
from foodbox.data.parts import read_labels, read_parts, saved_parts
from foodbox.data.report import Report
from foodbox.data.tiles import every_tile
from foodbox.defaults import usual_defaults
from foodbox.detections import Detections
from foodbox.detectors import DETECTORS
from foodbox.detectors.base import Detector, DetectorSettings, OneStageDetector
from foodbox.errors import FoodboxError, UsageError
from foodbox.evaluation.scores import Scores
from foodbox.files import PathLike, alone_in, as_path, expect_new, write_whole
from foodbox.findings import Finding
from foodbox.inference import openvino
from foodbox.inference.exported import Exported, library
from foodbox.inference.output import DetectionWriter, expect_elsewhere, find_all
from foodbox.inference.predict import pick_device
from foodbox.model import EXPORTS, Model, evaluate, load
from foodbox.records import Dataset, Photo, counted
from foodbox.training.choices import enough_detections, expect_way, large_enough, left_open, reach_of
from foodbox.training.fit import Run as Run
from foodbox.training.fit import fit
from foodbox.training.run_folder import RunFolder
from foodbox.training.start import find_weights, put_in, settle
from foodbox.version import VERSION
from foodbox.weights import pretrained
from foodbox.weights.model_file import build, header_of

# -- Training -------------------------------------------------------------------------------------------------------


_training = threading.RLock()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """A training waits for that of another thread: both would draw from torch's one row of random numbers.

    The caller's row then goes on where it was.
    """
    gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with _training, torch.random.fork_rng(gpus):
        yield


@_one_at_a_time()
@usual_defaults()
@torch.inference_mode(False)
def train(photos: PathLike, *, runs: PathLike = "runs", name: str | None = None, **settings: Any) -> Run:
    """Trains a detector on a folder of photos with boxes.

    Args:
        photos: the folder; its label format is detected.
        runs, name: the run is written to runs/name; without a name, to a new folder named after the detector.
        settings: any of `foodbox.config.TrainSettings` and of the detector's own settings, by name, such as
            epochs=10, one_class="food", size=320, backbone="resnet18".

    Raises:
        UsageError: a folder, a setting or a name is wrong.
        FoodboxError: photos or labels are at fault, or the weights cannot be had.
    """
    start = time.monotonic()
    # What is wrong with the call is said before anything is read.
    photos, runs = as_path(photos, "The folder of photos"), as_path(runs, "The folder of runs")
    own, changes = _divide(settings)
    chosen = configure.build(TrainSettings, own)
    kind, preset = detector_and_settings(chosen.detector, chosen.preset)
    side = configure.apply(preset, changes).preprocessing.tile_size
    expect_sense(chosen)
    expect_way(chosen, kind, pick_device(chosen.device))
    RunFolder.expect_free(runs, name)
    kind.expect_tiles(side)
    if chosen.freeze and not kind.has_maps and chosen.views != TrainSettings.model_fields["views"].default:
        raise UsageError(f"{chosen.detector} has no maps of whole photos to keep: leave --views out.")
    if kind.needs_proposals:
        proposals.expect_extra()

    train_part, valid_part = read_parts(photos, chosen, kind.needs_masks)
    say(f"Training on {train_part}; validating on {counted(len(valid_part), 'photo')}.")
    weights = find_weights(configure.apply(preset, changes), chosen)
    if not (weights and weights.detector):  # a whole detector brings its own
        preset = large_enough(kind, preset, train_part, changes)
        if "max_detections" not in changes:
            preset = enough_detections(preset, train_part)
    if chosen.fit_anchors:
        reach = reach_of(kind, settle(kind, preset, changes, weights), train_part, chosen.detector, changes)
        if reach is None:
            raise UsageError(f"{chosen.detector} has no anchors to fit: leave --fit-anchors out.")
        say(f"{reach}: {', '.join(reach.settings) or 'none'} changed.")
        changes = reach.settings | changes
    settled = settle(kind, preset, changes, weights)  # which the weights have a say in
    expect_use(chosen, changes, settled)
    torch.manual_seed(chosen.seed)
    earlier = weights.run.get("train") if weights else None  # of a run of ours
    if weights and earlier and chosen.preset not in (None, earlier.get("preset") or next(iter(kind.presets))):
        say(f"{weights.origin} brings its own network: --preset {chosen.preset} does not change it.")
    detector = put_in(kind(train_part.names, settled), weights)
    own_network = weights is not None and bool(weights.detector)
    chosen = chosen.model_copy(update=left_open(chosen, kind, train_part, settled, own_network))
    folder = RunFolder.new(runs, name, chosen.detector)
    # Whole paths: the run may be gone on with from another folder.
    valid = {} if chosen.valid is None else {"valid": str(chosen.valid.absolute())}
    about = {
        "foodbox": VERSION,
        "photos": str(photos.absolute()),
        "training_photos": len(train_part),
        "train": chosen.model_dump(mode="json") | valid,
        "detector": detector.settings.model_dump(mode="json"),
        "names": detector.names,
    }
    try:
        if is_speaker():  # of processes that train together, one writes
            folder.write_config(about)
            folder.write_split(train_part, valid_part)
        return _fit(detector, train_part, valid_part, chosen, folder, about, start, resume=False)
    except BaseException:  # Ctrl-C as well
        folder.give_up()
        raise


@_one_at_a_time()
@usual_defaults()
@torch.inference_mode(False)
def resume(run: PathLike) -> Run:
    """Goes on with a run that was stopped, with the photos and settings that it began with.

    It goes on from the last epoch that was kept: of epochs that take less than ten seconds, or go unscored beside
    `--time`, not all are.

    Raises:
        UsageError: the folder is no run, or no epoch of it ended.
        FoodboxError: a photo of the run is gone.
    """
    start = time.monotonic()
    folder = RunFolder(as_path(run, "The run"))
    saved = folder.read_config()
    folder.read_state()  # says so at once where there is nothing to go on with
    if lacking := [key for key in ("train", "photos", "names") if key not in saved]:
        raise UsageError(
            f"{folder.path / 'config.yaml'} does not say {lacking[0]}: name a folder that foodbox train made."
        )
    chosen = configure.build(TrainSettings, saved["train"])
    photos, names = Path(saved["photos"]), saved["names"]
    train_part, valid_part = saved_parts(folder.read_split(), photos, chosen, names, folder.path)
    detector = build(pretrained.read(folder.last_model))
    say(f"Going on with {folder.path}.")
    return _fit(detector, train_part, valid_part, chosen, folder, saved, start, resume=True)


@contextmanager
def _outside_autocast(device: torch.device) -> Iterator[None]:
    """A caller's autocast is not there within the block.

    It is left, and not switched off by another one within: until the outermost one ends, torch keeps the weights that
    it has once made bfloat16, and every step would calculate with those of the first.
    """
    enabled = torch.is_autocast_enabled(device.type)
    depth = torch.autocast_increment_nesting() - 1
    for _ in range(depth + 1):
        torch.autocast_decrement_nesting()
    torch.set_autocast_enabled(device.type, False)
    torch.clear_autocast_cache()
    try:
        yield
    finally:
        torch.set_autocast_enabled(device.type, enabled)
        for _ in range(depth):
            torch.autocast_increment_nesting()


def _fit(
    detector: Detector, train_part: Dataset, valid_part: Dataset, chosen: TrainSettings, folder: RunFolder,
    about: dict[str, Any], start: float, resume: bool,
) -> Run:  # fmt: skip
    with alone_in(folder.path) if is_speaker() else nullcontext(), _outside_autocast(pick_device(chosen.device)):
        if detector.search is not None:
            proposals.prepare_all([*train_part.photos, *valid_part.photos], detector.search)
            proposals.say_reached(train_part.photos, detector.search)
        try:
            return fit(detector, train_part, valid_part, chosen, folder, about, resume, start)
        except FoodboxError as fault:
            if isinstance(fault.__cause__, OSError) and folder.has_state:  # a full disk
                raise FoodboxError(f"{fault} Then go on with foodbox train --resume {folder.path}.") from fault
            raise


def expect_sense(settings: TrainSettings) -> None:
    """Looks for settings that could do nothing, or nothing good, beside the others.

    Raises:
        UsageError: there is one.
    """
    fields, frozen = TrainSettings.model_fields, settings.freeze is not None
    senseless = {
        "--freeze keeps the backbone as it starts, and --weights none starts it from random numbers": (
            frozen and settings.weights == "none"
        ),
        "--time and --epochs both say how long to train": settings.time is not None and settings.epochs is not None,
        "--backbone-rate is for a backbone that learns, and --freeze backbone keeps it": (
            settings.freeze == "backbone" and settings.backbone_rate is not None
        ),
        "--valid-share sets photos apart, and --valid or --split names them": (
            (settings.valid is not None or settings.split is not None)
            and settings.valid_share != fields["valid_share"].default
        ),
    }
    for what, is_so in senseless.items():
        if is_so:
            raise UsageError(f"{what}: leave one of them out.")
    if not frozen and settings.views != fields["views"].default:
        raise UsageError("--views is for --freeze, which is not given: add it, or leave --views out.")


def expect_use(run: TrainSettings, changes: dict[str, Any], settled: DetectorSettings) -> None:
    """The same of the detector's settings: looks for changes that do nothing beside the others.

    Args:
        settled: all its settings, those that the weights bring among them.

    Raises:
        UsageError: there is one.
    """
    fit, loss = settled.preprocessing.fit, getattr(settled, "box_loss", "smooth_l1")
    useless = {
        "frozen_stages": ("for a backbone that learns, and --freeze backbone keeps it", run.freeze == "backbone"),
        "max_size": (f"for --fit shortest, and fit is {fit} here", fit != "shortest"),
        "smooth_l1_beta": (f"for --box-loss smooth_l1, and the loss is {loss} here", loss != "smooth_l1"),
    }
    for name, (what, is_so) in useless.items():
        if name in changes and is_so:
            raise UsageError(f"--{name.replace('_', '-')} is {what}: leave it out, or change the other.")


def _divide(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the run, and the rest, which are the detector's."""
    own = {name: value for name, value in settings.items() if name in TrainSettings.model_fields}
    return own, {name: value for name, value in settings.items() if name not in own}


def detector_names() -> list[str]:
    """The names of all detectors."""
    return list(DETECTORS)


def detector_and_settings(detector: str, preset: str | None) -> tuple[type[Detector], DetectorSettings]:
    """A detector's class and the settings of one of its presets, the first where none is named."""
    if detector not in DETECTORS:
        raise UsageError(f"There is no detector {detector!r}: expected one of {', '.join(DETECTORS)}.")
    kind = DETECTORS[detector]
    if preset is not None and preset not in kind.presets:
        raise UsageError(f"There is no preset {preset!r} of {detector}: expected one of {', '.join(kind.presets)}.")
    return kind, configure.build(kind.Settings, kind.presets[preset or next(iter(kind.presets))])


# -- Photos ---------------------------------------------------------------------------------------------------------


@usual_defaults()
def check(
    photos: PathLike,
    *,
    valid: PathLike | None = None,
    format: str | None = None,
    detector: str = "retinanet",
    preset: str | None = None,
    out: PathLike | None = None,
    fix: PathLike | None = None,
) -> Report:
    """Everything that is wrong or strange about a folder of photos with boxes.

    Args:
        photos: the folder; its label format is detected.
        valid: a folder of validation photos, none of which should be in `photos`.
        detector, preset: whose anchors the boxes are held against.
        out: write report.html with pictures into this folder.
        fix: write a mended copy into this new folder, and changes.md, which says what was done.

    Raises:
        UsageError: a folder is missing, or `fix` is there already.
    """
    photos = as_path(photos, "The folder of photos")
    valid, out, fix = (None if path is None else as_path(path, "A folder") for path in (valid, out, fix))
    kind, settings = detector_and_settings(detector, preset)
    if fix is not None:
        expect_new(fix, photos)
    dataset, findings = read_labels(photos, format, whole=True)
    others = None if valid is None else without_left_out(*read_labels(valid, format, whole=True))
    settings = large_enough(kind, settings, dataset, {})
    findings += examine(dataset, findings, others)
    report = Report(
        dataset, findings, reach_of(kind, settings, dataset, f"{detector} ({preset or next(iter(kind.presets))})")
    )
    if out is not None:
        from foodbox.data.page import page  # and matplotlib, half a second's import, which most verbs do without

        write_whole(out / "report.html", page(report, str(photos)))
    if fix is not None:
        mended, lost = formats.prune(mend(dataset, report.findings), dataset.format)
        formats.FORMATS[dataset.format].write(mended, fix)
        write_whole(fix / "changes.md", list_of_changes(report.findings, lost))
        say(f"Wrote {fix}: {mended}. What was changed stands in {fix / 'changes.md'}.")
    return report


@usual_defaults()
def convert(
    source: PathLike, dest: PathLike, *, to: str, format: str | None = None, skip_bad: bool = False
) -> tuple[Dataset, list[str]]:
    """Copies photos into a new folder, with their labels in another format.

    Args:
        to: the format that is written, a name in `foodbox.data.formats.FORMATS`.
        format: the format of `source`, if it is not detected.

    Returns:
        What was written, and sentences on what the format cannot hold.

    Raises:
        UsageError: a folder is missing or there already, or there is no such format.
        FoodboxError: photos or labels are at fault and `skip_bad` is not set.
    """
    if to not in formats.FORMATS:
        raise UsageError(f"Unknown format {to!r}: expected one of {', '.join(formats.FORMATS)}.")
    source, dest = as_path(source, "The folder of photos"), as_path(dest, "The new folder")
    expect_new(dest, source)
    dataset, findings = read_labels(source, format)
    dataset, words = sound(dataset, findings, skip_bad)
    dataset, lost = formats.prune(dataset, to)
    for line in [*words, *(f"{formats.FORMATS[to].title}: {words}." for words in lost)]:
        say(line)
    formats.FORMATS[to].write(dataset, dest)
    return dataset, lost


# -- Export ---------------------------------------------------------------------------------------------------------

CALIBRATION_PHOTOS = 300
"""Photos that int8's ranges are taken from: NNCF's default, and more changed no score."""


@dataclass
class Export:
    """An exported model: its file, the .bin where OpenVINO's weights are apart, and the scores before and after."""

    model: Path
    weights: Path | None
    seconds: float
    before: Scores | None = None
    after: Scores | None = None

    def to_dict(self) -> dict[str, Any]:
        """What `foodbox export --json` prints."""
        weights = None if self.weights is None else str(self.weights)
        result: dict[str, Any] = {"model": str(self.model), "weights": weights, "seconds": round(self.seconds, 1)}
        for name, scores in (("before", self.before), ("after", self.after)):
            result[name] = scores.to_dict() if scores else None
        return result


@usual_defaults()
def export(
    model: Model | PathLike,
    *,
    out: PathLike | None = None,
    int8: PathLike | None = None,
    valid: PathLike | None = None,
) -> Export:
    """Writes a model for OpenVINO, which detects faster on a CPU, or as ONNX; `load` and the other verbs take both.

    Args:
        out: the file NAME.xml for OpenVINO, which NAME.bin is written beside, or NAME.onnx. Without it OpenVINO's two
            lie beside the model's file.
        int8: for OpenVINO, a folder of labelled photos; the network then calculates in int8, with ranges taken from
            some of these.
        valid: a folder of labelled photos to score the model on, before and after; without it, those of `int8`.

    Raises:
        UsageError: the detector is a two-stage one, a name is wrong, or something is not there.
        FoodboxError: what writes such files is not installed, or cannot do what the network does.
    """
    start = time.monotonic()
    file = _export_file(model, out, int8 is not None)
    runtime = EXPORTS[file.suffix.lower()]
    for name in runtime.LIBRARIES:
        library(name)
    if not isinstance(model, Model):
        model = load(model, "cpu")
    kind = type(model.detector)
    if isinstance(model.detector, Exported) or not issubclass(kind, OneStageDetector):
        able = ", ".join(name for name, other in DETECTORS.items() if issubclass(other, OneStageDetector))
        what = "an exported model" if kind is Exported else f"a {kind.__name__}, which selects boxes half-way"
        raise UsageError(f"This is {what}, and only models of {able} can be exported.")
    header = header_of(model.detector, model.run)
    # What is wrong with the photos is said before anything is written.
    scored = int8 if valid is None else valid
    before = evaluate(model, scored, skip_bad=True) if scored is not None else None
    side = model.detector.preprocessing.tile_size
    photos = _calibration_photos(as_path(int8, "The folder for int8"), side) if int8 is not None else []
    detector = model.detector.cpu()
    try:
        graph = runtime.graph_of(detector, header)
        if photos:
            say(f"Taking the ranges for int8 from {counted(len(photos), 'tile' if side else 'photo')}.")
            graph = openvino.quantise(graph, photos, detector)
        runtime.write(graph, file)
        weights = file.with_suffix(".bin") if runtime is openvino else None
        result = Export(file, weights, time.monotonic() - start)
        if scored is not None:
            result.before, result.after = before, evaluate(file, scored, skip_bad=True)
    finally:
        detector.to(model.device)
    return result


def _export_file(model: Model | PathLike, out: PathLike | None, int8: bool) -> Path:
    """Where an exported model is written to."""
    if out is None:
        if isinstance(model, Model):
            raise UsageError('Name a file for the exported model: out="NAME.xml" or "NAME.onnx".')
        file = pretrained.file_at(as_path(model, "The model file"))
        return file.with_name(file.stem + ("_int8" if int8 else "") + openvino.ENDING)
    file = as_path(out, "The exported model")
    if (ending := file.suffix.lower()) not in EXPORTS:
        raise UsageError(f"{out} does not end in {' or '.join(EXPORTS)}: name a file such as best{openvino.ENDING}.")
    if int8 and ending != openvino.ENDING:
        raise UsageError(f"int8 is for OpenVINO: call the file {file.stem}{openvino.ENDING}, or leave int8 out.")
    return file


def _calibration_photos(place: Path, side: int) -> list[Photo]:
    """Photos that int8's ranges are taken from, or tiles: of those that `train` would train on, and not the others."""
    dataset, findings = read_labels(place)
    some = splits.sample(splits.to_train_on(dataset), CALIBRATION_PHOTOS, seed=0)
    bad = {f.photo for f in findings + look_whole(some.photos) if f.harm == "error"}
    whole = [photo for photo in some if photo.path not in bad]
    if not whole:
        raise FoodboxError(f"{place} has no photo that can be opened: name a folder of whole photos for --int8.")
    shown = every_tile(whole, side)
    return shown[:: math.ceil(len(shown) / CALIBRATION_PHOTOS)]


# -- Detection on photos, folders and patterns ----------------------------------------------------------------------


@usual_defaults()
def detect(
    model: Model | PathLike,
    paths: PathLike | Iterable[PathLike],
    *,
    out: PathLike | None = None,
    min_score: float | None = None,
    crop: bool = False,
) -> tuple[list[Detections], list[Finding]]:
    """What is on many photos.

    Args:
        paths: photos, folders (with all below them) and patterns such as "july/*.jpg"; one or many.
        out: write pictures with boxes, detections.json and detections.csv into this folder.
        min_score: drop detections with a lower score; by default the model's own threshold.
        crop: write each region as its own photo besides.

    Returns:
        The detections of each photo that could be opened, and a finding for each that could not.

    Raises:
        UsageError: there is nothing at a path, a photo lies where pictures are written to, or an argument is wrong.
    """
    if crop and out is None:
        raise UsageError("crop writes regions, and no folder is named for them: name one with out, or leave crop out.")
    folder = None if out is None else as_path(out, "The folder for pictures")
    if not isinstance(model, Model):
        model = load(model)
    min_score = model._least_score(min_score)
    photos, findings = find_all(paths)
    if folder is not None:
        expect_elsewhere(photos, folder)
    writer = DetectionWriter(folder, crop) if folder is not None else None
    found: list[Detections] = []
    try:
        for one in _detected(model, photos, min_score):
            if isinstance(one, Finding):
                findings.append(one)
                continue
            found.append(one)
            if writer is not None:
                writer.add(one)
    finally:  # Ctrl-C as well: the tables of what was found so far, by which the folder is known again
        if writer is not None:
            writer.finish(found)
    return found, findings


def _detected(model: Model, photos: list[Photo], min_score: float) -> Iterator[Detections | Finding]:
    """Detections photo by photo; a finding for each photo that cannot be read to its end.

    Photos are read to their end beforehand only once one was met that cannot be: to read all of them twice takes long,
    and broken ones are rare.
    """
    while photos:
        done = 0
        try:
            with progress_bar("detecting", len(photos)) as bar:
                for detections in model.detect_many(photos, min_score, bar.advance):
                    yield detections
                    done += 1
            return
        except PhotoError:
            photos = photos[done:]
            if not (broken := look_whole(photos)):
                raise  # it was there a moment ago
        yield from broken
        bad = {finding.photo for finding in broken}
        photos = [photo for photo in photos if photo.path not in bad]


# -- The demonstration ----------------------------------------------------------------------------------------------


def demo(folder: PathLike = "demo", photos: int = 200, unseen: int = 40, seed: int = 0, **settings: Any) -> Run:
    """Draws laid tables, trains the default detector on them, and scores it on tables that it has not seen.

    Args:
        folder: drawings and runs go here.
        photos, unseen: how many tables are drawn to train on and to score on.
        settings: as for `train`, but for what the demonstration has of its own.

    Raises:
        UsageError: a number or a setting is wrong.
        FoodboxError: the folder cannot be written to.
    """
    if theirs := settings.keys() & {"valid", "runs"}:
        raise UsageError(f"demo has photos and a folder of its own: leave {' and '.join(sorted(theirs))} out.")
    if not (isinstance(photos, int) and isinstance(unseen, int) and min(photos, unseen) >= 1):
        raise UsageError(f"--photos is {photos} and --unseen {unseen}: expected 1 or more of each.")
    folder = as_path(folder, "The folder of the demonstration")
    for part, count, start in (("train", photos, seed), ("unseen", unseen, seed + 1)):
        place = folder / "tables" / part
        say(f"Drawing {count} laid tables in {place} ...")
        older = [*place.glob("images/table_*.jpg"), *place.glob("annotations/table_*.xml")]  # there may be more of them
        for file in older:
            file.unlink()
        drawn = tables.write_tables(place, count, seed=start)
        formats.FORMATS["voc"].write(Dataset(drawn, tables.NAMES), place)
    drawn_folder = folder / "tables"
    return train(drawn_folder / "train", runs=folder / "runs", valid=drawn_folder / "unseen", seed=seed, **settings)
