"""Which format a folder has."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from foodbox.data import formats
from foodbox.data.facts import look
from foodbox.data.formats import csv_table, labelme, starthon, voc
from foodbox.data.formats.common import (
    Labels,
    RawBox,
    RawPhoto,
    assemble,
)
from foodbox.data.formats.photo_names import NearestPhotos
from foodbox.errors import UsageError
from foodbox.files import write_whole
from foodbox.findings import Source
from foodbox.records import Dataset
from tests.conftest import draw_photo


@pytest.fixture
def starthon_folder(tmp_path: Path) -> Path:
    photo = draw_photo(tmp_path / "drawn" / "lunch.png", (60, 40), [(0, 5, 5, 30, 30)])
    starthon.write(Dataset([photo], ["food"]), tmp_path / "starthon")
    return tmp_path / "starthon"


def test_each_format_is_found_by_looking(starthon_folder: Path, voc_folder: Path) -> None:
    one, findings = formats.read(starthon_folder)
    assert (one.format, len(one), one.box_count, findings) == ("starthon", 1, 1, [])
    other, findings = formats.read(voc_folder)
    assert (other.format, len(other), other.box_count, findings) == ("voc", 6, 7, [])


def test_what_each_reads_is_in_the_one_convention(voc_folder: Path) -> None:
    for photo in formats.read(voc_folder)[0]:
        assert photo.boxes.shape == (len(photo.labels), 4)
        assert (photo.boxes[:, 2:] > photo.boxes[:, :2]).all()
        assert len(photo.ignore) == len(photo.boxes) == len(photo.sources)


def test_a_folder_that_could_be_two_is_asked_about(starthon_folder: Path) -> None:
    (starthon_folder / "lunch.xml").write_text("<annotation><object/></annotation>")
    with pytest.raises(UsageError, match=r"could be read as starthon or as voc: say which with --format"):
        formats.read(starthon_folder)
    assert formats.read(starthon_folder, "starthon")[0].box_count == 1


@pytest.fixture
def two_formats(voc_folder: Path, tmp_path: Path) -> Path:
    """Photos with .xml files, and beside them a table that says the same."""
    drawn = formats.read(voc_folder)[0]
    drawn = drawn.with_photos([photo for photo in drawn if not photo.ignore.any()])  # a table has no mark for these
    folder = tmp_path / "two"
    voc.write(drawn, folder)
    csv_table.write(drawn, tmp_path / "table")
    shutil.copy(tmp_path / "table" / "annotations.csv", folder)
    return folder


def test_two_formats_that_say_the_same_are_no_question(two_formats: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dataset, findings = formats.read(two_formats)
    assert (dataset.format, findings) == ("csv", [])
    assert dataset.box_count == formats.read(two_formats, "voc")[0].box_count > 3
    assert "labelled as CSV and as Pascal VOC, with the same boxes" in capfd.readouterr().err
    # Where only one of them knows the parts, it is the one to read.
    first, *others = [photo.path.stem for photo in dataset]
    write_whole(two_formats / "ImageSets" / "Main" / "train.txt", "\n".join(others))
    write_whole(two_formats / "ImageSets" / "Main" / "val.txt", first)
    dataset, _ = formats.read(two_formats)
    assert (dataset.format, [photo.part for photo in dataset]) == ("voc", ["valid", *["train"] * len(others)])


@pytest.mark.parametrize(
    ("pattern", "new"),
    [
        (r",(\d+),(\d+),(\w+)\n", r",\1,9\2,\3\n"),  # a box
        (r",(\w+)\n", r",other\n"),  # a class
        (r"(.*\n)", r"\1\1"),  # a box more
        (r".*\n", ""),  # a photo less
    ],
)
def test_two_formats_that_disagree_are_a_question(pattern: str, new: str, two_formats: Path) -> None:
    table = two_formats / "annotations.csv"
    rows = table.read_text()
    table.write_text(re.sub(pattern, new, rows, count=1))
    assert table.read_text() != rows
    with pytest.raises(UsageError, match="could be read as csv or as voc: say which with --format"):
        formats.read(two_formats)


def test_one_faulty_text_file_is_no_reason_not_to_know_the_format(starthon_folder: Path) -> None:
    draw_photo(starthon_folder / "breakfast.png", (60, 40), [])
    (starthon_folder / "breakfast.txt").write_text("a pizza")
    dataset, findings = formats.read(starthon_folder)
    assert dataset.format == "starthon"
    assert len(findings) == 1


def test_notes_beside_photos_do_not_make_an_annotated_folder_two(voc_folder: Path) -> None:
    """A text file with a photo's name that holds words, in a folder that is plainly VOC's."""
    photo = next((voc_folder / "images").iterdir())
    photo.with_suffix(".txt").write_text("seen at noon")
    assert formats.read(voc_folder)[0].format == "voc"


def test_a_folder_without_labels_is_refused_with_what_is_known(tmp_path: Path) -> None:
    for i in range(2):
        draw_photo(tmp_path / f"{i}.png", (10, 10), [])
    (tmp_path / "notes.xml").write_text("<notes/>")
    (tmp_path / "notes.txt").write_text("10,20,30,40")
    with pytest.raises(UsageError, match=r"holds 2 photos and no labels.*AI Starthon.*Pascal VOC"):
        formats.read(tmp_path)


@pytest.mark.parametrize("format", [None, "voc", "kfood_corners", "yolo"])
@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "holds no photos: name the folder that holds the photos and their labels."),
        (["README.md"], "holds no photos: name the folder that holds the photos and their labels."),
        (["a.json", "b.json", "c.txt"], "holds no photos, but {}/a.json and 1 more of its kind: name the folder that"),
        (["food.zip", "c.txt"], "holds no photos, but {}/food.zip: unpack it and name the folder that comes of it."),
    ],
)
def test_a_folder_without_photos_is_refused(files: list[str], words: str, format: str | None, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).write_text("what is in it")
    with pytest.raises(UsageError) as fault:
        formats.read(tmp_path, format)
    assert str(fault.value).startswith(f"{tmp_path} {words.format(tmp_path)}")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (
            "README.txt",
            "holds 1 photo, and nothing says where the objects on them are: draw boxes with labelImg, labelme",
        ),
        (
            "labels.tar.gz",
            "holds 1 photo and no labels, but {}/labels.tar.gz: if the labels are in it, unpack it first.",
        ),
    ],
)
def test_photos_without_any_labels_are_refused(file: str, words: str, tmp_path: Path) -> None:
    draw_photo(tmp_path / "0.png", (10, 10), [])
    (tmp_path / file).write_text("what is in it")
    with pytest.raises(UsageError) as fault:
        formats.read(tmp_path)
    assert str(fault.value).startswith(f"{tmp_path} {words.format(tmp_path)}")


@pytest.mark.parametrize(
    ("format", "ending"), [("voc", ".xml"), ("coco", ".json"), ("csv", ".csv"), ("kfood_corners", ".properties")]
)
def test_a_format_of_which_there_is_no_file_is_refused(format: str, ending: str, tmp_path: Path) -> None:
    draw_photo(tmp_path / "lunch.png", (60, 40), [])
    (tmp_path / "lunch.txt").write_text("1,2,3,4")
    with pytest.raises(UsageError, match=rf"holds no \{ending} files, which --format {format} reads: name the folder"):
        formats.read(tmp_path, format)


@pytest.mark.parametrize("format", [None, "yolo", "kfood"])
@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("food.zip", "PK", r"food\.zip is an archive: unpack it and name the folder that comes of it\.$"),
        ("food.TGZ", "", r"food\.TGZ is an archive: unpack it"),
        (
            "notes.md",
            "seen at noon",
            r"notes\.md is no file of labels: name the folder that holds the photos and their",
        ),
        ("model", "", r"model is no file of labels: name the folder"),
        ("a.txt", "0 .5 .5 .2 .2", r"a\.txt is the label of one photo: name the folder that holds all of them\.$"),
        (
            "train.txt",
            "\nimages/my lunch.JPG\nimages/b.jpg\n",
            r"train\.txt is a list of photos and says nothing of what is on them: name \S+data\.yaml, which names the "
            r"classes, or the folder \S+\.$",
        ),
    ],
)
def test_a_file_without_labels_is_refused(name: str, text: str, words: str, format: str | None, tmp_path: Path) -> None:
    """Beside photos with labels, whose classes it would hide."""
    draw_photo(tmp_path / "a.png", (60, 40), [])
    (tmp_path / "a.txt").write_text("0 .5 .5 .2 .2")
    (tmp_path / "data.yaml").write_text("train: .\nnames: [rice]\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=words):
        formats.read(tmp_path / name, format)


def test_a_text_beside_labels_is_not_taken_for_their_folder(tmp_path: Path) -> None:
    draw_photo(tmp_path / "a.png", (60, 40), [])
    (tmp_path / "a.txt").write_text("0 .5 .5 .2 .2")
    (tmp_path / "notes.txt").write_text("seen at noon")
    with pytest.raises(
        UsageError, match=r"holds 1 photo and no labels of a known format, but \S+notes\.txt, which begin"
    ):
        formats.read(tmp_path / "notes.txt")


def test_a_missing_folder_and_a_single_photo_are_refused(starthon_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere is not there: expected a folder"):
        formats.read(starthon_folder / "nowhere")
    with pytest.raises(UsageError, match=r"lunch\.png is one photo: expected a folder"):
        formats.read(starthon_folder / "lunch.png")


@pytest.mark.parametrize(
    ("name", "text", "program"),
    [
        ("annotations.xml", '<?xml version="1.0"?>\n<annotations>\n  <version>1.1</version>', "CVAT's own XML"),
        ("a.json", '[{"id": 1, "annotations": [{"result": [{"from_name": "label"}]}]}]', "Label Studio's own JSON"),
        ("_annotations.createml.json", '[{"image":"a.jpg","annotations":[{"label":"x"}]}]', "CreateML's JSON"),
        ("via.json", '{"_via_settings": {}}', "the VGG Image Annotator's own file"),
        ("boxes.csv", "ImageID,Source,LabelName,Confidence\n", "a table of Open Images"),
        ("boxes.csv", "a,b,c\n", ""),
    ],
)
def test_labels_that_are_not_read_are_named(tmp_path: Path, name: str, text: str, program: str) -> None:
    draw_photo(tmp_path / "a.jpg", (20, 10), [])
    (tmp_path / "README.txt").write_text("Hello.")
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as fault:
        formats.read(tmp_path)
    assert f"but {tmp_path / name}, which begins '{' '.join(text.split())[:10]}" in str(fault.value)
    end = f"It looks like {program}, which is not read: export it as COCO or Pascal VOC." if program else "holds both."
    assert str(fault.value).endswith(end)


def test_a_jpeg_by_the_ending_that_a_browser_gives_it(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jfif", format="JPEG")
    (tmp_path / "a.txt").write_text("1,2,3,4")
    dataset, findings = formats.read(tmp_path)
    assert (findings, dataset.box_count) == ([], 1)


def test_the_folder_where_one_is(starthon_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Path has no "./" before its names, and the system's listing of "." has."""
    monkeypatch.chdir(starthon_folder)
    dataset, findings = formats.read(Path())
    assert (dataset.format, dataset.box_count, findings) == ("starthon", 1, [])


