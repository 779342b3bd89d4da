"""Curves of a run, from its first epoch on."""

from __future__ import annotations

import io
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from foodbox.drawing.curves import curves


def entry(epoch: int, scores: dict[str, float | None] | None) -> dict[str, Any]:
    result: dict[str, Any] = {"epoch": epoch, "losses": {"classes": 1 / epoch, "boxes": 0.5 / epoch, "off": 0.0}}
    return result if scores is None else result | {"scores": scores}


LOGS = {
    "none": [],
    "one epoch": [entry(1, {"ap": 0.1, "ap50": 0.2, "mean_iou": 0.3})],
    "not scored": [entry(1, None), entry(2, None)],
    "nothing to count": [entry(1, {"ap": None, "ap50": None, "mean_iou": None})],
    "several": [entry(e, {"ap": e / 10, "ap50": e / 8, "mean_iou": None}) for e in (1, 2, 3)],
}


@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS)
def test_a_run_at_any_time_has_a_picture(log: list[dict[str, Any]]) -> None:
    with Image.open(io.BytesIO(curves(log, "a run"))) as image:
        assert image.format == "PNG"
        assert image.width > 2 * image.height > 600


def test_what_is_logged_is_drawn() -> None:
    """Other numbers give another picture, the same numbers the same."""
    log = LOGS["several"]
    higher = [one | {"losses": {"classes": 3.0, "boxes": 1.0, "off": 0.0}} for one in log]
    pictures = [Image.open(io.BytesIO(curves(what, "a run"))).tobytes() for what in (log, log, higher)]
    assert pictures[0] == pictures[1] != pictures[2]


@pytest.mark.parametrize("title", ["a$b_$", "점심", "crème"])
def test_a_name_is_written_as_it_is(title: str, recwarn: pytest.WarningsRecorder) -> None:
    assert curves(LOGS["several"], title) != curves(LOGS["several"], "other")
    assert [str(warning.message) for warning in recwarn] == []


def test_the_legend_has_the_scores_of_the_model_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    legends: list[list[str]] = []
    draw = Figure.savefig

    def look(figure: Figure, *args: Any, **more: Any) -> None:
        legend = figure.axes[1].get_legend()
        assert legend is not None
        legends.append([text.get_text() for text in [legend.get_title(), *legend.get_texts()]])
        draw(figure, *args, **more)

    monkeypatch.setattr(Figure, "savefig", look)
    curves(LOGS["several"], "a run", 2)
    curves(LOGS["several"], "a run")
    assert legends == [["epoch 2, the best", "AP 0.200", "AP50 0.250"], ["", "AP", "AP50"]]


def test_one_epoch_stands_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float]] = []
    draw = Figure.savefig

    def look(figure: Figure, *args: Any, **more: Any) -> None:
        seen.extend(axes.get_xlim() for axes in figure.axes)
        assert all(tick == round(tick) for axes in figure.axes for tick in axes.get_xticks())
        draw(figure, *args, **more)

    monkeypatch.setattr(Figure, "savefig", look)
    curves(LOGS["one epoch"], "a run")
    assert seen == [(0, 2), (0, 2)]
