"""Samples, splits and classes: the same for the same seed, nothing lost, and of each class its share."""

from __future__ import annotations

import copy
import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foodbox.data.splits import one_class, sample, split, spread, to_train_on, with_names
from foodbox.errors import UsageError
from foodbox.records import Dataset, Photo


def photos(count: int, hashes: list[int] | None = None) -> Dataset:
    known = dict(enumerate(hashes or []))
    return Dataset([Photo(Path(f"{i:04}.jpg"), 10, 10, hash=known.get(i)) for i in range(count)], ["food"], "voc")


def photos_of(classes: list[set[int]]) -> Dataset:
    """A photo for each set, with a box of each of its classes."""
    return Dataset(
        [
            Photo(Path(f"{i:05}.jpg"), 10, 10, torch.zeros(len(labels), 4), torch.tensor(sorted(labels)).long())
            for i, labels in enumerate(classes)
        ],
        [f"class {i}" for i in range(max(max(labels, default=0) for labels in classes) + 1)],
    )


def per_class(dataset: Dataset) -> Counter[int]:
    """How many photos have each class; those that show nothing are -1."""
    return Counter(kind for photo in dataset for kind in (set(photo.labels.tolist()) or {-1}))


def furthest(whole: Dataset, part: Dataset) -> float:
    """By how many photos the class that is furthest off misses its share."""
    there, got = per_class(whole), per_class(part)
    return max(abs(got[kind] - count * len(part) / len(whole)) for kind, count in there.items())


def paths(dataset: Dataset) -> list[str]:
    return [str(photo.path) for photo in dataset]


def shuffled(dataset: Dataset, seed: int) -> Dataset:
    order = list(dataset.photos)
    random.Random(seed).shuffle(order)
    return dataset.with_photos(order)


@pytest.mark.parametrize(
    ("parts", "trained_on"),
    [
        (["train", "valid", ""], ["train"]),
        (["valid", ""], [""]),
        (["valid", "test"], ["valid", "test"]),
        (["valid", "unlabelled"], ["valid", "unlabelled"]),
        (["train", "valid", "unlabelled"], ["train"]),
    ],
)
def test_what_is_trained_on(parts: list[str], trained_on: list[str]) -> None:
    """A photo "unlabelled" is of no part, and nobody said what it shows."""
    some = [
        Photo(Path(part or "none"), 9, 9, labelled=part != "unlabelled", part=part.replace("unlabelled", ""))
        for part in parts
    ]
    chosen = to_train_on(Dataset(some, ["food"]))
    assert [str(photo.path) for photo in chosen] == [part or "none" for part in trained_on]


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 1000))
def test_a_split_loses_nothing_and_shares_nothing(count: int, share: float, seed: int) -> None:
    dataset = photos(count)
    rest, apart = split(dataset, share, seed)
    assert sorted(paths(rest) + paths(apart)) == paths(dataset)
    assert len(rest) >= 1
    assert len(apart) == min(max(1, round(share * count)), count - 1)
    assert (rest.names, rest.format) == (apart.names, apart.format) == (["food"], "voc")


