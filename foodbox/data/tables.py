"""Draws laid tables with dishes: the embedded demo data, with exact boxes and masks.

A table comes from its seed alone. Where the dishes stand is settled before a pixel is painted, and the
outlines that paint them also say which dish each pixel shows: the labels are taken from there. Then all is
painted from the bottom to the top: the table top, things that are no food, the dishes from the far edge to
the near one, and the light.

Painting happens in `Window`s, parts of the canvas with coordinates of their own, in which a vessel or a slice
of tomato is the unit disc. Edges are smoothed by the share of each pixel that lies inside.

The same seed gives the same pixels on every machine: they see only + - * / and square roots, which IEEE 754
rounds alike everywhere, and never a sine or a power, whose last bit is the maths library's choice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from foodbox.data.processes import cores, processes
from foodbox.files import make_folder
from foodbox.findings import Source
from foodbox.masks import Polygon, trace_contours
from foodbox.records import Photo

NAMES: list[str] = ["rice", "soup", "noodles", "salad", "cookies"]
"""The kinds of dishes; a label is an index into them."""

EMPTY = -1  # for a label: a vessel without food, which hides others as a dish does but is not labelled
DISHES = (2, 8)  # fewest and most dishes of a table
DIAMETER = (0.10, 0.45)  # smallest and largest vessel, as a share of the picture's shorter side
VISIBLE = 0.45  # with less of its rim's area in sight, a dish is too hard to tell
FRAGMENT = 20.0  # pixels; a smaller piece of a dish, seen between two others, is left out of its mask
SMALLEST_SIDE = 128  # pixels; on a smaller picture a whole dish could be a fragment
TRIES = 60  # places tried for a dish before it is left out; it shrinks as they are used up
QUALITY = 92  # JPEG: as phones save photos; single grains of rice survive it
TABLES_A_WORKER = 60  # starting a process, which imports torch, takes as long as drawing about so many

Array = NDArray[np.floating[Any]]  # float32; numpy's stubs forget that where a Python float takes part
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Table:
    """A drawn table and what stands on it.

    Attributes:
        image: RGB.
        boxes: float32 [N, 4], x1 y1 x2 y2 in pixels, tight around the visible part of each dish.
        labels: int64 [N] into `NAMES`.
        masks: N lists of the polygons, float32 [P, 2] in pixels, that outline the visible part of each dish.
    """

    image: Image.Image
    boxes: Tensor
    labels: Tensor
    masks: list[list[Polygon]]


def draw_table(seed: int, width: int = 640, height: int = 480) -> Table:
    """Draws the table of `seed` (0 or above), width x height pixels, with 2 to 8 dishes.

    Raises:
        ValueError: a side is under 128 pixels, too small to draw food on.
    """
    if min(width, height) < SMALLEST_SIDE:
        raise ValueError(f"A table of {width} x {height} pixels: no side may be under {SMALLEST_SIDE}.")
    rng = Generator(PCG64(seed))
    canvas = np.zeros((3, height, width), np.float32)
    squash, light = between(rng, 0.74, 0.98), direction(rng)
    # The whole picture as a window: (0, 0) is its middle, and 1 is half of its shorter side.
    side = min(width, height)
    at = window(canvas, squash, light, width / 2, height / 2, side / 2, reach=2 * max(width, height) / side)
    dishes = place_dishes(rng, at)
    owner = owners(dishes, height, width)
    pick(rng, TABLE_TOPS)(rng, at)
    draw_things(rng, at, owner)
    for dish in dishes:
        draw_dish(rng, dish)
    draw_light(rng, at)
    pixels = (canvas.clip(0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)  # [H, W, 3]

    food = [i for i, dish in enumerate(dishes) if dish.label != EMPTY]
    masks = [outlines(owner, i, dishes[i].window) for i in food]
    points = [torch.cat(polygons) for polygons in masks]
    boxes = torch.stack([torch.cat([xy.amin(0), xy.amax(0)]) for xy in points])  # [N, 4]
    return Table(Image.fromarray(pixels), boxes, torch.tensor([dishes[i].label for i in food]), masks)


def write_tables(folder: Path, count: int, seed: int = 0, workers: int | None = None) -> list[Photo]:
    """Draws `count` tables to folder/images/table_0000.jpg and on, and returns their records, with masks.

    Table i depends on (seed, i) only, however many processes draw. `workers` None takes as many as there are
    cores and the work is worth; 1 draws in this process. With more, a script must keep its call under
    `if __name__ == "__main__":`, as Python asks where processes are spawned.

    Raises:
        FoodboxError: the place cannot be written to.
    """
    images = make_folder(folder / "images")
    if workers is None:
        workers = min(cores(), count // TABLES_A_WORKER)
    write = partial(_write_table, images, seed)
    if workers <= 1:
        return [_photo(*write(i)) for i in range(count)]
    with processes(workers, fresh=True) as pool:
        return [_photo(*written) for written in pool.map(write, range(count), chunksize=4)]


def _write_table(images: Path, seed: int, i: int) -> tuple[Path, tuple[int, int], Any, Any, list[list[Any]]]:
    """Draws and saves table i; returns path, size, boxes, labels and masks, these as arrays.

    A tensor that crosses processes holds a file handle, and the masks of all tables are more tensors than a
    process may have files.
    """
    table = draw_table(int(SeedSequence([seed, i]).generate_state(1, np.uint64)[0]))
    path = images / f"table_{i:04d}.jpg"
    unfinished = path.with_suffix(".part")
    table.image.save(unfinished, format="JPEG", quality=QUALITY)
    unfinished.replace(path)  # whole or not at all
    masks = [[polygon.numpy() for polygon in polygons] for polygons in table.masks]
    return path, table.image.size, table.boxes.numpy(), table.labels.numpy(), masks


def _photo(path: Path, size: tuple[int, int], boxes: Any, labels: Any, masks: list[list[Any]]) -> Photo:
    """The record of a written table."""
    return Photo(
        path,
        *size,
        boxes=torch.from_numpy(boxes),
        labels=torch.from_numpy(labels),
        masks=[[torch.from_numpy(polygon) for polygon in polygons] for polygons in masks],
        sources=[Source(path)] * len(boxes),
    )


# ---- Chance and colour ----


def between(rng: Generator, low: float, high: float) -> float:
    """A number from low to high; not `rng.uniform`, whose last bit may depend on the compiler."""
    return low + (high - low) * rng.random()


def pick(rng: Generator, options: Sequence[T]) -> T:
    """One of the options, each as likely as the others."""
    return options[int(rng.integers(len(options)))]


def unit_vector(turn: float) -> tuple[float, float]:
    """The direction at a share of a full turn, rounded so that no library's last bit reaches the pixels."""
    return round(math.cos(2 * math.pi * turn), 6), round(math.sin(2 * math.pi * turn), 6)


