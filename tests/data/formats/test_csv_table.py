"""CSV tables as keras-retinanet, DeepForest and TensorFlow's tutorials have them, and what is said of faulty rows."""

from __future__ import annotations

import dataclasses
import os
import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from foodbox.data import formats
from foodbox.data.formats import csv_table
from foodbox.data.listing import scan
from foodbox.errors import UsageError
from foodbox.findings import Finding
from foodbox.records import Dataset, Photo
from tests.conftest import NAMES, draw_photo

SIZE = (200, 100)
BOX = [10.0, 20.0, 40.0, 60.0]
DEEPFOREST = "image_path,xmin,ymin,xmax,ymax,label\n"
TENSORFLOW = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


def folder_with(place: Path, text: str | bytes, *photos: str, name: str = "annotations.csv") -> Path:
    """Photos of 200 x 100 pixels, lunch.jpg if none are named, and a table beside them."""
    for photo in photos or ("lunch.jpg",):
        draw_photo(place / photo, SIZE, [])
    (place / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return place


def boxes_of(dataset: Dataset) -> dict[str, list[tuple[str, list[float]]]]:
    """File name → class and corners of each box, labelled photos only."""
    return {
        photo.path.name: [
            (dataset.names[label], box) for label, box in zip(photo.labels.tolist(), photo.boxes.tolist(), strict=True)
        ]
        for photo in dataset
        if photo.labelled
    }


def shown(findings: list[Finding]) -> list[tuple[str, str | None, int | None]]:
    """Harm, photo's name and line of each finding."""
    return [(f.harm, f.photo.name if f.photo else None, f.source.line) for f in findings]


# -- The three kinds ------------------------------------------------------------------------------------------------


def test_keras_retinanet(tmp_path: Path) -> None:
    """The example of its README, with photos large enough; classes count as the classes file has them."""
    for i in (1, 2, 3, 4):
        draw_photo(tmp_path / "imgs" / f"img_00{i}.jpg", (1000, 500), [])
    (tmp_path / "annotations.csv").write_text(
        f"{tmp_path}/imgs/img_001.jpg,837,346,981,456,cow\n"
        "imgs/img_002.jpg,215,312,279,391,cat\n"
        "imgs/img_002.jpg,22,5,89,84,bird\n"
        "imgs/img_003.jpg,,,,,\n"
    )
    (tmp_path / "classes.csv").write_text("cow,0\ncat,1\nbird,2\ndog,3\n")
    dataset, findings = formats.read(tmp_path)
    assert findings == []
    assert dataset.format == "csv"
    assert dataset.names == ["cow", "cat", "bird", "dog"]
    assert boxes_of(dataset) == {
        "img_001.jpg": [("cow", [837, 346, 981, 456])],
        "img_002.jpg": [("cat", [215, 312, 279, 391]), ("bird", [22, 5, 89, 84])],
        "img_003.jpg": [],
    }
    assert [photo.path.name for photo in dataset if not photo.labelled] == ["img_004.jpg"]
    assert [str(source) for source in dataset.photos[1].sources] == [f"{tmp_path}/annotations.csv:{i}" for i in (2, 3)]
    assert dataset.photos[2].boxes.shape == (0, 4)


def test_deepforest(tmp_path: Path) -> None:
    """The table of its documentation, blanks behind the commas as there, and its row for a photo without trees."""
    text = (
        "image_path, xmin, ymin, xmax, ymax, label\n"
        "OSBS_029.jpg,256,99,288,140,Tree\n"
        "OSBS_029.jpg,166,253,225,304,Tree\n"
        'myimage.png, 0,0,0,0,"Tree"\n'
    )
    for photo in ("OSBS_029.jpg", "myimage.png"):
        draw_photo(tmp_path / photo, (400, 400), [])
    (tmp_path / "testfile_deepforest.csv").write_text(text)
    dataset, findings = formats.read(tmp_path)
    assert findings == []
    assert dataset.names == ["Tree"]
    assert boxes_of(dataset) == {
        "OSBS_029.jpg": [("Tree", [256, 99, 288, 140]), ("Tree", [166, 253, 225, 304])],
        "myimage.png": [],
    }


def test_tensorflow(tmp_path: Path) -> None:
    """raccoon-192.jpg,... as the tutorials' train_labels.csv and test_labels.csv have it."""
    folder_with(tmp_path, TENSORFLOW + "a.jpg,200,100,raccoon,10,20,40,60\n", "images/a.jpg", name="train_labels.csv")
    folder_with(tmp_path, TENSORFLOW + "b.jpg,200,100,raccoon,1,2,3,4\n", "images/b.jpg", name="test_labels.csv")
    dataset, findings = formats.read(tmp_path)
    assert findings == []
    assert boxes_of(dataset) == {"a.jpg": [("raccoon", BOX)], "b.jpg": [("raccoon", [1, 2, 3, 4])]}
    assert [photo.part for photo in dataset] == ["train", "test"]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("image_id,xmin,ymin,xmax,ymax,label", "lunch,10,20,40,60,rice"),
        ("ImageID,XMin,YMin,XMax,YMax,ClassName", "lunch.jpg,10,20,40,60,rice"),
        ("id,filename,img_id,x1,y1,x2,y2,species", "7,lunch.jpg,0,10,20,40,60,rice"),
        ("image_id,x,y,w,h,class", "lunch,10,20,30,40,rice"),
        ("filename,x,y,width,height,label", "lunch.jpg,10,20,30,40,rice"),
        ("filename,left,top,width,height,label", "lunch.jpg,10,20,30,40,rice"),
        ("filename,width,height,class,xmin,ymin,w,h", "lunch.jpg,200,100,rice,10,20,30,40"),
        (  # makesense.ai
            "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height",
            "rice,10,20,30,40,lunch.jpg,200,100",
        ),
        ("filename,x,y,width,height,image_width,image_height,class", "lunch.jpg,10,20,30,40,200,100,rice"),
        ("filename,bndbox_xmin,bndbox_ymin,bndbox_xmax,bndbox_ymax,class", "lunch.jpg,10,20,40,60,rice"),
        ("filename,x_center,y_center,width,height,class", "lunch.jpg,25,40,30,40,rice"),
        ("filename,width,height,cx,cy,w,h,class", "lunch.jpg,200,100,25,40,30,40,rice"),
        ("image_id,width,height,bbox,class", 'lunch,200,100,"[10.0, 20.0, 30.0, 40.0]",rice'),
        ("filename;bbox;class", "lunch.jpg;(10 20 30 40);rice"),
        ("filename,xmin,ymin,xmax,ymax,class_id", "lunch.jpg,10,20,40,60,rice"),
        ("filename,class_id,xmin,ymin,xmax,ymax,class_name", "lunch.jpg,0,10,20,40,60,rice"),
    ],
)
def test_other_headers(header: str, row: str, tmp_path: Path) -> None:
    dataset, findings = formats.read(folder_with(tmp_path, f"{header}\n{row}\n"))
    assert findings == []
    assert boxes_of(dataset) == {"lunch.jpg": [("rice", BOX)]}
    assert dataset.photos[0].sources[0].line == 2


