"""crop_area.properties as people and programs really wrote them, and what is said of the faulty lines."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foodbox.data import formats
from foodbox.data.formats import kfood, starthon
from foodbox.data.listing import scan
from foodbox.findings import Finding
from foodbox.records import Dataset, Photo
from tests.conftest import draw_photo

SIZE = (200, 100)
BOX = [10.0, 20.0, 40.0, 60.0]
STEW = "김치찌개"


def folder_with(tmp_path: Path, text: str | bytes | None, *photos: str, label: str = STEW) -> Path:
    """Photos of 200 x 100 pixels, lunch.jpg if none are named, in a class's folder, and its file; gives the root."""
    for name in photos or ("lunch.jpg",):
        draw_photo(tmp_path / label / name, SIZE, [])
    if text is not None:
        content = text.encode() if isinstance(text, str) else text
        (tmp_path / label / kfood.FILE).write_bytes(content)
    return tmp_path


def read_one(tmp_path: Path, text: str | bytes, *photos: str, format: str | None = None) -> tuple[Photo, list[Finding]]:
    """The first photo of such a folder, and all findings."""
    dataset, findings = formats.read(folder_with(tmp_path, text, *photos), format)
    return dataset.photos[0], findings


# -- Lines ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "lunch=10,20,30,40",
        "lunch=10,20,30,40\r\n",
        "lunch=10,20,30,40\r",
        "\n\n  \t\nlunch=10,20,30,40\n\n",
        "\ufefflunch=10,20,30,40\n",
        "# box\n\ufefflunch=10,20,30,40\n",
        " lunch = 10 , 20 ,\t30 ,40  \n",
        "\tlunch\t=\t10\t20\t30\t40",
        "\u3000lunch=10,20,30,40",
        "lunch: 10,20,30,40",
        "lunch:10,20,30,40",
        "lunch 10,20,30,40",
        "lunch\t10,20,30,40",
        "lunch.jpg=10,20,30,40",
        "lunch.JPG=10,20,30,40",
        "lunch.png=10,20,30,40",
        "LUNCH=10,20,30,40",
        '"lunch"="10,20,30,40"',
        "'lunch'=10,20,30,40",
        "./lunch.jpg=10,20,30,40",
        "C:\\photos\\lunch.jpg=10,20,30,40",
        f"kfood/{STEW}/lunch=10,20,30,40",
        "l\\u0075nch=10,20,30,40",
        "lunch=10,20,\\\n   30,40",
        "lun\\\nch=10,20,30,40",
        "# lunch=1,2,3,4\n! lunch=5,6,7,8\n  # and so on\nlunch=10,20,30,40",
        "[sections]\nlunch=10,20,30,40",
        "=\nlunch=10,20,30,40",
        "lunch==10,20,30,40",
        "lunch=(10,20,30,40)",
        "lunch=[10, 20, 30, 40]",
        "lunch={10,20},{30,40}",
        "lunch=(10,20)(30,40)",
        'lunch="10","20","30","40"',
        "lunch=10;20;30;40",
        "lunch=10 20 30 40",
        "lunch=10,20,30x40",
        "lunch=10, 20, 30 x 40",
        "lunch=10x20x30x40",
        "lunch=10,20,30×40",
        "lunch=10px,20px,30px,40px",
        "lunch=10.0,20.,3e1,+40",
        "lunch=10,20,30,40,",
        "lunch=10,20,30,40 kimchi",
        "lunch=10,20,30,40,kimchi",
        "lunch=10,20,30,40 # checked by 2 people",
        "lunch＝１０，２０，３０，４０",
        "lunch：10、20、30、40",
    ],
)
def test_a_line_in_the_wild_is_read(text: str, tmp_path: Path) -> None:
    photo, findings = read_one(tmp_path, text)
    assert findings == []
    assert photo.labelled
    assert photo.boxes.tolist() == [BOX]
    assert photo.boxes.dtype == torch.float32


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lunch=30,40", "found '30,40' where four numbers x,y,w,h were expected"),
        ("lunch=10,20,30", "found '10,20,30' where four numbers"),
        ("lunch=,640,480", "where four numbers"),
        ("lunch=10,,20,30,40", "where four numbers"),
        ("lunch=10,20,30,40,50", "where four numbers"),
        ("lunch=10,20,30,40 50", "where four numbers"),
        ("lunch=10,5;20,5;30,5;40,5", "where four numbers"),
        ("lunch=dissimilar,640,480", "found 'dissimilar,640,480' where four numbers"),
        ("lunch=kimchi", "found 'kimchi' where four numbers"),
        ("lunch=kimchi 10,20,30,40", "where four numbers"),
        ("lunch=10,20,30,40kimchi", "where four numbers"),
        ("lunch=10,20,30,4O", "where four numbers"),
        ("lunch=10,twenty,30,40", "where four numbers"),
        ("lunch=10%,20%,30%,40%", "where four numbers"),
        ("lunch=1_0,20,30,40", "where four numbers"),
        ("lunch=10,20,nan,40", "where four numbers"),
        ("lunch=10,20,inf,40", "where four numbers"),
        ("lunch=10,20,1e999,40", "where four numbers"),
        ("lunch=0x10,0x20,0x30,0x40", "where four numbers"),
        ("lunch=x=10,y=20,w=30,h=40", "found 'x=10,y=20,w=30,h=40' where four numbers"),
        ("lunch=10-20-30-40", "where four numbers"),
        ("lunch=10,20,30,40\\\ndinner=1,2,3,4", "where four numbers"),
        ("lunch=10,20,-30,40", "the box 10,20,-30,40 (x,y,w,h) has a side below 0"),
        ("lunch=10,20,30,-1", "has a side below 0"),
        ("lunch=10,20,30,0", "has no area"),
        ("lunch=0,0,0,0", "has no area"),
        ("lunch=-50,20,100,40", "lies outside the photo of 200 x 100 pixels"),
        ("lunch=150,20,100,40", "lies outside the photo of 200 x 100 pixels"),
        ("lunch=500,600,10,10", "lies outside the photo"),
    ],
)
def test_a_line_without_a_plain_meaning_is_refused_with_its_place(text: str, words: str, tmp_path: Path) -> None:
    _, findings = read_one(tmp_path, f"# boxes\n{text}\n")
    assert len(findings) == 1
    assert words in findings[0].what
    assert findings[0].harm == "error"
    assert findings[0].todo
    assert findings[0].photo == tmp_path / STEW / "lunch.jpg"
    assert str(findings[0]).startswith(f"{tmp_path / STEW / kfood.FILE}:2: ")


