"""Label formats: one file each, with `fits`, `read` and `write`. A new one is a file here and a line in FORMATS."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import torch

from foodbox.console import progress_bar, say
from foodbox.data import splits
from foodbox.data.facts import look
from foodbox.data.formats import coco, csv_table, kfood, labelme, starthon, uecfood, voc, yolo
from foodbox.data.formats.agreement import agree
from foodbox.data.formats.common import Labels, assemble, first_text, part_by_folders
from foodbox.data.formats.remembered import recall, remember
from foodbox.data.images import ENDINGS
from foodbox.data.listing import ARCHIVES, Listing, scan
from foodbox.errors import FoodboxError, UsageError
from foodbox.findings import Finding
from foodbox.garbage import without_collecting
from foodbox.ops.boxes import area
from foodbox.records import Dataset, Photo, counted


@dataclass(frozen=True)
class Format:
    """One way to lay photos and boxes out in a folder.

    Attributes:
        title: its name for people.
        looks: what a folder of this format holds, in words.
        fits: whether a folder looks like it.
        read: a folder's labels, and everything that was found on the way; opens no photo.
        write: a dataset, pruned to what the format can hold, into a folder.
        classes, many, masks, ignore, empty, unlabelled, parts: what it can hold besides one box a photo: the names of
            classes, several boxes a photo, outlines, a mark for boxes that do not count, photos that show nothing,
            photos of which nobody said what they show, and which part (train, valid, test) a photo belongs to.
        listed: whether it has a list of its classes, which keeps their order, and those that no box has.
        outlined: where it can hold outlines, whether it can hold those of this photo.
        called: what a class is called in it.
        alone: whether all that is read lies in the folder, besides photos that labels name elsewhere.
        endings: what the names of its label files end in; none where there need be no such file.
    """

    title: str
    looks: str
    fits: Callable[[Listing], bool]
    read: Callable[[Listing], Labels]
    write: Callable[[Dataset, Path], None]
    classes: bool = True
    many: bool = True
    masks: bool = False
    ignore: bool = False
    empty: bool = True
    unlabelled: bool = False
    parts: bool = False
    listed: bool = True
    outlined: Callable[[Photo], bool] = lambda photo: True
    alone: bool = True
    endings: tuple[str, ...] = ()
    called: Callable[[str], str] = lambda name: normalize("NFC", name)


FORMATS: dict[str, Format] = {
    "starthon": Format(
        "AI Starthon", "NAME.txt beside NAME.jpg", starthon.fits, starthon.read, starthon.write,
        classes=False, many=False, unlabelled=True,
    ),
    "kfood": Format(
        "AI Hub kfood", "a crop_area.properties in each class's folder", kfood.fits, kfood.read, kfood.write,
        many=False, empty=False, unlabelled=True, listed=False, endings=(".properties",), called=kfood.folder_name,
    ),
    "kfood_corners": Format(
        "AI Hub kfood with corners", "the same with x1,y1,x2,y2, only where --format says so",
        kfood.fits_by_name_only, kfood.read_corners, kfood.write_corners, many=False, empty=False, unlabelled=True,
        listed=False, endings=(".properties",), called=kfood.folder_name,
    ),
    "csv": Format(
        "CSV", ".csv tables of path,x1,y1,x2,y2,class", csv_table.fits, csv_table.read, csv_table.write,
        unlabelled=True, parts=True, endings=(".csv",),
    ),
    "voc": Format(
        "Pascal VOC", ".xml files", voc.fits, voc.read, voc.write, ignore=True, unlabelled=True, parts=True,
        listed=False, endings=(".xml",),
    ),
    "coco": Format(
        "COCO", "a .json of images, annotations and categories", coco.fits, coco.read, coco.write,
        masks=True, ignore=True, unlabelled=True, parts=True, endings=(".json",),
    ),
    "yolo": Format(
        "YOLO", "data.yaml, or NAME.txt of class cx cy w h", yolo.fits, yolo.read, yolo.write, masks=True,
        parts=True, outlined=yolo.outlined, endings=(".txt", ".yaml", ".yml", ".data"),
    ),
    "labelme": Format(
        "labelme", "NAME.json for NAME.jpg, with shapes in it", labelme.fits, labelme.read, labelme.write,
        masks=True, ignore=True, unlabelled=True, listed=False, endings=(".json",),
    ),
    "uecfood": Format(
        "UECFOOD", "numbered folders with a bb_info.txt", uecfood.fits, uecfood.read, uecfood.write,
        empty=False, unlabelled=True, alone=False, endings=(".txt",),
    ),
}  # fmt: skip


STRANGE = (".json", ".jsonl", ".csv", ".tsv", ".xml", ".txt", ".yaml", ".yml")
"""Endings of files that may be meant as labels, the likeliest first."""
NAMED = (*STRANGE, ".data", ".names", ".labels", ".properties")
"""Endings of files that may be named instead of a folder."""
ABOUT = ("readme", "license")
"""Names of files that are about a folder of photos, and no labels."""
PROGRAMS = {
    r"<annotations>": "CVAT's own XML",
    r"region_shape_attributes|_via_": "the VGG Image Annotator's own file",
    r'"(rectangle|polygon|brush)labels"|"from_name"': "Label Studio's own JSON",
    r'"items"\s*:\s*\[|"dm_format_version"': "Datumaro's own JSON",
    r'"annotations"\s*:\s*\[\s*\{\s*"(label|coordinates)"': "CreateML's JSON",
    r"ImageID,.*LabelName": "a table of Open Images",
}
"""What the files of other programs have in their first lines."""


def read(place: Path, format: str | None = None, whole: bool = False) -> tuple[Dataset, list[Finding]]:
    """Photos and boxes of a folder, in the format that it looks like.

    Args:
        place: the folder, or one label file in it.
        format: a name in FORMATS, if it is not to be detected.
        whole: read each photo to its end instead of its head alone, and find those that are cut short.

    Raises:
        UsageError: the folder is missing or holds no labels that are known, or two formats fit and disagree.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(f"Unknown format {format!r}: expected one of {', '.join(FORMATS)}.")
    listing = scan(place)
    if listing.label:
        _expect_labels(listing.label, listing)
    elif format:
        _expect_format(format, listing)
    fitting = [format] if format else [name for name, kind in FORMATS.items() if kind.fits(listing)]
    if len(fitting) > 1:
        return _fullest(place, listing, fitting, whole)
    if not fitting:
        raise UsageError(_unknown(place, listing))
    return _read_as(fitting[0], listing, whole)


