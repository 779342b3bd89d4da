"""COCO's files as people and programs really write them, and what is said of the faulty ones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from scipy.ndimage import binary_fill_holes

from foodbox.data import formats
from foodbox.data.formats import coco
from foodbox.data.listing import scan
from foodbox.findings import Finding
from foodbox.records import Dataset, Photo
from tests.conftest import NAMES, draw_photo

SIZE = (200, 100)
TRIANGLE = [10.0, 20.0, 40.0, 20.0, 10.0, 60.0]


def an_image(number: int = 1, name: str = "lunch.jpg", **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1], **more}


def an_annotation(number: int = 17, image: int = 1, category: int = 3, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "bbox": [10, 20, 30, 40], **more}


def a_content(*annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"images": [an_image()], "annotations": list(annotations), "categories": [{"id": 3, "name": "rice"}], **more}


def folder_with(
    folder: Path, content: object, file: str = "labels.json", photos: tuple[str, ...] = ("lunch.jpg",)
) -> Path:
    """Photos of 200 x 100 pixels and a file, whose content is text or becomes JSON."""
    for name in photos:
        draw_photo(folder / name, SIZE, [])
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(text, encoding="utf-8")
    return folder


def only(folder: Path) -> Photo:
    """The one photo of a folder in which nothing is at fault."""
    dataset, findings = formats.read(folder)
    assert findings == []
    assert dataset.format == "coco"
    assert len(dataset) == 1
    return dataset.photos[0]


def one_finding(folder: Path, harm: str = "error") -> Finding:
    _, findings = formats.read(folder, "coco")
    assert [finding.harm for finding in findings] == [harm], findings
    return findings[0]


def packed(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    """A mask [H, W] as pycocotools writes it."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def unpacked(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    """A mask [H, W] as a list of run lengths, the first of zeros."""
    flat = mask.astype(bool).flatten(order="F")
    changes = np.nonzero(np.diff(np.concatenate(([False], flat))))[0]
    ends = np.concatenate(([0], changes, [len(flat)]))
    return {"size": list(mask.shape), "counts": np.diff(ends).tolist()}


def inside(photo: Photo, box: int = 0) -> np.ndarray[Any, Any]:
    """[H, W], the pixels whose middle lies in an outline of a box."""
    assert photo.masks is not None
    y, x = np.mgrid[: photo.height, : photo.width] + 0.5
    points = np.stack([x.ravel(), y.ravel()], 1)
    covered = [Outline(polygon.numpy()).contains_points(points) for polygon in photo.masks[box]]
    found: np.ndarray[Any, Any] = np.any(covered, 0).reshape(photo.height, photo.width)
    return found


# -- Reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"iscrowd": 0, "area": 1200, "segmentation": []},
        {"segmentation": [[]]},
        {"segmentation": None},
        {"id": 17.0, "image_id": 1.0, "category_id": "3"},
        {"bbox": [10.0, 20.0, 30.0, 40.0], "keypoints": [1, 2, 2], "num_keypoints": 1, "score": 0.4},
    ],
)
def test_a_box_in_the_wild(more: dict[str, Any], tmp_path: Path) -> None:
    photo = only(folder_with(tmp_path, a_content(an_annotation(**more), info={"year": 2024}, licenses=[])))
    assert photo.boxes.tolist() == [[10, 20, 40, 60]]
    assert photo.boxes.dtype == torch.float32
    assert photo.labels.tolist() == [0]
    assert photo.masks is None
    assert not photo.ignore.any()
    assert str(photo.sources[0]).endswith("labels.json")


def test_numbers_of_categories_may_have_gaps_and_any_order(tmp_path: Path) -> None:
    categories = [{"id": 90, "name": "떡"}, {"id": 3, "name": "rice"}, {"id": 10, "name": "soup"}]
    content = a_content(an_annotation(1, category=10), an_annotation(2, category=90), categories=categories)
    dataset, findings = formats.read(folder_with(tmp_path, content))
    assert findings == []
    assert dataset.names == ["rice", "soup", "떡"]
    assert dataset.photos[0].labels.tolist() == [1, 2]


def test_a_photo_without_annotation_shows_nothing_and_one_that_is_not_listed_is_unlabelled(tmp_path: Path) -> None:
    content = a_content(an_annotation(image=2), images=[an_image(1, "a.jpg"), an_image(2, "b.jpg")])
    dataset, findings = formats.read(folder_with(tmp_path, content, photos=("a.jpg", "b.jpg", "c.jpg")))
    assert findings == []
    assert [(len(p.boxes), p.labelled) for p in dataset] == [(0, True), (1, True), (0, False)]


def test_a_file_without_annotations_labels_nothing(tmp_path: Path) -> None:
    """As COCO's own of the test photos."""
    content = {"images": [an_image()], "categories": [{"id": 1, "name": "rice"}]}
    dataset, findings = formats.read(folder_with(tmp_path, content))
    assert [p.labelled for p in dataset] == [False]
    assert [(f.harm, "no list of annotations" in f.what) for f in findings] == [("warning", True)]


@pytest.mark.parametrize(
    ("file", "name", "photo"),
    [
        ("labels.json", "lunch.jpg", "lunch.jpg"),
        ("labels.json", "monday/lunch.jpg", "monday/lunch.jpg"),
        ("labels.json", "monday\\lunch.jpg", "monday/lunch.jpg"),
        ("labels.json", "lunch.jpg", "images/lunch.jpg"),
        ("train/_annotations.coco.json", "lunch.jpg", "train/lunch.jpg"),
        ("annotations/instances_train2017.json", "lunch.jpg", "train2017/lunch.jpg"),
        ("annotations/instances_train2017.json", "lunch.jpg", "images/train2017/lunch.jpg"),
        ("annotations/instances_val2017.json", "lunch.jpg", "images/val/lunch.jpg"),
        ("annotations/instances_default.json", "lunch.jpg", "images/lunch.jpg"),
        ("annotations/instances_default.json", "lunch.jpg", "images/default/lunch.jpg"),
        ("annotations/food.json", "lunch.jpg", "food/lunch.jpg"),
        ("train.json", "lunch.jpg", "train/images/lunch.jpg"),
        ("result.json", "/home/somebody/data/images/lunch.jpg", "images/lunch.jpg"),
        ("result.json", "C:\\data\\lunch.jpg", "photos/lunch.jpg"),
        ("result.json", "../upload/lunch.jpg", "photos/of/monday/LUNCH.JPG"),
        ("labels.json", "점심.jpg", normalize("NFD", "점심.jpg")),  # macOS writes its letters in pieces
    ],
)
def test_where_photos_are_looked_for(file: str, name: str, photo: str, tmp_path: Path) -> None:
    folder_with(tmp_path, a_content(an_annotation(), images=[an_image(name=name)]), file, (photo,))
    assert only(tmp_path).path == tmp_path / photo
    dataset, findings = formats.read(tmp_path / file)  # the file instead of the folder
    assert (findings, dataset.box_count) == ([], 1)


def test_a_name_without_its_ending_or_with_another_one(tmp_path: Path) -> None:
    """a.png is gone, and a.jpg is listed by its own name: it is not taken for it; of two photos "c" neither is."""
    names = ("a.jpg", "a.png", "B", "train/c", "d.jpeg")
    images = [an_image(i, name) for i, name in enumerate(names)]
    content = {
        "images": images,
        "annotations": [an_annotation(i, i, bbox=[i, 20, 30, 40]) for i in range(5)],
        "categories": [{"id": 3, "name": "rice"}],
    }
    folder_with(tmp_path, content, photos=("a.jpg", "images/b.jpg", "x/c.jpg", "y/c.jpg", "d.JPG"))
    dataset, findings = formats.read(tmp_path)
    found = {photo.path.name: photo.boxes[:, 0].tolist() for photo in dataset if photo.labelled}
    assert found == {"a.jpg": [0], "b.jpg": [2], "d.JPG": [4]}
    assert [f.what for f in findings] == [
        f"there is no photo {word}" for word in ("a.png (image 1)", "train/c (image 3)")
    ]


def test_photos_that_have_an_address_alone(tmp_path: Path) -> None:
    """LVIS."""
    image = {"id": 1, "coco_url": "http://images.cocodataset.org/train2017/lunch.jpg"}
    content = a_content(an_annotation(), images=[image])
    assert only(folder_with(tmp_path, content, photos=("train2017/lunch.jpg",))).boxes.shape == (1, 4)


def test_a_missing_photos_labels_do_not_go_to_another_of_its_name(tmp_path: Path) -> None:
    """train/lunch.jpg is lost, and valid/lunch.jpg is the only one of the name."""
    folder_with(tmp_path, a_content(an_annotation()), "train/_annotations.coco.json", ("train/other.jpg",))
    content = a_content(an_annotation(bbox=[1, 2, 3, 4]))
    folder_with(tmp_path, content, "valid/_annotations.coco.json", ("valid/lunch.jpg",))
    dataset, findings = formats.read(tmp_path)
    assert {str(p.path.relative_to(tmp_path)): p.boxes.tolist() for p in dataset} == {
        "train/other.jpg": [],
        "valid/lunch.jpg": [[1, 2, 4, 6]],
    }
    assert [f.kind for f in findings] == ["label without photo"]


