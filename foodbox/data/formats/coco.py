"""COCO: a .json file of `images`, `annotations` (boxes as x, y, width, height in pixels) and `categories`.

Masks become outlines. Those that are written as run lengths, as crowds are, are traced along the edges of their pixels;
holes in them are filled, since an outline has none. A crowd's box is the one around all of it, and it is ignored.

A photo that a file lists and that has no annotation shows nothing; one that no file lists is unlabelled.
"""

from __future__ import annotations

import heapq
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval import mask as coco_mask

from foodbox.data.formats.agreement import APART
from foodbox.data.formats.common import (
    ONE_CLASS,
    OVERHANG,
    Labels,
    RawBox,
    RawPhoto,
    as_ascii,
    bad_label,
    box_around,
    copy_photos,
    numbers_first,
    part_of_file,
    part_of_name,
    read_json,
    without_photo,
)
from foodbox.data.formats.photo_names import PhotoFinder
from foodbox.data.listing import Listing
from foodbox.files import write_whole
from foodbox.findings import Finding, Source
from foodbox.masks import Polygon, trace_contours
from foodbox.records import Dataset, Photo, counted

LISTS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
HEAD = 1 << 18
"""Bytes that are looked at where a file begins and where it ends: `categories` come behind 400 MB of annotations."""
LOOKS = 20
"""Files that are looked into, the largest: labelme has one .json a photo, COCO one large one."""
SEVERAL = 3
"""Boxes that tell corners from sizes by what one alone may have by mistake."""
YES = (1, "1", "true", "True")
MOST_PIXELS = 2 * 89_478_485
"""Pixels of the largest mask that is unpacked; Pillow opens no larger photo."""
FOLDERS = {"train": "train", "valid": "val", "test": "test"}
"""What COCO calls the parts."""


def fits(listing: Listing) -> bool:
    """Whether one of the largest .json files has two of COCO's three lists, or one of annotations."""
    files = listing.ending(".json")
    return any(map(_looks_like_coco, heapq.nlargest(LOOKS, files, key=lambda file: listing.stamp(file)[0])))


def read(listing: Listing) -> Labels:
    """The photos below the folder, with what all COCO files below it say of them.

    The part is told from the file's name, or from its folder's: instances_val2017.json, valid/_annotations.coco.json.
    A photo that two files list is read from the first one: files that tell a part come before one of all photos, then
    instances_*.json before others. Boxes of classes that it does not have are added from the second.
    """
    labels = Labels()
    finder = PhotoFinder(listing.photos)
    files = [
        file
        for path in sorted(_label_files(listing), key=lambda path: _rank(path, listing.root))
        if (file := _open(path, listing.root, labels.findings)) is not None
    ]
    for file in files:
        file.look_up(finder)
    _look_further(files, finder)
    taken: dict[Path, _File] = {}
    names: dict[str, None] = {}
    groups: set[str] = set()
    for file in files:
        file.read_categories()
        file.read_images(taken)
        file.read_annotations()
        file.bring_together(taken)
        labels.photos += file.here.values()
        labels.findings += file.findings
        names |= dict.fromkeys(file.names.values())
        groups |= file.groups
    used = {box.label for photo in labels.photos for box in photo.boxes}
    for name in sorted(groups - used):
        del names[name]
        what = f"the category {name!r} stands above others and no box has it: it is not taken as a class"
        labels.findings.append(Finding(files[0].source, what, harm="note", kind="group of classes"))
    labels.names = list(names)
    labels.photos += [RawPhoto(path, labelled=False) for path in listing.photos if path not in taken]
    if not taken:  # of one file of several the photos may be missing, of all it is a fault
        lost = "label without photo"
        labels.findings = [replace(f, harm="error") if f.kind == lost else f for f in labels.findings]
    return labels


