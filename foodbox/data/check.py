"""The data doctor: what is wrong with the photos and their labels, found before training and all at once."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from foodbox.console import progress_bar
from foodbox.data.duplicates import NEAR, Ints, groups, nearest
from foodbox.data.facts import look
from foodbox.data.formats.common import broken, right_ending
from foodbox.data.splits import to_train_on
from foodbox.errors import FoodboxError
from foodbox.findings import LEFT_OUT, REMOVED, Finding, Source
from foodbox.garbage import without_collecting
from foodbox.masks import Polygon
from foodbox.ops.boxes import iou
from foodbox.records import Dataset, Photo, counted

SHOWN = 20
"""How many findings an error message lists; the rest is counted."""

TINY = 3.0
"""Pixels. A box with a shorter side is a slip of the mouse: no dish is so small, and no detector finds it."""
WHOLE = 0.99
"""Share of both sides from which a box is the whole photo."""
SAME = 0.95
"""IoU from which two boxes of a photo are one, drawn twice."""
PAIRS = 2**18
"""Boxes that are held against each other at once."""
AWAY = 0.5
"""IoU of a box and the box around its outline under which they are of two things."""
RARE = 50
"""A class with this many times fewer boxes than the most frequent one is hardly learnt beside it."""
FEW = 3
"""A class with fewer boxes cannot be learnt and tested."""
SMALL_PHOTO = 32
"""Pixels. A photo whose longer side is shorter is an icon."""

HELD = "valid", "test"
"""Parts that are not trained on."""
ACROSS = "same photo in two parts"
"""What it is called where a photo to train on looks like one to validate or test on."""

ORDER = {"error": 0, "warning": 1, "note": 2}


def look_whole(photos: Sequence[Photo]) -> list[Finding]:
    """Reads photos to their end, gives each its perceptual hash, and returns the broken ones."""
    with progress_bar("opening photos", len(photos)) as bar:
        facts = look([photo.path for photo in photos], whole=True, progress=bar.to)
    for photo in photos:
        photo.hash = facts[photo.path].hash
    return [broken(path, about.fault) for path, about in facts.items() if about.fault]


def sound(dataset: Dataset, findings: Sequence[Finding], skip_bad: bool) -> tuple[Dataset, list[str]]:
    """The photos without an error, and what should be said about the rest.

    Raises:
        FoodboxError: there are errors and `skip_bad` is not set.
    """
    errors = [f for f in findings if f.harm == "error"]
    if errors and not skip_bad:
        raise FoodboxError(
            f"{counted(len(errors), 'fault')} in the photos or their labels:\n{_listed(errors)}\n"
            "Fix them (foodbox check PHOTOS --fix MENDED), or add --skip-bad to leave these photos out."
        )
    words = [f"Left out because of {counted(len(errors), 'fault')}:\n{_listed(errors)}"] if errors else []
    if rest := Counter(f.kind for f in findings if f.harm != "error"):
        kinds = ", ".join(f"{kind} ({count:,})" for kind, count in rest.most_common())
        words.append(f"Also found: {kinds}. `foodbox check` says where.")
    bad = {f.photo for f in errors}
    return dataset.with_photos([photo for photo in dataset if photo.path not in bad]), words


def healthy(dataset: Dataset, findings: Sequence[Finding], skip_bad: bool) -> tuple[Dataset, list[str]]:
    """The photos that can be trained on: `sound`, and labelled.

    Raises:
        FoodboxError: there are errors and `skip_bad` is not set, or no photo with a box is left.
    """
    left, words = sound(dataset, findings, skip_bad)
    labelled = [photo for photo in left if photo.labelled]
    if unlabelled := len(left) - len(labelled):
        words.append(
            f"Left out {counted(unlabelled, 'photo')} without a label file; an empty one says that nothing is shown."
        )
    if not any(len(photo.boxes) for photo in labelled):
        missing = ("label without photo", "missing folder")  # which may be why, if there is no more than a warning
        errors = [f for f in findings if f.harm == "error" or f.kind in missing]
        count = len({photo.path for photo in dataset} | {f.photo for f in errors if f.photo})
        raise FoodboxError(
            f"No photo with a box is left of {count}"
            + (f": {counted(len(errors), 'fault')}:\n{_listed(errors)}" if errors else "; label some photos first.")
        )
    return dataset.with_photos(labelled), words


# -- All that can be seen without a detector ------------------------------------------------------------------------


def examine(dataset: Dataset, findings: Sequence[Finding], valid: Dataset | None = None) -> list[Finding]:
    """What is suspicious about photos and boxes that could be read.

    Args:
        dataset: photos with their hashes, as `formats.read(..., whole=True)` gives them.
        findings: what was found on reading them.
        valid: photos that a model will be validated on, of which none should be like those of `dataset`. Where the
            dataset has parts of its own, those are held against each other.
    """
    faulty = {f.photo for f in findings if f.harm == "error"}
    with without_collecting():
        found = [finding for photo in dataset for finding in _of_photo(photo, photo.path in faulty)]
        found += _of_boxes(dataset)
        rest = without_left_out(dataset, [*findings, *found])  # which is no reason to leave its copies out as well
        return [*found, *_of_classes(dataset), *_only_held(dataset, valid), *look_alikes(rest, valid)]


def without_left_out(dataset: Dataset, findings: Sequence[Finding]) -> Dataset:
    """The photos but for those that mending leaves out."""
    gone = {f.photo for f in findings if f.mend == LEFT_OUT}
    return dataset.with_photos([photo for photo in dataset if photo.path not in gone])


def by_harm(findings: Sequence[Finding]) -> list[Finding]:
    """The worst first, those of a kind together, the most frequent kind first."""
    count = Counter(f.kind for f in findings)
    return sorted(findings, key=lambda f: (ORDER[f.harm], -count[f.kind], f.kind))


def merged_names(names: Sequence[str], counts: Sequence[int]) -> list[str]:
    """For each class the name that it should have: the commonest of those that are the same but for their spelling.

    That is case, spaces, hyphens and underscores, and whether an accent or a Korean syllable is stored in pieces.

    Args:
        counts: the number of boxes of each.
    """
    alike = defaultdict(list)
    for name, count in zip(names, counts, strict=True):
        alike[_plain_name(name)].append((count, name))
    best = {plain: max(found, key=lambda item: item[0])[1] for plain, found in alike.items()}
    return [best[_plain_name(name)] for name in names]


def _of_photo(photo: Photo, faulty: bool) -> Iterator[Finding]:
    def found(what: str, kind: str, todo: str = "", harm: str = "warning", mend: str = "") -> Finding:
        return Finding(Source(photo.path), what, todo, harm, photo.path, kind, mend)  # type: ignore[arg-type]

    ending = right_ending(photo.path, photo.kind)
    if ending != photo.path.suffix:
        what = f"the file is a {photo.kind}, whatever its name says"
        yield found(what, "wrong ending", f"Name it {photo.path.stem}{ending}", mend=f"the copy ends in {ending}")
    if max(photo.width, photo.height) < SMALL_PHOTO:
        yield found(f"the photo has {photo.width} x {photo.height} pixels", "tiny photo", "Take the original photo")
    if not photo.labelled:
        todo = "Label it, or give it an empty label if it shows nothing"
        yield found("nobody said what is on the photo: it is not trained on", "photo without label", todo)
    elif not len(photo.boxes) and not faulty:
        yield found("the photo has no box: it teaches what is not to be found", "photo without box", harm="note")


def _of_boxes(dataset: Dataset) -> Iterator[Finding]:
    """Tiny boxes, boxes as large as their photo, boxes away from their outlines, boxes drawn twice."""
    with_boxes = [photo for photo in dataset if photo.boxes.shape[0]]
    if not with_boxes:
        return
    names = merged_names(dataset.names, dataset.class_counts())
    counts = torch.tensor([photo.boxes.shape[0] for photo in with_boxes])
    owner = torch.repeat_interleave(torch.arange(len(with_boxes)), counts)  # [N], the photo of each box
    place = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]  # [N], which of its photo's boxes
    boxes = torch.cat([photo.boxes for photo in with_boxes])  # [N, 4]
    sizes = torch.tensor([[photo.width, photo.height] for photo in with_boxes])[owner]  # [N, 2]
    sides = boxes[:, 2:] - boxes[:, :2]
    tiny = sides.amin(1) < TINY  # [N]
    left = torch.bincount(owner[~tiny], minlength=len(with_boxes))  # boxes of each photo that mending leaves
    for n in torch.nonzero(tiny).flatten().tolist():
        width, height = sides[n].tolist()
        what = f"the box is {width:.4g} x {height:.4g} pixels, as by a slip of the mouse"
        # Without a box, a photo would teach what the slip was meant for as background.
        mend = REMOVED if left[owner[n]] else LEFT_OUT
        yield _about_box(with_boxes[owner[n]], int(place[n]), what, "tiny box", "Draw it anew or remove it", mend)
    for n in torch.nonzero((sides >= WHOLE * sizes).all(1)).flatten().tolist():
        what, todo = "the box is the whole photo, which teaches little of where things are", "Look whether it is meant"
        yield _about_box(with_boxes[owner[n]], int(place[n]), what, "box equal to the photo", todo)
    for photo, twice in zip(with_boxes, _has_twins(boxes, counts), strict=True):
        if photo.masks:
            yield from _away_from_outline(photo, photo.masks)
        if twice:
            yield from _drawn_twice(photo, names)


def _away_from_outline(photo: Photo, masks: Sequence[Sequence[Polygon]]) -> Iterator[Finding]:
    for i, outlines in enumerate(masks):
        if not outlines:
            continue
        points = torch.cat(list(outlines))
        around = torch.cat((points.amin(0), points.amax(0)))
        if (overlap := iou(around[None], photo.boxes[i : i + 1]).item()) < AWAY:
            what = f"the box and the one around its outline overlap by {overlap:.2f} (IoU): one of them is wrong"
            yield _about_box(photo, i, what, "box away from its outline", "Draw the wrong one anew")


def _has_twins(boxes: torch.Tensor, counts: torch.Tensor) -> list[bool]:
    """Whether two boxes of a photo lie on each other; photos with as many boxes are looked at together."""
    start = counts.cumsum(0) - counts  # [P], P photos
    found = torch.zeros(len(counts), dtype=torch.bool)
    for count in counts[counts > 1].unique().tolist():  # type: ignore[no-untyped-call]
        alike = torch.nonzero(counts == count).flatten()
        for some in torch.split(alike, max(1, PAIRS // count**2)):
            own = boxes[start[some, None] + torch.arange(count)]  # [S, count, 4], S photos at once
            found[some] = torch.triu(iou(own, own) >= SAME, diagonal=1).flatten(1).any(1)
    return found.tolist()


def _drawn_twice(photo: Photo, names: Sequence[str]) -> Iterator[Finding]:
    """Of boxes that lie on each other; names: what each class is called after mending."""
    counts = ~photo.ignore  # a crowd, or a difficult thing, is no second drawing of what lies in it
    near = (iou(photo.boxes, photo.boxes) >= SAME) & counts & counts[:, None]
    same = torch.nonzero(torch.triu(near, diagonal=1)).tolist()
    labels = [names[label] for label in photo.labels.tolist()]
    told = set()
    # Those of one class first: of three boxes called rice, soup and soup, two are soup drawn twice.
    for first, second in sorted(same, key=lambda pair: labels[pair[0]] != labels[pair[1]]):
        if first in told or second in told:
            continue
        if photo.masks and labels[first] == labels[second] and photo.masks[second] and not photo.masks[first]:
            first, second = second, first  # the one that has outlines stays
        told.add(second)
        where = f"the box at {photo.sources[first]}" if photo.sources else f"box {first + 1}"
        if photo.sources and photo.sources[first] == photo.sources[second]:  # of a file without lines
            where = f"another box of {labels[first]!r}" if labels[first] == labels[second] else "another box here"
        if labels[first] == labels[second]:
            what = f"{where} stands here once more"
            yield _about_box(photo, second, what, "box drawn twice", "Remove one of them", REMOVED)
        else:
            what = f"the box is called {labels[second]!r}, and {where} {labels[first]!r}"
            yield _about_box(photo, second, what, "one box, two classes", "Remove the wrong one")


def _about_box(photo: Photo, box: int, what: str, kind: str, todo: str, mend: str = "") -> Finding:
    source = photo.sources[box] if photo.sources else Source(photo.path)
    return Finding(source, what, todo, "warning", photo.path, kind, mend, box)


def _of_classes(dataset: Dataset) -> Iterator[Finding]:
    counts = dataset.class_counts()
    better = merged_names(dataset.names, counts)
    merged: Counter[str] = Counter()
    for name, count in zip(better, counts, strict=True):
        merged[name] += count
    first = _first_of_classes(dataset)
    for i, name in enumerate(dataset.names):
        source = first[i]
        if name != better[i]:
            what = f"the class {name!r} is spelled {better[i]!r} elsewhere"
            todo, mend = "Give both one name", f"it becomes {better[i]!r}"
            yield Finding(source, what, todo, "warning", kind="class name twice", mend=mend)
        elif merged[name] == 0:
            yield Finding(source, f"the class {name!r} has no box", harm="note", kind="class without box")
        elif merged[name] < FEW or merged[name] * RARE <= max(merged.values()):
            what = f"the class {name!r} has {merged[name]} of {sum(counts):,} boxes: too few to learn it from"
            yield Finding(source, what, "Label more photos of it", "warning", kind="rare class")


def _only_held(dataset: Dataset, valid: Dataset | None) -> Iterator[Finding]:
    """Classes of photos to validate or test on that no photo to train on shows: nothing learns to find them."""
    trained = to_train_on(dataset)
    if not trained.box_count:
        return  # which is said elsewhere
    held_parts = set(HELD) - {photo.part for photo in trained}
    own = dataset.with_photos([photo for photo in dataset if photo.part in held_parts])
    # Names of one dataset are merged where only their spelling differs; those of two folders stay as they are.
    for held, name_of in ((own, _plain_name), (valid or dataset.with_photos([]), str)):
        shown = {name_of(name) for name, count in zip(trained.names, trained.class_counts(), strict=True) if count}
        first = _first_of_classes(held)
        for i, (name, count) in enumerate(zip(held.names, held.class_counts(), strict=True)):
            if count and name_of(name) not in shown:
                what = f"the class {name!r} is validated or tested on, and no photo to train on shows it"
                if alike := sorted(other for other in shown if _plain_name(other) == _plain_name(name)):
                    what += f": there it is {alike[0]!r}"
                todo = "Give both one name" if alike else "Check its spelling, or label some photos of it"
                yield Finding(first[i], what, todo, "warning", kind="class not trained on")


def _first_of_classes(dataset: Dataset) -> list[Source]:
    """Where the first box of each class stands; the photos' folder where it has none."""
    found: dict[int, Source] = {}
    for photo in dataset:
        for label, source in zip(photo.labels.tolist(), photo.sources, strict=False):
            found.setdefault(label, source)
    nowhere = Source(dataset.photos[0].path.parent if dataset.photos else Path())
    return [found.get(i, nowhere) for i in range(len(dataset.names))]