def test_parts_are_told_from_the_names_of_files_and_folders(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        folder_with(tmp_path / "roboflow", a_content(), f"{part}/_annotations.coco.json", (f"{part}/lunch.jpg",))
    for name in ("train2017", "val2017"):
        folder_with(tmp_path / "coco", a_content(), f"annotations/instances_{name}.json", (f"{name}/lunch.jpg",))
    dataset, findings = formats.read(tmp_path / "roboflow")
    assert findings == []
    assert [p.part for p in dataset] == ["test", "train", "valid"]
    dataset, findings = formats.read(tmp_path / "coco")
    assert findings == []
    assert [(p.path.parent.name, p.part) for p in dataset] == [("train2017", "train"), ("val2017", "valid")]
    assert [p.part for p in formats.read(tmp_path / "coco" / "annotations" / "instances_val2017.json")[0]] == [
        "",
        "valid",
    ]


def test_classes_of_several_files_are_brought_together_by_name(tmp_path: Path) -> None:
    one = a_content(an_annotation(), categories=[{"id": 3, "name": "rice"}, {"id": 5, "name": "soup"}])
    other = a_content(an_annotation(category=1), categories=[{"id": 1, "name": "soup"}, {"id": 2, "name": "cake"}])
    folder_with(tmp_path, one, "train/a.json", ("train/lunch.jpg",))
    folder_with(tmp_path, other, "val/a.json", ("val/lunch.jpg",))
    dataset, findings = formats.read(tmp_path)
    assert findings == []
    assert dataset.names == ["rice", "soup", "cake"]
    assert [p.labels.tolist() for p in dataset] == [[0], [1]]


def test_two_files_of_the_same_photos_are_read_once(tmp_path: Path) -> None:
    """COCO's people with keypoints are in its instances as well."""
    folder_with(tmp_path, a_content(an_annotation()), "annotations/a_person_keypoints.json")
    folder_with(tmp_path, a_content(an_annotation(), an_annotation(18)), "annotations/instances.json")
    dataset, findings = formats.read(tmp_path)
    assert dataset.box_count == 2
    assert [(f.harm, f.what) for f in findings] == [
        ("warning", "1 of its photos are labelled by instances.json already, and are read from there")
    ]


def test_a_file_of_all_photos_beside_those_of_the_parts(tmp_path: Path) -> None:
    """As programs that split a file leave them: whoever is read first, the parts count."""
    for file, names in (("annotations", "abc"), ("train", "a"), ("val", "b"), ("test", "c")):
        images = [an_image("abc".index(name), f"{name}.jpg") for name in names]
        boxes = [an_annotation(image["id"], image["id"]) for image in images]
        folder_with(tmp_path, a_content(*boxes, images=images), f"{file}.json", tuple(f"images/{n}.jpg" for n in names))
    dataset, findings = formats.read(tmp_path)
    assert [photo.part for photo in dataset] == ["train", "valid", "test"]
    assert dataset.box_count == 3
    assert {(f.harm, f.kind) for f in findings} == {("warning", "photo listed twice")}


def test_files_of_one_class_each_give_a_photo_all_its_boxes(tmp_path: Path) -> None:
    categories = [{"id": 3, "name": "rice"}, {"id": 5, "name": "soup"}, {"id": 7, "name": "cake"}]
    for file, category in (("a_rice", 3), ("b_soup", 5), ("c_cake", 7)):
        content = a_content(an_annotation(category=category), categories=categories)
        folder_with(tmp_path, content, f"{file}.json")
    dataset, findings = formats.read(tmp_path)
    assert [dataset.names[label] for label in dataset.photos[0].labels] == ["rice", "soup", "cake"]
    assert [f.harm for f in findings] == ["warning"] * 2
    assert "listed by a_rice.json too, with other classes" in findings[0].what


def test_files_that_label_a_photo_otherwise_are_at_fault(tmp_path: Path) -> None:
    """Which of the two counts, nobody can say; without one of the boxes it would be taught to be background."""
    folder_with(tmp_path, a_content(an_annotation()), "a.json")
    folder_with(tmp_path, a_content(an_annotation(bbox=[0, 0, 5, 5])), "b.json")
    _, (finding,) = formats.read(tmp_path)
    assert finding.harm == "error"
    assert finding.photo == tmp_path / "lunch.jpg"
    assert finding.what == "a.json labels the photo lunch.jpg otherwise"


def test_where_no_photo_is_found_that_is_a_fault(tmp_path: Path) -> None:
    folder_with(tmp_path, a_content(an_annotation()))
    (tmp_path / "lunch.jpg").rename(tmp_path / "dinner.jpg")
    assert [f.harm for f in formats.read(tmp_path)[1]] == ["error"]
    folder_with(tmp_path, a_content(images=[an_image(i, f"{i}.jpg") for i in (1, 2)]), photos=())
    (finding,) = formats.read(tmp_path)[1]
    assert (finding.harm, finding.what) == ("error", "none of its 2 photos is there, such as 1.jpg (image 1)")


def test_captions_and_panoptic_segments_are_passed_over(tmp_path: Path) -> None:
    folder_with(tmp_path, a_content(an_annotation()), "annotations/instances.json")
    captions = {"images": [an_image()], "annotations": [{"id": 1, "image_id": 1, "caption": "Lunch."}]}
    (tmp_path / "annotations" / "captions.json").write_text(json.dumps(captions))
    segments = {"image_id": 1, "file_name": "lunch.png", "segments_info": [{"id": 1, "category_id": 3}]}
    (tmp_path / "annotations" / "panoptic.json").write_text(json.dumps(a_content(segments)))
    assert only(tmp_path).boxes.shape == (1, 4)


def test_a_category_above_others_is_no_class(tmp_path: Path) -> None:
    """Roboflow's number 0, which has the project's name."""
    categories = [
        {"id": 0, "name": "food", "supercategory": "none"},
        {"id": 3, "name": "rice", "supercategory": "food"},
    ]
    folder_with(tmp_path, a_content(an_annotation(), categories=categories))
    dataset, findings = formats.read(tmp_path)
    assert dataset.names == ["rice"]
    assert [(f.harm, f.what) for f in findings] == [
        ("note", "the category 'food' stands above others and no box has it: it is not taken as a class")
    ]
    folder_with(tmp_path, a_content(an_annotation(category=0), categories=categories))
    assert formats.read(tmp_path)[0].names == ["food", "rice"]


def test_categories_of_one_name_are_one_class(tmp_path: Path) -> None:
    categories = [{"id": 3, "name": "rice"}, {"id": 4, "name": "soup"}, {"id": 5, "name": "rice "}]
    content = a_content(an_annotation(1, category=5), an_annotation(2, category=4), categories=categories)
    dataset, findings = formats.read(folder_with(tmp_path, content))
    assert dataset.names == ["rice", "soup"]
    assert dataset.photos[0].labels.tolist() == [0, 1]
    assert [(f.harm, f.what) for f in findings] == [
        ("warning", "the category 'rice' stands 2 times (ids 3, 5) and is taken as one class")
    ]


def test_classes_without_names_are_called_by_their_numbers(tmp_path: Path) -> None:
    content = a_content(an_annotation(1, category=10), an_annotation(2, category=9))
    del content["categories"]
    dataset, findings = formats.read(folder_with(tmp_path, content))
    assert dataset.names == ["9", "10"]
    assert dataset.photos[0].labels.tolist() == [1, 0]
    assert [(f.harm, f.kind) for f in findings] == [("warning", "no class names")]


# -- Masks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segmentation", [[TRIANGLE], TRIANGLE, [TRIANGLE, []]])
def test_outlines(segmentation: list[Any], tmp_path: Path) -> None:
    photo = only(folder_with(tmp_path, a_content(an_annotation(segmentation=segmentation), an_annotation(18))))
    assert photo.masks is not None
    assert [[polygon.flatten().tolist() for polygon in mask] for mask in photo.masks] == [[TRIANGLE], []]
    assert photo.masks[0][0].dtype == torch.float32


@pytest.mark.parametrize("bbox", [{"bbox": None}, {"bbox": []}, {}])
def test_a_missing_box_is_taken_from_the_outlines(bbox: dict[str, Any], tmp_path: Path) -> None:
    annotation = an_annotation(segmentation=[TRIANGLE, [50, 70, 60, 70, 60, 81]])
    del annotation["bbox"]
    photo = only(folder_with(tmp_path, a_content({**annotation, **bbox})))
    assert photo.boxes.tolist() == [[10, 20, 60, 81]]


def test_a_crowd_of_run_lengths_is_ignored_and_traced(tmp_path: Path) -> None:
    """Two people as COCO's own crowds are written, one of them at the photo's edge."""
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[20:50, 30:60] = 1
    mask[30:100, 150:200] = 1
    crowd = an_annotation(1, iscrowd=1, segmentation=unpacked(mask), bbox=[30, 20, 170, 80])
    other = an_annotation(2, iscrowd=0, segmentation=packed(mask), bbox=None)
    photo = only(folder_with(tmp_path, a_content(crowd, other)))
    assert photo.ignore.tolist() == [True, False]
    assert photo.boxes.tolist() == [[30, 20, 200, 100]] * 2
    assert photo.masks is not None
    assert [len(outlines) for outlines in photo.masks] == [2, 2]
    for box in (0, 1):
        assert (inside(photo, box) == mask).all()
    assert max(len(polygon) for polygon in photo.masks[0]) == 8  # two points a corner, none between


def test_ignored_boxes_of_other_data_sets(tmp_path: Path) -> None:
    """CrowdHuman's and WiderPerson's files say ignore."""
    photo = only(folder_with(tmp_path, a_content(an_annotation(1, ignore=1), an_annotation(2, ignore=0))))
    assert photo.ignore.tolist() == [True, False]


def test_holes_are_filled(tmp_path: Path) -> None:
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[20:60, 30:90] = 1
    mask[30:40, 50:60] = 0
    photo = only(folder_with(tmp_path, a_content(an_annotation(segmentation=packed(mask)))))
    assert (inside(photo) == binary_fill_holes(mask)).all()


side = st.integers(0, 23)


@settings(max_examples=40)
@given(rectangles=st.lists(st.tuples(side, side, side, side), min_size=1, max_size=5), as_text=st.booleans())
def test_traced_outlines_hold_the_pixels_of_the_mask(
    rectangles: list[tuple[int, int, int, int]], as_text: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mask = np.zeros((24, 30), np.uint8)
    for a, b, c, d in rectangles:
        mask[min(a, b) : max(a, b) + 1, min(c, d) : max(c, d) + 1] = 1
    folder = tmp_path_factory.mktemp("coco")
    Image.new("L", (30, 24)).save(folder / "lunch.png")
    rle = packed(mask) if as_text else unpacked(mask)
    images = [{"id": 1, "file_name": "lunch.png", "width": 30, "height": 24}]
    folder_with(folder, a_content(an_annotation(segmentation=rle, bbox=None), images=images), photos=())
    dataset, findings = formats.read(folder)
    assert {f.kind for f in findings} <= {"pixels or shares"}  # of a mask of one pixel, in the corner
    photo = dataset.photos[0]
    x, y, w, h = coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask))).tolist()
    assert photo.boxes.tolist() == [[x, y, x + w, y + h]]
    covered = inside(photo)
    assert covered[mask == 1].all()
    assert not covered[~binary_fill_holes(mask)].any()


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[10, 20, 30, 40]], "an outline that is no list of at least three points x, y"),
        ([TRIANGLE[:5]], "at least three points"),
        ([[*TRIANGLE[:5], "60"]], "at least three points"),
        ([[*TRIANGLE[:5], None]], "at least three points"),
        ([{"x": 1}], "at least three points"),
        ("polygon", "the segmentation 'polygon', expected lists"),
        ({"counts": [1, 2]}, "a mask without its size"),
        ({"size": [100, 200]}, "a mask without its size"),
        ({"size": [100], "counts": [1, 2]}, "a mask without its size"),
        ({"size": [200, 100], "counts": [20000]}, "a mask of 100 x 200 pixels, expected the photo's size"),
        ({"size": [100, 200], "counts": [5, 7]}, "a mask whose counts do not fill its size"),
        ({"size": [100, 200], "counts": [20000, -5]}, "a mask whose counts"),
        ({"size": [100, 200], "counts": ["a"]}, "a mask whose counts"),
        ({"size": [100, 200], "counts": "hello"}, "a mask whose counts"),
        ({"size": [100, 200], "counts": "가나"}, "a mask whose counts"),
        ({"size": [100, 200], "counts": [20000]}, "a mask without a pixel"),
    ],
)
def test_a_faulty_outline_is_left_out_and_its_box_stays(segmentation: object, words: str, tmp_path: Path) -> None:
    folder_with(tmp_path, a_content(an_annotation(segmentation=segmentation)))
    dataset, findings = formats.read(tmp_path)
    assert dataset.photos[0].boxes.tolist() == [[10, 20, 40, 60]]
    assert dataset.photos[0].masks is None
    assert [(f.harm, f.photo) for f in findings] == [("warning", tmp_path / "lunch.jpg")]
    assert findings[0].what.startswith("annotation 17: found ")
    assert words in findings[0].what
    folder_with(tmp_path, a_content(an_annotation(segmentation=segmentation, bbox=None)))
    finding = one_finding(tmp_path)
    assert "annotation 17: found no bbox and " in finding.what
    assert words in finding.what


