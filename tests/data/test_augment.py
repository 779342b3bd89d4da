"""Photos and boxes moved together: what is drawn stays in its box."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as transforms

from foodbox.data.augment import VISIBLE, Augmentation, visible
from foodbox.ops.boxes import area
from foodbox.records import Frame, Preprocessing

STILL = Augmentation(mirror=0, zoom=(1, 1), colour=0, stretch=1)
FILL = [10.0, 20.0, 30.0]


def a_photo(width: int = 96, height: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """A red and a blue rectangle on grey, their boxes and their labels."""
    pixels = torch.full((3, height, width), 112, dtype=torch.uint8)
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [56.0, 24.0, 88.0, 56.0]])
    for (x1, y1, x2, y2), colour in zip(boxes.int().tolist(), ([230, 0, 0], [0, 0, 230]), strict=True):
        pixels[:, y1:y2, x1:x2] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    return pixels, boxes, torch.tensor([0, 1])


def change(
    augmentation: Augmentation, pixels: Tensor, boxes: Tensor, labels: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels, boxes and labels after a random change; the photo is held at its own size."""
    found, frame = augmentation(pixels, Frame(pixels.shape[-1], pixels.shape[-2], *size), FILL)
    target = visible(frame, boxes, labels)
    return found, target.boxes, target.labels


def seen(pixels: Tensor, channel: int) -> list[float] | None:
    """Around all that is mainly red (0) or blue (2): x1 y1 x2 y2."""
    others = [c for c in range(3) if c != channel]
    there = (pixels[channel] > 120) & (pixels[others] < 70).all(0)
    rows, columns = np.nonzero(there.numpy())
    if not len(rows):
        return None
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


def test_without_any_change_a_photo_is_only_resized() -> None:
    pixels, boxes, labels = a_photo()
    found, moved, kept = change(STILL, pixels, boxes, labels, (48, 32))
    assert torch.equal(found, transforms.resize(pixels, [32, 48], antialias=True))
    torch.testing.assert_close(moved, boxes / 2)
    assert torch.equal(kept, labels)
    same, moved, _ = change(STILL, pixels, boxes, labels, (96, 64))
    assert torch.equal(same, pixels)
    assert torch.equal(moved, boxes)


def test_a_mirror_image_turns_pixels_and_boxes_round() -> None:
    pixels, boxes, labels = a_photo()
    found, moved, kept = change(
        Augmentation(mirror=1, zoom=(1, 1), colour=0, stretch=1), pixels, boxes, labels, (96, 64)
    )
    assert torch.equal(found, pixels.flip(-1))
    assert moved.tolist() == [[96 - 40, 8, 96 - 8, 40], [96 - 88, 24, 96 - 56, 56]]
    assert torch.equal(kept, labels)


def test_a_photo_upside_down_turns_pixels_and_boxes_over() -> None:
    pixels, boxes, labels = a_photo()
    over = Augmentation(mirror=0, zoom=(1, 1), colour=0, stretch=1, upside_down=1)
    found, moved, kept = change(over, pixels, boxes, labels, (96, 64))
    assert torch.equal(found, pixels.flip(-2))
    assert moved.tolist() == [[8, 64 - 40, 40, 64 - 8], [56, 64 - 56, 88, 64 - 24]]
    assert torch.equal(kept, labels)


def test_half_of_the_photos_are_upside_down_where_half_should_be() -> None:
    """Some of them mirrored, others not."""
    pixels, *_ = a_photo()
    half = Augmentation(0.5, (1, 1), 0, 1, upside_down=0.5)
    frames = [half(pixels, Frame(96, 64, 96, 64), FILL)[1] for _ in range(200)]
    assert 70 < sum(frame.upside_down for frame in frames) < 130
    assert 20 < sum(frame.upside_down and frame.mirror for frame in frames) < 80