def write(dataset: Dataset, folder: Path) -> None:
    """Copies the photos to folder/images and writes folder/annotations.json.

    Where photos have parts: folder/images/train, val, test and folder/annotations/instances_train.json and so on.
    Unlabelled photos are copied and not listed.
    """
    parts = {photo.part for photo in dataset} or {""}
    for part in sorted(parts):
        images = folder / "images" / FOLDERS.get(part, part)
        own = dataset.with_photos([photo for photo in dataset if photo.part == part])
        listed = [(photo, target.name) for photo, target in copy_photos(own, images) if photo.labelled]
        name = "_".join(["instances", *([FOLDERS.get(part, part)] if part else [])])
        file = folder / "annotations.json" if parts == {""} else folder / "annotations" / f"{name}.json"
        if listed or parts == {""}:
            write_whole(file, json.dumps(_content(listed, dataset.names), ensure_ascii=False))


# ---- Files ----


def _looks_like_coco(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            file.seek(max(HEAD, path.stat().st_size - HEAD))
            text = as_ascii(head + file.read(HEAD))
    except OSError:
        return False
    lists = len(set(LISTS.findall(text)))
    has_annotations = b'"category_id"' in text and b'"image_id"' in text
    # COCO's captions and its panoptic segments have the same lists, and no boxes in them.
    others = b'"segments_info"' in text or (b'"caption"' in text and not has_annotations)
    return not others and (lists > 1 or (lists == 1 and has_annotations))


def _label_files(listing: Listing) -> list[Path]:
    files = listing.ending(".json")
    if listing.label is not None:
        return files
    return list(filter(_looks_like_coco, files)) or files[:LOOKS]


def _rank(path: Path, root: Path) -> tuple[bool, bool]:
    """What comes before others is lower: a file that tells a part, then one of instances."""
    return not part_of_file(path, root), not path.name.startswith("instances")


def _open(path: Path, root: Path, findings: list[Finding]) -> _File | None:
    todo = "Write it anew or remove it"
    if (read := read_json(path, findings, None, todo)) is None:
        return None
    if isinstance(read[0], dict):
        return _File(path, root, read[0])
    what = "the file holds no object with lists of images, annotations and categories"
    findings.append(bad_label(Source(path), what, None, todo))
    return None


def _look_further(files: Sequence[_File], finder: PhotoFinder) -> None:
    """Looks for the photos that are not where a file says: anywhere, where one photo and one entry have the name.

    Then without endings: names may lack theirs, and photos have another since.
    """
    for look in (finder.anywhere, finder.of_another_ending):
        taken = {path for file in files for path in file.paths if path}
        missing = [(file, i, look(name)) for file in files for i, name in file.missing()]
        wanted = Counter(same[0] for _, _, same in missing if len(same) == 1)
        for file, i, same in missing:
            if len(same) == 1 and wanted[same[0]] == 1 and same[0] not in taken:
                file.paths[i] = same[0]


@dataclass(eq=False)
class _File:
    """One COCO file while it is read.

    Attributes:
        path: where it is.
        root: the folder that is read.
        content: what it holds.
        images: the entries of `images`.
        paths: the photo of each, or None.
        names: id of a category → name.
        groups: names that stand above others (Roboflow's category 0) and are no class unless a box has them.
        by_id: id of an image → its photo, or None for one that is not there.
        here: its photos, but those that another file has read before.
        again: these, as they stand in this one.
        classes: the classes of its boxes.
        findings: what comes of it besides photos.
    """

    path: Path
    root: Path
    content: dict[str, Any]
    images: list[dict[str, Any]] = field(default_factory=list)
    paths: list[Path | None] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)
    by_id: dict[str, RawPhoto | None] = field(default_factory=dict)
    here: dict[Path, RawPhoto] = field(default_factory=dict)
    again: dict[Path, RawPhoto] = field(default_factory=dict)
    classes: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source = Source(self.path)
        if "images" not in self.content:
            self._bad("the file has no list of images", None, "Add it, or remove the file")
        self.images = [entry for _, entry in self._entries("images")]

    def look_up(self, finder: PhotoFinder) -> None:
        """Finds the photos at the places where programs keep them, seen from the file."""
        folders = [folder for folder in self._folders() if folder in finder.folders]
        self.paths = [finder.find(name, folders) if (name := _file_name(entry)) else None for entry in self.images]

    def missing(self) -> Iterator[tuple[int, str]]:
        """The place in `images` and the name of each photo that was not found."""
        for i, (entry, path) in enumerate(zip(self.images, self.paths, strict=True)):
            if path is None and (name := _file_name(entry)):
                yield i, name

    def read_categories(self) -> None:
        """Fills `names` in the order of the ids, and `groups`."""
        if not self.content.get("categories") and self.content.get("annotations"):
            what = "the file has no categories: classes are called by their numbers"
            self._warn(what, "Add them", "no class names")
        found: dict[str, dict[str, Any]] = {}
        for what, entry in self._entries("categories"):
            key, name = _key(entry.get("id")), entry.get("name")
            if not key or not isinstance(name, str | int | float) or not str(name).strip():
                self._bad(f"{what}: found id {entry.get('id')!r} and name {name!r}, expected both", None, "Correct it")
            elif key in found and str(found[key]["name"]).strip() != str(name).strip():
                first = found[key]["name"]
                self._bad(f"{what}: its id {key} is {first!r} already, and here {name!r}", None, "Give it another id")
            else:
                found[key] = entry
        self.names = {key: str(found[key]["name"]).strip() for key in sorted(found, key=numbers_first)}
        for name, count in Counter(self.names.values()).items():
            if count > 1:
                ids = ", ".join(key for key, other in self.names.items() if other == name)
                what = f"the category {name!r} stands {count} times (ids {ids}) and is taken as one class"
                todo, kind = "Keep one of them, or give them different names", "repeated class name"
                self.findings.append(Finding(self.source, what, todo, "warning", kind=kind, mend=ONE_CLASS))
        above = {name.strip() for entry in found.values() if isinstance(name := entry.get("supercategory"), str)}
        self.groups = {
            self.names[key]
            for key, entry in found.items()
            if entry.get("supercategory") in (None, "", "none") and self.names[key] in above
        }

    def read_images(self, taken: dict[Path, _File]) -> None:
        """Fills `by_id`, `here` and `again`; `taken` says which file read a photo, and learns of these."""
        part = part_of_file(self.path, self.root)
        missing: list[str] = []
        for entry, path in zip(self.images, self.paths, strict=True):
            key, name = _key(entry.get("id")), _file_name(entry)
            photo = None
            if not name:
                self._bad(f"image {key}: found file_name {entry.get('file_name')!r}, expected a photo's", None)
            elif path is None:
                missing.append(f"{name} (image {key})")
            elif taken.setdefault(path, self) is not self:
                photo = self.again.setdefault(path, RawPhoto(path, stored_size=_size(entry)))
            elif path in self.here:
                photo = self.here[path]
                what = f"image {key}: the photo {name} is listed twice, and has the boxes of both entries"
                self._warn(what, "Keep one of them", "photo listed twice", path)
            else:
                photo = RawPhoto(path, stored_size=_size(entry), part=part, labelled="annotations" in self.content)
                self.here[path] = photo
            if not key:
                if photo:
                    self._bad("the image has no id, by which annotations could name it", photo)
            elif key in self.by_id and self.by_id[key] is not photo:
                # Whose the annotations are, nobody can say.
                for one in filter(None, (self.by_id[key], photo)):
                    self._bad(f"image {key}: several photos have this id", one, "Give each its own")
                self.by_id[key] = None
            else:
                self.by_id[key] = photo
        if 1 < len(missing) == len(self.images):
            what = f"none of its {len(missing):,} photos is there, such as {missing[0]}"
            self._warn(what, "Bring them here, or remove the file", "label without photo")
        else:
            self.findings += [without_photo(self.source, name) for name in missing]

    def read_annotations(self) -> None:
        """Gives the photos their boxes."""
        if "images" not in self.content:
            return
        if "annotations" not in self.content:
            self._warn("the file has no list of annotations: its photos count as unlabelled", "", "no annotations")
        named = bool(self.content.get("categories"))
        seen: set[str] = set()
        repeated = []
        for what, entry in self._entries("annotations"):
            key, image, category = (_key(entry.get(name)) for name in ("id", "image_id", "category_id"))
            if key and key in seen:
                repeated.append(what)
            seen.add(key)
            photo = self.by_id.get(image)
            if image not in self.by_id:
                found = repr(entry.get("image_id"))
                self._bad(f"{what}: found image_id {found}, which no image has", None, "Correct or remove it")
            elif photo and category not in self.names and (named or not category):
                found = repr(entry.get("category_id"))
                self._bad(f"{what}: found category_id {found}, which no category has", photo)
            elif photo:
                self._read_annotation(what, entry, self.names.setdefault(category, category), photo)
        if not named:
            self.names = {key: key for key in sorted(self.names, key=numbers_first)}
        if repeated:
            words = f"{len(repeated):,} annotations have an id that another has already, the first is {repeated[0]}"
            self._warn(f"{words}: all are read", "Number them anew: pycocotools keeps one of each", "repeated id")
        self._see_corners()

    def _see_corners(self) -> None:
        """Takes the boxes of all photos away where most of them can be nothing but x1, y1, x2, y2."""
        photos = [*self.here.values(), *self.again.values()]
        pairs = [(box.corners, photo.stored_size) for photo in photos if photo.stored_size for box in photo.boxes]
        meant = sum(_are_corners(corners, size) for corners, size in pairs)
        if meant < SEVERAL or 2 * meant <= len(pairs):
            return
        what = (
            f"{meant:,} of {counted(len(pairs), 'box', 'boxes')} lie outside their photos as x, y, width, height, and "
            "inside as x1, y1, x2, y2: the file seems to have corners, and none of its boxes is read"
        )
        self._bad(what, None, "Write the width x2 - x1 and the height y2 - y1 in their place")
        for photo in photos:
            photo.boxes, photo.labelled = [], False

    def bring_together(self, taken: Mapping[Path, _File]) -> None:
        """Holds the photos that another file has read against it, and adds the boxes of classes that it does not have.

        So do files of one class each; in a second file of some classes, such as COCO's people with keypoints, nothing
        is new.
        """
        self.classes = {box.label for photo in (*self.here.values(), *self.again.values()) for box in photo.boxes}
        known, added = Counter[str](), Counter[str]()
        for path, photo in self.again.items():
            other = taken[path]
            first = other.here[path]
            first.labelled |= "annotations" in self.content
            new = [box for box in photo.boxes if not any(_is_same(box, one) for one in first.boxes)]
            if new and self.classes & other.classes:
                todo = "Keep the one that counts"
                self._bad(f"{other.path.name} labels the photo {path.name} otherwise", photo, todo)
            else:
                first.boxes += new
                other.classes |= {box.label for box in new}
                (added if new else known)[other.path.name] += 1
        for name, count in known.items():
            what = f"{count:,} of its photos are labelled by {name} already, and are read from there"
            self._warn(what, "Keep one of the two, or name the one that counts", "photo listed twice")
        for name, count in added.items():
            what = f"{count:,} of its photos are listed by {name} too, with other classes: they have the boxes of both"
            self._warn(what, "Bring the files together, if that is so", "photo listed twice")

    def _read_annotation(self, what: str, entry: dict[str, Any], name: str, photo: RawPhoto) -> None:
        polygons, fault = _outlines(entry.get("segmentation"), photo.stored_size)
        box = entry.get("bbox")
        if box is None or box == []:
            corners = box_around(polygons) if polygons else None
            if corners is None:
                found = fault or "no segmentation"
                self._bad(f"{what}: found no bbox and {found}, expected one of the two", photo, "Draw its box")
                return
        elif (corners := _corners(box)) is None:
            shown = json.dumps(box, ensure_ascii=False)[:60]
            self._bad(f"{what}: found the bbox {shown}, expected four numbers x, y, width, height", photo)
            return
        elif box[2] < 0 or box[3] < 0:
            shown = json.dumps(box)
            self._bad(
                f"{what}: the bbox {shown} (x, y, width, height) has a side below 0, expected both above 0", photo
            )
            return
        if fault:
            words = f"{what}: found {fault}: its outline is left out, the box stays"
            self._warn(words, "Draw it anew, if outlines are wanted", "unreadable outline", photo.path)
        ignore = entry.get("iscrowd") in YES or entry.get("ignore") in YES
        photo.boxes.append(RawBox(corners, name, self.source, ignore, polygons or None))

    def _entries(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """What each entry of a list is called in a finding, and the entry."""
        entries = self.content.get(name, [])
        word = {"images": "image", "annotations": "annotation", "categories": "category"}[name]
        if not isinstance(entries, list):
            self._bad(f"{name} is no list", None, "Write it as one")
            return
        for place, entry in enumerate(entries):
            if not isinstance(entry, dict):
                shown = json.dumps(entry, ensure_ascii=False)[:40]
                self._bad(f"{name}: found {shown} at place {place}, expected an object", None, "Remove it")
            elif (key := entry.get("id")) is None:
                yield f"{word} at place {place}", entry
            else:
                yield f"{word} {key}", entry

    def _folders(self) -> Iterator[Path]:
        """Where the photos may be: a folder that is named like the file first, since others may have the same names.

        instances_train2017.json: train2017/ or images/train2017/ beside it or one above.
        """
        stem = self.path.stem
        words = [stem, *re.split(r"[_\-. ]+", stem)]
        part = part_of_file(self.path, self.root)
        named = [*(word for word in words if part_of_name(word) == part), FOLDERS[part], part] if part else []
        near = (self.path.parent, self.path.parent.parent)
        for base in near:
            for name in dict.fromkeys([*named, stem, stem.partition("_")[2]]):
                yield from (base / name, base / "images" / name, base / name / "images") if name else ()
        for base in (*near, self.root):
            yield from (base, base / "images")

    def _bad(self, what: str, photo: RawPhoto | None, todo: str = "Correct it") -> None:
        self.findings.append(bad_label(self.source, what, photo.path if photo else None, todo))

    def _warn(self, what: str, todo: str, kind: str, photo: Path | None = None) -> None:
        self.findings.append(Finding(self.source, what, todo, "warning", photo, kind))


def _key(value: object) -> str:
    """An id as text: 17, 17.0 and "17" are the same. "" where there is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


def _file_name(entry: dict[str, Any]) -> str:
    """The photo's name; LVIS gives its address alone."""
    name = entry.get("file_name") or entry.get("coco_url")
    return name.strip() if isinstance(name, str) else ""


def _size(entry: dict[str, Any]) -> tuple[int, int] | None:
    sides = _numbers([entry.get("width"), entry.get("height")])
    return (int(sides[0]), int(sides[1])) if sides and min(sides) >= 1 else None


# ---- Boxes and outlines ----


def _is_same(one: RawBox, other: RawBox) -> bool:
    """Whether two files say the same of an object."""
    pairs = zip(one.corners, other.corners, strict=True)
    return one.label == other.label and max(abs(a - b) for a, b in pairs) <= APART


def _numbers(values: object) -> list[float] | None:
    """The values, where they are a list of finite numbers."""
    if not isinstance(values, list) or not {type(value) for value in values} <= {int, float}:
        return None
    try:
        return values if math.isfinite(sum(values)) else None
    except OverflowError:  # a whole number of 400 digits
        return None


def _corners(box: object) -> tuple[float, float, float, float] | None:
    """From x, y, width, height to x1, y1, x2, y2."""
    values = _numbers(box)
    if values is None or len(values) != 4:
        return None
    x, y, width, height = values
    return x, y, x + width, y + height


def _are_corners(box: tuple[float, float, float, float], size: tuple[int, int]) -> bool:
    """Whether a box x, y, x + width, y + height leaves its photo, and one of corners x, y, width, height would not."""
    x, y, right, bottom = box
    width, height = (side * (1 + OVERHANG) for side in size)
    return (right > width or bottom > height) and x < right - x <= width and y < bottom - y <= height


def _outlines(segmentation: object, size: tuple[int, int] | None) -> tuple[list[list[float]], str]:
    """The outlines of a segmentation, each x y x y ..., and what is wrong with it, or "".

    Args:
        size: the photo's width and height, as the file gives them.
    """
    if isinstance(segmentation, dict):
        return _trace(segmentation, size)
    if not segmentation:
        return [], ""
    if _numbers(segmentation):  # one outline without the list around it
        segmentation = [segmentation]
    if not isinstance(segmentation, list):
        return [], f"the segmentation {str(segmentation)[:40]!r}, expected lists of x, y, x, y, ..."
    outlines = [outline for outline in segmentation if outline != []]
    good = [outline for outline in outlines if _numbers(outline) and len(outline) >= 6 and len(outline) % 2 == 0]
    return good, "" if len(good) == len(outlines) else "an outline that is no list of at least three points x, y"


def _trace(rle: dict[str, Any], size: tuple[int, int] | None) -> tuple[list[list[float]], str]:
    """The outer outlines of a mask of run lengths, whole in a list or as COCO's packed text."""
    sides, counts = _numbers(rle.get("size")), rle.get("counts")
    if sides is None or len(sides) != 2 or min(sides) < 1 or not isinstance(counts, str | list):
        return [], "a mask without its size (height, width) and counts"
    height, width = map(int, sides)
    if (width, height) != (size or (width, height)) or width * height > MOST_PIXELS:
        return [], f"a mask of {width} x {height} pixels, expected the photo's size"
    try:
        packed = {"size": [height, width], "counts": counts}
        if isinstance(counts, list):
            packed = coco_mask.frPyObjects(packed, height, width)
        left, top, right, bottom = coco_mask.toBbox(packed).astype(int).tolist()
        right, bottom = left + right, top + bottom
        pixels = coco_mask.decode(packed)[top:bottom, left:right]
    except (ValueError, RuntimeError, TypeError, OverflowError):
        return [], "a mask whose counts do not fill its size"
    if not pixels.any():
        return [], "a mask without a pixel"
    outlines = []
    for ring in trace_contours(pixels, left, top):
        step = ring - np.roll(ring, 1, 0)
        turns = (step != np.roll(step, -1, 0)).any(1)  # points on a straight line say nothing
        outlines.append(ring[turns].flatten().tolist())
    return outlines, ""


# ---- Writing ----


def _content(listed: Sequence[tuple[Photo, str]], names: Sequence[str]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (photo, name) in enumerate(listed, start=1):
        images.append({"id": number, "file_name": name, "width": photo.width, "height": photo.height})
        masks: Sequence[Sequence[Polygon]] = photo.masks or [[]] * len(photo.boxes)
        entries = zip(photo.boxes.tolist(), photo.labels.tolist(), photo.ignore.tolist(), masks, strict=True)
        for (x1, y1, x2, y2), label, ignore, mask in entries:
            box = [round(x1, 3), round(y1, 3), round(x2 - x1, 3), round(y2 - y1, 3)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": round(sum(map(_area, mask)) if mask else box[2] * box[3], 3),
                    "iscrowd": int(ignore),
                    "segmentation": [[round(v, 3) for v in polygon.flatten().tolist()] for polygon in mask],
                }
            )
    categories = [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _area(polygon: Polygon) -> float:
    """Square pixels within an outline [P, 2] (shoelace formula)."""
    x, y = polygon.double().unbind(1)
    return float((x * y.roll(-1) - y * x.roll(-1)).sum().abs()) / 2
