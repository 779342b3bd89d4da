"""What moves the weights: Muon and AdamW, and a rate that rises and falls with the share of the run done."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from foodbox.config import TrainSettings
from foodbox.detectors.base import BACKBONE, OUTPUT_WEIGHTS, Detector

MOMENTUM = 0.95
QUINTIC = 3.4445, -4.7750, 2.0315  # of the Newton-Schulz iteration; both as Jordan has them


def make_optimiser(detector: Detector, settings: TrainSettings) -> Muon:
    """The backbone at a lower rate, no decay for norms and biases; Muon between the backbone and the outputs.

    New layers have the longest way to go, and Muon takes far fewer steps for it. AdamW trains the rest: depthwise
    kernels are no matrices, and each row of an output layer is a value by itself. On a GPU rates are tensors there, so
    that a recorded step (inference/replay.py) reads those of its time.
    """
    device = detector.mean.device
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            inside, decays = name.startswith(BACKBONE), parameter.ndim > 1
            matrix = not inside and decays and min(parameter.shape[:2]) > 1 and not OUTPUT_WEIGHTS.search(name)
            groups.setdefault((inside, decays, matrix), []).append(parameter)
    peaks = {inside: settings.peak_rate * (settings.backbone_share if inside else 1.0) for inside in (True, False)}
    return Muon(
        [
            {
                "params": parameters,
                "lr": torch.tensor(peaks[inside], device=device) if device.type == "cuda" else peaks[inside],
                "initial_lr": peaks[inside],
                "weight_decay": settings.weight_decay if decays else 0.0,
                "matrices": matrix,
            }
            for (inside, decays, matrix), parameters in groups.items()
        ],
        fused=True,
    )


class Muon(torch.optim.AdamW):
    """Muon (Jordan 2024) in groups of "matrices", AdamW (Loshchilov and Hutter 2019) in the others.

    A matrix, or a kernel with a row for each output (in a transposed convolution, each input), moves along the nearest
    orthogonal matrix to its averaged gradient: all of its directions learn equally fast, whatever the gradient's size.
    sqrt(max(rows, columns)) makes the root mean square of a step the rate for all shapes (Liu et al. 2025, arXiv
    2502.16982, section 2.2: a fifth of it).
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of all groups."""
        for group in (groups := self.param_groups):
            if isinstance(group["lr"], Tensor) and group["lr"].is_cuda:  # fused, it can be; else torch warns of it
                group["capturable"] = torch.cuda.is_current_stream_capturing()
            if group["matrices"]:
                self._step_matrices(group)
        self.param_groups = [group for group in groups if not group["matrices"]]
        super().step(closure)
        self.param_groups = groups

    def _step_matrices(self, group: dict[str, Any]) -> None:
        weights, ahead = [weight for weight in group["params"] if weight.grad is not None], []
        for weight in weights:
            if not (state := self.state[weight]):
                state["step"] = torch.zeros(())  # AdamW asks every parameter for it when a run goes on
                state["average"] = torch.zeros_like(weight)
            state["average"].lerp_(weight.grad, 1 - MOMENTUM)
            nesterov = weight.grad.lerp(state["average"], MOMENTUM)
            # Any order of a matrix's columns gives the same; that of channels last in memory needs no copy.
            ahead.append(nesterov.movedim(1, -1).flatten(1))
        for weight, update in zip(weights, orthogonal(ahead), strict=True):
            kernel = update.view(weight.movedim(1, -1).shape).movedim(-1, 1)
            length = group["lr"] * max(update.shape) ** 0.5
            weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(kernel * length)


def orthogonal(matrices: list[Tensor], steps: int = 5) -> list[Tensor]:
    """Nearly the nearest orthogonal matrices: float32 [R, C] each → the same, with singular values of some 0.7 to 1.2.

    The Newton-Schulz iteration X ← F X, F = a + b A + c A², A = X Xᵀ. Only A goes through it: A ← F A F; Xᵀ's where it
    is smaller, and those of one size together, for the calls are what costs.
    """
    a, b, c = QUINTIC
    found = dict[int, Tensor]()
    for side in {min(x.shape) for x in matrices}:
        alike = {i: x if len(x) == side else x.mT for i, x in enumerate(matrices) if min(x.shape) == side}
        gram = torch.stack([x @ x.mT for x in alike.values()])  # [N, side, side]
        length = gram.diagonal(dim1=1, dim2=2).sum(1).sqrt().view(-1, 1, 1) + 1e-7  # Frobenius' of X
        factor = factors = unit = torch.eye(side, device=gram.device)
        for step in range(steps):
            gram = factor @ gram @ factor if step else gram / length**2
            factor = a * unit + torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            factors = factor @ factors if step else factor
        found |= zip(alike, factors / length, strict=True)
    return [found[i] @ x if len(x) == len(found[i]) else x @ found[i] for i, x in enumerate(matrices)]


def set_rate(optimiser: torch.optim.Optimizer, settings: TrainSettings, done: float) -> None:
    """Linear rise over the warm-up, then half a cosine down to 1 % (Loshchilov and Hutter 2017).

    Args:
        done: share of the run that lies behind, 0 to 1: of its steps, or of its time ("budgeted training", Li et al.
            2020, who found that a rate which falls to the budget's end is what counts).
    """
    if done < settings.warmup:
        factor = done / settings.warmup
    else:
        factor = 0.01 + 0.99 * (1 + math.cos(math.pi * (done - settings.warmup) / max(1e-9, 1 - settings.warmup))) / 2
    for group in optimiser.param_groups:
        rate = factor * group["initial_lr"]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
