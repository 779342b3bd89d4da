"""What all formats share: labels as they were read, which become photos with checked boxes in the one convention."""

from __future__ import annotations

import codecs
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from foodbox.console import progress_bar
from foodbox.data.facts import Facts, look
from foodbox.data.images import ENDINGS
from foodbox.data.turns import turn_boxes, turn_points
from foodbox.files import cannot_write, free_name, make_folder, readable
from foodbox.findings import BROKEN, LEFT_OUT, REMOVED, Finding, Source
from foodbox.masks import Polygon
from foodbox.records import Dataset, Photo, counted

OVERHANG = 0.01
"""How far a box may stick out of its photo, as a share of the side, before it is an error: rounding and counting from 1
make a pixel or two; more means that the box is another photo's or in another unit."""
ROUNDING = 0.05
"""Pixels that a box may stick out without a word: what x + width, or a share of five decimals, leaves at the border."""
WORTH_CUTTING = 0.5
"""A box that sticks out further is cut off by mending if this share of it lies inside. Else it is of another photo."""
PIXELS = 2.0
"""A coordinate above cannot be a share of a side, however far the box sticks out."""
ONE_CLASS = "they become one"
"""What mending does where two classes have one name."""

PART_WORDS = {
    "train": "train", "training": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test",
    "testing": "test",
}  # fmt: skip
"""Words in the names of label files and folders, and the part that photos belong to there."""

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""What a text of PowerShell's, or of Excel's "Unicode text", begins with."""

Array = np.ndarray[Any, np.dtype[Any]]
Item = TypeVar("Item")


@dataclass(slots=True)
class RawBox:
    """A box as it stands in a label file.

    Attributes:
        corners: x1 y1 x2 y2, finite numbers.
        label: the class's name.
        source: where it stands.
        ignore: neither trained on nor counted (VOC "difficult", COCO "iscrowd").
        polygons: outlines of the object, each x y x y ..., at least three points, or None.
    """

    corners: tuple[float, float, float, float]
    label: str
    source: Source
    ignore: bool = False
    polygons: list[list[float]] | None = None


@dataclass(slots=True)
class RawPhoto:
    """A photo and what a label file says of it.

    Attributes:
        path: the photo's file, which is there.
        boxes: all that could be read.
        labelled: whether anything says what is on it, be it nothing.
        stored_size: width and height that the label file gives; where they are the pixels' before their EXIF turn, the
            boxes are turned with them.
        fractions: coordinates are shares of width and height instead of pixels.
        part: "train", "valid" or "test" where the labels say so, or the folders.
    """

    path: Path
    boxes: list[RawBox] = field(default_factory=list)
    labelled: bool = True
    stored_size: tuple[int, int] | None = None
    fractions: bool = False
    part: str = ""


@dataclass
class Labels:
    """What a format's reader gives; it has opened no photo.

    Attributes:
        photos: each once.
        findings: faults of the label files. A photo that one of harm "error" names is not trained on.
        names: the classes in the format's own order, or None: those that boxes have, by the alphabet.
    """

    photos: list[RawPhoto] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    names: list[str] | None = None


def part_of_file(file: Path, root: Path) -> str:
    """The part that a label file's name tells, else one of its folders', the innermost first: val2017 is "valid".

    "" where none tells one, or a name tells two.
    """
    return next(filter(None, map(part_of_name, (file.stem, *reversed(_below(root, file.parent))))), "")


def part_of_name(name: str) -> str:
    """The part that the words of a name tell."""
    told = {PART_WORDS[word] for word in re.findall("[a-z]+", name.lower()) if word in PART_WORDS}
    return told.pop() if len(told) == 1 else ""


def part_by_folders(photos: Sequence[RawPhoto], root: Path) -> None:
    """Photos below folders such as train/, valid/ and test/ get these parts, where the labels name none.

    Only where there is a part to train on and another: a folder "test" alone may hold anything.
    """
    if any(photo.part for photo in photos):
        return
    folders = {photo.path.parent for photo in photos}
    parts = {folder: _part_of_folder(folder, root) for folder in folders}
    if "train" in parts.values() and len({*parts.values()} - {""}) > 1:
        for photo in photos:
            photo.part = parts[photo.path.parent]


def _part_of_folder(folder: Path, root: Path) -> str:
    """A folder that is called just so says it; else the innermost one with such a word, as test_set/."""
    names = [name.lower() for name in _below(root, folder)]
    plain = (PART_WORDS[name] for name in names if name in PART_WORDS)
    return next(plain, "") or next(filter(None, map(part_of_name, reversed(names))), "")


def _below(root: Path, folder: Path) -> tuple[str, ...]:
    """The names of the folders from the root, which is left out, to this one; none where it lies elsewhere."""
    return folder.relative_to(root).parts if folder.is_relative_to(root) else ()


def assemble(labels: Labels, facts: Mapping[Path, Facts]) -> tuple[Dataset, list[Finding]]:
    """Photos with boxes in the one convention, and all that was found on the way.

    Boxes are in it as mending would leave them: cut off, or left out. That a box was at fault, an error says, and names
    its photo; who trains leaves those photos out.
    """
    findings = list(labels.findings)
    kept = []
    for raw in labels.photos:
        if fault := facts[raw.path].fault:
            findings.append(broken(raw.path, fault))
        else:
            kept.append(raw)
    _see_shares(kept, findings)
    names = labels.names
    if names is None:
        names = sorted({box.label for raw in labels.photos for box in raw.boxes})
    place = {name: i for i, name in enumerate(names)}

    boxes = [box for raw in kept for box in raw.boxes]
    sides = np.array([facts[raw.path][:2] for raw in kept], np.float64).reshape(-1, 2)  # [P, 2]
    counts = np.array([len(raw.boxes) for raw in kept], np.int64)  # [P]
    owner = np.repeat(np.arange(len(kept)), counts)  # [N], the photo of each box
    corners = np.array([box.corners for box in boxes], np.float64).reshape(-1, 4)
    scale = np.where(np.array([raw.fractions for raw in kept], bool)[:, None], sides, 1.0)  # [P, 2]
    corners *= np.tile(scale[owner], 2)

    exchanged: Array = np.any(corners[:, 2:] < corners[:, :2], axis=1)
    corners = np.concatenate(
        (np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])), 1
    )
    turned = _turned(corners, kept, sides, counts, facts, findings)
    inside, gone = _cut_off(corners, exchanged, boxes, kept, sides, owner, findings)

    good = np.nonzero(~gone)[0]
    sizes = np.bincount(owner[good], minlength=len(kept)).tolist()
    parts = zip(
        kept,
        torch.split(torch.from_numpy(inside[good].astype(np.float32)), sizes),
        torch.split(torch.tensor([place[boxes[n].label] for n in good], dtype=torch.int64), sizes),
        ignored([boxes[n].ignore for n in good], sizes),
        portions([boxes[n] for n in good], sizes),
        strict=True,
    )
    photos = []
    for i, (raw, corner, label, ignore, own) in enumerate(parts):
        width, height, _, kind, _, look_alike = facts[raw.path]
        masks = None
        if any(box.polygons for box in own):
            masks = [_polygons(box, scale[i], sides[i], turned.get(i, 1)) for box in own]
        sources = [box.source for box in own]
        about = (raw.labelled, raw.part, kind, look_alike)
        photos.append(Photo(raw.path, width, height, corner, label, masks, ignore, sources, *about))
    return Dataset(sorted(photos, key=lambda photo: photo.path), names), findings


def _see_shares(photos: Sequence[RawPhoto], findings: list[Finding]) -> None:
    """Takes numbers of at most 1 for shares of width and height where more photos have such than larger ones.

    Who labels has one way for all photos. Azure's COCO files have shares, and tables of some programs. Whole numbers
    tell nothing: 0, 0, 1, 1 is the whole photo amid shares, else one pixel, by a slip or in place of no box.
    """
    pixels = [photo for photo in photos if photo.boxes and not photo.fractions]
    largest = [(photo, most) for photo in pixels if (most := _largest(photo)) > 0]  # 0, 0, 0, 0 is no box
    small = [photo for photo, most in largest if most <= 1 + OVERHANG]
    if not small:
        return
    told = sum(any(value % 1 for box in photo.boxes for value in box.corners) for photo in small)
    shares = told > len(largest) - len(small)
    for photo, most in largest:
        photo.fractions = shares and most <= PIXELS
    what = (
        f"no place and no side is above 1 in the boxes of {counted(len(small), 'photo')}, of which this is the first: "
        f"they were read as {'shares of width and height' if shares else 'pixels'}"
    )
    kind, source = "shares for pixels" if shares else "pixels or shares", small[0].boxes[0].source
    findings.append(Finding(source, what, "Look at the boxes", "warning", small[0].path, kind))


def _largest(photo: RawPhoto) -> float:
    """The largest of x, y, width and height of its boxes: a box of shares may stick out of its photo, too."""
    return max(max(x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in (box.corners for box in photo.boxes))


def _turned(
    corners: Array, kept: Sequence[RawPhoto], sides: Array, counts: Array, facts: Mapping[Path, Facts],
    findings: list[Finding],
) -> dict[int, int]:  # fmt: skip
    """Turns boxes that were drawn on the pixels before their EXIF turn, in place: photo → that turn."""
    ends = np.cumsum(counts)
    mine = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    told = {
        i: _before_turn(corners[mine[i]], raw, sides[i], turn)
        for i, raw in enumerate(kept)
        if (turn := facts[raw.path].turn) > 1
    }
    all_before = set(told.values()) - {None} == {True}  # who labels has one way for all photos
    turned = {}
    for i, raw in enumerate(kept):
        if i in told:
            turn = facts[raw.path].turn
            if all_before if told[i] is None and not raw.fractions else told[i]:
                turned[i] = turn
                before = torch.from_numpy(corners[mine[i]])
                corners[mine[i]] = turn_boxes(before, turn, *_stored(sides[i], turn)).numpy()
            how = "boxes are turned with the pixels" if i in turned else "boxes are taken as a person sees the photo"
            findings.append(_note(raw, f"EXIF orientation {turn}: {how}", "EXIF turn"))
    findings += _other_sizes(kept, sides, facts)
    return turned


def _cut_off(
    corners: Array, exchanged: Array, boxes: list[RawBox], kept: list[RawPhoto], sides: Array, owner: Array,
    findings: list[Finding],
) -> tuple[Array, Array]:  # fmt: skip
    """Boxes [N, 4] cut off at the border, and bool [N]: which are not worth that; with what is at fault in each.

    Args:
        exchanged: bool [N], whether the label had a box's corners the other way round.
        owner: int64 [N], the photo of each box.
    """
    limit = np.tile(sides[owner], 2)  # [N, 4]
    inside = np.clip(corners, 0, limit)
    over = (np.abs(inside - corners) / np.maximum(limit, 1)).max(1, initial=0)  # [N], as a share of the side
    area, left = _area(corners), _area(inside)
    empty = area <= 0
    outside = ~empty & ((over > OVERHANG) | (left <= 0))
    gone = empty | (outside & (left < WORTH_CUTTING * area))
    for n in np.nonzero(exchanged & ~empty)[0]:
        findings.append(_exchanged(boxes[n], kept[owner[n]]))
    left = np.bincount(owner[~gone], minlength=len(kept))  # [P], boxes that each photo keeps
    for n in np.nonzero(empty)[0]:
        findings.append(_empty(boxes[n], kept[owner[n]], bare=not left[owner[n]]))
    for n in np.nonzero(outside)[0]:
        findings.append(_outside(corners[n], boxes[n], kept[owner[n]], sides[owner[n]], bool(gone[n])))
    by = np.abs(inside - corners).max(1, initial=0)  # [N], in pixels
    for n in np.nonzero(~empty & ~outside & (by > ROUNDING))[0]:
        what = f"a box stuck out of the photo by {by[n]:.1f} pixels and was cut off"
        findings.append(_note(kept[owner[n]], what, "box cut off", boxes[n].source))
    return inside, gone


def broken(path: Path, fault: str) -> Finding:
    """The finding for a photo that cannot be opened: what `look` says of it."""
    return Finding(Source(path), fault, photo=path, kind=BROKEN, mend=LEFT_OUT)


def copy_photos(dataset: Dataset, folder: Path, reserved: Iterable[str] = ()) -> Iterator[tuple[Photo, Path]]:
    """Copies the photos into a folder, under names that are free there and endings that say what the files are.

    Args:
        reserved: names, without ending and in small letters, that none is to have.

    Yields:
        Each photo with its copy's path.

    Raises:
        FoodboxError: the place cannot be written to.
    """
    make_folder(folder)
    taken = set(reserved)
    facts = look([photo.path for photo in dataset])
    with progress_bar("copying photos", len(dataset)) as bar:
        for photo in dataset:
            name = free_name(readable(photo.path.stem), taken)
            target = folder / (name + right_ending(photo.path, facts[photo.path].kind))
            copy_file(photo.path, target)
            yield photo, target
            bar.advance()


def copy_file(path: Path, target: Path) -> None:
    """Copies a file, unless it is there already.

    Raises:
        FoodboxError: the place cannot be written to.
    """
    try:
        if path.resolve() != target.resolve():
            shutil.copyfile(path, target)
    except OSError as fault:
        raise cannot_write(target, fault) from fault


def could_be(source: Source, name: str, paths: Sequence[Path], todo: str) -> Finding:
    """The finding for a label that names several photos."""
    what = f"{name} could be {' or '.join(str(path) for path in paths[:3])}: expected one such photo"
    return bad_label(source, what, paths[0], todo)


def right_ending(path: Path, kind: str) -> str:
    """The ending that a photo's file should have: its own, unless that is another kind's.

    Args:
        kind: what the file is, in Pillow's word. A kind whose endings are no photo's here keeps the one it has.
    """
    known = {ending: name for ending, name in Image.registered_extensions().items() if ending in ENDINGS}
    own = known.get(path.suffix.lower())
    # MPO is a JPEG with further pictures behind it, as phones write it.
    if not kind or own == kind or {own, kind} == {"JPEG", "MPO"}:
        return path.suffix
    common = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "HEIF": ".heic"}
    return common.get(kind) or next((ending for ending, name in known.items() if name == kind), path.suffix)


def box_around(polygons: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    """The smallest box x1 y1 x2 y2 around outlines x y x y ..."""
    xs = [x for outline in polygons for x in outline[0::2]]
    ys = [y for outline in polygons for y in outline[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def plain(value: float) -> str:
    """A coordinate to a thousandth of a pixel, without noughts behind it."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def numbers(words: Sequence[str]) -> tuple[float, ...] | None:
    """The words as finite numbers, or None where one is not."""
    try:
        values = tuple(map(float, words))
    except ValueError:
        return None
    return values if all(map(math.isfinite, values)) else None


