"""The score from which detections are worth showing: the one at which F1 is best on labelled photos."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foodbox.evaluation.voc import RankedHits

SURE = 0.3
"""The threshold of a model that no labelled photos gave one."""
NEAR = 0.02
"""Thresholds whose F1 is so little under the best are as good: which of them is best is the photos' chance."""


@dataclass
class F1Curve:
    """F1, the harmonic mean of precision and recall at IoU 0.5, over all classes together, threshold by threshold.

    Attributes:
        scores: [T], the different scores of detections, best first.
        precision, recall, f1: [T], of all detections from each of these on.
        boxes: how many there are to find.
    """

    scores: Tensor
    precision: Tensor
    recall: Tensor
    f1: Tensor
    boxes: int

    @staticmethod
    def of(ranked: RankedHits, boxes: int) -> F1Curve:
        """The curve of what `ranked_hits` gave, of detections that are not cut off at a score.

        Args:
            boxes: how many there are to find.
        """
        counted = (ranked.hits == 1) | ((ranked.hits == 0) & ~ranked.within)
        hits, scores = ranked.hits[counted], ranked.scores[counted]
        right, shown = hits.cumsum(0), torch.arange(1, len(hits) + 1)
        last = scores.diff(append=scores.new_tensor([-1.0])) != 0  # equal scores are shown together
        right, shown, scores = right[last], shown[last], scores[last]
        return F1Curve(scores, right / shown, right / max(1, boxes), 2 * right / (shown + boxes), boxes)

    def best_threshold(self) -> float:
        """Of the thresholds at which F1 is near its best the one in their middle; SURE where no detection hits a box.

        The middle, for scores of other photos are a little higher or lower.
        """
        if not self.f1.any():
            return SURE
        # Between two scores: which side of it a detection's own falls on would be chance.
        between = (self.scores + torch.cat((self.scores[1:], self.scores.new_zeros(1)))) / 2
        near = between[self.f1 >= self.f1.max() - NEAR]
        return float(near[(near - (near.min() + near.max()) / 2).abs().argmin()])

    def over(self, threshold: float) -> float | None:
        """F1 of the detections over a threshold; None where there is no box."""
        if not self.boxes:
            return None
        shown = int((self.scores >= threshold).sum())
        return float(self.f1[shown - 1]) if shown else 0.0
