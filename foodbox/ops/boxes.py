"""Areas and overlaps of boxes x1 y1 x2 y2."""

import torch
from torch import Tensor


def area(boxes: Tensor) -> Tensor:
    """Boxes [..., 4] → areas [...] in square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every box of a with every box of b.

    Args:
        a: [..., M, 4].
        b: [..., N, 4]; the leading dimensions broadcast against a's.

    Returns:
        [..., M, N], 0 to 1; 0 where both boxes are empty.
    """
    top_left = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])  # [..., M, N, 2]
    bottom_right = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    overlap = (bottom_right - top_left).clamp_(min=0).prod(-1)  # [..., M, N]
    union = area(a)[..., :, None] + area(b)[..., None, :] - overlap
    return overlap / union.clamp(min=torch.finfo(union.dtype).tiny)


def clip(boxes: Tensor, width: float | Tensor, height: float | Tensor) -> Tensor:
    """Boxes [..., 4] cut off at the borders of a picture of width x height pixels.

    Width and height may be tensors that broadcast against [..., 1], one size a box.
    """
    width = torch.as_tensor(width, dtype=boxes.dtype, device=boxes.device)
    height = torch.as_tensor(height, dtype=boxes.dtype, device=boxes.device)
    zero = boxes.new_zeros(())
    x = torch.minimum(boxes[..., 0::2].clamp(min=zero), width)  # [..., 2]
    y = torch.minimum(boxes[..., 1::2].clamp(min=zero), height)
    return torch.stack((x[..., 0], y[..., 0], x[..., 1], y[..., 1]), dim=-1)
