"""SSD's default boxes: their shapes, which box each of them is answerable for, and the loss that picks hard ones."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from foodbox.ops.matching import BACKGROUND, match


def default_box_shapes(size: float, next_size: float, ratios: Sequence[float]) -> Tensor:
    """SSD's default boxes of one place, centred at 0: section 2.2, "Choosing scales and aspect ratios".

    In the order of the authors' code: a square of `size`, one of sqrt(size x next_size), then for each ratio the lying
    box (width over height is the ratio) and the upright one, of the area size².

    Args:
        size, next_size: s_k and s_k+1 in pixels.
        ratios: above 1; each stands for itself and its inverse.

    Returns:
        [2 + 2 x len(ratios), 4].
    """
    between = (size * next_size) ** 0.5
    sides = [(size, size), (between, between)]
    for ratio in ratios:
        long, short = size * ratio**0.5, size / ratio**0.5
        sides += [(long, short), (short, long)]
    half = torch.tensor(sides, dtype=torch.float32) / 2
    return torch.cat((-half, half), dim=1)


def match_default_boxes(iou: Tensor, high: float = 0.5) -> Tensor:
    """Default boxes to boxes as SSD section 2.2, "Matching strategy": every box has at least one.

    Each box takes the default box that overlaps it most, whatever else that one overlaps; where two boxes want the
    same, the later one has it, as in the authors' code and torchvision. Each other default box takes the box that it
    overlaps most, if by `high` or more.

    Args:
        iou: [..., M, A]; a row of -1 stands for no box (padding).

    Returns:
        int64 [..., A]: the box's index 0 ... M-1, or BACKGROUND.
    """
    matched = match(iou, high, high)
    if 0 in iou.shape:
        return matched
    most, favourite = iou.max(dim=-1)  # [..., M]: of each box
    anchors, order = (torch.arange(iou.shape[i], device=iou.device) for i in (-1, -2))
    claims = (favourite[..., None] == anchors) & (most > 0)[..., None]  # [..., M, A]
    claimed = torch.where(claims, order[:, None], BACKGROUND).amax(dim=-2)  # [..., A]
    return torch.where(claimed >= 0, claimed, matched)


def hard_negative_loss(logits: Tensor, labels: Tensor, ratio: float = 3.0, at_least: int = 0) -> Tensor:
    """Cross entropy with a background, of all positives and the hardest negatives: SSD section 2.2, equation 3.

    "Hard negative mining": of each photo's default boxes without a box, those count that the network takes least for
    background, at most `ratio` times as many as have a box, rounded up.

    Args:
        logits: [B, A, 1 + K]; the first is background.
        labels: int64 [B, A], 0 for background, 1 + class elsewhere; below 0 counts nothing.
        at_least: negatives of a photo with few boxes or none; SSD's authors have 0, so that a photo without boxes
            teaches nothing.

    Returns:
        [B, A], 0 for negatives that are not hard.
    """
    loss = F.cross_entropy(logits.transpose(1, 2), labels.clamp(min=0), reduction="none")  # [B, A]
    positive, negative = labels > 0, labels == 0
    wanted = (ratio * positive.sum(1, keepdim=True)).clamp(min=at_least)  # [B, 1]
    hardness = loss.detach().masked_fill(~negative, -torch.inf)
    rank = hardness.argsort(1, descending=True).argsort(1)  # [B, A]; 0 is the hardest
    return loss * (positive | (negative & (rank < wanted)))
