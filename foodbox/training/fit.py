"""The training loop. Read it from top to bottom: everything that happens in a run happens here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import InitProcessGroupKwargs
from torch.utils.data import DataLoader

from foodbox.config import TrainSettings, batch_size_for, epochs_for
from foodbox.console import progress_bar, say
from foodbox.data.augment import Augmentation
from foodbox.data.loader import PHOTOS_AT_ONCE, PreparedPhotos, Shuffled, photo_loader, training_loader
from foodbox.data.tiles import every_tile, together, training_tiles
from foodbox.detections import Detections
from foodbox.detectors.base import Detector, Outputs
from foodbox.evaluation.scores import Scores, score
from foodbox.inference.predict import default_workers, half_precision_pays, in_order, pick_device, predict
from foodbox.inference.replay import network_for
from foodbox.inference.threads import Threads
from foodbox.records import Batch, Dataset, Photo
from foodbox.training.choices import way_of
from foodbox.training.clock import Clock
from foodbox.training.feature_cache import freeze, kept_loader
from foodbox.training.keeper import Keeper
from foodbox.training.optimiser import make_optimiser, set_rate
from foodbox.training.pending_loss import PendingLoss
from foodbox.training.run_folder import RunFolder
from foodbox.training.step import learner
from foodbox.training.words import epoch_line, outlook

PROCESS_TIMEOUT = timedelta(days=1)
"""How long processes that train together wait for the first, which alone scores and makes the last fit; NCCL's ten
minutes are not enough for that on many photos."""
MAPS_SHARE = 0.25
"""The share of a given time after which no further view's maps are computed: the rest is for training on them."""


@dataclass
class Run:
    """A training run that has ended: its folder, its best model, the scores of that model on the validation photos.

    Attributes:
        epoch, scores: of the best model; 0 and None if no epoch was scored.
        interrupted: it was stopped before its end.
    """

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


@contextmanager
def _accelerate_as_it_was() -> Iterator[None]:
    """Accelerate has one state for the whole process: a caller's own finds his again afterwards."""
    states = (PartialState, AcceleratorState, GradientState)
    before = [dict(state._shared_state) for state in states]
    try:
        yield
    finally:
        for state, values in zip(states, before, strict=True):
            state._shared_state.clear()
            state._shared_state.update(values)


@_accelerate_as_it_was()
def fit(
    detector: Detector,
    train: Dataset,
    valid: Dataset,
    settings: TrainSettings,
    folder: RunFolder,
    config: dict[str, Any],
    resume: bool = False,
    start: float | None = None,
) -> Run:
    """Trains the detector and leaves the run in its folder.

    Ctrl-C ends the run at once; the folder then holds a model that works and all that going on needs.

    Args:
        config: what the report and the model file say of the run.
        resume: go on from the last epoch that the folder kept.
        start: when the run began, by `time.monotonic()`; now if not given. A budget of time counts from there.

    Raises:
        FoodboxError: a loss is not finite; the last good model is kept.
    """
    start = time.monotonic() if start is None else start
    torch.manual_seed(settings.seed)
    accelerator = _accelerator(settings)
    device, main = accelerator.device, accelerator.is_main_process
    half = accelerator.mixed_precision == "bf16"
    workers = default_workers(device) if settings.workers is None else settings.workers

    way = way_of(settings, detector, device, accelerator.num_processes)
    shown = training_tiles(train.photos, detector.preprocessing.tile_size)
    epochs = settings.epochs or epochs_for(len(shown))
    batches = _batches(shown, detector, settings, workers, accelerator, whole=way != "plain")
    order = batches.batch_sampler
    assert isinstance(order, Shuffled)  # which training_loader put there
    checks = photo_loader(
        every_tile(valid, detector.preprocessing.tile_size), detector.preprocessing, PHOTOS_AT_ONCE, workers,
        search=detector.search, pinned=device.type == "cuda", keep=True,
    )  # fmt: skip
    has_last_fit = type(detector).finish is not Detector.finish
    # The last fit goes over the photos to train on as scoring does over the others.
    at_end = 1 + len(train) / len(valid) if has_last_fit else 1
    clock = Clock(start, settings.budget, epochs * len(batches), at_end, accelerator)

    detector.to(device).to(memory_format=torch.channels_last)
    if settings.freeze is not None:
        freeze(detector, settings.freeze)
    optimiser = make_optimiser(detector, settings)
    keeper = Keeper(folder, config, detector, optimiser, clock)
    if resume:
        keeper.go_on()
    epoch = keeper.progress.epochs
    ended = epoch >= epochs if settings.budget is None else keeper.progress.ended
    if settings.freeze is not None and settings.views and detector.has_maps and not ended:
        disk, until = settings.cache == "disk", clock.until(MAPS_SHARE)
        batches = kept_loader(detector, batches, min(settings.views, epochs), device, half, disk, until)
        checks = kept_loader(detector, checks, 1, device, half, disk, until)
    learn = learner(detector, optimiser, settings.clip, accelerator, way)
    network = network_for(detector, device, recorded=way == "replayed")
    on = Threads() if device.type == "cpu" else None  # that photos are scored on
    if settings.budget is not None and not ended:
        clock.expect_scoring(_expected(detector, checks, device, half, network, on))
    if main:
        keeper.begin()

    steps = scored_steps = epoch * len(batches)
    sums = torch.zeros((), device=device)  # of each part of the loss, since the last scores
    pending: PendingLoss | None = None  # of the last step
    try:
        while not ended:
            detector.train()
            order.epoch = epoch
            torch.manual_seed(hash((settings.seed, epoch)))  # of lots that losses draw; the same after going on
            epoch += 1
            with progress_bar(f"epoch {epoch} of {settings.time or epochs}", len(batches)) as bar:
                for batch in batches:
                    set_rate(optimiser, settings, min(1.0, clock.share(steps + 1)))
                    losses = learn(batch)
                    steps += 1
                    before, pending = pending, PendingLoss(losses, batch)
                    sums = sums + pending.losses
                    bar.advance(note=f"loss {before.value(folder.last_model):.3f}" if before else None)
                    if ended := clock.share(steps) >= 1:
                        break
            assert pending is not None  # an epoch has a step
            pending.value(folder.last_model)
            if not ended and clock.is_soon():
                continue  # short epochs of few photos: the time is for training

            with clock.scoring():
                if main:
                    if ended and has_last_fit:
                        _finish(detector, train, device, workers)
                    detections = _detect(detector, checks, device, half, valid, network, on)
                    scores = score(valid, detections)
                if not has_last_fit:  # which is still to be made, though scoring may have used the time up
                    ended = ended or clock.share(steps) >= 1
                if main:
                    means = dict(zip(pending.parts, (sums / (steps - scored_steps)).tolist(), strict=True))
                    entry = keeper.add(epoch, means, valid, detections, scores, ended)
                    say(epoch_line(entry, f"/{epochs}" if settings.time is None else f" of {settings.time}"))
            sums, scored_steps = torch.zeros((), device=device), steps
            accelerator.wait_for_everyone()
    except KeyboardInterrupt:
        if main:
            keeper.stopped()
        say(f"Stopped. The model so far is {folder.best_model}.")
        interrupted = True
    else:
        interrupted = False
        if main:
            keeper.finish()
            if (sentence := outlook(keeper.log)) is not None:
                say(sentence)
    best = keeper.progress
    return Run(folder.path, folder.best_model, clock.seconds(), best.best_epoch, best.scores, interrupted)


