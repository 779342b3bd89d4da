"""One training step of RetinaNet on the CPU: its time, its operations, and its share of the machine's ceiling.

    python benchmarks/training_step.py [--steps 40] [--size 320 256]

The ceiling is measured beside each step, for a shared machine's speed changes from one second to the next: products of
square matrices of 2,048 in the step's type, which is bfloat16 where that pays on this processor. Operations are those
of convolutions: of the forward pass, of the weights' gradients where the weights learn, of the inputs' gradients where
these are asked for. Two operations (FLOP) are one multiplication and one addition.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import tyro
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from foodbox.config import TrainSettings
from foodbox.configure import apply
from foodbox.detectors.retinanet import RetinaNet
from foodbox.inference.predict import half_precision_pays
from foodbox.records import Target
from foodbox.training.optimiser import make_optimiser
from foodbox.weights.pretrained import embedded
from foodbox.weights.transfer import put


class Variant(NamedTuple):
    """What a row measures: changes to `light` on the embedded weights, or another preset on fresh ones."""

    name: str
    changes: Mapping[str, Any] = MappingProxyType({})
    batch: int = 2
    half: bool = True
    preset: str = "light"
    size: tuple[int, int] | None = None  # height and width of the photos in pixels, where it is not as asked for
    classes: int = 1


LIGHT = Variant("light")
VARIANTS = [
    LIGHT,
    Variant("light, 4 photos a step", batch=4),
    Variant("light, 8 photos a step", batch=8),
    Variant("light, float32", half=False),
    Variant("light, float32, 4 photos a step", batch=4, half=False),
    Variant("light, float32, 8 photos a step", batch=8, half=False),
    Variant("light, 4 photos a step, 12 classes", batch=4, classes=12),
    Variant("light, 4 photos a step, 256 classes", batch=4, classes=256),
    Variant("4 layers in the towers, as in the paper", {"tower_layers": 4}),
    Variant("all of the backbone trained", {"frozen_stages": 0}),
    Variant("nothing of the backbone trained", {"frozen_stages": 5}),
    Variant("resnet50, 1 photo of 640 x 800 px", batch=1, preset="resnet50", size=(640, 800)),
    Variant("resnet50, the same in float32", batch=1, half=False, preset="resnet50", size=(640, 800)),
]
KINDS = {
    "convolution": "convolutions",
    "group_norm": "norms",
    "adamw": "optimiser",
    "linalg_vector_norm": "optimiser",
    "copy_": "copies and casts",
    "hardtanh": "activations",
    "clamp": "activations",
    "threshold": "activations",
    "relu": "activations",
}
"""Of torch's operations, by a part of their names; what has none is "other"."""


