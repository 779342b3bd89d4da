"""Average precision as COCO counts it (cocodataset.org, "Detection Evaluation"), by faster-coco-eval."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster

from foodbox.detections import Detections
from foodbox.masks import paste_mask, rle_from_bitmap, rle_from_polygons
from foodbox.records import Dataset

MOST = 100
"""Detections of a class on a photo that are counted, the surest ones."""
AT_ONCE = 100_000
"""Photos times classes, and detections, that are counted together: faster-coco-eval holds a kilobyte for each. In more
groups, going through all boxes once for each would take longer than counting them."""


@dataclass
class CocoScores:
    """COCO's summary numbers, 0 to 1, or None where there is nothing to count (no box of that size, say).

    Attributes:
        ap: mean over IoU 0.50, 0.55 ... 0.95, over classes.
        ap50, ap75: at one IoU.
        ap_small, ap_medium, ap_large: for boxes under 32² pixels, up to 96², above.
        recall: share of the boxes found at IoU 0.5 by a photo's `MOST` best detections of the class, mean over classes.
        per_class: class → {"ap", "ap50", "boxes"}, to which `Scores` adds "precision" and "recall" of what is shown.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    recall: float | None
    per_class: dict[str, dict[str, float | int | None]]


def coco_scores(dataset: Dataset, detections: Sequence[Detections]) -> CocoScores:
    """AP of the detections, one for each photo of the dataset in its order, with labels into the dataset's names."""
    names = dataset.names
    # The empty outline saves memory: without it faster-coco-eval makes a polygon of each box.
    found = [
        {"image_id": i, "category_id": label + 1, "bbox": _xywh(box), "score": score, "segmentation": ()}
        for i, d in enumerate(detections, start=1)
        for box, label, score in zip(
            d.boxes.double().tolist(), d.labels.tolist(), d.scores.double().tolist(), strict=True
        )
    ]
    boxes = dataset.class_counts(ignored=False)
    precision, recall = _counted(dataset, _annotations(dataset), found, "bbox")
    return CocoScores(
        ap=_mean(precision[:, :, :, 0, -1]),
        ap50=_mean(precision[0, :, :, 0, -1]),
        ap75=_mean(precision[5, :, :, 0, -1]),
        ap_small=_mean(precision[:, :, :, 1, -1]),
        ap_medium=_mean(precision[:, :, :, 2, -1]),
        ap_large=_mean(precision[:, :, :, 3, -1]),
        recall=_mean(recall[0, :, 0, -1]),
        per_class={
            name: {"ap": _mean(precision[:, :, k, 0, -1]), "ap50": _mean(precision[0, :, k, 0, -1]), "boxes": boxes[k]}
            for k, name in enumerate(names)
        },
    )


def mask_scores(dataset: Dataset, detections: Sequence[Detections]) -> tuple[float | None, float | None]:
    """AP and AP50 of masks instead of boxes ("segm"); None where photos or detections have none, or nothing counts.

    A box without an outline counts as COCO's crowds do: a mask within it is neither right nor wrong.
    """
    outlined = any(outlines for photo in dataset for outlines in photo.masks or ())
    if not outlined or all(d.masks is None for d in detections):
        return None, None
    found = []
    for i, d in enumerate(detections, start=1):
        for mask, box, label, score in zip(
            d.masks if d.masks is not None else (), d.boxes, d.labels.tolist(), d.scores.double().tolist(), strict=True
        ):
            pixels = rle_from_bitmap(*paste_mask(mask, box, d.height, d.width), d.height, d.width)
            found.append({"image_id": i, "category_id": label + 1, "segmentation": pixels, "score": score})
    truth = _annotations(dataset)
    owners = (photo for photo in dataset for _ in photo.boxes)
    every = (outlines for photo in dataset for outlines in photo.masks or [[]] * len(photo.boxes))
    for entry, photo, outlines in zip(truth, owners, every, strict=True):
        x, y, w, h = entry["bbox"]
        square = torch.tensor([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
        entry["segmentation"] = rle_from_polygons(outlines or [square], photo.height, photo.width)
        entry["iscrowd"] |= not outlines
    precision, _ = _counted(dataset, truth, found, "segm")
    return _mean(precision[:, :, :, 0, -1]), _mean(precision[0, :, :, 0, -1])


def _counted(
    dataset: Dataset, annotations: list[dict[str, Any]], found: list[dict[str, Any]], kind: Literal["bbox", "segm"]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """COCO's precision [T, R, K, area, 1] and recall [T, K, area, 1] of the best 100: T IoUs, R recalls, K classes."""
    truth: dict[str, Any] = {
        "info": {},
        "images": [{"id": i, "width": p.width, "height": p.height} for i, p in enumerate(dataset, start=1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(dataset.names, start=1)],
        "annotations": annotations,
    }
    classes = np.arange(1, len(dataset.names) + 1)
    groups = min(len(classes), (len(dataset) * len(classes) + len(found)) // AT_ONCE) or 1
    precision, recall = [], []
    with contextlib.redirect_stdout(io.StringIO()):
        right = COCO(truth)
        answers = right.loadRes(found) if found else COCO(truth | {"annotations": []})
        run = COCOeval_faster(right, answers, kind, print_function=lambda *_: None)
        run.params.maxDets = [MOST]  # the summaries of the best 1 and 10 are not asked for
        for group in np.array_split(classes, groups):
            run.params.catIds = group.tolist()
            run.evaluate()
            run.accumulate()
            precision.append(run.eval["precision"])
            recall.append(run.eval["recall"])
    return np.concatenate(precision, axis=2), np.concatenate(recall, axis=1)


def _annotations(dataset: Dataset) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for i, photo in enumerate(dataset, start=1):
        for box, label, ignore in zip(
            photo.boxes.double().tolist(), photo.labels.tolist(), photo.ignore.tolist(), strict=True
        ):
            x, y, w, h = _xywh(box)
            entry = {"id": len(entries) + 1, "image_id": i, "category_id": label + 1, "bbox": [x, y, w, h]}
            entries.append(entry | {"area": w * h, "iscrowd": int(ignore)})
    return entries


def _xywh(box: list[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _mean(values: np.ndarray[Any, Any]) -> float | None:
    """The mean of what was counted; COCO marks with -1 what there is nothing to count for."""
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else None