@pytest.mark.parametrize("text", ["lunch=", "lunch", "lunch =  ", "lunch:", "lunch=,,,", 'lunch=""', "lunch=null"])
def test_an_empty_entry_is_a_photo_that_nobody_cropped(text: str, tmp_path: Path) -> None:
    photo, findings = read_one(tmp_path, text)
    assert not photo.labelled
    assert len(photo.boxes) == 0
    assert [(f.harm, f.kind) for f in findings] == [("warning", "empty entry")]
    assert findings[0].photo == photo.path


@pytest.mark.parametrize("text", ["stray words here", "total 300", "=10,20,30,40", "10,20,30,40", "\x00\x01"])
def test_a_line_without_a_name_is_refused(text: str, tmp_path: Path) -> None:
    photo, findings = read_one(tmp_path, f"{text}\nlunch=10,20,30,40")
    assert photo.boxes.tolist() == [BOX]
    assert [(f.harm, f.photo, f.source.line) for f in findings] == [("error", None, 1)]
    assert "where NAME=x,y,w,h was expected" in findings[0].what


@pytest.mark.parametrize("text", ["dinner=10,20,30,40", "dinner=", "dinner: abc", "lunch2=1,2,3,4", "unch=1,2,3,4"])
def test_an_entry_without_its_photo(text: str, tmp_path: Path) -> None:
    photo, findings = read_one(tmp_path, f"lunch=10,20,30,40\n{text}\n")
    assert photo.boxes.tolist() == [BOX]
    assert [(f.kind, f.photo, f.source.line) for f in findings] == [("label without photo", None, 2)]
    assert text[:4] in findings[0].what


@pytest.mark.parametrize("again", ["lunch=10,20,30,40", "lunch.jpg = 10.0, 20, 30, 40"])
def test_the_same_entry_twice_is_a_warning(again: str, tmp_path: Path) -> None:
    photo, findings = read_one(tmp_path, f"lunch=10,20,30,40\n\n{again}\n")
    assert photo.boxes.tolist() == [BOX]
    assert [(f.harm, f.kind, f.source.line) for f in findings] == [("warning", "entry twice", 3)]
    assert "in line 1" in findings[0].what


