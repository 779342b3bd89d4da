"""Whatever a caller has torch make by default: our tensors are float32 and on the CPU, and theirs stay theirs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import foodbox
from foodbox.defaults import usual_defaults
from foodbox.detectors.retinanet import RetinaNet, RetinaNetSettings
from foodbox.model import Model
from foodbox.records import Dataset, Preprocessing
from tests.conftest import NAMES

USUAL = torch.float32, "cpu"


def made() -> tuple[torch.dtype, str]:
    """What torch makes where nobody says what."""
    tensor = torch.zeros(1)
    return tensor.dtype, tensor.device.type


@contextlib.contextmanager
def others(dtype: torch.dtype, device: str) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


OTHERS = pytest.mark.parametrize(
    ("dtype", "device"), [(torch.float64, "cpu"), (torch.bfloat16, "cpu"), (torch.float32, "meta")]
)


@OTHERS
def test_they_are_usual_within_and_the_callers_afterwards(dtype: torch.dtype, device: str) -> None:
    with others(dtype, device):
        with usual_defaults(), usual_defaults():
            assert made() == USUAL
        assert made() == (dtype, device)
        with pytest.raises(ZeroDivisionError), usual_defaults():
            _ = 1 / 0
        assert made() == (dtype, device)
    assert made() == USUAL


def test_threads_that_end_in_another_order_leave_the_callers() -> None:
    inside, may_end = threading.Event(), threading.Event()

    def longer() -> tuple[torch.dtype, str]:
        with usual_defaults():
            inside.set()
            may_end.wait(10)
            return made()

    with others(torch.float64, "cpu"), ThreadPoolExecutor(1) as pool:
        with usual_defaults():
            first = pool.submit(longer)
            inside.wait(10)
        may_end.set()
        assert first.result() == USUAL
        assert made() == (torch.float64, "cpu")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    settings = RetinaNetSettings(
        preprocessing=Preprocessing(size=64), backbone="resnet18", pyramid_channels=8, prior=0.5, max_detections=20
    )
    file = tmp_path_factory.mktemp("model") / "best.safetensors"
    Model(RetinaNet(NAMES, settings), {}, "cpu").save(file)
    return file


@OTHERS
def test_models_detect_the_same_and_are_scored_the_same(
    dtype: torch.dtype, device: str, model_file: Path, drawn: Dataset, voc_folder: Path
) -> None:
    plain = foodbox.load(model_file)
    wanted = plain.detect(drawn.photos[0].path, 0.1)
    scores = foodbox.evaluate(plain, voc_folder)
    with others(dtype, device):
        model = foodbox.load(model_file)
        (of_many,), _ = foodbox.detect(model, drawn.photos[0].path, min_score=0.1)
        for one in (plain.detect(drawn.photos[0].path, 0.1), model.detect(drawn.photos[0].path, 0.1), of_many):
            assert len(one) > 0
            assert (one.boxes.dtype, one.boxes.device.type) == USUAL
            assert torch.equal(one.boxes, wanted.boxes)
            assert torch.equal(one.scores, wanted.scores)
        assert foodbox.evaluate(model, voc_folder).to_dict() == scores.to_dict()
        assert made() == (dtype, device)


def test_between_two_photos_they_are_the_callers(model_file: Path, drawn: Dataset) -> None:
    model = foodbox.load(model_file)
    with others(torch.float64, "meta"):
        found = iter(model.detect_many(drawn.photos[:2], 0.1))
        assert made() == (torch.float64, "meta")
        for _ in range(2):
            assert next(found).boxes.dtype == torch.float32
            assert made() == (torch.float64, "meta")
        assert list(found) == []
        found = iter(model.detect_many(drawn.photos[:2], 0.1))
        next(found)
        del found
        assert made() == (torch.float64, "meta")


@OTHERS
def test_trained_and_exported_as_ever(
    dtype: torch.dtype, device: str, model_file: Path, voc_folder: Path, tmp_path: Path
) -> None:
    with others(dtype, device):
        run = foodbox.train(voc_folder, runs=tmp_path / "runs", epochs=1, size=64, weights="none", workers=0)
        exported = foodbox.export(model_file, out=tmp_path / "a.xml").model
        assert made() == (dtype, device)
    assert next(foodbox.load(run.model).detector.parameters()).dtype == torch.float32
    assert foodbox.load(exported).names == NAMES