def _plain_name(name: str) -> str:
    name = unicodedata.normalize("NFKC", name).casefold().strip()
    plain = re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", name)  # "A-" is not "A"
    return re.sub(r"(?<!\d) | (?!\d)", "", plain)  # "1-2" is not "12"


# -- Photos that look alike -----------------------------------------------------------------------------------------


def look_alikes(dataset: Dataset, valid: Dataset | None) -> Iterator[Finding]:
    """Copies and near-copies, among the photos to train on and across parts."""
    photos = [photo for photo in dataset if photo.hash is not None]
    own = len(photos)
    photos += [photo for photo in valid or () if photo.hash is not None]
    alike = defaultdict(list)
    which = groups(_hashes(photos))
    for i in np.nonzero(np.bincount(which)[which] > 1)[0].tolist():
        alike[which[i]].append(i)
    for members in alike.values():
        of_part = [photos[i] for i in members if i < own and photos[i].part in HELD]
        held = [*of_part, *(photos[i] for i in members if i >= own)]
        trained = [photos[i] for i in members if i < own and photos[i].part not in HELD]
        twice = _copies([photo.path for photo in of_part])
        for photo in of_part:
            if photo.path in twice:  # what is validated or tested on stays what it is
                yield _alike(photo, f"the file is the same as {twice[photo.path]}", "photo twice", "warning")
        across = list(_across(trained, held)) if held else []
        yield from across
        told = {finding.photo for finding in across}
        yield from _within([photo for photo in trained if photo.path not in told])


