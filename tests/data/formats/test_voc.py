"""Pascal VOC's files as people really write them, and what is said of the faulty ones."""

from __future__ import annotations

import errno
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from unicodedata import normalize

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from foodbox.data import formats
from foodbox.data.formats import voc
from foodbox.data.listing import find_photos, scan
from foodbox.findings import Finding
from foodbox.records import Dataset, Photo
from tests.conftest import NAMES, draw_photo

SIZE = (200, 100)


def read(folder: Path) -> tuple[Dataset, list[Finding]]:
    return formats.read(folder, "voc")


def an_object(
    name: str = "rice", box: tuple[object, object, object, object] = (10, 20, 40, 60), extra: str = ""
) -> str:
    corners = "".join(f"<{key}>{value}</{key}>" for key, value in zip(voc.CORNERS, box, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>\n"


def an_annotation(*objects: str, size: tuple[int, int] = SIZE, head: str = "") -> str:
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"{head}<annotation>\n<filename>elsewhere/x.jpg</filename>\n{sides}\n{''.join(objects)}</annotation>\n"


def folder_with(tmp_path: Path, text: str | bytes, name: str = "lunch.jpg", turn: int = 1) -> Path:
    """One photo of 200 x 100 stored pixels and its annotation."""
    tmp_path.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    Image.new("RGB", SIZE).save(tmp_path / name, exif=exif)
    (tmp_path / name).with_suffix(".xml").write_bytes(text.encode() if isinstance(text, str) else text)
    return tmp_path


def one_finding(folder: Path) -> Finding:
    """The error of a folder with one photo."""
    dataset, findings = read(folder)
    assert len(dataset) == 1
    assert len(findings) == 1
    assert findings[0].harm == "error"
    assert findings[0].photo == folder / "lunch.jpg"
    return findings[0]


# -- Reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        an_annotation(an_object()),
        an_annotation(an_object(box=("10.0", "20.0", " 40 ", "6e1"))),
        "\ufeff" + an_annotation(an_object()),
        an_annotation(an_object()).replace("\n", "\r\n"),
        an_annotation(an_object(), head='<?xml version="1.0" encoding="utf-8"?>\n'),
        an_annotation(an_object(), head='<?xml version="1.0" encoding="iso-8859-1"?>\n'),
        an_annotation(an_object()).encode("utf-16"),
        an_annotation(an_object(name="\n  rice\n")),
        an_annotation(an_object(), "<!-- <object> --><segmented>0</segmented>"),
        an_annotation(an_object(extra="<pose>Left</pose><part><name>a</name><bndbox><xmin>1</xmin></bndbox></part>")),
        an_annotation(an_object(), size=(0, 0)),
        an_annotation(an_object(), size=SIZE[::-1]),
        f"<annotation>{an_object()}</annotation>",
    ],
)
def test_a_box_in_the_wild(text: str | bytes, tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, text))
    assert findings == []
    assert dataset.names == ["rice"]
    photo = dataset.photos[0]
    assert photo.boxes.tolist() == [[10, 20, 40, 60]]
    assert photo.labels.tolist() == [0]
    assert not photo.ignore.any()
    assert (photo.width, photo.height) == SIZE


def test_boxes_keep_their_decimals_their_order_and_their_lines(tmp_path: Path) -> None:
    text = an_annotation(an_object("soup", (1.5, 2.25, 30.125, 40)), an_object("rice"), an_object("soup", (5, 6, 7, 8)))
    dataset, findings = read(folder_with(tmp_path, text))
    photo = dataset.photos[0]
    assert findings == []
    assert dataset.names == ["rice", "soup"]
    assert photo.labels.tolist() == [1, 0, 1]
    assert photo.boxes.tolist() == [[1.5, 2.25, 30.125, 40], [10, 20, 40, 60], [5, 6, 7, 8]]
    assert [str(source) for source in photo.sources] == [f"{tmp_path / 'lunch.xml'}:{line}" for line in (4, 5, 6)]


