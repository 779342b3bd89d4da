"""When Python looks for garbage."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


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


def end_without_collecting() -> None:
    """No garbage collection while this process ends.

    Python would look through all that was ever imported, several times, and with torch that takes as long as a third of
    the imports did; the system takes the memory back anyway.
    """
    atexit.register(gc.freeze)
