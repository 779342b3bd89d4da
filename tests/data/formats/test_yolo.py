"""YOLO's files as people and programs really write them, and what is said of the faulty ones."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
import supervision
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from foodbox.data import formats
from foodbox.data.formats import yolo, yolo_classes
from foodbox.data.listing import scan
from foodbox.findings import Finding
from foodbox.records import Dataset, Photo
from tests.conftest import NAMES, draw_photo

SIZE = (200, 100)
LINE = "1 0.125 0.4 0.15 0.4\n"
BOX = [10, 20, 40, 60]
YAML = "train: images\nnc: 3\nnames: [apple, bowl, cake]\n"


def folder_with(folder: Path, files: dict[str, str | bytes | None]) -> Path:
    """Text files by their names; photos of 200 x 100 pixels, whose text is None."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            draw_photo(folder / name, SIZE, [])
        else:
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def one_photo(folder: Path, text: str | bytes) -> Path:
    """lunch.jpg in images/ with this label file in labels/, and three classes."""
    return folder_with(folder, {"images/lunch.jpg": None, "labels/lunch.txt": text, "data.yaml": YAML})


def read(folder: Path) -> Dataset:
    """A folder in which nothing is at fault."""
    dataset, findings = formats.read(folder)
    assert findings == []
    assert dataset.format == "yolo"
    return dataset


def one_finding(folder: Path, harm: str = "error") -> Finding:
    _, findings = formats.read(folder, "yolo")
    assert [finding.harm for finding in findings] == [harm], findings
    return findings[0]


def shown(dataset: Dataset, folder: Path) -> dict[str, tuple[int, bool, str]]:
    """Photo → boxes, whether it is labelled, and its part."""
    return {
        p.path.relative_to(folder).as_posix(): (len(p.boxes), p.labelled, p.part)
        for p in dataset
    }  # fmt: skip


# -- Turned photos ---------------------------------------------------------------------------------------------------


def test_a_share_that_is_rounded_over_the_border_turns_no_box(tmp_path: Path) -> None:
    """Of 300 px: 0.751667 + 0.496667 / 2 is 300.00015, which would fit the 400 px of the photo before its turn."""
    folder = folder_with(tmp_path, {"labels/lunch.txt": "0 0.751667 0.2125 0.496667 0.225\n", "data.yaml": YAML})
    (folder / "images").mkdir()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (400, 300)).save(folder / "images" / "lunch.jpg", exif=exif)
    dataset, findings = formats.read(folder)
    torch.testing.assert_close(dataset.photos[0].boxes, torch.tensor([[151.0, 40, 300, 130]]), rtol=0, atol=1e-3)
    assert [f.harm for f in findings] == ["note"]


def test_a_photo_whose_label_would_be_a_list_of_classes_gets_another_name(tmp_path: Path) -> None:
    photos = []
    for name in ("classes.jpg", "Classes.png", "other.jpg"):
        Image.new("RGB", (100, 80)).save(tmp_path / name)
        photos.append(Photo(tmp_path / name, 100, 80, torch.tensor([[5.0, 5, 50, 40]]), torch.tensor([0])))
    formats.FORMATS["yolo"].write(Dataset(photos, ["bun"]), tmp_path / "out")
    dataset, findings = formats.read(tmp_path / "out")
    assert {p.path.name: len(p.boxes) for p in dataset} == {"classes-2.jpg": 1, "Classes-3.png": 1, "other.jpg": 1}
    assert (dataset.names, findings) == (["bun"], [])


# -- Lines ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        LINE,
        LINE.rstrip(),
        LINE.replace("\n", "\r\n"),
        "\ufeff" + LINE,
        "\n  " + LINE.replace(" ", "\t  ") + "\n\n",
        "1.0 1.25e-1 .4 +0.150 0.4000000001",
    ],
)
def test_a_box_in_the_wild(text: str, tmp_path: Path) -> None:
    dataset = read(one_photo(tmp_path, text))
    photo = dataset.photos[0]
    torch.testing.assert_close(photo.boxes, torch.tensor([BOX], dtype=torch.float32), rtol=0, atol=1e-4)
    assert photo.boxes.dtype == torch.float32
    assert photo.labels.tolist() == [1]
    assert dataset.names == NAMES
    assert photo.masks is None
    assert photo.labelled


def test_boxes_and_outlines_with_their_lines(tmp_path: Path) -> None:
    text = f"0 0.1 0.1 0.5 0.1 0.5 0.9\n{LINE}\n2 0.5 0.5 0.6 0.5 0.6 0.6 0.5 0.6\n"
    photo = read(one_photo(tmp_path, text)).photos[0]
    torch.testing.assert_close(photo.boxes, torch.tensor([[20.0, 10, 100, 90], BOX, [100, 50, 120, 60]]))
    assert photo.labels.tolist() == [0, 1, 2]
    assert photo.masks is not None
    assert [len(mask) for mask in photo.masks] == [1, 0, 1]
    torch.testing.assert_close(photo.masks[0][0], torch.tensor([[20.0, 10], [100, 10], [100, 90]]))
    assert [str(s) for s in photo.sources] == [f"{tmp_path / 'labels' / 'lunch.txt'}:{line}" for line in (1, 2, 4)]


def test_a_box_that_touches_the_border_is_not_called_cut_off(tmp_path: Path) -> None:
    """Five decimals, as many programs write: 0.33333 + 0.66667 / 2 is a bit over the half of 1.33333."""
    photo = read(one_photo(tmp_path, "0 0.83333 0.50000 0.33335 1.00000")).photos[0]
    assert photo.boxes[0, 1:].tolist() == [0, 200, 100]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a pizza", "found 'a pizza', expected a class and its coordinates"),
        ("1,0.125,0.4,0.15,0.4", "found '1,0.125,0.4,0.15,0.4', expected a class"),
        ("1 0.125 0.4 wide 0.4", "expected a class and its coordinates: numbers with blanks between"),
        ("bowl 0.125 0.4 0.15 0.4", "found 'bowl 0.125"),
        ("1 0.125 nan 0.15 0.4", "expected a class and its coordinates"),
        ("1 0.125 inf 0.15 0.4", "expected a class and its coordinates"),
        (b"\x89PNG\x00", "expected a class and its coordinates"),
        ("4 0.125 0.4 0.15 0.4", "found the class 4, expected 0 to 2: there are 3 names"),
        ("-1 0.125 0.4 0.15 0.4", "found the class -1, expected a whole number from 0"),
        ("1.5 0.125 0.4 0.15 0.4", "found the class 1.5, expected a whole number"),
        ("1", "found 0 numbers behind the class, expected the 4 of a box"),
        ("1 0.1 0.2", "found 2 numbers behind the class"),
        ("1 0.1 0.2 0.3", "found 3 numbers behind the class"),
        ("1 0.1 0.2 0.3 0.4 0.5 0.6 0.7", "found 7 numbers behind the class, expected the 4 of a box (cx cy w h), or"),
        (
            "1 25 40 30 40",
            "found the coordinate 40, expected shares of the photo's sides from 0 to 1: it may be pixels",
        ),
        ("1 10 20 40 20 40 60", "found the coordinate 60, expected shares"),
        ("1 0.125 0.4 -0.15 0.4", "the box has the size -0.15 x 0.4, expected both above 0"),
        ("1 0.125 0.4 0 0.4", "has no area"),
        ("1 0.9 0.4 1.2 0.4", "lies outside the photo"),
    ],
)
def test_a_faulty_line_is_found_with_its_place(line: str | bytes, words: str, tmp_path: Path) -> None:
    line = line if isinstance(line, bytes) else line.encode()
    one_photo(tmp_path, LINE.encode() + line + b"\n" + LINE.encode())
    finding = one_finding(tmp_path)
    assert words in finding.what
    assert finding.todo
    assert finding.photo == tmp_path / "images" / "lunch.jpg"
    assert str(finding).startswith(f"{tmp_path / 'labels' / 'lunch.txt'}:2: ")
    assert len(formats.read(tmp_path)[0].photos[0].boxes) in (2, 3)


