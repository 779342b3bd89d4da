"""Charts of what a detector finds on labelled photos: precision, recall, and which classes it takes for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from foodbox.drawing.canvas import empty, png
from foodbox.drawing.fonts import families

LONGEST_NAME = 24
"""Letters of a class's name along an axis."""
MOST_POINTS = 1000
"""Points of a curve that are drawn."""
MOST_NAMES, MOST_COUNTS = 60, 25
"""Classes above which a matrix has no names, or no numbers in its cells: they could not be read."""


class Curve(Protocol):
    """Precision and recall of all detections from a score on, [T] each, the highest score first."""

    scores: Tensor
    precision: Tensor
    recall: Tensor
    f1: Tensor


def precision_recall(curve: Curve, threshold: float, by_class: Mapping[str, Curve] | None = None) -> bytes:
    """A PNG: precision over recall on the left; precision, recall and F1 over the score on the right.

    Args:
        curve: of all classes together.
        threshold: the score from which detections are shown, which is marked.
        by_class: the curves of some classes, which are drawn on the left, too.
    """
    figure = empty(11, 4.2)
    left, right = figure.subplots(1, 2)
    for name, one in (by_class or {}).items():
        left.plot(_some(one.recall), _some(one.precision), linewidth=1, label=_short(name))
    left.plot(_some(curve.recall), _some(curve.precision), "k", linewidth=2, label="all classes" if by_class else None)
    left.set(title="Precision and recall (IoU 0.50)", xlabel="recall", ylabel="precision")
    for values, words in ((curve.precision, "precision"), (curve.recall, "recall"), (curve.f1, "F1")):
        right.plot(_some(curve.scores), _some(values), label=words)
    right.axvline(threshold, color="black", linewidth=0.8, linestyle=":", label=f"threshold {threshold:.3g}")
    right.set(title="By the lowest score that is shown", xlabel="score")
    for axes in (left, right):
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        if axes is right or by_class:
            axes.legend(prop={"family": families("".join(by_class or ())), "size": "small"})
    return png(figure)


def confusion_matrix(counts: Tensor, names: Sequence[str]) -> bytes:
    """A PNG of counts [K + 1, K + 1]: the boxes' classes by row, the detections' by column, the last of both nothing.

    Cells are coloured by their share of the row: of a class's boxes. The row of detections on no box has shares of its
    own sum.
    """
    size = len(names) + 1
    shares = (counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy()
    side = min(14.0, 3.0 + 0.42 * size)
    figure = empty(side + 1.2, side)
    axes = figure.subplots()
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes, shrink=0.7, label="share of the row")
    if size <= MOST_NAMES:
        family = families("".join(names))
        axes.set_xticks(range(size), [*map(_short, names), "missed"], rotation=90, fontfamily=family)
        axes.set_yticks(range(size), [*map(_short, names), "no box"], fontfamily=family)
    if size <= MOST_COUNTS:
        for row, values in enumerate(counts.tolist()):
            for column, value in enumerate(values):
                if value:
                    colour = "white" if shares[row, column] > 0.5 else "black"
                    axes.text(column, row, f"{value:,}", ha="center", va="center", fontsize="small", color=colour)
    axes.set(xlabel="found as", ylabel="labelled as", title="Confusion matrix (IoU 0.50)")
    return png(figure)


def _some(values: Tensor) -> np.ndarray[Any, Any]:
    """At most so many of the values as can be seen side by side, the first and the last among them."""
    chosen = torch.linspace(0, len(values) - 1, min(len(values), MOST_POINTS)).round().long()
    return values[chosen].numpy()


def _short(name: str) -> str:
    name = " ".join(name.split())
    name = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    return name.replace("$", r"\$")  # which would begin a formula
