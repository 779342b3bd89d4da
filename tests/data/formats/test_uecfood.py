"""UECFOOD's folders as they come, and what is said of the faulty ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foodbox.data import formats
from foodbox.data.formats import uecfood
from foodbox.data.listing import scan
from foodbox.findings import Finding
from foodbox.records import Dataset, Photo
from tests.conftest import draw_photo

SIZE = (200, 100)
NAMES = "id\tname\n1\trice\n2\teels on rice\n10\tmiso soup\n"


def read(folder: Path) -> tuple[Dataset, list[Finding]]:
    return formats.read(folder, "uecfood")


def a_folder(root: Path, folder: str, text: str | bytes | None, *photos: str) -> Path:
    """One class, whose photos are all different, and its bb_info.txt."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name in photos:
        Image.effect_noise(SIZE, 80).save(root / folder / name)
    if text is not None:
        content = text.encode() if isinstance(text, str) else text
        (root / folder / "bb_info.txt").write_bytes(content)
    return root


def category(root: Path, text: str = NAMES) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "category.txt").write_text(text, encoding="utf-8")
    return root


# -- Reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "img x1 y1 x2 y2\n1 10 20 40 60\n2 0 0 200 100\n",
        "img x1 y1 x2 y2\r\n1 10 20 40 60\r\n2 0 0 200 100",
        "\ufeffimg x1 y1 x2 y2\n\n 1\t10  20 40 60 \n2 0 0 200 100\n\n",
        "1 10 20 40 60\n2 0.0 0.0 2e2 100.0\n",
        "img x1 y1 x2 y2\n1.jpg 10 20 40 60\n2.jpg 0 0 200 100\n",
    ],
)
def test_a_folder_in_the_wild(text: str, tmp_path: Path) -> None:
    a_folder(category(tmp_path), "10", text, "1.jpg", "2.jpg")
    dataset, findings = formats.read(tmp_path)
    assert (dataset.format, findings) == ("uecfood", [])
    assert dataset.names == ["rice", "eels on rice", "miso soup"]
    assert [p.boxes.tolist() for p in dataset] == [[[10, 20, 40, 60]], [[0, 0, 200, 100]]]
    assert [p.labels.tolist() for p in dataset] == [[2], [2]]
    assert all(p.labelled for p in dataset)
    line = text.splitlines().index(next(line for line in text.splitlines() if " 60" in line)) + 1
    assert str(dataset.photos[0].sources[0]) == f"{tmp_path / '10' / 'bb_info.txt'}:{line}"


def test_no_other_format_fits_and_the_written_one_neither(drawn: Dataset, tmp_path: Path) -> None:
    a_folder(category(tmp_path / "wild"), "1", "img x1 y1 x2 y2\n1 10 20 40 60\n", "1.jpg")
    uecfood.write(formats.prune(drawn, "uecfood")[0], tmp_path / "out")
    for folder in (tmp_path / "wild", tmp_path / "out"):
        assert [name for name, kind in formats.FORMATS.items() if kind.fits(scan(folder))] == ["uecfood"]


def test_a_photo_in_several_folders_is_one_with_the_boxes_of_all(tmp_path: Path) -> None:
    category(tmp_path)
    a_folder(tmp_path, "1", "img x1 y1 x2 y2\n7 10 20 40 60\n7 50 20 90 60\n", "7.jpg")
    a_folder(tmp_path, "2", "img x1 y1 x2 y2\n7 100 20 140 60\n")
    (tmp_path / "2" / "7.jpg").write_bytes((tmp_path / "1" / "7.jpg").read_bytes())
    dataset, findings = read(tmp_path)
    assert findings == []
    assert [p.path for p in dataset] == [tmp_path / "1" / "7.jpg"]
    photo = dataset.photos[0]
    assert photo.boxes.tolist() == [[10, 20, 40, 60], [50, 20, 90, 60], [100, 20, 140, 60]]
    assert photo.labels.tolist() == [0, 0, 1]
    places = [(Path(s.path).parent.name, s.line) for s in photo.sources]
    assert places == [("1", 2), ("1", 3), ("2", 2)]


