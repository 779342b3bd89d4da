"""What travels through the house to a detector: Photo, Dataset, Preprocessing, Frame, Target, Batch.

One convention everywhere: boxes are float32 [N, 4], x1 y1 x2 y2 in pixels, x2 > x1 and y2 > y1; labels are int64 [N],
0 ... K-1, into `names`. No boxes are a tensor of shape [0, 4], never None. Every other convention ends at a reader.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from foodbox.findings import Source
from foodbox.masks import Polygon


def no_boxes() -> Tensor:
    """float32 [0, 4]: what stands where there is no box."""
    return torch.zeros((0, 4), dtype=torch.float32)


def no_labels() -> Tensor:
    """int64 [0], the labels of no boxes."""
    return torch.zeros(0, dtype=torch.int64)


class Window(NamedTuple):
    """Where a tile lies: its left top corner and the size of its whole photo, in pixels as a person sees it."""

    left: int
    top: int
    whole_width: int
    whole_height: int


@dataclass(slots=True, eq=False)  # tensors have no one answer to ==
class Photo:
    """One photo and what is known to be on it; its pixels stay on the disk.

    Attributes:
        path: the photo's file.
        width, height: pixels, as a person sees the photo (EXIF turn applied).
        boxes: float32 [N, 4].
        labels: int64 [N] into the dataset's names.
        masks: a list of N, each the polygons that outline one object, or None where the format has only boxes.
        ignore: bool [N]; such a box (VOC "difficult", COCO "crowd") is neither trained on nor counted in a score.
        sources: N places that the boxes were read from.
        labelled: False for a photo of which nobody said what is on it; a labelled photo without boxes shows none.
        part: "train", "valid" or "test" where the labels say so, or the folders, else "".
        kind: what the file is, whatever its name says, such as "JPEG"; "" where nobody looked.
        hash: 64 bits as a signed number, nearly the same for photos that look the same (perceptual hash); None where
            only the file's head was looked at.
        window: of a tile, a part of the file's photo with a size and boxes of its own (data/tiles.py); else None.
    """

    path: Path
    width: int
    height: int
    boxes: Tensor = field(default_factory=no_boxes)
    labels: Tensor = field(default_factory=no_labels)
    masks: list[list[Polygon]] | None = None
    ignore: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    sources: list[Source] = field(default_factory=list)
    labelled: bool = True
    part: str = ""
    kind: str = ""
    hash: int | None = None
    window: Window | None = None

    def __post_init__(self) -> None:
        if self.ignore.shape[0] != self.boxes.shape[0]:
            self.ignore = torch.zeros(len(self.boxes), dtype=torch.bool)

    def __reduce__(self) -> tuple[Any, ...]:
        """Its tensors as arrays: torch hands each tensor to another process in a file of its own, and those run out."""
        return _photo, tuple(_arrays(getattr(self, one.name)) for one in dataclasses.fields(self))

    def keep(self, chosen: Tensor) -> Photo:
        """The same photo with the boxes alone that a bool [N] names."""
        which = chosen.tolist()
        return dataclasses.replace(
            self,
            boxes=self.boxes[chosen],
            labels=self.labels[chosen],
            masks=None if self.masks is None else [m for m, keep in zip(self.masks, which, strict=True) if keep],
            ignore=self.ignore[chosen],
            sources=[s for s, keep in zip(self.sources, which, strict=False) if keep],
        )


def _photo(*values: Any) -> Photo:
    return Photo(*map(_tensors, values))


def _arrays(value: Any) -> Any:
    """The value, its tensors, in lists too, as numpy arrays; `_tensors` is the way back."""
    if isinstance(value, list):
        return [_arrays(one) for one in value]
    return value.numpy() if isinstance(value, Tensor) else value


def _tensors(value: Any) -> Any:
    if isinstance(value, list):
        return [_tensors(one) for one in value]
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


@dataclass(eq=False)
class Dataset:
    """Photos, the names of their classes, and the format that they were read as."""

    photos: list[Photo]
    names: list[str]
    format: str = ""

    def __len__(self) -> int:
        return len(self.photos)

    def __iter__(self) -> Iterator[Photo]:
        return iter(self.photos)

    @property
    def box_count(self) -> int:
        return sum(photo.boxes.shape[0] for photo in self.photos)

    def class_counts(self, ignored: bool = True) -> list[int]:
        """The number of boxes of each class, with or without those that scoring is to ignore."""
        labels = [photo.labels if ignored else photo.labels[~photo.ignore] for photo in self.photos]
        return torch.cat([no_labels(), *labels]).bincount(minlength=len(self.names)).tolist()

    def with_photos(self, photos: list[Photo]) -> Dataset:
        """The same names and format over other photos."""
        return dataclasses.replace(self, photos=photos)

    def __str__(self) -> str:
        return (
            f"{counted(len(self), 'photo')}, {counted(self.box_count, 'box', 'boxes')}, "
            f"{counted(len(self.names), 'class', 'classes')}"
        )


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: "1 photo", "1,200 photos", "2 boxes" where `many` says so."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


class Preprocessing(BaseModel):
    """How a photo becomes the network's input. It is part of a model, and travels in its file.

    A photo is resized so that its longer side is `size` (`fit="longest"`), or its shorter side is `size` while the
    longer stays within `max_size` (`fit="shortest"`, Faster R-CNN section 3.3 and RetinaNet section 5), or so that both
    sides are `size` whatever its shape (`fit="stretch"`). With `fit="letterbox"` its longer side becomes `size`, and it
    lies in the middle of a grey square of that side, as in darknet. Batches are padded right and below to a multiple of
    `multiple`. Of a photo larger than `tile_size`, if that is not 0, its tiles are seen as photos too (data/tiles.py).
    The network sees (pixel / 255 - mean) / std in the order red, green, blue.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: int = Field(
        320, ge=32, le=4096, description="Input size in pixels; light presets take up to twice it for small boxes."
    )
    fit: Literal["longest", "shortest", "stretch", "letterbox"] = Field(
        "longest", description="What is scaled to the size: a photo's longer or shorter side, or both sides."
    )
    max_size: int = Field(1333, ge=32, le=8192, description="With --fit shortest: the longer side's maximum in pixels.")
    multiple: int = Field(32, ge=1, le=512, description="The input is padded to a multiple of this many pixels.")
    antialias: bool = Field(True, description="Antialiasing where photos are scaled down.")
    tile_size: int = Field(0, ge=0, description="Also see larger photos in tiles of this many pixels; 0: none.")
    mean: tuple[float, float, float] = Field(
        (0.485, 0.456, 0.406), description="Mean of red, green and blue, 0 to 1; starting weights bring their own."
    )
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = Field(
        (0.229, 0.224, 0.225), description="Standard deviation of these; starting weights bring their own."
    )

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels to which a photo of width x height is resized; never below 1."""
        if self.fit == "stretch":
            return self.size, self.size
        if self.fit == "letterbox":  # in whole numbers, as darknet's letterbox_image
            longer = max(width, height)
            return max(1, width * self.size // longer), max(1, height * self.size // longer)
        if self.fit == "longest":
            scale = self.size / max(width, height)
        else:
            scale = min(self.size / min(width, height), self.max_size / max(width, height))
            # Rounded down as torchvision's detection transform does, so that imported models see the same pixels.
            return max(1, int(width * scale)), max(1, int(height * scale))
        # The small term keeps 319.9999999 at 320.
        return max(1, int(width * scale + 1e-6)), max(1, int(height * scale + 1e-6))

    def padded(self, side: int) -> int:
        """A side of an input in pixels, padded to a multiple of `multiple`."""
        return math.ceil(side / self.multiple) * self.multiple

    def shape(self, width: int, height: int) -> tuple[int, int]:
        """Height and width of the input of a photo of width x height pixels, padded."""
        frame = self.frame(width, height)
        return self.padded(frame.input_height), self.padded(frame.input_width)

    def frame(self, width: int, height: int, path: Path | None = None) -> Frame:
        """The way between a photo of width x height pixels and its input; a letterbox begins beyond the photo."""
        wide, high = self.resized(width, height)
        if self.fit != "letterbox":
            return Frame(width, height, wide, high, path)
        across, down = width / wide, height / high  # pixels of the photo for one of the input
        left, top = -((self.size - wide) // 2) * across, -((self.size - high) // 2) * down
        right, bottom = left + self.size * across, top + self.size * down
        return Frame(width, height, self.size, self.size, path, left, top, right, bottom)

    @property
    def ground(self) -> list[float]:
        """The colour around a photo, 0 to 255: darknet's grey of 0.5 in a letterbox, else the mean, which becomes 0."""
        return [127.0] * 3 if self.fit == "letterbox" else [255 * value for value in self.mean]


