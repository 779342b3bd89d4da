"""Masks of objects as small grids over their boxes: what a mask branch learns, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align


def project_masks(masks: Sequence[Tensor], photo: Tensor, matched_index: Tensor, boxes: Tensor, size: int) -> Tensor:
    """The part of each region's mask that lies in its box: Mask R-CNN section 3, "Mask Representation".

    "The mask target is the intersection between an RoI and its associated ground-truth mask" (section 3.1).

    Args:
        masks: of each of B photos bool [N_b, H_b, W_b], in the input's pixels.
        photo, matched_index: int64 [P], of each region the photo and the place among its masks.
        boxes: [P, 4] in the input's pixels.
        size: places across and down, M.

    Returns:
        float32 [P, M, M], the share of each place that the object covers, by bilinear sampling as RoIAlign's. Pixels'
        middles are at 0.5, as where masks are drawn: torchvision and Detectron have them at 0 here, which teaches masks
        that lie half a pixel of the input too far to the left and up.
    """
    high, wide = (max(m.shape[side] for m in masks) for side in (1, 2))
    together = torch.cat([F.pad(m, (0, wide - m.shape[2], 0, high - m.shape[1])) for m in masks])  # [sum N_b, H, W]
    first = torch.tensor([0, *(len(m) for m in masks)], device=photo.device).cumsum(0)  # [B + 1]
    which, place = torch.unique(first[photo] + matched_index, return_inverse=True)  # only those that are asked for
    regions = torch.cat((place[:, None].to(boxes.dtype), boxes), dim=1)  # [P, 5]
    pooled: Tensor = roi_align(together[which, None].to(boxes.dtype), regions, size, 1.0, aligned=True)
    return pooled[:, 0]


def crop_masks(masks: Tensor, boxes: Tensor, parts: Tensor) -> Tensor:
    """Masks over boxes, as masks over parts of these boxes.

    Args:
        masks: [N, M, M] over boxes [N, 4].
        parts: [N, 4], each within its box.

    Returns:
        float32 [N, M, M]; a mask whose part is the whole box stays as it is.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=torch.finfo(boxes.dtype).tiny)
    scale = (parts[:, 2:] - parts[:, :2]) / sides  # [N, 2], 1 where nothing is cut off
    shift = (parts[:, :2] + parts[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / sides  # of the centre, in half sides
    places = (torch.arange(masks.shape[-1], device=masks.device) * 2 + 1) / masks.shape[-1] - 1  # [M], in half sides
    x, y = (places * scale[:, i, None] + shift[:, i, None] for i in (0, 1))  # [N, M] each
    grid = torch.stack((x[:, None].expand_as(masks), y[:, :, None].expand_as(masks)), dim=-1)  # [N, M, M, 2]
    cut = F.grid_sample(masks[:, None].float(), grid, padding_mode="border", align_corners=False)[:, 0]
    return torch.where((parts == boxes).all(1)[:, None, None], masks.float(), cut)
