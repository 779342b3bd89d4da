"""The data doctor: all findings at once, what each threshold is, and what is left when bad photos are taken out."""

from __future__ import annotations

import dataclasses
import re
import shutil
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from foodbox.data import formats
from foodbox.data.check import (
    ACROSS,
    RARE,
    SAME,
    SHOWN,
    SMALL_PHOTO,
    TINY,
    WHOLE,
    by_harm,
    examine,
    healthy,
    look_alikes,
    look_whole,
    merged_names,
    sound,
)
from foodbox.data.mend import mend
from foodbox.errors import FoodboxError
from foodbox.findings import LEFT_OUT, REMOVED, Finding, Source
from foodbox.records import Dataset, Photo, no_boxes, no_labels


def errors_of(*paths: Path) -> list[Finding]:
    return [Finding(Source(path, 3), "the box has no area", "Draw it anew", photo=path) for path in paths]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


# -- Photos read to their end -----------------------------------------------------------------------------------------


def test_broken_photos_are_found_by_opening_all_of_them(drawn: Dataset) -> None:
    paths = [photo.path for photo in drawn]
    cut(paths[1])
    paths[4].unlink()
    found = look_whole(drawn.photos)
    assert [f.photo for f in found] == [paths[1], paths[4]]
    assert {(f.harm, f.kind) for f in found} == {("error", "broken photo")}
    assert [photo.hash is None for photo in drawn] == [False, True, False, False, True, False]


def test_whole_photos_have_no_findings_and_get_their_hash(drawn: Dataset) -> None:
    assert all(photo.hash is None for photo in drawn)
    assert look_whole(drawn.photos) == []
    assert all(isinstance(photo.hash, int) for photo in drawn)
    assert look_whole([]) == []


def test_copies_have_the_same_hash(drawn: Dataset, tmp_path: Path) -> None:
    path = drawn.photos[0].path
    shutil.copy(path, tmp_path / "copy.png")
    one, other = Photo(path, 96, 64), Photo(tmp_path / "copy.png", 96, 64)
    look_whole([one, other])
    assert one.hash == other.hash
    assert one.hash is not None


# -- What is trained on -----------------------------------------------------------------------------------------------


def test_nothing_wrong_leaves_everything(drawn: Dataset) -> None:
    left, words = healthy(drawn, [], skip_bad=False)
    assert left.photos == drawn.photos
    assert left.names == drawn.names
    assert words == []


def test_errors_stop_with_all_of_them_and_the_way_on(drawn: Dataset) -> None:
    findings = errors_of(*(photo.path for photo in drawn.photos[:2]))
    with pytest.raises(FoodboxError) as caught:
        healthy(drawn, findings, skip_bad=False)
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 faults in the photos or their labels:"
    assert lines[1:3] == [f"  {finding}" for finding in findings]
    assert "foodbox check PHOTOS --fix" in lines[3]
    assert "--skip-bad" in lines[3]


def test_many_errors_are_counted_behind_the_first(drawn: Dataset) -> None:
    findings = errors_of(*(Path(f"{i}.jpg") for i in range(SHOWN + 1007)))
    with pytest.raises(FoodboxError, match=r"^1,027 faults in") as caught:
        healthy(drawn, findings, skip_bad=False)
    assert str(caught.value).count("no area") == SHOWN
    assert "... and 1,007 more" in str(caught.value)


def test_bad_photos_are_left_out_and_said(drawn: Dataset) -> None:
    left, words = healthy(drawn, errors_of(drawn.photos[0].path), skip_bad=True)
    assert left.photos == drawn.photos[1:]
    assert len(words) == 1
    assert words[0].startswith("Left out because of 1 fault:")
    assert str(drawn.photos[0].path) in words[0]


def test_unlabelled_photos_are_left_out_and_counted(drawn: Dataset) -> None:
    drawn.photos[3].labelled = False
    left, words = healthy(drawn, [], skip_bad=False)
    assert left.photos == drawn.photos[:3] + drawn.photos[4:]
    about = "without a label file; an empty one says that nothing is shown."
    assert words == [f"Left out 1 photo {about}"]
    drawn.photos[2].labelled = False
    assert healthy(drawn, [], skip_bad=False)[1] == [f"Left out 2 photos {about}"]