def read_text(path: Path | str, findings: list[Finding], photo: Path | None = None) -> str | None:
    """A label file's text: UTF-8, with or without its mark, UTF-16 with it, or Korean of older Windows (CP949).

    None, and an error among the findings, where the file cannot be read or is neither.
    """
    try:
        data = _bytes(path)
    except OSError as fault:
        findings.append(not_opened(path, fault, photo))
        return None
    for encoding in ("utf-16",) if data.startswith(UTF_16) else ("utf-8", "cp949"):
        try:
            return data.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
    what = "the file is no text in UTF-8, UTF-16 or CP949"
    findings.append(bad_label(Source(path), what, photo, "Save it as UTF-8 text"))
    return None


def read_json(path: Path, findings: list[Finding], photo: Path | None, todo: str) -> tuple[Any, str] | None:
    """What a label file of JSON holds, and its text. None, and an error among the findings, where it cannot be read.

    Args:
        photo: the one that the file is of, if any.
        todo: what to do about a file that is damaged.
    """
    if (text := read_text(path, findings, photo)) is None:
        return None
    try:
        return json.loads(text), text
    except json.JSONDecodeError as fault:
        source, why = Source(path, fault.lineno), f"{fault.msg}, column {fault.colno}"
    except (ValueError, RecursionError) as fault:  # a number of 5,000 digits, brackets within brackets
        source, why = Source(path), str(fault)
    findings.append(bad_label(source, f"the file is no whole JSON ({why})", photo, todo))
    return None


