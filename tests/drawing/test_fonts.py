"""Fonts for letters of any script, where the machine has one."""

import pytest

from foodbox.drawing import fonts
from foodbox.drawing.fonts import families, font


@pytest.mark.parametrize("words", ["rice 0.91", "떡볶이 0.91", "饭 0.91"])
def test_any_letters_have_a_font(words: str) -> None:
    assert font(words, 12).getbbox(words)[2] > 10


def test_letters_that_no_font_has_are_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    fonts._say_that_letters_are_missing.cache_clear()
    for size in (31, 32):
        font("\U00012000 sumerian", size)  # cuneiform
    assert capfd.readouterr().err.count("No font of this machine") == 1
    font("rice crème", 31)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("words", ["crème brûlée", "jalapeño", "Käsespätzle", "борщ", "σουβλάκι"])
def test_letters_with_accents_and_of_other_alphabets_are_drawn(words: str) -> None:
    chosen = font(words, 14)
    unknown = bytes(chosen.getmask("\uffff"))
    assert all(bytes(chosen.getmask(letter)) != unknown for letter in words if letter != " ")


def test_charts_get_their_own_font_first() -> None:
    assert families("rice") == ["DejaVu Sans"]
    assert families("떡볶이")[0] == "DejaVu Sans"
