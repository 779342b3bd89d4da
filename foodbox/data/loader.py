"""Batches: photos opened, prepared, changed at random where wanted, and put together."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from foodbox.data import proposals
from foodbox.data.augment import Augmentation, visible
from foodbox.data.disk_cache import DiskCache, SharedCache
from foodbox.data.images import lay, open_photo, resize
from foodbox.data.shared_memory import with_room
from foodbox.data.tiles import open_tile
from foodbox.errors import FoodboxError
from foodbox.records import Batch, Frame, Photo, Preprocessing, SelectiveSearch, Target

# Cutting out a part and enlarging it needs more pixels than the network sees. Photos are kept at this many times the
# network's size: enough for the largest usual zoom.
SPARE = 1.3
# Bytes of prepared photos that a loader keeps, its workers together, so that each is decoded once, not once an epoch.
KEPT_BYTES = 2**30

# Photos that detection takes at once.
PHOTOS_AT_ONCE = 8
# Photos that come after one while it waits for others of its kind.
PATIENCE = 64

Item = tuple[Tensor, Target, Frame] | tuple[Tensor, Target, Frame, Tensor]
"""Pixels, target and frame of a photo, and its proposals [R, 4] for detectors that get them from outside."""


class PixelCache(Protocol):
    """Pixels of photos, uint8 [3, h, w], by the photo's number."""

    def get(self, index: int) -> Tensor | None:
        """The photo's pixels, or None where they are not kept."""

    def put(self, index: int, pixels: Tensor) -> None:
        """Keeps the photo's pixels, if there is room."""


class MemoryCache:
    """Keeps the first photos that come, up to so many bytes, of one process; 0 bytes keep nothing."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self._kept: dict[int, Tensor] = {}

    def get(self, index: int) -> Tensor | None:
        return self._kept.get(index)

    def put(self, index: int, pixels: Tensor) -> None:
        if self.bytes + pixels.nbytes <= self.most_bytes:
            self._kept[index] = pixels
            self.bytes += pixels.nbytes


class PreparedPhotos(TorchDataset[Item]):
    """Photos as the network sees them, asked for by (epoch, index): each epoch's changes have their own seed.

    Attributes:
        sizes: width and height at which each photo's pixels are held: the network's, or larger by SPARE where
            augmentation will cut.
        masks: whether targets have masks, from the photos' outlines.
        search: how proposals are found; None for a detector that needs none.
        upright: whether each photo's input is higher than wide.
        cache: where they are kept.
    """

    def __init__(
        self, photos: Sequence[Photo], preprocessing: Preprocessing, augmentation: Augmentation | None, seed: int = 0,
        masks: bool = False, search: SelectiveSearch | None = None,
    ) -> None:  # fmt: skip
        self.photos = photos
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.seed = seed
        self.masks = masks
        self.search = search
        self.sizes = [self._held(photo) for photo in photos]
        frames = (preprocessing.frame(photo.width, photo.height) for photo in photos)
        self.upright = [frame.input_height > frame.input_width for frame in frames]
        self.antialias = preprocessing.antialias or augmentation is not None
        self.cache: PixelCache = MemoryCache(KEPT_BYTES)
        self._opened: dict[Path, Image.Image] = {}

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        """A fault comes back as it is, for `PhotoLoader`: torch would put a worker's traceback into its sentence."""
        try:
            return self._item(*key)
        except FoodboxError as fault:
            return fault  # type: ignore[return-value]

    def _item(self, epoch: int, index: int) -> Item:
        photo = self.photos[index]
        frame = self.preprocessing.frame(photo.width, photo.height, photo.path)
        pixels = self.pixels(index)
        if self.augmentation is None:
            pixels = lay(pixels, self.preprocessing)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(hash((self.seed, epoch, index)))  # the CPU's alone: much faster
                pixels, frame = self.augmentation(pixels, frame, self.preprocessing.ground)
        counted = photo.keep(~photo.ignore) if photo.ignore.any() else photo
        outlines = (counted.masks or [[]] * len(counted.boxes)) if self.masks else None
        target = visible(frame, counted.boxes, counted.labels, outlines)
        if self.search is None:
            return pixels, target, frame
        return pixels, target, frame, proposals.in_input(proposals.of_photo(photo, self.search), frame)

    def pixels(self, index: int) -> Tensor:
        """uint8 [3, h, w], the whole photo at the size at which it is held."""
        pixels = self.cache.get(index)
        if pixels is None:
            photo, size = self.photos[index], self.sizes[index]
            if photo.window is None:
                image = open_photo(photo.path, at_least=size)
            else:
                image = open_tile(photo, size, self._opened)
            pixels = resize(image, size, self.antialias)
            self.cache.put(index, pixels)
        return pixels

    def _held(self, photo: Photo) -> tuple[int, int]:
        width, height = self.preprocessing.resized(photo.width, photo.height)
        if self.augmentation is None:
            return width, height
        spare = (min(SPARE, photo.width / width), min(SPARE, photo.height / height))  # which stretching makes two
        return max(1, round(width * spare[0])), max(1, round(height * spare[1]))


