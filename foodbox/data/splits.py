"""Samples, splits and classes: the same photos for the same seed, on every machine."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch

from foodbox.data.duplicates import groups
from foodbox.errors import UsageError
from foodbox.records import Dataset, Photo

Item = TypeVar("Item")


def to_train_on(dataset: Dataset) -> Dataset:
    """The part "train" where labels or folders name one, else what they name neither "valid" nor "test".

    A folder of validation or test photos alone was chosen by the person, and is trained on; a stray photo beside them
    that nobody labelled makes it no other folder.
    """
    there = {photo.part for photo in dataset if photo.labelled or photo.part}
    part = "train" if "train" in there else ""
    return dataset.with_photos([photo for photo in dataset if photo.part == part]) if part in there else dataset


def sample(dataset: Dataset, count: int, seed: int) -> Dataset:
    """`count` photos drawn by `seed`, of each class its share, in the order of their paths; or all there are."""
    photos = sorted(dataset.photos, key=lambda photo: photo.path)
    if count < len(photos):
        photos = _draw([[photo] for photo in photos], count, seed)
    return dataset.with_photos(photos)


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of them, from all over, in their order: each is the middle one of an equal part of them."""
    count = min(most, len(items))
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


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
    chosen = {photo.path for photo in _draw(units, max(wanted, min(map(len, units))), seed)}
    parts = [[unit for unit in units if (unit[0].path in chosen) is apart] for apart in (False, True)]
    for part, other in (parts, parts[::-1]):
        _give_a_box(part, other, random.Random(seed))
    rest, apart = (sorted(itertools.chain(*part), key=lambda photo: photo.path) for part in parts)
    return dataset.with_photos(rest), dataset.with_photos(apart)


def _give_a_box(part: list[list[Photo]], other: list[list[Photo]], dice: random.Random) -> None:
    """Exchanges a unit for one with a box that counts, where a part has none and the other has several."""
    boxed = [i for i, unit in enumerate(other) if any(not photo.ignore.all() for photo in unit)]
    if len(boxed) > 1 and all(photo.ignore.all() for unit in part for photo in unit):
        given = other.pop(dice.choice(boxed))
        other.append(part.pop(dice.randrange(len(part))))
        part.append(given)


def _alike(photos: Sequence[Photo]) -> list[list[Photo]]:
    """The photos in groups that stay together."""
    known = [photo for photo in photos if photo.hash is not None]
    units: dict[int, list[Photo]] = defaultdict(list)
    for photo, group in zip(known, groups(np.array([photo.hash for photo in known], np.int64)).tolist(), strict=True):
        units[group].append(photo)
    return [*units.values(), *([photo] for photo in photos if photo.hash is None)]


def _draw(units: Sequence[list[Photo]], count: int, seed: int) -> list[Photo]:
    """Draws `count` photos, unit by unit, so that every class has its share of them.

    Those with the rarest classes are looked at first, as in iterative stratification (Sechidis, Tsoumakas and Vlahavas,
    ECML PKDD 2011). That would leave too few photos for the frequent classes where many rare ones are rounded up; so a
    unit is drawn if that brings the numbers of photos and of each class nearer to their share of what was looked at.

    Returns:
        The photos in the order of their paths; fewer than `count` where whole units do not add up to it.
    """
    shuffled = list(units)
    random.Random(seed).shuffle(shuffled)
    counts = [_counts(unit) for unit in shuffled]
    frequency: Counter[int] = Counter()
    for counted in counts:
        frequency.update(counted)
    lacking = dict.fromkeys(frequency, 0.0)  # kind → how many more should have been drawn of those looked at so far
    free, drawn = count, set()

    def gain(i: int) -> float:
        """By how much the sum of the squares of `lacking` falls where this unit is drawn."""
        return sum(number * (2 * lacking[kind] - number) for kind, number in counts[i].items())

    def draw(i: int) -> None:
        nonlocal free
        drawn.add(i)
        free -= len(shuffled[i])
        for kind, number in counts[i].items():
            lacking[kind] -= number

    share = count / max(frequency[ALL], 1)
    for i in sorted(range(len(shuffled)), key=lambda i: min((frequency[kind], kind) for kind in counts[i])):
        for kind, number in counts[i].items():
            lacking[kind] += number * share
        if len(shuffled[i]) <= free and gain(i) > 0:
            draw(i)
    # What is left open is a photo or two, or what no whole unit fits into.
    while fitting := [i for i in range(len(shuffled)) if i not in drawn and len(shuffled[i]) <= free]:
        draw(max(fitting, key=gain))
    return sorted((photo for i in drawn for photo in shuffled[i]), key=lambda photo: photo.path)


ALL, NONE = -2, -1
"""Kinds of photos besides the classes: every photo, and those that show nothing."""


def _counts(unit: Sequence[Photo]) -> Counter[int]:
    """How many photos of each kind."""
    return Counter(kind for photo in unit for kind in (ALL, *sorted(set(photo.labels.tolist()) or {NONE})))


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
