"""The student's run, from the start of the process to the written model and its scores, for foodbox and for its peers.

    python benchmarks/student_run.py TRAIN VALID [--runs 1] [--only foodbox torchvision ...]
        [--yolo PATH/TO/yolo] [--keras PATH/TO/python]

250 photos drawn by the seed, ten epochs, one class, the same photos for all. foodbox and Ultralytics' smallest detector
run whole, as programs. The others would take hours: some of their steps are measured, after two that are not, and
extrapolated to 2,500 photos; their rows say so. Peers in environments of their own are left out where they are not
named: `--yolo` is the program of an environment with ultralytics, `--keras` the Python of one with
`tensorflow-cpu tf_keras` and, by `--no-deps --no-build-isolation`, `keras-retinanet keras-resnet==0.2.0`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
import yaml
from starts import run
from torch import Tensor
from torchvision.models.detection import retinanet_resnet50_fpn
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from foodbox.config import TrainSettings
from foodbox.data.formats import FORMATS
from foodbox.data.images import open_photo
from foodbox.data.parts import read_parts
from foodbox.layers.backbones import Backbone
from foodbox.records import Dataset, Photo
from foodbox.weights.pretrained import embedded

PHOTOS, EPOCHS, SIDE = 250, 10, 320
PEERS = ("foodbox", "frozen", "torchvision", "torchvision_resnet50", "ultralytics", "keras")
FROZEN = ("--preset", "coarse", "--freeze", "backbone", "--batch-size", "8", "--views", "3")
Row = dict[str, Any]


def main(
    train: tyro.conf.Positional[Path],
    valid: tyro.conf.Positional[Path],
    /,
    runs: int = 1,
    steps: int = 8,
    only: tuple[Literal["foodbox", "frozen", "torchvision", "torchvision_resnet50", "ultralytics", "keras"], ...] = (),
    yolo: Path | None = None,
    keras: Path | None = None,
) -> None:
    """Measures, and prints a table.

    Args:
        train: Folder of labelled photos to train on.
        valid: Folder of labelled photos to score on.
        runs: How often the whole runs are made; the table has medians.
        steps: Steps that are measured where a run is extrapolated.
        only: The rows that are wanted; all if none is named.
        yolo: Ultralytics' program.
        keras: Python with keras-retinanet.
    """
    settings = TrainSettings(valid=valid, one_class="food", sample=PHOTOS)
    photos, unseen = read_parts(train, settings)
    measures: dict[str, Callable[[], Row | None]] = {
        "foodbox": lambda: foodbox_run(train, valid),
        "frozen": lambda: foodbox_run(train, valid, *FROZEN),
        "torchvision": lambda: steps_of(same_start(), photos, steps, batch=2, side=SIDE),
        "torchvision_resnet50": lambda: steps_of(resnet50(), photos, max(2, steps // 4), batch=1, side=800),
        "ultralytics": lambda: ultralytics_run(yolo, photos, unseen) if yolo else None,
        "keras": lambda: keras_steps(keras, photos, steps) if keras else None,
    }
    rows = {}
    for name in only or PEERS:
        found = [row for _ in range(runs) if (row := measures[name]())]
        if found:
            rows[name] = {key: _median([row[key] for row in found]) for key in found[0]}
            print(name, json.dumps(rows[name]), file=sys.stderr, flush=True)
    print_table(rows)


def _median(values: list[Any]) -> Any:
    return values[0] if isinstance(values[0], str) else statistics.median(values)


def print_table(rows: dict[str, Row]) -> None:
    """Markdown, with each peer's time as a multiple of foodbox's."""
    print(f"| | seconds | times foodbox | AP | AP50 | mean IoU | how |\n|---|---|---|---|---|---|---|\n{'':0}", end="")
    ours = rows.get("foodbox", {}).get("seconds")
    for name, row in rows.items():
        scores = [f"{row[key]:.3f}" if key in row else "" for key in ("ap", "ap50", "mean_iou")]
        ratio = f"{row['seconds'] / ours:.1f}" if ours else ""
        print(" | ".join(["", name, f"{row['seconds']:.0f}", ratio, *scores, row["how"], ""]).strip())


# -- Whole runs -----------------------------------------------------------------------------------------------------


def foodbox_run(train: Path, valid: Path, *flags: str) -> Row:
    """`foodbox train` as a process, its imports and its scores included."""
    with tempfile.TemporaryDirectory() as folder:
        words = [str(train), "--valid", str(valid), "--one-class", "food", "--sample", str(PHOTOS), "--size", str(SIDE)]
        row = run([*words, "--epochs", str(EPOCHS), "--runs", folder, *flags])
    return {"how": "whole run"} | {key: row[key] for key in ("seconds", "ap", "ap50", "mean_iou")}


def ultralytics_run(program: Path, train: Dataset, valid: Dataset) -> Row:
    """Its smallest detector, trained from nothing at the same size, with its own defaults, as a program."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for part, photos in (("train", train), ("val", valid)):
            FORMATS["yolo"].write(photos.with_photos([_plain(photo) for photo in photos]), place / part)
        inside = {part: str(_images(place / part)) for part in ("train", "val")}
        data = place / "photos.yaml"
        data.write_text(yaml.safe_dump(inside | {"names": dict(enumerate(train.names))}))
        words = ["detect", "train", "model=yolo11n.yaml", f"data={data}", f"imgsz={SIDE}", f"epochs={EPOCHS}"]
        words += ["pretrained=False", "device=cpu", f"project={place}", "name=run", "plots=False"]
        start = time.perf_counter()
        subprocess.run([program, *words], check=True, capture_output=True, cwd=place)
        seconds = time.perf_counter() - start
        table = [line.split(",") for line in (place / "run" / "results.csv").read_text().splitlines()]
        last = dict(zip((name.strip() for name in table[0]), table[-1], strict=True))
    scores = {"ap": float(last["metrics/mAP50-95(B)"]), "ap50": float(last["metrics/mAP50(B)"])}
    return {"seconds": seconds, "how": "whole run, from nothing"} | scores


