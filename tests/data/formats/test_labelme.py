"""labelme's files as people and programs really write them, and what is said of the faulty ones."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageDraw

from foodbox.data import formats
from foodbox.data.formats import labelme
from foodbox.data.formats.common import box_around
from foodbox.data.listing import scan
from foodbox.findings import Finding
from foodbox.records import Dataset, Photo
from tests.conftest import draw_photo

SIZE = (200, 100)

WILD = """{
  "version": "4.5.6",
  "flags": {},
  "shapes": [
    {
      "label": "rice",
      "points": [
        [
          40.0,
          60.5
        ],
        [
          10.25,
          20.0
        ]
      ],
      "group_id": null,
      "shape_type": "rectangle",
      "flags": {}
    },
    {
      "label": "김치",
      "points": [
        [100, 10],
        [150, 10],
        [120, 90]
      ],
      "group_id": null,
      "description": "",
      "shape_type": "polygon",
      "flags": {},
      "mask": null
    }
  ],
  "imagePath": "lunch.jpg",
  "imageData": null,
  "imageHeight": 100,
  "imageWidth": 200
}"""


def read(folder: Path) -> tuple[Dataset, list[Finding]]:
    return formats.read(folder, "labelme")


def a_shape(
    label: object = "rice", points: object = ((10, 20), (40, 60)), kind: object = "rectangle", **more: Any
) -> Any:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def a_file(*shapes: Any, path: Any = "lunch.jpg", size: tuple[Any, Any] = SIZE, **more: Any) -> str:
    """As labelme writes it, but with a line for each shape: the first stands in line 5."""
    lines = ",\n".join(json.dumps(shape, ensure_ascii=False) for shape in shapes)
    rest = {"imagePath": path, "imageData": None, "imageHeight": size[1], "imageWidth": size[0], **more}
    return f'{{\n"version": "5.5.0",\n"flags": {{}},\n"shapes": [\n{lines}\n],\n{json.dumps(rest, indent=2)[2:]}'


def folder_with(tmp_path: Path, text: str | bytes, name: str = "lunch.jpg", turn: int = 1) -> Path:
    """One photo of 200 x 100 stored pixels and its label file."""
    tmp_path.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    Image.new("RGB", SIZE).save(tmp_path / name, exif=exif)
    (tmp_path / name).with_suffix(".json").write_bytes(text.encode() if isinstance(text, str) else text)
    return tmp_path


def png(mask: np.ndarray[Any, Any]) -> str:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


# -- Reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [WILD, WILD.replace("\n", "\r\n"), "\ufeff" + WILD, json.dumps(json.loads(WILD)), WILD.encode("cp949")],
)
def test_a_file_in_the_wild(text: str | bytes, tmp_path: Path) -> None:
    dataset, findings = formats.read(folder_with(tmp_path, text))
    assert (dataset.format, findings, dataset.names) == ("labelme", [], ["rice", "김치"])
    photo = dataset.photos[0]
    assert photo.boxes.tolist() == [[10.25, 20, 40, 60.5], [100, 10, 150, 90]]
    assert photo.labels.tolist() == [0, 1]
    assert photo.masks is not None
    assert [[outline.tolist() for outline in mask] for mask in photo.masks] == [[], [[[100, 10], [150, 10], [120, 90]]]]
    assert photo.labelled
    assert not photo.ignore.any()
    on_one_line = isinstance(text, str) and "\n" not in text
    assert [source.line for source in photo.sources] == ([1, 1] if on_one_line else [5, 21])


def test_no_other_format_fits_and_the_written_one_neither(drawn: Dataset, tmp_path: Path) -> None:
    folder_with(tmp_path / "wild", WILD)
    labelme.write(drawn, tmp_path / "out")
    for folder in (tmp_path / "wild", tmp_path / "out"):
        assert [name for name, kind in formats.FORMATS.items() if kind.fits(scan(folder))] == ["labelme"]


def test_other_programs_files_are_not_labelmes(tmp_path: Path) -> None:
    draw_photo(tmp_path / "lunch.jpg", SIZE, [])
    for name, content in (
        ("lunch.json", {"photoTakenTime": 12, "title": "lunch"}),
        ("annotations.json", {"images": [], "annotations": [], "categories": []}),
        ("list.json", [{"shapes": []}]),
        ("text.json", "shapes"),
    ):
        (tmp_path / name).write_text(json.dumps(content))
    assert not labelme.fits(scan(tmp_path))
    dataset, findings = read(tmp_path)
    assert findings == []
    assert [p.labelled for p in dataset] == [False]


def test_a_file_whose_pixels_come_first_is_known(tmp_path: Path) -> None:
    """Keys by the alphabet: five megabytes of imageData before the shapes."""
    content = json.loads(WILD) | {"imageData": "A" * 10**6, "flags": {f"flag {i}": False for i in range(100)}}
    folder_with(tmp_path, json.dumps(content, sort_keys=True, indent=2))
    dataset, findings = formats.read(tmp_path)
    assert (dataset.box_count, findings) == (2, [])


def test_no_shapes_say_that_the_photo_shows_nothing_and_no_file_that_nobody_labelled_it(tmp_path: Path) -> None:
    draw_photo(folder_with(tmp_path, a_file()) / "other.png", SIZE, [])
    dataset, findings = read(tmp_path)
    assert findings == []
    assert [(p.path.name, p.labelled, len(p.boxes)) for p in dataset] == [
        ("lunch.jpg", True, 0),
        ("other.png", False, 0),
    ]


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (a_shape(points=[[40, 60], [10, 20]]), [10, 20, 40, 60]),
        (a_shape(points=[[10, 60], [40, 20]]), [10, 20, 40, 60]),
        (a_shape(points=[[10, 20], [40, 20], [40, 60], [10, 60]]), [10, 20, 40, 60]),
        (a_shape(label="  rice "), [10, 20, 40, 60]),
        ({"label": "rice", "points": [[10, 20], [40, 20], [40, 60]]}, [10, 20, 40, 60]),
        (a_shape(points=[[10, 40], [25, 20], [40, 40], [25, 60]], kind="rotation", direction=0.7), [10, 20, 40, 60]),
        (a_shape(points=[[25, 40], [25, 55]], kind="circle"), [10, 25, 40, 55]),
        (a_shape(points=[[25, 40], [34, 52]], kind="circle"), [10, 25, 40, 55]),
        (a_shape(points=[[190, 40], [190, 55]], kind="circle"), [175, 25, 200, 55]),
    ],
)
def test_the_box_of_a_shape(shape: Any, box: list[float], tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, a_file(shape)))
    assert findings == []
    assert dataset.names == ["rice"]
    assert dataset.photos[0].boxes[0].tolist() == pytest.approx(box)


def test_a_circles_outline_is_nearly_the_circle(tmp_path: Path) -> None:
    dataset, _ = read(folder_with(tmp_path, a_file(a_shape(points=[[50, 40], [50, 70]], kind="circle"))))
    assert dataset.photos[0].masks is not None
    points = dataset.photos[0].masks[0][0]
    assert points.shape == (32, 2)
    torch.testing.assert_close((points - torch.tensor([50.0, 40.0])).norm(dim=1), torch.full((32,), 30.0))
    x, y = points.T
    area = (x * y.roll(-1) - y * x.roll(-1)).sum().abs() / 2
    assert float(area) == pytest.approx(torch.pi * 900, rel=0.01)


@pytest.mark.parametrize("kind", [bool, np.uint8])
def test_a_painted_mask_is_traced_along_its_pixels(kind: type, tmp_path: Path) -> None:
    mask = np.zeros((30, 40), kind)
    mask[0:10, 0:40] = 1
    mask[20:30, 5:15] = 1
    mask[3:6, 10:20] = 0  # a hole is filled
    shape = a_shape(points=[[100, 50], [139, 79]], kind="mask", mask=png(mask))
    dataset, findings = read(folder_with(tmp_path, a_file(shape)))
    assert findings == []
    photo = dataset.photos[0]
    assert photo.boxes.tolist() == [[100, 50, 140, 80]]
    assert photo.masks is not None
    boxes = [box_around([outline.flatten().tolist()]) for outline in photo.masks[0]]
    assert sorted(boxes) == [(100, 50, 140, 60), (105, 70, 115, 80)]


@settings(max_examples=20)
@given(bits=st.lists(st.integers(0, 1), min_size=48, max_size=48).filter(any))
def test_a_traced_mask_covers_its_pixels(bits: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Drawn again, against Pillow's own filling of polygons; holes are filled."""
    mask = np.array(bits, np.uint8).reshape(6, 8)
    shape = a_shape(points=[[20, 10], [27, 15]], kind="mask", mask=png(mask * 255))
    photo = read(folder_with(tmp_path_factory.mktemp("mask"), a_file(shape)))[0].photos[0]
    assert photo.masks is not None
    # Ten times as large, so that the corners that a traced outline cuts off are not a pixel's middle.
    drawn = Image.new("1", (80, 60))
    for outline in photo.masks[0]:
        ImageDraw.Draw(drawn).polygon([tuple(p) for p in ((outline - torch.tensor([20, 10])) * 10).tolist()], fill=1)
    found = np.asarray(drawn)[5::10, 5::10]
    assert found[mask > 0].all()
    rows, columns = np.nonzero(mask)
    assert photo.boxes[0].tolist() == [
        20 + columns.min(), 10 + rows.min(), 21 + columns.max(), 11 + rows.max(),
    ]  # fmt: skip


