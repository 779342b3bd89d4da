"""Losses against torchvision's and torch's, keras-retinanet's formula by hand, and gradients at the extremes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import ops

from foodbox.ops.losses import giou_loss, sigmoid_focal_loss, smooth_l1_loss


def some_boxes(count: int) -> Tensor:
    corner = torch.rand(count, 2) * 50
    return torch.cat((corner, corner + 1 + torch.rand(count, 2) * 50), dim=1)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.75, 5.0), (0.25, 0.5)])
def test_focal_loss_is_torchvisions(alpha: float, gamma: float) -> None:
    logits, targets = torch.randn(20, 7) * 3, (torch.rand(20, 7) > 0.7).float()
    expected = ops.sigmoid_focal_loss(logits, targets, alpha, gamma)
    torch.testing.assert_close(sigmoid_focal_loss(logits, targets, alpha, gamma), expected, rtol=1e-4, atol=1e-6)


def test_focal_loss_by_hand() -> None:
    """With p = 0.9: alpha (1 - p)^2 -log(p) where the class is there, (1 - alpha) p^2 -log(1 - p) where not."""
    logit = torch.full((2,), math.log(9))
    expected = torch.tensor([0.25 * 0.01 * -math.log(0.9), 0.75 * 0.81 * -math.log(0.1)])
    torch.testing.assert_close(sigmoid_focal_loss(logit, torch.tensor([1.0, 0.0])), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("size", [20.0, 1e4])
def test_focal_loss_and_gradient_are_finite_for_huge_logits(size: float, gamma: float) -> None:
    """The exponents are those of the paper's table 1b."""
    logits = torch.tensor([size, -size, size, -size], requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([1.0, 1.0, 0.0, 0.0]), gamma=gamma)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    # What is right costs nothing, what is wrong by so much costs alpha times the logit.
    torch.testing.assert_close(loss, torch.tensor([0.0, 0.25 * size, 0.75 * size, 0.0]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_smooth_l1_is_torchs(beta: float) -> None:
    predicted, targets = torch.randn(30, 4), torch.randn(30, 4)
    pairs = zip(predicted, targets, strict=True)
    expected = torch.stack([F.smooth_l1_loss(p, t, reduction="sum", beta=beta) for p, t in pairs])
    torch.testing.assert_close(smooth_l1_loss(predicted, targets, beta), expected)


def test_smooth_l1_is_keras_retinanets_with_sigma_3() -> None:
    """0.5 sigma² x² below 1 / sigma², |x| - 0.5 / sigma² above."""
    x = torch.tensor([0.05, -0.1, 0.2, -2.0])
    expected = 0.5 * 9 * 0.05**2 + 0.5 * 9 * 0.1**2 + (0.2 - 0.5 / 9) + (2 - 0.5 / 9)
    assert float(smooth_l1_loss(x, torch.zeros(4), beta=1 / 9)) == pytest.approx(expected)


def test_giou_is_torchvisions() -> None:
    predicted, targets = some_boxes(100), some_boxes(100)
    expected = ops.generalized_box_iou_loss(predicted, targets)
    torch.testing.assert_close(giou_loss(predicted, targets), expected, rtol=1e-5, atol=1e-6)


def test_giou_by_hand() -> None:
    """Equal boxes; unit squares with a gap of two between them: IoU 0, hull 4, union 2."""
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    others = torch.tensor([[0.0, 0.0, 1.0, 1.0], [3.0, 0.0, 4.0, 1.0]])
    torch.testing.assert_close(giou_loss(boxes, others), torch.tensor([0.0, 1.0 + 2 / 4]), rtol=0, atol=1e-5)


def test_giou_of_corners_that_changed_places_is_that_of_the_box_between_them() -> None:
    """Algorithm 1, line 1: without it the loss has no bound below, and its gradient leads away from the box."""
    boxes, targets = some_boxes(100), some_boxes(100)
    torch.testing.assert_close(giou_loss(boxes[:, [2, 1, 0, 3]], targets), giou_loss(boxes, targets))
    torch.testing.assert_close(giou_loss(boxes[:, [2, 3, 0, 1]], targets), giou_loss(boxes, targets))


def test_giou_of_empty_boxes_has_a_finite_gradient() -> None:
    boxes = torch.tensor([[3.0, 3.0, 3.0, 3.0]], requires_grad=True)
    loss = giou_loss(boxes, torch.tensor([[3.0, 3.0, 3.0, 3.0]])).sum()
    loss.backward()
    assert loss.isfinite()
    assert boxes.grad is not None
    assert boxes.grad.isfinite().all()


def test_losses_of_nothing_are_empty() -> None:
    nothing = torch.zeros(0, 4)
    assert sigmoid_focal_loss(nothing, nothing).shape == (0, 4)
    assert smooth_l1_loss(nothing, nothing, 1 / 9).shape == (0,)
    assert giou_loss(nothing, nothing).shape == (0,)
