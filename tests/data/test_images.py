"""Photos as a person sees them: EXIF turns, colours, reduced scales, and files that are no photos."""

from __future__ import annotations

import base64
import io
import pickle
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageDraw

from foodbox.data.images import PhotoError, decode, open_photo, photo_size, prepare, resize
from foodbox.data.turns import turn_boxes
from foodbox.records import Preprocessing

STORED = (64, 40)
BOX = (8, 8, 32, 24)  # on the borders of JPEG's blocks


def red_box(image: Image.Image) -> list[int]:
    """Around all red pixels: x1 y1 x2 y2."""
    pixels = np.asarray(image).astype(int)
    rows, columns = np.nonzero((pixels[..., 0] > 150) & (pixels[..., 1] < 100) & (pixels[..., 2] < 100))
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


def with_rectangle(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("RGB", size, "#707070")
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill="#E00000")
    return image


# -- EXIF -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_photos_boxes_lie_on_what_they_are_of(turn: int, ending: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    path = tmp_path / f"turned.{ending}"
    with_rectangle(STORED, BOX).save(path, exif=exif, quality=95)
    width, height, found = photo_size(path)
    image = open_photo(path)
    assert found == turn
    assert image.size == (width, height) == (STORED if turn < 5 else STORED[::-1])
    turned = turn_boxes(torch.tensor([BOX], dtype=torch.float32), turn, *STORED)
    # The lossy ones blur colours by a pixel.
    assert turned[0].tolist() == pytest.approx(red_box(image), abs=1 if ending in ("jpg", "webp") else 0)


@pytest.mark.parametrize(
    ("turn", "corner"),
    [
        (1, "top left"),
        (2, "top right"),
        (3, "bottom right"),
        (4, "bottom left"),
        (5, "top left"),
        (6, "top right"),
        (7, "bottom right"),
        (8, "bottom left"),
    ],
)
def test_the_first_stored_pixel_goes_where_exif_says(turn: int, corner: str) -> None:
    """EXIF 2.3, table 6: the corner in which a person sees the stored pixels' beginning."""
    width, height = STORED if turn < 5 else STORED[::-1]
    found = turn_boxes(torch.tensor([[0.0, 0.0, 4.0, 6.0]]), turn, *STORED)[0].tolist()
    w, h = (4, 6) if turn < 5 else (6, 4)
    x, y = width - w if "right" in corner else 0, height - h if "bottom" in corner else 0
    assert found == [x, y, x + w, y + h]


@given(st.integers(1, 8), st.lists(st.tuples(*[st.integers(0, 30)] * 4), max_size=5))
def test_turned_boxes_are_boxes_inside_the_turned_photo(turn: int, raw: list[tuple[int, ...]]) -> None:
    boxes = torch.tensor([(x, y, x + w + 1, y + h + 1) for x, y, w, h in raw], dtype=torch.float32).reshape(-1, 4)
    turned = turn_boxes(boxes, turn, 70, 65)
    width, height = (70, 65) if turn < 5 else (65, 70)
    assert turned.shape == boxes.shape
    assert (turned[:, 2:] > turned[:, :2]).all()
    assert (turned >= 0).all()
    assert (turned <= torch.tensor([width, height, width, height])).all()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "damaged.jpg"
    with_rectangle(STORED, BOX).save(path, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\x00")
    assert photo_size(path) == (*STORED, 1)
    assert open_photo(path).size == STORED


def test_a_turn_beside_a_damaged_tag_is_applied() -> None:
    """A text's tag that became a number's: Pillow could not write it again."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Software] = 6, "soft"
    buffer = io.BytesIO()
    with_rectangle(STORED, BOX).save(buffer, "JPEG", exif=exif)
    whole = buffer.getvalue()
    for order in ("big", "little"):
        tag, text, number = ((n).to_bytes(2, order) for n in (ExifTags.Base.Software, 2, 0x101))
        damaged = whole.replace(tag + text, number + text)
        if damaged != whole:
            break
    with Image.open(io.BytesIO(damaged)) as image:
        assert decode(image, Path("a.jpg")).size == STORED[::-1]


@pytest.mark.parametrize("value", [0, 9, 1000])
def test_an_orientation_that_does_not_exist_is_none(value: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    path = tmp_path / "odd.jpg"
    with_rectangle(STORED, BOX).save(path, exif=exif)
    assert photo_size(path) == (*STORED, 1)
    assert open_photo(path).size == STORED


# -- Colours --------------------------------------------------------------------------------------------------------


def saved_and_opened(image: Image.Image, path: Path) -> list[list[int]]:
    """The colours of the picture's first row, after a way over the disk."""
    image.save(path)
    opened = open_photo(path)
    assert opened.mode == "RGB"
    return np.asarray(opened)[0].tolist()


@pytest.mark.parametrize(
    ("values", "greys"),
    [
        ([0.0, 0.5, 1.0], [0, 127, 255]),  # as scientific programs write them
        ([0.0, 0.25, 0.5], [0, 63, 127]),  # a dark one stays dark
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 500.0, 1000.0], [0, 127, 255]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
    ],
)
def test_grey_of_decimals(values: list[float], greys: list[int], tmp_path: Path) -> None:
    image = Image.new("F", (3, 1))
    image.putdata(values)
    assert saved_and_opened(image, tmp_path / "a.tiff") == [[grey] * 3 for grey in greys]


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1))
    image.putdata([(200, 0, 0, 255), (200, 0, 0, 0), (200, 0, 0, 128)])
    assert saved_and_opened(image, tmp_path / "a.png") == [[200, 0, 0], [255, 255, 255], [227, 127, 127]]