def test_shapes_of_one_group_and_label_are_one_object(tmp_path: Path) -> None:
    """An object that another one hides in part has two outlines."""
    left, right = [[10, 20], [40, 20], [40, 60]], [[80, 30], [90, 30], [90, 70]]
    text = a_file(
        a_shape(points=left, kind="polygon", group_id=1),
        a_shape("soup", points=left, kind="polygon", group_id=1),
        a_shape(points=right, kind="polygon", group_id=1),
        a_shape(points=right, kind="polygon", group_id=2),
        a_shape(points=right, kind="polygon"),
        a_shape(points=right, kind="polygon"),
        a_shape("egg", group_id=0),
        a_shape("egg", points=[[50, 50], [60, 90]], group_id=0),
    )
    dataset, findings = read(folder_with(tmp_path, text))
    assert findings == []
    photo = dataset.photos[0]
    assert [dataset.names[i] for i in photo.labels] == ["rice", "soup", "rice", "rice", "rice", "egg"]
    assert photo.boxes[0].tolist() == [10, 20, 90, 70]
    assert photo.boxes[5].tolist() == [10, 20, 60, 90]
    assert photo.masks is not None
    assert [[outline.tolist() for outline in mask] for mask in photo.masks[:2]] == [[left, right], [left]]
    assert photo.masks[5] == []
    assert [source.line for source in photo.sources] == [5, 6, 8, 9, 10, 11]