# -- Faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"bbox": [10, 20, 30]}, "annotation 17: found the bbox [10, 20, 30], expected four numbers"),
        ({"bbox": [10, 20, 30, 40, 50]}, "found the bbox [10, 20, 30, 40, 50], expected four numbers"),
        ({"bbox": [10, 20, 30, "wide"]}, 'found the bbox [10, 20, 30, "wide"], expected'),
        ({"bbox": [10, 20, 30, None]}, "found the bbox [10, 20, 30, null], expected"),
        ({"bbox": [10, 20, 30, float("nan")]}, "found the bbox [10, 20, 30, NaN], expected"),
        ({"bbox": [10, 20, 30, 10**400]}, "found the bbox [10, 20, 30, 1000"),
        ({"bbox": [10, 20, 30, True]}, "found the bbox [10, 20, 30, true], expected"),
        ({"bbox": "10,20,30,40"}, 'found the bbox "10,20,30,40", expected'),
        ({"bbox": {"x": 10}}, 'found the bbox {"x": 10}, expected'),
        ({"bbox": None}, "annotation 17: found no bbox and no segmentation, expected one of the two"),
        ({"bbox": [10, 20, -30, 40]}, "the bbox [10, 20, -30, 40] (x, y, width, height) has a side below 0"),
        ({"category_id": 4}, "annotation 17: found category_id 4, which no category has"),
        ({"category_id": None}, "annotation 17: found category_id None, which no category has"),
        ({"category_id": [3]}, "annotation 17: found category_id [3], which no category has"),
        ({"bbox": [190, 20, 30, 40]}, "lies outside the photo of 200 x 100 pixels"),
        ({"bbox": [10, 20, 0, 40]}, "has no area"),
    ],
)
def test_a_faulty_annotation_is_found_and_the_others_are_read(more: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder_with(tmp_path, a_content(an_annotation(16), an_annotation(**more), an_annotation(18)))
    finding = one_finding(tmp_path)
    assert words in finding.what
    assert finding.todo
    assert finding.photo == tmp_path / "lunch.jpg"
    assert str(finding).startswith(f"{tmp_path / 'labels.json'} (lunch.jpg): ")
    assert formats.read(tmp_path)[0].photos[0].boxes.tolist()[:2] == [[10, 20, 40, 60]] * 2


@pytest.mark.parametrize(
    ("boxes", "corners"),
    [
        ([[90, 20, 150, 60], [10, 60, 40, 90], [120, 20, 180, 70], [1, 2, 30, 40]], True),
        ([[90, 20, 150, 60], [10, 60, 40, 90], [120, 20, 180, 70], [1, 2, 30, 40], [1, 2, 3, 4], [1, 2, 3, 4]], False),
        ([[90, 20, 150, 60], [10, 60, 40, 90]], False),
        ([[190, 20, 150, 60], [10, 70, 40, 60], [120, 90, 180, 70]], False),  # as corners they would be exchanged
        ([[90, 20, 250, 60], [10, 60, 40, 190], [120, 20, 280, 70]], False),  # and these outside
    ],
)
def test_corners_in_the_place_of_sizes_are_one_error(boxes: list[list[int]], corners: bool, tmp_path: Path) -> None:
    annotations = [an_annotation(number, bbox=box) for number, box in enumerate(boxes)]
    dataset, findings = formats.read(folder_with(tmp_path, a_content(*annotations)))
    if corners:
        (finding,) = findings
        assert (finding.harm, finding.photo) == ("error", None)
        assert finding.what == (
            "3 of 4 boxes lie outside their photos as x, y, width, height, and inside as x1, y1, x2, y2: the file "
            "seems to have corners, and none of its boxes is read"
        )
        assert [photo.labelled for photo in dataset] == [False]
    else:
        assert {f.kind for f in findings} == {"box outside the photo"}


@pytest.mark.parametrize("image", [9, None, "lunch.jpg", [1], {}])
def test_an_annotation_of_no_image_is_found(image: object, tmp_path: Path) -> None:
    finding = one_finding(folder_with(tmp_path, a_content({**an_annotation(), "image_id": image})))
    assert finding.what == f"annotation 17: found image_id {image!r}, which no image has"
    assert finding.photo is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": None}, "images is no list"),
        ({"images": {"1": an_image()}}, "images is no list"),
        ({"images": [an_image(), 5]}, "images: found 5 at place 1, expected an object"),
        ({"annotations": "none"}, "annotations is no list"),
        ({"annotations": [["rice"]]}, 'annotations: found ["rice"] at place 0, expected an object'),
        ({"categories": 3, "annotations": []}, "categories is no list"),
        ({"categories": [{"id": 3, "name": "rice"}, {"id": 4}]}, "category 4: found id 4 and name None, expected both"),
        ({"categories": [{"id": 3, "name": "rice"}, {"name": "soup"}]}, "category at place 1: found id None and name"),
        (
            {"categories": [{"id": 3, "name": "rice"}, {"id": 3, "name": "soup"}]},
            "category 3: its id 3 is 'rice' already, and here 'soup'",
        ),
        ({"images": [an_image(), {"id": 2}]}, "image 2: found file_name None, expected a photo's"),
        ({"images": [an_image(), {"file_name": 7, "id": 2}]}, "image 2: found file_name 7"),
        ({"images": [an_image(), an_image(2, "gone.jpg")]}, "there is no photo gone.jpg (image 2)"),
    ],
)
def test_a_faulty_file_is_found(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    content = {**a_content(), **change}
    finding = one_finding(folder_with(tmp_path, content))
    assert words in finding.what
    assert finding.source.path == tmp_path / "labels.json"


def test_a_file_without_images_is_found(tmp_path: Path) -> None:
    content = a_content(an_annotation())
    del content["images"]
    assert one_finding(folder_with(tmp_path, content)).what == "the file has no list of images"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"images": [],\n"annotations": [\n{"id": 1,}]}', r":3: the file is no whole JSON"),
        ('{"images": [{"id": 1', r":1: the file is no whole JSON"),
        ('{"images": [], "annotations": ' + "[" * 100_000, "the file is no whole JSON"),
        ('{"images": [], "annotations": [' + "1" * 5000 + "]}", "the file is no whole JSON"),
        ("[1, 2]", "the file holds no object with lists of images"),
        ("", ":1: the file is no whole JSON"),
    ],
)
def test_broken_json_is_found_with_its_line(text: str, words: str, tmp_path: Path) -> None:
    assert words in str(one_finding(folder_with(tmp_path, text)))


