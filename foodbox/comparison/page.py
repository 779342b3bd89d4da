"""The pictures of a comparison, and its page: one file that a person can read and send."""

from __future__ import annotations

import io
import math
import platform
import time
from pathlib import Path

from PIL import Image

from foodbox.comparison.results import Comparison, Trial, cells, milliseconds
from foodbox.comparison.trial import SIDE, shown_name
from foodbox.data.processes import cores
from foodbox.drawing import html
from foodbox.drawing.boxes import captioned, jpeg, sheet
from foodbox.drawing.tradeoffs import Line, colour_of, tradeoffs
from foodbox.files import write_whole

STYLE = """
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(13em, 1fr)); gap: .8em; margin: 1.2em 0; }
.card { background: #f6f6f6; border-left: .5em solid var(--colour); border-radius: 6px; padding: .6em 1em; }
.card b { display: block; font-size: 1.5em; line-height: 1.3; }
.shown img { aspect-ratio: 4 / 3; background: #202020; }
.shown figcaption b { border-left: .6em solid var(--colour); padding-left: .4em; }
dt { font-weight: 600; float: left; clear: left; width: 8em; }
dd { margin: 0 0 .2em 8.5em; }
"""


def write(result: Comparison, names: list[str], truth: list[bytes]) -> None:
    """compare.png, sheet.jpg and report.html.

    Args:
        names: of the photos that are shown.
        truth: JPEGs of them with the true boxes.
    """
    chart = tradeoffs(_lines(result)) if result.scored else b""
    if chart:
        write_whole(result.folder / "compare.png", chart)
    found = {trial.detector: _pictures(result.folder / trial.detector, len(names)) for trial in result.scored}
    if found:
        write_whole(result.folder / "sheet.jpg", _sheet(truth, found))
    write_whole(result.folder / "report.html", _page(result, chart, names, truth, found))


def _page(result: Comparison, chart: bytes, names: list[str], truth: list[bytes], found: dict[str, list[bytes]]) -> str:
    about = f"{result.photos}: {', '.join(result.names)}. {time.strftime('%Y-%m-%d')}."
    parts = ["<h1>Which detector for these photos?</h1>", f"<p class=grey>{html.text(about, 400)}</p>", _cards(result)]
    parts += [f"<p>{html.text(line)}</p>" for line in result.verdict()]
    if result.waiting:
        parts.append(f"<p>Not done yet: {html.text(', '.join(result.waiting))}.</p>")
    if result.refused:
        rows = "".join(f"<li><b>{html.text(t.detector)}</b>: {html.text(t.refused)}</li>" for t in result.refused)
        parts.append(f"<h2>Without a score</h2><ul>{rows}</ul>")
    if result.scored:
        parts += ["<h2>How well each finds</h2>", html.bars(_bars(result)), "<h2>All figures</h2>", _table(result)]
        parts.append("<h2>How good, how soon, how fast</h2>" + html.picture(chart, "AP against time"))
        words = (
            "Left: AP after each epoch; the large mark is the model that is kept. Right: those above find more, those "
            "on the left are faster; whoever has another one above and to the left of it is beaten in both."
        )
        parts.append(f"<p class=grey>{words}</p>")
        parts += ["<h2>The same photos, seen by each</h2>", _photos(result, names, truth, found)]
        parts += ["<h2>How to read the figures</h2>", _words(result)]
    return html.document(f"Comparison of detectors: {result.folder.name}", parts, STYLE)


def _cards(result: Comparison) -> str:
    best, fastest = result.best, result.fastest
    if best is None:
        return ""
    cards = [("Finds best", best, f"AP {best.ap or 0:.3f}")]
    if fastest is not None:
        cards.append(("Fastest", fastest, f"{milliseconds(fastest.milliseconds or 0.0)} ms a photo"))
    light = min((t for t in result.scored if t.parameters), key=lambda t: t.parameters or 0, default=None)
    if light is not None:
        cards.append(("Smallest", light, f"{(light.parameters or 0) / 1e6:.2f} million parameters"))
    shown = "".join(
        f'<div class="card" style="--colour:{_colour(result, trial)}">{title}<b>{html.text(trial.detector)}</b>'
        f"{html.text(words)}</div>"
        for title, trial, words in cards
    )
    return f'<div class="cards">{shown}</div>'