def test_global_wheat_has_no_class_and_a_box_in_one_field(tmp_path: Path) -> None:
    """The first row of its train.csv of 2020, and a photo without ears of wheat, which it leaves out."""
    for name in ("b6ab77fd7.jpg", "empty.jpg"):
        draw_photo(tmp_path / "train" / name, (1024, 1024), [])
    text = 'image_id,width,height,bbox,source\nb6ab77fd7,1024,1024,"[834.0, 222.0, 56.0, 36.0]",usask_1\n'
    (tmp_path / "train.csv").write_text(text)
    dataset, findings = formats.read(tmp_path)
    assert boxes_of(dataset) == {"b6ab77fd7.jpg": [("object", [834, 222, 890, 258])]}
    assert [(f.harm, f.kind) for f in findings] == [("note", "no class names")]


def test_a_table_without_classes_is_passed_over_beside_one_with_them(tmp_path: Path) -> None:
    folder_with(tmp_path, DEEPFOREST + "lunch.jpg,10,20,40,60,rice\n")
    (tmp_path / "crops.csv").write_text("image,xmin,ymin,xmax,ymax\nlunch.jpg,1,2,3,4\n")
    dataset, findings = formats.read(tmp_path)
    assert findings == []
    assert boxes_of(dataset) == {"lunch.jpg": [("rice", BOX)]}


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("filename,x,y,w,h,class", "lunch.jpg,10,20,-30,40,rice", "the box has the size -30 x 40, expected both above"),
        ("filename,x,y,w,h,class", "lunch.jpg,10,20,wide,40,rice", "the box has x '10', y '20', w 'wide', h '40', exp"),
        ("filename,bbox,class", 'lunch.jpg,"[10, 20, 30]",rice', "the box has bbox '[10, 20, 30]', expected four numb"),
    ],
)
def test_a_faulty_box_of_another_layout(header: str, row: str, words: str, tmp_path: Path) -> None:
    _, findings = formats.read(folder_with(tmp_path, f"{header}\n{row}\n"))
    assert shown(findings) == [("error", "lunch.jpg", 2)]
    assert findings[0].what.startswith(words)


def test_an_empty_box_of_another_layout_says_that_the_photo_shows_nothing(tmp_path: Path) -> None:
    folder_with(tmp_path, "filename,bbox,class\na.jpg,[],\nb.jpg,,\n", "a.jpg", "b.jpg")
    dataset, findings = formats.read(tmp_path)
    assert findings == []
    assert boxes_of(dataset) == {"a.jpg": [], "b.jpg": []}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "name,left,top\nrice,1,2\n",
            "annotations.csv lacks the columns filename, x2, y2: its columns are name, left, top, expected such as "
            "filename, x1, y1, x2, y2 (or x, y, width, height) and class.",
        ),
        ("filename,label\nlunch.jpg,rice\n", "annotations.csv lacks the columns x1, y1, x2, y2: its columns are file"),
        ("filename,x,y,width,class\nlunch.jpg,1,2,3,a\n", "annotations.csv lacks the column height: its columns are"),
        (DEEPFOREST.replace("image_path", "photo"), "annotations.csv lacks the column filename: its columns are photo"),
        (DEEPFOREST.replace("label", "label,score"), "annotations.csv has a column of scores, as tables of what a pro"),
    ],
)
def test_what_a_table_lacks_is_said_in_a_sentence(text: str, words: str, tmp_path: Path) -> None:
    folder_with(tmp_path, text)
    with pytest.raises(UsageError) as fault:
        formats.read(tmp_path)
    assert words in str(fault.value)
    assert len(str(fault.value)) - len(str(tmp_path)) < 300


def test_exports_with_a_folder_for_each_part(tmp_path: Path) -> None:
    """train/_annotations.csv and train/_classes.csv, names of photos repeating."""
    for part, x in (("train", 1), ("valid", 2), ("test", 3)):
        folder_with(tmp_path / part, f"a.jpg,{x},20,40,60,soup\n", "a.jpg", name="_annotations.csv")
        (tmp_path / part / "_classes.csv").write_text("soup,0\nrice,1\n")
    dataset, findings = formats.read(tmp_path)
    assert findings == []
    assert dataset.names == ["soup", "rice"]
    assert {photo.part: photo.boxes[0, 0].item() for photo in dataset} == {"train": 1, "valid": 2, "test": 3}