@pytest.mark.parametrize("zoom", [0.5, 1.5])
@pytest.mark.parametrize("stretch", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_boxes_stay_on_what_they_are_of(seed: int, zoom: float, stretch: float) -> None:
    """Whatever is cut out, turned over or laid on a larger ground."""
    pixels, boxes, labels = a_photo()
    torch.manual_seed(seed)
    augmentation = Augmentation(0.5, (zoom, zoom), 0, stretch, upside_down=0.5)
    found, moved, kept = change(augmentation, pixels, boxes, labels, (96, 64))
    assert len(moved) > 0
    for box, label in zip(moved.tolist(), kept.tolist(), strict=True):
        assert box == pytest.approx(seen(found, 2 * label), abs=1.5)


def test_the_ground_around_a_smaller_photo_has_the_colour_that_is_asked_for() -> None:
    pixels, boxes, labels = a_photo()
    found, moved, _ = change(
        Augmentation(mirror=0, zoom=(0.5, 0.5), colour=0, stretch=1), pixels, boxes, labels, (96, 64)
    )
    corners = found[:, [0, 0, -1, -1], [0, -1, 0, -1]].T.tolist()
    assert [10, 20, 30] in corners
    torch.testing.assert_close(area(moved), area(boxes) / 4, rtol=0.05, atol=0)


def test_a_stretch_changes_the_sides_and_not_the_area() -> None:
    """By factors on their ratio from 1 / 2 to 2, the one as likely as the other."""
    pixels, boxes, _ = a_photo(960, 640)
    ratios = []
    for seed in range(200):
        torch.manual_seed(seed)
        _, frame = Augmentation(mirror=0, zoom=(1, 1), colour=0, stretch=2)(pixels, Frame(960, 640, 48, 32), FILL)
        width, height = (frame.to_input(boxes[0])[2:] - frame.to_input(boxes[0])[:2]).tolist()
        assert width * height == pytest.approx(1.6 * 1.6, rel=0.01)
        ratios.append(width / height)
    assert 0.5 <= min(ratios) < 0.52
    assert 1.95 < max(ratios) <= 2.01
    assert sum(ratio > 1 for ratio in ratios) == pytest.approx(100, abs=20)


def test_a_box_that_is_mostly_cut_away_goes_with_its_label() -> None:
    """Zoomed in ten times, no rectangle of a third of the photo's side can be seen by 40 %."""
    pixels, boxes, labels = a_photo()
    _, moved, kept = change(Augmentation(mirror=0, zoom=(10, 10), colour=0), pixels, boxes, labels, (96, 64))
    assert moved.shape == (0, 4)
    assert kept.shape == (0,)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    zoom=st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)).map(lambda z: (min(z), max(z))),
    size=st.tuples(st.integers(1, 90), st.integers(32, 90)).flatmap(st.permutations),
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    raw=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4), max_size=4),
)
def test_boxes_stay_inside_and_whole_enough(
    seed: int,
    zoom: tuple[float, float],
    size: list[int],
    shape: tuple[int, int],
    raw: list[tuple[float, float, float, float]],
) -> None:
    width, height = shape
    corners = [(x * width * 0.9, y * height * 0.9, w, h) for x, y, w, h in raw]
    rows = [(x, y, x + (0.05 + 0.95 * w) * (width - x), y + (0.05 + 0.95 * h) * (height - y)) for x, y, w, h in corners]
    boxes = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
    torch.manual_seed(seed)
    pixels, moved, kept = change(
        Augmentation(0.5, zoom, 0.5),
        torch.randint(256, (3, height, width), dtype=torch.uint8),
        boxes,
        torch.arange(len(boxes)),
        (size[0], size[1]),
    )
    assert pixels.shape == (3, size[1], size[0])
    assert pixels.dtype == torch.uint8
    assert moved.dtype == torch.float32
    assert type(moved) is type(pixels) is Tensor
    assert len(moved) == len(kept) <= len(boxes)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert (moved[:, 2:] > moved[:, :2]).all()
    assert (moved >= 0).all()
    assert (moved <= torch.tensor([size[0], size[1]] * 2)).all()


@pytest.mark.parametrize("seed", range(8))
def test_what_is_kept_is_what_is_still_to_be_seen(seed: int) -> None:
    """A box is kept if the share of it inside the photo's part is 40 % or more: counted in pixels."""
    pixels, boxes, labels = a_photo()
    torch.manual_seed(seed)
    found, _, kept = change(Augmentation(0, (1.7, 1.7), 0), pixels, boxes, labels, (960, 640))
    whole = area(boxes) * 100 * 1.7**2
    for label in (0, 1):
        box = seen(found, 2 * label)
        share = 0.0 if box is None else (box[2] - box[0]) * (box[3] - box[1]) / float(whole[label])
        if abs(share - VISIBLE) > 0.04:  # windows are cut in whole pixels
            assert (label in kept.tolist()) is (share > VISIBLE)


def test_the_same_seed_changes_the_same_and_another_seed_else() -> None:
    augmentation = Augmentation()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(change(augmentation, *a_photo(), (96, 64)))
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    assert not torch.equal(results[0][0], results[2][0])


def test_light_and_colour_leave_boxes_alone() -> None:
    pixels, boxes, labels = a_photo()
    found, moved, _ = change(Augmentation(0, (1, 1), 1, 1), pixels, boxes, labels, (96, 64))
    assert not torch.equal(found, pixels)
    assert torch.equal(moved, boxes)


def test_a_letterbox_shows_some_of_a_wide_photo_at_any_zoom() -> None:
    pixels = torch.full((3, 10, 100), 200, dtype=torch.uint8)
    frame = Preprocessing(size=64, fit="letterbox").frame(1000, 100)
    for seed in range(200):
        torch.manual_seed(seed)
        found, _ = Augmentation(mirror=0.5, zoom=(3, 6), colour=0)(pixels, frame, [0.0] * 3)
        assert found.shape == (3, 64, 64)
        assert found.any()


