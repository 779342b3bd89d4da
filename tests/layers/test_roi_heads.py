"""The second stage's heads, its sampling, losses and selection: by hand, and against torchvision."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.models.detection.roi_heads import fastrcnn_loss

from foodbox.layers.roi_heads import (
    BoxHead,
    MaskHead,
    Regions,
    region_losses,
    sample_regions,
    select_detections,
)
from foodbox.ops.coding import encode_ssd
from foodbox.records import Target


def boxes_in(count: int) -> torch.Tensor:
    corner = torch.rand(count, 2) * 100
    return torch.cat((corner, corner + 10 + torch.rand(count, 2) * 80), dim=1)


# -- Heads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
@pytest.mark.parametrize(("convs", "layers", "agnostic"), [(0, 2, False), (4, 1, False), (1, 0, True)])
def test_shapes_of_the_box_head(norm: str, convs: int, layers: int, agnostic: bool) -> None:
    head = BoxHead(8, 5, 7, convs, layers, 16, norm, agnostic)  # type: ignore[arg-type]
    logits, deltas = head(torch.randn(3, 8, 7, 7))
    assert logits.shape == (3, 6)
    assert deltas.shape == (3, 1 if agnostic else 5, 4)
    empty = head(torch.zeros(0, 8, 7, 7))
    assert [len(values) for values in empty] == [0, 0]
    sum(values.sum() for values in (*empty, logits, deltas)).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None for p in head.parameters())


def test_class_rows_are_the_rows_of_the_classes() -> None:
    """A change of the rows of class 2 changes its logit and its box, and nothing else."""
    head = BoxHead(4, 3, 2, width=8)
    features = torch.randn(5, 4, 2, 2)
    before = head(features)
    for name, (places, first) in head.class_rows("head").items():
        tensor = head.get_parameter(name.removeprefix("head."))
        rows = tensor.data.view(places, first + 3, *tensor.shape[1:])
        rows[:, first + 2] += 1
    after = head(features)
    changed = [(one != other).any(0) for one, other in zip(before, after, strict=True)]
    assert changed[0].tolist() == [False, False, False, True]
    assert changed[1].tolist() == [[False] * 4, [False] * 4, [True] * 4]
    assert BoxHead(4, 3, 2, agnostic=True).class_rows("head").keys() == {"head.classes.weight", "head.classes.bias"}


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_shapes_of_the_mask_head(norm: str) -> None:
    head = MaskHead(8, 5, 2, 16, norm)  # type: ignore[arg-type]
    assert head(torch.randn(3, 8, 14, 14)).shape == (3, 5, 28, 28)
    assert head(torch.randn(0, 8, 14, 14)).shape == (0, 5, 28, 28)
    assert MaskHead(8, 5, 0, 16)(torch.randn(1, 8, 3, 3)).shape == (1, 5, 6, 6)


# -- Training -------------------------------------------------------------------------------------------------------


def test_a_sampled_region_knows_its_box() -> None:
    """Proposals near the boxes of two photos, and far from them; a third photo has no box."""
    far = torch.tensor([[200.0, 200, 240, 240]])
    targets = [Target(boxes_in(3), torch.tensor([4, 0, 2])), Target(boxes_in(1), torch.tensor([1])), Target()]
    proposals = torch.stack([torch.cat((targets[0].boxes + 0.5, far)), far.repeat(4, 1), far.repeat(4, 1)])
    found = sample_regions(proposals, targets, 100, 1.0)
    positives = found.positives()
    assert sorted(positives.photo.tolist()) == [0] * 6 + [1]  # the boxes themselves, too
    for i in range(len(positives.photo)):
        target = targets[int(positives.photo[i])]
        matched = int(positives.matched_index[i])
        assert positives.labels[i] == 1 + target.labels[matched]
        assert torch.equal(positives.matched_boxes[i], target.boxes[matched])
        assert (positives.boxes[i] - target.boxes[matched]).abs().max() <= 0.5
    background = found.labels == 0
    assert found.photo[background].tolist() == [0] + [1] * 4 + [2] * 4
    assert torch.equal(found.boxes[background], far.expand(9, -1))


def test_padding_is_no_region() -> None:
    found = sample_regions(torch.tensor([[[200.0, 200, 240, 240], [0, 0, 0, 0]]]), [Target()], 10, 0.5)
    assert found.labels.tolist() == [0]


@pytest.mark.parametrize("agnostic", [False, True])
def test_losses_are_torchvisions(agnostic: bool) -> None:
    """With one box for all classes: as if each class had the same."""
    truth, boxes = boxes_in(12), boxes_in(12)
    labels = torch.tensor([0, 1, 2, 3, 0, 0, 1, 1, 2, 0, 0, 3])
    logits, deltas = torch.randn(12, 4), torch.randn(12, 1 if agnostic else 3, 4)
    zeros = torch.zeros(12, dtype=torch.int64)
    found = region_losses(logits, deltas, Regions(zeros, boxes, labels, zeros, truth), beta=1 / 9)
    theirs = torch.cat((torch.zeros(12, 1, 4), deltas.expand(-1, 3, -1)), dim=1).flatten(1)
    expected = fastrcnn_loss(logits, theirs, [labels], [encode_ssd(truth, boxes)])
    assert float(found["classes"]) == pytest.approx(float(expected[0]), rel=1e-5)
    assert float(found["boxes"]) == pytest.approx(float(expected[1]), rel=1e-5)


@pytest.mark.parametrize("loss", ["smooth_l1", "giou"])
def test_no_regions_and_no_positives_cost_finite_numbers(loss: str) -> None:
    for count in (0, 3):
        zeros = torch.zeros(count, dtype=torch.int64)
        logits, deltas = torch.zeros(count, 4, requires_grad=True), torch.zeros(count, 3, 4, requires_grad=True)
        regions = Regions(zeros, boxes_in(count), zeros, zeros, boxes_in(count))
        found = region_losses(logits, deltas, regions, loss)  # type: ignore[arg-type]
        assert float(found["classes"].detach()) == pytest.approx(math.log(4) if count else 0)
        assert float(found["boxes"].detach()) == 0
        (found["classes"] + found["boxes"]).backward()


def test_with_two_logits_every_class_is_an_object() -> None:
    boxes, labels = boxes_in(3), torch.tensor([0, 1, 3])
    zeros = torch.zeros(3, dtype=torch.int64)
    logits = torch.tensor([[40.0, 0], [0, 40.0], [0, 40.0]])
    found = region_losses(logits, torch.zeros(3, 1, 4), Regions(zeros, boxes, labels, zeros, boxes))
    assert float(found["classes"]) == pytest.approx(0, abs=1e-6)


# -- Detection ------------------------------------------------------------------------------------------------------


def test_detections_by_hand() -> None:
    """Two regions, one class sure of both: of boxes that overlap by more than a half the surer stays."""
    proposals = torch.tensor([[[0.0, 0, 40, 40], [0.0, 0, 40, 44], [100.0, 100, 140, 140], [0.0, 0, 0, 0]]])
    logits = torch.tensor([[[0.0, 2, 0], [0.0, 3, 0], [0.0, 0, 5], [0.0, 9, 9]]])
    deltas = torch.zeros(1, 4, 2, 4)
    deltas[0, 2, 1] = torch.tensor([10.0, 0, 0, 0])  # a whole side to the right, and over the border
    found = select_detections(logits, deltas, proposals, 200, 160, 0.5, 3)
    chance = logits.softmax(-1)
    assert found["labels"][0, :2].tolist() == [1, 0]
    torch.testing.assert_close(found["boxes"][0, :2], torch.tensor([[140.0, 100, 160, 140], [0, 0, 40, 44]]))
    torch.testing.assert_close(found["scores"][0, :2], torch.stack((chance[0, 2, 2], chance[0, 1, 1])))


def test_shares_tell_the_classes_of_objects() -> None:
    """Two regions that are objects by a half, whose boxes a map would tell apart: a half of each class's share."""
    proposals = torch.tensor([[[0.0, 0, 20, 20], [40.0, 40, 60, 60]]])
    share = torch.tensor([[[0.9, 0.1], [0.4, 0.6]]])
    asked = []
    found = select_detections(
        torch.zeros(1, 2, 2), torch.zeros(1, 2, 1, 4), proposals, 64, 64, 0.5, 9,
        class_probabilities=lambda boxes: asked.append(boxes) or share,  # type: ignore[func-returns-value]
    )  # fmt: skip
    assert torch.equal(asked[0], proposals)
    assert found["scores"][0].tolist() == pytest.approx([0.45, 0.3, 0.2, 0.05])
    assert found["labels"][0].tolist() == [0, 1, 0, 1]
    assert found["boxes"][0, :, 0].tolist() == [0, 40, 40, 0]


def test_photos_of_no_regions_have_no_detections() -> None:
    found = select_detections(torch.zeros(2, 5, 4), torch.zeros(2, 5, 3, 4), torch.zeros(2, 5, 4), 64, 64, 0.5, 10)
    assert (found["scores"] == -1).all()
    assert not found["boxes"].any()
    assert found["boxes"].shape == (2, 10, 4)
    none = select_detections(torch.zeros(2, 0, 4), torch.zeros(2, 0, 3, 4), torch.zeros(2, 0, 4), 64, 64, 0.5, 10)
    assert none["scores"].shape == (2, 0)


def test_a_box_thinner_than_a_hundredth_of_a_pixel_is_not_detected() -> None:
    proposals = torch.tensor([[[10.0, 10, 10.005, 30], [10.0, 10, 30, 30]]])
    found = select_detections(torch.zeros(1, 2, 2), torch.zeros(1, 2, 1, 4), proposals, 64, 64, 0.5, 5)
    assert (found["scores"][0] >= 0).sum() == 1
    assert found["boxes"][0, 0].tolist() == [10, 10, 30, 30]
