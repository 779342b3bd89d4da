"""Which of many boxes stay: those with the best scores, and non-maximum suppression over a whole batch at once."""

from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from foodbox.ops import boxes as box_ops

BOXES_AT_ONCE = 1000
"""Boxes below which a CPU thins out all groups at once, as torchvision does."""


def best_pairs(scores: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best scores of one box for one class, of all boxes and classes.

    Only the `top_k` boxes with the highest best score are looked at: no other box has one of the `top_k` best pairs.

    Args:
        scores: [B, A, K], or values in the same order.
        top_k: pairs that a photo keeps.

    Returns:
        Of C pairs, C at most `top_k`, the best first: scores [B, C], classes int64 [B, C], boxes int64 [B, C].
    """
    classes = scores.shape[2]
    box = scores.amax(-1).topk(min(top_k, scores.shape[1])).indices  # [B, N]
    pairs = scores.gather(1, box[..., None].expand(-1, -1, classes)).flatten(1)  # [B, N x K]
    score, place = pairs.topk(min(top_k, pairs.shape[1]))
    return score, place % classes, box.gather(1, place // classes)


def nms_by_group(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float) -> Tensor:
    """Keeps the best of boxes that overlap by more than `iou` within one group (a class of one photo).

    Args:
        boxes: [N, 4]; scores: [N]; groups: int64 [N].

    Returns:
        int64: the kept boxes' indices, best score first.
    """
    # batched_nms moves groups apart by adding multiples of the largest coordinate. With a batch of photos times COCO's
    # classes that leaves float32 a tenth of a pixel, which decides small boxes; MPS has no float64.
    exact = torch.float32 if boxes.device.type == "mps" else torch.float64
    boxes, scores = boxes.to(exact), scores.to(exact)
    if boxes.device.type != "cpu" or len(boxes) < BOXES_AT_ONCE:
        kept: Tensor = batched_nms(boxes, scores, groups, iou)
    else:  # it would look through all boxes once for each group, of which eight photos of 256 classes have 2,048
        counts = groups.bincount()
        parts = torch.split(groups.argsort(stable=True), counts[counts > 0].tolist())
        kept = torch.cat([part[nms(boxes[part], scores[part], iou)] for part in parts])
        kept = kept[scores[kept].argsort(descending=True, stable=True)]
    return kept


def best_by_group(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float, top_k: int) -> tuple[Tensor, Tensor]:
    """`nms_by_group` of each photo's candidates, whose best go into rows of one length.

    Args:
        boxes: [B, C, 4]; scores: [B, C], below 0 there is no candidate; groups: int64 [B, C] within a photo, from 0 on.
        top_k: candidates that a photo keeps.

    Returns:
        The kept candidates' places int64 [B, D], best score first, and their scores [B, D]; D is `top_k` or C. Where
        fewer are left, the rest of a row is place 0 with score -1.
    """
    photo, place = torch.where(scores >= 0)  # [N], N candidates of all photos
    group = groups[photo, place]
    group = photo * (group.max() + 1 if len(group) else 1) + group
    kept = nms_by_group(boxes[photo, place], scores[photo, place], group, iou)
    kept = kept[photo[kept].argsort(stable=True)]  # photo by photo, the best first
    photo, place = photo[kept], place[kept]
    count = torch.bincount(photo, minlength=len(scores))  # [B]
    rank = torch.arange(len(photo), device=photo.device) - (count.cumsum(0) - count)[photo]
    photo, place, rank = (values[rank < top_k] for values in (photo, place, rank))
    columns = min(top_k, scores.shape[1])
    index = torch.zeros((len(scores), columns), dtype=torch.int64, device=scores.device)
    best = scores.new_full((len(scores), columns), -1.0)
    index[photo, rank] = place
    best[photo, rank] = scores[photo, place]
    return index, best


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    top_k: int,
    kernel: Literal["linear", "gaussian"] = "linear",
    iou_over: float = 0.3,
    sigma: float = 0.5,
    floor: float = 0.001,
) -> Tensor:
    """Soft-NMS, Bodla, Singh, Chellappa, Davis, ICCV 2017, figure 2: overlapping boxes lose score instead of going.

    The best box is taken, the scores of the others of its class are lowered by their overlap with it, then comes the
    best of what is left. A batch goes at once, and classes do not touch. The authors' code counts a box of one pixel
    as wide as 1; ours, as everywhere, as x2 - x1.

    Args:
        boxes: [B, C, 4]; scores: [B, C], below 0 there is no box; labels: int64 [B, C].
        top_k: boxes that a photo keeps.
        kernel: "linear", section 3: over `iou_over`, times 1 - overlap; "gaussian": times exp(-overlap² / sigma).
        floor: a lowered score below this is dropped (0.001 in the authors' code).

    Returns:
        The lowered scores [B, C]; -1 for what is dropped or comes after the first `top_k`.
    """
    kept = torch.full_like(scores, -1.0)
    left = scores.clone()
    rows = torch.arange(len(scores), device=scores.device)
    for _ in range(min(top_k, scores.shape[1])):
        best, which = left.max(1)  # [B]
        if not (best >= 0).any():
            break
        kept[rows, which] = torch.maximum(kept[rows, which], best)
        overlap = box_ops.iou(boxes[rows, which][:, None], boxes)[:, 0]  # [B, C]
        if kernel == "linear":
            factor = torch.where(overlap > iou_over, 1 - overlap, 1.0)
        else:
            factor = torch.exp(-(overlap**2) / sigma)
        lowered = torch.where(labels == labels[rows, which][:, None], left * factor, left)
        gone = (left < 0) | ((lowered < left) & (lowered < floor))
        left = lowered.masked_fill(gone, -1.0)
        left[rows, which] = -1.0
    return kept
