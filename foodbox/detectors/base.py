"""What a detector is: the contract that training, evaluation, inference and the model file rely on."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from foodbox.detections import Detections
from foodbox.errors import UsageError
from foodbox.layers.pyramids import ClassMap
from foodbox.ops.anchor_fitting import best_overlap
from foodbox.ops.boxes import clip
from foodbox.ops.masks import crop_masks
from foodbox.ops.nms import nms_by_group
from foodbox.records import Batch, Frame, KeptMaps, Preprocessing, SelectiveSearch, Target, no_boxes

SMALLEST_TILE = 32
"""Pixels: smaller tiles show little of anything, and there would be no end of them."""
SIZES_KEPT = 16
"""Input sizes whose anchors a detector keeps; those of 1333 x 800 px take 3 MB."""
BACKBONE = "backbone."
"""What the names of the pretrained part's parameters begin with: it is trained at a lower rate."""
OUTPUT_WEIGHTS = re.compile(r"(^|\.)(output|classes|boxes|objectness|masks|(class|box)_heads\.\d+)\.weight$")
"""Names of the weights that give outputs directly; Muon leaves them to AdamW. Those of a new detector are called so, or
are added here."""
Device = torch.device | None
Grids = list[Any] | None
"""Rows and columns of each of a network's maps, where they are known."""
Outputs = dict[str, Tensor]
"""What `forward` gives: plain tensors by name, so that a detector exports and compiles."""


