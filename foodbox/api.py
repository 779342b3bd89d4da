"""The verbs: check, convert, train, resume, load, evaluate, export, detect, demo: the parts of the house together."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from foodbox import config
from foodbox.config import TrainSettings
from foodbox.console import is_speaker, progress_bar, say
from foodbox.data import formats, proposals, splits, tables
from foodbox.data.check import examine, healthy, look_whole, sound, without_left_out
from foodbox.data.images import PhotoError, as_seen, photo_size, prepare
from foodbox.data.inputs import boxes_in_input, size_for, small_boxes, tile_size_for
from foodbox.data.loader import PHOTOS_AT_ONCE, Collate, Item, apart
from foodbox.data.mend import changes as list_of_changes
from foodbox.data.mend import mend
from foodbox.data.parts import part_of, read_labels, read_parts, saved_parts
from foodbox.data.report import AnchorReach, Report, anchor_reach
from foodbox.data.tiles import cut, every_tile, open_tile, shown_by, tile_count, tiles, together
from foodbox.detections import Detections
from foodbox.detectors import DETECTORS
from foodbox.detectors.base import Detector, DetectorSettings
from foodbox.errors import FoodboxError, UsageError
from foodbox.evaluation.scores import Scores, score
from foodbox.evaluation.starthon import prediction_file
from foodbox.evaluation.threshold import SURE
from foodbox.files import alone_in, expect_new, write_whole
from foodbox.findings import Finding
from foodbox.inference import export as exporting
from foodbox.inference import runtime
from foodbox.inference.output import DetectionWriter, expect_elsewhere, find_all
from foodbox.inference.predict import half_precision_pays, pick_device, predict, predict_photos
from foodbox.inference.replay import network_for
from foodbox.records import Batch, Dataset, Photo, Target, counted
from foodbox.training.fit import fit
from foodbox.training.run_folder import RunFolder
from foodbox.training.step import expect_way
from foodbox.weights import pretrained
from foodbox.weights.model_file import build, header_of, save_model, understand
from foodbox.weights.transfer import Weights, put

PathLike = str | Path
SMALLEST_TILE = 32
"""Pixels: smaller tiles show little of anything, and there would be no end of them."""
MOST_TILES = 1000
"""Tiles and photos that training takes without being asked: at most sixteen times the pixels of 250 photos."""


# -- Training -------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """A training run that has ended: its folder, its best model, the scores of that model on the validation photos."""

    folder: Path
    model: Path
    seconds: float
    epoch: int
    scores: Scores | None
    interrupted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """What `foodbox train --json` prints."""
        result: dict[str, Any] = {"run": str(self.folder), "model": str(self.model), "seconds": round(self.seconds, 1)}
        result |= {"epoch": self.epoch, "interrupted": self.interrupted}
        return result | (self.scores.to_dict() if self.scores else {})


@torch.inference_mode(False)
def train(photos: PathLike, *, runs: PathLike = "runs", name: str | None = None, **settings: Any) -> Run:
    """Trains a detector on a folder of photos with boxes.

    Args:
        photos: the folder; its label format is found out by looking.
        runs, name: the run is written to runs/name; without a name, to a new folder named after the detector.
        settings: any of `foodbox.config.TrainSettings` and of the detector's own settings, by name, such as
            epochs=10, one_class="food", size=320, backbone="resnet18".

    Raises:
        UsageError: a folder, a setting or a name is wrong.
        FoodboxError: photos or labels are at fault, or the weights cannot be had.
    """
    start = time.monotonic()
    # What is wrong with the call is said before anything is read.
    own, changes = _divide(settings)
    chosen = config.build(TrainSettings, own)
    kind, preset = detector_and_settings(chosen.detector, chosen.preset)
    for setting in changes.keys() - set(config.setting_names(preset)):
        raise config.unknown_setting(setting, [*TrainSettings.model_fields, *config.setting_names(preset)])
    side = config.apply(preset, changes).preprocessing.tile_size
    expect_sense(chosen)
    expect_way(chosen, kind, pick_device(chosen.device))
    RunFolder.expect_free(Path(runs), name)
    _expect_tiles(kind, side)
    if chosen.freeze and not kind.has_maps and chosen.views != TrainSettings.model_fields["views"].default:
        raise UsageError(f"{chosen.detector} has no maps of whole photos to keep: leave --views out.")
    if kind.needs_proposals:
        proposals.expect_extra()

    train_part, valid_part = read_parts(Path(photos), chosen, kind.needs_masks)
    say(f"Training on {train_part}; validating on {counted(len(valid_part), 'photo')}.")
    weights = _weights(kind, config.apply(preset, changes), chosen)
    if not (weights and weights.detector):  # a whole detector brings its own
        preset = _large_enough(kind, preset, train_part, changes)
        if "max_detections" not in changes:
            preset = _enough_detections(preset, train_part)
    if chosen.fit_anchors:
        reach = _reach(kind, _settings(kind, preset, changes, weights), train_part, chosen.detector)
        if reach is None:
            raise UsageError(f"{chosen.detector} has no anchors to fit: leave --fit-anchors out.")
        say(f"{reach}: {', '.join(reach.settings) or 'none'} changed.")
        changes = reach.settings | changes
    torch.manual_seed(chosen.seed)
    settled = _settings(kind, preset, changes, weights)
    earlier = weights.run.get("train") if weights else None  # of a run of ours
    if weights and earlier and chosen.preset not in (None, earlier.get("preset") or next(iter(kind.presets))):
        say(f"{weights.origin} brings its own network: --preset {chosen.preset} does not change it.")
    detector = _start(kind(train_part.names, settled), weights)
    folder = RunFolder.new(Path(runs), name, chosen.detector)
    # Whole paths: the run may be gone on with from another folder.
    valid = {} if chosen.valid is None else {"valid": str(chosen.valid.absolute())}
    about = {
        "photos": str(Path(photos).absolute()),
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
    folder = RunFolder(Path(run))
    saved = folder.read_config()
    folder.read_state()  # says so at once where there is nothing to go on with
    if lacking := [key for key in ("train", "photos", "names") if key not in saved]:
        raise UsageError(
            f"{folder.path / 'config.yaml'} does not say {lacking[0]}: name a folder that foodbox train made."
        )
    chosen = config.build(TrainSettings, saved["train"])
    photos, names = Path(saved["photos"]), saved["names"]
    train_part, valid_part = saved_parts(folder.read_split(), photos, chosen, names, folder.path)
    detector = build(pretrained.read(folder.last_model))
    say(f"Going on with {folder.path}.")
    return _fit(detector, train_part, valid_part, chosen, folder, saved, start, resume=True)


def _fit(
    detector: Detector, train_part: Dataset, valid_part: Dataset, chosen: TrainSettings, folder: RunFolder,
    about: dict[str, Any], start: float, resume: bool,
) -> Run:  # fmt: skip
    if detector.search is not None:
        proposals.prepare_all([*train_part.photos, *valid_part.photos], detector.search)
        proposals.say_reached(train_part.photos, detector.search)
    with alone_in(folder.path) if is_speaker() else nullcontext():
        fitted = fit(detector, train_part, valid_part, chosen, folder, about, resume, start)
    return Run(folder.path, folder.best_model, fitted.seconds, fitted.epoch, fitted.scores, fitted.interrupted)


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
        "--views is for --freeze, which is not given": not frozen and settings.views != fields["views"].default,
        "--valid-share sets photos apart, and --valid or --split names them": (
            (settings.valid is not None or settings.split is not None)
            and settings.valid_share != fields["valid_share"].default
        ),
    }
    for what, is_so in senseless.items():
        if is_so:
            raise UsageError(f"{what}: leave one of them out.")


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
    return kind, config.build(kind.Settings, kind.presets[preset or next(iter(kind.presets))])


def _weights(kind: type[Detector], settings: DetectorSettings, chosen: TrainSettings) -> Weights | None:
    """What the person starts from; None for nothing."""
    weights = pretrained.find(chosen.weights, settings.model_dump(), chosen.detector)
    if weights and weights.detector and DETECTORS[weights.detector] is not kind:
        raise UsageError(
            f"{weights.origin} is a {weights.detector}, and {chosen.detector} was asked for: "
            f"take --detector {weights.detector}."
        )
    return weights


def _settings(
    kind: type[Detector], preset: DetectorSettings, changes: dict[str, Any], weights: Weights | None
) -> DetectorSettings:
    """What is trained: the person's settings go before the weights', these before the preset's."""
    if weights is None:
        return config.apply(preset, {"frozen_stages": 0} | changes)  # frozen random numbers teach little
    dictated = weights.settings
    theirs, asked = (values.get("backbone") for values in (dictated, changes))
    if theirs and asked and theirs != asked:
        raise UsageError(f"{weights.origin} has the backbone {theirs}, not {asked}: leave --backbone out.")
    if weights.detector:
        # The whole network as it was built; how it is trained the preset says, unless the run was ours.
        whole = config.build(kind.Settings, weights.settings)
        kept = set(kind.Training.model_fields) - set(DetectorSettings.model_fields) if not weights.run else set()
        dictated = {name: getattr(whole, name) for name in kind.Settings.model_fields if name not in kept}
    return config.apply(config.apply(preset, dictated), changes)


