"""What a GPU gives: RetinaNet ResNet-50 in training and detection, torchvision's beside it, the share of the ceiling.

    python benchmarks/gpu.py [TRAIN VALID] [--steps 30] [--size 800] [--batch 16] [--runs 3] [--only run ...]

After a warm-up, by the GPU's own clock: the fastest square matrix product; detection of one photo, as `Model.detect`
makes it of prepared pixels, a hundred boxes found, with torch's kernels and cuDNN's (inference/kernels.py), and with
NMS at its worst, no candidate under the threshold; foodbox's training step (preset torchvision, the same network) as
training/step.py makes it, in bfloat16, channels last, without and with torch.compile; torchvision's under its reference
recipe (SGD, AMP in float16, three stages trained, resting norms). Both get random square photos on the GPU (medians),
then JPEGs of 1024 px from a folder, opened by as many processes (means, for they come in bursts). Then the student's
run on TRAIN and VALID. Operations are those of products and convolutions, forwards and backwards
(foodbox/evaluation/speed.py); the share is of bfloat16's ceiling, float16's too. `--device cpu --steps 1 --size 128
--batch 2` tries it without a GPU.
"""

from __future__ import annotations

import itertools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from accelerate import Accelerator
from PIL import Image
from student_run import foodbox_run
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.retinanet import RetinaNet as TheirRetinaNet
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.transforms import v2

from foodbox.config import TrainSettings
from foodbox.configure import apply, build
from foodbox.data.augment import Augmentation
from foodbox.data.loader import training_loader
from foodbox.detectors.retinanet import RetinaNet, RetinaNetSettings
from foodbox.evaluation.speed import multiply_adds
from foodbox.inference import kernels
from foodbox.inference.predict import default_workers
from foodbox.model import Model
from foodbox.records import Batch, Frame, Photo, Target
from foodbox.training.optimiser import make_optimiser
from foodbox.training.pending_loss import PendingLoss
from foodbox.training.step import learner

CLASSES, BOXES, PHOTO_SIDE, PHOTOS = 80, 8, 1024, 128


@dataclass
class Bench:
    """Where and how much is measured: steps, photos of a step, and their side in px."""

    device: torch.device
    steps: int
    size: int
    batch: int

    def seconds(self, call: Callable[[], Any], warm_up: int = 5, mean: bool = False) -> float:
        """Seconds of a call, by events in the GPU's own queue; by the CPU's clock in a dry run."""
        on_gpu, marks = self.device.type == "cuda", []
        for i in range(warm_up + self.steps + 1):
            if i >= warm_up:
                event = torch.cuda.Event(enable_timing=True) if on_gpu else None
                marks.append(torch.cuda.current_stream().record_event(event) if on_gpu else time.perf_counter())
            if i < warm_up + self.steps:
                call()
        if on_gpu:
            torch.cuda.synchronize()
        taken = [a.elapsed_time(b) / 1e3 if on_gpu else b - a for a, b in itertools.pairwise(marks)]
        return statistics.fmean(taken) if mean else statistics.median(taken)


