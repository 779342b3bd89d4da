"""Reading exported models: what is missing, broken, foreign or of another version is said in a sentence."""

from __future__ import annotations

import copy
import pickle
import re
import sys
from pathlib import Path

import pytest
import torch

import foodbox
from foodbox.detectors.retinanet import RetinaNet, RetinaNetSettings
from foodbox.errors import FoodboxError, UsageError
from foodbox.inference import openvino
from foodbox.inference.exported import VERSION, library
from foodbox.records import Preprocessing
from foodbox.weights.model_file import save_model
from tests.conftest import NAMES

theirs = library("openvino")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model, exported."""
    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    settings = RetinaNetSettings(preprocessing=Preprocessing(size=64), backbone="resnet18", pyramid_channels=8)
    save_model(folder / "a.safetensors", RetinaNet(NAMES, settings), {"epoch": 3})
    return foodbox.export(folder / "a.safetensors").model


@pytest.fixture
def exported(original: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    for file in (original, original.with_suffix(".bin")):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / original.name


def test_header(exported: Path) -> None:
    _, header = openvino.read(exported)
    assert header["export_version"] == VERSION
    assert header["detector"] == "retinanet"
    assert header["run"] == '{"epoch": 3}'


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no exported model"):
        foodbox.load(tmp_path / "a.xml")


def test_without_its_weights(exported: Path) -> None:
    exported.with_suffix(".bin").unlink()
    with pytest.raises(FoodboxError, match=r"its weights, a\.bin, are not beside it"):
        foodbox.load(exported)


@pytest.mark.parametrize("half", ["a.xml", "a.bin"])
def test_cut_short(exported: Path, half: str) -> None:
    file = exported.with_name(half)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(FoodboxError, match="no whole exported model"):
        foodbox.load(exported)


def test_another_models_weights_are_refused(exported: Path, tmp_path: Path) -> None:
    """Of the same network, so that OpenVINO takes them."""
    torch.manual_seed(1)
    settings = RetinaNetSettings(preprocessing=Preprocessing(size=64), backbone="resnet18", pyramid_channels=8)
    save_model(tmp_path / "b.safetensors", RetinaNet(NAMES, settings), {"epoch": 3})
    other = foodbox.export(tmp_path / "b.safetensors").model
    foodbox.load(other)
    exported.with_suffix(".bin").write_bytes(other.with_suffix(".bin").read_bytes())
    with pytest.raises(FoodboxError, match=r"a\.xml was written with other weights than a\.bin has.*Copy both"):
        foodbox.load(exported)


def test_exports_of_before_say_nothing_of_their_weights(exported: Path, tmp_path: Path) -> None:
    entry = re.compile(rf"<{openvino.DIGEST} value=\"[0-9a-f]{{64}}\" ?/>")
    text, count = entry.subn("", exported.read_text(encoding="utf-8"))
    assert count == 1
    exported.write_text(text, encoding="utf-8")
    assert foodbox.load(exported).names == NAMES


def test_an_exported_model_is_loaded_anew_instead_of_copied(exported: Path) -> None:
    model = foodbox.load(exported)
    for again in (copy.deepcopy, pickle.dumps):
        with pytest.raises(UsageError, match=r"cannot be copied or pickled: load it from its file"):
            again(model)


def test_another_programs_graph(tmp_path: Path) -> None:
    images = theirs.opset13.parameter([1, 3, 8, 8])
    theirs.save_model(theirs.Model([theirs.opset13.relu(images)], [images]), tmp_path / "a.xml")
    (tmp_path / "a.bin").touch()
    with pytest.raises(FoodboxError, match="of another program"):
        foodbox.load(tmp_path / "a.xml")


@pytest.mark.parametrize(("name", "match"), [("export_version", "export version 99"), ("format_version", "version 99")])
def test_of_a_newer_foodbox(exported: Path, name: str, match: str, tmp_path: Path) -> None:
    graph = theirs.Core().read_model(exported)
    graph.set_rt_info("99", ["foodbox", name])
    theirs.save_model(graph, tmp_path / "new.xml")
    with pytest.raises(FoodboxError, match=match):
        foodbox.load(tmp_path / "new.xml")


def test_without_openvino(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(FoodboxError, match=r'pip install "foodbox\[export\]"'):
        foodbox.load(exported)


def test_nobody_is_told_that_it_runs() -> None:
    library("openvino")
    with pytest.raises(ImportError):
        import openvino_telemetry  # noqa: F401


def test_anchors_of_many_sizes_do_not_pile_up(exported: Path) -> None:
    network = foodbox.load(exported).detector.network
    assert isinstance(network, openvino.Network)
    for side in range(1, openvino.LAYOUTS + 3):
        outputs = network(torch.zeros(1, 3, 32, 32 * side, dtype=torch.uint8))
        assert len(outputs["anchors"]) == outputs["logits"].shape[1]
        assert len(network._layouts) <= openvino.LAYOUTS
