"""Which classes a detector takes for which, what it misses, and what it finds where nothing is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from foodbox.detections import Detections
from foodbox.evaluation.voc import MATCH_IOU, NO_BOX, boxes_hit, lie_within
from foodbox.ops.boxes import iou
from foodbox.records import Dataset, Photo


class Confusion(NamedTuple):
    """Boxes and shown detections of K classes, paired one to one at IoU 0.5.

    Attributes:
        counts: int64 [K + 1, K + 1], by the box's class and the detection's: the last row has detections on no box
            (false positives), the last column boxes without a detection (false negatives).
        mistakes: int64 [P], of each photo what lies off the diagonal.
    """

    counts: Tensor
    mistakes: Tensor

    @property
    def boxes(self) -> int:
        """How many there are to find."""
        return int(self.counts[:-1].sum())

    @property
    def shown(self) -> int:
        """Detections that count."""
        return int(self.counts[:, :-1].sum())

    @property
    def right(self) -> int:
        """Detections on a box of their class (true positives)."""
        return int(self.counts.diagonal().sum())

    @property
    def missed(self) -> int:
        """Boxes without a detection (false negatives)."""
        return int(self.counts[:, -1].sum())

    @property
    def false(self) -> int:
        """Detections on no box, or on one that a better one has (false positives)."""
        return int(self.counts[-1].sum())

    @property
    def confused(self) -> int:
        """Detections on a box of another class."""
        return self.shown - self.right - self.false

    @property
    def precision(self) -> Tensor:
        """[K], the share of a class's detections that are right; NaN where there are none."""
        return self.counts.diagonal()[:-1] / self.counts[:, :-1].sum(0)

    @property
    def recall(self) -> Tensor:
        """[K], the share of a class's boxes that are found; NaN where there are none."""
        return self.counts.diagonal()[:-1] / self.counts[:-1].sum(1)


def confusion(dataset: Dataset, detections: Sequence[Detections], threshold: float) -> Confusion:
    """Pairs boxes with the detections over a threshold.

    A detection that hits a box of its class, as Pascal VOC counts it, has that box. What is left is paired with boxes
    of other classes by IoU, the best pairs first.

    Args:
        dataset: labelled photos.
        detections: one for each photo, in its order, labels into the dataset's names.
        threshold: the lowest score of the detections that count.
    """
    size = len(dataset.names) + 1
    counts = torch.zeros(size, size, dtype=torch.int64)
    mistakes = torch.zeros(len(dataset), dtype=torch.int64)
    for i, (photo, found) in enumerate(zip(dataset, detections, strict=True)):
        rows, columns = _pairs(photo, found.over(threshold), nothing=size - 1)
        counts.index_put_((rows, columns), torch.ones((), dtype=torch.int64), accumulate=True)
        mistakes[i] = (rows != columns).sum()
    return Confusion(counts, mistakes)


def _pairs(photo: Photo, shown: Detections, nothing: int) -> tuple[Tensor, Tensor]:
    """Class by class, of boxes and of what was found there, [N] each; `nothing` is the class of no box."""
    hit = boxes_hit(photo, shown)  # [D]
    counted = ~photo.ignore  # [M]
    overlap = iou(shown.boxes, photo.boxes)  # [D, M]
    overlap[(shown.labels[:, None] == photo.labels) | photo.ignore] = 0
    overlap[hit != NO_BOX] = 0
    overlap[:, hit[hit >= 0]] = 0
    while len(overlap) and overlap.shape[1] and float(overlap.max()) >= MATCH_IOU:
        detection, box = divmod(int(overlap.argmax()), overlap.shape[1])
        hit[detection] = box
        overlap[detection] = 0
        overlap[:, box] = 0
    counted[hit[hit >= 0]] = False
    missed = photo.labels[counted]
    false = shown.labels[(hit == NO_BOX) & ~lie_within(shown.boxes, photo.boxes[photo.ignore])]
    boxes, found = photo.labels[hit[hit >= 0]], shown.labels[hit >= 0]
    rows = torch.cat((boxes, torch.full_like(false, nothing), missed))
    return rows, torch.cat((found, false, torch.full_like(missed, nothing)))
