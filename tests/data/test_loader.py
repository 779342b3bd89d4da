"""Batches: every photo once an epoch, the same whatever the number of processes, and padded without a trace."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from foodbox.data import loader
from foodbox.data.augment import Augmentation
from foodbox.data.images import PhotoError, open_photo, prepare
from foodbox.data.loader import (
    PATIENCE,
    Collate,
    PreparedPhotos,
    Shuffled,
    apart,
    photo_loader,
    training_loader,
)
from foodbox.records import Batch, Dataset, Frame, Photo, Preprocessing, Target

SMALL = Preprocessing(size=64)


def some_photos(lying: int, upright: int) -> list[bool]:
    """Whether each is upright."""
    return [False] * lying + [True] * upright


# -- Order ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 7), st.integers(0, 100))
def test_every_photo_comes_once_an_epoch(lying: int, upright: int, size: int, seed: int) -> None:
    sampler = Shuffled(some_photos(lying, upright), size, seed)
    batches = list(sampler)
    assert len(batches) == len(sampler) == math.ceil((lying + upright) / size)
    assert sorted(i for batch in batches for _, i in batch) == list(range(lying + upright))
    assert all(len(batch) <= size for batch in batches)
    # At most what is left over of both kinds shares a batch.
    mixed = [batch for batch in batches if len({i < lying for _, i in batch}) > 1]
    assert len(mixed) <= 2


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 7))
def test_whole_batches_fill_up_the_last_one(lying: int, upright: int, size: int) -> None:
    photos = some_photos(lying, upright)
    batches = list(Shuffled(photos, size, seed=0, whole=True))
    assert len(batches) == math.ceil(len(photos) / size)
    assert all(len(batch) == size for batch in batches)
    assert {i for batch in batches for _, i in batch} == set(range(len(photos)))


def test_each_epoch_has_its_own_order_and_says_its_number() -> None:
    sampler = Shuffled(some_photos(20, 20), 4, seed=3)
    first, again = list(sampler), list(sampler)
    sampler.epoch = 1
    second = list(sampler)
    assert first == again
    assert [[i for _, i in batch] for batch in first] != [[i for _, i in batch] for batch in second]
    assert {epoch for batch in first for epoch, _ in batch} == {0}
    assert {epoch for batch in second for epoch, _ in batch} == {1}
    assert list(Shuffled(some_photos(20, 20), 4, seed=4)) != first


@given(st.integers(1, 40), st.integers(1, 5), st.integers(2, 4))
def test_processes_share_the_batches_in_equal_numbers(count: int, size: int, processes: int) -> None:
    """Disjoint but for the last ones, which fill up so that nobody waits for a batch that never comes."""
    photos = some_photos(count, 0)
    parts = [list(Shuffled(photos, size, 0, (i, processes))) for i in range(processes)]
    whole = list(Shuffled(photos, size, 0))
    assert len({len(part) for part in parts}) == 1
    dealt = [tuple(batch) for round_ in zip(*parts, strict=True) for batch in round_]
    assert dealt[: len(whole)] == [tuple(batch) for batch in whole]
    assert len(dealt) - len(whole) < processes
    assert set(dealt) == {tuple(batch) for batch in whole}


# -- One photo ------------------------------------------------------------------------------------------------------


def test_a_photo_and_its_boxes_in_the_inputs_pixels(drawn: Dataset) -> None:
    pixels, target, frame = PreparedPhotos(drawn.photos, SMALL, None)[0, 2]
    assert pixels.shape == (3, 42, 64)
    assert frame == Frame(96, 64, 64, 42, drawn.photos[2].path)
    expected = torch.tensor([[4.0, 6, 30, 40], [50, 20, 90, 60]]) * torch.tensor([64 / 96, 42 / 64] * 2)
    torch.testing.assert_close(target.boxes, expected)
    assert target.labels.tolist() == [0, 2]
    theirs, _ = prepare(open_photo(drawn.photos[2].path), SMALL)
    assert torch.equal(pixels, theirs)


@pytest.mark.parametrize("augmentation", [None, Augmentation(0, (1, 1), 0, 1)])
def test_boxes_to_ignore_are_not_trained_on(drawn: Dataset, augmentation: Augmentation | None) -> None:
    drawn.photos[2].ignore[0] = True
    target = PreparedPhotos(drawn.photos, SMALL, augmentation)[0, 2][1]
    assert target.labels.tolist() == [2]
    assert target.boxes.shape == (1, 4)
    drawn.photos[2].ignore[1] = True
    target = PreparedPhotos(drawn.photos, SMALL, augmentation)[0, 2][1]
    assert target.boxes.shape == (0, 4)


@pytest.mark.parametrize("augmentation", [None, Augmentation(0, (1, 1), 0, 1)])
def test_masks_come_where_they_are_asked_for(drawn: Dataset, augmentation: Augmentation | None) -> None:
    """One for each box that counts; a box without outlines has an empty one, and a photo without any has none."""
    photo = drawn.photos[2]
    photo.masks = [[torch.tensor([[4.0, 6], [30, 6], [30, 40], [4, 40]])], []]
    assert PreparedPhotos(drawn.photos, SMALL, augmentation)[0, 2][1].masks is None
    items = PreparedPhotos(drawn.photos, SMALL, augmentation, masks=True)
    target = items[0, 2][1]
    assert target.masks is not None
    assert target.masks.shape == (2, 42, 64)
    assert target.masks[0].sum().item() == pytest.approx(26 * 34 * (64 / 96) * (42 / 64), rel=0.06)
    assert not target.masks[1].any()
    photo.ignore[0] = True
    assert items[0, 2][1].masks.shape == (1, 42, 64)  # type: ignore[union-attr]
    photo.masks = None
    assert items[0, 2][1].masks.shape == (1, 42, 64)  # type: ignore[union-attr]
    assert items[0, 3][1].masks is not None


def test_a_batch_carries_masks(drawn: Dataset) -> None:
    loader = training_loader(drawn.photos, SMALL, None, 2, workers=0, seed=0, masks=True)
    for batch in loader:
        for target, frame in zip(batch.to("cpu").targets, batch.frames, strict=True):
            assert target.masks is not None
            assert target.masks.shape == (len(target.boxes), frame.input_height, frame.input_width)


def test_without_changes_augmented_boxes_are_the_plain_ones(drawn: Dataset) -> None:
    plain = PreparedPhotos(drawn.photos, SMALL, None)
    still = PreparedPhotos(drawn.photos, SMALL, Augmentation(0, (1, 1), 0, 1))
    for i in range(len(drawn)):
        (mine, one, _), (theirs, other, _) = plain[0, i], still[0, i]
        assert mine.shape == theirs.shape
        torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=1e-3)


def test_changes_depend_on_seed_epoch_and_photo_and_leave_torchs_numbers_alone(drawn: Dataset) -> None:
    photos = PreparedPhotos(drawn.photos, SMALL, Augmentation(), seed=5)
    torch.manual_seed(9)
    one = photos[3, 0][0]
    following = torch.rand(())
    torch.manual_seed(10)
    assert torch.equal(photos[3, 0][0], one)
    torch.manual_seed(9)
    assert torch.rand(()) == following
    assert not torch.equal(photos[4, 0][0], one)
    assert not torch.equal(PreparedPhotos(drawn.photos, SMALL, Augmentation(), seed=6)[3, 0][0], one)


def test_each_photo_is_changed_in_its_own_way(drawn: Dataset) -> None:
    """The same one twice, in one epoch."""
    photos = PreparedPhotos([drawn.photos[0]] * 2, SMALL, Augmentation(), seed=5)
    assert not torch.equal(photos[0, 0][0], photos[0, 1][0])


# -- Batches --------------------------------------------------------------------------------------------------------


def test_photos_are_padded_right_and_below_with_the_mean_colour() -> None:
    preprocessing = Preprocessing(size=64, multiple=32, mean=(0.5, 0.25, 0.1))
    photos = [torch.randint(256, (3, *shape), dtype=torch.uint8) for shape in ((40, 64), (64, 33), (1, 1))]
    batch = Collate(preprocessing)([(photo, Target(), Frame(1, 1, 1, 1)) for photo in photos])
    assert batch.images.shape == (3, 3, 64, 64)
    assert batch.images.dtype == torch.uint8
    mask = torch.ones(3, 64, 64, dtype=torch.bool)
    for i, photo in enumerate(photos):
        height, width = photo.shape[1:]
        assert torch.equal(batch.images[i, :, :height, :width], photo)
        mask[i, :height, :width] = False
    assert batch.images.permute(0, 2, 3, 1)[mask].unique(dim=0).tolist() == [[128, 64, 26]]
    assert preprocessing.ground == pytest.approx([127.5, 63.75, 25.5])


def test_a_batch_is_no_larger_than_it_must_be() -> None:
    one = torch.zeros(3, 40, 70, dtype=torch.uint8)
    frame = Frame(1, 1, 1, 1)
    assert Collate(Preprocessing(multiple=32))([(one, Target(), frame)]).images.shape == (1, 3, 64, 96)
    assert Collate(Preprocessing(multiple=1))([(one, Target(), frame)]).images.shape == (1, 3, 40, 70)


def contents(batches: list[Batch]) -> list[tuple[Tensor, list[Tensor], list[Path | None]]]:
    return [(b.images, [t.boxes for t in b.targets], [f.path for f in b.frames]) for b in batches]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_processes_changes_nothing(drawn: Dataset, workers: int) -> None:
    """Over two epochs, with random changes."""
    runs = []
    for count in (0, workers):
        loader = training_loader(drawn.photos, SMALL, Augmentation(), batch_size=2, workers=count, seed=1)
        batches = []
        for epoch in range(2):
            loader.batch_sampler.epoch = epoch  # type: ignore[union-attr]
            batches += list(loader)
        runs.append(contents(batches))
    assert len(runs[0]) == 2 * 3
    for (images, boxes, paths), (images2, boxes2, paths2) in zip(*runs, strict=True):
        assert torch.equal(images, images2)
        assert all(torch.equal(a, b) for a, b in zip(boxes, boxes2, strict=True))
        assert paths == paths2


@given(st.lists(st.sampled_from([100, 50, 200]), max_size=200), st.integers(1, 9))
def test_photos_of_other_shapes_go_apart_and_none_waits_long(heights: list[int], size: int) -> None:
    batches = apart([Photo(Path("a"), 100, height) for height in heights], SMALL, size)
    assert sorted(i for batch in batches for i in batch) == list(range(len(heights)))
    assert all(len({heights[i] for i in batch}) == 1 and len(batch) <= size for batch in batches)
    latest = -1
    for batch in batches:
        assert batch == sorted(batch)
        assert batch[0] >= latest - PATIENCE
        latest = max(latest, batch[-1])
    assert sum(len(batch) < size for batch in batches) <= 3 + 2 * len(heights) // PATIENCE


def test_photos_come_unchanged_and_lying_ones_first_where_these_fill_a_batch_first(drawn: Dataset) -> None:
    close = Preprocessing(size=64, multiple=16)
    batches = list(photo_loader(drawn.photos, close, batch_size=4, workers=0))
    order = [[0, 2, 3, 5], [1, 4]]
    assert [[f.path for f in b.frames] for b in batches] == [[drawn.photos[i].path for i in batch] for batch in order]
    assert list(photo_loader([], SMALL, batch_size=4, workers=0)) == []


def test_a_batch_moves_as_a_whole(drawn: Dataset) -> None:
    batch = next(iter(photo_loader(drawn.photos, SMALL, batch_size=4, workers=0))).to("meta")
    assert {batch.images.device.type, *(t.boxes.device.type for t in batch.targets)} == {"meta"}
    assert {t.labels.device.type for t in batch.targets} == {"meta"}


def test_a_photo_is_never_held_larger_than_it_is() -> None:
    photos = [Photo(Path("a"), 320, 200), Photo(Path("b"), 352, 352), Photo(Path("c"), 4000, 3000)]
    held = PreparedPhotos(photos, Preprocessing(size=320), Augmentation()).sizes
    assert held == [(320, 200), (352, 352), (416, 312)]


def test_what_augmentation_makes_smaller_is_smoothed() -> None:
    photos, rough = [Photo(Path("a"), 320, 200)], Preprocessing(antialias=False)
    assert PreparedPhotos(photos, rough, Augmentation()).antialias
    assert not PreparedPhotos(photos, rough, None).antialias


def test_one_photo_waits_for_so_many_more() -> None:
    upright, lying = Photo(Path("a"), 50, 100), Photo(Path("b"), 100, 50)
    assert apart([upright] + [lying] * PATIENCE, SMALL, 8)[-2] == [0]


def test_each_epoch_puts_other_photos_together_lying_and_upright_ones_mixed() -> None:
    sampler = Shuffled(some_photos(40, 40), 4, seed=3)
    first, kinds = list(sampler), [batch[0][1] < 40 for batch in sampler]
    sampler.epoch = 1
    together = [{frozenset(i for _, i in batch) for batch in batches} for batches in (first, list(sampler))]
    assert together[0] != together[1]
    assert sorted(kinds) != kinds != sorted(kinds, reverse=True)


def test_the_next_epoch_is_not_that_of_the_next_seed() -> None:
    one, two = (Shuffled(some_photos(40, 0), 4, seed=seed) for seed in (0, 1))
    one.epoch = 1
    assert [[i for _, i in batch] for batch in one] != [[i for _, i in batch] for batch in two]


def test_no_photo_is_changed_as_another_was_the_epoch_before(drawn: Dataset) -> None:
    photos = PreparedPhotos([drawn.photos[0]] * 2, SMALL, Augmentation(), seed=5)
    assert not torch.equal(photos[0, 1][0], photos[1, 0][0])


def test_processes_stay_with_what_they_decoded(drawn: Dataset) -> None:
    assert training_loader(drawn.photos, SMALL, Augmentation(), 2, workers=2, seed=0).persistent_workers


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_takes_none_of_torchs_random_numbers(drawn: Dataset, workers: int) -> None:
    """From which losses draw: a run that goes on would draw others."""
    loader = training_loader(drawn.photos, SMALL, Augmentation(), 2, workers, seed=0)
    for _ in range(2):
        before = torch.get_rng_state()
        list(loader)
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("keep", "opened"), [(True, 1), (False, 2)])
def test_photos_are_kept_where_they_are_asked_for_again(
    keep: bool, opened: int, drawn: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    monkeypatch.setattr(loader, "open_photo", lambda path, **named: seen.append(path) or open_photo(path, **named))
    batches = photo_loader(drawn.photos, SMALL, 4, workers=0, keep=keep)
    for _ in range(2):
        list(batches)
    assert len(seen) == opened * len(drawn)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photo_that_is_gone_is_one_sentence(drawn: Dataset, workers: int) -> None:
    """From a worker, too, whose traceback torch would put before it."""
    photos = [*drawn.photos, Photo(Path("gone.jpg"), 64, 64)]
    with pytest.raises(PhotoError, match=r"^gone\.jpg is missing\. Check the name\.$"):
        list(photo_loader(photos, SMALL, 4, workers))


def test_a_photo_that_is_stretched_has_what_is_to_spare_in_each_direction() -> None:
    """A narrow upright photo has none in its width, and much in its height."""
    square = Preprocessing(size=320, fit="stretch")
    sizes = PreparedPhotos([Photo(Path("a"), 240, 640), Photo(Path("b"), 640, 240)], square, Augmentation()).sizes
    assert sizes == [(240, 416), (416, 240)]