@given(st.integers(2, 40), st.integers(0, 1000))
def test_the_same_seed_chooses_the_same_photos_in_whatever_order_they_are_read(count: int, seed: int) -> None:
    dataset = photos(count)
    other = shuffled(dataset, seed)
    assert [set(paths(p)) for p in split(dataset, 0.3, seed)] == [set(paths(p)) for p in split(other, 0.3, seed)]
    assert paths(sample(dataset, count // 2, seed)) == paths(sample(other, count // 2, seed))


def test_another_seed_chooses_others() -> None:
    dataset = photos(100)
    assert paths(sample(dataset, 20, 0)) != paths(sample(dataset, 20, 1))
    assert paths(split(dataset, 0.2, 0)[1]) != paths(split(dataset, 0.2, 1)[1])


def test_the_choice_is_the_same_on_every_machine() -> None:
    """Python promises its generator's numbers from version to version; what is stored here must not change unseen."""
    assert paths(sample(photos(100), 5, 0)) == PLAIN
    assert paths(split(photos(100), 0.05, 0)[1]) == PLAIN
    several = photos_of([{i % 3, i * i % 5} for i in range(100)])
    assert [int(path[:5]) for path in paths(split(several, 0.07, 3)[1])] == SEVERAL
    alike = photos(100, [i // 4 * 0x0123456789ABCDEF % 2**63 for i in range(100)])
    assert [int(path[:4]) for path in paths(split(alike, 0.12, 5)[1])] == ALIKE


PLAIN = ["0016.jpg", "0061.jpg", "0073.jpg", "0075.jpg", "0093.jpg"]
SEVERAL = [15, 31, 48, 54, 56, 88, 92]
ALIKE = [36, 37, 38, 39, 64, 65, 66, 67, 68, 69, 70, 71]


def test_samples() -> None:
    dataset = photos(10)
    assert len(sample(dataset, 4, 0)) == 4
    assert paths(sample(dataset, 4, 0)) == sorted(paths(sample(dataset, 4, 0)))
    assert paths(sample(shuffled(dataset, 3), 99, 0)) == paths(dataset)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_photos_to_split(count: int) -> None:
    with pytest.raises(UsageError, match=f"{count} photo.* too few"):
        split(photos(count), 0.2, 0)


# -- Some from all over -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "most", "chosen"),
    [(0, 9, []), (1, 9, [0]), (9, 9, list(range(9))), (10, 9, [0, 1, 2, 3, 5, 6, 7, 8, 9]),
     (17, 9, [0, 2, 4, 6, 8, 10, 12, 14, 16]), (18, 9, [1, 3, 5, 7, 9, 11, 13, 15, 17]), (9, 5, [0, 2, 4, 6, 8]),
     (39, 1, [19])],
)  # fmt: skip
def test_some_are_spread_over_all(count: int, most: int, chosen: list[int]) -> None:
    """Also where there are less than twice as many."""
    assert spread(range(count), most) == chosen


# -- Of each class its share ------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 12), min_size=2, max_size=300), st.floats(0.05, 0.95), st.integers(0, 9))
def test_with_one_class_a_photo_each_has_its_share_within_one(labels: list[int], share: float, seed: int) -> None:
    """Skewed as they come: classes of one photo, and of many."""
    dataset = photos_of([{label * label // 12} for label in labels])
    rest, apart = split(dataset, share, seed)
    assert furthest(dataset, apart) < 1.01
    assert furthest(dataset, rest) < 1.01


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_both_sides_have_a_box_where_two_photos_have_one(seed: int, share: float) -> None:
    photos = photos_of([set(), set(), set(), {0}, {1}])
    assert [part.box_count > 0 for part in split(photos, share, seed)] == [True, True]


@pytest.mark.parametrize("seed", range(20))
def test_both_sides_have_a_box_that_counts(seed: int) -> None:
    """Crowds are neither trained on nor scored."""
    photos = photos_of([{0}, {0}, {0}, {0}, {1}])
    for photo in photos.photos[:3]:
        photo.ignore = torch.ones(len(photo.boxes), dtype=torch.bool)
    assert [sum(part.class_counts(ignored=False)) > 0 for part in split(photos, 0.2, seed)] == [True, True]


@given(
    st.lists(st.sets(st.integers(0, 9), max_size=4), min_size=2, max_size=200), st.floats(0.05, 0.95),
    st.integers(0, 9),
)  # fmt: skip
def test_with_several_classes_a_photo_too_and_nothing_is_lost(classes: list[set[int]], share: float, seed: int) -> None:
    dataset = photos_of(classes)
    rest, apart = split(dataset, share, seed)
    assert sorted(paths(rest) + paths(apart)) == paths(dataset)
    assert len(apart) == min(max(1, round(share * len(dataset))), len(dataset) - 1)
    assert furthest(dataset, apart) < 3
    assert furthest(dataset, sample(dataset, len(apart), seed)) < 3


@pytest.mark.parametrize("seed", range(5))
def test_many_rare_classes_do_not_take_the_place_of_a_frequent_one(seed: int) -> None:
    """Of 20 classes of 5 photos and one of 100, a tenth is 0.5 each and 10: not 20 times 1 and none."""
    dataset = photos_of([{label} for label in range(20) for _ in range(5)] + [{20}] * 100)
    apart = per_class(split(dataset, 0.1, seed)[1])
    assert apart[20] == 10
    assert sum(apart.values()) == 20
    assert max(apart[label] for label in range(20)) == 1


@pytest.mark.parametrize("seed", range(5))
def test_classes_that_come_together(seed: int) -> None:
    """Thirty classes with the frequencies that words have, up to four a photo: none is off by more than two photos."""
    draw = random.Random(seed)
    weights = [1 / (label + 1) for label in range(30)]
    dataset = photos_of([set(draw.choices(range(30), weights, k=draw.randint(0, 4))) for _ in range(600)])
    for share in (0.1, 0.2, 0.5):
        assert furthest(dataset, split(dataset, share, seed)[1]) <= 2


@pytest.mark.parametrize("seed", range(10))
def test_of_a_class_of_two_photos_one_is_trained_on(seed: int) -> None:
    dataset = photos_of([{0}] * 40 + [{1}] * 2 + [{0, 2}] * 2 + [set()] * 2)
    rest, apart = split(dataset, 0.2, seed)
    assert all(per_class(rest)[kind] >= 1 for kind in (1, 2, -1))
    assert len(apart) == 9


def test_a_class_of_five_has_one_of_a_fifth() -> None:
    dataset = photos_of([{0}] * 50 + [{1}] * 5)
    assert [per_class(split(dataset, 0.2, seed)[1])[1] for seed in range(10)] == [1] * 10


def test_photos_that_show_nothing_are_a_kind_of_their_own() -> None:
    dataset = photos_of([set()] * 10 + [{0}] * 30)
    assert per_class(split(dataset, 0.2, 1)[1]) == {-1: 2, 0: 6}


def test_another_seed_draws_others_of_the_same_shares() -> None:
    dataset = photos_of([{i % 4} for i in range(80)])
    chosen = [split(dataset, 0.25, seed)[1] for seed in range(40)]
    assert [per_class(part) for part in chosen] == [{0: 5, 1: 5, 2: 5, 3: 5}] * 40
    assert len({tuple(paths(part)) for part in chosen}) == 40
    assert {path for part in chosen for path in paths(part)} == set(paths(dataset))  # every photo has its chance


def test_forty_thousand_photos() -> None:
    draw = random.Random(0)
    weights = [1 / (label + 1) for label in range(100)]
    dataset = photos_of([set(draw.choices(range(100), weights, k=draw.randint(1, 4))) for _ in range(40_000)])
    for photo in dataset.photos[::3]:
        photo.hash = draw.getrandbits(63)
    apart = split(dataset, 0.2, 0)[1]
    assert len(apart) == 8000
    assert furthest(dataset, apart) <= 3


# -- Photos that look alike -------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3)), min_size=2, max_size=60), st.floats(0.05, 0.95),
    st.integers(0, 9),
)  # fmt: skip
def test_photos_that_look_alike_stay_on_one_side(shots: list[tuple[int, int]], share: float, seed: int) -> None:
    """Shots of eight scenes, a few bits apart; some photos without a hash. As many as fit into what was asked for."""
    scene = [0x0123456789ABCDEF * (number + 1) * (number + 1) % 2**63 for number in range(8)]
    dataset = photos(len(shots), [scene[number] ^ (bits << 7) for number, bits in shots])
    for photo in dataset.photos[::7]:
        photo.hash = None
    groups = Counter(place[0] for place, photo in zip(shots, dataset, strict=True) if photo.hash is not None)
    alone = sum(photo.hash is None for photo in dataset)
    if len(groups) + alone < 2:
        return
    rest, apart = split(dataset, share, seed)
    assert sorted(paths(rest) + paths(apart)) == paths(dataset)
    assert rest.photos
    assert apart.photos
    side = {photo.path: False for photo in rest} | {photo.path: True for photo in apart}
    for number in groups:
        mine = [p.path for p, shot in zip(dataset, shots, strict=True) if shot[0] == number and p.hash is not None]
        assert len({side[path] for path in mine}) == 1
    wanted = min(max(1, round(share * len(dataset))), len(dataset) - 1)
    smallest = min([*groups.values(), *([1] if alone else [])])
    assert len(apart) <= max(wanted, smallest)


def test_single_photos_fill_up_what_groups_leave_open() -> None:
    """Five shots of one table and 15 other photos: four apart are four single ones."""
    dataset = photos(20, [1, 1, 1, 1, 1, *(0x0123456789ABCDEF * i % 2**63 for i in range(2, 17))])
    apart = split(dataset, 0.2, 0)[1]
    assert len(apart) == 4
    assert not {f"{i:04}.jpg" for i in range(5)} & set(paths(apart))


def test_where_the_smallest_group_is_larger_than_the_share_it_is_set_apart() -> None:
    """Ten shots of one table and twelve of another; a tenth would be two."""
    dataset = photos(22, [0] * 10 + [-1] * 12)
    assert [len(part) for part in split(dataset, 0.1, 0)] == [12, 10]


def test_photos_that_all_look_alike_cannot_be_split() -> None:
    with pytest.raises(UsageError, match=r"^5 photos that all look alike are too few .*add photos, or .*--valid"):
        split(photos(5, [0, 1, 2, 3, 4]), 0.2, 0)


def test_a_sample_may_hold_look_alikes() -> None:
    assert len(sample(photos(6, [0] * 6), 4, 0)) == 4


# -- Classes ----------------------------------------------------------------------------------------------------------


def test_one_class_folds_all(drawn: Dataset) -> None:
    boxes = [photo.boxes for photo in drawn]
    folded = one_class(drawn, "food")
    assert folded.names == ["food"]
    assert all(not photo.labels.any() for photo in folded)
    assert all(torch.equal(photo.boxes, box) for photo, box in zip(folded, boxes, strict=True))


@pytest.mark.parametrize("names", [["cake", "bowl", "apple"], ["tea", "apple", "bowl", "cake"]])
def test_with_names_keeps_each_boxs_name(drawn: Dataset, names: list[str]) -> None:
    before = [[drawn.names[i] for i in photo.labels] for photo in drawn]
    renamed = with_names(drawn, names)
    assert renamed.names == names
    assert [[names[i] for i in photo.labels] for photo in renamed] == before


def test_a_name_without_boxes_may_go_one_with_boxes_may_not(drawn: Dataset) -> None:
    drawn.names.append("unused")
    assert with_names(copy.deepcopy(drawn), ["apple", "bowl", "cake"]).names == ["apple", "bowl", "cake"]
    with pytest.raises(UsageError, match="The classes apple, cake are not among bowl"):
        with_names(drawn, ["bowl"])


def test_outlines_go_with_their_boxes(drawn: Dataset) -> None:
    for photo in drawn:
        photo.masks = [[box.reshape(2, 2)[[0, 0, 1]]] for box in photo.boxes]
    names = [*drawn.names, "tea"][::-1]
    parts = [one_class(drawn, "food"), with_names(drawn, names), *split(drawn, 0.5, 0)]
    for part in parts:
        for photo in part:
            assert photo.masks is not None
            assert [outline[0, :2].tolist() for [outline] in photo.masks] == photo.boxes[:, :2].tolist()


def test_the_dataset_that_was_given_stays_as_it_was(drawn: Dataset) -> None:
    before = [photo.labels.tolist() for photo in drawn]
    with_names(drawn, ["cake", "bowl", "apple"])
    one_class(drawn, "food")
    assert [photo.labels.tolist() for photo in drawn] == before
