"""Photos with all that any label format can hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from foodbox.records import Dataset, Photo

NAMES = ["김치", "rice & beans", "soup"]

# Photo: size, part, labelled, and (label, ignore, x1, y1, x2, y2) of each box.
PHOTOS: list[tuple[tuple[int, int], str, bool, list[tuple[int, bool, float, float, float, float]]]] = [
    ((640, 480), "train", True, [(0, False, 10.25, 20.5, 300.75, 400.125)]),
    (
        (480, 640),
        "train",
        True,
        [(1, False, 0, 0, 480, 640), (2, False, 5, 5, 40, 90), (0, False, 200.5, 300, 400, 500)],
    ),
    ((333, 777), "valid", True, [(2, False, 3.3, 7.7, 100.1, 200.2), (1, True, 150, 300, 320, 700)]),
    ((100, 100), "valid", True, []),
    ((128, 96), "test", False, []),
    ((4032, 3024), "test", True, [(0, False, 1234.56, 789.01, 3999.9, 3000.25)]),
]


@pytest.fixture
def everything(tmp_path: Path) -> Dataset:
    """Photos with all that any format can hold: classes, outlines, marks, parts, empty and unlabelled ones."""
    photos = []
    for i, (size, part, labelled, boxes) in enumerate(PHOTOS):
        path = tmp_path / "all" / f"{i} photo.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", size, (40 * i, 100, 200 - 30 * i)).save(path)
        corners = torch.tensor([box[2:] for box in boxes]).reshape(-1, 4)
        photos.append(
            Photo(
                path,
                *size,
                corners,
                torch.tensor([box[0] for box in boxes], dtype=torch.int64),
                [[outline(*box[2:])] for box in boxes] if boxes else None,
                torch.tensor([box[1] for box in boxes], dtype=torch.bool),
                labelled=labelled,
                part=part,
            )
        )
    return Dataset(photos, NAMES)


def outline(x1: float, y1: float, x2: float, y2: float) -> torch.Tensor:
    """Eight corners that touch the box's four sides."""
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return torch.tensor([[x1, y], [x1, y1], [x, y1], [x2, y1], [x2, y], [x2, y2], [x, y2], [x1, y2]])
