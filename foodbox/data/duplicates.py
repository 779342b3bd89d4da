"""Photos that look alike: the same tray photographed twice must not be learnt from and tested on."""

from __future__ import annotations

from typing import Any

import numpy as np

NEAR = 8
"""Bits of 64 in which the perceptual hashes of two photos of one scene may differ. Of 386 photos of meals, the pairs up
to 8 were shots of one tray seconds apart; of 128 photos of COCO, all different, the nearest pair has 14."""
BANDS, WIDTH = 5, 13
"""A hash is looked up by its five parts of 13 bits (the last has 12): where the whole differs in up to 9 bits, one does
so in at most one."""

Ints = np.ndarray[Any, np.dtype[np.int64]]


def near_duplicates(hashes: Ints, most: int = NEAR) -> Ints:
    """Pairs of photos whose hashes differ in few bits.

    Multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012): comparing all with all would be too slow for 100,000.

    Args:
        hashes: int64 [N], as `Facts.hash`.
        most: the number of bits that may differ.

    Returns:
        int64 [P, 2], each pair's indices, the smaller first. Of photos with the same hash, the first stands for all.
    """
    unique, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    bits = unique.view(np.uint64)
    found = [np.zeros((0, 2), np.int64)]
    changes = np.array([bits for bits in range(1 << WIDTH) if bits.bit_count() <= most // BANDS])
    for band in range(BANDS):
        key = (bits >> np.uint64(band * WIDTH)).astype(np.int64) & ((1 << WIDTH) - 1)
        order = np.argsort(key, kind="stable")
        start = np.searchsorted(key[order], np.arange((1 << WIDTH) + 1))
        for change in changes:
            low, high = start[key ^ change], start[(key ^ change) + 1]  # [N], where like ones stand in `order`
            count = high - low
            one = np.repeat(np.arange(len(bits)), count)
            other = order[np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - low, count)]
            near = (one < other) & (np.bitwise_count(bits[one] ^ bits[other]) <= most)
            found.append(np.stack((first[one[near]], first[other[near]]), 1))
    same = np.stack((first[which], np.arange(len(hashes))), 1)
    pairs = np.concatenate([*found, same[same[:, 0] != same[:, 1]]])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def groups(hashes: Ints) -> Ints:
    """int64 [N]: the number of the group of look-alikes that each photo belongs to, often alone."""
    group = np.arange(len(hashes))
    pairs = near_duplicates(hashes)
    while len(pairs):  # each takes the smallest number among those it is linked with, until nothing changes
        before = group.copy()
        np.minimum.at(group, pairs[:, 0], group[pairs[:, 1]])
        np.minimum.at(group, pairs[:, 1], group[pairs[:, 0]])
        group = group[group]
        if np.array_equal(before, group):
            break
    return group
