"""Our model files: the same outputs after saving and loading, what the header says, and files that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from foodbox.detectors.retinanet import LIGHT, RetinaNet, RetinaNetSettings
from foodbox.errors import FoodboxError
from foodbox.records import Preprocessing
from foodbox.weights.model_file import build, read_model, save_model

NAMES = ["apple", "떡볶이"]
RUN = {"run": "first", "epoch": 3, "train": {"one_class": None}}


@pytest.fixture(scope="module")
def detector() -> RetinaNet:
    torch.manual_seed(0)
    values = LIGHT | {
        "preprocessing": Preprocessing(size=64, mean=(0.5, 0.5, 0.4)),
        "pyramid_channels": 8,
        "prior": 0.1,
    }
    result = RetinaNet(NAMES, RetinaNetSettings(**values)).eval()
    for buffer in (m for m in result.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        buffer.running_mean.normal_(std=0.1)  # type: ignore[union-attr]
    return result


@pytest.fixture
def file(detector: RetinaNet, tmp_path: Path) -> Path:
    save_model(tmp_path / "model.safetensors", detector, RUN)
    return tmp_path / "model.safetensors"


def rewritten(file: Path, header: dict[str, str]) -> Path:
    """The same tensors under another header."""
    save_file(load_file(file), file, header)
    return file


def header_of(file: Path) -> dict[str, str]:
    with safe_open(file, framework="pt") as opened:
        result: dict[str, str] = opened.metadata()
    return result


def test_a_saved_model_gives_the_same_outputs_to_the_bit(detector: RetinaNet, file: Path) -> None:
    loaded = build(read_model(file))
    pixels = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        one, other = detector(pixels), loaded(pixels)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert loaded.names == NAMES
    assert loaded.settings == detector.settings
    assert not loaded.training


def test_the_header_says_all_that_using_the_model_needs(detector: RetinaNet, file: Path) -> None:
    header = header_of(file)
    assert (header["format"], header["format_version"], header["detector"]) == ("foodbox", "3", "retinanet")
    assert json.loads(header["names"]) == NAMES
    assert json.loads(header["run"]) == RUN
    settings = json.loads(header["settings"])
    assert settings["preprocessing"]["mean"] == [0.5, 0.5, 0.4]
    assert settings["prior"] == 0.1
    assert settings.keys() == RetinaNetSettings.model_fields.keys()
    assert read_model(file).run == RUN


def test_a_model_is_written_over_an_older_one_and_leaves_nothing_beside_it(detector: RetinaNet, file: Path) -> None:
    save_model(file, detector, {"epoch": 4})
    assert read_model(file).run == {"epoch": 4}
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_file_cut_short_is_refused(share: float, file: Path) -> None:
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(FoodboxError, match=r"model\.safetensors is not a whole model file.*Copy it again"):
        read_model(file)


def test_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_text("hello there, this is no model")
    with pytest.raises(FoodboxError, match="is not a whole model file"):
        read_model(path)


@pytest.mark.parametrize("header", [None, {"format": "pt"}])
def test_other_tensors_are_refused(header: dict[str, str] | None, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path, header)
    with pytest.raises(FoodboxError, match=r"other\.safetensors holds tensors but no foodbox model"):
        read_model(path)


@pytest.mark.parametrize("version", ["2", "4"])
def test_another_version_is_refused(file: Path, version: str) -> None:
    with pytest.raises(FoodboxError, match=rf"format version {version}.*reads version 3.*the foodbox that wrote it"):
        read_model(rewritten(file, header_of(file) | {"format_version": version}))


@pytest.mark.parametrize(
    "changes",
    [
        {"detector": "frcnn"},
        {"settings": '{"prior": 7}'},
        {"settings": '{"no_such": 7}'},
        {"names": '["one", "more", "class"]'},
    ],
)
def test_a_header_that_does_not_fit_is_refused(changes: dict[str, str], file: Path) -> None:
    with pytest.raises(FoodboxError, match=r"model\.safetensors"):
        build(read_model(rewritten(file, header_of(file) | changes)))


@pytest.mark.parametrize("part", ["format_version", "detector", "settings", "names", "run"])
@pytest.mark.parametrize("how", ["missing", "no JSON"])
def test_a_damaged_header_is_refused(part: str, how: str, file: Path) -> None:
    header = header_of(file)
    if how == "missing":
        del header[part]
    else:
        header[part] = "{half"
    with pytest.raises(FoodboxError, match=r"model\.safetensors"):
        build(read_model(rewritten(file, header)))


@pytest.mark.parametrize("change", ["less", "more"])
def test_tensors_that_do_not_fill_the_detector_are_refused(change: str, file: Path) -> None:
    header, tensors = header_of(file), load_file(file)
    if change == "less":
        del tensors["pyramid.p6.weight"]
    else:
        tensors["pyramid.p8.weight"] = torch.zeros(3)
    save_file(tensors, file, header)
    with pytest.raises(FoodboxError, match=r"does not fit the detector retinanet.*pyramid\.p[68]\.weight"):
        build(read_model(file))


def test_settings_that_json_cannot_hold_are_kept(detector: RetinaNet, tmp_path: Path) -> None:
    """Tuples of fractions come back exactly."""
    values: dict[str, Any] = {"anchor_scales": (1.0, 2 ** (1 / 3)), "smooth_l1_beta": 1 / 9}
    settings = detector.settings.model_copy(update=values)
    save_model(tmp_path / "model.safetensors", RetinaNet(NAMES, settings), {})
    assert build(read_model(tmp_path / "model.safetensors")).settings == settings
