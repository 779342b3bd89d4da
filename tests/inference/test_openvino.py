"""Exported networks: OpenVINO's numbers are the detector's, at any size, in float and in int8; files go and come."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import foodbox
from foodbox import api, configure
from foodbox.cli import main
from foodbox.data.formats import FORMATS
from foodbox.detectors import DETECTORS
from foodbox.detectors.base import Detector
from foodbox.detectors.retinanet import RetinaNet, RetinaNetSettings
from foodbox.errors import FoodboxError, UsageError
from foodbox.files import write_whole
from foodbox.inference import openvino
from foodbox.inference.exported import Exported
from foodbox.records import Dataset, Frame
from foodbox.weights.model_file import header_of, save_model
from tests.conftest import NAMES, draw_photo
from tests.inference.conftest import SMALL, small

SHAPES = [(1, 96, 64), (3, 64, 160)]
"""Number of photos, height, width; networks are traced with two photos of 128 x 96 or 128 x 128."""


@pytest.fixture(scope="module", params=list(SMALL))
def pair(request: pytest.FixtureRequest) -> tuple[Detector, Exported]:
    """A detector, and the same with its network run by OpenVINO in float32; nobody else has its weights."""
    detector, empty = small(request.param), small(request.param)
    for parameter in empty.parameters():
        torch.nn.init.normal_(parameter)
    return detector, Exported(
        empty, openvino.Network(empty, openvino.graph_of(detector, header_of(detector, {})), half=False)
    )


@pytest.mark.parametrize(("batch", "height", "width"), SHAPES)
@torch.inference_mode()
def test_outputs_and_boxes_are_the_detectors(
    pair: tuple[Detector, Exported], batch: int, height: int, width: int
) -> None:
    """Of any number of photos and any size, also one that neither tracing nor another call had."""
    detector, exported = pair
    images = torch.randint(256, (batch, 3, height, width), dtype=torch.uint8)
    ours, theirs = detector(images), exported(images.contiguous(memory_format=torch.channels_last))
    assert ours.keys() == theirs.keys()
    for name, wanted in ours.items():
        assert wanted.dtype == theirs[name].dtype
        torch.testing.assert_close(theirs[name], wanted, rtol=1e-3, atol=1e-3)
    frames = [Frame(2 * width, 2 * height, width, height)] * batch
    for mine, other in zip(detector.decode(ours, frames, 0.0), exported.decode(theirs, frames, 0.0), strict=True):
        assert len(mine) == len(other) > 0
        torch.testing.assert_close(other.scores, mine.scores, rtol=0, atol=1e-3)
        # Of boxes whose scores are nearly the same, either may come first: the surest one's place is certain.
        assert float((other.boxes - mine.boxes[0]).abs().amax(1).min()) < 0.1


def test_what_an_output_is_does_not_change_with_the_next_call(pair: tuple[Detector, Exported]) -> None:
    exported = pair[1]
    images = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    first = exported(images)
    kept = {name: x.clone() for name, x in first.items()}
    exported(255 - images)
    assert all(torch.equal(first[name], kept[name]) for name in kept)


def test_an_exported_model_is_not_trained(pair: tuple[Detector, Exported]) -> None:
    with pytest.raises(UsageError, match=r"cannot be trained.*\.safetensors"):
        pair[1].losses(torch.zeros(1, 3, 64, 64), [])


# -- A small trained model and its files ---------------------------------------------------------------------------


def test_the_way_through_the_verbs(model: Path, photos: Path, tmp_path: Path) -> None:
    """Export, load, detect: names, settings and run come back; the boxes are the model's."""
    result = foodbox.export(model)
    assert result.model == model.with_suffix(".xml")
    assert result.before is None
    mine, other = foodbox.load(model), foodbox.load(result.model)
    assert (other.names, other.run) == (mine.names, mine.run)
    assert other.detector.settings == mine.detector.settings
    picture = next((photos / "images").glob("*.png"))
    ours, theirs = mine.detect(picture), other.detect(picture)
    assert len(ours) > 0
    torch.testing.assert_close(theirs.boxes[0], ours.boxes[0], rtol=0, atol=1.0)
    found, findings = foodbox.detect(result.model, [photos], out=tmp_path / "out")
    assert (len(found), findings) == (8, [])
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 8


