"""YOLO: one .txt a photo, with a line `class cx cy w h` for each box or `class x1 y1 x2 y2 x3 y3 ...` for each outline.

Coordinates are shares of the photo's width and height. data.yaml names the classes and says where the parts lie;
darknet's obj.data and obj.names, and labelImg's classes.txt, are read as well. The .txt lies beside its photo, or in
labels/ where the photo is in images/. A photo without one shows nothing, unless no photo of its folder has one: then
nobody labelled them.

The format has one outline an object. Of several, one is written that goes from each to the next along a line and back
on the same, so that box and area stay what they are.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import yaml

from foodbox.data.formats.common import (
    LEFT_OUT,
    ONE_CLASS,
    Labels,
    RawBox,
    RawPhoto,
    bad_label,
    box_around,
    copy_photos,
    numbers,
    read_text,
    without_photo,
)
from foodbox.data.formats.photo_names import NearestPhotos, PhotoFinder, bare, composed
from foodbox.data.listing import Listing, scan
from foodbox.files import write_whole
from foodbox.findings import Finding, Source
from foodbox.masks import Polygon
from foodbox.records import Dataset, Photo

PARTS = {"train": "train", "val": "valid", "valid": "valid", "validation": "valid", "test": "test"}
"""Keys of data.yaml, and the part that each names."""
KEYS = {"train": "train", "valid": "val", "test": "test"}
LABEL_FOLDERS = {"images": "labels", "Images": "Labels", "JPEGImages": "labels"}
LOOKS = 20
"""Label files that are looked into before the format is known."""
LARGEST = 1 << 20
"""Bytes of a data.yaml; LVIS's 1,203 classes take 30,000."""
PIXELS = 2.0
"""A coordinate above cannot be a share of a side, however far the box sticks out."""
SAME = 1.0
"""Pixels by which an outline's sides may differ from its box: then the box is lost that stood beside it."""


@dataclass(frozen=True)
class _Config:
    """What a data.yaml or an obj.data says.

    Attributes:
        file: where it is.
        text: all of it.
        content: its keys; all values are text, or lists and dicts of text.
        names: the classes, or None where it has none.
    """

    file: Path
    text: str
    content: dict[str, Any]
    names: list[str] | None

    @property
    def path(self) -> str:
        """The folder that all others start from; "" is the file's own."""
        found = self.content.get("path")
        return found if isinstance(found, str) else ""

    @property
    def keypoints(self) -> int:
        """Numbers behind each box that say where points of a body are."""
        shape = self.content.get("kpt_shape")
        values = numbers(shape) if isinstance(shape, list) and all(isinstance(v, str) for v in shape) else None
        return int(values[0] * values[1]) if values and len(values) == 2 else 0

    def entries(self) -> Iterator[tuple[str, str]]:
        """Each folder or list of photos that the file names, with its key."""
        for key in PARTS:
            value = self.content.get(key) or []
            for text in [value] if isinstance(value, str) else value:
                if isinstance(text, str) and text.strip():
                    yield key, text.strip()

    def source(self, key: str) -> Source:
        """Where a key stands."""
        lines = self.text.splitlines()
        return Source(self.file, next((n for n, line in enumerate(lines, 1) if re.match(rf"{key}\s*[:=]", line)), None))


def fits(listing: Listing) -> bool:
    """Whether there is a data.yaml, or a photo's .txt has a line of a class and shares."""
    ending = listing.label.suffix.lower() if listing.label else ".txt"
    if ending in (".yaml", ".yml"):
        return bool(_configs(listing, []))
    if ending not in (".txt", ".names", ".data"):
        return False
    if _configs(listing, []):
        return True
    if not (texts := _texts(listing)):
        return False
    some = (label for path in listing.photos if (label := _label(path, texts)) and listing.stamp(label)[0])
    looked_at = list(islice(some, LOOKS)) or list(islice(_elsewhere(listing, texts).values(), LOOKS))
    return any(_is_label(label, largest=PIXELS) for label in looked_at)


