"""Samples, splits and classes: the same photos for the same seed, on every machine."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

import torch

from foodbox.errors import UsageError
from foodbox.records import Dataset


def sample(dataset: Dataset, count: int, seed: int) -> Dataset:
    """`count` photos drawn by `seed`, in the order of their paths; all of them where there are no more."""
    photos = sorted(dataset.photos, key=lambda photo: photo.path)
    if count < len(photos):
        photos = sorted(random.Random(seed).sample(photos, count), key=lambda photo: photo.path)
    return dataset.with_photos(photos)


def split(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Sets a share of the photos apart, at least one: (the rest, the share).

    Raises:
        UsageError: there are fewer than two photos.
    """
    if len(dataset) < 2:
        raise UsageError(
            f"{len(dataset)} photo is too few to set some apart for validation: "
            "add photos, or name others with --valid."
        )
    apart = sample(dataset, min(max(1, round(share * len(dataset))), len(dataset) - 1), seed)
    chosen = {photo.path for photo in apart}
    return dataset.with_photos([photo for photo in dataset if photo.path not in chosen]), apart


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