def test_int8_costs_little_and_says_what(model: Path, photos: Path, tmp_path: Path, capfd: Any) -> None:
    """Half the bytes of float16, for int8 is in them; scores before and after; boxes near the float's."""
    with pytest.raises(SystemExit) as ending:
        main(["export", str(model), "--out", str(tmp_path / "a.xml"), "--int8", str(photos), "--json"])
    assert not ending.value.code
    said = json.loads(capfd.readouterr().out)
    assert said["model"] == str(tmp_path / "a.xml")
    assert said["before"]["ap50"] > 0.9
    assert said["after"]["ap"] == pytest.approx(said["before"]["ap"], abs=0.1)
    assert foodbox.evaluate(tmp_path / "a.xml", photos).ap == pytest.approx(said["after"]["ap"], abs=1e-6)
    foodbox.export(model, out=tmp_path / "b.xml")
    assert (tmp_path / "a.bin").stat().st_size < 0.6 * (tmp_path / "b.bin").stat().st_size
    picture = next((photos / "images").glob("*.png"))
    real, whole = (foodbox.load(file).detect(picture) for file in (model, tmp_path / "a.xml"))
    torch.testing.assert_close(whole.boxes[0], real.boxes[0], rtol=0, atol=4.0)


def test_the_ending_may_be_in_capitals(model: Path, tmp_path: Path) -> None:
    foodbox.export(model, out=tmp_path / "B.XML")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["B.XML", "B.bin"]
    assert foodbox.load(tmp_path / "B.XML").names == foodbox.load(model).names


@pytest.mark.parametrize("wish", ["valid", "int8"])
def test_photos_that_are_not_there_are_said_before_anything_is_written(wish: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere is not there"):
        foodbox.export(model, out=tmp_path / "m.xml", **{wish: tmp_path / "nowhere"})
    assert list(tmp_path.iterdir()) == []


def test_int8_without_a_whole_photo_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no photo")
    (tmp_path / "photos" / "a.txt").write_text("1,2,30,40")
    with pytest.raises(FoodboxError, match=r"No photo with a box is left of 1: 1 fault"):
        foodbox.export(model, out=tmp_path / "m.xml", int8=tmp_path / "photos")
    sound = draw_photo(tmp_path / "b.png", (64, 48), [(0, 1, 2, 30, 40)])
    FORMATS["coco"].write(Dataset([sound], foodbox.load(model).names), tmp_path / "valid")
    with pytest.raises(FoodboxError, match=r"photos has no photo that can be opened"):
        foodbox.export(model, out=tmp_path / "m.xml", int8=tmp_path / "photos", valid=tmp_path / "valid")
    assert not (tmp_path / "m.xml").exists()


def test_photos_that_cannot_be_scored_are_told_before_anything_is_written(model: Path, tmp_path: Path) -> None:
    draw_photo(tmp_path / "photos" / "a.jpg", (64, 48), [])
    (tmp_path / "photos" / "boxes.csv").write_text("a.jpg,1,2,30,40,of no such class\n")
    with pytest.raises(UsageError, match="none that the model knows"):
        foodbox.export(model, out=tmp_path / "m.xml", valid=tmp_path / "photos")
    assert not (tmp_path / "m.xml").exists()


def test_both_files_are_written_or_none(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = openvino.read(foodbox.export(model, out=tmp_path / "a.xml").model)

    def fail(*_: object) -> None:
        raise FoodboxError("no room")

    monkeypatch.setattr(openvino, "write_whole", fail)
    with pytest.raises(FoodboxError, match="no room"):
        openvino.write(graph, tmp_path / "new" / "b.xml")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_write_that_ends_between_the_two_files_is_noticed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of the second export lie beside the first one's network."""
    foodbox.export(model, out=tmp_path / "a.xml")
    other = foodbox.load(model)
    other.detector.state_dict()["class_tower.output.bias"].add_(1)

    def killed(path: Path, content: bytes) -> None:
        if path.suffix == ".xml":
            raise KeyboardInterrupt
        write_whole(path, content)

    monkeypatch.setattr(openvino, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        foodbox.export(other, out=tmp_path / "a.xml")
    with pytest.raises(FoodboxError, match=r"a\.xml was written with other weights than a\.bin has"):
        foodbox.load(tmp_path / "a.xml")


def test_threads_export_one_after_the_other(model: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda i: foodbox.export(model, out=tmp_path / f"{i}.xml"), range(3)))
    for result in results:
        assert foodbox.load(result.model).names == foodbox.load(model).names


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        (("", "test", "valid", ""), (0, 3)),
        (("train", "test", "", "train"), (0, 3)),
        (("", "", "", ""), (0, 1, 2, 3)),
        (("test", "test", "test", "test"), (0, 1, 2, 3)),  # a folder of test photos alone was the person's choice
    ],
)
def test_int8_is_calibrated_on_what_would_be_trained_on(
    parts: tuple[str, ...], wanted: tuple[int, ...], tmp_path: Path
) -> None:
    """And so never on photos that it is scored on, where there are others."""
    photos = []
    for i, part in enumerate(parts):
        photos.append(draw_photo(tmp_path / "drawn" / f"{i}.png", (64, 48), [(0, 1, 2, 30, 40)]))
        photos[-1].part = part
    FORMATS["coco"].write(Dataset(photos, NAMES), tmp_path / "coco")
    chosen = api._calibration_photos(tmp_path / "coco", 0)
    assert sorted(int(photo.path.stem) for photo in chosen) == list(wanted)


