"""Non-maximum suppression over a whole batch at once."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms


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
    kept: Tensor = batched_nms(boxes.to(exact), scores.to(exact), groups, iou)
    return kept
