"""Mask R-CNN's own behaviour: what it adds to Faster R-CNN, its loss and its masks by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from foodbox.configure import apply
from foodbox.detectors.faster_rcnn import FasterRCNN, FasterRCNNSettings
from foodbox.detectors.mask_rcnn import MaskRCNN, MaskRCNNSettings
from foodbox.errors import FoodboxError, UsageError
from foodbox.layers.roi_heads import Regions
from foodbox.records import Frame, Preprocessing, Target
from tests.conftest import NAMES

PRESETS = {name: MaskRCNNSettings(**values) for name, values in MaskRCNN.presets.items()}


def small(**changes: Any) -> MaskRCNN:
    values = MaskRCNN.presets["light"] | {"preprocessing": Preprocessing(size=64)} | changes
    return MaskRCNN(NAMES, MaskRCNNSettings(**values))


@pytest.fixture(scope="module")
def light() -> MaskRCNN:
    return small(mask_convs=1, mask_width=16).eval()


class Constant(nn.Module):
    """A mask branch that gives each class a logit of its own, everywhere."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, features: Tensor) -> Tensor:
        return self.logits.view(1, -1, 1, 1).expand(len(features), -1, 28, 28)


def with_branch(*logits: float) -> MaskRCNN:
    detector = small(mask_convs=1, mask_width=16).eval()
    detector.mask_head = Constant(*logits)  # type: ignore[assignment]
    return detector


def regions_of(boxes: Tensor, labels: list[int]) -> Regions:
    """Of one photo, each with the target of its place."""
    count = len(labels)
    return Regions(torch.zeros(count, dtype=torch.int64), boxes, torch.tensor(labels), torch.arange(count), boxes)


BOXES = torch.tensor([[0.0, 0, 32, 32], [32.0, 32, 64, 64]])


def halves() -> Tensor:
    """Two masks of an input of 64 x 64 that fill the left half of it."""
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[:, :, :32] = True
    return masks


# -- The mask branch ------------------------------------------------------------------------------------------------


def test_the_loss_is_that_of_the_regions_own_class() -> None:
    """Full masks: -log sigmoid(2) of class 1 for the first, and of class 2, with logit -1, for the second; mean."""
    detector = with_branch(50.0, 2.0, -1.0)
    masks = torch.ones(2, 64, 64, dtype=torch.bool)
    found = detector.second_losses(
        detector.maps(torch.zeros(1, 3, 64, 64))[0],
        regions_of(BOXES, [2, 3]),
        [Target(BOXES, torch.tensor([1, 2]), masks)],
    )
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 2
    assert float(found["masks"].detach()) == pytest.approx(expected, rel=1e-5)


def test_background_has_no_mask() -> None:
    """The second region's mask is empty, and counts as long as the region is not background."""
    detector = with_branch(3.0, 3.0, 3.0)
    masks = torch.tensor([True, False]).view(2, 1, 1).expand(2, 64, 64)
    maps, target = detector.maps(torch.zeros(1, 3, 64, 64))[0], [Target(BOXES, torch.tensor([0, 1]), masks)]
    one = detector.second_losses(maps, regions_of(BOXES, [1, 0]), target)["masks"]
    both = detector.second_losses(maps, regions_of(BOXES, [1, 2]), target)["masks"]
    full, empty = math.log(1 + math.exp(-3)), math.log(1 + math.exp(3))
    assert float(one.detach()) == pytest.approx(full, rel=1e-5)
    assert float(both.detach()) == pytest.approx((full + empty) / 2, rel=1e-5)


def test_the_weight_of_masks_counts() -> None:
    target = [Target(BOXES, torch.tensor([0, 1]), halves())]
    values = []
    for weight in (1.0, 3.0):
        detector = with_branch(1.0, 2.0, 3.0)
        detector.settings = detector.settings.model_copy(update={"mask_weight": weight})
        maps = detector.maps(torch.zeros(1, 3, 64, 64))[0]
        values.append(float(detector.second_losses(maps, regions_of(BOXES, [1, 2]), target)["masks"].detach()))
    assert values[1] == pytest.approx(3 * values[0])


def test_photos_of_other_sizes_in_one_batch(light: MaskRCNN) -> None:
    """A mask is as large as its photo's part of the input."""
    targets = [
        Target(torch.tensor([[0.0, 0, 30, 40]]), torch.tensor([0]), torch.ones(1, 48, 64, dtype=torch.bool)),
        Target(torch.tensor([[5.0, 5, 40, 60]]), torch.tensor([1]), torch.ones(1, 64, 48, dtype=torch.bool)),
        Target(masks=torch.zeros(0, 64, 64, dtype=torch.bool)),
    ]
    found = light.losses(torch.rand(3, 3, 64, 64) * 255, targets)
    assert set(found) == {"objectness", "proposals", "regions", "classes", "boxes", "masks"}
    assert all(value.isfinite() for value in found.values())


def test_no_boxes_at_all_still_train(light: MaskRCNN) -> None:
    found = light.losses(torch.rand(1, 3, 64, 64) * 255, [Target(masks=torch.zeros(0, 64, 64, dtype=torch.bool))])
    assert float(found["masks"].detach()) == 0
    torch.stack(list(found.values())).sum().backward()
    assert light.mask_head.masks.weight.grad is not None


