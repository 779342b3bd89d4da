"""Photos found by their names; pictures, tables and regions written."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from pycocotools import mask as coco_mask

from foodbox.data.listing import is_written
from foodbox.detections import Detections
from foodbox.errors import FoodboxError, UsageError
from foodbox.inference.output import DetectionWriter, expect_elsewhere, find_all
from foodbox.records import Dataset, Photo
from tests.conftest import draw_photo

# -- Photos in ------------------------------------------------------------------------------------------------------


def names(photos: list[Photo]) -> list[str]:
    return [photo.path.name for photo in photos]


def test_a_single_photo(drawn: Dataset) -> None:
    photos, findings = find_all([drawn.photos[1].path])
    assert findings == []
    assert [(p.path, p.width, p.height) for p in photos] == [(drawn.photos[1].path, 64, 96)]


def test_a_photo_named_in_two_ways_is_one(drawn: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    path = drawn.photos[1].path
    monkeypatch.chdir(path.parent)
    photos, _ = find_all([path.name, path, f"./{path.name}"])
    assert [photo.path for photo in photos] == [Path(path.name)]


def test_a_folder_with_all_below_it_and_nothing_that_is_no_photo(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.png", ".hidden.png"):
        draw_photo(tmp_path / name, (10, 10), [])
    (tmp_path / "notes.txt").write_text("hello")
    photos, findings = find_all([tmp_path])
    assert names(photos) == ["c.png", "b.png"]
    assert findings == []


def test_patterns(tmp_path: Path) -> None:
    for name in ("july1.png", "july2.png", "june.png", "below/july3.png"):
        draw_photo(tmp_path / name, (10, 10), [])
    assert names(find_all([f"{tmp_path}/july*.png"])[0]) == ["july1.png", "july2.png"]
    assert names(find_all([f"{tmp_path}/**/july*.png"])[0]) == ["july3.png", "july1.png", "july2.png"]


def test_a_pattern_may_name_folders(tmp_path: Path) -> None:
    for name in ("july1/a.png", "july2/below/b.png", "june/c.png"):
        draw_photo(tmp_path / name, (10, 10), [])
    assert names(find_all([f"{tmp_path}/july*"])[0]) == ["a.png", "b.png"]
    (tmp_path / "empty1").mkdir()
    with pytest.raises(UsageError, match="no photo, folder or match"):
        find_all([f"{tmp_path}/empty*"])


def test_pictures_that_foodbox_wrote_match_no_pattern_but_their_own(drawn: Dataset, tmp_path: Path) -> None:
    draw_photo(tmp_path / "a.jpg", (10, 10), [])
    draw_photo(tmp_path / "found" / "photo0.jpg", (10, 10), [])
    DetectionWriter(tmp_path / "found", crop=False).finish([])
    assert names(find_all([f"{tmp_path}/**/*.jpg"])[0]) == ["a.jpg"]
    assert names(find_all([f"{tmp_path}/found/*.jpg"])[0]) == ["photo0.jpg"]


@pytest.mark.parametrize("place", ["", "crops"])
def test_photos_among_the_pictures_to_be_written_are_refused(place: str, tmp_path: Path) -> None:
    photo = draw_photo(tmp_path / "mine" / place / "lunch.jpg", (10, 10), [])
    with pytest.raises(UsageError, match=r"lunch\.jpg lies in the folder that pictures are written to.*--out"):
        expect_elsewhere([photo], tmp_path / "mine")
    expect_elsewhere([photo], tmp_path / "mine" / place / "found")
    expect_elsewhere([photo], tmp_path)


def test_a_name_with_brackets_is_a_name_before_it_is_a_pattern(tmp_path: Path) -> None:
    for name in ("a[1].png", "a1.png"):
        draw_photo(tmp_path / name, (10, 10), [])
    assert names(find_all([tmp_path / "a[1].png"])[0]) == ["a[1].png"]


def test_each_photo_comes_once_in_the_order_of_the_call(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        draw_photo(tmp_path / name, (10, 10), [])
    photos, _ = find_all([tmp_path / "c.png", tmp_path, f"{tmp_path}/a*.png"])
    assert names(photos) == ["c.png", "a.png", "b.png"]


def test_sizes_are_as_a_person_sees_the_photo(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    photo = find_all([tmp_path])[0][0]
    assert (photo.width, photo.height) == (20, 40)


def test_one_path_is_a_list_of_one(drawn: Dataset) -> None:
    path = drawn.photos[1].path
    assert names(find_all(path)[0]) == names(find_all(str(path))[0]) == names(find_all([path])[0]) == [path.name]


PICTURE = Image.new("RGB", (8, 8))


@pytest.mark.parametrize(
    "given",
    [PICTURE, [PICTURE], np.zeros((8, 8, 3), np.uint8), [np.zeros((8, 8, 3))], torch.zeros(3, 8, 8), None, [None], 5,
     [["a.jpg"]], b"a.jpg", "", [""]],
)  # fmt: skip
def test_pictures_and_other_things_are_no_paths(given: Any) -> None:
    with pytest.raises(UsageError, match=r"A photo is .*: expected a path; pictures and arrays are for Model\.detect"):
        find_all(given)


@pytest.mark.parametrize("given", ["nowhere.jpg", "nowhere/*.jpg", "nowhere"])
def test_nothing_at_a_path(given: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no photo, folder or match for .*nowhere"):
        find_all([tmp_path / given])


def test_a_folder_without_photos(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError, match="holds no photos"):
        find_all([tmp_path])


def test_what_is_no_photo_is_found_and_the_others_go_on(tmp_path: Path) -> None:
    draw_photo(tmp_path / "good.png", (10, 10), [])
    (tmp_path / "bad.jpg").write_text("hello")
    photos, findings = find_all([tmp_path])
    assert names(photos) == ["good.png"]
    assert [(f.photo, f.harm) for f in findings] == [(tmp_path / "bad.jpg", "error")]


# -- Pictures and tables out ----------------------------------------------------------------------------------------


def found_on(photo: Photo, labels: list[str] | None = None) -> Detections:
    """The photo's own boxes."""
    known = labels or ["rice", "soup/stew", "떡"]
    scores = torch.linspace(0.9, 0.5, len(photo.boxes))
    return Detections(photo.boxes, scores, photo.labels, known, photo.width, photo.height, photo.path)