def test_a_group_of_a_rectangle_and_a_polygon_has_both_outlines(tmp_path: Path) -> None:
    triangle = [[80, 30], [90, 30], [90, 70]]
    text = a_file(a_shape(group_id="a"), a_shape(points=triangle, kind="polygon", group_id="a"))
    photo = read(folder_with(tmp_path, text))[0].photos[0]
    assert photo.masks is not None
    assert [outline.tolist() for outline in photo.masks[0]] == [[[10, 20], [40, 20], [40, 60], [10, 60]], triangle]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"difficult": True}, True),
        ({"flags": {"difficult": True}}, True),
        ({"attributes": {"difficult": "true"}}, True),
        ({"difficult": False, "flags": {"occluded": True}, "attributes": {}}, False),
        ({"flags": None, "attributes": "difficult"}, False),
    ],
)
def test_difficult_shapes_are_neither_trained_on_nor_counted(more: Any, expected: bool, tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, a_file(a_shape(**more))))
    assert findings == []
    assert dataset.photos[0].ignore.tolist() == [expected]


@pytest.mark.parametrize("kind", ["point", "points", "line", "linestrip"])
def test_a_shape_without_an_area_is_left_out_with_a_warning(kind: str, tmp_path: Path) -> None:
    text = a_file(a_shape("crack", [[1, 2], [3, 4]], kind), a_shape())
    dataset, findings = read(folder_with(tmp_path, text))
    assert (dataset.names, dataset.box_count) == (["rice"], 1)
    assert [(f.harm, f.source.line, f.photo) for f in findings] == [("warning", 5, tmp_path / "lunch.jpg")]
    assert f"the {kind} 'crack' has no area" in findings[0].what


