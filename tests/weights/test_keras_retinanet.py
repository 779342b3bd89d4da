"""keras-retinanet's files: names of deep networks, and files that are refused. Parity is in tests/detectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from foodbox.errors import FoodboxError
from foodbox.weights import keras_retinanet

h5py = pytest.importorskip("h5py")


def named(blocks: tuple[int, int, int, int], classes: int) -> dict[str, np.ndarray]:
    """Tensors under keras-resnet's names, a few of each kind: blocks a, b, c ..., in deep stages a, b1, b2 ...

    Each kernel holds its block's number, counted from 0.
    """
    values = {"conv1/conv1/kernel:0": np.arange(3, dtype=np.float32).reshape(1, 1, 3, 1)}
    for stage, count in enumerate(blocks, start=2):
        for i in range(count):
            letter = chr(ord("a") + i) if count <= 6 or i == 0 else f"b{i}"
            layer = f"res{stage}{letter}_branch2b"
            values[f"{layer}/{layer}/kernel:0"] = np.full((1, 1, 1, 1), i, np.float32)
            layer = f"bn{stage}{letter}_branch2b"
            values[f"{layer}/{layer}/moving_mean:0"] = np.full(1, i, np.float32)
    head = "classification_submodel/pyramid_classification"
    values[f"{head}/kernel:0"] = np.zeros((3, 3, 256, 9 * classes), np.float32)
    values[f"{head}/bias:0"] = np.zeros(9 * classes, np.float32)
    values["regression_submodel/pyramid_regression/bias:0"] = np.zeros(36, np.float32)
    return values


@pytest.mark.parametrize(
    ("blocks", "name"), [((3, 4, 6, 3), "resnet50"), ((3, 4, 23, 3), "resnet101"), ((3, 8, 36, 3), "resnet152")]
)
def test_the_backbone_is_told_from_its_blocks_and_each_takes_its_place(blocks: tuple[int, ...], name: str) -> None:
    weights = keras_retinanet.convert(named(blocks, 3), "a test")  # type: ignore[arg-type]
    assert weights.settings["backbone"] == name
    for layer, count in enumerate(blocks, start=1):
        for i in range(count):
            assert weights.tensors[f"backbone.body.layer{layer}.{i}.conv2.weight"].item() == i
            assert weights.tensors[f"backbone.body.layer{layer}.{i}.bn2.running_mean"].item() == i


def test_kernels_are_turned_and_the_first_reads_red_first() -> None:
    tensors = keras_retinanet.convert(named((3, 4, 6, 3), 3), "a test").tensors
    assert tensors["class_tower.output.weight"].shape == (27, 256, 3, 3)
    assert tensors["backbone.body.conv1.weight"].flatten().tolist() == [2, 1, 0]


@pytest.mark.parametrize(("classes", "names"), [(3, ["0", "1", "2"]), (80, None)])
def test_classes_are_cocos_where_there_are_eighty(classes: int, names: list[str] | None) -> None:
    found = keras_retinanet.convert(named((3, 4, 6, 3), classes), "a test").names
    assert len(found) == classes
    assert found == names if names else (found[0], found[79]) == ("person", "toothbrush")


def test_a_file_of_weights_is_read(tmp_path: Path) -> None:
    values = named((3, 4, 6, 3), 3)
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        for name, value in values.items():
            file[name] = value
    found = keras_retinanet.read(tmp_path / "weights.h5").tensors
    expected = keras_retinanet.convert(values, "a test").tensors
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "names", [["dense_1/dense_1/kernel:0", "dense_1/dense_1/bias:0"], ["kernel:0"], ["a/kernel:0"], []]
)
def test_another_networks_file_is_refused(names: list[str], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        for name in names:
            file[name] = np.zeros((3, 3))
    with pytest.raises(FoodboxError, match=r"other\.h5 is no keras-retinanet model.*resnet50"):
        keras_retinanet.read(tmp_path / "other.h5")


def test_a_backbone_that_is_no_resnet_is_refused() -> None:
    with pytest.raises(FoodboxError, match="no keras-retinanet model on a ResNet"):
        keras_retinanet.convert(named((1, 1, 1, 1), 3), "a test")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_cut_short_is_refused(share: float, tmp_path: Path) -> None:
    path = tmp_path / "cut.h5"
    with h5py.File(path, "w") as file:
        for name, value in named((3, 4, 6, 3), 3).items():
            file[name] = value
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(FoodboxError, match=r"cut\.h5 is not a whole \.h5 file"):
        keras_retinanet.read(path)


def test_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.h5"
    path.write_text("hello there")
    with pytest.raises(FoodboxError, match=r"text\.h5 is not a whole \.h5 file"):
        keras_retinanet.read(path)
