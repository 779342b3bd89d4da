"""The data doctor's page, to be looked at before training: findings with their photos, each class's boxes, charts."""

from __future__ import annotations

import dataclasses
import math
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from foodbox.console import progress_bar
from foodbox.data.formats import FORMATS
from foodbox.data.images import PhotoError, open_photo
from foodbox.data.inputs import REACHED
from foodbox.data.processes import cores
from foodbox.data.report import AnchorReach, Report
from foodbox.drawing import html
from foodbox.drawing.boxes import COLOURS, draw_truth, jpeg
from foodbox.drawing.charts import charts
from foodbox.findings import LEFT_OUT, REMOVED, Finding
from foodbox.records import Dataset, Photo, counted

LINES = 20
"""Findings of a kind that are written out."""
CARDS, ALL_CARDS = 6, 60
"""Findings of a kind, and in all, that are shown with their photo."""
CLASSES, SAMPLES, ALL_SAMPLES = 30, 8, 140
"""Classes that are shown, photos of each, and photos in all: with the cards 200, whatever the folder holds."""
BARS = 40
MARK = 5
"""Pixels around a marked box for its frame."""
SIDE = 240
"""Longer side of a picture in pixels: 200 of them have about 4 MB."""

HARMS = {"error": COLOURS[5], "warning": COLOURS[0], "note": COLOURS[1]}
STYLE = """
.photos img { aspect-ratio: 1; background: #f2f2f2; }
.photos p { break-after: avoid; }
.cards figure { display: flex; gap: .7em; }
.cards img { width: 11em; flex: none; }
.harm { background: var(--harm); border-radius: 4px; padding: .05em .5em; white-space: nowrap; font-weight: 600; }
a.harm { display: inline-block; margin: .15em .2em .15em 0; color: inherit; text-decoration: none; font-weight: 400; }
ul { margin: .6em 0; padding-left: 1.2em; }
"""


@dataclass(eq=False)
class _View:
    """A part of a photo with its boxes, some of them marked by a colour; `image` is its HTML once it is drawn.

    Attributes:
        window: x1 y1 x2 y2 in pixels of the photo.
        marked: places in the photo's boxes.
    """

    photo: Photo
    window: tuple[int, int, int, int]
    marked: list[int]
    colour: str
    image: str = ""


def page(report: Report, title: str) -> str:
    """One file of HTML about labelled photos, whose size and making are bounded, however many there are.

    Args:
        title: the folder, as the person named it; paths below it are shown from there on.
    """
    dataset = report.dataset
    kinds = report.kinds()
    cards = _cards(kinds.values(), dataset)
    samples = _samples(dataset)
    views = [*cards.values(), *(view for some in samples.values() for view in some)]
    with progress_bar("drawing photos", len(views)) as bar, ThreadPoolExecutor(cores()) as pool:
        for view, image in zip(views, pool.map(_draw, views), strict=True):
            view.image = image
            bar.advance()
    parts = [_head(report, title), "<h2>What was found</h2>", _advice(report)]
    parts += [_kind(i, found, cards, title) for i, found in enumerate(kinds.values())]
    parts += ["<h2>Classes</h2>", _class_bars(report), _sheet(report, samples)]
    if drawn := charts(dataset):
        figures = [html.figure(html.picture(chart.picture, chart.title), html.text(chart.words)) for chart in drawn]
        parts.append("<h2>Boxes and photos</h2>" + html.tiles(figures, "20em"))
    if report.anchors is not None:
        parts.append("<h2>Anchors</h2>" + _anchors(report.anchors))
    return html.document(f"Photos and labels: {title}", parts, STYLE)


# -- Words ----------------------------------------------------------------------------------------------------------


def _head(report: Report, title: str) -> str:
    dataset = report.dataset
    form = FORMATS[dataset.format].title if dataset.format in FORMATS else dataset.format
    there = {photo.path for photo in dataset}
    broken = len({finding.photo for finding in report.errors if finding.photo} - there)
    lines = [f"<b>{html.text(dataset)}</b>" + (f", {counted(broken, 'photo')} that cannot be opened" if broken else "")]
    if parts := report.parts():
        lines.append("Photos by part: " + ", ".join(f"{html.text(part)} {count:,}" for part, count in parts.items()))
    harms: Counter[str] = Counter(finding.harm for finding in report.findings)
    lines.append(", ".join(_badge(harm, counted(harms[harm], harm)) for harm in HARMS))
    lines = [f"<p>{line}</p>" for line in lines]
    read_as = f"<p class=grey>{html.text(title)}{', read as ' + html.text(form) if form else ''}</p>"
    return f"<h1>{html.text(Path(title).name or title)}: photos and labels</h1>{read_as}{''.join(lines)}"


