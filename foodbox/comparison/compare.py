"""`foodbox compare`: the detectors, one after the other, on the same photos with the same budget."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foodbox import api, configure
from foodbox.comparison import page, trial
from foodbox.comparison.results import Comparison, Trial
from foodbox.config import TrainSettings, epochs_for
from foodbox.console import say
from foodbox.data.parts import read_parts
from foodbox.data.splits import spread
from foodbox.detectors.base import Detector
from foodbox.drawing.boxes import draw_truth, jpeg
from foodbox.errors import UsageError
from foodbox.files import PathLike, alone_in, as_json, as_path, write_whole
from foodbox.inference.predict import pick_device
from foodbox.records import Dataset
from foodbox.training.run_folder import RunFolder, expect_name, expect_writable

PLAN = "compare.json"
TRIAL = [sys.executable, "-m", "foodbox.comparison.trial"]
"""The program that carries out one trial."""
SHOWN = 5
"""Validation photos that are shown with every detector's boxes: eight detectors make 45 pictures of them."""


@dataclass
class Plan:
    """What is compared; a folder that holds another plan is another comparison.

    Attributes:
        photos: the folder, from the root of the disk on.
        detectors: their names.
        train: settings of every run, all of them.
        own: settings that the detectors have and were asked for, such as the input's size.
    """

    photos: str
    detectors: list[str]
    train: dict[str, Any]
    own: dict[str, Any]

    def differs(self, other: Plan) -> str:
        """Where the other was asked for something else, in words; other detectors are no difference."""
        if self.photos != other.photos:
            return f"its photos are {self.photos}, not {other.photos}"
        mine, others = ({**plan.train, **plan.own} for plan in (self, other))
        for name in {**mine, **others}:
            if mine.get(name) != others.get(name):
                return f"its {name} is {mine.get(name)!r}, not {others.get(name)!r}"
        return ""


def compare(
    photos: PathLike,
    *,
    detectors: str | Sequence[str] = "all",
    runs: PathLike = "runs",
    name: str | None = None,
    **settings: Any,
) -> Comparison:
    """Trains each detector on the same photos with the same budget, and sets side by side how good and fast they are.

    Each has a process of its own, one after the other. Called again with the same settings, it goes on where it was
    stopped or killed: what has ended is not repeated, a half-trained detector is trained on from its last kept epoch,
    and those that refused are asked again. A detector that cannot be trained on these photos is noted with the reason.

    Args:
        photos: the folder; its label format is detected.
        detectors: "all", or names with commas between them, or a list of names.
        runs, name: all is written to runs/name; without a name, to the last comparison there that has these settings
            and has not ended, else to a new folder compare-1, -2, ...
        settings: any of `foodbox.config.TrainSettings` but the detector, such as epochs=10; and those of the detectors'
            own that all have, such as size=320. Each takes its first preset. Those that look for regions on whole
            photos go without tile_size.

    Raises:
        UsageError: a folder, a setting or a name is wrong, or runs/name is another comparison.
        FoodboxError: photos or labels are at fault, or the place cannot be written to.
    """
    photos, runs = as_path(photos, "The folder of photos"), as_path(runs, "The folder of runs")
    expect_name(name)
    asked, chosen = _plan(photos, detectors, settings)
    folder, plan = _folder(runs, name, asked)
    expect_writable(folder)
    with alone_in(folder):
        result = _compared(photos, folder, plan, chosen)
    if result.interrupted:
        done_so_far = ", ".join(t.detector for t in result.scored) or "none"
        say(
            f"Stopped. Done so far: {done_so_far}. The same command goes on where it was"
            + (f" (--name {folder.name})." if name is None else ".")
        )
    return result


def _compared(photos: PathLike, folder: Path, plan: Plan, chosen: TrainSettings) -> Comparison:
    """All detectors of the plan, or as many as there are when it is stopped."""
    split = folder / "split.json"
    parts = chosen.model_copy(update={"split": split, "sample": None}) if split.exists() else chosen
    train_part, valid_part = read_parts(Path(photos), parts)
    write_whole(folder / PLAN, as_json(dataclasses.asdict(plan), indent=1))
    if not split.exists():
        RunFolder(folder).write_split(train_part, valid_part)
    shown = _shown(valid_part)
    result = Comparison(
        folder, str(photos), len(train_part), len(valid_part), sum(int((~p.ignore).sum()) for p in valid_part),
        train_part.names, chosen.budget, chosen.epochs or epochs_for(len(train_part)), plan.detectors, [],
    )  # fmt: skip
    say(f"Comparing {', '.join(plan.detectors)}: {result.budget} each on {train_part}; in {folder}.")
    done = {detector: Trial.read(folder / detector / trial.RESULT) for detector in plan.detectors}
    result.trials = [found for found in done.values() if found and not found.refused]
    for i, detector in enumerate(plan.detectors):
        if result.interrupted or detector not in result.waiting:
            continue
        say(f"{i + 1} of {len(plan.detectors)}: {detector}.")
        (folder / detector / trial.RESULT).unlink(missing_ok=True)
        own = _bearable(api.detector_and_settings(detector, None)[0], plan.own)
        if own != plan.own:
            say(f"{detector} looks for its regions on whole photos, and goes without --tile-size.")
        settings = _on_split(chosen, split) | own
        order = trial.Order(str(photos), str(folder), detector, settings, [str(photo.path) for photo in shown])
        code, result.interrupted = _carry_out(order)
        ended = Trial.read(folder / detector / trial.RESULT)
        if ended is None and not result.interrupted:
            ended = Trial(detector, refused=_broken(code))
        if ended is not None:
            if ended.refused:
                say(f"{detector}: {ended.refused}")
            result.trials.append(ended)
            _write(result, shown)
    _write(result, shown)
    return result


