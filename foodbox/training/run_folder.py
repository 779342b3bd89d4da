"""What a run leaves behind: runs/NAME/ with its settings, split, log, curves, samples, models and report."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from foodbox.console import is_speaker
from foodbox.data.parts import read_split
from foodbox.drawing import html
from foodbox.errors import UsageError
from foodbox.evaluation.page import OF_DIAGNOSIS, picture_parts, score_parts
from foodbox.evaluation.scores import Scores
from foodbox.files import alone_in, as_json, cannot_write, make_folder, write_whole
from foodbox.records import Dataset, counted
from foodbox.training.words import outlook

LONGEST_NAME = 255
"""Bytes of a folder's name on nearly every disk: ext4, XFS, APFS, and NTFS, which counts letters."""


@dataclass
class Progress:
    """How far a run has come; what resuming needs besides tensors."""

    epochs: int = 0
    scores: Scores | None = None
    """Those of best_epoch."""
    best_epoch: int = 0
    seconds: float = 0.0
    memory: int | None = None
    """Bytes that a process of it has held at most."""
    ended: bool = False

    def note_if_better(self, scores: Scores, epoch: int) -> bool:
        """Notes an epoch that is the best one so far, of equals the later one; says whether it is."""
        better = self.scores is None or scores.decisive >= self.scores.decisive
        if better:
            self.scores, self.best_epoch = scores, epoch
        return better