def first_text(path: Path) -> str:
    """The first lines of a file, whatever they are: what is no text is replaced."""
    found = first_bytes(path)
    return found.decode("utf-16" if found.startswith(UTF_16) else "utf-8-sig", "replace")


def as_ascii(head: bytes) -> bytes:
    """The first bytes of a text whose signs are ASCII, without its mark and the noughts of UTF-16."""
    if head.startswith(UTF_16):
        return head[2:].replace(b"\0", b"")
    return head.removeprefix(codecs.BOM_UTF8)


def first_bytes(path: Path, most: int = 1 << 16) -> bytes:
    """The bytes that a file begins with; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError:
        return b""


def _bytes(path: Path | str) -> bytes:
    """A file's bytes, in half the time that open() takes for the few of a label: there may be 40,000 of them."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        return b"".join(iter(lambda: os.read(descriptor, 2**20), b""))
    finally:
        os.close(descriptor)


def without_photo(source: Source, name: str) -> Finding:
    """The finding for a label whose photo is not there."""
    todo = "Bring the photo back or remove the label"
    return Finding(source, f"there is no photo {name}", todo, kind="label without photo", mend="the label is left out")


def bad_label(source: Source, what: str, photo: Path | None, todo: str = "Correct the line") -> Finding:
    """The finding for a line or entry that cannot be read as what the format says it is."""
    mend = LEFT_OUT if photo else "the entry is left out"
    return Finding(source, what, todo, photo=photo, kind="unreadable label", mend=mend)