class Shuffled(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) in an order that seed and epoch decide; upright and lying inputs go apart.

    A batch is as large as its largest sides: a mixed one would be a square with a quarter of it empty. What is left
    over of both kinds shares a batch.

    Args:
        part: (which, of how many) processes that share the batches; each gets as many.
        whole: the last batch has as many photos as the others: some of the epoch's first once more.
    """

    def __init__(
        self, upright: Sequence[bool], batch_size: int, seed: int, part: tuple[int, int] = (0, 1), whole: bool = False
    ) -> None:
        self.upright = upright
        self.whole = whole
        self.batch_size = batch_size
        self.seed = seed
        self.part = part
        self.epoch = 0

    def __len__(self) -> int:
        return math.ceil(math.ceil(len(self.upright) / self.batch_size) / self.part[1])

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        draw = random.Random(hash((self.seed, self.epoch)))
        order = list(range(len(self.upright)))
        draw.shuffle(order)
        batches, rest = [], []
        for upright in (True, False):
            alike = [i for i in order if self.upright[i] is upright]
            whole = len(alike) // self.batch_size * self.batch_size
            batches += [alike[i : i + self.batch_size] for i in range(0, whole, self.batch_size)]
            rest += alike[whole:]
        if self.whole:
            rest += itertools.islice(itertools.cycle(order), -len(rest) % self.batch_size)
        batches += [rest[i : i + self.batch_size] for i in range(0, len(rest), self.batch_size)]
        draw.shuffle(batches)
        number, processes = self.part
        mine = [batches[i % len(batches)] for i in range(number, len(self) * processes, processes)]
        return iter([[(self.epoch, i) for i in batch] for batch in mine])


def training_loader(
    photos: Sequence[Photo],
    preprocessing: Preprocessing,
    augmentation: Augmentation | None,
    batch_size: int,
    workers: int,
    seed: int,
    part: tuple[int, int] = (0, 1),
    cache: Literal["memory", "disk", "none"] = "memory",
    masks: bool = False,
    search: SelectiveSearch | None = None,
    whole: bool = False,
    pinned: bool = False,
) -> DataLoader[Item]:
    """One epoch's batches each time it is iterated over; say which by `loader.batch_sampler.epoch`.

    Args:
        cache: where decoded photos are kept from one epoch to the next; on the disk from one run to the next, too.
        masks: targets have masks, from the photos' outlines.
        search: batches have proposals that are found so.
        whole: all batches have as many photos, some of them twice.
        pinned: batches lie where a CUDA GPU fetches them from without the CPU waiting for it.

    Raises:
        FoodboxError: the disk has not enough room for them.
    """
    items = PreparedPhotos(photos, preprocessing, augmentation, seed, masks, search)
    if cache == "disk":
        items.cache = DiskCache(photos, items.sizes, items.antialias)
    elif cache == "memory" and workers:
        items.cache = SharedCache(items.sizes, KEPT_BYTES)
    else:
        items.cache = MemoryCache(KEPT_BYTES if cache == "memory" else 0)
    return PhotoLoader(items, Shuffled(items.upright, batch_size, seed, part, whole), workers, pinned)


def photo_loader(
    photos: Sequence[Photo],
    preprocessing: Preprocessing,
    batch_size: int,
    workers: int,
    search: SelectiveSearch | None = None,
    pinned: bool = False,
    keep: bool = False,
) -> DataLoader[Item]:
    """The photos unchanged and nearly in their order: in that of `loader.batch_sampler`, see `apart`.

    `search` and `pinned` are as `training_loader` has them; `keep` keeps decoded photos for the next time through.
    """
    items = PreparedPhotos(photos, preprocessing, None, search=search)
    order = [[(0, i) for i in batch] for batch in apart(photos, preprocessing, batch_size)]
    items.cache = SharedCache(items.sizes, KEPT_BYTES) if keep and workers else MemoryCache(KEPT_BYTES if keep else 0)
    return PhotoLoader(items, order, workers, pinned)


def apart(photos: Sequence[Photo], preprocessing: Preprocessing, batch_size: int) -> list[list[int]]:
    """Batches of photos by their numbers, each of one shape of input.

    Padding reaches into the outputs: beside a higher photo a photo's scores differ by some hundredths. So they are the
    same whatever else is detected on. A photo whose batch has not filled up after PATIENCE more waits no longer.
    """
    batches: list[list[int]] = []
    waiting: dict[tuple[int, int], list[int]] = {}
    for i, photo in enumerate(photos):
        waiting.setdefault(preprocessing.shape(photo.width, photo.height), []).append(i)
        ripe = [key for key, alike in waiting.items() if len(alike) == batch_size or i - alike[0] >= PATIENCE]
        batches += map(waiting.pop, ripe)
    return batches + sorted(waiting.values())


class PhotoLoader(DataLoader[Item]):
    """A DataLoader of prepared photos, which raises the fault of one that could not be opened.

    Args:
        batches: of (epoch, index).
        pinned: see `training_loader`.
    """

    def __init__(
        self, photos: PreparedPhotos, batches: Iterable[list[tuple[int, int]]], workers: int, pinned: bool = False
    ) -> None:
        workers = workers and with_room(workers, photos, batches)
        super().__init__(
            photos,
            batch_sampler=batches,  # type: ignore[arg-type]
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pinned,
            collate_fn=partial(_together, Collate(photos.preprocessing)),
            generator=torch.Generator(),  # its own: losses draw from torch's, with workers as without
        )

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            if isinstance(batch, FoodboxError):
                raise batch
            yield batch


def _together(collate: Collate, items: Sequence[Item | FoodboxError]) -> Batch | FoodboxError:
    fault = next((item for item in items if isinstance(item, FoodboxError)), None)
    return fault or collate(items)  # type: ignore[arg-type]


class Collate:
    """Puts prepared photos into one batch, padded right and below with the preprocessing's ground."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def __call__(self, items: Sequence[Item]) -> Batch:
        """B photos uint8 [3, h, w] → images [B, 3, H, W], H and W the least multiples that hold all of them."""
        pixels, targets, frames, *regions = zip(*items, strict=True)
        height, width = (self.preprocessing.padded(max(p.shape[d] for p in pixels)) for d in (1, 2))
        ground = torch.tensor(self.preprocessing.ground).round().to(pixels[0].dtype).view(1, 3, 1, 1)
        images = ground.repeat(len(pixels), 1, height, width)
        for image, photo in zip(images, pixels, strict=True):
            image[:, : photo.shape[1], : photo.shape[2]] = photo
        found = pad_sequence(list(regions[0]), batch_first=True) if regions else None  # [B, R, 4]
        return Batch(images, list(targets), list(frames), found)
