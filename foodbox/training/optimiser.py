"""What moves the weights: AdamW in four groups, and a rate that rises and falls."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

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
                "lr": settings.learning_rate * (settings.backbone_rate if pretrained else 1.0),
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for (pretrained, decays), parameters in groups.items()
        ],
        fused=True,
    )


def make_schedule(optimiser: torch.optim.Optimizer, settings: TrainSettings, steps: int, done: int = 0) -> LambdaLR:
    """Linear rise over the warm-up, then half a cosine down to 1 % (Loshchilov and Hutter 2017), step by step.

    Args:
        steps: of the whole run.
        done: steps of a resumed run that lie behind.
    """
    warm = max(1, round(settings.warmup * steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.01 + 0.99 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2

    for group in optimiser.param_groups:
        group.setdefault("initial_lr", group["lr"])
    return LambdaLR(optimiser, factor, last_epoch=done - 1)
