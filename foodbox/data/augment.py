"""Moves a photo and its boxes together, so that few photos teach as many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transforms

from foodbox.masks import Polygon, rasterise
from foodbox.ops.boxes import area, clip
from foodbox.records import Frame, Target

# A box of which the input shows no more than this share is taken away: what is left no longer shows what it is.
VISIBLE = 0.4


@dataclass
class Augmentation:
    """Random cut, zoom, stretch, flips, light and colour, in this order; pixels by torchvision's transforms v2.

    Attributes:
        mirror: chance of a mirror image, left and right exchanged.
        zoom: the smallest and the largest factor on the photo's scale. Above 1 a part is cut out, below 1 the photo
            lies on a larger plain ground.
        colour: chance of another brightness, contrast and saturation. Another hue as well would take twice the time.
        stretch: the largest factor on the ratio of width to height, and its inverse the smallest; 1 for none.
        upside_down: chance that top and bottom are exchanged, which helps some photos from straight above.
    """

    mirror: float = 0.5
    zoom: tuple[float, float] = (0.8, 1.3)
    colour: float = 0.5
    stretch: float = 1.33
    upside_down: float = 0.0

    def __post_init__(self) -> None:
        self._light = v2.RandomApply([v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3)], p=self.colour)

    def __call__(self, pixels: Tensor, frame: Frame, fill: list[float]) -> tuple[Tensor, Frame]:
        """One photo, changed by torch's random numbers.

        Args:
            pixels: uint8 [3, H, W], the whole photo at any scale.
            frame: the way to the input without changes.
            fill: the colour of the ground, 0 to 255.

        Returns:
            uint8 [3, frame.input_height, frame.input_width], and the way to these.
        """
        height, width = pixels.shape[-2:]
        left, right = (side * width / frame.width for side in (frame.left, frame.right))
        top, bottom = (side * height / frame.height for side in (frame.top, frame.bottom))
        x1, y1, x2, y2 = self._window(left, top, right, bottom)
        # Where a margin is negative, that much is cut off.
        image = transforms.pad(pixels, [-x1, -y1, x2 - width, y2 - height], fill=fill)
        image = transforms.resize(image, [frame.input_height, frame.input_width], antialias=True)
        if mirror := bool(torch.rand(()) < self.mirror):
            image = transforms.horizontal_flip(image)
        if upside_down := self.upside_down > 0 and bool(torch.rand(()) < self.upside_down):
            image = transforms.vertical_flip(image)
        left, right = (x * frame.width / width for x in (x1, x2))
        top, bottom = (y * frame.height / height for y in (y1, y2))
        moved = replace(frame, left=left, top=top, right=right, bottom=bottom, mirror=mirror, upside_down=upside_down)
        return self._light(image), moved

    def _window(self, left: float, top: float, right: float, bottom: float) -> tuple[int, int, int, int]:
        """The part that is shown instead of this one, in whole pixels: left, top, right, bottom; may go beyond it."""
        scale, wider = _factor(*self.zoom), _factor(1 / self.stretch, self.stretch) ** 0.5
        h, w = max(1, round((bottom - top) / scale * wider)), max(1, round((right - left) / scale / wider))
        y = round(top + (bottom - top - h) * float(torch.rand(())))
        x = round(left + (right - left - w) * float(torch.rand(())))
        # A letterbox goes as far beyond the photo on one side as on the other; its bars alone are not shown.
        x, y = (
            min(max(at, 1 - size), round(ends) - 1) for at, size, ends in ((x, w, left + right), (y, h, top + bottom))
        )
        return x, y, x + w, y + h


def _factor(low: float, high: float) -> float:
    """A random number between these, as evenly by its logarithm."""
    return float(low * (high / low) ** torch.rand(()))


def visible(frame: Frame, boxes: Tensor, labels: Tensor, outlines: Sequence[Sequence[Polygon]] | None = None) -> Target:
    """What the input shows of a photo's boxes, cut off at its border.

    Args:
        boxes: [N, 4] in the photo's pixels.
        labels: [N].
        outlines: of N objects in the photo's pixels; None where no masks are wanted.
    """
    moved = frame.to_input(boxes)
    shown = clip(moved, frame.input_width, frame.input_height)
    kept = area(shown) > VISIBLE * area(moved)
    masks = None
    if outlines is not None:
        left = [own for own, keep in zip(outlines, kept.tolist(), strict=True) if keep]
        seen = [[frame.points_to_input(outline) for outline in own] for own in left]
        masks = rasterise(seen, frame.input_height, frame.input_width)  # [N, H, W]
    return Target(shown[kept], labels[kept], masks)
