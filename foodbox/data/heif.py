"""What iPhones write: HEIC photos, which Pillow opens once it was taught to."""

from __future__ import annotations

from pathlib import Path
from typing import IO

EXTRA = 'pip install "foodbox[heif]"'


def is_heif(file: Path | IO[bytes]) -> bool:
    """Whether a file is HEIF, whatever its name says (ISO 23008-12, section 10.2: the brands)."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return is_heif(opened)
    file.seek(0)
    return file.read(12)[4:] in (b"ftypheic", b"ftypheix", b"ftypmif1")


def teach_pillow() -> None:
    """Lets Pillow open them. By pi-heif and not pillow-heif, whose wheels hold the GPL's x265.

    Raises:
        ImportError: it is not installed.
    """
    import pi_heif

    pi_heif.register_heif_opener()