@pytest.mark.parametrize(
    ("classes", "shifted"), [("123", True), ("13", True), ("1113", True), ("0123", False), ("23", False), ("12", False)]
)
def test_classes_that_are_counted_from_1_are_one_error(classes: str, shifted: bool, tmp_path: Path) -> None:
    """All would be called like the one behind them, so none is read; else a 3 is the fault of its line alone."""
    for i, number in enumerate(classes):
        text = f"{number} .5 .5 .2 .2\n" if i % 2 else f"{number} .4 .4 .6 .4 .6 .6 .4 .6\n"
        folder_with(tmp_path, {f"images/{i}.jpg": None, f"labels/{i}.txt": text, "data.yaml": YAML})
    dataset, findings = formats.read(tmp_path)
    assert dataset.names == NAMES
    if shifted:
        assert [(f.harm, f.photo) for f in findings] == [("error", None)]
        assert findings[0].what == (
            "classes seem to be counted from 1: found 1 to 3, expected 0 to 2 for the 3 names of "
            f"{tmp_path / 'data.yaml'}:3, and no such label is read"
        )
        assert not any(photo.labelled for photo in dataset)
    else:
        assert [(f.harm, f.photo is None) for f in findings] == [("error", False)] * classes.count("3")
        assert dataset.box_count == len(classes) - classes.count("3")


def test_a_file_that_is_no_text_is_found(tmp_path: Path) -> None:
    assert "no text in UTF-8" in one_finding(one_photo(tmp_path, b"\xff\xff1\x000\x00")).what


def test_scores_are_left_out_and_said_once(tmp_path: Path) -> None:
    one_photo(tmp_path, LINE + "1 0.125 0.4 0.15 0.4 0.93\n0 0.125 0.4 0.15 0.4 0.21\n")
    finding = one_finding(tmp_path, "warning")
    assert finding.what.startswith("2 boxes have a sixth number, taken as a score")
    assert str(finding.source).endswith("lunch.txt:2")
    torch.testing.assert_close(formats.read(tmp_path)[0].photos[0].boxes, torch.tensor([BOX] * 3).float())


def test_points_of_a_body_behind_the_box_are_left_out(tmp_path: Path) -> None:
    one_photo(tmp_path, "1 0.125 0.4 0.15 0.4 0.1 0.2 2 0.1 0.3 1\n")
    (tmp_path / "data.yaml").write_text(YAML + "kpt_shape: [2, 3]\n")
    photo = read(tmp_path).photos[0]
    assert photo.boxes.shape == (1, 4)
    assert photo.masks is None


POINTS = "0.45 0.45 {} 0.55 0.45 {} 0.5 0.5 {} 0.5 0.55 {}"
"""Four points inside of the box 0.5 0.5 0.2 0.2, and whether they are seen."""
SEEN = "0 0.5 0.5 0.2 0.2 " + POINTS.format(1, 2, 2, 1)


@pytest.mark.parametrize(
    ("lines", "shape"),
    [
        ([SEEN], "[4, 3]"),
        ([SEEN, "0 0.5 0.5 0.2 0.2 " + "0 0 0 " * 3 + "0.5 0.5 2"], "[4, 3]"),
        (["0 0.5 0.5 0.2 0.2 " + POINTS.format(2, 2, 0, 1).replace("0.45", "0.15")] * 3, "[4, 3]"),  # beside the box
        (["0 0.5 0.5 0.2 0.2 0.5 0.5 2"], "[1, 3]"),  # no outline has seven coordinates
        (["0 0.5 0.5 0.2 0.2 " + " ".join(POINTS.replace("{}", "").split())], "[4, 2]"),
        (["0 0.5 0.5 0.2 0.2 0.45 0.45 0 0"] * 3, "[2, 2]"),
    ],
)
def test_points_of_a_body_are_known_by_their_looks(lines: list[str], shape: str, tmp_path: Path) -> None:
    folder_with(one_photo(tmp_path, lines[0]), {"images/b.jpg": None, "labels/b.txt": "\n".join(lines[1:])})
    finding = one_finding(tmp_path, "warning")
    assert "look like points of a body" in finding.what
    assert finding.todo == f"Say so with kpt_shape: {shape} in a data.yaml"
    dataset = formats.read(tmp_path)[0]
    assert [photo.masks for photo in dataset] == [None, None]
    boxes = torch.cat([photo.boxes for photo in dataset])
    torch.testing.assert_close(boxes, torch.tensor([[80.0, 40, 120, 60]] * len(lines)), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "lines",
    [
        ["0 0.45 0.45 0.55 0.45 0.55 0.55 0.45 0.55"] * 3,  # all in the "box" that their first corners would be
        ["0 0.5 0.45 0.55 0.5 0.55 0.55 0.5 0.6 0.45 0.55 0.45 0.5"],
        ["0 0 0 1 0 1 1 0 1 0 0"] * 5,  # the whole photo, closed: every third value from the eighth on is 0
        ["0 0.5 0.5 0.2 0.2 " + POINTS.format(1, 1, 1, 1), "0 0.1 0.1 0.5 0.1 0.5 0.9"],  # of two lengths
        ["0 0.3 0.5 0.9 0.2 " + POINTS.format(1, 1, 1, 1)] * 3,  # no box inside the photo
        ["0 0.1 0.1 0.5 0.1 0.5 1", "0 0.1 0.1 0.5 0.1 0.5 0.9"],
        ["0 0.9 0.1 0.5 0.1 0.5 1"],
    ],
)
def test_outlines_stay_outlines(lines: list[str], tmp_path: Path) -> None:
    photo = read(one_photo(tmp_path, "\n".join(lines))).photos[0]
    assert [len(mask) for mask in photo.masks or []] == [1] * len(lines)


@pytest.mark.parametrize(
    "text",
    [
        "1 0.125 0.4 0.15 0.4 0.9 1",
        "1 0.125 0.4 0.15 0.4 0.9 1\n1 0.125 0.4 0.15 0.4 0.8 2",
        "1 0.125 0.4 0.15 0.4 0.9 17\n1 0.125 0.4 0.15 0.4 1 1\n" + LINE,
    ],
)
def test_tracks_are_boxes(text: str, tmp_path: Path) -> None:
    finding = one_finding(one_photo(tmp_path, text), "warning")
    assert finding.what.startswith("a score and the number of a track stand behind ")
    assert finding.source.line == 1
    photo = formats.read(tmp_path)[0].photos[0]
    torch.testing.assert_close(photo.boxes, torch.tensor([BOX] * len(text.splitlines())).float(), rtol=0, atol=1e-4)
    assert photo.masks is None


def test_boxes_keep_the_order_of_their_lines(tmp_path: Path) -> None:
    """Also where the long lines are read last."""
    one_photo(tmp_path, f"0 0.1 0.1 0.5 0.1 0.5 0.9\n{LINE}2 0.1 0.1 0.5 0.1 0.5 0.9\n")
    assert read(tmp_path).photos[0].labels.tolist() == [0, 1, 2]