def test_targets_without_masks_are_refused(light: MaskRCNN) -> None:
    with pytest.raises(FoodboxError, match="learns from masks, and there are targets with boxes only"):
        light.losses(torch.zeros(1, 3, 64, 64), [Target(BOXES, torch.tensor([0, 1]))])


# -- Masks of detections --------------------------------------------------------------------------------------------


def test_each_detection_has_the_mask_of_its_class() -> None:
    detector = with_branch(-1.0, 0.0, 1.0)
    with torch.no_grad():
        outputs = detector(torch.rand(2, 3, 64, 64) * 255)
    assert outputs["masks"].shape == (*outputs["scores"].shape, 28, 28)
    expected = torch.tensor([-1.0, 0, 1]).sigmoid()[outputs["labels"]]
    assert len(outputs["labels"][outputs["scores"] >= 0].unique()) > 1
    torch.testing.assert_close(outputs["masks"], expected[..., None, None].expand_as(outputs["masks"]))


def test_masks_go_with_their_detections_through_decode(light: MaskRCNN) -> None:
    """Of the detections over the threshold those that lie in the photo, each with its own mask."""
    masks = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 28, 28) / 4
    outputs = {
        "boxes": torch.tensor([[[0.0, 0, 20, 20], [50, 0, 64, 20], [10, 10, 30, 30], [5, 5, 9, 9]]]),
        "scores": torch.tensor([[0.9, 0.8, 0.7, 0.1]]),
        "labels": torch.tensor([[0, 1, 2, 0]]),
        "masks": masks,
    }
    found = light.decode(outputs, [Frame(80, 128, 40, 64)], 0.5)[0]
    assert found.boxes.tolist() == [[0, 0, 40, 40], [20, 20, 60, 60]]
    assert found.masks is not None
    assert found.masks[:, 3, 3].tolist() == [0, 0.5]


def test_a_mask_is_cut_with_its_box(light: MaskRCNN) -> None:
    """The photo ends at 40 px of the input: of a box from 20 to 60, the left half, and of its mask."""
    mask = torch.zeros(28, 28)
    mask[:, 14:] = 1
    outputs = {
        "boxes": torch.tensor([[[20.0, 0, 60, 40], [0.0, 0, 28, 28]]]),
        "scores": torch.tensor([[0.9, 0.8]]),
        "labels": torch.tensor([[0, 1]]),
        "masks": torch.stack((mask, mask))[None],
    }
    found = light.decode(outputs, [Frame(40, 64, 40, 64)], 0.5)[0]
    assert found.boxes.tolist() == [[20, 0, 40, 40], [0, 0, 28, 28]]
    assert found.masks is not None
    assert float(found.masks[0, :, :27].max()) == 0
    assert torch.equal(found.masks[1], mask)
    assert not found.bitmap(0)[:, :39].any()


def test_masks_are_none_where_nothing_is_found(light: MaskRCNN) -> None:
    with torch.no_grad():
        found = light.decode(light(torch.rand(1, 3, 64, 64) * 255), [Frame(64, 64, 64, 64)], 1.0)[0]
    assert found.masks is not None
    assert found.masks.shape == (0, 28, 28)


# -- What is Faster R-CNN's -----------------------------------------------------------------------------------------


def test_without_the_branch_it_is_faster_rcnn() -> None:
    """The same weights give the same boxes, scores and losses."""
    mask = small().eval()
    settings = {name: value for name, value in mask.settings if name in FasterRCNNSettings.model_fields}
    faster = FasterRCNN(NAMES, FasterRCNNSettings(**settings)).eval()
    faster.load_state_dict({n: t for n, t in mask.state_dict().items() if not n.startswith("mask_head.")})
    images, target = torch.rand(1, 3, 64, 64) * 255, [Target(BOXES, torch.tensor([0, 1]), halves())]
    with torch.no_grad():
        one, other = mask(images), faster(images)
        assert one.keys() - other.keys() == {"masks"}
        assert all(torch.equal(one[name], value) for name, value in other.items())
        torch.manual_seed(0)
        lost = mask.losses(images, target)
        torch.manual_seed(0)
        assert all(torch.equal(lost[name], value) for name, value in faster.losses(images, target).items())


def test_a_step_has_a_gradient_in_every_part_that_trains() -> None:
    detector = small().train()
    target = [Target(BOXES, torch.tensor([0, 2]), halves())]
    torch.stack(list(detector.losses(torch.rand(1, 3, 64, 64) * 255, target).values())).sum().backward()
    without = [
        n for n, p in detector.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert without == []


@pytest.mark.parametrize(
    ("name", "value"), [("mask_weight", 0), ("mask_pool_size", 0), ("mask_width", 4), ("samples", 0)]
)
def test_settings_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        apply(MaskRCNNSettings(), {name: value})


def test_what_concerns_training_alone() -> None:
    """Its own and Faster R-CNN's; no part of the network depends on them."""
    assert "mask_weight" in MaskRCNN.Training.model_fields
    assert set(FasterRCNN.Training.model_fields) < set(MaskRCNN.Training.model_fields)
    assert "mask_convs" not in MaskRCNN.Training.model_fields