def test_two_boxes_of_one_photo_are_an_error_that_names_both_lines(tmp_path: Path) -> None:
    photo, findings = read_one(tmp_path, "lunch=10,20,30,40\n#\nlunch=10,20,30,41\n")
    assert photo.boxes.tolist() == [BOX]
    assert [(f.harm, f.photo, f.source.line) for f in findings] == [("error", photo.path, 3)]
    assert "in line 1" in findings[0].what


def test_an_empty_entry_beside_a_full_one_gives_the_box(tmp_path: Path) -> None:
    photo, findings = read_one(tmp_path, "lunch=\nlunch=10,20,30,40\nlunch=\n")
    assert photo.boxes.tolist() == [BOX]
    assert photo.labelled
    assert [f.harm for f in findings] == ["warning", "warning"]


def test_numbers_of_at_most_1_are_shares_of_the_photo(tmp_path: Path) -> None:
    photo, findings = read_one(tmp_path, "lunch=0.1,0.2,0.5,0.5")
    assert photo.boxes[0].tolist() == pytest.approx([20, 20, 120, 70])
    assert [(f.harm, f.kind) for f in findings] == [("warning", "shares for pixels")]


def test_a_box_of_one_whole_pixel_is_no_share(tmp_path: Path) -> None:
    photo, findings = read_one(tmp_path, "lunch=0,0,1,1")
    assert photo.boxes.tolist() == [[0, 0, 1, 1]]
    assert [(f.harm, f.kind) for f in findings] == [("warning", "pixels or shares")]


# -- Names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("my lunch.jpg", "my lunch"),
        ("my lunch.jpg", "my\\ lunch"),
        ("a=b.jpg", "a=b"),
        ("a=b.jpg", "a\\=b"),
        ("12:30.jpg", "12:30"),
        ("12:30.jpg", "12\\:30"),
        ("#1.jpg", "\\#1"),
        ("back\\slash.jpg", "back\\\\slash"),
        ("Img_001.v2.jpg", "Img_001.v2"),
        ("Img_001.v2.jpg", "img_001.V2"),
        ("점심.jpg", "점심"),
        ("점심.jpg", "\\uc810\\uc2ec"),
        ("점심.jpg", unicodedata.normalize("NFD", "점심")),
        (unicodedata.normalize("NFD", "점심.jpg"), "점심"),
        ("점심.JPG", "점심.jpg"),
        ("🍜.jpg", "\\ud83c\\udf5c"),
        ("lunch.PNG", "lunch"),
        ("lunch.jpg.png", "lunch.jpg"),
    ],
)
def test_a_name_in_the_wild(name: str, key: str, tmp_path: Path) -> None:
    photo, findings = read_one(tmp_path, f"{key}=10,20,30,40\n", name)
    assert findings == []
    assert photo.boxes.tolist() == [BOX]


def test_names_in_cp949(tmp_path: Path) -> None:
    photo, findings = read_one(tmp_path, "# 음식\r\n점심=10,20,30,40\r\n".encode("cp949"), "점심.jpg")
    assert findings == []
    assert photo.boxes.tolist() == [BOX]


@pytest.mark.parametrize("text", [b"\xff\xff\xff", "=é".encode("latin-1") + b"\xff"])
def test_a_file_that_is_no_text_is_refused(text: bytes, tmp_path: Path) -> None:
    photo, findings = read_one(tmp_path, text)
    assert not photo.labelled
    assert [f.harm for f in findings] == ["error"]
    assert "no text in UTF-8, UTF-16 or CP949" in findings[0].what


def test_two_photos_of_one_stem_need_the_ending(tmp_path: Path) -> None:
    dataset, findings = formats.read(folder_with(tmp_path, "lunch=10,20,30,40", "lunch.jpg", "lunch.png"))
    assert [photo.labelled for photo in dataset] == [False, False]
    assert [f.harm for f in findings] == ["error"]
    assert "lunch could be lunch.jpg and lunch.png" in findings[0].what
    (tmp_path / STEW / kfood.FILE).write_text("lunch.png=10,20,30,40\nlunch.jpg=1,2,3,4")
    dataset, findings = formats.read(tmp_path)
    assert findings == []
    assert [photo.boxes[0].tolist() for photo in dataset] == [[1, 2, 4, 6], BOX]


def test_capitals_tell_two_photos_apart(tmp_path: Path) -> None:
    dataset, findings = formats.read(
        folder_with(tmp_path, "Lunch=1,2,3,4\nlunch=10,20,30,40", "Lunch.jpg", "lunch.jpg")
    )
    if len(dataset) == 2:  # not on disks that cannot tell them apart
        assert findings == []
        assert [photo.boxes[0].tolist() for photo in dataset] == [[1, 2, 4, 6], BOX]