# -- What cannot be exported ---------------------------------------------------------------------------------------


def test_two_stage_detectors_are_refused_with_those_that_can(tmp_path: Path) -> None:
    cls = DETECTORS["faster_rcnn"]
    save_model(
        tmp_path / "a.safetensors", cls(NAMES, configure.build(cls.Settings, next(iter(cls.presets.values())))), {}
    )
    with pytest.raises(UsageError, match=r"FasterRCNN.*ssd, yolo, retinanet, m2det|FasterRCNN.*retinanet"):
        foodbox.export(tmp_path / "a.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_an_exported_model_is_not_exported_nor_saved_again(model: Path, tmp_path: Path) -> None:
    exported = foodbox.export(model, out=tmp_path / "a.xml").model
    with pytest.raises(UsageError, match="This is an exported model"):
        foodbox.export(exported, out=tmp_path / "b.xml")
    with pytest.raises(UsageError, match=r"copying its file, and of OpenVINO's also the \.bin"):
        foodbox.load(exported).save(tmp_path / "b.safetensors")
    with pytest.raises(UsageError, match="runs on the CPU"):
        foodbox.load(exported, "cuda")


def test_a_file_of_another_ending_is_refused_before_anything_is_done(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not end in \.xml or \.onnx"):
        foodbox.export(model, out=tmp_path / "a.pb")
    with pytest.raises(UsageError, match="Name a file"):
        foodbox.export(foodbox.load(model))


class Growing(RetinaNet):
    """A network that does something else for upright photos than for lying ones, in Python: tracing loses it."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = super().forward(images)
        return outputs | {"logits": outputs["logits"] + (3.0 if images.shape[2] > images.shape[3] else 0.0)}


def test_a_network_that_tracing_does_not_catch_is_not_written() -> None:
    detector = Growing(NAMES, RetinaNetSettings(**RetinaNet.presets["light"]))
    with pytest.raises(FoodboxError, match="does not give the detector's logits"):
        openvino.graph_of(detector, {})