# -- Which label is whose -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("photo", "label"),
    [
        ("lunch.jpg", "lunch.txt"),
        ("images/lunch.jpg", "labels/lunch.txt"),
        ("images/lunch.jpg", "images/lunch.txt"),
        ("images/train/lunch.jpg", "labels/train/lunch.txt"),
        ("train/images/lunch.jpg", "train/labels/lunch.txt"),
        ("images/train/images/lunch.jpg", "images/train/labels/lunch.txt"),
        ("VOC/JPEGImages/lunch.jpg", "VOC/labels/lunch.txt"),
        ("obj_train_data/lunch.JPG", "obj_train_data/lunch.TXT"),
        ("images/IMG_1_jpg.rf.6a8c8c.jpg", "labels/IMG_1_jpg.rf.6a8c8c.txt"),
        ("images/점심.jpg", normalize("NFD", "labels/점심.txt")),
        ("lunch.jpg", "lunch.jpg.txt"),
        ("images/lunch.jpg", "labels/lunch.jpg.txt"),
    ],
)
@pytest.mark.parametrize("names", ["classes.txt", "Classes.TXT", "OBJ.NAMES", "data.yaml"])
def test_where_labels_lie(photo: str, label: str, names: str, tmp_path: Path) -> None:
    text = "names: [apple, bowl, cake]\nnc: 3\n" if names == "data.yaml" else "apple\nbowl\ncake\n"
    dataset = read(folder_with(tmp_path, {photo: None, label: LINE, names: text}))
    assert shown(dataset, tmp_path) == {photo: (1, True, "")}
    assert dataset.names == NAMES


def test_a_missing_or_empty_label_says_that_the_photo_shows_nothing(tmp_path: Path) -> None:
    """As the format's users mean it; but where no photo of a folder has one, nobody labelled them."""
    files = {"images/a.jpg": None, "labels/a.txt": LINE, "images/b.jpg": None, "images/c.jpg": None}
    folder_with(tmp_path, {**files, "labels/c.txt": "", "images/new/d.jpg": None, "classes.txt": "a\nb\n"})
    assert shown(read(tmp_path), tmp_path) == {
        "images/a.jpg": (1, True, ""),
        "images/b.jpg": (0, True, ""),
        "images/c.jpg": (0, True, ""),
        "images/new/d.jpg": (0, False, ""),
    }


def test_labels_in_other_capitals_are_read_where_one_photo_alone_may_be_meant(tmp_path: Path) -> None:
    files: dict[str, str | bytes | None] = {"IMG_1.JPG": None, "img_1.txt": LINE, "img_2.jpg": None, "IMG_2.TXT": LINE}
    files |= {"photos/Images/A.jpg": None, "photos/Labels/a.txt": LINE}
    files |= {"two/A.jpg": None, "two/a.jpg": None, "two/A.txt": LINE, "three/B.jpg": None, "three/b.jpg": None}
    folder_with(tmp_path, files | {"three/B.TXT": LINE, "three/b.TXT": "", "data.yaml": YAML})
    found = shown(formats.read(tmp_path)[0], tmp_path)
    assert {name: count for name, (count, _, _) in found.items()} == {
        "IMG_1.JPG": 1, "img_2.jpg": 1, "photos/Images/A.jpg": 1, "two/A.jpg": 1, "two/a.jpg": 0, "three/B.jpg": 1,
        "three/b.jpg": 0,
    }  # fmt: skip


def test_a_folder_of_labels_in_other_capitals_is_known(tmp_path: Path) -> None:
    folder_with(tmp_path, {"IMG_1.JPG": None, "img_1.txt": LINE, "classes.txt": "a\nb\nc\n"})
    assert read(tmp_path).box_count == 1


def test_a_label_of_two_photos_is_a_warning(tmp_path: Path) -> None:
    one_photo(tmp_path, LINE)
    Image.new("RGB", (300, 300)).save(tmp_path / "images" / "lunch.png")
    finding = one_finding(tmp_path, "warning")
    photos = [tmp_path / "images" / f"lunch.{ending}" for ending in ("jpg", "png")]
    assert finding.what == f"it labels {photos[0]} and {photos[1]}: expected one photo of this name"
    assert finding.source.path == str(tmp_path / "labels" / "lunch.txt")
    assert [len(photo.boxes) for photo in formats.read(tmp_path)[0]] == [1, 1]  # of shares both may be right


def test_labels_without_photos_are_found(tmp_path: Path) -> None:
    """One for each file, or one for a folder whose photos are all missing; lists and notes are no labels."""
    folder_with(tmp_path, {"images/a.jpg": None, "labels/a.txt": LINE, "labels/gone.txt": LINE, "data.yaml": YAML})
    folder_with(tmp_path, {f"labels/val/{i}.txt": LINE for i in range(5)})
    folder_with(tmp_path, {"labels/classes.txt": "apple\nbowl\ncake", "README.txt": "Hello.", "train.txt": "a.jpg\n"})
    _, findings = formats.read(tmp_path)
    assert [(str(f.source), f.what, f.kind) for f in findings] == [
        (str(tmp_path / "labels" / "gone.txt"), "there is no photo named gone", "label without photo"),
        (str(tmp_path / "labels" / "val"), "there is no photo of any of its 5 label files", "label without photo"),
    ]


# -- data.yaml and the like -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        "[apple, bowl, cake]",
        "['apple', \"bowl\", cake]",
        "\n- apple\n- bowl\n- cake",
        "\n  0: apple\n  1: bowl\n  2: cake",
        "{2: cake, 0: apple, 1: bowl}",
        "{'0': apple, '1': bowl, '2': cake}",
        "apple, bowl, cake",
    ],
)
def test_names_in_the_wild(names: str, tmp_path: Path) -> None:
    one_photo(tmp_path, LINE)
    (tmp_path / "data.yaml").write_text(f"# classes\nnc: 3\nnames: {names}\n")
    assert read(tmp_path).names == NAMES


def test_names_that_yaml_takes_for_something_else_stay_names(tmp_path: Path) -> None:
    one_photo(tmp_path, LINE)
    (tmp_path / "data.yaml").write_text("nc: 4\nnames: [no, 7, 2024-01-01, null]\n")
    assert read(tmp_path).names == ["no", "7", "2024-01-01", "null"]


def test_a_class_that_is_missing_among_the_numbers_is_called_by_its_own(tmp_path: Path) -> None:
    one_photo(tmp_path, LINE)
    (tmp_path / "data.yaml").write_text("nc: 3\nnames: {0: apple, 2: cake}\n")
    assert read(tmp_path).names == ["apple", "1", "cake"]


@pytest.mark.parametrize("names", ["['', bowl, ' ']", "\n-\n- bowl\n- ''", "{0: '', 1: bowl, 2: ''}", "', bowl, '"])
def test_a_class_with_an_empty_name_is_called_by_its_number(names: str, tmp_path: Path) -> None:
    one_photo(tmp_path, LINE)
    (tmp_path / "data.yaml").write_text(f"train: images\nnames: {names}\n")
    dataset, findings = formats.read(tmp_path)
    what = "the class {} has no name and is called by its number"
    lost = ["0"] if names == "', bowl, '" else ["0", "2"]
    assert [(f.harm, f.what, f.source.line) for f in findings] == [("warning", what.format(n), 2) for n in lost]
    assert dataset.names == ["0", "bowl", "2"][: len(lost) + 1]


def test_blank_lines_in_a_list_of_classes_are_classes(tmp_path: Path) -> None:
    """All that come behind would be other ones else; but the file's end is none."""
    folder_with(tmp_path, {"1.jpg": None, "1.txt": LINE, "classes.txt": "\napple\n \n cake \n\n\n"})
    dataset, findings = formats.read(tmp_path)
    assert dataset.names == ["0", "apple", "2", "cake"]
    assert [dataset.names[label] for label in dataset.photos[0].labels] == ["apple"]
    what = "the class {} has no name and is called by its number"
    assert [(f.harm, f.what, f.source.line) for f in findings] == [
        ("warning", what.format(0), 1),
        ("warning", what.format(2), 3),
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0 apple\n1 bowl\n2 big cake\n", ["apple", "bowl", "big cake"]),
        ("0: apple\n1: bowl\n2:cake", ["apple", "bowl", "cake"]),
        ("0 apple\n2 bowl\n1 cake\n", ["0 apple", "2 bowl", "1 cake"]),
        ("1 apple\n2 bowls\n3 cakes\n", ["1 apple", "2 bowls", "3 cakes"]),
        ("0 apple\nbowl\n2 cakes\n", ["0 apple", "bowl", "2 cakes"]),
    ],
)
def test_numbers_before_names_are_none_where_they_count_from_0(text: str, names: list[str], tmp_path: Path) -> None:
    assert read(folder_with(tmp_path, {"1.jpg": None, "1.txt": LINE, "classes.txt": text})).names == names


