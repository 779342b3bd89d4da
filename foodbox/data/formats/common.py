"""What all readers share: photos with their sizes, and boxes that are checked and brought into the one convention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from foodbox.data.images import PhotoError, photo_size, turn_boxes
from foodbox.ops.boxes import clip
from foodbox.records import Finding, Photo, Source

OVERHANG = 0.01
"""How far a box may stick out of its photo, as a share of the side, before it is an error: rounding and counting from 1
make a pixel or two; more means that the box is another photo's or in another unit."""


@dataclass
class RawBox:
    """A box as it stands in a label file: x1 y1 x2 y2 in pixels."""

    corners: tuple[float, float, float, float]
    label: int
    source: Source
    ignore: bool = False


def make_photo(
    path: Path, raw: Sequence[RawBox], findings: list[Finding], stored_size: tuple[int, int] | None = None
) -> Photo | None:
    """A photo with its boxes; faults go to `findings`, and a photo with an error comes back as None.

    Args:
        stored_size: width and height that the label file gives for the photo; where they are the pixels' before their
            EXIF turn, the boxes are turned with them.
    """
    try:
        width, height, turn = photo_size(path)
    except PhotoError as fault:
        findings.append(Finding(Source(path), _without_path(str(fault), path), photo=path))
        return None
    errors = [Finding(b.source, what, todo, photo=path) for b in raw for what, todo in _faults(b.corners)]
    if errors:
        findings.extend(errors)
        return None
    boxes = torch.tensor([b.corners for b in raw], dtype=torch.float32).reshape(-1, 4)
    if turn > 1 and _before_turn(boxes, stored_size, width, height, turn):
        boxes = turn_boxes(boxes, turn, *((height, width) if turn >= 5 else (width, height)))
        findings.append(
            Finding(Source(path), f"EXIF orientation {turn}: boxes turned with the pixels", harm="note", photo=path)
        )
    inside = clip(boxes, width, height)
    over = ((inside - boxes).abs() / torch.tensor([width, height] * 2)).amax(1)  # [N]
    empty = (inside[:, 2:] - inside[:, :2]).amin(1) <= 0
    for i, box in enumerate(raw):
        if over[i] > OVERHANG or empty[i]:
            corners = ", ".join(f"{v:g}" for v in box.corners)
            findings.append(
                Finding(
                    box.source,
                    f"the box {corners} (x1, y1, x2, y2) lies outside the photo of {width} x {height} pixels",
                    "Correct the numbers, or check that the label belongs to this photo",
                    photo=path,
                )
            )
            errors.append(findings[-1])
        elif over[i] > 0:
            what = (
                f"a box stuck out of the photo by {float((inside - boxes)[i].abs().max()):.1f} pixels and was cut off"
            )
            findings.append(Finding(box.source, what, harm="note", photo=path))
    if errors:
        return None
    return Photo(
        path,
        width,
        height,
        inside,
        torch.tensor([b.label for b in raw], dtype=torch.int64),
        ignore=torch.tensor([b.ignore for b in raw], dtype=torch.bool),
        sources=[b.source for b in raw],
    )


def plain(value: float) -> str:
    """A coordinate to a thousandth of a pixel, without noughts behind it."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def numbers(words: Sequence[str]) -> tuple[float, ...] | None:
    """The words as finite numbers, or None where one is not."""
    try:
        values = tuple(float(word) for word in words)
    except ValueError:
        return None
    return values if all(math.isfinite(v) for v in values) else None


def _faults(corners: tuple[float, float, float, float]) -> list[tuple[str, str]]:
    x1, y1, x2, y2 = corners
    if x2 <= x1 or y2 <= y1:
        what = f"the box has no area: x1 {x1:g}, y1 {y1:g}, x2 {x2:g}, y2 {y2:g}, expected x2 > x1 and y2 > y1"
        return [(what, "Draw it anew or remove it")]
    return []


def _before_turn(boxes: torch.Tensor, stored_size: tuple[int, int] | None, width: int, height: int, turn: int) -> bool:
    """Whether boxes were measured on the pixels before their EXIF turn.

    The label file's own size tells, where sides change places. Without one, boxes are as a person sees the photo,
    unless they only fit inside the unturned pixels.
    """
    if turn < 5 or width == height:
        return False
    if stored_size is not None and stored_size != (0, 0):
        return stored_size == (height, width)
    return bool((boxes > torch.tensor([width, height] * 2)).any())


def _without_path(sentence: str, path: Path) -> str:
    """A photo's fault without the path that stands before it in a finding anyway."""
    return (
        sentence.replace(str(path), "the file")
        .rstrip(".")
        .replace("There is no photo the file", "the photo is missing")
    )
