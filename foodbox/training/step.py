"""One training step: its losses and gradients, and the ways in which a GPU is given the work."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from foodbox.detectors.base import Detector
from foodbox.inference.kernels import Kernels, by_shape
from foodbox.inference.threads import Threads
from foodbox.records import Batch, KeptMaps, Target
from foodbox.training.choices import Way
from foodbox.training.recorded_step import of_one_shape, replayed


class TrainStep(nn.Module):
    """The detector's losses as a module's forward, which is what accelerate wraps for mixed precision and many GPUs.

    Args:
        compiled: by torch.compile, which takes minutes for each shape of batch, and then makes large networks' steps
            faster. Compiled for any shape it would take as long again for each.
    """

    def __init__(self, detector: Detector, compiled: bool = False) -> None:
        super().__init__()
        self.detector = detector
        self._compiled = torch.compile(detector.losses, dynamic=False) if compiled else None

    def forward(self, images: Tensor, targets: list[Target], *proposals: Tensor) -> dict[str, Tensor]:
        """Pixels [B, 3, H, W] and B targets → the losses by part."""
        if self._compiled is None:
            return self.detector.losses(images, targets, *proposals)
        return self._compiled(images, of_one_shape(targets), *proposals)


def learner(
    detector: Detector, optimiser: torch.optim.Optimizer, clip: float, accelerator: Accelerator, way: Way
) -> Callable[[Batch], dict[str, Tensor]]:
    """One training step: a batch's losses by part, and the weights moved by their gradients.

    Args:
        clip: the gradients' norm at most.
        way: how the step is launched.
    """
    device = accelerator.device
    learning = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    step, optimiser = accelerator.prepare(TrainStep(detector, way == "compiled"), optimiser)

    def learn(images: Tensor | KeptMaps, targets: list[Target], *proposals: Tensor) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = step(images, targets, *proposals)
        optimiser.zero_grad()
        accelerator.backward(torch.stack(list(losses.values())).sum())
        accelerator.clip_grad_norm_(learning, clip)
        optimiser.step()
        return {part: loss.detach() for part, loss in losses.items()}

    if way == "replayed":
        learn = replayed(learn, device, Kernels(detector))
    elif way == "plain" and device.type == "cuda":
        learn = by_shape(learn, Kernels(detector))

    # Of processes that train together each waits for all others: one that tries would not see what it gains.
    on = Threads() if device.type == "cpu" and accelerator.num_processes == 1 else None

    def call(batch: Batch) -> dict[str, Tensor]:
        if way != "replayed":  # which copies them to where they were recorded
            batch = batch.to(device)
        images, *proposals = batch.inputs
        with nullcontext() if on is None else on.step(batch.frames):
            return learn(images, batch.targets, *proposals)

    return call
