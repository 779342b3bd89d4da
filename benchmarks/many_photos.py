"""How long 40,612 labelled photos take to be read and checked, the first time and the second, and with which memory.

    python benchmarks/many_photos.py [--count 40612] [--folder FOLDER]

Draws small JPEGs (320 x 240 or upright, some 9 KB) with AI Starthon labels, and the same labels as YOLO. Each figure is
of a fresh process: foodbox reading and checking all (every photo is read to its end), once with an empty cache and once
more; and supervision reading the same photos as YOLO, which does not check them. Needs the packages of [dev].
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

MEASURE = """
import json, resource, sys, time
def done(start, photos, boxes):
    print(json.dumps({"seconds": time.perf_counter() - start, "photos": photos, "boxes": boxes,
                      "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""
FOODBOX = (
    MEASURE
    + """
from pathlib import Path
from foodbox.data import formats
from foodbox.data.check import examine
start = time.perf_counter()
dataset, findings = formats.read(Path(sys.argv[1]), whole=True)
findings += examine(dataset, findings)
assert not [f for f in findings if f.harm == "error"]
done(start, len(dataset), dataset.box_count)
"""
)
SUPERVISION = (
    MEASURE
    + """
import supervision as sv
start = time.perf_counter()
dataset = sv.DetectionDataset.from_yolo(sys.argv[1] + "/images", sys.argv[1] + "/labels", sys.argv[1] + "/data.yaml")
done(start, len(dataset), sum(len(found) for found in dataset.annotations.values()))
"""
)


def draw(folder: Path, i: int) -> None:
    """One photo with its label in both formats."""
    rng = np.random.default_rng(i)
    width, height = (320, 240) if i % 2 else (240, 320)
    clouds = rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)
    starthon, yolo = folder / "starthon" / f"{i // 1000:02}", folder / "yolo"
    starthon.mkdir(parents=True, exist_ok=True)
    photo = starthon / f"{i:05}.jpg"
    Image.fromarray(clouds).resize((width, height), Image.Resampling.BICUBIC).save(photo, quality=85)
    x, y, w, h = (float(v) for v in rng.uniform(0.1, 0.5, 4) * (width, height, width, height))
    photo.with_suffix(".txt").write_text(f"{x:.2f},{y:.2f},{w:.2f},{h:.2f}\n")
    for part in ("images", "labels"):
        (yolo / part).mkdir(parents=True, exist_ok=True)
    os.link(photo, yolo / "images" / photo.name)
    centre = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
    (yolo / "labels" / f"{i:05}.txt").write_text("0 " + " ".join(f"{v:.6f}" for v in centre) + "\n")


def measure(code: str, folder: Path, cache: Path) -> dict[str, float]:
    """What a fresh process says of itself."""
    environment = os.environ | {"FOODBOX_CACHE": str(cache)}
    command = [sys.executable, "-c", code, str(folder)]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result


def main(count: int = 40612, folder: Path | None = None) -> None:
    """Measures and prints a table.

    Args:
        count: photos.
        folder: where they are drawn and kept; a temporary folder if not given.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        if not (place / "yolo" / "data.yaml").exists():
            with ProcessPoolExecutor() as pool:
                list(pool.map(partial(draw, place), range(count), chunksize=200))
            (place / "yolo" / "data.yaml").write_text("train: images\nnames: [food]\n")
        cache = Path(temporary) / "cache"
        rows = [
            ("foodbox, the first time: read and checked", measure(FOODBOX, place / "starthon", cache)),
            ("foodbox, the second time", measure(FOODBOX, place / "starthon", cache)),
            ("supervision, read as YOLO, not checked", measure(SUPERVISION, place / "yolo", cache)),
            ("the same again", measure(SUPERVISION, place / "yolo", cache)),
        ]
    print(f"{count:,} photos, {os.cpu_count()} cores:\n\n| | seconds | photos/s | peak memory, MB |\n|---|---|---|---|")
    for name, found in rows:
        assert found["photos"] == found["boxes"] == count, found
        print(f"| {name} | {found['seconds']:.1f} | {count / found['seconds']:,.0f} | {found['mb']:.0f} |")


if __name__ == "__main__":
    tyro.cli(main)