class DetectorSettings(BaseModel):
    """The settings that every detector has; each detector's file adds its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preprocessing: Preprocessing = Field(default_factory=Preprocessing)
    score_threshold: float = Field(0.05, ge=0, le=1, description="Lower scores are dropped before NMS.")
    nms_iou: float = Field(0.5, ge=0, le=1, description="NMS: boxes of a class with a higher IoU are thinned.")


class Detector(nn.Module, ABC):
    """A network that finds boxes, with the names of its classes and the way its photos are prepared.

    It is built without weights of meaning; `foodbox.weights` puts them in. The same object trains and detects.

    Attributes:
        Settings: the class of its settings.
        Training: the base class of `Settings` whose fields concern training alone; weights work with any value of them.
        presets: named settings, as differences from the defaults; the first is taken where none is named.
        needs_masks: it learns from masks: targets have them, and photos with boxes only are refused.
        needs_proposals: it gets regions from outside: `forward(images, proposals)` and `losses(images, targets,
            proposals)` with proposals [B, R, 4] in the input's pixels, and `settings.search` says how they are found.
        takes_sizes: `forward` takes the sizes of the photos in padded inputs, too (ops/proposals.py, `borders`): it has
            NMS within, while `decode` of others is early enough to cut boxes off.
        replays: `forward` and `losses` never wait for the device, so that a GPU can repeat them (inference/replay.py).
        has_maps: it takes a backbone's maps in the images' place (`backbone_maps`).
        names: the classes, in the order of the labels.
        settings: what it was built with.
    """

    Settings: ClassVar[type[DetectorSettings]]
    Training: ClassVar[type[DetectorSettings]]
    presets: ClassVar[dict[str, dict[str, Any]]]
    needs_masks: ClassVar[bool] = False
    needs_proposals: ClassVar[bool] = False
    takes_sizes: ClassVar[bool] = False
    replays: ClassVar[bool] = False
    has_maps: ClassVar[bool] = True
    backbone: Any  # a module of foodbox.layers with its maps' `channels`

    def __init__(self, names: list[str], settings: DetectorSettings) -> None:
        super().__init__()
        self.names = list(names)
        self.settings = settings
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", self._channels(self.preprocessing.mean), persistent=False)
        self.register_buffer("std", self._channels(self.preprocessing.std), persistent=False)
        self._anchors: dict[tuple[Any, ...], Tensor] = {}

    @property
    def preprocessing(self) -> Preprocessing:
        return self.settings.preprocessing

    @property
    def search(self) -> SelectiveSearch | None:
        """How the proposals of its photos are found; None for a detector that needs none."""
        found: SelectiveSearch | None = getattr(self.settings, "search", None)
        return found

    @staticmethod
    def _channels(values: tuple[float, float, float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)

    def normalise(self, images: Tensor) -> Tensor:
        """Pixels 0 to 255 [B, 3, H, W], of any number type → float32 as the backbone's weights expect them."""
        return (images.float() - 255 * self.mean) / (255 * self.std)

    def backbone_maps(self, images: Tensor | KeptMaps) -> list[Tensor]:
        """Pixels [B, 3, H, W] → the backbone's maps, or those that were computed before (training/feature_cache.py)."""
        if isinstance(images, KeptMaps):
            half = torch.is_autocast_enabled(images.device.type)  # they are kept in bfloat16
            maps: list[Tensor] = [m if half else m.float() for m in images.maps]
            if len(maps) < len(self.backbone.channels):
                maps = self.backbone.resume(maps)
            return maps
        maps = self.backbone(self.normalise(images))
        return maps

    @abstractmethod
    def forward(self, images: Tensor) -> Outputs:
        """Pixels [B, 3, H, W] → the network's plain outputs; no Python over single photos."""

    @abstractmethod
    def losses(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Pixels [B, 3, H, W] and B targets in the input's pixels → scalars whose sum is trained on."""

    def decode(self, outputs: Outputs, frames: list[Frame], min_score: float | None = None) -> list[Detections]:
        """What `forward` gave, and B frames → the detections of each photo in its own pixels, best first.

        Here for a two-stage detector, whose `forward` has selected them already: boxes [B, D, 4] in the input's pixels,
        scores [B, D], -1 where there is none, labels int64 [B, D], best first; of a detector of masks also masks
        [B, D, M, M].

        Args:
            min_score: instead of the settings' own score threshold.
        """
        outputs = {name: outputs[name].cpu() for name in ("boxes", "scores", "labels", "masks") if name in outputs}
        masks, found = outputs.get("masks"), []
        for i, (frame, scores) in enumerate(zip(frames, self.over(outputs["scores"], min_score), strict=True)):
            mine = scores >= 0
            parts = outputs["boxes"][i, mine], scores[mine], outputs["labels"][i, mine]
            one = self._in_photo(frame, *parts, None if masks is None else masks[i, mine])
            # In a letterbox, or if `forward` got no sizes, boxes were cut off only now, and may have become alike.
            found.append(one.keep(nms_by_group(one.boxes, one.scores, one.labels, self.settings.nms_iou)))
        return found

    def threshold(self, min_score: float | None) -> float:
        """What a score has to be over: the settings' threshold where `decode` is not given another; with 0 all are."""
        return self.settings.score_threshold if min_score is None else min_score

    def over(self, scores: Tensor, min_score: float | None) -> Tensor:
        """The scores, -1 where they are not over the threshold."""
        threshold = self.threshold(min_score)
        return scores.masked_fill(scores <= threshold, -1.0) if threshold > 0 else scores

    def finish(self, batches: Iterable[Batch]) -> None:
        """What is fitted once, after the last step of gradient descent: nothing, unless a detector says otherwise.

        Args:
            batches: the training photos without augmentation, on the detector's device; once through.
        """

    def _in_photo(
        self, frame: Frame, boxes: Tensor, scores: Tensor, labels: Tensor, masks: Tensor | None = None
    ) -> Detections:
        """Detections in the photo's own pixels, of values on the CPU; none that lies beyond, or is inside out."""
        there = frame.to_photo(boxes)
        inside = clip(there, frame.width, frame.height)
        if masks is not None:
            masks = crop_masks(masks.flip([-1] * frame.mirror + [-2] * frame.upside_down), there, inside)
        detections = Detections(
            boxes=inside.detach(),
            scores=scores.detach(),
            labels=labels,
            names=self.names,
            width=frame.width,
            height=frame.height,
            path=frame.path,
            masks=None if masks is None else masks.detach(),
        )
        return detections.keep((detections.boxes[:, 2:] > detections.boxes[:, :2]).all(1))

    @classmethod
    def anchors_of(cls, settings: Any, height: int, width: int, grids: Grids = None, on: Device = None) -> Tensor:
        """The anchors [A, 4] on an input of height x width pixels; [0, 4] for a detector without any."""
        return no_boxes().to(on)

    def anchors_at(self, images: Tensor, grids: Grids = None) -> Tensor:
        """`anchors_of` inputs of the images' size, on their device: [A, 4].

        Those of the first sizes are kept: a GPU would have to be waited for while they are brought there.
        """
        height, width = images.shape[2:]
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            return self.anchors_of(self.settings, height, width, grids, images.device)
        key = self.settings, height, width, images.device
        if key not in self._anchors:
            with torch.inference_mode(False):  # training may be next to use them
                anchors = self.anchors_of(self.settings, height, width, grids, images.device)
            if len(self._anchors) == SIZES_KEPT:
                return anchors
            self._anchors[key] = anchors
        return self._anchors[key]

    @classmethod
    def anchor_choices(cls, settings: Any, boxes: Tensor) -> list[dict[str, Any]]:
        """Changes of the settings whose anchors may fit boxes [N, 4] of inputs better."""
        return []

    @classmethod
    def fit_anchors(cls, settings: Any, boxes: Tensor, height: int, width: int) -> dict[str, Any]:
        """Of `anchor_choices`, the one whose anchors on inputs of height x width overlap boxes [N, 4] best on average.

        Some 250 of the boxes decide. Nothing for a detector without anchors.
        """
        some = boxes[:: max(1, len(boxes) // 250)]

        def overlap(choice: dict[str, Any]) -> float:
            anchors = cls.anchors_of(settings.model_copy(update=choice), height, width)
            return float(best_overlap(some, anchors).mean())

        return max(cls.anchor_choices(settings, boxes), key=overlap, default={})

    @classmethod
    def expect_tiles(cls, side: int) -> None:
        """Looks whether photos can be seen in tiles of so many pixels a side; 0 is none, which is always possible.

        Raises:
            UsageError: such tiles are too small to show anything, or the detector cannot look at any.
        """
        if 0 < side < SMALLEST_TILE:
            raise UsageError(f"--tile-size is {side}: expected {SMALLEST_TILE} pixels or more, or 0 for whole photos.")
        if side and cls.needs_proposals:
            raise UsageError(f"{cls.__name__} looks for its regions on whole photos: leave --tile-size out.")

    @property
    def class_rows(self) -> dict[str, tuple[int, int]]:
        """The tensors whose first dimension holds one entry a class and place: name → (places, entries before them).

        Such a tensor has the shape [places x (before + K), ...]. With this, weights can be carried over to a detector
        with other classes, name by name. Here a class map's; detectors with classes in their heads say so themselves.
        """
        return {f"classes.output.{part}": (1, 0) for part in ("weight", "bias")}


class OneStageDetector(Detector):
    """A detector whose network scores every place at once; what is there is chosen from all of them afterwards.

    Its settings have `candidates`, `nms_iou` and `max_detections`.

    Attributes:
        classes: where the score is an objectness, what tells several classes apart.
    """

    settings: Any
    classes: ClassMap | None

    def losses(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """`losses_of` what the network gives for pixels [B, 3, H, W]."""
        return self.losses_of(self(images), targets)

    @abstractmethod
    def losses_of(self, outputs: Outputs, targets: list[Target]) -> dict[str, Tensor]:
        """What `forward` gave, and B targets in the input's pixels → scalars whose sum is trained on."""

    @abstractmethod
    def candidates(self, outputs: Outputs) -> Outputs:
        """What `forward` gave → scores [B, C], labels int64 [B, C], boxes [B, C, 4] in the input's pixels.

        As many a photo, whatever is on it: a GPU can record the way there (inference/replay.py), and other programs
        can go it (inference/onnx.py).
        """

    def told_apart(self, outputs: Outputs, scores: Tensor, labels: Tensor, boxes: Tensor) -> Outputs:
        """The candidates [B, C], with each class that the class map sees in their boxes, where there is such a map."""
        if self.classes is not None:
            most = self.settings.candidates
            scores, labels, boxes = self.classes.score_classes(outputs["classes"], boxes, scores, most)
        return {"scores": scores, "labels": labels, "boxes": boxes}

    def decode(self, outputs: Outputs, frames: list[Frame], min_score: float | None = None) -> list[Detections]:
        """The candidates over the threshold, thinned by NMS class by class; outputs may be candidates already."""
        found = outputs if "scores" in outputs else self.candidates(outputs)
        scores = self.over(found["scores"], min_score)
        return self.select(scores, found["labels"], found["boxes"], frames, self.settings.nms_iou)

    def select(
        self, scores: Tensor, labels: Tensor, boxes: Tensor, frames: list[Frame], nms_iou: float
    ) -> list[Detections]:
        """Candidates of a batch → detections: cut off at the photo's border, thinned by NMS class by class.

        Args:
            scores: [B, C]; below 0 there is no candidate (`over`).
            labels: int64 [B, C].
            boxes: [B, C, 4] in the input's pixels.
            nms_iou: of two boxes of a class that overlap more, the less sure goes.
        """
        whole = [f.to_input(torch.tensor([0.0, 0.0, f.width, f.height])) for f in frames]  # without letterbox bars
        shown = torch.stack([clip(box, f.input_width, f.input_height) for box, f in zip(whole, frames, strict=True)])
        low, high = shown.to(boxes.device)[:, None].chunk(2, dim=2)  # [B, 1, 2] each
        boxes = boxes.clamp(low.repeat(1, 1, 2), high.repeat(1, 1, 2))
        photo, place = torch.where(scores >= 0)  # [N], N candidates of all photos
        groups = photo * len(self.names) + labels[photo, place]
        kept = nms_by_group(boxes[photo, place], scores[photo, place], groups, nms_iou)
        photo, place = photo[kept], place[kept]
        columns = photo, scores[photo, place], labels[photo, place], *boxes[photo, place].unbind(-1)
        found = torch.stack([column.float() for column in columns], dim=1).cpu()  # a GPU is waited for once
        rows = (found[found[:, 0] == i, 1:][: self.settings.max_detections] for i in range(len(frames)))
        return [
            self._in_photo(frame, mine[:, 2:], mine[:, 0], mine[:, 1].long())
            for frame, mine in zip(frames, rows, strict=True)
        ]
