"""The data doctor: what is wrong with the photos, found before training starts and all at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from foodbox.data.images import PhotoError, open_photo
from foodbox.errors import FoodboxError
from foodbox.records import Dataset, Finding, Source

SHOWN = 20
"""How many findings an error message lists; the rest is counted."""


def broken_photos(paths: Sequence[Path], progress: Callable[[int], None] = lambda count: None) -> list[Finding]:
    """Opens every photo to its end and returns the broken ones.

    Args:
        progress: called after each photo with the number of photos done.
    """

    def look(path: Path) -> Finding | None:
        try:
            open_photo(path, at_least=32)  # a JPEG is read whole, but decoded at an eighth of its size
        except PhotoError as fault:
            return Finding(Source(path), str(fault).rstrip("."), photo=path)
        return None

    found = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding runs outside Python's lock
        for count, finding in enumerate(pool.map(look, paths), start=1):
            progress(count)
            if finding is not None:
                found.append(finding)
    return found


def healthy(dataset: Dataset, findings: Sequence[Finding], skip_bad: bool) -> tuple[Dataset, list[str]]:
    """The photos that can be trained on, and what should be said about the rest.

    Raises:
        FoodboxError: there are errors and `skip_bad` is not set, or no photo is left.
    """
    errors = [f for f in findings if f.harm == "error"]
    if errors and not skip_bad:
        raise FoodboxError(
            f"{_faults(errors)} in the photos or their labels:\n{_listed(errors)}\n"
            "Mend them, or add --skip-bad to leave these photos out."
        )
    bad = {f.photo for f in errors if f.photo}
    left = [photo for photo in dataset if photo.path not in bad and photo.labelled]
    unlabelled = sum(not photo.labelled for photo in dataset)
    words = [str(f) for f in findings if f.harm == "note"][:SHOWN]
    if errors:
        words.append(f"Left out because of {_faults(errors)}:\n{_listed(errors)}")
    if unlabelled:
        words.append(
            f"{unlabelled} photos have no label file and are left out; an empty one says that they show nothing."
        )
    if not any(len(photo.boxes) for photo in left):
        raise FoodboxError(
            f"No photo with a box is left of {len({photo.path for photo in dataset} | bad)}"
            + (f": {_faults(errors)}:\n{_listed(errors)}" if errors else "; label some photos first.")
        )
    return dataset.with_photos(left), words


def _faults(errors: Sequence[Finding]) -> str:
    return f"{len(errors)} {'fault' if len(errors) == 1 else 'faults'}"


def _listed(findings: Sequence[Finding]) -> str:
    lines = [f"  {finding}" for finding in findings[:SHOWN]]
    if len(findings) > SHOWN:
        lines.append(f"  ... and {len(findings) - SHOWN} more")
    return "\n".join(lines)