def test_the_stored_size_turns_boxes_with_the_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", SIZE).save(tmp_path / "lunch.jpg", exif=exif)
    (tmp_path / "a.csv").write_text(TENSORFLOW + "lunch.jpg,200,100,rice,10,20,40,60\n")
    photo = formats.read(tmp_path)[0].photos[0]
    assert (photo.width, photo.height) == (100, 200)
    assert photo.boxes.tolist() == [[40, 10, 80, 40]]


# -- Rows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "lunch.jpg,10,20,40,60,rice",
        "lunch.jpg,10,20,40,60,rice\r\n",
        "lunch.jpg,10,20,40,60,rice\r",
        "\n\nlunch.jpg,10,20,40,60,rice\n,,,,,\n  \n",
        "\ufefflunch.jpg,10,20,40,60,rice\n",
        '"lunch.jpg","10","20","40","60","rice"\n',
        " lunch.jpg , 10, 20, 40.0 , 6e1, rice \n",
        "lunch.jpg;10;20;40;60;rice",
        "lunch.jpg;10,0;20,0;40,0;60,0;rice",
        "sep=;\nlunch.jpg;10;20;40;60;rice",
        "lunch.jpg\t10\t20\t40\t60\trice",
        "lunch.jpg|10|20|40|60|rice",
        "lunch.jpg,10,20,40,60,rice,,",
        "./lunch.jpg,10,20,40,60,rice",
        "LUNCH.JPG,10,20,40,60,rice",
        "path,x1,y1,x2,y2,class\nlunch.jpg,10,20,40,60,rice",
        "path,x1,y1,x2,y2,class_name\nlunch.jpg,10,20,40,60,rice",
        DEEPFOREST + "lunch.jpg,10,20,40,60,rice",
        "\ufeff" + DEEPFOREST + "lunch.jpg,10,20,40,60,rice",
        "Image Path;X_Min;Y_Min;X_Max;Y_Max;Label\nlunch.jpg;10;20;40;60;rice",
        "label,ymax,xmax,ymin,xmin,image_path\nrice,60,40,20,10,lunch.jpg",
        "frame,xmin,xmax,ymin,ymax,label\nlunch.jpg,10,40,20,60,rice",
        ",image_path,xmin,ymin,xmax,ymax,label\n0,lunch.jpg,10,20,40,60,rice",
        "image_path,xmin,ymin,xmax,ymax,label,geometry\n"
        'lunch.jpg,10,20,40,60,rice,"POLYGON ((10 20, 40 20, 40 60, 10 60))"',
        "filename,left,top,right,bottom,label,note\nlunch.jpg,10,20,40,60,rice",
        DEEPFOREST + DEEPFOREST + "lunch.jpg,10,20,40,60,rice\n" + DEEPFOREST,
        TENSORFLOW + "lunch.jpg,200,100,rice,10,20,40,60",
        TENSORFLOW + "lunch.jpg,,,rice,10,20,40,60",
        TENSORFLOW + "lunch.jpg,wide,high,rice,10,20,40,60",
        "lunch.jpg,10,20,40,60,rice\n".encode("utf-8-sig"),
    ],
)
def test_a_table_in_the_wild(text: str | bytes, tmp_path: Path) -> None:
    dataset, findings = formats.read(folder_with(tmp_path, text))
    assert findings == []
    assert boxes_of(dataset) == {"lunch.jpg": [("rice", BOX)]}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("lunch.jpg,10,20,40", "the row has 4 of 6 fields"),
        ("lunch.jpg,10,20,40,60", "the row has 5 of 6 fields"),
        ("lunch.jpg", "the row has 1 of 6 fields"),
        ("lunch.jpg,10,20,40,60,rice, fried", "the row has 7 fields, expected 6"),
        ("lunch.jpg,10,twenty,40,60,rice", "the box has x1 '10', y1 'twenty', x2 '40', y2 '60', expected four numbers"),
        ("lunch.jpg,10,,40,60,rice", "y1 ''"),
        ("lunch.jpg,nan,20,40,60,rice", "expected four numbers"),
        ("lunch.jpg,10,20,inf,60,rice", "expected four numbers"),
        ("lunch.jpg,10,20,40,60,", "the box has no class"),
        ("lunch.jpg,,,,,rice", "expected four numbers"),
        ("lunch.jpg,10,20,40,60,Rise", "the class 'Rise' is not in"),
        ("lunch.jpg;10;20;40;60;rice", "there is no photo lunch.jpg;10;20;40;60;rice"),
        ("lunch.jpg,40,20,10,60,rice", "corners exchanged"),
        ("lunch.jpg,10,20,10,60,rice", "has no area"),
        ("lunch.jpg,10,20,400,60,rice", "lies outside the photo of 200 x 100 pixels"),
        ("dinner.jpg,10,20,40,60,rice", "there is no photo dinner.jpg"),
        (",10,20,40,60,rice", "the row names no photo"),
        ('"lunch.jpg,10,20,40,60,rice', "a quote is opened and not closed"),
        ('lunch.jpg,10,20,40,60,"rice', "a quote is opened and not closed"),
    ],
)
@pytest.mark.parametrize("header", ["", DEEPFOREST])
def test_a_faulty_row_is_found_with_its_line_and_the_others_are_read(
    row: str, words: str, header: str, tmp_path: Path
) -> None:
    folder_with(
        tmp_path, f"{header}other.jpg,10,20,40,60,rice\n{row}\nlunch.jpg,1,2,3,4,rice\n", "lunch.jpg", "other.jpg"
    )
    (tmp_path / "classes.csv").write_text("rice,0\n")
    dataset, findings = formats.read(tmp_path)
    if header and row == "lunch.jpg,,,,,rice":
        assert [f.kind for f in findings] == ["boxes on empty photo"]  # DeepForest's way to say that it shows nothing
        return
    line = 3 if header else 2
    about = "lunch.jpg" if row.startswith("lunch.jpg,") or row == "lunch.jpg" else None
    errors = [f for f in findings if f.harm == "error"]
    assert shown(errors)[0] == ("error", about, line)
    assert any(words in f.what for f in errors)
    assert all(f.todo for f in errors)
    assert str(errors[0]).startswith(f"{tmp_path}/annotations.csv:{line}: ")
    assert boxes_of(dataset)["other.jpg"] == [("rice", BOX)]
    assert ("rice", [1, 2, 3, 4]) in boxes_of(dataset)["lunch.jpg"]