def _advice(report: Report) -> str:
    if not report.findings:
        return "<p>Nothing that looks wrong.</p>"
    links = "".join(
        f'<a class="harm" style="--harm:{HARMS[harm]}" href="#kind{i}">{html.text(kind)} {len(found):,}</a>'
        for i, ((harm, kind), found) in enumerate(report.kinds().items())
    )
    words = {
        "error": "Training stops at errors: correct them, or let <code>foodbox check PHOTOS --fix MENDED</code> write "
        "a mended copy, or leave their photos out with <code>--skip-bad</code>.",
        "warning": "Warnings: look whether that is meant.",
        "note": "Notes: nothing must be done.",
    }
    said = " ".join(words[harm] for harm in dict.fromkeys(harm for harm, _ in report.kinds()))
    return f"<p>{links}</p><p>{said}</p>"


def _kind(number: int, found: Sequence[Finding], cards: dict[int, _View], folder: str) -> str:
    """The findings of one kind: some with their photo, some as lines, the rest counted."""
    harm, kind = found[0].harm, found[0].kind
    parts = [f'<h3 id="kind{number}">{_badge(harm, harm)} {html.text(kind)}: {len(found):,}</h3>']
    todos = {finding.todo for finding in found}
    one_todo = todos.pop() if len(todos) == 1 else ""
    about = [html.text(one_todo) + "."] if one_todo else []
    if mends := Counter(finding.mend for finding in found if finding.mend):
        done = [f"{html.text(mend, 200)} ({count:,})" for mend, count in mends.most_common(3)]
        about.append(f"<code>--fix</code>: {', '.join(done)}{', …' if len(mends) > 3 else ''}.")
    elif harm != "note":
        about.append("<code>--fix</code> leaves it as it is.")
    parts.append(f"<p>{' '.join(about)}</p>" if about else "")

    def line(finding: Finding) -> str:
        todo = f" {finding.todo}." if finding.todo and not one_todo else ""
        source, what = (_below(folder, str(words)) for words in (finding.where, finding.what))
        stop = "" if what.endswith("?") else "."
        return f"<code>{html.text(source, 300)}</code> {html.text(what, 500)}{stop}{html.text(todo)}"

    shown = [finding for finding in found if (view := cards.get(id(finding))) and view.image]
    listed = [finding for finding in found[: LINES + len(shown)] if not any(finding is other for other in shown)]
    listed = listed[: LINES - len(shown)]
    parts.append(html.tiles([html.figure(cards[id(finding)].image, line(finding)) for finding in shown], "20em"))
    parts.append("<ul>" + "".join(f"<li>{line(finding)}</li>" for finding in listed) + "</ul>" if listed else "")
    if rest := len(found) - len(shown) - len(listed):
        parts.append(f"<p class=grey>… and {rest:,} more.</p>")
    return f'<section class="photos cards">{"".join(parts)}</section>'


def _class_bars(report: Report) -> str:
    classes = sorted(enumerate(report.classes().items()), key=lambda item: -item[1][1][0])
    rows = [
        html.Bar(name, boxes, f"{counted(boxes, 'box', 'boxes')} on {counted(photos, 'photo')}", _colour(label))
        for label, (name, (boxes, photos)) in classes[:BARS]
    ]
    rest = sum(boxes for _, (_, (boxes, _)) in classes[BARS:])
    more = f"<p class=grey>… and {len(classes) - BARS:,} more classes, with {counted(rest, 'box', 'boxes')}.</p>"
    return html.bars(rows) + (more if len(classes) > BARS else "")


def _sheet(report: Report, samples: dict[int, list[_View]]) -> str:
    counts = list(report.classes().values())
    parts = []
    for label, views in samples.items():
        figures = [
            html.figure(v.image, f"<span class=grey>{html.text(v.photo.path.name)}</span>") for v in views if v.image
        ]
        name = html.text(report.dataset.names[label], 80)
        parts.append(f"<h3>{name}: {counted(counts[label][0], 'box', 'boxes')}</h3>" + html.tiles(figures, "7.5em"))
    some = f"The {len(samples)} most frequent classes. " if len(samples) < len(counts) else ""
    words = (
        f"{some}Some boxes of each class in its colour, others white. Have they the right class, do they fit tightly?"
    )
    return f'<section class="photos"><p>{words}</p>{"".join(parts)}</section>' if parts else "<p>There is no box.</p>"


def _anchors(anchors: AnchorReach) -> str:
    parts = [
        f"<p>{html.text(anchors)}.</p>"
        "<p>An anchor is a box that a detector starts from. It reaches those that it overlaps with an IoU of "
        f"{REACHED} or more; a box that none reaches is hard to learn.</p>"
    ]
    if anchors.settings:
        parts.append("<p><code>foodbox train PHOTOS --fit-anchors</code> takes anchors that fit better:</p>")
        parts.append(html.table([(name, str(value)) for name, value in anchors.settings.items()]))
    return "".join(parts)


