"""Turning points and boxes as a photo's EXIF orientation turns its pixels."""

import torch
from torch import Tensor


def turn_points(points: Tensor, orientation: int, width: float, height: float) -> Tensor:
    """Points [..., 2] in the stored pixels → [..., 2] in the pixels as a person sees them.

    Args:
        orientation: the EXIF value, 1 to 8 (EXIF 2.3, table 6).
        width, height: of the stored pixels, before the turn.
    """
    x, y = points.unbind(-1)
    right, bottom = width - x, height - y
    seen = {
        2: (right, y),
        3: (right, bottom),
        4: (x, bottom),
        5: (y, x),
        6: (bottom, x),
        7: (bottom, right),
        8: (y, right),
    }.get(orientation, (x, y))
    return torch.stack(seen, dim=-1)


def turn_boxes(boxes: Tensor, orientation: int, width: float, height: float) -> Tensor:
    """Boxes [N, 4] in the stored pixels → [N, 4] in the pixels as a person sees them; as `turn_points`."""
    corners = turn_points(boxes.reshape(-1, 2, 2), orientation, width, height)
    return torch.cat((corners.amin(1), corners.amax(1)), dim=-1)
