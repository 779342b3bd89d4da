"""What came of a comparison: one detector's figures, and all of them as a table."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from foodbox.errors import FoodboxError
from foodbox.files import as_json, write_whole
from foodbox.records import counted


@dataclass
class Trial:
    """One detector's figures; None is what was not measured, or cannot be had on this machine.

    Attributes:
        refused: why it was not trained or not scored, in a sentence; empty where it was.
        ap, ap50, mean_iou, mask_ap50: its best epoch's scores on the validation photos.
        seconds: of training from its start to its end, scoring included.
        epochs: that have ended, or in which the time was up.
        milliseconds: for one photo alone, opened before: resizing, network and decoding.
        photos_per_second: in batches, reading included.
        parameters: how many the network has.
        multiply_adds: of one photo, a square of the preset's input size.
        memory: bytes that the process that trained held at most; gpu_memory: what tensors took on a GPU at most.
        file_size: bytes of the model file.
        size: pixels of the input's side. device: where it ran.
        course: (seconds of training, AP) after each epoch.
    """

    detector: str
    refused: str = ""
    ap: float | None = None
    ap50: float | None = None
    mean_iou: float | None = None
    mask_ap50: float | None = None
    seconds: float | None = None
    epochs: int | None = None
    milliseconds: float | None = None
    photos_per_second: float | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    memory: int | None = None
    gpu_memory: int | None = None
    file_size: int | None = None
    size: int | None = None
    device: str = ""
    model: str = ""
    course: list[tuple[float, float]] = field(default_factory=list)

    @staticmethod
    def read(file: Path) -> Trial | None:
        """What `write` wrote; None where it is not there, or another version's. Its model lies beside it."""
        try:
            trial = Trial(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        trial.model = str(file.with_name(Path(trial.model).name)) if trial.model else ""  # it may have been moved
        return trial

    def write(self, file: Path) -> None:
        """Writes it to a file of JSON."""
        write_whole(file, as_json(dataclasses.asdict(self)))


class Column(NamedTuple):
    """One figure of the table.

    Attributes:
        key: the trial's attribute.
        head: what stands above it, with its unit.
        words: what it is.
        show: the figure in words.
        better: `max` or `min` where more or less is better; None where it is neither.
    """

    key: str
    head: str
    words: str
    show: Callable[[Any], str]
    better: Callable[..., Any] | None = None


def _places(places: int, unit: float = 1) -> Callable[[Any], str]:
    return lambda value: f"{value / unit:,.{places}f}"


def milliseconds(value: float) -> str:
    """Milliseconds without their unit, as the screen and the page show them: "20.4", "1,102"."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


COLUMNS = (
    Column("ap", "AP", "COCO's AP: the mean over IoU 0.50 to 0.95, of the best epoch.", _places(3), max),
    Column("ap50", "AP50", "The same where an IoU of 0.50 is enough: found, if not to the pixel.", _places(3), max),
    Column("mean_iou", "mean IoU", "The AI Starthon's score: the IoU of each photo's best box.", _places(3), max),
    Column("mask_ap50", "mask AP50", "AP50 of the outlines instead of the boxes.", _places(3), max),
    Column("seconds", "training s", "Seconds from the start of training to its end, with scoring.", _places(0), min),
    Column("epochs", "epochs", "How often it saw each photo in that time.", _places(0)),
    Column("milliseconds", "ms a photo", "For one photo after the other, the median: resizing, network, boxes; "
           "the file is opened before.", milliseconds, min),
    Column("photos_per_second", "photos/s", "Many photos in batches, reading the files included.", _places(1), max),
    Column("parameters", "parameters M", "Learnt numbers, in millions.", _places(2, 1e6), min),
    Column("multiply_adds", "GMAC", "Multiply-adds of one photo at the input's size, in billions (10⁹); "
           "as GFLOP twice as many.", _places(2, 1e9), min),
    Column("memory", "memory MB", "The most that the process that trained held, without those that open photos.",
           _places(0, 1e6), min),
    Column("gpu_memory", "GPU MB", "The most that tensors took on the GPU in training.", _places(0, 1e6), min),
    Column("file_size", "file MB", "The model file.", _places(1, 1e6), min),
)  # fmt: skip


@dataclass
class Comparison:
    """All detectors of a comparison, as far as it has come.

    Attributes:
        folder: where it is written.
        photos: the folder of photos.
        train, valid, boxes: photos to train on, to validate on, and boxes on the latter.
        names: the classes.
        time, epochs: the budget of each: seconds, or epochs where no time is given.
        detectors: all that are compared, in this order.
        trials: those that have ended, in their order.
        interrupted: stopped by Ctrl-C.
    """

    folder: Path
    photos: str
    train: int
    valid: int
    boxes: int
    names: list[str]
    time: float | None
    epochs: int
    detectors: list[str]
    trials: list[Trial]
    interrupted: bool = False

    @property
    def scored(self) -> list[Trial]:
        """Those that were trained and scored, best AP first."""
        return sorted((t for t in self.trials if not t.refused), key=lambda t: -(t.ap or 0.0))

    @property
    def refused(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.refused]

    @property
    def waiting(self) -> list[str]:
        """Those that have not ended yet."""
        ended = {trial.detector for trial in self.trials}
        return [name for name in self.detectors if name not in ended]

    @property
    def best(self) -> Trial | None:
        """The highest AP."""
        return next(iter(self.scored), None)

    @property
    def fastest(self) -> Trial | None:
        """The fewest milliseconds a photo."""
        timed = [trial for trial in self.scored if trial.milliseconds is not None]
        return min(timed, key=lambda trial: trial.milliseconds or 0.0, default=None)

    @property
    def columns(self) -> list[Column]:
        """Those in which some detector has a figure."""
        return [column for column in COLUMNS if any(getattr(t, column.key) is not None for t in self.scored)]

    @property
    def budget(self) -> str:
        """What each had to train: "10 minutes", "5 epochs". Where nobody said so, those with tiles have fewer."""
        if self.time is not None:
            return duration(self.time)
        fewer = any(t.epochs is not None and t.epochs < self.epochs for t in self.scored)
        return counted(self.epochs, "epoch") + (" (fewer where it sees photos in tiles)" if fewer else "")

    def best_of(self, column: Column) -> float | None:
        """The best figure of a column, where more or less is better."""
        values = [v for trial in self.scored if (v := getattr(trial, column.key)) is not None]
        return column.better(values) if column.better is not None and values else None

    def verdict(self) -> list[str]:
        """Which is the best, which the fastest, and what each was given, in sentences."""
        fair = (
            f"Each had {self.budget} on the same {counted(self.train, 'photo')}, and was scored on the same "
            f"{counted(self.valid, 'other')} with {counted(self.boxes, 'box', 'boxes')}"
        )
        best, fastest = self.best, self.fastest
        if best is None:
            return [f"{fair}. None has been scored{' yet' if self.waiting else ''}."]
        lines = [f"{best.detector} finds best: AP {_shown(best.ap)}, AP50 {_shown(best.ap50)}."]
        if fastest is not None and best.milliseconds is not None:
            time = f"{milliseconds(fastest.milliseconds or 0.0)} ms a photo"
            if fastest is best and len(self.scored) > 1:
                lines = [f"{lines[0][:-1]}. It is the fastest, too: {time}."]
            elif fastest is not best:
                times = best.milliseconds / (fastest.milliseconds or 1e-9)
                lines.append(
                    f"{fastest.detector} is the fastest: {time} with AP {_shown(fastest.ap)}; "
                    f"{best.detector} takes {times:.1f} times as long."
                )
        return [*lines, f"{fair}."]

    def to_dict(self) -> dict[str, Any]:
        """What `foodbox compare --json` prints, and table.json has."""
        about: dict[str, Any] = {"folder": str(self.folder), "photos": self.photos}
        about |= {"train": self.train, "valid": self.valid, "boxes": self.boxes, "names": self.names}
        about |= {"budget": {"seconds": self.time} if self.time is not None else {"epochs": self.epochs}}
        about |= {"best": self.best and self.best.detector, "fastest": self.fastest and self.fastest.detector}
        about |= {"interrupted": self.interrupted, "waiting": self.waiting}
        return about | {"detectors": [dataclasses.asdict(trial) for trial in [*self.scored, *self.refused]]}

    def write_tables(self) -> None:
        """table.json and table.csv, best AP first."""
        write_whole(self.folder / "table.json", as_json(self.to_dict(), indent=1))
        keys = ["detector", *(column.key for column in COLUMNS), "size", "device", "model", "refused"]
        words = io.StringIO()
        table = csv.writer(words)
        table.writerow(keys)
        table.writerows([getattr(trial, key) for key in keys] for trial in [*self.scored, *self.refused])
        write_whole(self.folder / "table.csv", words.getvalue())

    def lines(self) -> list[str]:
        """The table for the screen, and below it those that were not trained."""
        rows = [["detector", *(column.head for column in self.columns)]]
        rows += [[trial.detector, *cells(trial, self.columns)] for trial in self.scored]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        ]
        return [*(lines if self.scored else []), *(f"{t.detector}: {t.refused}" for t in self.refused)]


def cells(trial: Trial, columns: list[Column]) -> list[str]:
    """A row of the table in words, without the name."""
    values = [getattr(trial, column.key) for column in columns]
    return ["–" if v is None else column.show(v) for v, column in zip(values, columns, strict=True)]


def duration(seconds: float) -> str:
    """Seconds in words: "45 seconds", "1.5 minutes", "2 hours"."""
    for unit, word in ((3600, "hour"), (60, "minute")):
        if seconds >= unit and seconds * 10 % unit == 0:
            return f"{seconds / unit:g} {word}{'' if seconds == unit else 's'}"
    return f"{seconds:g} second{'' if seconds == 1 else 's'}"


def refusal(fault: FoodboxError) -> str:
    """The sentence of a fault, on one line."""
    return " ".join(str(fault).split())


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