def _across(trained: Sequence[Photo], held: Sequence[Photo]) -> Iterator[Finding]:
    """Of photos to train on, those that are near one to validate or test on, and not only like one that is."""
    hashes = _hashes(held)
    for photo, own in zip(trained, _hashes(trained), strict=True):
        place, bits = nearest(own, hashes)
        if bits <= NEAR:
            what = f"the photo looks like {held[place].path}, which is validated or tested on: scores will flatter"
            yield _alike(photo, what, ACROSS, "warning", LEFT_OUT)


def _within(trained: list[Photo]) -> Iterator[Finding]:
    """Of a group of photos to train on, the copies and near-copies."""
    trained.sort(key=lambda photo: (not photo.labelled, -len(photo.boxes)))  # of two copies, the first stays
    first, twice = {photo.path: photo for photo in trained}, _copies([photo.path for photo in trained])
    hashes = _hashes(trained)
    for i, photo in enumerate(trained[1:], start=1):
        if photo.path in twice:
            what = f"the file is the same as {twice[photo.path]}"
            if photo.labelled and not _same_boxes(photo, first[twice[photo.path]]):
                what += ", with other boxes"
            yield _alike(photo, what, "photo twice", "warning", LEFT_OUT)
            continue
        place, bits = nearest(hashes[i], hashes[:i])
        if bits <= NEAR:
            yield _alike(photo, f"the photo looks like {trained[place].path}", "look-alike", "note")


