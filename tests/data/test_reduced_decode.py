"""A large JPEG decoded at a half, a quarter or an eighth of its size has its edges where its boxes are."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from foodbox.data.augment import Augmentation
from foodbox.data.images import open_photo, prepare
from foodbox.data.loader import PreparedPhotos
from foodbox.records import Photo, Preprocessing


def a_jpeg(path: Path, size: tuple[int, int], box: tuple[int, int, int, int]) -> Photo:
    """A white rectangle on black."""
    image = Image.new("RGB", size)
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill="white")
    image.save(path, quality=92)
    return Photo(path, *size, torch.tensor([box], dtype=torch.float32), torch.tensor([0]))


def edges(pixels: torch.Tensor, axis: int, around: float) -> list[float]:
    """Where the brightness along an axis (0: x, 1: y), on the line that crosses the other one at `around`, is half."""
    grey = pixels.float().mean(0).numpy()
    line = (grey[int(around)] if axis == 0 else grey[:, int(around)]) - 127.5
    found = []
    for i, (before, after) in enumerate(itertools.pairwise(line)):
        if np.sign(before) != np.sign(after):
            found.append(i + 0.5 + float(before / (before - after)))  # pixel i has its middle at i + 0.5
    return found


BOXES = [(400, 300, 1400, 1100), (37, 41, 1961, 1471), (1203, 905, 1907, 1433)]
# The decoder rounds a side that does not divide up to a whole pixel, and the picture is stretched by that much: at 1/8,
# 1501 rows become 188, which would show 1504. images.py has to decode a larger picture then.


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("height", [1496, 1501])
@pytest.mark.parametrize(("side", "reduction"), [(1100, 1), (800, 2), (500, 4), (320, 4), (250, 8), (161, 8)])
@pytest.mark.parametrize("fit", ["longest", "stretch"])
def test_edges_are_where_the_frame_has_them(
    box: tuple[int, int, int, int], height: int, side: int, reduction: int, fit: str, tmp_path: Path
) -> None:
    """In half a pixel of the input. 1496 rows are a multiple of eight, 1501 are not."""
    photo = a_jpeg(tmp_path / "large.jpg", (2000, height), box)
    image = open_photo(photo.path, at_least=(side, 1))
    if height == 1496:
        assert image.size == (2000 // reduction, 1496 // reduction)
    pixels, frame = prepare(image, Preprocessing(size=side, fit=fit), photo.path, (2000, height))  # type: ignore[arg-type]
    x1, y1, x2, y2 = frame.to_input(photo.boxes)[0].tolist()
    assert edges(pixels, 0, (y1 + y2) / 2) == pytest.approx([x1, x2], abs=0.5)
    assert edges(pixels, 1, (x1 + x2) / 2) == pytest.approx([y1, y2], abs=0.5)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("seed", range(6))
def test_edges_are_where_an_augmented_frame_has_them(box: tuple[int, int, int, int], seed: int, tmp_path: Path) -> None:
    """On a larger ground, so that all of the rectangle is shown."""
    photo = a_jpeg(tmp_path / "large.jpg", (2000, 1501), box)
    photos = PreparedPhotos([photo], Preprocessing(size=320), Augmentation(0.5, (0.7, 1.0), 0), seed)
    pixels, target, frame = photos[0, 0]
    x1, y1, x2, y2 = target.boxes[0].tolist()
    torch.testing.assert_close(frame.to_input(photo.boxes), target.boxes, rtol=0, atol=1e-3)
    shown = [x for x in edges(pixels, 0, (y1 + y2) / 2) if x1 - 2 < x < x2 + 2]  # not those of the lighter ground
    assert shown == pytest.approx([x1, x2], abs=0.5)
    shown = [y for y in edges(pixels, 1, (x1 + x2) / 2) if y1 - 2 < y < y2 + 2]
    assert shown == pytest.approx([y1, y2], abs=0.5)