def test_a_labelled_photo_without_boxes_stays(drawn: Dataset) -> None:
    assert drawn.photos[3] in healthy(drawn, [], skip_bad=False)[0].photos


def test_notes_and_warnings_are_no_faults_and_are_counted_by_kind(drawn: Dataset) -> None:
    path = drawn.photos[0].path
    notes = [Finding(Source(path), "a box was cut off", harm="note", photo=path, kind="box cut off")] * 2
    warning = Finding(Source(path), "the box is 1 x 1 pixels", harm="warning", photo=path, kind="tiny box")
    for keep in (healthy, sound):
        left, words = keep(drawn, [*notes, warning], skip_bad=False)
        assert left.photos == drawn.photos
        assert words == ["Also found: box cut off (2), tiny box (1). `foodbox check` says where."]


def test_sound_keeps_unlabelled_photos_and_needs_no_box(drawn: Dataset) -> None:
    for photo in drawn:
        photo.labelled = False
    kept, words = sound(drawn, [], skip_bad=False)
    assert (kept.photos, words) == (drawn.photos, [])
    left, words = sound(drawn, errors_of(drawn.photos[0].path), skip_bad=True)
    assert left.photos == drawn.photos[1:]
    assert len(words) == 1
    with pytest.raises(FoodboxError, match="1 fault in the photos"):
        sound(drawn, errors_of(drawn.photos[0].path), skip_bad=False)


def test_no_box_left_is_an_error_that_counts_each_photo_once(drawn: Dataset) -> None:
    """Photos found broken by opening them are still among the dataset's."""
    findings = errors_of(*(photo.path for photo in drawn if len(photo.boxes)))
    with pytest.raises(FoodboxError, match=r"No photo with a box is left of 6: 5 faults"):
        healthy(drawn, findings, skip_bad=True)


def test_no_labels_at_all_is_an_error(drawn: Dataset) -> None:
    for photo in drawn:
        photo.labelled = False
    with pytest.raises(FoodboxError, match=r"No photo with a box is left of 6; label some photos first"):
        healthy(drawn, [], skip_bad=False)


def test_a_folder_with_faults_of_every_kind(voc_folder: Path) -> None:
    """A broken photo, a missing one and a cut label, read and checked as a run does: three photos are left."""
    annotations, images = voc_folder / "annotations", voc_folder / "images"
    cut(images / "photo0.png")
    (images / "photo1.png").unlink()
    (annotations / "photo2.xml").write_text((annotations / "photo2.xml").read_text()[:-30])
    dataset, findings = formats.read(voc_folder)
    findings += look_whole(dataset.photos)
    left, _ = healthy(dataset, findings, skip_bad=True)
    assert [(Path(f.source.path).name, f.kind) for f in findings] == [
        ("photo2.xml", "unreadable label"), ("photo1.xml", "label without photo"), ("photo0.png", "broken photo")
    ]  # fmt: skip
    assert [photo.path.name for photo in left] == ["photo3.png", "photo4.png", "photo5.png"]


# -- One photo and its boxes ------------------------------------------------------------------------------------------


def photo_with(*boxes: tuple[float, ...], labels: list[int] | None = None, size: tuple[int, int] = (100, 200)) -> Photo:
    """A photo of 100 x 200 whose boxes stand in lines 1, 2, ... of its label file."""
    return Photo(
        Path("a.jpg"), *size, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels if labels is not None else [0] * len(boxes), dtype=torch.int64),
        sources=[Source("a.xml", line + 1) for line in range(len(boxes))],
    )  # fmt: skip


FINE = {"rare class", "class without box"}
"""Kinds that a handful of boxes cannot avoid."""


def found_on(*photos: Photo) -> list[tuple[str, int | None]]:
    """(kind, which box) of what is said of photos and boxes, not of classes."""
    names = ["rice", "soup", "kimchi"]
    return [(f.kind, f.box) for f in examine(Dataset(list(photos), names), []) if f.kind not in FINE]


