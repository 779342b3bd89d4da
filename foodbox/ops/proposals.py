"""From many scored boxes to a few proposals, and from these to the ones that training looks at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from foodbox.ops import boxes as box_ops
from foodbox.ops.boxes import gather_boxes
from foodbox.ops.nms import best_by_group

Sizes = Tensor | None
"""[B, 2], width and height of the part of each input that its photo covers; None for all of it."""


def pick_proposals(
    boxes: Tensor,
    scores: Tensor,
    levels: Sequence[int],
    candidates: int,
    top_k: int,
    nms_iou: float,
    min_score: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The best boxes of each level, thinned by NMS level by level: Faster R-CNN section 3.3, FPN section 4.1.

    Args:
        boxes: [B, A, 4] in the input's pixels, cut off at its borders.
        scores: [B, A], 0 to 1.
        levels: how many of the A boxes are of each level.
        candidates: best boxes of each level that go into NMS.
        top_k: proposals that a photo keeps.
        nms_iou: of two boxes of a level that overlap more, the less sure goes.
        min_score: below this a box is no candidate.

    Returns:
        Proposals [B, R, 4], best first and padded with zero boxes, and their scores [B, R], -1 for padding.
    """
    best, of_level, start = [], [], 0
    for i, count in enumerate(levels):
        place = scores[:, start : start + count].topk(min(candidates, count)).indices + start  # [B, C_i]
        best.append(place)
        of_level.append(torch.full_like(place, i))
        start += count
    place = torch.cat(best, dim=1)  # [B, C]
    box = gather_boxes(boxes, place)
    score = scores.gather(1, place)
    score = score.masked_fill((score < min_score) | too_thin(box, 1e-3), -1.0)  # 0.001 px as torchvision
    index, score = best_by_group(box, score, torch.cat(of_level, dim=1), nms_iou, top_k)  # [B, R]
    box = gather_boxes(box, index)
    return box * (score >= 0)[..., None], score


def borders(images: Tensor, sizes: Sizes, dimensions: int) -> tuple[int | Tensor, int | Tensor]:
    """Width and height that cut off the boxes [B, ..., 4] of inputs [B, 3, H, W]: the inputs', or the photos' in them.

    Args:
        dimensions: of the boxes' tensor, against which what is returned broadcasts.
    """
    if sizes is None:
        return images.shape[3], images.shape[2]
    width, height = (side.view(-1, *[1] * (dimensions - 1)) for side in sizes.unbind(1))
    return width, height


def too_thin(boxes: Tensor, least: float) -> Tensor:
    """Whether boxes [..., 4] have a side below `least` pixels: bool [...]."""
    return (boxes[..., 2:] - boxes[..., :2]).amin(-1) < least


def sample(positive: Tensor, negative: Tensor, number: int, share: float) -> Tensor:
    """Of each photo's anchors or regions, at most `number` at random, of which at most a `share` are positives.

    Faster R-CNN section 3.1.3 (256 anchors, half of them positive), Fast R-CNN section 2.3 (a quarter of the regions).
    Negatives take the places that positives leave. One lot is drawn for all photos of the batch, so that what is taken
    of one does not depend on the others.

    Args:
        positive, negative: bool [B, A].

    Returns:
        bool [B, A].
    """
    lot = torch.rand(positive.shape[1], device=positive.device).expand_as(positive)
    taken = _draw(lot, positive, torch.full_like(positive[:, 0], int(number * share), dtype=torch.int64), number)
    return taken | _draw(lot, negative, number - taken.sum(1), number)


def _draw(lot: Tensor, among: Tensor, wanted: Tensor, top_k: int) -> Tensor:
    """The places [B, A] with the highest lots among some, `wanted` [B] of each photo and never over `top_k`."""
    lot, place = lot.masked_fill(~among, -1.0).topk(min(top_k, lot.shape[1]))  # [B, top_k]
    rank = torch.arange(place.shape[1], device=lot.device)
    return torch.zeros_like(among).scatter(1, place, (lot >= 0) & (rank < wanted[:, None]))


def match_regions(
    regions: Tensor, boxes: Tensor, high: float, low: float, floor: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Regions to boxes by overlap: Fast R-CNN section 2.3, "Mini-batch sampling".

    Args:
        regions: [B, R, 4]; an empty one is padding, and neither positive nor negative.
        boxes: [B, M, 4]; an empty one is padding.
        high: IoU from which a region is positive.
        low, floor: negatives overlap their box by less than `low` and by `floor` or more.

    Returns:
        For each region [B, R] the box that it overlaps most (0 where there is none), whether it is positive, and
        whether it is negative.
    """
    overlap = box_ops.iou(boxes, regions)  # [B, M, R]
    best, box = overlap.masked_fill((box_ops.area(boxes) <= 0)[..., None], 0.0).max(dim=1)  # [B, R]
    real = box_ops.area(regions) > 0
    return box, real & (best >= high), real & (best < low) & (best >= floor)
