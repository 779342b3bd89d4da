"""COCO's AP against pycocotools, the authors' own."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from foodbox.detections import Detections
from foodbox.evaluation import coco
from foodbox.evaluation.coco import coco_scores, mask_scores
from foodbox.records import Dataset, Photo
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


@pytest.mark.parametrize("at_once", [1, 40, 60])
def test_classes_counted_in_groups_score_as_all_at_once(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four classes in four, three and two groups."""
    for seed in range(3):
        dataset, found = with_masks(seed)
        boxes, masks = coco_scores(dataset, found), mask_scores(dataset, found)
        with monkeypatch.context() as patch:
            patch.setattr(coco, "AT_ONCE", at_once)
            assert coco_scores(dataset, found) == boxes
            assert mask_scores(dataset, found) == masks


def test_no_photos_and_no_classes_have_no_scores() -> None:
    dataset, _ = random_photos(0)
    empty = Dataset([Photo(p.path, p.width, p.height) for p in dataset], [])
    for few in (Dataset([], dataset.names), empty):
        scores = coco_scores(few, nothing(few))
        assert (scores.ap, scores.recall, list(scores.per_class)) == (None, None, few.names)


# -- Masks ----------------------------------------------------------------------------------------------------------


def with_masks(seed: int) -> tuple[Dataset, list[Detections]]:
    """Every box gets an outline of a few corners, some in two pieces, and every detection a map."""
    dataset, found = random_photos(seed)
    draw = torch.Generator().manual_seed(seed)
    for photo in dataset:
        photo.masks = []
        for box in photo.boxes:
            pieces = []
            for _ in range(int(torch.randint(1, 3, (1,), generator=draw))):
                angle = torch.arange(0, 2 * torch.pi, 0.9)
                reach = 0.6 + 0.4 * torch.rand(len(angle), generator=draw)
                circle = torch.stack((angle.cos(), angle.sin()), 1) * reach[:, None]
                pieces.append((box[:2] + box[2:]) / 2 + circle * (box[2:] - box[:2]) / 2)
            photo.masks.append(pieces)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 28), torch.linspace(-1, 1, 28), indexing="ij")
    for d in found:
        size = 0.7 + 0.4 * torch.rand(len(d), 1, 1, generator=draw)
        d.masks = (1.5 * size - (x**2 + y**2).sqrt()).clamp(0, 1)  # discs
    return dataset, found


def their_masks(dataset: Dataset, found: list[Detections]) -> np.ndarray:
    """Pycocotools' twelve numbers, from its own polygons and from whole bitmaps."""
    annotations, results = [], []
    for i, photo in enumerate(dataset):
        masks = photo.masks or [[] for _ in photo.boxes]
        for box, label, ignore, outlines in zip(
            photo.boxes.tolist(), photo.labels.tolist(), photo.ignore.tolist(), masks, strict=True
        ):
            x1, y1, x2, y2 = box
            flat = [o.double().flatten().tolist() for o in outlines] or [[x1, y1, x2, y1, x2, y2, x1, y2]]
            lengths = coco_mask.merge(coco_mask.frPyObjects(flat, photo.height, photo.width))
            entry = {"id": len(annotations) + 1, "image_id": i, "category_id": label, "segmentation": lengths}
            area = float(coco_mask.area(lengths))
            annotations.append(entry | {"area": area, "iscrowd": int(ignore or not outlines)})
    for i, d in enumerate(found):
        for bitmap, label, score in zip(d.bitmaps(), d.labels.tolist(), d.scores.double().tolist(), strict=True):
            lengths = coco_mask.encode(np.asfortranarray(bitmap.numpy().astype(np.uint8)))
            results.append({"image_id": i, "category_id": label, "segmentation": lengths, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": i, "width": p.width, "height": p.height} for i, p in enumerate(dataset)],
            "categories": [{"id": i, "name": name} for i, name in enumerate(dataset.names)],
            "annotations": annotations,
        }
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(results), "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    stats: np.ndarray = run.stats
    return stats


@pytest.mark.parametrize("seed", range(4))
def test_mask_scores_are_pycocotools(seed: int) -> None:
    """With crowds, and with boxes that have no outline, which count as crowds."""
    dataset, found = with_masks(seed)
    if seed % 2:
        for photo in dataset:
            photo.masks = [[] if i % 4 == 3 else outlines for i, outlines in enumerate(photo.masks or [])]
    ap, ap50 = mask_scores(dataset, found)
    stats = their_masks(dataset, found)
    same(ap, stats[0])
    same(ap50, stats[1])
    assert 0.05 < stats[0] < 0.95


def test_masks_that_are_the_truth_score_one() -> None:
    outline = torch.tensor([[20.0, 20.0], [120.0, 20.0], [120.0, 90.0], [20.0, 90.0]])
    boxes, labels = torch.tensor([[20.0, 20.0, 120.0, 90.0]]), torch.tensor([0])
    dataset = Dataset([Photo(Path("a.jpg"), 200, 100, boxes, labels, [[outline]])], ["rice"])
    full = Detections(boxes, torch.ones(1), labels, ["rice"], 200, 100, masks=torch.ones(1, 28, 28))
    assert mask_scores(dataset, [full]) == pytest.approx((1, 1))
    half = torch.ones(1, 28, 28)
    half[:, :, 14:] = 0  # an IoU of a half: right at 0.5 only, if at all
    ap, ap50 = mask_scores(dataset, [Detections(boxes, torch.ones(1), labels, ["rice"], 200, 100, masks=half)])
    assert ap == pytest.approx((ap50 or 0) / 10)
    nothing_found = full.keep(torch.zeros(0, dtype=torch.int64))
    assert mask_scores(dataset, [nothing_found]) == (0, 0)


def test_without_masks_there_are_no_mask_scores() -> None:
    dataset, found = with_masks(0)
    boxes_only, _ = random_photos(0)
    assert mask_scores(boxes_only, found) == (None, None)
    for d in found:
        d.masks = None
    assert mask_scores(dataset, found) == (None, None)
