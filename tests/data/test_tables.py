"""Drawn tables: the same for the same seed, and labels that say what the pixels show."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import PCG64, Generator
from PIL import Image, ImageDraw

from foodbox.data import tables
from foodbox.data.tables import NAMES, Table, draw_table, write_tables
from foodbox.errors import FoodboxError

SMALL = (200, 150)  # pixels; quick to draw
SEEDS = range(30)


def everything(owner: np.ndarray) -> tables.Window:
    """A window over the whole of a picture."""
    height, width = owner.shape
    canvas = np.zeros((3, height, width), np.float32)
    return tables.window(canvas, 0.8, (1.0, 0.0), width / 2, height / 2, height / 2, reach=2.0)


@pytest.fixture(scope="module")
def small_tables() -> list[Table]:
    return [draw_table(seed, *SMALL) for seed in SEEDS]


def rasterised(table: Table, i: int) -> np.ndarray:
    """Mask i, [H, W], as Pillow fills its polygons; Pillow's coordinates are those of the pixels' middles."""
    picture = Image.new("1", table.image.size)
    for polygon in table.masks[i]:
        ImageDraw.Draw(picture).polygon([tuple(point) for point in (polygon - 0.5).tolist()], fill=1)
    return np.array(picture)


def test_same_seed_draws_the_same() -> None:
    one, other = draw_table(7), draw_table(7)
    assert one.image.tobytes() == other.image.tobytes()
    assert torch.equal(one.boxes, other.boxes)
    assert torch.equal(one.labels, other.labels)
    assert one.image.size == (640, 480)
    assert one.image.mode == "RGB"


def test_every_machine_draws_the_same() -> None:
    # Checksums from Linux, x86-64. Whoever changes how tables look changes them; no other machine may.
    table = draw_table(0, *SMALL)
    assert zlib.crc32(table.image.tobytes()) == 1620611646
    assert zlib.crc32(table.boxes.numpy().tobytes()) == 1287359590


def test_a_file_in_the_folders_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "tables").touch()
    with pytest.raises(FoodboxError, match="a file is where the folder should be"):
        write_tables(tmp_path / "tables", 1)


def test_other_seeds_draw_others(small_tables: list[Table]) -> None:
    assert len({table.image.tobytes() for table in small_tables}) == len(SEEDS)


def test_drawing_leaves_the_global_generators_alone() -> None:
    np.random.seed(0)
    torch.manual_seed(0)
    expected = np.random.random(), torch.rand(1)
    np.random.seed(0)
    torch.manual_seed(0)
    draw_table(1, *SMALL)
    assert (np.random.random(), torch.rand(1)) == expected


def test_labels_and_boxes_are_what_records_promises(small_tables: list[Table]) -> None:
    for table in small_tables:
        count = len(table.boxes)
        assert 2 <= count <= 8
        assert table.boxes.dtype == torch.float32
        assert table.boxes.shape == (count, 4)
        assert table.labels.dtype == torch.int64
        assert table.labels.shape == (count,)
        assert len(table.masks) == count
        assert all(table.masks)
        x1, y1, x2, y2 = table.boxes.unbind(1)
        assert bool((x2 > x1).all())
        assert bool((y2 > y1).all())
        assert bool((x1 >= 0).all() and (y1 >= 0).all() and (x2 <= SMALL[0]).all() and (y2 <= SMALL[1]).all())
        assert torch.equal(table.boxes, table.boxes.round())  # edges of pixels
    assert set(torch.cat([table.labels for table in small_tables]).tolist()) == set(range(len(NAMES)))


def test_boxes_bound_the_masks(small_tables: list[Table]) -> None:
    for table in small_tables:
        for i, box in enumerate(table.boxes.numpy()):
            rows, columns = np.nonzero(rasterised(table, i))
            bounds = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(box - bounds).max() <= 1


def test_masks_are_the_pixels_that_show_the_dish(monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[tables.Dish] = []
    place_dishes = tables.place_dishes

    def remember(rng: Generator, at: tables.Window) -> list[tables.Dish]:
        placed[:] = place_dishes(rng, at)
        return placed

    monkeypatch.setattr(tables, "place_dishes", remember)
    for seed in range(5):
        table = draw_table(seed)
        owner = tables.owners(placed, 480, 640)
        food = [i for i, dish in enumerate(placed) if dish.label != tables.EMPTY]
        assert [placed[i].label for i in food] == table.labels.tolist()
        for number, i in enumerate(food):
            mask, seen = rasterised(table, number), owner == i
            assert (mask & seen).sum() / (mask | seen).sum() > 0.95


def test_enough_of_each_dish_is_seen() -> None:
    width, height = SMALL
    for seed in SEEDS:
        dishes = tables.place_dishes(Generator(PCG64(seed)), everything(np.empty((height, width))))
        owner = tables.owners(dishes, height, width)
        for i, dish in enumerate(dishes):
            assert (owner == i).sum() >= 0.35 * (dish.cover >= 0.5).sum()
            share = 2 * dish.window.unit / height
            assert tables.DIAMETER[0] - 1e-6 <= share <= tables.DIAMETER[1] + 1e-6


def test_smallest_table_has_dishes() -> None:
    assert all(len(draw_table(seed, 128, 128).boxes) >= 2 for seed in range(20))
    with pytest.raises(ValueError, match="127 x 200"):
        draw_table(0, 127, 200)


@pytest.mark.parametrize(("left", "top"), [(0, 0), (3, 5), (14, 13)])  # at both ends of the picture, and inside
def test_outlines_of_a_rectangle(left: int, top: int) -> None:
    owner = np.full((20, 20), -1, np.int8)
    owner[top : top + 7, left : left + 6] = 1
    (polygon,) = tables.outlines(owner, 1, everything(owner))
    assert polygon.dtype == torch.float32
    assert polygon.amin(0).tolist() == [left, top]
    assert polygon.amax(0).tolist() == [left + 6, top + 7]
    x, y = polygon.double().T
    area = abs((x * y.roll(-1) - y * x.roll(-1)).sum().item()) / 2
    assert area == 6 * 7 - 4 * 0.125  # each corner lacks a triangle, half a pixel by half a pixel


def test_outlines_of_pieces() -> None:
    owner = np.full((20, 30), -1, np.int8)
    owner[2:9, 2:9] = owner[2:17, 15:29] = 0
    owner[6:10, 20:24] = 1  # on top of the second piece: a hole, which is not outlined
    owner[14:18, 2:6] = 0  # a piece too small to count
    polygons = tables.outlines(owner, 0, everything(owner))
    bounds = sorted(polygon.amin(0).tolist() + polygon.amax(0).tolist() for polygon in polygons)
    assert bounds == [[2, 2, 9, 9], [15, 2, 29, 17]]


def test_write_tables(tmp_path: Path) -> None:
    photos = write_tables(tmp_path, 3, seed=5, workers=1)
    assert [photo.path for photo in photos] == [tmp_path / "images" / f"table_{i:04d}.jpg" for i in range(3)]
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [photo.path.name for photo in photos]
    for photo in photos:
        with Image.open(photo.path) as image:
            image.load()
            assert image.format == "JPEG"
            assert image.size == (photo.width, photo.height) == (640, 480)
        assert photo.masks is not None
        assert len(photo.boxes) == len(photo.labels) == len(photo.masks) == len(photo.sources)
    assert write_tables(tmp_path / "none", 0) == []


def test_workers_change_nothing(tmp_path: Path) -> None:
    alone, together = (write_tables(tmp_path / str(n), 3, seed=2, workers=n) for n in (1, 2))
    longer = write_tables(tmp_path / "longer", 4, seed=2)
    for one, other, third in zip(alone, together, longer, strict=False):
        assert one.path.read_bytes() == other.path.read_bytes() == third.path.read_bytes()
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(one.labels, other.labels)
        assert one.masks is not None
        assert other.masks is not None
        for polygons, others in zip(one.masks, other.masks, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(polygons, others, strict=True))