def test_difficult_boxes_are_neither_trained_on_nor_counted(tmp_path: Path) -> None:
    text = an_annotation(
        an_object(extra="<difficult>1</difficult>"), an_object(extra="<difficult> 0 </difficult>"), an_object()
    )
    assert read(folder_with(tmp_path, text))[0].photos[0].ignore.tolist() == [True, False, False]


def test_korean_names_and_files(tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, an_annotation(an_object("떡볶이")), "점심.jpg"))
    assert findings == []
    assert dataset.names == ["떡볶이"]
    assert len(dataset.photos[0].boxes) == 1


def test_an_annotation_without_objects_says_that_the_photo_shows_nothing(tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, an_annotation()))
    assert findings == []
    assert dataset.photos[0].boxes.shape == (0, 4)
    assert dataset.photos[0].labels.dtype == torch.int64
    assert dataset.photos[0].labelled


def test_a_photo_without_an_annotation_is_one_that_nobody_labelled(tmp_path: Path) -> None:
    draw_photo(folder_with(tmp_path, an_annotation(an_object())) / "other.png", SIZE, [])
    dataset, findings = read(tmp_path)
    assert findings == []
    assert [(p.path.name, p.labelled) for p in dataset] == [("lunch.jpg", True), ("other.png", False)]


def test_photos_and_annotations_in_folders_of_their_own_and_parts_with_the_same_names(tmp_path: Path) -> None:
    """As exports lay them out; endings in capitals too."""
    for part, box in (("train", (1, 2, 30, 40)), ("valid", (5, 6, 70, 80))):
        draw_photo(tmp_path / part / "images" / "lunch.JPG", SIZE, [])
        (tmp_path / part / "annotations").mkdir()
        (tmp_path / part / "annotations" / "lunch.xml").write_text(an_annotation(an_object(box=box)))
    dataset, findings = read(tmp_path)
    assert findings == []
    assert [p.path.parts[-3] for p in dataset] == ["train", "valid"]
    assert [p.boxes.tolist() for p in dataset] == [[[1, 2, 30, 40]], [[5, 6, 70, 80]]]


@pytest.mark.parametrize("labelled", [("cam2",), ("cam1", "cam2")])
def test_annotations_in_folders_like_those_of_their_photos(labelled: tuple[str, ...], tmp_path: Path) -> None:
    for camera in ("cam1", "cam2"):
        draw_photo(tmp_path / "JPEGImages" / camera / "1.jpg", SIZE, [])
    for camera in labelled:
        (tmp_path / "Annotations" / camera).mkdir(parents=True)
        (tmp_path / "Annotations" / camera / "1.xml").write_text(an_annotation(an_object(camera)))
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("cam1/1\n")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("cam2/1.jpg\n")
    dataset, findings = read(tmp_path)
    assert findings == []
    found = {p.path.parent.name: ([dataset.names[i] for i in p.labels.tolist()], p.part) for p in dataset}
    assert found == {
        "cam1": (["cam1"] if "cam1" in labelled else [], "train"),
        "cam2": (["cam2"], "valid"),
    }


def test_of_photos_as_near_the_one_that_is_named_and_else_none(tmp_path: Path) -> None:
    for name in ("x.jpg", "x.png"):
        draw_photo(tmp_path / name, SIZE, [])
    (tmp_path / "x.xml").write_text(an_annotation(an_object()).replace("elsewhere/x.jpg", "x.png"))
    dataset, findings = read(tmp_path)
    assert findings == []
    assert [(p.path.name, p.labelled) for p in dataset] == [("x.jpg", False), ("x.png", True)]
    (tmp_path / "x.xml").write_text(an_annotation(an_object()).replace("elsewhere/x.jpg", "y.jpg"))
    dataset, findings = read(tmp_path)
    assert [p.labelled for p in dataset] == [False, False]
    assert [f.what for f in findings] == [
        f"x could be {tmp_path / 'x.jpg'} or {tmp_path / 'x.png'}: expected one such photo"
    ]


