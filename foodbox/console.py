"""Words and progress for the person who waits; all on standard error, so that standard output stays for results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def is_speaker() -> bool:
    """Whether this process talks to the person: of many that train together (torchrun, accelerate) the first does."""
    return os.environ.get("RANK", "0") == "0"


def say(words: str) -> None:
    """A line for the person; nothing in it is taken for markup, nor the line number of labels.csv:100: for an emoji."""
    if is_speaker():
        Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False).print(words)


class Bar:
    """One progress bar: how far, how long it took, how long it will take."""

    def __init__(self, progress: Progress, title: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total, note="")

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Some more is done; `note` stands behind the bar."""
        self._progress.update(self._task, advance=count)
        if note is not None:
            self._progress.update(self._task, note=note)

    def to(self, done: int) -> None:
        """So much is done in all."""
        self._progress.update(self._task, completed=done)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Bar]:
    """A bar on standard error while the block runs, where that is a terminal; in a log file it would be in the way."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not (console.is_terminal and is_speaker())
    ) as progress:
        yield Bar(progress, title, total)