def _start(detector: Detector, weights: Weights | None) -> Detector:
    """The detector with its starting weights, and says what they are."""
    if weights is None:
        say("Starting from nothing: no weights are carried over, and no stage is frozen, unless you say so.")
    else:
        say(f"Starting from {weights.origin}: {put(weights, detector)}.")
    return detector


# -- Photos ---------------------------------------------------------------------------------------------------------


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
        photos: the folder; its label format is found out by looking.
        valid: a folder of validation photos, none of which should be in `photos`.
        detector, preset: whose anchors the boxes are held against.
        out: write report.html with pictures into this folder.
        fix: write a mended copy into this new folder, and changes.md, which says what was done.

    Raises:
        UsageError: a folder is missing, or `fix` is there already.
    """
    kind, settings = detector_and_settings(detector, preset)
    if fix is not None:
        expect_new(Path(fix), Path(photos))
    dataset, findings = read_labels(Path(photos), format, whole=True)
    others = None if valid is None else without_left_out(*read_labels(Path(valid), format, whole=True))
    settings = _large_enough(kind, settings, dataset, {})
    findings += examine(dataset, findings, others)
    report = Report(
        dataset, findings, _reach(kind, settings, dataset, f"{detector} ({preset or next(iter(kind.presets))})")
    )
    if out is not None:
        from foodbox.data.page import page  # and matplotlib, half a second's import, which most verbs do without

        write_whole(Path(out) / "report.html", page(report, str(photos)))
    if fix is not None:
        mended, lost = formats.prune(mend(dataset, report.findings), dataset.format)
        formats.FORMATS[dataset.format].write(mended, Path(fix))
        write_whole(Path(fix) / "changes.md", list_of_changes(report.findings, lost))
        say(f"Wrote {fix}: {mended}. What was changed stands in {Path(fix) / 'changes.md'}.")
    return report


def _large_enough(
    kind: type[Detector], preset: DetectorSettings, dataset: Dataset, changes: dict[str, Any]
) -> DetectorSettings:
    """The light preset with a larger input where boxes are small in its own, and with tiles where they are tiny.

    The other presets are as their papers say, and what the person chose (`changes`) stays.
    """
    if "size" in changes or preset != config.build(kind.Settings, kind.presets["light"]):
        return preset
    usual = config.apply(preset, {"tile_size": changes.get("tile_size", 0)}).preprocessing
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
    return config.apply(preset, larger)


def _expect_tiles(kind: type[Detector], side: int) -> None:
    """Refuses tiles that are too small to show anything, and those of a detector that cannot look at them."""
    if 0 < side < SMALLEST_TILE:
        raise UsageError(f"--tile-size is {side}: expected {SMALLEST_TILE} pixels or more, or 0 for whole photos.")
    if side and kind.needs_proposals:
        raise UsageError(f"{kind.__name__} looks for its regions on whole photos: leave --tile-size out.")


def _enough_detections(preset: DetectorSettings, dataset: Dataset) -> DetectorSettings:
    """The preset with as many detections of a photo, or a tile, as one of these has boxes, where that is more."""
    most = max(int((~shown.ignore).sum()) for shown in cut(dataset.photos, preset.preprocessing.tile_size))
    kept = getattr(preset, "max_detections", most)
    if most <= kept:
        return preset
    say(f"A photo has {most} boxes, and {kept} detections are kept of one: --max-detections is {most} here.")
    return config.apply(preset, {"max_detections": most})


def _reach(kind: type[Detector], settings: DetectorSettings, dataset: Dataset, name: str) -> AnchorReach | None:
    boxes, _, height, width = boxes_in_input(dataset, settings.preprocessing)
    better = kind.fit_anchors(settings, boxes, height, width) if len(boxes) else {}
    anchors, fitted = (kind.anchors_of(s, height, width) for s in (settings, settings.model_copy(update=better)))
    return anchor_reach(name, boxes, anchors, fitted, better)


def convert(
    source: PathLike, dest: PathLike, *, to: str, format: str | None = None, skip_bad: bool = False
) -> tuple[Dataset, list[str]]:
    """Copies photos into a new folder, with their labels in another format.

    Args:
        to: the format that is written, a name in `foodbox.data.formats.FORMATS`.
        format: the format of `source`, where looking is not enough.

    Returns:
        What was written, and sentences on what the format cannot hold.

    Raises:
        UsageError: a folder is missing or there already, or there is no such format.
        FoodboxError: photos or labels are at fault and `skip_bad` is not set.
    """
    if to not in formats.FORMATS:
        raise UsageError(f"Unknown format {to!r}: expected one of {', '.join(formats.FORMATS)}.")
    expect_new(Path(dest), Path(source))
    dataset, findings = read_labels(Path(source), format)
    dataset, words = sound(dataset, findings, skip_bad)
    dataset, lost = formats.prune(dataset, to)
    for line in [*words, *(f"{formats.FORMATS[to].title}: {words}." for words in lost)]:
        say(line)
    formats.FORMATS[to].write(dataset, Path(dest))
    return dataset, lost


# -- A trained model ------------------------------------------------------------------------------------------------


class Model:
    """A trained detector, ready to use.

    Attributes:
        names: the classes it finds.
        run: what is known of the run that it came from.
    """

    def __init__(self, detector: Detector, run: dict[str, Any], device: str | None = None) -> None:
        self.device = pick_device(device)
        self._half = _half(run, self.device)
        self.detector = detector.to(self.device).eval().requires_grad_(False)
        self._one_at_a_time = threading.Lock()
        self._network = network_for(self.detector, self.device)
        self.run = run

    @property
    def names(self) -> list[str]:
        return self.detector.names

    @property
    def threshold(self) -> float:
        """The score from which detections are shown: by the photos that the model was validated on, else 0.3."""
        return float(self.run.get("threshold", SURE))

    def detect(
        self, photo: PathLike | Image.Image | np.ndarray[Any, Any], min_score: float | None = None
    ) -> Detections:
        """What is on one photo: a path, a Pillow picture, or an array [H, W, 3] of red, green, blue bytes.

        A picture's EXIF turn is applied, as a file's is.

        Args:
            min_score: leave out what is less sure; the model's own threshold if not given.

        Raises:
            FoodboxError: the file is no photo.
            UsageError: it is neither of these.
        """
        min_score = self._least_score(min_score)
        prepared = self.detector.preprocessing
        path, picture = None, None
        if isinstance(photo, str | Path):
            path = Path(photo)
            width, height, _ = photo_size(path)
        else:
            picture = as_seen(_picture(photo))
            width, height = picture.size
        whole = Photo(path or Path(), width, height)
        opened: dict[Path, Image.Image] = {}

        def item(tile: Photo) -> Item:
            least = max(prepared.resized(tile.width, tile.height))
            shown = shown_by(tile, picture) if picture is not None else open_tile(tile, least, opened)
            pixels, frame = prepare(shown, prepared, path, (tile.width, tile.height))
            if (search := self.detector.search) is None:
                return pixels, Target(), frame
            regions = proposals.find(shown, search) if path is None else proposals.of_photo(tile, search)
            return pixels, Target(), frame, proposals.in_input(regions, frame)

        every = tiles(whole, prepared.tile_size)
        found: dict[int, Detections] = {}
        for some in apart(every, prepared, PHOTOS_AT_ONCE):
            batch = Collate(prepared)([item(every[i]) for i in some])
            found |= zip(some, self.detect_prepared(batch, min_score), strict=True)
        return next(together([whole], prepared.tile_size, (found[i] for i in range(len(every)))))

    def detect_prepared(self, batch: Batch, min_score: float | None = None) -> list[Detections]:
        """`detect` over photos or tiles that are prepared and put together already (data/loader.py), in their order."""
        min_score = self._least_score(min_score)
        with self._one_at_a_time:  # threads of torch are counted for the whole process, and changed while decoding
            return list(predict(self.detector, [batch], self.device, self._half, min_score, network=self._network))

    def detect_many(
        self,
        photos: Sequence[Photo],
        min_score: float | None = None,
        progress: Callable[[int], None] = lambda count: None,
    ) -> Iterable[Detections]:
        """`detect` over many photos, which are opened in other processes meanwhile; in their order."""
        min_score = self._least_score(min_score)
        return predict_photos(
            self.detector, photos, self.device, self._half, min_score, progress=progress, network=self._network
        )

    def _least_score(self, given: float | None) -> float:
        """The score that was asked for, or the threshold.

        Raises:
            UsageError: it is no share.
        """
        score = self.threshold if given is None else given
        if not 0 <= score <= 1:  # nan neither
            raise UsageError(f"The smallest score is {score}: expected a number from 0 to 1.")
        return score

    def evaluate(self, photos: PathLike, **options: Any) -> Scores:
        """The scores on a folder of labelled photos; options as for `foodbox.evaluate`."""
        return evaluate(self, photos, **options)

    def save(self, path: PathLike) -> None:
        """Writes the model to one .safetensors file.

        Raises:
            UsageError: the path ends otherwise, or the model is an exported one, which has no such file's tensors.
        """
        if Path(path).suffix.lower() != ".safetensors":
            raise UsageError(
                f"A model is saved as .safetensors, and {path} ends otherwise: call it {path}.safetensors."
            )
        if isinstance(self.detector, runtime.Exported):
            raise UsageError("An exported model is saved by copying its two files, .xml and .bin.")
        save_model(Path(path), self.detector, self.run)


def _picture(photo: object) -> Image.Image:
    """A picture as it is, or an array [H, W, 3] or [H, W] of bytes as one."""
    if isinstance(photo, Image.Image):
        return photo
    if isinstance(photo, np.ndarray) and photo.dtype == np.uint8 and photo.size:
        with suppress(TypeError):  # of other shapes
            return Image.fromarray(photo)
    about = f"an array {list(photo.shape)} of {photo.dtype}" if isinstance(photo, np.ndarray) else type(photo).__name__
    raise UsageError(
        f"A photo is {about}: expected a path, a Pillow picture, or an array [height, width, 3] of uint8, red first."
    )


@torch.inference_mode(False)
def load(file: PathLike, device: str | None = None, *, tile_size: int | None = None) -> Model:
    """A model from a file: one of ours, an exported one (.xml), or another program's that an importer knows.

    Args:
        tile_size: photos larger than this are seen in tiles of this side, px, too; 0: in none. None leaves it to the
            model, which knows what it was trained with.

    Raises:
        UsageError: there is no such file, or the detector does not look at such tiles.
        FoodboxError: it is broken, or another network's.
    """
    path = Path(file)
    if path.suffix.lower() == runtime.ENDING:
        graph, header = runtime.read(path)
        about = understand(header, {}, path)
        model = _exported(build(about, empty=True), graph, about.run, device)
    else:
        weights = pretrained.read(path)
        model = Model(build(weights), weights.run, device)
    if tile_size is not None:
        _expect_tiles(type(model.detector), tile_size)
        model.detector.settings = config.apply(model.detector.settings, {"tile_size": tile_size})
    return model


def _exported(detector: Detector, graph: Any, run: dict[str, Any], device: str | None = None) -> Model:
    """An exported model; `detector` is of the same settings, with weights or without."""
    if device not in (None, "cpu"):
        raise UsageError(f"An exported model runs on the CPU, not on {device!r}: take the .safetensors for that.")
    return Model(runtime.Exported(detector, graph, _half(run, torch.device("cpu"))), run, "cpu")


def _half(run: dict[str, Any], device: torch.device) -> bool:
    """Whether a model detects in bfloat16: where that is faster, unless it was trained with --precision float32."""
    return (run.get("train") or {}).get("precision") != "float32" and half_precision_pays(device)


def evaluate(
    model: Model | PathLike,
    photos: PathLike,
    *,
    one_class: str | None = None,
    format: str | None = None,
    part: str | None = None,
    skip_bad: bool = False,
    starthon_file: PathLike | None = None,
) -> Scores:
    """The scores of a model on a folder of labelled photos.

    Args:
        one_class: fold all classes of the photos into one of this name; done without asking where the model was
            trained so.
        part: "train", "valid", "test" or "all" of photos whose labels or folders name parts; "valid" if not said, and
            "test" where there is none.
        starthon_file: write the contest's prediction file here: a line for every photo, labelled or not.

    Raises:
        UsageError: the folder or the model is not there, or the model knows none of the classes.
        FoodboxError: photos or labels are at fault.
    """
    if not isinstance(model, Model):
        model = load(model)
    dataset, findings = read_labels(Path(photos), format)
    whole, dataset = dataset, part_of(dataset, part)
    left_out = {photo.path for photo in whole} - {photo.path for photo in dataset}
    findings = [f for f in findings if f.photo not in left_out]
    folded = one_class or (model.run.get("train") or {}).get("one_class")
    if folded:
        dataset = splits.one_class(dataset, folded)
    findings += look_whole(dataset.photos)
    labelled, words = healthy(dataset, findings, skip_bad)
    for line in words:
        say(line)
    counted = _for_model(labelled, model.names)
    bad = {f.photo for f in findings if f.harm == "error"}
    everything = [photo for photo in dataset if photo.path not in bad] if starthon_file else labelled.photos
    with progress_bar("detecting", len(everything)) as bar:
        found = list(model.detect_many(everything, min_score=0.0, progress=bar.advance))
    if starthon_file is not None:
        write_whole(Path(starthon_file), prediction_file(found))
        say(f"Wrote {starthon_file}: {len(found)} lines, one a photo in the order of the file names.")
    kept = {photo.path for photo in labelled}
    return score(counted, [d for d in found if d.path in kept], model.threshold)


def _for_model(dataset: Dataset, names: list[str]) -> Dataset:
    """The dataset with labels into the model's names; classes that it does not know come behind them and score 0."""
    unknown = [name for name in dataset.names if name not in names]
    if len(unknown) == len(dataset.names):
        fold = f" Fold them with --one-class {names[0]}." if len(names) == 1 else ""
        raise UsageError(
            f"The photos' classes ({', '.join(dataset.names)}) are none that the model knows "
            f"({', '.join(names)}).{fold}"
        )
    if unknown:
        say(f"The model does not know {', '.join(unknown)}: their boxes count as missed.")
    return splits.with_names(dataset, [*names, *unknown])


