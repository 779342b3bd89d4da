"""The settings of a run: types, defaults, ranges, reasons. A detector's own settings stand in its own file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0.1 <= pair[0] <= pair[1] <= 10:
        raise ValueError("expected two numbers from 0.1 to 10, the smaller first")
    return pair


def _word(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _named(path: Any) -> Any:
    if path == "":  # which would be the folder that one is in
        raise ValueError("expected a path, and this is an empty word")
    return path


Place = Annotated[Path, BeforeValidator(_named)]


def _duration(text: str) -> str:
    _seconds(text)
    return text


def _seconds(text: str) -> float:
    number, unit = text[:-1], text[-1:]
    try:
        seconds = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except (KeyError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError("expected a time such as 90s, 15m or 2h")
    return seconds


class TrainSettings(BaseModel):
    """What every training run has, whatever the detector.

    The defaults are for a few hundred photos and a computer without a GPU; docs/benchmarks.md has the measurements.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # The photos.
    valid: Place | None = Field(None, description="Folder of validation photos; by default held out of PHOTOS.")
    valid_share: float = Field(0.2, gt=0, lt=1, description="The share of PHOTOS held out where --valid is not given.")
    split: Place | None = Field(
        None, description="Another run's split.json, for the same photos; with that run's --valid if it had one."
    )
    sample: int | None = Field(None, ge=1, description="Train on this many photos, drawn by the seed.")
    one_class: str | None = Field(None, min_length=1, description="Fold all classes into one of this name.")
    format: str | None = Field(None, description="The label format, if it is not detected.")
    skip_bad: bool = Field(False, description="Leave faulty photos out instead of stopping.")

    # The detector.
    detector: str = Field(
        "retinanet", description="retinanet, rcnn, fast_rcnn, faster_rcnn, mask_rcnn, ssd, m2det or yolo."
    )
    preset: str | None = Field(None, description="The detector's preset; its first by default.")
    weights: Annotated[str, BeforeValidator(_word)] = Field(
        "coco", description="Starting weights: coco, imagenet, none, or a weight file."
    )
    fit_anchors: bool = Field(False, description="Choose the anchors that fit the boxes of PHOTOS best.")

    # Training.
    epochs: int | None = Field(
        None, ge=1, description="Passes over the training photos; by default 10 to 100, more for fewer photos."
    )
    time: Annotated[str, AfterValidator(_duration)] | None = Field(
        None, description="Train for this time instead, such as 90s, 15m or 2h."
    )
    batch_size: int | None = Field(None, ge=1, description="Photos per step; by default 2 to 8, by their number.")
    learning_rate: float | None = Field(
        None, gt=0, description="Peak learning rate of all but the backbone; by default 1e-3, with --freeze 2e-3."
    )
    backbone_rate: float | None = Field(
        None, ge=0, description="The backbone's rate as a factor of the peak; by default 0.3, with --weights none 1."
    )
    weight_decay: float = Field(0.01, ge=0, description="Weight decay; norms and biases have none.")
    warmup: float = Field(0.1, ge=0, le=1, description="Share of the steps in which the learning rate rises from 0.")
    clip: float = Field(5.0, gt=0, description="Gradient clipping: the largest norm.")
    freeze: Literal["backbone", "C4"] | None = Field(
        None, description="Do not train the backbone, or its part up to C4; its feature maps are computed once."
    )
    views: int = Field(4, ge=0, description="With --freeze: variants of each photo whose maps are kept; 0 keeps none.")
    seed: int = Field(0, ge=0, lt=2**63, description="The same seed gives the same run on the same machine.")

    # Augmentation.
    mirror: float = Field(0.5, ge=0, le=1, description="Probability of a horizontal flip.")
    upside_down: float = Field(0.0, ge=0, le=1, description="Probability of a vertical flip, for photos from above.")
    zoom: Annotated[tuple[float, float], AfterValidator(_rising)] = Field(
        (0.8, 1.3), description="Smallest and largest random zoom; 1 1 for none."
    )
    stretch: float = Field(1.33, ge=1, le=4, description="Largest random stretch, in width or in height; 1 for none.")
    colour: float = Field(0.5, ge=0, le=1, description="Probability of changed brightness, contrast and colour.")

    # The computer.
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 where it is faster.")
    workers: int | None = Field(None, ge=0, description="Processes that load photos; by default chosen by the cores.")
    cache: Literal["memory", "disk", "none"] = Field(
        "memory", description="Where decoded photos are kept: memory (up to 1 GB), disk (for later runs, too), none."
    )
    gpu_step: Literal["auto", "plain", "replayed", "compiled"] = Field(
        "auto", description="Steps on a CUDA GPU: replayed (CUDA graphs, for light networks) or compiled (long runs)."
    )
    device: str | None = Field(None, description="cpu, cuda or mps; by default the fastest there is.")

    @property
    def peak_rate(self) -> float:
        """`learning_rate`, or what has done best where it is not given: parts bear more than a whole network."""
        return self.learning_rate or (2e-3 if self.freeze else 1e-3)

    @property
    def backbone_share(self) -> float:
        """`backbone_rate`, or what has done best where it is not given: a backbone that was trained knows a lot."""
        if self.backbone_rate is not None:
            return self.backbone_rate
        return 1.0 if self.weights == "none" else 0.3

    @property
    def budget(self) -> float | None:
        """`time` in seconds, or None where epochs are counted."""
        return None if self.time is None else _seconds(self.time)


def batch_size_for(photos: int) -> int:
    """Photos a step, so that an epoch has some sixty steps: few photos teach more in many small steps than in few."""
    return min(8, max(2, photos // 60))


def epochs_for(photos: int) -> int:
    """How often each photo is seen: ten times, and few photos as often as gives them the time of 250."""
    return min(100, max(10, 2500 // photos))