def _plain(photo: Photo) -> Photo:
    """Without the part that its labels name: the folder says it."""
    photo.part = ""
    return photo


def _images(folder: Path) -> Path:
    return next(path.parent for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png"))


# -- Steps, extrapolated --------------------------------------------------------------------------------------------


class Pyramid(torch.nn.Module):
    """Our backbone with its starting weights, under torchvision's own pyramid of 256 channels."""

    out_channels = 256

    def __init__(self) -> None:
        super().__init__()
        weights = embedded()
        self.backbone = Backbone("mobilenetv2_100", batch_norm_eps=weights.settings["batch_norm_eps"])
        inside = {name.removeprefix("backbone."): tensor for name, tensor in weights.tensors.items()}
        self.backbone.load_state_dict(inside, strict=False)
        self.pyramid = FeaturePyramidNetwork(self.backbone.channels, 256, LastLevelP6P7(256, 256))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        levels = {str(i): level for i, level in enumerate(self.backbone(images))}
        found: dict[str, Tensor] = self.pyramid(levels)
        return found


def same_start() -> RetinaNet:
    """RetinaNet by torchvision's class with its own defaults on our backbone, at our size."""
    return RetinaNet(Pyramid(), num_classes=2, min_size=SIDE, max_size=SIDE)


def resnet50() -> RetinaNet:
    """The reference model of torchvision at its own size, three stages trained as there."""
    return retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2, trainable_backbone_layers=3)


def steps_of(model: RetinaNet, photos: Dataset, steps: int, batch: int, side: int) -> Row:
    """Training steps as torchvision's reference script makes them (SGD, float32), on the same photos."""
    model.train()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(weights, lr=1e-4, momentum=0.9, weight_decay=1e-4)
    seconds = []
    for i in range(steps + 2):
        chosen = [photos.photos[(i * batch + j) % len(photos)] for j in range(batch)]
        inputs = [torch.from_numpy(_pixels(photo, 2 * side)).permute(2, 0, 1).float() / 255 for photo in chosen]
        targets = []
        for photo, image in zip(chosen, inputs, strict=True):
            scale = image.shape[2] / photo.width
            targets.append({"boxes": photo.boxes * scale, "labels": torch.ones(len(photo.boxes), dtype=torch.int64)})
        start = time.perf_counter()
        loss = torch.stack(list(model(inputs, targets).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seconds.append(time.perf_counter() - start)
    return extrapolated(statistics.median(seconds[2:]) / batch, steps)


def _pixels(photo: Photo, side: int) -> Any:
    import numpy as np

    image = open_photo(photo.path, at_least=side)
    image.thumbnail((side, side))
    return np.asarray(image).copy()


def keras_steps(python: Path, photos: Dataset, steps: int) -> Row:
    """keras-retinanet's own program with ResNet-50 at 800 px; two runs' difference is that of their steps."""
    program = (
        "import sys, tf_keras; sys.modules['keras'] = tf_keras; from keras_retinanet.bin.train import main; "
        "main(sys.argv[1:])"
    )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        FORMATS["csv"].write(photos.with_photos(photos.photos[: 4 * steps]), place / "csv")
        tables = sorted((place / "csv").glob("*.csv"))
        labels = next(table for table in tables if "class" not in table.stem)
        classes = place / "classes.csv"
        classes.write_text("".join(f"{name},{i}\n" for i, name in enumerate(photos.names)))
        taken = []
        for count in (2, 2 + steps):
            words = ["--backbone", "resnet50", "--no-weights", "--no-snapshots", "--no-evaluation", "--batch-size", "1"]
            words += ["--epochs", "1", "--steps", str(count), "csv", str(labels), str(classes)]
            start = time.perf_counter()
            environment = os.environ | {"TF_USE_LEGACY_KERAS": "1"}
            subprocess.run([python, "-c", program, *words], check=True, capture_output=True, cwd=place, env=environment)
            taken.append(time.perf_counter() - start)
    return extrapolated((taken[1] - taken[0]) / steps, steps)


def extrapolated(seconds: float, steps: int) -> Row:
    """The run that so many seconds a photo would make."""
    return {"seconds": seconds * PHOTOS * EPOCHS, "how": f"extrapolated from {steps} steps"}


if __name__ == "__main__":
    tyro.cli(main)