@pytest.mark.parametrize(
    ("box", "kinds"),
    [
        ((10, 10, 13, 13), []),
        ((10, 10, 12.99, 50), ["tiny box"]),
        ((10, 10, 50, 12.99), ["tiny box"]),
        ((0, 0, 99, 198), ["box equal to the photo"]),
        ((1, 2, 100, 200), ["box equal to the photo"]),
        ((0, 0, 98.9, 200), []),
        ((0, 0, 100, 197.9), []),
        ((0, 0, 100, 200), ["box equal to the photo"]),
    ],
)
def test_tiny_boxes_and_those_of_the_whole_photo(box: tuple[float, ...], kinds: list[str]) -> None:
    """Just 3 pixels are enough; 99 in a hundred of both sides are the whole."""
    assert (TINY, WHOLE) == (3.0, 0.99)
    assert found_on(photo_with(box)) == [(kind, 0) for kind in kinds]


@pytest.mark.parametrize(("height", "away"), [(50, False), (49, True)])
def test_a_box_away_from_its_outline(height: float, away: bool) -> None:
    """Two pieces within a box of 100 x 100: of the first piece alone it would be away in any case."""
    photo = photo_with((0, 0, 100, 100), (120, 120, 180, 180), size=(200, 200))
    pieces = [[[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]], [[90.0, 0.0], [100.0, float(height)], [90.0, float(height)]]]
    photo.masks = [[torch.tensor(piece) for piece in pieces], []]
    assert found_on(photo) == ([("box away from its outline", 0)] if away else [])


def test_findings_name_the_right_box_of_the_right_photo() -> None:
    """Boxes of all photos are looked at together."""
    one = photo_with((10, 10, 50, 50), (60, 60, 62, 90))
    other = photo_with((0, 0, 100, 200), (20, 20, 60, 60), (30, 100, 90, 101), size=(100, 200))
    one.path, other.path = Path("one.jpg"), Path("other.jpg")
    found = examine(Dataset([one, photo_with(), other], ["rice"]), [])
    assert {(f.photo, f.box, f.source.line, f.kind) for f in found if f.box is not None} == {
        (one.path, 1, 2, "tiny box"),
        (other.path, 0, 1, "box equal to the photo"),
        (other.path, 2, 3, "tiny box"),
    }


@pytest.mark.parametrize(("height", "twice"), [(95, True), (94.9, False)])
def test_an_iou_of_95_hundredths_is_the_same_box(height: float, twice: bool) -> None:
    """A box 100 high and one of 95 within it: IoU 95 / 100."""
    assert SAME == 0.95
    found = found_on(photo_with((0, 0, 50, 100), (0, 0, 50, height)))
    assert found == ([("box drawn twice", 1)] if twice else [])


def test_three_copies_of_a_box_leave_one() -> None:
    box = (10, 10, 60, 110)
    assert found_on(photo_with(box, box, box)) == [("box drawn twice", 1), ("box drawn twice", 2)]


def test_a_crowd_or_a_difficult_box_is_no_second_drawing() -> None:
    """Else mending might remove the one that counts."""
    box = (10, 10, 60, 110)
    for ignored in ((True, False), (False, True)):
        photo = dataclasses.replace(photo_with(box, box), ignore=torch.tensor(ignored))
        assert found_on(photo) == []
    photo = dataclasses.replace(photo_with(box, box, box), ignore=torch.tensor([True, False, False]))
    assert found_on(photo) == [("box drawn twice", 2)]
    assert found_on(dataclasses.replace(photo_with(box, box, labels=[0, 1]), ignore=torch.tensor([True, False]))) == []


def test_a_photo_of_slips_alone_is_left_out() -> None:
    """Without a box, it would teach what they were meant for as background."""
    slip, good = (10, 10, 11, 11), (20, 20, 60, 60)
    for boxes, mends in (([slip], [LEFT_OUT]), ([slip, slip], [LEFT_OUT] * 2), ([slip, good], [REMOVED])):
        dataset = Dataset([photo_with(*boxes)], ["rice"])
        found = [f for f in examine(dataset, []) if f.kind == "tiny box"]
        assert [f.mend for f in found] == mends
        assert len(mend(dataset, found)) == (mends == [REMOVED])


