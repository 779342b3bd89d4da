"""Anchors: the reference boxes that one-stage detectors and region proposal networks start from.

Faster R-CNN (Ren et al. 2015) section 3.1.1; RetinaNet (Lin et al. 2017) section 4, "Anchors".
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from foodbox.ops.boxes import iou


def cell_anchors(size: float, scales: Sequence[float], ratios: Sequence[float], whole_pixels: bool = False) -> Tensor:
    """The anchors of one place, centred at 0, ratio by ratio and in each scale by scale.

    Args:
        size: side in pixels of the square anchor at scale 1.
        scales: factors on the size; RetinaNet has 2^0, 2^(1/3), 2^(2/3).
        ratios: height over width; the area stays (size x scale)^2.
        whole_pixels: cut the sides and round the corners to whole pixels, as torchvision does.

    Returns:
        [len(ratios) x len(scales), 4].
    """
    sides = size * torch.tensor(scales, dtype=torch.float32)
    if whole_pixels:
        sides = sides.floor()
    stretch = torch.tensor(ratios, dtype=torch.float32).sqrt()
    widths = (sides[None, :] / stretch[:, None]).flatten()  # [A]
    heights = (sides[None, :] * stretch[:, None]).flatten()
    corners = torch.stack((-widths, -heights, widths, heights), dim=1) / 2
    return corners.round() if whole_pixels else corners


def grid_anchors(cell: Tensor, height: int, width: int, stride: tuple[float, float], offset: float = 0.5) -> Tensor:
    """The anchors of one pyramid level: one place's anchors moved over a grid, row by row.

    Args:
        cell: [A, 4], what `cell_anchors` gave.
        height, width: places down and across.
        stride: pixels between places, down and across.
        offset: where in its cell a place lies, as a share of the stride: 0.5 is the cell's centre.

    Returns:
        [height x width x A, 4] in pixels of the network's input.
    """
    y = (torch.arange(height, dtype=torch.float32, device=cell.device) + offset) * stride[0]
    x = (torch.arange(width, dtype=torch.float32, device=cell.device) + offset) * stride[1]
    y, x = torch.meshgrid(y, x, indexing="ij")
    places = torch.stack((x, y, x, y), dim=-1).reshape(-1, 1, 4)  # [height x width, 1, 4]
    return (places + cell[None]).reshape(-1, 4)


def pyramid_anchors(
    sizes: Sequence[float],
    strides: Sequence[int],
    scales: Sequence[float],
    ratios: Sequence[float],
    shape: tuple[int, int],
    grids: Sequence[Sequence[int]] | None = None,
    whole: bool = False,
) -> Tensor:
    """The anchors of a pyramid, level by level: RetinaNet section 4, "Anchors", and FPN section 4.1.

    Args:
        sizes, strides: of each level, in pixels.
        scales, ratios: see `cell_anchors`.
        shape: height and width of the input in pixels.
        grids: rows and columns of each level, where they are not the shape over the stride, rounded up.
        whole: in whole pixels, at the cells' corners instead of their centres, as torchvision has them.

    Returns:
        [A, 4] in pixels of the input.
    """
    found = []
    for i, (size, step) in enumerate(zip(sizes, strides, strict=True)):
        rows, columns = grids[i] if grids else [math.ceil(side / step) for side in shape]
        stride = (shape[0] // rows, shape[1] // columns) if whole else (step, step)
        cell = cell_anchors(size, scales, ratios, whole_pixels=whole)
        found.append(grid_anchors(cell, rows, columns, stride, offset=0.0 if whole else 0.5))
    return torch.cat(found)


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
