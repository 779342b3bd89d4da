"""Masks over boxes, against torchvision and by hand."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from foodbox.masks import paste_mask
from foodbox.ops.masks import crop_masks, project_masks


def test_projected_masks_are_torchvisions_half_a_pixel_on() -> None:
    """Two photos of different sizes. Theirs has a pixel's middle on its corner."""
    masks = [torch.rand(3, 40, 60) > 0.5, torch.rand(2, 50, 30) > 0.5]
    corner = torch.rand(9, 2) * 20
    boxes = torch.cat((corner, corner + 2 + torch.rand(9, 2) * 15), dim=1)
    photo, answer = torch.tensor([0] * 5 + [1] * 4), torch.tensor([2, 0, 1, 1, 2, 1, 0, 0, 1])
    found = project_masks(masks, photo, answer, boxes, 28)
    for i in (0, 1):
        mine = photo == i
        expected = project_masks_on_boxes(masks[i], boxes[mine] - 0.5, answer[mine], 28)
        torch.testing.assert_close(found[mine], expected)
    assert found.shape == (9, 28, 28)


def test_a_projected_mask_by_hand() -> None:
    """A mask that fills the right half of its box, and one of which the box shows nothing."""
    mask = torch.zeros(2, 16, 16, dtype=torch.bool)
    mask[0, :, 8:] = True
    mask[1, 12:] = True
    boxes = torch.tensor([[0.0, 0, 16, 8], [0.0, 0, 16, 8]])
    found = project_masks([mask], torch.tensor([0, 0]), torch.tensor([0, 1]), boxes, 4)
    assert found[0].mean(0).tolist() == [0, 0, 1, 1]
    assert found[1].abs().max() == 0


def test_what_is_learnt_lies_where_it_is_drawn() -> None:
    """A disc's mask over its box, pasted back, has the disc's middle."""
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    disc = (x - 40) ** 2 + (y - 30) ** 2 < 20**2
    box = torch.tensor([[20.0, 10, 60, 50]])
    mask = project_masks([disc[None]], torch.tensor([0]), torch.tensor([0]), box, 28)[0]
    pixels, left, top = paste_mask(mask, box[0], 64, 96)
    drawn = torch.as_tensor(pixels).nonzero().double().mean(0) + 0.5
    assert (drawn + torch.tensor([top, left])).tolist() == pytest.approx([30, 40], abs=0.05)


@pytest.mark.parametrize("photos", [1, 2])
def test_photos_without_masks(photos: int) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    masks = [torch.zeros(0, 20, 30, dtype=torch.bool)] * photos
    assert project_masks(masks, none, none, torch.zeros(0, 4), 28).shape == (0, 28, 28)


def test_masks_of_a_photo_behind_one_without() -> None:
    masks = [torch.zeros(0, 8, 8, dtype=torch.bool), torch.ones(1, 8, 8, dtype=torch.bool)]
    found = project_masks(masks, torch.tensor([1]), torch.tensor([0]), torch.tensor([[1.0, 1, 6, 6]]), 4)
    assert found.min() == 1


def test_a_whole_box_keeps_its_mask() -> None:
    masks, boxes = torch.rand(3, 28, 28), torch.tensor([[0.0, 0, 9, 9], [3.0, 4, 90, 70], [1.5, 1.5, 1.6, 1.6]])
    assert torch.equal(crop_masks(masks, boxes, boxes), masks)


def test_a_part_of_a_box_has_that_part_of_its_mask() -> None:
    """A slope over the box: cut off at half its width, the slope has half its height, place by place."""
    slope = ((torch.arange(8.0) + 0.5) / 8).expand(1, 8, 8)
    box = torch.tensor([[10.0, 20, 50, 60]])
    left = crop_masks(slope, box, torch.tensor([[10.0, 20, 30, 60]]))[0]
    torch.testing.assert_close(left[:, 1:], (slope[0] / 2)[:, 1:])  # beyond the first place's middle nothing is known
    right = crop_masks(slope, box, torch.tensor([[30.0, 20, 50, 60]]))[0]
    torch.testing.assert_close(right[:, :-1], (slope[0] / 2 + 0.5)[:, :-1])
    down = crop_masks(slope.transpose(1, 2), box, torch.tensor([[10.0, 40, 50, 60]]))[0]
    torch.testing.assert_close(down.T[:, :-1], (slope[0] / 2 + 0.5)[:, :-1])


def test_no_masks() -> None:
    assert crop_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 28, 28)


def test_a_box_of_which_nothing_is_left_has_a_finite_mask() -> None:
    found = crop_masks(torch.rand(2, 28, 28), torch.tensor([[10.0, 10, 20, 20], [5.0, 5, 5, 5]]),
                       torch.tensor([[10.0, 10, 10, 10], [5.0, 5, 5, 5]]))  # fmt: skip
    assert found.isfinite().all()


def test_the_edge_of_a_cut_mask_is_its_own() -> None:
    whole, part = torch.tensor([[10.0, 20, 50, 60]]), torch.tensor([[10.0, 20, 30, 40]])
    assert crop_masks(torch.ones(1, 8, 8), whole, part).min() == 1