def test_classes_of_one_name_are_one_class(tmp_path: Path) -> None:
    one_photo(tmp_path, "0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n2 .5 .5 .2 .2")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [rice, soup, rice]\n")
    finding = one_finding(tmp_path, "warning")
    assert finding.what == "the class 'rice' stands 2 times (0, 2) and is taken as one"
    assert finding.source.line == 2
    dataset = formats.read(tmp_path)[0]
    assert dataset.names == ["rice", "soup"]
    assert dataset.photos[0].labels.tolist() == [0, 1, 0]


def test_another_number_of_classes_is_found(tmp_path: Path) -> None:
    one_photo(tmp_path, LINE)
    (tmp_path / "data.yaml").write_text("nc: 4\nnames: [apple, bowl, cake]\n")
    finding = one_finding(tmp_path, "warning")
    assert (finding.what, finding.source.line) == ("found nc 4 and 3 names: the names count", 1)


def test_classes_without_names_are_called_by_their_numbers(tmp_path: Path) -> None:
    text = "10 .5 .5 .2 .2\n9 .5 .5 .2 .2\n"
    folder_with(tmp_path, {"lunch.jpg": None, "lunch.txt": text})
    finding = one_finding(tmp_path, "warning")
    assert "no data.yaml, classes.txt or obj.names names the classes" in finding.what
    dataset = formats.read(tmp_path)[0]
    assert dataset.names == ["9", "10"]
    assert dataset.photos[0].labels.tolist() == [1, 0]


ROBOFLOW = "train: ../train/images\nval: ../valid/images\nnames: [apple, bowl, cake]\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.yaml", ROBOFLOW),
        (
            "food.yaml",
            "path: ../sets/food\ntrain: train/images\nval: valid/images\nnames: {0: apple, 1: bowl, 2: cake}\n",
        ),
        ("data.yaml", ROBOFLOW.replace("..", "/content/food")),
        ("classes.txt", "apple\nbowl\ncake\n"),
        ("obj.names", "apple\nbowl\ncake\n"),
    ],
)
def test_one_parts_folder_has_the_classes_that_are_named_above_it(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`train EXPORT/train --valid EXPORT/valid`: of all that lies above, the list of classes alone is read."""
    files: dict[str, str | bytes | None] = {f"{part}/images/a.jpg": None for part in ("train", "valid", "other")}
    files |= {f"{part}/labels/a.txt": LINE for part in ("train", "valid", "other")}
    folder_with(tmp_path / "food", files | {name: text})
    monkeypatch.chdir(tmp_path / "food" / "train")
    for place in (tmp_path / "food" / "train", tmp_path / "food" / "valid", Path(), Path("../valid")):
        dataset, findings = formats.read(place)
        assert (dataset.names, len(dataset)) == (NAMES, 1)
        assert [dataset.names[label] for label in dataset.photos[0].labels] == ["bowl"]
        assert [(f.harm, f.kind, Path(f.source.path).name) for f in findings] == [("note", "class names above", name)]


@pytest.mark.parametrize("where", ["images: train/images", "train: other/images", "names: [a, b, c]"])
def test_a_data_yaml_above_that_does_not_name_the_folder_is_not_its_own(where: str, tmp_path: Path) -> None:
    files: dict[str, str | bytes | None] = {"train/images/a.jpg": None, "train/labels/a.txt": LINE}
    folder_with(tmp_path, files | {"data.yaml": f"{where}\nnc: 3\nnames: [apple, bowl, cake]\n"})
    assert one_finding(tmp_path / "train", "warning").kind == "no class names"


def test_classes_below_count_and_not_those_above(tmp_path: Path) -> None:
    files: dict[str, str | bytes | None] = {"train/images/a.jpg": None, "train/labels/a.txt": LINE}
    folder_with(tmp_path, files | {"data.yaml": ROBOFLOW, "train/classes.txt": "x\ny\nz\n"})
    assert read(tmp_path / "train").names == ["x", "y", "z"]


def test_the_longest_of_several_lists_of_classes_counts(tmp_path: Path) -> None:
    """As labelImg writes one into each folder, as long as the classes that it knew by then."""
    files: dict[str, str | bytes | None] = {"a/1.jpg": None, "a/1.txt": LINE, "b/2.jpg": None, "b/2.txt": LINE}
    folder_with(tmp_path, {**files, "a/classes.txt": "apple\nbowl\n", "b/classes.txt": "apple\nbowl\ncake\n"})
    assert read(tmp_path).names == NAMES


@pytest.mark.parametrize("lists", ["classes.txt", "data.yaml"])
def test_labels_have_the_classes_of_the_list_above_them(tmp_path: Path, lists: str) -> None:
    """Two people's folders, or two exports, side by side: class 0 is another one in each."""
    folders: dict[str, str | bytes | None] = {
        "kim/1.jpg": None,
        "kim/1.txt": LINE,
        "lee/2.jpg": None,
        "lee/2.txt": LINE,
    }
    folder_with(tmp_path, folders)
    for folder, names in (("kim", ["rice", "kimchi"]), ("lee", ["kimchi", "soup", "rice"])):
        text = "\n".join(names) if lists == "classes.txt" else f"train: .\nnames: [{', '.join(names)}]\n"
        (tmp_path / folder / lists).write_text(text)
    dataset, findings = formats.read(tmp_path)
    assert findings == []
    assert dataset.names == ["rice", "kimchi", "soup"]
    number = int(LINE.split()[0])
    assert [dataset.names[label] for photo in dataset for label in photo.labels] == [
        ["rice", "kimchi"][number], ["kimchi", "soup", "rice"][number]
    ]  # fmt: skip
    folder_with(tmp_path, {"3.jpg": None, "3.txt": LINE})  # above both lists
    finding = one_finding(tmp_path)
    assert finding.photo == tmp_path / "3.jpg"
    assert "the classes of its labels are not known" in finding.what


def test_a_data_yaml_elsewhere_is_not_for_labels_with_a_list(tmp_path: Path) -> None:
    """A program's own example beside a person's photos. Its classes are none of theirs, either."""
    example = "path: ../datasets/coco\nval: images/val\nnames: [person, bicycle, car]\n"
    folder_with(tmp_path, {"yolo/coco.yaml": example, "mine/a.jpg": None, "mine/a.txt": LINE})
    folder_with(tmp_path, {"mine/classes.txt": "apple\nbowl\n", "mine/b.jpg": None})
    dataset, findings = formats.read(tmp_path)
    assert (dataset.names, [f.kind for f in findings]) == (["apple", "bowl"], ["missing folder"])
    # But where it is all there is, it counts; and where nothing tells which one of two does, neither.
    (tmp_path / "mine" / "classes.txt").unlink()
    assert formats.read(tmp_path)[0].names == ["person", "bicycle", "car"]
    folder_with(tmp_path, {"theirs/classes.txt": "apple\nbowl\n"})
    error = next(f for f in formats.read(tmp_path)[1] if f.harm == "error")
    assert error.photo == tmp_path / "mine" / "a.jpg"
    lists = f"{tmp_path / 'yolo' / 'coco.yaml'}:3, {tmp_path / 'theirs' / 'classes.txt'}"
    assert error.what == f"the classes of its labels are not known: {lists} have different ones"


@pytest.mark.parametrize("place", [".", "cfg"])
@pytest.mark.parametrize("listed", ["labels/classes.txt", "images/classes.txt", "obj.names"])
def test_a_list_that_contradicts_data_yaml_is_an_error(listed: str, place: str, tmp_path: Path) -> None:
    """Where both are for a label; the yaml's classes count for what lies below it, and for what it names."""
    yaml = f"path: {'.' if place == '.' else '..'}\ntrain: images/train\nnames: [bowl, apple]\n"
    files = {"images/train/a.jpg": None, "labels/train/a.txt": LINE, "images/train/b.jpg": None}
    folder_with(tmp_path, {**files, f"{place}/data.yaml": yaml, "labels/train/b.txt": LINE, listed: "apple\nbowl\n"})
    finding = one_finding(tmp_path)
    assert finding.source.path == tmp_path / listed
    yaml_names = f"{tmp_path / place / 'data.yaml'}:3"
    differ = "0 is 'apple' here and 'bowl' there"
    assert finding.what == f"its classes are others than those of {yaml_names}, and are not read: {differ}"
    assert finding.photo is None
    assert formats.read(tmp_path)[0].names == ["bowl", "apple"]
    (tmp_path / listed).write_text("bowl\napple\n")
    assert read(tmp_path).names == ["bowl", "apple"]


def test_a_list_with_more_classes_at_its_end_is_a_warning(tmp_path: Path) -> None:
    one_photo(tmp_path, "3 0.125 0.4 0.15 0.4")
    folder_with(tmp_path, {"labels/classes.txt": "apple\nbowl\ncake\ndumpling\n"})
    finding = one_finding(tmp_path, "warning")
    assert str(finding.source) == f"{tmp_path / 'data.yaml'}:3"
    assert finding.what == f"{tmp_path / 'labels' / 'classes.txt'} goes on with 'dumpling': its 4 classes count"
    assert formats.read(tmp_path)[0].names == [*NAMES, "dumpling"]
    (tmp_path / "labels" / "classes.txt").write_text("apple\n")
    (tmp_path / "labels" / "lunch.txt").write_text(LINE)
    finding = one_finding(tmp_path, "warning")
    assert finding.what == f"{tmp_path / 'data.yaml'}:3 goes on with 'bowl', 'cake': its 3 classes count"
    assert formats.read(tmp_path)[0].names == NAMES


def test_a_list_above_another_data_yaml_is_for_the_rest(tmp_path: Path) -> None:
    one_photo(tmp_path / "export", LINE)
    folder_with(tmp_path, {"mine.jpg": None, "mine.txt": LINE, "classes.txt": "cake\nrice\n"})
    dataset = read(tmp_path)
    assert dataset.names == [*NAMES, "rice"]
    assert [dataset.names[label] for photo in dataset for label in photo.labels] == ["bowl", "rice"]


@pytest.mark.parametrize("place", ["annotations/{}.txt", "label/{}.txt", "Labels/{}.jpg.txt"])
@pytest.mark.parametrize("config", [True, False])
def test_labels_in_a_folder_of_another_name(tmp_path: Path, place: str, config: bool) -> None:
    labels = {place.format(name): LINE for name in "ab"}
    folder_with(tmp_path, {"img/a.jpg": None, "img/b.jpg": None, **labels})
    if config:
        (tmp_path / "data.yaml").write_text("names: [apple, bowl, cake]\nnc: 3\n")
    dataset, findings = formats.read(tmp_path)
    assert [finding.harm for finding in findings if finding.kind != "no class names"] == []
    assert [len(photo.boxes) for photo in dataset] == [1, 1]


def test_what_a_program_found_is_no_label_beside_labels(tmp_path: Path) -> None:
    """Where some photo has its label in the usual place, the others show nothing."""
    folder_with(tmp_path, {"images/a.jpg": None, "images/b.jpg": None, "labels/a.txt": LINE, "found/b.txt": LINE})
    dataset, _ = formats.read(tmp_path)
    assert [len(photo.boxes) for photo in dataset] == [1, 0]


def test_of_two_lists_in_one_folder_that_differ_the_longest_counts(tmp_path: Path) -> None:
    lists: dict[str, str | bytes | None] = {"obj.names": "bowl\napple\n", "classes.txt": "apple\nbowl\ncake\n"}
    folder_with(tmp_path, {"1.jpg": None, "1.txt": LINE, **lists})
    finding = one_finding(tmp_path)
    assert finding.source.path == tmp_path / "obj.names"
    assert finding.what == f"its classes are others than those of {tmp_path / 'classes.txt'}, and are not read"
    assert formats.read(tmp_path, "yolo")[0].names == NAMES


def test_two_data_yamls_of_other_classes_are_found(tmp_path: Path) -> None:
    one_photo(tmp_path, LINE)
    (tmp_path / "old.yaml").write_text("nc: 2\nnames: [bowl, apple]\n")
    finding = one_finding(tmp_path)
    assert str(finding.source) == f"{tmp_path / 'old.yaml'}:2"
    assert read(tmp_path / "data.yaml").names == NAMES  # the one that counts was named


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: images\nnames: [apple, bowl\nnc: 2\n", "data.yaml:3: the file is no whole YAML"),
        (
            "nc: 2\nnames: [apple: red, bowl]\n",
            "data.yaml:2: names is neither a list of the classes nor numbers from 0",
        ),
        ("nc: 2\nnames:\n  0: apple: red\n", "data.yaml:3: the file is no whole YAML"),
        ("nc: 2\nnames: {0: {apple: red}}\n", "data.yaml:2: names is neither a list of the classes nor numbers from 0"),
        ("nc: 2\nnames: {apple: 0, bowl: 1}\n", "data.yaml:2: names is neither a list of the classes nor numbers"),
    ],
)
def test_a_broken_data_yaml_is_found_with_its_line(text: str, words: str, tmp_path: Path) -> None:
    one_photo(tmp_path, LINE)
    (tmp_path / "data.yaml").write_text(text)
    dataset, findings = formats.read(tmp_path)
    assert dataset.box_count == 0  # to call the classes by their numbers would be another thing
    assert [(f.harm, f.photo) for f in findings] == [("error", None), ("error", tmp_path / "images" / "lunch.jpg")]
    assert all(words in str(finding) for finding in findings)


