"""What a network does with its input: which parts hand which tensors on, found by running it once, and a picture of it.

Any torch module will do. Nothing here knows a detector: names, kinds, shapes and numbers of parameters are the
module's own, and the arrows are the tensors that it handed on. Data-dependent steps such as NMS are no obstacle, since
the module really runs; on the meta device it does so without computing anything.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import networkx as nx
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from foodbox.drawing.boxes import COLOURS
from foodbox.drawing.graph import Box, picture

Shape = tuple[int, ...]

MOST, FEWEST = 60, 16
"""Boxes of a picture: more cannot be read, and of fewer there is nothing to see."""
SHAPE_ONLY = re.compile(r"new_\w+|\w+_like")
"""Steps that take a tensor for its shape alone: nothing of what it holds goes on."""
VIEWS = {"view", "_unsafe_view", "reshape", "permute", "transpose", "expand", "unsqueeze", "squeeze", "t", "clone",
         "detach", "alias", "_to_copy", "slice", "select", "split", "chunk", "unbind"}  # fmt: skip
"""Steps that only show the same numbers in another order or kind; a label does not name them."""
SIGNS = {"cat": "concat", "stack": "concat", "add": "+", "mul": "×", "sub": "−", "div": "÷"}
WRITES = {"index_put", "copy"}
"""Steps that put something into a part of a tensor: one after the other makes the whole."""
FAMOUS = {"nms": "NMS", "roi_align": "RoI align", "roi_pool": "RoI pooling", "topk": "top k", "_softmax": "softmax",
          "sigmoid": "sigmoid"}  # fmt: skip
"""Steps that papers name: of many that are one box, they are the ones to tell."""


# -- The trace: what happened ----------------------------------------------------------------------------------------


@dataclass
class Call:
    """One call of one module: where it stands in the network, which call made it, and the values it returned."""

    path: str
    module: nn.Module
    above: int | None
    gives: list[int] = field(default_factory=list)


class Step(NamedTuple):
    """One operation: who ran it, the values it took and gave, and the parameters that it used."""

    name: str
    call: int
    takes: list[int]
    weights: list[str]
    gives: list[int]


@dataclass
class Trace:
    """All that depends on the inputs, in the order in which it happened. A value is a tensor between two changes.

    Attributes:
        shapes: of each value, by its number.
        inputs, outputs: the values that went in and came out, by name.
    """

    calls: list[Call] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)


def trace(module: nn.Module, *inputs: Any) -> Trace:
    """Runs the module once, without gradients and as in evaluation, and writes down what happens.

    Args:
        inputs: what its forward takes: tensors, or lists and dictionaries of them.
    """
    recorder = _Recorder(module)
    training = {part: part.training for part in module.modules()}
    handles = []
    try:
        module.eval()
        for path, part in module.named_modules():
            handles.append(part.register_forward_pre_hook(partial(recorder.enter, path)))
            handles.append(part.register_forward_hook(recorder.leave))
        found = recorder.trace
        for name, given in zip(_input_names(module, len(inputs)), inputs, strict=True):
            for which, tensor in _tensors(given, name):
                found.inputs[which] = recorder.new_value(tensor)
        with torch.no_grad(), recorder:
            result = module(*inputs)
        for name, tensor in _tensors(result, "output"):
            if (value := recorder.value_of(tensor)) is not None:
                found.outputs[name] = value
    finally:
        for handle in handles:
            handle.remove()
        for part, mode in training.items():
            part.training = mode
    return found


def _input_names(module: nn.Module, count: int) -> list[str]:
    """The names of its forward's arguments, or only "input" where there is one."""
    names = list(inspect.signature(module.forward).parameters)
    return ["input"] if count == 1 else names[:count] if len(names) >= count else [f"input {i}" for i in range(count)]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation below autograd, and knows which module is running."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self.running: list[int] = []
        self.values: Any = WeakTensorKeyDictionary()  # tensor → its value's number, while it lives
        self.weights: Any = WeakTensorKeyDictionary()  # parameters, and what is made of them alone → their names
        self.written: dict[int, tuple[Any, int]] = {}  # memory of a tensor into whose part a value went
        for name, parameter in module.named_parameters():
            self.weights[parameter] = [name]

    def enter(self, path: str, module: nn.Module, _: Any) -> None:
        self.trace.calls.append(Call(path, module, self.running[-1] if self.running else None))
        self.running.append(len(self.trace.calls) - 1)

    def leave(self, module: nn.Module, _: Any, result: Any) -> None:
        values = [self.value_of(tensor) for _, tensor in _tensors(result)]
        self.trace.calls[self.running.pop()].gives = [value for value in values if value is not None]

    def new_value(self, tensor: Tensor) -> int:
        self.trace.shapes.append(tuple(tensor.shape))
        self.values[tensor] = len(self.trace.shapes) - 1
        return len(self.trace.shapes) - 1

    def value_of(self, tensor: Tensor) -> int | None:
        """The number of what the tensor holds; None where that does not depend on the inputs."""
        value: int | None = self.values.get(tensor)
        _, late = self.written.get(tensor.untyped_storage()._cdata, (None, -1))
        if late <= (-1 if value is None else value):
            return value
        whole = self.new_value(tensor)
        self.trace.steps.append(Step("copy", self.running[-1], [late], [], [whole]))
        return whole

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [tensor for _, tensor in _tensors([args, kwargs or {}])]
        takes = [value for value in map(self.value_of, given) if value is not None]
        result = func(*args, **(kwargs or {}))
        name = func.name().split("::")[-1].split(".")[0]
        if SHAPE_ONLY.fullmatch(name):
            return result
        made = [tensor for _, tensor in _tensors(result)]
        weights = list(dict.fromkeys(name for tensor in given for name in self.weights.get(tensor, ())))
        if takes:
            self.trace.steps.append(
                Step(name.removesuffix("_"), self.running[-1], takes, weights, [self.new_value(t) for t in made])
            )
            for tensor in made:
                memory = tensor.untyped_storage()
                if any(tensor is one for one in given) and tensor._is_view():
                    # Written into a view: it is in the whole tensor, too. Held, so that no other takes its place.
                    self.written[memory._cdata] = memory, self.values[tensor]
        elif weights:
            for tensor in made:
                self.weights[tensor] = weights
        return result


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors within lists, tuples and dictionaries, each with the key or the place where it stands."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict | list | tuple):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _tensors(inner, f"{name} {key}" if isinstance(key, int) else str(key))


