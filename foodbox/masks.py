"""Masks: outlines in pixels of a photo, probability maps in a box, bitmaps, and COCO's run-length encoding (RLE).

An object has several outlines where it lies in pieces. A point at 0 0 is the photo's corner, and the first pixel's
middle is at 0.5 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import contourpy
import numpy as np
import torch
import torch.nn.functional as F
from faster_coco_eval import mask as coco_mask
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Polygon = Tensor
"""float32 [P, 2], the corners x y of one closed outline in pixels of the photo."""
THRESHOLD = 0.5
"""The probability over which a pixel belongs to the object (Mask R-CNN, section 3.1, "Inference")."""


# -- From outlines --------------------------------------------------------------------------------------------------


def rasterise(objects: Sequence[Sequence[Tensor]], height: int, width: int) -> Tensor:
    """The outlines of N objects → bool [N, height, width].

    A pixel within several outlines of one object belongs to it; where one outline crosses itself, even and odd count.
    An object without outlines is empty. Outlines may reach beyond the picture. As COCO's own tools have it.
    """
    if not objects:
        return torch.zeros((0, height, width), dtype=torch.bool)
    return bitmaps_from_rles([rle_from_polygons(outlines, height, width) for outlines in objects])


def bitmaps_from_rles(rles: Sequence[dict[str, Any]]) -> Tensor:
    """N of COCO's compressed run lengths, one at least, of pictures of one size → bool [N, height, width]."""
    pixels = coco_mask.decode(list(rles))  # [H, W, N]
    return torch.from_numpy(pixels).permute(2, 0, 1).bool().contiguous()


def rle_from_polygons(outlines: Sequence[Tensor], height: int, width: int) -> dict[str, Any]:
    """COCO's compressed run lengths ("size", "counts") of one object's outlines in a picture of height x width."""
    rings = [outline.double().flatten().tolist() for outline in outlines if len(outline) >= 3]
    if not rings:
        return _packed([height * width], height, width)
    merged: dict[str, Any] = coco_mask.merge(coco_mask.frPyObjects(rings, height, width))
    return merged


# -- From maps and bitmaps ------------------------------------------------------------------------------------------


def trace_contours(values: ArrayLike, left: float = 0, top: float = 0) -> list[NDArray[np.float64]]:
    """The outer outlines of what is over 0.5 in values [h, w] from 0 to 1, each [P, 2]; holes are filled.

    They run through places between the pixels' middles, so that the corners of a bitmap are cut off by half a pixel.

    Args:
        left, top: where the values' corner lies, in pixels of the picture that they are part of.
    """
    padded = np.pad(np.asarray(values, np.float32), 1)  # so that outlines close at the border
    contours = contourpy.contour_generator(z=padded, fill_type=contourpy.FillType.OuterOffset)
    # The first ring of each is the outer one, and its last point is its first. Index 0 is the padding, whose middle
    # lies half a pixel before the values.
    corner = left - 0.5, top - 0.5
    return [ring[: offsets[1] - 1] + corner for ring, offsets in zip(*contours.filled(THRESHOLD, 2.0), strict=True)]


def outlines_in_box(probabilities: Tensor, box: Tensor) -> list[Tensor]:
    """The outer outlines of probabilities [M, M] in a box [4], in the pixels that the box is in."""
    left, top, right, bottom = box.tolist()
    scale = (right - left) / probabilities.shape[1], (bottom - top) / probabilities.shape[0]
    rings = [ring * scale + (left, top) for ring in trace_contours(probabilities.numpy())]
    return [torch.from_numpy(ring.astype(np.float32)) for ring in rings]


def paste_mask(probabilities: Tensor, box: Tensor, height: int, width: int) -> tuple[Tensor, int, int]:
    """What probabilities [M, M] in a box [4] say of the pixels of a picture of height x width.

    To the bit as torchvision's `paste_masks_in_image` does it, which takes a whole picture of float32 for each: a ring
    of 0 is put around the probabilities, the box grows by it, and is rounded towards 0.

    Returns:
        bool [h, w], and the pixels left of it and above it.
    """
    scale = (probabilities.shape[-1] + 2) / probabilities.shape[-1]
    middle, half = (box[2:] + box[:2]) * 0.5, (box[2:] - box[:2]) * 0.5 * scale
    left, top, right, bottom = torch.cat((middle - half, middle + half)).long().tolist()
    sides = max(bottom - top + 1, 1), max(right - left + 1, 1)
    padded = F.pad(probabilities, (1, 1, 1, 1))[None, None]
    whole = F.interpolate(padded, sides, mode="bilinear", align_corners=False)[0, 0]
    x, y = max(left, 0), max(top, 0)
    part = whole[y - top : max(height - top, 0), x - left : max(width - left, 0)]
    return part > THRESHOLD, x, y


def rles_from_bitmaps(bitmaps: Tensor) -> list[dict[str, Any]]:
    """N bitmaps, bool [N, height, width] → COCO's compressed run lengths of each."""
    height, width = bitmaps.shape[1:]
    return [rle_from_bitmap(bitmap, 0, 0, height, width) for bitmap in bitmaps]


def rle_from_bitmap(part: Tensor, left: int, top: int, height: int, width: int) -> dict[str, Any]:
    """COCO's compressed run lengths of a part bool [h, w] of a picture; no bitmap of the whole picture is made."""
    columns = np.pad(part.numpy().T, ((0, 0), (1, 1)))  # [w, h + 2]: run lengths go down the columns
    column, row = np.divmod(np.flatnonzero(columns[:, 1:] != columns[:, :-1]), part.shape[0] + 1)
    # A run that ends at the foot of a column may go on at the head of the next: two changes in one place are none.
    changes, times = np.unique((left + column) * height + top + row, return_counts=True)
    changes = changes[(times == 1) & (changes < height * width)]
    return _packed(np.diff(changes, prepend=0, append=height * width).tolist(), height, width)


def _packed(counts: list[int], height: int, width: int) -> dict[str, Any]:
    """Run lengths, the first of zeros, as COCO packs them."""
    packed: dict[str, Any] = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return packed