def read(listing: Listing) -> Labels:
    """The photos below the folder, and those that data.yaml names elsewhere, with their boxes and outlines."""
    labels = Labels()
    configs = _configs(listing, labels.findings)
    unread = next(iter(labels.findings), None)  # a data.yaml whose classes cannot be read
    listing = _with_others(listing, configs)
    classes = _classes(listing, configs, labels.findings)
    parts, lists = _parts(listing, configs, labels.findings)
    texts = _texts(listing)
    found = {path: _label(path, texts) for path in listing.photos}
    if not any(found.values()):
        found |= _elsewhere(listing, texts)
    used = {path.parent for path, label in found.items() if label}
    reader = _Reader(classes, max((config.keypoints for config in configs), default=0), labels.findings)
    for path, label in found.items():
        part = parts.get(path, "" if not parts else None)
        labelled = label is not None or (part is not None and path.parent in used)
        photo = RawPhoto(path, labelled=labelled, fractions=True, part=part or "")
        if label and unread and not classes:  # numbers would be taken for names
            labels.findings.append(dataclasses.replace(unread, photo=path, mend=LEFT_OUT))
        elif label:
            reader.read(label, photo)
        labels.photos.append(photo)
    labels.names = reader.names_of_all()
    taken = {label for label in found.values() if label} | lists
    labels.findings += _without_photo([text for text in texts.values() if text not in taken], taken)
    return labels


