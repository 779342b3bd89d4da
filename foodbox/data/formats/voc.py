"""Pascal VOC: one .xml file a photo, with `object` entries of a name and a `bndbox` in pixels.

The corners are taken as they stand. VOC's own files count pixels from 1 and most programs that write the format today
count from 0; the difference is at most a pixel.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from xml.parsers import expat

from foodbox.data.formats.common import (
    Labels,
    RawBox,
    RawPhoto,
    bad_label,
    copy_photos,
    could_be,
    first_bytes,
    not_opened,
    numbers,
    plain,
    read_text,
    without_photo,
)
from foodbox.data.formats.photo_names import NearestPhotos, bare, composed
from foodbox.data.listing import Listing
from foodbox.files import make_folder, write_whole
from foodbox.findings import Finding, Source
from foodbox.records import Dataset, Photo

ENCODING = re.compile(rb"\s*<\?xml[^>]*\bencoding\s*=\s*[\"']([\w.-]+)")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
PARTS = {"train": "train", "val": "valid", "test": "test"}
"""Files in ImageSets/Main, and the part that each lists."""
LISTS = ("Main", "ImageSets")
"""Folders that they may lie in; ImageSets/Segmentation, Layout and Action are about other tasks."""
ANNOTATION = "annotation"
"""The root of VOC's files; other .xml files, such as exported models, are none of its business."""
ROOT = re.compile(rb"<annotation[\s>]")
PICTURES = re.compile("Segmentation(Class|Object)|.*Visualization$")
"""Folders of pictures that show labels, as VOC itself, CVAT and labelme put them beside the photos."""


def fits(listing: Listing) -> bool:
    """Whether some .xml file below the folder is a VOC annotation."""
    heads = map(first_bytes, listing.ending(".xml"))
    return any(ROOT.search(head.replace(b"\0", b"")) for head in heads)  # UTF-16 has noughts


def read(listing: Listing) -> Labels:
    """The photos and the .xml files of a folder, wherever below it they lie, brought together by their names.

    Boxes marked difficult are neither trained on nor counted, as in VOC's own evaluation. ImageSets/Main/train.txt,
    val.txt and test.txt, where they are, say which part a photo belongs to. Other programs' .xml files are passed over.
    """
    labels = Labels()
    near = NearestPhotos()
    photos = [path for path in listing.photos if not _shows_labels(path, listing.root)]
    for path in photos:
        for name in (composed(path.stem), composed(path.name)):  # a.jpg.xml
            near.add(name.casefold(), path)
    parts = _parts(listing, photos)
    found: dict[Path, Path] = {}

    def take(label: Path, path: Path) -> None:
        if (photo := _read_file(label, path, labels.findings)) is not None:
            found[path] = label
            photo.part = parts.get(path, "")
            labels.photos.append(photo)

    strays = []
    for label in listing.ending(".xml"):
        paths = _meant(near.find(composed(label.stem).casefold(), label), label)
        if not paths:
            strays.append(label)
        elif len(paths) == 1 and paths[0] not in found:
            take(label, paths[0])
        elif _filename(label) is None:  # another program's
            continue
        elif len(paths) > 1:
            todo = "Put the file into a folder of the photo's, or correct its filename"
            labels.findings.append(could_be(Source(label), label.stem, paths, todo))
        else:
            what = f"the photo {paths[0].name} is labelled by {found[paths[0]].name} already"
            labels.findings.append(bad_label(Source(label), what, paths[0], "Keep one of the two"))
    for label in strays:  # filename, which other programs leave as it was before, is asked last
        if (filename := _filename(label)) is None:  # an exported model, or what else programs keep
            continue
        free = [path for path in near.find(filename.casefold(), label) if path not in found]
        if len(free) == 1:
            take(label, free[0])
        else:
            labels.findings.append(without_photo(Source(label), f"named {label.stem}"))
    rest = [path for path in photos if path not in found]
    labels.photos += [RawPhoto(path, labelled=False, part=parts.get(path, "")) for path in rest]
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


def _shows_labels(path: Path, root: Path) -> bool:
    """Whether a picture is no photo, but shows what is labelled on one of the same name."""
    folders = path.parent.relative_to(root).parts if path.is_relative_to(root) else ()
    return any(map(PICTURES.match, folders))


