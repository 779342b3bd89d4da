"""YOLOv3 against OpenCV 4, which runs darknet's networks: on weights filled by name, and YOLOv3-tiny on real photos."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from foodbox.data.images import open_photo, prepare
from foodbox.data.loader import Collate
from foodbox.data.parts import read_labels
from foodbox.detections import Detections
from foodbox.detectors.yolo import YOLO
from foodbox.evaluation.scores import score
from foodbox.records import Dataset, Target
from foodbox.weights import darknet
from foodbox.weights.model_file import build

# What benchmarks/yolo_opencv.py wrote: OpenCV's detections over 0.5, and the AP50 of all.
OPENCV: dict[str, Any] = json.loads(Path(__file__).with_name("yolov3_tiny_opencv.json").read_text(encoding="utf-8"))


# -- YOLOv3 ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(test_data: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((test_data / "conformance" / "darknet" / "yolov3_256.json").read_text())
    return result


def test_the_network_is_darknets(reference: dict[str, Any], fill: ModuleType, tmp_path: Path) -> None:
    """By way of a file as darknet writes it, without its .cfg; all three scales, decoded."""
    path = tmp_path / "yolov3.weights"
    with path.open("wb") as file:
        file.write(np.array([0, 2, 5], "<i4").tobytes() + np.array([0], "<i8").tobytes())
        for name, shape in reference["state"]:
            file.write(fill.tensor(name, tuple(shape), reference["seed"], reference["gain"]).tobytes())
    detector = build(darknet.read(path))
    path.unlink()
    assert isinstance(detector, YOLO)
    assert len(detector.names) == 80
    image = torch.from_numpy(fill.image(*reference["input"], seed=reference["seed"]))
    with torch.no_grad():
        outputs = detector(image * 255)  # it is scaled already
    boxes = detector.boxes(outputs)[0] / reference["input"][-1]
    chances = outputs["values"][0, :, 4:].sigmoid()
    centre, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    rows = torch.cat((centre, sides, chances[:, :1], chances[:, :1] * chances[:, 1:]), dim=1)
    scales = rows.split(outputs["grids"].prod(1).mul(3).tolist())
    assert len(scales) == len(reference["outputs"]) == 3
    for found, expected in zip(scales, reference["outputs"].values(), strict=True):
        array = found.double().numpy()
        assert list(array.shape) == expected["shape"]
        spread = expected["std"]
        np.testing.assert_allclose(fill.sample(array), expected["sample"], rtol=0, atol=1e-4 * spread)
        assert array.mean() == pytest.approx(expected["mean"], abs=1e-4 * spread)
        assert array.std() == pytest.approx(spread, rel=1e-4)


# -- YOLOv3-tiny on coco128 -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coco128(test_data: Path) -> Dataset:
    return read_labels(test_data / "data" / "coco128", None)[0]


@pytest.fixture(scope="module")
def found(test_data: Path, coco128: Dataset) -> list[Detections]:
    """With the .cfg and the .names beside the weights, at OpenCV's thresholds."""
    detector = build(darknet.read(test_data / "weights" / "yolov3_tiny_coco" / "yolov3-tiny.weights"))
    assert isinstance(detector, YOLO)
    assert detector.names[4] == "aeroplane"  # as coco.names has it, not COCO itself
    assert detector.settings.nms_iou == OPENCV["nms"]
    result = []
    for photo in coco128:
        pixels, frame = prepare(open_photo(photo.path), detector.preprocessing, photo.path)
        batch = Collate(detector.preprocessing)([(pixels, Target(), frame)])
        with torch.inference_mode():
            result += detector.decode(detector(batch.images), batch.frames, OPENCV["score"])
    return result


def test_opencvs_sure_detections_are_ours(found: list[Detections]) -> None:
    """At least 95 % of them, of the same class and with an IoU of 0.9."""
    matched = count = 0
    for mine in found:
        assert mine.path is not None
        theirs = torch.tensor(OPENCV["detections"][mine.path.name]).reshape(-1, 6)
        same = theirs[:, 5:] == mine.labels[None]
        alike = (box_iou(theirs[:, :4], mine.boxes) >= 0.9) & same & ((theirs[:, 4:5] - mine.scores[None]).abs() < 0.01)
        matched += int(alike.any(1).sum()) if len(mine) else 0
        count += len(theirs)
    assert count > 200
    assert matched >= 0.95 * count


def test_ap50_is_opencvs(coco128: Dataset, found: list[Detections]) -> None:
    named = Dataset(coco128.photos, found[0].names)
    ap50 = score(named, found).ap50
    assert ap50 == pytest.approx(OPENCV["ap50"], abs=0.01)