def test_letters_that_a_mac_wrote_in_pieces_and_a_label_named_after_the_whole_photo(tmp_path: Path) -> None:
    draw_photo(tmp_path / f"{normalize('NFD', '김치')}.jpg", SIZE, [])
    draw_photo(tmp_path / "soup.jpg", SIZE, [])
    (tmp_path / "김치.xml").write_text(an_annotation(an_object()))
    (tmp_path / "soup.jpg.xml").write_text(an_annotation(an_object()))
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / "ImageSets" / "train.txt").write_text("김치\nsoup -1\n", encoding="utf-8")
    dataset, findings = read(tmp_path)
    assert findings == []
    assert [(p.labelled, p.part) for p in dataset] == [(True, "train")] * 2


@pytest.mark.parametrize("filename", ["x.jpg", "sub/x.jpg", r"C:\sub\x.jpg", "x", "another.jpg"])
@pytest.mark.parametrize("pictures", ["SegmentationClass/x.png", "AnnotationsVisualization/x.jpg"])
def test_pictures_of_labels_beside_the_photos_are_no_photos(tmp_path: Path, pictures: str, filename: str) -> None:
    """As VOC itself, CVAT and labelme put them."""
    for name in ("JPEGImages/x.jpg", pictures):
        draw_photo(tmp_path / name, SIZE, [])
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "x.xml").write_text(an_annotation(an_object()).replace("elsewhere/x.jpg", filename))
    dataset, findings = read(tmp_path)
    assert findings == []
    assert [photo.path for photo in dataset] == [tmp_path / "JPEGImages" / "x.jpg"]
    assert dataset.box_count == 1


@pytest.mark.parametrize(("label", "filename"), [("0.xml", "x.jpg"), ("0.xml", "sub/X.JPG"), ("X.xml", "other.jpg")])
def test_a_photo_by_filename_or_other_capitals_where_none_has_the_labels_name(
    tmp_path: Path, label: str, filename: str
) -> None:
    draw_photo(tmp_path / "x.jpg", SIZE, [])
    (tmp_path / label).write_text(an_annotation(an_object()).replace("elsewhere/x.jpg", filename))
    dataset, findings = read(tmp_path)
    assert findings == []
    assert dataset.photos[0].labelled


def test_a_label_file_that_may_not_be_read_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_with(tmp_path, an_annotation(an_object()))

    def refused(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)  # the system refuses an administrator nothing
    assert "the file cannot be read (Permission denied)" in one_finding(tmp_path).what


def test_image_sets_of_other_tasks_are_passed_over(tmp_path: Path) -> None:
    folder_with(tmp_path, an_annotation(an_object()))
    for task, part in (("Main", "train"), ("Segmentation", "val")):
        (tmp_path / "ImageSets" / task).mkdir(parents=True)
        (tmp_path / "ImageSets" / task / f"{part}.txt").write_text("lunch\n")
    assert [p.part for p in read(tmp_path)[0]] == ["train"]


def test_other_xml_with_annotations_is_none_of_its_own(tmp_path: Path) -> None:
    """CVAT's own format has all photos in one file."""
    draw_photo(tmp_path / "lunch.jpg", SIZE, [])
    (tmp_path / "annotations.xml").write_text("<annotations><image name='lunch.jpg'/></annotations>")
    assert not voc.fits(scan(tmp_path))


def test_class_numbers_do_not_depend_on_the_order_of_files(tmp_path: Path) -> None:
    folder_with(tmp_path, an_annotation(an_object("soup")), "a.jpg")
    folder_with(tmp_path, an_annotation(an_object("rice")), "b.jpg")
    dataset = read(tmp_path)[0]
    assert dataset.names == ["rice", "soup"]
    assert [p.labels.tolist() for p in dataset] == [[1], [0]]


def test_image_sets_say_which_part_a_photo_belongs_to(tmp_path: Path) -> None:
    """Lines of ImageSets may have a class's 1 or -1 behind the name; other lists are no parts."""
    for name in ("a", "b", "c", "d"):
        folder_with(tmp_path, an_annotation(an_object()), f"{name}.jpg")
    sets = tmp_path / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("a\n")
    (sets / "val.txt").write_text("b  1\n\n")
    (sets / "test.txt").write_text("c\r\nnowhere\r\n")
    (sets / "trainval.txt").write_text("a\nb\nd\n")
    dataset, findings = read(tmp_path)
    assert findings == []
    assert [p.part for p in dataset] == ["train", "valid", "test", ""]