def test_an_unknown_format_is_refused_with_those_that_there_are(voc_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"Unknown format 'coco9': expected one of .*starthon.*voc"):
        formats.read(voc_folder, "coco9")


# -- Parts by folders -----------------------------------------------------------------------------------------------


def starthon_in(root: Path, *folders: str) -> Path:
    for i, folder in enumerate(folders):
        photo = draw_photo(root / "drawn" / f"{i}.png", (60, 40), [(0, 5, 5, 30, 30)])
        starthon.write(Dataset([photo], ["food"]), root / "photos" / folder)
    return root / "photos"


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (("train", "valid", "test"), ["train", "valid", "test"]),
        (("Training/lunch", "VAL/lunch"), ["train", "valid"]),
        (("images/train", "images/test", "more"), ["train", "test", ""]),
        (("training_set", "validation_set", "test_set"), ["train", "valid", "test"]),
        (("train_images", "val_images"), ["train", "valid"]),
        (("train2017", "val2017"), ["train", "valid"]),
        # A name that says it plainly goes before others, and of the others the innermost.
        (("train-20240522/train", "train-20240522/test"), ["train", "test"]),
        (("train/test tubes", "valid/test tubes"), ["train", "valid"]),
        (("train_01/test_01", "train_01/x"), ["test", "train"]),
        (("test kitchen", "lunch"), ["", ""]),
        (("train or test", "train", "latest"), ["", "", ""]),
        # Without photos to train on, or with nothing else, names of folders may mean anything.
        (("train", "lunch"), ["", ""]),
        (("valid", "test"), ["", ""]),
        (("train", "train_2"), ["", ""]),
    ],
)
def test_folders_give_the_part_where_the_labels_name_none(
    folders: tuple[str, ...], parts: list[str], tmp_path: Path
) -> None:
    photos = starthon_in(tmp_path, *folders)
    dataset, _ = formats.read(photos)
    found = {str(photo.path.parent.relative_to(photos)): photo.part for photo in dataset}
    assert found == dict(zip(folders, parts, strict=True))


