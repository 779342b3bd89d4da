"""Average precision as Pascal VOC has counted it since 2010 (Everingham et al., development kit, section 3.4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from foodbox.detections import Detections
from foodbox.ops.boxes import area, iou
from foodbox.records import Dataset, Photo, no_labels

MATCH_IOU = 0.5
"""IoU from which a detection hits a box, low on purpose: true boxes are inexact (Everingham et al., IJCV 2010, 4.2)."""

NO_BOX, NOT_COUNTED = -1, -2
"""In place of the box that a detection hits: there is none, or it is a difficult one."""


class RankedHits(NamedTuple):
    """All photos' detections, best first.

    Attributes:
        hits: int64 [N], 1 a hit, 0 a miss, -1 not counted.
        scores, labels: [N].
        within: bool [N], what lies in an area to be ignored, as a crowd: COCO does not count it, Pascal VOC does.
    """

    hits: Tensor
    scores: Tensor
    labels: Tensor
    within: Tensor

    def of_class(self, label: int) -> RankedHits:
        """Those of one class."""
        return RankedHits(*(values[self.labels == label] for values in self))


def voc_ap50(dataset: Dataset, ranked: RankedHits) -> float | None:
    """Mean over the classes of the area under precision and recall; None where no class has a box.

    It differs from COCO's AP50 in that a detection is held against the box that it overlaps most, even if another took
    it, and in that the whole curve counts instead of 101 points.

    Args:
        ranked: what `ranked_hits` gave for the dataset.
    """
    totals = dataset.class_counts(ignored=False)
    areas = [_area(ranked.of_class(k).hits, total) for k, total in enumerate(totals) if total]
    return sum(areas) / len(areas) if areas else None


def ranked_hits(dataset: Dataset, detections: Sequence[Detections]) -> RankedHits:
    """Which detections hit a box of their class: one entry for each photo of the dataset, labels into its names."""
    if not len(dataset):
        return RankedHits(no_labels(), torch.zeros(0), no_labels(), torch.zeros(0, dtype=torch.bool))
    boxes = torch.cat([boxes_hit(photo, found) for photo, found in zip(dataset, detections, strict=True)])
    hits = torch.where(boxes == NOT_COUNTED, -1, (boxes >= 0).long())
    scores, labels = torch.cat([d.scores for d in detections]), torch.cat([d.labels for d in detections])
    order = scores.argsort(descending=True, stable=True)
    within = torch.cat([lie_within(d.boxes, p.boxes[p.ignore]) for p, d in zip(dataset, detections, strict=True)])
    return RankedHits(hits[order], scores[order], labels[order], within[order])


def boxes_hit(photo: Photo, found: Detections) -> Tensor:
    """int64 [N] in the detections' order: the number of the box that each hits, NO_BOX or NOT_COUNTED.

    A detection is held against the box of its class that it overlaps most. A second one on the same box hits none, and
    one on a difficult box is not counted.
    """
    result = torch.full((len(found),), NO_BOX)
    if len(photo.boxes) == 0 or len(found) == 0:
        return result
    same = found.labels[:, None] == photo.labels[None, :]
    best, box = torch.where(same, iou(found.boxes, photo.boxes), -1).max(1)
    order = found.scores.argsort(descending=True, stable=True)
    order = order[best[order] >= MATCH_IOU]
    taken = set()
    for i, which, leave in zip(order.tolist(), box[order].tolist(), photo.ignore[box[order]].tolist(), strict=True):
        if leave:
            result[i] = NOT_COUNTED
        elif which not in taken:
            taken.add(which)
            result[i] = which
    return result


def lie_within(boxes: Tensor, areas: Tensor) -> Tensor:
    """Whether at least half of each box [N, 4] lies in one of some areas [M, 4], as COCO counts its crowds: [N]."""
    shared = iou(boxes, areas)  # of the union; of the box it is more
    sides = area(boxes)[:, None]
    return (shared / (1 + shared) * (sides + area(areas)) >= sides / 2).any(1)


def _area(hits: Tensor, total: int) -> float:
    """One class's area under precision and recall, from what its detections hit [N], best first, of total boxes."""
    hit = hits[hits >= 0].double()
    recall = hit.cumsum(0) / total
    precision = hit.cumsum(0) / torch.arange(1, len(hit) + 1)
    # The precision at a recall is the best that is reached from there on; steps in recall are the widths.
    best = precision.flip(0).cummax(0).values.flip(0) if len(hit) else precision
    widths = torch.diff(recall, prepend=recall.new_zeros(1))
    return float((best * widths).sum())