def _expect_labels(file: Path, listing: Listing) -> None:
    """Raises UsageError where the file that was named instead of a folder has no labels, or those of one photo."""
    if file.suffix.lower() not in NAMED:
        raise UsageError(f"{file} is no file of labels: name the folder that holds the photos and their labels.")
    if file.suffix.lower() == ".txt":
        if any(photo.stem == file.stem and photo.parent == file.parent for photo in listing.photos):
            raise UsageError(f"{file} is the label of one photo: name the folder that holds all of them.")
        first = first_text(file).lstrip().partition("\n")[0].strip()
        if first.lower().endswith(tuple(ENDINGS)):
            config = next((path for path in listing.files if path.lower().endswith((".yaml", ".yml"))), None)
            other = f"{config}, which names the classes, or " if config else ""
            what = f"{file} is a list of photos and says nothing of what is on them"
            raise UsageError(f"{what}: name {other}the folder {listing.root}.")


def _expect_format(format: str, listing: Listing) -> None:
    """Raises UsageError where a folder holds nothing that the format that was named could read."""
    kind = FORMATS[format]
    if not listing.photos and not kind.fits(listing):
        raise UsageError(_without_photos(listing))
    if kind.endings and not listing.ending(*kind.endings):
        what = f"{listing.root} holds no {' or '.join(kind.endings)} files, which --format {format} reads"
        raise UsageError(f"{what}: name the folder that holds them too, or leave --format out.")


def _without_photos(listing: Listing) -> str:
    """What is said of a folder without photos."""
    what = f"{listing.root} holds no photos"
    if archives := listing.ending(*ARCHIVES):
        return f"{what}, but {_several(archives)}: unpack it and name the folder that comes of it."
    if files := _strange(listing):
        return f"{what}, but {_several(files)}: name the folder that holds both photos and labels."
    return f"{what}: name the folder that holds the photos and their labels."


def _unknown(place: Path, listing: Listing) -> str:
    """What is said of labels that no format fits."""
    if not listing.photos:
        return _without_photos(listing)
    what = f"{place} holds {counted(len(listing.photos), 'photo')}"
    files = _strange(listing)
    if not files and (archives := listing.ending(*ARCHIVES)):
        return f"{what} and no labels, but {_several(archives)}: if the labels are in it, unpack it first."
    if not files:
        return (
            f"{what}, and nothing says where the objects on them are: draw boxes with labelImg, labelme or CVAT and "
            "save them beside the photos, or, where there are labels elsewhere, name a folder that holds both."
        )
    text = first_text(files[0])
    begins = f"{_several(files)}, which begins {' '.join(text[:200].split())[:60]!r}"
    unread = f"{what} and no labels of a known format, but {begins}"
    if program := next((name for mark, name in PROGRAMS.items() if re.search(mark, text)), None):
        return f"{unread}. It looks like {program}, which is not read: export it as COCO or Pascal VOC."
    if lacking := csv_table.lacking(listing):
        return f"{what} and no labels that can be read: {lacking}"
    known = "; ".join(f"{kind.title} ({kind.looks})" for kind in FORMATS.values())
    return f"{unread}: expected one of {known}. Where labels lie in another folder, name one that holds both."


def _strange(listing: Listing) -> list[Path]:
    """Files of one kind that may be meant as labels."""
    kinds = ([file for file in listing.ending(end) if not file.name.lower().startswith(ABOUT)] for end in STRANGE)
    return next(filter(None, kinds), [])


def _several(files: Sequence[Path]) -> str:
    return f"{files[0]}" + (f" and {len(files) - 1:,} more of its kind" if files[1:] else "")


