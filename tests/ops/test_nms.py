"""Suppression against torchvision's and a loop that a person can follow."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from foodbox.ops.nms import BOXES_AT_ONCE, best_by_group, best_pairs, nms_by_group, soft_nms


def crowded(count: int, groups: int, side: float, place: float) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of some `side` pixels, many of which overlap, scattered over `place` pixels."""
    corner = torch.rand(count // 4, 2).repeat(4, 1) * place + torch.rand(count // 4 * 4, 2) * side / 2
    boxes = torch.cat((corner, corner + side * (0.7 + 0.6 * torch.rand(len(corner), 2))), dim=1)
    return boxes, torch.rand(len(boxes)), torch.randint(groups, (count // 4,)).repeat(4)


def by_loop(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float) -> list[int]:
    """Best first; one is kept unless a kept one of its group overlaps it by more than `iou`."""
    clash = (box_iou(boxes.double(), boxes.double()) > iou) & (groups[:, None] == groups)  # [N, N]
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if not clash[i, kept].any():
            kept.append(i)
    return kept


def test_kept_boxes_are_torchvisions() -> None:
    boxes, scores, groups = crowded(200, 5, side=40, place=200)
    kept = nms_by_group(boxes, scores, groups, 0.5)
    assert torch.equal(kept, batched_nms(boxes, scores, groups, 0.5))
    assert len(kept) < len(boxes)


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_kept_boxes_are_the_loops(iou: float) -> None:
    boxes, scores, groups = crowded(200, 5, side=40, place=200)
    assert nms_by_group(boxes, scores, groups, iou).tolist() == by_loop(boxes, scores, groups, iou)


def test_a_batch_of_many_classes_is_kept_as_the_loop_does() -> None:
    """Sixteen large photos with COCO's 80 classes and small boxes: groups must not cost precision."""
    boxes, scores, groups = crowded(900, 16 * 80, side=12, place=1300)
    assert nms_by_group(boxes, scores, groups, 0.5).tolist() == by_loop(boxes, scores, groups, 0.5)


def test_many_boxes_are_kept_group_by_group() -> None:
    boxes, scores, groups = crowded(4 * BOXES_AT_ONCE, 700, side=40, place=300)
    kept = nms_by_group(boxes, scores, groups, 0.5)
    assert sorted(kept.tolist()) == sorted(batched_nms(boxes.double(), scores.double(), groups, 0.5).tolist())
    assert (scores[kept].diff() <= 0).all()
    assert 0 < len(kept) < len(boxes)


@pytest.mark.parametrize(("boxes", "classes", "most"), [(50, 7, 12), (5, 7, 12), (5, 2, 12), (40, 1, 12)])
def test_the_best_pairs_are_those_of_all_sorted(boxes: int, classes: int, most: int) -> None:
    scores = torch.randperm(3 * boxes * classes).view(3, boxes, classes) / 1000  # no two are equal
    score, label, box = best_pairs(scores, most)
    expected, place = scores.flatten(1).sort(descending=True)
    count = min(most, boxes * classes)
    assert torch.equal(score, expected[:, :count])
    assert torch.equal(box * classes + label, place[:, :count])


def test_no_boxes() -> None:
    kept = nms_by_group(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


# -- Soft-NMS -------------------------------------------------------------------------------------------------------

# The second overlaps the first by 3/5, the third by 1/3 and the second by 3/5; the fourth stands apart.
ROW = torch.tensor([[[0.0, 0, 8, 10], [2.0, 0, 10, 10], [4.0, 0, 12, 10], [50.0, 0, 58, 10]]])
ONE_CLASS = torch.zeros(1, 4, dtype=torch.int64)


def soft_by_loop(
    boxes: Tensor, scores: Tensor, labels: Tensor, most: int, kernel: str, over: float, sigma: float, floor: float
) -> list[float]:
    """Figure 2 of the paper for one photo, class by class, then the best `most` of all."""
    overlap = box_iou(boxes.double(), boxes.double())
    final = [-1.0] * len(boxes)
    for label in sorted(set(labels.tolist())):
        left = {i: float(scores[i]) for i in range(len(boxes)) if labels[i] == label and scores[i] >= 0}
        while left:
            best = max(left, key=lambda i: left[i])
            final[best] = left.pop(best)
            for i in list(left):
                o = float(overlap[best, i])
                factor = math.exp(-(o**2) / sigma) if kernel == "gaussian" else 1 - o if o > over else 1
                if factor < 1:
                    left[i] *= factor
                    if left[i] < floor:
                        del left[i]
    order = sorted(range(len(final)), key=lambda i: -final[i])
    return [score if i in order[:most] else -1.0 for i, score in enumerate(final)]


def test_linear_soft_nms_by_hand() -> None:
    """0.9 is taken; 0.8 becomes 0.8 (1 - 3/5) and 0.6 becomes 0.6 (1 - 1/3) = 0.4, which is next: 0.32 (1 - 3/5)."""
    kept = soft_nms(ROW, torch.tensor([[0.9, 0.8, 0.6, 0.5]]), ONE_CLASS, top_k=4)
    assert kept[0].tolist() == pytest.approx([0.9, 0.128, 0.4, 0.5])


def test_the_linear_kernel_spares_overlaps_up_to_the_bound() -> None:
    """1/3 is not over 0.4, so that only the pairs with 3/5 count."""
    kept = soft_nms(ROW, torch.tensor([[0.9, 0.8, 0.6, 0.5]]), ONE_CLASS, top_k=4, iou_over=0.4)
    assert kept[0].tolist() == pytest.approx([0.9, 0.8 * 0.4 * 0.4, 0.6, 0.5])


def test_gaussian_soft_nms_by_hand() -> None:
    """With sigma 1/2: 0.8 exp(-2 (3/5)²) = 0.3894 and 0.6 exp(-2 (1/3)²) = 0.4804, which is next."""
    kept = soft_nms(ROW, torch.tensor([[0.9, 0.8, 0.6, 0.5]]), ONE_CLASS, top_k=4, kernel="gaussian", sigma=0.5)
    expected = [0.9, 0.8 * math.exp(-0.72) * math.exp(-0.72), 0.6 * math.exp(-2 / 9), 0.5]
    assert kept[0].tolist() == pytest.approx(expected)


def test_classes_and_photos_do_not_touch() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.6, 0.5], [0.1, 0.8, -1.0, 0.5]])
    labels = torch.tensor([[0, 1, 2, 0], [0, 0, 0, 0]])
    kept = soft_nms(ROW.repeat(2, 1, 1), scores, labels, top_k=4)
    assert kept[0].tolist() == pytest.approx([0.9, 0.8, 0.6, 0.5])
    assert kept[1].tolist() == pytest.approx([0.1 * 0.4, 0.8, -1.0, 0.5])


def test_the_same_box_twice_is_dropped_and_an_unsure_one_alone_stays() -> None:
    """1 - 1 = 0 is below the floor; a score below it that nothing lowered is not touched."""
    boxes = torch.tensor([[[0.0, 0, 8, 10], [0.0, 0, 8, 10], [50.0, 0, 58, 10]]])
    kept = soft_nms(boxes, torch.tensor([[0.9, 0.8, 0.0005]]), ONE_CLASS[:, :3], top_k=3)
    assert kept[0].tolist() == pytest.approx([0.9, -1.0, 0.0005])


@pytest.mark.parametrize("kernel", ["linear", "gaussian"])
@pytest.mark.parametrize("most", [1, 20, 500])
def test_soft_nms_is_the_loops(kernel: str, most: int) -> None:
    """Two photos with different crowds at once."""
    photos = [crowded(120, 3, side=40, place=150), crowded(120, 3, side=60, place=80)]
    boxes, scores, labels = (torch.stack(part) for part in zip(*photos, strict=True))
    kept = soft_nms(boxes, scores, labels, most, kernel, 0.3, 0.5, 0.001)  # type: ignore[arg-type]
    for i, (box, score, label) in enumerate(photos):
        expected = soft_by_loop(box, score, label, most, kernel, 0.3, 0.5, 0.001)
        assert kept[i].tolist() == pytest.approx(expected, abs=1e-5)
        assert int((kept[i] >= 0).sum()) <= most


def test_soft_nms_of_no_boxes() -> None:
    assert soft_nms(torch.zeros(2, 0, 4), torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.int64), 10).shape == (2, 0)
    nothing = soft_nms(ROW, torch.full((1, 4), -1.0), ONE_CLASS, 10)
    assert nothing.tolist() == [[-1.0] * 4]


# -- Rows of one length ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 10, 1000])
def test_each_row_has_its_photos_best(most: int) -> None:
    """Photo by photo as `nms_by_group`; the third has fewer candidates, the fourth none."""
    made = [crowded(80, 3, side=40, place=200) for _ in range(4)]
    boxes, scores, groups = (torch.stack(part) for part in zip(*made, strict=True))
    scores[2, 5:] = -1.0
    scores[3] = -1.0
    index, best = best_by_group(boxes, scores, groups, 0.5, most)
    assert index.shape == best.shape == (4, min(most, 80))
    for i in range(4):
        there = torch.where(scores[i] >= 0)[0]
        kept = there[nms_by_group(boxes[i, there], scores[i, there], groups[i, there], 0.5)][:most]
        assert index[i, : len(kept)].tolist() == kept.tolist()
        assert torch.equal(best[i, : len(kept)], scores[i, kept])
        assert (best[i, len(kept) :] == -1).all()
        assert not index[i, len(kept) :].any()


def test_rows_of_no_candidates_and_of_no_photos() -> None:
    index, best = best_by_group(torch.zeros(2, 0, 4), torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.int64), 0.5, 10)
    assert index.shape == best.shape == (2, 0)