# -- EXIF -----------------------------------------------------------------------------------------------------------


def test_boxes_of_the_stored_pixels_are_turned_with_them(tmp_path: Path) -> None:
    """The annotation's size is the stored one. EXIF 6: x1 y1 x2 y2 becomes height - y2, x1, height - y1, x2."""
    dataset, findings = read(folder_with(tmp_path, an_annotation(an_object()), turn=6))
    photo = dataset.photos[0]
    assert (photo.width, photo.height) == (100, 200)
    assert photo.boxes.tolist() == [[100 - 60, 10, 100 - 20, 40]]
    assert [f.harm for f in findings] == ["note"]


@pytest.mark.parametrize(
    ("size", "expected"), [(SIZE, [[140, 40, 190, 80]]), (SIZE[::-1], [[10, 20, 60, 60]])], ids=["before", "as seen"]
)
def test_photos_whose_turn_nothing_tells_are_like_those_where_something_does(
    tmp_path: Path, size: tuple[int, int], expected: list[list[float]]
) -> None:
    """A photo upside down (EXIF 3) has the same sides either way: 200 - 60, 100 - 60, 200 - 10, 100 - 20."""
    folder_with(tmp_path, an_annotation(an_object(), size=size), "turned.jpg", turn=6)
    folder_with(tmp_path, an_annotation(an_object(box=(10, 20, 60, 60))), "upside_down.jpg", turn=3)
    dataset, _ = read(tmp_path)
    assert dataset.photos[1].boxes.tolist() == expected


def test_boxes_of_the_seen_pixels_stay(tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, an_annotation(an_object(), size=SIZE[::-1]), turn=6))
    assert dataset.photos[0].boxes.tolist() == [[10, 20, 40, 60]]
    assert [(f.harm, f.what) for f in findings] == [
        ("note", "EXIF orientation 6: boxes are taken as a person sees the photo")
    ]


@pytest.mark.parametrize("turn", [1, 6])
def test_a_size_that_is_neither_the_photos_nor_its_unturned_one_is_a_warning(turn: int, tmp_path: Path) -> None:
    dataset, findings = read(folder_with(tmp_path, an_annotation(an_object(), size=(400, 200)), turn=turn))
    assert dataset.photos[0].boxes.tolist() == [[10, 20, 40, 60]]
    found = [f for f in findings if f.harm != "note"]
    assert [(f.harm, f.photo, f.source.path) for f in found] == [
        ("warning", tmp_path / "lunch.jpg", tmp_path / "lunch.xml")
    ]
    assert "says that the photo has 400 x 200 pixels, and it has" in found[0].what


@pytest.mark.parametrize(("box", "turned"), [((120, 10, 180, 60), True), ((10, 120, 60, 180), False)])
def test_without_a_size_boxes_are_turned_where_they_fit_no_other_way(
    box: tuple[int, int, int, int], turned: bool, tmp_path: Path
) -> None:
    text = f"<annotation>{an_object(box=box)}</annotation>"
    boxes = read(folder_with(tmp_path, text, turn=6))[0].photos[0].boxes.tolist()
    assert boxes == [[40, 120, 90, 180] if turned else list(box)]


def test_phone_photos_of_a_cafeteria_have_their_boxes_on_the_food(test_data: Path) -> None:
    """Four photos with EXIF 6 and boxes of the stored pixels, 4032 x 3024; the first one's turned by hand."""
    dataset, findings = read(test_data / "data" / "cafeteria_exif")
    assert [(p.width, p.height) for p in dataset] == [(3024, 4032)] * 4
    assert [f.harm for f in findings] == ["note"] * 4
    first = dataset.photos[0]
    assert first.path.name == "carrot_eggs_16.jpg"
    assert first.boxes.tolist() == [[3024 - 2591, 301, 3024 - 1, 4032]]


