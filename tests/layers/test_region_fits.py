"""R-CNN's last fits: against scikit-learn over all rows at once, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from foodbox.layers.region_fits import BoxRegressors, RandomSubset, RegionSVMs, fit_sigmoid, fit_svm
from foodbox.ops.coding import decode_centre, encode_centre

svm = pytest.importorskip("sklearn.svm")
linear_model = pytest.importorskip("sklearn.linear_model")


def clouds(positives: int = 150, negatives: int = 3000, width: int = 12) -> tuple[Tensor, Tensor]:
    """Two clouds that overlap a little, with norms as R-CNN scales them."""
    draw = torch.Generator().manual_seed(3)
    spread = 20 / width**0.5
    one = torch.randn(positives, width, generator=draw) * spread + 1.2 * spread
    other = torch.randn(negatives, width, generator=draw) * spread
    return one, other


def hinge(positives: Tensor, negatives: Tensor, weight: Tensor, bias: float) -> float:
    """What the SVM makes small: C times the hinge losses, positives twice, and half the squares of all weights.

    liblinear's bias is one more weight, on a feature of 10 (Fan et al. 2008, section 2).
    """
    loss = 2 * (1 - positives @ weight - bias).clamp(min=0).sum() + (1 + negatives @ weight + bias).clamp(min=0).sum()
    return float(1e-3 * loss + (weight**2).sum() / 2 + (bias / 10) ** 2 / 2)


def test_mining_gives_the_svm_of_all_negatives() -> None:
    """scikit-learn's, fitted on every negative at once: as small a loss, and the same scores."""
    positives, negatives = clouds()
    whole = svm.LinearSVC(C=1e-3, loss="hinge", intercept_scaling=10, class_weight={1: 2.0}, max_iter=100_000)
    whole.fit(torch.cat((positives, negatives)).numpy(), np.arange(3150) < 150)
    theirs = torch.from_numpy(whole.coef_[0]).float(), float(whole.intercept_[0])
    ours = fit_svm(positives, negatives)
    assert hinge(positives, negatives, *ours) == pytest.approx(hinge(positives, negatives, *theirs), rel=1e-3)
    assert torch.corrcoef(torch.stack([negatives @ w + b for w, b in (ours, theirs)]))[0, 1] > 0.999


def test_an_svm_by_hand() -> None:
    """Two points so near that both lie within the margin: then w = Σ C_i y_i x_i, and b = 10² Σ C_i y_i."""
    weight, bias = fit_svm(torch.tensor([[1.0]]), torch.tensor([[-1.0]]))
    assert weight.tolist() == pytest.approx([2e-3 * 1 + 1e-3 * 1], rel=1e-4)
    assert bias == pytest.approx(100 * (2e-3 - 1e-3), rel=1e-4)


def test_a_sigmoid_is_scikit_learns_and_rises() -> None:
    scores = torch.linspace(-3, 3, 200)
    there = torch.rand(200) < (2 * scores - 1).sigmoid()
    slope, offset = fit_sigmoid(scores, there)
    theirs = linear_model.LogisticRegression(C=1e3).fit(scores[:, None].numpy(), there.numpy())
    chances = (slope * scores + offset).sigmoid()
    np.testing.assert_allclose(chances, theirs.predict_proba(scores[:, None].numpy())[:, 1], atol=1e-5)
    assert fit_sigmoid(scores, scores < 0) == (1.0, 0.0)
    assert fit_sigmoid(scores, scores > 9) == (1.0, 0.0)
    assert fit_sigmoid(scores, scores < 9) == (1.0, 0.0)


def test_svms_of_several_classes_and_one_without_boxes() -> None:
    """Features that say the class plainly: chances near 1 where it is, near 0 elsewhere; class 1 is never seen."""
    where = torch.tensor([0, 2] * 40 + [3] * 200)  # 3: background
    features = torch.nn.functional.one_hot(where, 4).float() * 7 + 0.1 * torch.randn(280, 4)
    overlaps = torch.nn.functional.one_hot(where, 4)[:, :3].float() * 0.9
    truths = features[:80]
    svms = RegionSVMs(4, 3)
    svms.fit(features, overlaps, truths, where[:80], negative_iou=0.3)
    assert svms.fitted.tolist() == [1, 0, 1]
    chances = svms(features)
    assert chances[where == 0, 0].min() > 0.9
    assert chances[where != 0, 0].max() < 0.1
    assert chances[where == 2, 2].min() > 0.9
    assert svms.weight[1].abs().max() == 0
    svms.forget()
    assert svms.fitted.tolist() == [0, 0, 0]


