"""From folders to photos to train on and to validate on: parts, samples, another run's split, and what stops."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from foodbox.config import TrainSettings
from foodbox.data.parts import part_of, read_labels, read_parts, read_split, saved_parts
from foodbox.errors import FoodboxError, UsageError
from foodbox.records import Dataset, Photo

SIZE = (64, 48)


def picture(seed: int) -> Image.Image:
    """Clouds that look like no others."""
    pixels = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(SIZE, Image.Resampling.BICUBIC)


def annotation(*names: str, right: int = 40) -> str:
    box = f"<bndbox><xmin>4</xmin><ymin>5</ymin><xmax>{right}</xmax><ymax>30</ymax></bndbox>"
    return "<annotation>" + "".join(f"<object><name>{name}</name>{box}</object>" for name in names) + "</annotation>"


def voc(folder: Path, count: int, seed: int = 0, name: str = "rice", **parts: list[int]) -> Path:
    """A Pascal VOC folder of p0, p1, ..., each with one box; `parts` are lists in ImageSets/Main."""
    folder.mkdir()
    for i in range(count):
        picture(1000 * seed + i).save(folder / f"p{i}.png")
        (folder / f"p{i}.xml").write_text(annotation(name))
    for part, numbers in parts.items():
        listed = folder / "ImageSets" / "Main" / f"{part}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"p{i}\n" for i in numbers))
    return folder


def chosen(**settings: Any) -> TrainSettings:
    return TrainSettings(**settings)


def stems(dataset: Dataset) -> list[str]:
    return [photo.path.stem for photo in dataset]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def write_split(file: Path, train: list[Any], valid: list[Any]) -> Path:
    file.write_text(json.dumps({"train": [str(path) for path in train], "valid": [str(path) for path in valid]}))
    return file


# -- A share, a folder, or the labels' own parts ----------------------------------------------------------------------


def test_a_share_is_set_apart(tmp_path: Path) -> None:
    folder = voc(tmp_path / "photos", 10)
    train, valid = read_parts(folder, chosen(valid_share=0.3))
    assert (len(train), len(valid)) == (7, 3)
    assert sorted(stems(train) + stems(valid)) == [f"p{i}" for i in range(10)]
    assert (train.names, valid.names, train.format) == (["rice"], ["rice"], "voc")
    again = read_parts(folder, chosen(valid_share=0.3))
    assert [stems(part) for part in again] == [stems(train), stems(valid)]
    assert stems(read_parts(folder, chosen(valid_share=0.3, seed=1))[1]) != stems(valid)


def test_copies_go_to_one_side(tmp_path: Path) -> None:
    """Each photo is there three times."""
    folder = voc(tmp_path / "photos", 4)
    for i in range(4):
        for copy in ("a", "b"):
            shutil.copy(folder / f"p{i}.png", folder / f"p{i}{copy}.png")
            shutil.copy(folder / f"p{i}.xml", folder / f"p{i}{copy}.xml")
    train, valid = read_parts(folder, chosen(valid_share=0.25))
    assert (len(train), len(valid)) == (9, 3)
    assert not {stem[:2] for stem in stems(train)} & {stem[:2] for stem in stems(valid)}


def test_a_folder_to_validate_on_and_names_of_both(tmp_path: Path) -> None:
    """Each folder's labels count from its own list of names."""
    photos = voc(tmp_path / "photos", 3, name="soup")
    other = voc(tmp_path / "other", 2, seed=1, name="rice")
    (other / "p0.xml").write_text(annotation("tea", "soup"))
    train, valid = read_parts(photos, chosen(valid=other))
    assert train.names == valid.names == ["rice", "soup", "tea"]
    assert [[train.names[i] for i in photo.labels] for photo in train] == [["soup"]] * 3
    assert [[valid.names[i] for i in photo.labels] for photo in valid] == [["tea", "soup"], ["rice"]]
    assert {photo.path.parent for photo in train} == {photos}
    assert {photo.path.parent for photo in valid} == {other}