def test_a_photo_without_boxes() -> None:
    pixels = torch.from_numpy(np.array(Image.new("RGB", (1, 1)))).permute(2, 0, 1)
    found, moved, kept = change(Augmentation(), pixels, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), (32, 32))
    assert found.shape == (3, 32, 32)
    assert moved.shape == (0, 4)
    assert kept.dtype == torch.int64


# -- The frame that goes with a changed photo -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_the_frame_leads_back_to_the_photos_own_pixels(seed: int) -> None:
    """Of a photo ten times as large as the pixels that are held of it; all of it is shown."""
    pixels, boxes, labels = a_photo()
    torch.manual_seed(seed)
    found, frame = Augmentation(0.5, (0.6, 1.0), 0)(pixels, Frame(960, 640, 192, 128), FILL)
    assert (frame.width, frame.height, frame.input_width, frame.input_height) == (960, 640, 192, 128)
    for label in labels.tolist():
        back = frame.to_photo(torch.tensor(seen(found, 2 * label), dtype=torch.float32))
        torch.testing.assert_close(back, boxes[label] * 10, rtol=0, atol=15)  # 1.5 pixels of those held


@given(
    seed=st.integers(0, 10**6),
    zoom=st.tuples(st.floats(0.4, 3), st.floats(0.4, 3)).map(lambda z: (min(z), max(z))),
    side=st.tuples(*[st.integers(1, 8000)] * 2),
    held=st.tuples(*[st.integers(1, 40)] * 2),
    shares=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4), max_size=4),
)
def test_boxes_come_back_from_any_change(
    seed: int,
    zoom: tuple[float, float],
    side: tuple[int, int],
    held: tuple[int, int],
    shares: list[tuple[float, float, float, float]],
) -> None:
    """To 0.01 px in float32, and what is shown of those that are kept is what torchvision would show."""
    torch.manual_seed(seed)
    plain = Frame(*side, 320, 240)
    _, frame = Augmentation(0.5, zoom, 0)(torch.zeros(3, *held, dtype=torch.uint8), plain, FILL)
    rows = torch.tensor(shares, dtype=torch.float32).reshape(-1, 2, 2).sort(1).values.flatten(1)  # [N, 4]
    boxes = rows * torch.tensor([*side, *side])
    torch.testing.assert_close(frame.to_photo(frame.to_input(boxes)), boxes, rtol=0, atol=0.01)

    height, width = held
    scale = torch.tensor([width / side[0], height / side[1]] * 2)
    left, top, right, bottom = (torch.tensor([frame.left, frame.top, frame.right, frame.bottom]) * scale).round().int()
    theirs = tv_tensors.BoundingBoxes(boxes * scale, format="XYXY", canvas_size=held)  # type: ignore[call-arg]
    theirs = transforms.crop(theirs, int(top), int(left), int(bottom - top), int(right - left))
    theirs = transforms.resize(theirs, [240, 320])
    theirs = transforms.horizontal_flip(theirs) if frame.mirror else theirs
    target = visible(frame, boxes, torch.arange(len(boxes)))
    torch.testing.assert_close(target.boxes, theirs.as_subclass(Tensor)[target.labels], rtol=0, atol=0.02)


def test_no_change_is_the_plain_frame() -> None:
    pixels, _, _ = a_photo(49, 31)
    plain = Frame(1234, 777, 49, 31)
    assert STILL(pixels, plain, FILL)[1] == plain


def test_a_box_too_thin_for_the_input_goes() -> None:
    """In float32 its sides would lie on one another, and boxes have a width."""
    x = 4095.99853515625
    boxes = torch.tensor([[x - 2**-12, 0.0, x, 100.0], [0.0, 0.0, 100.0, 100.0]])
    assert boxes[0, 2] > boxes[0, 0]
    target = visible(Frame(8000, 6000, 320, 240), boxes, torch.tensor([0, 1]))
    assert target.labels.tolist() == [1]


# -- Masks ----------------------------------------------------------------------------------------------------------


def around(mask: Tensor) -> list[float]:
    """The box of a mask bool [H, W] that is not empty."""
    rows, columns = np.nonzero(mask.numpy())
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