def test_negatives_overlap_by_less_than_the_bound() -> None:
    """A proposal of IoU 0.4 is neither: with features of a negative it must change nothing."""
    truths = torch.tensor([[9.0, 0], [8, 1]])
    features = torch.tensor([[0.0, 9], [1, 8], [5, 5]])
    found = []
    for rows in (2, 3):
        svms = RegionSVMs(2, 1)
        overlaps = torch.tensor([[0.0], [0.1], [0.4]])[:rows]
        scaled = features[:rows].clone()
        if rows == 3:
            scaled[2] = scaled[2] * (scaled[:2].norm(dim=1).sum() + truths.norm(dim=1).sum()) / 4 / scaled[2].norm()
        svms.fit(scaled, overlaps, truths, torch.tensor([0, 0]), 0.3)  # a norm that leaves the mean as it is
        found.append(svms.weight.clone())
    torch.testing.assert_close(*found)


def test_no_negatives_no_svm() -> None:
    svms = RegionSVMs(2, 1)
    svms.fit(torch.ones(2, 2), torch.full((2, 1), 0.8), torch.ones(1, 2), torch.tensor([0]), 0.3)
    assert svms.fitted.tolist() == [0]


def test_box_regression_is_ridge_regression_and_finds_what_is_there() -> None:
    """Offsets that are linear in the features, of two classes: scikit-learn's solution, and boxes that move there."""
    draw = torch.Generator().manual_seed(1)
    features = torch.randn(4000, 6, generator=draw)
    labels = torch.arange(4000) % 2
    truth = torch.randn(2, 4, 6, generator=draw) * 0.05
    offsets = torch.einsum("nf,nof->no", features, truth[labels]) + torch.tensor([0.1, -0.1, 0.2, 0.0])
    regressors = BoxRegressors(6, 3)
    regressors.fit(features, offsets, labels)
    found = regressors(features)
    assert found.shape == (4000, 3, 4)
    assert (found[:, 2] == 0).all()
    scale = 20 / float(features.norm(dim=1).mean())
    for k in (0, 1):
        mine = labels == k
        ridge = linear_model.Ridge(alpha=1000).fit((features[mine] * scale).numpy(), offsets[mine].numpy())
        np.testing.assert_allclose(found[mine, k], ridge.predict((features[mine] * scale).numpy()), atol=1e-5)
    boxes = torch.tensor([[10.0, 10, 30, 40]]).expand(4000, -1)
    moved = decode_centre(found[torch.arange(4000), labels], boxes)
    error = encode_centre(moved, boxes) - offsets
    assert error.abs().mean() < 0.01
    regressors.forget()
    assert (regressors(features) == 0).all()


def test_rows_by_lot_have_the_same_chance_early_and_late() -> None:
    sample = RandomSubset(most_bytes=8 * 1000)
    for start in range(0, 40_000, 100):
        sample.add(torch.arange(start, start + 100))
    (kept,) = sample.rows()
    assert 400 <= len(kept) == sample.count <= 1000
    assert sample.share == 1 / 64
    assert len(kept.unique()) == len(kept)
    early = float((kept < 20_000).float().mean())
    assert abs(early - 0.5) < 4 * math.sqrt(0.25 / len(kept))


def test_rows_stay_together() -> None:
    sample = RandomSubset(most_bytes=2000)
    for start in range(0, 1000, 10):
        rows = torch.arange(start, start + 10)
        sample.add(rows.float()[:, None].expand(-1, 3), rows)
    values, rows = sample.rows()
    assert torch.equal(values, rows.float()[:, None].expand(-1, 3))
    assert RandomSubset(10).count == 0


@pytest.mark.parametrize("kind", [RegionSVMs, BoxRegressors])
def test_what_was_fitted_in_float32_scores_in_float32(kind: type[RegionSVMs] | type[BoxRegressors]) -> None:
    """In bfloat16 half of the scores were the same, whose order AP counts."""
    torch.manual_seed(0)
    fits, features = kind(64, 3), torch.randn(2000, 64)
    for buffer in fits.buffers():
        buffer.copy_(torch.randn_like(buffer))
    with torch.autocast("cpu", torch.bfloat16):
        found = fits(features)
    assert torch.equal(found, fits(features))
