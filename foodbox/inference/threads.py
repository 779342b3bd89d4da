"""How many threads torch calculates with: one, or as many as other programs leave cores for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from foodbox.records import Frame

IDLE = 0.8
"""The share of its threads' time that a process gets where the cores are its own: 0.9 to 1 on two of them, for threads
that wait for each other do so awake. Beside one busy program it was 0.55, beside two 0.47."""
STEPS = 3
"""Steps that are looked at together."""
WORSE = 2.0
"""A number of threads whose first step takes so many times as long is tried no further."""
PATIENCE = 20
"""A trial is followed by so many times its time without one, and by twice as many after each that found nothing."""


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Has torch calculate on so many threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Threads:
    """As many threads as other programs leave cores for, found by trying.

    A network is hundreds of operations, at the end of each of which all threads wait for the last one. Beside a program
    that keeps one of two cores busy, or in a container that may use one, that one waits for its turn each time: a
    training step took seven times as long on two threads as on one (docs/benchmarks.md). Where the cores are the
    process's own nothing is tried, and a run gives the same numbers each time.
    """

    def __init__(self) -> None:
        self._begin(torch.get_num_threads())

    def _begin(self, most: int) -> None:
        self._most = self.count = most
        self._steps: list[tuple[float, float]] = []  # of this count: seconds a pixel, share of the threads' time
        self._before: tuple[int, float] | None = None  # while another count is tried: the one before, seconds a pixel
        self._patience = PATIENCE
        self._again = 0.0  # no trial before this moment

    @contextmanager
    def step(self, frames: Sequence[Frame]) -> Iterator[None]:
        """A step over photos is done within the block, on as many threads as torch has or on fewer."""
        if (most := torch.get_num_threads()) != self._most:  # the caller wants another number
            self._begin(most)
        pixels = sum(frame.input_width * frame.input_height for frame in frames)
        began, used = time.perf_counter(), time.process_time()
        with threads(self.count):
            yield
        seconds, used = time.perf_counter() - began, time.process_time() - used
        self._steps.append((seconds / pixels, used / (seconds * self.count)))
        if self._before is not None:
            self._judge(self._before, seconds)
        elif len(self._steps) == STEPS:
            self._look()

    def _look(self) -> None:
        """Begins a trial: of fewer threads where cores are wanting, of more where there may be some again."""
        pace, share = (statistics.median(values) for values in zip(*self._steps, strict=True))
        self._steps = []
        other = self.count // 2 if share < IDLE else min(2 * self.count, self._most)
        if other not in (0, self.count) and time.perf_counter() >= self._again:
            self._before, self.count = (self.count, pace), other

    def _judge(self, before: tuple[int, float], seconds: float) -> None:
        """Ends a trial, unless it has to go on: the faster number of threads stays."""
        count, pace = before
        tried, _ = self._steps[-1]
        if len(self._steps) == 1 and tried < WORSE * pace:
            return  # with a first step comes what is done once for a number of threads
        if tried < pace:
            self._patience = PATIENCE
        else:
            self.count, self._patience = count, 2 * self._patience
        self._again = time.perf_counter() + self._patience * seconds
        self._before, self._steps = None, []
