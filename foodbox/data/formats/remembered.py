"""A folder as it was read, kept between runs: whether one of 80,000 files has changed is sooner asked than read again.

One .safetensors file a folder in the user's cache folder. Its name is a digest over all files' paths, sizes and times,
and over the code that reads, so that what was read otherwise is not taken for the same.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from foodbox.data.formats.common import ignored, portions
from foodbox.data.listing import Listing
from foodbox.errors import FoodboxError
from foodbox.files import cache_folder, write_whole
from foodbox.findings import Finding, Source
from foodbox.records import Dataset, Photo

WORTH_IT = 500
"""Photos from which it is kept: fewer are read in no time."""
KEPT = 20
"""Folders that are kept, the latest."""
ELSEWHERE = ("missing folder", "class names above", "no class names")
"""Kinds of findings on what lies, or is missed, outside the folder."""


def recall(listing: Listing, format: str, whole: bool) -> tuple[Dataset, list[Finding]] | None:
    """What `remember` kept of this very folder, or None."""
    if len(listing.photos) < WORTH_IT:
        return None
    file = _file(listing, format, whole=True)  # what was looked at whole is known from its head, too
    if not whole and not file.exists():
        file = _file(listing, format, whole=False)
    try:
        with safe_open(file, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
            words = json.loads(stored.metadata()["words"])
        found = _dataset(tensors, words, listing), [_finding(*values) for values in words["findings"]]
        file.touch()
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError):
        return None  # not there, or damaged
    return found


def remember(listing: Listing, format: str, whole: bool, dataset: Dataset, findings: Sequence[Finding]) -> None:
    """Keeps what was read, where it depends on nothing but the folder's own files.

    With an error it may: on a photo that is looked for elsewhere, or on a package that opens it. And a folder that is
    missing elsewhere may come back, or names of classes be changed there.
    """
    if len(listing.photos) < WORTH_IT or any(f.harm == "error" or f.kind in ELSEWHERE for f in findings):
        return
    if not all(photo.path in listing for photo in dataset):
        return
    words, tensors = _taken_apart(dataset)
    words["findings"] = [
        [str(f.source.path), f.source.line, f.what, f.todo, f.harm, f.photo and str(f.photo), f.kind, f.mend, f.box]
        for f in findings
    ]
    with suppress(FoodboxError, OSError):  # a full disk: it only saves time
        write_whole(_file(listing, format, whole), save(tensors, {"words": json.dumps(words)}))
        _forget_old()


def _file(listing: Listing, format: str, whole: bool) -> Path:
    about = [format, whole, os.path.abspath(listing.root), str(listing.label), _code()]  # noqa: PTH100 - no disk asked
    digest = hashlib.sha256(json.dumps(about).encode() + listing.digest()).hexdigest()
    return cache_folder() / "labels" / f"{digest[:32]}.safetensors"


@functools.cache
def _code() -> str:
    """A digest of all code that reads, in formats/ and beside it: another version may read the same files otherwise."""
    files = sorted(Path(__file__).parent.parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _forget_old() -> None:
    files = sorted((cache_folder() / "labels").glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
    for file in files[:-KEPT]:
        file.unlink(missing_ok=True)


def _taken_apart(dataset: Dataset) -> tuple[dict[str, Any], dict[str, Tensor]]:
    photos = dataset.photos
    sources = [source for photo in photos for source in photo.sources]
    files = {file: i for i, file in enumerate(dict.fromkeys(str(source.path) for source in sources))}
    outlines = [polygons for photo in photos for polygons in photo.masks or [[]] * len(photo.boxes)]
    points = [polygon for polygons in outlines for polygon in polygons]
    words = {
        "names": dataset.names,
        "paths": [str(photo.path) for photo in photos],
        "parts": [photo.part for photo in photos],
        "kinds": [photo.kind for photo in photos],
        "files": list(files),
    }
    tensors = {
        "sizes": torch.tensor([[photo.width, photo.height] for photo in photos], dtype=torch.int32).reshape(-1, 2),
        "labelled": torch.tensor([photo.labelled for photo in photos], dtype=torch.bool),
        "hashed": torch.tensor([photo.hash is not None for photo in photos], dtype=torch.bool),
        "hashes": torch.tensor([photo.hash or 0 for photo in photos], dtype=torch.int64),
        "masked": torch.tensor([photo.masks is not None for photo in photos], dtype=torch.bool),
        "counts": torch.tensor([len(photo.boxes) for photo in photos], dtype=torch.int32),
        "boxes": torch.cat([photo.boxes for photo in photos]),
        "labels": torch.cat([photo.labels for photo in photos]),
        "ignore": torch.cat([photo.ignore for photo in photos]),
        "file": torch.tensor([files[str(source.path)] for source in sources], dtype=torch.int32),
        "line": torch.tensor([source.line or 0 for source in sources], dtype=torch.int32),
        "outlines": torch.tensor([len(polygons) for polygons in outlines], dtype=torch.int32),
        "corners": torch.tensor([len(polygon) for polygon in points], dtype=torch.int32),
        "points": torch.cat([*points, torch.zeros((0, 2))]),
    }
    return words, tensors


def _dataset(tensors: dict[str, Tensor], words: dict[str, Any], listing: Listing) -> Dataset:
    paths = {str(path): path for path in listing.photos}
    counts = tensors["counts"].tolist()
    files = words["files"]
    sources = [
        Source(files[file], line or None)
        for file, line in zip(tensors["file"].tolist(), tensors["line"].tolist(), strict=True)
    ]
    polygons = list(torch.split(tensors["points"], tensors["corners"].tolist()))
    outlines = list(portions(polygons, tensors["outlines"].tolist()))
    photos = [
        Photo(
            paths[path], width, height, boxes, labels, own if masked else None, ignore, told, labelled, part, kind,
            hash if hashed else None,
        )
        for path, (width, height), boxes, labels, own, masked, ignore, told, labelled, part, kind, hash, hashed in zip(
            words["paths"],
            tensors["sizes"].tolist(),
            torch.split(tensors["boxes"], counts),
            torch.split(tensors["labels"], counts),
            portions(outlines, counts),
            tensors["masked"].tolist(),
            ignored(tensors["ignore"].tolist(), counts),
            portions(sources, counts),
            tensors["labelled"].tolist(),
            words["parts"],
            words["kinds"],
            tensors["hashes"].tolist(),
            tensors["hashed"].tolist(),
            strict=True,
        )
    ]  # fmt: skip
    return Dataset(photos, words["names"])


def _finding(file: str, line: int | None, what: str, todo: str, harm: Any, photo: str | None, *rest: Any) -> Finding:
    return Finding(Source(file, line), what, todo, harm, photo and Path(photo), *rest)  # type: ignore[arg-type]
