"""A frozen backbone's maps, computed once and kept: ten epochs then cost one pass of the backbone and ten of the heads.

Of each photo some views are kept, which are what augmentation makes of it in as many epochs: mirrored or not, cut or on
a larger ground, in several lights. Epochs take them in turn.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from foodbox.console import progress_bar, say
from foodbox.data.loader import PHOTOS_AT_ONCE, PhotoLoader, PreparedPhotos
from foodbox.detectors.base import Detector
from foodbox.errors import FoodboxError, UsageError
from foodbox.files import amount, cache_folder, cannot_write, make_folder
from foodbox.layers.backbones import Backbone
from foodbox.masks import bitmaps_from_rles, rles_from_bitmaps
from foodbox.records import Batch, Frame, KeptMaps, Target

Key = tuple[int, int]
"""Which view of which photo."""

Item = tuple[list[Tensor], tuple[int, int], Target, Frame, Tensor | None]
"""Of one photo: maps [C, H, W], height and width of the input that they came of, target, frame, proposals [R, 4]."""

MEMORY_BYTES = 2 * 2**30
"""Maps are kept in memory up to this many bytes, on the disk above."""


def freeze(detector: Detector, part: Literal["backbone", "C4"]) -> None:
    """Takes the backbone out of the training, or all of it up to C4.

    Raises:
        UsageError: it cannot be run from C4 on.
    """
    if part == "backbone":
        detector.backbone.requires_grad_(False)
    elif isinstance(detector.backbone, Backbone) and detector.backbone.resumes:
        detector.backbone.freeze(4)
    else:
        raise UsageError(
            "--freeze C4 needs a backbone of which is known what comes behind C4, such as RetinaNet's mobilenetv2_100 "
            f"or resnet50, and of this {type(detector).__name__}'s it is not: take --freeze backbone."
        )


def kept_loader(
    detector: Detector,
    loader: DataLoader[Any],
    views: int,
    device: torch.device,
    half: bool,
    disk: bool,
    until: float | None = None,
) -> DataLoader[Any]:
    """A loader's photos in its order, with the backbone's maps in the images' place.

    Args:
        detector: whose backbone is run over all photos now, and rests from then on. Where the layers
            behind C4 still learn, the maps up to C4 are kept.
        loader: of prepared photos.
        views: how many variants of each photo are kept.
        half: run the backbone in bfloat16. Maps are kept in bfloat16 in any case.
        disk: keep them on the disk, however small they are.
        until: begin no further view after this moment of `time.monotonic()`.

    Raises:
        FoodboxError: the disk has not enough room for them.
    """
    photos = loader.dataset
    assert isinstance(photos, PreparedPhotos)
    kept = keep_maps(detector, photos, views, loader.num_workers, device, half, disk, until)
    return DataLoader(kept, batch_sampler=loader.batch_sampler, collate_fn=collate, generator=torch.Generator())


def keep_maps(
    detector: Detector, photos: PreparedPhotos, views: int, workers: int, device: torch.device, half: bool, disk: bool,
    until: float | None = None,
) -> KeptPhotos:  # fmt: skip
    """Runs the backbone over one view of all photos after the other; arguments as `kept_loader` has them."""
    counted = slice(-1 if any(p.requires_grad for p in detector.backbone.parameters()) else None)
    order = _alike(photos, views)
    kept: KeptPhotos | None = None
    detector.eval()
    with progress_bar("backbone", len(photos) * views) as bar, torch.no_grad():
        for keys, batch in zip(order, PhotoLoader(photos, order, workers), strict=True):
            view, photo = keys[0]
            if view and photo == order[0][0][1] and until is not None and time.monotonic() > until:
                break  # before another view begins
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                maps = [m.bfloat16().cpu() for m in detector.backbone_maps(batch.to(device).images)[counted]]
            size = batch.images.shape[2:]
            if kept is None:  # maps are as large as the inputs that they are of
                own = sum(m.nbytes for m in maps) / math.prod((len(keys), *size))
                kept = KeptPhotos(len(photos), _store(round(own * _pixels(photos) * views), disk))
            for i, key in enumerate(keys):
                proposals = None if batch.proposals is None else batch.proposals[i]
                kept.put(key, ([m[i] for m in maps], size, batch.targets[i], batch.frames[i], proposals))
            bar.advance(len(keys))
    assert kept is not None  # there are photos
    return kept


class KeptPhotos(TorchDataset[Item]):
    """The maps of photos, asked for by (epoch, index) as `PreparedPhotos` is: epoch e has view e % views."""

    def __init__(self, photos: int, maps: MemoryMaps | DiskMaps) -> None:
        """
        Args:
            photos: how many there are.
            maps: where their maps go.
        """
        self._photos = photos
        self._maps = maps
        self._about: dict[Key, tuple[tuple[int, int], Target, Frame, Tensor | None]] = {}
        self._masks: dict[Key, list[dict[str, Any]]] = {}  # the targets', as run lengths: pixels take more than maps

    @property
    def views(self) -> int:
        """Of each photo."""
        return len(self._about) // self._photos

    def put(self, key: Key, item: Item) -> None:
        maps, size, target, frame, proposals = item
        self._maps.put(key, maps)
        if target.masks is not None and len(target.masks):
            self._masks[key] = rles_from_bitmaps(target.masks)
            target = replace(target, masks=None)
        self._about[key] = size, target, frame, proposals

    def __len__(self) -> int:
        return self._photos

    def __getitem__(self, key: Key) -> Item:
        view = key[0] % self.views, key[1]
        size, target, frame, proposals = self._about[view]
        if view in self._masks:
            target = replace(target, masks=bitmaps_from_rles(self._masks[view]))
        return self._maps.get(view), size, target, frame, proposals


def collate(items: Sequence[Item]) -> Batch:
    """B photos' maps → one batch, each map with zeros right and below where others are larger."""
    maps, sizes, targets, frames, regions = zip(*items, strict=True)
    together = []
    for level in zip(*maps, strict=True):
        height, width = (max(m.shape[d] for m in level) for d in (1, 2))
        together.append(torch.stack([F.pad(m, (0, width - m.shape[2], 0, height - m.shape[1])) for m in level]))
    height, width = (max(size[d] for size in sizes) for d in (0, 1))
    proposals = None if regions[0] is None else pad_sequence(list(regions), batch_first=True)  # [B, R, 4]
    return Batch(KeptMaps(together, height, width), list(targets), list(frames), proposals)