class SelectiveSearch(BaseModel):
    """How regions where something may be are found on a photo, for detectors that do not propose them themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    proposals: int = Field(2000, ge=1, description="Regions of a photo that the detector gets, best first.")
    search_size: int = Field(500, ge=32, le=1024, description="Longer side in pixels of the photo in the search.")
    search_mode: Literal["fast", "quality"] = Field("fast", description="quality: more regions, slower.")


@dataclass(frozen=True)
class Frame:
    """The way between a photo's pixels and those of the network's input, and nothing else: it cuts nothing off.

    The input's part of `input_width` x `input_height` shows a window of the photo; what lies beyond is padding.

    Attributes:
        width, height: pixels of the photo.
        input_width, input_height: pixels of the input to which the window is resized.
        path: the photo's file.
        left, top, right, bottom: the window in pixels of the photo; it may reach beyond it. Not given, it is the photo.
        mirror, upside_down: left and right, top and bottom are exchanged within the input's size.
    """

    width: int
    height: int
    input_width: int
    input_height: int
    path: Path | None = None
    left: float = 0.0
    top: float = 0.0
    right: float = field(default=None)  # type: ignore[assignment]  # the photo's width, as soon as that is known
    bottom: float = field(default=None)  # type: ignore[assignment]  # its height
    mirror: bool = False
    upside_down: bool = False

    def __post_init__(self) -> None:
        if self.right is None:
            object.__setattr__(self, "right", float(self.width))
        if self.bottom is None:
            object.__setattr__(self, "bottom", float(self.height))

    @property
    def scale_x(self) -> float:
        """Pixels of the input for one of the photo."""
        return self.input_width / (self.right - self.left)

    @property
    def scale_y(self) -> float:
        """Pixels of the input for one of the photo."""
        return self.input_height / (self.bottom - self.top)

    def to_input(self, boxes: Tensor) -> Tensor:
        """Boxes [..., 4] in the photo's pixels → [..., 4] in the input's."""
        origin, scale = self._origin_and_scale()
        moved = (boxes - boxes.new_tensor(origin * 2)) * boxes.new_tensor(scale * 2)
        return self._ordered(moved)

    def to_photo(self, boxes: Tensor) -> Tensor:
        """Boxes [..., 4] in the input's pixels → [..., 4] in the photo's.

        In float32 a box that went to the input comes back to within 0.01 px, if photo and window lie within 24,000 px.
        """
        origin, scale = self._origin_and_scale()
        moved = boxes * boxes.new_tensor([1 / s for s in scale] * 2) + boxes.new_tensor(origin * 2)
        return self._ordered(moved)

    def points_to_input(self, points: Tensor) -> Tensor:
        """Points [..., 2] in the photo's pixels → [..., 2] in the input's."""
        origin, scale = self._origin_and_scale()
        return (points - points.new_tensor(origin)) * points.new_tensor(scale)

    def _origin_and_scale(self) -> tuple[list[float], list[float]]:
        """The photo's point x y that is the input's corner 0 0, and the input's pixels for one of the photo from there.

        A point x of the photo lies at (x - origin) * scale in the input; in a mirror image x runs from right to left.
        """
        x, across = (self.right, -self.scale_x) if self.mirror else (self.left, self.scale_x)
        y, down = (self.bottom, -self.scale_y) if self.upside_down else (self.top, self.scale_y)
        return [x, y], [across, down]

    def _ordered(self, boxes: Tensor) -> Tensor:
        """Boxes [..., 4] whose x1 and x2, or y1 and y2, are exchanged → x1 < x2, y1 < y2."""
        boxes = boxes[..., [2, 1, 0, 3]] if self.mirror else boxes
        return boxes[..., [0, 3, 2, 1]] if self.upside_down else boxes


@dataclass(eq=False)
class Target:
    """What a detector should find on one input.

    Attributes:
        boxes: float32 [N, 4] in the input's pixels.
        labels: int64 [N].
        masks: bool [N, input_height, input_width] of its frame, for a detector that needs masks; else None.
    """

    boxes: Tensor = field(default_factory=no_boxes)
    labels: Tensor = field(default_factory=no_labels)
    masks: Tensor | None = None

    def to(self, device: torch.device | str) -> Target:
        masks = None if self.masks is None else self.masks.to(device, non_blocking=True)
        boxes, labels = (part.to(device, non_blocking=True) for part in (self.boxes, self.labels))
        return Target(boxes, labels, masks)

    def pin_memory(self) -> Target:
        """Where a GPU fetches from without the CPU waiting for it; torch's loaders call it."""
        return Target(*(None if part is None else part.pin_memory() for part in (self.boxes, self.labels, self.masks)))  # type: ignore[arg-type]


