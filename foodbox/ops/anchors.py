"""Anchors: the reference boxes that one-stage detectors and region proposal networks start from.

Faster R-CNN (Ren et al. 2015) section 3.1.1; RetinaNet (Lin et al. 2017) section 4, "Anchors".
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def cell_anchors(size: float, scales: Sequence[float], ratios: Sequence[float], whole_pixels: bool = False) -> Tensor:
    """The anchors of one place, centred at 0, ratio by ratio and in each scale by scale.

    Args:
        size: side in pixels of the square anchor at scale 1.
        scales: factors on the size; RetinaNet has 2^0, 2^(1/3), 2^(2/3).
        ratios: height over width; the area stays (size x scale)^2.
        whole_pixels: cut the sides and round the corners to whole pixels, as torchvision does.

    Returns:
        [len(ratios) x len(scales), 4].
    """
    sides = size * torch.tensor(scales, dtype=torch.float32)
    if whole_pixels:
        sides = sides.floor()
    stretch = torch.tensor(ratios, dtype=torch.float32).sqrt()
    widths = (sides[None, :] / stretch[:, None]).flatten()  # [A]
    heights = (sides[None, :] * stretch[:, None]).flatten()
    corners = torch.stack((-widths, -heights, widths, heights), dim=1) / 2
    return corners.round() if whole_pixels else corners


def grid_anchors(cell: Tensor, height: int, width: int, stride: tuple[float, float], offset: float = 0.5) -> Tensor:
    """The anchors of one pyramid level: one place's anchors moved over a grid, row by row.

    Args:
        cell: [A, 4], what `cell_anchors` gave.
        height, width: places down and across.
        stride: pixels between places, down and across.
        offset: where in its cell a place lies, as a share of the stride: 0.5 is the cell's centre.

    Returns:
        [height x width x A, 4] in pixels of the network's input.
    """
    y = (torch.arange(height, dtype=torch.float32, device=cell.device) + offset) * stride[0]
    x = (torch.arange(width, dtype=torch.float32, device=cell.device) + offset) * stride[1]
    y, x = torch.meshgrid(y, x, indexing="ij")
    places = torch.stack((x, y, x, y), dim=-1).reshape(-1, 1, 4)  # [height x width, 1, 4]
    return (places + cell[None]).reshape(-1, 4)


def pyramid_anchors(
    sizes: Sequence[float],
    strides: Sequence[int],
    scales: Sequence[float],
    ratios: Sequence[float],
    shape: tuple[int, int],
    grids: Sequence[Sequence[int]] | None = None,
    whole: bool = False,
    device: torch.device | None = None,
) -> Tensor:
    """The anchors of a pyramid, level by level: RetinaNet section 4, "Anchors", and FPN section 4.1.

    Args:
        sizes, strides: of each level, in pixels.
        scales, ratios: see `cell_anchors`.
        shape: height and width of the input in pixels.
        grids: rows and columns of each level, where they are not the shape over the stride, rounded up.
        whole: in whole pixels, at the cells' corners instead of their centres, as torchvision has them.

    Returns:
        [A, 4] in pixels of the input.
    """
    found = []
    for i, (size, step) in enumerate(zip(sizes, strides, strict=True)):
        rows, columns = grids[i] if grids else [math.ceil(side / step) for side in shape]
        stride = (shape[0] // rows, shape[1] // columns) if whole else (step, step)
        cell = cell_anchors(size, scales, ratios, whole_pixels=whole).to(device)
        found.append(grid_anchors(cell, rows, columns, stride, offset=0.0 if whole else 0.5))
    return torch.cat(found)
