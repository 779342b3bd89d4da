"""How much faster large JPEGs become a network's input when they are decoded at a reduced scale.

    python benchmarks/decode.py [--photos FOLDER] [--count 1000] [--size 320]

Opens `count` JPEGs (those of the folder again and again; without one, 20 that are drawn, of 12 megapixels) once with
Pillow's full decoding and resizing and once as foodbox does, one thread each, and prints a table. How far boxes move is
measured on a drawn rectangle.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image, ImageDraw

from foodbox.data.images import open_photo, prepare
from foodbox.data.listing import find_photos
from foodbox.records import Preprocessing

SIZE = (4032, 3024)
BOX = (1000, 700, 3100, 2300)


def draw(folder: Path, count: int) -> list[Path]:
    """JPEGs of some 3 MB, as phones write them: clouds of colour with grain."""
    paths = []
    for i in range(count):
        rng = np.random.default_rng(i)
        clouds = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)).resize(
            SIZE, Image.Resampling.BICUBIC
        )
        grain = rng.normal(0, 6, (SIZE[1], SIZE[0], 1))
        pixels = (np.asarray(clouds) + grain).clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{i:02}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=88)
    return paths


def seconds(paths: list[Path], count: int, open_one: object) -> float:
    start = time.perf_counter()
    for path in itertools.islice(itertools.cycle(paths), count):
        open_one(path)  # type: ignore[operator]
    return time.perf_counter() - start


def edges(pixels: torch.Tensor) -> list[float]:
    """Where a white rectangle on black begins and ends, to a fraction of a pixel: left, top, right, bottom."""
    bright = pixels.float().mean(0) / 255
    across, down = bright[bright.shape[0] // 2], bright[:, bright.shape[1] // 2]
    first = [int((line > 0.5).nonzero()[0]) for line in (across, down)]
    last = [int((line > 0.5).nonzero()[-1]) for line in (across, down)]
    start = [
        f - (float(line[f - 1]) if f else 0) + 1 - float(line[f]) for f, line in zip(first, (across, down), strict=True)
    ]
    end = [
        n + float(line[n]) + (float(line[n + 1]) if n + 1 < len(line) else 0)
        for n, line in zip(last, (across, down), strict=True)
    ]
    return [*start, *end]


def main(photos: Path | None = None, count: int = 1000, size: int = 320) -> None:
    """Measures and prints a table.

    Args:
        photos: folder of JPEGs; drawn ones if not given.
        count: how many are opened.
        size: the network's input, the longer side in pixels.
    """
    torch.set_num_threads(1)
    preprocessing = Preprocessing(size=size)
    with tempfile.TemporaryDirectory() as folder:
        paths = find_photos(photos) if photos else draw(Path(folder), 20)
        pixels = [Image.open(path).size for path in paths]

        def full(path: Path) -> None:
            with Image.open(path) as image:
                image.convert("RGB").resize(preprocessing.resized(*image.size))

        def reduced(path: Path) -> None:
            prepare(open_photo(path, at_least=size), preprocessing)

        slow, fast = seconds(paths, count, full), seconds(paths, count, reduced)

        marked = Image.new("RGB", SIZE)
        ImageDraw.Draw(marked).rectangle((BOX[0], BOX[1], BOX[2] - 1, BOX[3] - 1), fill="white")
        marked.save(Path(folder) / "marked.jpg", quality=95)
        input_pixels, frame = prepare(open_photo(Path(folder) / "marked.jpg", at_least=size), preprocessing, size=SIZE)
    wanted = frame.to_input(torch.tensor([BOX], dtype=torch.float32))[0].tolist()
    moved = max(abs(a - b) for a, b in zip(edges(input_pixels), wanted, strict=True))
    megapixels = sum(w * h for w, h in pixels) / len(pixels) / 1e6
    print(f"{count:,} JPEGs of {megapixels:.1f} megapixels on average to {size} px, one thread:\n")
    print("| | seconds | photos/s |\n|---|---|---|")
    for name, time_taken in (("Pillow, decoded whole and resized", slow), ("foodbox", fast)):
        print(f"| {name} | {time_taken:.1f} | {count / time_taken:.0f} |")
    print(
        f"\n{slow / fast:.1f} times as fast; the edges of a drawn box are off by {moved:.2f} px of the input at most."
    )


if __name__ == "__main__":
    tyro.cli(main)