def test_faults_in_the_folder_to_validate_on_stop_too(tmp_path: Path) -> None:
    photos, other = voc(tmp_path / "photos", 3), voc(tmp_path / "other", 3, seed=1)
    cut(other / "p0.png")
    (other / "p1.xml").write_text("<annotation>")
    with pytest.raises(FoodboxError, match=r"(?s)2 faults.*p1\.xml.*p0\.png"):
        read_parts(photos, chosen(valid=other))
    train, valid = read_parts(photos, chosen(valid=other, skip_bad=True))
    assert (stems(train), stems(valid)) == (["p0", "p1", "p2"], ["p2"])


def test_photos_like_those_to_validate_on_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Copies among the photos to train on are no matter of validation."""
    photos, other = voc(tmp_path / "photos", 4), voc(tmp_path / "other", 2, seed=1)
    for name in ("p0", "copy"):
        shutil.copy(photos / "p3.png", photos / f"{name}.png")
        shutil.copy(photos / "p3.xml", photos / f"{name}.xml")
    read_parts(photos, chosen(valid=other))
    assert "flatters" not in capfd.readouterr().err
    shutil.copy(photos / "p1.png", other / "p1.png")
    read_parts(photos, chosen(valid=other))
    assert "1 photo to train on looks like one to validate on, which flatters" in capfd.readouterr().err


def test_parts_that_the_labels_name_are_used_and_the_test_part_is_left(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = voc(tmp_path / "photos", 7, train=[0, 2, 4], val=[1, 3], test=[5])
    train, valid = read_parts(folder, chosen())
    assert (stems(train), stems(valid)) == (["p0", "p2", "p4"], ["p1", "p3"])
    said = capfd.readouterr().err
    assert "the part 'train', which labels or folders name: 3 photos" in said
    assert "the part 'valid', which labels or folders name: 2 photos" in said


@pytest.mark.parametrize(
    ("parts", "count", "train", "valid"),
    [
        # What is to be tested on is not trained on, whatever else is named.
        ({"train": [0, 1, 2, 3], "test": [4, 5]}, 6, {"p0", "p1", "p2", "p3"}, set()),
        ({"test": [4, 5]}, 6, {"p0", "p1", "p2", "p3"}, set()),
        ({"val": [4, 5]}, 6, {"p0", "p1", "p2", "p3"}, {"p4", "p5"}),
        ({"val": [4], "test": [5]}, 6, {"p0", "p1", "p2", "p3"}, {"p4"}),
        # One part alone is what the person chose.
        ({"test": [0, 1, 2, 3]}, 4, {"p0", "p1", "p2", "p3"}, set()),
        ({"val": [0, 1, 2, 3]}, 4, {"p0", "p1", "p2", "p3"}, set()),
        ({"train": [0, 1, 2, 3]}, 4, {"p0", "p1", "p2", "p3"}, set()),
    ],
)
def test_some_parts_named(
    tmp_path: Path, parts: dict[str, list[int]], count: int, train: set[str], valid: set[str]
) -> None:
    """Where no part is to be validated on, a share of the photos to train on is set apart."""
    photos = voc(tmp_path / "photos", count, **parts)
    if valid:
        with pytest.raises(UsageError, match="leave --valid-share out"):
            read_parts(photos, chosen(valid_share=0.25))
    settings = chosen() if valid else chosen(valid_share=0.25)
    found = [set(stems(part)) for part in read_parts(photos, settings)]
    if valid:
        assert found == [train, valid]
    else:
        assert found[0] | found[1] == train
        assert len(found[1]) == 1


def test_faults_of_a_part_that_is_left_out_stop_nothing(tmp_path: Path) -> None:
    folder = voc(tmp_path / "photos", 7, train=[0, 2, 4], val=[1, 3], test=[5])
    for left_out in ("p5", "p6"):
        (folder / f"{left_out}.xml").write_text(annotation("rice", right=999))
    assert [len(part) for part in read_parts(folder, chosen())] == [3, 2]
    (folder / "p3.xml").write_text(annotation("rice", right=999))
    with pytest.raises(FoodboxError, match=r"(?s)1 fault .*p3\.xml"):
        read_parts(folder, chosen())


def test_a_folder_to_validate_on_goes_before_a_named_part(tmp_path: Path) -> None:
    folder = voc(tmp_path / "photos", 6, train=[0, 2, 4], val=[1, 3], test=[5])
    other = voc(tmp_path / "other", 2, seed=1)
    train, valid = read_parts(folder, chosen(valid=other))
    assert stems(train) == ["p0", "p2", "p4"]
    assert {photo.path.parent for photo in valid} == {other}


@pytest.mark.parametrize("empty", [[0, 1], [2, 3, 4]])
def test_both_parts_need_a_box(tmp_path: Path, empty: list[int]) -> None:
    folder = voc(tmp_path / "photos", 5, train=[2, 3, 4], val=[0, 1])
    for i in empty:
        (folder / f"p{i}.xml").write_text(annotation())
    role = "validate" if 0 in empty else "train"
    with pytest.raises(FoodboxError, match=f"None of the {len(empty)} photos to {role} on has a box"):
        read_parts(folder, chosen())


def test_one_class_folds_both_parts(tmp_path: Path) -> None:
    photos = voc(tmp_path / "photos", 3, name="soup")
    other = voc(tmp_path / "other", 2, seed=1, name="rice")
    for part in read_parts(photos, chosen(valid=other, one_class="food")):
        assert part.names == ["food"]
        assert all(photo.labels.tolist() == [0] for photo in part)


# -- Samples ----------------------------------------------------------------------------------------------------------


def test_a_sample_is_trained_on_and_some_are_validated_on_besides(tmp_path: Path) -> None:
    folder = voc(tmp_path / "photos", 10)
    settings = chosen(sample=4, valid_share=0.25, seed=3)
    train, valid = read_parts(folder, settings)
    assert (len(train), len(valid)) == (4, 1)
    assert not set(stems(train)) & set(stems(valid))
    assert stems(read_parts(folder, settings)[0]) == stems(train)
    others = [stems(read_parts(folder, settings.model_copy(update={"seed": seed}))[0]) for seed in range(4, 8)]
    assert any(other != stems(train) for other in others)


def test_a_sample_larger_than_there_is(tmp_path: Path) -> None:
    assert [len(part) for part in read_parts(voc(tmp_path / "photos", 5), chosen(sample=99))] == [4, 1]


@pytest.mark.parametrize(("sample", "sizes"), [(8, [8, 2]), (9, [8, 2]), (10, [8, 2]), (7, [7, 1])])
def test_a_sample_of_nearly_all_leaves_as_many_to_validate_on(sample: int, sizes: list[int], tmp_path: Path) -> None:
    parts = read_parts(voc(tmp_path / "photos", 10), chosen(sample=sample, valid_share=0.2))
    assert [len(part) for part in parts] == sizes


def test_a_sample_is_of_whole_labels_where_faulty_ones_are_left_out(tmp_path: Path) -> None:
    folder = voc(tmp_path / "photos", 10)
    for i in range(5):
        (folder / f"p{i}.xml").write_text("<annotation>")
    train, valid = read_parts(folder, chosen(sample=4, skip_bad=True))
    assert [len(train), len(valid)] == [4, 1]


def test_classes_that_only_validation_has_are_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photos, other = voc(tmp_path / "photos", 3, name="rice"), voc(tmp_path / "other", 2, seed=1, name="Rice")
    read_parts(photos, chosen(valid=other))
    assert "No photo to train on shows Rice, which is validated on" in " ".join(capfd.readouterr().err.split())
    read_parts(photos, chosen(valid=photos))
    assert "No photo to train on shows" not in capfd.readouterr().err


def test_both_parts_are_folded_into_one_class(tmp_path: Path) -> None:
    photos, other = voc(tmp_path / "photos", 3), voc(tmp_path / "other", 2, seed=1, name="soup")
    train, valid = read_parts(photos, chosen(valid=other, one_class="food"))
    assert (train.names, valid.names) == (["food"], ["food"])
    assert {photo.path.parent for photo in valid} == {other}


def test_a_class_of_which_all_was_set_apart_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nobody misspelled it."""
    photos = voc(tmp_path / "photos", 2)
    (photos / "p1.xml").write_text((photos / "p1.xml").read_text().replace("rice", "soup"))
    _, valid = read_parts(photos, chosen())
    apart = valid.names[int(valid.photos[0].labels[0])]
    words = " ".join(capfd.readouterr().err.split())
    assert f"All photos of {apart} were set apart for validation" in words
    assert "spelled" not in words


