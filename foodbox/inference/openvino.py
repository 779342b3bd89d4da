"""A detector → OpenVINO's graph, in float or in int8, and its files: the same detections, faster on a CPU."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foodbox.console import progress_bar
from foodbox.data.loader import photo_loader
from foodbox.detectors.base import Detector, OneStageDetector, Outputs
from foodbox.errors import FoodboxError, first_line
from foodbox.files import make_folder, write_whole
from foodbox.inference.exported import VERSION, expect_ours, library, one_at_a_time
from foodbox.records import Batch, Photo

ENDING = ".xml"
"""An exported model is two files: NAME.xml says what is computed, NAME.bin has the weights."""
LIBRARIES = ("openvino",)
DIGEST = "weights_sha256"
"""Entry of the .xml that says which .bin it was written with; exports of before 2026-12 have none."""
LAYOUTS = 8
"""Input sizes whose anchors are kept: those of a large input take some megabytes, and come anew in milliseconds."""
ALIKE = 1e-3
"""How far the graph's outputs may be from the detector's, as a share of the largest: rounding stays far below it."""


class Network:
    """A detector's `forward`, run by OpenVINO.

    Args:
        detector: one of the same settings; its weights are not asked.
        graph: what `read` or `graph_of` gave.
        half: let OpenVINO calculate in bfloat16 what is not in int8.
    """

    def __init__(self, detector: Detector, graph: Any, half: bool) -> None:
        self._detector = detector
        self._compiled = library("openvino").compile_model(
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

    def __call__(self, images: Tensor) -> Outputs:
        """Pixels uint8 [B, 3, H, W] → what the detector's own `forward` gives."""
        found = self._compiled(images.to("cpu", torch.uint8).contiguous().numpy())
        outputs = {port.any_name: torch.from_numpy(value) for port, value in found.items()}
        return self._layout(images.shape[2], images.shape[3]) | outputs

    def _layout(self, height: int, width: int) -> Outputs:
        """What the input's size alone decides: anchors and the like, which the graph does not have."""
        if (height, width) not in self._layouts:
            if len(self._layouts) >= LAYOUTS:
                self._layouts.clear()
            # The network over a batch of no photos: it costs nothing, and gives just that.
            outputs = self._detector(torch.zeros(0, 3, height, width))
            self._layouts[height, width] = {name: x for name, x in outputs.items() if len(x)}
        return self._layouts[height, width]


