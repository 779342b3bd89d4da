"""Batches: photos opened, prepared, changed at random where wanted, and put together."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from foodbox.data.augment import Augmentation
from foodbox.data.images import open_photo, prepare, resize
from foodbox.records import Batch, Frame, Photo, Preprocessing, Target

# Cutting out a part and enlarging it needs more pixels than the network sees. Photos are kept at this many times the
# network's size: enough for the largest usual zoom.
SPARE = 1.3
# Bytes of prepared photos that a loader keeps, its workers together, so that each is decoded once, not once an epoch.
KEPT_BYTES = 2**30

# Photos that detection takes at once. Scores during training and later are of the same batches: padding reaches into
# the outputs a little, so that other batches would give slightly other numbers.
PHOTOS_AT_ONCE = 8

Item = tuple[Tensor, Target, Frame]


class PreparedPhotos(TorchDataset[Item]):
    """Photos as the network sees them, asked for by (epoch, index): each epoch's changes have their own seed."""

    def __init__(
        self, photos: Sequence[Photo], preprocessing: Preprocessing, augmentation: Augmentation | None, seed: int = 0
    ) -> None:
        self.photos = photos
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.seed = seed
        self._kept: dict[int, Tensor] = {}
        self._kept_bytes = 0
        self.keep_bytes = KEPT_BYTES

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, index = key
        photo = self.photos[index]
        size = self.preprocessing.resized(photo.width, photo.height)
        frame = Frame(photo.width, photo.height, *size, photo.path)
        counted = ~photo.ignore
        boxes, labels = photo.boxes[counted], photo.labels[counted]
        pixels = self._pixels(index, photo, size)
        if self.augmentation is None:
            return pixels, Target(frame.to_input(boxes), labels), frame
        scale = boxes.new_tensor([pixels.shape[-1] / photo.width, pixels.shape[-2] / photo.height] * 2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash((self.seed, epoch, index)))
            pixels, boxes, labels = self.augmentation(pixels, boxes * scale, labels, size, fill(self.preprocessing))
        return pixels, Target(boxes, labels), frame

    def _pixels(self, index: int, photo: Photo, size: tuple[int, int]) -> Tensor:
        """uint8 [3, h, w]: at the network's size, or larger by SPARE where augmentation will cut."""
        if index in self._kept:
            return self._kept[index]
        spare = SPARE if self.augmentation else 1.0
        image = open_photo(photo.path, at_least=math.ceil(max(size) * spare))
        if self.augmentation is None:
            pixels, _ = prepare(image, self.preprocessing, photo.path, (photo.width, photo.height))
        else:
            shrink = min(spare, photo.width / size[0])
            pixels = resize(image, (max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))))
        if self._kept_bytes + pixels.nbytes <= self.keep_bytes:
            self._kept[index] = pixels
            self._kept_bytes += pixels.nbytes
        return pixels


class Shuffled(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) in an order that seed and epoch decide; upright and lying photos go apart.

    A batch is as large as its largest sides: a mixed one would be a square with a quarter of it empty. What is left
    over of both kinds shares a batch.

    Args:
        part: (which, of how many) processes that share the batches; each gets as many.
    """

    def __init__(self, photos: Sequence[Photo], batch_size: int, seed: int, part: tuple[int, int] = (0, 1)) -> None:
        self.upright = [photo.height > photo.width for photo in photos]
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
) -> DataLoader[Item]:
    """One epoch's batches each time it is iterated over; say which by `loader.batch_sampler.epoch`."""
    items = PreparedPhotos(photos, preprocessing, augmentation, seed)
    return _loader(items, Shuffled(photos, batch_size, seed, part), workers)


def photo_loader(
    photos: Sequence[Photo], preprocessing: Preprocessing, batch_size: int, workers: int
) -> DataLoader[Item]:
    """The photos unchanged and in their order."""
    order = [
        [(0, i) for i in range(start, min(start + batch_size, len(photos)))]
        for start in range(0, len(photos), batch_size)
    ]
    return _loader(PreparedPhotos(photos, preprocessing, None), order, workers)


def _loader(
    items: PreparedPhotos, batches: Sampler[list[tuple[int, int]]] | list[list[tuple[int, int]]], workers: int
) -> DataLoader[Item]:
    items.keep_bytes = KEPT_BYTES // max(1, workers)
    return DataLoader(
        items,
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=Collate(items.preprocessing),
    )


class Collate:
    """Puts prepared photos into one batch, padded right and below with the preprocessing's mean colour."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def __call__(self, items: Sequence[Item]) -> Batch:
        """B photos uint8 [3, h, w] → images [B, 3, H, W], H and W the least multiples that hold all of them."""
        pixels, targets, frames = zip(*items, strict=True)
        multiple = self.preprocessing.multiple
        height, width = (math.ceil(max(p.shape[d] for p in pixels) / multiple) * multiple for d in (1, 2))
        ground = torch.tensor(fill(self.preprocessing)).round().to(pixels[0].dtype).view(1, 3, 1, 1)
        images = ground.repeat(len(pixels), 1, height, width)
        for image, photo in zip(images, pixels, strict=True):
            image[:, : photo.shape[1], : photo.shape[2]] = photo
        return Batch(images, list(targets), list(frames))


def fill(preprocessing: Preprocessing) -> list[float]:
    """The mean colour that padding has, 0 to 255: it becomes 0 in the network."""
    return [255 * value for value in preprocessing.mean]