def _bars(result: Comparison) -> list[html.Bar]:
    return [html.Bar(t.detector, t.ap or 0.0, f"AP {t.ap or 0:.3f}", _colour(result, t)) for t in result.scored]


def _table(result: Comparison) -> str:
    columns = result.columns
    best = [result.best_of(column) for column in columns]
    rows: list[list[object]] = []
    for trial in result.scored:
        marked = [value is not None and getattr(trial, c.key) == value for c, value in zip(columns, best, strict=True)]
        figures = map(html.Number, cells(trial, columns), marked)
        rows.append([trial.detector, *figures])
    return html.table(rows, ["detector", *(column.head for column in columns)]) + "<p class=grey>Bold: the best.</p>"


def _photos(result: Comparison, names: list[str], truth: list[bytes], found: dict[str, list[bytes]]) -> str:
    parts = ["<p>The true boxes, and what each detector found over the score at which its F1 is best.</p>"]
    pictures = 1 + len(result.scored)
    columns = max(3, math.ceil(pictures / math.ceil(pictures / 4)))  # at most four, the last row as full as can be
    for i, name in enumerate(names):
        figures = [html.figure(html.picture(truth[i], f"{name}: truth"), '<b style="--colour:#ccc">truth</b>')]
        for trial in result.scored:
            caption = f'<b style="--colour:{_colour(result, trial)}">{html.text(trial.detector)}</b>'
            if picture := found[trial.detector][i]:
                figures.append(html.figure(html.picture(picture, f"{name}: {trial.detector}"), caption))
        parts.append(f"<h3>{html.text(name)}</h3>" + html.tiles(figures, f"max(9em, {100 / columns - 2:.1f}%)"))
    return f'<section class="shown">{"".join(parts)}</section>'


def _words(result: Comparison) -> str:
    columns = "".join(f"<dt>{html.text(c.head)}</dt><dd>{html.text(c.words)}</dd>" for c in result.columns)
    sizes = ", ".join(f"{t.detector} {t.size}" for t in result.scored)
    devices = ", ".join(sorted({t.device for t in result.scored}))
    machine = f"{platform.system()} {platform.machine()}, {cores()} cores, device {devices}"
    notes = (
        f"Scores are of {result.valid:,} photos: with another split, detectors whose AP is a few hundredths apart may "
        "change places. A longer budget favours the larger ones.",
        f"Side of the input in pixels: {sizes}.",
        f"Times are of this machine ({machine}), and of what else it had to do.",
    )
    return f"<dl>{columns}</dl>" + "".join(f"<p>{html.text(note)}</p>" for note in notes)


def _sheet(truth: list[bytes], found: dict[str, list[bytes]]) -> bytes:
    """A row a photo; the truth in the first column, then a detector a column."""
    tiles = [
        captioned(Image.open(io.BytesIO(row[i])) if row[i] else Image.new("RGB", (SIDE, SIDE)), words)
        for i in range(len(truth))
        for words, row in {"truth": truth, **found}.items()
    ]
    width = max((tile.width for tile in tiles), default=SIDE)
    height = max((tile.height for tile in tiles), default=SIDE)
    return jpeg(sheet(tiles, 1 + len(found), (width + 6, height + 6), "found over the score at which F1 is best"))


def _lines(result: Comparison) -> list[Line]:
    lines = []
    for trial in result.scored:
        course = [(float(seconds), float(ap)) for seconds, ap in trial.course]
        best = max(course, key=lambda point: point[1], default=(trial.seconds or 0.0, trial.ap or 0.0))
        lines.append(Line(trial.detector, course, best, trial.milliseconds, _place(result, trial)))
    return lines


def _place(result: Comparison, trial: Trial) -> int:
    return result.detectors.index(trial.detector)


def _colour(result: Comparison, trial: Trial) -> str:
    return colour_of(_place(result, trial))


def _pictures(folder: Path, count: int) -> list[bytes]:
    """What a trial drew; nothing for a picture that is gone."""
    files = [folder / shown_name(i) for i in range(count)]
    return [file.read_bytes() if file.exists() else b"" for file in files]