def test_two_boxes_of_a_file_without_lines_are_told_by_their_class() -> None:
    photo = photo_with((10, 10, 60, 110), (10, 10, 60, 110))
    photo.sources = [Source("all.json")] * 2
    (found,) = [f for f in examine(Dataset([photo], ["rice"]), []) if f.kind == "box drawn twice"]
    assert str(found) == "all.json (a.jpg): another box of 'rice' stands here once more. Remove one of them."
    photo.labels = torch.tensor([0, 1])
    (found,) = [f for f in examine(Dataset([photo], ["rice", "soup"]), []) if f.kind == "one box, two classes"]
    assert found.what == "the box is called 'soup', and another box here 'rice'"


def test_of_a_box_drawn_twice_the_one_with_an_outline_stays() -> None:
    box, outline = (10, 10, 60, 110), [torch.tensor([[10.0, 10.0], [60.0, 10.0], [60.0, 110.0]])]
    for masks, gone in (([[], outline], 0), ([outline, []], 1), ([outline, outline], 1), ([[], []], 1)):
        photo = dataclasses.replace(photo_with(box, box), masks=masks)
        assert found_on(photo) == [("box drawn twice", gone)]


def test_a_row_of_boxes_each_like_the_next_loses_every_second() -> None:
    """0 is like 1 and 1 like 2, but 0 not like 2: without 1, both may stay."""
    row = [(0, 0, 50, 100), (0, 0, 50, 96), (0, 0, 50, 92)]
    assert found_on(photo_with(*row)) == [("box drawn twice", 1)]


def test_boxes_of_other_classes_on_one_place() -> None:
    """Copies within a class come first: rice, soup and soup are soup twice, and rice or soup."""
    box = (10, 10, 60, 110)
    photo = photo_with(box, box, box, labels=[0, 1, 1])
    assert found_on(photo) == [("box drawn twice", 2), ("one box, two classes", 1)]
    kinds = {f.kind: f for f in examine(Dataset([photo], ["rice", "soup"]), [])}
    assert kinds["one box, two classes"].what == "the box is called 'soup', and the box at a.xml:1 'rice'"
    assert kinds["one box, two classes"].mend == ""
    assert kinds["box drawn twice"].what == "the box at a.xml:2 stands here once more"
    assert str(kinds["box drawn twice"].source) == "a.xml:3"


def test_boxes_that_nobody_knows_the_source_of(drawn: Dataset) -> None:
    """Photos that no format has read."""
    photo = drawn.photos[0]
    photo.boxes = photo.boxes.repeat(2, 1)
    photo.labels = photo.labels.repeat(2)
    found = [f for f in examine(drawn, []) if f.kind == "box drawn twice"]
    assert [(f.source, f.box, f.what) for f in found] == [(Source(photo.path), 1, "box 1 stands here once more")]


@pytest.mark.parametrize(("size", "tiny"), [((31, 31), True), ((32, 5), False), ((5, 32), False)])
def test_tiny_photos(size: tuple[int, int], tiny: bool) -> None:
    assert SMALL_PHOTO == 32
    assert (("tiny photo", None) in found_on(photo_with(size=size))) == tiny


def test_photos_without_boxes_and_without_labels() -> None:
    empty, unlabelled = photo_with(), photo_with()
    unlabelled.labelled = False
    assert found_on(empty) == [("photo without box", None)]
    assert found_on(unlabelled) == [("photo without label", None)]
    # One whose boxes could not be read is not said to show nothing.
    errors = errors_of(empty.path)
    assert [f.kind for f in examine(Dataset([empty], []), errors)] == []


@pytest.mark.parametrize(
    ("name", "kind", "ending"),
    [
        ("a.jpg", "PNG", ".png"),
        ("a.PNG", "JPEG", ".jpg"),
        ("a.jpeg", "JPEG", None),
        ("a.JPG", "MPO", None),
        ("a.jpg", "", None),
        ("a.tif", "TIFF", None),
        ("a.jpg", "TIFF", ".tif"),
    ],
)
def test_endings(name: str, kind: str, ending: str | None) -> None:
    photo = photo_with((10, 10, 50, 50))
    photo.path, photo.kind = Path(name), kind
    found = [f for f in examine(Dataset([photo], ["rice"]), []) if f.kind == "wrong ending"]
    assert [f.todo for f in found] == ([f"Name it a{ending}"] if ending else [])


def test_nothing_at_all() -> None:
    assert examine(Dataset([], []), []) == []
    assert [f.kind for f in examine(Dataset([], ["rice"]), [])] == ["class without box"]


