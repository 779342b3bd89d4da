"""What moves the weights: AdamW in four groups, and a rate that rises and falls with the share of the run done."""

from __future__ import annotations

import math

import torch
from torch import nn

from foodbox.config import TrainSettings
from foodbox.detectors.base import Detector


def make_optimiser(detector: Detector, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019): the backbone at a lower rate, no decay for norms and biases."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith(detector.backbone_prefix), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": settings.peak_rate * (settings.backbone_rate if pretrained else 1.0),
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for (pretrained, decays), parameters in groups.items()
        ],
        fused=True,
    )


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
        group["lr"] = factor * group.setdefault("initial_lr", group["lr"])
