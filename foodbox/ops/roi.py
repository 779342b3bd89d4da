"""Regions of feature maps, of whatever size, as small grids of one size: RoI pooling and RoIAlign."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import roi_align, roi_pool

from foodbox.ops.boxes import area

Pooling = Literal["align", "pool"]
SAMPLING_RATIO = 2
"""Points across and down of a cell that RoIAlign looks at; as detectron and torchvision."""


def assign_levels(boxes: Tensor, strides: Sequence[int], base: float = 224.0) -> Tensor:
    """Which map each region is taken from: FPN (Lin et al. 2017) equation 1, k = floor(4 + log2(sqrt(w h) / base)).

    Args:
        boxes: [..., 4] in pixels of the input.
        strides: pixels of the input for one place of each map, powers of two from fine to coarse.
        base: the side in pixels of a region that level 4, of stride 16, is for. The paper takes ImageNet's 224.

    Returns:
        int64 [...], 0 ... len(strides) - 1; finer or coarser regions than the maps' go to the first or last.
    """
    lowest, highest = math.log2(strides[0]), math.log2(strides[-1])
    side = area(boxes).clamp(min=0).sqrt()
    level = torch.floor(4 + torch.log2(side / base) + 1e-6)  # 1e-6 as torchvision: a region of the base is on level 4
    return (level.clamp(lowest, highest) - lowest).long()


def pool_regions(
    maps: Sequence[Tensor],
    boxes: Tensor,
    photo: Tensor,
    strides: Sequence[int],
    size: int,
    method: Pooling = "align",
    base: float = 224.0,
) -> Tensor:
    """The features of N regions, each from the map that fits its size.

    Args:
        maps: [B, C, H / strides[i], W / strides[i]] each.
        boxes: [N, 4] in pixels of the input.
        photo: int64 [N], the photo of the batch that each region is of.
        size: places across and down of what comes out.
        method: "pool", the maximum of each of size x size cells, whose borders are rounded to whole places (Fast R-CNN
            section 2.1); "align", the mean of values between the places, at 2 x 2 points of each cell
            (Mask R-CNN section 3, "RoIAlign").
        base: see `assign_levels`.

    Returns:
        float32 [N, C, size, size].
    """
    regions = torch.cat((photo[:, None].to(boxes.dtype), boxes), dim=1)  # [N, 5], as torchvision wants them
    level = assign_levels(boxes, strides, base)
    pooled = maps[0].new_zeros((len(boxes), maps[0].shape[1], size, size), dtype=torch.float32)
    for i, (features, stride) in enumerate(zip(maps, strides, strict=True)):
        mine = torch.where(level == i)[0]
        pooled[mine] = _pool(features.float(), regions[mine].float(), 1 / stride, size, method)
    return pooled


def _pool(features: Tensor, regions: Tensor, scale: float, size: int, method: Pooling) -> Tensor:
    """[B, C, H, W] and regions [N, 5] → [N, C, size, size]."""
    pooled: Tensor
    if method == "pool":
        pooled = roi_pool(features, regions, size, scale)
    else:
        pooled = roi_align(features, regions, size, scale, SAMPLING_RATIO)
    return pooled
