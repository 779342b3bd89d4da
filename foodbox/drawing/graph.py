"""A picture of a directed graph without circles: boxes in rows from top to bottom, and arrows that go round them.

The four steps of Sugiyama, Tagawa and Toda 1981 ("Methods for Visual Understanding of Hierarchical System Structures"):
rows, an order in each row with few crossings, places, and curves.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.textpath import TextPath

# All lengths are points, 1/72 inch.
WIDTH = 660
"""Of a row at most, if its families can be put below each other: what a README shows without making it smaller."""
FONT, SMALL = 8.0, 7.0
LINE_HEIGHT = 9.6
PADDING = 5.0
BESIDE, BETWEEN, WORDS, MARGIN = 9.0, 17.0, 7.0, 10.0
"""Between boxes of a row, between rows, more between rows with words on arrows, and around the picture."""
LANE_WIDTH = 5.0
"""What an arrow that passes a row needs there, and what is left free beside it."""
BEND_COSTS = (6, 1, 8)
"""What it costs to be out of line, for two boxes, for a box and a long arrow, and for an arrow on its way: chains of
boxes are straight, and long arrows step aside once."""
ARROW_GAP = 7.0
"""Between the arrows that begin or end at one box."""


@dataclass(frozen=True)
class Box:
    """How a node looks.

    Attributes:
        lines: what stands in it, the first in bold, or empty.
        colour: of its frame; its inside is a lighter one.
        family: boxes of a family stay in one row, if they can.
        round: with round ends, for what is no part by itself.
    """

    lines: tuple[str, ...]
    colour: str
    family: str = ""
    round: bool = False

    @property
    def width(self) -> float:
        first, *rest = self.lines
        return max(_long(first, FONT, "bold"), *(_long(line, SMALL) for line in rest)) + 2 * PADDING

    @property
    def height(self) -> float:
        return LINE_HEIGHT * sum(map(bool, self.lines)) + 2 * PADDING - 3


@functools.cache
def _long(words: str, size: float, weight: str = "normal") -> float:
    """The words' length in matplotlib's own font; most viewers' fonts are narrower."""
    if not words:
        return 0.0
    path = TextPath((0, 0), words, size, prop=FontProperties(family=FAMILY, weight=weight))
    return float(np.asarray(path.vertices)[:, 0].max())


FAMILY = "DejaVu Sans"
# Text stays text, ids come from the content: the same graph gives the same file.
OPTIONS: Any = {"svg.fonttype": "none", "svg.hashsalt": "foodbox", "font.family": "sans-serif",
                "font.sans-serif": [FAMILY, "Verdana"]}  # fmt: skip
Place = tuple[float, float]


