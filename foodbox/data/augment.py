"""Moves a photo and its boxes together, so that few photos teach as many."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transforms

from foodbox.ops import boxes as box_ops

# A box that a crop leaves less than this share of is taken away: what is left of it no longer shows what it is.
VISIBLE = 0.4


class Augmentation:
    """Random mirror image, cut and zoom, light and colour, in this order, by torchvision's transforms v2.

    Args:
        mirror: chance of a mirror image, left and right exchanged.
        zoom: the smallest and the largest factor on the photo's scale. Above 1 a part is cut out, below 1 the photo
            lies on a larger plain ground.
        colour: chance of another brightness, contrast, saturation and hue.
    """

    def __init__(self, mirror: float = 0.5, zoom: tuple[float, float] = (0.8, 1.3), colour: float = 0.5) -> None:
        self.mirror = mirror
        self.zoom = zoom
        self.colour = colour
        self._light = v2.RandomApply([v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.02)], p=colour)

    def __call__(
        self, pixels: Tensor, boxes: Tensor, labels: Tensor, size: tuple[int, int], fill: list[float]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One photo, changed by torch's random numbers.

        Args:
            pixels: uint8 [3, H, W].
            boxes: [N, 4] in these pixels.
            labels: [N].
            size: width and height of what comes out.
            fill: the colour of the ground, 0 to 255.

        Returns:
            uint8 [3, size[1], size[0]], boxes [M, 4] and labels [M] of what is still to be seen.
        """
        top, left, height, width = self._window(pixels.shape[-2], pixels.shape[-1])
        before = box_ops.area(boxes)
        image = tv_tensors.Image(pixels)
        moved = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=pixels.shape[-2:])  # type: ignore[call-arg]
        pad = [
            max(0, -left),
            max(0, -top),
            max(0, left + width - pixels.shape[-1]),
            max(0, top + height - pixels.shape[-2]),
        ]
        if any(pad):
            image, moved = (transforms.pad(x, pad, fill=fill) for x in (image, moved))
        image, moved = (transforms.crop(x, top + pad[1], left + pad[0], height, width) for x in (image, moved))
        kept = box_ops.area(moved.as_subclass(Tensor)) >= VISIBLE * before
        image, moved = (transforms.resize(x, [size[1], size[0]], antialias=True) for x in (image, moved))
        if torch.rand(()) < self.mirror:
            image, moved = transforms.horizontal_flip(image), transforms.horizontal_flip(moved)
        image = self._light(image)
        return image.as_subclass(Tensor), moved.as_subclass(Tensor)[kept], labels[kept]

    def _window(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The part of the photo that is shown: top, left, height, width in pixels; it may reach beyond the photo."""
        low, high = (torch.tensor(z).log() for z in self.zoom)
        scale = float(torch.exp(low + (high - low) * torch.rand(())))
        h, w = max(1, round(height / scale)), max(1, round(width / scale))
        top = round((height - h) * float(torch.rand(())))
        left = round((width - w) * float(torch.rand(())))
        return top, left, h, w