def test_a_picture_for_each_photo_and_tables_for_all(drawn: Dataset, tmp_path: Path) -> None:
    found = [found_on(photo) for photo in drawn]
    writer = DetectionWriter(tmp_path / "new" / "out", crop=False)
    for one in found:
        writer.add(one)
    writer.finish(found)
    written = sorted(p.name for p in (tmp_path / "new" / "out").iterdir())
    assert written == ["detections.csv", "detections.json", *(f"photo{i}.jpg" for i in range(6))]
    for i, photo in enumerate(drawn):
        with Image.open(tmp_path / "new" / "out" / f"photo{i}.jpg") as image:
            assert image.size == (photo.width, photo.height)
            assert image.format == "JPEG"


def test_json_has_an_entry_for_each_photo(drawn: Dataset, tmp_path: Path) -> None:
    found = [found_on(photo) for photo in drawn]
    DetectionWriter(tmp_path / "out", crop=False).finish(found)
    text = (tmp_path / "out" / "detections.json").read_text(encoding="utf-8")
    entries = json.loads(text)
    assert entries == [one.to_dict() for one in found]
    assert entries[3]["detections"] == []
    assert "떡" in text


def test_outlines_stand_in_the_json_and_not_in_the_csv(drawn: Dataset, tmp_path: Path) -> None:
    """One that pycocotools reads: a full map's has the area of its box, but for the corners."""
    writer = DetectionWriter(tmp_path, crop=True)
    found = found_on(drawn.photos[0])
    writer.add(found)
    writer.finish([found])
    plain, regions = (tmp_path / "detections.csv").read_text(), len(list((tmp_path / "crops").iterdir()))
    found.masks = torch.ones(len(found), 28, 28)
    writer.finish([found])
    assert (tmp_path / "detections.csv").read_text() == plain
    assert regions == len(found)
    for row in json.loads((tmp_path / "detections.json").read_text())[0]["detections"]:
        x1, y1, x2, y2 = row["box"]
        lengths = coco_mask.merge(coco_mask.frPyObjects(row["segmentation"], found.height, found.width))
        assert coco_mask.area(lengths) == pytest.approx((x2 - x1) * (y2 - y1), rel=0.05)