def _pixels(photos: PreparedPhotos) -> int:
    """Of all photos' inputs together, with their padding."""
    return sum(math.prod(photos.preprocessing.shape(photo.width, photo.height)) for photo in photos.photos)


def _alike(photos: PreparedPhotos, views: int) -> list[list[Key]]:
    """All (view, index), in batches of photos whose inputs are equally large: no map then shows another's padding."""
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, photo in enumerate(photos.photos):
        frame = photos.preprocessing.frame(photo.width, photo.height)
        by_size[frame.input_width, frame.input_height].append(i)
    keys = [[(view, i) for i in alike] for view in range(views) for alike in by_size.values()]
    return [part[i : i + PHOTOS_AT_ONCE] for part in keys for i in range(0, len(part), PHOTOS_AT_ONCE)]


class MemoryMaps:
    """Maps in memory."""

    def __init__(self) -> None:
        self._maps: dict[Key, list[Tensor]] = {}

    def put(self, key: Key, maps: list[Tensor]) -> None:
        self._maps[key] = [m.clone() for m in maps]

    def get(self, key: Key) -> list[Tensor]:
        return self._maps[key]


class DiskMaps:
    """Maps in a file that goes with the process: they are another backbone's, or other views', in the next run."""

    def __init__(self) -> None:
        folder = make_folder(cache_folder())
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as we are
        except OSError as fault:
            raise cannot_write(folder, fault) from fault
        self._places: dict[Key, tuple[int, list[torch.Size]]] = {}

    def put(self, key: Key, maps: list[Tensor]) -> None:
        try:
            self._places[key] = self._file.seek(0, 2), [m.shape for m in maps]  # what waits is written first
            for m in maps:
                self._file.write(m.contiguous().view(torch.uint8).numpy().data)
        except OSError as fault:
            raise cannot_write(cache_folder(), fault) from fault

    def get(self, key: Key) -> list[Tensor]:
        start, shapes = self._places[key]
        lengths = [shape.numel() for shape in shapes]
        self._file.seek(start)
        flat = torch.frombuffer(bytearray(self._file.read(2 * sum(lengths))), dtype=torch.bfloat16)
        return [part.view(shape) for part, shape in zip(torch.split(flat, lengths), shapes, strict=True)]


def _store(size: int, disk: bool) -> MemoryMaps | DiskMaps:
    """Where so many bytes are kept; says so."""
    disk = disk or size > MEMORY_BYTES
    if not disk:
        say(f"Keeping the frozen backbone's maps in memory: {amount(size)}.")
        return MemoryMaps()
    folder = make_folder(cache_folder())
    if (free := shutil.disk_usage(folder).free) < size:
        raise FoodboxError(
            f"Keeping the frozen backbone's maps needs {amount(size)} on the disk, and {folder} has {amount(free)} "
            "left: make room there, name a folder on another disk in the environment variable FOODBOX_CACHE, or train "
            "with fewer --views."
        )
    say(f"Keeping the frozen backbone's maps on the disk, in {folder}, until the run ends: {amount(size)}.")
    return DiskMaps()
