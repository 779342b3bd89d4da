"""What happens in a module when it runs once: calls, the operations in them, and which tensors go from one to the next.

Any torch module will do. Data-dependent steps such as NMS are no obstacle, since the module really runs; on the meta
device it does so without computing anything.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

Shape = tuple[int, ...]

SHAPE_ONLY = re.compile(r"new_\w+|\w+_like")
"""Steps that take a tensor for its shape alone: nothing of what it holds goes on."""


@dataclass
class Call:
    """One call of one module: where it stands in the network, which call made it, and the values it returned."""

    path: str
    module: nn.Module
    above: int | None
    gives: list[int] = field(default_factory=list)


class Step(NamedTuple):
    """One operation: who ran it, the values it took and gave, and the parameters that it used."""

    name: str
    call: int
    takes: list[int]
    weights: list[str]
    gives: list[int]


@dataclass
class Trace:
    """All that depends on the inputs, in the order in which it happened. A value is a tensor between two changes.

    Attributes:
        shapes: of each value, by its number.
        inputs, outputs: the values that went in and came out, by name.
    """

    calls: list[Call] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)


def trace(module: nn.Module, *inputs: Any) -> Trace:
    """Runs the module once, without gradients and as in evaluation, and writes down what happens.

    Args:
        inputs: what its forward takes: tensors, or lists and dictionaries of them.
    """
    recorder = _Recorder(module)
    training = {part: part.training for part in module.modules()}
    handles = []
    try:
        module.eval()
        for path, part in module.named_modules():
            handles.append(part.register_forward_pre_hook(partial(recorder.enter, path)))
            handles.append(part.register_forward_hook(recorder.leave))
        found = recorder.trace
        for name, given in zip(_input_names(module, len(inputs)), inputs, strict=True):
            for which, tensor in _tensors(given, name):
                found.inputs[which] = recorder.new_value(tensor)
        with torch.no_grad(), recorder:
            result = module(*inputs)
        for name, tensor in _tensors(result, "output"):
            if (value := recorder.value_of(tensor)) is not None:
                found.outputs[name] = value
    finally:
        for handle in handles:
            handle.remove()
        for part, mode in training.items():
            part.training = mode
    return found


def _input_names(module: nn.Module, count: int) -> list[str]:
    """The names of its forward's arguments, or only "input" where there is one."""
    names = list(inspect.signature(module.forward).parameters)
    return ["input"] if count == 1 else names[:count] if len(names) >= count else [f"input {i}" for i in range(count)]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation below autograd, and knows which module is running."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self.running: list[int] = []
        self.values: Any = WeakTensorKeyDictionary()  # tensor → its value's number, while it lives
        self.weights: Any = WeakTensorKeyDictionary()  # parameters, and what is made of them alone → their names
        self.written: dict[int, tuple[Any, int]] = {}  # memory of a tensor into whose part a value went
        for name, parameter in module.named_parameters():
            self.weights[parameter] = [name]

    def enter(self, path: str, module: nn.Module, _: Any) -> None:
        self.trace.calls.append(Call(path, module, self.running[-1] if self.running else None))
        self.running.append(len(self.trace.calls) - 1)

    def leave(self, module: nn.Module, _: Any, result: Any) -> None:
        values = [self.value_of(tensor) for _, tensor in _tensors(result)]
        self.trace.calls[self.running.pop()].gives = [value for value in values if value is not None]

    def new_value(self, tensor: Tensor) -> int:
        self.trace.shapes.append(tuple(tensor.shape))
        self.values[tensor] = len(self.trace.shapes) - 1
        return len(self.trace.shapes) - 1

    def value_of(self, tensor: Tensor) -> int | None:
        """The number of what the tensor holds; None where that does not depend on the inputs."""
        value: int | None = self.values.get(tensor)
        _, late = self.written.get(tensor.untyped_storage()._cdata, (None, -1))
        if late <= (-1 if value is None else value):
            return value
        whole = self.new_value(tensor)
        self.trace.steps.append(Step("copy", self.running[-1], [late], [], [whole]))
        return whole

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [tensor for _, tensor in _tensors([args, kwargs or {}])]
        takes = [value for value in map(self.value_of, given) if value is not None]
        result = func(*args, **(kwargs or {}))
        name = func.name().split("::")[-1].split(".")[0]
        if SHAPE_ONLY.fullmatch(name):
            return result
        made = [tensor for _, tensor in _tensors(result)]
        weights = list(dict.fromkeys(name for tensor in given for name in self.weights.get(tensor, ())))
        if takes:
            self.trace.steps.append(
                Step(name.removesuffix("_"), self.running[-1], takes, weights, [self.new_value(t) for t in made])
            )
            for tensor in made:
                memory = tensor.untyped_storage()
                if any(tensor is one for one in given) and tensor._is_view():
                    # Written into a view: it is in the whole tensor, too. Held, so that no other takes its place.
                    self.written[memory._cdata] = memory, self.values[tensor]
        elif weights:
            for tensor in made:
                self.weights[tensor] = weights
        return result


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors within lists, tuples and dictionaries, each with the key or the place where it stands."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict | list | tuple):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _tensors(inner, f"{name} {key}" if isinstance(key, int) else str(key))