@pytest.mark.parametrize(
    "text",
    [
        "lunch.jpg,,,,,\n",
        "lunch.jpg;;;;;\n",
        "lunch.jpg,0,0,0,0,\n",
        DEEPFOREST + "lunch.jpg,0,0,0,0,rice\n",
        DEEPFOREST + "lunch.jpg,0.0,0.0,0.0,0.0,\n",
        DEEPFOREST + "lunch.jpg,,,,,rice\n",
        TENSORFLOW + "lunch.jpg,200,100,,,,,\n",
    ],
)
def test_a_photo_without_boxes(text: str, tmp_path: Path) -> None:
    dataset, findings = formats.read(folder_with(tmp_path, text))
    assert findings == []
    assert boxes_of(dataset) == {"lunch.jpg": []}
    assert dataset.names == []


def test_a_photo_both_with_and_without_boxes_is_a_warning(tmp_path: Path) -> None:
    dataset, findings = formats.read(folder_with(tmp_path, "lunch.jpg,,,,,\nlunch.jpg,10,20,40,60,rice\n"))
    assert boxes_of(dataset) == {"lunch.jpg": [("rice", BOX)]}
    assert shown(findings) == [("warning", "lunch.jpg", 1)]


def test_a_missing_photo_is_said_once(tmp_path: Path) -> None:
    text = "lunch.jpg,10,20,40,60,rice\n" + "gone.jpg,1,2,3,4,rice\n" * 3
    assert shown(formats.read(folder_with(tmp_path, text))[1]) == [("error", None, 2)]


def test_corners_of_at_most_1_are_shares_of_the_photo(tmp_path: Path) -> None:
    dataset, findings = formats.read(folder_with(tmp_path, "lunch.jpg,0.1,0.2,0.5,1,rice\nlunch.jpg,0,0,1,1,rice\n"))
    assert dataset.photos[0].boxes.flatten().tolist() == pytest.approx([20, 20, 100, 100, 0, 0, 200, 100])
    assert [(f.harm, f.kind) for f in findings] == [("warning", "shares for pixels")]


@pytest.mark.parametrize(
    ("header", "row", "name"),
    [
        ("filename,category,label,xmin,ymin,xmax,ymax", "lunch.jpg,food,rice,10,20,40,60", "rice"),
        ("name,filename,xmin,ymin,xmax,ymax,class", "John,lunch.jpg,10,20,40,60,rice", "rice"),
        ("filename,xmin,ymin,xmax,ymax,class,name", "lunch.jpg,10,20,40,60,0,rice", "rice"),
        ("filename,xmin,ymin,xmax,ymax,Class,Label", "lunch.jpg,10,20,40,60,1,2", "2"),
    ],
)
def test_of_several_class_columns_the_likeliest_is_read_and_said(
    header: str, row: str, name: str, tmp_path: Path
) -> None:
    dataset, findings = formats.read(folder_with(tmp_path, f"{header}\n{row}\n"))
    assert dataset.names == [name]
    assert [(f.harm, f.kind, f.source.line) for f in findings] == [("warning", "several class columns", 1)]


def test_korean_in_cp949_and_in_pieces(tmp_path: Path) -> None:
    text = "점심.jpg,10,20,40,60,떡볶이\n".encode("cp949")
    dataset, findings = formats.read(folder_with(tmp_path, text, unicodedata.normalize("NFD", "점심.jpg")))
    assert findings == []
    assert dataset.names == ["떡볶이"]
    assert dataset.box_count == 1


def test_a_table_that_another_program_saved_as_unicode_text(tmp_path: Path) -> None:
    """Excel's word for UTF-16 with tabs."""
    text = "filename\txmin\tymin\txmax\tymax\tclass\nlunch.jpg\t10\t20\t40\t60\t떡볶이\n".encode("utf-16")
    dataset, findings = formats.read(folder_with(tmp_path, text))
    assert (findings, dataset.names, dataset.box_count) == ([], ["떡볶이"], 1)


def test_paths_of_another_computer_mean_the_photos_whose_ends_are_most_alike(tmp_path: Path) -> None:
    """Of films whose frames have the same names."""
    shots = [(camera, shot) for camera in range(3) for shot in range(2)]
    rows = [f"C:\\old\\Cam{c}\\shot{s}\\0.jpg,{10 * c},{10 * s},90,95,rice\n" for c, s in shots]
    places = [f"cam{c}/shot{s}/0.jpg" for c, s in shots]
    dataset, findings = formats.read(folder_with(tmp_path, "".join(rows), *places))
    assert findings == []
    corners = {photo.path.parent.relative_to(tmp_path): photo.boxes[0, :2].tolist() for photo in dataset}
    assert corners == {Path(f"cam{c}") / f"shot{s}": [10 * c, 10 * s] for c, s in shots}


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    text = b"lunch.jpg,10,20,40,60,rice\nother.jpg,10,20,40,60,\xff\n"
    dataset, findings = formats.read(folder_with(tmp_path, text))
    assert not dataset.photos[0].labelled
    assert [f.harm for f in findings] == ["error"]
    assert "no text in UTF-8, UTF-16 or CP949" in findings[0].what


