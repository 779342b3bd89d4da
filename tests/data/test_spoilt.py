"""A folder spoilt on purpose in more than thirty ways: each is found, where it is, and nothing else is."""

from __future__ import annotations

import io
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

import foodbox
from foodbox.data import formats

SIZE = (160, 120)
COUNT = 44
Spoil = Callable[[Path, Path, Path], str | None]
"""Spoils a photo or its label, or the validation photos. Gives the file that must be found if that is not the photo."""


def picture(seed: int) -> Image.Image:
    """Coloured clouds, which look like no others."""
    pixels = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(SIZE, Image.Resampling.BICUBIC)


def annotation(*boxes: tuple[str, object, object, object, object], size: tuple[int, int] = SIZE) -> str:
    entries = "".join(
        f"<object>\n<name>{name}</name>\n<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        "</bndbox>\n</object>\n"
        for name, x1, y1, x2, y2 in boxes
    )
    return f"<annotation>\n<size><width>{size[0]}</width><height>{size[1]}</height></size>\n{entries}</annotation>\n"


GOOD = ("rice", 20, 20, 90, 80)
OTHER = ("soup", 60, 50, 140, 110)


def make_folder(folder: Path, count: int, seed: int) -> Path:
    """Sound photos, each with rice and soup."""
    folder.mkdir()
    for i in range(count):
        picture(seed + i).save(folder / f"p{i:02}.jpg", quality=95)
        (folder / f"p{i:02}.xml").write_text(annotation(GOOD, OTHER))
    return folder


def label(*boxes: tuple[str, object, object, object, object], size: tuple[int, int] = SIZE) -> Spoil:
    """Another label, in whose own file the fault is."""

    def spoil(photo: Path, xml: Path, valid: Path) -> str:
        xml.write_text(annotation(*boxes, size=size))
        return xml.name

    return spoil


def text(content: str | bytes) -> Spoil:
    def spoil(photo: Path, xml: Path, valid: Path) -> str:
        xml.write_bytes(content if isinstance(content, bytes) else content.encode())
        return xml.name

    return spoil


def photo_bytes(change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(photo: Path, xml: Path, valid: Path) -> None:
        photo.write_bytes(change(photo.read_bytes()))

    return spoil


def as_kind(kind: str, name: str | None = None) -> Spoil:
    """The photo saved as another kind of file, under its name or another."""

    def spoil(photo: Path, xml: Path, valid: Path) -> str | None:
        image = Image.open(photo)
        image.load()
        photo.unlink()
        image.save(photo.with_name(name or photo.name), kind)
        if name:
            xml.rename(xml.with_stem(Path(name).stem))
        return name

    return spoil


def turned(photo: Path, xml: Path, valid: Path) -> None:
    """Stored lying on its side; the boxes are those of the stored pixels, as its <size> says."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.open(photo).save(photo, exif=exif, quality=95)


def second_label(photo: Path, xml: Path, valid: Path) -> str:
    (xml.parent / "more").mkdir()
    shutil.copy(xml, xml.parent / "more" / xml.name)
    return xml.name


def without_boxes(photo: Path, xml: Path, valid: Path) -> None:
    xml.write_text(annotation())


def without_label(photo: Path, xml: Path, valid: Path) -> None:
    xml.unlink()


def without_photo(photo: Path, xml: Path, valid: Path) -> str:
    photo.unlink()
    return xml.name


def again(photo: Path, xml: Path, valid: Path) -> str:
    shutil.copy(photo, photo.with_stem("twice"))
    shutil.copy(xml, xml.with_stem("twice"))
    return "twice.jpg"


def smaller_again(photo: Path, xml: Path, valid: Path) -> str:
    Image.open(photo).resize((120, 90)).save(photo.with_stem("twin"), quality=80)
    xml.with_stem("twin").write_text(annotation(("rice", 15, 15, 67, 60), size=(120, 90)))
    return "twin.jpg"


def in_both_parts(photo: Path, xml: Path, valid: Path) -> None:
    Image.open(photo).save(valid / "seen.jpg", quality=85)
    (valid / "seen.xml").write_text(annotation(GOOD))


def icon(photo: Path, xml: Path, valid: Path) -> None:
    picture(999).resize((24, 18)).save(photo)
    xml.write_text(annotation(("rice", 4, 4, 18, 14), size=(24, 18)))


def bomb(photo: Path, xml: Path, valid: Path) -> None:
    """A file of a few bytes that says it is 40,000 pixels wide and high."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0)
    buffer = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    buffer.seek(0, 2)
    buffer.write(struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)))
    photo.write_bytes(buffer.getvalue())


