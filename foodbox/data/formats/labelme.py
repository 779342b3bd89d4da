"""labelme: a .json file for each photo, which lists shapes in pixels; X-AnyLabeling and others write the same.

Rectangles become boxes; polygons, circles and painted masks become boxes with outlines. A shape without an area (a
point, a line) is passed over. Shapes that have one group_id and one label are one object.

Coordinates are those of the photo as a person sees it: labelme applies the EXIF turn.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foodbox.data.formats.common import (
    Labels,
    RawBox,
    RawPhoto,
    as_ascii,
    bad_label,
    box_around,
    copy_photos,
    could_be,
    read_json,
    without_photo,
)
from foodbox.data.formats.photo_names import NearestPhotos, PhotoFinder, bare, composed
from foodbox.data.images import ENDINGS
from foodbox.data.listing import Listing
from foodbox.files import write_whole
from foodbox.findings import Finding, Source
from foodbox.masks import trace_contours
from foodbox.records import Dataset, Photo, counted

VERSION = "5.5.0"
"""The version of labelme whose files these are like."""
KEYS = re.compile(rb'"(shapes|imagePath|imageData)"\s*:')
SHAPES = re.compile(r'"shapes"\s*:\s*\[')
BETWEEN = re.compile(r"[\s,]*")
HEAD = 1 << 14
"""Bytes in which one of the keys stands: flags come before them, and 5 MB of imageData behind."""
LOOKED_AT = 50
"""Files that are looked into."""
OUTLINED = ("polygon", "rotation", "quadrilateral", "oriented_rectangle")
"""Shapes that are given by their corners in turn; all but the first are rectangles that lie askew."""
WITHOUT_AREA = ("point", "points", "line", "lines", "linestrip")
CIRCLE = 32
"""Points of a circle's outline, which then has 99.4 % of its area."""
YES = (True, 1, "true", "True", "1")
ANEW = "Label the photo anew or remove the file"

Corners = tuple[float, float, float, float]


class _Fault(Exception):
    """What is wrong with a shape, and what to do about it."""

    def __init__(self, what: str, todo: str = "Draw it anew or remove it") -> None:
        super().__init__(what)
        self.todo = todo


def fits(listing: Listing) -> bool:
    """Whether one of the first .json files is labelme's."""
    return any(map(_looks_like_labelme, islice(listing.ending(".json"), LOOKED_AT)))


def read(listing: Listing) -> Labels:
    """The photos below the folder, with the shapes of the .json files that name them or are called like them."""
    labels = Labels()
    places = _Places(listing)
    found: dict[Path, Path] = {}
    for file in listing.ending(".json"):
        beside = places.beside(file)
        is_ours = file == listing.label or _looks_like_labelme(file)
        # A broken file beside a photo may have been labelme's. Others are other programs', and may be very large.
        if not is_ours and beside is None:
            continue
        if (held := read_json(file, labels.findings, beside, ANEW)) is None:
            continue
        content, text = held
        if not (isinstance(content, dict) and isinstance(content.get("shapes"), list)):
            if is_ours:
                what = "the file has no list of shapes, which labelme writes"
                labels.findings.append(bad_label(Source(file), what, beside, ANEW))
            continue
        paths = places.photos(file, content)
        path = paths[0] if paths else None
        if path is None:
            labels.findings.append(_without_photo(file, content))
        elif len(paths) > 1:
            name = _image_path(content) or file.stem
            labels.findings.append(could_be(Source(file), name, paths, "Correct its imagePath"))
        elif path in found:
            what = f"the photo {path.name} is labelled by {found[path]} already"
            todo = "Keep one of the two, or correct its imagePath"
            labels.findings.append(bad_label(Source(file), what, path, todo))
        else:
            if beside is not None and path != beside:
                what = f"its imagePath names {path}, which gets its boxes, and {beside.name} is called like it"
                todo = f"If {beside.name} is the photo, correct its imagePath"
                labels.findings.append(Finding(Source(file), what, todo, "warning", path, "other photo beside"))
            found[path] = file
            labels.photos.append(_read(content, text, file, path, labels.findings))
    labels.photos += [RawPhoto(path, labelled=False) for path in listing.photos if path not in found]
    return labels


def write(dataset: Dataset, folder: Path) -> None:
    """Copies the photos and writes NAME.json beside each that is labelled.

    An object with outlines is a polygon for each of them, with one group_id where there are several; another one is a
    rectangle. One that does not count has the flag "difficult".
    """
    for photo, target in copy_photos(dataset, folder):
        if photo.labelled:
            content = _content(photo, target.name, dataset.names)
            write_whole(target.with_suffix(".json"), json.dumps(content, ensure_ascii=False, indent=2) + "\n")


# -- Files ----------------------------------------------------------------------------------------------------------