# -- Faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("", "the file is no whole XML", 1),
        ("hello there", "the file is no whole XML", 1),
        (an_annotation(an_object())[:-20], "the file is no whole XML", 4),
        (an_annotation(an_object()).replace("</bndbox>", ""), "the file is no whole XML", 4),
        (an_annotation(an_object(box=("ten", 20, 40, 60))), "the box of 'rice' has xmin 'ten'", 4),
        (an_annotation(an_object(box=("", 20, 40, 60))), "the box of 'rice' has xmin ''", 4),
        (an_annotation(an_object(box=("nan", 20, 40, 60))), "the box of 'rice' has xmin 'nan'", 4),
        (an_annotation("<object><name>rice</name></object>"), "the box of 'rice' has", 4),
        (an_annotation(an_object(name="")), "an object has no name", 4),
        (an_annotation(an_object(), an_object(name="  ")), "an object has no name", 5),
        (
            an_annotation(an_object(box=(40, 20, 10, 60))),
            "the box 40, 20, 10, 60 (x1, y1, x2, y2) has its corners ex",
            4,
        ),
        (an_annotation(an_object(box=(10, 60, 40, 60))), "the box 10, 60, 40, 60 (x1, y1, x2, y2) has no area", 4),
        (an_annotation(an_object(box=(150, 20, 250, 60))), "lies outside the photo of 200 x 100 pixels", 4),
        (an_annotation(an_object(box=(300, 200, 350, 260))), "lies outside the photo", 4),
    ],
)
def test_a_faulty_file_is_found_with_its_line(text: str, words: str, line: int, tmp_path: Path) -> None:
    finding = one_finding(folder_with(tmp_path, text))
    assert words in finding.what
    assert finding.todo
    assert str(finding).startswith(f"{tmp_path / 'lunch.xml'}:{line}: ")


@pytest.mark.parametrize("encoding", ["no-such-encoding", "utf-32"])
def test_an_encoding_that_cannot_be_read_is_a_finding(encoding: str, tmp_path: Path) -> None:
    head = f'<?xml version="1.0" encoding="{encoding}"?>\n'
    text = an_annotation(an_object("밥"), head=head).encode("utf-8" if encoding == "no-such-encoding" else encoding)
    assert "the file is no whole XML" in one_finding(folder_with(tmp_path, text)).what


@pytest.mark.parametrize(
    ("name", "said", "encoding"),
    [
        ("똠얌꿍", None, "cp949"),
        ("똠얌꿍", "EUC-KR", "cp949"),
        ("똠얌꿍", "cp949", "cp949"),
        ("ごはん", "shift-jis", "shift-jis"),
    ],
)
def test_encodings_that_expat_does_not_know_are_read(
    name: str, said: str | None, encoding: str, tmp_path: Path
) -> None:
    head = f'<?xml version="1.0" encoding="{said}"?>\n' if said else ""
    dataset, findings = read(folder_with(tmp_path, an_annotation(an_object(name), head=head).encode(encoding)))
    assert (dataset.names, findings) == ([name], [])


def test_all_faults_of_a_file_are_found_at_once(tmp_path: Path) -> None:
    text = an_annotation(an_object(name=""), an_object(box=("ten", 20, 40, 60)), an_object())
    dataset, findings = read(folder_with(tmp_path, text))
    assert dataset.photos[0].boxes.tolist() == [[10, 20, 40, 60]]  # the good one
    assert [f.source.line for f in findings] == [4, 5]


@pytest.mark.parametrize(
    ("box", "mended"),
    [
        ((40, 20, 10, 60), [[10, 20, 40, 60]]),
        ((10, 60, 40, 20), [[10, 20, 40, 60]]),
        ((150, 20, 240, 60), [[150, 20, 200, 60]]),
        ((150, 20, 270, 60), []),
        ((10, 20, 10, 60), []),
    ],
)
def test_a_faulty_box_is_in_the_dataset_as_mending_would_leave_it(
    box: tuple[int, int, int, int], mended: list[list[int]], tmp_path: Path
) -> None:
    dataset, findings = read(folder_with(tmp_path, an_annotation(an_object(box=box), an_object("soup"))))
    photo = dataset.photos[0]
    assert photo.boxes.tolist() == [*mended, [10, 20, 40, 60]]
    assert [dataset.names[i] for i in photo.labels] == ["rice"] * len(mended) + ["soup"]
    assert [source.line for source in photo.sources] == [4] * len(mended) + [5]
    assert [(f.harm, f.source.line, f.photo) for f in findings] == [("error", 4, photo.path)]