@pytest.mark.parametrize("name", ["data.yaml", "classes.txt", "obj.names"])
def test_a_list_of_classes_that_is_no_text_is_found(name: str, tmp_path: Path) -> None:
    text = "names: [crème brûlée, quiche]\nnc: 2\n" if name == "data.yaml" else "crème brûlée\nquiche\n"
    folder_with(tmp_path, {"a.jpg": None, "a.txt": LINE, "b.jpg": None, name: text.encode("latin-1")})
    dataset, findings = formats.read(tmp_path)
    assert dataset.box_count == 0  # to call the classes by their numbers would be another thing
    assert [(f.harm, f.photo) for f in findings] == [("error", None), ("error", tmp_path / "a.jpg")]
    for finding in findings:
        assert str(finding).startswith(f"{tmp_path / name}: the file is no text in UTF-8")
        assert finding.todo == "Save it as UTF-8 text"
    # Another program's .yaml is no business of ours.
    (tmp_path / name).rename(tmp_path / "old.txt")
    folder_with(tmp_path, {"other.yaml": "chef: André\n".encode("latin-1")})
    assert one_finding(tmp_path, "warning").kind == "no class names"


@pytest.mark.parametrize("name", ["data.yaml", "classes.txt", "obj.names"])
def test_a_list_of_classes_that_cannot_be_read_is_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of another user."""
    folder_with(tmp_path, {"a.jpg": None, "a.txt": LINE, name: "names: [a, b]\nnc: 2\n"})
    opened = os.open

    def denied(path: Any, *rest: Any) -> int:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied")
        return opened(path, *rest)

    monkeypatch.setattr(os, "open", denied)
    monkeypatch.setattr(yolo_classes, "first_text", lambda path: "")
    findings = formats.read(tmp_path)[1]
    assert [(f.harm, f.photo) for f in findings] == [("error", None), ("error", tmp_path / "a.jpg")]
    assert all(str(f).startswith(f"{tmp_path / name}: the file cannot be read (Permission denied)") for f in findings)


def test_the_nearest_list_is_not_passed_over_where_it_cannot_be_read(tmp_path: Path) -> None:
    folder_with(tmp_path / "kim", {"1.jpg": None, "1.txt": LINE, "classes.txt": "é\nb".encode("latin-1")})
    folder_with(tmp_path / "lee", {"2.jpg": None, "2.txt": LINE, "classes.txt": "a\nb\n"})
    dataset, findings = formats.read(tmp_path)
    assert [len(photo.boxes) for photo in dataset] == [0, 1]
    assert [f.photo for f in findings] == [None, tmp_path / "kim" / "1.jpg"]


PARTS: dict[str, str | bytes | None] = {
    "train/images/a.jpg": None,
    "train/labels/a.txt": LINE,
    "valid/images/a.jpg": None,
    "valid/labels/a.txt": LINE,
    "test/images/a.jpg": None,
    "test/labels/a.txt": "",
}


@pytest.mark.parametrize(
    "text",
    [
        "train: train/images\nval: valid/images\ntest: test/images\n",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n",  # Roboflow
        "path: .\ntrain: train\nval: valid\ntest: test\n",
        "path: ../{name}\ntrain: train/images\nval: valid/images\ntest: test/images\n",
        "path: /content/food\ntrain: train/images/\nval: ./valid/images\ntest: test/images\n",
        "train: /kaggle/input/food/train/images\nval: /kaggle/input/food/valid/images\ntest: C:\\food\\test\\images\n",
        "train: [train/images]\nvalid:\n  - valid/images\ntest: {folder}/test/images\n",
        "train: lists/train.txt\nval: lists/val.txt\ntest: lists/test.txt\n",
    ],
)
def test_parts_are_where_data_yaml_says(text: str, tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "food", PARTS)
    names = {"train": "./../train/images/a.jpg", "val": "valid/images/a.jpg", "test": "/content/test/images/a.jpg"}
    if "lists" in text:
        folder_with(folder, {f"lists/{name}.txt": f"{line}\n\n" for name, line in names.items()})
    text = text.replace("{name}", folder.name).replace("{folder}", str(folder))
    (folder / "data.yaml").write_text(text + "nc: 3\nnames: [apple, bowl, cake]\n")
    assert shown(read(folder), folder) == {
        "test/images/a.jpg": (0, True, "test"),
        "train/images/a.jpg": (1, True, "train"),
        "valid/images/a.jpg": (1, True, "valid"),
    }
    assert shown(read(folder / "data.yaml"), folder) == shown(read(folder), folder)


def test_darknets_files(tmp_path: Path) -> None:
    """CVAT's "YOLO 1.1"."""
    files: dict[str, str | bytes | None] = {
        "obj.data": "classes = 3\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n",
        "obj.names": "apple\nbowl\ncake\n",
        "train.txt": "data/obj_train_data/a.jpg\n",
        "valid.txt": "data/obj_valid_data/a.jpg\n",
        "obj_train_data/a.jpg": None,
        "obj_train_data/a.txt": LINE,
        "obj_valid_data/a.jpg": None,
        "obj_valid_data/a.txt": LINE,
    }
    dataset = read(folder_with(tmp_path, files))
    assert dataset.names == NAMES
    assert shown(dataset, tmp_path) == {
        "obj_train_data/a.jpg": (1, True, "train"),
        "obj_valid_data/a.jpg": (1, True, "valid"),
    }


