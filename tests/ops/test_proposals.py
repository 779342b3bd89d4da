"""Proposals against torchvision's, and sampling by what it must keep to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import batched_nms, box_iou

from foodbox.ops.proposals import match_regions, pick_proposals, sample, too_thin


def scattered(*shape: int) -> Tensor:
    corner = torch.rand(*shape, 2) * 150
    return torch.cat((corner, corner + 10 + torch.rand(*shape, 2) * 60), dim=-1)


# -- Proposals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("least", [0.0, 0.4])
@pytest.mark.parametrize("most", [20, 1000])
def test_proposals_are_those_of_torchvisions_nms(most: int, least: float) -> None:
    """Photo by photo and level by level, of each level the 60 best."""
    levels = [150, 40, 3]
    boxes, scores = scattered(3, sum(levels)), torch.rand(3, sum(levels))
    found, sure = pick_proposals(boxes, scores, levels, 60, most, 0.5, least)
    for i in range(3):
        best, group, start = [], [], 0
        for level, count in enumerate(levels):
            place = scores[i, start : start + count].topk(min(60, count)).indices + start
            best.append(place[scores[i, place] >= least])
            group.append(torch.full_like(best[-1], level))
            start += count
        place = torch.cat(best)
        place = place[batched_nms(boxes[i, place], scores[i, place], torch.cat(group), 0.5)][:most]
        assert torch.equal(found[i, : len(place)], boxes[i, place])
        assert torch.equal(sure[i, : len(place)], scores[i, place])
        assert (sure[i, len(place) :] == -1).all()
        assert not found[i, len(place) :].any()
    assert found.shape == (3, min(most, 103), 4)


def test_boxes_without_a_side_are_not_proposed() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [5.0, 5, 5, 60], [30.0, 30, 30.0005, 60], [40.0, 40, 60, 60]]])
    found, sure = pick_proposals(boxes, torch.tensor([[0.2, 0.9, 0.9, 0.4]]), [4], 10, 10, 0.7)
    assert sure[0].tolist() == pytest.approx([0.4, 0.2, -1, -1])
    assert found[0].tolist() == [[40, 40, 60, 60], [0, 0, 10, 10], [0] * 4, [0] * 4]


def test_a_photo_may_have_no_proposal() -> None:
    found, sure = pick_proposals(torch.zeros(2, 5, 4), torch.rand(2, 5), [5], 10, 10, 0.7)
    assert not found.any()
    assert (sure == -1).all()


def test_too_thin() -> None:
    boxes = torch.tensor([[0.0, 0, 1, 1], [0.0, 0, 1, 0.009], [0.0, 0, 0.009, 1], [0.0, 0, -1, 5]])
    assert too_thin(boxes, 0.01).tolist() == [False, True, True, True]


# -- Sampling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        (100, 300, (16, 48)),
        (5, 300, (5, 59)),  # negatives take what positives leave
        (100, 30, (16, 30)),  # and positives never more than their share
        (0, 300, (0, 64)),
        (5, 0, (5, 0)),
        (0, 0, (0, 0)),
    ],
)
def test_the_mini_batch_is_the_papers(positives: int, negatives: int, expected: tuple[int, int]) -> None:
    """Fast R-CNN section 2.3: 64 regions of a photo, a quarter of them positive."""
    order = torch.stack([torch.randperm(500) for _ in range(2)])
    positive, negative = order < positives, (order >= positives) & (order < positives + negatives)
    taken = sample(positive, negative, 64, 0.25)
    assert not (taken & ~positive & ~negative).any()
    assert [((taken & positive).sum(1).tolist()), ((taken & negative).sum(1).tolist())] == [[n] * 2 for n in expected]


def test_each_positive_is_as_likely_to_be_taken() -> None:
    """10 of 40, ten thousand times: 2500 each, give or take five standard deviations of 43."""
    positive = torch.ones(10_000, 40, dtype=torch.bool)
    counts = torch.stack([sample(positive[:1], ~positive[:1], 40, 0.25)[0] for _ in range(10_000)]).sum(0)
    assert counts.sum() == 100_000
    assert (counts - 2500).abs().max() < 217


def test_what_is_taken_of_a_photo_does_not_depend_on_the_others() -> None:
    positive, negative = torch.rand(3, 200) < 0.1, torch.rand(3, 200) < 0.5
    negative &= ~positive
    torch.manual_seed(3)
    together = sample(positive, negative, 30, 0.5)
    torch.manual_seed(3)
    alone = sample(positive[1:2], negative[1:2], 30, 0.5)
    assert torch.equal(together[1:2], alone)


def test_fewer_places_than_are_wanted() -> None:
    positive = torch.tensor([[True, False, True]])
    assert sample(positive, ~positive, 256, 1.0).tolist() == [[True, True, True]]


# -- Matching -------------------------------------------------------------------------------------------------------


def test_regions_are_matched_as_torchvisions() -> None:
    regions, boxes = scattered(2, 300), scattered(2, 4)
    box, positive, negative = match_regions(regions, boxes, 0.5, 0.3)
    for i in (0, 1):
        expected = Matcher(0.5, 0.3)(box_iou(boxes[i], regions[i]))
        assert torch.equal(positive[i], expected >= 0)
        assert torch.equal(negative[i], expected == Matcher.BELOW_LOW_THRESHOLD)
        assert torch.equal(box[i][positive[i]], expected[expected >= 0])
    assert positive.any()
    assert (~positive & ~negative).any()


def test_the_papers_negatives_overlap_a_little() -> None:
    """Fast R-CNN section 2.3: IoU in [0.1, 0.5). Overlaps of 1, 1/2, 1/3, 1/10 and 1/19."""
    box = torch.tensor([[[0.0, 0, 10, 10]]])
    regions = torch.tensor([[[0.0, 0, 10, 10], [0.0, 0, 5, 10], [5.0, 0, 15, 10], [0.0, 0, 1, 10], [9.0, 0, 19, 10]]])
    _, positive, negative = match_regions(regions, box, 0.5, 0.5, 0.1)
    assert positive[0].tolist() == [True, True, False, False, False]
    assert negative[0].tolist() == [False, False, True, True, False]


def test_what_only_fills_up_is_neither() -> None:
    """Zero regions, and zero boxes: a photo without boxes has negatives alone."""
    regions = torch.tensor([[[0.0, 0, 10, 10], [0.0, 0, 0, 0]]])
    _, positive, negative = match_regions(regions, torch.zeros(1, 1, 4), 0.5, 0.5)
    assert positive[0].tolist() == [False, False]
    assert negative[0].tolist() == [True, False]
