"""The time that a run takes, and how much of the run lies behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

TRAINING_PER_SCORING = 4
"""Where the time is given, epochs go unscored until training has taken this many times as long as scoring."""


class Clock:
    """Seconds of a run, from its start on, those before it was gone on with among them.

    Attributes:
        earlier: seconds that the run took before it was gone on with.
    """

    def __init__(self, start: float, budget: float | None, steps: int, at_end: float, accelerator: Accelerator) -> None:
        """
        Args:
            start: when this part of the run began, by `time.monotonic()`.
            budget: seconds that the run was given, None for as many as it takes.
            steps: of the whole run, where it has no budget.
            at_end: what follows the last step, in scorings.
        """
        self.earlier = 0.0
        self._start = start
        self._budget = budget
        self._steps = steps
        self._at_end = at_end
        self._accelerator = accelerator
        self._scoring = 0.0  # seconds that the last scores took or, before the first, will take
        self._scored = 0.0  # when there were the last ones
        self._since: float | None = None  # when those began that are on their way

    def seconds(self) -> float:
        """Of the run so far."""
        return self.earlier + time.monotonic() - self._start

    def until(self, share: float) -> float | None:
        """The moment of `time.monotonic()` when this share of the budget is used up; None where there is no budget."""
        return None if self._budget is None else self._start - self.earlier + share * self._budget

    def share(self, steps: int) -> float:
        """The share of the run that lies behind when so many steps do.

        It is that of all steps or, where there is a budget, of the time for training; over 1 where that took longer.
        """
        if self._budget is None:
            return steps / self._steps
        scoring = self._scoring if self._since is None else self.seconds() - self._since
        return self._agreed(self.seconds() / max(1e-9, self._budget - self._at_end * scoring))

    def expect_scoring(self, seconds: float) -> None:
        """Training begins, and scores will take so long."""
        self._scoring, self._scored = seconds, self.seconds()

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """What is done within is scoring: its time is remembered."""
        self._since = self.seconds()
        yield
        self._scored = self.seconds()
        self._scoring, self._since = self._scored - self._since, None

    def is_soon(self) -> bool:
        """Whether it is too soon after the last scores for others, in a run with a budget."""
        soon = self.seconds() - self._scored < TRAINING_PER_SCORING * self._scoring
        return self._budget is not None and bool(self._agreed(soon))

    def _agreed(self, value: float) -> float:
        """What the first of the processes that train together has for a value: its clock counts for all.

        It alone scores: no other knows how long that takes, and what is decided by it must come from here.
        """
        if self._accelerator.num_processes == 1:
            return value
        return float(broadcast(torch.tensor(value, device=self._accelerator.device)))
