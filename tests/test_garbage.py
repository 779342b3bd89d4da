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


@pytest.mark.parametrize(("call", "looked"), [("end_without_collecting()", False), (HELP, False), ("", True)])
def test_at_the_end_nothing_is_looked_for(call: str, looked: bool) -> None:
    """An object that holds itself is garbage that only a collection finds; Python's last ones are in its end."""
    ring = "class Ring:\n def __del__(self): print('found')\nring = Ring()\nring.itself = ring\n"
    words = f"from foodbox.garbage import end_without_collecting\n{ring}{call}\ndel ring"
    said = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout
    assert said.endswith("found\n") is looked
