"""Pictures of networks say what the networks do: held against forward hooks, and numbers worked by hand."""

from __future__ import annotations

import importlib.util
import io
import re
from collections import defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import networkx as nx
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from foodbox.drawing.figure import describe, draw, shape_words
from foodbox.drawing.network import Part, network

DOCS = Path(__file__).parents[2] / "docs"
spec = importlib.util.spec_from_file_location("draw_networks", DOCS / "draw_networks.py")
assert spec is not None
assert spec.loader is not None
draw_networks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(draw_networks)
FIGURES: dict[str, str] = draw_networks.FIGURES
Graph = Any
Shapes = list[tuple[int, ...]]


@pytest.fixture(scope="module")
def drawn() -> dict[str, tuple[Graph, Hooked, int]]:
    """Of each figure its graph, what hooks see on the same inputs, and the model's parameters; models are large."""
    found = {}
    for name, preset in FIGURES.items():
        detector, inputs = draw_networks.model_of(name, preset)
        count = sum(p.numel() for p in detector.parameters())
        found[name] = network(detector, *inputs), Hooked(detector, *inputs), count
    return found


@pytest.fixture(scope="module")
def graphs(drawn: dict[str, tuple[Graph, Hooked, int]]) -> dict[str, Graph]:
    return {name: graph for name, (graph, _, _) in drawn.items()}


def parts_of(graph: Graph) -> list[Part]:
    return [data["part"] for _, data in graph.nodes(data=True)]


def shapes_of(value: Any) -> Shapes:
    if isinstance(value, Tensor):
        return [tuple(value.shape)]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [shape for one in inner for shape in shapes_of(one)]


class Hooked:
    """What each module took and gave, call by call, by torch's hooks alone."""

    def __init__(self, module: nn.Module, *inputs: Any) -> None:
        self.took: dict[str, list[Shapes]] = defaultdict(list)
        self.gave: dict[str, list[Shapes]] = defaultdict(list)
        for path, part in module.named_modules():
            part.register_forward_hook(lambda _, took, gave, path=path: self.note(path, took, gave))
        with torch.no_grad():
            module.eval()(*inputs)

    def note(self, path: str, took: Any, gave: Any) -> None:
        self.took[path].append(shapes_of(took))
        self.gave[path].append(shapes_of(gave))


# -- A network small enough to be worked by hand ---------------------------------------------------------------------


class Fork(nn.Module):
    """Two ways that meet, one module called twice, a weight of its own, and a step that depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), nn.ReLU(inplace=True))
        self.side = nn.Conv2d(4, 6, 1)
        self.head = nn.Conv2d(4, 2, 1)
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x - 0.5)  # [B, 4, 8, 8]
        small = torch.max_pool2d(x, 2)  # [B, 4, 4, 4]
        rows = [self.head(one).flatten(2) for one in (x, small)]  # [B, 2, 64], [B, 2, 16]
        whole = x.new_zeros(1, 6, 4, 4)
        whole[0].copy_(self.side(small)[0])  # written into a part
        joined = torch.cat(rows, 2)  # [B, 2, 80]
        return {"rows": joined[joined > -1e9], "map": whole * self.scale.view(-1, 1, 1), "grid": torch.zeros(2)}


FORK = """1. input, input, 3 × 16 × 16
  → 2: 3 × 16 × 16
2. stem.0, conv 3 × 3 / 2 … ReLU, 4 × 8 × 8, 108 parameters
  → 3: 4 × 8 × 8
  → 4: 4 × 4 × 4
  → 5: 4 × 4 × 4
3. head, conv 1 × 1, 2 × 8 × 8, 10 parameters
  → 7: 2 × 64
4. head, conv 1 × 1, 2 × 4 × 4, shared weights
  → 7: 2 × 16
5. side, conv 1 × 1, 6 × 4 × 4, 30 parameters
  → 6: 6 × 4 × 4
6. scale, mul, 6 × 4 × 4, 6 parameters
  → 8: 6 × 4 × 4
