"""The data doctor's page: what stands on it, that it shows names as they are, and that it stays small."""

from __future__ import annotations

import base64
import io
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from foodbox.data import formats
from foodbox.data import page as doctors_page
from foodbox.data.check import examine
from foodbox.data.formats import voc
from foodbox.data.page import page
from foodbox.data.report import AnchorReach, Report
from foodbox.drawing.boxes import COLOURS
from foodbox.findings import REMOVED, Finding, Source
from foodbox.records import Dataset, Photo
from tests.conftest import draw_photo
from tests.drawing.test_html import Balanced


def pictures(written: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/(png|jpeg);base64,([^"]*)"', written)
    images = [Image.open(io.BytesIO(base64.b64decode(data))) for _, data in found]
    assert [image.format for image in images] == [kind.upper() for kind, _ in found]
    return [image.convert("RGB") for image in images]


def photos_on(written: str) -> list[Image.Image]:
    return [image for image in pictures(written) if max(image.size) == doctors_page.SIDE]


def has_colour(image: Image.Image, colour: str) -> bool:
    """Whether some pixels have nearly this colour; JPEG changes it a little."""
    return int((np.abs(np.asarray(image, int) - ImageColor.getrgb(colour)).max(-1) < 40).sum()) > 20


def about(path: Path, number: int = 1, **changes: object) -> Finding:
    what = {"what": f"fault {number}", "todo": "Mend it", "photo": path, "kind": "some fault"} | changes
    return Finding(Source(path, number), **what)  # type: ignore[arg-type]


def test_the_head_counts(drawn: Dataset) -> None:
    drawn.format = "voc"
    for photo, part in zip(drawn, ["train", "train", "train", "valid", "test", ""], strict=True):
        photo.part = part
    gone = drawn.photos[0].path.with_name("gone.png")
    found = [
        about(gone, kind="broken photo"),
        about(drawn.photos[0].path, harm="warning"),
        *[about(gone, i) for i in (2, 3)],
    ]
    written = page(Report(drawn, found), "some/place")
    words = Balanced(written).words
    assert "place: photos and labels" in words
    assert "some/place, read as Pascal VOC" in words
    assert "6 photos, 7 boxes, 3 classes, 1 photo that cannot be opened" in words
    assert "Photos by part: train 3, valid 1, test 1, in no part 1" in words
    assert "3 errors, 1 warning, 0 notes" in words
    assert not re.search(r"https?:|url\(|<link|<script", written)


def test_findings_stand_by_kind_the_worst_first_with_what_mending_does(drawn: Dataset) -> None:
    first, second, *_ = (photo.path for photo in drawn)
    found = [
        about(first, 1, harm="note", kind="small thing", todo=""),
        about(first, 2, harm="warning", kind="strange thing"),
        about(first, 3, kind="bad thing", mend="the box is removed"),
        about(second, 4, kind="bad thing", mend="the photo is left out"),
        about(second, 5, kind="bad thing", mend="the photo is left out", todo="Look for 5"),
    ]
    words = Balanced(page(Report(drawn, found), "place")).words
    titles = ["error bad thing: 3", "warning strange thing: 1", "note small thing: 1"]
    assert [words.index(title) for title in titles] == sorted(words.index(title) for title in titles)
    assert "--fix: the photo is left out (2), the box is removed (1)." in words
    assert words.count("--fix leaves it as it is") == 1  # of a note nothing must be done
    assert words.count("Mend it.") == 3  # once for each of two faults, as the third has other advice; once for the kind
    assert f"{second}:5 fault 5. Look for 5." in words


def test_paths_are_shown_from_the_folder_on(drawn: Dataset) -> None:
    folder = drawn.photos[0].path.parent
    other = folder.parent / f"x{folder.name}" / "a.png"
    found = [about(folder / "photo0.png", what=f"it looks like {folder / 'photo1.png'}"), about(other)]
    words = Balanced(page(Report(drawn, found), str(folder))).words
    assert "photo0.png:1 it looks like photo1.png." in words
    assert str(other) in words
    assert "x/photo0.png:1" in Balanced(page(Report(drawn, [about(Path("x/photo0.png"))]), ".")).words
    assert "data/x.png:1" in Balanced(page(Report(drawn, [about(Path("data/x.png"))]), "a")).words


def test_the_box_concerned_has_another_colour(drawn: Dataset) -> None:
    """By the finding's box, or by the line that box and finding share; two boxes of a photo, one is concerned."""
    photo = drawn.photos[2]
    photo.sources = [Source("a.txt", 7), Source("a.txt", 9)]
    report = Report(drawn.with_photos([photo]), [about(photo.path, box=1)])
    by_line = Report(report.dataset, [Finding(Source("a.txt", 9), "fault", photo=photo.path)])
    neither = Report(report.dataset, [about(photo.path)])
    first = [photos_on(page(one, "place"))[0] for one in (report, by_line, neither)]
    assert first[0].tobytes() == first[1].tobytes() != first[2].tobytes()
    assert [has_colour(image, COLOURS[5]) for image in first] == [True, True, False]


def test_many_findings_are_counted_and_few_are_shown(drawn: Dataset) -> None:
    paths = [photo.path for photo in drawn]
    found = [about(paths[i % 6], i, harm="warning", kind=f"kind {kind}") for kind in range(40) for i in range(1, 101)]
    written = page(Report(drawn, found), "place")
    assert Balanced(written).words.count("… and 80 more.") == 40
    assert written.count(" fault 7.") == 40
    assert " fault 90." not in written
    cards = re.findall(r"<figure><img[^>]*><figcaption><code>", written)
    assert len(cards) == 40 <= doctors_page.ALL_CARDS


def test_pictures_are_bounded_whatever_there_is(drawn: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 200 kinds of findings and 100 classes: at most 200 photos are opened, each once."""
    opened: list[Path] = []
    monkeypatch.setattr(doctors_page, "_draw", lambda view: opened.append(view.photo.path) or "")
    names = [f"class {i}" for i in range(100)]
    photos = []
    for i in range(500):
        labels = torch.tensor(random.sample(range(100), 5))
        photos.append(Photo(Path(f"{i}.jpg"), 100, 80, torch.tensor([[10.0, 10, 50, 60]] * 5), labels))
    found = [about(photo.path, i, kind=f"kind {i % 200}") for i, photo in enumerate(photos)]
    written = page(Report(Dataset(photos, names), found), "place")
    assert 100 < len(opened) <= 200
    words = Balanced(written).words
    assert "The 30 most frequent classes." in words
    assert "… and 60 more classes, with" in words
    opened.clear()
    page(Report(Dataset(photos, names), found[:1]), "place")
    assert len(opened) == 1 + 30 * 4


def test_a_finding_of_endless_words_is_cut(drawn: Dataset) -> None:
    found = [about(drawn.photos[0].path, i, what="x" * 10**6) for i in range(9)]
    drawn.names[0] = "y" * 10**6
    assert len(page(Report(drawn, found), "place")) < 10**6


def test_classes_are_counted_and_shown(drawn: Dataset) -> None:
    written = page(Report(drawn, []), "place")
    words = Balanced(written).words
    assert "Nothing that looks wrong." in words
    for line in ("apple2 boxes on 2 photos", "bowl3 boxes on 2 photos", "cake2 boxes on 2 photos"):
        assert line in words
    shown = photos_on(written)
    assert len(shown) == 6
    order = [1, 1, 0, 0, 2, 2]  # the most frequent first
    assert all(has_colour(image, COLOURS[label]) for image, label in zip(shown, order, strict=True))
    assert page(Report(drawn, []), "place") == written


def test_a_line_that_says_nothing_of_one_box_marks_none(drawn: Dataset) -> None:
    """An XML on one line has all boxes there; and where a box was removed, the line is another's as well."""
    photo = drawn.photos[2]
    photo.sources = [Source("a.xml", 1), Source("a.xml", 1)]
    found = [Finding(Source("a.xml", 1), "fault", photo=photo.path)]
    one = drawn.photos[0]
    one.sources = [Source("b.xml", 1)]
    found += [Finding(Source("b.xml", 1), "fault", photo=one.path, mend=REMOVED, kind="empty box")]
    written = page(Report(drawn, found), "place")
    assert not any(has_colour(image, COLOURS[5]) for image in photos_on(written)[:2])


def test_a_photo_is_shown_near_its_box(tmp_path: Path) -> None:
    """A small box on a large photo: the picture shows a quarter of it."""
    photo = draw_photo(tmp_path / "a.png", (1600, 800), [(0, 1500, 700, 1550, 750)])
    (image,) = photos_on(page(Report(Dataset([photo], ["apple"]), []), "place"))
    assert image.size == (240, 240)
    red = (np.abs(np.asarray(image, int) - (0xD0, 0x20, 0x20)).max(-1) < 30).sum()
    assert red == pytest.approx((50 / 400 * 240) ** 2, rel=0.2)


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    photo = draw_photo(tmp_path / "<b>떡볶이 & 'co'.png", (96, 64), [(0, 8, 10, 40, 50)])
    name = '<script>김치"</script>'
    found = [about(photo.path, what=f"the class {name!r}"), Finding(Source(f"{name}.xml"), "gone", photo=Path("no"))]
    written = page(Report(Dataset([photo], [name]), found), str(tmp_path))
    read = Balanced(written)
    assert "script" not in read.tags
    assert "b" not in read.tags[read.tags.index("h2") :]
    assert read.words.count(name) >= 4
    assert read.words.count(photo.path.name) == 2
    written.encode()


def test_a_name_in_no_encoding_can_be_written(drawn: Dataset) -> None:
    page(Report(drawn, [about(Path("bad\udcff.jpg"))]), "bad\udcff").encode()


@pytest.mark.parametrize("names", [[], ["apple"]])
def test_of_nothing_there_is_a_page(names: list[str]) -> None:
    written = page(Report(Dataset([], names), []), "place")
    assert "0 photos, 0 boxes" in Balanced(written).words
    assert "There is no box." in written
    assert pictures(written) == []


def test_photos_without_boxes(drawn: Dataset) -> None:
    empty = drawn.photos[3]
    written = page(Report(Dataset([empty], ["apple"]), [about(empty.path)]), "place")
    assert "There is no box." in written
    assert len(pictures(written)) == 2  # the finding's and the photos' sizes


def test_a_photo_that_went_away_leaves_its_line(drawn: Dataset) -> None:
    found = [about(photo.path, i) for i, photo in enumerate(drawn)]
    whole = page(Report(drawn, found), "place")
    assert len(photos_on(whole)) == 12
    drawn.photos[1].path.unlink()
    drawn.photos[4].path.write_bytes(drawn.photos[4].path.read_bytes()[:60])
    written = page(Report(drawn, found), "place")
    assert len(photos_on(written)) == 12 - 2 - 2
    words = Balanced(written).words
    assert all(f"fault {i}." in words for i in range(6))


def test_the_anchors_have_their_sentence(drawn: Dataset) -> None:
    reach = AnchorReach("retinanet (light)", 700, 0.6, 0.97, {"anchor_scales": [0.5, 1.5]})
    words = Balanced(page(Report(drawn, [], reach), "place")).words
    assert "60.0% of 700 boxes are reached by an anchor of retinanet (light); 97.0% with --fit-anchors." in words
    assert "anchor_scales[0.5, 1.5]" in words
    assert "boxes without anchor: 1" in words
    enough = Balanced(page(Report(drawn, [], AnchorReach("retinanet", 700, 0.99, 0.99, {})), "place")).words
    assert "99.0% of 700 boxes" in enough
    assert "--fit-anchors" not in enough
    assert "Anchors" not in Balanced(page(Report(drawn, []), "place")).words


def test_a_spoilt_folder_from_the_disk(drawn: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "spoilt"
    voc.write(drawn, folder)
    images = sorted((folder / "images").iterdir())
    images[0].write_bytes(images[0].read_bytes()[:100])
    images[1].rename(images[1].with_suffix(".jpg"))
    label = folder / "annotations" / f"{images[2].stem}.xml"
    label.write_text(label.read_text().replace("<xmax>30<", "<xmax>900<"))
    dataset, found = formats.read(folder, whole=True)
    written = page(Report(dataset, [*found, *examine(dataset, found)]), str(folder))
    words = Balanced(written).words
    assert "5 photos" in words
    for kind in ("broken photo: 1", "box outside the photo: 1", "wrong ending: 1"):
        assert kind in words
    assert len(photos_on(written)) > 5


def test_real_photos_are_bounded(test_data: Path) -> None:
    folder = test_data / "data" / "cafeteria" / "train"
    dataset, found = formats.read(folder)
    written = page(Report(dataset, [*found, *examine(dataset, found)]), str(folder))
    assert len(written) < 4_000_000
    assert 90 < len(photos_on(written)) <= 200
