"""Anchors that fit a person's boxes: which sizes and ratios stand best for many."""

from collections.abc import Sequence

import torch
from torch import Tensor

from foodbox.ops.boxes import iou


def pyramid_choices(
    sizes: Sequence[float], ratios: Sequence[float], boxes: Tensor
) -> list[dict[str, tuple[float, ...]]]:
    """What may fit boxes [N, 4] better: all sizes times one factor, the ratios as they are or as the boxes'.

    Returns:
        Changes of "anchor_sizes" and "anchor_ratios", as detectors on a pyramid call these settings.
    """
    scaled = [tuple(factor * size for size in sizes) for factor in (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)]
    both = tuple(ratios), ratios_of(boxes, len(ratios))
    return [{"anchor_sizes": size, "anchor_ratios": ratio} for size in scaled for ratio in both]


def default_box_choices(
    name: str, sizes: Sequence[float], ratios: Sequence[float], boxes: Tensor
) -> list[dict[str, tuple[float, ...]]]:
    """The same of SSD's default boxes, whose ratios are above 1 and stand for their inverses as well.

    Returns:
        Changes of `name`, which is what the detector calls its sizes, and of "anchor_ratios".
    """
    scaled = [tuple(factor * size for size in sizes) for factor in (0.35, 0.5, 0.7, 1.0, 1.4)]
    sides = (boxes[:, 2:] - boxes[:, :2]).sort(dim=1).values  # [N, 2]: short, long
    theirs = ratios_of(torch.cat((torch.zeros_like(sides), sides), dim=1), len(ratios))
    both = tuple(ratios), tuple(max(ratio, 1.05) for ratio in theirs)
    return [{name: size, "anchor_ratios": ratio} for size in scaled for ratio in both]


def best_overlap(boxes: Tensor, anchors: Tensor) -> Tensor:
    """The IoU of each box [N, 4] with the anchor [A, 4] that fits it best: [N], 0 without anchors."""
    if not len(anchors):
        return boxes.new_zeros(len(boxes))
    # In pieces that fit into a processor's cache, three times as fast as larger ones; and so small that torch leaves
    # each to one thread (its grain is 32,768 numbers): on a busy machine two wait for each other at every step.
    pieces = torch.split(boxes, max(1, 16_384 // len(anchors)))
    return torch.cat([iou(part, anchors).amax(1) for part in pieces])


def kmeans_shapes(shapes: Tensor, k: int, rounds: int = 100) -> Tensor:
    """The k widths and heights that stand best for many: k-means with 1 - IoU as the distance.

    YOLO9000 (Redmon and Farhadi 2017) section 2, "Dimension Clusters". Begins with evenly spread shapes instead of
    random ones, so that the same shapes give the same result.

    Args:
        shapes: [N, 2], above 0.

    Returns:
        [k, 2], by area; fewer where there are fewer shapes.
    """
    if not len(shapes):
        return shapes
    shapes = shapes.double()
    k = min(k, len(shapes))
    # From small to large, or from flat to tall where all areas are the same.
    order = shapes[:, 0].log().mul(0.5).add(shapes[:, 1].log()).argsort()
    centres = shapes[order[((torch.arange(k) + 0.5) / k * len(shapes)).long()]]
    nearest = torch.full((len(shapes),), -1)
    for _ in range(rounds):
        before, nearest = nearest, shape_iou(shapes, centres).argmax(1)
        if torch.equal(before, nearest):
            break
        means = [shapes[nearest == i].mean(0) if (nearest == i).any() else centres[i] for i in range(k)]
        centres = torch.stack(means)
    return centres[centres.prod(1).argsort()].float()


def ratios_of(boxes: Tensor, k: int) -> tuple[float, ...]:
    """The k heights over widths that stand best for those of boxes [N, 4], by k-means on IoU.

    Of fewer boxes, the tallest one's stands several times: with fewer anchors at a place, no pretrained head would fit.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    stretch = (sides[:, 1] / sides[:, 0]).sqrt()
    centres = kmeans_shapes(torch.stack((1 / stretch, stretch), dim=1), k)  # all of one area
    ratios = (centres[:, 1] / centres[:, 0]).sort().values.tolist()
    return tuple(ratios + ratios[-1:] * (k - len(ratios)))


def shape_iou(a: Tensor, b: Tensor) -> Tensor:
    """The IoU of widths and heights [..., M, 2] with [..., N, 2], of boxes with one corner in common: [..., M, N]."""
    return iou(_at_origin(a), _at_origin(b))


def _at_origin(shapes: Tensor) -> Tensor:
    """Widths and heights [..., 2] → boxes [..., 4] with one corner in common, whose IoU is that of the shapes."""
    return torch.cat((torch.zeros_like(shapes), shapes), dim=-1)