class RunFolder:
    """The files of one run. Every one is written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.best_model = path / "best.safetensors"
        self.last_model = path / "last" / "model.safetensors"
        self._state = path / "last" / "state.safetensors"
        self._log = path / "log.jsonl"

    @staticmethod
    def new(runs: Path, name: str | None, kind: str) -> RunFolder:
        """A new run's folder: runs/NAME, or runs/KIND-1, -2, ... where no name is given.

        Raises:
            UsageError: the name is taken, or is none.
            FoodboxError: the place cannot be written to.
        """
        if name is None and os.environ.get("WORLD_SIZE", "1") != "1":
            raise UsageError("Processes that train together must know their run's folder: give it a --name.")
        if name is not None and not is_speaker():  # the first of them makes it
            return RunFolder(runs / name)
        RunFolder.expect_free(runs, name)
        for i in itertools.count(1):
            path = make_folder(runs) / (name or f"{kind}-{i}")
            try:
                path.mkdir(exist_ok=name is not None)
                (path / "last").mkdir()  # of runs that start at once, one alone makes it
                break
            except FileExistsError:
                RunFolder.expect_free(runs, name)
            except OSError as fault:
                raise cannot_write(path, fault) from fault
        return RunFolder(path)

    @staticmethod
    def expect_free(runs: Path, name: str | None) -> None:
        """Looks whether a new run can have this name: of processes that train together the first does, which takes it.

        Raises:
            UsageError: it is taken, or is none.
            FoodboxError: the place cannot be written to.
        """
        expect_name(name)
        if not is_speaker():
            return
        path = runs / (name or "")
        if name is not None and path.exists() and (not path.is_dir() or any(path.iterdir())):
            with alone_in(path):  # by another one that is at work there, it is not to be removed
                begun = RunFolder(path).has_state
            instead = f"go on with --resume {path}" if begun else "remove it, for no epoch of it was kept"
            raise UsageError(f"The run folder {path} is there already: choose another --name, or {instead}.")
        expect_writable(path)

    @property
    def has_state(self) -> bool:
        """Whether an epoch of the run was kept, from which it can be gone on with."""
        return self._state.exists()

    def give_up(self) -> None:
        """Takes back the folder of a run that failed before there was anything to keep, so that its name is free."""
        if self.best_model.exists() or self.last_model.exists() or not is_speaker():
            return
        for file in (self.path / "config.yaml", self.path / "split.json"):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # somebody put something in
            self.last_model.parent.rmdir()
            self.path.rmdir()

    # -- What was asked for -----------------------------------------------------------------------------------------

    def write_config(self, config: dict[str, Any]) -> None:
        """config.yaml: the photos, the settings of the run and of the detector."""
        write_whole(self.path / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))

    def read_config(self) -> dict[str, Any]:
        """What `write_config` wrote.

        Raises:
            UsageError: this is no run folder.
        """
        try:
            config = yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as fault:
            raise UsageError(
                f"{self.path} is no run to go on with: it has no readable config.yaml. "
                "Name a folder that foodbox train made."
            ) from fault
        if not isinstance(config, dict):
            raise UsageError(f"{self.path / 'config.yaml'} holds no settings. Name a folder that foodbox train made.")
        return config

    def write_split(self, train: Dataset, valid: Dataset) -> None:
        """split.json: which photos were trained on and which were kept for validation."""
        parts = {"train": train, "valid": valid}
        paths = {part: [str(photo.path.absolute()) for photo in photos] for part, photos in parts.items()}
        write_whole(self.path / "split.json", as_json(paths, indent=1))

    def read_split(self) -> dict[str, list[str]]:
        """What `write_split` wrote: part → the photos' paths."""
        return read_split(self.path / "split.json")

    # -- What came of it --------------------------------------------------------------------------------------------

    def log(self) -> list[dict[str, Any]]:
        """The epochs so far, one entry each.

        Raises:
            UsageError: the file is damaged, or another version's.
        """
        if not self._log.exists():
            return []
        entries: list[dict[str, Any]] = []
        try:
            for line in self._log.read_text(encoding="utf-8", errors="replace").split("\n"):
                if line:
                    entries.append(_entry(line))
        except (OSError, TypeError, KeyError, ValueError, RecursionError) as fault:
            raise UsageError(
                f"{self._log}:{len(entries) + 1} cannot be read as an epoch of this version of foodbox. "
                "Remove the line, or start a new run."
            ) from fault
        return entries

    def write_log(self, entries: Sequence[dict[str, Any]]) -> None:
        """log.jsonl: a line an epoch."""
        lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries]
        write_whole(self._log, "".join(lines))

    def write_curves(self) -> None:
        """curves.png, from the log."""
        from foodbox.drawing.curves import curves  # and matplotlib, half a second's import, when there is a curve

        log = self.log()
        write_whole(self.path / "curves.png", curves(log, self.path.name, _best_epoch(log)))

    def write_pictures(self, pictures: dict[str, bytes]) -> None:
        """The best epoch's pictures by name; those that an earlier best one had and this one lacks are taken away."""
        for name, picture in pictures.items():
            write_whole(self.path / name, picture)
        for name in OF_DIAGNOSIS.keys() - pictures.keys():
            (self.path / name).unlink(missing_ok=True)

    def write_report(self, config: dict[str, Any], scores: Scores | None) -> None:
        """report.html: one page with scores, pictures and settings that can be sent as it is."""
        write_whole(self.path / "report.html", _report(self.path, config, self.log(), scores))

    # -- What going on needs ----------------------------------------------------------------------------------------

    def write_state(self, tensors: dict[str, Tensor], progress: Progress) -> None:
        """last/state.safetensors: weights and the optimiser's memory after an epoch."""
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_whole(self._state, save(plain, {"progress": json.dumps(dataclasses.asdict(progress))}))

    def read_state(self) -> tuple[dict[str, Tensor], Progress]:
        """What `write_state` wrote.

        Raises:
            UsageError: the run was stopped before its first epoch ended, or the file is broken.
        """
        try:
            with safe_open(self._state, framework="pt") as file:
                # Copies: Windows replaces no file that memory is mapped from.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dict
                told = json.loads(file.metadata()["progress"])
            scores = Scores(**told["scores"]) if told.get("scores") else None  # states of old have none
            progress = Progress(told["epochs"], scores, told["best_epoch"], told["seconds"], told.get("memory"))
            progress.ended = told.get("ended", False)
        except (OSError, SafetensorError, TypeError, KeyError, ValueError) as fault:
            state = self._state.relative_to(self.path)
            raise UsageError(
                f"{self.path} cannot be resumed: {state} is missing, as no epoch ended, or is damaged. Start a new run."
            ) from fault
        return tensors, progress