def main(steps: int = 40, size: tuple[int, int] = (320, 256)) -> None:
    """Measures, and prints two tables.

    Args:
        steps: Steps of each variant; medians are printed. Of other presets, which take seconds each, a quarter.
        size: Height and width of the photos of `light`, in pixels.
    """
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, photos of {size[0]} x {size[1]} px")
    pays = half_precision_pays(torch.device("cpu"))
    print("| | type | ms a photo | forward | backward | the rest | GFLOP a photo | ceiling, GFLOP/s | share of it |")
    print("|---|---|---|---|---|---|---|---|---|")
    for variant in VARIANTS:
        if not variant.half and not pays:
            continue  # the row without it is in float32 then
        step = Step(variant, size)
        kind = torch.bfloat16 if step.half else torch.float32
        square = torch.randn(2048, 2048).to(kind)
        times = steps if variant.preset == LIGHT.preset else max(1, steps // 4)
        ceilings, timed = zip(*((ceiling(square), step()) for _ in range(times)), strict=True)
        parts = [statistics.median(column) * 1e3 / variant.batch for column in zip(*timed, strict=True)]
        work = step.operations()
        share = statistics.median(work / sum(own) / top for own, top in zip(timed, ceilings, strict=True))
        figures = [str(kind).split(".")[1], f"{sum(parts):.1f}", *(f"{part:.1f}" for part in parts)]
        figures += [f"{work / variant.batch / 1e9:.2f}", f"{statistics.median(ceilings) / 1e9:.0f}", f"{share:.0%}"]
        print(f"| {variant.name} | {' | '.join(figures)} |", flush=True)
    print("\nWhere the time of a step of `light` goes:\n| | ms a photo | share |\n|---|---|---|")
    spent = Step(LIGHT, size).by_kind()
    for kind, seconds in spent.most_common():
        print(f"| {kind} | {seconds * 1e3 / LIGHT.batch:.1f} | {seconds / spent.total():.0%} |")


def ceiling(square: Tensor) -> float:
    """Operations a second of a matrix times itself: the better of two."""
    return 2 * len(square) ** 3 / min(_seconds(lambda: square @ square) for _ in range(2))


def _seconds(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class Step:
    """A detector and a batch; each call makes a step. Five come before the clock counts."""

    def __init__(self, variant: Variant, size: tuple[int, int]) -> None:
        torch.manual_seed(0)
        preset = RetinaNet.Settings(**RetinaNet.presets[variant.preset])
        weights = embedded() if variant.preset == LIGHT.preset else None
        names = [f"class {i}" for i in range(variant.classes)]
        detector = RetinaNet(names, apply(preset, {**(weights.settings if weights else {}), **variant.changes}))
        if weights:
            put(weights, detector)
        self.detector = detector.train().to(memory_format=torch.channels_last)
        self.half = variant.half and half_precision_pays(torch.device("cpu"))
        self.images = torch.randint(0, 256, (variant.batch, 3, *(variant.size or size)), dtype=torch.uint8)
        corners = torch.tensor([[30, 40, 200, 220], [10, 10, 80, 90], [100, 100, 180, 250], [20, 150, 90, 240]])
        self.targets = [Target(corners.float(), torch.arange(4) % variant.classes) for _ in range(variant.batch)]
        self.optimiser = make_optimiser(detector, TrainSettings())
        self.learning = [parameter for parameter in detector.parameters() if parameter.requires_grad]
        for _ in range(5):
            self()

    def __call__(self) -> tuple[float, float, float]:
        """Seconds of the forward pass with the losses, of the backward pass, and of clipping and the optimiser."""
        start = time.perf_counter()
        loss = self.loss()
        forward = time.perf_counter()
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        backward = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(self.learning, 5.0)
        self.optimiser.step()
        return forward - start, backward - forward, time.perf_counter() - backward

    def loss(self) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            return torch.stack(list(self.detector.losses(self.images, self.targets).values())).sum()

    def operations(self) -> int:
        """FLOP of the convolutions of a step."""
        counted = []

        def count(conv: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            once = 2 * output.numel() * conv.weight[0].numel()
            counted.append(once * (1 + conv.weight.requires_grad + inputs[0].requires_grad))

        convs = [module for module in self.detector.modules() if isinstance(module, nn.Conv2d)]
        hooks = [conv.register_forward_hook(count) for conv in convs]  # type: ignore[arg-type]
        self.loss()
        for hook in hooks:
            hook.remove()
        return sum(counted)

    def by_kind(self, steps: int = 10) -> Counter[str]:
        """Seconds of a step by the kind of operation; what no operation took is Python's and torch's own work."""
        taken = sum(sum(self()) for _ in range(steps)) / steps
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as measured:
            for _ in range(steps):
                self()
        spent: Counter[str] = Counter()
        for event in measured.key_averages(group_by_input_shape=True):
            if event.key.startswith("aten::"):
                kind = next((kind for part, kind in KINDS.items() if part in event.key), "other operations")
                if kind == "convolutions":
                    kind = "depthwise convolutions" if _is_depthwise(event.input_shapes) else "dense convolutions"
                spent[kind] += event.self_cpu_time_total / 1e6 / steps
        spent["between the operations"] = max(0.0, taken - spent.total())
        return spent


def _is_depthwise(shapes: list[list[int]]) -> bool:
    """Whether a kernel [C, 1, k, k] with k above 1 is among the inputs of an operation."""
    return any(len(shape) == 4 and shape[0] > 1 and shape[1] == 1 and shape[2] > 1 for shape in shapes[1:])


if __name__ == "__main__":
    tyro.cli(main)
