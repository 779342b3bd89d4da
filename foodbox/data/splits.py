"""Samples, splits and classes: the same photos for the same seed, on every machine."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from foodbox.data.duplicates import groups
from foodbox.errors import UsageError
from foodbox.records import Dataset, Photo


def sample(dataset: Dataset, count: int, seed: int) -> Dataset:
    """`count` photos drawn by `seed`, of each class its share, in the order of their paths; or all there are."""
    photos = sorted(dataset.photos, key=lambda photo: photo.path)
    if count < len(photos):
        photos = _draw([[photo] for photo in photos], count, seed)
    return dataset.with_photos(photos)


def split(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Sets a share of the photos apart, at least one, of each class its share: (the rest, the share).

    Photos that look alike stay on one side, where their hashes are known: what is validated on must not have been seen.

    Raises:
        UsageError: there are fewer than two photos, or all look alike.
    """
    photos = sorted(dataset.photos, key=lambda photo: photo.path)
    units = _alike(photos)
    if len(units) < 2:
        what = f"{len(photos)} photo is" if len(photos) == 1 else f"{len(photos)} photos that all look alike are"
        raise UsageError(f"{what} too few to set some apart for validation: add photos, or name others with --valid.")
    wanted = min(max(1, round(share * len(photos))), len(photos) - 1)
    # At least one, even where the smallest group of look-alikes is larger than what was asked for.
    apart = _draw(units, max(wanted, min(map(len, units))), seed)
    chosen = {photo.path for photo in apart}
    return dataset.with_photos([photo for photo in photos if photo.path not in chosen]), dataset.with_photos(apart)


def _alike(photos: Sequence[Photo]) -> list[list[Photo]]:
    """The photos in groups that stay together."""
    known = [photo for photo in photos if photo.hash is not None]
    units: dict[int, list[Photo]] = defaultdict(list)
    for photo, group in zip(known, groups(np.array([photo.hash for photo in known], np.int64)).tolist(), strict=True):
        units[group].append(photo)
    return [*units.values(), *([photo] for photo in photos if photo.hash is None)]


def _draw(units: Sequence[list[Photo]], count: int, seed: int) -> list[Photo]:
    """Draws `count` photos, unit by unit, so that every class has its share of them.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011) for two parts: the rarest class is dealt
    out first, while there is still a choice.

    Returns:
        The photos in the order of their paths; fewer than `count` where whole units do not add up to it.
    """
    total = sum(map(len, units))
    shuffled = list(units)
    random.Random(seed).shuffle(shuffled)
    classes = [Counter(label for photo in unit for label in _classes(photo)) for unit in shuffled]
    having: dict[int, list[int]] = defaultdict(list)  # class → the units that have it
    for i, counts in enumerate(classes):
        for label in counts:
            having[label].append(i)
    wanted = {label: sum(classes[i][label] for i in mine) * count / total for label, mine in having.items()}
    free, dealt, drawn = count, set(), set()

    def draw(i: int) -> None:
        nonlocal free
        if len(shuffled[i]) <= free:
            drawn.add(i)
            free -= len(shuffled[i])
            for label, number in classes[i].items():
                wanted[label] -= number

    for label in sorted(having, key=lambda label: (len(having[label]), label)):
        for i in having[label]:
            if i not in dealt and wanted[label] >= 0.5:
                draw(i)
        dealt.update(having[label])
    for i in range(len(shuffled)):  # what rounding left open
        if i not in drawn:
            draw(i)
    return sorted((photo for i in drawn for photo in shuffled[i]), key=lambda photo: photo.path)


def _classes(photo: Photo) -> set[int]:
    """The classes on a photo; a photo that shows nothing is of a kind of its own."""
    return set(photo.labels.tolist()) or {-1}


def one_class(dataset: Dataset, name: str) -> Dataset:
    """Every box as the one class `name`."""
    photos = [dataclasses.replace(photo, labels=torch.zeros_like(photo.labels)) for photo in dataset]
    return Dataset(photos, [name], dataset.format)


def with_names(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The same boxes with labels into `names`, which must hold every class that has a box.

    Raises:
        UsageError: a class with boxes is not in `names`.
    """
    used = {dataset.names[label] for photo in dataset for label in photo.labels.tolist()}
    if unknown := sorted(used - set(names)):
        raise UsageError(f"The classes {', '.join(unknown)} are not among {', '.join(names)}.")
    place = torch.tensor([names.index(name) if name in names else -1 for name in dataset.names], dtype=torch.int64)
    photos = [dataclasses.replace(photo, labels=place[photo.labels]) for photo in dataset]
    return Dataset(photos, list(names), dataset.format)
