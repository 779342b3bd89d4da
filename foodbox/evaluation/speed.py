"""What a detector costs: time, operations, parameters and memory."""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

Input = TypeVar("Input")

WARM_UP = 3
"""Calls before the clock runs: in the first ones memory is taken, and kernels are chosen."""
LONG_ENOUGH = 60.0
"""Seconds after which no further input is measured: a median of what a minute holds says enough of a slow detector."""


def median_seconds(call: Callable[[Input], object], inputs: Iterable[Input]) -> float | None:
    """Seconds that `call` takes for one input: the median over all, one after the other, after a warm-up.

    Making an input is not counted where `inputs` makes them one by one. None where there is no input.
    """
    taken: list[float] = []
    for one in inputs:
        for _ in range(0 if taken else WARM_UP):
            call(one)
        start = time.perf_counter()
        call(one)
        taken.append(time.perf_counter() - start)
        if sum(taken) > LONG_ENOUGH:
            break
    return statistics.median(taken) if taken else None


def per_second(results: Iterable[object]) -> float | None:
    """How many results come in a second, of an iterable that works for each; None where there are none."""
    start = time.perf_counter()
    count = sum(1 for _ in results)
    return count / (time.perf_counter() - start) if count else None


def multiply_adds(call: Callable[[], object]) -> int:
    """Multiplications with the addition that follows (MAC) in the convolutions and matrix products of a call.

    torch's counter has two operations (FLOP) for each. What is not a matrix product, such as norms, pooling, resizing
    and NMS, it does not count: a small part of any of our networks.
    """
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops()) // 2


def parameters(network: nn.Module) -> int:
    """Learnt numbers of a network, frozen ones among them; the statistics of its batch norms are none."""
    return sum(parameter.numel() for parameter in network.parameters())


def peak_memory() -> int | None:
    """Bytes of memory that this process has held at most; None on systems that do not say, such as Windows."""
    # The system's other figure, ru_maxrss, is passed on from the process that started this one.
    status = Path("/proc/self/status")
    if status.exists() and (peak := re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.M)):
        return int(peak[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes, the others kilobytes
