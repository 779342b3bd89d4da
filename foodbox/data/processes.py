"""Processes that work side by side for this one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context

import torch

from foodbox.errors import FoodboxError, UsageError

GUARD = 'in a script the call must stand under `if __name__ == "__main__":`, as Python asks for what starts processes.'


def cores() -> int:
    """The cores that this process may use; a part of the machine's in a job of a cluster, or by taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def processes(count: int | None = None, fresh: bool = False) -> Iterator[Executor]:
    """Processes with one thread each, which leave Ctrl-C to this one. What is not done at the end is not begun.

    Args:
        count: how many; else as many as there are cores.
        fresh: started from nothing on every system: a fork of a process that has used torch can hang in its thread
            pools. That takes seconds.

    Raises:
        FoodboxError: one of them ended by itself.
        UsageError: this is such a process itself, which reads a script that did not expect it.
    """
    pool = ProcessPoolExecutor(count or cores(), get_context("spawn" if fresh else None), _begin)
    try:
        yield pool
    except BrokenProcessPool:
        raise FoodboxError(
            f"A process that did a part of the work ended by itself: most often memory was short, else {GUARD}"
        ) from None
    except RuntimeError as fault:
        if "bootstrapping" not in str(fault):  # Python's word for reading the script again
            raise
        raise UsageError(f"This script is read by a process that it started: {GUARD}") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
