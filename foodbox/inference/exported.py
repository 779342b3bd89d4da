"""Exported models: another runtime runs the network, the detector's own code does all the rest."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from foodbox.detections import Detections
from foodbox.detectors.base import Detector, Outputs
from foodbox.errors import FoodboxError, UsageError
from foodbox.records import Frame, Target

VERSION = "1"
"""Of what the graph takes and gives. It goes up when an older foodbox could not use a newer one's."""
one_at_a_time = threading.Lock()
"""Exporting and calibrating change what the whole process has once: parts of torch, warnings, standard output."""
EXTRA = 'pip install "foodbox[export]"'


def library(name: str) -> Any:
    """A library that writes, changes or runs exported models, imported when it is first needed.

    Raises:
        FoodboxError: it is not installed, with the command that installs it.
    """
    # OpenVINO and NNCF tell their makers each time they are imported, unless this package cannot be. What runs on a
    # person's computer is nobody's business.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(name)
    except ImportError as fault:
        raise FoodboxError(f"Exported models need {name}, which cannot be imported ({fault}): {EXTRA}.") from fault


def expect_ours(header: dict[str, str], path: Path, kind: str) -> None:
    """Looks whether an exported model's header is one that this foodbox reads.

    Args:
        kind: of which runtime the model is, for the sentence.

    Raises:
        FoodboxError: another program or a newer foodbox wrote the model.
    """
    if "export_version" not in header:
        raise FoodboxError(
            f"{path} is an {kind} model of another program: foodbox cannot know its classes nor its anchors. "
            "Give one that foodbox export wrote."
        )
    if (version := header["export_version"]) != VERSION:
        raise FoodboxError(
            f"{path} has export version {version}, and this foodbox reads version {VERSION}. "
            "Use the foodbox that wrote it, or export the model anew."
        )


class Exported(Detector):
    """A detector whose network another runtime runs. It stands wherever a detector detects; it is not trained.

    Args:
        detector: one of the same settings; its weights are not asked.
        network: the detector's `forward` of pixels uint8 [B, 3, H, W], or `candidates` too, done by the other runtime.
    """

    def __init__(self, detector: Detector, network: Callable[[Tensor], Outputs]) -> None:
        super().__init__(detector.names, detector.settings)
        self.detector = detector.cpu().eval()
        self.network = network

    def forward(self, images: Tensor) -> Outputs:
        """Pixels uint8 [B, 3, H, W] → what the detector's own `forward` gives, or its `candidates`."""
        return self.network(images)

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
        """What the runtime made of the network is of this process alone.

        Raises:
            UsageError: always.
        """
        raise UsageError("An exported model cannot be copied or pickled: load it from its file where it is needed.")
