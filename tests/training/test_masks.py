"""Masks on their way through the house: outlines in, a detector of masks trained and scored, outlines out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import foodbox
from foodbox.cli import main
from foodbox.data import tables
from foodbox.data.formats import FORMATS
from foodbox.errors import FoodboxError
from foodbox.records import Dataset

QUICK: dict[str, Any] = {
    "detector": "mask_rcnn", "batch_size": 4, "workers": 0, "size": 96, "precision": "float32", "valid_share": 0.25,
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Eight drawn tables as COCO, YOLO and labelme folders with outlines, and as Pascal VOC without."""
    folder = tmp_path_factory.mktemp("tables")
    drawn = Dataset(tables.write_tables(folder / "drawn", 8, seed=5, workers=1), tables.NAMES)
    for name in ("coco", "yolo", "labelme", "voc"):
        FORMATS[name].write(drawn, folder / name)
    return {name: folder / name for name in ("coco", "yolo", "labelme", "voc")}


@pytest.fixture(scope="module")
def run(photos: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> foodbox.Run:
    return foodbox.train(photos["coco"], runs=tmp_path_factory.mktemp("runs"), epochs=1, **QUICK)


def test_training_scores_masks_and_chooses_by_them(
    run: foodbox.Run, photos: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The last epoch's scores are those that evaluating gives; pictures and a report are there."""
    [entry] = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert entry["losses"]["masks"] > 0
    assert entry["scores"]["mask_ap"] is not None
    assert run.scores is not None
    assert run.scores.decisive == run.scores.mask_ap == entry["scores"]["mask_ap"]
    assert {"samples.jpg", "report.html", "curves.png"} <= {path.name for path in run.folder.iterdir()}
    assert "COCO mask AP (IoU 0.50:0.95)" in (run.folder / "report.html").read_text()
    with pytest.raises(SystemExit) as done:
        main(["evaluate", str(run.model), str(photos["coco"])])
    assert done.value.code == 0
    assert "COCO mask AP50" in capfd.readouterr().out


def test_a_run_with_masks_is_gone_on_with(photos: dict[str, Path], tmp_path: Path) -> None:
    """From the COCO folder's polygons; the best scores are read from the log again."""
    first = foodbox.train(photos["coco"], runs=tmp_path, epochs=1, **QUICK)
    config = (first.folder / "config.yaml").read_text()
    (first.folder / "config.yaml").write_text(config.replace("epochs: 1", "epochs: 2"))
    second = foodbox.resume(first.folder)
    assert len((second.folder / "log.jsonl").read_text().splitlines()) == 2
    assert second.scores is not None
    assert second.scores.mask_ap is not None


@pytest.mark.parametrize("format", ["yolo", "labelme"])
def test_evaluation_reads_outlines_of_every_format(run: foodbox.Run, photos: dict[str, Path], format: str) -> None:
    coco, other = (foodbox.evaluate(run.model, photos[name]) for name in ("coco", format))
    assert coco.mask_ap is not None
    assert other.mask_ap == pytest.approx(coco.mask_ap, abs=0.02)
    assert other.ap == pytest.approx(coco.ap, abs=0.02)


def test_a_box_detectors_photos_need_no_outlines_a_mask_detectors_do(
    run: foodbox.Run, photos: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(FoodboxError, match="learns masks, and none of the 8 photos"):
        foodbox.train(photos["voc"], runs=tmp_path, epochs=1, **QUICK)
    assert not any(tmp_path.iterdir())
    scores = foodbox.evaluate(run.model, photos["voc"])
    assert scores.mask_ap is None
    assert scores.ap is not None


def test_detecting_writes_outlines_and_draws_them(run: foodbox.Run, photos: dict[str, Path], tmp_path: Path) -> None:
    """Inside their boxes, but for a hundredth of a pixel of rounding."""
    found, _ = foodbox.detect(run.model, [photos["coco"]], out=tmp_path, min_score=0.01)
    rows = [row for photo in json.loads((tmp_path / "detections.json").read_text()) for row in photo["detections"]]
    assert rows
    for row in rows:
        x1, y1, x2, y2 = row["box"]
        for polygon in row["segmentation"]:
            assert x1 - 0.011 <= min(polygon[0::2]) <= max(polygon[0::2]) <= x2 + 0.011
            assert y1 - 0.011 <= min(polygon[1::2]) <= max(polygon[1::2]) <= y2 + 0.011
    assert found[0].bitmap(0).shape == (found[0].height, found[0].width)
    assert len(list(tmp_path.glob("*.jpg"))) == 8
    with Image.open(next(iter(tmp_path.glob("*.jpg")))) as picture:
        assert picture.size == (found[0].width, found[0].height)
