"""A detector → an ONNX file, for programs and devices that know neither PyTorch nor foodbox: pixels in, boxes out.

All but NMS is in the graph. `docs/export.md` says what goes in and what comes out.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from foodbox.detectors.base import Detector, OneStageDetector, Outputs
from foodbox.errors import FoodboxError, first_line
from foodbox.files import make_folder, write_whole
from foodbox.inference.exported import VERSION, expect_ours, library, one_at_a_time
from foodbox.records import Preprocessing

ENDING = ".onnx"
LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
OUTPUTS = ("scores", "labels", "boxes")
ALIKE = 1e-3
"""How far scores may be from the detector's, and boxes as a share of the side: rounding stays far below it."""
FOUND = 0.95
"""Share of the detector's candidates that the graph has to have: of nearly equal scores others may be the best ones."""


class Network:
    """A detector's `forward` and `candidates`, run by ONNX Runtime in float32.

    Args:
        detector: one of the same settings; its weights are not asked.
        graph: what `read` or `graph_of` gave.
        half: not asked; on CPUs ONNX Runtime calculates in float32.
    """

    def __init__(self, detector: Detector, graph: bytes, half: bool = False) -> None:
        runtime = library("onnxruntime")
        runtime.disable_telemetry_events()  # on Windows it would tell its maker
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._side = largest_side(detector.preprocessing)
        self._ground = torch.tensor(detector.preprocessing.ground).round().to(torch.uint8).view(1, 3, 1, 1)

    def __call__(self, images: Tensor) -> Outputs:
        """Pixels uint8 [B, 3, H, W] → scores [B, C], labels int64 [B, C], boxes [B, C, 4] in the input's pixels."""
        squares = self._ground.repeat(len(images), 1, self._side, self._side)
        squares[:, :, : images.shape[2], : images.shape[3]] = images
        found = self._session.run(OUTPUTS, {"images": squares.numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(OUTPUTS, found, strict=True)}


class _Whole(nn.Module):
    """A detector's network and its choice of candidates as one function of pixels."""

    def __init__(self, detector: OneStageDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = self.detector.candidates(self.detector(images))
        return tuple(found[name] for name in OUTPUTS)


@torch.inference_mode(False)
@torch.no_grad()
def graph_of(detector: OneStageDetector, header: dict[str, str]) -> bytes:
    """The detector as the content of an ONNX file, for any number of photos in squares of `largest_side`.

    It takes `images`, pixels uint8 [B, 3, S, S], red first; normalisation is part of it. It gives `scores` [B, C],
    `labels` int64 [B, C] and `boxes` [B, C, 4], corners in the input's pixels, before NMS.

    Args:
        detector: on the CPU.
        header: what is written into the file beside its version, as metadata.

    Raises:
        FoodboxError: ONNX is not there, or cannot do what the network does.
    """
    onnx, side = library("onnx"), largest_side(detector.preprocessing)
    library("onnxscript")
    example = torch.randint(256, (2, 3, side, side), dtype=torch.uint8)
    batch = {"images": {0: torch.export.Dim("batch")}}
    try:
        with one_at_a_time, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own parts, which nobody here can change
            program = torch.onnx.export(
                _Whole(detector.eval()).eval(), (example,), dynamo=True, verbose=False, dynamic_shapes=batch,
                input_names=["images"], output_names=OUTPUTS,
            )  # fmt: skip
    except (torch.onnx.OnnxExporterError, RuntimeError) as fault:
        raise FoodboxError(
            f"ONNX cannot do all that this network does ({first_line(fault)}). Export one with another backbone."
        ) from fault
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {"export_version": VERSION, **header})
    graph: bytes = model.SerializeToString()
    _expect_alike(detector, Network(detector, graph), side)
    return graph


def write(graph: bytes, path: Path) -> None:
    """Writes NAME.onnx, whole or not at all.

    Raises:
        FoodboxError: the place cannot be written to.
    """
    make_folder(path.parent)
    write_whole(path, graph)


def read(path: Path) -> tuple[bytes, dict[str, str]]:
    """What an exported model's file holds, and the header that was written into it.

    Raises:
        FoodboxError: it is cut short, is not one of ours, or was written by a newer foodbox.
    """
    onnx, graph = library("onnx"), path.read_bytes()
    garbled = library("google.protobuf.message").DecodeError
    try:
        model = onnx.load_model_from_string(graph)
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, garbled) as fault:
        raise FoodboxError(
            f"{path} is no whole ONNX model ({first_line(fault)}). Copy it again, or export the model anew."
        ) from fault
    header = {entry.key: entry.value for entry in model.metadata_props}
    expect_ours(header, path, "ONNX")
    return graph, header


def largest_side(prepared: Preprocessing) -> int:
    """Side in pixels of the square that the input of any photo fits into."""
    return prepared.padded(prepared.max_size if prepared.fit == "shortest" else prepared.size)


def _expect_alike(detector: OneStageDetector, network: Network, side: int) -> None:
    """Looks whether the graph gives what the detector gives, for another number of photos than it was made with."""
    images = torch.randint(256, (1, 3, side, side), dtype=torch.uint8)
    ours, theirs = detector.candidates(detector(images)), network(images)
    scores, wanted = (found["scores"].sort().values for found in (theirs, ours))
    if scores.shape == wanted.shape and float((scores - wanted).abs().max()) <= ALIKE:
        # Of candidates with nearly the same score either may come first: some of ours are looked for among all.
        there, looked_for = _rows(theirs, side), _rows(ours, side)
        some = looked_for[:: max(1, len(looked_for) // 100)]
        if float((torch.cdist(some, there, p=torch.inf).amin(1) <= ALIKE).float().mean()) >= FOUND:
            return
    raise FoodboxError(
        "The exported network does not give the detector's boxes, so it is not written. Its backbone does what cannot "
        "be exported: train with another one, such as mobilenetv2_100."
    )


def _rows(found: Outputs, side: int) -> Tensor:
    """The one photo's candidates as points: label, score, box in shares of the side. [C, 6]"""
    return torch.cat((found["labels"].float().T, found["scores"].T, found["boxes"][0] / side), dim=1)