# -- Export ---------------------------------------------------------------------------------------------------------

CALIBRATION_PHOTOS = 300
"""Photos that int8's ranges are taken from: NNCF's default, and more changed no score."""


@dataclass
class Export:
    """An exported model: its file, beside which the .bin lies, and the scores of the model before and after."""

    model: Path
    seconds: float
    before: Scores | None = None
    after: Scores | None = None

    def to_dict(self) -> dict[str, Any]:
        """What `foodbox export --json` prints."""
        result: dict[str, Any] = {"model": str(self.model), "seconds": round(self.seconds, 1)}
        for name, scores in (("before", self.before), ("after", self.after)):
            result[name] = scores.to_dict() if scores else None
        return result


def export(
    model: Model | PathLike,
    *,
    out: PathLike | None = None,
    int8: PathLike | None = None,
    valid: PathLike | None = None,
) -> Export:
    """Writes a model for OpenVINO, which detects faster on a CPU; `load` and the other verbs take it.

    Args:
        out: the file NAME.xml; NAME.bin is written beside it. Without it they lie beside the model's file.
        int8: a folder of labelled photos; the network then calculates in int8, with ranges taken from some of these.
        valid: a folder of labelled photos to score the model on, before and after; without it, those of `int8`.

    Raises:
        UsageError: the detector is a two-stage one, a name is wrong, or something is not there.
        FoodboxError: OpenVINO is not installed, or cannot do what the network does.
    """
    start = time.monotonic()
    file = _export_file(model, out, int8 is not None)
    runtime.library("openvino")
    if not isinstance(model, Model):
        model = load(model, "cpu")
    kind = type(model.detector)
    if isinstance(model.detector, runtime.Exported) or not kind.one_stage:
        able = ", ".join(name for name, other in DETECTORS.items() if other.one_stage)
        what = "an exported model" if kind is runtime.Exported else f"a {kind.__name__}, which selects boxes half-way"
        raise UsageError(f"This is {what}, and only models of {able} can be exported.")
    header = header_of(model.detector, model.run)
    # What is wrong with the photos is said before anything is written.
    scored = valid or int8
    before = evaluate(model, scored, skip_bad=True) if scored is not None else None
    side = model.detector.preprocessing.tile_size
    photos = _calibration_photos(Path(int8), side) if int8 is not None else []
    detector = model.detector.cpu()
    try:
        graph = exporting.graph_of(detector, header)
        if photos:
            say(f"Taking the ranges for int8 from {counted(len(photos), 'tile' if side else 'photo')}.")
            graph = exporting.quantise(graph, photos, detector)
        exporting.write(graph, file)
        result = Export(file, time.monotonic() - start)
        if scored is not None:
            result.before, result.after = before, evaluate(file, scored, skip_bad=True)
    finally:
        detector.to(model.device)
    return result


