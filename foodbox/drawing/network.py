"""The graph of a network's parts, and what they hand on to one another, as running it once shows it (trace.py).

Nothing here knows a detector: names, kinds, shapes and numbers of parameters are the module's own, and the arrows are
the tensors that it handed on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import networkx as nx
from torch import nn

from foodbox.drawing.trace import Shape, Step, Trace, trace

MOST, FEWEST = 60, 16
"""Boxes of a picture: more cannot be read, and of fewer there is nothing to see."""
VIEWS = {"view", "_unsafe_view", "reshape", "permute", "transpose", "expand", "unsqueeze", "squeeze", "t", "clone",
         "detach", "alias", "_to_copy", "slice", "select", "split", "chunk", "unbind"}  # fmt: skip
"""Steps that only show the same numbers in another order or kind; a label does not name them."""
SIGNS = {"cat": "concat", "stack": "concat", "add": "+", "mul": "×", "sub": "−", "div": "÷"}
WRITES = {"index_put", "copy"}
"""Steps that put something into a part of a tensor: one after the other makes the whole."""
FAMOUS = {"nms": "NMS", "roi_align": "RoI align", "roi_pool": "RoI pooling", "topk": "top k", "_softmax": "softmax",
          "sigmoid": "sigmoid"}  # fmt: skip
"""Steps that papers name: of many that are one box, they are the ones to tell."""


@dataclass
class Part:
    """A box of the picture.

    Attributes:
        role: a module's call; a "joint", where the code of a module brings several tensors together; what goes in or
            comes out.
        path: of the module in the network, or of the one whose code it is.
        kind: what it is: a class, an operation.
        gives: the values handed on.
        shapes: of these.
        weights: how many numbers each parameter has that is used here.
        again: the same weights have been used before.
    """

    role: Literal["input", "module", "weight", "joint", "output"]
    path: str
    kind: str
    calls: list[int] = field(default_factory=list)
    gives: list[int] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)
    again: bool = False
    name: str = ""

    @property
    def group(self) -> str:
        """The part of the whole network that it belongs to."""
        return "" if self.role in ("input", "output") else self.path.split(".")[0]

    @property
    def parameters(self) -> int:
        """How many, not counted twice over the graph."""
        return 0 if self.again else sum(self.weights.values())


class Handed(NamedTuple):
    """A tensor on an arrow: as it left the box, as it arrived at the next one, and what happened in between."""

    left: int
    arrived: int
    steps: tuple[str, ...]


def network(module: nn.Module, *inputs: Any, most: int = MOST) -> nx.DiGraph[int]:
    """The graph of a module's parts on these inputs: each node has a `Part`, each edge `handed` and `shapes`.

    Modules are opened from the outside in, all of a kind at once, where they take or give several tensors, as long as
    there are not more than `most` boxes; so a pyramid is seen level by level, and what turns one tensor into one is a
    box. Neighbours that keep the shape are one box, as a stage's convolutions.
    """
    return parts(trace(module, *inputs), most)


def parts(found: Trace, most: int = MOST) -> nx.DiGraph[int]:
    """`network`, of what has been traced already."""
    opened, shut = {""}, set[str]()
    graph = _collapse(found, opened)
    while True:
        families: dict[str, list[int]] = {}
        for node, data in graph.nodes(data=True):
            part = data["part"]
            if part.role == "module" and _is_built_of_parts(found, part):
                families.setdefault(family_of(part.path), []).append(node)
        choices = [name for name in families if name not in shut]
        if not choices:
            break

        def order(name: str, families: dict[str, list[int]] = families, graph: Any = graph) -> tuple[bool, int, int]:
            nodes = families[name]
            size = sum(graph.nodes[n]["part"].parameters for n in nodes)
            return all(_is_simple(graph, n) for n in nodes), name.count("."), -size

        best = min(choices, key=order)
        if order(best)[0] and len(graph) >= FEWEST:
            break
        larger = _collapse(found, opened | {best})
        if len(larger) > most:
            shut.add(best)
        else:
            opened.add(best)
            graph = larger
    _name(found, graph)
    return graph


def family_of(path: str) -> str:
    """A module's path without its numbers, which those of a kind have in common: "layers.0.conv" → "layers.#.conv"."""
    return re.sub(r"\d+", "#", path)


