"""The time that a run takes, and how much of it is left where it was given one."""

from __future__ import annotations

import time

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

TRAINING_PER_SCORING = 4
"""Where the time is given, epochs go unscored until training has taken this many times as long as scoring."""


class Clock:
    """Seconds of a run, from its start on, those before it was gone on with among them.

    Attributes:
        earlier: seconds that the run took before it was gone on with.
        scoring: seconds that the last scores took or, before the first, will take.
    """

    def __init__(self, start: float, budget: float | None, at_end: float, accelerator: Accelerator) -> None:
        """
        Args:
            start: when this part of the run began, by `time.monotonic()`.
            budget: seconds that the run was given, None for as many as it takes.
            at_end: what follows the last step, in scorings.
        """
        self.earlier = 0.0
        self.scoring = 0.0
        self._start = start
        self._budget = budget
        self._at_end = at_end
        self._accelerator = accelerator

    def seconds(self) -> float:
        """Of the run so far."""
        return self.earlier + time.monotonic() - self._start

    def share(self) -> float:
        """The share of the budget that is used up, as far as it is for training; over 1 where that took longer."""
        assert self._budget is not None
        return self.agreed(self.seconds() / max(1e-9, self._budget - self._at_end * self.scoring))

    def is_soon(self, scored: float) -> bool:
        """Whether it is too soon after the last scores, at so many seconds, for others."""
        return self.seconds() - scored < TRAINING_PER_SCORING * self.scoring

    def agreed(self, value: float) -> float:
        """What the first of the processes that train together has for a value: its clock counts for all.

        It alone scores: no other knows `scoring`, and what is decided by that must come from here.
        """
        if self._accelerator.num_processes == 1:
            return value
        return float(broadcast(torch.tensor(value, device=self._accelerator.device)))
