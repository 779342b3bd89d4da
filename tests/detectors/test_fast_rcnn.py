"""Fast R-CNN's own behaviour: pooling, sampling and losses by hand, and that it is Faster R-CNN's second half."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import RoIPool

from foodbox.configure import apply, build
from foodbox.detectors.fast_rcnn import FastRCNN, FastRCNNSettings
from foodbox.detectors.faster_rcnn import FasterRCNN, FasterRCNNSettings
from foodbox.errors import UsageError
from foodbox.layers.roi_heads import sample_regions
from foodbox.ops.boxes import iou
from foodbox.records import Frame, Target
from foodbox.weights.transfer import Weights, put
from tests.conftest import NAMES
from tests.detectors.test_all import grid


def small(**changes: Any) -> FastRCNN:
    settings = build(FastRCNNSettings, FastRCNN.presets["light"])
    return FastRCNN(NAMES, apply(settings, {"size": 64} | changes))


@pytest.fixture(scope="module")
def light() -> FastRCNN:
    return small().eval()


def some_regions(*boxes: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(boxes, dtype=torch.float32).reshape(1, -1, 4)


# -- Faster R-CNN's second half -------------------------------------------------------------------------------------

PAIRS: dict[str, dict[str, Any]] = {
    "light": {},
    "roi pooling": {"pooling": "pool"},
    "scores and a box a class": {"scores": "softmax", "class_agnostic": False},
    "one map": {"neck": "c4", "pooling": "pool"},
    "convolutions in the head": {"box_convs": 2, "norm": "batch"},
}


@pytest.mark.parametrize("changes", PAIRS.values(), ids=PAIRS)
def test_with_faster_rcnns_regions_and_weights_it_finds_what_that_finds(changes: dict[str, Any]) -> None:
    """The weights are carried over by name, and the regions come from outside: the same detections to the bit."""
    whole = apply(build(FasterRCNNSettings, FasterRCNN.presets["light"]), {"size": 96, "nms_iou": 0.3} | changes)
    if whole.neck == "c4":
        whole = apply(whole, {"anchor_sizes": (32,)})
    faster = FasterRCNN(NAMES, whole).eval()
    for layer in (faster.box_head.classes, faster.box_head.boxes):
        torch.nn.init.normal_(layer.weight, std=0.2)  # scores and offsets that tell regions apart
    fast = small(size=96, **changes).eval()
    moved = put(Weights(faster.state_dict(), "a test", NAMES, "faster_rcnn"), fast)
    assert moved.fresh == []
    pixels = torch.randint(256, (2, 3, 96, 96), dtype=torch.uint8)
    with torch.no_grad():
        theirs = faster(pixels)
        ours = fast(pixels, theirs["proposals"])
    for name in ("logits", "deltas", "boxes", "scores", "labels"):
        assert torch.equal(ours[name], theirs[name]), name
    assert int((ours["scores"] > 0).sum()) > 10
    frames = [Frame(120, 90, 96, 72), Frame(50, 96, 50, 96)]
    for mine, other in zip(fast.decode(ours, frames, 0.0), faster.decode(theirs, frames, 0.0), strict=True):
        assert len(mine) > 0
        assert mine.rows() == other.rows()


def test_its_losses_are_faster_rcnns_on_the_same_regions() -> None:
    whole = apply(build(FasterRCNNSettings, FasterRCNN.presets["light"]), {"size": 96})
    faster, fast = FasterRCNN(NAMES, whole).eval(), small(size=96, smooth_l1_beta=1 / 9).eval()
    put(Weights(faster.state_dict(), "a test", NAMES, "faster_rcnn"), fast)
    pixels = torch.randint(256, (1, 3, 96, 96), dtype=torch.uint8)
    targets = [Target(torch.tensor([[10.0, 10, 60, 70], [50.0, 40, 90, 90]]), torch.tensor([2, 0]))]
    regions = grid(96, 96)[None]
    torch.manual_seed(4)
    ours = fast.losses(pixels, targets, regions)
    torch.manual_seed(4)
    drawn = sample_regions(regions, targets, 64, 0.25, 0.5, 0.5)
    theirs = faster.second_losses(faster.maps(pixels)[0], drawn, targets)
    assert ours.keys() - theirs.keys() == {"classes"}  # they are told by the map, not by regions
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


# -- The RoI pooling layer: section 2.1 -----------------------------------------------------------------------------


class Features(torch.nn.Module):
    """A head that hands on what it gets."""

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        return pooled, pooled


def test_roi_pooling_by_hand() -> None:
    """A map of 4 x 4 places of 16 px; a region of 3 x 3 places in 2 x 2 cells, which overlap by the middle place."""
    detector = small(neck="c4", pooling="pool", pool_size=2)
    detector.box_head = Features()  # type: ignore[assignment]
    places = torch.arange(16.0).view(1, 1, 4, 4)
    pooled, _ = detector.head([places], torch.tensor([[0.0, 0, 32, 32], [16.0, 32, 16, 32]]), torch.zeros(2).long())
    assert pooled[0, 0].tolist() == [[5, 6], [9, 10]]
    assert pooled[1, 0].tolist() == [[9, 9], [9, 9]]


def test_regions_are_pooled_from_their_own_photo() -> None:
    detector = small(neck="c4", pooling="pool").eval()
    pixels = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    regions = grid(64, 64)
    with torch.no_grad():
        maps = detector.maps(pixels)[0]
        theirs = RoIPool((7, 7), 1 / 16)(maps[0], [regions, regions])
        logits, _ = detector.box_head(theirs)
        ours = detector(pixels, regions.expand(2, -1, -1))["logits"]
    torch.testing.assert_close(ours.flatten(0, 1), logits)


# -- Mini-batch sampling and the loss: section 2.3 ------------------------------------------------------------------


@pytest.mark.parametrize(("scores", "loss", "values"), [("softmax", "classes", 4), ("objectness", "regions", 2)])
def test_the_loss_by_hand(scores: str, loss: str, values: int) -> None:
    """Two regions, one the box moved by a tenth of its width: log 4 each, and smooth L1 of 1 in its first offset.

    With an objectness log 2, whichever class it is.
    """
    detector = small(scores=scores, box_loss="smooth_l1", smooth_l1_beta=1.0, box_weight=1.0)
    target = Target(torch.tensor([[10.0, 10, 30, 30]]), torch.tensor([1]))
    regions = some_regions((8, 10, 28, 30), (40, 40, 60, 60))
    outputs = torch.zeros(9, values), torch.zeros(9, 1, 4)
    detector.head = lambda maps, boxes, photo: tuple(o[: len(boxes)] for o in outputs)  # type: ignore[method-assign]
    found = detector.losses(torch.zeros(1, 3, 64, 64), [target], regions)
    # The box itself is a region, too: three are drawn, at most a quarter of 64 of them positive.
    assert float(found[loss]) == pytest.approx(math.log(values))
    assert float(found["boxes"]) == pytest.approx(0.5 / 3)  # offset 0.1 of the width, divided by 0.1, is 1


def test_an_objectness_is_of_every_class() -> None:
    """Boxes of other classes than the first are objects, too, to the head's last number."""
    detector = small(positives=1.0)
    torch.nn.init.zeros_(detector.box_head.classes.weight)
    detector.box_head.classes.bias.data = torch.tensor([0.0, 30.0])
    boxes = torch.tensor([[0.0, 0, 20, 20], [30.0, 0, 50, 20], [0.0, 30, 20, 50]])
    found = detector.losses(torch.zeros(1, 3, 64, 64), [Target(boxes, torch.arange(3))], boxes[None])
    assert float(found["regions"].detach()) == pytest.approx(0, abs=1e-6)


