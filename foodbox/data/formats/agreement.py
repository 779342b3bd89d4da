"""Whether two readings of the same photos say the same, as the labels of a folder in two formats should."""

from __future__ import annotations

import torch

from foodbox.records import Dataset

APART = 1.0
"""Pixels that corners may differ by: some formats round."""


def agree(one: Dataset, other: Dataset) -> bool:
    """Whether two readings have the same boxes of the same classes on the same photos, whatever their order."""
    theirs = {photo.path: photo for photo in other}
    if theirs.keys() != {photo.path for photo in one}:
        return False
    place = {name: i for i, name in enumerate(one.names)}
    moved = torch.tensor([place.get(name, -1) for name in other.names], dtype=torch.int64)
    for mine in one:
        same = theirs[mine.path]
        if len(mine.boxes) != len(same.boxes):
            return False
        if len(mine.boxes):
            apart = torch.cdist(mine.boxes, same.boxes, p=torch.inf)
            differ = (mine.labels[:, None] != moved[same.labels]) | (mine.ignore[:, None] != same.ignore)
            apart[differ] = torch.inf
            if max(apart.amin(0).max(), apart.amin(1).max()) > APART:
                return False
    return True