def stack_targets(targets: list[Target], multiple: int = 1) -> tuple[Tensor, Tensor]:
    """B targets → boxes [B, M, 4] and labels [B, M], each photo's padded with at least one empty box of class 0.

    Args:
        multiple: M is one of this.
    """
    boxes = pad_sequence([F.pad(target.boxes, (0, 0, 0, 1)) for target in targets], batch_first=True)
    labels = pad_sequence([F.pad(target.labels, (0, 1)) for target in targets], batch_first=True)
    more = -boxes.shape[1] % multiple
    return F.pad(boxes, (0, 0, 0, more)), F.pad(labels, (0, more))


@dataclass(eq=False)
class KeptMaps:
    """A backbone's maps of B images, computed before, in these images' place (`Detector.backbone_maps`).

    Attributes:
        maps: [B, C, h, w] each, from fine to coarse.
        height, width: of the images, in pixels.
    """

    maps: list[Tensor]
    height: int
    width: int

    @property
    def shape(self) -> torch.Size:
        """That of the images: [B, 3, H, W]."""
        return torch.Size((len(self.maps[0]), 3, self.height, self.width))

    @property
    def device(self) -> torch.device:
        return self.maps[0].device

    def to(self, device: torch.device | str) -> KeptMaps:
        return KeptMaps([_moved(m, device) for m in self.maps], self.height, self.width)

    def pin_memory(self) -> KeptMaps:
        """As `Target.pin_memory`."""
        return KeptMaps([m.pin_memory() for m in self.maps], self.height, self.width)