def _badge(harm: str, words: str) -> str:
    return f'<span class="harm" style="--harm:{HARMS[harm]}">{words}</span>'


def _below(folder: str, words: str) -> str:
    """The words with paths in the folder shown from there on; only where a path begins, not in the midst of one."""
    return re.sub(rf"(?<![^\s'\"(]){re.escape(str(Path(folder)) + os.sep)}", "", words)


def _colour(label: int) -> str:
    return COLOURS[label % 7]  # not the grey one, which is too near to the white of other classes' boxes


# -- Pictures -------------------------------------------------------------------------------------------------------


def _cards(kinds: Iterable[Sequence[Finding]], dataset: Dataset) -> dict[int, _View]:
    """By a finding's id: its photo. Of each kind the first findings, each of another photo that could be opened."""
    photos = {photo.path: photo for photo in dataset}
    kinds = list(kinds)
    each = max(1, min(CARDS, ALL_CARDS // max(1, len(kinds))))
    result: dict[int, _View] = {}
    for found in kinds:
        seen: set[Path] = set()
        for finding in found:
            if len(seen) == each or len(result) == ALL_CARDS:
                break
            if finding.photo in photos and finding.photo not in seen:
                seen.add(finding.photo)
                result[id(finding)] = _card(finding, photos[finding.photo])
    return result


def _card(finding: Finding, photo: Photo) -> _View:
    """The photo with the box that the finding is about; nearer where that is small."""
    marked = [finding.box] if finding.box is not None else []
    if not marked and finding.source.line and finding.mend not in (LEFT_OUT, REMOVED):  # whose boxes are gone
        lines = [i for i, source in enumerate(photo.sources) if source == finding.source]
        marked = lines if len(lines) == 1 else []  # a line may hold all boxes of a photo
    window = (0, 0, photo.width, photo.height)
    if len(marked) == 1:
        window = _around(photo, marked[0], 3, 1 / 4)
    return _View(photo, window, marked, HARMS["error"])


def _samples(dataset: Dataset) -> dict[int, list[_View]]:
    """Photos of the most frequent classes, always the same ones: label → one box of each, and what is around it."""
    counts = Counter(label for photo in dataset for label in photo.labels.tolist())
    photos: dict[int, list[Photo]] = {label: [] for label, _ in counts.most_common(CLASSES)}
    for photo in dataset:
        for label in set(photo.labels.tolist()) & photos.keys():
            photos[label].append(photo)
    each = min(SAMPLES, ALL_SAMPLES // max(1, len(photos)))
    dice = random.Random(0)
    result: dict[int, list[_View]] = {}
    for label, of_class in photos.items():
        result[label] = []
        for photo in dice.sample(of_class, min(each, len(of_class))):
            boxes = torch.nonzero(photo.labels == label).flatten().tolist()
            window = _around(photo, dice.choice(boxes), 2, 1 / 4)
            result[label].append(_View(photo, window, boxes, _colour(label)))
    return result


def _around(photo: Photo, box: int, times: float, least: float) -> tuple[int, int, int, int]:
    """A square around a box, as far as the photo goes: `times` its longer side, and `least` of the photo's."""
    x1, y1, x2, y2 = photo.boxes[box].tolist()
    side = math.ceil(max(times * max(x2 - x1, y2 - y1), least * max(photo.width, photo.height)))
    left = min(max(0, int(x1 + x2 - side) // 2), max(0, photo.width - side))
    top = min(max(0, int(y1 + y2 - side) // 2), max(0, photo.height - side))
    return left, top, min(left + side, photo.width), min(top + side, photo.height)


def _draw(view: _View) -> str:
    """A view as HTML, or nothing where the photo cannot be opened any more."""
    photo, (x1, y1, x2, y2) = view.photo, view.window
    scale = SIDE / max(x2 - x1, y2 - y1)
    try:
        image = open_photo(photo.path, at_least=(math.ceil(scale * max(photo.width, photo.height)), 1))
    except PhotoError:
        return ""
    across, down = image.width / photo.width, image.height / photo.height
    size = max(1, round(scale * (x2 - x1))), max(1, round(scale * (y2 - y1)))
    part = image.resize(size, Image.Resampling.BICUBIC, (x1 * across, y1 * down, x2 * across, y2 * down))
    corner = torch.tensor([x1, y1])
    boxes = photo.boxes - corner.repeat(2)
    masks = photo.masks and [[outline - corner for outline in outlines] for outlines in photo.masks]
    # A marked box is framed from outside: its border can be judged, and a tiny one is seen.
    boxes[view.marked] += torch.tensor([-1, -1, 1, 1]) * MARK / scale
    inside = dataclasses.replace(photo, width=x2 - x1, height=y2 - y1, boxes=boxes, masks=masks)
    return html.picture(jpeg(draw_truth(part, inside, view.marked, view.colour)), photo.path.name)
