"""Boxes as a network sees them, and how large its input should be for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import foodbox
from foodbox.data.inputs import ALIKE, BOXES, boxes_in_input, size_for, small_boxes, tile_size_for
from foodbox.detectors.retinanet import RetinaNet
from foodbox.records import Dataset, Photo, Preprocessing


def photo(size: tuple[int, int], *boxes: tuple[float, ...]) -> Photo:
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Photo(Path("photos/a.jpg"), *size, corners, torch.zeros(len(boxes), dtype=torch.int64))


@pytest.mark.parametrize(
    ("preprocessing", "box", "height", "width"),
    [
        # Twice as small, to 320 x 240, which is padded to 320 x 256.
        (Preprocessing(size=320), [50, 100, 150, 200], 256, 320),
        (Preprocessing(size=320, multiple=1), [50, 100, 150, 200], 240, 320),
        (Preprocessing(size=240, fit="shortest", max_size=999), [50, 100, 150, 200], 256, 320),
        # Stretched: half as wide, two thirds as high.
        (Preprocessing(size=320, fit="stretch"), [50, 400 / 3, 150, 800 / 3], 320, 320),
        (Preprocessing(size=1280), [200, 400, 600, 800], 960, 1280),
    ],
)
def test_boxes_in_the_input_by_hand(preprocessing: Preprocessing, box: list[float], height: int, width: int) -> None:
    """One box on a photo of 640 x 480."""
    found = boxes_in_input(Dataset([photo((640, 480), (100, 200, 300, 400))], ["a"]), preprocessing)
    torch.testing.assert_close(found.boxes, torch.tensor([box], dtype=torch.float32))
    assert (found.height, found.width) == (height, width)


def test_the_input_holds_lying_and_upright_photos() -> None:
    """Photos without a box ask for no room."""
    photos = [photo((640, 320), (0, 0, 64, 32)), photo((320, 640), (0, 0, 32, 64)), photo((100, 100))]
    boxes, _, height, width = boxes_in_input(Dataset(photos, ["a"]), Preprocessing(size=320))
    assert boxes.tolist() == [[0, 0, 32, 16], [0, 0, 16, 32]]
    assert (height, width) == (320, 320)
    assert boxes_in_input(Dataset(photos[:1], ["a"]), Preprocessing(size=320))[2:] == (160, 320)


def test_boxes_that_do_not_count_are_left_out() -> None:
    one = photo((320, 320), (0, 0, 64, 32), (10, 10, 300, 300))
    one.labels = torch.tensor([1, 0])
    one.ignore = torch.tensor([False, True])
    found = boxes_in_input(Dataset([one], ["a", "b"]), Preprocessing(size=320))
    assert (found.boxes.tolist(), found.labels.tolist()) == ([[0, 0, 64, 32]], [1])


def test_of_many_boxes_always_the_same_thousand() -> None:
    one = photo((320, 320), *((i / 10, 0, i / 10 + 5, 9) for i in range(BOXES + 500)))
    one.labels = (one.boxes[:, 0] > 70).long()
    dataset = Dataset([one], ["a", "b"])
    boxes, labels, *_ = boxes_in_input(dataset, Preprocessing(size=320))
    assert boxes.shape == (BOXES, 4)
    assert torch.equal(boxes, boxes_in_input(dataset, Preprocessing(size=320)).boxes)
    assert torch.equal(labels, (boxes[:, 0] > 70).long())
    assert len(boxes[:, 0].unique()) == BOXES  # none twice
    assert (
        len(boxes_in_input(Dataset([photo((320, 320), *[(0, 0, 9, 9)] * BOXES)], ["a"]), Preprocessing())[0]) == BOXES
    )


@pytest.mark.parametrize("photos", [[], [photo((640, 480))]])
def test_without_boxes(photos: list[Photo]) -> None:
    boxes, labels, height, width = boxes_in_input(Dataset(photos, ["a"]), Preprocessing(size=320))
    assert (boxes.shape, labels.shape) == ((0, 4), (0,))
    assert min(height, width) > 0


# -- How large the input should be ------------------------------------------------------------------------------------


def squares(*sides: float) -> torch.Tensor:
    return torch.tensor([[5.0, 5.0, 5.0 + side, 5.0 + side] for side in sides]).reshape(-1, 4)


def test_small_is_the_lower_quartile_of_the_roots_of_areas() -> None:
    assert small_boxes(squares(30, 10, 40, 20, 50), torch.zeros(5, dtype=torch.int64)) == pytest.approx(20)
    assert small_boxes(squares(*range(1, 101)), torch.zeros(100, dtype=torch.int64)) == pytest.approx(25)
    assert small_boxes(torch.tensor([[0.0, 0.0, 16.0, 4.0]]), torch.zeros(1, dtype=torch.int64)) == pytest.approx(8)
    assert small_boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)) == 0


@pytest.mark.parametrize(
    ("large", "small", "expected"),
    [
        (1000, 0, 90),
        (1000, ALIKE, 9),  # half of what counts, though one box of fifty
        (1000, 7, 9),  # 7 of 27
        (1000, 6, 90),  # 6 of 26: of few boxes each counts once
        (10, 3, 90),
        (9, 3, 9),
    ],
)
def test_classes_of_many_boxes_count_alike(large: int, small: int, expected: float) -> None:
    boxes = torch.cat((squares(*[90.0] * large), squares(*[9.0] * small)))
    labels = torch.tensor([0] * large + [2] * small)
    assert small_boxes(boxes, labels) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sides", "size", "multiple", "expected"),
    [
        ((46, 60, 90), 320, 32, 320),  # large enough
        ((100, 200), 320, 32, 320),  # never smaller
        ((36,) * 4, 320, 32, 416),  # 320 x 46 / 36 = 408.9, to a multiple of 32
        ((36,) * 4, 320, 1, 409),
        ((44,) * 4, 320, 32, 320),  # 334.5
        ((10,) * 4, 320, 32, 640),  # twice as large and no more
        ((23, 23, 23, 23, 200), 448, 32, 896),
        ((), 320, 32, 320),
    ],
)
def test_the_size_by_hand(sides: tuple[float, ...], size: int, multiple: int, expected: int) -> None:
    under = small_boxes(squares(*sides), torch.zeros(len(sides), dtype=torch.int64))
    assert size_for(under, Preprocessing(size=size, multiple=multiple)) == expected


@pytest.mark.parametrize(("side", "expected"), [(50, 0), (49, 682), (20, 278), (1, 32)])
def test_the_tiles_side_by_hand(side: int, expected: int) -> None:
    """In a photo of 2,000 px 50 are 16 in an input of 640; below that, 46 px there: 640 x 49 / 46."""
    some = [photo((2000, 1000), *((x, 5, x + side, 5 + side) for x in (0, 400, 900, 1500)))]
    assert tile_size_for(side * 640 / 2000, Dataset(some, ["a"] * 4), Preprocessing(size=640)) == expected


def test_no_boxes_need_no_tiles() -> None:
    assert tile_size_for(0, Dataset([photo((2000, 1000))], ["a"]), Preprocessing(size=640)) == 0


def test_boxes_on_tiles_are_larger() -> None:
    """Of 200 px in an input of 400; a photo that is no larger stays as it is."""
    some = Dataset([photo((800, 800), (510, 510, 550, 530)), photo((150, 200), (0, 0, 40, 20))], ["a"])
    found = boxes_in_input(some, Preprocessing(size=400, tile_size=200))
    assert {tuple(box) for box in (found.boxes[:, 2:] - found.boxes[:, :2]).tolist()} == {(80, 40)}
    assert (found.height, found.width) == (416, 416)


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """Two photos of 100 x 80 px with boxes that are 10 px wide and high: 32 px in an input of 320."""
    for name in "ab":
        Image.new("RGB", (100, 80), "grey").save(tmp_path / f"{name}.jpg")
        (tmp_path / f"{name}.txt").write_text("30,20,10,10\n")
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 448),  # 320 x 46 / 32 = 460
        ({"detector": "ssd"}, 416),  # in its square they are 40 px high: 320 x 46 / 35.8 = 411
        ({"size": 64}, 64),  # as the person says
    ],
)
def test_training_takes_it_unless_the_person_says_otherwise(
    drawn: Path, settings: dict[str, Any], expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = foodbox.train(drawn, epochs=1, valid=drawn, runs=drawn / "runs", weights="none", workers=0, **settings)
    assert foodbox.load(run.model).detector.preprocessing.size == expected
    said = f"training takes {expected} px and up to {(expected / 320) ** 2:.1f} times the time (--size 320 keeps it)."
    assert (said in capsys.readouterr().err) == (expected > 320)


@pytest.mark.parametrize(("settings", "expected"), [({}, 350), ({"search_size": 200}, 200), ({"size": 320}, 250)])
def test_the_search_for_regions_grows_with_the_input(
    drawn: Path, settings: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """250 x 448 / 320: what no region reaches, the largest input does not show."""
    monkeypatch.setenv("FOODBOX_CACHE", str(drawn / "cache"))
    common: dict[str, Any] = {"epochs": 1, "valid": drawn, "runs": drawn / "runs", "weights": "none", "workers": 0}
    run = foodbox.train(drawn, detector="fast_rcnn", **common, **settings)
    search = foodbox.load(run.model).detector.search
    assert search is not None
    assert search.search_size == expected


@pytest.mark.parametrize(("settings", "expected"), [({}, 12), ({"max_detections": 5}, 5)])
def test_no_photo_has_more_boxes_than_are_kept(
    drawn: Path, settings: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A detector that keeps 10 of a photo, and a photo with 12 boxes."""
    monkeypatch.setitem(RetinaNet.presets["light"], "max_detections", 10)
    boxes = "".join(f"{{}}.jpg,{8 * i},0,{8 * i + 7},60,food\n" for i in range(12))
    for name in "ab":
        (drawn / f"{name}.txt").unlink()
    (drawn / "boxes.csv").write_text("".join(boxes.replace("{}", name) for name in "ab"))
    run = foodbox.train(drawn, epochs=1, valid=drawn, runs=drawn / "runs", weights="none", workers=0, **settings)
    assert foodbox.load(run.model).detector.settings.max_detections == expected  # type: ignore[attr-defined]
    assert ("A photo has 12 boxes, and 10 detections are kept of one" in capsys.readouterr().err) == (not settings)


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (32, "under 16 px in an input of 320 px: training takes 640 px"),  # and 32 px there
        (14, "There a quarter is still under 14 px, and of so small ones few are found: training sees tiles of 195 px "
             "too, up to 13 of 1 photo (--tile-size 0 keeps photos whole)."),  # 640 x 14 / 46; 4 x 3 tiles
    ],
)  # fmt: skip
def test_boxes_that_stay_tiny_are_told_of(
    tmp_path: Path, side: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A photo of 640 x 480 px, as large as the largest input."""
    Image.new("RGB", (640, 480), "grey").save(tmp_path / "a.jpg")
    (tmp_path / "boxes.csv").write_text("".join(f"a.jpg,{x},0,{x + side},{side},bolt\n" for x in (0, 99, 300)))
    foodbox.check(tmp_path)
    said = capsys.readouterr().err
    assert expected in said
    assert ("still" in expected) == ("still" in said)


def test_the_papers_sizes_stay(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for preset in ("light", "resnet50"):
        foodbox.check(drawn, preset=preset)
        assert ("training takes 448 px" in capsys.readouterr().err) == (preset == "light")


def test_a_model_brings_its_own(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common: dict[str, Any] = {"epochs": 1, "valid": drawn, "runs": drawn / "runs", "workers": 0}
    first = foodbox.train(drawn, weights="none", size=64, **common)
    second = foodbox.train(drawn, weights=str(first.model), **common)
    assert foodbox.load(second.model).detector.preprocessing.size == 64
    assert "training takes" not in capsys.readouterr().err
