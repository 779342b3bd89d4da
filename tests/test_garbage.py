"""Garbage collection rests where it is told to, and only there."""

import gc

import pytest

from foodbox.garbage import without_collecting


def test_collecting_rests_within_the_block_and_goes_on_behind_it() -> None:
    assert gc.isenabled()
    with without_collecting():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), without_collecting():
        raise KeyError
    assert gc.isenabled()


def test_collecting_that_somebody_else_stopped_stays_stopped() -> None:
    gc.disable()
    try:
        with without_collecting():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
