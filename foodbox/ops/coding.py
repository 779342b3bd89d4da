"""Boxes as offsets from anchors, and back: what a detector's box head learns."""

import math

import torch
from torch import Tensor

# The largest log side ratio that decoding lets through, so that exp() stays finite: a box 62.5 times its anchor. The
# number is detectron's (1000 px over the smallest stride of 16), and torchvision's.
MAX_LOG_RATIO = math.log(1000 / 16)


def encode_centre(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Centre and size offsets, R-CNN (Girshick et al. 2014) appendix C, equations 6 to 9.

    Args:
        boxes, anchors: [..., 4] each, x1 y1 x2 y2.

    Returns:
        [..., 4]: t_x, t_y, t_w, t_h.
    """
    box_x, box_y, box_w, box_h = _centre(boxes)
    x, y, w, h = _centre(anchors)
    return torch.stack(((box_x - x) / w, (box_y - y) / h, (box_w / w).log(), (box_h / h).log()), dim=-1)


def decode_centre(deltas: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of `encode_centre`: R-CNN appendix C, equations 1 to 4. [..., 4] → [..., 4]."""
    x, y, w, h = _centre(anchors)
    centre_x, centre_y = x + deltas[..., 0] * w, y + deltas[..., 1] * h
    half_w = w * deltas[..., 2].clamp(max=MAX_LOG_RATIO).exp() / 2
    half_h = h * deltas[..., 3].clamp(max=MAX_LOG_RATIO).exp() / 2
    return torch.stack((centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h), dim=-1)


# keras-retinanet divides its corner offsets by this spread, which it measured on COCO (its issue 1273).
CORNER_STD = 0.2


def encode_corner(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Corner offsets in units of the anchor's sides, as keras-retinanet has them. [..., 4] → [..., 4]."""
    return (boxes - anchors) / _sides(anchors) / CORNER_STD


def decode_corner(deltas: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of `encode_corner`. [..., 4] → [..., 4]."""
    return anchors + deltas * CORNER_STD * _sides(anchors)


def _centre(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def _sides(boxes: Tensor) -> Tensor:
    sides = boxes[..., 2:] - boxes[..., :2]
    return torch.cat((sides, sides), dim=-1)  # w h w h


# SSD's authors divide offsets of the centre by 0.1 and of the size by 0.2, which they call variances; torchvision
# multiplies by weights of 10 and 5 instead. All four are then of one spread.
VARIANCES = (0.1, 0.1, 0.2, 0.2)


def encode_ssd(boxes: Tensor, anchors: Tensor) -> Tensor:
    """SSD equation 2 with the variances of its authors' code: `encode_centre` divided by them. [..., 4] → [..., 4]."""
    return encode_centre(boxes, anchors) / anchors.new_tensor(VARIANCES)


def decode_ssd(deltas: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of `encode_ssd`. [..., 4] → [..., 4]."""
    return decode_centre(deltas * deltas.new_tensor(VARIANCES), anchors)


CODINGS = {
    "centre": (encode_centre, decode_centre),
    "corner": (encode_corner, decode_corner),
    "ssd": (encode_ssd, decode_ssd),
}
"""The ways there and back by name."""
