"""Photos that look alike: the same tray photographed twice must not be learnt from and tested on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

NEAR = 8
"""Bits of 64 in which the perceptual hashes of two photos of one scene may differ. Of 386 photos of meals, the pairs up
to 8 were shots of one tray seconds apart; of 128 photos of COCO, all different, the nearest pair has 14."""
BANDS, WIDTH = 5, 13
"""A hash is looked up by its five parts of 13 bits (the last has 12): where the whole differs in up to 9 bits, one does
so in at most one."""
AT_ONCE = 1 << 18
"""Pairs that are compared at once, about: those of many photos that look alike (frames of a fixed camera) would all
together fill gigabytes."""

Ints = np.ndarray[Any, np.dtype[np.int64]]


def near_duplicates(hashes: Ints, most: int = NEAR) -> Iterator[Ints]:
    """Pairs of photos whose hashes differ in few bits.

    Multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012): comparing all with all would be too slow for 100,000.

    Args:
        hashes: int64 [N], as `Facts.hash`.
        most: the number of bits that may differ.

    Yields:
        int64 [P, 2], some pairs' indices; a pair may come more than once. Of photos with the same hash, the first
        stands for all.
    """
    unique, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    same = np.stack((first[which], np.arange(len(hashes))), 1)
    yield same[same[:, 0] != same[:, 1]]
    bits = unique.view(np.uint64)
    changes = np.array([bits for bits in range(1 << WIDTH) if bits.bit_count() <= most // BANDS])
    for band in range(BANDS):
        key = (bits >> np.uint64(band * WIDTH)).astype(np.int64) & ((1 << WIDTH) - 1)
        order = np.argsort(key, kind="stable")
        start = np.searchsorted(key[order], np.arange((1 << WIDTH) + 1))
        for change in changes:
            low, high = start[key ^ change], start[(key ^ change) + 1]  # [N], where like ones stand in `order`
            block = np.cumsum(high - low) // AT_ONCE
            for some in np.split(np.arange(len(bits)), np.flatnonzero(np.diff(block)) + 1):
                count = high[some] - low[some]
                one = np.repeat(some, count)
                other = order[np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - low[some], count)]
                near = (one < other) & (np.bitwise_count(bits[one] ^ bits[other]) <= most)
                yield np.stack((first[one[near]], first[other[near]]), 1)


def nearest(one: int, others: Ints) -> tuple[int, int]:
    """Of some photos' hashes, at least one, the place of that which differs least from `one`, and in how many bits."""
    bits = np.bitwise_count((others ^ np.int64(one)).view(np.uint64))  # [N]; of int64 it would count |x|
    place = int(bits.argmin())
    return place, int(bits[place])


def groups(hashes: Ints) -> Ints:
    """int64 [N]: the number of the group of look-alikes that each photo belongs to, often alone: its first photo's."""
    group = np.arange(len(hashes))
    for pairs in near_duplicates(hashes):
        while True:  # of two linked groups, the later joins the earlier; one that several would take joins the first
            linked = np.sort(group[pairs], axis=1)
            apart = linked[:, 0] != linked[:, 1]
            if not apart.any():
                break
            pairs, linked = pairs[apart], linked[apart]
            np.minimum.at(group, linked[:, 1], linked[:, 0])
            while not np.array_equal(group, group[group]):
                group = group[group]
    return group