def not_opened(path: Path | str, fault: OSError, photo: Path | None) -> Finding:
    """The finding for a label file that the disk does not give."""
    what = f"the file cannot be read ({fault.strerror})"
    return bad_label(Source(path), what, photo, "See that you may read it, or bring a copy")


def ignored(ignore: list[bool], sizes: list[int]) -> Sequence[torch.Tensor]:
    """A bool [N] for each photo. Where nothing is ignored, photos with as many boxes share one."""
    if any(ignore):
        parts: Sequence[torch.Tensor] = torch.split(torch.tensor(ignore, dtype=torch.bool), sizes)
        return parts
    shared = {size: torch.zeros(size, dtype=torch.bool) for size in set(sizes)}
    return [shared[size] for size in sizes]


def portions(items: list[Item], sizes: Sequence[int]) -> Iterator[list[Item]]:
    """The items of one photo after the other, of which each has so many."""
    start = 0
    for size in sizes:
        yield items[start : start + size]
        start += size


def _area(corners: Array) -> Array:
    # As photos have them: a side thinner than float32 can tell is none, and one of 1e39 pixels still a number.
    kept = corners.clip(-1e38, 1e38).astype(np.float32).astype(np.float64)
    result: Array = (kept[:, 2:] - kept[:, :2]).clip(0).prod(1)
    return result