# -- Where the photo is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "image_path", "photo"),
    [
        ("lunch.json", "lunch.jpg", "lunch.jpg"),
        ("labels/lunch.json", "../images/lunch.jpg", "images/lunch.jpg"),
        ("labels/lunch.json", "..\\images\\lunch.jpg", "images/lunch.jpg"),
        ("lunch.json", "C:\\Users\\Kim\\photos\\lunch.jpg", "lunch.jpg"),
        ("lunch.json", "/home/kim/photos/lunch.jpg", "lunch.jpg"),
        ("renamed.json", "IMG_1.jpg", "renamed.jpg"),
        ("lunch.json", None, "lunch.jpg"),
        ("lunch.json", "lunch.png", "lunch.jpg"),
        ("labels/a.json", "lunch.jpg", "images/lunch.jpg"),
        ("labels/a.json", "LUNCH.JPG", "images/lunch.jpg"),
        ("labels/lunch.json", "gone.jpg", "images/lunch.jpg"),
        ("labels/lunch.json", "x" * 3000 + ".jpg", "images/lunch.jpg"),
        ("점심.json", "점심.jpg", "점심.jpg"),
    ],
)
def test_the_photo_of_a_label_file(label: str, image_path: str | None, photo: str, tmp_path: Path) -> None:
    draw_photo(tmp_path / photo, SIZE, [])
    draw_photo(tmp_path / "other.jpg", SIZE, [])
    (tmp_path / label).parent.mkdir(exist_ok=True)
    (tmp_path / label).write_text(a_file(a_shape(), path=image_path), encoding="utf-8")
    dataset, findings = read(tmp_path)
    assert findings == []
    assert [p.path for p in dataset if p.labelled] == [tmp_path / photo]


def test_the_photo_at_the_path_counts_more_than_the_one_of_the_name(tmp_path: Path) -> None:
    draw_photo(tmp_path / "a.jpg", SIZE, [])
    draw_photo(tmp_path / "b.jpg", SIZE, [])
    (tmp_path / "a.json").write_text(a_file(a_shape(), path="b.jpg"))
    assert [p.path.name for p in read(tmp_path)[0] if p.labelled] == ["b.jpg"]


def test_of_photos_with_one_name_the_nearest_is_taken_and_none_of_two_as_near(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        draw_photo(tmp_path / part / "images" / "lunch.jpg", SIZE, [])
    (tmp_path / "train" / "labels").mkdir()
    (tmp_path / "train" / "labels" / "lunch.json").write_text(a_file(a_shape()))
    dataset, findings = read(tmp_path)
    assert findings == []
    assert [p.labelled for p in dataset] == [True, False]
    (tmp_path / "labels").mkdir()
    (tmp_path / "train" / "labels" / "lunch.json").rename(tmp_path / "labels" / "lunch.json")
    dataset, findings = read(tmp_path)
    assert [p.labelled for p in dataset] == [False, False]
    assert [str(f) for f in findings] == [
        f"{tmp_path / 'labels' / 'lunch.json'}: lunch.jpg could be {tmp_path / 'train' / 'images' / 'lunch.jpg'} or "
        f"{tmp_path / 'valid' / 'images' / 'lunch.jpg'}: expected one such photo. Correct its imagePath."
    ]


def test_a_whole_path_names_the_photo_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_photo(tmp_path / "photos" / "images" / "lunch.jpg", SIZE, [])
    (tmp_path / "photos" / "json").mkdir()
    whole = str(tmp_path / "photos" / "images" / "lunch.jpg")
    (tmp_path / "photos" / "json" / "lunch.json").write_text(a_file(a_shape(), path=whole))
    monkeypatch.chdir(tmp_path)
    dataset, findings = read(Path("photos"))
    assert findings == []
    assert [(p.path, p.labelled) for p in dataset] == [(Path("photos/images/lunch.jpg"), True)]


def test_photos_may_lie_outside_the_folder_that_is_read(tmp_path: Path) -> None:
    draw_photo(tmp_path / "images" / "lunch.jpg", SIZE, [])
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "lunch.json").write_text(a_file(a_shape(), path="../images/lunch.jpg"))
    dataset, findings = formats.read(tmp_path / "labels")
    assert findings == []
    assert [p.path for p in dataset] == [tmp_path / "images" / "lunch.jpg"]


def test_one_label_file_can_be_named(tmp_path: Path) -> None:
    folder_with(tmp_path, a_file(a_shape()))
    folder_with(tmp_path, a_file(a_shape(), path="dinner.jpg"), "dinner.jpg")
    dataset, findings = formats.read(tmp_path / "dinner.json")
    assert findings == []
    assert [(p.path.name, p.labelled) for p in dataset] == [("dinner.jpg", True), ("lunch.jpg", False)]


