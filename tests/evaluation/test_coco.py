"""COCO's AP against pycocotools, the authors' own."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from foodbox.evaluation.coco import coco_scores
from foodbox.records import Dataset, Detections, Photo
from tests.evaluation.random_detections import nothing, random_photos


def theirs(dataset: Dataset, found: list[Detections]) -> COCOeval:
    """Pycocotools' evaluation; boxes to ignore are its crowds."""
    annotations, results = [], []
    for i, photo in enumerate(dataset):
        rows = zip(photo.boxes.double().tolist(), photo.labels.tolist(), photo.ignore.tolist(), strict=True)
        for (x1, y1, x2, y2), label, ignore in rows:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(ignore),
                }
            )
    for i, d in enumerate(found):
        for (x1, y1, x2, y2), label, score in zip(
            d.boxes.double().tolist(), d.labels.tolist(), d.scores.tolist(), strict=True
        ):
            results.append({"image_id": i, "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": i, "width": p.width, "height": p.height} for i, p in enumerate(dataset)],
            "categories": [{"id": i, "name": name} for i, name in enumerate(dataset.names)],
            "annotations": annotations,
        }
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def same(mine: float | None, other: float) -> None:
    """Theirs is -1 where there is nothing to count."""
    assert (-1 if mine is None else mine) == pytest.approx(other, abs=1e-6)


def mean(values: np.ndarray) -> float:
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else -1


@pytest.mark.parametrize("seed", range(6))
def test_scores_are_pycocotools(seed: int) -> None:
    dataset, found = random_photos(seed)
    mine, run = coco_scores(dataset, found), theirs(dataset, found)
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    for name, value in zip(names, run.stats[:6], strict=True):
        same(getattr(mine, name), value)
    assert 0.05 < run.stats[0] < 0.95
    precision, recall = run.eval["precision"], run.eval["recall"]
    same(mine.recall, mean(recall[0, :, 0, -1]))
    for k, name in enumerate(dataset.names):
        same(mine.per_class[name]["ap"], mean(precision[:, :, k, 0, -1]))
        same(mine.per_class[name]["ap50"], mean(precision[0, :, k, 0, -1]))
        assert mine.per_class[name]["boxes"] == sum(int((p.labels[~p.ignore] == k).sum()) for p in dataset)


def test_many_detections_on_one_photo_are_cut_at_a_hundred() -> None:
    boxes = torch.tensor([[10.0 * i, 0.0, 10.0 * i + 8, 8.0] for i in range(150)])
    labels = torch.zeros(150, dtype=torch.int64)
    dataset = Dataset([Photo(Path("a.jpg"), 2000, 20, boxes, labels)], ["rice"])
    found = [Detections(boxes, torch.linspace(1, 0, 150), labels, ["rice"], 2000, 20)]
    mine, run = coco_scores(dataset, found), theirs(dataset, found)
    same(mine.ap, run.stats[0])
    same(mine.recall, 100 / 150)


def test_perfect_detections_score_one() -> None:
    dataset = random_photos(0)[0]
    dataset.names = dataset.names[:3]
    found = [
        Detections(p.boxes, torch.ones(len(p.boxes)), p.labels, dataset.names, p.width, p.height, p.path)
        for p in dataset
    ]
    scores = coco_scores(dataset, found)
    assert (scores.ap, scores.ap50, scores.recall) == pytest.approx((1, 1, 1))
    assert [entry["ap"] for entry in scores.per_class.values()] == pytest.approx([1, 1, 1])


def test_no_detections_score_nothing_wherever_there_are_boxes() -> None:
    """As pycocotools has it where the only detection lies on no box: 0 for every size and class that has one."""
    dataset, _ = random_photos(0)
    found = nothing(dataset)
    mine = coco_scores(dataset, found)
    useless = [
        *found[:-1],
        Detections(
            torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([0.1]), torch.tensor([0]), dataset.names, 640, 640
        ),
    ]
    run = theirs(dataset, useless)
    for name, value in zip(("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"), run.stats[:6], strict=True):
        assert value == 0
        assert getattr(mine, name) == 0, name
    assert mine.recall == 0
    assert [entry["ap"] for entry in mine.per_class.values()] == [0, 0, 0, None]


@pytest.mark.parametrize("detections", [True, False])
def test_without_boxes_there_is_nothing_to_score(detections: bool) -> None:
    dataset, found = random_photos(1)
    empty = Dataset([Photo(p.path, p.width, p.height) for p in dataset], dataset.names)
    scores = coco_scores(empty, found if detections else nothing(empty))
    values: list[Any] = [scores.ap, scores.ap50, scores.ap75, scores.ap_small, scores.ap_large, scores.recall]
    assert values == [None] * 6
    assert all(entry == {"ap": None, "ap50": None, "boxes": 0} for entry in scores.per_class.values())


def test_the_order_of_photos_does_not_matter() -> None:
    dataset, found = random_photos(2)
    one = coco_scores(dataset, found)
    other = coco_scores(dataset.with_photos(dataset.photos[::-1]), found[::-1])
    assert (one.ap, one.recall) == pytest.approx((other.ap, other.recall))