def _before_turn(corners: Array, raw: RawPhoto, sides: Array, turn: int) -> bool | None:
    """Whether boxes [N, 4] were measured on the pixels before their EXIF turn; None where nothing tells.

    The label file's own size tells, where sides change places. Without one, boxes tell that fit one way only. Shares
    fit either way.
    """
    width, height = sides
    if turn < 5 or width == height or not len(corners) or raw.fractions:
        return None
    if raw.stored_size is not None and raw.stored_size != (0, 0):
        return raw.stored_size == (height, width)
    largest = sides * (1 + OVERHANG)  # what may stick out anyway says nothing
    as_seen, before = ((corners[:, 2:] <= room).all() for room in (largest, largest[::-1]))
    return None if as_seen == before else bool(before)


def _stored(sides: Array, turn: int) -> tuple[float, float]:
    """Width and height of the stored pixels of a photo that a person sees with these sides."""
    width, height = sides.tolist()
    return (height, width) if turn >= 5 else (width, height)


def _polygons(box: RawBox, scale: Array, sides: Array, turn: int) -> list[Polygon]:
    """A box's outlines in pixels of the photo as a person sees it, each float32 [P, 2]."""
    result = []
    for outline in box.polygons or []:
        points = np.array(outline, np.float64).reshape(-1, 2) * scale
        if turn > 1:
            points = turn_points(torch.from_numpy(points), turn, *_stored(sides, turn)).numpy()
        result.append(torch.from_numpy(np.minimum(np.maximum(points, 0), sides).astype(np.float32)))
    return result


