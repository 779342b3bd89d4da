"""When Python looks for garbage."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

SELDOM = 50_000
"""New objects that can hold others, before a program looks for garbage among them; Python's own is 700 to 2,000."""


@contextmanager
def without_collecting() -> Iterator[None]:
    """No garbage collection while a million objects are made that all stay: looking through them takes a third more."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def collect_seldom() -> None:
    """For a program, not a library: garbage collection leaves what there is now alone, and comes seldom.

    With torch a million objects are there that all stay, and to look through them takes a third of a second. That was
    done every few epochs, because of the thousands of small objects that scores are counted from.
    """
    gc.freeze()
    gc.set_threshold(SELDOM, *gc.get_threshold()[1:])


def end_without_collecting() -> None:
    """No garbage collection while this process ends.

    Python would look through all that was ever imported, several times, and with torch that takes as long as a third of
    the imports did; the system takes the memory back anyway.
    """
    atexit.register(gc.freeze)