def test_a_file_without_its_photo_is_found(tmp_path: Path) -> None:
    folder_with(tmp_path, a_file(a_shape()))
    (tmp_path / "gone.json").write_text(a_file(a_shape(), path="gone.jpg"))
    dataset, findings = read(tmp_path)
    assert len(dataset) == 1
    assert [str(f) for f in findings] == [
        f"{tmp_path / 'gone.json'}: there is no photo gone.jpg. Bring the photo back or remove the label."
    ]


def test_a_photo_that_is_inside_the_label_file_alone_is_found(tmp_path: Path) -> None:
    folder_with(tmp_path, a_file(a_shape(), path="gone.jpg", imageData=png(np.zeros((100, 200), bool))), "x.jpg")
    (tmp_path / "x.jpg").unlink()
    dataset, findings = formats.read(tmp_path)
    assert len(dataset) == 0
    assert [f.what for f in findings] == [
        "there is no photo gone.jpg; its pixels stand inside the label file alone (imageData)"
    ]
    assert findings[0].harm == "error"


def test_two_files_of_one_photo_are_one_too_many(tmp_path: Path) -> None:
    """As it happens where a label file was copied for the next photo."""
    folder_with(tmp_path, a_file(a_shape()))
    folder_with(tmp_path, a_file(a_shape(), a_shape()), "supper.jpg")
    dataset, findings = read(tmp_path)
    assert [(p.labelled, len(p.boxes)) for p in dataset] == [(True, 1), (False, 0)]
    assert [(f.source.path, f.photo) for f in findings] == [(tmp_path / "supper.json", tmp_path / "lunch.jpg")]
    assert f"labelled by {tmp_path / 'lunch.json'} already" in findings[0].what


@pytest.mark.parametrize(("size", "box"), [(SIZE[::-1], [10, 20, 40, 60]), (SIZE, [40, 10, 80, 40])])
def test_labelmes_own_size_tells_whether_it_turned_the_photo(
    size: tuple[int, int], box: list[int], tmp_path: Path
) -> None:
    """It does since version 3; EXIF 6: x1 y1 x2 y2 becomes height - y2, x1, height - y1, x2."""
    dataset, findings = read(folder_with(tmp_path, a_file(a_shape(), size=size), turn=6))
    assert dataset.photos[0].boxes.tolist() == [box]
    assert [f.harm for f in findings] == ["note"]


@pytest.mark.parametrize("size", [(None, None), ("200", "100"), (0, 0)])
def test_a_size_that_is_not_given_is_not_missed(size: tuple[Any, Any], tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, a_file(a_shape(), size=size)))
    assert (dataset.box_count, findings) == (1, [])


# -- Faults ---------------------------------------------------------------------------------------------------------

