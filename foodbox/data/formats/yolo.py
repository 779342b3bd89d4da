"""YOLO: one .txt a photo, with a line `class cx cy w h` for each box or `class x1 y1 x2 y2 x3 y3 ...` for each outline.

Coordinates are shares of the photo's width and height. data.yaml names the classes and says where the parts lie;
darknet's obj.data and obj.names, and labelImg's classes.txt, are read as well. The .txt lies beside its photo, or in
labels/ where the photo is in images/. A photo without one shows nothing, unless no photo of its folder has one: then
nobody labelled them.

The format has one outline an object. Of several, one is written that goes from each to the next along a line and back
on the same, so that box and area stay what they are.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import islice
from pathlib import Path

import torch
import yaml

from foodbox.data.formats.common import (
    PIXELS,
    Labels,
    RawPhoto,
    copy_photos,
    read_text,
    without_photo,
)
from foodbox.data.formats.photo_names import NearestPhotos, PhotoFinder, bare, composed
from foodbox.data.formats.yolo_classes import (
    LISTS,
    PARTS,
    ClassList,
    Config,
    LabelClasses,
    find_above,
    find_configs,
    find_lists,
    likely_places,
)
from foodbox.data.formats.yolo_lines import LineReader, is_label
from foodbox.data.listing import Listing, scan
from foodbox.files import write_whole
from foodbox.findings import Finding, Source
from foodbox.masks import Polygon
from foodbox.records import Dataset, Photo

KEYS = {"train": "train", "valid": "val", "test": "test"}
LABEL_FOLDERS = {"images": "labels", "Images": "Labels", "JPEGImages": "labels"}
RESERVED = {Path(name).stem for name in LISTS}
"""A photo of such a name would have a label that is taken for a list of classes."""
LOOKS = 20
"""Label files that are looked into before the format is known."""
SAME = 1.0
"""Pixels by which an outline's sides may differ from its box: then the box is lost that stood beside it."""


def fits(listing: Listing) -> bool:
    """Whether there is a data.yaml, or a photo's .txt has a line of a class and shares."""
    ending = listing.label.suffix.lower() if listing.label else ".txt"
    if ending in (".yaml", ".yml"):
        return bool(find_configs(listing, []))
    if ending not in (".txt", ".names", ".data"):
        return False
    if listing.label and ending == ".txt" and listing.label.name.lower() not in LISTS:
        return False
    if find_configs(listing, []):
        return True
    if not (texts := _texts(listing)):
        return False
    some = (label for path in listing.photos if (label := _label(path, texts)) and listing.stamp(label)[0])
    looked_at = (
        list(islice(some, LOOKS))
        or list(islice(_in_other_capitals(listing.photos, texts).values(), LOOKS))
        or list(islice(_elsewhere(listing, texts).values(), LOOKS))
    )
    return any(is_label(label, largest=PIXELS) for label in looked_at)


