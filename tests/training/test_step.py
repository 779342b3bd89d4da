"""One step: the ways in which a GPU may take it give the losses and gradients of the plain one."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from foodbox.config import TrainSettings
from foodbox.configure import build
from foodbox.detectors import DETECTORS, base, retinanet
from foodbox.detectors.retinanet import LIGHT, RetinaNet, RetinaNetSettings
from foodbox.errors import FoodboxError, UsageError
from foodbox.records import Batch, Frame, Target, stack_targets
from foodbox.training.choices import way_of
from foodbox.training.pending_loss import PendingLoss
from foodbox.training.step import TrainStep

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def small(**changes: object) -> RetinaNet:
    torch.manual_seed(0)
    return RetinaNet(["a", "b"], RetinaNetSettings(**LIGHT | changes)).train()


def some_targets(*counts: int) -> list[Target]:
    corners = [torch.rand(count, 2) * 40 for count in counts]
    return [Target(torch.cat((c, c + 30), 1), torch.arange(len(c)) % 2) for c in corners]


def slopes(step: TrainStep, images: Tensor, targets: list[Target]) -> tuple[dict[str, float], list[Tensor]]:
    step.zero_grad()
    losses = step(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    gradients = [p.grad.clone() for p in step.parameters() if p.grad is not None]
    return {part: float(value.detach()) for part, value in losses.items()}, gradients


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
@pytest.mark.parametrize("scores", ["sigmoid", "objectness"])
@pytest.mark.parametrize("loss_per", ["photo", "batch"])
def test_all_anchors_give_what_the_matched_alone_give(
    scores: str, box_loss: str, loss_per: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As GPUs take them, which would have to be waited for to know how many were matched."""
    step = TrainStep(small(scores=scores, box_loss=box_loss, loss_per=loss_per))
    images, targets = torch.randint(256, (3, 3, 96, 64), dtype=torch.uint8), some_targets(2, 0, 1)
    expected, gradients = slopes(step, images, targets)
    monkeypatch.setattr(retinanet, "only", lambda found: ...)
    found, again = slopes(step, images, targets)
    assert found == pytest.approx(expected, rel=1e-4)
    assert expected["boxes"] > 0.1
    for got, wanted in zip(again, gradients, strict=True):
        assert (got - wanted).norm() <= 1e-3 * wanted.norm() + 1e-6


def test_the_losses_compile_in_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a break, and for other numbers of boxes without being compiled again."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager", fullgraph=True))
    detector = small()
    plain, compiled = TrainStep(detector), TrainStep(detector, compiled=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for counts in ((1, 2), (5, 0)):
            images, targets = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8), some_targets(*counts)
            expected, gradients = slopes(plain, images, targets)
            found, again = slopes(compiled, images, targets)
            assert found == pytest.approx(expected, rel=1e-4)
            for got, wanted in zip(again, gradients, strict=True):
                assert (got - wanted).norm() <= 1e-3 * wanted.norm() + 1e-6


@pytest.mark.parametrize(
    ("name", "preset", "changes", "device", "way"),
    [
        ("retinanet", "light", {}, CPU, "plain"),
        ("retinanet", "light", {}, CUDA, "replayed"),
        ("retinanet", "light", {"gpu_step": "plain"}, CUDA, "plain"),
        ("retinanet", "light", {"freeze": "C4"}, CUDA, "plain"),
        ("retinanet", "resnet50", {}, CUDA, "plain"),
        ("retinanet", "resnet50", {"gpu_step": "compiled"}, CUDA, "compiled"),
        ("ssd", "light", {}, CUDA, "plain"),
    ],
)
def test_the_way_of_a_step(name: str, preset: str, changes: dict[str, str], device: torch.device, way: str) -> None:
    detector = DETECTORS[name](["a"], build(DETECTORS[name].Settings, DETECTORS[name].presets[preset]))
    assert way_of(TrainSettings(**changes), detector, device, 1) == way
    assert way_of(TrainSettings(), detector, device, processes=2) == "plain"


@pytest.mark.parametrize("way", ["replayed", "compiled"])
def test_a_way_that_cannot_be_taken_is_refused(way: str) -> None:
    with pytest.raises(UsageError, match=f"--gpu-step {way} needs one CUDA GPU"):
        way_of(TrainSettings(gpu_step=way), small(), CPU, 1)
    ssd = DETECTORS["ssd"](["a"], build(DETECTORS["ssd"].Settings, DETECTORS["ssd"].presets["light"]))
    with pytest.raises(UsageError, match="a detector whose losses never wait"):
        way_of(TrainSettings(gpu_step=way), ssd, CUDA, 1)


def test_a_loss_is_pending_and_names_its_photos() -> None:
    batch = Batch(torch.zeros(1, 3, 8, 8), [Target()], [Frame(8, 8, 8, 8, Path("soup.jpg"))])
    pending = PendingLoss({"classes": torch.tensor(1.5), "boxes": torch.tensor(2.0)}, batch)
    assert pending.value(Path("kept")) == 3.5
    assert dict(zip(pending.parts, pending.losses.tolist(), strict=True)) == {"classes": 1.5, "boxes": 2.0}
    with pytest.raises(FoodboxError, match=r"The loss \(boxes\) is no longer a finite number, at the photos soup.jpg"):
        PendingLoss({"classes": torch.tensor(1.5), "boxes": torch.tensor(torch.inf)}, batch).value(Path("kept"))


def test_targets_are_filled_up_to_a_multiple() -> None:
    boxes, labels = stack_targets(some_targets(3, 7), multiple=4)
    assert boxes.shape == (2, 8, 4)
    assert labels.shape == (2, 8)
    assert (boxes[0, 3:] == 0).all()
    assert stack_targets(some_targets(3, 8), multiple=4)[0].shape == (2, 12, 4)  # at least one is empty


def test_anchors_of_a_size_are_kept() -> None:
    detector = small()
    for side in range(64, 64 + 32 * (base.SIZES_KEPT + 2), 32):
        images = torch.zeros(1, 3, side, 64)
        anchors = detector.anchors_at(images)
        torch.testing.assert_close(anchors, RetinaNet.anchors_of(detector.settings, side, 64))
    assert detector.anchors_at(torch.zeros(1, 3, 64, 64)) is detector.anchors_at(torch.zeros(2, 3, 64, 64))
    assert len(detector._anchors) == base.SIZES_KEPT