def test_grey_with_alpha(tmp_path: Path) -> None:
    image = Image.new("LA", (2, 1))
    image.putdata([(90, 255), (90, 0)])
    assert saved_and_opened(image, tmp_path / "a.png") == [[90, 90, 90], [255, 255, 255]]


def test_grey(tmp_path: Path) -> None:
    image = Image.new("L", (2, 1))
    image.putdata([0, 77])
    assert saved_and_opened(image, tmp_path / "a.png") == [[0, 0, 0], [77, 77, 77]]


def test_one_bit(tmp_path: Path) -> None:
    image = Image.new("1", (2, 1))
    image.putdata([0, 255])
    assert saved_and_opened(image, tmp_path / "a.png") == [[0, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_grey_of_sixteen_bits_is_scaled_not_cut_off(ending: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 257, 257 * 100, 257 * 200, 65535]], np.uint16))
    found = [colour[0] for colour in saved_and_opened(image, tmp_path / f"a.{ending}")]
    assert found == pytest.approx([0, 1, 100, 200, 255], abs=1)


def test_grey_of_sixteen_bits_in_the_other_order_of_bytes(tmp_path: Path) -> None:
    """As ImageJ saves TIFF."""
    values = np.array([[0, 257, 257 * 100, 257 * 200, 65535]], ">u2")
    image = Image.frombytes("I;16B", (5, 1), values.tobytes())
    found = [colour[0] for colour in saved_and_opened(image, tmp_path / "a.tif")]
    assert found == pytest.approx([0, 1, 100, 200, 255], abs=1)