def _meant(paths: Sequence[Path], label: Path) -> Sequence[Path]:
    """Of several photos those that have the file's name to the letter, and of these those that its filename names."""
    if len(paths) > 1:
        paths = [path for path in paths if composed(label.stem) in (composed(path.stem), composed(path.name))] or paths
    if len(paths) > 1:  # a.jpg and a.png
        filename = _filename(label)
        paths = [path for path in paths if filename in (composed(path.name), composed(path.stem))] or paths
    return paths


def _parts(listing: Listing, photos: Sequence[Path]) -> dict[Path, str]:
    """Photo → its part. A line of an image set may have folders before the name, and a class's 1 or -1 behind it."""
    found: dict[Path, str] = {}
    ends: dict[int, dict[str, list[Path]]] = {}

    def listed(line: str) -> list[Path]:
        """The photos whose paths end so, with their endings or without."""
        parts = composed(line).replace("\\", "/").split("/")
        count = len(parts)
        if count not in ends:  # photos by so many of their last names
            ends[count] = defaultdict(list)
            for path in photos:
                end = "/".join(composed(path).split("/")[-count:])
                for words in {end, end.removesuffix(path.suffix)}:
                    ends[count][words].append(path)
        return ends[count].get("/".join(parts), [])

    for name, part in PARTS.items():
        for file in listing.named(f"{name}.txt"):
            if file.parent.name in LISTS and "ImageSets" in file.parts and (text := read_text(file, [])):
                for line in filter(None, map(str.strip, text.splitlines())):
                    paths = listed(line) or listed(line.rsplit(maxsplit=1)[0])
                    found |= dict.fromkeys(paths, part)
    return found


def _xml(photo: Photo, filename: str, names: list[str]) -> str:
    root = ElementTree.Element(ANNOTATION)
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


def _filename(label: Path) -> str | None:
    """The photo's name that stands in a label file, without folders; or nothing. None where it is another program's."""
    try:
        root, _ = _parse(label.read_bytes())
    except (OSError, expat.ExpatError, ValueError, LookupError):
        return ""
    return bare((root.findtext("filename") or "").strip()) if root.tag == ANNOTATION else None


def _read_file(label: Path, path: Path, findings: list[Finding]) -> RawPhoto | None:
    """A photo with the boxes of its label file and the size that it gives; None where it is another program's."""
    photo = RawPhoto(path)
    try:
        root, lines = _parse(label.read_bytes())
    except OSError as fault:
        findings.append(not_opened(label, fault, path))
        return photo
    except expat.ExpatError as error:
        what = f"the file is no whole XML ({error})"
        findings.append(bad_label(Source(label, error.lineno), what, path, "Write it anew or remove it"))
        return photo
    except (ValueError, LookupError) as error:  # encodings that expat does not know, such as euc-kr
        what = f"the file is no whole XML ({error})"
        findings.append(bad_label(Source(label, 1), what, path, "Save it in UTF-8"))
        return photo
    if root.tag != ANNOTATION:
        return None
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

    The text is in what it says itself, else in UTF-8, or Korean as older Windows writes it (CP949).

    Raises:
        expat.ExpatError: it is no whole XML.
        ValueError, LookupError: its encoding is not known.
    """
    try:
        return _parse_as(None, text)
    except (expat.ExpatError, ValueError, LookupError):
        said = ENCODING.match(text)
        encoding = said[1].decode().lower() if said else "cp949"
        with suppress(expat.ExpatError, ValueError, LookupError):  # Python knows more of them than expat
            return _parse_as("utf-8", text.decode("cp949" if encoding == "euc-kr" else encoding).encode())
        raise


def _parse_as(encoding: str | None, text: bytes) -> tuple[ElementTree.Element, dict[ElementTree.Element, int]]:
    builder, lines = ElementTree.TreeBuilder(), []
    parser = expat.ParserCreate(encoding)

    def start(tag: str, attributes: dict[str, str]) -> None:
        lines.append(parser.CurrentLineNumber)
        builder.start(tag, attributes)

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(text, True)
    root = builder.close()
    return root, dict(zip(root.iter(), lines, strict=True))  # both in the order of the document
