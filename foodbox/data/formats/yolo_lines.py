"""The lines of YOLO's labels: boxes, outlines, and what other programs put behind a box."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foodbox.data.formats.common import (
    OVERHANG,
    PIXELS,
    RawBox,
    RawPhoto,
    bad_label,
    box_around,
    numbers,
    read_text,
)
from foodbox.data.formats.yolo_classes import LabelClasses
from foodbox.findings import LEFT_OUT, Finding, Source
from foodbox.records import counted

SEVERAL = 3
"""Lines that tell points of a body from outlines by what one line alone may have by chance."""


def is_label(file: str, largest: float | None = None) -> bool:
    """Whether a text begins with a line of a class and four numbers or more, none above `largest`."""
    lines = (read_text(file, []) or "").split("\n", 50)[:50]
    values = next((numbers(line.split()) for line in lines if line.strip()), None)
    if values is None or len(values) < 5 or not values[0].is_integer() or values[0] < 0:
        return False
    return largest is None or max(map(abs, values[1:])) <= largest


@dataclass
class _Use:
    """How labels use a list of classes.

    Attributes:
        names: the list.
        numbers: of the classes that lines have.
        beyond: what is said of the lines with the number behind the last class's.
        photos: whose labels they are.
    """

    names: list[str]
    numbers: set[int] = field(default_factory=set)
    beyond: list[Finding] = field(default_factory=list)
    photos: list[RawPhoto] = field(default_factory=list)


class LineReader:
    """Reads label files.

    Args:
        classes: which each label has; those that have none are called by their numbers.
        keypoints: numbers behind a box that are not read.
    """

    def __init__(self, classes: LabelClasses, keypoints: int, findings: list[Finding]) -> None:
        self.classes = classes
        self.findings = findings
        self.seen: set[int] = set()
        self.first = Source("")
        self.scores: list[Source] = []
        self._box_lengths = {5, 6, 5 + keypoints}
        self._uses: dict[Source, _Use] = {}  # by where the list of classes stands
        self._long: list[tuple[RawPhoto, Source, tuple[float, ...], _Use | None]] = []

    def names_of_all(self) -> list[str]:
        """The classes, each once, after all files were read; and findings on them."""
        if self.scores:
            what = f"{len(self.scores):,} boxes have a sixth number, taken as a score: a program found them, no person"
            self._warn(self.scores[0], what, "Look at some of them before you train on them", "boxes with scores")
        if self.classes.known:
            return self.classes.names()
        if self.seen:
            what = "no data.yaml, classes.txt or obj.names names the classes: they are called by their numbers"
            self._warn(self.first, what, "Add one", "no class names")
        return [str(number) for number in sorted(self.seen)]

    def read(self, label: str, photo: RawPhoto) -> None:
        """Gives a photo the boxes of its label file; lines of more than six numbers wait until all files were read."""
        classes = self.classes.of(Path(label), photo.path)
        if classes and classes.fault:  # numbers would be taken for names
            self.findings.append(dataclasses.replace(classes.fault, photo=photo.path, mend=LEFT_OUT))
            return
        text = read_text(label, self.findings, photo.path)
        if classes is None and self.classes.known:
            several = {tuple(one.names): str(one.source) for one in self.classes.known}.values()
            what = f"the classes of its labels are not known: {', '.join(several)} have different ones"
            self.findings.append(bad_label(Source(label), what, photo.path, "Put the label below the list that counts"))
            return
        use = self._uses.setdefault(classes.source, _Use(classes.names)) if classes else None
        if use:
            use.photos.append(photo)
        for number, line in enumerate((text or "").splitlines(), start=1):
            words = line.split()
            if not words:
                continue
            source = Source(label, number)
            values = numbers(words) or ()
            if len(values) > 6 and len(values) not in self._box_lengths:
                self._long.append((photo, source, values, use))
            else:
                self._read_line(photo, source, values, use, line)

    def finish(self) -> None:
        """Reads the lines of more than six numbers, which together tell whether they are outlines."""
        rows = [values for _, _, values, _ in self._long]
        if _are_tracks(rows, alone=not self.seen):
            self._box_lengths.add(7)
            boxes = counted(sum(len(values) == 7 for values in rows), "box", "boxes")
            what = f"a score and the number of a track stand behind {boxes}: a program found them, no person"
            source = next(source for _, source, values, _ in self._long if len(values) == 7)
            self._warn(source, what, "Look at some of them before you train on them", "boxes with scores")
        elif not self.seen and (size := _point_size(rows)):
            self._box_lengths.add(len(rows[0]))
            count = (len(rows[0]) - 5) // size
            what = "the numbers behind cx cy w h look like points of a body (keypoints), and are left out of all lines"
            self._warn(self._long[0][1], what, f"Say so with kpt_shape: [{count}, {size}] in a data.yaml", "keypoints")
        for photo, source, values, use in self._long:
            self._read_line(photo, source, values, use)
        for photo in {photo.path: photo for photo, *_ in self._long}.values():
            photo.boxes.sort(key=lambda box: box.source.line or 0)
        for place, use in self._uses.items():
            self._see_first(place, use)

    def _see_first(self, place: Source, use: _Use) -> None:
        """Takes all boxes away where classes are counted from 1, as each would be called like the one behind it."""
        count = len(use.names)
        if not use.beyond or (min(use.numbers), max(use.numbers)) != (1, count):
            self.findings += use.beyond
            return
        what = (
            f"classes seem to be counted from 1: found 1 to {count}, expected 0 to {count - 1} for the {count} names "
            f"of {place}, and no such label is read"
        )
        self.findings.append(bad_label(use.beyond[0].source, what, None, "Take 1 from the class of each line"))
        for photo in use.photos:
            photo.boxes, photo.labelled = [], False

    def _warn(self, source: Source, what: str, todo: str, kind: str) -> None:
        self.findings.append(Finding(source, what, todo, "warning", kind=kind))

    def _read_line(
        self, photo: RawPhoto, source: Source, values: Sequence[float], use: _Use | None, line: str = ""
    ) -> None:
        """Gives a photo the box or the outline of a line."""
        names = use.names if use else None
        if use and values and values[0].is_integer():
            use.numbers.add(int(values[0]))
        if fault := self._fault(line, values, names):
            beyond = use is not None and bool(values) and values[0] == len(use.names)
            (use.beyond if use and beyond else self.findings).append(bad_label(source, fault, photo.path))
            return
        if not self.seen:
            self.first = source
        self.seen.add(int(values[0]))
        name = str(int(values[0])) if names is None else names[int(values[0])]
        if self._is_box(values):
            _, x, y, w, h, *rest = values
            if len(rest) == 1:
                self.scores.append(source)
            photo.boxes.append(RawBox((x - w / 2, y - h / 2, x + w / 2, y + h / 2), name, source))
        else:
            outline = [list(values[1:])]
            photo.boxes.append(RawBox(box_around(outline), name, source, polygons=outline))

    def _is_box(self, values: Sequence[float]) -> bool:
        return len(values) in self._box_lengths

    def _fault(self, line: str, values: Sequence[float], names: Sequence[str] | None) -> str:
        """What is wrong with a line, or ""."""
        if not values:
            return f"found {line.strip()[:40]!r}, expected a class and its coordinates: numbers with blanks between"
        number, count = values[0], len(values) - 1
        coordinates = values[1:5] if self._is_box(values) else values[1:]
        if not number.is_integer() or number < 0:
            return f"found the class {number:g}, expected a whole number from 0"
        if names is not None and number >= len(names):
            return f"found the class {number:g}, expected 0 to {len(names) - 1}: there are {len(names)} names"
        if not self._is_box(values) and (count < 6 or count % 2):
            return (
                f"found {count} numbers behind the class, expected the 4 of a box (cx cy w h), "
                "or those of an outline: 6, 8, 10 or more"
            )
        if (most := max(coordinates, key=abs)) and abs(most) > PIXELS:
            return f"found the coordinate {most:g}, expected shares of the photo's sides from 0 to 1: it may be pixels"
        if self._is_box(values) and min(values[3:5]) < 0:
            return f"the box has the size {values[3]:g} x {values[4]:g}, expected both above 0"
        return ""


def _are_tracks(rows: Sequence[Sequence[float]], alone: bool) -> bool:
    """Whether lines of seven numbers are boxes with a score and the number of a track behind, and not triangles.

    Args:
        rows: the lines of more than six numbers.
        alone: no other lines were found.
    """
    sevens = [row for row in rows if len(row) == 7]
    if not all(v[6].is_integer() and 0 <= v[5] <= 1 and max(map(abs, v[1:5])) <= PIXELS for v in sevens):
        return False
    if any(row[6] > 1 for row in sevens):  # no share
        return True
    return alone and bool(sevens) and len(sevens) == len(rows) and all(map(_is_whole, sevens))


def _point_size(rows: Sequence[Sequence[float]]) -> int:
    """How many numbers each point of a body has behind the box, x y or x y seen (0, 1, 2); 0 where lines are outlines.

    Of an outline taken for a box, the first corner is its middle and the second one its size. In many an outline of a
    small thing amid the photo all other corners lie in that box, as points do; but then the second one does, too.
    """
    length = len(rows[0]) if rows else 0
    if length < 8 or any(len(row) != length for row in rows):
        return 0
    seen = (length - 5) % 3 == 0 and all(value in (0, 1, 2) for row in rows for value in row[7::3])
    if seen and length % 2 == 0:  # no outline has an odd count of coordinates
        return 3
    if not all(map(_is_whole, rows)):
        return 0
    if seen and (len(rows) >= SEVERAL or all(_holds_points(row, 3) for row in rows)):
        return 3
    if length % 2 == 0 or (length < 13 and len(rows) < SEVERAL) or not all(_holds_points(row, 2) for row in rows):
        return 0
    apart = sum(abs(w - x) > w / 2 or abs(h - y) > h / 2 for _, x, y, w, h, *_ in rows)
    return 2 if 2 * apart >= len(rows) else 0


def _is_whole(row: Sequence[float]) -> bool:
    """Whether cx cy w h is a box inside the photo."""
    _, x, y, w, h, *_ = row
    edges = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    return min(w, h) > 0 and min(edges) >= -OVERHANG and max(edges) <= 1 + OVERHANG


def _holds_points(row: Sequence[float], size: int) -> bool:
    """Whether the points behind a box lie in it; those of noughts alone are hidden, and not all may be."""
    _, x, y, w, h, *_ = row
    points = [row[i : i + size] for i in range(5, len(row), size)]
    shown = [point for point in points if any(point)]
    return bool(shown) and all(
        abs(px - x) <= w / 2 + OVERHANG and abs(py - y) <= h / 2 + OVERHANG for px, py, *_ in shown
    )
