"""Boxes drawn where they are, and many pictures on one sheet."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from foodbox.detections import Detections
from foodbox.drawing.boxes import COLOURS, MASK_ALPHA, TRUTH, captioned, draw_detections, draw_truth, sheet
from foodbox.records import Photo, no_boxes, no_labels

GREY = (112, 112, 112)


def plain(width: int = 400, height: int = 300) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def found(*rows: tuple[list[float], float, int], width: int = 400, height: int = 300) -> Detections:
    boxes, scores, labels = zip(*rows, strict=True)
    names = ["rice", "soup", "떡볶이"]
    return Detections(torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels), names, width, height)


def changed(before: Image.Image, after: Image.Image) -> np.ndarray:
    """[H, W]: where a pixel is another."""
    result: np.ndarray = (np.asarray(before) != np.asarray(after)).any(-1)
    return result


def colour_at(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    return tuple(np.asarray(image)[y, x].tolist())


@pytest.mark.parametrize("label", [0, 1])
def test_a_detection_is_framed_in_its_class_colour_and_its_inside_left(label: int) -> None:
    image = plain()
    drawn = draw_detections(image, found(([100.0, 100.0, 300.0, 250.0], 0.9, label)))
    colour = ImageColor.getrgb(COLOURS[label])
    for x, y in [(100, 180), (299, 180), (200, 100), (200, 249)]:
        assert colour_at(drawn, x, y) == colour
    where = changed(image, drawn)
    assert not where[110:240, 110:290].any()
    assert not where[260:].any()
    assert not where[:, 310:].any()
    assert where[75:97, 100:140].any()  # the words above the box
    assert not changed(image, plain()).any()  # the picture that was given is as it was


@pytest.mark.parametrize("name", ["very " * 40 + "long", "one\nbelow the other " * 9])
def test_a_name_longer_than_the_picture_is_shortened_and_its_score_is_seen(name: str) -> None:
    """One line high, within the picture, and another score is another picture."""
    drawn = []
    for score in (0.91, 0.34):
        one = found(([100.0, 100.0, 300.0, 250.0], score, 0))
        one.names = [name, "", ""]
        drawn.append(draw_detections(plain(), one))
    where = changed(plain(), drawn[0])
    assert not where[:78].any()  # above the line
    assert where[90, 5:395].mean() > 0.8  # nearly as wide as the picture
    where = changed(*drawn)
    assert where[78:100].any()


def test_boxes_shrink_with_the_picture() -> None:
    """A photo of 800 x 600 shown at half its size."""
    drawn = draw_detections(plain(), found(([200.0, 200.0, 600.0, 500.0], 0.9, 0), width=800, height=600))
    for x, y in [(100, 180), (299, 180), (200, 249)]:
        assert colour_at(drawn, x, y) == ImageColor.getrgb(COLOURS[0])


def test_lines_and_words_are_no_larger_than_a_panorama_bears() -> None:
    """3000 x 150 px: its lines are those of 600 x 150, and most of the box stays to be seen."""
    image = Image.new("RGB", (3000, 150), "#808080")
    drawn = draw_detections(image, found(([500.0, 40.0, 600.0, 140.0], 0.9, 0), width=3000, height=150))
    assert colour_at(drawn, 505, 90) == colour_at(drawn, 550, 90) == (128, 128, 128)
    assert colour_at(drawn, 500, 90) == ImageColor.getrgb(COLOURS[0])


def test_the_best_lies_on_top() -> None:
    box = [100.0, 100.0, 300.0, 250.0]
    drawn = draw_detections(plain(), found((box, 0.9, 0), (box, 0.5, 1)))
    assert colour_at(drawn, 100, 180) == ImageColor.getrgb(COLOURS[0])


def test_words_find_another_place_than_a_surer_ones_or_are_left_out() -> None:
    """Above the box, within it, below it; a fourth on one place has none, and what lies beside has its own."""
    same = [100.0, 100.0, 200.0, 200.0]
    rows = [(same, 0.9, 0), (same, 0.8, 1), (same, 0.7, 0), (same, 0.6, 1)]
    drawn = [np.asarray(draw_detections(plain(), found(*rows[:count]))) for count in (1, 2, 3, 4)]
    changed_rows = [np.nonzero((after != before).any((1, 2)))[0] for before, after in itertools.pairwise(drawn)]
    assert 100 < changed_rows[0].min() < changed_rows[0].max() < 130
    assert 200 <= changed_rows[1].min() < changed_rows[1].max() < 230
    assert not len(changed_rows[2])
    beside = np.asarray(draw_detections(plain(), found(*rows, ([240.0, 100.0, 340.0, 200.0], 0.4, 1))))
    assert (beside[80:98, 240:300] != drawn[3][80:98, 240:300]).any()


def test_true_boxes_are_white_and_without_words() -> None:
    image = plain()
    photo = Photo(Path("a.jpg"), 800, 600, torch.tensor([[200.0, 200.0, 600.0, 500.0]]), torch.tensor([0]))
    drawn = draw_truth(image, photo)
    assert colour_at(drawn, 100, 180) == ImageColor.getrgb(TRUTH)
    assert not changed(image, drawn)[:95].any()


@pytest.mark.parametrize(
    "box", [[0.0, 0.0, 400.0, 300.0], [-50.0, 50.0, 500.0, 400.0], [5.0, 5.0, 5.5, 5.5], [390.0, 1.0, 400.0, 8.0]]
)
def test_boxes_at_the_border_beyond_it_and_of_no_size(box: list[float]) -> None:
    image = plain()
    drawn = draw_detections(image, found((box, 0.9, 2)))
    assert drawn.size == image.size
    assert changed(image, drawn).any()


def test_words_stay_on_the_picture() -> None:
    """At the upper right corner they move left and inside the box."""
    image = plain()
    where = changed(image, draw_detections(image, found(([380.0, 2.0, 399.0, 200.0], 0.9, 0))))
    assert where[5:20, 340:375].any()


def test_masks_are_shaded_in_their_class_colour_and_the_photo_shines_through() -> None:
    """A full map: its box, and each pixel is covered once, where two outlines of an object overlap too."""
    one = found(([200.0, 200.0, 600.0, 500.0], 0.9, 1), width=800, height=600)
    one.masks = torch.ones(1, 28, 28)
    drawn = draw_detections(plain(), one)
    share = MASK_ALPHA / 255
    expected = [round(112 * (1 - share) + c * share) for c in ImageColor.getrgb(COLOURS[1])]
    assert colour_at(drawn, 200, 170) == pytest.approx(expected, abs=1)
    assert colour_at(drawn, 200, 260) == GREY
    assert colour_at(drawn, 100, 180) == ImageColor.getrgb(COLOURS[1])  # its box lies over it
    half = torch.tensor([[200.0, 200.0], [600.0, 200.0], [600.0, 500.0], [200.0, 500.0]])
    photo = Photo(Path("a.jpg"), 800, 600, one.boxes, one.labels, [[half, half]])
    truth = draw_truth(plain(), photo)
    assert colour_at(truth, 200, 170) == pytest.approx(expected, abs=1)
    assert colour_at(truth, 100, 180) == ImageColor.getrgb(TRUTH)


def test_truth_with_names_has_its_classes_colours_and_words() -> None:
    photo = Photo(Path("a.jpg"), 400, 300, torch.tensor([[50.0, 60.0, 150.0, 160.0]]), torch.tensor([1]))
    silent, named = draw_truth(plain(), photo), draw_truth(plain(), photo, names=["rice", "soup"])
    assert colour_at(silent, 100, 60) == ImageColor.getrgb(TRUTH)
    assert colour_at(named, 100, 159) == ImageColor.getrgb(COLOURS[1])
    above = changed(plain(), named)[:55]
    assert above.any()
    assert not changed(plain(), silent)[:55].any()


def test_outlines_beyond_the_picture_are_cut_off() -> None:
    outline = torch.tensor([[-300.0, -20.0], [900.0, -20.0], [900.0, 10.0], [-300.0, 10.0]])
    away = torch.tensor([[-30.0, -30.0], [-10.0, -30.0], [-10.0, -10.0]])
    photo = Photo(Path("a.jpg"), 400, 300, no_boxes(), torch.tensor([0, 0]), [[outline], [away]])
    where = changed(plain(), draw_truth(plain(), photo))
    assert where[:10].all()
    assert not where[12:].any()


def test_no_detections_leave_the_picture_as_it_is() -> None:
    nothing = Detections(no_boxes(), torch.zeros(0), no_labels(), ["rice"], 400, 300)
    assert not changed(plain(), draw_detections(plain(), nothing)).any()
    assert not changed(plain(), draw_truth(plain(), Photo(Path("a.jpg"), 400, 300))).any()


def test_a_photo_of_one_pixel() -> None:
    drawn = draw_detections(plain(1, 1), found(([0.0, 0.0, 1.0, 1.0], 0.9, 0), width=1, height=1))
    assert drawn.size == (1, 1)


@pytest.mark.parametrize(
    ("count", "columns", "title", "size"),
    [
        (4, 2, "", (200, 160)),
        (5, 2, "", (200, 240)),
        (3, 5, "", (500, 80)),
        (4, 2, "A title", (200, 160 + 28)),
        (0, 3, "Nothing", (300, 28)),
    ],
)
def test_a_sheet_has_rows_enough(count: int, columns: int, title: str, size: tuple[int, int]) -> None:
    assert sheet([plain()] * count, columns, (100, 80), title).size == size


def test_a_sheets_pictures_stand_in_their_tiles() -> None:
    images = [
        Image.new("RGB", size, colour) for size, colour in [((400, 100), "red"), ((100, 400), "lime"), ((9, 9), "blue")]
    ]
    result = sheet(images, 2, (100, 80))
    assert colour_at(result, 50, 40) == (255, 0, 0)
    assert colour_at(result, 50, 10) == colour_at(result, 120, 40) == (0x20, 0x20, 0x20)
    assert colour_at(result, 150, 10) == (0, 255, 0)
    assert colour_at(result, 50, 120) == (0, 0, 255)
    assert images[0].size == (400, 100)


def test_a_caption_stands_above_and_covers_nothing() -> None:
    result = captioned(plain(60, 40), "ssd")
    assert (result.width, result.height > 40) == (60, True)
    assert not changed(plain(60, 40), result.crop((0, result.height - 40, 60, result.height))).any()
    head = np.asarray(result.crop((0, 0, 60, result.height - 40)))
    assert (head == 255).all(-1).any()