def _is_built_of_parts(found: Trace, part: Part) -> bool:
    return len(part.calls) == 1 and any(call.above == part.calls[0] for call in found.calls)


def _is_simple(graph: nx.DiGraph[int], node: int) -> bool:
    """One tensor in, one tensor out."""
    arrived = {h.arrived for _, _, data in graph.in_edges(node, data=True) for h in data["handed"]}
    return len(arrived) == 1 and len(graph.nodes[node]["part"].gives) == 1


class _Origin(NamedTuple):
    """Where a value comes from: the box, the value as it left that, and the steps since."""

    node: int
    left: int
    steps: tuple[str, ...]


def _collapse(found: Trace, opened: set[str]) -> nx.DiGraph[int]:
    """The graph where modules of these families are open, and what they do themselves is joints and arrows."""
    graph: nx.DiGraph[int] = nx.DiGraph()
    origin: dict[int, _Origin] = {}
    boxes: dict[int, int] = {}  # closed call → its node
    seen: set[str] = set()
    numel = {name: parameter.numel() for name, parameter in found.calls[0].module.named_parameters()}

    def add(part: Part) -> int:
        node = len(graph)
        part.again = bool(part.weights) and seen >= set(part.weights)
        seen.update(part.weights)
        graph.add_node(node, part=part)
        return node

    def hand(takes: Sequence[int], node: int) -> None:
        for value in takes:
            source, left, steps = origin[value]
            if source != node:
                if not graph.has_edge(source, node):
                    graph.add_edge(source, node, handed=[])
                if not any(h.arrived == value for h in graph.edges[source, node]["handed"]):
                    graph.edges[source, node]["handed"].append(Handed(left, value, steps))

    for name, value in found.inputs.items():
        origin[value] = _Origin(add(Part("input", name, "input")), value, ())
    for step in found.steps:
        call = _closed_call(found, step.call, opened)
        if call is not None:
            if call not in boxes:
                module, path = found.calls[call].module, found.calls[call].path
                weights = {f"{path}.{name}": p.numel() for name, p in module.named_parameters()}
                boxes[call] = add(Part("module", path, _kind(module), [call], weights=weights))
            node = boxes[call]
            # A module may use weights of another, as a convolution into which a norm is folded.
            used = {name: numel[name] for name in step.weights if name not in graph.nodes[node]["part"].weights}
            if not graph.nodes[node]["part"].again:
                graph.nodes[node]["part"].weights |= {name: count for name, count in used.items() if name not in seen}
            seen.update(used)
        else:
            path, sources = found.calls[step.call].path, [origin[value] for value in step.takes]
            if step.weights:
                used = {name: numel[name] for name in step.weights}
                node = add(Part("weight", step.weights[0], step.name, [step.call], weights=used))
            elif len({source[:2] for source in sources}) == 1:
                for value in step.gives:
                    origin[value] = _Origin(sources[0].node, sources[0].left, (*sources[0].steps, step.name))
                continue
            else:
                node = _like(graph, step, {source.node for source in sources})
                if node < 0:
                    node = add(Part("joint", path, step.name, [step.call]))
                    graph.nodes[node]["rows"] = _makes_rows(found, step)
                    graph.nodes[node]["writes"] = step.name in WRITES
        hand(step.takes, node)
        for value in step.gives:
            origin[value] = _Origin(node, value, ())
    for name, value in found.outputs.items():
        hand([value], add(Part("output", name, "output")))
    _tidy(found, graph)
    return graph


def _closed_call(found: Trace, call: int | None, opened: set[str]) -> int | None:
    """The outermost closed call that this one belongs to; None in the code of open ones."""
    closed = None
    while call is not None:
        if family_of(found.calls[call].path) not in opened:
            closed = call
        call = found.calls[call].above
    return closed


def _like(graph: nx.DiGraph[int], step: Step, sources: set[int]) -> int:
    """The joint that does the same already with other tensors of the same boxes, or -1.

    So all levels of a pyramid that are joined scale by scale are one box.
    """
    for node in graph.nodes if len(sources) > 1 else ():
        part = graph.nodes[node]["part"]
        same = part.role == "joint" and part.calls == [step.call] and part.kind == step.name
        if same and set(graph.predecessors(node)) == sources:
            return int(node)
    return -1