def write(dataset: Dataset, folder: Path) -> None:
    """Copies the photos to folder/images and writes folder/labels and folder/data.yaml.

    Where photos have parts, they lie in images/train, val and test. Where they have none, data.yaml names images/ as
    train and as val, which other programs ask for. A photo has outlines if all of its boxes have one.
    """
    parts = {photo.part for photo in dataset}
    for part in sorted(parts):
        own = dataset.with_photos([photo for photo in dataset if photo.part == part])
        for photo, target in copy_photos(own, folder / "images" / KEYS.get(part, part)):
            write_whole(folder / "labels" / KEYS.get(part, part) / f"{target.stem}.txt", "".join(_lines(photo)))
    places = {KEYS[part]: f"images/{KEYS[part]}" for part in KEYS if part in parts}
    content = {**(places or {"train": "images", "val": "images"}), "nc": len(dataset.names), "names": dataset.names}
    write_whole(folder / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


# ---- What the labels belong to ----


def _configs(listing: Listing, findings: list[Finding]) -> list[_Config]:
    """All data.yaml, the nearest to the folder first, one of each folder's classes; without one, darknet's obj.data."""
    found = []
    for file in _small(listing, ".yaml", ".yml"):
        text = read_text(file, []) or ""
        try:
            # BaseLoader leaves all as text: to YAML a class named no is False, and 2024-01-01 is a date.
            content = yaml.load(text, Loader=yaml.BaseLoader)
        except (yaml.YAMLError, RecursionError) as fault:
            if re.search(r"^names\s*:", text, re.M):
                mark = getattr(fault, "problem_mark", None)
                what = f"the file is no whole YAML ({getattr(fault, 'problem', None) or fault})"
                findings.append(bad_label(Source(file, mark.line + 1 if mark else None), what, None, "Correct it"))
            continue
        if isinstance(content, dict) and any(key in content for key in (*PARTS, "nc")):
            config = _Config(file, text, content, _listed_names(content.get("names")))
            if config.names:
                found.append(config)
            elif "names" in content:
                what = "names is neither a list of the classes nor numbers from 0 with a name each"
                findings.append(bad_label(config.source("names"), what, None, "Correct it"))
    if not found:
        for file in _small(listing, ".data"):
            text = read_text(file, []) or ""
            pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
            content = {key.strip(): value.strip() for key, value in pairs}
            if any(key in content for key in PARTS):
                found.append(_Config(file, text, content, None))
    found.sort(key=lambda config: (len(config.file.parts), config.file.name != "data.yaml", config.file))
    first: dict[Path, _Config] = {}
    for config in found:
        mine = first.setdefault(config.file.parent, config)
        if config.names != mine.names:
            what = f"its classes are others than those of {mine.file}, and are not read"
            findings.append(bad_label(config.source("names"), what, None, "Name the one file that counts"))
    return [config for config in found if config.names == first[config.file.parent].names]


def _small(listing: Listing, *endings: str) -> list[Path]:
    return [file for file in listing.ending(*endings) if listing.stamp(file)[0] <= LARGEST]


def _listed_names(names: object) -> list[str] | None:
    """`names` of a data.yaml, a list or a dict from number to name, in the order of the numbers."""
    if isinstance(names, str):
        return [name.strip() for name in names.split(",") if name.strip()]
    if isinstance(names, list):
        return [str(name).strip() for name in names]
    if isinstance(names, dict) and names and all(key.isdecimal() and len(key) < 6 for key in names):
        found = {int(key): str(name).strip() for key, name in names.items()}
        return [found.get(i, str(i)) for i in range(max(found) + 1)]
    return None


def _classes(listing: Listing, configs: Sequence[_Config], findings: list[Finding]) -> dict[Path, list[str]]:
    """Folder → the classes by their numbers of the labels below it, from data.yaml or a file with a name a line.

    A list that goes on as another one begins is taken for both.
    """
    found: dict[Path, list[str]] = {}
    sources: dict[Path, Source] = {}
    for config in configs:
        if config.names and config.file.parent not in found:
            found[config.file.parent], sources[config.file.parent] = config.names, config.source("names")
            nc = config.content.get("nc")
            if isinstance(nc, str) and nc.strip() != str(len(config.names)):
                what = f"found nc {nc} and {len(config.names)} names: the names count"
                findings.append(Finding(config.source("nc"), what, "Correct it", "warning", kind="number of classes"))
    if not found:
        files = [*listing.ending(".names"), *listing.named("classes.txt", "_darknet.labels")]
        texts = {file: (read_text(file, []) or "").strip().splitlines() for file in files}
        lists = {file: [line.strip() for line in lines] for file, lines in texts.items() if lines}
        # labelImg writes one a folder, which grows as classes are met: the longest has them all.
        longest_first = sorted(lists, key=lambda file: -len(lists[file]))
        for file in longest_first:
            names = lists[file]
            of = next(other for other in longest_first if lists[other][: len(names)] == names)
            mine = found.setdefault(file.parent, lists[of])
            sources.setdefault(file.parent, Source(of))
            if mine != lists[of]:
                what = f"its classes are others than those of {sources[file.parent].path}, and are not read"
                findings.append(bad_label(Source(file), what, None, "Keep the one that counts"))
        found = {file.parent: found[file.parent] for file in lists}  # in the order of the paths
    for folder, names in found.items():
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            numbered = ", ".join(str(i) for i, other in enumerate(names) if other == name)
            what = f"the class {name!r} stands {names.count(name)} times ({numbered}) and is taken as one"
            todo, kind = "Keep one of them, or give them different names", "repeated class name"
            findings.append(Finding(sources[folder], what, todo, "warning", kind=kind, mend=ONE_CLASS))
    return found


def _with_others(listing: Listing, configs: Sequence[_Config]) -> Listing:
    """The listing, and the folders elsewhere that a data.yaml says the whole way to, with their labels."""
    places = _places(listing, PhotoFinder(listing.photos))
    files = dict(listing.files)
    folders: set[Path] = set()
    for config in configs:
        for _, text in config.entries():
            place = _place(text, config, listing.root, places)
            # ../train/images alone is Roboflow's, and one level too high.
            if place is None and (config.path or Path(text).is_absolute()):
                place = Path(os.path.normpath(config.file.parent / config.path / text))
                if place.is_dir():
                    folders.add(place)
                elif place.suffix == ".txt" and place.is_file():
                    files |= {path: entry for path, entry in scan(place).files.items() if path == str(place)}
            if place is not None and place.is_file():
                folders |= _folders_of_list(place, config, listing)
    root = listing.root.resolve()
    for folder in folders:
        if not folder.resolve().is_relative_to(root):
            labels = _in_labels(folder / "_").parent
            files |= scan(folder).files | (scan(labels).files if labels.is_dir() else {})
    return Listing(listing.root, files, listing.label) if len(files) > len(listing.files) else listing


def _folders_of_list(file: Path, config: _Config, listing: Listing) -> set[Path]:
    """The folders elsewhere of photos that a list names."""
    bases = (file.parent, config.file.parent / config.path, config.file.parent)
    lines = {line.strip() for line in (read_text(file, []) or "").splitlines()} - {""}
    paths = {Path(os.path.normpath(base / line)) for line in lines for base in bases}
    return {path.parent for path in paths if path not in listing and path.is_file()}


def _places(listing: Listing, finder: PhotoFinder) -> dict[str, str]:
    """Folders with photos, and all files, by their paths with letters in one piece."""
    return {composed(path): path for path in (*map(str, finder.folders), *listing.files)}


def _place(text: str, config: _Config, root: Path, places: Mapping[str, str]) -> Path | None:
    """The folder or list that a data.yaml names."""
    found = (places.get(composed(str(near))) for near in _near(text, config, root))
    return next((Path(place) for place in found if place), None)


def _near(text: str, config: _Config, root: Path) -> Iterator[Path]:
    """Where a folder or list of a data.yaml may be, the likeliest first.

    From `path`, from the file and from the root; then with the front taken off part by part: ../ of Roboflow, which is
    a level too high, and folders of another computer.
    """
    bases = list(dict.fromkeys((config.file.parent / config.path, config.file.parent, root)))
    for base in bases:
        yield Path(os.path.normpath(base / text))
    parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for first in range(len(parts)):
        if first and parts[first:] == ["images"]:  # of train/images too, but not only
            break
        yield from (base.joinpath(*parts[first:]) for base in bases)


def _parts(listing: Listing, configs: Sequence[_Config], findings: list[Finding]) -> tuple[dict[Path, str], Set[str]]:
    """Photo → its part, of those that are named; and the lists of photos that were read.

    A photo named for training and for another part has none: there is no split.
    """
    finder = PhotoFinder(listing.photos)
    places = _places(listing, finder)
    by_folder: dict[Path, set[str]] = defaultdict(set)
    by_photo: dict[Path, set[str]] = defaultdict(set)
    lists: dict[str, list[Path]] = {}
    for config in configs:
        for key, text in config.entries():
            place = _place(text, config, listing.root, places)
            if place is None:
                what = f"{key} names {text}, which is not there or holds no photos"
                todo = "Bring the photos there, or correct the line"
                findings.append(Finding(config.source(key), what, todo, "warning", kind="missing folder"))
            elif place in finder.folders:
                by_folder[place].add(PARTS[key])
            else:
                if str(place) not in lists:
                    lists[str(place)] = list(_listed_photos(place, config, finder, findings))
                for photo in lists[str(place)]:
                    by_photo[photo].add(PARTS[key])
    found: dict[Path, str] = {}
    for path in listing.photos:
        nearest = next((folder for folder in path.parents if folder in by_folder), None)
        named = by_photo.get(path) or (by_folder[nearest] if nearest else set())
        if named:
            found[path] = "" if "train" in named and len(named) > 1 else min(named, key=list(KEYS).index)
    return found, lists.keys()


def _listed_photos(file: Path, config: _Config, finder: PhotoFinder, findings: list[Finding]) -> Iterator[Path]:
    """The photos that a list names, a line each."""
    lines = [line.strip() for line in (read_text(file, findings) or "").splitlines()]
    folders = [file.parent, config.file.parent / config.path, config.file.parent]
    missing = []
    for number, line in enumerate(lines, start=1):
        same = finder.anywhere(line)
        whole = [Path(Path(line).anchor)] if Path(line).is_absolute() else []
        if path := finder.find(line, [*whole, *folders]) or (same[0] if len(same) == 1 else None):
            yield path
        elif line:
            missing.append((number, line))
    if len(missing) > 1 and len(missing) == sum(map(bool, lines)):
        what = f"none of its {len(missing):,} photos is there, such as {missing[0][1]}"
        findings.append(Finding(Source(file), what, "Bring them here", "warning", kind="missing folder"))
    else:
        findings += [without_photo(Source(file, number), line) for number, line in missing]


def _texts(listing: Listing) -> dict[str, str]:
    """All .txt files by their paths without the ending, letters in one piece (macOS writes Korean ones in several)."""
    return {composed(file[:-4]): file for file in listing.files if file[-4:].lower() == ".txt"}


def _label(photo: Path, texts: Mapping[str, str]) -> str | None:
    """A photo's .txt: where `images` is `labels`, or beside it."""
    stem = photo.with_suffix("")
    return texts.get(composed(str(_in_labels(stem)))) or texts.get(composed(str(stem)))


def _elsewhere(listing: Listing, texts: Mapping[str, str]) -> dict[Path, str]:
    """Photo → its .txt, where folders that hold no photos are called otherwise: image/a.jpg and label/a.txt.

    Not asked where some photo has its label in the usual place: what else is there may be what a program found.
    """
    folders = {path.parent for path in listing.photos}
    apart = {text: bare(stem) for stem, text in texts.items() if Path(text).parent not in folders}
    names = set(apart.values())
    near = NearestPhotos()
    for path in listing.photos if names else ():
        for name in (composed(path.stem), composed(path.name)):  # a.jpg.txt
            if name in names:  # of 40,000 photos beside a README.txt none has
                near.add(name, path)
    found = defaultdict(list)
    for text, name in apart.items():
        if len(paths := near.find(name, Path(text))) == 1:
            found[paths[0]].append(text)
    return {path: some[0] for path, some in found.items() if len(some) == 1 and _is_label(some[0])}


def _in_labels(path: Path) -> Path:
    """A path whose last folder `images` is `labels`."""
    parts = list(path.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] in LABEL_FOLDERS:
            parts[i] = LABEL_FOLDERS[parts[i]]
            return Path(*parts)
    return path


def _without_photo(texts: Sequence[str], taken: set[str]) -> list[Finding]:
    """Findings for the labels among .txt files that belong to no photo; one for a folder without any photos."""
    by_folder = defaultdict(list)
    for text in texts:
        if _is_label(text):
            by_folder[Path(text).parent].append(Path(text))
    with_photos = {Path(label).parent for label in taken}
    findings = []
    for folder, files in by_folder.items():
        if len(files) > 1 and folder not in with_photos:
            findings.append(without_photo(Source(folder), f"of any of its {len(files):,} label files"))
        else:
            findings += [without_photo(Source(file), f"named {file.stem}") for file in files]
    return findings


# ---- Lines ----


def _is_label(file: str, largest: float | None = None) -> bool:
    """Whether a text begins with a line of a class and four numbers or more, none above `largest`."""
    lines = (read_text(file, []) or "").split("\n", 50)[:50]
    values = next((numbers(line.split()) for line in lines if line.strip()), None)
    if values is None or len(values) < 5 or not values[0].is_integer() or values[0] < 0:
        return False
    return largest is None or max(map(abs, values[1:])) <= largest


class _Reader:
    """Reads label files, each with the classes of the nearest folder above it that has some.

    Args:
        classes: folder → the classes by their numbers; without any, they are called by these.
        keypoints: numbers behind a box that are not read.
    """

    def __init__(self, classes: Mapping[Path, list[str]], keypoints: int, findings: list[Finding]) -> None:
        self.classes = classes
        self.keypoints = keypoints
        self.findings = findings
        self.seen: set[int] = set()
        self._found: dict[Path, list[str] | None] = {}
        self.first = Source("")
        self.scores: list[Source] = []

    def names_of_all(self) -> list[str]:
        """The classes, each once, after all files were read; and findings on them."""
        if self.scores:
            what = f"{len(self.scores):,} boxes have a sixth number, taken as a score: a program found them, no person"
            todo = "Look at some of them before you train on them"
            self.findings.append(Finding(self.scores[0], what, todo, "warning", kind="boxes with scores"))
        if self.classes:
            return list(dict.fromkeys(name for names in self.classes.values() for name in names))
        if self.seen:
            what = "no data.yaml, classes.txt or obj.names names the classes: they are called by their numbers"
            self.findings.append(Finding(self.first, what, "Add one", "note", kind="no class names"))
        return [str(number) for number in sorted(self.seen)]

    def read(self, label: str, photo: RawPhoto) -> None:
        """Gives a photo the boxes of its label file."""
        text = read_text(label, self.findings, photo.path)
        names = self._names(Path(label).parent)
        if names is None and self.classes:
            what = f"the classes of its labels are not known: {', '.join(map(str, self.classes))} have different ones"
            self.findings.append(bad_label(Source(label), what, photo.path, "Put the label below the list that counts"))
            return
        for number, line in enumerate((text or "").splitlines(), start=1):
            words = line.split()
            if not words:
                continue
            source = Source(label, number)
            values = numbers(words) or ()
            if fault := self._fault(line, values, names):
                self.findings.append(bad_label(source, fault, photo.path))
                continue
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

    def _names(self, folder: Path) -> list[str] | None:
        """The classes of a folder's labels; None where there are none, or several lists and none of them above it."""
        if folder not in self._found:
            above = next((self.classes[one] for one in (folder, *folder.parents) if one in self.classes), None)
            first, *others = self.classes.values() or [None]
            self._found[folder] = above or (first if all(names == first for names in others) else None)
        return self._found[folder]

    def _is_box(self, values: Sequence[float]) -> bool:
        return len(values) in (5, 6) or len(values) == 5 + self.keypoints

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


# ---- Writing ----


def outlined(photo: Photo) -> bool:
    """Whether a photo's outlines can be written: each box has one, and no other size than it.

    Other programs take a file's lines all as boxes or all as outlines.
    """
    pairs = zip(photo.masks or (), photo.boxes, strict=False)
    return photo.masks is not None and all(mask and _is_around(_joined(mask), box) for mask, box in pairs)


def _lines(photo: Photo) -> Iterator[str]:
    """A photo's label file. Six decimals are a hundredth of a pixel on a side of 13,000."""
    masks = photo.masks if photo.masks and outlined(photo) else [None] * len(photo.boxes)
    sides = torch.tensor([photo.width, photo.height], dtype=torch.float64)
    for box, label, mask in zip(photo.boxes.double(), photo.labels.tolist(), masks, strict=True):
        if mask is None:
            shares = torch.cat(((box[:2] + box[2:]) / 2 / sides, (box[2:] - box[:2]) / sides))
        else:
            shares = (_joined(mask) / sides).flatten()
        yield " ".join([str(label), *(f"{value:.6f}" for value in shares.tolist())]) + "\n"


def _joined(outlines: Sequence[Polygon]) -> Polygon:
    """Several outlines as one [P, 2]: from the first one's first point to each other one, around it, and back."""
    first, *others = outlines
    start = first[:1]
    return torch.cat([first, *([start] if others else []), *(torch.cat((o, o[:1], start)) for o in others)])


def _is_around(outline: Polygon, box: torch.Tensor) -> bool:
    """Whether the box [4] around the outline [P, 2] is this one."""
    return bool((torch.cat((outline.amin(0), outline.amax(0))) - box).abs().max() <= SAME)