def direction(rng: Generator) -> tuple[float, float]:
    """A unit vector, any way."""
    return unit_vector(rng.random())


def rgb(code: int) -> Array:
    """0xRRGGBB → [3, 1, 1], each 0 to 1."""
    return np.array([code >> 16, code >> 8 & 255, code & 255], np.float32).reshape(3, 1, 1) / 255


def varied(rng: Generator, *codes: int, by: float = 0.06) -> Array:
    """One of the colours 0xRRGGBB, each channel up to the share `by` lighter or darker: [3, 1, 1]."""
    return rgb(pick(rng, codes)) * (1 + by * (2 * rng.random((3, 1, 1), np.float32) - 1))


WHITE = rgb(0xFFFFFF)


def smooth(x: Array) -> Array:
    """0 below 0, 1 above 1, and an S between."""
    x = x.clip(0, 1)
    return x * x * (3 - 2 * x)


def wave(x: Array) -> Array:
    """A smooth wave of period 1, 0 at whole numbers and 1 halfway between them."""
    x = x - np.floor(x)
    return smooth(2 * np.minimum(x, 1 - x))


# ---- Windows ----


@dataclass(frozen=True, eq=False)
class Window:
    """A part of the canvas with coordinates of its own, in which a round thing is the disc u² + v² < 1.

    Attributes:
        canvas: [3, H, W], the whole picture: red, green, blue, each 0 to 1.
        squash: a circle's height in the picture as a share of its width; 1 is seen from right above.
        light: unit vector towards the light.
        x, y, unit: where (0, 0) lies and how long 1 is along u, in pixels of the canvas.
        rows, columns: the part of the canvas.
        u, v: [1, w] and [h, 1], the coordinates of the part's pixels.
    """

    canvas: Array
    squash: float
    light: tuple[float, float]
    x: float
    y: float
    unit: float
    rows: slice
    columns: slice
    u: Array
    v: Array

    def part(self, u: float, v: float, radius: float, reach: float = 1.1) -> Window:
        """The window around a disc given in these coordinates, out to `reach` of its radii."""
        x, y = self.x + u * self.unit, self.y + v * self.unit * self.squash
        return window(self.canvas, self.squash, self.light, x, y, radius * self.unit, reach)

    @property
    def tilt(self) -> float:
        """The share of a height that is seen; 0 from right above."""
        return math.sqrt(1 - self.squash * self.squash)

    @property
    def facing(self) -> Array:
        """How far each pixel lies towards the light, [h, w]."""
        return self.u * self.light[0] + self.v * self.light[1]

    def radius(self, u: float = 0.0, v: float = 0.0) -> Array:
        """Distance of each pixel from a point, [h, w]."""
        distance: Array = np.sqrt((self.u - u) * (self.u - u) + (self.v - v) * (self.v - v))
        return distance

    def turned(self, axis: tuple[float, float]) -> tuple[Array, Array]:
        """Coordinates along an axis and across it, each [h, w]."""
        return self.u * axis[0] + self.v * axis[1], self.v * axis[0] - self.u * axis[1]

    def cover(self, inside: Array) -> Array:
        """The share of each pixel within an outline, from its distance inside (outside: below 0)."""
        return (inside * self.unit + 0.5).clip(0, 1)

    def disc(self, u: float = 0.0, v: float = 0.0, radius: float = 1.0) -> Array:
        """The share of each pixel within a disc."""
        return self.cover(radius - self.radius(u, v))

    def noise(self, rng: Generator, cell: float, cell_v: float | None = None) -> Array:
        """Value noise, [h, w] from 0 to 1: chance values one `cell` apart, smoothly joined."""
        top, down = _cells(self.v[:, 0], (cell_v or cell) * self.unit * self.squash)
        left, right = _cells(self.u[0], cell * self.unit)
        values = rng.random((top[-1] + 2, left[-1] + 2), np.float32)
        values = values[:, left] + right * (values[:, left + 1] - values[:, left])
        return values[top] + down[:, None] * (values[top + 1] - values[top])

    def paint(self, colour: Array, cover: Array) -> None:
        """Lays a colour, [3, 1, 1] or [3, h, w], over the window, as far as `cover` [h, w] says."""
        pixels = self.canvas[:, self.rows, self.columns]
        pixels += cover * (colour - pixels)

    def shade(self, amount: Array) -> None:
        """Takes a share [h, w] of the light away."""
        self.canvas[:, self.rows, self.columns] *= 1 - amount