def _hashes(photos: Sequence[Photo]) -> Ints:
    return np.array([photo.hash for photo in photos], np.int64)


def _same_boxes(one: Photo, other: Photo) -> bool:
    mine, theirs = (sorted(zip(p.labels.tolist(), p.boxes.tolist(), strict=True)) for p in (one, other))
    return mine == theirs


def _alike(photo: Photo, what: str, kind: str, harm: Literal["warning", "note"], mend: str = "") -> Finding:
    return Finding(Source(photo.path), what, "Leave it out" if mend else "", harm, photo.path, kind, mend)


def _copies(paths: Sequence[Path]) -> dict[Path, Path]:
    """Each file that is the same to the byte as one before it → the first of these."""
    by_size = defaultdict(list)
    for path in paths:
        with suppress(OSError):
            by_size[path.stat().st_size].append(path)
    found: dict[Path, Path] = {}
    first: dict[bytes, Path] = {}
    for same in by_size.values():
        for path in same if len(same) > 1 else ():
            with suppress(OSError), path.open("rb") as file:
                original = first.setdefault(hashlib.file_digest(file, "sha256").digest(), path)
                if original != path:
                    found[path] = original
    return found


# -- Words ----------------------------------------------------------------------------------------------------------


def _listed(findings: Sequence[Finding]) -> str:
    lines = [f"  {finding}" for finding in findings[:SHOWN]]
    if len(findings) > SHOWN:
        lines.append(f"  ... and {len(findings) - SHOWN:,} more")
    return "\n".join(lines)
