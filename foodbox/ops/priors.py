"""YOLO's priors: the cells that they stand in, and which of them has which box."""

import torch
import torch.nn.functional as F
from torch import Tensor

from foodbox.ops.anchor_fitting import shape_iou
from foodbox.ops.boxes import area


def cells_and_priors(anchors: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """Of priors in the middle of their cells: the cell's upper left corner c_x c_y and the prior's sides p_w p_h.

    Args:
        anchors: [A, 4], the priors in pixels; strides: [A, 1], the sides of their cells.

    Returns:
        [A, 2] each, in pixels (YOLOv3 section 2.1).
    """
    low, high = anchors[:, :2], anchors[:, 2:]
    return (low + high - strides) / 2, high - low


def match_priors(
    boxes: Tensor, anchors: Tensor, strides: Tensor, grids: Tensor, per_cell: int, share_iou: float = 1.0
) -> Tensor:
    """Which box each prior has: the box's centre lies in its cell, and of all scales' priors its shape fits best.

    Where two boxes want one prior in one cell, the later has it, and the one whose best it is before others.

    Args:
        boxes: [B, M, 4]; those of area 0 are padding.
        anchors: [A, 4], the priors, scale by scale, row by row, and in one cell prior by prior.
        strides: [A, 1].
        grids: int64 [S, 2], each scale's rows and columns.
        per_cell: priors in a cell.
        share_iou: priors whose shape fits by this IoU have the box, too (YOLOv4 section 3.4).

    Returns:
        int64 [B, A], the box's place among the M, -1 for none.
    """
    first = F.pad(grids.prod(1).cumsum(0)[:-1] * per_cell, (1, 0))  # [S]: where each scale begins
    stride, start, rows, columns = (
        x.repeat_interleave(per_cell) for x in (strides[first, 0], first, *grids.unbind(1))
    )  # [Q], Q priors of all scales
    number = torch.arange(len(start), device=boxes.device) % per_cell
    centre = ((boxes[..., :2] + boxes[..., 2:]) / 2)[:, :, None] / stride[:, None]  # [B, M, Q, 2] in cells
    column, row = (centre[..., i].long().clamp(min=0).minimum(n - 1) for i, n in enumerate((columns, rows)))
    place = start + (row * columns + column) * per_cell + number  # [B, M, Q]

    priors = anchors[start + number]  # [Q, 4]
    overlap = shape_iou(boxes[..., 2:] - boxes[..., :2], priors[:, 2:] - priors[:, :2])  # [B, M, Q]
    best = overlap == overlap.amax(-1, keepdim=True)  # several, where scales have a prior in common
    has = best | (overlap >= share_iou)
    has = has & (area(boxes) > 0)[..., None]
    most = boxes.shape[1]
    order = torch.arange(most, device=boxes.device)[:, None] + most * best  # [B, M, Q]: the best goes before others
    claims = torch.where(has, order, -1).flatten(1)
    claimed = claims.new_full((len(boxes), len(anchors)), -1)
    claimed = claimed.scatter_reduce(1, place.flatten(1), claims, "amax")
    return torch.where(claimed >= 0, claimed % most, -1)
