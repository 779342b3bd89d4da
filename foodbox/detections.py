"""Detections: what a detector found on a photo, and what that turns into: rows, bitmaps, outlines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from foodbox.errors import UsageError
from foodbox.masks import Polygon, outlines_in_box, paste_mask

if TYPE_CHECKING:
    import supervision


SHOWN = 5
"""Detections that are named where they are printed."""


@dataclass(eq=False, repr=False)  # tensors have no one answer to ==; two are the same only if they are one
class Detections:
    """What a detector found on one photo, best first.

    Attributes:
        boxes: float32 [N, 4] in the photo's own pixels.
        scores: float32 [N], 0 to 1.
        labels: int64 [N] into `names`.
        names: the detector's classes.
        width, height: the photo's size in pixels.
        path: the photo's file, or None for a photo that came as pixels.
        masks: float32 [N, M, M], the object's probability at M x M places of its box, or None for a detector that finds
            boxes only. As bitmaps, a hundred masks of a photo of 12 megapixels would take 1.2 GB.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    names: list[str]
    width: int
    height: int
    path: Path | None = None
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        best = zip(self.labels[:SHOWN].tolist(), self.scores[:SHOWN].tolist(), strict=True)
        found = ", ".join(f"{self.names[label]} {score:.2f}" for label, score in best)
        more = f", and {len(self) - SHOWN} more" if len(self) > SHOWN else ""
        where = f" on {self.path}" if self.path else ""
        return f"<{len(self)} detections{where}{': ' + found if found else ''}{more}>"

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows, one by one."""
        return iter(self.rows())

    def keep(self, chosen: Tensor | slice | int) -> Detections:
        """The detections that a bool [N] mask, their numbers, or one number names."""
        chosen = torch.arange(len(self), device=self.boxes.device)[chosen].reshape(-1)  # [M]; one number is one of one
        return dataclasses.replace(
            self,
            boxes=self.boxes[chosen],
            scores=self.scores[chosen],
            labels=self.labels[chosen],
            masks=None if self.masks is None else self.masks[chosen],
        )

    def over(self, score: float) -> Detections:
        """The detections whose score is at least `score`."""
        return self.keep(self.scores >= score)

    def bitmap(self, i: int) -> Tensor:
        """Where detection i is: bool [height, width]; as torchvision pastes masks, over 0.5.

        Raises:
            UsageError: the detections are of a detector that finds boxes only.
        """
        if self.masks is None:
            raise UsageError("These detections have boxes only: bitmaps come of a detector that finds masks.")
        result = torch.zeros((self.height, self.width), dtype=torch.bool, device=self.boxes.device)
        part, left, top = paste_mask(self.masks[i], self.boxes[i], self.height, self.width)
        result[top : top + part.shape[0], left : left + part.shape[1]] = part
        return result

    def bitmaps(self) -> Tensor:
        """All bitmaps at once, bool [N, height, width]; [0, height, width] where there is no detection.

        Raises:
            UsageError: as `bitmap`.
        """
        bitmaps = [self.bitmap(i) for i in range(len(self))]
        return torch.stack(bitmaps) if bitmaps else self.boxes.new_zeros((0, self.height, self.width), dtype=torch.bool)

    def outlines(self) -> list[list[Polygon]]:
        """The outlines of each detection in the photo's pixels, holes filled; none for a detection without a mask."""
        if self.masks is None:
            return [[] for _ in range(len(self))]
        return [outlines_in_box(mask, box) for mask, box in zip(self.masks, self.boxes, strict=True)]

    def rows(self) -> list[dict[str, Any]]:
        """One dict a detection: box [x1, y1, x2, y2] rounded to 0.01 px, score, label (the class's name).

        With masks also "segmentation": polygons [x1, y1, x2, y2, x3, ...] as in COCO's JSON, in the photo's pixels.
        Unlike COCO's run lengths a person can read them, and labelling tools can change them; they are traced from the
        small map, so that they are as short for a large photo.
        """
        rows: list[dict[str, Any]] = [
            {"box": [round(v, 2) for v in box], "score": round(score, 4), "label": self.names[label]}
            for box, score, label in zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True)
        ]
        if self.masks is not None:
            for row, outlines in zip(rows, self.outlines(), strict=True):
                row["segmentation"] = [[round(v, 2) for v in outline.flatten().tolist()] for outline in outlines]
        return rows

    def to_dict(self) -> dict[str, Any]:
        """path, width, height and the detections' rows: what `--json` prints for a photo."""
        return {
            "path": None if self.path is None else str(self.path),
            "width": self.width,
            "height": self.height,
            "detections": self.rows(),
        }

    def to_supervision(self) -> supervision.Detections:
        """The same as `supervision.Detections`; needs the supervision package."""
        import supervision

        return supervision.Detections(
            xyxy=self.boxes.cpu().numpy(),
            confidence=self.scores.cpu().numpy(),
            class_id=self.labels.cpu().numpy(),
            mask=None if self.masks is None else self.bitmaps().cpu().numpy(),
            data={"class_name": [self.names[i] for i in self.labels.tolist()]},
        )