# -- Where photos are -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "photos/lunch.jpg",
        "photos\\lunch.jpg",
        ".\\photos\\lunch.jpg",
        "photos/../photos/./lunch.jpg",
        "lunch.jpg",
        "images/lunch.jpg",
        "/home/other/data/photos/lunch.jpg",
        "C:\\Users\\other\\photos\\lunch.jpg",
        "Photos/LUNCH.JPG",
        "HERE/photos/lunch.jpg",
    ],
)
def test_a_path_in_the_wild(path: str, tmp_path: Path) -> None:
    path = path.replace("HERE", str(tmp_path))
    dataset, findings = formats.read(folder_with(tmp_path, f"{path},10,20,40,60,rice\n", "photos/lunch.jpg"))
    assert findings == []
    assert len(dataset) == 1
    assert boxes_of(dataset) == {"lunch.jpg": [("rice", BOX)]}


def test_a_name_without_its_ending_or_with_another_one(tmp_path: Path) -> None:
    """a.png is gone, and a.jpg has a row of its own: it is not taken for it."""
    rows = ("a.jpg,1,2,3,4,rice", "a.png,9,9,12,12,rice", "train/B,5,6,7,8,rice", "c.jpeg,1,3,5,7,rice")
    folder_with(tmp_path, DEEPFOREST + "\n".join(rows), "a.jpg", "train/b.jpg", "valid/b.jpg", "c.jpg")
    dataset, findings = formats.read(tmp_path)
    assert {p.path.relative_to(tmp_path).as_posix(): p.boxes.tolist() for p in dataset if p.labelled} == {
        "a.jpg": [[1, 2, 3, 4]],
        "train/b.jpg": [[5, 6, 7, 8]],
        "c.jpg": [[1, 3, 5, 7]],
    }
    assert [(f.source.line, f.what) for f in findings] == [(3, "there is no photo a.png")]


def test_a_path_out_of_the_folder(tmp_path: Path) -> None:
    draw_photo(tmp_path / "photos" / "lunch.jpg", SIZE, [])
    draw_photo(tmp_path / "photos" / "dinner.jpg", SIZE, [])
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.csv").write_text(
        f"../photos/lunch.jpg,10,20,40,60,rice\n{tmp_path}/photos/dinner.jpg,1,2,3,4,rice\n../photos/gone.jpg,,,,,\n"
    )
    dataset, findings = formats.read(tmp_path / "labels")
    assert [photo.path for photo in dataset] == [tmp_path / "photos" / f"{name}.jpg" for name in ("dinner", "lunch")]
    assert boxes_of(dataset) == {"lunch.jpg": [("rice", BOX)], "dinner.jpg": [("rice", [1, 2, 3, 4])]}
    assert shown(findings) == [("error", None, 3)]


def test_the_photo_whose_path_ends_most_alike_is_meant(tmp_path: Path) -> None:
    text = "/old/train/a.jpg,10,20,40,60,rice\nD:\\old\\valid\\a.jpg,1,2,3,4,rice\n"
    dataset, findings = formats.read(folder_with(tmp_path, text, "train/a.jpg", "valid/a.jpg", name="boxes.csv"))
    assert findings == []
    assert [photo.boxes[0].tolist() for photo in dataset] == [BOX, [1, 2, 3, 4]]


def test_a_name_that_two_photos_have_is_asked_about(tmp_path: Path) -> None:
    text = "a.jpg,10,20,40,60,rice\na.jpg,10,20,40,60,rice\n"
    dataset, findings = formats.read(folder_with(tmp_path, text, "one/a.jpg", "two/a.jpg"))
    assert boxes_of(dataset) == {}
    assert shown(findings) == [("error", "a.jpg", 1)]
    assert "could be" in findings[0].what


def test_a_photo_that_has_its_own_row_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    text = "valid/a.jpg,10,20,40,60,rice\ntrain/a.jpg,1,2,3,4,rice\n"
    dataset, findings = formats.read(folder_with(tmp_path, text, "valid/a.jpg"))
    assert boxes_of(dataset) == {"a.jpg": [("rice", BOX)]}
    assert shown(findings) == [("error", None, 2)]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_path_through_a_link_is_the_same_photo(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "data", target_is_directory=True)
    folder_with(tmp_path / "data", f"{tmp_path}/link/lunch.jpg,10,20,40,60,rice\n")
    for place in (tmp_path / "data", tmp_path / "link"):
        dataset, findings = formats.read(place)
        assert findings == []
        assert len(dataset) == 1


def test_the_folder_that_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder_with(tmp_path, "photos/lunch.jpg,10,20,40,60,rice\n", "photos/lunch.jpg"))
    dataset, findings = formats.read(Path())
    assert findings == []
    assert boxes_of(dataset) == {"lunch.jpg": [("rice", BOX)]}


# -- Classes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["classes.csv", "_classes.csv", "class_mapping.csv", "Label Map.csv", "labels.csv"])
@pytest.mark.parametrize(
    "text",
    [
        "soup,0\nrice,1\n",
        "class,id\nsoup,0\nrice,1\n",
        "\ufeffsoup;0\r\nrice;1\r\n",
        "rice,1\n\nsoup, 0 \n",
        "class_name,class_id\nsoup,0\nrice,1\n",
        "name,index\nsoup,0\nrice,1",
    ],
)
def test_a_file_of_classes_gives_their_order(text: str, name: str, tmp_path: Path) -> None:
    folder_with(tmp_path, "lunch.jpg,10,20,40,60,rice\n")
    (tmp_path / name).write_text(text)
    dataset, findings = formats.read(tmp_path)
    assert findings == []
    assert dataset.names == ["soup", "rice"]


