"""One training step: its losses and gradients, and the ways in which a GPU is given the work."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from foodbox.detectors.base import Detector
from foodbox.inference.kernels import Kernels, by_shape
from foodbox.inference.replay import Replayed
from foodbox.inference.threads import Threads
from foodbox.records import Batch, KeptMaps, Target, stack_targets
from foodbox.training.choices import Way

BOX_MULTIPLE = 16
"""Where steps are recorded or compiled by shape, each photo's boxes are padded to a multiple of this."""


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
        return self._compiled(images, _apart(*stack_targets(targets, multiple=BOX_MULTIPLE)), *proposals)


def _apart(boxes: Tensor, labels: Tensor) -> list[Target]:
    """What `stack_targets` gave, boxes [B, M, 4] and labels [B, M], photo by photo again."""
    return [Target(*pair) for pair in zip(boxes, labels, strict=True)]


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


def replayed(
    learn: Callable[..., dict[str, Tensor]], device: torch.device, kernels: Kernels
) -> Callable[..., dict[str, Tensor]]:
    """`learn` as one launch for batches of a shape that came before; batches may lie on the CPU.

    Args:
        learn: images and targets → losses; it moves the weights.
    """

    def whole(images: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return learn(images.contiguous(memory_format=torch.channels_last), _apart(boxes, labels))

    replay = Replayed(whole, device, kernels)

    def call(images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = replay(images, *stack_targets(targets, multiple=BOX_MULTIPLE))
        return losses

    return call
