"""Anchors against torchvision's, keras-retinanet's, and a few worked out by hand."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from foodbox.ops.anchors import cell_anchors, grid_anchors

SIZES = (32, 64, 128, 256, 512)
SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
RATIOS = (0.5, 1.0, 2.0)


def test_one_places_anchors_by_hand() -> None:
    """Height over width: 4 means half as wide and twice as high; the area stays."""
    found = cell_anchors(32, (1.0, 2.0), (1.0, 4.0))
    expected = [[-16, -16, 16, 16], [-32, -32, 32, 32], [-8, -32, 8, 32], [-16, -64, 16, 64]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


def test_a_grid_by_hand() -> None:
    """Centres of cells of 8 x 4 pixels, row by row, and at each place one anchor after the other."""
    cell = torch.tensor([[-1.0, -1.0, 1.0, 1.0], [-2.0, -2.0, 2.0, 2.0]])
    found = grid_anchors(cell, height=2, width=3, stride=(4, 8))
    centres = (found[:, :2] + found[:, 2:]) / 2
    expected = [(4, 2), (12, 2), (20, 2), (4, 6), (12, 6), (20, 6)]
    assert centres.tolist() == [list(map(float, place)) for place in expected for _ in range(2)]
    assert (found[:, 2] - found[:, 0]).tolist() == [2.0, 4.0] * 6


def test_a_grid_of_no_places_is_empty() -> None:
    assert grid_anchors(torch.zeros(9, 4), 0, 3, (8, 8)).shape == (0, 4)


@pytest.mark.parametrize(("height", "width"), [(256, 320), (192, 192), (32, 416)])
def test_whole_pixel_anchors_are_torchvisions(height: int, width: int) -> None:
    sizes = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in SIZES)
    generator = AnchorGenerator(sizes, (RATIOS,) * len(sizes))
    grids = [(-(-height // 2**level), -(-width // 2**level)) for level in range(3, 8)]
    images = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
    theirs = generator(images, [torch.zeros(1, 1, *grid) for grid in grids])[0]
    ours = [
        grid_anchors(
            cell_anchors(size, SCALES, RATIOS, whole_pixels=True),
            *grid,
            (height // grid[0], width // grid[1]),
            offset=0,
        )
        for size, grid in zip(SIZES, grids, strict=True)
    ]
    assert torch.equal(torch.cat(ours), theirs)


def test_centre_anchors_are_keras_retinanets(keras_reference: dict[str, Any], fill: ModuleType) -> None:
    height, width = keras_reference["input"][2:]
    levels: list[Tensor] = []
    for level, size in enumerate(SIZES, start=3):
        grid = -(-height // 2**level), -(-width // 2**level)
        levels.append(grid_anchors(cell_anchors(size, SCALES, RATIOS), *grid, (2**level, 2**level)))
    anchors = torch.cat(levels).numpy()
    expected = keras_reference["outputs"]["anchors"]
    assert list(anchors.shape) == expected["shape"]
    np.testing.assert_allclose(fill.sample(anchors), expected["sample"], atol=1e-3)
    assert anchors.mean() == pytest.approx(expected["mean"], abs=1e-3)
    assert anchors.std() == pytest.approx(expected["std"], abs=1e-3)
