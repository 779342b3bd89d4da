"""Pages of HTML that are one file: their pictures lie in them. They can be read on a phone, and printed."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1100px; margin: 1.5em auto;
  padding: 0 1em; overflow-wrap: anywhere; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
h1 { font-size: 1.6em; line-height: 1.2; margin: 0 0 .4em; }
h2 { font-size: 1.3em; border-bottom: 2px solid #ddd; margin: 2em 0 .7em; }
h3 { font-size: 1.05em; margin: 1.6em 0 .3em; }
p { margin: .3em 0; }
img { max-width: 100%; vertical-align: top; }
p code { white-space: nowrap; }
code, pre { font: .88em ui-monospace, monospace; }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .8em 1em; border-radius: 6px; }
.table { overflow-x: auto; overflow-wrap: normal; }
table { border-collapse: collapse; }
td, th { padding: .15em 1.2em .15em 0; text-align: left; border-bottom: 1px solid #eee; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.best { font-weight: 700; }
.grey { color: #666; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(var(--tile, 9em), 1fr)); gap: .7em; }
figure { margin: 0; font-size: .85em; line-height: 1.35; break-inside: avoid; }
figure img { width: 100%; object-fit: contain; border-radius: 4px; }
.bars { display: grid; grid-template-columns: fit-content(30%) 1fr max-content; gap: .15em .8em; align-items: center; }
.bars i { display: block; height: .8em; min-width: 2px; border-radius: 2px; }
h2, h3 { break-after: avoid; }
@media (max-width: 40em) {
  .bars { grid-template-columns: 1fr max-content; grid-auto-flow: dense; }
  .bars i { grid-column: 1 / -1; margin-bottom: .4em; }
}
"""


class Bar(NamedTuple):
    """One row of a bar chart: its name, its length, the words behind it and its colour."""

    name: str
    value: float
    words: str
    colour: str


class Number(NamedTuple):
    """A number of a table in words of its own, such as "1.2 MB"; the best of its column stands out."""

    words: str
    best: bool = False

    def __str__(self) -> str:
        return self.words


def document(title: str, parts: Iterable[str], style: str = "") -> str:
    """A whole page of parts that are HTML already; `style` is CSS besides `STYLE`."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}{style}</style>"
    )
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def text(value: object, longest: int | None = None) -> str:
    """A value as HTML that shows it as it is; of more than `longest` letters, the first and an ellipsis."""
    words = str(value)
    if longest is not None and len(words) > longest:
        words = words[: longest - 1] + "…"
    # A file name may hold bytes that are no letters; UTF-8 cannot write what Python keeps them as.
    return html.escape(words.encode("utf-8", "replace").decode())


def picture(data: bytes, words: str) -> str:
    """A JPEG or PNG file's bytes as a picture within the page; the words are for those who cannot see it."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f'<img src="data:image/{kind};base64,{base64.b64encode(data).decode()}" alt="{text(words)}">'


def figure(image: str, caption: str = "") -> str:
    """A picture and the HTML below it."""
    return f"<figure>{image}" + (f"<figcaption>{caption}</figcaption>" if caption else "") + "</figure>"


def tiles(figures: Sequence[str], width: str) -> str:
    """Figures side by side, as many as the screen has room for, each at least as wide as CSS's `width`."""
    return f'<div class="tiles" style="--tile:{width}">{"".join(figures)}</div>' if figures else ""


def table(rows: Sequence[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Values in rows: numbers to three places and on the right, nothing for None."""
    parts = (
        [f"<tr>{''.join(_cell('th', name, numeric) for name, numeric in _columns(head, rows))}</tr>"] if head else []
    )
    for row in rows:
        parts.append(f"<tr>{''.join(_cell('td', value, _is_number(value)) for value in row)}</tr>")
    return f'<div class="table"><table>{"".join(parts)}</table></div>'


def bars(rows: Sequence[Bar]) -> str:
    """A bar chart, whose names may be in any letters that the reader's computer has."""
    most = max((row.value for row in rows), default=0) or 1
    cells = (
        f'<span>{text(row.name, 80)}</span><i style="background:{row.colour};width:{100 * row.value / most:.1f}%"></i>'
        f'<span class="number">{text(row.words)}</span>'
        for row in rows
    )
    return f'<div class="bars">{"".join(cells)}</div>' if rows else ""


def _columns(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterable[tuple[str, bool]]:
    """Each column's name, and whether a number stands below it."""
    return ((name, any(_is_number(row[i]) for row in rows)) for i, name in enumerate(head))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Number)


def _cell(tag: str, value: object, numeric: bool) -> str:
    shown = f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)
    kind = ' class="number best"' if isinstance(value, Number) and value.best else " class=number" if numeric else ""
    return f"<{tag}{kind}>{text(shown)}</{tag}>"
