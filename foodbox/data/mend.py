"""Puts right what the data doctor can put right, and says what it did."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from foodbox.data.check import merged_names, without_left_out
from foodbox.findings import REMOVED, Finding
from foodbox.records import Dataset

CARRIED_OVER = (
    "The labels were written anew: photos, boxes, classes, outlines (as polygons), crowd and difficult marks, and "
    "parts (train, valid, test), as far as the format holds them. Whatever else the label files had is not in this "
    "copy: points, keypoints, poses, attributes, flags, licences, and the like."
)
"""What stands in every list of changes."""


def mend(dataset: Dataset, findings: Sequence[Finding]) -> Dataset:
    """The photos without what the findings' `mend` says is removed, and each class under one name.

    Boxes that stuck out or had their corners exchanged were put right when they were read.
    """
    removed: dict[Path | None, set[int]] = defaultdict(set)
    for f in findings:
        if f.mend == REMOVED and f.box is not None:
            removed[f.photo].add(f.box)
    better = merged_names(dataset.names, dataset.class_counts())
    names = [name for name in dataset.names if name in better]
    place = torch.tensor([names.index(name) for name in better], dtype=torch.int64)
    photos = []
    for photo in without_left_out(dataset, findings):
        kept = torch.tensor([i not in removed[photo.path] for i in range(len(photo.boxes))], dtype=torch.bool)
        photo = photo.keep(kept)
        photos.append(dataclasses.replace(photo, labels=place[photo.labels]))
    return Dataset(photos, names, dataset.format)


def changes(findings: Sequence[Finding], lost: Sequence[str]) -> str:
    """What was mended and what was not, as a page of Markdown: one line a finding.

    Args:
        lost: sentences on what the format cannot hold.
    """
    done = [f"- {f.where}: {f.what}: **{f.mend}**" for f in findings if f.mend] + [f"- {words}" for words in lost]
    left = [f"- {f}" for f in findings if not f.mend and f.harm != "note"]
    page = ["# What was changed", "", *(done or ["Nothing."]), "", CARRIED_OVER]
    return "\n".join([*page, *(["", "# What was left as it is: look yourself", "", *left] if left else []), ""])
