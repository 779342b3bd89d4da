"""Pascal VOC: one .xml file a photo, with `object` entries of a name and a `bndbox` in pixels.

The corners are taken as they stand. VOC's own files count pixels from 1 and most programs that write the format today
count from 0; the difference is at most a pixel.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path
from xml.parsers import expat

from foodbox.data.formats.common import (
    Labels,
    RawBox,
    RawPhoto,
    bad_label,
    copy_photos,
    numbers,
    plain,
    read_text,
    without_photo,
)
from foodbox.data.listing import Listing
from foodbox.files import make_folder, write_whole
from foodbox.records import Dataset, Finding, Photo, Source

CORNERS = ("xmin", "ymin", "xmax", "ymax")
PARTS = {"train": "train", "val": "valid", "test": "test"}
"""Files in ImageSets/Main, and the part that each lists."""


def fits(listing: Listing) -> bool:
    """Whether some .xml file below the folder is a VOC annotation."""
    return any(b"<annotation" in path.read_bytes()[:1000] for path in listing.ending(".xml"))


def read(listing: Listing) -> Labels:
    """The photos and the .xml files of a folder, wherever below it they lie, brought together by their names.

    Boxes marked difficult are neither trained on nor counted, as in VOC's own evaluation. ImageSets/Main/train.txt,
    val.txt and test.txt, where they are, say which part a photo belongs to.
    """
    labels = Labels()
    by_stem = defaultdict(list)
    for photo_path in listing.photos:
        by_stem[photo_path.stem].append(photo_path)
    parts = _parts(listing)
    found: dict[Path, Path] = {}
    for label in listing.ending(".xml"):
        path = _nearest(by_stem[label.stem], label)
        if path is None:
            labels.findings.append(without_photo(Source(label), f"named {label.stem}"))
        elif path in found:
            what = f"the photo {path.name} is labelled by {found[path].name} already"
            labels.findings.append(bad_label(Source(label), what, path, "Keep one of the two"))
        else:
            found[path] = label
            photo = _read_file(label, path, labels.findings)
            photo.part = parts.get(path.stem, "")
            labels.photos.append(photo)
    rest = [photo for photo in listing.photos if photo not in found]
    labels.photos += [RawPhoto(photo, labelled=False, part=parts.get(photo.stem, "")) for photo in rest]
    return labels


def write(dataset: Dataset, folder: Path) -> None:
    """Copies the photos to folder/images and writes folder/annotations; masks are not part of the format."""
    annotations = make_folder(folder / "annotations")
    parts = defaultdict(list)
    for photo, target in copy_photos(dataset, folder / "images"):
        if photo.labelled:
            write_whole(annotations / f"{target.stem}.xml", _xml(photo, target.name, dataset.names))
        if photo.part:
            parts[photo.part].append(target.stem)
    for name, part in PARTS.items():
        if part in parts:
            write_whole(folder / "ImageSets" / "Main" / f"{name}.txt", "\n".join(parts[part]) + "\n")


def _parts(listing: Listing) -> dict[str, str]:
    """Photo's name without ending → its part. A line of an image set may have a class's 1 or -1 behind the name."""
    found: dict[str, str] = {}
    stems = {path.stem for path in listing.photos}
    for name, part in PARTS.items():
        for file in listing.named(f"{name}.txt"):
            if "ImageSets" in file.parts and (text := read_text(file, [])):
                lines = [line.strip() for line in text.splitlines() if line.strip()]
                found |= dict.fromkeys((line if line in stems else line.rsplit(maxsplit=1)[0] for line in lines), part)
    return found


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


def _read_file(label: Path, path: Path, findings: list[Finding]) -> RawPhoto:
    """A photo with the boxes of its label file and the size that it gives."""
    photo = RawPhoto(path)
    try:
        root, lines = _parse(label.read_bytes())
    except expat.ExpatError as error:
        what = f"the file is no whole XML ({error})"
        findings.append(bad_label(Source(label, error.lineno), what, path, "Write it anew or remove it"))
        return photo
    except (ValueError, LookupError) as error:  # encodings that expat does not know, such as euc-kr
        what = f"the file is no whole XML ({error})"
        findings.append(bad_label(Source(label, 1), what, path, "Save it in UTF-8"))
        return photo
    for entry in root.iter("object"):
        source = Source(label, lines[entry])
        name = (entry.findtext("name") or "").strip()
        words = [(entry.findtext(f"bndbox/{key}") or "").strip() for key in CORNERS]
        corners = numbers(words)
        if not name:
            findings.append(bad_label(source, "an object has no name", path, "Name its class"))
        elif corners is None:
            shown = ", ".join(f"{k} {w!r}" for k, w in zip(CORNERS, words, strict=True))
            what = f"the box of {name!r} has {shown}, expected four numbers"
            findings.append(bad_label(source, what, path, "Correct them"))
        else:
            ignore = (entry.findtext("difficult") or "0").strip() == "1"
            photo.boxes.append(RawBox(corners, name, source, ignore))  # type: ignore[arg-type]
    sides = numbers([root.findtext(f"size/{key}") or "" for key in ("width", "height")])
    photo.stored_size = (int(sides[0]), int(sides[1])) if sides else None
    return photo


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
