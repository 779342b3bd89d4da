"""Suppression against torchvision's and a loop that a person can follow."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from foodbox.ops.nms import nms_by_group


def crowded(count: int, groups: int, side: float, place: float) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of some `side` pixels, many of which overlap, scattered over `place` pixels."""
    corner = torch.rand(count // 4, 2).repeat(4, 1) * place + torch.rand(count // 4 * 4, 2) * side / 2
    boxes = torch.cat((corner, corner + side * (0.7 + 0.6 * torch.rand(len(corner), 2))), dim=1)
    return boxes, torch.rand(len(boxes)), torch.randint(groups, (count // 4,)).repeat(4)


def by_loop(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float) -> list[int]:
    """Best first; one is kept unless a kept one of its group overlaps it by more than `iou`."""
    clash = (box_iou(boxes.double(), boxes.double()) > iou) & (groups[:, None] == groups)  # [N, N]
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if not clash[i, kept].any():
            kept.append(i)
    return kept


def test_kept_boxes_are_torchvisions() -> None:
    boxes, scores, groups = crowded(200, 5, side=40, place=200)
    kept = nms_by_group(boxes, scores, groups, 0.5)
    assert torch.equal(kept, batched_nms(boxes, scores, groups, 0.5))
    assert len(kept) < len(boxes)


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_kept_boxes_are_the_loops(iou: float) -> None:
    boxes, scores, groups = crowded(200, 5, side=40, place=200)
    assert nms_by_group(boxes, scores, groups, iou).tolist() == by_loop(boxes, scores, groups, iou)


def test_a_batch_of_many_classes_is_kept_as_the_loop_does() -> None:
    """Sixteen large photos with COCO's 80 classes and small boxes: groups must not cost precision."""
    boxes, scores, groups = crowded(900, 16 * 80, side=12, place=1300)
    assert nms_by_group(boxes, scores, groups, 0.5).tolist() == by_loop(boxes, scores, groups, 0.5)


def test_no_boxes() -> None:
    kept = nms_by_group(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64