# What is done, and the kind and harm of what must be found.
WAYS: list[tuple[str, Spoil, str, str]] = [
    ("cut short", photo_bytes(lambda data: data[: len(data) // 2]), "broken photo", "error"),
    ("a text called photo", photo_bytes(lambda data: b"<html>not found</html>"), "broken photo", "error"),
    ("an empty file", photo_bytes(lambda data: b""), "broken photo", "error"),
    ("a decompression bomb", bomb, "broken photo", "error"),
    ("a PNG called .jpg", as_kind("PNG"), "wrong ending", "warning"),
    ("a JPEG called .png", as_kind("JPEG", "named.png"), "wrong ending", "warning"),
    ("a WEBP called .jpg", as_kind("WEBP"), "wrong ending", "warning"),
    ("an EXIF turn", turned, "EXIF turn", "note"),
    ("an icon", icon, "tiny photo", "warning"),
    ("a box of another photo", label(GOOD, ("soup", 300, 200, 380, 260)), "box outside the photo", "error"),
    ("a box half outside", label(("rice", 100, 20, 200, 80)), "box outside the photo", "error"),
    ("a box a pixel outside", label(("rice", 100, 20, 161, 80)), "box cut off", "note"),
    ("a box with a side below 0", label(("rice", -20, 20, 60, 80)), "box outside the photo", "error"),
    ("a box without area", label(GOOD, ("soup", 60, 50, 60, 110)), "empty box", "error"),
    ("a click instead of a box", label(GOOD, ("soup", 60, 50, 61.5, 52)), "tiny box", "warning"),
    ("exchanged corners", label(("rice", 90, 80, 20, 20)), "exchanged corners", "error"),
    ("the whole photo", label(("rice", 0, 0, 160, 120)), "box equal to the photo", "warning"),
    ("a box drawn twice", label(GOOD, ("rice", 20, 20, 91, 80)), "box drawn twice", "warning"),
    ("two classes on a box", label(GOOD, ("soup", 20, 20, 90, 81)), "one box, two classes", "warning"),
    ("no label", without_label, "photo without label", "warning"),
    ("no photo", without_photo, "label without photo", "error"),
    ("no box", without_boxes, "photo without box", "note"),
    ("half an XML", text(annotation(GOOD)[:60]), "unreadable label", "error"),
    ("no XML", text("rice 20 20 90 80"), "unreadable label", "error"),
    ("an unknown encoding", text("<?xml version='1.0' encoding='klingon'?><annotation/>"), "unreadable label", "error"),
    ("an object without a name", label(("", 20, 20, 90, 80)), "unreadable label", "error"),
    ("a word for a number", label(("rice", "left", 20, 90, 80)), "unreadable label", "error"),
    ("not a number", label(("rice", "nan", 20, 90, 80)), "unreadable label", "error"),
    ("an infinite number", label(("rice", 20, 20, "inf", 80)), "unreadable label", "error"),
    ("a missing number", label(("rice", "", 20, 90, 80)), "unreadable label", "error"),
    ("two labels", second_label, "unreadable label", "error"),
    ("another size", label(GOOD, size=(640, 480)), "other size in label", "warning"),
    ("a class in capitals", label(("Rice", 20, 20, 90, 80)), "class name twice", "warning"),
    ("a class with a space", label(GOOD, ("so up", 60, 50, 140, 110)), "class name twice", "warning"),
    ("a class on one photo", label(GOOD, ("caviar", 60, 50, 140, 110)), "rare class", "warning"),
    ("a copy", again, "photo twice", "warning"),
    ("a smaller copy", smaller_again, "look-alike", "note"),
    ("a photo to validate on", in_both_parts, "same photo in two parts", "warning"),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("spoilt")
    return make_folder(root / "train", COUNT, 0), make_folder(root / "valid", 6, 500)


def found_in(report: foodbox.Report) -> set[tuple[str, str, str]]:
    return {(Path(f.source.path).name, f.kind, f.harm) for f in report.findings}


def test_thirty_ways_are_found_and_nothing_else_and_mending_leaves_nothing_of_harm(
    places: tuple[Path, Path], tmp_path: Path
) -> None:
    train, valid = places
    assert foodbox.check(train, valid=valid).findings == []
    assert len(WAYS) >= 30

    expected = set()
    for i, (_, spoil, kind, harm) in enumerate(WAYS):
        photo = train / f"p{i:02}.jpg"
        name = spoil(photo, photo.with_suffix(".xml"), valid)
        expected.add((name or photo.name, kind, harm))
    report = foodbox.check(train, valid=valid, out=tmp_path / "page", fix=tmp_path / "mended")
    assert found_in(report) == expected
    lines = {Path(f.source.path).name: f.source.line for f in report.findings if f.kind == "empty box"}
    assert list(lines.values()) == [7]

    mended = foodbox.check(tmp_path / "mended", valid=valid)
    assert {(kind, harm) for _, kind, harm in found_in(mended)} <= LEFT
    changes = (tmp_path / "mended" / "changes.md").read_text()
    assert "p13.xml:7: the box 60, 50, 60, 110 (x1, y1, x2, y2) has no area" in changes
    run = foodbox.train(tmp_path / "mended", valid=valid, epochs=1, size=64, runs=tmp_path / "runs", workers=0)
    assert run.scores is not None


# What mending cannot decide.
LEFT = {
    ("EXIF turn", "note"),
    ("photo without box", "note"),
    ("photo without label", "warning"),
    ("look-alike", "note"),
    ("one box, two classes", "warning"),
    ("box equal to the photo", "warning"),
    ("rare class", "warning"),
    ("tiny photo", "warning"),
}


def test_what_is_mended_is_mended_as_said(places: tuple[Path, Path], tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "few", 8, 900)
    (folder / "p00.xml").write_text(annotation(GOOD, ("soup", 60, 50, 60, 110)))
    (folder / "p01.xml").write_text(annotation(("rice", 90, 80, 20, 20)))
    (folder / "p02.xml").write_text(annotation(("rice", 100, 20, 200, 80)))
    (folder / "p03.xml").write_text(annotation(GOOD, ("soup", 300, 200, 380, 260)))
    (folder / "p04.xml").write_text(annotation(("Rice", 20, 20, 90, 80), OTHER))
    as_kind("PNG")(folder / "p05.jpg", folder / "p05.xml", folder)
    (folder / "p06.xml").write_text(annotation(("rice", 60, 50, 60, 110)))
    (folder / "p07.xml").write_text(annotation(("rice", 60, 50, 61, 51)))
    foodbox.check(folder, fix=tmp_path / "mended")
    dataset, findings = formats.read(tmp_path / "mended")
    assert findings == []
    boxes = {photo.path.name: photo.boxes.tolist() for photo in dataset}
    assert boxes == {
        "p00.jpg": [[20, 20, 90, 80]],
        "p01.jpg": [[20, 20, 90, 80]],
        "p02.jpg": [[100, 20, 160, 80]],
        "p04.jpg": [[20, 20, 90, 80], [60, 50, 140, 110]],
        "p05.png": [[20, 20, 90, 80], [60, 50, 140, 110]],
    }
    assert dataset.names == ["rice", "soup"]
    changes = (tmp_path / "mended" / "changes.md").read_text()
    assert "Whatever else the label files had is not in this copy" in changes
    for name in ("p06", "p07"):  # whose one box was a slip: without it they would teach that they show nothing
        assert re.search(rf"{name}\.xml:\d+: the box .*\*\*the photo is left out\*\*", changes)


def test_a_folder_that_is_there_is_not_written_over(places: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "mended").mkdir()
    (tmp_path / "mended" / "mine.txt").write_text("kept")
    with pytest.raises(foodbox.UsageError, match="not empty"):
        foodbox.check(places[1], fix=tmp_path / "mended")
    assert [path.name for path in (tmp_path / "mended").iterdir()] == ["mine.txt"]