# -- Classes ----------------------------------------------------------------------------------------------------------

KIMCHI = "\uae40\uce58"
"""Two Korean syllables, each one letter (NFC)."""


@pytest.mark.parametrize(
    ("names", "counts", "better"),
    [
        (["rice", "Rice"], [5, 2], ["rice", "rice"]),
        (["rice", "Rice"], [2, 5], ["Rice", "Rice"]),
        (["rice", "RICE"], [3, 3], ["rice", "rice"]),
        (["fried rice", "fried_rice", "Fried-Rice", "friedrice"], [1, 9, 1, 1], ["fried_rice"] * 4),
        ([KIMCHI, unicodedata.normalize("NFD", KIMCHI)], [2, 1], [KIMCHI] * 2),
        (["caf\u00e9", "cafe\u0301"], [1, 1], ["caf\u00e9"] * 2),
        (["cafe", "caf\u00e9"], [1, 1], ["cafe", "caf\u00e9"]),
        (["\uff32\uff49\uff43\uff45", "rice"], [1, 4], ["rice", "rice"]),  # letters as wide as Korean ones
        (["stra\u00dfe", "STRASSE"], [1, 2], ["STRASSE"] * 2),
        (["rice", "ricecake"], [1, 1], ["rice", "ricecake"]),
        (["1-2", "12", "1 2", "1_2"], [1, 9, 2, 1], ["1 2", "12", "1 2", "1 2"]),
        (["set 1", "set1", "SET-1"], [1, 2, 1], ["set1"] * 3),
        (["", " "], [1, 0], ["", ""]),
        ([], [], []),
    ],
)
def test_names_that_differ_by_spelling_only(names: list[str], counts: list[int], better: list[str]) -> None:
    assert merged_names(names, counts) == better


@given(st.lists(st.text(max_size=6), max_size=8, unique=True), st.data())
def test_a_merged_name_is_one_of_the_names_and_stays(names: list[str], data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, 9), min_size=len(names), max_size=len(names)))
    better = merged_names(names, counts)
    assert set(better) <= set(names)
    assert all(better[names.index(name)] == name for name in better)
    assert merged_names(better, counts) == better


def classes_of(counts: dict[str, int]) -> Dataset:
    """As many boxes of each class."""
    labels = [label for label, count in enumerate(counts.values()) for _ in range(count)]
    boxes = [(5.0, i + 0.0, 50.0, i + 4.0) for i in range(len(labels))]
    return Dataset([photo_with(*boxes, labels=labels)], list(counts))


def class_findings(counts: dict[str, int]) -> list[tuple[str, str]]:
    """(kind, the class's name)."""
    kinds = ("class name twice", "class without box", "rare class")
    found = examine(classes_of(counts), [])
    return [(f.kind, f.what.split("'")[1]) for f in found if f.kind in kinds]


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ({"rice": 3, "soup": 3}, []),
        ({"rice": 3, "soup": 2}, [("rare class", "soup")]),
        ({"rice": 150, "soup": 3}, [("rare class", "soup")]),
        ({"rice": 149, "soup": 3}, []),
        ({"rice": 200, "soup": 4, "cake": 5}, [("rare class", "soup")]),
        ({"rice": 3, "soup": 0}, [("class without box", "soup")]),
        ({"rice": 2, "Rice": 1}, [("class name twice", "Rice")]),  # three together: not rare
        ({"rice": 1, "Rice": 1}, [("rare class", "rice"), ("class name twice", "Rice")]),
        ({"rice": 3, "Rice": 0}, [("class name twice", "Rice")]),
        ({"fried rice": 3, "fried-rice": 3}, [("class name twice", "fried-rice")]),
        ({"A": 3, "A-": 3, "A+": 3, "1": 3, "-1": 3, "-": 3, "_": 3}, []),
    ],
)
def test_rare_classes(counts: dict[str, int], found: list[tuple[str, str]]) -> None:
    """Fewer than three boxes, or fifty times fewer than the most frequent class has."""
    assert RARE == 50
    assert class_findings(counts) == found


def test_a_class_is_found_where_its_first_box_stands() -> None:
    dataset = classes_of({"rice": 4, "soup": 1, "cake": 0})
    found = {f.what.split("'")[1]: f.source for f in examine(dataset, [])}
    assert found == {"soup": Source("a.xml", 5), "cake": Source(Path())}


