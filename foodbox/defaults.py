"""What torch makes where nobody says what: a caller may have changed it, and we count on what it is at first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

_changing = threading.Lock()
_callers: list[torch.dtype] = []
"""The caller's kind of numbers, once for each block that runs: torch has one for all threads, and the last block to end
puts it back."""


@contextmanager
def usual_defaults() -> Iterator[None]:
    """Tensors made within it are float32 and on the CPU unless told otherwise; not for a generator to hold.

    With `torch.set_default_dtype` or `torch.set_default_device` a caller's own tensors may be other ones, and networks
    built so would take other numbers than their weights have.
    """
    with _changing:
        _callers.append(_callers[0] if _callers else torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
    try:
        # Where it is the CPU anyway, nothing is set: it would cost each of torch's functions a call.
        with nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu"):
            yield
    finally:
        with _changing:
            dtype = _callers.pop()
            if not _callers:
                torch.set_default_dtype(dtype)
