"""All scores together, and the sentences on what pulls them down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from foodbox.detections import Detections
from foodbox.evaluation.coco import coco_scores
from foodbox.evaluation.confusion import confusion
from foodbox.evaluation.scores import score
from foodbox.evaluation.starthon import mean_iou
from foodbox.evaluation.threshold import F1Curve
from foodbox.evaluation.voc import ranked_hits, voc_ap50
from foodbox.records import Dataset, Photo
from tests.evaluation.random_detections import nothing, random_photos

A, B = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 70.0, 70.0]
NOWHERE = [80.0, 80.0, 90.0, 90.0]


def one_photo(*boxes: list[float], ignore: bool = False) -> Dataset:
    count = len(boxes)
    labels = torch.zeros(count, dtype=torch.int64)
    photo = Photo(Path("a.jpg"), 100, 100, torch.tensor(boxes), labels, ignore=torch.tensor([ignore] * count))
    return Dataset([photo], ["rice", "soup"])


def found(*rows: tuple[list[float], float, int]) -> list[Detections]:
    boxes, scores, labels = zip(*rows, strict=True)
    return [Detections(torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels), ["rice", "soup"], 100, 100)]


def test_every_score_is_its_own_files() -> None:
    dataset, detections = random_photos(0)
    scores = score(dataset, detections)
    coco = coco_scores(dataset, detections)
    assert (scores.ap, scores.ap50, scores.ap75, scores.recall) == (coco.ap, coco.ap50, coco.ap75, coco.recall)
    assert (scores.ap_small, scores.ap_medium, scores.ap_large) == (coco.ap_small, coco.ap_medium, coco.ap_large)
    assert {name: dict(list(row.items())[:3]) for name, row in scores.per_class.items()} == coco.per_class
    ranked = ranked_hits(dataset, detections)
    assert scores.voc_ap50 == voc_ap50(dataset, ranked)
    assert scores.mean_iou == mean_iou(dataset, detections)
    curve = F1Curve.of(ranked, sum(dataset.class_counts(ignored=False)))
    assert scores.threshold == curve.best_threshold()
    assert scores.f1 == curve.over(scores.threshold)
    pairs = confusion(dataset, detections, scores.threshold)
    assert (scores.shown_precision, scores.shown_recall) == (pairs.right / pairs.shown, pairs.right / pairs.boxes)
    known = [row for row in scores.per_class.values() if row["recall"] is not None]
    assert [row["recall"] for row in known] == pytest.approx(pairs.recall[:3].tolist())
    assert scores.photos == 12
    assert scores.boxes == sum(int((~p.ignore).sum()) for p in dataset)
    assert json.loads(json.dumps(scores.to_dict())) == scores.to_dict()


def test_the_best_epoch_goes_by_masks_where_there_are_any() -> None:
    """A full map for an outline of half the box: a perfect box with a mask that is right at IoU 0.5 at most."""
    dataset = one_photo([10.0, 10.0, 70.0, 70.0])
    detections = found(([10.0, 10.0, 70.0, 70.0], 0.9, 0))
    boxes_only = score(dataset, detections)
    assert (boxes_only.mask_ap, boxes_only.mask_ap50) == (None, None)
    assert boxes_only.decisive == boxes_only.ap == pytest.approx(1)
    dataset.photos[0].masks = [[torch.tensor([[10.0, 10.0], [70.0, 10.0], [70.0, 70.0]])]]
    detections[0].masks = torch.ones(1, 28, 28)
    scores = score(dataset, detections)
    assert scores.ap == pytest.approx(1)
    assert scores.mask_ap is not None
    assert scores.mask_ap <= 0.1
    assert scores.decisive == scores.mask_ap
    assert score(dataset, nothing(dataset)).decisive == 0
    assert json.loads(json.dumps(scores.to_dict())) == scores.to_dict()


@pytest.mark.parametrize(
    ("dataset", "detections", "remarks"),
    [
        (one_photo(A), found((A, 0.9, 0)), []),
        (
            one_photo(A, B),
            found((A, 0.1, 0)),
            [
                "1 photo with boxes of 1 has no detection over 0.3",
                "2 of 2 boxes are missed by the detections over 0.3 (IoU 0.5)",
            ],
        ),
        (
            one_photo(A, B),
            found((A, 0.9, 0), (NOWHERE, 0.8, 0), (NOWHERE, 0.1, 0)),
            [
                "1 of 2 boxes are missed by the detections over 0.3 (IoU 0.5)",
                "1 of 2 detections over 0.3 are on no box, or on one that was found already",
            ],
        ),
        (one_photo(A), found((A, 0.9, 1)), ["1 of 1 detections over 0.3 are on a box of another class"]),
        (one_photo(A, ignore=True), found((A, 0.9, 0)), []),
        (
            one_photo(B, ignore=True),
            found(([51.0, 51.0, 56.0, 56.0], 0.9, 0), ([69.0, 51.0, 73.0, 56.0], 0.9, 0)),
            ["1 of 1 detections over 0.3 are on no box, or on one that was found already"],
        ),
        (one_photo(A, ignore=True), found((A, 0.1, 0)), []),
    ],
)
def test_remarks_by_hand(dataset: Dataset, detections: list[Detections], remarks: list[str]) -> None:
    assert score(dataset, detections, 0.3).remarks == remarks


@pytest.mark.parametrize(("count", "said"), [(100, False), (101, True)])
def test_what_cocos_ap_leaves_out_is_said(count: int, said: bool) -> None:
    """COCO's own is cut at a hundred detections of a class on a photo, VOC's is not."""
    boxes = torch.tensor([[10.0 * i, 0.0, 10.0 * i + 8, 8.0] for i in range(count)])
    labels = torch.zeros(count, dtype=torch.int64)
    dataset = Dataset([Photo(Path("a.jpg"), 2000, 20, boxes, labels)], ["rice"])
    scores = score(dataset, [Detections(boxes, torch.linspace(1, 0.5, count), labels, ["rice"], 2000, 20)], 0.3)
    sentence = "A photo has 101 boxes of one class, and COCO's AP counts the best 100 detections of it"
    assert scores.remarks == [sentence] * said
    assert scores.voc_ap50 == 1
    assert (scores.ap == 1) != said


def test_remarks_and_f1_are_of_what_is_shown() -> None:
    """One box of two found at 0.9, a wrong one at 0.6: F1 2 / (1 + 2) over 0.7, and 2 / (2 + 2) over 0.5."""
    dataset, detections = one_photo(A, B), found((A, 0.9, 0), (NOWHERE, 0.6, 0))
    few, more = (score(dataset, detections, threshold) for threshold in (0.7, 0.5))
    assert (few.threshold, more.threshold) == (0.7, 0.5)
    assert (few.f1, more.f1) == (pytest.approx(2 / 3), pytest.approx(1 / 2))
    assert few.remarks == ["1 of 2 boxes are missed by the detections over 0.7 (IoU 0.5)"]
    assert more.remarks[1] == "1 of 2 detections over 0.5 are on no box, or on one that was found already"


def test_no_detections_at_all() -> None:
    dataset, _ = random_photos(0)
    scores = score(dataset, nothing(dataset))
    assert (scores.ap, scores.voc_ap50) == (0, 0)
    assert scores.mean_iou == mean_iou(dataset, nothing(dataset))  # of whole photos, as the contest has them
    with_boxes = sum(bool((~p.ignore).any()) for p in dataset)
    assert scores.remarks[0] == f"{with_boxes} photos with boxes of {with_boxes} have no detection over 0.3"
    assert (
        scores.remarks[1] == f"{scores.boxes} of {scores.boxes} boxes are missed by the detections over 0.3 (IoU 0.5)"
    )
    assert len(scores.remarks) == 2


def test_photos_without_boxes_and_detections() -> None:
    dataset = Dataset([Photo(Path("a.jpg"), 10, 10)], ["rice"])
    scores = score(dataset, nothing(dataset))
    assert (scores.ap, scores.voc_ap50, scores.mean_iou, scores.boxes, scores.remarks) == (None, None, None, 0, [])


def test_what_is_found_in_a_crowd_lowers_no_f1() -> None:
    """As COCO has it. Pascal VOC, which knows difficult boxes alone, counts what does not meet one."""
    photo = Photo(Path("a.jpg"), 300, 200, torch.tensor([A, [100.0, 0, 300, 200]]), torch.tensor([0, 0]))
    photo.ignore = torch.tensor([False, True])
    crowd = [([110.0 + 40 * i, 10.0, 140.0 + 40 * i, 60.0], 0.9 - i / 100, 0) for i in range(4)]
    scores = score(Dataset([photo], ["rice", "soup"]), found((A, 0.5, 0), *crowd))
    assert (scores.ap, scores.f1, scores.shown_precision, scores.remarks) == (1, 1, 1, [])
    assert scores.threshold < 0.5
    assert scores.voc_ap50 == pytest.approx(0.2)


def test_half_of_a_detection_has_to_lie_in_what_is_ignored() -> None:
    for left, remarks in (
        (5.5, ["1 of 1 detections over 0.3 are on no box, or on one that was found already"]),
        (4.5, []),
    ):
        dataset = one_photo([left, 0.0, left + 10, 10.0], ignore=True)
        assert score(dataset, found((A, 0.9, 0)), 0.3).remarks == remarks