MASK = png(np.ones((30, 40), bool))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (a_shape(label=None), "a rectangle has the label null, expected the name of its class"),
        (a_shape(label="  "), "a rectangle has the label"),
        (a_shape(label=7), "a rectangle has the label 7"),
        ({"points": [[1, 2], [3, 4]], "shape_type": "rectangle"}, "a rectangle has the label null"),
        (a_shape(points=[[10, 20]]), "the rectangle 'rice' has 1 point, expected 2"),
        (a_shape(points=[[10, 20], [30, 40], [50, 60]]), "the rectangle 'rice' has 3 points, expected 2"),
        (a_shape(points=[[10, 20], [30, 40]], kind="polygon"), "the polygon 'rice' has 2 points, expected at least 3"),
        (a_shape(points=[], kind="polygon"), "the polygon 'rice' has 0 points"),
        (a_shape(points=[[10, 20]], kind="circle"), "the circle 'rice' has 1 point, expected 2: its centre"),
        (a_shape(points=[["ten", 20], [30, 40]]), 'has the points [["ten", 20], [30, 40]], expected pairs of numbers'),
        (a_shape(points=[[True, 20], [30, 40]]), "expected pairs of numbers"),
        (a_shape(points=[[float("nan"), 20], [30, 40]]), "expected pairs of numbers"),
        (a_shape(points=[[10**400, 20], [30, 40]]), "expected pairs of numbers"),
        (a_shape(points=[[10, 20, 30], [30, 40, 50]]), "expected pairs of numbers"),
        (a_shape(points=[10, 20, 30, 40]), "expected pairs of numbers"),
        (a_shape(points=["12", "34"]), "expected pairs of numbers"),
        (a_shape(points={"x": 1}), "expected pairs of numbers"),
        (a_shape(points=None), "has the points null, expected pairs of numbers"),
        (
            a_shape(kind="cuboid"),
            "the cuboid 'rice' is of an unknown kind, expected rectangle, polygon, circle or mask",
        ),
        (a_shape(kind=["polygon"]), "is of an unknown kind"),
        (a_shape(kind="mask"), "has a mask that is no PNG in base64"),
        (a_shape(kind="mask", mask="%%%"), "has a mask that is no PNG in base64"),
        (a_shape(kind="mask", mask=MASK[:40]), "has a mask that is no PNG in base64"),
        (a_shape(kind="mask", mask=MASK, points=[[1, 2]]), "has 1 point, expected 2: its first and its last pixel"),
        (a_shape(kind="mask", mask=MASK), "a mask of 40 x 30 pixels, and its points are the corners of 31 x 41"),
        (
            a_shape(kind="mask", mask=png(np.zeros((41, 31), bool))),
            "the mask 'rice' has a mask in which nothing is marked",
        ),
        (a_shape(points=[[10, 20], [10, 60]]), "the box 10, 20, 10, 60 (x1, y1, x2, y2) has no area"),
        (a_shape(points=[[25, 40], [25, 40]], kind="circle"), "has no area"),
        (a_shape(points=[[300, 20], [340, 60]]), "lies outside the photo of 200 x 100 pixels"),
        ("rice", 'found "rice" where a shape was expected'),
        (None, "found null where a shape was expected"),
    ],
)
def test_a_faulty_shape_is_found_with_its_line_and_the_others_are_read(shape: Any, words: str, tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, a_file(a_shape("egg"), shape, a_shape("egg"))))
    assert dataset.box_count == 2
    assert len(findings) == 1
    assert words in findings[0].what
    assert (findings[0].harm, findings[0].photo) == ("error", tmp_path / "lunch.jpg")
    assert findings[0].todo
    assert str(findings[0]).startswith(f"{tmp_path / 'lunch.json'}:6: ")


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("", "the file is no whole JSON (Expecting value, column 1)", 1),
        ("hello", "the file is no whole JSON", 1),
        (WILD[:300], "the file is no whole JSON", 21),
        (WILD.replace("40.0,", "40.0"), "the file is no whole JSON (Expecting ',' delimiter, column 11)", 10),
        ("[" * 100_000, "the file is no whole JSON", None),
        ('{"shapes": {}, "imagePath": "lunch.jpg"}', "the file has no list of shapes", None),
        ('{"imagePath": "lunch.jpg"}', "the file has no list of shapes", None),
    ],
)
def test_a_broken_file_is_found_with_its_line(text: str, words: str, line: int | None, tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, text))
    assert dataset.box_count == 0
    assert len(findings) == 1
    assert words in findings[0].what
    assert (findings[0].harm, findings[0].photo) == ("error", tmp_path / "lunch.jpg")
    assert str(findings[0].source) == f"{tmp_path / 'lunch.json'}{'' if line is None else f':{line}'}"


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    findings = read(folder_with(tmp_path, b"\x89PNG\r\n\x1a\n\xff\xff"))[1]
    assert [(f.harm, f.photo) for f in findings] == [("error", tmp_path / "lunch.jpg")]


# -- Writing --------------------------------------------------------------------------------------------------------


def test_drawn_photos_come_back_as_they_were(drawn: Dataset, tmp_path: Path) -> None:
    drawn.photos[2].ignore[1] = True
    drawn.photos[5].labelled = False
    drawn.photos[5] = drawn.photos[5].keep(torch.tensor([False]))
    labelme.write(drawn, tmp_path / "out")
    dataset, findings = formats.read(tmp_path / "out")
    assert findings == []
    assert dataset.names == drawn.names
    for mine, other in zip(dataset, drawn, strict=True):
        assert mine.path.read_bytes() == other.path.read_bytes()
        assert mine.boxes.tolist() == other.boxes.tolist()
        assert mine.labels.tolist() == other.labels.tolist()
        assert mine.ignore.tolist() == other.ignore.tolist()
        assert mine.labelled == other.labelled


