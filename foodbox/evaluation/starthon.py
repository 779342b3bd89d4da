"""The AI Starthon 2019's score for "food region": how well the one best box of each photo fits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from foodbox.detections import Detections
from foodbox.ops.boxes import iou
from foodbox.records import Dataset


def best_boxes(detections: Sequence[Detections]) -> Tensor:
    """The best box of each photo, however unsure: [P, 4] in its pixels.

    Where nothing was found it is the whole photo: the contest wants a box, and this one meets at least something.
    """
    boxes = [d.boxes[0] if len(d) else torch.tensor([0.0, 0.0, d.width, d.height]) for d in detections]
    return torch.stack(boxes) if boxes else torch.zeros((0, 4))


def mean_iou(dataset: Dataset, detections: Sequence[Detections]) -> float | None:
    """Mean over the photos with a box of IoU(best box, true box): the contest's score of `prediction_file`, 0 to 1.

    The contest has one true box a photo. Where a photo has several, the one that fits best counts.
    """
    overlaps = []
    for photo, box in zip(dataset, best_boxes(detections), strict=True):
        truth = photo.boxes[~photo.ignore]
        if len(truth):
            overlaps.append(float(iou(box[None], truth).max()))
    return sum(overlaps) / len(overlaps) if overlaps else None


def prediction_file(detections: Sequence[Detections]) -> str:
    """The contest's prediction file: a line a photo, sorted by file name, x,y,w,h as fractions of width and height."""
    lines = []
    for found, box in zip(detections, best_boxes(detections), strict=True):
        x1, y1, x2, y2 = (box.double() / torch.tensor([found.width, found.height] * 2)).tolist()
        lines.append((found.path.name if found.path else "", f"{x1:.8f},{y1:.8f},{x2 - x1:.8f},{y2 - y1:.8f}\n"))
    return "".join(line for _, line in sorted(lines, key=lambda line: line[0]))  # of one name, in the photos' order
