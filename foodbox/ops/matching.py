"""Which anchor is answerable for which box."""

from typing import Any

import torch
from torch import Tensor

from foodbox.ops.boxes import area, iou

BACKGROUND = -1
BETWEEN = -2


def overlaps(boxes: Tensor, anchors: Tensor) -> Tensor:
    """The IoU of a batch's boxes [B, M, 4] with anchors [A, 4]: [B, M, A], -1 for boxes of no area, which are padding.

    See `stack_targets`, which pads, and `match`, which takes what comes out.
    """
    return iou(boxes, anchors[None]).masked_fill_((area(boxes) <= 0)[..., None], -1.0)


def only(found: Tensor) -> Any:
    """Index of the anchors to compute on, of a tensor x [B, A, ...].

    On the CPU the positives, bool [B, A]: x[index] is [P, ...], which saves the work on the others. On a GPU, or when
    compiled, `...`, which is all: picking the positives would wait until they are counted, and give varying shapes.
    """
    return found if found.device.type == "cpu" and not torch.compiler.is_compiling() else ...


def match(iou: Tensor, high: float, low: float, keep_best: bool = False) -> Tensor:
    """Anchors to boxes by overlap: Faster R-CNN section 3.1.2, RetinaNet section 4, "Anchors".

    An anchor takes the box that it overlaps most, if by `high` or more; below `low` it is background; in between it
    counts for nothing. With `keep_best`, the anchors that overlap a box more than all other anchors do are kept even
    below `high`; each of them still takes the box that it overlaps most itself, as in detectron and torchvision.

    Args:
        iou: [..., M, A]; a row of -1 stands for no box (padding).
        high, low: IoU bounds, high >= low.

    Returns:
        int64 [..., A]: the box's index 0 ... M-1, BACKGROUND or BETWEEN.
    """
    if iou.shape[-2] == 0:
        return torch.full(iou.shape[:-2] + iou.shape[-1:], BACKGROUND, dtype=torch.int64, device=iou.device)
    best, box = iou.max(dim=-2)  # [..., A]
    matched = torch.where(best >= low, BETWEEN, BACKGROUND)
    taken = best >= high
    if keep_best:
        most = iou.amax(dim=-1, keepdim=True)  # [..., M, 1]
        taken = taken | ((iou == most) & (most > 0)).any(dim=-2)
    return torch.where(taken, box, matched)