def test_names_of_folders_above_the_photos_are_no_parts(tmp_path: Path) -> None:
    photos = starthon_in(tmp_path / "train" / "test", "breakfast", "lunch")
    assert {photo.part for photo in formats.read(photos)[0]} == {""}


def test_of_two_formats_that_say_the_same_the_one_with_outlines_is_read(tmp_path: Path) -> None:
    photo = draw_photo(tmp_path / "drawn" / "lunch.png", (60, 40), [(0, 5, 5, 30, 30)])
    triangle = torch.tensor([[5.0, 5], [30, 5], [30, 30]])
    labelme.write(Dataset([dataclasses.replace(photo, masks=[[triangle]])], ["rice"]), tmp_path / "two")
    voc.write(Dataset([photo], ["rice"]), tmp_path / "voc")
    shutil.copy(tmp_path / "voc" / "annotations" / "lunch.xml", tmp_path / "two")
    dataset, _ = formats.read(tmp_path / "two")
    assert dataset.format == "labelme"
    assert dataset.photos[0].masks is not None


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode there")
@pytest.mark.parametrize("name", formats.FORMATS)
def test_photos_whose_names_are_no_utf_8_are_written(name: str, tmp_path: Path) -> None:
    """As old Korean archives leave them."""
    photo = draw_photo(tmp_path / os.fsdecode("김치".encode("cp949") + b".png"), (60, 40), [(0, 5, 5, 30, 30)])
    formats.FORMATS[name].write(Dataset([photo], ["rice"]), tmp_path / "out")
    dataset, findings = formats.read(tmp_path / "out", name)
    assert [p.boxes.round().tolist() for p in dataset] == [[[5, 5, 30, 30]]]
    assert findings == []


