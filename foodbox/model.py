"""A trained model: loading it, what it finds on a photo, and how it scores."""

from __future__ import annotations

import inspect
import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from numbers import Integral, Real
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image

from foodbox import config, configure
from foodbox.console import progress_bar, say
from foodbox.data import proposals, splits
from foodbox.data.check import healthy, look_whole
from foodbox.data.images import PhotoError, as_seen, decode, open_header, photo_size, prepare, seen_size
from foodbox.data.loader import PHOTOS_AT_ONCE, Collate, Item, apart
from foodbox.data.parts import part_of, read_labels
from foodbox.data.tiles import open_tile, shown_by, tiles, together
from foodbox.defaults import usual_defaults
from foodbox.detections import Detections
from foodbox.detectors.base import Detector
from foodbox.errors import UsageError, first_line
from foodbox.evaluation.diagnosis import Diagnosis
from foodbox.evaluation.page import expect_no_run, write_page
from foodbox.evaluation.scores import Scores, score
from foodbox.evaluation.starthon import prediction_file
from foodbox.evaluation.threshold import SURE
from foodbox.files import PathLike, as_path, write_whole
from foodbox.findings import BROKEN
from foodbox.inference import onnx, openvino
from foodbox.inference.exported import Exported
from foodbox.inference.output import expect_elsewhere
from foodbox.inference.predict import half_precision_pays, pick_device, predict, predict_photos
from foodbox.inference.replay import network_for
from foodbox.inference.threads import Threads
from foodbox.records import Batch, Dataset, Photo, Target, counted, no_boxes, no_labels
from foodbox.weights import pretrained
from foodbox.weights.model_file import build, save_model, understand

EXPORTS: dict[str, Any] = {openvino.ENDING: openvino, onnx.ENDING: onnx}
"""By the ending of an exported model's file, the module that makes, writes, reads and runs its network."""
DEEP = (3,), (4,)
"""The third dimension of arrays in colour, and in colour with alpha."""
if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    # A fork has none of the threads that torch calculated on, and would wait for them for ever: as where a server loads
    # a model and forks its workers then.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
