"""What a detector costs: against torchvision's published figures, hand-worked ones, and a clock that is set by hand."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from foodbox.evaluation import speed


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_b0"])
def test_operations_and_parameters_are_those_that_torchvision_publishes(name: str) -> None:
    """Its "_ops" are multiply-adds in thousand millions at 224 px, to three places."""
    published = torchvision.models.get_model_weights(name).DEFAULT.meta
    network = torchvision.models.get_model(name, weights=None).eval()
    with torch.inference_mode():
        counted = speed.multiply_adds(lambda: network(torch.zeros(1, 3, 224, 224)))
    assert counted / 1e9 == pytest.approx(published["_ops"], abs=2e-3)
    assert speed.parameters(network) == published["num_params"]


def test_operations_by_hand() -> None:
    """A 3 x 3 convolution from 2 to 5 channels on 4 x 6 places, padded: 4 · 6 · 5 · 2 · 9."""
    convolution = nn.Conv2d(2, 5, 3, padding=1, bias=False)
    assert speed.multiply_adds(lambda: convolution(torch.zeros(1, 2, 4, 6))) == 4 * 6 * 5 * 2 * 9
    assert speed.parameters(convolution) == 5 * 2 * 9
    assert speed.multiply_adds(lambda: None) == 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that shows what stands in the list."""
    now = [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    return now


def work(clock: list[float], called: list[float]) -> Callable[[float], None]:
    """A call that takes as long as its input says; the very first one ten times as long."""

    def take(seconds: float) -> None:
        clock[0] += seconds * (1 if called else 10)
        called.append(seconds)

    return take


def test_the_median_after_a_warm_up(clock: list[float]) -> None:
    called: list[float] = []
    assert speed.median_seconds(work(clock, called), [2.0, 1.0, 9.0]) == 2.0
    assert called == [2.0] * speed.WARM_UP + [2.0, 1.0, 9.0]
    assert speed.median_seconds(work(clock, called), []) is None


def test_a_slow_call_is_not_measured_on_and_on(clock: list[float]) -> None:
    called: list[float] = []
    assert speed.median_seconds(work(clock, called), [40.0] * 100) == 40.0
    assert len(called) == speed.WARM_UP + 2


def test_making_an_input_is_not_counted(clock: list[float]) -> None:
    def inputs() -> object:
        for _ in range(3):
            clock[0] += 100
            yield 1.0

    assert speed.median_seconds(work(clock, [0.0]), inputs()) == 1.0  # type: ignore[arg-type]


def test_results_a_second(clock: list[float]) -> None:
    def results() -> object:
        for _ in range(6):
            clock[0] += 0.5
            yield None

    assert speed.per_second(results()) == 2.0  # type: ignore[arg-type]
    assert speed.per_second([]) is None


def test_the_peak_of_memory_stays_when_it_is_given_back() -> None:
    script = (
        "from foodbox.evaluation.speed import peak_memory\n"
        "before = peak_memory()\n"
        "taken = bytearray(b'1' * 300_000_000)\n"
        "del taken\n"
        "print(before, peak_memory())"
    )
    before, after = subprocess.check_output([sys.executable, "-c", script], text=True).split()
    if before == "None":
        pytest.skip("This system does not say how much memory a process held.")
    assert 250e6 < int(after) - int(before) < 700e6
