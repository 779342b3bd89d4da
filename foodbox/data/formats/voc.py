"""Pascal VOC: one .xml file a photo, with `object` entries of a name and a `bndbox` in pixels.

The corners are taken as they stand. VOC's own files count pixels from 1 and most programs that write the format today
count from 0; the difference is at most a pixel.
"""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path
from xml.parsers import expat

import torch

from foodbox.data.formats.common import RawBox, make_photo, numbers, plain
from foodbox.data.images import find_photos
from foodbox.files import free_name, make_folder, write_whole
from foodbox.records import Dataset, Finding, Photo, Source

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def fits(folder: Path) -> bool:
    """Whether some .xml file below the folder is a VOC annotation."""
    return any(b"<annotation" in path.read_bytes()[:1000] for path in folder.rglob("*.xml"))


def read(folder: Path) -> tuple[Dataset, list[Finding]]:
    """The photos and the .xml files of a folder, wherever below it they lie, brought together by their names.

    Boxes marked difficult are neither trained on nor counted, as in VOC's own evaluation.
    """
    findings: list[Finding] = []
    photos: list[Photo] = []
    names: dict[str, int] = {}  # in the order in which they are met; put in order at the end
    by_stem = defaultdict(list)
    for path in find_photos(folder):
        by_stem[path.stem].append(path)
    labelled = set()
    for label in sorted(folder.rglob("*.xml")):
        photo_path = _nearest(by_stem[label.stem], label)
        if photo_path is None:
            todo = "Bring the photo back or remove the label file"
            findings.append(Finding(Source(label), f"there is no photo named {label.stem}", todo, photo=label))
            continue
        labelled.add(photo_path)
        parsed = _read_file(label, photo_path, names, findings)
        if parsed is not None and (photo := make_photo(photo_path, parsed[0], findings, parsed[1])) is not None:
            photos.append(photo)
    for path in (path for paths in by_stem.values() for path in paths if path not in labelled):
        if (photo := make_photo(path, [], findings)) is not None:
            photo.labelled = False
            photos.append(photo)
    ordered = sorted(names)
    place = torch.tensor([ordered.index(name) for name in names], dtype=torch.int64)
    for photo in photos:
        photo.labels = place[photo.labels]
    return Dataset(sorted(photos, key=lambda photo: photo.path), ordered), findings


def write(dataset: Dataset, folder: Path) -> None:
    """Copies the photos to folder/images and writes folder/annotations; masks are not part of the format."""
    images, annotations = make_folder(folder / "images"), make_folder(folder / "annotations")
    taken: set[str] = set()
    for photo in dataset:
        name = free_name(photo.path.stem, taken)
        target = images / f"{name}{photo.path.suffix}"
        if photo.path.resolve() != target.resolve():
            shutil.copyfile(photo.path, target)
        if photo.labelled:
            write_whole(annotations / f"{name}.xml", _xml(photo, target.name, dataset.names))


def _xml(photo: Photo, filename: str, names: list[str]) -> str:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = filename
    size = ElementTree.SubElement(root, "size")
    for key, value in (("width", photo.width), ("height", photo.height), ("depth", 3)):
        ElementTree.SubElement(size, key).text = str(value)
    for box, label, ignore in zip(photo.boxes.tolist(), photo.labels.tolist(), photo.ignore.tolist(), strict=True):
        entry = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(entry, "name").text = names[label]
        ElementTree.SubElement(entry, "difficult").text = str(int(ignore))
        corners = ElementTree.SubElement(entry, "bndbox")
        for key, value in zip(CORNERS, box, strict=True):
            ElementTree.SubElement(corners, key).text = plain(value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _nearest(paths: list[Path], label: Path) -> Path | None:
    """Of photos with the label's name, the one whose folder is nearest: train/ and valid/ may repeat names."""

    def shared(path: Path) -> int:
        pairs = zip(path.parts, label.parts, strict=False)
        return next((i for i, (a, b) in enumerate(pairs) if a != b), 0)

    return max(paths, key=shared, default=None)


def _read_file(
    label: Path, photo: Path, names: dict[str, int], findings: list[Finding]
) -> tuple[list[RawBox], tuple[int, int] | None] | None:
    """The boxes of a label file and the photo's size that it gives; None where the file is at fault."""

    def fault(what: str, todo: str, line: int) -> None:
        findings.append(Finding(Source(label, line), what, todo, photo=photo))

    try:
        root, lines = _parse(label.read_bytes())
    except expat.ExpatError as error:
        fault(f"the file is no whole XML ({error})", "Write it anew or remove it", error.lineno)
        return None
    except (ValueError, LookupError) as error:  # encodings that expat does not know, such as euc-kr
        fault(f"the file is no whole XML ({error})", "Save it in UTF-8", 1)
        return None
    raw, good = [], True
    for entry in root.iter("object"):
        line = lines[entry]
        name = (entry.findtext("name") or "").strip()
        words = [(entry.findtext(f"bndbox/{key}") or "").strip() for key in CORNERS]
        corners = numbers(words)
        if not name:
            fault("an object has no name", "Name its class", line)
            good = False
        elif corners is None:
            found = ", ".join(f"{k} {w!r}" for k, w in zip(CORNERS, words, strict=True))
            fault(f"the box of {name!r} has {found}, expected four numbers", "Correct them", line)
            good = False
        else:
            number = names.setdefault(name, len(names))
            ignore = (entry.findtext("difficult") or "0").strip() == "1"
            raw.append(RawBox(corners, number, Source(label, line), ignore))  # type: ignore[arg-type]
    sides = numbers([root.findtext(f"size/{key}") or "" for key in ("width", "height")])
    return (raw, (int(sides[0]), int(sides[1])) if sides else None) if good else None


def _parse(text: bytes) -> tuple[ElementTree.Element, dict[ElementTree.Element, int]]:
    """An XML text's tree, and the line that each of its elements begins on.

    Raises:
        expat.ExpatError: it is no whole XML.
    """
    builder, lines = ElementTree.TreeBuilder(), []
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        lines.append(parser.CurrentLineNumber)
        builder.start(tag, attributes)

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(text, True)
    root = builder.close()
    return root, dict(zip(root.iter(), lines, strict=True))  # both in the order of the document
