"""What a diagnosis shows, and the pictures and the page that are made of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from foodbox.detections import Detections
from foodbox.evaluation.diagnosis import Diagnosis
from foodbox.evaluation.page import write_page
from foodbox.evaluation.scores import score
from foodbox.records import Dataset
from tests.evaluation.random_detections import NAMES, nothing, random_photos


def with_files(folder: Path) -> tuple[Dataset, list[Detections]]:
    """Random photos and detections, whose photos are there."""
    dataset, found = random_photos(0)
    for photo in dataset:
        photo.path = folder / photo.path.name
        Image.new("RGB", (photo.width, photo.height), "grey").save(photo.path)
    return dataset, found


def test_samples_are_from_all_over_the_dataset() -> None:
    """Also where it has less than twice as many photos as are shown: of twelve, nine."""
    shown = Diagnosis.of(*random_photos(0), 0.5)
    assert [int(photo.path.stem) for photo, _ in shown.samples] == [0, 2, 3, 4, 6, 7, 8, 10, 11]
    assert all(found.path == photo.path for photo, found in [*shown.samples, *shown.worst])
    assert all((found.scores >= 0.5).all() for _, found in [*shown.samples, *shown.worst])


def test_the_worst_photos_come_first() -> None:
    dataset, detections = random_photos(0)
    shown = Diagnosis.of(dataset, detections, 0.5)
    numbers = [int(photo.path.stem) for photo, _ in shown.worst]
    mistakes = shown.pairs.mistakes.tolist()
    assert [mistakes[i] for i in numbers] == sorted(mistakes, reverse=True)[: len(numbers)]
    assert all(mistakes[i] for i in numbers)
    assert list(shown.by_class) == NAMES[:3]  # the fourth has no box


def test_the_pictures_can_be_opened(tmp_path: Path) -> None:
    pictures = Diagnosis.of(*with_files(tmp_path), 0.5).pictures()
    assert list(pictures) == ["samples.jpg", "precision_recall.png", "confusion.png", "worst.jpg"]
    for data in pictures.values():
        image = Image.open(io.BytesIO(data))
        image.load()
        assert image.width > 300
        assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 10


def test_one_class_is_confused_with_none(tmp_path: Path) -> None:
    dataset, detections = with_files(tmp_path)
    for one in [*dataset, *detections]:
        one.labels[:] = 0
    one_class = Dataset(dataset.photos, ["food"])
    assert "confusion.png" not in Diagnosis.of(one_class, detections, 0.5).pictures()


def test_without_detections_there_are_pictures_all_the_same(tmp_path: Path) -> None:
    dataset, _ = with_files(tmp_path)
    assert len(Diagnosis.of(dataset, nothing(dataset), 0.3).pictures()) == 4


def test_a_page_shows_its_own_pictures_and_leaves_others_alone(tmp_path: Path) -> None:
    dataset, detections = with_files(tmp_path)
    for one in [*dataset, *detections]:
        one.labels[:] = 0
    dataset = Dataset(dataset.photos, ["food"])
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "confusion.png").write_bytes(b"somebody's own")
    scores = score(dataset, detections)
    write_page(tmp_path / "page", Diagnosis.of(dataset, detections, scores.threshold), scores)
    assert (tmp_path / "page" / "confusion.png").read_bytes() == b"somebody's own"
    assert (tmp_path / "page" / "report.html").read_text(encoding="utf-8").count("<img src=") == 3


@pytest.mark.parametrize("name", ["report", "b<i>"])
def test_the_page_is_one_file(tmp_path: Path, name: str) -> None:
    dataset, detections = with_files(tmp_path)
    scores = score(dataset, detections)
    write_page(tmp_path / name, Diagnosis.of(dataset, detections, scores.threshold), scores)
    page = (tmp_path / name / "report.html").read_text(encoding="utf-8")
    assert page.count('<img src="data:image/') == 4
    assert "<th class=number>precision</th>" in page
    assert "b<i>" not in page