def test_a_cut_file_is_still_known_for_cocos(tmp_path: Path) -> None:
    text = json.dumps(a_content(*[an_annotation(i) for i in range(20)]), indent=1)
    folder_with(tmp_path, text[: len(text) // 2])
    dataset, findings = formats.read(tmp_path)
    assert dataset.format == "coco"
    assert [p.labelled for p in dataset] == [False]
    assert "no whole JSON" in findings[0].what


def test_a_file_of_photos_that_are_elsewhere_is_one_warning(tmp_path: Path) -> None:
    """COCO's folder with the photos of one part."""
    folder_with(tmp_path, a_content(an_annotation()), "annotations/instances_val.json", ("val/lunch.jpg",))
    images = [an_image(i, f"{i}.jpg") for i in range(1, 6)]
    folder_with(tmp_path, a_content(an_annotation(), images=images), "annotations/instances_train.json", ())
    finding = one_finding(tmp_path, "warning")
    assert finding.what == "none of its 5 photos is there, such as 1.jpg (image 1)"


def test_two_entries_of_one_photo_are_put_together(tmp_path: Path) -> None:
    images = [an_image(1), an_image(2)]
    folder_with(tmp_path, a_content(an_annotation(1, 1), an_annotation(2, 2, bbox=[1, 2, 3, 4]), images=images))
    finding = one_finding(tmp_path, "warning")
    assert finding.what == "image 2: the photo lunch.jpg is listed twice, and has the boxes of both entries"
    assert finding.photo == tmp_path / "lunch.jpg"
    assert formats.read(tmp_path)[0].box_count == 2


def test_photos_of_one_id_are_both_faulty(tmp_path: Path) -> None:
    """Whose the annotations are, nobody can say."""
    images = [an_image(1, "a.jpg"), an_image(1, "b.jpg"), an_image(2, "c.jpg")]
    content = a_content(an_annotation(1, 1), an_annotation(2, 2), images=images)
    dataset, findings = formats.read(folder_with(tmp_path, content, photos=("a.jpg", "b.jpg", "c.jpg")))
    assert [len(p.boxes) for p in dataset] == [0, 0, 1]
    assert [(f.harm, f.photo, f.what) for f in findings] == [
        ("error", tmp_path / name, "image 1: several photos have this id") for name in ("a.jpg", "b.jpg")
    ]


def test_annotations_of_one_id_are_all_read(tmp_path: Path) -> None:
    """Where pycocotools keeps the last."""
    folder_with(tmp_path, a_content(*[an_annotation(17, bbox=[i, 2, 30, 40]) for i in range(3)]))
    finding = one_finding(tmp_path, "warning")
    assert finding.what == "2 annotations have an id that another has already, the first is annotation 17: all are read"
    assert formats.read(tmp_path)[0].box_count == 3


def test_annotations_without_an_id_are_read(tmp_path: Path) -> None:
    folder_with(tmp_path, a_content(*[{**an_annotation(), "id": None} for _ in range(3)]))
    assert len(only(tmp_path).boxes) == 3


# -- Which files are COCO's -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        {"version": "5.0", "shapes": [{"label": "rice", "points": [[1, 2]]}], "imagePath": "lunch.jpg"},
        [{"image": "lunch.jpg", "annotations": [{"label": "rice", "coordinates": {"x": 1}}]}],
        {"lunch.jpg-1": {"filename": "lunch.jpg", "regions": []}},
        [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}],
        {"categories": {"label": {"labels": []}}, "items": [{"annotations": [{"label_id": 1}]}]},
        {"images": ["lunch.jpg"]},
        {},
    ],
)
def test_other_json_is_not_cocos(content: object, tmp_path: Path) -> None:
    """labelme, CreateML, VIA, COCO's results, Datumaro."""
    assert not coco.fits(scan(folder_with(tmp_path, content)))


