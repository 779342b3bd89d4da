"""Look-alikes by their hashes: the same pairs as comparing all with all, and the groups that these make."""

from __future__ import annotations

import random
import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foodbox.data import duplicates
from foodbox.data.duplicates import NEAR, groups, near_duplicates, nearest

BITS = (1 << 64) - 1
HASHES = st.integers(-(2**63), 2**63 - 1)


@st.composite
def families(draw: st.DrawFn) -> list[int]:
    """Hashes of which many are a few bits from another."""
    found = [draw(HASHES)]
    for _ in range(draw(st.integers(0, 30))):
        near = draw(st.sampled_from(found))
        for bit in draw(st.lists(st.integers(0, 63), max_size=12)):
            near = signed((near & BITS) ^ (1 << bit))
        found.append(draw(st.sampled_from([near, draw(HASHES)])))
    return found


def signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits


def as_array(hashes: list[int]) -> np.ndarray:
    return np.array(hashes, np.int64)


def near(hashes: list[int], most: int = NEAR) -> list[tuple[int, int]]:
    """The pairs of all blocks, each once, in order."""
    pairs = np.concatenate(list(near_duplicates(as_array(hashes), most)))
    assert pairs.dtype == np.int64
    return sorted({(min(pair), max(pair)) for pair in pairs.tolist()})


def distance(one: int, other: int) -> int:
    return ((one ^ other) & BITS).bit_count()


def all_pairs(hashes: list[int], most: int) -> set[tuple[int, int]]:
    """Every two photos whose hashes differ in few bits, by comparing all with all."""
    places = combinations(range(len(hashes)), 2)
    return {(i, j) for i, j in places if distance(hashes[i], hashes[j]) <= most}


def union_find(count: int, pairs: set[tuple[int, int]]) -> list[set[int]]:
    """The groups that pairs make, in the order of their first members."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for i, j in pairs:
        parent[root(i)] = root(j)
    members: dict[int, set[int]] = {}
    for i in range(count):
        members.setdefault(root(i), set()).add(i)
    return sorted(members.values(), key=min)


def as_groups(numbers: np.ndarray) -> list[set[int]]:
    members: dict[int, set[int]] = {}
    for i, number in enumerate(numbers.tolist()):
        members.setdefault(number, set()).add(i)
    return sorted(members.values(), key=min)


def planted(count: int, seed: int) -> list[int]:
    """Hashes drawn at random; every fifth is another one with 0 to 12 bits changed. No two are the same."""
    draw = random.Random(seed)
    found = [draw.getrandbits(64) for _ in range(count)]
    for i in range(0, count, 5):
        for bit in draw.sample(range(64), i // 5 % 13):
            found[i] ^= 1 << bit
        found[i + 1] = found[i]
        for bit in draw.sample(range(64), 1 + i // 5 % 12):
            found[i + 1] ^= 1 << bit
    return [signed(bits) for bits in dict.fromkeys(found)]


@given(families())
def test_pairs_and_groups_are_those_of_comparing_all_with_all(hashes: list[int]) -> None:
    expected = all_pairs(hashes, NEAR)
    assert as_groups(groups(as_array(hashes))) == union_find(len(hashes), expected)
    # Of those with the same hash, the first stands for all.
    first = {number: hashes.index(number) for number in hashes}
    pairs = {(i, j) for i, j in expected if i in first.values() and j in first.values()}
    pairs |= {(first[number], i) for i, number in enumerate(hashes) if first[number] != i}
    assert near(hashes) == sorted(pairs)


def test_three_thousand_hashes_with_pairs_at_every_distance() -> None:
    hashes = planted(3000, seed=1)
    bits = np.array(hashes, np.int64).view(np.uint64)
    apart = np.bitwise_count(bits[:, None] ^ bits[None])
    one, other = np.nonzero(np.triu(apart <= NEAR, k=1))
    assert {apart[i, j] for i, j in zip(one, other, strict=True)} == set(range(1, 9))  # each distance is there
    assert ((apart > NEAR) & (apart <= 12)).any()
    assert near(hashes) == list(zip(one.tolist(), other.tolist(), strict=True))


@pytest.mark.parametrize("bit", [0, 15, 16, 47, 48, 62, 63])
def test_every_bit_counts_the_highest_too(bit: int) -> None:
    changed = signed(1 << bit)
    assert near([0, changed], most=1) == [(0, 1)]
    assert near([0, changed], most=0) == []


@pytest.mark.parametrize(("apart", "alike"), [(8, True), (9, False)])
def test_bits_spread_evenly_over_the_parts_are_found(apart: int, alike: bool) -> None:
    """Two in each of the four parts is the least that the best part can have."""
    spread = sum(1 << (16 * (i % 4) + i) for i in range(apart))
    assert spread.bit_count() == apart
    assert near([5, signed(5 ^ spread)]) == [(0, 1)] * alike


def test_none_one_and_two() -> None:
    for few in ([], [7]):
        assert near(few) == []
        assert groups(as_array(few)).tolist() == list(range(len(few)))
    assert near([7, 7]) == [(0, 1)]
    assert len(set(groups(as_array([7, 7])).tolist())) == 1


def test_a_hundred_thousand_equal_hashes_are_one_group() -> None:
    """Pairs by the first one only: all with all would be five thousand million."""
    zeros = np.zeros(100_000, np.int64)
    assert sum(map(len, near_duplicates(zeros))) == 99_999
    assert not groups(zeros).any()


def test_groups_hold_chains_together() -> None:
    """0, 255 and 65535: each eight bits from the next, sixteen from end to end."""
    numbers = groups(as_array([65535, -1, 0, 255])).tolist()
    assert numbers[0] == numbers[2] == numbers[3] != numbers[1]


@pytest.mark.parametrize("at_once", [1, 100, 10_000])
def test_pairs_in_blocks_are_the_same(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 200 hashes in four families, each within a few bits."""
    draw = random.Random(0)
    hashes = [signed(draw.getrandbits(64)) for _ in range(4)]
    hashes += [signed((draw.choice(hashes) & BITS) ^ (1 << draw.randrange(64))) for _ in range(196)]
    pairs, numbers = near(hashes), groups(as_array(hashes)).tolist()
    monkeypatch.setattr(duplicates, "AT_ONCE", at_once)
    blocks = list(near_duplicates(as_array(hashes)))
    assert max(map(len, blocks)) < at_once + len(hashes)
    assert near(hashes) == pairs
    assert groups(as_array(hashes)).tolist() == numbers


def test_many_photos_of_one_scene_are_not_paired_all_at_once() -> None:
    """2,000 frames of a fixed camera make two million pairs, each found in several parts: 380 MB where all are kept."""
    draw = random.Random(0)
    frames = as_array([sum(1 << bit for bit in draw.sample(range(63), 4)) for _ in range(2000)])
    tracemalloc.start()
    assert not groups(frames).any()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6


@given(HASHES, st.lists(HASHES, min_size=1, max_size=9))
def test_the_nearest_is_the_first_of_those_that_differ_least(one: int, others: list[int]) -> None:
    bits = [((one ^ other) & BITS).bit_count() for other in others]
    assert nearest(one, as_array(others)) == (bits.index(min(bits)), min(bits))