@pytest.mark.parametrize("size", [SIZE, (60, 40)])
def test_other_photos_of_one_number_stay_apart(size: tuple[int, int], tmp_path: Path) -> None:
    """Also where their files have one size: people number the photos of each folder from 1."""
    category(tmp_path)
    for folder, sides in (("1", SIZE), ("2", size)):
        a_folder(tmp_path, folder, "img x1 y1 x2 y2\n7 10 20 40 40\n")
        Image.effect_noise(sides, 80).save(tmp_path / folder / "7.bmp")
    sizes = {(tmp_path / folder / "7.bmp").stat().st_size for folder in ("1", "2")}
    assert len(sizes) == (1 if size == SIZE else 2)
    dataset, findings = read(tmp_path)
    assert findings == []
    assert [(p.path.parent.name, p.labels.tolist()) for p in dataset] == [("1", [0]), ("2", [1])]


def test_photos_without_a_line_and_outside_the_folders_are_ones_that_nobody_labelled(tmp_path: Path) -> None:
    a_folder(category(tmp_path), "1", "img x1 y1 x2 y2\n1 10 20 40 60\n", "1.jpg", "2.jpg")
    a_folder(tmp_path, "more", None, "1.jpg")
    dataset, findings = read(tmp_path)
    assert findings == []
    assert [(p.path.relative_to(tmp_path).as_posix(), p.labelled) for p in dataset] == [
        ("1/1.jpg", True),
        ("1/2.jpg", False),
        ("more/1.jpg", False),
    ]


def test_without_names_classes_are_called_like_their_folders(tmp_path: Path) -> None:
    """By their size: 2 before 10."""
    for folder in ("10", "2", "soup"):
        a_folder(tmp_path, folder, "img x1 y1 x2 y2\n1 10 20 40 60\n", "1.jpg")
    dataset, findings = formats.read(tmp_path)
    assert dataset.names == ["2", "10", "soup"]
    assert {p.path.parent.name: dataset.names[int(p.labels[0])] for p in dataset} == {
        "10": "10", "2": "2", "soup": "soup",
    }  # fmt: skip
    assert [(f.harm, f.what) for f in findings] == [
        ("note", "there is no category.txt: classes are called like their folders")
    ]


def test_two_sets_in_one_folder_keep_their_names_and_their_photos_apart(tmp_path: Path) -> None:
    for name, content in (("UECFOOD100", NAMES), ("UECFOOD256", "id\tname\n1\tsoba\n2\trice\n")):
        category(tmp_path / name, content)
        for folder in ("1", "2"):
            draw_photo(tmp_path / name / folder / "1.jpg", SIZE, [])  # the same in all
            a_folder(tmp_path / name, folder, "img x1 y1 x2 y2\n1 10 20 40 60\n")
    dataset, findings = read(tmp_path)
    assert findings == []
    assert dataset.names == ["rice", "eels on rice", "miso soup", "soba"]
    assert [p.path.parent.parent.name for p in dataset] == ["UECFOOD100", "UECFOOD256"]
    assert [[dataset.names[i] for i in p.labels] for p in dataset] == [["rice", "eels on rice"], ["soba", "rice"]]


@pytest.mark.parametrize("place", ["2", "2/bb_info.txt"])
def test_one_folder_of_the_set(place: str, tmp_path: Path) -> None:
    """Its name stands above it."""
    for folder in ("1", "2"):
        a_folder(category(tmp_path), folder, "img x1 y1 x2 y2\n1 10 20 40 60\n", "1.jpg")
    dataset, findings = formats.read(tmp_path / place)
    assert findings == []
    assert [p.path for p in dataset] == [tmp_path / "2" / "1.jpg"]
    assert [dataset.names[i] for i in dataset.photos[0].labels] == ["eels on rice"]