@pytest.mark.parametrize("role", ["train", "validate"])
def test_boxes_that_do_not_count_are_no_boxes_to_learn_or_score(role: str, tmp_path: Path) -> None:
    photos, other = voc(tmp_path / "photos", 2), voc(tmp_path / "other", 2, seed=1)
    for label in (photos if role == "train" else other).glob("*.xml"):
        label.write_text(label.read_text().replace("</name>", "</name><difficult>1</difficult>"))
    words = rf"None of the 2 photos to {role} on has a box that counts \(\d+ are marked as crowd or difficult\)"
    with pytest.raises(FoodboxError, match=words):
        read_parts(photos, chosen(valid=other))


def test_a_sample_of_a_named_part_keeps_all_to_validate_on(tmp_path: Path) -> None:
    folder = voc(tmp_path / "photos", 8, train=[0, 1, 2, 3, 4], val=[5, 6, 7])
    train, valid = read_parts(folder, chosen(sample=2))
    assert len(train) == 2
    assert stems(valid) == ["p5", "p6", "p7"]


def test_a_sample_is_of_labelled_photos(tmp_path: Path) -> None:
    folder = voc(tmp_path / "photos", 12)
    for i in range(7):
        (folder / f"p{i}.xml").unlink()
    train, valid = read_parts(folder, chosen(sample=4))
    assert sorted(stems(train) + stems(valid)) == ["p10", "p11", "p7", "p8", "p9"]