def _makes_rows(found: Trace, step: Step) -> bool:
    """Whether it gives rows of boxes or scores, not maps: these have four sides, and are made of such."""
    gives, takes = ([len(found.shapes[value]) == 4 for value in values] for values in (step.gives, step.takes))
    return not any(gives) or not any(takes)


def _gather(graph: nx.DiGraph[int]) -> None:
    """Makes one box of what a module's own code does with rows of boxes or scores, step behind step.

    So it does of what is put into parts of one tensor, as the features of regions from several maps. An output that is
    only several tensors side by side, which the module then goes on with, stays a box of its own.
    Two are one only if there is no other way from the first to the second, for then arrows would run in a circle.
    """
    nodes: Any = graph.nodes
    again = True
    while again:
        again = False
        for a, b in list(graph.edges):
            first, second = nodes[a]["part"], nodes[b]["part"]
            if first.role != "joint" or second.role != "joint" or first.calls != second.calls:
                continue
            if nodes[a]["rows"] != nodes[b]["rows"] or not (nodes[b]["rows"] or nodes[b]["writes"]):
                continue
            if first.kind == "cat" and any(nodes[n]["part"].role == "output" for n in graph.successors(a)):
                continue
            inside = graph.edges[a, b]
            graph.remove_edge(a, b)
            if nx.has_path(graph, a, b):
                graph.add_edge(a, b, **inside)
                continue
            between = [step for h in inside["handed"] for step in h.steps if step in FAMOUS]
            first.kind = ", ".join(dict.fromkeys([*first.kind.split(", "), *between, *second.kind.split(", ")]))
            nodes[a]["writes"] |= nodes[b]["writes"]
            for source, _, data in list(graph.in_edges(b, data=True)):
                _hand_over(graph, source, a, data["handed"])
            for _, after, data in list(graph.out_edges(b, data=True)):
                _hand_over(graph, a, after, data["handed"])
            graph.remove_node(b)
            again = True
            break


def _hand_over(graph: nx.DiGraph[int], before: int, after: int, handed: list[Handed]) -> None:
    there = graph.edges[before, after]["handed"] if graph.has_edge(before, after) else []
    graph.add_edge(before, after, handed=[*there, *(h for h in handed if h not in there)])


def _tidy(found: Trace, graph: nx.DiGraph[int]) -> None:
    """Drops what no output needs, makes joints that give an output that output, and one box of neighbours alike."""
    nodes: Any = graph.nodes
    outputs = [n for n in nodes if nodes[n]["part"].role == "output"]
    needed = set(outputs).union(*(nx.ancestors(graph, n) for n in outputs))
    graph.remove_nodes_from([n for n in nodes if n not in needed])
    _gather(graph)
    for node in outputs:
        (before,) = graph.predecessors(node)
        joint, value = nodes[before]["part"], found.outputs[nodes[node]["part"].path]
        ends = sum(nodes[n]["part"].role == "output" for n in graph.successors(before))
        used = {h.left for _, _, data in graph.out_edges(before, data=True) for h in data["handed"]}
        if joint.role == "joint" and ends == 1 and (graph.out_degree(before) == 1 or used == {value}):
            steps = [joint.kind, *graph.edges[before, node]["handed"][0].steps]
            nodes[node]["part"].kind = ", ".join(dict.fromkeys(s for s in steps if s not in VIEWS))
            for source, _, data in list(graph.in_edges(before, data=True)):
                graph.add_edge(source, node, **data)
            for _, after, data in list(graph.out_edges(before, data=True)):
                if after != node:
                    graph.add_edge(node, after, **data)
            graph.remove_node(before)
            nodes[node]["part"].gives = [value]
        else:
            nodes[node]["part"].gives = [graph.edges[before, node]["handed"][0].arrived]
    for node in list(nodes):
        part = nodes[node]["part"]
        if part.role != "output":
            used = {h.left for _, _, data in graph.out_edges(node, data=True) for h in data["handed"]}
            returned = found.calls[part.calls[-1]].gives if part.role == "module" else []
            part.gives = [v for v in dict.fromkeys([*returned, *sorted(used)]) if v in used]
    for node in list(nodes):  # in the order of the trace, so that a chain is gathered from its beginning
        if node in nodes:
            while (behind := _same(found, graph, node)) is not None:
                _merge(graph, node, behind)
    for node in nodes:
        nodes[node]["part"].shapes = [found.shapes[v] for v in nodes[node]["part"].gives]
    for _, after, data in graph.edges(data=True):
        arrived = [h.arrived for h in data["handed"]]
        if nodes[after]["part"].role != "module":
            # What a joint makes of one tensor in several ways is one tensor handed on.
            lefts = [h.left for h in data["handed"]]
            several = {left for left, count in Counter(lefts).items() if count > 1}
            arrived = list(dict.fromkeys(h.left if h.left in several else h.arrived for h in data["handed"]))
        data["shapes"] = [found.shapes[value] for value in arrived]


