"""A network on a GPU as one launch instead of a thousand: CUDA graphs, by the shapes of the inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

PLAIN = 2
"""Calls with inputs of one shape before they are recorded: libraries choose their kernels in the first."""
MOST = 8
"""Shapes that are recorded; each holds its own inputs and outputs. What else comes is called as ever."""
Key = tuple[Any, ...]


@dataclass
class Recorded:
    """A call with inputs of one shape: what it read, what it wrote, and how to do it again."""

    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    outputs: Any


class Replayed:
    """A function of tensors, whose launches on a GPU are recorded once for each shape and then repeated all at once.

    A light network's step is a thousand launches of some microseconds each, and the GPU waits for most of them. What
    the function gives is overwritten by its next call. It must not wait for the device or choose by what tensors hold.

    Args:
        function: takes tensors and gives any structure of tensors; it may write gradients.
        device: the GPU.
        watched: tensors that the function reads besides; when one is written to, all is recorded anew.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device, watched: Iterable[Tensor] = ()) -> None:
        self._function = function
        self._device = device
        self._watched = tuple(tensor for tensor in watched if not tensor.is_inference())  # these count no writing
        self._state: tuple[int, ...] = ()
        # Gradients remember the stream that they first came on.
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._seen: Counter[Key] = Counter()
        self._recorded: dict[Key, Recorded] = {}

    def __call__(self, *inputs: Tensor) -> Any:
        """The function of the inputs, which may lie on the CPU."""
        state = tuple(tensor._version for tensor in self._watched)
        if state != self._state:
            self._state = state
            self._seen.clear()
            self._recorded.clear()
        key = tuple((x.shape, x.dtype) for x in inputs)
        if key not in self._recorded:
            self._seen[key] += 1
            if self._seen[key] <= PLAIN or len(self._recorded) == MOST:
                return self._plainly(inputs)
            self._recorded[key] = self._record(inputs)
        again = self._recorded[key]
        for held, x in zip(again.inputs, inputs, strict=True):
            held.copy_(x, non_blocking=True)
        again.graph.replay()
        return again.outputs

    def _plainly(self, inputs: Iterable[Tensor]) -> Any:
        outer = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outer)
        with torch.cuda.stream(self._stream):
            outputs = self._function(*(x.to(self._device, non_blocking=True) for x in inputs))
        outer.wait_stream(self._stream)
        return outputs

    def _record(self, inputs: Iterable[Tensor]) -> Recorded:
        held = [x.to(self._device, copy=True) for x in inputs]
        graph = torch.cuda.CUDAGraph()
        # Threads that bring photos may ask the driver for memory meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            outputs = self._function(*held)
        return Recorded(graph, held, outputs)