@pytest.mark.parametrize("order", [("images", "annotations", "categories"), ("annotations", "categories", "images")])
@pytest.mark.parametrize("indent", [None, 2])
def test_lists_far_from_each_other_are_found(order: tuple[str, ...], indent: int | None, tmp_path: Path) -> None:
    """In COCO's own file the categories stand behind 400 MB."""
    content = a_content(*[an_annotation(i, segmentation=[TRIANGLE * 10]) for i in range(2000)])
    content["images"] += [an_image(i, f"{i}.jpg") for i in range(2, 10_000)]
    text = json.dumps({"info": {}, **{name: content[name] for name in order}}, indent=indent)
    assert len(text) > 2 * coco.HEAD
    assert coco.fits(scan(folder_with(tmp_path, text)))


def test_one_file_of_cocos_among_many_others_is_found(tmp_path: Path) -> None:
    folder_with(tmp_path, a_content(*[an_annotation(i) for i in range(10)]), "zzz.json")
    for i in range(2 * coco.LOOKS):
        (tmp_path / f"{i}.json").write_text('{"shapes": []}')
    assert coco.fits(scan(tmp_path))
    assert coco.fits(scan(tmp_path / "zzz.json"))
    assert not coco.fits(scan(tmp_path / "0.json"))


# -- Writing --------------------------------------------------------------------------------------------------------


