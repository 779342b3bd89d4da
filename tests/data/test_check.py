"""The data doctor: all findings at once, and what is left when the bad photos are taken out."""

from __future__ import annotations

from pathlib import Path

import pytest

from foodbox.data.check import SHOWN, broken_photos, healthy
from foodbox.data.formats import voc
from foodbox.errors import FoodboxError
from foodbox.records import Dataset, Finding, Source


def errors_of(*paths: Path) -> list[Finding]:
    return [Finding(Source(path, 3), "the box has no area", "Draw it anew", photo=path) for path in paths]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def test_broken_photos_are_found_by_opening_all_of_them(drawn: Dataset) -> None:
    paths = [photo.path for photo in drawn]
    cut(paths[1])
    paths[4].unlink()
    done: list[int] = []
    found = broken_photos(paths, done.append)
    assert [f.photo for f in found] == [paths[1], paths[4]]
    assert [f.harm for f in found] == ["error", "error"]
    assert done == [1, 2, 3, 4, 5, 6]


def test_whole_photos_have_no_findings(drawn: Dataset) -> None:
    assert broken_photos([photo.path for photo in drawn]) == []
    assert broken_photos([]) == []


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
    assert "--skip-bad" in lines[3]


def test_many_errors_are_counted_behind_the_first(drawn: Dataset) -> None:
    findings = errors_of(*(Path(f"{i}.jpg") for i in range(SHOWN + 7)))
    with pytest.raises(FoodboxError, match=r"27 faults") as caught:
        healthy(drawn, findings, skip_bad=False)
    assert str(caught.value).count("no area") == SHOWN
    assert "... and 7 more" in str(caught.value)


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
    assert len(words) == 1
    assert words[0].startswith("1 photo")


def test_a_labelled_photo_without_boxes_stays(drawn: Dataset) -> None:
    assert drawn.photos[3] in healthy(drawn, [], skip_bad=False)[0].photos


def test_notes_are_no_faults(drawn: Dataset) -> None:
    note = Finding(Source(drawn.photos[0].path), "a box was cut off", harm="note", photo=drawn.photos[0].path)
    left, words = healthy(drawn, [note], skip_bad=False)
    assert len(left) == len(drawn)
    assert words == [str(note)]


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
    dataset, findings = voc.read(voc_folder)
    findings += broken_photos([photo.path for photo in dataset])
    left, _ = healthy(dataset, findings, skip_bad=True)
    assert len(findings) == 3
    assert [photo.path.name for photo in left] == ["photo3.png", "photo4.png", "photo5.png"]
