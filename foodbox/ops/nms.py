"""Non-maximum suppression over a whole batch at once."""

from torch import Tensor
from torchvision.ops import batched_nms


def nms_by_group(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float) -> Tensor:
    """Keeps the best of boxes that overlap by more than `iou` within one group (a class of one photo).

    Args:
        boxes: [N, 4]; scores: [N]; groups: int64 [N].

    Returns:
        int64: the kept boxes' indices, best score first.
    """
    # batched_nms moves groups apart by adding multiples of the largest coordinate, which costs float32 precision when
    # there are many; it works group by group above its own limit, so the numbers stay small enough.
    kept: Tensor = batched_nms(boxes.float(), scores.float(), groups, iou)
    return kept
