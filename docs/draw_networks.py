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

from foodbox.config import build
from foodbox.detectors import DETECTORS
from foodbox.drawing.network import draw, network
from foodbox.files import write_whole

FOLDER = Path(__file__).parent / "networks"
# The paper's own, and for YOLOv3 its authors' code.
FIGURES = {"retinanet": "resnet50", "ssd": "ssd300", "yolo": "yolov3", "m2det": "m2det512_vgg_paper"}
CLASSES = 80
"""As COCO has them."""


def graph_of(name: str, preset: str) -> nx.DiGraph[int]:
    """The graph of a detector's parts, on one square photo. Nothing is computed: shapes are enough."""
    kind = DETECTORS[name]
    settings = build(kind.Settings, kind.presets[preset])
    side = settings.preprocessing.size
    with torch.device("meta"):
        detector = kind([str(i) for i in range(CLASSES)], settings)
        return network(detector, torch.zeros(1, 3, side, side))


def main(words: list[str]) -> None:
    """Draws what the words name, or all."""
    if len(words) not in (0, 3):
        sys.exit(__doc__)
    wanted = [(*words[:2], Path(words[2]))] if words else [(n, p, FOLDER / f"{n}.svg") for n, p in FIGURES.items()]
    for name, preset, path in wanted:
        if preset not in getattr(DETECTORS.get(name), "presets", ()):
            known = ", ".join(f"{n} {p}" for n, kind in DETECTORS.items() for p in kind.presets)
            sys.exit(f"There is no {name} {preset}: expected one of {known}.")
        title = f"{DETECTORS[name].__name__}, preset {preset}"
        write_whole(path, draw(graph_of(name, preset), title, "png" if path.suffix == ".png" else "svg"))
        print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