def test_regions_that_hardly_overlap_do_not_count() -> None:
    """The paper's [0.1, 0.5): one at 0.05 and one at 0 are left out, one at 0.3 is background."""
    box = torch.tensor([[0.0, 0, 20, 20]])
    regions = some_regions((0, 0, 20, 20), (0, 0, 20, 6), (0, 0, 20, 1), (40, 40, 60, 60))
    assert iou(box, regions[0])[0].tolist() == pytest.approx([1, 0.3, 0.05, 0])
    targets = [Target(box, torch.tensor([0]))]
    drawn = [sample_regions(regions, targets, 64, 0.25, 0.5, 0.5, floor) for floor in (0.1, 0.0)]
    assert [d.labels.tolist() for d in drawn] == [[1, 0, 1], [1, 0, 0, 0, 1]]  # the last is the box itself
    detector = small(match_floor=0.1, samples=2, positives=0.5)
    seen: list[int] = []
    detector.box_head.register_forward_hook(lambda head, inputs, outputs: seen.append(len(inputs[0])))
    detector.losses(torch.zeros(1, 3, 64, 64), targets, regions)
    assert seen == [2]


def test_a_quarter_is_positive() -> None:
    """Of 16 regions a photo 4, where there are many; a photo without boxes gives 16 of background."""
    box = torch.tensor([[0.0, 0, 40, 40]])
    near = torch.tensor([[0.0, 0, 40, 40 - i / 10] for i in range(50)])
    far = torch.tensor([[40.0, 40, 60, 60 - i / 10] for i in range(50)])
    regions = torch.cat((near, far)).expand(2, -1, -1)
    targets = [Target(box, torch.tensor([2])), Target()]
    drawn = sample_regions(regions, targets, 16, 0.25)
    assert [int(((drawn.photo == i) & (drawn.labels == 3)).sum()) for i in (0, 1)] == [4, 0]
    assert [int(((drawn.photo == i) & (drawn.labels == 0)).sum()) for i in (0, 1)] == [12, 16]


