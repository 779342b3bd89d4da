"""Faults that a person can mend. Their words are shown as they stand, without a traceback."""


class FoodboxError(Exception):
    """Something in the person's data, files or machine is not as it should be.

    The message says what was found, where, what was expected and what to do next, in one or two sentences.
    """

    exit_code = 1


def first_line(fault: BaseException) -> str:
    """What a library's fault says, in one line; its kind where it says nothing."""
    return next(iter(str(fault).splitlines()), type(fault).__name__)


class UsageError(FoodboxError):
    """The call itself is wrong: a folder that is not there, a setting out of its range, an unknown name."""

    exit_code = 2