@pytest.mark.parametrize(
    ("text", "names", "harm", "line", "words"),
    [
        ("soup,1\nrice,2\n", ["soup", "rice"], "warning", 2, "the ids of 2 classes go from 1 to 2, expected 0 to 1"),
        ("soup,0\nrice,5\n", ["soup", "rice"], "warning", 2, "go from 0 to 5"),
        ("rice,0\nsoup,0\n", ["rice"], "error", 2, "the id 0 of 'soup' is 'rice' in line 1 already"),
        ("rice,0\nrice,1\n", ["rice"], "error", 2, "the class 'rice' has an id already"),
        ("rice,0\nsoup\n", ["rice"], "error", 2, "found 'soup' where class,id"),
        ("rice,0\nsoup,one\n", ["rice"], "error", 2, "found 'soup,one' where class,id"),
        ("rice,0\nsoup,-1\n", ["rice"], "error", 2, "found 'soup,-1' where class,id"),
        ("rice,0\n1,soup\n", ["rice"], "error", 2, "found '1,soup' where class,id"),
        ("rice,0\n,1\n", ["rice"], "error", 2, "found ',1' where class,id"),
    ],
)
def test_a_fault_in_the_file_of_classes(
    text: str, names: list[str], harm: str, line: int, words: str, tmp_path: Path
) -> None:
    folder_with(tmp_path, "lunch.jpg,10,20,40,60,rice\n")
    (tmp_path / "classes.csv").write_text(text)
    dataset, findings = formats.read(tmp_path)
    assert dataset.names == names
    assert dataset.box_count == 1
    assert shown(findings) == [(harm, None, line)]
    assert words in findings[0].what
    assert findings[0].source.path == tmp_path / "classes.csv"


def test_two_files_of_classes_that_differ(tmp_path: Path) -> None:
    folder_with(tmp_path, "lunch.jpg,10,20,40,60,rice\n")
    (tmp_path / "classes.csv").write_text("rice,0\nsoup,1\n")
    (tmp_path / "labels.csv").write_text("soup,0\nrice,1\n")
    dataset, findings = formats.read(tmp_path)
    assert dataset.names == ["rice", "soup"]
    assert shown(findings) == [("error", None, 1)]
    assert "the classes are others than those of" in findings[0].what


# -- Several tables -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["train.csv", "valid.csv", "test.csv"], ["train", "valid", "test"]),
        (["Training.csv", "val.csv", "testing.csv"], ["train", "valid", "test"]),
        (["train_annotations.csv", "annotations-validation.csv", "coco_test2017.csv"], ["train", "valid", "test"]),
        (["one.csv", "latest.csv", "trainval.csv"], ["", "", ""]),
        (["train_and_val.csv", "Test/2024/labels.csv", "train/2024/valid.csv"], ["", "test", "valid"]),
    ],
)
def test_tables_names_give_the_part(names: list[str], parts: list[str], tmp_path: Path) -> None:
    for i, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        folder_with(tmp_path, f"{i}.jpg,10,20,40,60,rice\n", f"{i}.jpg", name=name)
    dataset, findings = formats.read(tmp_path)
    assert findings == []
    assert [photo.part for photo in dataset] == parts


@pytest.mark.parametrize("head", ["split", "Set", "subset", "part", "partition", "fold"])
def test_a_column_gives_the_part(head: str, tmp_path: Path) -> None:
    """The class called "test" in another column, and what names no part, changes nothing."""
    told = {"a.jpg": "TRAIN", "b.jpg": "val", "c.jpg": "test_set", "d.jpg": "", "e.jpg": "3"}
    rows = [f"{name},10,20,40,60,test,{part}\n" for name, part in told.items()]
    folder_with(tmp_path, f"image_path,xmin,ymin,xmax,ymax,label,{head}\n" + "".join(rows), *told)
    dataset, findings = formats.read(tmp_path)
    assert findings == []
    assert [photo.part for photo in dataset] == ["train", "valid", "test", "", ""]


def test_the_column_that_names_parts_is_the_one_of_several(tmp_path: Path) -> None:
    header = "filename,xmin,ymin,xmax,ymax,label,split,fold,set\n"
    folder_with(tmp_path, header + "lunch.jpg,10,20,40,60,rice,A,0,valid\n", name="train.csv")
    assert [photo.part for photo in formats.read(tmp_path)[0]] == ["valid"]


def test_a_photo_in_two_parts_by_a_column_is_a_warning(tmp_path: Path) -> None:
    rows = "lunch.jpg,10,20,40,60,rice,\n" + "".join(
        f"lunch.jpg,{x},2,9,9,rice,{p}\n" for x, p in ((1, "train"), (2, "val"), (3, "val"))
    )
    folder_with(tmp_path, "image_path,xmin,ymin,xmax,ymax,label,split\n" + rows)
    dataset, findings = formats.read(tmp_path)
    assert (dataset.photos[0].part, dataset.box_count) == ("train", 4)
    assert shown(findings) == [("warning", "lunch.jpg", 4)]
    assert findings[0].what == "the photo lunch.jpg is for valid here and for train in line 2, which counts"


def test_a_table_of_all_photos_tells_the_part_of_those_of_another(tmp_path: Path) -> None:
    folder_with(tmp_path, DEEPFOREST + "lunch.jpg,10,20,40,60,rice\n", name="a.csv")
    row = "lunch.jpg,10,20,40,60,rice,valid\n"
    (tmp_path / "b.csv").write_text("image_path,xmin,ymin,xmax,ymax,label,split\n" + row)
    dataset, findings = formats.read(tmp_path)
    assert ([photo.part for photo in dataset], findings) == (["valid"], [])


def test_a_table_of_all_photos_beside_its_parts_doubles_nothing(tmp_path: Path) -> None:
    rows = ["a.jpg,10,20,40,60,rice\n", "b.jpg,1,2,3,4,rice\n", "c.jpg,,,,,\n"]
    folder_with(tmp_path, "".join(rows), "a.jpg", "b.jpg", "c.jpg", name="all.csv")
    (tmp_path / "train.csv").write_text(rows[0] + rows[2])
    (tmp_path / "val.csv").write_text(rows[1])
    dataset, findings = formats.read(tmp_path)
    assert findings == []
    assert boxes_of(dataset) == {"a.jpg": [("rice", BOX)], "b.jpg": [("rice", [1, 2, 3, 4])], "c.jpg": []}
    assert [photo.part for photo in dataset] == ["train", "valid", "train"]


