"""Fonts that have the letters of the classes' names, for pictures and for charts."""

from __future__ import annotations

import functools
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import ImageFont

from foodbox.console import say

WIDE_FONTS = {
    "Noto Sans CJK KR": "NotoSansCJK-Regular.ttc", "Noto Sans CJK JP": "NotoSansCJK-Regular.ttc",
    "NanumGothic": "NanumGothic.ttf", "UnDotum": "UnDotum.ttf", "WenQuanYi Zen Hei": "wqy-zenhei.ttc",
    "Malgun Gothic": "malgun.ttf", "Apple SD Gothic Neo": "AppleSDGothicNeo.ttc",
}  # fmt: skip
"""Fonts with Korean and Chinese letters, of Linux, Windows and macOS: matplotlib's names of them, and their files."""


def families(words: str) -> list[str]:
    """Fonts by matplotlib's names for a text: its own, and those of this machine for letters that it lacks."""
    if words.isascii():
        return ["DejaVu Sans"]
    from matplotlib.font_manager import get_font_names  # pictures of boxes do without matplotlib

    known = set(get_font_names())
    return ["DejaVu Sans", *(name for name in WIDE_FONTS if name in known)]


def font(words: str, size: int) -> Any:
    """A font that has the words' letters, if this machine has one; else one that has most of them."""
    return _font("".join(sorted({letter for letter in words if not letter.isascii()})), size)


@functools.lru_cache(maxsize=256)
def _font(letters: str, size: int) -> Any:
    fonts = [ImageFont.load_default(size)]
    for name in dict.fromkeys((_matplotlibs(), *WIDE_FONTS.values())) if letters else ():
        with suppress(OSError):
            fonts.append(ImageFont.truetype(name, size))
    chosen = min(fonts, key=lambda one: _missing(letters, one))
    if _missing(letters, chosen):
        _say_that_letters_are_missing()
    return chosen


@functools.cache
def _say_that_letters_are_missing() -> None:
    """Once for all pictures."""
    say(
        "No font of this machine has all letters of your classes, and pictures show squares for some. Install one "
        "that has them: fonts-noto-cjk or fonts-nanum on Debian and Ubuntu."
    )


def _matplotlibs() -> str:
    """DejaVu Sans, which comes with matplotlib: Latin, Greek and Cyrillic letters with all their accents."""
    import matplotlib  # which takes a moment, and most names are ASCII

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


def _missing(letters: str, font: Any) -> int:
    """How many letters a font draws as it draws what is no letter at all."""
    unknown = bytes(font.getmask("\uffff"))
    return sum(bytes(font.getmask(letter)) == unknown for letter in letters)