@mpl.rc_context(OPTIONS)
def picture(
    graph: nx.DiGraph[int], boxes: Mapping[int, Box], labels: Mapping[tuple[int, int], str], title: str,
    legend: Sequence[tuple[str, str]], about: str, kind: str = "svg",
) -> bytes:  # fmt: skip
    """The picture of the graph, as SVG whose text is text, or as PNG.

    Args:
        boxes: how each node looks.
        labels: words beside the ends of arrows.
        legend: words and their colour, below the title.
        about: a description of the picture for those who do not see it; only SVG holds it.
    """
    rows, wires = _rows(graph, boxes)
    _order(rows, wires, boxes)
    widths = {node: boxes[node].width if node in boxes else LANE_WIDTH for row in rows for node in row}
    x = _columns(rows, wires, widths)
    tall = [max((boxes[n].height for n in row if n in boxes), default=0) for row in rows]
    row_of = {node: r for r, row in enumerate(rows) for node in row}
    worded = {row_of[b] - 1 if _at_end(graph, (a, b)) else row_of[a] for a, b in labels}
    gaps = [BETWEEN + (WORDS if r in worded else 0) for r in range(len(rows))]
    tops = list(itertools.accumulate((h + gap for h, gap in zip(tall, gaps, strict=True)), initial=0.0))
    left = min(x[n] - widths[n] / 2 for n in x)
    right = max(x[n] + widths[n] / 2 for n in x)
    head = 2 * LINE_HEIGHT + 14
    width = max(right - left, 420.0) + 2 * MARGIN
    height = head + tops[-1] - gaps[-1] + 2 * MARGIN
    shift = (width - (right - left)) / 2 - left
    middle = {
        n: (x[n] + shift, height - MARGIN - head - tops[r] - tall[r] / 2) for r, row in enumerate(rows) for n in row
    }
    half = {n: (boxes[n].height if n in boxes else tall[r]) / 2 for r, row in enumerate(rows) for n in row}

    figure = Figure(figsize=(width / 72, height / 72), dpi=144)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    axes.text(width / 2, height - MARGIN - 5, title, size=FONT + 2, weight="bold", ha="center", va="center")
    lengths = [_long(words, SMALL) + 24 for words, _ in legend]
    at = width / 2 - sum(lengths) / 2 + 6
    for (words, colour), length in zip(legend, lengths, strict=True):
        y = height - MARGIN - LINE_HEIGHT - 12
        axes.add_patch(FancyBboxPatch((at, y - 3), 8, 6, "round,pad=0,rounding_size=1.5", fc=_light(colour), ec=colour))
        axes.text(at + 11, y, words, size=SMALL, va="center")
        at += length
    curves, ends = _curves(graph, wires, middle, half, widths)
    for edge, path in curves.items():
        colour = boxes[edge[0]].colour
        arrow = FancyArrowPatch(path=path, arrowstyle="-|>,head_length=3.6,head_width=1.7", mutation_scale=1, lw=0.9,
                                color=colour, joinstyle="miter", capstyle="butt")  # fmt: skip
        axes.add_patch(arrow)
        if edge in labels:
            _label(axes, labels[edge], path, _at_end(graph, edge), *ends[edge])
    for node, box in boxes.items():
        (cx, cy), w, h = middle[node], box.width, box.height
        rounding = h / 2 if box.round else 3
        style = f"round,pad=0,rounding_size={rounding}"
        axes.add_patch(FancyBboxPatch((cx - w / 2, cy - h / 2), w, h, style, fc=_light(box.colour), ec=box.colour))
        shown = [(line, i == 0) for i, line in enumerate(box.lines) if line]
        for i, (line, bold) in enumerate(shown):
            y = cy + ((len(shown) - 1) / 2 - i) * LINE_HEIGHT
            axes.text(cx, y, line, size=FONT if bold else SMALL, weight="bold" if bold else "normal", ha="center",
                      va="center_baseline")  # fmt: skip
    buffer = io.BytesIO()
    metadata = {"Date": None, "Title": title, "Description": about} if kind == "svg" else None
    figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def _at_end(graph: nx.DiGraph[int], edge: tuple[int, int]) -> bool:
    """Words stand at the end of an arrow that has fewer others."""
    return bool(graph.in_degree(edge[1]) <= graph.out_degree(edge[0]))


def _label(axes: Axes, words: str, path: Path, at_end: bool, leaving: tuple[int, int], coming: tuple[int, int]) -> None:
    """Words beside an arrow's end, on its free side.

    Args:
        leaving: which of how many arrows it is where it begins, from the left; `coming` where it ends.
    """
    near = slice(-4, None) if at_end else slice(4)  # the curve between two rows
    first, *_, last = np.asarray(path.vertices)[near].tolist()
    (x, y), (number, count) = (last, coming) if at_end else (first, leaving)
    way = last[0] - first[0]  # to the right
    if count == 1 and abs(way) < 10:
        number, count = leaving if at_end else coming
        to_left = count > 1 and number == 0
    else:
        to_left = number == 0 if count > 1 else (way > 0) != at_end
    axes.text(x + (-3.5 if to_left else 3.5), y + (6.5 if at_end else -5), words, size=SMALL - 1, color="#444444",
              ha="right" if to_left else "left", va="center_baseline")  # fmt: skip


def _light(colour: str, share: float = 0.18) -> str:
    return "#" + "".join(f"{round(255 - (255 - int(colour[i : i + 2], 16)) * share):02x}" for i in (1, 3, 5))


def _rows(graph: nx.DiGraph[int], boxes: Mapping[int, Box]) -> tuple[list[list[int]], dict[tuple[int, int], list[int]]]:
    """Each node as near as can be before what needs it; and the nodes on the way of each edge, both ends among them.

    What nothing needs is as near as can be behind what it needs itself. Where an edge passes a row, it has a node of
    its own there, with a number that no box has.
    """
    rows: list[list[int]] = []
    generations = [set(nodes) for nodes in reversed(list(nx.topological_generations(graph.reverse())))]
    number = {node: i for i, nodes in enumerate(generations) for node in nodes}
    for node in generations[-1] & {after for _, after in graph.edges}:
        generations[-1].remove(node)
        generations[1 + max(number[before] for before in graph.predecessors(node))].add(node)
    for generation in generations:
        families: dict[str, list[int]] = {}
        for node in sorted(generation):
            families.setdefault(boxes[node].family, []).append(node)
        fits = sum(boxes[node].width + BESIDE for node in generation) <= WIDTH
        rows += [sorted(generation)] if fits else families.values()
    row_of = {node: r for r, row in enumerate(rows) for node in row}
    wires, fresh = {}, itertools.count(max(graph) + 1)
    for before, after in graph.edges:
        wires[before, after] = [before]
        for r in range(row_of[before] + 1, row_of[after]):
            wires[before, after].append(next(fresh))
            rows[r].append(wires[before, after][-1])
        wires[before, after].append(after)
    return rows, wires


def _neighbours(rows: list[list[int]], wires: Mapping[Any, list[int]]) -> tuple[dict[int, list[int]], ...]:
    above: dict[int, list[int]] = {node: [] for row in rows for node in row}
    below: dict[int, list[int]] = {node: [] for row in rows for node in row}
    for wire in wires.values():
        for before, after in itertools.pairwise(wire):
            above[after].append(before)
            below[before].append(after)
    return above, below


SWEEPS = 16
"""How often rows are put in order, down or up."""
SHIFT_COST = 0.5
"""What it costs when an arrow goes one place aside, where a crossing costs 1."""


def _order(rows: list[list[int]], wires: Mapping[Any, list[int]], boxes: Mapping[int, Box]) -> None:
    """Orders each row by the mean place of its neighbours, down and up in turn, and keeps what is best."""
    above, below = _neighbours(rows, wires)
    best, least = [list(row) for row in rows], float("inf")
    for sweep in range(SWEEPS):
        near = above if sweep % 2 == 0 else below
        for row in rows if near is above else reversed(rows):
            _sort(row, rows, near, boxes)
        if (cost := _crossings(rows, below) + SHIFT_COST * _aside(rows, below)) < least:
            best, least = [list(row) for row in rows], cost
    for row, kept in zip(rows, best, strict=True):
        row[:] = kept


def _sort(row: list[int], rows: list[list[int]], near: dict[int, list[int]], boxes: Mapping[int, Box]) -> None:
    """One row by the places of the neighbours; what belongs together stands in its own order, first to last."""
    others = {other for node in row for other in near[node]}
    place = {node: i for r in rows if others.intersection(r) for i, node in enumerate(r)}
    here = {node: i for i, node in enumerate(row)}
    row.sort(key=lambda n: sum(place[o] for o in near[n]) / len(near[n]) if near[n] else here[n])
    slots: dict[str, list[int]] = {}
    for i, node in enumerate(row):
        if node in boxes:
            slots.setdefault(boxes[node].family, []).append(i)
    for places in slots.values():
        for i, node in zip(places, sorted(row[i] for i in places), strict=True):
            row[i] = node


def _crossings(rows: list[list[int]], below: dict[int, list[int]]) -> int:
    count = 0
    for row, after in itertools.pairwise(rows):
        place = {node: i for i, node in enumerate(after)}
        ends = [sorted(place[other] for other in below[node]) for node in row]
        for first, second in itertools.combinations(ends, 2):
            count += sum(a > b for a in first for b in second)
    return count


def _aside(rows: list[list[int]], below: dict[int, list[int]]) -> float:
    """How far arrows go to the side, in places of a row, all together."""
    place = {node: i - (len(row) - 1) / 2 for row in rows for i, node in enumerate(row)}
    return sum(abs(place[node] - place[after]) for node in below for after in below[node])


