"""Matching against torchvision's Matcher and a table worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher

from foodbox.ops.matching import BACKGROUND, BETWEEN, match


def some_overlaps(seed: int, boxes: int, anchors: int, rounded: bool) -> Tensor:
    """Mostly small ones, as in life; rounded ones often tie, and lie on the bounds."""
    draw = torch.Generator().manual_seed(seed)
    overlaps = torch.rand(boxes, anchors, generator=draw) ** 2
    return (overlaps * 20).round().clamp(min=1) / 20 if rounded else overlaps


@pytest.mark.parametrize("keep_best", [False, True])
@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_matches_are_torchvisions(seed: int, rounded: bool, keep_best: bool) -> None:
    overlaps = some_overlaps(seed, 4, 60, rounded) * (0.6 if seed % 2 else 1.0)
    matcher = Matcher(0.5, 0.4, allow_low_quality_matches=keep_best)
    assert torch.equal(match(overlaps, 0.5, 0.4, keep_best), matcher(overlaps))


def test_matches_by_hand() -> None:
    """Two boxes, five anchors: taken, background, between, background but the best of box 1, the bound itself."""
    overlaps = torch.tensor([[0.7, 0.1, 0.45, 0.2, 0.5], [0.6, 0.0, 0.05, 0.3, 0.1]])
    assert match(overlaps, 0.5, 0.4).tolist() == [0, BACKGROUND, BETWEEN, BACKGROUND, 0]
    # Box 1's best is anchor 0, which overlaps box 0 more and stays with it.
    assert match(overlaps, 0.5, 0.4, keep_best=True).tolist() == [0, BACKGROUND, BETWEEN, BACKGROUND, 0]
    overlaps[1, 0] = 0.1
    assert match(overlaps, 0.5, 0.4, keep_best=True).tolist() == [0, BACKGROUND, BETWEEN, 1, 0]


def test_the_bounds_belong_to_what_is_above_them() -> None:
    overlaps = torch.tensor([[0.25, 0.2499, 0.5, 0.4999]])
    assert match(overlaps, 0.5, 0.25).tolist() == [BETWEEN, BACKGROUND, 0, BETWEEN]


@pytest.mark.parametrize("keep_best", [False, True])
def test_a_batch_is_matched_as_photo_by_photo(keep_best: bool) -> None:
    photos = [some_overlaps(seed, 3, 50, rounded=True) for seed in range(4)]
    together = match(torch.stack(photos), 0.5, 0.4, keep_best)
    assert torch.equal(together, torch.stack([match(photo, 0.5, 0.4, keep_best) for photo in photos]))


@pytest.mark.parametrize("keep_best", [False, True])
@pytest.mark.parametrize("boxes", [0, 1, 3])
def test_padding_changes_nothing(boxes: int, keep_best: bool) -> None:
    overlaps = some_overlaps(1, boxes, 50, rounded=False)
    padded = torch.cat((overlaps, torch.full((2, 50), -1.0)))
    assert torch.equal(match(padded, 0.5, 0.4, keep_best), match(overlaps, 0.5, 0.4, keep_best))


@pytest.mark.parametrize("shape", [(0, 9), (2, 0, 9)])
def test_without_boxes_all_is_background(shape: tuple[int, ...]) -> None:
    found = match(torch.zeros(shape), 0.5, 0.4, keep_best=True)
    assert found.shape == (*shape[:-2], 9)
    assert (found == BACKGROUND).all()


def test_a_box_that_no_anchor_touches_takes_none() -> None:
    assert (match(torch.zeros(1, 9), 0.5, 0.4, keep_best=True) == BACKGROUND).all()