SHOWN = 5
"""Classes that a model names where it is printed."""


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
        self._one_at_a_time = threading.RLock()  # again by the same thread: what is told of progress may detect, too
        self._network = network_for(self.detector, self.device)
        in_torch = self.device.type == "cpu" and not isinstance(detector, Exported)
        self._threads = Threads() if in_torch else None
        self.run = run

    def __reduce__(self) -> tuple[Any, ...]:
        """To copy or pickle it: the lock and what runs the network are of this process alone, and are made anew."""
        return type(self), (self.detector, self.run, str(self.device))

    def __repr__(self) -> str:
        classes = f"{counted(len(self.names), 'class', 'classes')} ({', '.join(self.names[:SHOWN])}"
        more = ", ..." if len(self.names) > SHOWN else ""
        return f"<{type(self.detector).__name__} model of {classes}{more}) on {self.device}>"

    @property
    def names(self) -> list[str]:
        return self.detector.names

    @property
    def threshold(self) -> float:
        """The score from which detections are shown: by the photos that the model was validated on, else 0.3."""
        return float(self.run.get("threshold", SURE))

    @usual_defaults()
    def detect(
        self, photo: PathLike | IO[bytes] | Image.Image | np.ndarray[Any, Any], min_score: float | None = None
    ) -> Detections:
        """What is on one photo: a path, an open file, a Pillow picture, or an array [H, W, 3] of bytes, red first.

        A picture's EXIF turn is applied, as a file's is. Where the network sees no more of it, a large JPEG's file is
        opened at a half, a quarter or an eighth of its size: its scores and boxes may differ a little from those of the
        same photo given as a picture. An open file is read from its beginning, a stream from where it is.

        Args:
            min_score: drop detections with a lower score; by default the model's own threshold.

        Raises:
            FoodboxError: the file is no photo.
            UsageError: it is neither of these.
        """
        min_score = self._least_score(min_score)
        prepared = self.detector.preprocessing
        path, picture = None, None
        if isinstance(photo, str | os.PathLike):
            path = as_path(photo, "A photo")
            if path.is_dir():
                raise UsageError(f"{path} is a folder: name one photo, or give folders to foodbox.detect(model, ...).")
            width, height, _ = photo_size(path)
        elif hasattr(photo, "read"):
            picture, (width, height) = self._of_file(photo)  # type: ignore[arg-type]
        else:
            picture = _picture(photo)
            width, height = picture.size
        whole = Photo(path or Path(), width, height)
        opened: dict[Path, Image.Image] = {}

        def item(tile: Photo) -> Item:
            least = prepared.resized(tile.width, tile.height)
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

    def _of_file(self, file: IO[bytes]) -> tuple[Image.Image, tuple[int, int]]:
        """The pixels of an open file as `detect` takes those of a path, and the photo's width and height."""
        with suppress(OSError, AttributeError):  # of a stream, which does not go back
            file.seek(0)
        content, prepared = file.read(), self.detector.preprocessing
        if not isinstance(content, bytes):
            raise UsageError("The open file gives letters and not bytes: open it with mode 'rb'.")
        try:
            with open_header(opened := io.BytesIO(content)) as header:
                width, height, _ = seen_size(header)
                in_parts = prepared.tile_size or self.detector.search is not None  # which look at all of its pixels
                least = None if in_parts else prepared.resized(width, height)
                return decode(header, opened, least), (width, height)
        except PhotoError as fault:
            raise PhotoError("The open file", *fault.args[1:]) from fault

    def detect_prepared(self, batch: Batch, min_score: float | None = None) -> list[Detections]:
        """`detect` over photos or tiles that are prepared and put together already (data/loader.py), in their order."""
        min_score = self._least_score(min_score)
        with self._one_at_a_time, usual_defaults():  # torch's threads are the process's, and change while decoding
            network, on = self._network, self._threads
            return list(predict(self.detector, [batch], self.device, self._half, min_score, network=network, on=on))

    def detect_many(
        self,
        photos: Sequence[Photo],
        min_score: float | None = None,
        progress: Callable[[int], None] = lambda count: None,
    ) -> Iterable[Detections]:
        """`detect` over many photos, which are opened in other processes meanwhile; in their order."""
        min_score = self._least_score(min_score)
        found = predict_photos(
            self.detector, photos, self.device, self._half, min_score, progress=progress, network=self._network,
            on=self._threads,
        )  # fmt: skip
        return self._in_turn(found)

    def _in_turn(self, found: Iterator[Detections]) -> Iterator[Detections]:
        """Each as it is asked for, as in `detect_prepared`; between two of them torch is as the caller has it."""
        while True:
            with self._one_at_a_time, usual_defaults():
                following = next(found, None)
            if following is None:
                return
            yield following

    def _least_score(self, given: float | None) -> float:
        """The score that was asked for, or the threshold.

        Raises:
            UsageError: it is no share.
        """
        score = self.threshold if given is None else given
        if not (isinstance(score, Real) and 0 <= score <= 1):  # nan neither
            raise UsageError(f"The smallest score is {score!r}: expected a number from 0 to 1.")
        return score

    def evaluate(self, photos: PathLike, **options: Any) -> Scores:
        """The scores on a folder of labelled photos; options as for `foodbox.evaluate`.

        Raises:
            UsageError: there is no such option, or as `foodbox.evaluate`.
        """
        known = [name for name in inspect.signature(evaluate).parameters if name not in ("model", "photos")]
        if unknown := [name for name in options if name not in known]:
            raise configure.unknown_setting(unknown[0], known)
        return evaluate(self, photos, **options)

    def save(self, path: PathLike) -> None:
        """Writes the model to one .safetensors file.

        Raises:
            UsageError: the path ends otherwise, or the model is an exported one, which has no such file's tensors.
        """
        file = as_path(path, "The file to save to")
        if file.suffix.lower() != ".safetensors":
            raise UsageError(
                f"A model is saved as .safetensors, and {path} ends otherwise: call it {path}.safetensors."
            )
        if isinstance(self.detector, Exported):
            raise UsageError("An exported model is saved by copying its file, and of OpenVINO's also the .bin.")
        save_model(file, self.detector, self.run)


def _picture(photo: object) -> Image.Image:
    """A picture as it is seen; an array [H, W, 3], [H, W, 4] with alpha, or [H, W] in grey, as one."""
    if isinstance(photo, Image.Image):
        if 0 in photo.size:
            raise UsageError(f"The picture has {photo.width} x {photo.height} pixels: expected one of each or more.")
        try:
            return as_seen(photo)
        except (OSError, ValueError) as fault:  # it is closed, or of a mode that Pillow cannot convert
            raise PhotoError(f"The picture cannot be used ({first_line(fault)}): take another.") from fault
    flat = isinstance(photo, np.ndarray) and photo.ndim == 2
    if isinstance(photo, np.ndarray) and photo.dtype == np.uint8 and photo.size and (flat or photo.shape[2:] in DEEP):
        with suppress(TypeError):  # of other shapes
            return as_seen(Image.fromarray(photo))
    about = f"an array {list(photo.shape)} of {photo.dtype}" if isinstance(photo, np.ndarray) else type(photo).__name__
    raise UsageError(
        f"A photo is {about}: expected a path, an open file, a Pillow picture, or an array [height, width, 3] of "
        "uint8, red first."
    )