@pytest.mark.parametrize("inside", [".", "2"])
def test_the_folder_where_one_is(inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_folder(category(tmp_path), "2", "img x1 y1 x2 y2\n1 10 20 40 60\n", "1.jpg")
    monkeypatch.chdir(tmp_path / inside)
    dataset, findings = formats.read(Path())
    assert findings == []
    assert [dataset.names[i] for i in dataset.photos[0].labels] == ["eels on rice"]


# -- Faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words", "has_photo"),
    [
        ("1 10 20 40", "found '1 10 20 40' where NUMBER x1 y1 x2 y2 were expected", True),
        ("1 10 20 40 60 5", "where NUMBER x1 y1 x2 y2 were expected", True),
        ("1 10 twenty 40 60", "where NUMBER x1 y1 x2 y2 were expected", True),
        ("1 10 nan 40 60", "where NUMBER x1 y1 x2 y2 were expected", True),
        ("1,10,20,40,60", "found '1,10,20,40,60' where NUMBER", False),
        ("img", "where NUMBER x1 y1 x2 y2 were expected", False),
        ("1 40 20 10 60", "the box 40, 20, 10, 60 (x1, y1, x2, y2) has its corners exchanged", True),
        ("1 10 20 10 60", "has no area", True),
        ("1 300 20 340 60", "lies outside the photo of 200 x 100 pixels", True),
        ("9 10 20 40 60", "there is no photo named 9 beside it", False),
    ],
)
def test_a_faulty_line_is_found_and_the_others_are_read(line: str, words: str, has_photo: bool, tmp_path: Path) -> None:
    a_folder(category(tmp_path), "1", f"img x1 y1 x2 y2\n2 10 20 40 60\n{line}\n", "1.jpg", "2.jpg")
    dataset, findings = read(tmp_path)
    assert dataset.photos[1].boxes.tolist() == [[10, 20, 40, 60]]
    assert len(findings) == 1
    assert words in findings[0].what
    assert (findings[0].harm, bool(findings[0].todo)) == ("error", True)
    assert findings[0].photo == (tmp_path / "1" / "1.jpg" if has_photo else None)
    assert str(findings[0]).startswith(f"{tmp_path / '1' / 'bb_info.txt'}:3: ")


@pytest.mark.parametrize(
    ("text", "harm", "what", "line", "names"),
    [
        ("id\tname\n1\n", "error", "found '1' where a folder's number and the name of its class", 2, ["1"]),
        ("1\trice\n1\tsoup\n", "error", "the folder 1 is 'rice' already, and here 'soup'", 2, ["rice"]),
        ("1\trice\n2\trice\n", "warning", "the class 'rice' stands twice, for the folders 1 and 2", 2, ["rice"]),
        ("id\tname\n2\tsoup\n", "warning", "the folder 1 has no line: its class is called '1'", None, ["soup", "1"]),
    ],
)
def test_a_faulty_list_of_names(
    text: str, harm: str, what: str, line: int | None, names: list[str], tmp_path: Path
) -> None:
    a_folder(category(tmp_path, text), "1", "img x1 y1 x2 y2\n1 10 20 40 60\n", "1.jpg")
    dataset, findings = read(tmp_path)
    assert dataset.names == names
    assert dataset.box_count == 1
    assert [(f.harm, f.source.path, f.source.line) for f in findings] == [(harm, tmp_path / "category.txt", line)]
    assert what in findings[0].what


