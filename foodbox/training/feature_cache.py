"""A frozen backbone's maps, computed once and kept: ten epochs then cost one pass of the backbone and ten of the heads.

Of each photo some views are kept, which are what augmentation makes of it in as many epochs: mirrored or not, cut or on
a larger ground, in several lights. Epochs take them in turn.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from foodbox.console import progress_bar, say
from foodbox.data.loader import PHOTOS_AT_ONCE, Collate, PreparedPhotos
from foodbox.detectors.base import Detector
from foodbox.errors import FoodboxError
from foodbox.files import cache_folder, make_folder
from foodbox.records import Batch, Frame, KeptMaps, Target

Item = tuple[list[Tensor], tuple[int, int], Target, Frame]
"""Maps [C, H, W] of one photo, height and width of the input that they came of, its target and frame."""

MEMORY_BYTES = 2 * 2**30
"""Maps are kept in memory up to this many bytes, on the disk above."""


class KeptPhotos(TorchDataset[Item]):
    """The maps of photos in some views, asked for by (epoch, index) as `PreparedPhotos` is: epoch e has view e % views.

    Args:
        detector: whose backbone is run once over all; it must be frozen.
        photos: as the detector would see them.
        views: how many of each photo are kept.
        half: run the backbone in bfloat16. Maps are kept in bfloat16 in any case.
        disk: keep them on the disk, however small they are.

    Raises:
        FoodboxError: the disk has not enough room for them.
    """

    def __init__(
        self, detector: Detector, photos: PreparedPhotos, views: int, workers: int, device: torch.device, half: bool,
        disk: bool = False,
    ) -> None:  # fmt: skip
        self.views = views
        self._about: dict[tuple[int, int], tuple[tuple[int, int], Target, Frame]] = {}
        self._kept: MemoryMaps | DiskMaps | None = None
        order = _alike(photos, views)
        loader = DataLoader(
            photos,
            batch_sampler=order,  # type: ignore[arg-type]
            num_workers=workers,
            collate_fn=Collate(photos.preprocessing),
        )
        detector.eval()
        with progress_bar("backbone", len(photos) * views) as bar, torch.inference_mode():
            for keys, batch in zip(order, loader, strict=True):
                with torch.autocast(device.type, torch.bfloat16, enabled=half):
                    maps = [m.bfloat16().cpu() for m in detector.backbone_maps(batch.to(device).images)]
                if self._kept is None:
                    self._kept = _store(sum(m[0].nbytes for m in maps) * len(photos) * views, disk)
                height, width = batch.images.shape[2:]
                for i, key in enumerate(keys):
                    self._kept.put(key, [m[i] for m in maps])
                    self._about[key] = (height, width), batch.targets[i], batch.frames[i]
                bar.advance(len(keys))

    def __len__(self) -> int:
        return len(self._about) // self.views

    def __getitem__(self, key: tuple[int, int]) -> Item:
        assert self._kept is not None
        view = key[0] % self.views, key[1]
        return self._kept.get(view), *self._about[view]


def collate(items: Sequence[Item]) -> Batch:
    """B photos' maps → one batch, each map with zeros right and below where others are larger."""
    maps, sizes, targets, frames = zip(*items, strict=True)
    together = []
    for level in zip(*maps, strict=True):
        height, width = (max(m.shape[d] for m in level) for d in (1, 2))
        together.append(torch.stack([F.pad(m, (0, width - m.shape[2], 0, height - m.shape[1])) for m in level]))
    height, width = (max(size[d] for size in sizes) for d in (0, 1))
    return Batch(KeptMaps(together, height, width), list(targets), list(frames))


def _alike(photos: PreparedPhotos, views: int) -> list[list[tuple[int, int]]]:
    """All (view, index), in batches of photos whose inputs are equally large: no map then shows another's padding."""
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, photo in enumerate(photos.photos):
        frame = photos.preprocessing.frame(photo.width, photo.height)
        by_size[frame.input_width, frame.input_height].append(i)
    keys = [[(view, i) for i in alike] for alike in by_size.values() for view in range(views)]
    return [part[i : i + PHOTOS_AT_ONCE] for part in keys for i in range(0, len(part), PHOTOS_AT_ONCE)]


class MemoryMaps:
    """Maps in memory."""

    def __init__(self) -> None:
        self._maps: dict[tuple[int, int], list[Tensor]] = {}

    def put(self, key: tuple[int, int], maps: list[Tensor]) -> None:
        self._maps[key] = [m.clone() for m in maps]

    def get(self, key: tuple[int, int]) -> list[Tensor]:
        return self._maps[key]


class DiskMaps:
    """Maps in a file that goes with the process: they are another backbone's, or other views', in the next run."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(dir=make_folder(cache_folder()))  # noqa: SIM115 - open as long as we are
        self._places: dict[tuple[int, int], tuple[int, list[torch.Size]]] = {}

    def put(self, key: tuple[int, int], maps: list[Tensor]) -> None:
        self._places[key] = self._file.seek(0, 2), [m.shape for m in maps]
        for m in maps:
            self._file.write(m.contiguous().view(torch.uint8).numpy().data)

    def get(self, key: tuple[int, int]) -> list[Tensor]:
        start, shapes = self._places[key]
        lengths = [shape.numel() for shape in shapes]
        self._file.seek(start)
        flat = torch.frombuffer(bytearray(self._file.read(2 * sum(lengths))), dtype=torch.bfloat16)
        return [part.view(shape) for part, shape in zip(flat.split(lengths), shapes, strict=True)]


def _store(size: int, disk: bool) -> MemoryMaps | DiskMaps:
    """Where so many bytes are kept; says so."""
    disk = disk or size > MEMORY_BYTES
    amount = f"{size / 2**20:,.0f} MB"
    if not disk:
        say(f"Keeping the frozen backbone's maps in memory: {amount}.")
        return MemoryMaps()
    folder = make_folder(cache_folder())
    if (free := shutil.disk_usage(folder).free) < size:
        raise FoodboxError(
            f"Keeping the frozen backbone's maps needs {amount} on the disk, and {folder} has {free / 2**20:,.0f} MB "
            "left: make room there, name a folder on another disk in the environment variable FOODBOX_CACHE, or train "
            "with fewer --views."
        )
    say(f"Keeping the frozen backbone's maps on the disk, in {folder}, until the run ends: {amount}.")
    return DiskMaps()
