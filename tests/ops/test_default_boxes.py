"""SSD's default boxes, their matching and hard negatives, against torchvision's and worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import SSDMatcher
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

from foodbox.ops.default_boxes import default_box_shapes, hard_negative_loss, match_default_boxes
from foodbox.ops.matching import BACKGROUND


def some_overlaps(seed: int, boxes: int, anchors: int) -> Tensor:
    """Mostly small ones, as in life."""
    return torch.rand(boxes, anchors, generator=torch.Generator().manual_seed(seed)) ** 2


def test_one_places_default_boxes_by_hand() -> None:
    """A square of s_k, one of the geometric mean with the next; for ratio 4 a box twice as long, and one upright."""
    found = default_box_shapes(16, 64, (4.0,))
    expected = [[-8, -8, 8, 8], [-16, -16, 16, 16], [-16, -4, 16, 4], [-4, -16, 4, 16]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("ratios", [(2,), (2, 3)])
def test_one_places_default_boxes_are_torchvisions(ratios: tuple[int, ...]) -> None:
    pairs = DefaultBoxGenerator([list(ratios)], scales=[0.2, 0.35])._wh_pairs[0]
    torch.testing.assert_close(default_box_shapes(0.2, 0.35, ratios), torch.cat((-pairs, pairs), dim=1) / 2)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_default_boxes_are_matched_as_torchvisions(seed: int, scale: float) -> None:
    """So many boxes that several want the same."""
    overlaps = some_overlaps(seed, 40, 50) * scale
    assert len(overlaps.argmax(1).unique()) < 40
    assert torch.equal(match_default_boxes(overlaps, 0.5), SSDMatcher(0.5)(overlaps))


def test_every_box_has_its_best_default_box_by_hand() -> None:
    """Box 1 overlaps default box 0 most and takes it from box 0, which keeps default box 2, over one half."""
    overlaps = torch.tensor([[0.7, 0.1, 0.6, 0.0], [0.3, 0.1, 0.0, 0.2], [0.0, 0.0, 0.0, 0.1]])
    assert match_default_boxes(overlaps).tolist() == [1, BACKGROUND, 0, 2]


def test_of_two_boxes_that_want_the_same_the_later_has_it() -> None:
    overlaps = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.0, 0.0]])
    assert match_default_boxes(overlaps).tolist() == [1, BACKGROUND]


@pytest.mark.parametrize("boxes", [0, 1, 4])
def test_padding_and_batches_change_nothing_for_default_boxes(boxes: int) -> None:
    photos = [some_overlaps(seed, boxes, 50) for seed in range(3)]
    padded = torch.stack([torch.cat((photo, torch.full((2, 50), -1.0))) for photo in photos])
    assert torch.equal(match_default_boxes(padded), torch.stack([match_default_boxes(photo) for photo in photos]))
    assert match_default_boxes(torch.zeros(2, boxes, 0)).shape == (2, 0)


def test_hard_negatives_by_hand() -> None:
    """One positive with ratio 2: of five negatives those two that look least like background."""
    logits = torch.zeros(1, 6, 2)
    logits[0, :, 1] = torch.tensor([0.0, -1.0, 3.0, 1.0, 2.0, -2.0])
    found = hard_negative_loss(logits, torch.tensor([[1, 0, 0, 0, 0, 0]]), ratio=2)
    expected = [math.log(2), 0, math.log(1 + math.exp(3)), 0, math.log(1 + math.exp(2)), 0]
    torch.testing.assert_close(found, torch.tensor([expected]))


@pytest.mark.parametrize("ratio", [0.0, 1.0, 3.0])
def test_each_photo_has_its_own_hard_negatives(ratio: float) -> None:
    """So many for each positive of the photo, or all that there are; none is as easy as one left out."""
    logits, labels = torch.randn(4, 40, 5) * 3, torch.zeros(4, 40, dtype=torch.int64)
    for photo, count in enumerate((0, 1, 5, 20)):
        labels[photo, :count] = torch.randint(1, 5, (count,))
    found = hard_negative_loss(logits, labels, ratio)
    every = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    for photo, count in enumerate((0, 1, 5, 20)):
        assert torch.equal(found[photo, :count], every[photo, :count])
        negative, chosen = every[photo, count:], found[photo, count:] > 0
        assert int(chosen.sum()) == min(ratio * count, 40 - count)
        assert torch.equal(found[photo, count:][chosen], negative[chosen])
        assert negative[chosen].min() >= negative[~chosen].max() if chosen.any() and not chosen.all() else True


def test_photos_without_boxes_teach_where_it_is_wished() -> None:
    logits, labels = torch.randn(2, 30, 4), torch.zeros(2, 30, dtype=torch.int64)
    assert not hard_negative_loss(logits, labels).any()
    assert (hard_negative_loss(logits, labels, at_least=7) > 0).sum(1).tolist() == [7, 7]


def test_labels_below_zero_count_nothing() -> None:
    labels = torch.tensor([[1, -1, 0, 0]])
    logits = torch.zeros(1, 4, 2)
    logits[0, 1, 1] = 100
    assert (hard_negative_loss(logits, labels) > 0).tolist() == [[True, False, True, True]]