def _batches(
    shown: Sequence[Photo], detector: Detector, settings: TrainSettings, workers: int, accelerator: Accelerator,
    whole: bool,
) -> DataLoader[Any]:  # fmt: skip
    """Batches of photos or tiles to train on, drawn and changed anew in every epoch."""
    batches = training_loader(
        shown, detector.preprocessing,
        Augmentation(settings.mirror, settings.zoom, settings.colour, settings.stretch, settings.upside_down),
        settings.batch_size or batch_size_for(len(shown)), workers, settings.seed,
        part=(accelerator.process_index, accelerator.num_processes), cache=settings.cache, masks=detector.needs_masks,
        search=detector.search, whole=whole, pinned=accelerator.device.type == "cuda",
    )  # fmt: skip
    if detector.preprocessing.tile_size:
        _open_in_order(batches.dataset)  # type: ignore[arg-type]
    return batches


def _accelerator(settings: TrainSettings) -> Accelerator:
    """Accelerate decides on devices and processes (`accelerate launch`); we say whether bfloat16 pays there."""
    # It remembers its first settings for the whole process; a second run may have others.
    AcceleratorState._reset_state(reset_partial_state=True)
    device = pick_device(settings.device)
    half = settings.precision == "bfloat16" or (settings.precision == "auto" and half_precision_pays(device))
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # a process by itself gets the current one from Accelerate
    return Accelerator(
        mixed_precision="bf16" if half else "no",
        cpu=device.type == "cpu",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PROCESS_TIMEOUT)],
    )


def _open_in_order(photos: PreparedPhotos) -> None:
    """Opens tiles before the first epoch does, as far as they are kept: in a drawn order each had its photo decoded."""
    with progress_bar("opening", len(photos)) as bar:
        for i in range(len(photos)):
            photos.pixels(i)
            if photos.cache.get(i) is None:
                break
            bar.advance()


def _finish(detector: Detector, train: Dataset, device: torch.device, workers: int) -> None:
    """What a detector learns after gradient descent, from the photos as they are: R-CNN's classifiers.

    An epoch whose model was better without it remains the best one.
    """
    pinned = device.type == "cuda"
    loader = photo_loader(
        train.photos, detector.preprocessing, PHOTOS_AT_ONCE, workers, search=detector.search, pinned=pinned
    )
    with progress_bar("last fit", len(loader)) as bar:

        def batches() -> Iterator[Batch]:
            for batch in loader:
                yield batch.to(device)  # type: ignore[attr-defined]
                bar.advance()

        detector.eval().finish(batches())


def _expected(
    detector: Detector, checks: Any, device: torch.device, half: bool, network: Callable[..., Outputs],
    on: Threads | None,
) -> float:  # fmt: skip
    """Seconds that detection on the validation photos will take, by their first batch."""
    batch = next(iter(checks))
    for _ in range(2):  # in the first all memory is asked for
        began = time.monotonic()
        list(predict(detector, [batch], device, half, min_score=0.0, network=network, on=on))
    return (time.monotonic() - began) * len(checks)


def _detect(
    detector: Detector, batches: Any, device: torch.device, half: bool, valid: Dataset,
    network: Callable[..., Outputs], on: Threads | None = None,
) -> list[Detections]:  # fmt: skip
    """Detections on the validation photos, unsure ones too: AP counts them, the contest's score needs one each."""
    with progress_bar("validation", len(batches.dataset)) as bar:
        found = predict(detector, batches, device, half, 0.0, progress=bar.advance, network=network, on=on)
        return list(together(valid, detector.preprocessing.tile_size, in_order(found, batches)))