def test_a_sample_does_not_mind_faults_elsewhere(tmp_path: Path) -> None:
    folder = voc(tmp_path / "photos", 12)
    settings = chosen(sample=4)
    names = {stem for part in read_parts(folder, settings) for stem in stems(part)}
    spoilt, cut_short = [f"p{i}" for i in range(12) if f"p{i}" not in names][:2]
    (folder / f"{spoilt}.xml").write_text(annotation("rice", right=1))  # corners exchanged
    cut(folder / f"{cut_short}.png")
    assert {stem for part in read_parts(folder, settings) for stem in stems(part)} == names
    cut(folder / f"{sorted(names)[0]}.png")
    with pytest.raises(FoodboxError, match="1 fault in the photos"):
        read_parts(folder, settings)


def test_classes_without_names_are_said_in_full(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for i in range(3):
        picture(i).save(tmp_path / f"p{i}.png")
        (tmp_path / f"p{i}.txt").write_text("0 .5 .5 .5 .5\n")
    read_parts(tmp_path, chosen())
    words = " ".join(capfd.readouterr().err.split())
    assert "no data.yaml, classes.txt or obj.names names the classes: they are called by their numbers. Add" in words


# -- Another run's split ----------------------------------------------------------------------------------------------


def test_another_runs_split_gives_the_very_same_photos(tmp_path: Path) -> None:
    """Whatever share, seed and parts would have given, and with photos besides that were not there yet."""
    folder = voc(tmp_path / "photos", 6, train=[0, 1], val=[2, 3])
    split = write_split(tmp_path / "split.json", [folder / "p5.png", folder / "p2.png"], [folder / "p0.png"])
    train, valid = read_parts(folder, chosen(split=split, seed=9, valid_share=0.9))
    assert (stems(train), stems(valid)) == (["p5", "p2"], ["p0"])
    assert read_split(split) == {
        "train": [str(folder / "p5.png"), str(folder / "p2.png")], "valid": [str(folder / "p0.png")]
    }  # fmt: skip


def test_a_split_does_not_mind_faults_elsewhere(tmp_path: Path) -> None:
    folder = voc(tmp_path / "photos", 5)
    split = write_split(tmp_path / "split.json", [folder / "p0.png"], [folder / "p1.png"])
    (folder / "p3.xml").write_text("<annotation>")
    (folder / "p4.png").write_text("no photo")
    assert [stems(part) for part in read_parts(folder, chosen(split=split))] == [["p0"], ["p1"]]
    (folder / "p1.xml").write_text("<annotation>")
    with pytest.raises(FoodboxError, match=r"(?s)1 fault .*p1\.xml"):
        read_parts(folder, chosen(split=split))


def test_a_split_of_a_run_with_a_folder_to_validate_on(tmp_path: Path) -> None:
    photos, other = voc(tmp_path / "photos", 4), voc(tmp_path / "other", 3, seed=1, name="soup")
    split = write_split(tmp_path / "split.json", [photos / "p1.png"], [other / "p2.png"])
    train, valid = read_parts(photos, chosen(split=split, valid=other))
    assert [photo.path for photo in train] == [photos / "p1.png"]
    assert [photo.path for photo in valid] == [other / "p2.png"]
    assert train.names == valid.names == ["rice", "soup"]
    assert [photo.labels.tolist() for photo in valid] == [[1]]


@pytest.mark.parametrize("spelled", ["relative", "absolute", "with dots"])
def test_a_split_knows_a_folder_that_is_spelled_another_way(
    tmp_path: Path, spelled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = voc(tmp_path / "photos", 3)
    monkeypatch.chdir(tmp_path)
    absolute = spelled != "absolute"
    where = folder if absolute else Path("photos")
    split = write_split(tmp_path / "split.json", [where / "p0.png", where / "p2.png"], [where / "p1.png"])
    place = {"relative": Path("photos"), "absolute": folder, "with dots": Path("photos", os.pardir, "photos")}[spelled]
    assert [stems(part) for part in read_parts(place, chosen(split=split))] == [["p0", "p2"], ["p1"]]


@pytest.mark.parametrize("link_first", [True, False])
def test_a_split_knows_a_folder_by_its_link(tmp_path: Path, link_first: bool) -> None:
    folder = voc(tmp_path / "photos", 3)
    link = tmp_path / "link"
    try:
        link.symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("This system makes no links for everybody.")
    then, now = (link, folder) if link_first else (folder, link)
    split = write_split(tmp_path / "split.json", [then / "p0.png", then / "p2.png"], [then / "p1.png"])
    parts = read_parts(now, chosen(split=split))
    assert [stems(part) for part in parts] == [["p0", "p2"], ["p1"]]
    assert all(photo.path.parent == now for part in parts for photo in part)


@pytest.mark.parametrize(
    "content", [None, "", "{}", "[1, 2]", '{"train": ["a"]}', '{"train": 3, "valid": 4}', "null", b"\xff\xfe\x00"]
)
def test_what_is_no_split_is_refused(tmp_path: Path, content: str | bytes | None) -> None:
    folder, file = voc(tmp_path / "photos", 2), tmp_path / "split.json"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(
        UsageError, match=r"split\.json is no split of a run .*expected a split\.json that foodbox train"
    ):
        read_parts(folder, chosen(split=file))


def test_a_folder_for_a_split_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no split of a run"):
        read_parts(tmp_path / "nowhere", chosen(split=tmp_path))


def test_photos_of_a_split_that_are_gone_are_told(tmp_path: Path) -> None:
    folder = voc(tmp_path / "photos", 4)
    split = write_split(tmp_path / "split.json", [folder / "p0.png", folder / "p1.png"], [folder / "p2.png"])
    (folder / "p1.png").unlink()
    (folder / "p2.png").unlink()
    with pytest.raises(
        FoodboxError,
        match=r"^2 photos of .*split\.json are no longer there or readable, such as .*p1\.png\. Bring back",
    ):
        read_parts(folder, chosen(split=split))


def test_photos_of_a_split_that_lie_elsewhere_are_told(tmp_path: Path) -> None:
    folder, other = voc(tmp_path / "photos", 3), voc(tmp_path / "other", 2, seed=1)
    split = write_split(tmp_path / "split.json", [folder / "p0.png"], [other / "p1.png"])
    words = r"^1 photo of .*split\.json is not in the folders .*p1\.png\. Name its .* --valid"
    with pytest.raises(FoodboxError, match=words):
        read_parts(folder, chosen(split=split))
    _, valid = read_parts(folder, chosen(split=split, valid=other))
    assert [photo.path for photo in valid] == [other / "p1.png"]


def test_going_on_takes_the_runs_photos_with_the_runs_classes(tmp_path: Path) -> None:
    photos, other = voc(tmp_path / "photos", 3), voc(tmp_path / "other", 2, seed=1, name="soup")
    split = {"train": [str(photos / "p2.png")], "valid": [str(other / "p1.png")]}
    settings = chosen(valid=other)
    train, valid = saved_parts(split, photos, settings, ["soup", "rice"], tmp_path / "run")
    assert (train.names, [photo.labels.tolist() for photo in train]) == (["soup", "rice"], [[1]])
    assert (valid.names, [photo.labels.tolist() for photo in valid]) == (["soup", "rice"], [[0]])
    folded = saved_parts(split, photos, chosen(valid=other, one_class="food"), ["food"], tmp_path / "run")
    assert [part.names for part in folded] == [["food"], ["food"]]
    with pytest.raises(FoodboxError, match=r"soup are not among rice\. .*: name those of its photos as they were"):
        saved_parts(split, photos, settings, ["rice"], tmp_path / "run")
    (other / "p1.png").unlink()
    with pytest.raises(FoodboxError, match=r"1 photo of .*run is no longer there"):
        saved_parts(split, photos, settings, ["soup", "rice"], tmp_path / "run")


def test_going_on_minds_no_photos_that_came_later(tmp_path: Path) -> None:
    photos = voc(tmp_path / "photos", 3)
    split = {"train": [str(photos / "p0.png")], "valid": [str(photos / "p1.png")]}
    (photos / "p2.xml").write_text((photos / "p2.xml").read_text().replace("rice", "walnut"))
    train, _ = saved_parts(split, photos, chosen(), ["rice"], tmp_path / "run")
    assert train.names == ["rice"]


def test_going_on_minds_faults_that_came_since(tmp_path: Path) -> None:
    """What has lost its box would be taught as background."""
    photos = voc(tmp_path / "photos", 3)
    split = {"train": [str(photos / "p0.png")], "valid": [str(photos / "p1.png")]}
    label = photos / "p0.xml"
    text = label.read_text()
    label.write_text("<x>")
    with pytest.raises(FoodboxError, match=r"1 fault in the photos or their labels:\n  .*p0\.xml:1"):
        saved_parts(split, photos, chosen(), ["rice"], tmp_path / "run")
    label.unlink()
    with pytest.raises(FoodboxError, match=r"1 photo of .*run lost the labels since, such as .*p0\.png"):
        saved_parts(split, photos, chosen(), ["rice"], tmp_path / "run")
    label.write_text(text)
    (photos / "p2.xml").write_text("<x>")  # of no part of the run
    train, _ = saved_parts(split, photos, chosen(), ["rice"], tmp_path / "run")
    assert train.box_count == 1


def test_of_a_folder_to_validate_on_the_part_for_that_is_taken(tmp_path: Path) -> None:
    """As it is scored afterwards; the others may be trained on elsewhere."""
    photos = voc(tmp_path / "photos", 2)
    other = voc(tmp_path / "other", 4, seed=1)
    (other / "ImageSets").mkdir()
    (other / "ImageSets" / "train.txt").write_text("p0\np1\n")
    (other / "ImageSets" / "val.txt").write_text("p2\n")
    _, valid = read_parts(photos, chosen(valid=other))
    assert [photo.path.name for photo in valid] == ["p2.png"]


# -- One part, for scores ---------------------------------------------------------------------------------------------


def in_parts(*parts: str) -> Dataset:
    return Dataset([Photo(Path(f"{i}.jpg"), 9, 9, part=part) for i, part in enumerate(parts)], ["rice"])


@pytest.mark.parametrize(
    ("part", "expected"),
    [(None, [1]), ("valid", [1]), ("train", [0, 3]), ("test", [2]), ("all", [0, 1, 2, 3, 4])],
)
def test_part_of(part: str | None, expected: list[int]) -> None:
    dataset = in_parts("train", "valid", "test", "train", "")
    assert [int(photo.path.stem) for photo in part_of(dataset, part)] == expected


@pytest.mark.parametrize("parts", [["", ""], ["train", ""], ["test"]])
def test_without_a_part_to_validate_on_all_are_taken(parts: list[str]) -> None:
    assert len(part_of(in_parts(*parts), None)) == len(parts)


def test_photos_to_train_on_are_not_scored_where_there_are_others_to_test_on() -> None:
    assert {photo.part for photo in part_of(in_parts("train", "test", "", "train"), None)} == {"test"}
    assert {photo.part for photo in part_of(in_parts("", "test", ""), None)} == {"test"}


@pytest.mark.parametrize(
    ("part", "parts", "known"),
    [("test", ["train", "valid", ""], "train, valid"), ("train", ["", ""], "none"), ("morning", ["test"], "test")],
)
def test_a_part_that_is_not_there(part: str, parts: list[str], known: str) -> None:
    with pytest.raises(UsageError, match=rf"have no part '{part}': expected one of .*\({known}\)"):
        part_of(in_parts(*parts), part)


def test_what_a_folder_was_read_as_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dataset, findings = read_labels(voc(tmp_path / "photos", 3))
    assert (len(dataset), findings) == (3, [])
    assert "photos: read as Pascal VOC: 3 photos, 3 boxes, 1 class." in capfd.readouterr().err


# -- For a detector that learns masks -------------------------------------------------------------------------------


def yolo(folder: Path, lines: list[str], seed: int = 0) -> Path:
    """A YOLO folder of p0, p1, ..., each with the lines of its label file."""
    folder.mkdir()
    for i, text in enumerate(lines):
        picture(1000 * seed + i).save(folder / f"p{i}.png")
        (folder / f"p{i}.txt").write_text(text)
    (folder / "data.yaml").write_text("names: [rice]\n")
    return folder


OUTLINE, BOX = "0 0.1 0.1 0.6 0.1 0.4 0.8\n", "0 0.5 0.5 0.4 0.4\n"


def test_photos_with_an_outline_of_each_box_are_taken_and_others_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that shows nothing stays; one of two boxes that has one outline goes, and so does one with a box only."""
    place = yolo(tmp_path / "photos", [OUTLINE] * 6 + ["", OUTLINE + BOX, BOX])
    train, valid = read_parts(place, chosen(valid_share=0.3), outlined=True)
    assert sorted(stems(train) + stems(valid)) == [f"p{i}" for i in range(7)]
    assert all(photo.masks for part in (train, valid) for photo in part if len(photo.boxes))
    words = " ".join(capsys.readouterr().err.split())
    assert "Left out 2 of 9 photos to train on" in words
    assert "p7.png" in words
    everything = read_parts(place, chosen(valid_share=0.3))
    assert sum(map(len, everything)) == 9


@pytest.mark.parametrize("lines", [[BOX] * 4, [BOX] * 3 + [""], [OUTLINE + BOX] * 4])
def test_photos_with_boxes_only_are_refused_where_masks_are_learnt(lines: list[str], tmp_path: Path) -> None:
    with pytest.raises(FoodboxError, match=r"COCO, YOLO, labelme.*--detector faster_rcnn"):
        read_parts(yolo(tmp_path / "photos", lines), chosen(), outlined=True)


def test_validation_photos_without_outlines_are_refused_too(tmp_path: Path) -> None:
    train = yolo(tmp_path / "train", [OUTLINE] * 3)
    valid = yolo(tmp_path / "valid", [BOX] * 3, seed=1)
    with pytest.raises(FoodboxError, match="to validate on"):
        read_parts(train, chosen(valid=valid), outlined=True)


def test_a_box_that_does_not_count_needs_no_outline(tmp_path: Path) -> None:
    """COCO's crowd without a segmentation."""
    folder = tmp_path / "photos"
    folder.mkdir()
    images, annotations = [], []
    for i in range(4):
        picture(i).save(folder / f"p{i}.png")
        images.append({"id": i, "file_name": f"p{i}.png", "width": SIZE[0], "height": SIZE[1]})
        segmentation = [[4, 4, 30, 4, 30, 30, 4, 30]]
        one = {"image_id": i, "category_id": 1, "bbox": [4, 4, 26, 26], "segmentation": segmentation, "iscrowd": 0}
        crowd = {"image_id": i, "category_id": 1, "bbox": [40, 4, 20, 26], "segmentation": [], "iscrowd": 1}
        annotations += [one | {"id": 2 * i + 1}, crowd | {"id": 2 * i + 2}]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "rice"}]}
    (folder / "labels.json").write_text(json.dumps(content))
    train, valid = read_parts(folder, chosen(), outlined=True)
    assert len(train) + len(valid) == 4