def test_cvats_subsets_with_capitals_are_parts(tmp_path: Path) -> None:
    files: dict[str, str | bytes | None] = {
        "obj.data": "classes = 3\nTrain = data/Train.txt\nValidation = data/Validation.txt\nnames = data/obj.names\n",
        "obj.names": "apple\nbowl\ncake\n",
        "Train.txt": "data/obj_1_data/a.jpg\n",
        "Validation.txt": "data/obj_2_data/b.jpg\ndata/obj_2_data/gone.jpg\n",
    }
    for photo in ("obj_1_data/a", "obj_2_data/b"):
        files |= {f"{photo}.jpg": None, f"{photo}.txt": LINE}
    dataset, findings = formats.read(folder_with(tmp_path, files))
    assert dataset.names == NAMES
    assert shown(dataset, tmp_path) == {"obj_1_data/a.jpg": (1, True, "train"), "obj_2_data/b.jpg": (1, True, "valid")}
    assert [str(f.source) for f in findings] == [f"{tmp_path / 'Validation.txt'}:2"]
    (tmp_path / "Train.txt").unlink()
    (missing,) = (f for f in formats.read(tmp_path)[1] if f.kind == "missing folder")
    assert str(missing.source) == f"{tmp_path / 'obj.data'}:2"


@pytest.mark.parametrize("names", ["data/food list.txt", "food list.txt", "/home/me/data/food list.txt"])
def test_an_obj_data_says_which_file_has_its_classes(names: str, tmp_path: Path) -> None:
    """Whatever that is called; and whether the folder is read, or obj.data itself is named."""
    files = {"obj.data": f"train = data/train.txt\nnames = {names}\n", "food list.txt": "apple\nbowl\ncake\n"}
    folder_with(tmp_path, {**files, "train.txt": "data/obj/a.jpg\n", "obj/a.jpg": None, "obj/a.txt": LINE})
    for place in (tmp_path, tmp_path / "obj.data"):
        assert read(place).names == NAMES
    folder_with(tmp_path, {"coco.names": "person\nbicycle\ncar\nbus\n"})  # as darknet has many beside it
    assert read(tmp_path).names == NAMES
    folder_with(tmp_path, {"coco.data": "train = /home/coco.txt\nnames = data/coco.names\n"})
    dataset, findings = formats.read(tmp_path)
    assert (dataset.names, [f.kind for f in findings]) == (NAMES, ["missing folder"])
    folder_with(tmp_path, {"obj/classes.txt": "bowl\napple\n"})
    assert [f.source.path for f in formats.read(tmp_path)[1] if f.harm == "error"] == [tmp_path / "obj" / "classes.txt"]


def test_photos_that_data_yaml_does_not_name(tmp_path: Path) -> None:
    """With a label they have no part; without one nobody labelled them, whatever the others of their folder have."""
    files = {**PARTS, "more/images/b.jpg": None, "more/labels/b.txt": LINE, "more/images/c.jpg": None}
    folder_with(tmp_path, {**files, "data.yaml": YAML.replace("images", "train/images") + "val: valid/images\n"})
    found = shown(read(tmp_path), tmp_path)
    assert found["more/images/b.jpg"] == (1, True, "")
    assert found["more/images/c.jpg"] == (0, False, "")
    assert found["test/images/a.jpg"] == (0, True, "")


def test_photos_of_train_and_val_have_no_part(tmp_path: Path) -> None:
    """A data.yaml that names one folder for both, since it must name two, says nothing about a split."""
    folder_with(tmp_path, {**PARTS, "data.yaml": YAML.replace("images", "train") + "val: train\ntest: [valid, test]\n"})
    assert [part for _, _, part in shown(read(tmp_path), tmp_path).values()] == ["test", "", "test"]
    (tmp_path / "data.yaml").write_text(YAML.replace("images", "train") + "val: valid\ntest: valid\n")
    assert shown(read(tmp_path), tmp_path)["valid/images/a.jpg"] == (1, True, "valid")


def test_folders_and_lists_that_a_mac_wrote_in_pieces(tmp_path: Path) -> None:
    name = normalize("NFD", "김치")
    yaml = "train: train/김치\nval: 목록.txt\nnames: [a]\n"
    folder = folder_with(
        tmp_path,
        {
            "data.yaml": yaml, f"train/{name}/a.jpg": None, f"train/{name}/a.txt": "0 .5 .5 .2 .2", "b.jpg": None,
            "b.txt": "0 .5 .5 .2 .2", f"{normalize('NFD', '목록')}.txt": "b.jpg\n",
        },
    )  # fmt: skip
    assert sorted((p.path.name, p.part) for p in read(folder)) == [("a.jpg", "train"), ("b.jpg", "valid")]