share = st.floats(0, 1, width=32)


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10**6),
    zoom=st.floats(0.4, 3),
    fit=st.sampled_from(["longest", "shortest", "stretch", "letterbox"]),
    size=st.tuples(st.integers(30, 3000), st.integers(30, 3000)),
    corners=st.lists(st.tuples(share, share, share, share), min_size=1, max_size=4),
)
def test_a_mask_fills_its_box(
    seed: int,
    zoom: float,
    fit: str,
    size: tuple[int, int],
    corners: list[tuple[float, float, float, float]],
) -> None:
    """Of rectangles and octagons, mirrored, zoomed and laid in any way: to 1 px, as far as the input shows them."""
    width, height = size
    boxes = torch.tensor(corners).reshape(-1, 2, 2).sort(1).values.flatten(1) * torch.tensor([width, height] * 2)
    octagon = torch.tensor([[-1.0, h] for h in (0.5, -0.5)] + [[h, -1.0] for h in (-0.5, 0.5)])
    octagon = torch.cat((octagon, -octagon))  # touches its box with half of each side
    square = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    middle, half = (boxes[:, 2:] + boxes[:, :2]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    outlines = [[m + h * (square if i % 2 else octagon)] for i, (m, h) in enumerate(zip(middle, half, strict=True))]
    plain = Preprocessing(size=96, fit=fit, max_size=160).frame(width, height)  # type: ignore[arg-type]
    torch.manual_seed(seed)
    held = torch.zeros(3, 48, 64, dtype=torch.uint8)
    _, frame = Augmentation(0.5, (zoom, zoom), 0)(held, plain, FILL)
    target = visible(frame, boxes, torch.arange(len(boxes)), outlines)
    assert target.masks is not None
    assert target.masks.shape == (len(target.boxes), frame.input_height, frame.input_width)
    whole = frame.to_input(boxes)
    for box, label, mask in zip(target.boxes, target.labels.tolist(), target.masks, strict=True):
        if (box[2:] - box[:2]).min() < 3:
            continue  # a thin one may lie between the middles of pixels
        cut = not torch.equal(box, whole[label])
        if label % 2 or not cut:
            assert around(mask) == pytest.approx(box.tolist(), abs=1)
        elif mask.any():  # of an octagon that is cut off, less may be left than of its box
            found = torch.tensor(around(mask))
            assert (found[:2] >= box[:2] - 1).all()
            assert (found[2:] <= box[2:] + 1).all()


@pytest.mark.parametrize(("mirror", "upside_down"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_masks_lie_on_what_they_are_of(mirror: int, upside_down: int) -> None:
    """A triangle painted into the photo, and its outline moved with it: counted in pixels."""
    pixels = torch.full((3, 64, 96), 112, dtype=torch.uint8)
    x, y = torch.meshgrid(torch.arange(96), torch.arange(64), indexing="xy")
    pixels[:, (x >= 16) & (y < 56) & (x - 16 <= y - 8)] = torch.tensor([230, 0, 0], dtype=torch.uint8)[:, None]
    outline = torch.tensor([[16.0, 8.0], [64.0, 56.0], [16.0, 56.0]])
    torch.manual_seed(2)
    augmentation = Augmentation(mirror, (1.2, 1.2), 0, upside_down=upside_down)
    found, frame = augmentation(pixels, Frame(96, 64, 192, 128), FILL)
    assert (frame.mirror, frame.upside_down) == (bool(mirror), bool(upside_down))
    target = visible(frame, torch.tensor([[16.0, 8.0, 64.0, 56.0]]), torch.tensor([0]), [[outline]])
    assert target.masks is not None
    red = (found[0] > 150) & (found[1] < 80)
    assert ((red & target.masks[0]).sum() / (red | target.masks[0]).sum()).item() > 0.95


def test_an_area_grows_with_the_square_of_the_scale() -> None:
    """A triangle of half its box, worked by hand: 60 x 40 / 2 in the photo, twice as long in the input."""
    outline = torch.tensor([[10.0, 10.0], [70.0, 10.0], [10.0, 50.0]])
    target = visible(Frame(100, 80, 200, 160), torch.tensor([[10.0, 10.0, 70.0, 50.0]]), torch.tensor([0]), [[outline]])
    assert target.masks is not None
    assert target.masks.sum().item() == pytest.approx(4 * 60 * 40 / 2, rel=0.02)


def test_a_box_that_goes_takes_its_mask_along() -> None:
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [50.0, 50.0, 80.0, 70.0]])
    square = [[torch.stack((b[[0, 2, 2, 0]], b[[1, 1, 3, 3]]), 1)] for b in boxes]
    frame = Frame(100, 80, 50, 40, left=40, top=30, right=90, bottom=70)
    target = visible(frame, boxes, torch.tensor([0, 1]), square)
    assert target.labels.tolist() == [1]
    assert target.masks is not None
    assert target.masks.shape == (1, 40, 50)
    assert target.masks[0, 20:40, 10:40].all()
    assert target.masks.sum() == 600


def test_without_outlines_there_are_no_masks() -> None:
    _, boxes, labels = a_photo()
    assert visible(Frame(96, 64, 96, 64), boxes, labels).masks is None
    none = visible(Frame(96, 64, 96, 64), boxes[:0], labels[:0], [])
    assert none.masks is not None
    assert none.masks.shape == (0, 64, 96)