def main(
    train: tyro.conf.Positional[Path | None] = None, valid: tyro.conf.Positional[Path | None] = None, /,
    device: Literal["cuda", "cpu"] = "cuda", steps: int = 30, size: int = 800, batch: int = 16, runs: int = 3,
    only: tuple[Literal["detection", "training", "run"], ...] = ("detection", "training", "run"),
) -> None:  # fmt: skip
    """Measures, and prints tables.

    Args:
        train, valid: Folders of labelled photos for the student's run, and to score it on.
        steps: That are measured of each.
        size: Side of the photos in the network, px.
        batch: Photos of a training step.
        runs: How often the student's run is made.
        only: What is measured.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no CUDA GPU here: run this on one, or try --device cpu --steps 1 --size 128.")
    bench = Bench(torch.device(device), steps, size, batch)
    print(torch.cuda.get_device_name() if device == "cuda" else "A dry run on the CPU", end=", ")
    print(f"torch {torch.__version__}, {size} px, batches of {batch}\n\n| matrix product | TFLOP/s |\n|---|---|")
    best = ceilings(bench)
    print("".join(f"| {kind} | {rate / 1e12:.1f} |\n" for kind, rate in best.items()), flush=True)
    if "detection" in only:
        detection(bench)
    if "training" in only:
        training(bench, best["bfloat16"])
    if train and valid and "run" in only:
        rows = [foodbox_run(train, valid) for _ in range(runs)]
        row = {key: statistics.median(row[key] for row in rows) for key in ("seconds", "ap", "ap50")}
        print(
            f"\nStudent's run: {row['seconds']:.1f} s, AP {row['ap']:.3f}, AP50 {row['ap50']:.3f} (medians of {runs})."
        )


def detection(bench: Bench) -> None:
    """A table of the time that one photo takes: the first of its shape, those soon after it, and those much later."""
    print(
        "| detection of one photo | the first, s | soon, ms | later, ms | NMS at its worst, ms |\n|---|---|---|---|---|"
    )
    for preset, side in {"torchvision": bench.size, "light": min(320, bench.size)}.items():
        one = Bench(bench.device, bench.steps, side, batch=1)
        model, photo = Model(our_detector(one, preset), {}, str(bench.device)), random_batch(one, ours=True)
        start = time.perf_counter()
        (found,) = model.detect_prepared(photo, min_score=0.0)
        cells = [f"{time.perf_counter() - start:.2f}"]
        hundredth = float(found.scores[99])
        worth = kernels.WORTH
        for shown, numbers in ((hundredth, worth), (hundredth, (0, 0)), (0.0, (0, 0))):
            kernels.WORTH = numbers  # none: cuDNN's kernels, which else come after some thousand photos
            taken = one.seconds(partial(model.detect_prepared, photo, shown))
            cells.append(f"{1e3 * taken:.1f}")
        kernels.WORTH = worth
        print(f"| {preset}, {side} px | {' | '.join(cells)} |", flush=True)


def training(bench: Bench, ceiling: float) -> None:
    """A table of training steps, ours and torchvision's; the ceiling is in FLOP/s."""
    steps, batch = bench.steps, bench.batch
    print("\n| training | ms a step | photos/s | GFLOP a step | share of the ceiling |\n|---|---|---|---|---|")
    ahead = 5 + 2 * default_workers()  # steps until what was opened before the clock ran is used up
    with tempfile.TemporaryDirectory() as folder:
        photos = draw_photos(Path(folder), PHOTOS)
        work = 2.0 * multiply_adds(partial(our_step(bench), random_batch(bench, ours=True)))  # the compiler hides it
        for title, step, opened in (
            ("foodbox", our_step(bench), our_batches),
            ("foodbox, compiled", our_step(bench, compiled=True), our_batches),
            ("torchvision", their_step(bench), their_batches),
        ):
            same, start = random_batch(bench, ours=opened is our_batches), time.perf_counter()
            step(same)
            print(f"{title}: the first step takes {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
            in_memory = bench.seconds(lambda step=step, same=same: step(same))
            batches = opened(bench, photos * math.ceil(batch * (ahead + steps) / PHOTOS))
            from_folder = bench.seconds(lambda step=step, batches=batches: step(next(batches)), ahead, mean=True)
            for source, taken in (("on the device", in_memory), ("from a folder", from_folder)):
                cells = f"{1e3 * taken:.1f} | {batch / taken:.1f} | {work / 1e9:.0f}"
                print(f"| {title}, {source} | {cells} | {work / taken / ceiling:.0%} |", flush=True)


def ceilings(bench: Bench) -> dict[str, float]:
    """FLOP/s of the fastest square matrix product, by number type: 2 n³ operations each."""
    best: dict[str, float] = {}
    torch.set_float32_matmul_precision("high")  # TF32
    sides = (4096, 8192, 16384) if bench.device.type == "cuda" else (256,)
    for side, (kind, dtype) in itertools.product(sides, (("bfloat16", torch.bfloat16), ("TF32", torch.float32))):
        a, b = (torch.randn(side, side, device=bench.device, dtype=dtype) for _ in range(2))
        best[kind] = max(best.get(kind, 0), 2 * side**3 / bench.seconds(lambda a=a, b=b: a @ b))
    torch.set_float32_matmul_precision("highest")  # torch's default
    return best


def some_boxes(side: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Boxes [BOXES, 4] within a square, and their labels [BOXES]."""
    corners, sides = torch.rand(2, BOXES, 2) * side
    boxes = torch.cat([0.6 * corners, 0.6 * corners + 0.1 * side + 0.3 * sides], dim=1)
    return boxes.to(device), torch.randint(CLASSES, (BOXES,)).to(device)


def draw_photos(folder: Path, count: int) -> list[Photo]:
    """JPEGs of coloured clouds."""
    photos = []
    for i in range(count):
        clouds = Image.fromarray(np.random.default_rng(i).integers(0, 255, (96, 96, 3), dtype=np.uint8))
        clouds.resize((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg", quality=90)
        photos.append(Photo(folder / f"{i}.jpg", PHOTO_SIDE, PHOTO_SIDE, *some_boxes(PHOTO_SIDE)))
    return photos


def random_batch(bench: Bench, ours: bool) -> Any:
    """Photos on the device: a Batch, or torchvision's lists."""
    found = [some_boxes(bench.size, bench.device) for _ in range(bench.batch)]
    images = torch.randint(256, (bench.batch, 3, bench.size, bench.size), dtype=torch.uint8, device=bench.device)
    if ours:
        frame = Frame(bench.size, bench.size, bench.size, bench.size)
        return Batch(images, [Target(*boxes) for boxes in found], [frame] * bench.batch)
    return list(images.float() / 255), [{"boxes": boxes, "labels": labels + 1} for boxes, labels in found]


def our_batches(bench: Bench, photos: list[Photo]) -> Iterator[Batch]:
    """As `foodbox train` makes them, augmentation and all; every photo is opened anew."""
    prepared = our_detector(bench).preprocessing
    loader = training_loader(
        photos, prepared, Augmentation(), bench.batch, default_workers(), seed=0, cache="none",
        pinned=bench.device.type == "cuda",
    )  # fmt: skip
    return itertools.chain.from_iterable(itertools.repeat(loader))


def their_batches(bench: Bench, photos: list[Photo]) -> Iterator[Any]:
    """As torchvision's reference script prepares them; its networks resize on the device."""
    loader = torch.utils.data.DataLoader(
        photos, bench.batch, True, num_workers=default_workers(), persistent_workers=True, collate_fn=opened_as_theirs
    )
    return itertools.chain.from_iterable(itertools.repeat(loader))


def opened_as_theirs(photos: list[Photo]) -> Any:
    """Its preset "hflip"; the boxes stay where they are, which costs no less."""
    change = v2.Compose([v2.PILToTensor(), v2.RandomHorizontalFlip(0.5), v2.ToDtype(torch.float, scale=True)])
    images = [change(Image.open(photo.path).convert("RGB")) for photo in photos]
    return images, [{"boxes": photo.boxes, "labels": photo.labels + 1} for photo in photos]


def calm(network: nn.Module) -> None:
    """Makes residuals small: behind resting norms random weights grow block by block, beyond what float16 holds."""
    for module in (module for name, module in network.named_modules() if name.endswith("bn3")):
        module.weight.data.fill_(0.2)  # type: ignore[operator, union-attr]


def our_detector(bench: Bench, preset: str = "torchvision") -> RetinaNet:
    settings = apply(build(RetinaNetSettings, RetinaNet.presets[preset]), {"size": bench.size})
    detector = RetinaNet([str(i) for i in range(CLASSES)], settings).to(bench.device)
    calm(detector.to(memory_format=torch.channels_last))
    return detector


def our_step(bench: Bench, compiled: bool = False) -> Callable[[Batch], None]:
    """A step as training makes it, and its loss as the loop looks at it."""
    detector, settings = our_detector(bench).train(), TrainSettings()
    accelerator = Accelerator(mixed_precision="bf16", cpu=bench.device.type == "cpu")
    way: Literal["compiled", "plain"] = "compiled" if compiled else "plain"
    learn = learner(detector, make_optimiser(detector, settings), settings.clip, accelerator, way)
    last: list[PendingLoss] = []

    def call(batch: Batch) -> None:
        last.append(PendingLoss(learn(batch), batch))
        if len(last) > 1:
            last.pop(0).value(Path())

    return call


def their_step(bench: Bench) -> Callable[[Any], None]:
    """train_one_epoch of torchvision's references/detection with --amp, and its rate for RetinaNet."""
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3,
        returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256),
    )  # fmt: skip
    model = TheirRetinaNet(backbone, CLASSES + 1, min_size=bench.size, max_size=bench.size).to(bench.device).train()
    calm(model)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(weights, lr=0.01, momentum=0.9, weight_decay=1e-4)
    half = torch.float16 if bench.device.type == "cuda" else torch.bfloat16
    scaler = torch.amp.GradScaler(bench.device.type, enabled=half == torch.float16)

    def call(batch: Any) -> None:
        images, targets = batch
        images = [image.to(bench.device) for image in images]
        targets = [{key: value.to(bench.device) for key, value in target.items()} for target in targets]
        with torch.autocast(bench.device.type, half):
            loss = torch.stack(list(model(images, targets).values())).sum()
        loss.item()  # which waits, as there
        optimiser.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()

    return call


if __name__ == "__main__":
    tyro.cli(main)