def held_findings(
    trained: list[str], held: list[str], folder: list[str] | None = None, unnamed: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """(what is said, what to do) of classes that are not trained on, of parts of one dataset and of a second folder."""
    names = sorted({*trained, *held, *unnamed})
    photos = [photo_with((5, 5, 50, 50), labels=[names.index(name)]) for name in [*trained, *held, *unnamed]]
    parts = ["train"] * len(trained) + ["valid"] * len(held) + [""] * len(unnamed)
    for photo, part in zip(photos, parts, strict=True):
        photo.part = part
    valid = None
    if folder is not None:
        valid = Dataset([photo_with((5, 5, 50, 50), labels=[i]) for i in range(len(folder))], folder)
    found = examine(Dataset(photos, names), [], valid)
    return [(f.what, f.todo) for f in found if f.kind == "class not trained on"]


def test_classes_that_are_only_validated_on() -> None:
    said = "the class 'soup' is validated or tested on, and no photo to train on shows it"
    spell = "Check its spelling, or label some photos of it"
    assert held_findings(["rice"], ["rice"], ["rice"]) == []
    assert held_findings(["rice"], ["rice", "soup"]) == [(said, spell)]
    assert held_findings(["rice"], [], ["rice", "soup"]) == [(said, spell)]
    assert held_findings(["rice", "soup"], ["rice"], ["rice", "soup"]) == []
    assert held_findings([], ["soup"], ["soup"]) == []
    assert held_findings([], ["rice"], ["soup"]) == [(said, spell)]  # photos of "valid" alone are trained on


def test_classes_that_only_photos_of_no_part_show() -> None:
    """These are trained on, but not beside a part "train"."""
    assert held_findings([], ["soup"], unnamed=["soup"]) == []
    assert len(held_findings(["rice"], ["soup"], unnamed=["soup"])) == 1


def test_classes_that_are_validated_on_under_another_spelling() -> None:
    """Within one dataset they are said, and merged, as one class with two names."""
    (found,) = held_findings(["Rice"], [], ["rice"])
    assert found[0].endswith("no photo to train on shows it: there it is 'Rice'")
    assert found[1] == "Give both one name"
    assert held_findings(["Rice"], ["rice"]) == []


# -- Photos that look alike -------------------------------------------------------------------------------------------


def photos_like(folder: Path, **hashes: int) -> list[Photo]:
    """A file of its own for each, and the hash that is given; the name's first letters say the part."""
    folder.mkdir(exist_ok=True)
    result = []
    for name, number in hashes.items():
        (folder / name).write_text(name)
        part = next((p for p in ("train", "valid", "test") if name.startswith(p)), "")
        result.append(Photo(folder / name, 10, 10, part=part, hash=number))
    return result


def alike(photos: list[Photo], valid: list[Photo] | None = None) -> list[tuple[str, str, str]]:
    """(kind, photo, the photo that it is like)."""
    found = []
    for f in look_alikes(Dataset(photos, []), None if valid is None else Dataset(valid, [])):
        assert f.source.path == f.photo
        other = re.search(r"/[^\s,]+", f.what)
        assert other is not None
        found.append((f.kind, Path(f.source.path).name, Path(other[0]).name))
    return found


FAR = 0x0F0F_0F0F_0F0F_0F0F
"""32 bits from 0."""


def test_look_alikes_within_a_folder(tmp_path: Path) -> None:
    """Eight bits are near, nine are not."""
    assert alike(photos_like(tmp_path, a=0, b=0xFF)) == [("look-alike", "b", "a")]
    assert alike(photos_like(tmp_path, a=0, b=0x1FF)) == []
    assert alike(photos_like(tmp_path, a=0, b=FAR, c=-1)) == []
    assert alike([]) == []
    assert [f.harm for f in look_alikes(Dataset(photos_like(tmp_path, a=0, b=1), []), None)] == ["note"]


def test_photos_without_a_hash_are_like_none(tmp_path: Path) -> None:
    photos = photos_like(tmp_path, a=0, b=0, c=0)
    photos[1].hash = None
    assert alike(photos) == [("look-alike", "c", "a")]


def test_a_chain_of_look_alikes_is_one_group(tmp_path: Path) -> None:
    """Frames of one film: a is near b and b near c, but a is 16 bits from c. Each is told of what it is near."""
    assert alike(photos_like(tmp_path, a=0, b=0xFF, c=0xFFFF)) == [("look-alike", "b", "a"), ("look-alike", "c", "b")]


def test_a_photo_that_is_near_none_to_validate_on_stays_whatever_others_of_its_chain_are(tmp_path: Path) -> None:
    """Validated on are c and d; a is 16 bits from c and stays, b is 8 bits from c, and e nearer to d than to c."""
    photos = photos_like(tmp_path, a=0, b=0xFF, e=0xFFFFF)
    assert alike(photos, photos_like(tmp_path / "v", c=0xFFFF, d=0x1FFFFF)) == [(ACROSS, "b", "c"), (ACROSS, "e", "d")]
    # Of those that stay, copies are told as ever.
    again = photos_like(tmp_path, f=0)
    shutil.copy(photos[0].path, again[0].path)
    assert ("photo twice", "f", "a") in alike([*photos, *again], photos_like(tmp_path / "v", c=0xFFFF))


def test_all_64_bits_of_a_hash_count(tmp_path: Path) -> None:
    """The last one is the sign."""
    photos = photos_like(tmp_path, a=-1, b=0)
    assert alike(photos, photos_like(tmp_path / "v", c=-2, d=1 << 62)) == [(ACROSS, "a", "c"), (ACROSS, "b", "d")]


def test_equal_hashes_three_times(tmp_path: Path) -> None:
    photos = photos_like(tmp_path, a=7, b=7, c=7)
    assert alike(photos) == [("look-alike", "b", "a"), ("look-alike", "c", "a")]
    shutil.copy(photos[0].path, photos[1].path)
    shutil.copy(photos[0].path, photos[2].path)
    assert alike(photos) == [("photo twice", "b", "a"), ("photo twice", "c", "a")]


def test_a_copy_is_found_behind_a_look_alike(tmp_path: Path) -> None:
    """The first only looks like the others, which are one file."""
    photos = photos_like(tmp_path, a=0, b=1, c=1)
    shutil.copy(photos[1].path, photos[2].path)
    assert alike(photos) == [("look-alike", "b", "a"), ("photo twice", "c", "b")]


def test_of_two_copies_the_labelled_one_stays(tmp_path: Path) -> None:
    photos = photos_like(tmp_path, a=0, b=0)
    shutil.copy(photos[0].path, photos[1].path)
    photos[0].labelled = False
    assert alike(photos) == [("photo twice", "a", "b")]


def test_of_two_labelled_copies_the_one_with_boxes_stays_and_that_they_differ_is_said(tmp_path: Path) -> None:
    photos = photos_like(tmp_path, a=0, b=0)
    shutil.copy(photos[0].path, photos[1].path)
    photos[0] = dataclasses.replace(photos[0], boxes=no_boxes(), labels=no_labels())
    photos[1] = dataclasses.replace(photos[1], boxes=torch.ones(1, 4), labels=torch.zeros(1, dtype=torch.int64))
    assert alike(photos) == [("photo twice", "a", "b")]
    (finding,) = look_alikes(Dataset(photos, ["x"]), None)
    assert finding.what.endswith(", with other boxes")
    photos[0] = dataclasses.replace(photos[1], path=photos[0].path, labels=torch.ones(1, dtype=torch.int64))
    (finding,) = look_alikes(Dataset(photos, ["x", "y"]), None)
    assert finding.what.endswith(", with other boxes")
    photos[0] = dataclasses.replace(photos[1], path=photos[0].path)
    (finding,) = look_alikes(Dataset(photos, ["x"]), None)
    assert "other boxes" not in finding.what


def test_a_photo_that_is_left_out_takes_no_copy_with_it(tmp_path: Path) -> None:
    photos = photos_like(tmp_path, a=0, b=0)
    shutil.copy(photos[0].path, photos[1].path)
    fault = Finding(Source(photos[0].path), "bad", photo=photos[0].path, mend=LEFT_OUT)
    assert [f for f in examine(Dataset(photos, []), [fault]) if f.kind == "photo twice"] == []
    assert len([f for f in examine(Dataset(photos, []), []) if f.kind == "photo twice"]) == 1


def test_copies_among_photos_to_validate_and_test_on_are_said_and_stay(tmp_path: Path) -> None:
    photos = photos_like(tmp_path, valid1=0, valid2=0, test1=0)
    for photo in photos[1:]:
        shutil.copy(photos[0].path, photo.path)
    found = list(look_alikes(Dataset(photos, []), None))
    assert [(f.kind, f.harm, f.mend, f.photo) for f in found] == [
        ("photo twice", "warning", "", photo.path) for photo in photos[1:]
    ]


def test_one_box_under_two_spellings_is_drawn_twice() -> None:
    photo = dataclasses.replace(photo_with([10, 10, 40, 40], [10, 10, 40, 40]), labels=torch.tensor([0, 1]))
    kinds = {f.kind: f.mend for f in examine(Dataset([photo], ["rice", "Rice"]), [])}
    assert kinds["box drawn twice"] == REMOVED
    assert "one box, two classes" not in kinds


def test_copies_whose_file_went_away_are_look_alikes(tmp_path: Path) -> None:
    photos = photos_like(tmp_path, a=0, b=0)
    photos[0].path.unlink()
    assert alike(photos) == [("look-alike", "b", "a")]


def test_parts_of_one_dataset_are_held_against_each_other(tmp_path: Path) -> None:
    """Photos to train on are to be left out, those to validate and test on never; these are not compared."""
    photos = photos_like(tmp_path, train1=0, train2=FAR, valid1=1, test1=FAR + 1, valid2=2)
    assert alike(photos) == [(ACROSS, "train1", "valid1"), (ACROSS, "train2", "test1")]
    assert alike(photos_like(tmp_path, valid1=0, test1=0, valid2=0)) == []
    # A photo of no part is trained on.
    assert alike(photos_like(tmp_path, loose=0, valid1=0)) == [(ACROSS, "loose", "valid1")]
    # With a look-alike to validate on, those among the photos to train on are not told besides.
    assert alike(photos_like(tmp_path, train1=0, train2=0, valid1=0)) == [
        (ACROSS, "train1", "valid1"), (ACROSS, "train2", "valid1")
    ]  # fmt: skip


def test_a_folder_to_validate_on(tmp_path: Path) -> None:
    photos, valid = photos_like(tmp_path, a=0, b=FAR), photos_like(tmp_path / "v", c=3, d=3, e=-1)
    assert alike(photos, valid) == [(ACROSS, "a", "c")]
    assert alike(photos, []) == []
    found = list(look_alikes(Dataset(photos, []), Dataset(valid, [])))
    assert [(f.harm, f.mend) for f in found] == [("warning", "the photo is left out")]


def test_real_pictures_turned_out_again_look_alike(tmp_path: Path) -> None:
    """A photo, the same smaller and at lower quality, and another one."""
    pixels = torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(1))
    big = torch.nn.functional.interpolate(pixels[None], size=(240, 320), mode="bicubic")[0].clamp(0, 1)
    image = Image.fromarray((big.permute(1, 2, 0) * 255).byte().numpy())
    image.save(tmp_path / "a.png")
    image.resize((160, 120)).save(tmp_path / "b.jpg", quality=60)
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "c.png")
    photos = [Photo(tmp_path / name, 10, 10) for name in ("a.png", "b.jpg", "c.png")]
    assert look_whole(photos) == []
    assert alike(photos) == [("look-alike", "b.jpg", "a.png")]


# -- The order of findings --------------------------------------------------------------------------------------------


def test_the_worst_come_first_then_the_most_frequent_kind() -> None:
    def finding(harm: str, kind: str, line: int) -> Finding:
        return Finding(Source("a", line), "", harm=harm, kind=kind)  # type: ignore[arg-type]

    found = [
        finding("note", "n", 1), finding("warning", "seldom", 2), finding("error", "e", 3), finding("note", "n", 4),
        finding("warning", "often", 5), finding("error", "a", 6), finding("note", "n", 7),
        finding("warning", "often", 8),
    ]  # fmt: skip
    assert [f.source.line for f in by_harm(found)] == [6, 3, 5, 8, 2, 1, 4, 7]
    assert by_harm([]) == []
