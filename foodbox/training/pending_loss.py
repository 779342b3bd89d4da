"""The loss of a step, looked at when it has been computed."""

from __future__ import annotations

from itertools import compress
from pathlib import Path

import torch
from torch import Tensor

from foodbox.errors import FoodboxError
from foodbox.records import Batch


class PendingLoss:
    """A step's loss on its way to the CPU. It is looked at after the next step, so that no GPU waits for more work."""

    def __init__(self, losses: dict[str, Tensor], batch: Batch) -> None:
        self.parts = list(losses)
        self.losses = torch.stack(list(losses.values())).detach()
        self._frames = batch.frames
        on_gpu = self.losses.is_cuda
        self._loss = self.losses.sum().to("cpu", non_blocking=on_gpu)
        self._there = torch.cuda.current_stream(self.losses.device).record_event() if on_gpu else None

    def value(self, last_good: Path) -> float:
        """The loss.

        Raises:
            FoodboxError: it is not finite; `last_good` is the model to name.
        """
        if self._there is not None:
            self._there.synchronize()
        if abs(total := float(self._loss)) < float("inf"):
            return total
        parts = ", ".join(compress(self.parts, (~torch.isfinite(self.losses)).tolist()))
        photos = ", ".join(str(frame.path) for frame in self._frames)
        raise FoodboxError(
            f"The loss ({parts}) is no longer a finite number, at the photos {photos}. The last good model is "
            f"{last_good}. Look at these photos and their boxes, or train with a lower --learning-rate."
        )