def _same(found: Trace, graph: nx.DiGraph[int], node: int) -> int | None:
    """The box behind that is one with this: alone behind it, of the same code, and of its shape or without weights."""
    nodes: Any = graph.nodes
    if graph.out_degree(node) != 1 or nodes[node]["part"].role != "module":
        return None
    (behind,) = graph.successors(node)
    first, second = nodes[node]["part"], nodes[behind]["part"]
    handed = graph.edges[node, behind]["handed"]
    if second.role != "module" or graph.in_degree(behind) != 1 or len(handed) != 1 or len(second.gives) != 1:
        return None
    if found.calls[first.calls[-1]].above != found.calls[second.calls[0]].above:
        return None
    shapes = {found.shapes[v] for v in (handed[0].left, handed[0].arrived, second.gives[0])}
    return behind if len(shapes) == 1 or not second.weights else None


def _merge(graph: nx.DiGraph[int], node: int, behind: int) -> None:
    nodes: Any = graph.nodes
    first, second = nodes[node]["part"], nodes[behind]["part"]
    first.calls, first.gives = first.calls + second.calls, second.gives
    first.weights, first.again = first.weights | second.weights, first.again and (second.again or not second.weights)
    for _, after, data in list(graph.out_edges(behind, data=True)):
        graph.add_edge(node, after, **data)
    graph.remove_node(behind)


def _kind(module: nn.Module) -> str:
    """What a module is, in a few words."""
    if isinstance(module, nn.Conv2d):
        (high, wide), stride = module.kernel_size, module.stride[0]
        words = f"conv {high} × {wide}" + (f" / {stride}" if stride > 1 else "")
        return words if module.groups == 1 else f"depthwise {words}"
    if type(module) is nn.Sequential:
        kinds = Counter(type(child).__name__ for child in module)
        return ", ".join(f"{n} × {kind}" if n > 1 else kind for kind, n in list(kinds.items())[:3])
    return type(module).__name__


def _name(found: Trace, graph: nx.DiGraph[int]) -> None:
    """Names that fit into a box: from the module on whose code runs it, as long as no other box has the same."""
    boxes: list[Part] = [data["part"] for _, data in graph.nodes(data=True)]
    short = {}
    for part in boxes:
        paths = [found.calls[call].path for call in part.calls] if part.role == "module" else [part.path]
        above = found.calls[part.calls[0]].above if part.role == "module" else None
        start = found.calls[above].path + "." if above else ""
        if paths[0].removeprefix(start)[:1].isdigit():  # a number says little without what it counts
            start = start[: start[:-1].rfind(".") + 1]
        ends = list(dict.fromkeys((paths[0], paths[-1])))
        short[id(part)] = " – ".join(path.removeprefix(start) for path in ends), " – ".join(ends)
        if len(part.calls) > 1 and part.role == "module":
            kinds = [_kind(found.calls[call].module) for call in part.calls]
            ends = list(dict.fromkeys((kinds[0], kinds[-1])))
            part.kind = f"{len(kinds)} × {kinds[0]}" if len(set(kinds)) == 1 else " … ".join(ends)
    whose: dict[str, set[str]] = {}
    for part in boxes:
        whose.setdefault(short[id(part)][0], set()).add(short[id(part)][1])
    for part in boxes:
        brief, whole = short[id(part)]
        part.name = brief if len(whose[brief]) == 1 else whole
        if part.role == "joint":
            words = part.kind.split(", ")
            telling = [word for word in words if word not in SIGNS] or words
            part.name = ", ".join(SIGNS.get(word, word) for word in telling[:3]) + (" …" if len(words) > 3 else "")
            part.name = famous_words(words) or part.name


def famous_words(steps: Iterable[str]) -> str:
    """["mul", "nms", "gather"] → "NMS"."""
    return ", ".join(FAMOUS[step] for step in dict.fromkeys(steps) if step in FAMOUS)
