"""Photos cut into tiles: all of a photo is seen, boxes move along, and what was found comes back to the photo once."""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import foodbox
from foodbox import model as model_module
from foodbox.cli import main
from foodbox.data import tiles as module
from foodbox.data.augment import VISIBLE
from foodbox.data.images import open_photo
from foodbox.data.loader import photo_loader
from foodbox.data.tiles import (
    ALIGNED,
    OVERLAP,
    cut,
    every_tile,
    open_tile,
    shown_by,
    tile_count,
    tiles,
    together,
    training_tiles,
)
from foodbox.detections import Detections
from foodbox.errors import UsageError
from foodbox.records import Photo, Preprocessing, Window
from foodbox.training import choices


def photo(size: tuple[int, int], *boxes: tuple[float, ...], path: str = "a.png") -> Photo:
    """Each box has a class of its own."""
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Photo(Path(path), *size, corners, torch.arange(len(boxes)))


# -- Cutting --------------------------------------------------------------------------------------------------------


def test_tiles_by_hand() -> None:
    """1,000 x 500 px in tiles of 400: three across, as (1000 - 400) / 320 rounded up is 2 steps, and two down."""
    boxes = (10, 10, 50, 50), (380, 20, 480, 60), (0, 0, 1000, 500)
    whole, *parts = tiles(photo((1000, 500), *boxes), 400)
    assert whole.window is None
    assert [tuple(tile.window or ()) for tile in parts] == [
        (x, y, 1000, 500)
        for y in (0, 100)
        for x in (0, 296, 600)  # 300, down to a multiple of 8
    ]
    assert {(tile.width, tile.height) for tile in parts} == {(400, 400)}
    # Of the second, 20 of 100 px are too little; the largest shows a quarter of itself.
    assert parts[0].boxes.tolist() == [[10, 10, 50, 50]]
    assert parts[1].boxes.tolist() == [[84, 20, 184, 60]]
    assert parts[1].labels.tolist() == [1]
    assert parts[2].boxes.tolist() == []


@pytest.mark.parametrize(("size", "side"), [((480, 300), 400), ((400, 300), 0), ((5000, 4000), 0)])
def test_what_is_hardly_larger_stays_whole(size: tuple[int, int], side: int) -> None:
    one = photo(size, (1, 2, 3, 4))
    assert tiles(one, side) == [one]
    assert cut([one], side) == training_tiles([one], side) == [one]


def test_a_photo_that_is_only_wide_is_cut_across() -> None:
    assert [tuple(tile.window or ())[:2] for tile in tiles(photo((900, 200)), 400)[1:]] == [(0, 0), (248, 0), (500, 0)]


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(32, 800))
def test_tiles_cover_the_photo_and_overlap(width: int, height: int, side: int) -> None:
    parts = cut([photo((width, height))], side)
    windows = [tile.window or Window(0, 0, width, height) for tile in parts]
    assert tile_count([photo((width, height))] * 2, side) == len(every_tile([photo((width, height))] * 2, side))
    for axis, whole in ((0, width), (1, height)):
        spans = sorted({(window[axis], window[axis] + (tile.width, tile.height)[axis])
                        for window, tile in zip(windows, parts, strict=True)})  # fmt: skip
        assert spans[0][0] == 0
        assert spans[-1][1] == whole
        assert spans == [(0, whole)] or all(end - start == side < whole for start, end in spans)
        shared = [before[1] - after[0] for before, after in itertools.pairwise(spans)]
        assert all(overlap >= OVERLAP * side - ALIGNED for overlap in shared)


def test_outlines_and_what_is_ignored_move_along() -> None:
    one = photo((800, 800), (500, 500, 600, 600), (10, 10, 20, 20))
    one.masks = [[torch.tensor([[500.0, 500], [600, 500], [600, 600]])], []]
    one.ignore = torch.tensor([True, False])
    last = tiles(one, 400)[-1]
    assert last.window == Window(400, 400, 800, 800)
    assert last.masks is not None
    assert [outline.tolist() for outline in last.masks[0]] == [[[100, 100], [200, 100], [200, 200]]]
    assert last.ignore.tolist() == [True]


