#!/usr/bin/env python3
"""Draws the networks of docs/: each detector's own, as the model itself hands its tensors on.

Call it without words for all of FIGURES, into docs/networks/; or with a detector, a preset and a file, for any other:

    python docs/draw_networks.py m2det light network.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

import networkx as nx
import torch
from torch import Tensor

from foodbox.configure import build
from foodbox.detectors import DETECTORS
from foodbox.detectors.base import Detector
from foodbox.drawing.figure import draw
from foodbox.drawing.network import network
from foodbox.files import write_whole

FOLDER = Path(__file__).parent / "networks"
# The paper's own, and for YOLOv3 its authors' code.
FIGURES = {
    "rcnn": "vgg16", "fast_rcnn": "vgg16", "faster_rcnn": "resnet50", "mask_rcnn": "resnet50",
    "retinanet": "resnet50", "ssd": "ssd300", "yolo": "yolov3", "m2det": "m2det512_vgg_paper",
}  # fmt: skip
CLASSES = 80
"""As COCO has them."""
# Detectors that look at regions: which ones go on, the numbers decide, so shapes are not enough and all is computed.
# That takes seconds on a small photo with few regions.
SIDE, REGIONS = 256, 8
FEW = {"candidates": 200, "proposals": REGIONS, "max_detections": 10}


def model_of(name: str, preset: str) -> tuple[Detector, list[Tensor]]:
    """A detector with the weights that it begins with, and its inputs: one square photo, and regions if it needs them.

    Where shapes are enough it is on the meta device, where nothing is computed, and the photo of the preset's size.
    """
    kind = DETECTORS[name]
    settings = build(kind.Settings, kind.presets[preset])
    names = [str(i) for i in range(CLASSES)]
    if not (kind.needs_proposals or hasattr(settings, "proposals")):
        with torch.device("meta"):
            side = settings.preprocessing.size
            return kind(names, settings), [torch.zeros(1, 3, side, side)]
    few = {key: value for key, value in FEW.items() if hasattr(settings, key)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector, photo = kind(names, settings.model_copy(update=few)), torch.rand(1, 3, SIDE, SIDE)
        if not kind.needs_proposals:
            return detector, [photo]
        corner = torch.rand(1, REGIONS, 2) * SIDE / 2
        return detector, [photo, torch.cat((corner, corner + SIDE / 2), dim=2)]


def graph_of(name: str, preset: str) -> nx.DiGraph[int]:
    """The graph of a detector's parts."""
    detector, inputs = model_of(name, preset)
    return network(detector, *inputs)


def main(words: list[str]) -> None:
    """Draws what the words name, or all."""
    if len(words) not in (0, 3):
        sys.exit(__doc__)
    wanted = [(n, p, FOLDER / f"{n}.svg") for n, p in FIGURES.items()]
    if words:
        wanted = [(words[0], words[1], Path(words[2]))]
    for name, preset, path in wanted:
        if preset not in getattr(DETECTORS.get(name), "presets", ()):
            known = ", ".join(f"{n} {p}" for n, kind in DETECTORS.items() for p in kind.presets)
            sys.exit(f"There is no {name} {preset}: expected one of {known}.")
        title = f"{DETECTORS[name].__name__}, preset {preset}"
        write_whole(path, draw(graph_of(name, preset), title, "png" if path.suffix == ".png" else "svg"))
        print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
