"""Detectors beside each other: how good against how long they learnt, and against how long a photo takes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from foodbox.drawing.boxes import COLOURS
from foodbox.drawing.canvas import empty, png

ON_WHITE = tuple("#000000" if colour == "#F0E442" else colour for colour in COLOURS)
"""Okabe and Ito's colours without their yellow, which is hardly seen on white, and with their black."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h")
"""As many as no two of 72 detectors share colour and form: who sees no colours has the forms."""
LOG_FROM = 8.0
"""From this ratio of the largest to the smallest, an axis is logarithmic: else the small ones lie on a heap."""
AROUND = [(radius, math.pi * turn / 8) for radius in (11, 19, 30, 44, 60) for turn in (0, 8, 4, 12, *range(1, 16))]
"""Where a label may stand: points (1/72 inch) from what it names, and in which direction; right and left first."""

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""x1 y1 x2 y2 in pixels of the picture."""


class Line(NamedTuple):
    """One detector: its AP after each epoch, its best AP, and how long it takes for a photo.

    Attributes:
        course: (seconds of training, AP), epoch by epoch.
        best: (seconds of training, AP) of the model that is kept.
        milliseconds: for one photo; None where it was not measured.
        style: its place among all, which decides on colour and form.
    """

    name: str
    course: Sequence[Point]
    best: Point
    milliseconds: float | None
    style: int


def colour_of(style: int) -> str:
    """The colour of the detector in this place."""
    return ON_WHITE[style % len(ON_WHITE)]


def tradeoffs(lines: Sequence[Line]) -> bytes:
    """A PNG: AP against the time of training on the left, AP against the time for a photo on the right."""
    figure = empty(12, 5)
    left, right = figure.subplots(1, 2)
    minutes = max((seconds for line in lines for seconds, _ in line.course), default=0) > 300
    unit = 60 if minutes else 1
    for line in lines:
        look = {"color": colour_of(line.style), "marker": MARKERS[line.style % len(MARKERS)]}
        course = [(seconds / unit, ap) for seconds, ap in line.course]
        left.plot(*zip(*course, strict=True), **look, markersize=4, linewidth=1.6, alpha=0.75)
        left.plot(line.best[0] / unit, line.best[1], **look, markersize=9)
        if line.milliseconds is not None:
            right.plot(line.milliseconds, line.best[1], **look, markersize=11)
    left.set(title="How good after how much training", xlabel=f"training in {'minutes' if minutes else 'seconds'}")
    right.set(title="How good and how fast", xlabel="milliseconds for one photo   (left is faster)")
    _scale(left, [line.course[-1][0] / unit for line in lines if line.course])
    _scale(right, [line.milliseconds for line in lines if line.milliseconds is not None])
    for axes in (left, right):
        axes.set(ylabel="AP on the validation photos")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    best = [line.best[1] for line in lines]
    low, high = min(best, default=0), max(0.02, *best)
    left.set_ylim(0, 1.12 * high)
    # Where all are good, what is between them is seen only without the way from 0.
    right.set_ylim(max(0, low - 0.5 * (high - low) - 0.02), high + 0.2 * (high - low) + 0.02)
    figure.canvas.draw()  # only then is it known where a point lies on the picture
    ends = [((line.best[0] / unit, line.best[1]), line) for line in lines]
    _label(left, ends, [(seconds / unit, ap) for line in lines for seconds, ap in line.course])
    _label(right, [((line.milliseconds, line.best[1]), line) for line in lines if line.milliseconds is not None], [])
    return png(figure, dpi=130)


def _scale(axes: Axes, values: Sequence[float]) -> None:
    """The range of an axis from 0, or a logarithmic one where the values lie far apart."""
    positive = [value for value in values if value > 0]
    if positive and max(positive) > LOG_FROM * min(positive):
        axes.set_xscale("log")
        axes.set_xlim(min(axes.get_xlim()[0], min(positive) / 1.5), max(positive) * 2.5)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, 1.25 * max(positive, default=1.0))


def _label(axes: Axes, named: Sequence[tuple[Point, Line]], others: Sequence[Point]) -> None:
    """Writes each name near its point, where it covers neither another name nor a point."""
    dot = axes.figure.dpi / 72  # pixels of a point of length
    points = [axes.transData.transform(point).tolist() for point, _ in named]
    taken = [_around(x, y, 7 * dot, 7 * dot) for x, y in points]
    taken += [_around(x, y, 3 * dot, 3 * dot) for x, y in map(axes.transData.transform, others)]
    for (x, y), (point, line) in sorted(zip(points, named, strict=True), key=lambda pair: -pair[0][1]):
        text = axes.annotate(
            line.name, point, (0, 0), textcoords="offset points", ha="center", va="center", fontsize=10,
            color=colour_of(line.style), fontweight="bold", annotation_clip=False,
            path_effects=[patheffects.withStroke(linewidth=3, foreground="white")],
        )  # fmt: skip
        text.set_in_layout(False)  # the axes stay where they were measured
        size = text.get_window_extent()
        half = size.width / 2 + 2 * dot, size.height / 2 + dot
        places = []
        for radius, turn in AROUND:
            # A name is wider than high: beside its point its middle lies farther off.
            shift = math.cos(turn) * (radius * dot + half[0]), math.sin(turn) * (radius * dot + half[1] / 2)
            box = _around(x + shift[0], y + shift[1], *half)
            inside = axes.bbox.x0 < box[0] and box[2] < axes.bbox.x1 and axes.bbox.y0 < box[1] and box[3] < axes.bbox.y1
            way = [_around(x + shift[0] * step / 8, y + shift[1] * step / 8, dot, dot) for step in range(3, 9)]
            covered = _shared([box, *way], taken)
            places.append((not inside, covered, radius, shift, [box, *way]))
            if inside and not covered:
                break
        _, _, radius, shift, boxes = min(places, key=lambda place: place[:2])
        taken += boxes
        text.set_position((shift[0] / dot, shift[1] / dot))
        if radius > AROUND[0][0]:
            axes.annotate(
                "", point, (shift[0] / dot, shift[1] / dot), textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": colour_of(line.style), "linewidth": 0.8}, zorder=1,
            ).set_in_layout(False)  # fmt: skip


def _around(x: float, y: float, across: float, up: float) -> Box:
    return x - across, y - up, x + across, y + up


def _shared(boxes: Sequence[Box], others: Sequence[Box]) -> float:
    """The sum of the areas that each of the boxes shares with each of the others, in square pixels."""
    one, other = np.array(boxes)[:, None], np.array(others)[None]  # [N, 1, 4], [1, M, 4]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])  # [N, M, 2]
    return float(sides.clip(0).prod(-1).sum())