def window(
    canvas: Array, squash: float, light: tuple[float, float], x: float, y: float, unit: float, reach: float
) -> Window:
    """The window around the disc of radius `unit` at (x, y), in pixels, as far as it lies on the canvas."""
    rows, v = _side(y, unit * squash, reach, canvas.shape[1])
    columns, u = _side(x, unit, reach, canvas.shape[2])
    return Window(canvas, squash, light, x, y, unit, rows, columns, u[None, :], v[:, None])


def _side(centre: float, half: float, reach: float, end: int) -> tuple[slice, Array]:
    """The pixels within reach * half of the centre, one at least, and where they lie in units of half."""
    first = min(max(int(centre - reach * half), 0), end - 1)
    last = max(min(int(centre + reach * half) + 1, end), first + 1)
    return slice(first, last), (np.arange(first, last, dtype=np.float32) + (0.5 - centre)) / half


def _cells(side: Array, length: float) -> tuple[NDArray[np.int64], Array]:
    """For each pixel of a side: which cell of `length` pixels it is in, and how far along that, 0 to 1."""
    place = np.arange(len(side), dtype=np.float32) / max(length, 1.0)
    cell = np.floor(place)
    return cell.astype(np.int64), smooth(place - cell)


# ---- Where the dishes stand, and the labels ----


@dataclass(frozen=True, eq=False)
class Dish:
    """A vessel on the table.

    Attributes:
        label: the food in it, an index into `NAMES`, or `EMPTY`.
        is_bowl: deep, with a thin rim, or flat, with a broad one.
        foot: how far below the rim's middle the foot's is seen, in the window's v.
        window: around the rim, large enough for the shadow.
        cover: [h, w], the share of each pixel of the window that shows the vessel.
    """

    label: int
    is_bowl: bool
    foot: float
    window: Window
    cover: Array


