"""The AI Starthon's text files as people really write them, and what is said of the faulty ones."""

from __future__ import annotations

from pathlib import Path
from unicodedata import normalize

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from foodbox.data import formats
from foodbox.data.formats import starthon
from foodbox.findings import Finding
from foodbox.records import Dataset, Photo
from tests.conftest import draw_photo

SIZE = (200, 100)


def read(folder: Path) -> tuple[Dataset, list[Finding]]:
    return formats.read(folder, "starthon")


def folder_with(tmp_path: Path, text: str | bytes | None, name: str = "lunch.jpg") -> Path:
    """One photo of 200 x 100 pixels, and its text file unless `text` is None."""
    draw_photo(tmp_path / name, SIZE, [])
    if text is not None:
        content = text.encode() if isinstance(text, str) else text
        (tmp_path / name).with_suffix(".txt").write_bytes(content)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("10,20,30,40\n", [10, 20, 40, 60]),
        ("10.5,20.25,30.5,40.125", [10.5, 20.25, 41, 60.375]),
        ("10, 20 ,\t30, 40  \n", [10, 20, 40, 60]),
        ("\ufeff10,20,30,40\n", [10, 20, 40, 60]),
        ("10,20,30,40\r\n", [10, 20, 40, 60]),
        ("10,20,30,40\r", [10, 20, 40, 60]),
        ("1e1,2e1,3.0e1,40.\n", [10, 20, 40, 60]),
        ("10,20,30,40\n50,60,7,8\nand a note", [10, 20, 40, 60]),
        ("0,0,200,100", [0, 0, 200, 100]),
        ("0,0,1.5,1.5", [0, 0, 1.5, 1.5]),
    ],
)
def test_a_box_in_the_wild(text: str, box: list[float], tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, text))
    assert findings == []
    photo = dataset.photos[0]
    assert photo.boxes.tolist() == [box]
    assert photo.boxes.dtype == torch.float32
    assert photo.labels.tolist() == [0]
    assert photo.labels.dtype == torch.int64
    assert (photo.width, photo.height) == SIZE
    assert photo.labelled
    assert str(photo.sources[0]).endswith("lunch.txt:1")
    assert dataset.names == ["food"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a pizza", "found 'a pizza' where four numbers x,y,w,h were expected"),
        ("10,20,30", "found '10,20,30' where four numbers"),
        ("10,20,30,40,50", "where four numbers"),
        ("10 20 30 40", "where four numbers"),
        ("10,20,thirty,40", "where four numbers"),
        ("10,20,nan,40", "where four numbers"),
        ("10,20,inf,40", "where four numbers"),
        ("10,20,-30,40", "the box 10,20,-30,40 (x,y,w,h) has a side below 0, expected both above 0"),
        ("10,20,30,0", "the box 10, 20, 40, 20 (x1, y1, x2, y2) has no area"),
        ("0.1,0.2,0.5,0", "has no area"),
        ("500,600,10,10", "lies outside the photo of 200 x 100 pixels"),
        ("-60,20,100,40", "lies outside the photo"),
    ],
)
def test_a_faulty_line_is_found_with_its_place(text: str, words: str, tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, text))
    assert dataset.box_count == 0
    (found,) = (f for f in findings if f.kind != "shares for pixels")
    assert words in found.what
    assert found.harm == "error"
    assert found.todo
    assert found.photo == tmp_path / "lunch.jpg"
    assert str(found).startswith(f"{tmp_path / 'lunch.txt'}:1: ")


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("150,20,100,40", [150, 20, 200, 60]),
        ("-50,20,100,40", [0, 20, 50, 60]),
        ("0.5,0.2,0.6,0.3", [100, 20, 200, 50]),
    ],
)
def test_a_box_of_which_half_lies_outside_is_cut_off_and_its_photo_is_not_trained_on(
    text: str, box: list[float], tmp_path: Path
) -> None:
    dataset, findings = read(folder_with(tmp_path, text))
    assert dataset.photos[0].boxes[0].tolist() == pytest.approx(box)
    (found,) = (f for f in findings if f.kind != "shares for pixels")
    assert (found.harm, found.photo, found.source.line) == ("error", tmp_path / "lunch.jpg", 1)
    assert "lies outside the photo of 200 x 100 pixels" in found.what


@pytest.mark.parametrize("content", [b"\xff\xff1\x000\x00,\x00", b"\x89PNG\r\n\x1a\n\xff\xff"])
def test_a_file_that_is_no_text_is_found(content: bytes, tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, content))
    assert dataset.box_count == 0
    assert [(f.harm, f.photo) for f in findings] == [("error", tmp_path / "lunch.jpg")]
    assert str(findings[0]).startswith(
        f"{tmp_path / 'lunch.txt'}: the file is no text in UTF-8, UTF-16 or CP949. Save it as"
    )


