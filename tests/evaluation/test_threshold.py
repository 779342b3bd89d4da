"""The score from which detections are shown, by hand and against counting anew at every score."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from foodbox.detections import Detections
from foodbox.evaluation.threshold import NEAR, SURE, F1Curve
from foodbox.evaluation.voc import ranked_hits
from foodbox.records import Dataset
from tests.evaluation.random_detections import nothing, random_photos
from tests.evaluation.test_voc import NOWHERE, A, B, C, found, photo


def curve_of(dataset: Dataset, detections: Sequence[Detections]) -> F1Curve:
    return F1Curve.of(ranked_hits(dataset, detections), sum(dataset.class_counts(ignored=False)))


def test_an_example_by_hand() -> None:
    """Of two boxes, best first: a hit (F1 2 x 1 / (1 + 2)), the other hit (1), then misses (0.8, 0.67)."""
    dataset = Dataset([photo([A, B], [0, 0])], ["rice"])
    detections = [found((A, 0.9, 0), (B, 0.7, 0), (NOWHERE, 0.6, 0), (C, 0.4, 0))]
    curve = curve_of(dataset, detections)
    for threshold, f1 in ((0.95, 0), (0.8, 2 / 3), (0.7, 1), (0.5, 0.8), (0, 2 / 3)):
        assert curve.over(threshold) == pytest.approx(f1), threshold
    assert curve.best_threshold() == pytest.approx(0.65)


def test_the_middle_of_thresholds_that_are_as_good() -> None:
    """Of 100 boxes 60 are found over 0.7. Of the 40 detections under 0.4 3 in 8 hit: F1 stays where it was, at 0.75.

    However many there are of the one kind and of the other.
    """
    boxes = [[20 * i, 0, 20 * i + 10, 10] for i in range(100)]
    beside = [[20 * i, 50, 20 * i + 10, 60] for i in range(100)]
    sure = [(boxes[i], 0.99 - i / 250, 0) for i in range(60)]
    unsure = [((boxes if i % 8 in (1, 4, 7) else beside)[i], 0.99 - i / 100, 0) for i in range(60, 100)]
    curve = curve_of(Dataset([photo(boxes, [0] * 100)], ["rice"]), [found(*sure, *unsure)])
    assert (curve.over(0.7), curve.over(0.0)) == (pytest.approx(0.75), pytest.approx(0.75))
    assert curve.best_threshold() == pytest.approx((0.99 - 59 / 250) / 2, abs=0.05)


def test_equal_scores_are_shown_together() -> None:
    dataset = Dataset([photo([A], [0])], ["rice"])
    curve = curve_of(dataset, [found((A, 0.5, 0), (NOWHERE, 0.5, 0), (C, 0.5, 0))])
    assert curve.over(0.5) == pytest.approx(2 / 4)
    assert curve.best_threshold() == 0.25


def test_a_difficult_box_counts_neither_way() -> None:
    dataset = Dataset([photo([A, B], [0, 0], difficult=(1,))], ["rice"])
    assert curve_of(dataset, [found((B, 0.9, 0), (A, 0.8, 0))]).over(0.5) == 1


@pytest.mark.parametrize("seed", range(5))
def test_as_counted_anew_at_every_score(seed: int) -> None:
    dataset, detections = random_photos(seed)
    boxes = sum(dataset.class_counts(ignored=False))
    curve, by_score = curve_of(dataset, detections), {}
    for threshold in torch.cat([d.scores for d in detections]).tolist():
        hits, _, _, within = ranked_hits(dataset, [d.over(threshold) for d in detections])
        counted = int((hits == 1).sum()) + int(((hits == 0) & ~within).sum())
        by_score[threshold] = 2 * int((hits == 1).sum()) / (counted + boxes)
        assert curve.over(threshold) == pytest.approx(by_score[threshold])
    chosen, best = curve.best_threshold(), max(by_score.values())
    assert chosen not in by_score
    assert best - NEAR <= by_score[min(score for score in by_score if score > chosen)] <= best


def test_nothing_found_and_nothing_to_find() -> None:
    dataset, _ = random_photos(0)
    empty = Dataset([photo([], [])], ["rice"])
    for curve, f1 in (
        (curve_of(dataset, nothing(dataset)), 0),
        (curve_of(empty, [found((A, 0.9, 0))]), None),
        (curve_of(Dataset([], ["rice"]), []), None),
    ):
        assert (curve.best_threshold(), curve.over(SURE)) == (SURE, f1)
