"""What reading and checking have to say of photos and labels, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

BROKEN = "broken photo"
"""The kind of a finding on a photo that cannot be opened."""
LEFT_OUT, REMOVED = "the photo is left out", "the box is removed"
"""What mending does that leaves something out; every other `mend` is about what was put right when it was read. A photo
of which not all is known is left out: an object without a box would be taught as none."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where something was read: a file and, where the format has lines, the line counted from 1."""

    path: Path | str
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else str(self.path)


@dataclass(frozen=True)
class Finding:
    """One thing found in the photos or their labels.

    Attributes:
        source: the file, and the line, that it is in.
        what: what was found and what was expected there.
        todo: what the person can do.
        harm: "error": the photo cannot be trained on; "warning": it can, but look; "note": it was put right.
        photo: the photo concerned, or None where none is.
        kind: what findings of this sort are called together, such as "broken photo".
        mend: what `foodbox check --fix` does about it, such as "the box is removed"; empty where it can do nothing.
        box: which of the photo's boxes it is about, where that is one that the photo still has.
    """

    source: Source
    what: str
    todo: str = ""
    harm: Literal["error", "warning", "note"] = "error"
    photo: Path | None = None
    kind: str = "other"
    mend: str = ""
    box: int | None = None

    @property
    def where(self) -> str:
        """Its source, and the photo where that is a .json of many photos, of which no line is known."""
        file = Path(self.source.path)
        of_many = file.suffix.lower() == ".json" and not self.source.line
        if self.photo is None or not of_many or self.photo.stem == file.stem:
            return str(self.source)
        return f"{self.source} ({self.photo.name})"

    def __str__(self) -> str:
        return f"{self.where}: {self.what}." + (f" {self.todo}." if self.todo else "")
