"""Models as ONNX: ONNX Runtime's boxes are the detector's, files go and come, and other programs need no more."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import foodbox
from foodbox.cli import main
from foodbox.detectors.base import Outputs
from foodbox.detectors.retinanet import RetinaNet, RetinaNetSettings
from foodbox.errors import FoodboxError, UsageError
from foodbox.inference import onnx
from foodbox.inference.exported import VERSION, library
from foodbox.ops.boxes import iou
from foodbox.records import Frame, Preprocessing
from foodbox.weights.model_file import header_of
from tests.conftest import NAMES
from tests.inference.conftest import SMALL, small

theirs = library("onnx")


@pytest.mark.parametrize("kind", SMALL)
@torch.no_grad()
def test_boxes_are_the_detectors(kind: str) -> None:
    """Of any number of photos, none of them square; nobody else has the weights."""
    detector, empty = small(kind), small(kind)
    for parameter in empty.parameters():
        torch.nn.init.normal_(parameter)
    network = onnx.Network(empty, onnx.graph_of(detector, header_of(detector, {})))
    side = onnx.largest_side(detector.preprocessing)
    assert side == 128
    for batch, height, width in ((1, 96, 128), (3, 128, 64)):
        images = torch.randint(256, (batch, 3, height, width), dtype=torch.uint8)
        squares = torch.tensor(detector.preprocessing.ground).round().to(torch.uint8).view(1, 3, 1, 1)
        squares = squares.repeat(batch, 1, side, side)
        squares[:, :, :height, :width] = images
        ours, found = detector.candidates(detector(squares)), network(images)
        torch.testing.assert_close(found["scores"].sort().values, ours["scores"].sort().values, rtol=0, atol=1e-4)
        frames = [Frame(2 * width, 2 * height, width, height)] * batch
        for mine, other in zip(detector.decode(ours, frames, 0.0), detector.decode(found, frames, 0.0), strict=True):
            assert len(mine) == len(other) > 0
            # Of boxes whose scores are nearly the same, either may come first: the surest one's place is certain.
            assert float((other.boxes - mine.boxes[0]).abs().amax(1).min()) < 0.1


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "best.onnx"
    assert foodbox.export(model, out=file).to_dict()["weights"] is None
    return file


def test_the_way_through_the_verbs(exported: Path, model: Path, photos: Path, tmp_path: Path) -> None:
    """Names, settings and run come back; boxes and scores are the model's."""
    mine, other = foodbox.load(model), foodbox.load(exported)
    assert (other.names, other.run) == (mine.names, mine.run)
    assert other.detector.settings == mine.detector.settings
    picture = next((photos / "images").glob("*.png"))
    torch.testing.assert_close(other.detect(picture).boxes[0], mine.detect(picture).boxes[0], rtol=0, atol=1.0)
    assert foodbox.evaluate(exported, photos).ap == pytest.approx(foodbox.evaluate(model, photos).ap, abs=0.03)
    found, findings = foodbox.detect(exported, [photos], out=tmp_path / "out")
    assert (len(found), findings) == (8, [])


def test_another_program_needs_the_file_alone(exported: Path, model: Path, photos: Path) -> None:
    """As docs/export.md says: a square of bytes in, the best box out, class names and threshold in the metadata."""
    session = library("onnxruntime").InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    settings = json.loads(about["settings"])["preprocessing"]
    assert (json.loads(about["names"]), settings["size"], settings["fit"]) == (foodbox.load(model).names, 96, "longest")
    picture = Image.open(next((photos / "images").glob("*.png"))).convert("RGB")
    pixels = np.asarray(picture.resize((96, 96))).transpose(2, 0, 1)[None]
    scores, labels, boxes = session.run(["scores", "labels", "boxes"], {"images": np.ascontiguousarray(pixels)})
    assert scores.shape == labels.shape == boxes.shape[:2]
    best = torch.from_numpy(boxes[0, scores[0].argmax()]) * picture.width / 96
    wanted = foodbox.load(model).detect(picture)
    assert float(iou(best[None], wanted.boxes[:1])) > 0.8
    assert float(scores.max()) == pytest.approx(float(wanted.scores[0]), abs=0.05)


def test_the_command(model: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["export", str(model), "--out", str(tmp_path / "a.ONNX"), "--valid", str(photos)])
    assert not ending.value.code
    said = capfd.readouterr().out
    assert "weights" not in said
    assert f"model   {tmp_path / 'a.ONNX'}" in said
    assert "before  after" in said
    assert [file.name for file in tmp_path.iterdir()] == ["a.ONNX"]


@pytest.mark.parametrize(("fit", "side"), [("longest", 96), ("stretch", 96), ("letterbox", 96), ("shortest", 160)])
def test_the_square_that_every_input_fits_into(fit: str, side: int) -> None:
    prepared = Preprocessing(size=70, max_size=150, fit=fit)  # type: ignore[arg-type]
    assert onnx.largest_side(prepared) == side
    for size in ((1, 1000), (1000, 1), (640, 480), (7, 7)):
        assert max(prepared.shape(*size)) <= side


# -- What is refused -----------------------------------------------------------------------------------------------


def test_int8_is_openvinos(model: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"int8 is for OpenVINO: call the file a\.xml, or leave int8 out"):
        foodbox.export(model, out=tmp_path / "a.onnx", int8=photos)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no exported model"):
        foodbox.load(tmp_path / "a.onnx")


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _without_header(content: bytes) -> bytes:
    graph = theirs.load_model_from_string(content)
    del graph.metadata_props[:]
    return bytes(graph.SerializeToString())


def _newer(content: bytes) -> bytes:
    graph = theirs.load_model_from_string(content)
    entry = next(e for e in graph.metadata_props if e.key == "export_version")
    assert entry.value == VERSION
    entry.value = "99"
    return bytes(graph.SerializeToString())


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (_cut, "is no whole ONNX model"),
        (lambda content: b"no model at all", "is no whole ONNX model"),
        (lambda content: b"", "is no whole ONNX model"),
        (_without_header, "an ONNX model of another program"),
        (_newer, "export version 99"),
    ],
    ids=["cut", "text", "empty", "foreign", "newer"],
)
def test_files_that_are_none_of_ours(
    exported: Path, spoil: Callable[[bytes], bytes], match: str, tmp_path: Path
) -> None:
    (tmp_path / "a.onnx").write_bytes(spoil(exported.read_bytes()))
    with pytest.raises(FoodboxError, match=match):
        foodbox.load(tmp_path / "a.onnx")


@pytest.mark.parametrize("missing", onnx.LIBRARIES)
def test_without_its_libraries(missing: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(FoodboxError, match=rf'need {missing}, .*pip install "foodbox\[export\]"'):
        foodbox.export(model, out=tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


class Moody(RetinaNet):
    """A network that does something else for one photo than for several, in Python: the exporter loses it."""

    def forward(self, images: torch.Tensor) -> Outputs:
        outputs = super().forward(images)
        return outputs | {"logits": outputs["logits"] + (3.0 if int(torch.tensor(images.shape)[0]) == 1 else 0.0)}


def test_a_network_that_the_exporter_does_not_catch_is_not_written() -> None:
    prepared = Preprocessing(size=64)
    detector = Moody(NAMES, RetinaNetSettings(**RetinaNet.presets["light"] | {"preprocessing": prepared}))
    with pytest.raises(FoodboxError, match=r"does not give the detector's boxes|cannot do all that this network does"):
        onnx.graph_of(detector, {})