def test_a_step_has_a_gradient_in_every_part_that_trains() -> None:
    detector = small().train()
    regions = grid(64, 64).expand(2, -1, -1)
    targets = [Target(torch.tensor([[0.0, 0, 32, 30], [20.0, 20, 44, 44]]), torch.tensor([0, 2]))] * 2
    losses = detector.losses(torch.rand(2, 3, 64, 64) * 255, targets, regions)
    torch.stack(list(losses.values())).sum().backward()
    without = [
        n for n, p in detector.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert without == []


# -- Photos without regions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("regions", [torch.zeros(2, 0, 4), torch.zeros(2, 3, 4)], ids=["none", "zero boxes"])
def test_without_regions_nothing_is_found_and_training_goes_on(light: FastRCNN, regions: Tensor) -> None:
    pixels = torch.rand(2, 3, 64, 64) * 255
    with torch.no_grad():
        found = light.decode(light(pixels, regions), [Frame(64, 64, 64, 64)] * 2, min_score=0.0)
    assert [len(d) for d in found] == [0, 0]
    for target in (Target(), Target(torch.tensor([[5.0, 5, 40, 40]]), torch.tensor([0]))):
        losses = light.losses(pixels, [target, Target()], regions)
        assert all(value.isfinite() for value in losses.values())
        torch.stack(list(losses.values())).sum().backward()


def test_a_photo_with_fewer_regions_is_not_changed_by_the_filling(light: FastRCNN) -> None:
    pixels = torch.rand(1, 3, 64, 64) * 255
    regions = grid(64, 64)[None]
    filled = torch.cat((regions, torch.zeros(1, 6, 4)), dim=1)
    with torch.no_grad():
        few, many = (light.decode(light(pixels, r), [Frame(64, 64, 64, 64)], 0.0)[0] for r in (regions, filled))
    assert few.rows() == many.rows()


# -- Settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("match_high", 0), ("match_low", 0.6), ("match_floor", 0.55), ("samples", 0), ("positives", 0),
        ("pooling", "max"),
        ("proposals", 0), ("search_size", 8), ("search_mode", "slow"), ("neck", "c5"), ("nms_iou", 2),
        ("box_weight", 0),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        apply(FastRCNNSettings(), {name: value})
