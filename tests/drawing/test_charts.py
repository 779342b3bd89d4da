"""Charts of datasets of all sorts, and the numbers in their sentences."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import matplotlib
import pytest
import torch
from PIL import Image

from foodbox.drawing.charts import Chart, charts
from foodbox.records import Dataset, Photo

TITLES = ["Boxes on a photo", "Size of the boxes", "Shape of the boxes", "Where the boxes lie", "Size of the photos"]


def photo(size: tuple[int, int], *boxes: tuple[float, float, float, float]) -> Photo:
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Photo(Path("a.jpg"), *size, corners, torch.zeros(len(boxes), dtype=torch.int64))


def drawn_of(*photos: Photo) -> dict[str, Chart]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return {chart.title: chart for chart in charts(Dataset(list(photos), ["dish"]))}


SETS = {
    "one box": [photo((640, 480), (10, 20, 110, 220))],
    "one box that is the photo": [photo((640, 480), (0, 0, 640, 480))],
    "one pixel": [photo((1, 1), (0, 0, 1, 1))],
    "a thread": [photo((4000, 10), (0, 4, 4000, 4.001))],
    "many boxes on one photo": [photo((640, 480), *[(i, i, i + 9, i + 9) for i in range(300)]), photo((480, 640))],
    "many sizes": [photo((100 + i, 200 + i), (0, 0, 50, 50)) for i in range(50)],
}


@pytest.mark.parametrize("photos", SETS.values(), ids=SETS)
def test_any_dataset_has_its_charts(photos: list[Photo]) -> None:
    drawn = drawn_of(*photos)
    assert list(drawn) == TITLES
    for chart in drawn.values():
        with Image.open(io.BytesIO(chart.picture)) as image:
            assert image.format == "PNG"
            assert image.width > image.height > 300
        assert len(chart.picture) < 100_000


def test_of_no_boxes_only_the_photos_are_drawn_and_of_no_photos_nothing() -> None:
    assert list(drawn_of(photo((640, 480)))) == ["Size of the photos"]
    assert drawn_of() == {}


def test_the_sentences_count() -> None:
    """Boxes with a half and a tenth of the photo's side; two of three are upright."""
    drawn = drawn_of(
        photo((400, 100), (0, 0, 200, 50), (0, 0, 10, 40)), photo((400, 100), (0, 0, 10, 40)), photo((100, 400))
    )
    assert "have 1 or more; the most is 2." in drawn["Boxes on a photo"].words
    assert "at most 10% of the photo's side; the smallest has 10%" in drawn["Size of the boxes"].words
    assert drawn["Shape of the boxes"].words.startswith("33% ")
    assert drawn["Size of the photos"].words == "2 sizes; larger dots are more photos. 2 of 3 have 400 × 100 pixels."
    assert drawn_of(photo((30, 20)))["Size of the photos"].words == "All have 30 × 20 pixels."


def test_photos_that_nobody_labelled_are_no_photos_without_boxes() -> None:
    bare = photo((400, 100))
    bare.labelled = False
    both = drawn_of(photo((400, 100), (0, 0, 9, 9)), bare)["Boxes on a photo"]
    assert both == drawn_of(photo((400, 100), (0, 0, 9, 9)))["Boxes on a photo"]


@pytest.mark.parametrize(
    ("title", "box"),
    [
        ("Size of the boxes", (0, 0, 300, 300)),
        ("Shape of the boxes", (0, 0, 300, 100)),
        ("Where the boxes lie", (300, 300, 400, 400)),
    ],
)
def test_another_box_is_another_picture(title: str, box: tuple[float, float, float, float]) -> None:
    one = drawn_of(photo((400, 400), (0, 0, 100, 100)))[title].picture
    again = drawn_of(photo((400, 400), (0, 0, 100, 100)))[title].picture
    other = drawn_of(photo((400, 400), box))[title].picture
    assert one == again != other


def test_matplotlib_is_left_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    drawn_of(photo((400, 400), (0, 0, 100, 100)))
    assert dict(matplotlib.rcParams) == before
