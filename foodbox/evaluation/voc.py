"""Average precision as Pascal VOC has counted it since 2010 (Everingham et al., development kit, section 3.4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from foodbox.ops.boxes import iou
from foodbox.records import Dataset, Detections

MATCH_IOU = 0.5


def voc_ap50(dataset: Dataset, detections: Sequence[Detections]) -> float | None:
    """Mean over the classes of the area under precision and recall; None where no class has a box.

    It differs from COCO's AP50 in that a detection is held against the box that it overlaps most, even if another took
    it, and in that the whole curve counts instead of 101 points.

    Args:
        detections: one for each photo of the dataset, in its order, with labels into the dataset's names.
    """
    areas = [_class_ap(dataset, detections, k) for k in range(len(dataset.names))]
    counted = [area for area in areas if area is not None]
    return sum(counted) / len(counted) if counted else None


def _class_ap(dataset: Dataset, detections: Sequence[Detections], label: int) -> float | None:
    """One class: all photos' detections, best first, are hits, misses, or count for nothing (difficult boxes)."""
    total = sum(int(((p.labels == label) & ~p.ignore).sum()) for p in dataset)
    if total == 0:
        return None
    scores, hits = [], []
    for photo, found in zip(dataset, detections, strict=True):
        mine = found.keep(found.labels == label)
        of_class = photo.labels == label
        scores.append(mine.scores)
        hits.append(_hits(mine, photo.boxes[of_class], photo.ignore[of_class]))
    order = torch.cat(scores).argsort(descending=True, stable=True)
    hit = torch.cat(hits)[order]
    hit = hit[hit >= 0].double()
    recall = hit.cumsum(0) / total
    precision = hit.cumsum(0) / torch.arange(1, len(hit) + 1)
    # The precision at a recall is the best that is reached from there on; steps in recall are the widths.
    best = precision.flip(0).cummax(0).values.flip(0) if len(hit) else precision
    widths = torch.diff(recall, prepend=recall.new_zeros(1))
    return float((best * widths).sum())


def _hits(found: Detections, boxes: Tensor, difficult: Tensor) -> Tensor:
    """[N] in the detections' order: 1 a hit, 0 a miss, -1 not counted."""
    result = torch.zeros(len(found), dtype=torch.int64)
    if len(boxes) == 0 or len(found) == 0:
        return result
    best, box = iou(found.boxes, boxes).max(1)
    order = found.scores.argsort(descending=True, stable=True)
    order = order[best[order] >= MATCH_IOU]
    taken = set()
    for i, which, leave in zip(order.tolist(), box[order].tolist(), difficult[box[order]].tolist(), strict=True):
        if leave:
            result[i] = -1
        elif which not in taken:
            taken.add(which)
            result[i] = 1
    return result
