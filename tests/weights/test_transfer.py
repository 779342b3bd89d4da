"""Weights put into detectors with other classes: entry by entry, by the classes' names."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from foodbox.detectors.retinanet import RetinaNet, RetinaNetSettings
from foodbox.records import Preprocessing
from foodbox.weights.transfer import Weights, put

OUTPUT = ("class_tower.output.weight", "class_tower.output.bias")
BOX_OUTPUT = ("classes.output.weight", "classes.output.bias")


def detector(names: list[str], **changes: Any) -> RetinaNet:
    """A small one whose every tensor is random, norms and biases too."""
    values = {"preprocessing": Preprocessing(size=64), "backbone": "resnet18", "pyramid_channels": 8, "tower_layers": 1}
    result = RetinaNet(names, RetinaNetSettings(**values | changes))
    with torch.no_grad():
        for parameter in result.parameters():
            parameter.normal_()
    return result


def weights_of(given: RetinaNet) -> Weights:
    tensors = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    return Weights(tensors, "a test", given.names, "retinanet")


def entry(weights: dict[str, torch.Tensor], part: str, place: int, row: int, values: int) -> torch.Tensor:
    """The entry of one class for one of nine anchors at a place, or for any box."""
    return weights[part][place * values + row]


def test_the_same_classes_take_everything() -> None:
    given, mine = detector(["a", "b"]), detector(["a", "b"])
    result = put(weights_of(given), mine)
    assert result.fresh == []
    assert all(torch.equal(mine.state_dict()[name], tensor) for name, tensor in given.state_dict().items())
    assert str(result) == f"{len(result.kept)} of {len(result.kept)} tensors kept"


@pytest.mark.parametrize("scores", ["sigmoid", "objectness"])
@pytest.mark.parametrize("names", [["c", "a", "b"], ["b"], ["x", "c", "y", "a"]])
def test_classes_keep_what_they_know_by_name(names: list[str], scores: str) -> None:
    """In another order, a part of them, and among new ones."""
    theirs = ["a", "b", "c"]
    given, mine = detector(theirs, scores=scores), detector(names, scores=scores)
    before = {name: tensor.clone() for name, tensor in mine.state_dict().items()}
    result = put(weights_of(given), mine)
    after, source = mine.state_dict(), given.state_dict()
    told = len(names) > 1 or scores == "sigmoid"  # one class needs no telling apart
    assert result.classes == [name for name in names if name in theirs and told]
    output, places = (OUTPUT, 9) if scores == "sigmoid" else (BOX_OUTPUT if told else (), 1)
    for part in output:
        for place in range(places):
            for i, name in enumerate(names):
                found = entry(after, part, place, i, len(names))
                if name in theirs:
                    expected = entry(source, part, place, theirs.index(name), len(theirs))
                else:
                    expected = entry(before, part, place, i, len(names))
                assert torch.equal(found, expected)
    others = [name for name in after if name not in output]
    assert all(torch.equal(after[name], source[name]) for name in others if not name.endswith("num_batches_tracked"))
    assert set(result.fresh) == (set(output) if "x" in names else set())


def test_what_has_another_shape_starts_anew_and_is_said() -> None:
    given, mine = detector(["a"], pyramid_channels=16), detector(["a"])
    before = {name: tensor.clone() for name, tensor in mine.state_dict().items()}
    result = put(weights_of(given), mine)
    assert "pyramid.lateral.0.weight" in result.fresh
    assert torch.equal(mine.state_dict()["pyramid.lateral.0.weight"], before["pyramid.lateral.0.weight"])
    assert torch.equal(mine.backbone.body.conv1.weight, given.backbone.body.conv1.weight)
    assert str(result).endswith(
        "randomly initialised: box_tower, box_tower.output, class_tower, class_tower.output, pyramid"
    )


@pytest.mark.parametrize("names", [["a", "b"], ["b", "c"]])
def test_one_objectness_and_a_sigmoid_a_class_do_not_mix(names: list[str]) -> None:
    given, mine = detector(["a", "b"], scores="objectness"), detector(names, scores="sigmoid")
    before = mine.class_tower.output.weight.clone()
    assert set(put(weights_of(given), mine).fresh) == set(OUTPUT)
    assert torch.equal(mine.class_tower.output.weight, before)


def test_a_backbone_alone_leaves_the_rest_as_it_starts() -> None:
    given, mine = detector(["a"]), detector(["b"])
    before = mine.class_tower.output.weight.clone()
    backbone = {name: tensor for name, tensor in given.state_dict().items() if name.startswith("backbone.")}
    result = put(Weights(backbone, "a test"), mine)
    assert torch.equal(mine.backbone.body.layer1[0].conv1.weight, given.backbone.body.layer1[0].conv1.weight)
    assert torch.equal(mine.class_tower.output.weight, before)
    assert result.classes == []
    assert {name.split(".")[0] for name in result.kept} == {"backbone"}
    assert {name.split(".")[0] for name in result.fresh} == {"pyramid", "class_tower", "box_tower"}