def _read_as(name: str, listing: Listing, whole: bool) -> tuple[Dataset, list[Finding]]:
    with without_collecting():
        if (kept := recall(listing, name, whole)) is not None:
            dataset, findings = kept
        else:
            labels = FORMATS[name].read(listing)
            part_by_folders(labels.photos, listing.root)
            paths = [raw.path for raw in labels.photos]
            with progress_bar("opening photos", len(paths)) as bar:
                facts = look(paths, whole, listing.stamp, bar.to)
            dataset, findings = assemble(labels, facts)
            if FORMATS[name].alone:
                remember(listing, name, whole, dataset, findings)
    dataset.format = name
    return dataset, findings


def _fullest(place: Path, listing: Listing, fitting: Sequence[str], whole: bool) -> tuple[Dataset, list[Finding]]:
    """Of several formats that say the same of every photo, the reading with the most parts, labelled photos, outlines.

    Tables are often made from the .xml files that still lie beside them, and only one of the two knows the parts.
    """
    try:
        readings = [_read_as(name, listing, whole) for name in fitting]
    except FoodboxError:
        readings = []
    if not readings or not all(agree(readings[0][0], dataset) for dataset, _ in readings[1:]):
        raise UsageError(f"{place} could be read as {' or as '.join(fitting)}: say which with --format.")
    say(f"{place}: labelled as {' and as '.join(FORMATS[name].title for name in fitting)}, with the same boxes.")
    return max(readings, key=lambda reading: _known(reading[0]))


def _known(dataset: Dataset) -> tuple[int, int, int]:
    """How many photos have a part, how many are labelled, and how many boxes have outlines."""
    outlines = sum(sum(map(bool, photo.masks or ())) for photo in dataset)
    return sum(bool(photo.part) for photo in dataset), sum(photo.labelled for photo in dataset), outlines


def prune(dataset: Dataset, format: str) -> tuple[Dataset, list[str]]:
    """What of the photos and boxes a format can hold, and sentences on what it cannot."""
    kind = FORMATS[format]
    lost: Counter[str] = Counter()
    photos = []
    for photo in dataset:
        if photo.ignore.any() and not kind.ignore:
            lost["boxes that do not count (difficult, crowd) are left out: it has no mark for them"] += int(
                photo.ignore.sum()
            )
            photo = photo.keep(~photo.ignore)
        if not photo.labelled and not kind.unlabelled:
            lost["photos that nobody labelled are left out: it cannot tell them from those that show nothing"] += 1
        elif photo.labelled and not len(photo.boxes) and not kind.empty:
            lost["photos that show nothing are left out: it holds photos with a box only"] += 1
        else:
            if photo.masks is not None and any(photo.masks) and not (kind.masks and kind.outlined(photo)):
                lost["outlines are left out, their boxes stay"] += sum(map(bool, photo.masks))
                photo = dataclasses.replace(photo, masks=None)
            if photo.part and not kind.parts:
                lost["photos do not keep the part (train, valid, test) that they belong to"] += 1
                photo = dataclasses.replace(photo, part="")
            if len(photo.boxes) > 1 and not kind.many:
                lost["photos with several boxes keep one, the smallest around all of them"] += 1
                if kind.classes and len(set(photo.labels.tolist())) > 1:
                    lost["photos with boxes of several classes keep the class of the largest"] += 1
                photo = _one_box(photo)
            photos.append(photo)
    names = dataset.names
    if not kind.classes and len(names) == 1 and names != [starthon.NAME]:
        lost[f"class ({names[0]}) becomes {starthon.NAME!r}: it has no names"] += 1
    elif not kind.classes and len(names) > 1:
        lost["classes become one: it has no names"] += len(names)
        photos = [dataclasses.replace(photo, labels=torch.zeros_like(photo.labels)) for photo in photos]
        names = names[:1]
    elif not kind.listed:
        with_boxes = {names[label] for photo in photos for label in photo.labels.tolist()}
        if gone := len(names) - len(with_boxes):
            lost["classes that no box has are left out: it has no list of classes"] += gone
        if [name for name in names if name in with_boxes] != sorted(with_boxes):
            lost["classes come into the order of the alphabet: it has no list of classes"] += len(with_boxes)
        photos = splits.with_names(Dataset(photos, names), sorted(with_boxes)).photos
        names = sorted(with_boxes)
    if renamed := [name for name in names if kind.called(name) != normalize("NFC", name)]:
        first = f"{renamed[0]!r}, which becomes {kind.called(renamed[0])!r}"
        lost[f"classes get a name that a folder can have, such as {first}"] += len(renamed)
    return Dataset(photos, names, format), [f"{count:,} {words}" for words, count in lost.items()]


def _one_box(photo: Photo) -> Photo:
    """A photo with the one box around all of its boxes, which has the class of the largest."""
    around = torch.cat((photo.boxes[:, :2].amin(0), photo.boxes[:, 2:].amax(0)))
    largest = torch.arange(len(photo.boxes)) == area(photo.boxes).argmax()
    return dataclasses.replace(photo.keep(largest), boxes=around[None], masks=None)
