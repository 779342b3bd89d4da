"""What losses teach, of detectors whose outputs are made by hand alike: the class, and by which settings."""

from __future__ import annotations

import math
from types import ModuleType

import pytest
import torch

from foodbox.records import Target
from tests.detectors import test_m2det as m2det
from tests.detectors import test_retinanet as retinanet
from tests.detectors import test_ssd as ssd

SCORES = [(retinanet, "sigmoid"), (retinanet, "objectness"), *((m2det, scores) for scores in m2det.SCORES)]


@pytest.mark.parametrize(("of", "scores"), SCORES)
@pytest.mark.parametrize("label", [0, 1, 2])
def test_the_class_that_is_taught_is_the_boxs(of: ModuleType, scores: str, label: int) -> None:
    """A network that is sure of the box's class and of nothing else has no loss."""
    before = int(scores == "softmax")
    logits = torch.full((1, len(of.APART), 1 if scores == "objectness" else 3 + before), -30.0)
    if scores == "softmax":
        logits[:, :, 0] = 30.0  # background
    logits[0, 0, 0 if scores == "objectness" else before + label] = 60.0
    outputs, target = of.outputs_at(of.APART, logits), [Target(of.APART[:1], torch.tensor([label]))]
    if scores == "objectness":
        outputs["classes"][:, label] = 60.0
    found = of.small(scores=scores).losses_of(outputs, target)
    assert float(found["classes"]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("of", "values"), [(retinanet, 3), (m2det, 4), (ssd, 4)])
def test_the_weight_of_boxes_is_the_settings(of: ModuleType, values: int) -> None:
    detector = of.small(box_loss="smooth_l1")
    outputs = of.outputs_at(of.APART, torch.zeros(1, len(of.APART), values), torch.full((1, len(of.APART), 4), 0.5))
    target = [Target(of.APART[:1], torch.tensor([1]))]
    one, two = (of.with_settings(detector, box_weight=weight).losses_of(outputs, target) for weight in (1.0, 2.0))
    assert float(two.pop("boxes")) == pytest.approx(2 * float(one.pop("boxes")))
    assert {part: float(loss) for part, loss in two.items()} == {part: float(loss) for part, loss in one.items()}


@pytest.mark.parametrize("of", [retinanet, m2det])
def test_alpha_and_gamma_are_the_settings(of: ModuleType) -> None:
    detector = of.with_settings(of.small(scores="sigmoid"), focal_alpha=0.5, focal_gamma=1.0)
    target = [Target(of.APART[:1], torch.tensor([1]))]
    found = detector.losses_of(of.outputs_at(of.APART, torch.zeros(1, 3, 3)), target)
    assert float(found["classes"]) == pytest.approx(9 * 0.5 * 0.5 * math.log(2))
