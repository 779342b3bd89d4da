"""The score from which detections are worth showing: the one at which F1 is best on labelled photos."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from foodbox.evaluation.voc import ranked_hits
from foodbox.records import Dataset, Detections

SURE = 0.3
"""The threshold of a model that no labelled photos gave one."""
NEAR = 0.02
"""Thresholds whose F1 is so little under the best are as good: which of them is best is the photos' chance."""


def best_threshold(dataset: Dataset, detections: Sequence[Detections]) -> float:
    """Of the thresholds at which F1 is near its best the one in their middle; SURE where no detection hits a box.

    The middle, for scores of other photos are a little higher or lower.

    Args:
        detections: one for each photo of the dataset, in its order, unsure ones included.
    """
    scores, f1 = _f1_curve(dataset, detections)
    if not f1.any():
        return SURE
    between = (scores + torch.cat((scores[1:], scores.new_zeros(1)))) / 2  # no detection's own, which would be chance
    near = between[f1 >= f1.max() - NEAR]
    return float(near[(near - (near.min() + near.max()) / 2).abs().argmin()])


def f1_over(threshold: float, dataset: Dataset, detections: Sequence[Detections]) -> float | None:
    """The harmonic mean of precision and recall at IoU 0.5, over all classes together; None where there is no box."""
    if not sum(dataset.class_counts(ignored=False)):
        return None
    scores, f1 = _f1_curve(dataset, detections)
    shown = int((scores >= threshold).sum())
    return float(f1[shown - 1]) if shown else 0.0


def _f1_curve(dataset: Dataset, detections: Sequence[Detections]) -> tuple[Tensor, Tensor]:
    """The different scores of detections, best first, and the F1 of all detections from each on: [T], [T]."""
    if not len(dataset):
        return torch.zeros(0), torch.zeros(0)
    hits, scores, _ = ranked_hits(dataset, detections)
    hits, scores = hits[hits >= 0], scores[hits >= 0]
    shown = torch.arange(1, len(hits) + 1)
    f1 = 2 * hits.cumsum(0) / (shown + sum(dataset.class_counts(ignored=False)))
    last = scores.diff(append=scores.new_tensor([-1.0])) != 0  # equal scores are shown together
    return scores[last], f1[last]
