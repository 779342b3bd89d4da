"""Pages that are one file, and that show what a person wrote as it is."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from foodbox.drawing import html

EMPTY = {"meta", "img", "br"}


class Balanced(HTMLParser):
    """Fails where tags are not closed in order; keeps the tags and the words that a person sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(buffer, "PNG")
    return buffer.getvalue()


NASTY = "<script>\"떡볶이\" & 'co'"


def test_what_a_person_wrote_is_shown_as_it_is() -> None:
    parts = [
        f"<p>{html.text(NASTY)}</p>",
        html.table([(NASTY, 1)], (NASTY, "n")),
        html.bars([html.Bar(NASTY, 1, NASTY, "#123456")]),
        html.figure(html.picture(png(), NASTY), html.text(NASTY)),
    ]
    page = Balanced(html.document(NASTY, parts))
    assert page.words.count(NASTY) == 7
    assert "script" not in page.tags
    assert page.tags.count("img") == 1


def test_a_name_that_is_no_text_can_be_written() -> None:
    assert html.text("bad\udcff.jpg").encode() == b"bad?.jpg"


@pytest.mark.parametrize(
    ("words", "shown"), [("abcdef", "abcdef"), ("abcdefg", "abcde…"), ("&" * 9, "&amp;" * 5 + "…")]
)
def test_long_words_are_cut(words: str, shown: str) -> None:
    assert html.text(words, 6) == shown


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_lies_in_the_page(kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(buffer, kind)
    found = re.fullmatch(
        r'<img src="data:image/(\w+);base64,([^"]+)" alt="a &lt;b&gt;">', html.picture(buffer.getvalue(), "a <b>")
    )
    assert found is not None
    assert found[1] == kind.lower()
    assert base64.b64decode(found[2]) == buffer.getvalue()


def test_a_page_fetches_nothing_and_fits_a_phone() -> None:
    page = html.document("A title", ["<p>words</p>"], ".own { color: red; }")
    assert page.startswith("<!doctype html>")
    assert "<title>A title</title>" in page
    assert 'name="viewport"' in page
    assert ".own { color: red; }" in page
    assert not re.search(r"https?:|url\(|<link|<script", page)


def test_a_tables_numbers_are_short_and_nothing_is_nothing() -> None:
    table = html.table([("rice", 0.123456, 3), ("soup", None, 0)], ("class", "AP", "boxes"))
    assert "<td class=number>0.123</td><td class=number>3</td>" in table
    assert "<td>soup</td><td></td>" in table
    assert "<th>class</th><th class=number>AP</th>" in table


def test_numbers_in_words_of_their_own_stand_on_the_right() -> None:
    table = html.table([("a", html.Number("1.2 MB", best=True)), ("b", html.Number("3 MB"))], ("name", "size"))
    assert "<th class=number>size</th>" in table
    assert '<td class="number best">1.2 MB</td>' in table
    assert "<td class=number>3 MB</td>" in table


def test_bars_are_as_long_as_their_values() -> None:
    drawn = html.bars([html.Bar("a", 8, "8", "red"), html.Bar("b", 2, "2", "red"), html.Bar("c", 0, "0", "red")])
    assert re.findall(r"width:([\d.]+)%", drawn) == ["100.0", "25.0", "0.0"]


def test_bars_of_nothing() -> None:
    assert html.bars([]) == html.tiles([], "8em") == ""
    assert "width:0.0%" in html.bars([html.Bar("a", 0, "0", "red")])