def _looks_like_labelme(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            head = as_ascii(opened.read(HEAD)).lstrip()
    except OSError:
        return False
    return head.startswith(b"{") and KEYS.search(head) is not None


def _without_photo(file: Path, content: dict[str, Any]) -> Finding:
    name = _image_path(content) or f"named {file.stem}"
    finding = without_photo(Source(file), name)
    if not content.get("imageData"):
        return finding
    what = f"there is no photo {name}; its pixels stand inside the label file alone (imageData)"
    return Finding(finding.source, what, "Save them as a file of that name", kind=finding.kind, mend=finding.mend)


def _image_path(content: dict[str, Any]) -> str:
    name = content.get("imagePath")
    return name.strip().replace("\\", "/") if isinstance(name, str) else ""


class _Places:
    """Where the photos of label files are."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._finder = PhotoFinder(listing.photos)
        self._near, self._named = NearestPhotos(), NearestPhotos()
        self._beside: dict[tuple[str, Path], Path] = {}
        for path in listing.photos:
            self._near.add(composed(path.stem), path)
            self._named.add(composed(path.name).casefold(), path)
            self._beside.setdefault((composed(path.stem), path.parent), path)

    def beside(self, file: Path) -> Path | None:
        """The photo in the file's folder that is called like it."""
        return self._beside.get((composed(file.stem), file.parent))

    def photos(self, file: Path, content: dict[str, Any]) -> list[Path]:
        """The file's photo: at its imagePath, else beside it, else anywhere below the folder under one of its names.

        None, or several of which none is nearer to the file.
        """
        name = _image_path(content)
        if name:
            exact = Path(os.path.normpath(file.parent / name))
            # It may lie outside the folder that is read, as in ../images.
            is_there = exact in self._listing or os.path.isfile(exact)  # noqa: PTH113 - the other raises for long names
            if is_there and exact.suffix.lower() in ENDINGS:
                return [self._listing.own(exact)]
            if path := self._finder.find(name, [file.parent]):
                return [path]
        if path := self.beside(file):
            return [path]
        of_name = self._named.find(bare(name).casefold(), file)
        return of_name or self._near.find(composed(file.stem), file)


# -- Shapes ---------------------------------------------------------------------------------------------------------


def _read(content: dict[str, Any], text: str, file: Path, path: Path, findings: list[Finding]) -> RawPhoto:
    """A photo with its objects."""
    photo = RawPhoto(path, stored_size=_size(content))
    shapes = content["shapes"]
    boxes: dict[object, RawBox] = {}
    for place, (shape, line) in enumerate(zip(shapes, _lines(text, len(shapes)), strict=True)):
        source = Source(file, line)
        if not isinstance(shape, dict):
            what = f"found {_shown(shape)} where a shape was expected"
            findings.append(bad_label(source, what, path, "Remove it"))
            continue
        if shape.get("shape_type") in WITHOUT_AREA:
            what = f"the {shape['shape_type']} {shape.get('label')!r} has no area and is left out"
            findings.append(
                Finding(source, what, "Draw a box if it is an object", "warning", path, "shape without area")
            )
            continue
        try:
            box = _box(shape, source, photo.stored_size)
        except _Fault as fault:
            findings.append(bad_label(source, str(fault), path, fault.todo))
            continue
        group = shape.get("group_id")
        key = place if group is None else (str(group), box.label)
        boxes[key] = _together(boxes[key], box) if key in boxes else box
    photo.boxes = list(boxes.values())
    return photo


def _size(content: dict[str, Any]) -> tuple[int, int] | None:
    width, height = content.get("imageWidth"), content.get("imageHeight")
    return (width, height) if isinstance(width, int) and isinstance(height, int) else None


def _lines(text: str, count: int) -> Sequence[int | None]:
    """The line that each of the shapes begins on; Python's reader of JSON keeps none."""
    decoder, lines = json.JSONDecoder(), []
    start = SHAPES.search(text)
    place = start.end() if start else 0
    line, seen = 1, 0
    try:
        for _ in range(count):
            begin = BETWEEN.match(text, place).end()  # type: ignore[union-attr]  # it matches nothing, too
            _, place = decoder.raw_decode(text, begin)
            line, seen = line + text.count("\n", seen, begin), begin
            lines.append(line)
    except ValueError:  # "shapes" stands somewhere else, too
        return [None] * count
    return lines


def _box(shape: dict[str, Any], source: Source, size: tuple[int, int] | None) -> RawBox:
    """An object of one shape.

    Args:
        size: the photo's width and height in pixels.

    Raises:
        _Fault: it is none.
    """
    kind = shape.get("shape_type") or "polygon"  # as before labelme had others
    label = shape.get("label")
    if not isinstance(label, str) or not label.strip():
        raise _Fault(f"a {kind} has the label {_shown(label)}, expected the name of its class", "Name its class")
    name = f"the {kind} {label!r}"
    points = _points(shape.get("points"), name)
    count = counted(len(points), "point")
    if kind == "rectangle":
        if len(points) not in (2, 4):
            raise _Fault(f"{name} has {count}, expected 2 that are opposite each other, or all 4")
        outlines, polygons = [points], None
    elif kind in OUTLINED:
        if len(points) < 3:
            raise _Fault(f"{name} has {count}, expected at least 3")
        outlines = polygons = [points]
    elif kind == "circle":
        if len(points) != 2:
            raise _Fault(f"{name} has {count}, expected 2: its centre and one on it")
        outlines = polygons = [_circle(points, size)]
    elif kind == "mask":
        outlines = polygons = _trace(shape.get("mask"), points, name)
    else:
        raise _Fault(f"{name} is of an unknown kind, expected rectangle, polygon, circle or mask")
    flat = [[value for point in outline for value in point] for outline in outlines]
    return RawBox(box_around(flat), label.strip(), source, _is_difficult(shape), flat if polygons else None)


def _points(value: object, name: str) -> list[tuple[float, float]]:
    if isinstance(value, list) and all(isinstance(point, list) and len(point) == 2 for point in value):
        numbers = [number for point in value for number in point]
        if all(type(number) in (int, float) and abs(number) < 1e9 for number in numbers):  # nan is not, either
            return [(float(x), float(y)) for x, y in value]
    raise _Fault(f"{name} has the points {_shown(value)}, expected pairs of numbers x and y")


def _circle(points: list[tuple[float, float]], size: tuple[int, int] | None) -> list[tuple[float, float]]:
    """A circle's outline: of what the photo shows, since labelme lets circles reach beyond it."""
    (x, y), edge = points[0], points[1]
    radius = math.dist(points[0], edge)
    width, height = size or (math.inf, math.inf)
    low = 0 if size else -math.inf
    turns = [2 * math.pi * i / CIRCLE for i in range(CIRCLE)]
    return [
        (min(max(x + radius * math.cos(turn), low), width), min(max(y + radius * math.sin(turn), low), height))
        for turn in turns
    ]


def _trace(encoded: object, points: list[tuple[float, float]], name: str) -> list[list[tuple[float, float]]]:
    """The outer outlines of a painted mask, along the edges of its pixels.

    Args:
        encoded: a PNG, 0 where the object is not, in base64.
        points: the mask's first and last pixel, which belong to it.
    """
    if len(points) != 2:
        raise _Fault(f"{name} has {counted(len(points), 'point')}, expected 2: its first and its last pixel")
    try:
        with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:  # type: ignore[arg-type]
            mask = np.asarray(image if image.mode in ("1", "L", "P") else image.convert("L")) > 0  # [h, w]
    except (TypeError, ValueError, SyntaxError, OSError, Image.DecompressionBombError) as fault:
        raise _Fault(f"{name} has a mask that is no PNG in base64 ({fault or type(fault).__name__})") from fault
    left, top, right, bottom = box_around([[*points[0], *points[1]]])
    height, width = mask.shape
    if max(abs(right - left + 1 - width), abs(bottom - top + 1 - height)) > 1.5:
        shown = f"{right - left + 1:g} x {bottom - top + 1:g}"
        raise _Fault(f"{name} has a mask of {width} x {height} pixels, and its points are the corners of {shown}")
    if not mask.any():
        raise _Fault(f"{name} has a mask in which nothing is marked")
    return [[(float(x), float(y)) for x, y in ring] for ring in trace_contours(mask, left, top)]


def _is_difficult(shape: dict[str, Any]) -> bool:
    """X-AnyLabeling marks a shape so, or its flags or attributes do."""
    holders = (shape, shape.get("flags"), shape.get("attributes"))
    return any(isinstance(holder, dict) and holder.get("difficult") in YES for holder in holders)


def _together(one: RawBox, other: RawBox) -> RawBox:
    """Two shapes of one object."""
    corners = box_around([one.corners, other.corners])
    polygons = None
    if one.polygons or other.polygons:
        polygons = (one.polygons or [_edge(one.corners)]) + (other.polygons or [_edge(other.corners)])
    return RawBox(corners, one.label, one.source, one.ignore or other.ignore, polygons)


def _edge(corners: Corners) -> list[float]:
    x1, y1, x2, y2 = corners
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


# -- Writing --------------------------------------------------------------------------------------------------------


def _content(photo: Photo, name: str, names: Sequence[str]) -> dict[str, Any]:
    shapes = []
    masks = photo.masks or [[] for _ in photo.boxes]
    rows = zip(photo.boxes.tolist(), photo.labels.tolist(), photo.ignore.tolist(), masks, strict=True)
    for number, (box, label, ignore, outlines) in enumerate(rows):
        flags = {"difficult": True} if ignore else {}
        group = number if len(outlines) > 1 else None
        if outlines:
            drawn = [("polygon", outline.tolist()) for outline in outlines]
        else:
            drawn = [("rectangle", [box[:2], box[2:]])]
        for kind, points in drawn:
            shapes.append(
                {
                    "label": names[label],
                    "points": [[round(x, 3), round(y, 3)] for x, y in points],
                    "group_id": group,
                    "description": "",
                    "shape_type": kind,
                    "flags": flags,
                    "mask": None,
                }
            )
    return {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": name,
        "imageData": None,
        "imageHeight": photo.height,
        "imageWidth": photo.width,
    }