def test_a_palette(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    assert saved_and_opened(image, tmp_path / "a.png") == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    image.info["transparency"] = 1
    assert saved_and_opened(image, tmp_path / "b.png") == [[10, 20, 30], [255, 255, 255], [70, 80, 90]]


def test_printers_colours(tmp_path: Path) -> None:
    """Cyan, magenta, yellow, black in a JPEG: no ink is white, full cyan is no red."""
    image = Image.new("CMYK", (16, 8), (0, 0, 0, 0))
    image.paste((255, 0, 0, 0), (8, 0, 16, 8))
    found = saved_and_opened(image, tmp_path / "a.jpg")
    np.testing.assert_allclose([found[0], found[15]], [[255, 255, 255], [0, 255, 255]], atol=6)


def test_the_first_picture_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("#E00000", "#00E000")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(np.asarray(open_photo(tmp_path / "a.gif"))[0, 0], [224, 0, 0], atol=8)


# -- Kinds of files -------------------------------------------------------------------------------------------------

HEIC = zlib.decompress(
    base64.b64decode(
        "eNpjYGCQSCupLMhIzUxmAILczDRDCJuxPDe1JJEBAhQzUnKKoGyGgszkEgY0wFeQWZILZjECsU5mTj7YOBcGBiawCBAzTmdgYOYF8sE8liVA"
        "Wg6ILTIz89LAOkEyokBOKhPUnIyyZEMGFEEg4VqRCVYulVmUmgazPTmlOBlsE8iufZkFRQVAen5mQXI+kE4HmuPMyAwS2gBWLveB4c/fHz8Y"
        "GPiZFwB1iDsw8jD+/w9SwAxSwQxCch9UFgLlpJ0YGdEkFjgJ1kcfvVvgsAgoz+7CeKCwYUkD0FSRzOKCVKiDFIBYAIiFk/NzivKScyqASnkZ"
        "2EDKODOL8sHBJ55ZkAsLX6DDWRqZmFuAFhjnpiQC5Zk5NRjXtzUEjXCQQSG4QiHobnAZ4eAChSCVQvAPlGkYfH0ZtIAUBwMjoxAoH0KzOhAA"
        "AIgyfbA="
    )
)
"""32 x 16 pixels, left red, right blue: one HEVC picture whose blocks are stored as they are (PCM), without a turn."""


def heic(path: Path, quarters: int = 0) -> Path:
    """Writes the HEIC file, its pixels to be turned by quarters clockwise, as an iPhone says it: twice."""
    content = bytearray(HEIC)
    content[content.index(b"irot") + 4] = -quarters % 4  # HEIF counts against the clock
    orientation = content.index(struct.pack(">HHIH", ExifTags.Base.Orientation, 3, 1, 1)) + 9
    content[orientation] = {0: 1, 1: 6, 2: 3, 3: 8}[quarters]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("ending", ["heic", "HEIC", "heif"])
def test_what_iphones_write(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("pi_heif")
    path = heic(tmp_path / f"lunch.{ending}")
    assert photo_size(path) == (32, 16, 1)
    image = open_photo(path)
    assert (image.mode, image.size) == ("RGB", (32, 16))
    np.testing.assert_allclose(np.asarray(image)[8, [2, 30]], [[200, 30, 40], [30, 60, 210]], atol=3)


@pytest.mark.parametrize(("quarters", "red"), [(1, (8, 2)), (2, (30, 8)), (3, (8, 30))])
def test_an_iphones_turn_is_applied_once(quarters: int, red: tuple[int, int], tmp_path: Path) -> None:
    """It stands in the file twice: HEIF's own turn, and EXIF's."""
    pytest.importorskip("pi_heif")
    path = heic(tmp_path / "lunch.heic", quarters)
    image = open_photo(path)
    assert photo_size(path) == (*image.size, 1)
    assert image.size == ((32, 16) if quarters == 2 else (16, 32))
    assert image.getpixel(red) == pytest.approx((200, 30, 40), abs=3)


@pytest.mark.parametrize("kept", [0, 20, 300, 1000])
def test_a_heic_photo_cut_short(kept: int, tmp_path: Path) -> None:
    pytest.importorskip("pi_heif")
    path = tmp_path / "lunch.heic"
    path.write_bytes(HEIC[:kept])
    with pytest.raises(PhotoError, match=r"lunch\.heic (is a broken photo|is no photo|cannot be opened)"):
        open_photo(path)


def test_without_the_library_for_heic_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind != "HEIF"])  # another test may have taught it
    path = heic(tmp_path / "lunch.heic")
    for look in (photo_size, open_photo):
        with pytest.raises(PhotoError, match=r'lunch\.heic is a HEIC photo: pip install "foodbox\[heif\]" to open it'):
            look(path)


def test_a_heic_photo_under_another_name_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pi_heif")
    monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind != "HEIF"])
    assert photo_size(heic(tmp_path / "lunch.jpg")) == (32, 16, 1)


