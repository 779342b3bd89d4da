"""A network's graph in words, and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import networkx as nx

from foodbox.drawing.boxes import COLOURS
from foodbox.drawing.graph import Box, picture
from foodbox.drawing.network import FAMOUS, Part, family_of, famous_words
from foodbox.drawing.trace import Shape

GREY = "#777777"
PALETTE = [COLOURS[i] for i in (4, 0, 2, 5, 6, 1)]
"""Okabe and Ito's without yellow and grey."""
WORDS = {"max_pool2d_with_indices": "max pool", "avg_pool2d": "mean pool", "upsample_nearest2d": "enlarged",
         "upsample_bilinear2d": "enlarged"}  # fmt: skip


def shape_words(shape: Shape, batch: int | None = 1) -> str:
    """(1, 256, 40, 40) → "256 × 40 × 40": the batch is left out."""
    return " × ".join(map(str, shape[1:] if len(shape) > 1 and shape[0] == batch else shape))


def count_words(count: int) -> str:
    """1234567 → "1.2 M"."""
    for size, letter in ((10**6, " M"), (10**3, " k")):
        if count >= size:
            return f"{count / size:.3g}{letter}" if count < 1000 * size else f"{count / size:,.0f}{letter}"
    return str(count)


def describe(graph: nx.DiGraph[int]) -> str:
    """The graph in words: a line for each box, and below it where its tensors go, with their shapes as they arrive."""
    nodes: Any = graph.nodes
    number = {node: i for i, node in enumerate(nodes, start=1)}
    lines = []
    for node in nodes:
        part = nodes[node]["part"]
        words = [part.path or part.name, part.kind, "; ".join(shape_words(shape) for shape in part.shapes)]
        if part.weights:
            words.append("shared weights" if part.again else f"{part.parameters:,} parameters")
        lines.append(f"{number[node]}. " + ", ".join(words))
        for _, after, data in graph.out_edges(node, data=True):
            lines.append(f"  → {number[after]}: " + "; ".join(map(shape_words, data["shapes"])))
    return "\n".join(lines)


def draw(graph: nx.DiGraph[int], title: str, kind: Literal["svg", "png"] = "svg") -> bytes:
    """The picture of a network's graph, with its number of parameters; each part of the whole network has its colour.

    The SVG holds `describe(graph)` as its description; its text is text.
    """
    nodes: Any = graph.nodes
    parts_of_it: list[Part] = [data["part"] for _, data in nodes(data=True)]
    groups = list(dict.fromkeys(part.group for part in parts_of_it if part.group))
    colours = {"": GREY} | {group: PALETTE[i % len(PALETTE)] for i, group in enumerate(groups)}
    counts = {group: sum(p.parameters for p in parts_of_it if p.group == group) for group in groups}
    boxes, labels = {}, {}
    for node in nodes:
        part = nodes[node]["part"]
        boxes[node] = Box(_lines(part), colours[part.group], family_of(part.path), part.role in ("joint", "weight"))
        for _, after, data in graph.out_edges(node, data=True):
            if words := _label(data, part, nodes[after]["part"]):
                labels[node, after] = words
    legend = [(f"{name} {count_words(counts[name])}" if counts[name] else name, colours[name]) for name in groups]
    total = sum(counts.values())
    return picture(graph, boxes, labels, f"{title}: {total:,} parameters", legend, describe(graph), kind)


def _lines(part: Part) -> tuple[str, ...]:
    shapes = [shape_words(shape) for shape in part.shapes]
    what = "maps" if all(len(shape) == 4 for shape in part.shapes) else "tensors"
    shape = shapes[0] if len(shapes) == 1 else f"{len(shapes)} {what}: {shapes[0]} … {shapes[-1]}"
    if part.role == "joint" and "," not in part.kind:
        return ("", f"{part.name}  {shape}")
    if part.role == "joint":
        return (part.path, part.name, shape) if part.path else (part.name, shape)
    if part.role != "module":
        return (part.name, famous_words(part.kind.split(", ")), shape)
    weights = "shared" if part.again else count_words(part.parameters) if part.weights else ""
    return (part.name, part.kind + (f" · {weights}" if weights else ""), shape)


def _label(data: Mapping[str, Any], part: Part, after: Part) -> str:
    """What an arrow hands on, where it is not just what its box gives, or what stands in the output behind it."""
    if len(data["shapes"]) > 1:
        lefts = {h.left for h in data["handed"]}
        return f"{len(lefts)} of {len(part.shapes)}" if len(lefts) < len(part.shapes) else ""
    names = WORDS | FAMOUS
    how = list(dict.fromkeys(names[step] for h in data["handed"] for step in h.steps if step in names))
    told = data["shapes"] == part.shapes or (after.role == "output" and data["shapes"] == after.shapes)
    return " ".join((", ".join(how), "" if told else shape_words(data["shapes"][0]))).strip()
