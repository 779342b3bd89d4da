"""The chart of a comparison: every name can be read, whatever lies where."""

import io
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from foodbox.drawing.tradeoffs import MARKERS, ON_WHITE, Line, tradeoffs

NAMES = ("alexandria", "bo", "caracas", "dili", "edinburgh", "freetown", "georgetown", "honiara")


def texts(figure: Figure) -> list[list[Text]]:
    """The names on both charts."""
    return [[text for text in axes.texts if text.get_text()] for axes in figure.axes]


def drawn(lines: list[Line]) -> Figure:
    kept: list[Figure] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, *_, **__: kept.append(figure))
        tradeoffs(lines)
    return kept[0]


def line(place: int, seconds: float, ap: float, milliseconds: float | None) -> Line:
    course = [(seconds * step / 4, ap * (1 - 0.5**step)) for step in range(1, 4)] + [(seconds, ap)]
    return Line(NAMES[place], course, course[-1], milliseconds, place)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.floats(550, 650), st.floats(0.3, 0.6), st.floats(20, 90)), min_size=8, max_size=8))
def test_names_cover_no_other(figures: list[tuple[float, float, float]]) -> None:
    """Eight detectors with the same budget, as good and fast as detectors are."""
    figure = drawn([line(i, *one) for i, one in enumerate(figures)])
    for names in texts(figure):
        assert sorted(text.get_text() for text in names) == sorted(NAMES)
        boxes = [text.get_window_extent() for text in names]
        for one, other in itertools.combinations(boxes, 2):
            assert not one.overlaps(other)
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)


def test_fast_and_slow_are_both_seen() -> None:
    """Values a hundred times apart stand on a logarithmic axis, near ones on one from 0."""
    _, right = drawn([line(0, 60, 0.5, 20), line(1, 60, 0.4, 4000)]).axes
    assert right.get_xscale() == "log"
    left, right = drawn([line(0, 60, 0.5, 20), line(1, 50, 0.4, 40)]).axes
    assert (left.get_xscale(), right.get_xscale()) == ("linear", "linear")
    assert left.get_xlim()[0] == right.get_xlim()[0] == 0


@pytest.mark.parametrize(
    "lines",
    [
        [line(0, 10, 0.0, None)],
        [line(0, 900, 0.3, 12.0), line(1, 900, 0.3, 12.0)],
        [Line("none", [], (0.0, 0.0), 5.0, 0)],
    ],
    ids=["nothing found, no time", "the same twice", "no epoch"],
)
def test_it_draws_what_there_is(lines: list[Line]) -> None:
    with Image.open(io.BytesIO(tradeoffs(lines))) as picture:
        assert picture.format == "PNG"
        assert picture.width > picture.height


def test_no_two_look_the_same() -> None:
    assert len({(ON_WHITE[i % len(ON_WHITE)], MARKERS[i % len(MARKERS)]) for i in range(72)}) == 72