def test_two_annotations_of_one_photo_are_one_too_many(tmp_path: Path) -> None:
    folder_with(tmp_path, an_annotation(an_object()))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "lunch.xml").write_text(an_annotation(an_object()))
    dataset, findings = read(tmp_path)
    assert dataset.box_count == 1
    assert [f.what for f in findings] == ["the photo lunch.jpg is labelled by lunch.xml already"]
    assert findings[0].photo == tmp_path / "lunch.jpg"


def test_a_missing_photo_is_found_and_the_others_are_read(tmp_path: Path) -> None:
    folder_with(tmp_path, an_annotation(an_object()).replace("elsewhere/x.jpg", "lunch.jpg"))
    (tmp_path / "gone.xml").write_text(an_annotation(an_object()))
    dataset, findings = read(tmp_path)
    assert len(dataset) == 1
    assert [(f.source.path.name, f.what) for f in findings] == [("gone.xml", "there is no photo named gone")]


@pytest.mark.parametrize("name", ["best", "lunch", "old/lunch"])
@pytest.mark.parametrize(
    "text", ['<?xml version="1.0"?>\n<net name="a"><layers/></net>', "<project xmlns='m'><a/></project>"]
)
def test_other_programs_files_are_passed_over(name: str, text: str, tmp_path: Path) -> None:
    """An exported model, for one; also where a photo is called so, labelled by another file or not at all."""
    other = an_annotation(an_object()).replace("elsewhere/x.jpg", "lunch.jpg")
    folder_with(tmp_path, other)
    (tmp_path / "lunch.xml").rename(tmp_path / ("a.xml" if name == "lunch" else "lunch.xml"))
    (tmp_path / "old").mkdir()
    (tmp_path / f"{name}.xml").write_text(text)
    dataset, findings = read(tmp_path)
    assert findings == []
    assert [(photo.labelled, photo.boxes.tolist()) for photo in dataset] == [(True, [[10, 20, 40, 60]])]


def test_a_file_without_a_photo_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    """Nobody knows what it would have been."""
    folder_with(tmp_path, an_annotation(an_object()))
    (tmp_path / "gone.xml").write_text("<net><layers>")
    assert [(f.harm, f.source.path.name) for f in read(tmp_path)[1]] == [("error", "gone.xml")]


def test_a_label_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be 40,000."""
    folder_with(tmp_path, an_annotation(an_object()))
    opened: list[str] = []
    whole = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (opened.append(path.name), whole(path))[1])
    voc.read(scan(tmp_path))
    assert opened == ["lunch.xml"]


def test_a_broken_photo_is_found_and_named_once(tmp_path: Path) -> None:
    folder_with(tmp_path, an_annotation(an_object()))
    (tmp_path / "lunch.jpg").write_bytes(b"hello there")
    dataset, findings = read(tmp_path)
    assert len(dataset) == 0
    assert [(f.harm, f.photo) for f in findings] == [("error", tmp_path / "lunch.jpg")]
    assert str(findings[0]).count("lunch.jpg") == 1


def test_a_box_that_sticks_out_by_a_pixel_is_cut_off_and_noted(tmp_path: Path) -> None:
    """VOC's own files count from 1, so that a box may end a pixel behind the photo."""
    dataset, findings = read(folder_with(tmp_path, an_annotation(an_object(box=(1, 1, 201, 101)))))
    assert dataset.photos[0].boxes.tolist() == [[1, 1, 200, 100]]
    assert [f.harm for f in findings] == ["note"]


# -- Writing --------------------------------------------------------------------------------------------------------


