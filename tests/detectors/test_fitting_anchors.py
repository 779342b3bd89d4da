"""Anchors without the network: the same that forward gives, and those that fit a person's boxes better."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou

from foodbox.configure import apply
from foodbox.detectors import DETECTORS
from foodbox.detectors.base import Detector
from foodbox.detectors.retinanet import RetinaNet, RetinaNetSettings
from foodbox.records import Preprocessing

# Of any preset, but fast: resnet18 has keras-retinanet's layout, too.
FAST = {"backbone": "resnet18", "pyramid_channels": 16, "frozen_stages": 0}
SETTINGS = RetinaNetSettings(preprocessing=Preprocessing(size=320))


def boxes_of_side(low: float, high: float, ratio: float = 1.0, count: int = 60) -> Tensor:
    """Boxes [N, 4] with widths between two numbers, `ratio` times as high, on an input of 320 x 320."""
    width = low + (high - low) * torch.rand(count)
    sides = torch.stack((width, width * ratio), 1)
    corner = torch.rand(count, 2) * (320 - sides).clamp(min=0)
    return torch.cat((corner, corner + sides), 1)


def fitted(boxes: Tensor, own: RetinaNetSettings = SETTINGS) -> RetinaNetSettings:
    return apply(own, RetinaNet.fit_anchors(own, boxes, 320, 320))


def overlap(boxes: Tensor, own: RetinaNetSettings) -> float:
    return float(box_iou(boxes, RetinaNet.anchors_of(own, 320, 320)).amax(1).mean())


@pytest.mark.parametrize("preset", RetinaNet.presets)
def test_anchors_are_those_of_forward(preset: str) -> None:
    """For sides that are no multiple of any stride as well, and smaller than the largest stride."""
    own = RetinaNetSettings(**RetinaNet.presets[preset] | FAST)
    detector = RetinaNet(["food"], own).eval()
    for height, width in [(64, 96), (65, 97), (33, 64), (127, 129), (100, 75), (7, 300), (1, 1)]:
        with torch.no_grad():
            outputs = detector(torch.zeros(1, 3, height, width))
        anchors = RetinaNet.anchors_of(own, height, width)
        assert torch.equal(anchors, outputs["anchors"]), (height, width)
        assert len(anchors) == int(outputs["levels"].sum())


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(st.floats(0, 300), st.floats(0, 300), st.floats(0.5, 300), st.floats(0.5, 300)),
        min_size=1, max_size=20,
    )
)  # fmt: skip
def test_fitting_never_lowers_the_mean_best_overlap(corners: list[tuple[float, ...]]) -> None:
    boxes = torch.tensor(corners)
    boxes[:, 2:] += boxes[:, :2]
    assert overlap(boxes, fitted(boxes)) >= overlap(boxes, SETTINGS) - 1e-6


def test_small_boxes_get_smaller_anchors() -> None:
    small = boxes_of_side(8, 20)
    own = fitted(small)
    assert overlap(small, own) > overlap(small, SETTINGS) + 0.1
    assert own.anchor_sizes[0] < 20
    # The steps from level to level stay the paper's: each twice the one before.
    assert [b / a for a, b in zip(own.anchor_sizes, own.anchor_sizes[1:], strict=False)] == pytest.approx([2] * 4)


def test_flat_boxes_get_flat_anchors() -> None:
    """Signs six times as wide as high: no ratio of the paper's comes near."""
    signs = boxes_of_side(120, 300, ratio=1 / 6)
    own = fitted(signs)
    assert all(ratio == pytest.approx(1 / 6, rel=1e-3) for ratio in own.anchor_ratios)
    assert overlap(signs, own) > overlap(signs, SETTINGS) + 0.2


def test_boxes_that_the_papers_anchors_fit_keep_them() -> None:
    """The boxes are anchors themselves."""
    anchors = RetinaNet.anchors_of(SETTINGS, 320, 320)
    inside = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2:] <= 320).all(1)
    own = fitted(anchors[inside][::37])
    assert own.anchor_sizes == SETTINGS.anchor_sizes
    assert own.anchor_ratios == SETTINGS.anchor_ratios


@pytest.mark.parametrize("preset", RetinaNet.presets)
def test_every_choice_is_a_valid_setting_of_as_many_anchors(preset: str) -> None:
    """As many at each place as before, so that the heads' starting weights still fit."""
    own = RetinaNetSettings(**RetinaNet.presets[preset])
    for count in (1, 2, 60):
        choices = RetinaNet.anchor_choices(own, boxes_of_side(10, 200, ratio=0.7, count=count))
        counts = {len(RetinaNet.anchors_of(apply(own, choice), 64, 96)) for choice in choices}
        assert counts == {len(RetinaNet.anchors_of(own, 64, 96))}


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_can_be_asked(name: str) -> None:
    """What `foodbox check --detector` does, with the first preset."""
    kind = DETECTORS[name]
    own: Any = kind.Settings(**next(iter(kind.presets.values())))
    changes = kind.fit_anchors(own, boxes_of_side(20, 200), 320, 320)
    assert kind.anchors_of(apply(own, changes), 320, 320).shape[1] == 4


def test_a_detector_without_anchors_has_nothing_to_fit() -> None:
    class Free(Detector):
        pass

    assert Free.anchors_of(SETTINGS, 320, 320).shape == (0, 4)
    assert Free.fit_anchors(SETTINGS, boxes_of_side(20, 50), 320, 320) == {}