@pytest.mark.parametrize("whole", [True, False])
def test_lists_and_their_photos_may_lie_elsewhere(whole: bool, tmp_path: Path) -> None:
    """As in Ultralytics' coco.yaml; and a list here of photos there."""
    folder_with(tmp_path / "coco", {"images/t/a.jpg": None, "labels/t/a.txt": LINE, "images/v/b.jpg": None})
    start = tmp_path / "coco" if whole else Path("..", "..", "coco")
    lists = {"train": f"{start}/images/t/a.jpg\n", "val": f"{start}/images/v/b.jpg\n"}
    here = {f"{key}.txt": text for key, text in lists.items()}
    names = "names: [apple, bowl, cake]\n"
    folder_with(tmp_path / "work" / "here", here | {"data.yaml": f"train: train.txt\nval: val.txt\n{names}"})
    folder_with(tmp_path / "coco", {"t.txt": "./images/t/a.jpg\n", "v.txt": "./images/v/b.jpg\n"})
    folder_with(tmp_path / "work" / "there", {"data.yaml": f"path: {start}\ntrain: t.txt\nval: v.txt\n{names}"})
    for place in ("here", "there"):
        dataset, findings = formats.read(tmp_path / "work" / place, "yolo")
        assert findings == []
        found = {p.path.resolve().relative_to(tmp_path).as_posix(): (len(p.boxes), p.part) for p in dataset}
        assert found == {"coco/images/t/a.jpg": (1, "train"), "coco/images/v/b.jpg": (0, "valid")}


def test_a_list_of_two_parts_is_found_at_fault_once(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"a.jpg": None, "a.txt": LINE, "all.txt": "a.jpg\nb.jpg\n"})
    folder_with(folder, {"data.yaml": "train: all.txt\nval: all.txt\nnames: [a, b]\n"})
    assert one_finding(folder).what == "there is no photo b.jpg"


def test_a_folder_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    folder_with(tmp_path, {**PARTS, "data.yaml": YAML.replace("images", "nowhere/images") + "val: valid/images\n"})
    finding = one_finding(tmp_path, "warning")
    assert finding.what == "train names nowhere/images, which is not there or holds no photos"
    assert str(finding.source) == f"{tmp_path / 'data.yaml'}:1"
    assert shown(formats.read(tmp_path)[0], tmp_path)["train/images/a.jpg"] == (1, True, "")


def test_photos_of_a_list_that_are_missing_are_found(tmp_path: Path) -> None:
    folder_with(tmp_path, {**PARTS, "train.txt": "train/images/a.jpg\ntrain/images/gone.jpg\n"})
    folder_with(tmp_path, {"val.txt": "one.jpg\n\ntwo.jpg\n", "data.yaml": YAML.replace("images", "train.txt")})
    finding = one_finding(tmp_path)
    assert str(finding).startswith(f"{tmp_path / 'train.txt'}:2: there is no photo train/images/gone.jpg")
    (tmp_path / "data.yaml").write_text(YAML.replace("images", "val.txt"))
    assert one_finding(tmp_path, "warning").what == "none of its 2 photos is there, such as one.jpg"


def test_photos_elsewhere_are_read_where_data_yaml_says_the_whole_way(tmp_path: Path) -> None:
    folder_with(tmp_path / "far", {"images/train/a.jpg": None, "labels/train/a.txt": LINE})
    folder_with(tmp_path / "here", {"b.jpg": None})
    file = tmp_path / "here" / "data.yaml"
    for path in (tmp_path / "far", Path("../far")):
        file.write_text(f"path: {path}\n{YAML.replace('images', 'images/train')}")
        assert shown(read(file), tmp_path) == {
            "far/images/train/a.jpg": (1, True, "train"),
            "here/b.jpg": (0, False, ""),
        }
    # Without a path it is Roboflow's ../, which is too high: another data set may be there.
    file.write_text(YAML.replace("images", "../far/images/train"))
    assert shown(formats.read(file)[0], tmp_path) == {"here/b.jpg": (0, False, "")}


# -- Which folders are YOLO's ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (LINE, True),
        ("0 0.1 0.1 0.5 0.1 0.5 0.9", True),
        ("10,20,30,40", False),  # AI Starthon
        ("10 20 30 40", False),
        ("0 10 20 30 40", False),
        ("Car 0.00 0 1.85 387.63 181.54", False),  # KITTI
        ("seen at noon", False),
        ("", False),
    ],
)
def test_what_a_label_looks_like(text: str, fits: bool, tmp_path: Path) -> None:
    folder_with(tmp_path, {"lunch.jpg": None, "lunch.txt": text, "soup.jpg": None})
    assert yolo.fits(scan(tmp_path)) == fits


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (YAML, True),
        ("nc: 2\nnames: [a, b]\n", True),
        ("names: [a, b]\n", False),
        ("train: images\nnc: 2\n", False),
        ("task: detect\nmodel: yolo.pt\ndata: data.yaml\n", False),
        ("- train\n- names\n", False),
        ("detector: retinanet\nepochs: 3\n", False),
    ],
)
def test_what_a_data_yaml_looks_like(text: str, fits: bool, tmp_path: Path) -> None:
    folder_with(tmp_path, {"lunch.jpg": None, "some.yml": text})
    assert yolo.fits(scan(tmp_path)) == fits


def test_another_label_file_that_was_named_is_not_yolos(tmp_path: Path) -> None:
    folder_with(tmp_path, {"lunch.jpg": None, "lunch.txt": LINE, "labels.json": "{}", "classes.txt": "a\nb\n"})
    assert not yolo.fits(scan(tmp_path / "labels.json"))
    assert yolo.fits(scan(tmp_path / "classes.txt"))


# -- Writing --------------------------------------------------------------------------------------------------------


def assert_same(found: Dataset, drawn: Dataset) -> None:
    assert found.names == drawn.names
    for one, other in zip(found, drawn, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
        assert (one.labelled, one.part) == (True, other.part)
        torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=1e-3)
        assert one.labels.tolist() == other.labels.tolist()


@pytest.mark.parametrize("parts", [("",), ("train", "valid", "test"), ("train", "", "valid"), ("valid",)])
def test_drawn_photos_come_back_as_they_were(parts: tuple[str, ...], drawn: Dataset, tmp_path: Path) -> None:
    """Also where photos of several parts have one name."""
    photos = []
    for part in parts:
        for number, photo in enumerate(drawn):
            path = tmp_path / "parts" / (part or "none") / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photo.path.read_bytes())
            photos.append(dataclasses.replace(photo, path=path, part=part))
    yolo.write(Dataset(photos, ["no", "bowl: b", "떡"]), tmp_path / "out")
    expected = Dataset(sorted(photos, key=lambda p: (bool(p.part), p.part.replace("valid", "val"))), [])
    expected.names = ["no", "bowl: b", "떡"]
    assert_same(read(tmp_path / "out"), expected)
    assert_same(read(tmp_path / "out" / "data.yaml"), expected)
    assert [kind for kind in formats.FORMATS if formats.FORMATS[kind].fits(scan(tmp_path / "out"))] == ["yolo"]


def octagon(box: torch.Tensor) -> torch.Tensor:
    """[8, 2], as wide and as high as the box."""
    x1, y1, x2, y2 = box.tolist()
    u, v = (x2 - x1) / 4, (y2 - y1) / 4
    xs = [x1 + u, x2 - u, x2, x2, x2 - u, x1 + u, x1, x1]
    ys = [y1, y1, y1 + v, y2 - v, y2, y2, y2 - v, y1 + v]
    return torch.tensor([xs, ys]).T