def test_drawn_photos_come_back_as_they_were(drawn: Dataset, voc_folder: Path) -> None:
    drawn.photos[3].labelled = True
    dataset, findings = read(voc_folder)
    assert findings == []
    assert dataset.names == NAMES
    for mine, other in zip(dataset, drawn, strict=True):
        assert mine.path.name == other.path.name
        assert (mine.width, mine.height) == (other.width, other.height)
        assert mine.boxes.tolist() == other.boxes.tolist()
        assert mine.labels.tolist() == other.labels.tolist()
        assert mine.labelled


def test_difficult_boxes_and_unlabelled_photos_come_back_as_they_were(drawn: Dataset, tmp_path: Path) -> None:
    drawn.photos[2].ignore[1] = True
    drawn.photos[3].labelled = False
    voc.write(drawn, tmp_path / "out")
    found = read(tmp_path / "out")[0].photos
    assert [p.ignore.tolist() for p in found] == [p.ignore.tolist() for p in drawn]
    assert [p.labelled for p in found] == [p.labelled for p in drawn]


def test_parts_come_back_as_they_were(drawn: Dataset, tmp_path: Path) -> None:
    parts = ["train", "valid", "test", "train", "", "valid"]
    for photo, part in zip(drawn, parts, strict=True):
        photo.part = part
    drawn.photos[3].labelled = False
    voc.write(drawn, tmp_path / "out")
    assert [p.part for p in read(tmp_path / "out")[0]] == parts


coordinate = st.floats(0, 1, width=32)


@settings(max_examples=30)
@given(
    width=st.sampled_from([100, 4000, 16000]),
    rows=st.lists(
        st.tuples(coordinate, coordinate, coordinate, coordinate, st.sampled_from(["a", "b & <c>", "떡"])), max_size=4
    ),
)
def test_what_is_written_is_read_to_a_hundredth_of_a_pixel(
    width: int, rows: list[tuple[float, float, float, float, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also on a panorama, whose width has five digits."""
    folder, height, names = tmp_path_factory.mktemp("voc"), 40, ["a", "b & <c>", "떡"]
    boxes = []
    for x, y, w, h, _ in rows:
        x1, y1 = x * (width - 3), y * (height - 3)
        boxes.append([x1, y1, x1 + 1 + w * (width - x1 - 1), y1 + 1 + h * (height - y1 - 1)])
    labels = torch.tensor([names.index(row[4]) for row in rows], dtype=torch.int64)
    Image.new("L", (width, height)).save(folder / "photo.png")
    photo = Photo(folder / "photo.png", width, height, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), labels)
    voc.write(Dataset([photo], names), folder / "out")
    dataset, findings = read(folder / "out")
    assert [f for f in findings if f.harm == "error"] == []
    torch.testing.assert_close(dataset.photos[0].boxes, photo.boxes, rtol=0, atol=0.01)
    assert [dataset.names[i] for i in dataset.photos[0].labels] == [row[4] for row in rows]


def test_a_folder_can_be_labelled_where_its_photos_are(tmp_path: Path) -> None:
    photo = draw_photo(tmp_path / "images" / "a.png", SIZE, [(0, 1, 2, 30, 40)])
    voc.write(Dataset([photo], ["food"]), tmp_path)
    assert read(tmp_path)[0].photos[0].boxes.tolist() == [[1, 2, 30, 40]]


def test_photos_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    """As two folders of one data set often have them."""
    photos = [
        draw_photo(tmp_path / part / "a.png", SIZE, [(0, x, 2, 90, 80)]) for part, x in (("one", 10), ("two", 40))
    ]
    voc.write(Dataset(photos, ["food"]), tmp_path / "out")
    assert len(find_photos(tmp_path / "out")) == 2
    found = read(tmp_path / "out")[0]
    assert sorted(float(p.boxes[0, 0]) for p in found) == [10, 40]


def test_width_and_height_are_written_as_they_are(tmp_path: Path) -> None:
    photo = draw_photo(tmp_path / "in" / "a.png", (96, 64), [(0, 8, 10, 40, 50)])
    voc.write(Dataset([photo], list(NAMES)), tmp_path / "out")
    root = ElementTree.parse(tmp_path / "out" / "annotations" / "a.xml").getroot()
    assert [root.findtext(f"size/{side}") for side in ("width", "height")] == ["96", "64"]
