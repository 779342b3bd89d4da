"""Photos and boxes moved together: what is drawn stays in its box."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from foodbox.data.augment import VISIBLE, Augmentation
from foodbox.ops.boxes import area

STILL = Augmentation(mirror=0, zoom=(1, 1), colour=0)
FILL = [10.0, 20.0, 30.0]


def a_photo(width: int = 96, height: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """A red and a blue rectangle on grey, their boxes and their labels."""
    pixels = torch.full((3, height, width), 112, dtype=torch.uint8)
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [56.0, 24.0, 88.0, 56.0]])
    for (x1, y1, x2, y2), colour in zip(boxes.int().tolist(), ([230, 0, 0], [0, 0, 230]), strict=True):
        pixels[:, y1:y2, x1:x2] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    return pixels, boxes, torch.tensor([0, 1])


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
    found, moved, kept = STILL(pixels, boxes, labels, (48, 32), FILL)
    assert torch.equal(found, transforms.resize(pixels, [32, 48], antialias=True))
    torch.testing.assert_close(moved, boxes / 2)
    assert torch.equal(kept, labels)
    same, moved, _ = STILL(pixels, boxes, labels, (96, 64), FILL)
    assert torch.equal(same, pixels)
    assert torch.equal(moved, boxes)


def test_a_mirror_image_turns_pixels_and_boxes_round() -> None:
    pixels, boxes, labels = a_photo()
    found, moved, kept = Augmentation(mirror=1, zoom=(1, 1), colour=0)(pixels, boxes, labels, (96, 64), FILL)
    assert torch.equal(found, pixels.flip(-1))
    assert moved.tolist() == [[96 - 40, 8, 96 - 8, 40], [96 - 88, 24, 96 - 56, 56]]
    assert torch.equal(kept, labels)


@pytest.mark.parametrize("zoom", [0.5, 1.5])
@pytest.mark.parametrize("seed", range(4))
def test_boxes_stay_on_what_they_are_of(seed: int, zoom: float) -> None:
    """Whatever is cut out or laid on a larger ground."""
    pixels, boxes, labels = a_photo()
    torch.manual_seed(seed)
    found, moved, kept = Augmentation(mirror=0.5, zoom=(zoom, zoom), colour=0)(pixels, boxes, labels, (96, 64), FILL)
    assert len(moved) > 0
    for box, label in zip(moved.tolist(), kept.tolist(), strict=True):
        assert box == pytest.approx(seen(found, 2 * label), abs=1.5)


def test_the_ground_around_a_smaller_photo_has_the_colour_that_is_asked_for() -> None:
    pixels, boxes, labels = a_photo()
    found, moved, _ = Augmentation(mirror=0, zoom=(0.5, 0.5), colour=0)(pixels, boxes, labels, (96, 64), FILL)
    corners = found[:, [0, 0, -1, -1], [0, -1, 0, -1]].T.tolist()
    assert [10, 20, 30] in corners
    torch.testing.assert_close(area(moved), area(boxes) / 4, rtol=0.05, atol=0)


def test_a_box_that_is_mostly_cut_away_goes_with_its_label() -> None:
    """Zoomed in ten times, no rectangle of a third of the photo's side can be seen by 40 %."""
    pixels, boxes, labels = a_photo()
    _, moved, kept = Augmentation(mirror=0, zoom=(10, 10), colour=0)(pixels, boxes, labels, (96, 64), FILL)
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
    pixels, moved, kept = Augmentation(0.5, zoom, 0.5)(
        torch.randint(256, (3, height, width), dtype=torch.uint8),
        boxes,
        torch.arange(len(boxes)),
        (size[0], size[1]),
        FILL,
    )
    assert pixels.shape == (3, size[1], size[0])
    assert pixels.dtype == torch.uint8
    assert moved.dtype == torch.float32
    assert type(moved) is type(pixels) is Tensor
    assert len(moved) == len(kept) <= len(boxes)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert (moved[:, 2:] > moved[:, :2]).all()
    assert (moved >= -1e-3).all()
    assert (moved <= torch.tensor([size[0], size[1]] * 2) + 1e-3).all()


@pytest.mark.parametrize("seed", range(8))
def test_what_is_kept_is_what_is_still_to_be_seen(seed: int) -> None:
    """A box is kept if the share of it inside the photo's part is 40 % or more: counted in pixels."""
    pixels, boxes, labels = a_photo()
    torch.manual_seed(seed)
    found, _, kept = Augmentation(0, (1.7, 1.7), 0)(pixels, boxes, labels, (960, 640), FILL)
    whole = area(boxes) * 100 * 1.7**2
    for label in (0, 1):
        box = seen(found, 2 * label)
        share = 0.0 if box is None else (box[2] - box[0]) * (box[3] - box[1]) / float(whole[label])
        if abs(share - VISIBLE) > 0.04:  # windows are cut in whole pixels
            assert (label in kept.tolist()) is (share > VISIBLE)


def test_the_same_seed_changes_the_same_and_another_seed_else() -> None:
    change = Augmentation()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(change(*a_photo(), (96, 64), FILL))
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    assert not torch.equal(results[0][0], results[2][0])


def test_light_and_colour_leave_boxes_alone() -> None:
    pixels, boxes, labels = a_photo()
    found, moved, _ = Augmentation(mirror=0, zoom=(1, 1), colour=1)(pixels, boxes, labels, (96, 64), FILL)
    assert not torch.equal(found, pixels)
    assert torch.equal(moved, boxes)


def test_a_photo_without_boxes() -> None:
    pixels = torch.from_numpy(np.array(Image.new("RGB", (1, 1)))).permute(2, 0, 1)
    found, moved, kept = Augmentation()(pixels, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), (32, 32), FILL)
    assert found.shape == (3, 32, 32)
    assert moved.shape == (0, 4)
    assert kept.dtype == torch.int64