@pytest.mark.parametrize("text", ["id\tname\n1\t떡볶이\n", "1 떡볶이\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_names_in_other_spellings_and_encodings(text: str, encoding: str, tmp_path: Path) -> None:
    a_folder(tmp_path, "1", "img x1 y1 x2 y2\n1 10 20 40 60\n", "1.jpg")
    (tmp_path / "category.txt").write_bytes(text.encode(encoding))
    dataset, findings = read(tmp_path)
    assert (dataset.names, findings) == (["떡볶이"], [])


def test_files_that_are_no_text(tmp_path: Path) -> None:
    a_folder(tmp_path, "1", b"\x89PNG\r\n\xff\xff", "1.jpg")
    (tmp_path / "category.txt").write_bytes(b"\x89PNG\r\n\xff\xff")
    dataset, findings = read(tmp_path)
    assert [p.labelled for p in dataset] == [False]
    assert [(f.harm, Path(f.source.path).name) for f in findings] == [
        ("error", "category.txt"),
        ("error", "bb_info.txt"),
    ]


# -- Writing --------------------------------------------------------------------------------------------------------


def test_drawn_photos_come_back_as_they_were(drawn: Dataset, tmp_path: Path) -> None:
    """Under numbers, and those that show nothing are left out before."""
    drawn.photos[5] = Photo(drawn.photos[5].path, *SIZE, labelled=False)
    pruned, words = formats.prune(drawn, "uecfood")
    assert words == ["1 photos that show nothing are left out: it holds photos with a box only"]
    uecfood.write(pruned, tmp_path / "out")
    dataset, findings = formats.read(tmp_path / "out")
    assert findings == []
    assert dataset.names == drawn.names
    found = sorted(dataset, key=lambda photo: int(photo.path.stem))
    assert [p.path.relative_to(tmp_path / "out").as_posix() for p in found] == [
        "1/1.png", "2/2.png", "1/3.png", "2/4.png", "unlabelled/5.png",
    ]  # fmt: skip
    for mine, other in zip(found, pruned, strict=True):
        assert mine.path.read_bytes() == other.path.read_bytes()
        assert mine.boxes.tolist() == other.boxes.tolist()
        assert mine.labels.tolist() == other.labels.tolist()
        assert mine.labelled == other.labelled


def test_the_written_files_are_as_the_format_has_them(tmp_path: Path) -> None:
    photos = [
        draw_photo(tmp_path / "a" / "lunch.png", SIZE, [(1, 10, 20, 30, 40), (0, 1, 2, 3, 4)]),
        draw_photo(tmp_path / "b" / "lunch.png", SIZE, [(1, 5, 6, 70, 80)]),
    ]
    uecfood.write(Dataset(photos, ["rice", "eels\ton  rice"]), tmp_path / "out")
    texts = {p.relative_to(tmp_path / "out").as_posix(): p.read_text() for p in (tmp_path / "out").rglob("*.txt")}
    assert texts == {
        "category.txt": "id\tname\n1\trice\n2\teels on rice\n",
        "1/bb_info.txt": "img x1 y1 x2 y2\n1 1 2 3 4\n",
        "2/bb_info.txt": "img x1 y1 x2 y2\n1 10 20 30 40\n2 5 6 70 80\n",
    }


coordinate = st.floats(0, 1, width=32)


@settings(max_examples=30)
@given(
    width=st.sampled_from([100, 4000, 16000]),
    rows=st.lists(st.tuples(*[coordinate] * 4, st.sampled_from([0, 1, 2])), min_size=1, max_size=4),
)
def test_what_is_written_is_read_to_half_a_pixel(
    width: int, rows: list[tuple[float, float, float, float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, height, names = tmp_path_factory.mktemp("uecfood"), 40, ["a", "b & <c>", "떡"]
    boxes = []
    for x, y, w, h, _ in rows:
        x1, y1 = x * (width - 3), y * (height - 3)
        boxes.append([x1, y1, x1 + 1 + w * (width - x1 - 1), y1 + 1 + h * (height - y1 - 1)])
    Image.new("L", (width, height)).save(folder / "photo.png")
    labels = torch.tensor([row[4] for row in rows], dtype=torch.int64)
    photo = Photo(folder / "photo.png", width, height, torch.tensor(boxes, dtype=torch.float32), labels)
    uecfood.write(Dataset([photo], names), folder / "out")
    dataset, findings = read(folder / "out")
    assert {f.kind for f in findings} <= {"pixels or shares"}  # of a box of one pixel, in the corner
    assert dataset.names == names
    assert len(dataset) == 1
    found, order = dataset.photos[0], torch.argsort(labels, stable=True)  # the folders' order
    torch.testing.assert_close(found.boxes, photo.boxes[order], rtol=0, atol=0.501)
    assert found.labels.tolist() == labels[order].tolist()


@given(st.floats(0, 99), st.floats(1e-3, 1))
def test_a_box_below_a_pixel_keeps_an_area(start: float, side: float) -> None:
    x1, y1, x2, y2 = uecfood._whole((start, start, start + side, start + side))
    assert 0 <= x1 < x2 <= 100
    assert 0 <= y1 < y2 <= 100
    assert x1 - 1 <= start
    assert start + side <= x2 + 1