def with_masks(drawn: Dataset) -> Dataset:
    """Every second box has outlines: a diamond in it, and for the first one a triangle as well."""
    for n, photo in enumerate(drawn):
        photo.masks = []
        for i, (x1, y1, x2, y2) in enumerate(photo.boxes.tolist()):
            x, y = (x1 + x2) / 2, (y1 + y2) / 2
            diamond = torch.tensor([[x, y1], [x2, y], [x, y2], [x1, y]])
            triangle = torch.tensor([[x1, y1], [x1 + 5, y1], [x1, y1 + 5]])
            photo.masks.append([] if (n + i) % 2 else [diamond, triangle] if n == 0 else [diamond])
        if not any(photo.masks):
            photo.masks = None
    return drawn


def assert_same(found: Dataset, drawn: Dataset) -> None:
    assert found.names == drawn.names
    for one, other in zip(found, drawn, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
        assert (one.width, one.height, one.labelled, one.part) == (
            other.width, other.height, other.labelled, other.part,
        )  # fmt: skip
        assert one.boxes.tolist() == other.boxes.tolist()
        assert one.labels.tolist() == other.labels.tolist()
        assert one.ignore.tolist() == other.ignore.tolist()
        assert (one.masks is None) == (other.masks is None)
        for mine, others in zip(one.masks or [], other.masks or [], strict=True):
            assert [polygon.tolist() for polygon in mine] == [polygon.tolist() for polygon in others]


def test_drawn_photos_come_back_as_they_were(drawn: Dataset, tmp_path: Path) -> None:
    with_masks(drawn)
    drawn.photos[2].ignore[1] = True
    drawn.photos[5] = dataclasses.replace(drawn.photos[3], path=drawn.photos[5].path, width=96, height=72)
    drawn.photos[5].labelled = False
    coco.write(drawn, tmp_path / "out")
    dataset, findings = formats.read(tmp_path / "out")
    assert findings == []
    assert dataset.format == "coco"
    assert [kind for kind in formats.FORMATS if formats.FORMATS[kind].fits(scan(tmp_path / "out"))] == ["coco"]
    assert_same(dataset, drawn)
    again, findings = formats.read(tmp_path / "out" / "annotations.json")
    assert findings == []
    assert_same(again, drawn)


@pytest.mark.parametrize("parts", [("train", "valid", "test"), ("train", "", "valid"), ("valid",)])
def test_parts_come_back_as_they_were(parts: tuple[str, ...], drawn: Dataset, tmp_path: Path) -> None:
    """Also where photos of several parts have one name."""
    photos = []
    for part in parts:
        for number, photo in enumerate(drawn):
            path = tmp_path / "parts" / (part or "none") / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photo.path.read_bytes())
            photos.append(dataclasses.replace(photo, path=path, part=part))
    coco.write(Dataset(photos, drawn.names), tmp_path / "out")
    dataset, findings = formats.read(tmp_path / "out")
    assert findings == []
    assert_same(dataset, Dataset(sorted(photos, key=lambda p: (bool(p.part), p.part.replace("valid", "val"))), NAMES))