def test_outlines_come_back_where_all_boxes_of_a_photo_have_one(drawn: Dataset, tmp_path: Path) -> None:
    for photo in drawn:
        photo.masks = [[octagon(box)] for box in photo.boxes]
    assert drawn.photos[4].masks is not None
    drawn.photos[4].masks[1] = []
    drawn.photos[0].boxes[0, 0] -= 4  # a box that is larger than what is seen of the thing stays one
    yolo.write(drawn, tmp_path / "out")
    found = read(tmp_path / "out")
    assert_same(found, drawn)
    assert [photo.masks is not None for photo in found] == [False, True, True, False, False, True]
    for i in (1, 2, 5):
        for mine, others in zip(found.photos[i].masks or [], drawn.photos[i].masks or [], strict=True):
            torch.testing.assert_close(mine[0], others[0], rtol=0, atol=1e-3)


def test_outlines_are_said_to_be_lost_where_a_box_beside_them_has_none(tmp_path: Path) -> None:
    folder = one_photo(tmp_path / "photos", f"0 0.1 0.1 0.5 0.1 0.5 0.9\n{LINE}")
    dataset = read(folder)
    assert not yolo.outlined(dataset.photos[0])
    held, lost = formats.prune(dataset, "yolo")
    assert lost == ["1 outlines are left out, their boxes stay"]
    yolo.write(held, tmp_path / "written")
    torch.testing.assert_close(read(tmp_path / "written").photos[0].boxes, dataset.photos[0].boxes)
    same = [photo.keep(torch.tensor([True, False])) for photo in dataset]
    assert formats.prune(dataset.with_photos(same), "yolo")[1] == []


def test_several_outlines_become_one_of_the_same_box_and_area(drawn: Dataset, tmp_path: Path) -> None:
    photo = drawn.photos[0]  # its box is 8, 10, 40, 50
    pieces = [torch.tensor([[x, y], [x + 10.0, y], [x + 10.0, y + 10], [x, y + 10]]) for x, y in ((8, 10), (30, 40))]
    photo.masks = [[*pieces, torch.tensor([[20.0, 20], [30, 20], [20, 30]])]]
    yolo.write(Dataset([photo], drawn.names), tmp_path / "out")
    found = read(tmp_path / "out").photos[0]
    torch.testing.assert_close(found.boxes, photo.boxes, rtol=0, atol=1e-3)
    assert found.masks is not None
    x, y = found.masks[0][0].unbind(1)
    area = (x * y.roll(-1) - y * x.roll(-1)).sum().abs() / 2
    assert float(area) == pytest.approx(100 + 100 + 50, abs=0.01)


def test_supervision_reads_what_is_written(drawn: Dataset, tmp_path: Path) -> None:
    drawn.photos[2].masks = [[octagon(box)] for box in drawn.photos[2].boxes]
    yolo.write(drawn, tmp_path / "out")
    places = [str(tmp_path / "out" / name) for name in ("images", "labels", "data.yaml")]
    theirs = supervision.DetectionDataset.from_yolo(*places)
    assert theirs.classes == NAMES
    assert len(theirs) == len(drawn)
    for photo in drawn:
        detections = theirs.annotations[str(tmp_path / "out" / "images" / photo.path.name)]
        found = torch.from_numpy(detections.xyxy).reshape(-1, 4).float()
        torch.testing.assert_close(found, photo.boxes, rtol=0, atol=0.5)
        assert (detections.class_id if len(detections) else torch.zeros(0)).tolist() == photo.labels.tolist()
    masks = theirs.annotations[str(tmp_path / "out" / "images" / drawn.photos[2].path.name)].mask
    boxes = drawn.photos[2].boxes
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) * 7 / 8  # of an octagon
    assert masks.sum((1, 2)).tolist() == pytest.approx(areas.tolist(), rel=0.15)


def test_what_supervision_writes_is_read(drawn: Dataset, tmp_path: Path) -> None:
    annotations = {
        str(p.path): supervision.Detections(p.boxes.numpy(), class_id=p.labels.numpy()) for p in drawn if len(p.boxes)
    }
    theirs = supervision.DetectionDataset(NAMES, list(annotations), annotations)
    theirs.as_yolo(*[str(tmp_path / "out" / name) for name in ("images", "labels", "data.yaml")])
    found = read(tmp_path / "out")
    assert found.names == NAMES
    for mine, other in zip(found, (p for p in drawn if len(p.boxes)), strict=True):
        torch.testing.assert_close(mine.boxes, other.boxes, rtol=0, atol=0.01)
        assert mine.labels.tolist() == other.labels.tolist()


coordinate = st.floats(0, 1, width=32)


@settings(max_examples=30)
@example(width=8000, rows=[(0.70001, 0.0, 1.0, 1.0, 0)])
@given(
    width=st.sampled_from([100, 4000, 8000]),
    rows=st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate, st.integers(0, 2)), max_size=4),
)
def test_what_is_written_is_read_to_a_hundredth_of_a_pixel(
    width: int, rows: list[tuple[float, float, float, float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """And of the edges that boxes touch, not a word."""
    folder, height = tmp_path_factory.mktemp("yolo"), 40
    boxes = []
    for x, y, w, h, _ in rows:
        x1, y1 = x * (width - 3), y * (height - 3)
        boxes.append([x1, y1, x1 + 1 + w * (width - x1 - 1), y1 + 1 + h * (height - y1 - 1)])
    labels = torch.tensor([row[4] for row in rows], dtype=torch.int64)
    Image.new("L", (width, height)).save(folder / "photo.png")
    photo = Photo(folder / "photo.png", width, height, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), labels)
    yolo.write(Dataset([photo], NAMES), folder / "out")
    found = read(folder / "out")
    torch.testing.assert_close(found.photos[0].boxes, photo.boxes, rtol=0, atol=0.01)
    assert found.photos[0].labels.tolist() == labels.tolist()


# -- Real data ------------------------------------------------------------------------------------------------------


def counted(labels: Path) -> tuple[int, int, int]:
    """Files, lines, and lines of more than six words."""
    texts = [file.read_text() for file in labels.rglob("*.txt")]
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    return len(texts), len(lines), sum(len(line.split()) > 6 for line in lines)


def test_photos_of_kuih_with_roboflows_names(test_data: Path) -> None:
    folder = test_data / "data" / "kuih_masks"
    dataset = read(folder)
    files, lines, outlines = counted(folder / "labels")
    assert (len(dataset), dataset.box_count) == (files, lines)
    assert sum(bool(mask) for photo in dataset for mask in photo.masks or []) == outlines
    assert dataset.names == ["Kuih lompang", "Kuih-Ketayap", "karipap", "kaswi", "nona-manis"]
    first = dataset.photos[0]
    words = (folder / "labels" / f"{first.path.stem}.txt").read_text().splitlines()[0].split()
    xs = [float(word) * first.width for word in words[1::2]]
    assert first.boxes[0, 0::2].tolist() == pytest.approx([min(xs), max(xs)], abs=1e-3)


def test_coco128(test_data: Path) -> None:
    """Its config.yaml names a folder for training that is not there."""
    folder = test_data / "data" / "coco128"
    dataset, findings = formats.read(folder)
    _, lines, outlines = counted(folder / "labels")
    assert (len(dataset), dataset.box_count, outlines) == (len(list(folder.rglob("*.jpg"))), lines, 0)
    assert len(dataset.names) == 80
    assert dataset.names[:2] == ["person", "bicycle"]
    assert {photo.part for photo in dataset} == {"valid"}
    assert [(f.harm, f.kind, f.source.line) for f in findings] == [("warning", "missing folder", 3)]


def test_real_outlines_come_back_from_both_formats(test_data: Path, tmp_path: Path) -> None:
    dataset = read(test_data / "data" / "kuih_masks")
    few = dataset.with_photos(dataset.photos[:12])
    for name in ("yolo", "coco"):
        formats.FORMATS[name].write(few, tmp_path / name)
        found, findings = formats.read(tmp_path / name)
        assert findings == []
        for one, other in zip(found, few, strict=True):
            torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=0.01)
            for mine, others in zip(one.masks or [], other.masks or [], strict=True):
                torch.testing.assert_close(mine[0], others[0], rtol=0, atol=0.01)
