"""What training makes small. Every function gives one value an element; the caller sums and divides."""

import torch
import torch.nn.functional as F
from torch import Tensor

from foodbox.ops.boxes import area
from foodbox.ops.coding import CODINGS


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss, RetinaNet (Lin et al. 2017) equation 5: FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t).

    Args:
        logits: any shape; p = sigmoid(logits), equation 2 makes p_t of it.
        targets: the same shape, 1 for the class that is there and 0 elsewhere.
        alpha: weight of the ones (equation 3); the zeros weigh 1 - alpha.
        gamma: how much well-classified elements count less (equation 4).

    Returns:
        The loss of each element, the logits' shape.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")  # -log(p_t), equation 1
    p = logits.sigmoid()
    miss = p + targets - 2 * p * targets  # 1 - p_t, without cancelling for p_t near 1
    miss = miss.clamp(min=torch.finfo(miss.dtype).tiny)  # at 0 a gamma below 1 has no finite slope
    alpha_t = (1 - alpha) + (2 * alpha - 1) * targets
    return alpha_t * miss**gamma * cross_entropy


def smooth_l1_loss(predicted: Tensor, targets: Tensor, beta: float) -> Tensor:
    """Smooth L1, Fast R-CNN (Girshick 2015) equation 3, summed over the last dimension: [..., 4] → [...].

    beta is where the parabola meets the line; 0 makes it L1. keras-retinanet's sigma is 1 / sqrt(beta).
    """
    return F.smooth_l1_loss(predicted, targets, reduction="none", beta=beta).sum(-1)


def giou_loss(predicted: Tensor, targets: Tensor) -> Tensor:
    """1 - GIoU of box pairs, Rezatofighi et al. 2019, algorithm 2: x1 y1 x2 y2 [..., 4] twice → [...], 0 to 2."""
    # Line 1: of two corners that coding moves by themselves either may come to lie before the other.
    corners = predicted[..., :2], predicted[..., 2:]
    predicted = torch.cat((torch.minimum(*corners), torch.maximum(*corners)), -1)
    overlap, union = _overlap_and_union(predicted, targets)
    hull_corner = torch.minimum(predicted[..., :2], targets[..., :2])
    hull = _product(torch.maximum(predicted[..., 2:], targets[..., 2:]) - hull_corner)
    # 1e-7 keeps two empty boxes from dividing by zero, the figure of torchvision's loss.
    return 1 - overlap / (union + 1e-7) + (hull - union) / (hull + 1e-7)


def box_loss(deltas: Tensor, boxes: Tensor, anchors: Tensor, kind: str, coding: str, beta: float = 1.0) -> Tensor:
    """The loss on P matched anchors' boxes: [P, 4] three times → [P].

    Args:
        kind: "smooth_l1" of the offsets, with this beta, or "giou" of the boxes that they make.
        coding: a name of `CODINGS`.
    """
    encode, decode = CODINGS[coding]
    if kind == "giou":
        return giou_loss(decode(deltas, anchors), boxes)
    return smooth_l1_loss(deltas, encode(boxes, anchors), beta)


def _overlap_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    overlap = _product(sides.clamp(min=0))
    return overlap, area(a) + area(b) - overlap


def _product(sides: Tensor) -> Tensor:
    """Width times height, [..., 2] → [...]. The gradient of `prod` would wait for the device."""
    return sides[..., 0] * sides[..., 1]
