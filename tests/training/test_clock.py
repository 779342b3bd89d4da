"""A run's clock, by hand: what lies behind, of the steps or of the time without what scoring takes."""

from __future__ import annotations

import time

import pytest
from accelerate import Accelerator

from foodbox.training.clock import TRAINING_PER_SCORING, Clock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the time is; a test sets it."""
    moment = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    return moment


def test_without_a_budget_steps_count(now: list[float]) -> None:
    clock = Clock(90.0, None, 8, 1, Accelerator(cpu=True))
    assert (clock.seconds(), clock.share(2), clock.share(8)) == (10, 0.25, 1)
    assert clock.until(0.5) is None
    assert not clock.is_soon()


def test_with_a_budget_time_counts_less_what_scoring_takes(now: list[float]) -> None:
    """Of 100 seconds 80 are for training where scoring takes 20, and 85 where it took 15."""
    clock = Clock(100.0, 100.0, 8, 1, Accelerator(cpu=True))
    clock.earlier = 10.0
    assert clock.until(0.25) == 115
    clock.expect_scoring(20.0)
    now[0] += 30
    assert clock.share(0) == 40 / 80
    assert clock.is_soon()
    with clock.scoring():
        now[0] += 10
        assert clock.share(0) == 50 / 90  # as long as they have taken so far
        now[0] += 5
    assert clock.share(0) == 55 / 85
    now[0] += TRAINING_PER_SCORING * 15
    assert not clock.is_soon()