def read(listing: Listing) -> Labels:
    """The photos below the folder, and those that data.yaml names elsewhere, with their boxes and outlines."""
    labels = Labels()
    configs = find_configs(listing, labels.findings)
    unread = {Path(fault.source.path).parent: ClassList([], fault.source, fault=fault) for fault in labels.findings}
    listing = _with_others(listing, configs)
    lists = find_lists(listing, configs, labels.findings)
    shapes = configs
    named_here = lists or unread or listing.label or any(config.classes.names for config in configs)
    if not named_here and (above := find_above(listing, labels.findings)):
        lists, shapes = {listing.root: above.classes}, [above]
    parts, named, photo_lists = _parts(listing, configs, labels.findings)
    texts = _texts(listing)
    found = {path: _label(path, texts) for path in listing.photos}
    used_texts = set(found.values())
    free = {stem: text for stem, text in texts.items() if text not in used_texts}
    found |= _in_other_capitals([path for path, label in found.items() if not label], free)
    if not any(found.values()):
        found |= _elsewhere(listing, texts)
    _see_twins(found, labels.findings)
    used = {path.parent for path, label in found.items() if label}
    classes = LabelClasses(configs, named, lists, unread, labels.findings)
    reader = LineReader(classes, max((config.keypoints for config in shapes), default=0), labels.findings)
    for path, label in found.items():
        part = parts.get(path, "" if not parts else None)
        labelled = label is not None or (part is not None and path.parent in used)
        photo = RawPhoto(path, labelled=labelled, fractions=True, part=part or "")
        if label:
            reader.read(label, photo)
        labels.photos.append(photo)
    reader.finish()
    labels.names = reader.names_of_all()
    taken = {label for label in found.values() if label} | photo_lists
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
        for photo, target in copy_photos(own, folder / "images" / KEYS.get(part, part), RESERVED):
            write_whole(folder / "labels" / KEYS.get(part, part) / f"{target.stem}.txt", "".join(_lines(photo)))
    places = {KEYS[part]: f"images/{KEYS[part]}" for part in KEYS if part in parts}
    content = {**(places or {"train": "images", "val": "images"}), "nc": len(dataset.names), "names": dataset.names}
    write_whole(folder / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


# ---- What the labels belong to ----


def _with_others(listing: Listing, configs: Sequence[Config]) -> Listing:
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


def _folders_of_list(file: Path, config: Config, listing: Listing) -> set[Path]:
    """The folders elsewhere of photos that a list names."""
    bases = (file.parent, config.file.parent / config.path, config.file.parent)
    lines = {line.strip() for line in (read_text(file, []) or "").splitlines()} - {""}
    paths = {Path(os.path.normpath(base / line)) for line in lines for base in bases}
    return {path.parent for path in paths if path not in listing and path.is_file()}


def _places(listing: Listing, finder: PhotoFinder) -> dict[str, str]:
    """Folders with photos, and all files, by their paths with letters in one piece."""
    return {composed(path): path for path in (*map(str, finder.folders), *listing.files)}


def _place(text: str, config: Config, root: Path, places: Mapping[str, str]) -> Path | None:
    """The folder or list that a data.yaml names."""
    found = (places.get(composed(str(near))) for near in likely_places(text, config, root))
    return next((Path(place) for place in found if place), None)


def _parts(
    listing: Listing, configs: Sequence[Config], findings: list[Finding]
) -> tuple[dict[Path, str], dict[Path, ClassList], Set[str]]:
    """Photo → its part, of those that are named; folder → the classes of who names it; lists of photos that were read.

    A photo named for training and for another part has none: there is no split.
    """
    finder = PhotoFinder(listing.photos)
    places = _places(listing, finder)
    by_folder: dict[Path, set[str]] = defaultdict(set)
    by_photo: dict[Path, set[str]] = defaultdict(set)
    classes: dict[Path, ClassList] = {}
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
                classes.setdefault(place, config.classes)
            else:
                if str(place) not in lists:
                    lists[str(place)] = list(_listed_photos(place, config, finder, findings))
                for photo in lists[str(place)]:
                    by_photo[photo].add(PARTS[key])
                    classes.setdefault(photo.parent, config.classes)
    found: dict[Path, str] = {}
    for path in listing.photos:
        nearest = next((folder for folder in path.parents if folder in by_folder), None)
        named = by_photo.get(path) or (by_folder[nearest] if nearest else set())
        if named:
            found[path] = "" if "train" in named and len(named) > 1 else min(named, key=list(KEYS).index)
    return found, {folder: one for folder, one in classes.items() if one.names}, lists.keys()


def _listed_photos(file: Path, config: Config, finder: PhotoFinder, findings: list[Finding]) -> Iterator[Path]:
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
    """A photo's .txt, in one of its places."""
    return next((texts[place] for place in _label_places(photo) if place in texts), None)


def _label_places(photo: Path) -> Iterator[str]:
    """A photo's possible .txt without the ending: where `images` is `labels`, or beside it; a.txt, or a.jpg.txt."""
    stem = photo.with_suffix("")
    return (composed(str(place)) for path in (stem, photo) for place in (_in_labels(path), path))


def _in_other_capitals(photos: Sequence[Path], texts: Mapping[str, str]) -> dict[Path, str]:
    """Photo → its .txt in other capitals, where one photo and one .txt alone may be meant: IMG_1.JPG and img_1.txt."""
    known = defaultdict(list)
    for stem, text in texts.items():
        known[stem.casefold()].append(text)
    names = set(map(bare, known))
    found = defaultdict(list)
    for photo in photos if names else ():
        if names.isdisjoint(composed(name).casefold() for name in (photo.stem, photo.name)):
            continue  # as of 40,000 photos beside a README.txt
        if some := next((known[key] for place in _label_places(photo) if (key := place.casefold()) in known), None):
            found[tuple(some)].append(photo)
    return {some[0]: own[0] for own, some in found.items() if len(own) == len(some) == 1}


def _see_twins(labels: Mapping[Path, str | None], findings: list[Finding]) -> None:
    """Warns of a label that two photos have, such as a.txt of a.jpg and a.png."""
    photos = defaultdict(list)
    for path, label in labels.items():
        if label:
            photos[label].append(path)
    for label, some in photos.items():
        if len(some) > 1:
            what = f"it labels {' and '.join(map(str, some))}: expected one photo of this name"
            todo = "Look at their boxes, and remove or rename the photo that was not meant"
            findings.append(Finding(Source(label), what, todo, "warning", kind="label of several photos"))


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
    return {path: some[0] for path, some in found.items() if len(some) == 1 and is_label(some[0])}


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
        if is_label(text):
            by_folder[Path(text).parent].append(Path(text))
    with_photos = {Path(label).parent for label in taken}
    findings = []
    for folder, files in by_folder.items():
        if len(files) > 1 and folder not in with_photos:
            findings.append(without_photo(Source(folder), f"of any of its {len(files):,} label files"))
        else:
            findings += [without_photo(Source(file), f"named {file.stem}") for file in files]
    return findings


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