def test_training_sees_as_many_empty_tiles_as_others() -> None:
    """Four tiles of 16 show the box; the photo without one is seen whole alone."""
    full, empty = photo((1000, 1000), (310, 310, 320, 320)), photo((300, 300))
    found = training_tiles([full, empty], 310)
    whole = [one for one in found if one.window is None]
    assert whole == [full, empty]
    shown = [len(one.boxes) for one in found if one.window]
    assert sorted(shown) == [0] * (len(shown) // 2) + [1] * (len(shown) // 2)
    assert training_tiles([full, empty], 310)[3].window == found[3].window  # the same ones each time


# -- Pixels ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A JPEG of 1,600 x 1,200 px, each place of another colour, that a person sees turned to 1,200 x 1,600."""
    y, x = np.mgrid[:1200, :1600]
    image = Image.fromarray(np.stack([x / 1600 * 255, y / 1200 * 255, (x + y) % 256 * 0 + 90], -1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", quality=95, exif=exif)
    return tmp_path / "a.jpg"


def test_a_tile_shows_its_part(file: Path) -> None:
    seen = open_photo(file)
    assert seen.size == (1200, 1600)
    opened: dict[Path, Image.Image] = {}
    for tile in tiles(photo(seen.size, path=str(file)), 500):
        found = open_tile(tile, (500, 500), opened)
        left, top, *_ = tile.window or (0, 0)
        expected = seen.crop((left, top, left + tile.width, top + tile.height))
        if tile.window:  # the whole photo may be decoded smaller
            assert found.size == (500, 500)
            assert np.array_equal(np.asarray(found), np.asarray(expected))


def test_a_tile_of_a_photo_decoded_smaller(file: Path) -> None:
    """At an eighth of the size there are still as many pixels as were asked for, and the part is the same."""
    for tile in tiles(photo((1200, 1600), path=str(file)), 800)[1:]:
        found = open_tile(tile, (100, 100), {})
        assert found.size == (100, 100)
        left, top, *_ = tile.window or ()
        part = open_photo(file).crop((left, top, left + 800, top + 800))
        eighth = part.resize((100, 100), Image.Resampling.BOX)
        assert np.abs(np.asarray(found, float) - np.asarray(eighth, float)).max() < 6


def test_a_photo_is_decoded_once_for_its_tiles(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Path] = []

    def counted(path: Path, at_least: tuple[int, int] | None = None) -> Image.Image:
        decoded.append(path)
        return open_photo(path, at_least)

    monkeypatch.setattr(module, "open_photo", counted)
    shown = cut([photo((1200, 1600), path=str(file))], 500)
    for _ in photo_loader(shown, Preprocessing(size=320), 4, workers=0):
        pass
    assert len(shown) == 12
    assert decoded == [file]


def test_the_whole_photo_is_decoded_alike_before_and_after_its_tiles(file: Path) -> None:
    """Its tiles need all of its pixels, which are kept; the whole is seen in fewer."""
    whole, *parts = tiles(photo((1200, 1600), path=str(file)), 500)
    opened: dict[Path, Image.Image] = {}
    first = open_tile(whole, (150, 200), opened)
    assert first.size == (150, 200)
    open_tile(parts[0], (500, 500), opened)
    assert np.array_equal(np.asarray(open_tile(whole, (150, 200), opened)), np.asarray(first))


def test_a_picture_in_memory_is_cut_alike(file: Path) -> None:
    seen = open_photo(file)
    tile = tiles(photo(seen.size, path=str(file)), 500)[5]
    assert np.array_equal(np.asarray(shown_by(tile, seen)), np.asarray(open_tile(tile, (500, 500), {})))


# -- Putting together -----------------------------------------------------------------------------------------------


def found_on(tile: Photo, names: list[str]) -> Detections:
    """What a detector without fault finds on a tile."""
    return Detections(tile.boxes, torch.full((len(tile.boxes),), 0.9), tile.labels, names, tile.width, tile.height)


@st.composite
def some_boxes(draw: st.DrawFn) -> Photo:
    width, height = draw(st.integers(300, 1500)), draw(st.integers(300, 1500))
    boxes = []
    for _ in range(draw(st.integers(0, 8))):
        w, h = draw(st.integers(2, width)), draw(st.integers(2, height))
        x, y = draw(st.integers(0, width - w)), draw(st.integers(0, height - h))
        boxes.append((x, y, x + w, y + h))
    return photo((width, height), *boxes)


@given(some_boxes(), st.integers(100, 600))
@settings(deadline=None)
def test_what_is_found_on_tiles_is_found_once_on_the_photo(one: Photo, side: int) -> None:
    """However large a box is and wherever it lies: none is there twice, or as the part that a tile shows."""
    names = [str(i) for i in range(len(one.boxes))]
    other = photo((50, 50), (1, 2, 30, 40)) if names else photo((50, 50))
    on_tiles = [found_on(tile, names) for whole in (one, other) for tile in tiles(whole, side)]
    first, second = together([one, other], side, iter(on_tiles))
    assert (first.width, first.height) == (one.width, one.height)
    order = first.labels.argsort()
    assert first.labels[order].tolist() == one.labels.tolist()
    torch.testing.assert_close(first.boxes[order], one.boxes)
    assert second.boxes.tolist() == other.boxes.tolist()


def test_the_surest_of_several_tiles_stays_with_its_mask() -> None:
    """Two tiles show the box; the best comes first, and what another class has is kept."""
    one = photo((600, 300), (310, 100, 340, 130))
    names = ["a", "b"]
    own = tiles(one, 350)
    assert [tile.window and tile.window.left for tile in own] == [None, 0, 250]
    found = []
    for tile, score, label in zip(own, (0.2, 0.5, 0.8), (1, 0, 0), strict=True):
        boxes = tile.boxes if tile.window else one.boxes
        masks = torch.full((1, 2, 2), score)
        found.append(
            Detections(boxes, torch.tensor([score]), torch.tensor([label]), names, tile.width, tile.height, None, masks)
        )
    (joined,) = together([one], 350, found)
    assert joined.labels.tolist() == [0, 1]
    assert joined.scores.tolist() == pytest.approx([0.8, 0.2])
    assert joined.boxes.tolist() == one.boxes.tolist() * 2
    assert joined.masks is not None
    assert joined.masks.amax((1, 2)).tolist() == pytest.approx([0.8, 0.2])


# -- In use ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def bolts(tmp_path: Path) -> Path:
    """Two photos of 640 x 480 px with bright squares of 10 px on grey: 10 px in the largest input."""
    rows = []
    draw = np.random.default_rng(0)
    for name in "ab":
        pixels = np.full((480, 640, 3), 90, np.uint8)
        for x, y in zip(draw.integers(0, 62, 8) * 10, draw.integers(0, 46, 8) * 10, strict=True):
            pixels[y : y + 10, x : x + 10] = 255
            rows.append(f"{name}.png,{x},{y},{x + 10},{y + 10},bolt\n")
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "boxes.csv").write_text("".join(dict.fromkeys(rows)))
    return tmp_path


COMMON: dict[str, Any] = {"epochs": 1, "weights": "none", "workers": 0, "device": "cpu"}


@pytest.mark.parametrize(
    ("detector", "settings"),
    [("retinanet", {}), ("ssd", {}), ("retinanet", {"freeze": "backbone", "weights": "coco"})],
)  # fmt: skip
def test_a_model_sees_tiles_wherever_it_is_used(bolts: Path, detector: str, settings: dict[str, Any]) -> None:
    """Trained, read again, on a file, on a picture, on many files: the same detections in the photo's pixels."""
    asked = {"detector": detector, "size": 160, "tile_size": 300, "cache": "none"}
    run = foodbox.train(bolts, valid=bolts, runs=bolts / "runs", **{**COMMON, **asked, **settings})
    model = foodbox.load(run.model, "cpu")
    assert model.detector.preprocessing.tile_size == 300
    file = bolts / "a.png"
    once = model.detect(file, min_score=0.01)
    assert (once.width, once.height, once.path) == (640, 480, file)
    assert len(once)
    assert (once.boxes[:, 2] > 300).any()  # beyond the first tile
    of_picture = model.detect(Image.open(file), min_score=0.01)
    torch.testing.assert_close(of_picture.boxes, once.boxes)
    (of_many, _) = model.detect_many([Photo(bolts / f"{name}.png", 640, 480) for name in "ab"], min_score=0.01)
    torch.testing.assert_close(of_many.boxes, once.boxes, rtol=0, atol=2)  # in batches with other tiles
    assert foodbox.evaluate(model, bolts).ap is not None


def test_tiles_of_a_model_that_was_trained_without(
    bolts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if each tile had been cut out and given by itself."""
    run = foodbox.train(bolts, valid=bolts, runs=bolts / "runs", size=160, tile_size=0, **COMMON)
    whole, tiled = foodbox.load(run.model, "cpu"), foodbox.load(run.model, "cpu", tile_size=300)
    file, one = bolts / "a.png", Photo(bolts / "a.png", 640, 480)
    pictures = [shown_by(tile, Image.open(file)) for tile in tiles(one, 300)]
    (expected,) = together([one], 300, (whole.detect(picture, min_score=0.01) for picture in pictures))
    monkeypatch.setattr(
        model_module, "PHOTOS_AT_ONCE", 1
    )  # for the last bits of a score hang on what else is in the batch
    found = tiled.detect(file, min_score=0.01)
    torch.testing.assert_close(found.boxes, expected.boxes)
    assert len(found) > len(whole.detect(file, min_score=0.01))

    asked = ["--tile-size", "300", "--json"]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["detect", str(run.model), str(file), "--out", str(bolts / "out"), "--min-score", "0.01", *asked])
    (shown,) = json.loads(capsys.readouterr().out)
    assert len(shown["detections"]) == pytest.approx(len(found), rel=0.05)
    best = bolts / "best.txt"
    with pytest.raises(SystemExit):
        main(["evaluate", str(run.model), str(bolts), *asked, "--starthon-file", str(best)])
    of_tiles = best.read_text()
    foodbox.evaluate(tiled, bolts, starthon_file=best)
    assert of_tiles == best.read_text()
    foodbox.evaluate(whole, bolts, starthon_file=best)
    assert of_tiles != best.read_text()


@pytest.mark.parametrize(
    ("cache", "workers", "each"),
    [
        ("memory", 0, 2),
        pytest.param("memory", 1, 2, marks=pytest.mark.skipif(sys.platform != "linux", reason="It has to fork.")),
        ("none", 0, 5),
    ],
)
def test_training_decodes_a_photo_once_for_its_tiles(
    bolts: Path, cache: str, workers: int, each: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Once to train on and once to validate on, in two epochs; kept nowhere, at least twice more in each."""
    log = tmp_path / "decoded.log"

    def counted(path: Path, at_least: tuple[int, int] | None = None) -> Image.Image:
        with log.open("a") as file:  # which a worker writes to, too
            file.write(f"{path.name}\n")
        return open_photo(path, at_least)

    monkeypatch.setattr(module, "open_photo", counted)
    asked = {"size": 160, "tile_size": 200, "cache": cache, "workers": workers, "epochs": 2}
    foodbox.train(bolts, valid=bolts, runs=bolts / "runs", **{**COMMON, **asked})
    decoded = Counter(log.read_text().split())
    assert decoded.keys() == {"a.png", "b.png"}
    assert all(count == each if each == 2 else count >= each for count in decoded.values()), decoded


@pytest.mark.parametrize(
    ("settings", "expected", "said"),
    [
        ({}, 139, "training sees tiles of 139 px too, up to 62 of 2 photos"),  # 640 x 10 / 46
        ({"tile_size": 0}, 0, ""),
        ({"tile_size": 200}, 200, ""),
        ({"size": 320}, 0, ""),
    ],
)
def test_tiny_boxes_bring_tiles(
    bolts: Path, settings: dict[str, Any], expected: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = foodbox.train(bolts, valid=bolts, runs=bolts / "runs", **COMMON, **settings)
    assert foodbox.load(run.model).detector.preprocessing.tile_size == expected
    heard = capsys.readouterr().err
    assert said in heard
    assert ("are found: training sees tiles" in heard) == bool(said)


def test_where_tiles_would_be_many_they_are_offered(
    bolts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six tiles across, as (640 - 139) / 111.2 = 4.5 takes five steps, and five down, and the photo itself."""
    monkeypatch.setattr(choices, "MOST_TILES", 61)
    foodbox.check(bolts)
    assert "few are found: --tile-size 139 shows them in tiles, up to 62 of 2 photos." in capsys.readouterr().err


def test_regions_of_whole_photos_are_not_cut(bolts: Path) -> None:
    pytest.importorskip("cv2")
    with pytest.raises(UsageError, match=r"FastRCNN looks for its regions on whole photos: leave --tile-size out\."):
        foodbox.train(bolts, detector="fast_rcnn", tile_size=200)


def test_a_side_that_is_none(bolts: Path) -> None:
    with pytest.raises(UsageError, match=r"--tile-size is 31: expected 32 pixels or more, or 0 for whole photos\."):
        foodbox.train(bolts, tile_size=31)
    run = foodbox.train(bolts, valid=bolts, runs=bolts / "runs", size=160, **COMMON)
    for side, range_ in [(31, "32 pixels or more"), (-1, "greater than or equal to 0")]:
        with pytest.raises(UsageError, match=range_):
            foodbox.load(run.model, tile_size=side)


def test_boxes_cut_to_what_augmentation_keeps() -> None:
    """A box of which a tile shows just so much is left out, and a pixel more is kept."""
    first = tiles(photo((700, 100), (360, 0, 460, 50), (359, 50, 459, 100)), 400)[1]
    assert VISIBLE == 0.4
    assert first.labels.tolist() == [1]