def _other_sizes(photos: Sequence[RawPhoto], sides: Array, facts: Mapping[Path, Facts]) -> list[Finding]:
    """Warnings of labels whose size is neither their photo's as a person sees it nor that of its stored pixels.

    Some programs write height and width in each other's place, and do so in all labels: where some labels have them
    right, the photo of another was turned since.
    """
    findings, exchanged, some_right = [], [], False
    for photo, (width, height) in zip(photos, sides.astype(int).tolist(), strict=True):
        if photo.stored_size is None or min(photo.stored_size) <= 0:
            continue
        if photo.stored_size == (width, height):
            some_right |= width != height
        elif photo.stored_size != (height, width):
            findings.append(_size_differs(photo, width, height, "resized"))
        elif facts[photo.path].turn < 5:
            exchanged.append(_size_differs(photo, width, height, "turned"))
    return findings + exchanged * some_right


def _note(raw: RawPhoto, what: str, kind: str, source: Source | None = None) -> Finding:
    return Finding(source or Source(raw.path), what, harm="note", photo=raw.path, kind=kind)


def _size_differs(raw: RawPhoto, width: int, height: int, changed: str) -> Finding:
    wide, high = raw.stored_size or (0, 0)
    what = (
        f"the label says that the photo has {wide} x {high} pixels, and it has {width} x {height}: "
        f"if the photo was {changed} after it was labelled, its boxes are wrong"
    )
    source = raw.boxes[0].source if raw.boxes else Source(raw.path)
    return Finding(Source(source.path), what, "Look at the photo's boxes", "warning", raw.path, "other size in label")


def _exchanged(box: RawBox, raw: RawPhoto) -> Finding:
    what = f"the box {_shown(box.corners)} (x1, y1, x2, y2) has its corners exchanged: expected x2 > x1 and y2 > y1"
    return Finding(
        box.source, what, "Exchange them, or check in which order the numbers stand", "error", raw.path,
        "exchanged corners", "they are put right",
    )  # fmt: skip


def _empty(box: RawBox, raw: RawPhoto, bare: bool) -> Finding:
    what = f"the box {_shown(box.corners)} (x1, y1, x2, y2) has no area: expected x2 > x1 and y2 > y1"
    # Without a box, a photo would teach what this one was meant for as background.
    mend = LEFT_OUT if bare else REMOVED
    return Finding(box.source, what, "Draw it anew or remove it", "error", raw.path, "empty box", mend)


def _outside(corners: Array, box: RawBox, raw: RawPhoto, sides: Array, gone: bool) -> Finding:
    what = f"the box {_shown(corners)} (x1, y1, x2, y2) lies outside the photo of {sides[0]:g} x {sides[1]:g} pixels"
    todo = "Correct the numbers, or check that the label belongs to this photo"
    mend = LEFT_OUT if gone else "the box is cut off at the photo's border"
    return Finding(box.source, what, todo, "error", raw.path, "box outside the photo", mend)


def numbers_first(word: str) -> tuple[bool, int, str]:
    """A key to sort by: whole numbers by their size, then words."""
    number = int(word) if word.removeprefix("-").isdecimal() and len(word) < 20 else None
    return number is None, number or 0, word


def _shown(corners: Sequence[float] | Array) -> str:
    return ", ".join(f"{value:g}" for value in corners)
