"""The number of threads follows what other programs leave, and nothing is tried where they leave all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from foodbox.inference import threads as module
from foodbox.inference.threads import Threads, threads
from foodbox.records import Preprocessing

FRAMES = [Preprocessing(size=64).frame(64, 48)]


class Machine:
    """A machine whose clock goes on by what steps take, and their process's by the share that it gets."""

    def __init__(self, cores: int) -> None:
        self.now = self.used = 0.0
        self.free = cores
        """Cores that other programs leave."""
        self.counts: list[int] = []

    def step(self, on: Threads, work: float = 1.0) -> None:
        """A step of `work` seconds on one thread. More threads than free cores wait for each other, awake."""
        with on.step(FRAMES):
            count = torch.get_num_threads()
            self.counts.append(count)
            crowded = count > self.free
            seconds = 2.5 * count * work if crowded else work / count
            self.now += seconds
            self.used += seconds * (self.free if crowded else count)

    def steps(self, on: Threads, many: int) -> list[int]:
        """The counts of so many steps."""
        for _ in range(many):
            self.step(on)
        return self.counts[-many:]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Machine]]:
    before = torch.get_num_threads()

    def make(cores: int) -> Machine:
        made = Machine(cores)
        monkeypatch.setattr(module.time, "perf_counter", lambda: made.now)
        monkeypatch.setattr(module.time, "process_time", lambda: made.used)
        torch.set_num_threads(cores)
        return made

    yield make
    torch.set_num_threads(before)


def test_nothing_is_tried_on_a_machine_of_ones_own(machine: Callable[[int], Machine]) -> None:
    one = machine(4)
    assert set(one.steps(Threads(), 200)) == {4}


def test_fewer_beside_others_and_all_again_when_they_have_ended(machine: Callable[[int], Machine]) -> None:
    one = machine(2)
    on = Threads()
    one.steps(on, 10)
    one.free = 1
    assert one.steps(on, 6)[-1] == 1
    alone = one.steps(on, 400)
    assert 0 < alone.count(2) < 12  # it looks now and then whether it may have both again
    one.free = 2
    one.steps(on, 400)
    assert set(one.steps(on, 100)) == {2}


def test_by_halves_to_what_is_left(machine: Callable[[int], Machine]) -> None:
    """As in a container that may use one core of eight."""
    one = machine(8)
    one.free = 1
    on = Threads()
    one.steps(on, 60)
    counts = one.steps(on, 300)
    assert counts.count(1) > 270
    assert set(counts) <= {1, 2}


def test_what_does_not_pay_is_tried_less_and_less(
    machine: Callable[[int], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is often idle, such as one that waits for its disk, though no other has the cores."""
    one = machine(2)
    on = Threads()
    monkeypatch.setattr(module.time, "process_time", lambda: one.used / 2)
    trials = [one.steps(on, 1000).count(1) for _ in range(4)]
    assert 0 < trials[0] < 15
    assert trials[3] <= trials[1] < trials[0]


def test_a_step_of_more_photos_is_no_slower_one(machine: Callable[[int], Machine]) -> None:
    """Seconds count by the pixels: while one number of threads is tried, photos may be larger or more."""
    one = machine(2)
    one.free = 1
    on = Threads()
    one.steps(on, 4)
    assert on.count == 1
    with on.step(FRAMES * 9):
        one.now += 9
        one.used += 9
    assert on.count == 1


@pytest.mark.parametrize("fault", [False, True])
def test_torch_has_its_threads_again(machine: Callable[[int], Machine], fault: bool) -> None:
    one = machine(2)
    one.free = 1
    on = Threads()
    one.steps(on, 20)
    assert on.count == 1
    try:
        with on.step(FRAMES):
            one.now += 1
            assert torch.get_num_threads() == 1
            if fault:
                raise KeyError
    except KeyError:
        pass
    assert torch.get_num_threads() == 2
    with threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_a_number_that_the_caller_sets_counts(machine: Callable[[int], Machine]) -> None:
    one = machine(4)
    on = Threads()
    one.steps(on, 10)
    torch.set_num_threads(2)
    assert set(one.steps(on, 10)) == {2}
    one.free = 1
    assert one.steps(on, 10)[-1] == 1
