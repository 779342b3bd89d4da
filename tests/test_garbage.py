"""Garbage collection rests where it is told to, and only there."""

import gc
import subprocess
import sys

import pytest

from foodbox.garbage import without_collecting
from tests.test_cli import HELP


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


RING = "class Ring:\n def __del__(self): print('found')\nring = Ring()\nring.itself = ring\n"
"""An object that holds itself: garbage that only a collection finds."""


def test_a_program_looks_seldom_and_only_among_what_is_new() -> None:
    """What was there before is not found again; what came later is, but not for the sake of some thousand objects."""
    words = f"""
import gc
from foodbox.garbage import collect_seldom
{RING}
collect_seldom()
del ring
{RING}
del ring
many = [[i] for i in range(40_000)]
print('seldom')
many += [[i] for i in range(20_000)]
print('at last')
gc.collect()
"""
    assert run(words) == "seldom\nfound\nat last\n"


@pytest.mark.parametrize(("call", "looked"), [("end_without_collecting()", False), (HELP, False), ("", True)])
def test_at_the_end_nothing_is_looked_for(call: str, looked: bool) -> None:
    """Python's last collections are in its end."""
    said = run(f"from foodbox.garbage import end_without_collecting\n{RING}{call}\ndel ring")
    assert said.endswith("found\n") is looked


def run(words: str) -> str:
    """What a program says."""
    return subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout
