"""Charts of precision, recall and confusion: what is drawn, and that large ones stay small."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from foodbox.drawing.metrics import (
    LONGEST_NAME,
    MOST_COUNTS,
    MOST_NAMES,
    MOST_POINTS,
    confusion_matrix,
    precision_recall,
)


class Curve:
    """A curve of so many points."""

    def __init__(self, points: int) -> None:
        self.scores: Tensor = torch.linspace(0.9, 0.1, points)
        self.precision: Tensor = torch.linspace(1.0, 0.3, points)
        self.recall: Tensor = torch.linspace(0.1, 0.8, points)
        self.f1: Tensor = 2 / (1 / self.precision + 1 / self.recall)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are written."""
    written: list[Figure] = []
    draw = Figure.savefig

    def look(figure: Figure, *args: Any, **more: Any) -> None:
        written.append(figure)
        draw(figure, *args, **more)

    monkeypatch.setattr(Figure, "savefig", look)
    return written


def test_curves_have_their_ends_and_the_threshold(figures: list[Figure]) -> None:
    precision_recall(Curve(5000), 0.42, {"$a$ rice": Curve(3), "김치": Curve(1)})
    left, right = figures[0].axes
    lines = {str(line.get_label()): line.get_xydata() for line in left.lines}
    assert list(lines) == [r"\$a\$ rice", "김치", "all classes"]
    assert len(lines["all classes"]) == MOST_POINTS  # type: ignore[arg-type]
    assert lines["all classes"][0] == pytest.approx([0.1, 1.0])  # type: ignore[index]
    assert lines["all classes"][-1] == pytest.approx([0.8, 0.3])  # type: ignore[index]
    assert [text.get_text() for text in right.get_legend().get_texts()] == [  # type: ignore[union-attr]
        "precision", "recall", "F1", "threshold 0.42"
    ]  # fmt: skip


def test_no_detections_are_a_curve_of_no_points(figures: list[Figure]) -> None:
    precision_recall(Curve(0), 0.3)
    assert [len(line.get_xydata()) for line in figures[0].axes[0].lines] == [0]  # type: ignore[arg-type]
    assert figures[0].axes[0].get_legend() is None


def test_the_matrix_has_its_counts_and_names(figures: list[Figure]) -> None:
    confusion_matrix(torch.tensor([[3, 1, 0], [0, 0, 2], [1000, 0, 0]]), ["fried rice " * 9, "soup"])
    axes = figures[0].axes[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "3", (1, 0): "1", (2, 1): "2", (0, 2): "1,000"}
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names[1:] == ["soup", "missed"]
    assert len(names[0]) == LONGEST_NAME
    assert [label.get_text() for label in axes.get_yticklabels()][2] == "no box"
    shares = axes.images[0].get_array()
    assert shares is not None
    assert shares.tolist() == [[0.75, 0.25, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


@pytest.mark.parametrize(("classes", "counts", "names"), [(MOST_COUNTS, 0, 1), (MOST_NAMES, 0, 0), (300, 0, 0)])
def test_many_classes_have_no_words(figures: list[Figure], classes: int, counts: int, names: int) -> None:
    confusion_matrix(torch.eye(classes + 1).long(), [f"class {i}" for i in range(classes)])
    axes = figures[0].axes[0]
    assert len(axes.texts) == counts
    assert ("class 0" in [label.get_text() for label in axes.get_xticklabels()]) == bool(names)
    assert max(figures[0].get_size_inches()) < 16
