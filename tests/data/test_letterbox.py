"""Letterboxed photos: darknet's sizes and places, pixels as drawn by hand, the way there and back, augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from foodbox.data.augment import Augmentation, visible
from foodbox.data.images import lay, prepare
from foodbox.data.inputs import boxes_in_input
from foodbox.data.loader import Collate, PreparedPhotos, photo_loader
from foodbox.ops.boxes import area
from foodbox.records import Dataset, Frame, Preprocessing, Target

side = st.integers(1, 8000)
BOXED = Preprocessing(size=64, fit="letterbox")


def darknets_size(width: int, height: int, size: int) -> tuple[int, int]:
    """letterbox_image of darknet's src/image.c, whose int cuts off."""
    if size / width < size / height:
        return size, height * size // width
    return width * size // height, size


# -- Sizes and places -----------------------------------------------------------------------------------------------


@given(side, side, st.sampled_from([32, 320, 416, 608]))
@example(640, 427, 416)
@example(8000, 1, 416)
def test_sizes_are_darknets_but_never_nothing(width: int, height: int, size: int) -> None:
    expected = darknets_size(width, height, size)
    found = Preprocessing(size=size, fit="letterbox").resized(width, height)
    assert found == (max(1, expected[0]), max(1, expected[1]))
    assert max(found) == size


@given(side, side, st.data())
def test_the_way_to_the_input_and_back(width: int, height: int, data: st.DataObject) -> None:
    """Boxes lie where darknet embeds the photo, at (size - new) // 2 by whole pixels, and come back."""
    size = data.draw(st.sampled_from([320, 416]))
    preprocessing = Preprocessing(size=size, fit="letterbox")
    frame = preprocessing.frame(width, height)
    wide, high = preprocessing.resized(width, height)
    assert (frame.input_width, frame.input_height) == (size, size)
    x = sorted(data.draw(st.lists(st.floats(0, width, width=32), min_size=2, max_size=2)))
    y = sorted(data.draw(st.lists(st.floats(0, height, width=32), min_size=2, max_size=2)))
    box = torch.tensor([[x[0], y[0], x[1], y[1]]])
    there = frame.to_input(box)
    left, top = (size - wide) // 2, (size - high) // 2
    expected = [
        left + x[0] * wide / width,
        top + y[0] * high / height,
        left + x[1] * wide / width,
        top + y[1] * high / height,
    ]
    assert there[0].tolist() == pytest.approx(expected, abs=1e-2)
    torch.testing.assert_close(frame.to_photo(there), box, rtol=0, atol=0.01)
    whole = frame.to_input(torch.tensor([[0.0, 0.0, width, height]]))
    assert whole[0].tolist() == pytest.approx([left, top, left + wide, top + high], abs=1e-2)


def test_the_other_fits_begin_at_the_photos_corner() -> None:
    for fit in ("longest", "shortest", "stretch"):
        preprocessing = Preprocessing(size=320, fit=fit)  # type: ignore[arg-type]
        assert preprocessing.frame(640, 480) == Frame(640, 480, *preprocessing.resized(640, 480))


# -- Pixels ---------------------------------------------------------------------------------------------------------


