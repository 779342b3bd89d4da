"""What of a run is written to its folder while it goes on, and when."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from foodbox.detections import Detections
from foodbox.detectors.base import Detector
from foodbox.evaluation.diagnosis import Diagnosis
from foodbox.evaluation.scores import Scores
from foodbox.evaluation.speed import peak_memory
from foodbox.records import Dataset
from foodbox.training.clock import Clock
from foodbox.training.run_folder import Progress, RunFolder, load_optimiser, optimiser_tensors
from foodbox.weights.model_file import save_model

DRAW_SECONDS, KEEP_SECONDS = 30.0, 10.0
"""Seconds from one drawing of the pictures to the next, and from one state that a run can go on from to the next: of
epochs that take a few seconds, some go undrawn and unkept."""


class Keeper:
    """Keeps a run in its folder: the best model and the log after every scored epoch, the rest now and then.

    Attributes:
        progress: how far the run has come.
        log: an entry for each scored epoch.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: dict[str, Any],
        detector: Detector,
        optimiser: torch.optim.Optimizer,
        clock: Clock,
    ) -> None:
        self.progress = Progress()
        self.log: list[dict[str, Any]] = []
        self._folder, self._config, self._clock = folder, config, clock
        self._detector, self._optimiser = detector, optimiser
        self._diagnosis: Diagnosis | None = None  # of the best epoch, undrawn
        self._drawn = 0.0
        self._kept = -KEEP_SECONDS  # the first epoch is

    def go_on(self) -> None:
        """Puts weights, the optimiser's memory, the log and the clock where they were at the last epoch kept."""
        tensors, self.progress = self._folder.read_state()
        self._detector.load_state_dict(
            {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        )
        load_optimiser(self._optimiser, tensors)
        log = self._folder.log()
        for entry in log:  # the best model may be of an epoch after the last that was kept
            self.progress.note_if_better(Scores(**entry["scores"]), entry["epoch"])
        self.log = [entry for entry in log if entry["epoch"] <= self.progress.epochs]
        self._clock.earlier = self.progress.seconds

    def begin(self) -> None:
        """Writes a model that is good to name, should the first epoch fail."""
        if not self._folder.last_model.exists():
            save_model(self._folder.last_model, self._detector, self._config | {"epoch": 0})
        self._drawn = self._clock.seconds()

    def add(
        self,
        epoch: int,
        losses: dict[str, float],
        valid: Dataset,
        detections: Sequence[Detections],
        scores: Scores,
        ended: bool,
    ) -> dict[str, Any]:
        """Keeps a scored epoch, and gives its entry in the log.

        Args:
            epoch: how many there were with it.
            losses: means since the last scores, by part.
            detections: of the validation photos, one for each.
            ended: it was the last one.
        """
        folder, clock = self._folder, self._clock
        better = self.progress.note_if_better(scores, epoch)
        if better:
            self._diagnosis = Diagnosis.of(valid, detections, scores.threshold)
        keep = ended or clock.seconds() - self._kept >= KEEP_SECONDS
        if files := [folder.best_model] * better + [folder.last_model] * keep:
            save_model(
                files[0], self._detector, self._config | {"epoch": epoch, "threshold": scores.threshold}, *files[1:]
            )
        entry = {
            "epoch": epoch,
            "seconds": round(clock.seconds(), 1),
            "learning_rate": max(float(group["lr"]) for group in self._optimiser.param_groups),
            "losses": losses,
            "scores": scores.to_dict(),
        }
        self.log.append(entry)
        self.progress.epochs = epoch
        folder.write_log(self.log)
        if keep:
            self._kept = clock.seconds()
            self.progress.memory = max(self.progress.memory or 0, peak_memory() or 0) or None
            weights = {f"model.{name}": tensor for name, tensor in self._detector.state_dict().items()}
            state = weights | optimiser_tensors(self._optimiser)
            folder.write_state(state, dataclasses.replace(self.progress, seconds=self._kept, ended=ended))
        if ended or clock.seconds() - self._drawn >= DRAW_SECONDS:
            self._draw(curves=not ended)  # then they come with the report
            self._drawn = clock.seconds()
        return entry

    def stopped(self) -> None:
        """Leaves a model that works, if not yet a good one, and the pictures of what there was."""
        if not self._folder.best_model.exists():  # no epoch was scored
            save_model(self._folder.best_model, self._detector, self._config | {"epoch": 0}, self._folder.last_model)
        if self.log:
            self._draw(curves=True)

    def finish(self) -> None:
        """Writes the curves and the report, which has all pictures."""
        self._folder.write_curves()
        self._folder.write_report(self._config, self.progress.scores)

    def _draw(self, curves: bool) -> None:
        if curves:
            self._folder.write_curves()
        if self._diagnosis is not None:
            self._folder.write_pictures(self._diagnosis.pictures())
            self._diagnosis = None
