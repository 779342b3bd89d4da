"""Functions repeated by a GPU itself: the same numbers as when called. Skipped where torch finds no CUDA GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import foodbox
from foodbox.data import tables
from foodbox.data.formats import FORMATS
from foodbox.detectors.retinanet import LIGHT, RetinaNet, RetinaNetSettings
from foodbox.inference import replay
from foodbox.inference.replay import Replayed
from foodbox.records import Dataset, Target
from foodbox.training.step import replayed
from foodbox.weights.model_file import save_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU")
CUDA = torch.device("cuda")


def test_each_shape_has_its_own_numbers() -> None:
    calls = []

    def twice(x: Tensor) -> Tensor:
        calls.append(x.shape)
        return 2 * x

    again = Replayed(twice, CUDA)
    for i in range(6):
        for length in (3, 5):
            x = torch.arange(length) + float(i)  # on the CPU, from where it is fetched
            torch.testing.assert_close(again(x).cpu(), 2 * x)
    assert len(calls) == 2 * (replay.PLAIN + 1)  # the last of each shape was recorded


def test_weights_that_are_written_to_are_read_anew() -> None:
    layer = nn.Linear(4, 4).to(CUDA).requires_grad_(False)
    folded: list[Tensor] = []

    def through(x: Tensor) -> Tensor:
        folded[:] = folded or [layer.weight * 2]  # kept by itself, as folded convolutions are
        return x @ folded[0]

    again = Replayed(through, CUDA, layer.parameters())
    x = torch.randn(2, 4, device=CUDA)
    for _ in range(4):
        torch.testing.assert_close(again(x), x @ layer.weight * 2)
    layer.weight.mul_(3)
    folded.clear()
    for _ in range(4):
        torch.testing.assert_close(again(x), x @ layer.weight * 2)


def test_gradients_are_those_of_a_plain_step() -> None:
    torch.manual_seed(0)
    detector = RetinaNet(["a", "b"], RetinaNetSettings(**LIGHT)).to(CUDA).to(memory_format=torch.channels_last).train()
    learning = [parameter for parameter in detector.parameters() if parameter.requires_grad]

    def learn(images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        detector.zero_grad()
        losses = detector.losses(images, targets)
        torch.stack(list(losses.values())).sum().backward()
        return losses

    again = replayed(learn, learning, CUDA)
    for i in range(5):
        images = torch.randint(256, (2, 3, 96, 128), dtype=torch.uint8)
        corner = torch.rand(i + 1, 2) * 40
        boxes = torch.cat((corner, corner + 30), dim=1)
        targets = [Target(boxes, torch.arange(i + 1) % 2), Target()]
        found = {part: float(value) for part, value in again(images, targets).items()}
        gradients = [parameter.grad.clone() for parameter in learning]
        expected = learn(images.to(CUDA), [target.to(CUDA) for target in targets])
        assert found == pytest.approx({part: float(value) for part, value in expected.items()}, rel=1e-3)
        for got, parameter in zip(gradients, learning, strict=True):
            assert (got - parameter.grad).norm() <= 0.02 * parameter.grad.norm() + 1e-6


def test_a_run_on_a_gpu_learns_and_its_model_detects(tmp_path: Path) -> None:
    """The boxes of a photo detected again and again, at last replayed, stay as they were; the CPU has them too."""
    drawn = tables.write_tables(tmp_path / "tables", 24, seed=0, workers=1)
    FORMATS["voc"].write(Dataset(drawn, tables.NAMES), tmp_path / "tables")
    run = foodbox.train(tmp_path / "tables", runs=tmp_path, epochs=15, one_class="dish", size=160)
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert log[-1]["losses"]["boxes"] < 0.6 * log[0]["losses"]["boxes"]
    assert run.scores.ap50 > 0.5
    model, on_cpu = foodbox.load(run.model), foodbox.load(run.model, "cpu")
    path = drawn[0].path
    found = [model.detect(path, 0.3) for _ in range(5)]
    for again in found[1:]:
        torch.testing.assert_close(again.boxes, found[0].boxes)
    assert len(found[0]) == pytest.approx(len(on_cpu.detect(path, 0.3)), abs=2)
    assert len(model.detect(Image.new("RGB", (50, 20)), 0.99)) == 0


def test_the_paper_size_trains_and_detects(tmp_path: Path) -> None:
    settings = RetinaNetSettings(**RetinaNet.presets["torchvision"])
    detector = RetinaNet(["food"], settings)
    save_model(tmp_path / "model.safetensors", detector, {})
    model = foodbox.load(tmp_path / "model.safetensors")
    photo = Image.new("RGB", (640, 480))
    first = model.detect(photo, 0.0)
    for _ in range(3):
        torch.testing.assert_close(model.detect(photo, 0.0).scores, first.scores)