def test_csv_has_a_row_for_each_detection(drawn: Dataset, tmp_path: Path) -> None:
    found = [found_on(photo, ["rice, fried", 'a "soup"', "떡"]) for photo in drawn]
    DetectionWriter(tmp_path / "out", crop=False).finish(found)
    with (tmp_path / "out" / "detections.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["path", "width", "height", "label", "score", "x1", "y1", "x2", "y2", "picture", "crop"]
    assert list(rows[0]) == columns
    assert len(rows) == 7
    assert rows[0] == {
        "path": str(drawn.photos[0].path),
        "width": "96",
        "height": "64",
        "label": "rice, fried",
        "score": "0.9",
        "x1": "8.0",
        "y1": "10.0",
        "x2": "40.0",
        "y2": "50.0",
        "picture": "",  # none was written
        "crop": "",
    }
    assert [row["label"] for row in rows[1:4]] == ['a "soup"', "rice, fried", "떡"]


def test_photos_of_the_same_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    """Also on file systems that do not tell capitals apart."""
    places = ("one/lunch.png", "two/lunch.png", "three/LUNCH.png", "four/lunch-2.png")
    photos = [draw_photo(tmp_path / place, (20, 10), []) for place in places]
    writer = DetectionWriter(tmp_path / "out", crop=False)
    for photo in photos:
        writer.add(found_on(photo))
    writer.finish([])
    written = [p.stem for p in (tmp_path / "out").glob("*.jpg")]
    assert len({name.casefold() for name in written}) == 4
    assert {"lunch", "lunch-2"} <= set(written)


def test_tables_say_which_picture_and_region_are_whose(tmp_path: Path) -> None:
    """Two photos of one name."""
    photos = [draw_photo(tmp_path / place, (40, 30), [(0, 5, 5, 20, 20)]) for place in ("one/a.png", "two/a.png")]
    found = [found_on(photo) for photo in photos]
    for crop in (True, False):
        writer = DetectionWriter(tmp_path / f"out{crop}", crop)
        for one in found:
            writer.add(one)
        writer.finish(found)
        entries = json.loads((tmp_path / f"out{crop}" / "detections.json").read_text("utf-8"))
        assert [(Path(e["path"]).parent.name, e["picture"]) for e in entries] == [("one", "a.jpg"), ("two", "a-2.jpg")]
        regions = ["crops/a_1_rice.jpg", "crops/a-2_1_rice.jpg"] if crop else [None, None]
        assert [entry["detections"][0].get("crop") for entry in entries] == regions
        with (tmp_path / f"out{crop}" / "detections.csv").open(encoding="utf-8", newline="") as file:
            rows = [(row["picture"], row["crop"] or None) for row in csv.DictReader(file)]
        assert rows == list(zip(["a.jpg", "a-2.jpg"], regions, strict=True))
        assert all((tmp_path / f"out{crop}" / name).is_file() for row in rows for name in row if name)


def test_what_is_of_an_earlier_call_stays_and_is_said(
    drawn: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for photos in (drawn.photos[:3], drawn.photos[:3], drawn.photos[:1]):
        writer = DetectionWriter(tmp_path, crop=True)
        for photo in photos:
            writer.add(found_on(photo, ["rice", "soup", "tea"]))
        assert capsys.readouterr().err == ""  # nor was anything said of the same photos' regions again
        writer.finish([])
    besides = "of an earlier call besides, which the tables do not name: choose another --out to have these alone.\n"
    assert capsys.readouterr().err == f"{tmp_path} holds 5 pictures {besides}"  # two photos and three regions
    assert len(list((tmp_path / "crops").iterdir())) == 4
    DetectionWriter(tmp_path, crop=False).finish([])
    assert capsys.readouterr().err == f"{tmp_path} holds 7 pictures {besides}"
    (tmp_path / "own").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "own" / "mine.jpg")
    DetectionWriter(tmp_path / "own", crop=False).finish([])
    assert capsys.readouterr().err == ""  # nor of pictures that are no call's


def test_regions_show_what_is_in_the_boxes(drawn: Dataset, tmp_path: Path) -> None:
    """Each region is the drawn rectangle, all of one colour, and its name says photo, place and class."""
    writer = DetectionWriter(tmp_path / "out", crop=True)
    for photo in drawn:
        writer.add(found_on(photo))
    writer.finish([])
    regions = sorted(p.name for p in (tmp_path / "out" / "crops").iterdir())
    assert regions == [
        "photo0_1_rice.jpg",
        "photo1_1_soup_stew.jpg",
        "photo2_1_rice.jpg",
        "photo2_2_떡.jpg",
        "photo4_1_soup_stew.jpg",
        "photo4_2_soup_stew.jpg",
        "photo5_1_떡.jpg",
    ]
    with Image.open(tmp_path / "out" / "crops" / "photo2_2_떡.jpg") as region:
        assert region.size == (40, 40)
        np.testing.assert_allclose(np.asarray(region).reshape(-1, 3), [[0x20, 0x40, 0xD0]] * 1600, atol=12)


def test_a_sliver_is_still_a_region(tmp_path: Path) -> None:
    photo = draw_photo(tmp_path / "a.png", (20, 10), [])
    sliver = Detections(
        torch.tensor([[5.1, 2.0, 5.3, 8.0]]),
        torch.ones(1),
        torch.zeros(1, dtype=torch.int64),
        ["x"],
        20,
        10,
        photo.path,
    )
    writer = DetectionWriter(tmp_path / "out", crop=True)
    writer.add(sliver)
    writer.finish([sliver])
    with Image.open(tmp_path / "out" / "crops" / "a_1_x.jpg") as region:
        assert region.size == (1, 6)


def test_names_and_sides_that_are_too_long_are_cut(tmp_path: Path) -> None:
    photo = draw_photo(tmp_path / f"{'밥' * 78}.png", (66_000, 2), [(0, 0, 0, 40, 2)])
    writer = DetectionWriter(tmp_path / "out", crop=True)
    found = found_on(photo, ["떡" * 80])
    writer.add(found)
    writer.finish([found])
    (picture,) = (tmp_path / "out").glob("*.jpg")
    (region,) = (tmp_path / "out" / "crops").iterdir()
    assert picture.stem == "밥" * 40
    assert region.name.startswith("밥" * 40 + "_1_떡")
    with Image.open(picture) as image:
        assert image.width < 65_536
    assert json.loads((tmp_path / "out" / "detections.json").read_text("utf-8"))[0]["path"] == str(photo.path)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode there")
def test_a_photo_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    photo = draw_photo(tmp_path / os.fsdecode("김치".encode("cp949") + b".png"), (40, 30), [(0, 5, 5, 20, 20)])
    writer = DetectionWriter(tmp_path / "out", crop=False)
    found = found_on(photo)
    writer.add(found)
    writer.finish([found])
    assert (tmp_path / "out" / "김치.jpg").is_file()
    assert json.loads((tmp_path / "out" / "detections.json").read_text("utf-8"))[0]["path"] == str(photo.path)
    assert os.fsencode(photo.path) in (tmp_path / "out" / "detections.csv").read_bytes()


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(FoodboxError, match=r"Cannot write .*taken"):
        DetectionWriter(tmp_path / "taken" / "out", crop=False)


def test_a_picture_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """At the latest at the end, though pictures are written in a thread."""
    photo = draw_photo(tmp_path / "photo.png", (40, 30), [])
    writer = DetectionWriter(tmp_path / "out", crop=False)
    (tmp_path / "out" / "photo.jpg").mkdir()  # something of its name is in the way
    other = draw_photo(tmp_path / "other.png", (40, 30), [])
    found = [found_on(photo), found_on(other)]
    assert is_written(tmp_path / "out")  # from the beginning: its pictures are no photos
    for one in found:
        writer.add(one)
    with pytest.raises(FoodboxError, match="photo"):
        writer.finish(found)
    # The tables and the other pictures are there all the same.
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 2
    assert (tmp_path / "out" / "other.jpg").is_file()
    DetectionWriter(tmp_path / "out", crop=False)  # nor does beginning again take them away
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 2


def test_a_flat_sliver_is_a_region_too(tmp_path: Path) -> None:
    photo = draw_photo(tmp_path / "in" / "a.png", (96, 64), [])
    box = torch.tensor([[10.0, 20.1, 40, 20.3]])
    found = Detections(box, torch.tensor([0.9]), torch.tensor([0]), ["x"], 96, 64, photo.path)
    writer = DetectionWriter(tmp_path / "out", crop=True)
    writer.add(found)
    writer.finish([found])
    with Image.open(tmp_path / "out" / "crops" / "a_1_x.jpg") as region:
        assert region.size == (30, 1)