def _columns(rows: list[list[int]], wires: Mapping[Any, list[int]], widths: Mapping[int, float]) -> dict[int, float]:
    """Places from left to right: the arrows as straight as can be, and no box over another.

    That is the least sum of |x_a − x_b| over neighbours with x_b − x_a at least some gap within a row: a linear
    program, whose dual is a flow of least cost (Gansner et al. 1993, "A Technique for Drawing Directed Graphs", section
    4.2). Of all best answers, the one in the middle.
    """
    boxes = {node for wire in wires.values() for node in (wire[0], wire[-1])}
    gaps: nx.DiGraph[Any] = nx.DiGraph()  # a → b: x_b is at least `least` more than x_a, and each point more costs
    for row in rows:
        gaps.add_nodes_from(row)
        for a, b in itertools.pairwise(row):
            beside = BESIDE if a in boxes and b in boxes else LANE_WIDTH
            gaps.add_edge(a, b, least=math.ceil((widths[a] + widths[b]) / 2 + beside), cost=0)
    for wire in wires.values():
        for a, b in itertools.pairwise(wire):
            # |x_a - x_b| is the least of (x_a - y) + (x_b - y) for a y that is left of both.
            for end in (a, b):
                gaps.add_edge((a, b), end, least=0, cost=BEND_COSTS[(a not in boxes) + (b not in boxes)])
    flow_graph: nx.DiGraph[Any] = nx.DiGraph()
    for node in gaps:
        inside = sum(cost for _, _, cost in gaps.in_edges(node, data="cost"))
        flow_graph.add_node(node, demand=inside - sum(cost for _, _, cost in gaps.out_edges(node, data="cost")))
    flow_graph.add_edges_from((a, b, {"weight": -least}) for a, b, least in gaps.edges(data="least"))
    _, flow = nx.network_simplex(flow_graph)
    # Where something flows, the gap is exactly its least.
    bounds: nx.DiGraph[Any] = nx.DiGraph()
    for a, b, least in gaps.edges(data="least"):
        bounds.add_edge(b, a, weight=-least)
        if flow[a][b]:
            bounds.add_edge(a, b, weight=least)
    start = rows[0][0]
    most = nx.single_source_bellman_ford_path_length(bounds, start)
    least = nx.single_source_bellman_ford_path_length(bounds.reverse(), start)
    return {node: (most[node] - least[node]) / 2 for row in rows for node in row}


def _curves(
    graph: nx.DiGraph[int], wires: Mapping[tuple[int, int], list[int]], middle: Mapping[int, Place],
    half: Mapping[int, float], widths: Mapping[int, float],
) -> tuple[dict[tuple[int, int], Path], dict[tuple[int, int], list[tuple[int, int]]]]:  # fmt: skip
    """Each edge's way: straight through the rows that it passes, a curve between two rows.

    Besides, which of how many arrows it is at its two ends, from the left.
    """
    ports: dict[tuple[tuple[int, int], int], float] = {}  # edge, end of it → the place on the box
    numbers: dict[tuple[tuple[int, int], int], tuple[int, int]] = {}
    for node in graph:
        for edges, end in ((graph.out_edges(node), 0), (graph.in_edges(node), -1)):
            near = {edge: middle[wires[edge][1 if end == 0 else -2]][0] for edge in edges}
            order = sorted(near, key=near.__getitem__)
            gap = min(ARROW_GAP, (widths[node] - 10) / max(1, len(order)))
            for i, edge in enumerate(order):
                numbers[edge, end] = i, len(order)
                ports[edge, end] = middle[node][0] + (i - (len(order) - 1) / 2) * gap
    curves, ends = {}, {edge: [numbers[edge, 0], numbers[edge, -1]] for edge in wires}
    for edge, wire in wires.items():
        start = ports[edge, 0], middle[edge[0]][1] - half[edge[0]]
        points, codes = [start], [Path.MOVETO]
        for node in wire[1:]:
            last = node == wire[-1]
            here = ports[edge, -1] if last else middle[node][0], middle[node][1] + half[node]
            bend = (points[-1][1] - here[1]) / 2
            points += [(points[-1][0], points[-1][1] - bend), (here[0], here[1] + bend), here]
            codes += [Path.CURVE4] * 3
            if not last:
                points.append((here[0], here[1] - 2 * half[node]))
                codes.append(Path.LINETO)
        curves[edge] = Path(points, codes)
    return curves, ends
