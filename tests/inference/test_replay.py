"""Functions repeated by a GPU itself: the same numbers as when called. Skipped where torch finds no CUDA GPU."""

from __future__ import annotations

import copy
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import foodbox
from foodbox.config import TrainSettings
from foodbox.data import tables
from foodbox.data.formats import FORMATS
from foodbox.detectors.retinanet import LIGHT, RetinaNet, RetinaNetSettings
from foodbox.inference import kernels, replay
from foodbox.inference.kernels import Kernels
from foodbox.inference.replay import Replayed
from foodbox.records import Dataset, Target
from foodbox.training.optimiser import Muon, make_optimiser, set_rate
from foodbox.training.recorded_step import replayed
from foodbox.weights.model_file import save_model
from tests.inference.test_kernels import level

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU")
CUDA = torch.device("cuda")
DEPTHWISE = nn.Conv2d(4, 4, 3, groups=4)


def test_each_shape_has_its_own_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stay what they are when the next come; a shape that came often is recorded anew, with better kernels."""
    monkeypatch.setattr(kernels, "WORTH", (15, 30))
    calls = []

    def twice(x: Tensor) -> dict[str, Tensor]:
        calls.append((len(x), level()))
        return {"x": 2 * x}

    again = Replayed(twice, CUDA, Kernels(DEPTHWISE))
    inputs = [torch.arange(length) + float(i) for i in range(14) for length in (3, 5)]  # on the CPU, and fetched
    found = [again(x)["x"] for x in inputs]
    for x, doubled in zip(inputs, found, strict=True):
        torch.testing.assert_close(doubled.cpu(), 2 * x)
    # The last of each was recorded; over 15 and 30 are the sixth and eleventh call of the shorter, the fourth and
    # seventh of the longer.
    assert Counter(calls) == dict.fromkeys(itertools.product((3, 5), (0, 1, 2)), replay.PLAIN + 1)


def test_weights_are_read_where_they_lie_and_what_is_kept_of_them_is_made_anew() -> None:
    layer = nn.Linear(4, 4).to(CUDA).requires_grad_(False)
    kept: list[Tensor] = []

    def through(x: Tensor) -> dict[str, Tensor]:
        kept[:] = kept or [layer.weight * 2]  # as folded convolutions are
        return {"x": x @ kept[0] + layer.bias}

    again = Replayed(through, CUDA, Kernels(layer), [layer.weight])
    x = torch.randn(2, 4, device=CUDA)

    def compare() -> None:
        for _ in range(2 * replay.PLAIN):
            torch.testing.assert_close(again(x)["x"], x @ layer.weight * 2 + layer.bias)
            layer.bias.add_(1)

    compare()
    layer.weight.mul_(3)
    kept.clear()
    compare()


def batches(count: int) -> Iterator[tuple[Tensor, list[Target]]]:
    """Two photos each, of one shape: on the first a box more from batch to batch, on the second none."""
    for i in range(count):
        corner = torch.rand(i + 1, 2) * 40
        boxes = torch.cat((corner, corner + 30), dim=1)
        yield torch.randint(256, (2, 3, 96, 128), dtype=torch.uint8), [Target(boxes, torch.arange(i + 1) % 2), Target()]


def twins() -> tuple[RetinaNet, RetinaNet]:
    torch.manual_seed(0)
    start = RetinaNet(["a", "b"], RetinaNetSettings(**LIGHT)).to(CUDA).to(memory_format=torch.channels_last).train()
    return start, copy.deepcopy(start)


def learning(detector: RetinaNet, optimiser: Muon | None = None) -> Callable[..., dict[str, Tensor]]:
    """Losses and gradients, and with an optimiser its step."""

    def learn(images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        losses = detector.losses(images, targets)
        detector.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        if optimiser is not None:
            optimiser.step()
        return {part: loss.detach() for part, loss in losses.items()}

    return learn


def test_gradients_are_those_of_a_plain_step() -> None:
    ours, plain = twins()
    again, learn = replayed(learning(ours), CUDA, Kernels(ours)), learning(plain)
    for images, targets in batches(5):
        found = {part: float(value) for part, value in again(images, targets).items()}
        with Kernels.chosen(0):  # as the recorded ones are
            expected = learn(images.to(CUDA), [target.to(CUDA) for target in targets])
        assert found == pytest.approx({part: float(value) for part, value in expected.items()}, rel=1e-3)
        for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
            if other.grad is not None:
                assert (one.grad - other.grad).norm() <= 0.02 * other.grad.norm() + 1e-6


def test_a_recorded_step_moves_the_weights_by_its_gradients_at_the_rate_of_its_time() -> None:
    """As the optimiser outside of a recording does by the same gradients; at a rate of zero they stay."""
    ours, plain = twins()
    settings = TrainSettings(warmup=0.5)
    optimisers = [make_optimiser(detector, settings) for detector in (ours, plain)]
    again = replayed(learning(ours, optimisers[0]), CUDA, Kernels(ours))
    for (images, targets), done in zip(batches(6), (0.1, 0.2, 0.3, 0.4, 0.5, 0.0), strict=True):
        before = parameters_of(ours)
        for optimiser in optimisers:
            set_rate(optimiser, settings, done)
        again(images, targets)
        for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
            other.grad = None if one.grad is None else one.grad.clone()
        optimisers[1].step()
        way = parameters_of(ours) - before
        assert (parameters_of(plain) - parameters_of(ours)).norm() <= 0.02 * way.norm() + 1e-6
        assert bool(way.any()) is (done > 0)


def parameters_of(detector: RetinaNet) -> Tensor:
    """All of them, [N]."""
    return torch.cat([parameter.detach().flatten() for parameter in detector.parameters()])


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
