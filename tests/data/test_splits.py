"""Samples, splits and classes: the same for the same seed, and nothing lost."""

from __future__ import annotations

import copy
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foodbox.data.splits import one_class, sample, split, with_names
from foodbox.errors import UsageError
from foodbox.records import Dataset, Photo


def photos(count: int) -> Dataset:
    return Dataset([Photo(Path(f"{i:04}.jpg"), 10, 10) for i in range(count)], ["food"], "voc")


def paths(dataset: Dataset) -> list[str]:
    return [str(photo.path) for photo in dataset]


def shuffled(dataset: Dataset, seed: int) -> Dataset:
    order = list(dataset.photos)
    random.Random(seed).shuffle(order)
    return dataset.with_photos(order)


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
    assert paths(sample(photos(100), 5, 0)) == [f"{i:04}.jpg" for i in sorted(random.Random(0).sample(range(100), 5))]


def test_samples() -> None:
    dataset = photos(10)
    assert len(sample(dataset, 4, 0)) == 4
    assert paths(sample(dataset, 4, 0)) == sorted(paths(sample(dataset, 4, 0)))
    assert paths(sample(shuffled(dataset, 3), 99, 0)) == paths(dataset)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_photos_to_split(count: int) -> None:
    with pytest.raises(UsageError, match=f"{count} photo.* too few"):
        split(photos(count), 0.2, 0)


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


def test_the_dataset_that_was_given_stays_as_it_was(drawn: Dataset) -> None:
    before = [photo.labels.tolist() for photo in drawn]
    with_names(drawn, ["cake", "bowl", "apple"])
    one_class(drawn, "food")
    assert [photo.labels.tolist() for photo in drawn] == before
