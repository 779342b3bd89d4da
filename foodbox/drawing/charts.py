"""Charts of a dataset: how many boxes a photo has, how large they are, of what shape, and where they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from foodbox.drawing.boxes import COLOURS
from foodbox.drawing.canvas import empty, png
from foodbox.records import Dataset

BLUE = COLOURS[4]
BINS = 40
"""Bars of a histogram at most: more are too thin to be told apart on a phone."""
RATIOS = {1 / 16: "1:16", 1 / 8: "1:8", 1 / 4: "1:4", 1 / 2: "1:2", 1: "1:1", 2: "2:1", 4: "4:1", 8: "8:1", 16: "16:1"}

Array = np.ndarray[Any, np.dtype[Any]]


class Chart(NamedTuple):
    """A PNG and a sentence on what it shows."""

    title: str
    picture: bytes
    words: str


def charts(dataset: Dataset) -> list[Chart]:
    """What can be drawn of a dataset: nothing of no photos, and of photos without a box their sizes alone."""
    if not len(dataset):
        return []
    sizes = np.array([(photo.width, photo.height) for photo in dataset], np.float64)  # [P, 2]
    counts = np.array([len(photo.boxes) for photo in dataset])  # [P]
    found = [_photo_sizes(sizes)]
    if counts.any():
        boxes = torch.cat([photo.boxes for photo in dataset]).numpy()  # [N, 4]
        of_photo = np.repeat(sizes, counts, axis=0)  # [N, 2]
        sides = boxes[:, 2:] - boxes[:, :2]
        labelled = counts[[photo.labelled for photo in dataset]]
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / of_photo
        shares = np.sqrt(sides.prod(1) / of_photo.prod(1))
        found = [_boxes_a_photo(labelled), _box_sizes(shares), _box_shapes(sides), _places(centres), *found]
    return found


def _boxes_a_photo(counts: Array) -> Chart:
    most = int(counts.max())
    step = most // BINS + 1
    edges = np.arange(0, most + step + 1, step) - 0.5

    def draw(axes: Axes) -> None:
        _histogram(axes, counts, edges)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="boxes on a photo", ylabel="photos")

    words = f"Half of the labelled photos have {np.median(counts):g} or more; the most is {most:,}."
    return _chart("Boxes on a photo", draw, words)


def _box_sizes(shares: Array) -> Chart:
    def draw(axes: Axes) -> None:
        _histogram(axes, shares, np.linspace(0, 1, 26))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set(xlabel="side of the box, as a share of the photo's side", ylabel="boxes", xlim=(0, 1))

    words = (
        f"Half of the boxes are at most {_percent(np.median(shares))} of the photo's side; the smallest has "
        f"{_percent(shares.min())}. Side: the square root of the area."
    )
    return _chart("Size of the boxes", draw, words)


def _percent(share: Any) -> str:
    percent = 100 * float(share)
    return f"{percent:.2g}%" if percent < 10 else f"{percent:.0f}%"


def _box_shapes(sides: Array) -> Chart:
    ratios = np.log2(sides[:, 0] / sides[:, 1])
    reach = min(4.0, max(1.0, float(np.ceil(np.abs(ratios).max()))))

    def draw(axes: Axes) -> None:
        _histogram(axes, 2 ** ratios.clip(-reach, reach), 2 ** np.linspace(-reach, reach, 33))
        axes.set_xscale("log", base=2)
        axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
        axes.xaxis.set_major_locator(FixedLocator([ratio for ratio in RATIOS if abs(np.log2(ratio)) <= reach]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: RATIOS[ratio]))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="width : height   (upright ← square → lying)", ylabel="boxes")

    return _chart("Shape of the boxes", draw, f"{(ratios > 0).mean():.0%} of the boxes are wider than high.")


def _places(centres: Array) -> Chart:
    # Few boxes in many fields would be scattered dots.
    fields = int(np.clip(len(centres) ** 0.5 / 2, 5, 30))
    counts, _, _ = np.histogram2d(centres[:, 1], centres[:, 0], bins=fields, range=[[0, 1], [0, 1]])

    def draw(axes: Axes) -> None:
        shown = axes.imshow(counts, extent=(0, 1, 1, 0), cmap="Blues", vmin=0)
        bar = axes.figure.colorbar(shown, ax=axes, label="boxes", shrink=0.9)
        bar.ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1))
        axes.set(xlabel="from the photo's left", ylabel="from the photo's top")

    words = "The centres of all boxes. Where there is none, a detector seldom learns to look."
    return _chart("Where the boxes lie", draw, words)


def _photo_sizes(sizes: Array) -> Chart:
    count = Counter(map(tuple, sizes.tolist()))
    (width, height), most = count.most_common(1)[0]
    unique, photos = np.array(list(count)), np.array(list(count.values()))
    edge = float(sizes.max()) * 1.08

    def draw(axes: Axes) -> None:
        axes.plot([0, edge], [0, edge], ":", color="black", linewidth=0.8)
        axes.scatter(unique[:, 0], unique[:, 1], s=20 + 280 * photos / photos.max(), color=BLUE, alpha=0.5, linewidth=0)
        axes.set(xlabel="width in pixels", ylabel="height in pixels", xlim=(0, edge), ylim=(0, edge), aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=True))

    words = f"All have {width:g} × {height:g} pixels."
    if len(count) > 1:
        words = f"{len(count):,} sizes; larger dots are more photos. {most:,} of {len(sizes):,} have {words[9:]}"
    return _chart("Size of the photos", draw, words)


def _histogram(axes: Axes, values: Array, edges: Array) -> None:
    axes.hist(values, edges.tolist(), color=BLUE, edgecolor="white", linewidth=0.5)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)


def _chart(title: str, draw: Callable[[Axes], None], words: str) -> Chart:
    figure = empty(4.2, 3.1)
    axes = figure.subplots()
    draw(axes)
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    return Chart(title, png(figure, dpi=160), words)
