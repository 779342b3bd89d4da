"""CUDA graphs: the launches of a function, recorded once for each shape of input and replayed as one."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foodbox.detectors.base import Detector, OneStageDetector, Outputs
from foodbox.inference.kernels import Kernels, by_shape

PLAIN = 2
"""Calls with inputs of one shape before they are recorded: libraries choose their kernels in the first."""
MOST = 8
"""Shapes that are recorded; each holds its own inputs and outputs. What else comes is called as ever."""
Key = tuple[Any, ...]


def network_for(detector: Detector, device: torch.device, recorded: bool | None = None) -> Callable[..., Outputs]:
    """What to call in place of the detector: itself, or on a CUDA GPU one that replays its recorded launches.

    Args:
        recorded: whether to replay launches; where not given, if the detector allows it.
    """
    if device.type != "cuda":
        return detector
    wanted = detector.replays if recorded is None else recorded
    if wanted and isinstance(detector, OneStageDetector):
        at_rest = [part for part in (*detector.parameters(), *detector.buffers()) if not part.requires_grad]
        return Replayed(lambda images: detector.candidates(detector(images)), device, Kernels(detector), at_rest)
    return by_shape(detector, Kernels(detector))


@dataclass
class Recorded:
    """A call with inputs of one shape: what it read, what it wrote, and how to do it again."""

    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    outputs: dict[str, Tensor]


class Replayed:
    """A function of tensors, whose launches on a GPU are recorded once for each shape and then repeated all at once.

    A light network's step is a thousand launches of some microseconds each, and the GPU waits for most of them.
    Tensors that the function reads besides its inputs, such as weights, are read from the memory where they lay when it
    was recorded. It must not synchronise with the device, nor branch on the values of tensors. Threads take turns.

    Args:
        function: takes tensors, images first, and gives named tensors; it may move weights.
        device: the GPU.
        kernels: whose convolutions are recorded.
        watched: tensors of which the function may keep something (layers/convolutions.py): when one is written to, or
            has moved, all is recorded anew.
    """

    def __init__(
        self,
        function: Callable[..., dict[str, Tensor]],
        device: torch.device,
        kernels: Kernels,
        watched: Iterable[Tensor] = (),
    ) -> None:
        self._function = function
        self._device = device
        self._kernels = kernels
        self._watched = tuple(tensor for tensor in watched if not tensor.is_inference())  # these count no writing
        self._state: tuple[tuple[int, int], ...] = ()
        # Gradients remember the stream that they first came on.
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._seen: Counter[Key] = Counter()
        self._recorded: dict[Key, Recorded] = {}
        self._one_at_a_time = threading.Lock()

    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        """The function of the inputs, which may lie on the CPU."""
        with self._one_at_a_time:
            state = tuple((tensor.data_ptr(), tensor._version) for tensor in self._watched)
            if state != self._state:
                self._state = state
                self._seen.clear()
                self._recorded.clear()
            level = self._kernels.level(inputs[0].shape)
            shapes = tuple((x.shape, x.dtype) for x in inputs)
            key = (level, shapes)
            if key not in self._recorded:
                for lower in range(level):
                    self._recorded.pop((lower, shapes), None)  # these kernels are better
                self._seen[key] += 1
                if self._seen[key] <= PLAIN or len(self._recorded) == MOST:
                    return self._plainly(inputs, level)
                self._recorded[key] = self._record(inputs, level)
            again = self._recorded[key]
            for held, x in zip(again.inputs, inputs, strict=True):
                held.copy_(x, non_blocking=True)
            again.graph.replay()
            return {name: output.clone() for name, output in again.outputs.items()}  # the next call writes over them

    def _plainly(self, inputs: Iterable[Tensor], level: int) -> dict[str, Tensor]:
        outer = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outer)
        with torch.cuda.stream(self._stream), self._kernels.chosen(level):
            outputs = self._function(*(x.to(self._device, non_blocking=True) for x in inputs))
        outer.wait_stream(self._stream)
        return outputs

    def _record(self, inputs: Iterable[Tensor], level: int) -> Recorded:
        held = [x.to(self._device, copy=True) for x in inputs]
        graph = torch.cuda.CUDAGraph()
        # Threads that bring photos may ask the driver for memory meanwhile.
        recording = torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local")
        with recording, self._kernels.chosen(level):
            outputs = self._function(*held)
        return Recorded(graph, held, outputs)
