"""Which class was taken for which: by hand, and held against what Pascal VOC's counting gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from foodbox.detections import Detections
from foodbox.evaluation.confusion import confusion
from foodbox.evaluation.voc import ranked_hits
from foodbox.records import Dataset, Photo
from tests.evaluation.random_detections import NAMES, nothing, random_photos

A, B, C = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 70.0, 70.0], [0.0, 50.0, 20.0, 70.0]
NEAR_A = [0.0, 0.0, 10.0, 9.0]
NOWHERE = [80.0, 80.0, 90.0, 90.0]


def photo(*rows: tuple[list[float], int], ignore: tuple[bool, ...] = ()) -> Photo:
    boxes, labels = zip(*rows, strict=True)
    ignored = torch.tensor(ignore or [False] * len(rows))
    return Photo(Path("a.jpg"), 100, 100, torch.tensor(boxes), torch.tensor(labels), ignore=ignored)


def found(*rows: tuple[list[float], float, int]) -> Detections:
    boxes, scores, labels = zip(*rows, strict=True)
    return Detections(torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels), ["rice", "soup"], 100, 100)


def test_by_hand() -> None:
    """Rice found; rice taken for soup; soup missed, as its detection is not sure; one detection twice, one nowhere."""
    truth = photo((A, 0), (B, 0), (C, 1))
    detections = found((A, 0.9, 0), (B, 0.8, 1), (NEAR_A, 0.7, 0), (NOWHERE, 0.6, 1), (C, 0.2, 1))
    pairs = confusion(Dataset([truth], ["rice", "soup"]), [detections], 0.5)
    assert pairs.counts.tolist() == [[1, 1, 0], [0, 0, 1], [1, 1, 0]]
    assert pairs.mistakes.tolist() == [4]
    assert (pairs.boxes, pairs.shown, pairs.right, pairs.missed, pairs.false, pairs.confused) == (3, 4, 1, 1, 2, 1)
    assert pairs.precision.tolist() == [0.5, 0.0]
    assert pairs.recall.tolist() == [0.5, 0.0]


def test_a_detection_of_the_right_class_has_the_box_before_one_that_fits_better() -> None:
    truth = photo((A, 0))
    pairs = confusion(Dataset([truth], ["rice", "soup"]), [found((A, 0.9, 1), (NEAR_A, 0.8, 0))], 0.5)
    assert pairs.counts.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_what_is_to_be_ignored_counts_neither_way() -> None:
    truth = photo((B, 0), ignore=(True,))
    inside = [51.0, 51.0, 56.0, 56.0]  # too small for an IoU of 0.5, and wholly inside
    pairs = confusion(Dataset([truth], ["rice", "soup"]), [found((B, 0.9, 0), (inside, 0.8, 1))], 0.5)
    assert pairs.counts.sum() == 0


@pytest.mark.parametrize("seed", range(8))
def test_it_agrees_with_pascal_vocs_counting(seed: int) -> None:
    """Of each class as many hits, and detections and boxes in all, but for those within what is ignored."""
    dataset, detections = random_photos(seed)
    for one in dataset:
        one.ignore[:] = False
    threshold = 0.4
    pairs, ranked = confusion(dataset, detections, threshold), ranked_hits(dataset, detections)
    shown = ranked.scores >= threshold
    size = len(NAMES)
    hits = ranked.labels[shown & (ranked.hits == 1)].bincount(minlength=size)
    assert pairs.counts.diagonal()[:-1].tolist() == hits.tolist()
    assert pairs.counts[:, :-1].sum(0).tolist() == ranked.labels[shown].bincount(minlength=size).tolist()
    assert pairs.counts[:-1].sum(1).tolist() == dataset.class_counts(ignored=False)
    assert pairs.mistakes.sum() == pairs.missed + pairs.false + pairs.confused
    assert pairs.right > 0


def test_nothing_found_is_all_missed() -> None:
    dataset, _ = random_photos(0)
    pairs = confusion(dataset, nothing(dataset), 0.5)
    assert pairs.missed == pairs.boxes == int(pairs.counts.sum()) > 0
    assert pairs.precision.isnan().all()
