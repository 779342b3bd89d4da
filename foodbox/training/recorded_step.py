"""A step for batches of one shape, as a GPU records or compiles it: the boxes of every photo are padded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from foodbox.inference.kernels import Kernels
from foodbox.inference.replay import Replayed
from foodbox.records import Target, stack_targets

BOX_MULTIPLE = 16
"""Where steps are recorded or compiled by shape, each photo's boxes are padded to a multiple of this."""


def of_one_shape(targets: list[Target]) -> list[Target]:
    """The targets of a batch, each with as many boxes."""
    return _apart(*stack_targets(targets, multiple=BOX_MULTIPLE))


def _apart(boxes: Tensor, labels: Tensor) -> list[Target]:
    """What `stack_targets` gave, boxes [B, M, 4] and labels [B, M], photo by photo again."""
    return [Target(*pair) for pair in zip(boxes, labels, strict=True)]


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
