"""M2Det against its authors' code: three networks of theirs, filled by name, through the importer."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from foodbox.detectors.m2det import M2Det
from foodbox.weights import m2det
from foodbox.weights.model_file import build
from tests.weights.test_m2det import filled

NETWORKS = ["m2det320_vgg", "m2det320_vgg_sfam", "m2det320_resnet101"]


@pytest.fixture(scope="module", params=NETWORKS)
def reference(request: pytest.FixtureRequest, test_data: Path) -> tuple[str, dict[str, Any]]:
    """What their network gave, and its name."""
    text = (test_data / "conformance" / "m2det" / f"{request.param}.json").read_text(encoding="utf-8")
    return request.param, json.loads(text)


@pytest.fixture(scope="module")
def detector(reference: tuple[str, dict[str, Any]], fill: ModuleType) -> M2Det:
    name, theirs = reference
    detector = build(m2det.convert(filled(theirs, fill), f"{name}.pth"))
    assert isinstance(detector, M2Det)
    return detector


def test_outputs_are_the_authors(
    reference: tuple[str, dict[str, Any]], detector: M2Det, fill: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To 1e-4 of their spread. The image is normalised already, and in their order of colours: blue, green, red."""
    _, theirs = reference
    monkeypatch.setattr(detector, "normalise", lambda images: images)
    image = torch.from_numpy(fill.image(*theirs["input"], seed=theirs["seed"])).flip(1)
    with torch.no_grad():
        outputs = detector(image)
    for name, mine in (("loc", "deltas"), ("conf", "logits")):
        expected, found = theirs["outputs"][name], outputs[mine].numpy()
        assert list(found.shape) == expected["shape"]
        difference = np.abs(np.array(fill.sample(found)) - np.array(expected["sample"]))
        assert difference.max() <= 1e-4 * expected["std"]
        assert found.mean() == pytest.approx(expected["mean"], abs=1e-4 * expected["std"])
        assert found.std() == pytest.approx(expected["std"], rel=1e-4)


def test_default_boxes_are_the_authors(
    reference: tuple[str, dict[str, Any]], detector: M2Det, fill: ModuleType
) -> None:
    """To 1e-5 of the input's side, for all the sampled ones."""
    expected = reference[1]["outputs"]["anchors"]
    x1, y1, x2, y2 = (M2Det.anchors_of(detector.settings, 320, 320) / 320).unbind(1)
    centred = torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), 1).numpy()
    assert list(centred.shape) == expected["shape"]
    assert np.abs(np.array(fill.sample(centred)) - np.array(expected["sample"])).max() <= 1e-5


def test_parameters_are_the_authors(reference: tuple[str, dict[str, Any]], detector: M2Det) -> None:
    """As many numbers as their network has, what is shared counted once and ImageNet's classifier left out."""
    shapes = reference[1]["state"]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    copies = {f"{layer}.{i}" for layer in ("leach", "sfam_module.fc1", "sfam_module.fc2") for i in range(1, 8)}
    once = {
        name: shape
        for name, shape in shapes.items()
        if not name.endswith(statistics)
        and not name.startswith("base.fc.")
        and not any(name.startswith(f"{copy}.") for copy in copies)
    }
    expected = sum(int(np.prod(shape)) for shape in once.values())
    assert sum(p.numel() for p in detector.parameters()) == expected