def place_dishes(rng: Generator, at: Window) -> list[Dish]:
    """Chooses the dishes of a table and where they stand; far ones first, since near ones cover them."""
    height, width = at.canvas.shape[1:]
    right, bottom = float(at.u.max()), float(at.v.max())
    labels = [int(rng.integers(len(NAMES))) for _ in range(int(rng.integers(DISHES[0], DISHES[1] + 1)))]
    labels += [EMPTY] * int(rng.integers(3) == 0)
    closeness = between(rng, 0.45, 0.95)  # of the camera, for all dishes alike
    least = between(rng, VISIBLE, 0.98)  # seen of each dish: some tables are crowded, others leave room
    # One place after another in a grid of 4 x 3: chance alone would leave half of the table empty.
    places = itertools.cycle(rng.permutation(12).tolist())
    dishes: list[Dish] = []
    for label in labels:
        diameter = min(max(DIAMETER[1] * closeness * between(rng, 0.65, 1.2), DIAMETER[0]), DIAMETER[1])
        for place in itertools.islice(places, TRIES):
            u = right * ((place % 4 + rng.random()) / 2 - 1)
            v = bottom * ((place // 4 + rng.random()) / 1.5 - 1)
            # The diameter is a share of the shorter side; the radius is the same share of half of it, of 1.
            dish = _dish_at(rng, label, at.part(u, v, diameter, reach=1.5))
            trial = sorted([*dishes, dish], key=lambda each: each.window.y)
            if _none_inside(trial) and min(_visible(trial, height, width)) >= least:
                dishes = trial
                break
            diameter = max(diameter * 0.97, DIAMETER[0])  # what does not fit may be smaller
    return dishes


def _dish_at(rng: Generator, label: int, at: Window) -> Dish:
    """A vessel for the food, and its outline: the rim, the narrower foot, and the wall between."""
    is_bowl = label != EMPTY and NAMES[label] != "cookies" and rng.random() < 0.65
    foot = (0.45 if is_bowl else 0.1) * at.tilt / at.squash
    cover = at.disc()
    for step in (0.25, 0.5, 0.75, 1.0):
        cover = np.maximum(cover, at.disc(0, foot * step, 1 - 0.4 * step * step))
    return Dish(label, is_bowl, foot, at, cover)


def owners(dishes: list[Dish], height: int, width: int) -> NDArray[np.int8]:
    """Which dish each pixel shows, [H, W]: an index into `dishes`, or -1 for none."""
    owner = np.full((height, width), -1, np.int8)
    for i, dish in enumerate(dishes):
        owner[dish.window.rows, dish.window.columns][dish.cover >= 0.5] = i
    return owner


def _none_inside(dishes: list[Dish]) -> bool:
    """Whether every dish stands with its middle beside the others; so nothing cuts a hole into a mask."""
    for one, other in itertools.combinations((dish.window for dish in dishes), 2):
        right, down, apart = one.x - other.x, (one.y - other.y) / one.squash, max(one.unit, other.unit)
        if right * right + down * down < apart * apart:
            return False
    return True


def _visible(dishes: list[Dish], height: int, width: int) -> list[float]:
    """The share of each dish that is seen, neither behind others nor outside the picture."""
    owner = owners(dishes, height, width)
    shares = []
    for i, at in enumerate(dish.window for dish in dishes):
        seen = int(np.count_nonzero(owner[at.rows, at.columns] == i))
        shares.append(seen / (math.pi * at.unit * at.unit * at.squash))
    return shares


def outlines(owner: NDArray[np.int8], i: int, at: Window) -> list[Polygon]:
    """The outer outlines of what is seen of dish i, float32 [P, 2] in pixels; no piece under `FRAGMENT`."""
    mask = owner[at.rows, at.columns] == i
    polygons = []
    for ring in trace_contours(mask, at.columns.start, at.rows.start):
        x, y = ring.T
        if abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2 >= FRAGMENT:
            polygons.append(torch.from_numpy(ring.astype(np.float32)))
    return polygons


# ---- The table, and what is no food ----


def draw_wood(rng: Generator, at: Window) -> None:
    """Boards across the picture, with the grain along them."""
    colour = varied(rng, 0xB98A5A, 0x8A5A35, 0xD6B48A, 0x6B4A35, 0xA9917A, 0xC79A63, by=0.03)
    breadth = between(rng, 0.3, 0.8)
    board = at.v / breadth + rng.random()
    lightness = rng.random(64, np.float32)[np.floor(board).astype(np.int64) % 64]  # [h, 1], of each board
    rings = wave(3 * at.v + 9 * lightness + 2.5 * at.noise(rng, 1.0, 0.2))
    grain = at.noise(rng, 0.7, 0.015)
    joint = (1 - 40 * breadth * np.abs(board - np.floor(board + 0.5))).clip(0, 1)
    at.canvas[:] = colour * (0.80 + 0.14 * lightness + 0.20 * grain + 0.10 * rings) * (1 - 0.5 * joint)


def draw_cloth(rng: Generator, at: Window) -> None:
    """Woven cloth: plain, striped or checked."""
    ground = varied(rng, 0xF1ECE2, 0xE8DCC6, 0xDDE5E8, 0xF3E9E4)
    dye = varied(rng, 0xB5413C, 0x3F6C9B, 0x5C8A66, 0xD9A94A, 0x7D6A8C, 0x47505C)
    x, y = at.turned(direction(rng))
    period = between(rng, 0.1, 0.35)
    stripes, bars = (smooth(4 * wave(side / period) - 1.5) for side in (x, y))
    dyed = pick(rng, (0.85 * np.ones_like(x), 0.8 * stripes, 0.42 * (stripes + bars)))
    weave = 0.04 * (wave(70 * x) + wave(70 * y)) + 0.10 * at.noise(rng, 0.6)
    at.canvas[:] = (ground + dyed * (dye - ground)) * (0.88 + weave)


def draw_stone(rng: Generator, at: Window) -> None:
    """Stone: clouds, and speckles in it."""
    colour = varied(rng, 0xC9C6C1, 0x8E9296, 0x55595E, 0xDCD5CA, 0x6F7B78, 0x3E4247)
    clouds = 0.5 * at.noise(rng, 0.5) + 0.3 * at.noise(rng, 0.15) + 0.2 * at.noise(rng, 0.04)
    speckles = smooth(6 * (at.noise(rng, 0.018) - between(rng, 0.75, 0.95)))
    at.canvas[:] = colour * (0.82 + 0.3 * clouds) * (1 + between(rng, -0.5, 0.4) * speckles)


TABLE_TOPS = (draw_wood, draw_wood, draw_cloth, draw_cloth, draw_stone)


def draw_things(rng: Generator, at: Window, owner: NDArray[np.int8]) -> None:
    """Napkins and cutlery, on which a dish may stand, and glasses, on which none may."""
    right, bottom = float(at.u.max()), float(at.v.max())
    for draw, most, size in ((draw_napkin, 2, 0.34), (draw_tool, 4, 0.32), (draw_glass, 2, 0.15)):
        for _ in range(int(rng.integers(most + 1))):
            u, v = between(rng, -right, right), between(rng, -bottom, bottom)
            place = at.part(u, v, size * between(rng, 0.85, 1.2), reach=1.6)
            if draw is not draw_glass or bool((owner[place.rows, place.columns] < 0).all()):
                draw(rng, place)


def draw_napkin(rng: Generator, at: Window) -> None:
    """A folded napkin with a border."""
    x, y = at.turned(direction(rng))
    inside = np.minimum(1 - np.abs(x), between(rng, 0.55, 0.95) - np.abs(y))
    colour = varied(rng, 0xF4F1EA, 0xD8C3A5, 0x9DB4C0, 0xC97B63, 0x8FA387, 0xE9D8D2)
    at.shade(0.35 * smooth(1 + 8 * inside))
    at.paint(colour * (0.9 + 0.12 * at.noise(rng, 0.5)), at.cover(inside))
    at.shade(0.2 * at.cover(0.03 - np.abs(inside - 0.12)))
    at.shade(0.2 * at.cover(np.minimum(0.01 - np.abs(x - 0.1), inside)))


METAL, WOODEN = (0xC8CBD0, 0xB9BDC4, 0xC9AE73), (0x6E3B22, 0x2E2523, 0xC79A63)
KNIFE = ((-1, 0, 0, 0, 0.04), (0, 0, 0.8, 0, 0.065), (0, 0.03, 0.9, 0.03, 0.035))
SPOON = ((-1, 0, 0.5, 0, 0.04), (0.62, 0, 0.78, 0, 0.15))
PRONGS = tuple((0.45, side, 0.95, side, 0.022) for side in (-0.1, -0.033, 0.033, 0.1))
FORK = ((-1, 0, 0.45, 0, 0.04), (0.45, -0.08, 0.45, 0.08, 0.05), *PRONGS)
CHOPSTICKS = ((-1, -0.09, 1, -0.03, 0.028), (-1, 0.09, 1, 0.03, 0.028))
TOOLS = ((METAL, KNIFE), (METAL, SPOON), (METAL, FORK), (WOODEN, CHOPSTICKS))
"""Colours and strokes of tools; a stroke goes from (x, y) to (x, y) and has half a breadth."""


def draw_tool(rng: Generator, at: Window) -> None:
    """A knife, a spoon, a fork, or chopsticks."""
    colours, strokes = pick(rng, TOOLS)
    x, y = at.turned(direction(rng))
    inside = np.full_like(x, -np.inf)
    for x0, y0, x1, y1, half in strokes:
        dx, dy = x1 - x0, y1 - y0
        nearest = (((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy)).clip(0, 1)  # share of the stroke
        away_x, away_y = x - x0 - nearest * dx, y - y0 - nearest * dy
        inside = np.maximum(inside, half - np.sqrt(away_x * away_x + away_y * away_y))
    at.shade(0.4 * smooth(1 + 12 * inside))
    gleam = smooth(12 * inside) * (0.5 + 0.5 * wave(0.7 * x + 2 * y))
    at.paint(varied(rng, *colours) * (0.72 + 0.45 * gleam), at.cover(inside))


def draw_glass(rng: Generator, at: Window) -> None:
    """A glass of water, through which the table is seen."""
    foot = between(rng, 0.7, 1.0) * at.tilt / at.squash
    at.shade(0.3 * smooth(1.5 - 1.5 * at.radius(0.15, foot)))
    at.paint(rgb(0xDCEBF0), 0.35 * np.maximum(at.disc(0, 0, 0.95), at.disc(0, foot, 0.8)))
    at.paint(WHITE, 0.3 * at.cover(0.05 - np.abs(at.radius(0, foot) - 0.75)))
    at.paint(WHITE, at.cover(0.05 - np.abs(at.radius() - 0.92)) * (0.55 + 0.4 * at.facing.clip(-1, 1)))
    at.paint(WHITE, 0.8 * at.disc(0.45 * at.light[0], 0.45 * at.light[1], 0.12))


def draw_light(rng: Generator, at: Window) -> None:
    """Light that falls off across the table, a little warm or cold, and the camera's grain."""
    warmth = between(rng, -0.05, 0.06)
    colour = np.array([1 + warmth, 1, 1 - warmth], np.float32).reshape(3, 1, 1)
    light = between(rng, 0.87, 1.02) + between(rng, 0.03, 0.15) * at.facing + 0.15 * at.noise(rng, 1.3)
    grain = between(rng, 0.01, 0.06) * (rng.random(light.shape, np.float32) - 0.5)
    at.canvas[:] = at.canvas * light * colour + grain


# ---- The dishes ----

GLAZES = (0xF6F4EF, 0xEDE6D6, 0x9FB8C8, 0x2F4A6B, 0x8CA08A, 0x3B3B3E, 0xB9694A, 0xD9C7A7, 0x6E8F96)


def draw_dish(rng: Generator, dish: Dish) -> None:
    """A dish from the bottom to the top: its shadow, its vessel, its food."""
    at, facing, radius = dish.window, dish.window.facing, dish.window.radius()
    throw = 0.2 if dish.is_bowl else 0.1
    shadow = at.radius(-throw * at.light[0], dish.foot - throw * at.light[1])
    at.shade(0.55 * smooth((1.22 - shadow) / 0.45))

    outside, inside, line = (varied(rng, *GLAZES) for _ in range(3))
    if dish.label == EMPTY or rng.random() < 0.6:  # an empty plate with a red middle would pass for soup
        inside = outside
    at.paint(outside * (0.62 + 0.2 * facing), dish.cover)
    at.paint(outside * (0.93 + 0.07 * facing), at.disc())
    if rng.random() < 0.5:
        at.paint(line, at.cover(0.025 - np.abs(radius - 0.93)))
    hollow = 0.9 if dish.is_bowl else 0.7
    # Inside a hollow, the wall that is farthest from the light faces it.
    at.paint(inside * (0.86 - 0.22 * facing * smooth((radius - 0.4) / 0.5)), at.disc(0, 0, hollow))
    at.paint(WHITE, 0.7 * at.cover(0.03 - np.abs(radius - 0.96)) * smooth(3 * facing - 1.9))
    if dish.label != EMPTY:
        deep = 0.12 * at.tilt if dish.is_bowl else 0.0  # food in a hollow is seen further down
        FOODS[dish.label](rng, at.part(0, deep, 0.84 if dish.is_bowl else 0.74))


def scatter(rng: Generator, at: Window, cell: float, size: float, slender: float) -> tuple[Array, Array, Array]:
    """Many small pieces of food, one to each cell of a grid, shifted and turned by chance.

    From its middle, a piece is `size` long and `size / slender` broad, and no more than a `cell`: a pixel
    looks for pieces in the nine cells around it only. Pieces under half a cell stay inside their own cell, in
    which alone it then looks.

    Returns:
        Of the piece on top of each pixel, all [h, w], and 0 where there is none: its height there, from 0 at
        its edge to 1; its kind, a chance number from 0 to 1; the distance from its long axis, -1 to 1.
    """
    sites = rng.random((5, 32, 32), np.float32)  # of a cell's piece: place u v, axis u v, kind
    margin, cells = (size / cell, (0,)) if 2 * size < cell else (0.0, (-1, 0, 1))
    sites[:2] = margin + (1 - 2 * margin) * sites[:2]
    sites[2:4] -= 0.5
    sites[2:4] /= np.sqrt(sites[2] * sites[2] + sites[3] * sites[3]) + 1e-6
    u, v = at.u / cell, at.v / cell
    column, row = np.floor(u), np.floor(v)
    top_height, top_kind, top_across = (np.zeros_like(u * v) for _ in range(3))
    for down, right in itertools.product(cells, repeat=2):
        near = sites[:, (row[:, 0] + down).astype(np.int64) % 32]
        place_u, place_v, axis_u, axis_v, kind = near[:, :, (column[0] + right).astype(np.int64) % 32]
        du, dv = (u - column - right) - place_u, (v - row - down) - place_v
        across = (dv * axis_u - du * axis_v) * (slender * cell / size)
        along = (du * axis_u + dv * axis_v) * (cell / size)
        height = 1 - across * across - along * along
        # The kind lifts a piece, so that pieces cover one another instead of meeting halfway.
        on_top = (height > 0) & (height + kind > top_height + top_kind)
        for seen, new in ((top_height, height), (top_kind, kind), (top_across, across)):
            np.copyto(seen, new, where=on_top)
    return top_height, top_kind, top_across


def draw_ball(at: Window, colour: Array) -> None:
    """Something round and shiny, with its shadow."""
    u, v = at.light
    at.shade(0.4 * smooth(2.4 - 2 * at.radius(-0.15 * u, -0.15 * v)))
    at.paint(colour * (0.9 + 0.25 * at.facing), at.disc())
    at.paint(WHITE, 0.6 * smooth(1.5 - 5 * at.radius(0.4 * u, 0.4 * v)))


def somewhere(rng: Generator, at: Window, spread: float, radius: float) -> Window:
    """The window around a small round thing, up to `spread` from the middle along u and v."""
    return at.part(between(rng, -spread, spread), between(rng, -spread, spread), radius, reach=1.4)


def draw_rice(rng: Generator, at: Window) -> None:
    """A heap of white grains, with sesame or a pickled plum."""
    colour, radius = varied(rng, 0xFFFCF4, 0xFBF4E4, by=0.02), at.radius()
    relief = 1 - 0.2 * radius * radius + 0.1 * at.facing
    heap = at.cover(1 - 0.12 * at.noise(rng, 0.3) - radius)
    at.shade(0.4 * smooth((1.1 - radius) / 0.2))
    at.paint(colour * 0.72 * relief, heap)
    for _ in range(2):
        height, _, _ = scatter(rng, at, 0.08, 0.08, 2.0)
        at.paint(colour * relief * (0.76 + 0.26 * smooth(1.6 * height)), heap * smooth(5 * height))
    if rng.random() < 0.6:
        height, kind, _ = scatter(rng, at, 0.16, 0.05, 1.8)
        at.paint(rgb(0x2B2522), smooth(3 * height) * (kind < 0.45) * (radius < 0.7))
    else:
        draw_ball(somewhere(rng, at, 0.2, 0.2), varied(rng, 0xA8323A))


def draw_soup(rng: Generator, at: Window) -> None:
    """Smooth soup of tomato, pumpkin or beetroot, with a swirl of cream and herbs."""
    colour, radius = varied(rng, 0xC8401F, 0xD9621E, 0xE08A24, 0x9E2338), at.radius()
    warp = at.noise(rng, 0.45)
    at.paint(colour * (1.02 - 0.25 * smooth((radius - 0.6) / 0.4) + 0.1 * warp), at.disc())
    ring = at.radius(between(rng, -0.15, 0.15), between(rng, -0.15, 0.15)) - 0.15 - 0.5 * warp
    at.paint(rgb(0xFBF1DF), 0.85 * at.cover(0.05 - np.abs(ring)) * (at.noise(rng, 0.5) > 0.35))
    height, kind, _ = scatter(rng, at, 0.14, 0.06, 1.6)
    at.paint(varied(rng, 0x4F7A2C, 0x38602A), smooth(3 * height) * (kind < 0.3) * (radius < 0.75))
    gloss = smooth(1 - 3.5 * at.radius(0.55 * at.light[0], 0.55 * at.light[1]))
    at.paint(WHITE, 0.55 * gloss * at.disc(0, 0, 0.95))


def draw_noodles(rng: Generator, at: Window) -> None:
    """Bundles of strands in broth, with spring onion and often half an egg."""
    colour, breadth = varied(rng, 0xEBC873, 0xE6BC62, 0xEDD08E), 0.115
    radius, bumps = at.radius(), at.noise(rng, 0.6)
    at.paint(varied(rng, 0x8A5526, 0x6E4020, 0xA8702F), at.disc())
    for _ in range(11):
        along, across = at.turned(direction(rng))
        # One curve for every strand of a bundle, and for the bundle's two sides.
        strand = (across + between(rng, -0.5, 0.5) * along * along + 0.25 * bumps) / breadth
        side = breadth * (between(rng, 1.5, 3) - np.abs(strand - between(rng, -5, 5)))
        at.shade(0.3 * smooth(1 + side / breadth) * at.disc())
        relief = 0.68 + 0.4 * wave(strand) - 0.12 * bumps
        at.paint(colour * relief, at.cover(np.minimum(side, 0.93 - radius)))
    height, kind, _ = scatter(rng, at, 0.22, 0.085, 1.0)
    onion = smooth(2.4 - 2.4 * height) * (height > 0) * (kind < 0.22) * (radius < 0.8)
    at.paint(varied(rng, 0x6FA23B, 0x4E8A36), onion)
    if rng.random() < 0.5:
        egg = somewhere(rng, at, 0.35, 0.3)
        draw_ball(egg, rgb(0xF8F3E8))
        draw_ball(egg.part(0.05, 0.05, 0.55), rgb(0xEE9A28))


def draw_salad(rng: Generator, at: Window) -> None:
    """Leaves over one another, with cucumber and tomatoes."""
    dark, bright = varied(rng, 0x2F5A22, 0x3C6B2A), varied(rng, 0x8FBF45, 0x7DB33C, 0xA5C95A)
    heap = at.cover(1.02 - 0.22 * at.noise(rng, 0.25) - at.radius())
    at.shade(0.4 * smooth((1.1 - at.radius()) / 0.2))
    at.paint(dark, heap)
    for _ in range(2):
        height, kind, across = scatter(rng, at, 0.36, 0.36, 1.5)
        frill, vein = at.noise(rng, 0.06), smooth(1 - 12 * np.abs(across))
        share = (0.8 * kind + 0.35 * vein + 0.25 * frill - 0.15).clip(0, 1)
        colour = (dark + share * (bright - dark)) * (0.75 + 0.35 * smooth(2 * height))
        at.paint(colour, heap * smooth(8 * height - frill))
    for _ in range(int(rng.integers(1, 4))):
        cucumber = somewhere(rng, at, 0.5, 0.19)
        draw_ball(cucumber, rgb(0x5E9638))
        cucumber.paint(rgb(0xDCE8AE), cucumber.disc(0, 0, 0.86))
    for _ in range(int(rng.integers(3, 6))):
        draw_ball(somewhere(rng, at, 0.55, between(rng, 0.14, 0.19)), varied(rng, 0xD0342C, 0xDD4A2F))


def draw_cookies(rng: Generator, at: Window) -> None:
    """Cookies in a ring, and one on top of them."""
    colour = varied(rng, 0xC08A4E, 0xB5793F, 0xCF9D63, by=0.05)
    count, turn = int(rng.integers(3, 7)), rng.random()
    for i in range(count):
        u, v = unit_vector(turn + i / count)
        draw_cookie(rng, at.part(0.55 * u, 0.55 * v, between(rng, 0.36, 0.42), 1.4), colour)
    draw_cookie(rng, at.part(0, 0, between(rng, 0.36, 0.42), 1.4), colour)


def draw_cookie(rng: Generator, at: Window, colour: Array) -> None:
    """One cookie: an uneven edge, a darker border, cracks, and chocolate chips."""
    at.shade(0.5 * smooth(2.6 - 2 * at.radius(-0.12 * at.light[0], -0.12 * at.light[1])))
    radius = at.radius() + 0.1 * at.noise(rng, 0.35)
    baked = between(rng, 0.85, 1.05) - 0.3 * smooth((radius - 0.6) / 0.5) + 0.12 * at.facing
    at.paint(colour * (baked + 0.2 * at.noise(rng, 0.18)), at.cover(1.04 - radius))
    top = at.part(0, 0, 1, reach=0.9)
    height, kind, _ = scatter(rng, top, 0.33, 0.17, 1.2)
    top.paint(varied(rng, 0x3A2014, 0x4A2A18), smooth(5 * height) * (kind < 0.6) * (top.radius() < 0.85))


FOODS: tuple[Callable[[Generator, Window], None], ...]
FOODS = (draw_rice, draw_soup, draw_noodles, draw_salad, draw_cookies)
"""What draws the food of each of `NAMES`."""
