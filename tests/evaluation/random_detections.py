"""Photos with boxes, and a half-trained detector's detections: near the truth, twice, elsewhere, of another class."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from foodbox.detections import Detections
from foodbox.records import Dataset, Photo, no_boxes, no_labels

NAMES = ["rice", "soup", "tea", "never there"]
SIDES = (20.0, 60.0, 200.0)
"""One small, one medium and one large for COCO."""


def some_boxes(count: int, draw: torch.Generator) -> Tensor:
    side = torch.tensor(SIDES)[torch.randint(3, (count, 1), generator=draw)]
    corner = torch.rand(count, 2, generator=draw) * (640 - 1.3 * side)
    return torch.cat((corner, corner + side * (0.7 + 0.6 * torch.rand(count, 2, generator=draw))), dim=1)


def random_photos(seed: int, photos: int = 12) -> tuple[Dataset, list[Detections]]:
    """A dataset and the detections of its photos; some photos are empty, some boxes are to be ignored."""
    draw = torch.Generator().manual_seed(seed)
    dataset, found = [], []
    for i in range(photos):
        count = 0 if i == 3 else int(torch.randint(1, 8, (1,), generator=draw))
        boxes = some_boxes(count, draw)
        labels = torch.randint(3, (count,), generator=draw)
        ignore = torch.rand(count, generator=draw) < 0.15
        dataset.append(Photo(Path(f"{i}.jpg"), 640, 640, boxes, labels, ignore=ignore))
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(2, 2)
        near = boxes.repeat(2, 1) + torch.randn(2 * count, 4, generator=draw) * sides / 15
        all_boxes = torch.cat((near, some_boxes(3, draw)))
        all_labels = torch.cat((labels.repeat(2), torch.randint(len(NAMES), (3,), generator=draw)))
        swapped = torch.rand(len(all_labels), generator=draw) < 0.1
        all_labels[swapped] = (all_labels[swapped] + 1) % 3
        good = (all_boxes[:, 2:] > all_boxes[:, :2] + 1).all(1) & (torch.rand(len(all_boxes), generator=draw) < 0.8)
        if i == 5:
            good[:] = False  # a photo without detections
        scores, order = torch.rand(len(all_boxes), generator=draw)[good].sort(descending=True)
        found.append(
            Detections(all_boxes[good][order], scores, all_labels[good][order], NAMES, 640, 640, Path(f"{i}.jpg"))
        )
    return Dataset(dataset, NAMES), found


def nothing(dataset: Dataset) -> list[Detections]:
    """No detection on any photo."""
    return [
        Detections(no_boxes(), torch.zeros(0), no_labels(), dataset.names, p.width, p.height, p.path) for p in dataset
    ]
