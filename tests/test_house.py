"""The house stands as docs/house.md has it: who may import whom, and how few files a training step runs through."""

import ast
import re
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

import foodbox
from foodbox.config import TrainSettings
from foodbox.data import tables
from foodbox.data.augment import Augmentation
from foodbox.data.loader import training_loader
from foodbox.detectors import DETECTORS
from foodbox.detectors.retinanet import LIGHT, RetinaNet, RetinaNetSettings
from foodbox.training.optimiser import make_optimiser
from foodbox.training.step import learner

ROOT = Path(foodbox.__file__).parent
FLOORS = {
    "errors": 0,
    "findings": 0,
    "defaults": 0,
    "garbage": 0,
    "version": 0,
    "masks": 0,
    "files": 1,
    "console": 1,
    "records": 1,
    "detections": 1,
    "config": 1,
    "configure": 2,
    "ops": 1,
    "layers": 2,
    "drawing": 2,
    "data": 3,
    "detectors": 3,
    "weights": 4,
    "inference": 4,
    "evaluation": 5,
    "training": 6,
    "model": 6,
    "api": 7,
    "comparison": 8,
    "serving": 8,
    "cli": 8,
    "__init__": 9,
}
FILES = sorted(ROOT.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it; `from a import b` as a.b where that is a module of ours."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                modules.add(inner if inner in OURS else node.module)
    return modules


OURS = {module_of(path) for path in FILES}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_down(path: Path) -> None:
    """From the own folder or from a lower floor; never upwards, never sideways."""
    mine = room(module_of(path))
    for module in imports_of(path):
        if module == "foodbox" or not module.startswith("foodbox."):
            assert module != "foodbox" or FLOORS[mine] >= FLOORS["cli"], f"{path} imports the whole package"
            continue
        assert room(module) == mine or FLOORS[room(module)] < FLOORS[mine], f"{path} may not import {module}"


def test_every_file_stands_on_a_floor() -> None:
    assert {room(module) for module in OURS} == set(FLOORS)


def test_no_circles() -> None:
    graph = {module_of(path): {m for m in imports_of(path) if m in OURS} for path in FILES}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, f"a circle: {' → '.join([*above, module])}"
        if module not in done:
            for inner in graph[module]:
                visit(inner, (*above, module))
            done.add(module)

    for module in graph:
        if module != "foodbox":
            visit(module, ())


def test_ops_know_only_torch() -> None:
    for path in (ROOT / "ops").glob("*.py"):
        roots = {module.split(".")[0] for module in imports_of(path)}
        assert roots <= {"torch", "torchvision", "foodbox"} | set(sys.stdlib_module_names)


def test_only_weights_and_api_name_detectors() -> None:
    named = {"foodbox.detectors"} | {f"foodbox.detectors.{name}" for name in DETECTORS}
    for path in FILES:
        if room(module_of(path)) not in ("weights", "api", "detectors"):
            assert not imports_of(path) & named, f"{path} names a detector"


FETCHING = re.compile(r"(foodbox\.weights|safetensors|torch\.hub)\b|(pretrained|weights\w*)=(?!None$|False$)")
"""Modules that read or fetch weights, and arguments that ask timm or torchvision for some."""


def fetching(source: str) -> list[str]:
    """What of a file's code takes weights from elsewhere."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute | ast.keyword):
            found.append(ast.unparse(node))
    return [words for words in found if FETCHING.match(words)]


@pytest.mark.parametrize(
    "path", [path for path in FILES if room(module_of(path)) in ("detectors", "layers")], ids=module_of
)
def test_detectors_do_not_know_where_weights_come_from(path: Path) -> None:
    assert fetching(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "from foodbox.weights import pretrained",
        "from foodbox.weights.pretrained import find",
        "import foodbox.weights.pretrained",
        "from safetensors.torch import load_file",
        "from torch import hub",
        "import torch\ntorch.hub.load_state_dict_from_url('x')",
        "import timm\ntimm.create_model('x', pretrained=True)",
        "import timm\ntimm.create_model('x', pretrained=settings.pretrained)",
        "f(weights='DEFAULT')",
        "f(weights_backbone=W.IMAGENET1K_V1)",
    ],
)
def test_weights_from_elsewhere_would_be_seen(source: str) -> None:
    assert fetching(source)
    assert not fetching("import timm\ntimm.create_model('x', pretrained=False, weights=None)")


def test_a_training_step_is_few_files(tmp_path: Path) -> None:
    """From photo files to the optimiser: functions of under 20 files with under 3,000 lines together."""
    photos = tables.write_tables(tmp_path, 2, seed=3, workers=1)
    settings = RetinaNetSettings(**LIGHT)
    seen: set[str] = set()

    def remember(frame: object, event: str, _: object) -> None:
        name = frame.f_code.co_filename  # type: ignore[attr-defined]
        if event == "call" and name.startswith(str(ROOT)):
            seen.add(name)

    sys.setprofile(remember)
    try:
        detector = RetinaNet(tables.NAMES, settings).train()
        optimiser = make_optimiser(detector, TrainSettings())
        batch = next(iter(training_loader(photos, settings.preprocessing, Augmentation(), 2, workers=0, seed=0)))
        before = detector.class_tower.output.weight.detach().clone()
        learner(detector, optimiser, clip=5.0, accelerator=Accelerator(cpu=True), way="plain")(batch)
    finally:
        sys.setprofile(None)
    assert not torch.equal(before, detector.class_tower.output.weight), "the step moved nothing"
    lines = sum(len(Path(name).read_text(encoding="utf-8").splitlines()) for name in seen)
    assert {"retinanet.py", "loader.py", "images.py", "losses.py", "optimiser.py"} <= {Path(n).name for n in seen}
    assert len(seen) < 20, sorted(seen)
    assert lines < 3000, f"{lines} lines in {sorted(seen)}"


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_is_one_short_file(name: str) -> None:
    lines = (ROOT / "detectors" / f"{name}.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 300