def _entry(line: str) -> dict[str, Any]:
    """An epoch as a line of the log tells it; another error where the line lacks what will be asked of it."""
    entry: dict[str, Any] = json.loads(line)
    itemgetter("epoch", "seconds", "losses")(entry)
    Scores(**entry["scores"])
    return entry


def expect_name(name: str | None) -> None:
    """Looks whether a folder of `runs` can be called so; None, for which one will be found, always is right.

    Raises:
        UsageError: it is no name, or that of a folder elsewhere.
    """
    if name is None:
        return
    if not isinstance(name, str):
        raise UsageError(f"The name of the run is {name!r}: expected a word, the name of its folder.")
    elsewhere = name in ("", "..") or Path(name).name != name or set(name) & set("\\\0")
    if elsewhere or len(os.fsencode(name)) > LONGEST_NAME:
        raise UsageError(
            f"--name is {name!r}: expected a folder's name of at most {LONGEST_NAME} bytes, without / and \\; --runs "
            "says where it lies."
        )


def expect_writable(folder: Path) -> None:
    """Looks whether a folder can be made or written to, as far as can be told without doing it.

    Raises:
        FoodboxError: it cannot.
    """
    place = folder.absolute()
    there = next(path for path in (place, *place.parents) if path.exists())
    if not there.is_dir():
        make_folder(folder)  # says what is in its place
    elif not os.access(there, os.W_OK | os.X_OK):
        raise cannot_write(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's memory as named tensors: "optimiser.PARAMETER.VALUE"."""
    state = optimiser.state_dict()["state"]
    return {f"optimiser.{i}.{key}": value for i, values in state.items() for key, value in values.items()}


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimiser_tensors`; other tensors in the dict are passed over.

    Raises:
        UsageError: the tensors are of other parameters.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, *rest = name.split(".")
        if kind == "optimiser":
            like = parameters[int(rest[0])] if int(rest[0]) < len(parameters) else None
            if like is None or (tensor.ndim and tensor.shape != like.shape):
                raise UsageError(
                    "The run cannot be resumed: another version of foodbox began it, whose optimiser kept other "
                    "things. Begin a new one, with --weights and the run's best.safetensors."
                )
            if tensor.shape == like.shape:
                # In the parameter's own order of memory (channels last): fused AdamW goes over both side by side.
                tensor = torch.empty_like(like).copy_(tensor)
            state.setdefault(int(rest[0]), {})[rest[1]] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _summary(config: dict[str, Any], log: Sequence[dict[str, Any]]) -> str:
    """A run in a sentence; records of earlier versions leave some of it out."""
    train, size = config.get("train", {}), config.get("detector", {}).get("preprocessing", {}).get("size")
    preset, photos, batch = train.get("preset"), config.get("training_photos"), train.get("batch_size")
    parts = [
        train.get("detector", "") + (f" ({preset})" if preset else ""),
        f"{size} px" if size else "",
        counted(photos, "training photo") if photos else "",
        f"batches of {batch}" if batch else "",
        counted(log[-1]["epoch"] if log else 0, "epoch"),
        f"{log[-1]['seconds']:,.0f} s" if log else "",
    ]
    return ", ".join(filter(None, parts)) + (f"; the best epoch was {_best_epoch(log)}." if log else ".")


def _best_epoch(log: Sequence[dict[str, Any]]) -> int:
    progress = Progress()
    for entry in log:
        progress.note_if_better(Scores(**entry["scores"]), entry["epoch"])
    return progress.best_epoch


def _report(folder: Path, config: dict[str, Any], log: Sequence[dict[str, Any]], scores: Scores | None) -> str:
    parts = [f"<h1>{html.text(folder.name)}</h1><p>{html.text(_summary(config, log))}</p>"]
    if scores is not None:
        parts += score_parts(scores, "Scores on the validation photos")
        if (sentence := outlook(log)) is not None:
            parts.append(f"<p>{html.text(sentence)}</p>")
    parts += picture_parts(folder)
    settings = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    parts.append(f"<h2>Settings</h2><pre>{html.text(settings)}</pre>")
    return html.document(folder.name, parts)