class _Traced(nn.Module):
    """Of a detector's outputs those that the photos decide, in the order of `names`, which tracing wants."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        outputs = detector(torch.zeros(0, 3, *_shapes(detector)[0]))
        self.names = [name for name, x in outputs.items() if not len(x)]  # the others the input's size alone decides

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = self.detector(images)
        return tuple(outputs[name] for name in self.names)


@torch.no_grad()
def graph_of(detector: OneStageDetector, header: dict[str, str]) -> Any:
    """The detector's network as an openvino.Model, for any number of photos and any size of input.

    It takes pixels uint8 [B, 3, H, W]; normalisation is part of it. Its outputs have their names in `forward`.

    Args:
        detector: on the CPU.
        header: what is written into the graph beside its version; no code, and none runs when it is read.

    Raises:
        FoodboxError: OpenVINO is not there, or cannot do what the network does.
    """
    openvino = library("openvino")
    network = _Traced(detector.eval())
    lying, upright = _shapes(detector)
    example = torch.randint(256, (2, 3, *lying), dtype=torch.uint8)
    sizes = openvino.PartialShape([-1, 3, -1, -1])
    try:
        with one_at_a_time, warnings.catch_warnings():
            # Tracing warns of each Python number in the network; whether one matters is looked at below.
            warnings.simplefilter("ignore")
            graph = openvino.convert_model(network, example_input=example, input=[sizes])
    except RuntimeError as fault:
        raise FoodboxError(
            f"OpenVINO cannot do all that this network does ({first_line(fault)}). Export one with another backbone."
        ) from fault
    for port, name in zip(graph.outputs, network.names, strict=True):
        port.get_tensor().set_names({name})
    for name, value in {"export_version": VERSION, **header}.items():
        graph.set_rt_info(value, ["foodbox", name])
    _expect_alike(detector, Network(detector, graph, half=False), upright)
    return graph


def quantise(graph: Any, photos: Sequence[Photo], detector: Detector) -> Any:
    """The graph with its convolutions in int8 (Jacob et al. 2018), the ranges of the maps taken from photos.

    Args:
        graph: what `graph_of` gave.
        photos: such as the model will see; their labels are not looked at.

    Raises:
        FoodboxError: NNCF is not there, or a photo is broken.
    """
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # NNCF has torch look for CUDA's compiler
    nncf = library("nncf")
    nncf.set_log_level(logging.ERROR)
    loader = photo_loader(photos, detector.preprocessing, batch_size=1, workers=0)
    with progress_bar("calibrating", len(photos)) as bar:

        def pixels(batch: Batch) -> Any:
            bar.advance()
            return batch.images.numpy()  # type: ignore[union-attr]

        # NNCF shows its own bars on standard output, where we have results.
        with one_at_a_time, contextlib.redirect_stdout(io.StringIO()):
            # Biases are corrected by the numbers that reach each layer: an estimate of them costs more AP than time.
            return nncf.quantize(
                graph, nncf.Dataset(loader, pixels), subset_size=len(photos), fast_bias_correction=False
            )


def write(graph: Any, path: Path, half: bool = True) -> None:
    """Writes NAME.xml and NAME.bin, each whole or not at all; the first says which second it belongs to.

    Args:
        half: keep what is not in int8 as float16 in the file, which is half as large.

    Raises:
        FoodboxError: the place cannot be written to.
    """
    make_folder(path.parent)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / f"model{ENDING}"  # OpenVINO takes the ending in small letters alone
        weights = made.with_suffix(".bin")
        library("openvino").save_model(graph, made, compress_to_fp16=half)
        graph.set_rt_info(digest(weights), ["foodbox", DIGEST])
        library("openvino").save_model(graph, made, compress_to_fp16=half)  # the same weights, and now their digest
        write_whole(path.with_suffix(".bin"), weights.read_bytes())
        write_whole(path, made.read_bytes())  # the one that is opened by its name comes last


def read(path: Path) -> tuple[Any, dict[str, str]]:
    """The graph (openvino.Model) of an exported model, and the header that was written into it.

    Raises:
        FoodboxError: it is cut short, lacks its weights or has another model's, is not one of ours, or was written by a
            newer foodbox.
    """
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
    ours = graph.get_rt_info("foodbox").value if graph.has_rt_info(["foodbox", "export_version"]) else {}
    header = {name: str(value) for name, value in ours.items()}
    expect_ours(header, path, "OpenVINO")
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


def _shapes(detector: Detector) -> list[tuple[int, int]]:
    """Height and width of a lying and of an upright photo's input."""
    return [detector.preprocessing.shape(*size) for size in ((400, 300), (300, 400))]


def _expect_alike(detector: Detector, exported: Network, shape: tuple[int, int]) -> None:
    """Looks whether the graph gives what the detector gives, for a number of photos and a shape not traced with."""
    images = torch.randint(256, (1, 3, *shape), dtype=torch.uint8)
    ours, theirs = detector(images), exported(images)
    for name, wanted in ours.items():
        near = ALIKE * max(1.0, float(wanted.abs().max()))
        if theirs[name].shape != wanted.shape or float((theirs[name] - wanted).abs().max()) > near:
            raise FoodboxError(
                f"The exported network does not give the detector's {name} for inputs of other sizes, so it is not "
                "written. Its backbone does what cannot be exported: train with another one, such as mobilenetv2_100."
            )