@usual_defaults()
@torch.inference_mode(False)
def load(file: PathLike, device: str | None = None, *, tile_size: int | None = None) -> Model:
    """A model from a file: one of ours, an exported one (.xml or .onnx), or another program's that an importer knows.

    Args:
        file: the file, or a run folder for its best model.
        tile_size: photos larger than this are seen in tiles of this side, px, too; 0: in none. None leaves it to the
            model, which knows what it was trained with.

    Raises:
        UsageError: there is no such file, or the detector does not look at such tiles.
        FoodboxError: it is broken, or another network's.
    """
    path = as_path(file, "The model file")
    if not isinstance(tile_size, Integral | None):
        raise UsageError(f"The tile size is {tile_size!r}: expected a whole number of pixels, or 0 for whole photos.")
    if (runtime := EXPORTS.get(path.suffix.lower())) is not None:
        if not path.is_file():
            raise UsageError(f"There is no exported model {path}: expected a file that foodbox export wrote.")
        graph, header = runtime.read(path)
        about = understand(header, {}, path)
        if device not in (None, "cpu"):
            raise UsageError(f"An exported model runs on the CPU, not on {device!r}: take the .safetensors for that.")
        detector = build(about, empty=True)
        network = runtime.Network(detector, graph, _half(about.run, torch.device("cpu")))
        model = Model(Exported(detector, network), about.run, "cpu")
    else:
        weights = pretrained.read(path)
        model = Model(build(weights), weights.run, device)
    if tile_size is not None:
        type(model.detector).expect_tiles(tile_size)
        model.detector.settings = configure.apply(model.detector.settings, {"tile_size": int(tile_size)})
    return model


def _half(run: dict[str, Any], device: torch.device) -> bool:
    """Whether a model detects in bfloat16: where that is faster, unless it was trained with --precision float32."""
    return (run.get("train") or {}).get("precision") != "float32" and half_precision_pays(device)


@usual_defaults()
def evaluate(
    model: Model | PathLike,
    photos: PathLike,
    *,
    one_class: str | None = None,
    format: str | None = None,
    part: str | None = None,
    skip_bad: bool = False,
    starthon_file: PathLike | None = None,
    out: PathLike | None = None,
) -> Scores:
    """The scores of a model on a folder of labelled photos.

    Args:
        one_class: fold all classes of the photos into one of this name; done without asking where the model was
            trained so.
        part: "train", "valid", "test" or "all" of photos whose labels or folders name parts; "valid" if not said, and
            "test" where there is none.
        starthon_file: write the contest's prediction file here: a line for every photo, labelled or not, and 0,0,1,1
            for one that cannot be opened, as where nothing is found.
        out: write report.html here, and its pictures: precision and recall, which class was taken for which, photos
            with boxes and labels side by side, those with the most mistakes among them.

    Raises:
        UsageError: the folder or the model is not there, an argument is wrong, or the model knows none of the classes.
        FoodboxError: photos or labels are at fault.
    """
    place = as_path(photos, "The folder of photos")
    lines = None if starthon_file is None else as_path(starthon_file, "The prediction file")
    report = None if out is None else as_path(out, "The report's folder")
    if report is not None:
        expect_no_run(report)
    configure.build(config.TrainSettings, {"one_class": one_class})  # refuses what training refuses
    if not isinstance(model, Model):
        model = load(model)
    dataset, findings = read_labels(place, format)
    if report is not None:
        expect_elsewhere(dataset.photos, report)
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
    truth = _for_model(labelled, model.names)
    unread = sorted({f.photo for f in findings if f.photo and f.kind == BROKEN} - left_out)
    everything = [photo for photo in dataset if photo.path not in unread] if lines is not None else labelled.photos
    with progress_bar("detecting", len(everything)) as bar:
        found = list(model.detect_many(everything, min_score=0.0, progress=bar.advance))
    if lines is not None:
        if left_out:  # nobody knows the part of a photo that was never read but by its folder
            folders = {photo.path.parent for photo in dataset}
            unread = [path for path in unread if path.parent in folders]
        # A line less, and all below it would be of another photo.
        blank = [Detections(no_boxes(), torch.zeros(0), no_labels(), model.names, 1, 1, path) for path in unread]
        every = sorted([*found, *blank], key=lambda one: one.path or Path())
        write_whole(lines, prediction_file(every))
        say(f"Wrote {lines}: {len(every)} lines, one a photo in the order of the file names.")
        if unread:
            which = f"{counted(len(unread), 'photo')} that cannot be opened, such as {unread[0]}"
            say(f"Among them 0,0,1,1 for {which}.")
    kept = {photo.path for photo in labelled}
    found = [d for d in found if d.path in kept]
    scores = score(truth, found, model.threshold)
    if report is not None:
        write_page(report, Diagnosis.of(truth, found, model.threshold), scores)
    return scores


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