def test_the_written_file_is_as_labelme_writes_it(tmp_path: Path) -> None:
    photo = draw_photo(tmp_path / "점심.png", SIZE, [(0, 10, 20, 30, 40)])
    labelme.write(Dataset([photo], ["밥"]), tmp_path / "out")
    text = (tmp_path / "out" / "점심.json").read_text(encoding="utf-8")
    assert json.loads(text) == {
        "version": "5.5.0",
        "flags": {},
        "shapes": [
            {
                "label": "밥",
                "points": [[10, 20], [30, 40]],
                "group_id": None,
                "description": "",
                "shape_type": "rectangle",
                "flags": {},
                "mask": None,
            }
        ],
        "imagePath": "점심.png",
        "imageData": None,
        "imageHeight": 100,
        "imageWidth": 200,
    }
    assert "밥" in text


coordinate = st.floats(0, 1, width=32)
triangle = st.tuples(*[coordinate] * 6)


@settings(max_examples=30)
@given(
    width=st.sampled_from([100, 4000, 16000]),
    rows=st.lists(
        st.tuples(st.lists(triangle, max_size=3), *[coordinate] * 4, st.sampled_from(["a", 'b "c"', "떡"])), max_size=4
    ),
)
def test_what_is_written_is_read_to_a_hundredth_of_a_pixel(
    width: int, rows: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Boxes with no outline, with one and with several."""
    folder, height, names = tmp_path_factory.mktemp("labelme"), 40, ["a", 'b "c"', "떡"]
    boxes, masks = [], []
    for triangles, x, y, w, h, _ in rows:
        x1, y1 = x * (width - 3), y * (height - 3)
        # The box's corners are among the points, so that an outline has an area and the box is the one around it.
        box = [x1, y1, x1 + 1 + w * (width - x1 - 1), y1 + 1 + h * (height - y1 - 1)]
        outlines = [
            torch.tensor([*box[:2], *box[2:], *(box[0] + t[0] * (box[2] - box[0]), box[3])]).reshape(3, 2)
            for t in triangles
        ]
        boxes.append(box)
        masks.append(outlines)
    labels = torch.tensor([names.index(row[-1]) for row in rows], dtype=torch.int64)
    Image.new("L", (width, height)).save(folder / "photo.png")
    photo = Photo(
        folder / "photo.png", width, height, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), labels, masks
    )
    labelme.write(Dataset([photo], names), folder / "out")
    dataset, findings = read(folder / "out")
    assert {f.kind for f in findings} <= {"pixels or shares"}  # of a box of one pixel, in the corner
    found = dataset.photos[0]
    torch.testing.assert_close(found.boxes, photo.boxes, rtol=0, atol=0.01)
    assert [dataset.names[i] for i in found.labels] == [row[-1] for row in rows]
    for mine, other in zip(found.masks or [[] for _ in rows], masks, strict=True):
        assert len(mine) == len(other)
        for one, two in zip(mine, other, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=0.01)


def test_photos_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    photos = [
        draw_photo(tmp_path / part / "a.png", SIZE, [(0, x, 2, 90, 80)]) for part, x in (("one", 10), ("two", 40))
    ]
    photos.append(draw_photo(tmp_path / "a.jpg", SIZE, [(0, 70, 2, 90, 80)]))
    labelme.write(Dataset(photos, ["food"]), tmp_path / "out")
    dataset, findings = read(tmp_path / "out")
    assert findings == []
    assert sorted(float(p.boxes[0, 0]) for p in dataset) == [10, 40, 70]


def test_files_that_were_renamed_without_their_image_path_are_found(tmp_path: Path) -> None:
    """The boxes would lie on another photo, and labelme itself would show them there."""
    folder_with(tmp_path, a_file(a_shape(), path="b.jpg"), "a.jpg")
    folder_with(tmp_path, a_file(path="a.jpg"), "b.jpg")
    dataset, findings = read(tmp_path)
    assert [(photo.path.name, len(photo.boxes)) for photo in dataset] == [("a.jpg", 0), ("b.jpg", 1)]
    assert [(f.harm, f.kind, f.source.path, f.photo) for f in findings] == [
        ("warning", "other photo beside", tmp_path / "a.json", tmp_path / "b.jpg"),
        ("warning", "other photo beside", tmp_path / "b.json", tmp_path / "a.jpg"),
    ]
