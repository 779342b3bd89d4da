"""VOC's AP worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from foodbox.detections import Detections
from foodbox.evaluation.voc import ranked_hits, voc_ap50
from foodbox.records import Dataset, Photo
from tests.evaluation.random_detections import nothing, random_photos

A, B, C = [0, 0, 10, 10], [50, 50, 70, 70], [100, 0, 120, 20]
NOWHERE = [200, 200, 210, 210]


def photo(boxes: list[list[int]], labels: list[int], difficult: tuple[int, ...] = ()) -> Photo:
    ignore = torch.tensor([i in difficult for i in range(len(boxes))], dtype=torch.bool)
    return Photo(
        Path("a.jpg"),
        300,
        300,
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        ignore=ignore,
    )


def found(*rows: tuple[list[int], float, int]) -> Detections:
    """Box, score, class."""
    return Detections(
        torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([row[1] for row in rows]),
        torch.tensor([row[2] for row in rows], dtype=torch.int64),
        ["rice", "soup"],
        300,
        300,
    )


def ap50(dataset: Dataset, detections: Sequence[Detections]) -> float | None:
    return voc_ap50(dataset, ranked_hits(dataset, detections))


def test_an_example_by_hand() -> None:
    """Two boxes and a difficult one on two photos; six detections, best first:

    0.9 hits A (precision 1/1, recall 1/2); 0.8 hits A again, a miss (1/2); 0.7 hits the difficult box and counts for
    nothing; 0.6 lies nowhere (1/3); 0.5 hits B on the other photo (2/4, recall 1). Area: 1/2 x 1 + 1/2 x 1/2.
    """
    dataset = Dataset([photo([A, C], [0, 0], difficult=(1,)), photo([B], [0])], ["rice"])
    detections = [found((A, 0.9, 0), (A, 0.8, 0), (C, 0.7, 0)), found((NOWHERE, 0.6, 0), (B, 0.5, 0))]
    assert ap50(dataset, detections) == pytest.approx(0.75)


def test_the_mean_over_classes_leaves_out_those_without_a_box() -> None:
    """Rice is found (1), soup is not (0), tea is nowhere; a difficult box alone is no box."""
    dataset = Dataset([photo([A, B, C], [0, 1, 2], difficult=(2,))], ["rice", "soup", "tea"])
    assert ap50(dataset, [found((A, 0.9, 0))]) == pytest.approx(0.5)
    only_difficult = Dataset([photo([C], [0], difficult=(0,))], ["rice"])
    assert ap50(only_difficult, [found((C, 0.9, 0))]) is None


def test_a_detection_of_another_class_hits_nothing() -> None:
    dataset = Dataset([photo([A], [0])], ["rice", "soup"])
    assert ap50(dataset, [found((A, 0.9, 1))]) == 0


def test_a_detection_belongs_to_the_box_that_it_overlaps_most_even_if_taken() -> None:
    """Two boxes a pixel apart; the second detection fits the first best, which is taken: a miss, and a hit for COCO."""
    first, second = [0, 0, 20, 20], [2, 0, 22, 20]
    dataset = Dataset([photo([first, second], [0, 0])], ["rice"])
    assert ap50(dataset, [found((first, 0.9, 0), (first, 0.8, 0))]) == pytest.approx(0.5)


@pytest.mark.parametrize(("height", "expected"), [(5, 1.0), (4, 0.0)])
def test_half_an_overlap_is_enough(height: int, expected: float) -> None:
    """A box of 10 x 5 inside one of 10 x 10 has the IoU 0.5 exactly."""
    dataset = Dataset([photo([A], [0])], ["rice"])
    assert ap50(dataset, [found(([0, 0, 10, height], 0.9, 0))]) == expected


def test_scores_rank_over_all_photos() -> None:
    """A sure miss on one photo stands before an unsure hit on another: precision 1/2."""
    dataset = Dataset([photo([], []), photo([B], [0])], ["rice"])
    assert ap50(dataset, [found((NOWHERE, 0.9, 0)), found((B, 0.5, 0))]) == pytest.approx(0.5)


def test_a_later_higher_precision_fills_up_the_one_before() -> None:
    """Miss, hit, hit: precision 0, 1/2, 2/3 at recall 0, 1/2, 1; the curve is 2/3 all along."""
    dataset = Dataset([photo([A, B], [0, 0])], ["rice"])
    detections = [found((NOWHERE, 0.9, 0), (A, 0.8, 0), (B, 0.7, 0))]
    assert ap50(dataset, detections) == pytest.approx(2 / 3)


def test_no_detections_and_no_boxes() -> None:
    dataset, detections = random_photos(0)
    assert ap50(dataset, nothing(dataset)) == 0
    empty = Dataset([Photo(p.path, 640, 640) for p in dataset], dataset.names)
    assert ap50(empty, detections) is None


def test_the_truth_itself_scores_one() -> None:
    dataset, _ = random_photos(1)
    detections = [Detections(p.boxes, torch.ones(len(p.boxes)), p.labels, dataset.names, 640, 640) for p in dataset]
    assert ap50(dataset, detections) == pytest.approx(1)