def _moved(images: Tensor, device: torch.device | str) -> Tensor:
    """[B, C, H, W] on the device, channels last in memory, which convolutions are fastest with."""
    return images.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)


@dataclass(eq=False)
class Batch:
    """What goes into a detector at once.

    Attributes:
        images: [B, 3, H, W], red green blue from 0 to 255 as uint8 or float; or a frozen backbone's maps of them.
        targets, frames: one for each image.
        proposals: float32 [B, R, 4] in the inputs' pixels, the best first, padded with zero boxes, for a detector
            that gets them from outside; else None.
    """

    images: Tensor | KeptMaps
    targets: list[Target]
    frames: list[Frame]
    proposals: Tensor | None = None

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What a detector's `forward` takes: the images, and the proposals where there are some."""
        return (self.images,) if self.proposals is None else (self.images, self.proposals)

    def to(self, device: torch.device | str) -> Batch:
        proposals = None if self.proposals is None else self.proposals.to(device, non_blocking=True)
        targets = [target.to(device) for target in self.targets]
        images = self.images.to(device) if isinstance(self.images, KeptMaps) else _moved(self.images, device)
        return Batch(images, targets, self.frames, proposals)

    def pin_memory(self) -> Batch:
        """As `Target.pin_memory`."""
        proposals = None if self.proposals is None else self.proposals.pin_memory()
        targets = [target.pin_memory() for target in self.targets]
        return Batch(self.images.pin_memory(), targets, self.frames, proposals)

    def __len__(self) -> int:
        return len(self.frames)