# -- Folders --------------------------------------------------------------------------------------------------------


def test_the_class_is_the_folders_name_and_each_folder_has_its_own_names(tmp_path: Path) -> None:
    """Image names repeat from folder to folder; Macs write Korean names in pieces (NFD)."""
    folder_with(tmp_path / "찌개", "lunch=10,20,30,40")
    folder_with(tmp_path / "밥", "lunch=1,2,3,4", label=unicodedata.normalize("NFD", "비빔밥"))
    folder_with(tmp_path / "more", "lunch=5,6,7,8")
    dataset, findings = formats.read(tmp_path)
    assert findings == []
    assert dataset.format == "kfood"
    assert dataset.names == [STEW, "비빔밥"]
    boxes = {photo.path.parts[-3]: (dataset.names[photo.labels[0]], photo.boxes[0].tolist()) for photo in dataset}
    assert boxes == {"찌개": (STEW, BOX), "밥": ("비빔밥", [1, 2, 4, 6]), "more": (STEW, [5, 6, 12, 14])}


def test_photos_without_an_entry_and_folders_without_a_file_are_unlabelled(tmp_path: Path) -> None:
    folder_with(tmp_path, "lunch=10,20,30,40", "lunch.jpg", "other.JPG")
    folder_with(tmp_path, None, label="raw")
    dataset, findings = formats.read(tmp_path)
    assert findings == []
    assert {photo.path.name for photo in dataset if photo.labelled} == {"lunch.jpg"}
    assert len(dataset) == 3
    assert dataset.names == [STEW]


def test_one_folder_alone_and_one_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_with(tmp_path, "lunch=10,20,30,40")
    monkeypatch.chdir(tmp_path / STEW)
    for place in (tmp_path / STEW, tmp_path / STEW / kfood.FILE, Path()):
        dataset, findings = formats.read(place)
        assert findings == []
        assert dataset.names == [STEW]
        assert [photo.boxes.tolist() for photo in dataset] == [[BOX]]


def test_the_files_own_name_in_capitals(tmp_path: Path) -> None:
    folder_with(tmp_path, "lunch=10,20,30,40")
    (tmp_path / STEW / kfood.FILE).rename(tmp_path / STEW / "Crop_Area.PROPERTIES")
    assert formats.read(tmp_path)[0].box_count == 1


def test_no_other_format_fits_and_other_properties_files_are_not_it(tmp_path: Path) -> None:
    """Such folders also hold org_url.csv, where the photos came from."""
    folder_with(tmp_path, "lunch=10,20,30,40")
    (tmp_path / STEW / "org_url.csv").write_text("lunch.jpg,http://example.org/lunch.jpg\n")
    listing = scan(tmp_path)
    assert [name for name, kind in formats.FORMATS.items() if kind.fits(listing)] == ["kfood"]
    (tmp_path / STEW / kfood.FILE).rename(tmp_path / STEW / "log4j.properties")
    assert not kfood.fits(scan(tmp_path))


def test_corners_are_read_and_written_only_by_name(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "lunch=10,20,40,60")
    dataset, findings = formats.read(folder, "kfood_corners")
    assert findings == []
    assert dataset.format == "kfood_corners"
    assert dataset.photos[0].boxes.tolist() == [BOX]
    kfood.write_corners(dataset, tmp_path / "out")
    assert (tmp_path / "out" / STEW / kfood.FILE).read_text() == "lunch=10,20,40,60\n"
    photo, findings = read_one(tmp_path, "lunch=40,20,10,60", format="kfood_corners")
    assert photo.boxes.tolist() == [BOX]
    assert [(f.harm, f.kind) for f in findings] == [("error", "exchanged corners")]


# -- Real layouts ---------------------------------------------------------------------------------------------------