7. rows, cat, index, 160
8. map, output, 6 × 4 × 4"""


def test_a_network_worked_by_hand() -> None:
    """2 x 64 + 2 x 16 = 160 values; 3 x 4 x 9 = 108 weights; "grid" depends on no input and is left out."""
    assert describe(network(Fork(), torch.rand(1, 3, 16, 16))) == FORK


def test_a_network_is_left_as_it_was() -> None:
    module = Fork().train()
    module.side.eval()
    network(module, torch.rand(1, 3, 16, 16))
    assert [part.training for part in (module, module.stem, module.side, module.head)] == [True, True, False, True]
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_proposals_and_nms() -> None:
    """Torchvision's Faster R-CNN: lists of photos go in, NMS decides how many boxes there are, and all is there."""
    module = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    module.roi_heads.score_thresh = 0.0
    graph = network(module, [torch.rand(3, 96, 128)])
    assert nx.is_directed_acyclic_graph(graph)
    assert sum(p.parameters for p in parts_of(graph)) == sum(p.numel() for p in module.parameters())
    (align,) = [n for n, data in graph.nodes(data=True) if data["part"].path == "roi_heads.box_roi_pool"]
    before = [graph.nodes[n]["part"] for n in graph.predecessors(align)]
    assert {part.path for part in before} >= {"rpn", "backbone.fpn.layer_blocks.0", "backbone.fpn.layer_blocks.1"}
    (rpn,) = [part for part in before if part.path == "rpn"]
    assert "nms" in rpn.kind
    assert graph.nodes[align]["part"].shapes == [(rpn.shapes[0][0], 256, 7, 7)]
    assert {part.path for part in parts_of(graph) if part.role == "output"} == {"boxes", "labels", "scores"}
    assert draw(graph, "Faster R-CNN").startswith(b"<?xml")


# -- The figures of the documents ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIGURES)
def test_parts_and_shapes_are_the_models(name: str, drawn: dict[str, tuple[Graph, Hooked, int]]) -> None:
    """Every part gives what torch's hooks saw it give, and the arrows to it bring what they saw it take."""
    graph, seen, count = drawn[name]
    assert sum(part.parameters for part in parts_of(graph)) == count
    calls: dict[str, int] = defaultdict(int)
    checked = 0
    for node, data in graph.nodes(data=True):
        part: Part = data["part"]
        if part.role == "output":
            assert part.shapes[0] in seen.gave[""][0]
        if part.role != "module":
            continue
        brought = [shape for _, _, edge in graph.in_edges(node, data=True) for shape in edge["shapes"]]
        assert sorted(brought) == sorted(seen.took[part.path][calls[part.path]]), part.path
        if len(part.calls) == 1:
            assert part.shapes == seen.gave[part.path][calls[part.path]][: len(part.shapes)], part.path
        calls[part.path] += 1
        checked += 1
    assert checked >= 7
    assert nx.is_directed_acyclic_graph(graph)


@pytest.mark.parametrize("name", FIGURES)
def test_the_figures_are_up_to_date(name: str, graphs: dict[str, Graph]) -> None:
    """Run `python docs/draw_networks.py` after a change of a network."""
    path = DOCS / "networks" / f"{name}.svg"
    root = ElementTree.fromstring(path.read_bytes())
    (about,) = root.iter("{http://purl.org/dc/elements/1.1/}description")
    assert about.text == describe(graphs[name]), f"{path.name} is of another network: run python docs/draw_networks.py"
    shown = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    for part in parts_of(graphs[name]):
        if part.role == "module":
            assert part.name in shown
            assert any(shape_words(part.shapes[0]) in line for line in shown)
    assert path.stat().st_size < 150_000
    assert f"](networks/{name}.svg)" in (DOCS / f"{name}.md").read_text(encoding="utf-8")


def test_m2det_is_the_papers_figure_2(graphs: dict[str, Graph]) -> None:
    """Eight TUMs of six maps each, every later one behind a thinned base and the finest map before; SFAM joins all."""
    graph = graphs["m2det"]
    node_of = {data["part"].path: node for node, data in graph.nodes(data=True) if data["part"].role == "module"}
    tums = [node_of[f"mlfpn.tums.{i}"] for i in range(8)]
    assert [path for path in node_of if ".tums." in path] == [f"mlfpn.tums.{i}" for i in range(8)]
    (sfam,) = graph.predecessors(node_of["mlfpn.attention.0"])
    assert set(graph.predecessors(sfam)) == set(tums)
    assert [shape[1:] for shape in graph.nodes[sfam]["part"].shapes] == [(1024, s, s) for s in (64, 32, 16, 8, 4, 2)]
    for level in range(1, 8):
        (joint,) = graph.predecessors(tums[level])
        assert set(graph.predecessors(joint)) == {tums[level - 1], node_of[f"mlfpn.thin.{level}"]}
        assert graph.edges[tums[level - 1], joint]["shapes"] == [(1, 128, 64, 64)]


def before(graph: Graph, node: int) -> list[str]:
    return sorted(graph.nodes[other]["part"].path for other in graph.predecessors(node))


def joints_of(graph: Graph, step: str) -> list[int]:
    """The boxes of these steps that are no module's, from the input on."""
    nodes = [n for n, data in graph.nodes(data=True) if data["part"].role != "module"]
    order = {n: i for i, n in enumerate(nx.topological_sort(graph))}
    return sorted((n for n in nodes if step in graph.nodes[n]["part"].kind.split(", ")), key=order.__getitem__)