def test_tables_that_contradict_each_other(tmp_path: Path) -> None:
    folder_with(tmp_path, "lunch.jpg,10,20,40,60,rice\n", name="old.csv")
    folder_with(tmp_path, "lunch.jpg,10,20,40,60,rice\nlunch.jpg,1,2,3,4,rice\n", name="older.csv")
    dataset, findings = formats.read(tmp_path)
    assert boxes_of(dataset) == {"lunch.jpg": [("rice", BOX)]}
    assert shown(findings) == [("error", "lunch.jpg", 2)]
    assert formats.read(tmp_path / "older.csv")[0].box_count == 2


def test_a_table_with_fewer_boxes_contradicts_the_other_too(tmp_path: Path) -> None:
    folder_with(tmp_path, "lunch.jpg,10,20,40,60,rice\nlunch.jpg,1,2,3,4,rice\n", name="annotations.csv")
    for row in ("lunch.jpg,10,20,40,60,rice\n", "lunch.jpg,,,,,\n"):
        (tmp_path / "annotations_v2.csv").write_text(row)
        dataset, findings = formats.read(tmp_path)
        assert dataset.box_count == 2
        assert shown(findings) == [("error", "lunch.jpg", 1)]


def test_a_photo_in_two_parts_is_a_warning(tmp_path: Path) -> None:
    folder_with(tmp_path, "lunch.jpg,10,20,40,60,rice\n", name="train.csv")
    folder_with(tmp_path, "\nlunch.jpg,10,20,40,60,rice\n", name="valid.csv")
    dataset, findings = formats.read(tmp_path)
    assert boxes_of(dataset) == {"lunch.jpg": [("rice", BOX)]}
    assert dataset.photos[0].part == "train"
    assert shown(findings) == [("warning", "lunch.jpg", 2)]


def test_one_table_named_in_a_folder_of_its_own(tmp_path: Path) -> None:
    folder_with(tmp_path, "x", "images/lunch.jpg", name="notes.txt")
    folder_with(tmp_path / "labels", "../images/lunch.jpg,10,20,40,60,rice\n", "../images/other.jpg", name="a.csv")
    (tmp_path / "labels" / "b.csv").write_text("lunch.jpg,1,2,3,4,soup\n")
    (tmp_path / "labels" / "classes.csv").write_text("soup,0\nrice,1\n")
    dataset, findings = formats.read(tmp_path / "labels" / "a.csv")
    assert findings == []
    assert dataset.names == ["soup", "rice"]
    assert boxes_of(dataset) == {"lunch.jpg": [("rice", BOX)]}
    assert len(dataset) == 2


# -- What is no table of boxes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "path,width,height,label,score,x1,y1,x2,y2\nlunch.jpg,200,100,rice,0.9,10,20,40,60\n",
        "xmin,ymin,xmax,ymax,label,score,image_path\n10,20,40,60,Tree,0.9,lunch.jpg\n",
        "filename,width,height,label,x,y\nlunch.jpg,200,100,rice,10,20\n",
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\nlunch,x,/m/0,1,0.1,0.2,0.3,0.4\n",
        "epoch,loss,ap\n1,2,3\n",
        "lunch.jpg,rice\n",
        "filename,label\nlunch.jpg,rice\n",
        "lunch.jpg,http://example.org/lunch.jpg\n",
        "lunch.jpg,10,20,40,60,rice,0.9\n",
        "1,2,3,4,5,6\n",
        "rice,0\n",
        "a,b,c,d,e,f\nlunch.jpg,10,20,40,60,rice\n",
        b"\x89PNG\r\n\x1a\n\x00\x00",
    ],
)
def test_another_table_does_not_fit(text: str | bytes, tmp_path: Path) -> None:
    folder_with(tmp_path, text, name="results.csv")
    assert not csv_table.fits(scan(tmp_path))
    dataset, findings = formats.read(tmp_path, "csv")
    assert [photo.labelled for photo in dataset] == [False]
    assert shown(findings) == [("error", None, 1)]
    words = ("rows of path,x1,y1,x2,y2,class", "the table lacks the columns", "the table has a column of scores")
    assert findings[0].what.startswith(words) or words[0] in findings[0].what


def test_other_tables_beside_the_one_are_passed_over(tmp_path: Path) -> None:
    folder_with(tmp_path, "lunch.jpg,10,20,40,60,rice\n")
    (tmp_path / "detections.csv").write_text(
        "path,width,height,label,score,x1,y1,x2,y2\nlunch.jpg,200,100,soup,0.9,1,2,3,4\n"
    )
    (tmp_path / "log.csv").write_text("epoch,loss\n1,2\n")
    dataset, findings = formats.read(tmp_path)
    assert findings == []
    assert boxes_of(dataset) == {"lunch.jpg": [("rice", BOX)]}
    assert boxes_of(formats.read(tmp_path / "detections.csv")[0]) == {"lunch.jpg": [("soup", [1, 2, 3, 4])]}


def test_a_faulty_first_row_is_no_reason_not_to_know_the_format(tmp_path: Path) -> None:
    dataset, findings = formats.read(folder_with(tmp_path, "lunch.jpg,a,b,c,d,rice\nlunch.jpg,10,20,40,60,rice\n"))
    assert boxes_of(dataset) == {"lunch.jpg": [("rice", BOX)]}
    assert shown(findings) == [("error", "lunch.jpg", 1)]


# -- Writing --------------------------------------------------------------------------------------------------------