def test_the_real_layout(test_data: Path, tmp_path: Path) -> None:
    """What another program laid out, beside the Pascal VOC files that it made it of."""
    script, voc = test_data / "tools" / "make_starthon.py", test_data / "data" / "fruits_nuts"
    subprocess.run([sys.executable, script, voc, tmp_path], check=True, stdout=subprocess.DEVNULL)
    dataset, findings = formats.read(tmp_path / "kfood")
    assert [f for f in findings if f.harm == "error"] == []
    assert dataset.format == "kfood"
    wanted = {}
    for file in (voc / "annotations").glob("*.xml"):
        objects = list(ElementTree.parse(file).getroot().iter("object"))
        corners = torch.tensor(
            [[float(o.findtext(f"bndbox/{k}", "")) for k in ("xmin", "ymin", "xmax", "ymax")] for o in objects]
        )
        around = torch.cat((corners[:, :2].amin(0), corners[:, 2:].amax(0))).tolist()
        wanted[file.stem] = (objects[0].findtext("name"), pytest.approx(around))
    read = {photo.path.stem: (dataset.names[photo.labels[0]], photo.boxes[0].tolist()) for photo in dataset}
    assert read == wanted
    flat, findings = formats.read(tmp_path / "train")
    assert flat.format == "starthon"
    assert {photo.path.stem: photo.boxes[0].tolist() for photo in flat if photo.labelled} == {
        stem: box for stem, (_, box) in read.items()
    }


# -- Writing --------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    corners=st.lists(
        st.tuples(st.floats(0, 150), st.floats(0, 60), st.floats(1.5, 50), st.floats(1.5, 40)), min_size=1, max_size=4
    ),
    name=st.sampled_from(
        ["my lunch", "a=b", "12:30", "#1", "!x", "점심", "a\\b", " x ", "tab\there", "Img_1.v2", "🍜"]
    ),
    corners_format=st.booleans(),
)
@example(corners=[(0, 0, 200, 100)], name="lunch", corners_format=False)
def test_written_and_read_again(
    corners: list[tuple[float, float, float, float]],
    name: str,
    corners_format: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """All boxes to 0.01 pixels, the classes, and which photos nobody labelled."""
    place = tmp_path_factory.mktemp("kfood")
    photos = []
    for i, (x, y, w, h) in enumerate(corners):
        photo = draw_photo(place / "in" / f"{name}{i or ''}.png", SIZE, [])
        photo.boxes, photo.labels = torch.tensor([[x, y, x + w, y + h]], dtype=torch.float32), torch.tensor([i % 2])
        photos.append(photo)
    rest = draw_photo(place / "in" / "rest.png", SIZE, [])
    rest.labelled = False
    format = "kfood_corners" if corners_format else "kfood"
    formats.FORMATS[format].write(Dataset([*photos, rest], ["unlabelled", "국수"]), place / "out")
    dataset, findings = formats.read(place / "out", format)
    assert findings == []
    assert dataset.names == ["unlabelled", "국수"][: len(corners)]
    back = {photo.path.stem: photo for photo in dataset}
    for photo in photos:
        same = back.pop(photo.path.stem)
        assert torch.allclose(same.boxes, photo.boxes, rtol=0, atol=0.01)
        assert same.labels.tolist() == photo.labels.tolist()
        assert same.labelled
    assert [(stem, photo.labelled) for stem, photo in back.items()] == [("rest", False)]


def test_what_is_written(tmp_path: Path) -> None:
    photo = draw_photo(tmp_path / "lunch.png", SIZE, [(0, 10, 20, 40, 60)])
    photo.boxes += 0.25
    kfood.write(Dataset([photo], ["rice / soup."]), tmp_path / "out")
    assert (tmp_path / "out" / "rice _ soup" / kfood.FILE).read_text() == "lunch=10.25,20.25,30,40\n"
    assert (tmp_path / "out" / "rice _ soup" / "lunch.png").read_bytes() == photo.path.read_bytes()


def test_photos_of_one_name_and_classes_of_one_folder_name_stay_apart(tmp_path: Path) -> None:
    names = ["soup", "Soup", "a/b", "a?b"]
    photos = [draw_photo(tmp_path / str(i) / "lunch.png", SIZE, [(0, 10, 20, 40, 60 + i)]) for i in range(8)]
    for i, photo in enumerate(photos):
        photo.labels = torch.tensor([i // 2])
    kfood.write(Dataset(photos, names), tmp_path / "out")
    dataset, findings = formats.read(tmp_path / "out")
    assert findings == []
    assert len(dataset.names) == 4
    assert sorted(photo.boxes[0, 3].item() for photo in dataset) == [60 + i for i in range(8)]


def test_a_starthon_folder_is_not_kfood(tmp_path: Path) -> None:
    photo = draw_photo(tmp_path / "lunch.png", SIZE, [(0, 10, 20, 40, 60)])
    starthon.write(Dataset([photo], ["food"]), tmp_path / "out")
    assert formats.read(tmp_path / "out")[0].format == "starthon"