@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn"])
def test_two_stages_are_fpns(name: str, graphs: dict[str, Graph]) -> None:
    """FPN sections 4.1 and 4.2: one proposal network on P2 to P6; regions are from P2 to P5; then Fast R-CNN.

    On 256 x 256 pixels P2 to P6 have 64² + 32² + 16² + 8² + 4² = 5456 places, and three anchors on each.
    """
    graph = graphs[name]
    part = {n: data["part"] for n, data in graph.nodes(data=True)}
    convs = [n for n in graph if part[n].path == "rpn_head.convs"]
    assert [part[n].shapes[0][2:] for n in convs] == [(s, s) for s in (64, 32, 16, 8, 4)]
    assert [part[n].again for n in convs] == [False, True, True, True, True]
    assert [before(graph, n) for n in convs] == [[f"neck.output.{i}"] for i in (0, 1, 2, 3, 3)]
    (proposals,) = (n for n in graph if part[n].path == "proposals")
    assert before(graph, proposals) == ["rpn_deltas", "rpn_logits"]
    assert "nms" in part[proposals].kind.split(", ")
    (logits,) = (n for n in graph if part[n].path == "rpn_logits")
    assert before(graph, logits) == ["rpn_head.objectness"] * 5
    assert part[logits].shapes == [(1, 3 * 5456)]
    maps = [f"neck.output.{i}" for i in range(4)]
    align, *rest = joints_of(graph, "roi_align")
    assert before(graph, align) == [*maps, "proposals"]
    assert part[align].shapes == [(8, 256, 7, 7)]
    assert [part[n].path for n in graph.successors(align)] == ["box_head.linear"]
    detections = joints_of(graph, "nms")[-1]
    assert before(graph, detections) == ["box_head.boxes", "box_head.classes", "proposals"]
    if name == "mask_rcnn":  # section 3.1: masks of the detections, not of the proposals
        assert [before(graph, n) for n in rest] == [["", *maps]]
        assert graph.has_edge(detections, rest[0])
        assert part[rest[0]].shapes == [(10, 256, 14, 14)]
        assert [part[n].path for n in graph.successors(rest[0])] == ["mask_head"]
    else:
        assert not rest


def test_regions_are_cut_out_of_the_map_or_of_the_photo(graphs: dict[str, Graph]) -> None:
    """Fast R-CNN's idea: its RoI pooling stands behind the convolutions, R-CNN's warp before them."""
    for name, step, shape in (("rcnn", "roi_align", (8, 3, 224, 224)), ("fast_rcnn", "roi_pool", (8, 512, 7, 7))):
        graph = graphs[name]
        inputs = [part.path for part in parts_of(graph) if part.role == "input"]
        assert inputs == ["images", "proposals"]
        (cut,) = joints_of(graph, step)
        assert graph.nodes[cut]["part"].shapes == [shape]
        earlier = {graph.nodes[n]["part"].group for n in nx.ancestors(graph, cut)}
        assert earlier == ({""} if name == "rcnn" else {"", "backbone"})
        (nms,) = joints_of(graph, "nms")
        text = (DOCS / "networks" / f"{name}.svg").read_text(encoding="utf-8")
        assert graph.nodes[nms]["part"].name == "NMS"
        assert ">NMS<" in text
        assert ">linear.0 – linear.3<" in text


def test_the_same_graph_is_the_same_file(graphs: dict[str, Graph]) -> None:
    graph = graphs["yolo"]
    assert draw(graph, "YOLO") == draw(graph, "YOLO")
    with Image.open(io.BytesIO(draw(graph, "YOLO", "png"))) as image:
        assert image.width > 800


def test_boxes_lie_apart(graphs: dict[str, Graph]) -> None:
    """In no picture does a box of SVG overlap another."""
    for name in FIGURES:
        text = (DOCS / "networks" / f"{name}.svg").read_text(encoding="utf-8")
        boxes = []
        for path in re.findall(r'<path d="([^"]*z)[^"]*"[^>]*style="fill: #(?!ffffff)[^"]*stroke: #', text):
            points = [tuple(map(float, pair)) for pair in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]
            across, down = zip(*points, strict=True)
            boxes.append((min(across), min(down), max(across), max(down)))
        big = [box for box in boxes if box[2] - box[0] > 30]
        assert len(big) == len(graphs[name])
        for i, a in enumerate(big):
            for b in big[:i]:
                assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (name, a, b)


def test_the_script_draws_any_preset(tmp_path: Path) -> None:
    draw_networks.main(["retinanet", "light", str(tmp_path / "network.png")])
    with Image.open(tmp_path / "network.png") as image:
        assert image.format == "PNG"
    with pytest.raises(SystemExit, match="There is no retinanet heavy: expected one of retinanet light, "):
        draw_networks.main(["retinanet", "heavy", str(tmp_path / "other.svg")])