@pytest.mark.parametrize("ending", ["avif", "webp"])
def test_newer_kinds_that_pillow_opens_by_itself(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"lunch.{ending}"
    with_rectangle(STORED, BOX).save(path, quality=95)
    assert photo_size(path) == (*STORED, 1)
    image = open_photo(path)
    assert (image.mode, image.size) == ("RGB", STORED)
    assert red_box(image) == pytest.approx(list(BOX), abs=1)


def test_a_photo_that_says_it_is_huge_is_not_opened(tmp_path: Path) -> None:
    """1600 million pixels in a file of 100 bytes: all memory, once it is decoded."""
    path = tmp_path / "lunch.png"
    Image.new("L", (1, 1)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 40_000, 40_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    for look in (photo_size, open_photo):
        with pytest.raises(PhotoError) as told:
            look(path)
        assert str(told.value) == f"{path} claims over 178 million pixels, which are not opened. Make it smaller."


# -- What is no photo -----------------------------------------------------------------------------------------------


def test_a_missing_photo(tmp_path: Path) -> None:
    for look in (photo_size, open_photo):
        with pytest.raises(PhotoError, match=r"lunch\.jpg is missing\. Check the name\.$"):
            look(tmp_path / "lunch.jpg")


@pytest.mark.parametrize("content", [b"", b"hello there\n" * 100, b"\xff\xd8\xff", bytes(1000)])
def test_a_file_that_is_no_photo(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "lunch.jpg"
    path.write_bytes(content)
    for look in (photo_size, open_photo):
        with pytest.raises(PhotoError, match=r"lunch\.jpg (is no photo|cannot be opened)"):
            look(path)


def test_a_folder_named_like_a_photo(tmp_path: Path) -> None:
    (tmp_path / "lunch.jpg").mkdir()
    with pytest.raises(PhotoError, match=r"lunch\.jpg cannot be opened as a photo \([\w ]+\)"):
        photo_size(tmp_path / "lunch.jpg")


def test_a_fault_of_a_photo_comes_whole_from_another_process() -> None:
    fault = pickle.loads(pickle.dumps(PhotoError(Path("lunch.jpg"), "is no photo.")))
    assert isinstance(fault, PhotoError)
    assert str(fault) == "lunch.jpg is no photo."
    assert fault.args == (Path("lunch.jpg"), "is no photo.")


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_a_photo_cut_short(ending: str, tmp_path: Path) -> None:
    """Its size can still be read; its pixels cannot, and half a picture is not handed out."""
    path = tmp_path / f"lunch.{ending}"
    Image.effect_noise((200, 100), 80).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for at_least in (None, (32, 32)):
        with pytest.raises(PhotoError, match=rf"lunch\.{ending} (is a broken photo|cannot be opened).*eave it out"):
            open_photo(path, at_least)


# -- Sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_least", [100, 200, 201, 320, 799, 800, 5000])
@pytest.mark.parametrize("size", [(800, 600), (600, 800)])
def test_a_large_jpeg_is_opened_smaller_but_never_too_small(
    size: tuple[int, int], at_least: int, tmp_path: Path
) -> None:
    """In halves, as libjpeg does: 800, 400, 200, 100."""
    path = tmp_path / "large.jpg"
    with_rectangle(size, BOX).save(path)
    expected = next((side for side in (100, 200, 400) if side >= at_least), 800)
    assert max(open_photo(path, (at_least, at_least * 3 // 4)).size) == expected


@pytest.mark.parametrize(
    ("wanted", "found"),
    [((320, 320), (960, 540)), ((540, 540), (960, 540)), ((542, 542), (1920, 1080)), ((200, 135), (240, 135))],
)
@pytest.mark.parametrize("turned", [False, True])
def test_neither_side_is_opened_too_small(
    wanted: tuple[int, int], found: tuple[int, int], turned: bool, tmp_path: Path
) -> None:
    """Of a wide photo that is stretched to a square, the shorter side decides."""
    path, way = tmp_path / "wide.jpg", slice(None, None, -1 if turned else 1)
    Image.new("RGB", (1920, 1080)[way]).save(path)
    assert open_photo(path, wanted[way]).size == found[way]


@pytest.mark.parametrize("turn", [1, 6])
def test_a_photo_opened_smaller_keeps_its_boxes_where_they_are(turn: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    path = tmp_path / "large.jpg"
    with_rectangle((1600, 1200), (320, 240, 960, 720)).save(path, exif=exif)
    width, height, _ = photo_size(path)
    small = open_photo(path, at_least=(320, 240))
    assert max(small.size) == 400
    pixels, frame = prepare(small, Preprocessing(size=320), path, (width, height))
    assert (frame.width, frame.height, frame.path) == (width, height, path)
    assert pixels.shape == (3, frame.input_height, frame.input_width)
    box = turn_boxes(torch.tensor([[320.0, 240.0, 960.0, 720.0]]), turn, 1600, 1200)
    shown = red_box(Image.fromarray(pixels.permute(1, 2, 0).numpy()))
    assert frame.to_input(box)[0].tolist() == pytest.approx(shown, abs=1)


def test_a_photo_as_small_as_can_be() -> None:
    pixels, frame = prepare(Image.new("RGB", (1, 1), (9, 8, 7)), Preprocessing(size=32))
    assert pixels.shape == (3, 32, 32)
    assert pixels[:, 5, 5].tolist() == [9, 8, 7]
    assert (frame.width, frame.height, frame.input_width, frame.input_height) == (1, 1, 32, 32)


def test_resizing_gives_width_and_height_in_this_order() -> None:
    assert resize(Image.new("RGB", (10, 20)), (30, 40)).shape == (3, 40, 30)


def test_twelve_bits_of_sixteen_are_stretched_to_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 2048], [1024, 4095]], np.uint16)).save(tmp_path / "a.png")
    assert np.asarray(open_photo(tmp_path / "a.png"))[..., 0].tolist() == [[0, 127], [63, 255]]


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp", "gif", "tiff", "avif"])
def test_a_damaged_photo_is_a_fault_of_the_photo_whatever_its_kind(kind: str, tmp_path: Path) -> None:
    """Bytes turned at random, mostly in the head: opened all the same, or a PhotoError; nothing else."""
    path, drawn = tmp_path / f"lunch.{kind}", np.random.default_rng(0)
    with_rectangle(STORED, BOX).save(path)
    whole = path.read_bytes()
    faults = []
    for _ in range(60):
        content = bytearray(whole)
        for place in drawn.integers(0, min(len(whole), 400), drawn.integers(1, 6)):
            content[place] = drawn.integers(256)
        path.write_bytes(content)
        try:
            photo_size(path)
            open_photo(path)
        except PhotoError as fault:
            faults.append(str(fault))
    assert faults
    assert all(fault.startswith(str(path)) for fault in faults)