def test_a_file_in_koreas_older_encoding_is_read(tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, "10,20,30,40\n점심".encode("cp949")))
    assert findings == []
    assert dataset.photos[0].boxes.tolist() == [[10, 20, 40, 60]]


@pytest.mark.parametrize("ending", [".box", ".TXT", ".BOX"])
def test_other_endings_of_a_label_file(ending: str, tmp_path: Path) -> None:
    folder_with(tmp_path, "10,20,30,40")
    (tmp_path / "lunch.txt").rename(tmp_path / f"lunch{ending}")
    dataset, findings = formats.read(tmp_path)
    assert (dataset.format, findings) == ("starthon", [])
    assert dataset.photos[0].boxes.tolist() == [[10, 20, 40, 60]]


def test_of_two_label_files_the_txt_counts(tmp_path: Path) -> None:
    folder_with(tmp_path, "10,20,30,40")
    (tmp_path / "lunch.box").write_text("1,2,3,4")
    dataset, findings = read(tmp_path)
    assert findings == []
    assert dataset.photos[0].boxes.tolist() == [[10, 20, 40, 60]]


@pytest.mark.parametrize(
    ("text", "box"), [("0.1,0.2,0.5,0.5", [20, 20, 120, 70]), ("0.25,0.5,0.75,0.5\n", [50, 50, 200, 100])]
)
def test_numbers_up_to_one_are_shares_of_width_and_height(text: str, box: list[float], tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, text))
    assert [(f.harm, f.kind) for f in findings] == [("warning", "shares for pixels")]
    assert dataset.photos[0].boxes[0].tolist() == pytest.approx(box)


def test_a_label_whose_photo_is_missing_is_found_and_other_texts_are_not(tmp_path: Path) -> None:
    folder_with(tmp_path, "10,20,30,40")
    (tmp_path / "gone.txt").write_text("1,2,30,40")
    (tmp_path / "README.txt").write_text("Photos of lunches")
    dataset, findings = read(tmp_path)
    assert dataset.box_count == 1
    assert [(Path(f.source.path).name, f.what) for f in findings] == [
        ("gone.txt", "there is no photo named gone beside it")
    ]


def test_a_box_that_sticks_out_by_a_pixel_is_cut_off_and_noted(tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, "-1,10,202,91"))
    assert dataset.photos[0].boxes.tolist() == [[0, 10, 200, 100]]
    assert [f.harm for f in findings] == ["note"]
    assert "stuck out of the photo by 1.0 pixels" in findings[0].what


def test_an_empty_file_says_that_the_photo_shows_nothing(tmp_path: Path) -> None:
    """As the data doctor tells people: without a file a photo is one that nobody labelled."""
    dataset, findings = read(folder_with(tmp_path, ""))
    assert findings == []
    assert dataset.photos[0].boxes.shape == (0, 4)
    assert dataset.photos[0].labelled


def test_a_photo_without_a_file_is_one_that_nobody_labelled(tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, None))
    assert findings == []
    assert dataset.photos[0].boxes.shape == (0, 4)
    assert not dataset.photos[0].labelled


def test_letters_that_a_mac_wrote_in_pieces(tmp_path: Path) -> None:
    draw_photo(tmp_path / f"{normalize('NFD', '김치')}.jpg", SIZE, [])
    (tmp_path / "김치.txt").write_text("10,20,30,40")
    dataset, findings = formats.read(tmp_path)
    assert (dataset.format, findings) == ("starthon", [])
    assert [p.boxes.tolist() for p in dataset] == [[[10, 20, 40, 60]]]


def test_subfolders_and_endings_in_capitals(tmp_path: Path) -> None:
    """Two folders may hold the same names."""
    folder_with(tmp_path / "train", "10,20,30,40", "lunch.JPG")
    folder_with(tmp_path / "valid", "50,60,30,40", "lunch.JPG")
    dataset, findings = read(tmp_path)
    assert findings == []
    assert [p.path for p in dataset] == [tmp_path / part / "lunch.JPG" for part in ("train", "valid")]
    assert [p.boxes.tolist() for p in dataset] == [[[10, 20, 40, 60]], [[50, 60, 80, 100]]]


