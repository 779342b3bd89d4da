"""What R-CNN fits on its regions' features after gradient descent: linear SVMs and box regressors, a class each.

Both are linear maps whose weights scikit-learn finds; it is imported when they are fitted, not before.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

# The norm to which features are scaled on average, and with it C, the bias' multiple and the positives' weight: the
# figures of the authors' code (rcnn_train.m), which the paper leaves out.
FEATURE_NORM = 20.0
SVM_C, BIAS, POSITIVE_WEIGHT = 1e-3, 10.0, 2.0
# A negative is hard if its score is over this: on the margin, or beyond it (rcnn_train.m's hard_thresh).
HARD_SCORE = -1.0001
# Negatives that a class' first SVM is fitted on, for each of its positives; then rounds of hard ones follow.
FIRST_NEGATIVES, ROUNDS = 10, 3
# Appendix C: "lambda = 1000".
RIDGE_LAMBDA = 1000.0


class RegionSVMs(nn.Module):
    """R-CNN section 2.3, "Object category classifiers": an SVM a class, and a sigmoid that makes a probability of it.

    The paper has no sigmoid: the SVMs' scores rank detections. A sigmoid that rises keeps that rank within a class
    (Platt 1999) and lies between 0 and 1: the probability that a region overlaps a box of the class by half.

    Args:
        width: of the features.
        classes: K.

    Attributes:
        weight [K, width], bias [K]: score = weight · features + bias.
        slope, offset: [K], probability = sigmoid(slope * score + offset).
        fitted: [K], 1 for a class whose SVM is fitted, else 0.
    """

    weight: Tensor
    bias: Tensor
    slope: Tensor
    offset: Tensor
    fitted: Tensor

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(classes, width))
        for name in ("bias", "slope", "offset", "fitted"):
            self.register_buffer(name, torch.zeros(classes))

    def forward(self, features: Tensor) -> Tensor:
        """Features [..., width] → probabilities [..., K]."""
        with torch.autocast(features.device.type, enabled=False):  # bfloat16 would make many scores the same
            return (self.slope * (features @ self.weight.T + self.bias) + self.offset).sigmoid()

    def forget(self) -> None:
        """None is fitted: the features that they were fitted on are being changed."""
        self.fitted.zero_()

    def fit(self, features: Tensor, overlaps: Tensor, truths: Tensor, labels: Tensor, negative_iou: float) -> None:
        """Fits every class that has boxes.

        Args:
            features, overlaps: [N, width] of the proposals, and [N, K], each one's IoU with its best box of each class.
            truths, labels: [M, width] of the boxes themselves, the only positives (appendix B), and int64 [M].
            negative_iou: a proposal under this is a negative of the class (appendix B: 0.3); others are left out.
        """
        scale = FEATURE_NORM / torch.cat((features, truths)).norm(dim=1).mean().clamp(min=1e-6)
        for k in sorted(set(labels.tolist())):
            positives = truths[labels == k] * scale  # [P, width]
            negatives = features[overlaps[:, k] < negative_iou] * scale
            if not len(negatives):
                continue
            weight, bias = fit_svm(positives, negatives)
            scores = features @ (weight * scale) + bias  # [N]
            self.slope[k], self.offset[k] = fit_sigmoid(scores, overlaps[:, k] >= 0.5)
            self.weight[k], self.bias[k], self.fitted[k] = weight * scale, bias, 1.0


def fit_svm(positives: Tensor, negatives: Tensor) -> tuple[Tensor, float]:
    """A linear SVM with hard negative mining (section 2.3): positives [P, F], negatives [N, F] → weight [F] and bias.

    It begins with some negatives at random. Then those over the margin join, until none is left or after some rounds.
    With all of them over the margin in, the others would change nothing.
    """
    from sklearn.svm import LinearSVC

    lot = torch.randperm(len(negatives), generator=torch.Generator().manual_seed(0))
    chosen = torch.zeros(len(negatives), dtype=torch.bool)
    chosen[lot[: FIRST_NEGATIVES * len(positives)]] = True
    for _ in range(1 + ROUNDS):
        svm = LinearSVC(
            C=SVM_C, loss="hinge", intercept_scaling=BIAS, class_weight={1: POSITIVE_WEIGHT}, max_iter=1000,
            random_state=0,
        )  # fmt: skip
        rows = torch.cat((positives, negatives[chosen]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where classes overlap, it stops near its end after max_iter rounds
            svm.fit(rows.numpy(), (torch.arange(len(rows)) < len(positives)).numpy().astype(int))
        weight, bias = torch.from_numpy(svm.coef_[0]).float(), float(svm.intercept_[0])
        hard = (negatives @ weight + bias > HARD_SCORE) & ~chosen
        if not hard.any():
            break
        chosen |= hard
    return weight, bias


def fit_sigmoid(scores: Tensor, there: Tensor) -> tuple[float, float]:
    """Slope and offset of the sigmoid that makes probabilities of scores [N], where bool [N] says what was there.

    A slope that is not above 0, or none where all or nothing was there, becomes 1.
    """
    if not there.any() or there.all():
        return 1.0, 0.0
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1e3).fit(scores[:, None].numpy(), there.numpy())
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return (slope, offset) if slope > 0 else (1.0, 0.0)


class BoxRegressors(nn.Module):
    """R-CNN section 3.5 and appendix C: a ridge regression a class, from a region's features to its box's offsets.

    Args:
        width: of the features.
        classes: K.

    Attributes:
        weight [4 x K, width], bias [4 x K]: offset by offset, and in each class by class; zeros leave a box as it is.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(4 * classes, width))
        self.register_buffer("bias", torch.zeros(4 * classes))

    def forward(self, features: Tensor) -> Tensor:
        """Features [..., width] → offsets [..., K, 4], R-CNN's t_x, t_y, t_w, t_h."""
        with torch.autocast(features.device.type, enabled=False):  # as they were fitted
            offsets = features @ self.weight.T + self.bias  # [..., 4 x K]
        return offsets.reshape(*offsets.shape[:-1], 4, len(self.bias) // 4).transpose(-1, -2)

    def forget(self) -> None:
        """None is fitted."""
        self.weight.zero_()
        self.bias.zero_()

    def fit(self, features: Tensor, offsets: Tensor, labels: Tensor) -> None:
        """Equation 5, for every class of which there are proposals near a box.

        Args:
            features, offsets, labels: [P, width], [P, 4] and int64 [P]: proposals that overlap a box by enough, what
                leads from each to that box, and its class.
        """
        from sklearn.linear_model import Ridge

        scale = FEATURE_NORM / features.norm(dim=1).mean().clamp(min=1e-6)
        weight, bias = self.weight.view(4, -1, self.weight.shape[1]), self.bias.view(4, -1)  # [4, K, width], [4, K]
        for k in sorted(set(labels.tolist())):
            mine = labels == k
            ridge = Ridge(alpha=RIDGE_LAMBDA).fit((features[mine] * scale).numpy(), offsets[mine].numpy())
            weight[:, k] = torch.from_numpy(ridge.coef_).float() * scale
            bias[:, k] = torch.from_numpy(ridge.intercept_).float()


class RandomSubset:
    """A random subset of rows, bounded in memory; every row is in it with the same probability.

    When the rows take more than `most_bytes`, half of them are dropped at random, and of later ones that share is kept.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.share = 1.0
        self._random = torch.Generator().manual_seed(0)  # the same rows in, the same rows out
        self._parts: list[tuple[Tensor, ...]] = []

    def add(self, *columns: Tensor) -> None:
        """Tensors [N, ...] whose first dimension is the rows."""
        self._parts.append(self._drawn(columns, self.share))
        while sum(column.nbytes for part in self._parts for column in part) > self.most_bytes:
            self.share /= 2
            self._parts = [self._drawn(part, 0.5) for part in self._parts]

    @property
    def count(self) -> int:
        """How many rows were kept."""
        return sum(len(part[0]) for part in self._parts)

    def rows(self) -> tuple[Tensor, ...]:
        """All that was kept, column by column; at least one `add` must have been."""
        return tuple(torch.cat(columns) for columns in zip(*self._parts, strict=True))

    def _drawn(self, columns: tuple[Tensor, ...], share: float) -> tuple[Tensor, ...]:
        if share == 1:
            return tuple(column.cpu() for column in columns)
        kept = torch.rand(len(columns[0]), generator=self._random) < share
        return tuple(column.cpu()[kept] for column in columns)
