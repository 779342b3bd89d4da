"""Photos a second of `foodbox detect` over a folder of 1024 px JPEGs, from opening the files to the boxes.

    python benchmarks/detect.py MODEL PHOTOS [--copies 300] [--runs 3]

PHOTOS is a folder of labelled photos, on which int8 is calibrated. They are saved as JPEGs of 1024 px in a temporary
folder, again and again until there are enough. Each case runs in a process of its own, with an empty cache: model in
torch, and exported; float32, bfloat16 (where the processor has it) and int8; without pictures written and with. The
time to import and to load is left out; a warm-up goes before. torchvision's RetinaNet with ResNet-50 at 800 px has
random weights and few photos: it is there for its time alone.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import tyro
from PIL import Image

import foodbox
from foodbox import model as of_model
from foodbox.data.images import open_photo
from foodbox.data.listing import find_photos

LONGER_SIDE = 1024
QUALITY = 90
WARM_UP = 16
LARGE = 8
"""Photos for torchvision's detector, which takes seconds for each."""


def save_copies(photos: Path, folder: Path, count: int) -> None:
    """JPEGs of 1024 px of the folder's photos, the first once more where there are too few."""
    folder.mkdir()
    for i, path in enumerate(itertools.islice(itertools.cycle(find_photos(photos)), count)):
        image = open_photo(path)
        scale = LONGER_SIDE / max(image.size)
        sides = round(image.width * scale), round(image.height * scale)
        image.resize(sides, Image.Resampling.BICUBIC).save(folder / f"{i:05}.jpg", quality=QUALITY)


def ours(model: Path, folder: Path, half: bool, pictures: bool, runs: int) -> float:
    """Photos a second, the median over runs, each as if the photos had never been seen."""
    of_model.half_precision_pays = lambda device: half  # type: ignore[attr-defined]
    ready = foodbox.load(model, "cpu")
    paths = find_photos(folder)
    rates = []
    for run in range(runs):
        with tempfile.TemporaryDirectory() as place:
            os.environ["FOODBOX_CACHE"] = place
            if run == 0:
                foodbox.detect(ready, paths[:WARM_UP])
                os.environ["FOODBOX_CACHE"] = f"{place}/fresh"
            start = time.perf_counter()
            foodbox.detect(ready, [folder], out=Path(place) / "out" if pictures else None)
            rates.append(len(paths) / (time.perf_counter() - start))
    return statistics.median(rates)


def torchvisions(folder: Path) -> float:
    """Photos a second of torchvision's RetinaNet at 800 px, one photo at a time as its own examples have it."""
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.models.detection import retinanet_resnet50_fpn

    network: Any = retinanet_resnet50_fpn(weights=None, weights_backbone=None).eval()
    paths = find_photos(folder)[: LARGE + 1]

    @torch.inference_mode()
    def detect(path: Path) -> None:
        network([decode_image(str(path), ImageReadMode.RGB).float() / 255])

    detect(paths[0])
    start = time.perf_counter()
    for path in paths[1:]:
        detect(path)
    return (len(paths) - 1) / (time.perf_counter() - start)


def alone(call: Callable[..., float], *arguments: object) -> float:
    """The call in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_start_processes_as_a_program_does) as process:
        return process.submit(call, *arguments).result()


def _start_processes_as_a_program_does() -> None:
    """A spawned process would spawn those that open its photos, too: seconds on Linux, where a program forks them."""
    multiprocessing.set_start_method(None, force=True)


def main(
    model: tyro.conf.Positional[Path], photos: tyro.conf.Positional[Path], copies: int = 300, runs: int = 3
) -> None:
    """Measures and prints a table.

    Args:
        model: a model file of a one-stage detector.
        photos: labelled photos.
        copies: how many photos are detected on.
        runs: of each case; the median counts.
    """
    halves = [False, True] if of_model.half_precision_pays(torch.device("cpu")) else [False]
    names = {False: "float32", True: "bfloat16"}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "photos"
        save_copies(photos, folder, copies)
        exported = foodbox.export(model, out=Path(place) / "float.xml").model
        onnx = foodbox.export(model, out=Path(place) / "float.onnx").model
        int8 = foodbox.export(model, out=Path(place) / "int8.xml", int8=photos)
        cases = [(f"torch, {names[half]}", model, half) for half in halves]
        cases += [(f"OpenVINO, {names[half]}", exported, half) for half in halves]
        cases += [("OpenVINO, int8", int8.model, halves[-1]), ("ONNX Runtime, float32", onnx, False)]
        print("| | photos/s | with pictures written |\n|---|---|---|", flush=True)
        for name, file, half in cases:
            rates = [alone(ours, file, folder, half, pictures, runs) for pictures in (False, True)]
            print(f"| {name} | {rates[0]:.1f} | {rates[1]:.1f} |", flush=True)
        print(f"| torchvision's retinanet_resnet50_fpn, 800 px | {alone(torchvisions, folder):.2f} | |")
    assert int8.before is not None
    assert int8.after is not None
    print(
        f"\n{copies} JPEGs of {LONGER_SIDE} px, {torch.get_num_threads()} threads, medians of {runs}. AP of int8 on "
        f"{photos}: {int8.before.ap or 0:.3f} before, {int8.after.ap or 0:.3f} after."
    )


if __name__ == "__main__":
    tyro.cli(main)