@pytest.mark.parametrize("content", [b"", b"hello there"])
def test_a_broken_photo_is_found_and_the_others_are_read(content: bytes, tmp_path: Path) -> None:
    folder_with(tmp_path, "10,20,30,40", "good.jpg")
    folder_with(tmp_path, "10,20,30,40", "bad.jpg")
    (tmp_path / "bad.jpg").write_bytes(content)
    dataset, findings = read(tmp_path)
    assert [p.path.name for p in dataset] == ["good.jpg"]
    assert [f.photo for f in findings] == [tmp_path / "bad.jpg"]
    assert "bad.jpg" not in findings[0].what  # its name stands before the finding already


def test_a_turned_photos_box_is_as_a_person_sees_it(tmp_path: Path) -> None:
    """Stored 200 x 100, seen 100 x 200: a box that only fits the seen pixels stays as it is."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", SIZE).save(tmp_path / "lunch.jpg", exif=exif)
    (tmp_path / "lunch.txt").write_text("10,120,50,60")
    photo = read(tmp_path)[0].photos[0]
    assert (photo.width, photo.height) == (100, 200)
    assert photo.boxes.tolist() == [[10, 120, 60, 180]]


def test_a_turned_photos_box_that_fits_the_stored_pixels_only_is_turned(tmp_path: Path) -> None:
    """EXIF 6 turns clockwise: stored x1 y1 x2 y2 becomes height - y2, x1, height - y1, x2."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", SIZE).save(tmp_path / "lunch.jpg", exif=exif)
    (tmp_path / "lunch.txt").write_text("120,10,60,50")
    dataset, findings = read(tmp_path)
    assert dataset.photos[0].boxes.tolist() == [[40, 120, 90, 180]]
    assert [(f.harm, "EXIF orientation 6" in f.what) for f in findings] == [("note", True)]


def test_one_box_that_fits_no_other_way_turns_the_others_only_if_none_speaks_against_it(tmp_path: Path) -> None:
    """Nothing in a label says which way it was drawn, and one of many may be wrong."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for name, label in (("a", "120,10,60,50"), ("b", "10,20,30,40")):
        Image.new("RGB", SIZE).save(tmp_path / f"{name}.jpg", exif=exif)
        (tmp_path / f"{name}.txt").write_text(label)
    assert read(tmp_path)[0].photos[1].boxes.tolist() == [[40, 10, 80, 40]]
    Image.new("RGB", SIZE).save(tmp_path / "c.jpg", exif=exif)
    (tmp_path / "c.txt").write_text("10,120,50,60")  # fits as a person sees the photo alone
    assert read(tmp_path)[0].photos[1].boxes.tolist() == [[10, 20, 40, 60]]


# -- Writing --------------------------------------------------------------------------------------------------------

coordinate = st.floats(0, 1, width=32)


@settings(max_examples=30)
@example(width=16000, shares=(0.70001, 0.0, 0.5, 0.5))
@given(width=st.sampled_from([100, 4000, 16000]), shares=st.tuples(*[coordinate] * 4))
def test_what_is_written_is_read_to_a_hundredth_of_a_pixel(
    width: int, shares: tuple[float, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also on a panorama, whose width has five digits."""
    folder = tmp_path_factory.mktemp("starthon")
    height = 40
    x1, y1 = shares[0] * (width - 3), shares[1] * (height - 3)
    box = torch.tensor([[x1, y1, x1 + 2 + shares[2] * (width - x1 - 2), y1 + 2 + shares[3] * (height - y1 - 2)]])
    Image.new("L", (width, height)).save(folder / "photo.png")
    photo = Photo(folder / "photo.png", width, height, box, torch.zeros(1, dtype=torch.int64))
    starthon.write(Dataset([photo], ["food"]), folder / "out")
    dataset, findings = read(folder / "out")
    assert [f for f in findings if f.harm == "error"] == []
    torch.testing.assert_close(dataset.photos[0].boxes, box, rtol=0, atol=0.01)


def test_photos_with_one_box_with_none_and_unlabelled_come_back_as_they_were(tmp_path: Path) -> None:
    photos = [
        draw_photo(tmp_path / "a.png", SIZE, [(0, 10, 20, 30, 40)]),
        draw_photo(tmp_path / "b.png", SIZE, []),
        draw_photo(tmp_path / "c.png", SIZE, []),
    ]
    photos[2].labelled = False
    starthon.write(Dataset(photos, ["food"]), tmp_path / "out")
    found = read(tmp_path / "out")[0].photos
    assert [p.labelled for p in found] == [True, True, False]
    assert [p.boxes.tolist() for p in found] == [p.boxes.tolist() for p in photos]
    assert [p.path.read_bytes() for p in found] == [p.path.read_bytes() for p in photos]