def test_a_photo_keeps_its_ending_where_its_own_kinds_is_none_that_is_read(tmp_path: Path) -> None:
    for kind in ("JPEG2000", "PPM", "TGA", "PNG"):
        Image.new("RGB", (60, 40)).save(tmp_path / f"{kind}.jpg", format=kind)
        (tmp_path / f"{kind}.txt").write_text("5,5,25,25")
    starthon.write(formats.read(tmp_path)[0], tmp_path / "out")
    assert sorted(p.path.name for p in formats.read(tmp_path / "out")[0]) == [
        "JPEG2000.jpg", "PNG.png", "PPM.jpg", "TGA.jpg",
    ]  # fmt: skip


def test_mending_leaves_out_an_entry_without_a_photo_and_no_photo(tmp_path: Path) -> None:
    draw_photo(tmp_path / "a.png", (60, 40), [])
    entry = {"id": 1, "image_id": 9, "category_id": 1, "bbox": [1, 2, 3, 4]}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 40}],
        "annotations": [entry],
        "categories": [{"id": 1, "name": "x"}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    assert [f.mend for f in formats.read(tmp_path)[1]] == ["the entry is left out"]


@pytest.mark.parametrize("turn", [5, 6, 7, 8])
def test_outlines_are_turned_with_their_boxes(turn: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    path = tmp_path / "a.jpg"
    Image.new("RGB", (80, 50)).save(path, exif=exif)
    raw = RawBox((10, 20, 30, 45), "a", Source("x"), polygons=[[10, 20, 30, 20, 30, 45, 10, 45]])
    dataset, _ = assemble(Labels([RawPhoto(path, [raw], stored_size=(80, 50))]), look([path]))
    masks = dataset.photos[0].masks
    assert masks is not None
    around = torch.cat((masks[0][0].amin(0), masks[0][0].amax(0)))
    assert around.tolist() == dataset.photos[0].boxes[0].tolist()


def in_common(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=4), unique_by=tuple, max_size=6),
    st.lists(st.sampled_from("abc"), max_size=4),
)
def test_the_nearest_photos_are_those_of_holding_a_label_against_all(folders: list[list[str]], own: list[str]) -> None:
    """Most folders in common from the first on, of these from the last on."""
    near = NearestPhotos()
    for folder in folders:
        near.add("1", Path(*folder, "1.jpg"))
    nearness = [(in_common(folder, own), in_common(folder[::-1], own[::-1])) for folder in folders]
    expected = [Path(*f, "1.jpg") for f, n in zip(folders, nearness, strict=True) if n == max(nearness)]
    assert near.find("1", Path(*own, "1.xml")) == expected
    assert near.find("2", Path(*own, "2.xml")) == []


# -- What all of them have in common --------------------------------------------------------------------------------


