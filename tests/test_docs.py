"""The documents say what is so: quoted code, worked numbers, links, and flags."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch
from pydantic import BaseModel

import foodbox
from foodbox import cli
from foodbox.config import TrainSettings
from foodbox.detectors import DETECTORS
from foodbox.detectors.faster_rcnn import FasterRCNN, FasterRCNNSettings
from foodbox.detectors.retinanet import RetinaNet, RetinaNetSettings
from foodbox.detectors.yolo import YOLO, YOLOSettings
from foodbox.ops.anchor_fitting import shape_iou
from foodbox.ops.boxes import area, iou
from foodbox.ops.coding import encode_centre, encode_ssd
from foodbox.ops.losses import sigmoid_focal_loss, smooth_l1_loss
from foodbox.ops.matching import BACKGROUND, BETWEEN, match
from foodbox.ops.priors import match_priors
from foodbox.ops.roi import assign_levels
from foodbox.records import Frame, Preprocessing, Target
from tests.test_house import FLOORS

ROOT = Path(foodbox.__file__).parent
REPOSITORY = ROOT.parent
RETINANET = REPOSITORY / "docs" / "retinanet.md"
DOCS = sorted([*REPOSITORY.glob("README*.md"), *(REPOSITORY / "docs").glob("*.md")])


# -- Quoted code ----------------------------------------------------------------------------------------------------

# A line such as "`ops/losses.py`, `sigmoid_focal_loss`:", and a block of code below it.
QUOTE = re.compile(r"^`(?P<path>[\w/]+\.py)`, `(?P<name>[\w.]+)`:\n\n?```python\n(?P<code>.*?)^```$", re.M | re.S)
PAGES = [page for name in DETECTORS if (page := REPOSITORY / "docs" / f"{name}.md").exists()]
QUOTES = [(m["path"], m["name"], m["code"]) for p in PAGES for m in QUOTE.finditer(p.read_text(encoding="utf-8"))]


def definition(path: Path, name: str) -> list[str]:
    """The lines of a function, class, method ("Class.method") or constant of a file."""
    source = path.read_text(encoding="utf-8")
    body: list[ast.stmt] = ast.parse(source).body
    found: ast.stmt | None = None
    for part in name.split("."):
        found = next((node for node in body if part in names_of(node)), None)
        assert found is not None, f"{path} has no {name}"
        body = getattr(found, "body", [])
    assert found is not None
    return source.splitlines()[found.lineno - 1 : found.end_lineno]


def names_of(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


@pytest.mark.parametrize(("path", "name", "code"), QUOTES, ids=[f"{path}-{name}" for path, name, _ in QUOTES])
def test_quoted_code_is_the_code(path: str, name: str, code: str) -> None:
    """Line by line and one after the other, whatever stands before and behind a line."""
    lines = [line.strip() for line in definition(ROOT / path, name)]
    quoted = [line.strip() for line in code.splitlines()]
    places = range(len(lines) - len(quoted) + 1)
    assert any(lines[i : i + len(quoted)] == quoted for i in places), f"not in {path}, {name}:\n{code}"


def test_every_quote_says_where_it_is_from() -> None:
    assert len(QUOTES) == sum(page.read_text(encoding="utf-8").count("```python") for page in PAGES) >= 20


# -- Worked numbers -------------------------------------------------------------------------------------------------


def test_worked_numbers_are_what_the_code_gives() -> None:
    """The example of docs/retinanet.md: a photo of 1280 x 960 with one box, at 320 px."""
    text = RETINANET.read_text(encoding="utf-8")

    def says(*words: str) -> None:
        for word in words:
            assert word in text, f"docs/retinanet.md does not say {word!r}"

    size = Preprocessing(size=320).resized(1280, 960)
    box = Frame(1280, 960, *size).to_input(torch.tensor([[512.0, 256.0, 1024.0, 704.0]]))
    says("{} × {}".format(*size), "`{:g} {:g} {:g} {:g}`".format(*box[0].tolist()))
    says("{} × {}".format(*Preprocessing(size=800, fit="shortest").resized(1280, 960)))

    # The network is not asked: only its anchors are, over grids that the table states.
    detector = RetinaNet(["food"], RetinaNetSettings(backbone="mobilenetv2_100", pyramid_channels=8))
    for height, width in ((256, 320), (800, 1088)):
        grids = [torch.Size((-(-height // 2**level), -(-width // 2**level))) for level in range(3, 8)]
        anchors = RetinaNet.anchors_of(detector.settings, height, width, grids)
        says(*(f"| {h} × {w} | {9 * h * w:,} |" for h, w in grids), f"A = {len(anchors):,}")
        if height == 256:
            overlap = iou(box, anchors)
    matched = match(overlap, 0.5, 0.4, keep_best=True)
    positives, negatives = int((matched >= 0).sum()), int((matched == BACKGROUND).sum())
    between = int((matched == BETWEEN).sum())
    says(f"{positives} take the box, {between} lie between, and {negatives:,} are background")

    three = torch.tensor([[144.0, 48, 272, 176], [176.0, 48, 304, 176], [176.0, 80, 304, 208]])
    says(*(f"| {value:.3f} |" for value in iou(box, three)[0].tolist()))
    offsets = encode_centre(box, three[:1])
    says("({:g}, {:g}, {:g}, {:.4f})".format(*offsets[0].tolist()).replace("-", "−"))
    says(f"together {float(smooth_l1_loss(torch.zeros(1, 4), offsets, 1 / 9)):.3f}")

    p = torch.tensor([0.02, 0.1, 0.5, 0.5, 0.01, 0.01], dtype=torch.float64)
    truth = torch.tensor([0, 1, 1, 0, 1, 0], dtype=torch.float64)
    focal = sigmoid_focal_loss(p.logit(), truth).tolist()
    easy, hard = focal[:2]
    says(f"{easy:.8f}", f"{hard:.4f}", f"{round(hard / easy, -3):,.0f}")
    for (at_one, at_zero), digits in ((focal[2:4], 1), (focal[4:6], 2)):
        says(f"= {(positives * at_one + negatives * at_zero) / positives:.{digits}f}")


def test_the_default_preset_is_as_described() -> None:
    text = RETINANET.read_text(encoding="utf-8")
    light = RetinaNetSettings(**RetinaNet.presets["light"])
    assert next(iter(RetinaNet.presets)) == "light"
    assert light.preprocessing.fit == "longest"
    assert f"| longer side {light.preprocessing.size} (`--size`)" in text
    assert f"| up to C{light.frozen_stages} (`--frozen-stages`)" in text
    assert f"| {light.pyramid_channels} (`--pyramid-channels`)" in text
    assert f"times {light.box_weight:g} (`--box-loss`, `--box-weight`)" in text
    said = ("objectness", "giou", "kaiming", "group")
    assert (light.scores, light.box_loss, light.tower_init, light.tower_norm) == said
    changed = {name for name in RetinaNet.presets["light"] if name not in ("preprocessing", "backbone")}
    missing = [name for name in changed if f"`--{name.replace('_', '-')}`" not in text]
    assert missing == [], "the table of the default preset lacks settings"
    assert {f"| `{name}` |" for name in RetinaNet.presets} <= set(re.findall(r"^\| `\w+` \|", text, re.M))


def test_yolos_worked_numbers_are_what_the_code_gives() -> None:
    """The example of docs/yolo.md: the same photo and box in a letterbox of 416 px."""
    text = (REPOSITORY / "docs" / "yolo.md").read_text(encoding="utf-8")
    settings = YOLOSettings(preprocessing=YOLO.presets["yolov3"]["preprocessing"], backbone="darknet_tiny")
    frame = settings.preprocessing.frame(1280, 960)
    box = frame.to_input(torch.tensor([[512.0, 256.0, 1024.0, 704.0]]))
    told = ["{} × {}".format(*settings.preprocessing.resized(1280, 960)), f"y = −{-frame.top:g} to {frame.bottom:g}"]
    told.append("`{:.1f} {:.1f} {:.1f} {:.1f}`".format(*box[0].tolist()))
    sides = box[:, 2:] - box[:, :2]
    overlap = shape_iou(sides, torch.tensor(settings.priors).view(-1, 2))[0].sort(descending=True).values
    told += [f"IoU {overlap[0]:.3f}, the most", f"{overlap[1]:.3f}"]

    detector = YOLO(["food"], settings)
    anchors = YOLO.anchors_of(settings, 416, 416)
    told.append(f"A = 3 (13² + 26² + 52²) = {len(anchors):,}")
    outputs = {
        "values": torch.zeros(1, len(anchors), 6),
        "anchors": anchors,
        "strides": torch.tensor([[32]] * 507 + [[16]] * 2028 + [[8]] * 8112),
        "grids": torch.tensor([[13, 13], [26, 26], [52, 52]]),
    }
    matched = match_priors(box[None], outputs["anchors"], outputs["strides"], outputs["grids"], 3)
    (place,) = (matched[0] >= 0).nonzero().flatten().tolist()
    assert (place // 3 // 13, place // 3 % 13, place % 3) == (6, 7, 1)
    told.append(f"{float(detector.losses_of(outputs, [Target(box, torch.tensor([0]))])['boxes']):.3f}.")
    for words in told:
        assert words in text, f"docs/yolo.md does not say {words!r}"


def test_faster_rcnns_worked_numbers_are_what_the_code_gives() -> None:
    """The example of docs/faster_rcnn.md: the same photo and box at 320 px."""
    text = (REPOSITORY / "docs" / "faster_rcnn.md").read_text(encoding="utf-8")
    settings = FasterRCNNSettings(**FasterRCNN.presets["light"])
    box = Frame(1280, 960, *settings.preprocessing.resized(1280, 960)).to_input(torch.tensor([[512.0, 256, 1024, 704]]))
    anchors = FasterRCNN.anchors_of(settings, 256, 320)
    told = ["`{:g} {:g} {:g} {:g}`".format(*box[0].tolist()), f"A = {len(anchors):,}"]
    told += [f"| {256 // s} × {320 // s} | {3 * 256 // s * 320 // s:,} |" for s in (8, 16, 32, 64)]
    overlap = iou(box, anchors)
    matched = match(overlap, settings.rpn_match_high, settings.rpn_match_low, keep_best=True)
    best = anchors[overlap[0].argmax()]
    told.append(f"{int((matched >= 0).sum())} anchors are positive")
    told.append("`{:g} {:g} {:g} {:g}` with IoU {:.3f}".format(*best.tolist(), overlap.max()))
    between, background = int((matched == BETWEEN).sum()), int((matched == BACKGROUND).sum())
    told.append(f"{between} lie between, and {background:,} are background")
    told.append("({:g}, {:g}, {:g}, {:.4f})".format(*encode_centre(box[0], best).tolist()).replace("-", "−"))
    told.append(f"√(w h) = {float(area(box).sqrt()):.1f}")
    assert assign_levels(box, (8, 16, 32), settings.pool_base).tolist() == [1]
    proposal = torch.tensor([[120.0, 70, 250, 190]])
    offsets = encode_ssd(box, proposal)
    told.append(f"IoU {float(iou(box, proposal)):.3f} with")
    told.append("({:.3f}, {:.3f}, {:.3f}, {:.3f})".format(*offsets[0].tolist()).replace("-", "−"))
    told.append(f"is {float(smooth_l1_loss(torch.zeros(1, 4), offsets, 1 / 9)):.3f}.")
    for words in told:
        assert words in " ".join(text.split()) or words in text, f"docs/faster_rcnn.md does not say {words!r}"
    assert {f"| `{name}` |" for name in FasterRCNN.presets} <= set(re.findall(r"^\| `\w+` \|", text, re.M))


def test_the_floors_are_those_of_the_house() -> None:
    """docs/house.md has every file and folder of the package on the floor that tests/test_house.py checks."""
    text = (REPOSITORY / "docs" / "house.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| `(\w+)(?:/|\.py)` \|", text, re.M)
    there = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {name: int(floor) for floor, name in rows} == {name: FLOORS[name] for name in there - {"__init__"}}


# -- Links ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Files and folders of the repository that a document links to or shows; other people's pages are not asked."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    paths = [t.split("#")[0] for t in targets if not re.match(r"[a-z]+:", t)]
    missing = [path for path in paths if path and not (document.parent / path).exists()]
    assert missing == []


def test_linked_parts_of_a_page_are_there() -> None:
    """A link to a heading names one that there is, by the rules of GitHub."""
    for document in DOCS:
        for page, part in re.findall(r"\]\(([\w./]*\.md)?#([^)]+)\)", document.read_text(encoding="utf-8")):
            target = document.parent / page if page else document
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
            anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert part in anchors, f"{document.name}: no heading #{part} in {target.name}"


# -- Flags ----------------------------------------------------------------------------------------------------------

# A call of another program, whose flags are its own affair: from its name to the end of the line or of the code.
OTHERS = re.compile(r"(?:^|`)\s*(?:\$ )?[\w./]*\b(?:python3?|pip|accelerate|git|make|ruff|mypy|pytest)\b[^`\n]*", re.M)


def flags() -> Iterator[str]:
    """Every flag of every command, in all presets of all detectors. A switch that is on can only be switched off."""
    yield "help"
    settings: list[BaseModel] = [TrainSettings()]
    settings += [kind.Settings(**preset) for kind in DETECTORS.values() for preset in kind.presets.values()]
    for one in settings:
        yield from setting_flags(one)
    commands = [f for name, f in vars(cli).items() if inspect.isfunction(f) and f.__module__ == cli.__name__]
    shown = [f for f in commands if not f.__name__.startswith("_") and f is not cli.main]
    for command in [*shown, cli._train_command([]), cli._compare_command([])]:
        for name, parameter in inspect.signature(command).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY and name != "settings":
                yield name


def setting_flags(settings: BaseModel) -> Iterator[str]:
    for name, info in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from setting_flags(value)
        else:
            switch = info.annotation is bool or bool in get_args(info.annotation)
            yield f"no_{name}" if switch and value else name


def test_the_flags_are_those_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    """The program's own help names every flag of the default preset that is collected here for the documents."""
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    words = set(re.findall(r"--([a-z][a-z0-9-]*)", capsys.readouterr().out))
    kind = DETECTORS["retinanet"]
    default = kind.Settings(**next(iter(kind.presets.values())))
    collected = {name.replace("_", "-") for one in (TrainSettings(), default) for name in setting_flags(one)}
    assert collected <= words
    assert words <= {name.replace("_", "-") for name in flags()}


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_flags_are_real(document: Path) -> None:
    known = {f"--{name.replace('_', '-')}" for name in flags()}
    text = OTHERS.sub("", document.read_text(encoding="utf-8"))
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))
    assert sorted(mentioned - known) == []


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_no_page_has_a_place_left_to_be_filled(document: Path) -> None:
    lines = document.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.fullmatch(r"[A-Z]+_[A-Z_]+|TODO.*", line.strip())] == []
