"""No setting is ignored: another value of any of them changes what a detector consists of, learns from or finds."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from torch import Tensor

from foodbox.configure import apply, build
from foodbox.detectors import DETECTORS
from foodbox.detectors.base import DetectorSettings
from foodbox.records import Batch, Frame, Target

SIDE = 96
"""Of the inputs, in pixels."""

ELSEWHERE = {
    "preprocessing": "makes inputs of photos: tests/data; its mean and std: test_retinanet.py, test_m2det.py",
    "search": "finds regions on photos, before a detector: tests/data/test_proposals.py",
    "at_once": "bounds memory, and is to change nothing: test_rcnn.py",
}
"""Settings that no case here is about, and why."""

Changes = dict[str, Any]
TWO_STAGE = ("fast_rcnn", "faster_rcnn", "mask_rcnn")
RPN = TWO_STAGE[1:]

PRESET: dict[str, Changes] = {
    "retinanet": {"prior": 0.3},  # so that there are detections over the threshold
    "m2det": {"prior": 0.3},
    "rcnn": {"crop_size": 32, "width": 16, "max_detections": 20},
    "fast_rcnn": {"max_detections": 20},
}
"""What a detector has in all cases, besides its first preset."""

WHERE: dict[tuple[str, str], Changes] = {
    **{(name, "smooth_l1_beta"): {"box_loss": "smooth_l1"} for name in ("retinanet", *TWO_STAGE)},
    **{(name, "class_agnostic"): {"scores": "softmax"} for name in TWO_STAGE},
    ("retinanet", "match_high"): {"match_best": False},
    ("retinanet", "keras_layout"): {"backbone": "resnet50"},
    ("ssd", "negatives"): {"least_negatives": 0},
    ("m2det", "negatives"): {"scores": "softmax"},
    ("m2det", "fine_c4"): {"backbone": "resnet50"},
    ("m2det", "nms_sigma"): {"nms": "gaussian"},
    ("yolo", "ignore_by"): {"ignore_threshold": 0.3},
}
"""Changes under which alone a setting is there to matter."""

OTHER: dict[tuple[str, str], Changes] = {
    ("retinanet", "score_threshold"): {"score_threshold": 0.25},
    ("rcnn", "score_threshold"): {"score_threshold": 0.24},
    ("ssd", "score_threshold"): {"score_threshold": 0.5},
    ("m2det", "score_threshold"): {"score_threshold": 0.22},
    ("yolo", "score_threshold"): {"score_threshold": 0.008},
    **{(name, "score_threshold"): {"score_threshold": 0.35} for name in TWO_STAGE},
    ("retinanet", "match_high"): {"match_high": 0.9},
    ("fast_rcnn", "match_high"): {"match_high": 0.9},
    **{(name, "pool_base"): {"pool_base": 28.0} for name in TWO_STAGE},
    **{(name, "rpn_positives"): {"rpn_positives": 0.01} for name in RPN},
    **{(name, "positives"): {"positives": 0.02} for name in RPN},
    **{(name, "neck"): {"neck": "c4", "anchor_sizes": (32,)} for name in RPN},
    **{(name, "first_level"): {"first_level": 2, "anchor_sizes": (16, 32, 64, 128, 256)} for name in RPN},
    ("rcnn", "crop_size"): {"crop_size": 64},
    ("ssd", "first_map"): {"first_map": 4, "scales": (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)},
    ("ssd", "maps_of_four"): {"maps_of_four": (0,)},
    ("ssd", "steps"): {"steps": (4, 8, 16, 24, 48, 48, 48)},
    ("m2det", "scales"): {"scales": 4, "anchor_sizes": (0.08, 0.15, 0.33, 0.51, 0.69)},
    ("m2det", "candidates"): {"candidates": 50},
}
"""The other value where half of it, or the next choice, is none; with what has to change with it."""


def settings_of(name: str, *changes: Changes) -> DetectorSettings:
    kind = DETECTORS[name]
    settings = apply(build(kind.Settings, next(iter(kind.presets.values()))), {"size": SIDE})
    for change in (PRESET.get(name, {}), *changes):
        settings = apply(settings, change)
    return settings


def other(value: Any, kind: Any) -> Any:
    """Another value: the opposite, the next of the choices, half of a number; of several numbers one and a half."""
    if isinstance(value, bool):
        return not value
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return choices[(choices.index(value) + 1) % len(choices)]
    if isinstance(value, str):
        return "mobilenetv2_050"
    if isinstance(value, tuple):
        return tuple(one * 1.5 if isinstance(one, float) else other(one, int) for one in value)
    if isinstance(value, int):
        return value // 2 or value + 1
    return value / 2 or 0.5


def batch_for(name: str) -> Batch:
    """Two photos of noise, four boxes on the first, and 40 regions each, some near the boxes."""
    random = torch.Generator().manual_seed(3)
    images = torch.randint(256, (2, 3, SIDE, SIDE), generator=random, dtype=torch.uint8)
    corners = torch.rand(4, 2, generator=random) * 40
    boxes = torch.cat((corners, corners + 12 + torch.rand(4, 2, generator=random) * 40), dim=1)
    corners = torch.rand(2, 40, 2, generator=random) * 60
    regions = torch.cat((corners, corners + 4 + torch.rand(2, 40, 2, generator=random) * 50), dim=2)
    regions[0, :16] = boxes.repeat(4, 1) + torch.randn(16, 4, generator=random) * 4
    masks = torch.zeros(4, SIDE, SIDE, dtype=torch.bool)
    masks[:, 20:60, 20:60] = True
    kind = DETECTORS[name]
    targets = [Target(boxes, torch.tensor([0, 1, 1, 0])), Target()]
    if kind.needs_masks:
        targets[0].masks, targets[1].masks = masks, masks[:0]
    frames = [Frame(SIDE, SIDE, SIDE, SIDE)] * 2
    return Batch(images, targets, frames, regions.clamp(0, SIDE) if kind.needs_proposals else None)


@cache
def signature(name: str, settings: DetectorSettings) -> list[Any]:
    """What there is to see of a detector: its weights' names and shapes, its losses and its detections."""
    torch.manual_seed(0)
    detector = DETECTORS[name](["apple", "bowl"], settings).train()
    for parameter in detector.parameters():
        parameter.data += torch.randn(parameter.shape) * 0.02
    batch = batch_for(name)
    images, *regions = batch.inputs
    weights = [(key, p.shape, p.requires_grad) for key, p in detector.named_parameters()]
    torch.manual_seed(0)
    with torch.no_grad():
        losses = detector.losses(images, batch.targets, *regions)
        detector.eval().finish([batch])
        found = detector.decode(detector(*batch.inputs), batch.frames)
    detections = [
        (len(one), *(summed(part) for part in (one.boxes, one.scores, one.labels, one.masks) if part is not None))
        for one in found
    ]
    return [weights, [(key, summed(value)) for key, value in losses.items()], detections]


def summed(values: Tensor) -> float:
    assert values.isfinite().all()
    return round(float(values.double().sum()), 5)


@pytest.mark.parametrize("name", DETECTORS)
def test_the_same_settings_do_the_same(name: str) -> None:
    """Without which any change would seem to matter."""
    settings = settings_of(name)
    assert signature(name, settings) == signature.__wrapped__(name, settings)
    assert all(count > 5 for count, *_ in signature(name, settings)[2])


CASES = [(name, setting) for name, kind in DETECTORS.items() for setting in kind.Settings.model_fields]


@pytest.mark.parametrize(("name", "setting"), [case for case in CASES if case[1] not in ELSEWHERE])
def test_a_setting_matters(name: str, setting: str) -> None:
    where = WHERE.get((name, setting), {})
    before = settings_of(name, where)
    value = getattr(before, setting)
    change = OTHER.get((name, setting)) or {setting: other(value, type(before).model_fields[setting].annotation)}
    after = settings_of(name, where, change)
    assert getattr(after, setting) != value
    matters = signature(name, after) != signature(name, before)
    assert matters