# -- What is asked for ----------------------------------------------------------------------------------------------


def _plan(photos: PathLike, detectors: str | Sequence[str], settings: dict[str, Any]) -> tuple[Plan, TrainSettings]:
    """The call, checked before anything is read or written."""
    known = api.detector_names()
    given = detectors.split(",") if isinstance(detectors, str) else detectors
    names = list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(name, str) for name in names):
        raise UsageError(f"detectors is {detectors!r}: expected all, or names such as retinanet,ssd.")
    names = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not names:
        raise UsageError(f"No detector is named: expected all, or some of {', '.join(known)}.")
    names = known if names == ["all"] else names
    for name in names:
        if name not in known:
            raise UsageError(f"There is no detector {name!r}: expected all, or some of {', '.join(known)}.")
    if "detector" in settings:
        raise UsageError("A comparison has several detectors: name them with --detectors.")
    run = {name: value for name, value in settings.items() if name in TrainSettings.model_fields}
    own = {name: value for name, value in settings.items() if name not in run}
    chosen = configure.build(TrainSettings, run)
    api.expect_sense(chosen)
    pick_device(chosen.device)
    faults = []
    for name in names:
        try:
            _, preset = api.detector_and_settings(name, chosen.preset)
            Detector.expect_tiles(configure.apply(preset, own).preprocessing.tile_size)
        except UsageError as fault:
            faults.append(fault)
    if len(faults) == len(names):  # if some have the setting, the others' rows say that they do not
        raise faults[0]
    train = chosen.model_dump(mode="json", exclude={"detector"})
    return Plan(os.path.abspath(photos), names, train, json.loads(json.dumps(own, default=str))), chosen  # noqa: PTH100 - no link followed


def _bearable(kind: type[Detector], own: dict[str, Any]) -> dict[str, Any]:
    """Settings that the detectors were asked for, without tiles for one that cannot look at any."""
    return {n: v for n, v in own.items() if not (n == "tile_size" and v and kind.needs_proposals)}


def _folder(runs: Path, name: str | None, asked: Plan) -> tuple[Path, Plan]:
    """Where this comparison is or will be, and what is compared there: detectors may have been added.

    Raises:
        UsageError: runs/name is something else, or no name.
    """
    expect_name(name)
    if name is None:
        found = (re.fullmatch(r"compare-(\d+)", path.name) for path in runs.glob("compare-*"))
        numbers = sorted((int(match[1]) for match in found if match), reverse=True)
        for last in (runs / f"compare-{number}" for number in numbers):
            there = _read_plan(last)
            if there is not None and not there.differs(asked) and there.detectors == asked.detectors:
                trials = [Trial.read(last / detector / trial.RESULT) for detector in there.detectors]
                if not all(trials):
                    return last, there
        return runs / f"compare-{max(numbers, default=0) + 1}", asked
    folder = runs / name
    there = _read_plan(folder)
    if there is None:
        if folder.exists() and (not folder.is_dir() or any(p for p in folder.iterdir() if p.name[0] != ".")):
            raise UsageError(f"{folder} is there already and is no comparison: choose another --name.")
        return folder, asked
    if words := there.differs(asked):
        raise UsageError(f"{folder} is another comparison: {words}. Choose another --name, or ask for the same.")
    return folder, dataclasses.replace(asked, detectors=list(dict.fromkeys([*there.detectors, *asked.detectors])))


def _read_plan(folder: Path) -> Plan | None:
    """What is compared in a folder; None where it is none of ours."""
    try:
        return Plan(**json.loads((folder / PLAN).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _on_split(chosen: TrainSettings, split: Path) -> dict[str, Any]:
    """Settings for `foodbox.train`: those of the comparison, on its very photos."""
    settings = chosen.model_dump(mode="json", exclude={"detector", "sample", "valid_share"})
    return settings | {"split": str(split)}


def _shown(valid: Dataset) -> Dataset:
    """Validation photos to be shown, spread over all of them; those with boxes."""
    return valid.with_photos(spread([photo for photo in valid if len(photo.boxes)], SHOWN))


# -- One after the other --------------------------------------------------------------------------------------------


def _carry_out(order: trial.Order) -> tuple[int, bool]:
    """Runs a trial in a process of its own: its exit code, and whether the person stopped it.

    Ctrl-C reaches us alone and is handed on, so that it leaves a whole run behind; a second one kills it.
    """
    command = [*TRIAL, json.dumps(order._asdict())]
    group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows's word for a session of its own
    # Standard output is for results, which a trial has none of.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, creationflags=group
    ) as process:
        try:
            return process.wait(), False
        except KeyboardInterrupt:
            say("Stopping; Ctrl-C again does not wait for what is being written.")
            try:
                assert process.stdin is not None
                process.stdin.write(b"stop\n")
                process.stdin.flush()
                return process.wait(), True
            except (KeyboardInterrupt, OSError):
                process.kill()
                return process.wait(), True


def _broken(code: int) -> str:
    """The sentence for a trial that ended without a result."""
    if code < 0:
        return (
            f"It was ended by the system (signal {-code}), most often for want of memory. Take a smaller --batch-size."
        )
    return f"It ended without a result (exit code {code}); what it said last stands above."


def _write(result: Comparison, shown: Dataset) -> None:
    """Tables, pictures and the page, as far as the comparison has come."""
    result.write_tables()
    names = shown.names if len(shown.names) > 1 else ()
    truth = [jpeg(draw_truth(trial.opened(photo.path), photo, names=names)) for photo in shown]
    page.write(result, [photo.path.name for photo in shown], truth)
