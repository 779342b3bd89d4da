"""A detector over many photos: opened ahead in other processes, run in batches, decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from multiprocessing import current_process
from typing import Any

import torch
from torch.utils.data import DataLoader

from foodbox.data.loader import PHOTOS_AT_ONCE, photo_loader
from foodbox.data.processes import cores
from foodbox.data.tiles import every_tile, together
from foodbox.detections import Detections
from foodbox.detectors.base import Detector, Outputs
from foodbox.errors import UsageError
from foodbox.inference.threads import Threads, threads
from foodbox.records import Batch, Photo


def default_workers(training_on: torch.device | None = None) -> int:
    """Processes that open photos: half the cores, for the network needs the others; at most 8.

    Args:
        training_on: the device of a training. On a CPU of two cores its steps wait at every operation for the core that
            opens photos, which costs more than to open them in between.
    """
    if current_process().daemon:  # a worker of a pool, which may have no processes of its own
        return 0
    if training_on is not None and training_on.type == "cpu" and cores() <= 2:
        return 0
    return min(8, max(1, cores() // 2))


def pick_device(name: str | None = None) -> torch.device:
    """The device of that name; without one CUDA, else Apple's MPS, else the CPU.

    Raises:
        UsageError: there is no such device on this machine.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name is None:
        return torch.device(next(kind for kind, is_there in there.items() if is_there))
    name = str(name)
    kind = name.split(":")[0]
    if not there.get(kind):
        usable = ", ".join(kind for kind, is_there in there.items() if is_there)
        raise UsageError(f"There is no device {name!r} on this machine: expected one of {usable}.")
    try:
        return torch.device(name)
    except RuntimeError as fault:
        raise UsageError(f"There is no device {name!r}: expected a name such as {kind} or {kind}:0.") from fault


def half_precision_pays(device: torch.device) -> bool:
    """Whether bfloat16 makes convolutions faster: on GPUs that have it, on CPUs with AVX-512 BF16 or AMX."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    capabilities = torch.backends.cpu.get_cpu_capability()
    with_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return capabilities.startswith("AVX512") and bool(with_bf16)


def predict(
    detector: Detector,
    batches: Iterable[Batch],
    device: torch.device,
    half: bool,
    min_score: float | None = None,
    progress: Callable[[int], None] = lambda count: None,
    network: Callable[..., Outputs] | None = None,
    on: Threads | None = None,
) -> Iterator[Detections]:
    """Detections of every photo of the batches, in their order.

    Args:
        half: run the network in bfloat16.
        min_score: instead of the detector's own score threshold.
        progress: called after each batch with the number of its photos.
        network: what runs the detector's `forward`, and maybe its `candidates`, if not it itself (replay.py).
        on: the threads of a network that torch runs on a CPU; all that torch has, if not given.
    """
    detector.eval()
    network = network or detector
    for batch in batches:
        sizes = []
        if detector.takes_sizes:
            sizes = [torch.tensor([[frame.input_width, frame.input_height] for frame in batch.frames], device=device)]
        mode, numbers = torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half)
        with mode, numbers, nullcontext() if on is None else on.step(batch.frames):
            outputs = network(*batch.to(device).inputs, *sizes)
        # Decoding is many small steps. Where the processes that open photos have one of two cores, two threads that
        # wait for each other at each took a hundred times as long as one. Detections are the caller's to change, which
        # inference mode forbids.
        with torch.no_grad(), threads(1):
            found = detector.decode(outputs, batch.frames, min_score)
        yield from found
        progress(len(batch))


def in_order(found: Iterable[Detections], loader: DataLoader[Any]) -> Iterator[Detections]:
    """What `predict` found in a `photo_loader`'s batches, in the order of the photos; each as soon as it can be."""
    numbers = [number for batch in loader.batch_sampler for _, number in batch]  # type: ignore[union-attr, misc]
    early: dict[int, Detections] = {}
    following = 0
    for number, detections in zip(numbers, found, strict=True):
        early[number] = detections
        while following in early:
            yield early.pop(following)
            following += 1


def predict_photos(
    detector: Detector,
    photos: Sequence[Photo],
    device: torch.device,
    half: bool,
    min_score: float | None = None,
    batch_size: int = PHOTOS_AT_ONCE,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda count: None,
    network: Callable[..., Outputs] | None = None,
    on: Threads | None = None,
) -> Iterator[Detections]:
    """`predict` over photos on the disk, tile by tile where the detector has them so."""
    workers = default_workers() if workers is None else workers
    side = detector.preprocessing.tile_size
    shown = every_tile(photos, side)
    if len(shown) <= batch_size:
        workers = 0  # starting a process costs more than it saves
    pinned = device.type == "cuda"
    loader = photo_loader(shown, detector.preprocessing, batch_size, workers, detector.search, pinned)
    found = in_order(predict(detector, loader, device, half, min_score, network=network, on=on), loader)  # type: ignore[arg-type]
    for detections in together(photos, side, found):
        yield detections
        progress(1)
