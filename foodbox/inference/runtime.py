"""Exported models: OpenVINO runs the network, the detector's own code does all the rest."""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from foodbox.detections import Detections
from foodbox.detectors.base import Detector, Outputs
from foodbox.errors import FoodboxError, UsageError, first_line
from foodbox.records import Frame, Target

ENDING = ".xml"
"""An exported model is two files: NAME.xml says what is computed, NAME.bin has the weights."""
VERSION = "1"
"""Of what the graph takes and gives. It goes up when an older foodbox could not use a newer one's."""
DIGEST = "weights_sha256"
"""Entry of the .xml that says which .bin it was written with; exports of before 2026-12 have none."""
EXTRA = 'pip install "foodbox[export]"'
LAYOUTS = 8
"""Input sizes whose anchors are kept: those of a large input take some megabytes, and come anew in milliseconds."""


def library(name: str) -> Any:
    """OpenVINO or NNCF, imported when it is first needed.

    Raises:
        FoodboxError: it is not installed, with the command that installs it.
    """
    # Both tell their makers each time they are imported, unless this package cannot be. What runs on a person's
    # computer is nobody's business.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(name)
    except ImportError as fault:
        raise FoodboxError(f"Exported models need {name}, which cannot be imported ({fault}): {EXTRA}.") from fault


def read(path: Path) -> tuple[Any, dict[str, str]]:
    """The graph (openvino.Model) of an exported model, and the header that was written into it.

    Raises:
        UsageError: there is no such file.
        FoodboxError: it is cut short, lacks its weights or has another model's, is not one of ours, or was written by a
            newer foodbox.
    """
    if not path.is_file():
        raise UsageError(f"There is no exported model {path}: expected a file that foodbox export wrote.")
    if not (weights := path.with_suffix(".bin")).is_file():
        raise FoodboxError(
            f"{path} is half of an exported model: its weights, {weights.name}, are not beside it. Copy both files."
        )
    try:
        graph = library("openvino").Core().read_model(path)
    except RuntimeError as fault:
        raise FoodboxError(
            f"{path} and {weights.name} are no whole exported model ({first_line(fault)}). "
            "Copy both again, or export the model anew."
        ) from fault
    if not graph.has_rt_info(["foodbox", "export_version"]):
        raise FoodboxError(
            f"{path} is an OpenVINO model of another program: foodbox cannot know its classes nor its anchors. "
            "Give one that foodbox export wrote."
        )
    header = {name: str(value) for name, value in graph.get_rt_info("foodbox").value.items()}
    if (version := header.get("export_version")) != VERSION:
        raise FoodboxError(
            f"{path} has export version {version}, and this foodbox reads version {VERSION}. "
            "Use the foodbox that wrote it, or export the model anew."
        )
    if header.get(DIGEST) not in (None, digest(weights)):
        raise FoodboxError(
            f"{path} was written with other weights than {weights.name} has, which are of another export or another "
            "model. Copy both files again, or export the model anew."
        )
    return graph, header


def digest(weights: Path) -> str:
    """By which an exported model's .xml knows its .bin."""
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Exported(Detector):
    """A detector whose network OpenVINO runs. It stands wherever a detector detects; it is not trained.

    Args:
        detector: one of the same settings; its weights are not asked.
        graph: what `read` or `export.graph_of` gave.
        half: let OpenVINO calculate in bfloat16 what is not in int8.
    """

    def __init__(self, detector: Detector, graph: Any, half: bool) -> None:
        super().__init__(detector.names, detector.settings)
        self.detector = detector.cpu().eval()
        self.network = library("openvino").compile_model(
            graph,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
                # One batch at a time on all threads, as everywhere else; results come in order without a queue.
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            },
        )
        self._layouts: dict[tuple[int, int], Outputs] = {}

    def forward(self, images: Tensor) -> Outputs:
        """Pixels uint8 [B, 3, H, W] → what the detector's own `forward` gives."""
        found = self.network(images.to("cpu", torch.uint8).contiguous().numpy())
        outputs = {port.any_name: torch.from_numpy(value) for port, value in found.items()}
        return self._layout(images.shape[2], images.shape[3]) | outputs

    def _layout(self, height: int, width: int) -> Outputs:
        """What the input's size alone decides: anchors and the like, which the graph does not have."""
        if (height, width) not in self._layouts:
            if len(self._layouts) >= LAYOUTS:
                self._layouts.clear()
            # The network over a batch of no photos: it costs nothing, and gives just that.
            outputs = self.detector(torch.zeros(0, 3, height, width))
            self._layouts[height, width] = {name: x for name, x in outputs.items() if len(x)}
        return self._layouts[height, width]

    def decode(self, outputs: Outputs, frames: list[Frame], min_score: float | None = None) -> list[Detections]:
        """The detector's own."""
        return self.detector.decode(outputs, frames, min_score)

    def losses(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """There are none.

        Raises:
            UsageError: always.
        """
        raise UsageError("An exported model cannot be trained: take the .safetensors that it was exported from.")

    def __getstate__(self) -> NoReturn:
        """What OpenVINO compiled is of this process alone.

        Raises:
            UsageError: always.
        """
        raise UsageError("An exported model cannot be copied or pickled: load it from its .xml where it is needed.")