def _export_file(model: Model | PathLike, out: PathLike | None, int8: bool) -> Path:
    """Where an exported model is written to."""
    if out is None:
        if isinstance(model, Model):
            raise UsageError('Name a file for the exported model: out="NAME.xml".')
        return Path(model).with_name(Path(model).stem + ("_int8" if int8 else "") + runtime.ENDING)
    if Path(out).suffix.lower() != runtime.ENDING:
        raise UsageError(f"{out} does not end in {runtime.ENDING}: name a file such as best{runtime.ENDING}.")
    return Path(out)


def _calibration_photos(place: Path, side: int) -> list[Photo]:
    """Photos that int8's ranges are taken from, or tiles: of the part "train" where labels or folders name parts."""
    dataset, findings = read_labels(place)
    dataset = part_of(dataset, "train" if any(photo.part == "train" for photo in dataset) else "all")
    some = splits.sample(dataset, CALIBRATION_PHOTOS, seed=0)
    bad = {f.photo for f in findings + look_whole(some.photos) if f.harm == "error"}
    whole = [photo for photo in some if photo.path not in bad]
    if not whole:
        raise FoodboxError(f"{place} has no photo that can be opened: name a folder of whole photos for --int8.")
    shown = every_tile(whole, side)
    return shown[:: math.ceil(len(shown) / CALIBRATION_PHOTOS)]


# -- Detection on photos, folders and patterns ----------------------------------------------------------------------


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
        min_score: leave out what is less sure; the model's own threshold if not given.
        crop: write each region as its own photo besides.

    Returns:
        The detections of each photo that could be opened, and a finding for each that could not.

    Raises:
        UsageError: there is nothing at a path, or a photo lies where pictures are written to.
    """
    if not isinstance(model, Model):
        model = load(model)
    min_score = model._least_score(min_score)
    photos, findings = find_all([paths] if isinstance(paths, str | Path) else paths)
    if out is not None:
        expect_elsewhere(photos, Path(out))
    writer = DetectionWriter(Path(out), crop) if out is not None else None
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
    """
    if min(photos, unseen) < 1:
        raise UsageError(f"--photos is {photos} and --unseen {unseen}: expected 1 or more of each.")
    folder = Path(folder)
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