def bilinear(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """[H, W, 3] resized without antialias, pixel centres on pixel centres, by hand."""
    y = ((np.arange(height) + 0.5) * pixels.shape[0] / height - 0.5).clip(0, pixels.shape[0] - 1)
    x = ((np.arange(width) + 0.5) * pixels.shape[1] / width - 0.5).clip(0, pixels.shape[1] - 1)
    low_y, low_x = np.floor(y).astype(int), np.floor(x).astype(int)
    high_y, high_x = np.minimum(low_y + 1, pixels.shape[0] - 1), np.minimum(low_x + 1, pixels.shape[1] - 1)
    part_y, part_x = (y - low_y)[:, None, None], (x - low_x)[None, :, None]
    upper = pixels[low_y][:, low_x] * (1 - part_x) + pixels[low_y][:, high_x] * part_x
    lower = pixels[high_y][:, low_x] * (1 - part_x) + pixels[high_y][:, high_x] * part_x
    return upper * (1 - part_y) + lower * part_y


@pytest.mark.parametrize("size", [(100, 75), (75, 100), (64, 64), (33, 200), (20, 10), (1, 1), (1, 300)])
def test_pixels_are_the_photo_in_the_middle_of_a_grey_square(size: tuple[int, int]) -> None:
    array = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    pixels, _ = prepare(Image.fromarray(array), BOXED.model_copy(update={"antialias": False}))
    width, height = (max(1, s) for s in darknets_size(*size, 64))
    expected = np.full((64, 64, 3), 127.0)
    left, top = (64 - width) // 2, (64 - height) // 2
    expected[top : top + height, left : left + width] = bilinear(array.astype(float), width, height)
    assert pixels.shape == (3, 64, 64)
    assert pixels.dtype == torch.uint8
    np.testing.assert_allclose(
        pixels.permute(1, 2, 0).numpy(), expected, atol=1.01
    )  # torchvision rounds after each side


def test_grey_is_grey_whatever_the_mean() -> None:
    """Darknet's own mean is 0, which would be black."""
    for mean in ((0.0, 0.0, 0.0), (0.485, 0.456, 0.406)):
        preprocessing = BOXED.model_copy(update={"mean": mean})
        assert preprocessing.ground == [127.0] * 3
        assert lay(torch.zeros(3, 1, 64, dtype=torch.uint8), preprocessing)[:, 0, 0].tolist() == [127] * 3
    assert lay(torch.zeros(3, 1, 64), Preprocessing(size=64)).shape == (3, 1, 64)


def test_batches_are_squares_padded_to_the_multiple() -> None:
    photos = [prepare(Image.new("RGB", size, "red"), BOXED) for size in ((100, 50), (50, 100))]
    batch = Collate(BOXED)([(pixels, Target(), frame) for pixels, frame in photos])
    assert batch.images.shape == (2, 3, 64, 64)
    odd = Preprocessing(size=40, fit="letterbox")
    pixels, frame = prepare(Image.new("RGB", (40, 40), "red"), odd)
    batch = Collate(odd)([(pixels, Target(), frame)])
    assert batch.images.shape == (1, 3, 64, 64)
    assert batch.images[0, :, 50, 50].tolist() == [127] * 3
    assert frame.to_input(torch.tensor([[0.0, 0, 40, 40]])).tolist() == [[0, 0, 40, 40]]


# -- Photos of a data set -------------------------------------------------------------------------------------------


def red(pixels: Tensor) -> list[float] | None:
    """Around all that is mainly red: x1 y1 x2 y2."""
    there = (pixels[0].int() - pixels[1].int() > 60) & (pixels[0].int() - pixels[2].int() > 60)
    rows, columns = np.nonzero(there.numpy())
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else None


def test_boxes_lie_on_what_they_are_of(drawn: Dataset) -> None:
    photos = PreparedPhotos(drawn.photos, BOXED, None)
    for i in (0, 2):
        pixels, target, frame = photos[0, i]
        assert pixels.shape == (3, 64, 64)
        assert target.boxes[0].tolist() == pytest.approx(red(pixels), abs=1.01)
        torch.testing.assert_close(frame.to_photo(target.boxes), drawn.photos[i].boxes, rtol=0, atol=0.01)
    one = next(iter(photo_loader(drawn.photos, BOXED, 8, workers=0)))
    assert torch.equal(one.images[2], photos[0, 2][0])


@pytest.mark.parametrize("zoom", [0.6, 1.0, 1.5])
@pytest.mark.parametrize("seed", range(4))
def test_augmented_boxes_lie_on_what_they_are_of(drawn: Dataset, zoom: float, seed: int) -> None:
    photos = PreparedPhotos(drawn.photos[:1], BOXED, Augmentation(0.5, (zoom, zoom), 0), seed=seed)
    pixels, target, frame = photos[0, 0]
    assert pixels.shape == (3, 64, 64)
    if len(target.boxes):
        assert target.boxes[0].tolist() == pytest.approx(red(pixels), abs=1.6)
    torch.testing.assert_close(frame.to_photo(frame.to_input(drawn.photos[0].boxes)), drawn.photos[0].boxes)


def test_still_augmentation_is_the_plain_letterbox(drawn: Dataset) -> None:
    plain = PreparedPhotos(drawn.photos, BOXED, None)
    still = PreparedPhotos(drawn.photos, BOXED, Augmentation(0, (1, 1), 0, 1))
    for i in range(len(drawn)):
        (pixels, one, _), (same, other, _) = plain[0, i], still[0, i]
        torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=0.5)  # windows are cut in whole pixels
        assert float((pixels.float() - same.float()).abs().mean()) < 4


def test_zooming_out_shows_more_grey_and_the_photo_whole() -> None:
    frame = BOXED.frame(96, 64)
    photo = torch.full((3, 64, 96), 250, dtype=torch.uint8)
    torch.manual_seed(0)
    pixels, moved = Augmentation(0, (0.5, 0.5), 0, 1)(photo, frame, BOXED.ground)
    whole = torch.tensor([[0.0, 0.0, 96.0, 64.0]])
    shown = visible(moved, whole, torch.tensor([0]))
    assert float(area(shown.boxes)) == pytest.approx(
        float(area(visible(frame, whole, torch.tensor([0])).boxes)) / 4, rel=0.05
    )
    assert float((pixels == 127).float().mean()) == pytest.approx(1 - float(area(shown.boxes)) / 64**2, abs=0.05)


def test_the_data_doctor_sees_boxes_in_the_square(drawn: Dataset) -> None:
    boxes, _, height, width = boxes_in_input(drawn, BOXED)
    assert (height, width) == (64, 64)
    # The first photo, 96 x 64, lies at 0 11 with two thirds of its size: 96 * 64 // 96 = 64 and 64 * 64 // 96 = 42.
    expected = [8 * 64 / 96, 11 + 10 * 42 / 64, 40 * 64 / 96, 11 + 50 * 42 / 64]
    assert boxes[0].tolist() == pytest.approx(expected, abs=1e-4)