# -- The graph: parts, and what they hand on -------------------------------------------------------------------------


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
                families.setdefault(_family(part.path), []).append(node)
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


def _family(path: str) -> str:
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
        if _family(found.calls[call].path) not in opened:
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


# -- Words and pictures ----------------------------------------------------------------------------------------------


def shape_words(shape: Shape, batch: int | None = 1) -> str:
    """(1, 256, 40, 40) → "256 × 40 × 40": the batch is left out."""
    return " × ".join(map(str, shape[1:] if len(shape) > 1 and shape[0] == batch else shape))


def count_words(count: int) -> str:
    """1234567 → "1.2 M"."""
    for size, letter in ((10**6, " M"), (10**3, " k")):
        if count >= size:
            return f"{count / size:.3g}{letter}" if count < 1000 * size else f"{count / size:,.0f}{letter}"
    return str(count)


def famous_words(steps: Iterable[str]) -> str:
    """["mul", "nms", "gather"] → "NMS"."""
    return ", ".join(FAMOUS[step] for step in dict.fromkeys(steps) if step in FAMOUS)


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
        boxes[node] = Box(_lines(part), colours[part.group], _family(part.path), part.role in ("joint", "weight"))
        for _, after, data in graph.out_edges(node, data=True):
            if words := _label(data, part, nodes[after]["part"]):
                labels[node, after] = words
    legend = [(f"{name} {count_words(counts[name])}" if counts[name] else name, colours[name]) for name in groups]
    total = sum(counts.values())
    return picture(graph, boxes, labels, f"{title}: {total:,} parameters", legend, describe(graph), kind)


GREY = "#777777"
PALETTE = [COLOURS[i] for i in (4, 0, 2, 5, 6, 1)]
"""Okabe and Ito's without yellow and grey."""


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


WORDS = {"max_pool2d_with_indices": "max pool", "avg_pool2d": "mean pool", "upsample_nearest2d": "enlarged",
         "upsample_bilinear2d": "enlarged"}  # fmt: skip