def test_what_is_written(drawn: Dataset, tmp_path: Path) -> None:
    drawn.photos[4] = dataclasses.replace(drawn.photos[4].keep(torch.zeros(2, dtype=torch.bool)), labelled=False)
    drawn.photos[5].boxes += 0.25
    csv_table.write(drawn, tmp_path / "out")
    assert (tmp_path / "out" / "annotations.csv").read_text() == (
        "images/photo0.png,8,10,40,50,apple\n"
        "images/photo1.png,10,20,50,80,bowl\n"
        "images/photo2.png,4,6,30,40,apple\n"
        "images/photo2.png,50,20,90,60,cake\n"
        "images/photo3.png,,,,,\n"
        "images/photo5.png,30.25,15.25,85.25,65.25,cake\n"
    )
    assert (tmp_path / "out" / "classes.csv").read_text() == "apple,0\nbowl,1\ncake,2\n"
    assert len(list((tmp_path / "out" / "images").iterdir())) == 6


def test_parts_get_tables_of_their_own(drawn: Dataset, tmp_path: Path) -> None:
    for photo, part in zip(drawn, ["train", "valid", "test", "train", "", "valid"], strict=True):
        photo.part = part
    csv_table.write(drawn, tmp_path / "out")
    files = {path.name for path in (tmp_path / "out").glob("*.csv")}
    assert files == {"train.csv", "valid.csv", "test.csv", "annotations.csv", "classes.csv"}
    dataset, findings = formats.read(tmp_path / "out")
    assert findings == []
    assert [photo.part for photo in dataset] == [photo.part for photo in drawn]
    assert [photo.boxes.tolist() for photo in dataset] == [photo.boxes.tolist() for photo in drawn]


@settings(max_examples=25)
@given(
    boxes=st.lists(
        st.lists(
            st.tuples(st.floats(0, 150), st.floats(0, 60), st.floats(1.5, 50), st.floats(1.5, 40), st.integers(0, 3)),
            max_size=3,
        ),
        min_size=1,
        max_size=4,
    ),
    stem=st.sampled_from(["lunch", "my, lunch", 'quo"te', "점심", "a;b;c;d;e;f;g", "#1", "x=1"]),
    parts=st.lists(st.sampled_from(["", "train", "valid", "test"]), min_size=4, max_size=4),
)
def test_written_and_read_again(
    boxes: list[list[tuple[float, float, float, float, int]]],
    stem: str,
    parts: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """All boxes to 0.01 pixels, the classes with those that no photo has, the parts, photos with none or unlabelled."""
    names = ["soup, hot", "떡볶이", 'a "b"', "rice;fried"]
    place = tmp_path_factory.mktemp("csv")
    photos: list[Photo] = []
    for i, objects in enumerate(boxes):
        photo = draw_photo(place / "in" / f"{stem}{i}.png", SIZE, [])
        corners = [[x, y, x + w, y + h] for x, y, w, h, _ in objects]
        photo.boxes = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
        photo.labels = torch.tensor([label for *_, label in objects], dtype=torch.int64)
        photo.part = parts[i]
        photos.append(photo)
    rest = draw_photo(place / "in" / "unlabelled.png", SIZE, [])
    rest.labelled = False
    csv_table.write(Dataset([*photos, rest], names), place / "out")
    dataset, findings = formats.read(place / "out")
    assert findings == []
    assert dataset.format == "csv"
    assert dataset.names == names
    back = {photo.path.stem: photo for photo in dataset}
    for photo in photos:
        same = back.pop(photo.path.stem)
        assert torch.allclose(same.boxes, photo.boxes, rtol=0, atol=0.01)
        assert same.labels.tolist() == photo.labels.tolist()
        assert (same.labelled, same.part) == (True, photo.part)
    assert [(name, photo.labelled) for name, photo in back.items()] == [("unlabelled", False)]


@pytest.mark.parametrize("names", [["a|b|c", "a|b|d", "z"], ["a\nb", "c"], ["a;b;c;d;e;f;g;h", "i"], ["a\tb", "c"]])
def test_names_with_signs_that_part_fields_come_back(names: list[str], tmp_path: Path) -> None:
    draw_photo(tmp_path / "a.png", (100, 80), [])
    boxes = torch.tensor([[10.0, 20, 40, 60]] * len(names))
    photo = Photo(tmp_path / "a.png", 100, 80, boxes, torch.arange(len(names)))
    csv_table.write(Dataset([photo], names), tmp_path / "out")
    dataset, findings = formats.read(tmp_path / "out")
    assert findings == []
    assert dataset.names == [name.replace("\n", " ") for name in names]
    assert dataset.photos[0].labels.tolist() == list(range(len(names)))


def test_a_box_that_sticks_out_a_little_turns_none_of_its_photo(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (400, 300)).save(tmp_path / "a.jpg", exif=exif)  # seen as 300 x 400
    table = tmp_path / "table.csv"
    table.write_text("a.jpg,10,20,30,60,x\na.jpg,200,80,301,160,x\n")
    assert formats.read(tmp_path)[0].photos[0].boxes.tolist() == [[10, 20, 30, 60], [200, 80, 300, 160]]
    table.write_text("a.jpg,10,20,30,60,x\na.jpg,200,80,320,160,x\n")
    assert formats.read(tmp_path)[0].photos[0].boxes.tolist() == [[240, 10, 280, 30], [140, 200, 220, 320]]


def test_no_other_format_fits(drawn: Dataset, tmp_path: Path) -> None:
    csv_table.write(drawn, tmp_path / "out")
    listing = scan(tmp_path / "out")
    assert [name for name, kind in formats.FORMATS.items() if kind.fits(listing)] == ["csv"]
    assert formats.read(tmp_path / "out")[0].names == NAMES


def test_it_fits_no_folder_of_another_format(drawn: Dataset, tmp_path: Path) -> None:
    for name, kind in formats.FORMATS.items():
        if name != "csv":
            kind.write(formats.prune(drawn, name)[0], tmp_path / name)
            assert not csv_table.fits(scan(tmp_path / name))