def test_pycocotools_reads_what_is_written(drawn: Dataset, tmp_path: Path) -> None:
    with_masks(drawn)
    drawn.photos[2].ignore[0] = True
    coco.write(drawn, tmp_path / "out")
    theirs = COCO(str(tmp_path / "out" / "annotations.json"))
    assert [category["name"] for category in theirs.loadCats(theirs.getCatIds())] == NAMES
    assert min(theirs.imgs) == min(theirs.anns) == min(theirs.cats) == 1
    by_name = {image["file_name"]: number for number, image in theirs.imgs.items()}
    for photo in drawn:
        annotations = theirs.loadAnns(theirs.getAnnIds(imgIds=[by_name[photo.path.name]]))
        corners = [[x, y, x + w, y + h] for x, y, w, h in (annotation["bbox"] for annotation in annotations)]
        torch.testing.assert_close(torch.tensor(corners).reshape(-1, 4), photo.boxes)
        assert [annotation["category_id"] - 1 for annotation in annotations] == photo.labels.tolist()
        assert [bool(annotation["iscrowd"]) for annotation in annotations] == photo.ignore.tolist()
        for i, annotation in enumerate(annotations):
            outlines = photo.masks[i] if photo.masks else []
            if outlines:
                pixels = theirs.annToMask(annotation).astype(bool)
                mine = inside(photo, i)
                assert (pixels & mine).sum() / (pixels | mine).sum() > 0.9
                assert annotation["area"] == pytest.approx(mine.sum(), rel=0.05)
            else:
                assert annotation["area"] == pytest.approx(float((photo.boxes[i, 2:] - photo.boxes[i, :2]).prod()))


def test_a_mask_of_pycocotools_comes_back_to_it(tmp_path: Path) -> None:
    """A round thing: packed, traced, written as an outline, and filled again."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    mask = ((x - 90) ** 2 / 3 + (y - 50) ** 2 < 35**2).astype(np.uint8)
    folder_with(tmp_path / "in", a_content(an_annotation(segmentation=packed(mask), bbox=None)))
    coco.write(formats.read(tmp_path / "in")[0], tmp_path / "out")
    theirs = COCO(str(tmp_path / "out" / "annotations.json"))
    found = theirs.annToMask(theirs.anns[1])
    assert (found & mask).sum() / (found | mask).sum() > 0.98


coordinate = st.floats(0, 1, width=32)


@settings(max_examples=30)
@example(width=16000, rows=[(0.70001, 0.0, 1.0, 1.0, "a")])
@given(
    width=st.sampled_from([100, 4000, 16000]),
    rows=st.lists(
        st.tuples(coordinate, coordinate, coordinate, coordinate, st.sampled_from(["a", 'b & "c"', "떡"])), max_size=4
    ),
)
def test_what_is_written_is_read_to_a_hundredth_of_a_pixel(
    width: int, rows: list[tuple[float, float, float, float, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also on a panorama, whose width has five digits; and of the edges that boxes touch, not a word."""
    folder, height, names = tmp_path_factory.mktemp("coco"), 40, ["a", 'b & "c"', "떡"]
    boxes = []
    for x, y, w, h, _ in rows:
        x1, y1 = x * (width - 3), y * (height - 3)
        boxes.append([x1, y1, x1 + 1 + w * (width - x1 - 1), y1 + 1 + h * (height - y1 - 1)])
    labels = torch.tensor([names.index(row[4]) for row in rows], dtype=torch.int64)
    Image.new("L", (width, height)).save(folder / "photo.png")
    photo = Photo(folder / "photo.png", width, height, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), labels)
    coco.write(Dataset([photo], names), folder / "out")
    dataset, findings = formats.read(folder / "out")
    assert findings == []
    torch.testing.assert_close(dataset.photos[0].boxes, photo.boxes, rtol=0, atol=0.01)
    assert [dataset.names[i] for i in dataset.photos[0].labels] == [row[4] for row in rows]


def test_nothing_can_be_written_and_read(tmp_path: Path) -> None:
    coco.write(Dataset([], NAMES), tmp_path / "out")
    dataset, findings = formats.read(tmp_path / "out")
    assert (len(dataset), dataset.names, findings) == (0, NAMES, [])