def written(format: str, scale: tuple[float, float], tmp_path: Path, last: float = 1.0) -> Path:
    """Two photos of 200 x 100 pixels, each with two boxes, in a folder of this format; numbers times a scale."""
    folder = tmp_path / format
    wide, high = scale
    corners = [(20, 10, 100, 60), (100, 50, 200 * last, 100)]
    boxes = [(x1 * wide, y1 * high, x2 * wide, y2 * high) for x1, y1, x2, y2 in corners]
    for i in range(2):
        draw_photo(folder / f"{i}.png", (200, 100), [])
        if format == "voc":
            objects = "".join(
                "<object><name>rice</name><bndbox>"
                + "".join(
                    f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
                )
                + "</bndbox></object>"
                for box in boxes
            )
            (folder / f"{i}.xml").write_text(f"<annotation>{objects}</annotation>")
        elif format == "labelme":
            shapes = [{"label": "rice", "shape_type": "rectangle", "points": [box[:2], box[2:]]} for box in boxes]
            content = {"shapes": shapes, "imagePath": f"{i}.png", "imageHeight": 100, "imageWidth": 200}
            (folder / f"{i}.json").write_text(json.dumps(content))
        elif format == "csv":
            rows = [f"{i}.png,{','.join(map(str, box))},rice\n" for box in boxes]
            with (folder / "a.csv").open("a") as file:
                file.writelines(rows)
    if format == "coco":
        content = {
            "images": [{"id": i, "file_name": f"{i}.png"} for i in range(2)],
            "annotations": [
                {"id": 2 * i + j, "image_id": i, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
                for i in range(2)
                for j, (x1, y1, x2, y2) in enumerate(boxes)
            ],
            "categories": [{"id": 1, "name": "rice"}],
        }
        (folder / "a.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("format", ["coco", "voc", "labelme", "csv"])
@pytest.mark.parametrize("last", [1.0, 1.004])
def test_boxes_that_can_only_be_shares_are_read_as_such(format: str, last: float, tmp_path: Path) -> None:
    """Azure's COCO files have them; one that sticks out a little changes nothing."""
    dataset, findings = formats.read(written(format, (1 / 200, 1 / 100), tmp_path, last))
    assert dataset.format == format
    expected = torch.tensor([[20.0, 10, 100, 60], [100, 50, 200, 100]])
    for photo in dataset:
        torch.testing.assert_close(photo.boxes, expected)
    assert [f.kind for f in findings if f.harm != "note"] == ["shares for pixels"]


@pytest.mark.parametrize("format", ["coco", "voc", "labelme", "csv"])
def test_boxes_in_pixels_stay(format: str, tmp_path: Path) -> None:
    folder = written(format, (1, 1), tmp_path)
    assert formats.read(folder)[1] == []
    assert formats.read(folder)[0].photos[0].boxes.tolist() == [[20, 10, 100, 60], [100, 50, 200, 100]]


# What each of three photos of 200 x 100 pixels has as x1, y1, x2, y2, and what that is in pixels.
ONE_WAY = {
    "shares": (["0,0,1,1", "0.1,0.2,0.5,0.5", "0.5,0,1,1"], [[0, 0, 200, 100], [20, 20, 100, 50], [100, 0, 200, 100]]),
    "shares, and placeholders": (["0,0,1,1", "0.1,0.2,0.5,0.5", "0,0,1,1"],
                                 [[0, 0, 200, 100], [20, 20, 100, 50], [0, 0, 200, 100]]),
    "shares, and one that sticks out": (["0.5,0.5,1,1.002", "0.1,0.2,0.5,0.5", "0.5,0.5,1.005,1"],
                                        [[100, 50, 200, 100], [20, 20, 100, 50], [100, 50, 200, 100]]),
    "pixels, and one of them": (["20,10,100,60", "0,0,1,1", "10,10,20,20"],
                                [[20, 10, 100, 60], [0, 0, 1, 1], [10, 10, 20, 20]]),
    "pixels, and less than one": (["20,10,100,60", "0.25,0.5,1,1", "10,10,20,20"],
                                  [[20, 10, 100, 60], [0.25, 0.5, 1, 1], [10, 10, 20, 20]]),
    "one pixel each": (["0,0,1,1"] * 3, [[0, 0, 1, 1]] * 3),
    "half and half": (["0.1,0.2,0.5,0.5", "0,0,1,1", "10,10,20,20"],
                      [[0.1, 0.2, 0.5, 0.5], [0, 0, 1, 1], [10, 10, 20, 20]]),
}  # fmt: skip


@pytest.mark.parametrize("format", ["csv", "kfood_corners", "kfood", "starthon"])
@pytest.mark.parametrize(("rows", "boxes"), ONE_WAY.values(), ids=ONE_WAY)
def test_a_folder_is_in_shares_or_in_pixels(
    rows: list[str], boxes: list[list[float]], format: str, tmp_path: Path
) -> None:
    """Numbers of at most 1 are what those of most other photos are, in every format, and one warning says so."""
    folder = tmp_path / "rice"
    for i, row in enumerate(rows):
        draw_photo(folder / f"{i}.png", (200, 100), [])
        x1, y1, x2, y2 = map(float, row.split(","))
        size = f"{x1},{y1},{round(x2 - x1, 9)},{round(y2 - y1, 9)}"
        with (folder / ("a.csv" if format == "csv" else "crop_area.properties")).open("a") as file:
            file.write(f"{i}.png,{row},rice\n" if format == "csv" else f"{i}={size if format == 'kfood' else row}\n")
        if format == "starthon":
            (folder / f"{i}.txt").write_text(size)
    dataset, findings = formats.read(tmp_path, format)
    torch.testing.assert_close(torch.cat([photo.boxes for photo in dataset]), torch.tensor(boxes, dtype=torch.float32))
    (found,) = (f for f in findings if f.harm != "note")
    in_shares = boxes[0][2] == 200 or boxes[1] == [20, 20, 100, 50]
    assert (found.harm, found.kind) == ("warning", "shares for pixels" if in_shares else "pixels or shares")
    assert found.what.endswith("shares of width and height" if in_shares else "were read as pixels")


def test_a_box_far_out_of_its_photo_is_at_fault_in_shares_too(tmp_path: Path) -> None:
    """And no box of one pixel."""
    for i, row in enumerate(["0.1,0.2,0.5,0.5", "0.2,0.2,0.5,0.5", "0.6,0.6,0.6,0.6"]):
        draw_photo(tmp_path / f"{i}.png", (200, 100), [])
        (tmp_path / f"{i}.txt").write_text(row)
    (found,) = (f for f in formats.read(tmp_path)[1] if f.harm == "error")
    assert (found.kind, found.photo) == ("box outside the photo", tmp_path / "2.png")
    assert "120, 60, 240, 120" in found.what


def test_no_numbers_at_all_are_neither(tmp_path: Path) -> None:
    draw_photo(tmp_path / "a.png", (200, 100), [])
    (tmp_path / "a.txt").write_text("0,0,0,0")
    assert [f.kind for f in formats.read(tmp_path)[1]] == ["empty box"]


def test_photos_that_were_turned_after_they_were_labelled_are_found(tmp_path: Path) -> None:
    """Where other labels have width and height right; where all have them exchanged, the program did so."""
    folder = tmp_path / "tables"
    for name in ("a.png", "b.png"):
        draw_photo(folder / name, (200, 100), [])
    header = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    turned = "a.png,100,200,rice,10,20,40,60\n"
    (folder / "a.csv").write_text(header + turned + "b.png,200,100,rice,10,20,40,60\n")
    (found,) = formats.read(folder)[1]
    assert (found.harm, found.kind, found.photo) == ("warning", "other size in label", folder / "a.png")
    assert "if the photo was turned after it was labelled, its boxes are wrong" in found.what
    (folder / "a.csv").write_text(header + turned + "b.png,100,200,rice,10,20,40,60\n")
    assert formats.read(folder)[1] == []


@pytest.mark.parametrize("far", [1e10, 1e35])
def test_a_box_far_away_lies_outside_and_its_photo_is_left_out(far: float, tmp_path: Path) -> None:
    """It has an area: that nothing is on the photo, nobody said."""
    draw_photo(tmp_path / "a.png", (200, 100), [])
    (tmp_path / "a.csv").write_text(f"a.png,{far},1,{2 * far},3,rice\n")
    (found,) = formats.read(tmp_path)[1]
    assert (found.kind, found.mend) == ("box outside the photo", "the photo is left out")


@pytest.mark.parametrize("format", ["coco", "labelme"])
def test_json_in_utf_16_is_known(format: str, tmp_path: Path) -> None:
    """As PowerShell's > writes it."""
    folder = written(format, (1, 1), tmp_path)
    for file in folder.glob("*.json"):
        file.write_text(file.read_text(), encoding="utf-16")
    dataset, findings = formats.read(folder)
    assert (dataset.format, dataset.box_count, findings) == (format, 4, [])
