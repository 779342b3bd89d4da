"""Scores and pictures of them as parts of a page."""

from __future__ import annotations

from pathlib import Path

from foodbox.drawing import html
from foodbox.evaluation.diagnosis import Diagnosis
from foodbox.evaluation.scores import Scores, class_rows, score_rows
from foodbox.files import make_folder, write_whole
from foodbox.records import counted

PICTURES = {
    "curves.png": "Curves", "samples.jpg": "Samples", "precision_recall.png": "Precision and recall",
    "confusion.png": "Confusion matrix", "worst.jpg": "Photos with the most mistakes",
}  # fmt: skip
"""The files that pages show, where a folder has them, and their headings."""


def write_page(folder: Path, diagnosis: Diagnosis, scores: Scores) -> None:
    """report.html, one page that can be sent as it is, and its pictures.

    Raises:
        FoodboxError: the folder cannot be written to, or a photo cannot be opened.
    """
    write_pictures(make_folder(folder), diagnosis)
    parts = [f"<h1>{html.text(folder.name)}</h1>", *score_parts(scores, "Scores"), *picture_parts(folder)]
    write_whole(folder / "report.html", html.document(folder.name, parts))


def write_pictures(folder: Path, diagnosis: Diagnosis) -> None:
    """The diagnosis's pictures; one that an earlier diagnosis had, and this one has not, is taken away."""
    pictures = diagnosis.pictures()
    for name in PICTURES:
        if name in pictures:
            write_whole(folder / name, pictures[name])
        elif name != "curves.png":
            (folder / name).unlink(missing_ok=True)


def score_parts(scores: Scores, title: str) -> list[str]:
    """The scores under a heading, what pulls them down, and the scores by class."""
    seen = f"{counted(scores.photos, 'photo')}, {counted(scores.boxes, 'box', 'boxes')}"
    head, *rows = class_rows(scores.to_dict())
    return [
        f"<h2>{html.text(title)}</h2><p>{seen}.</p>{html.table(score_rows(scores.to_dict()))}",
        *(f"<p>{html.text(remark)}.</p>" for remark in scores.remarks),
        "<h2>By class</h2>" + html.table(rows, [str(name) for name in head]),
    ]


def picture_parts(folder: Path) -> list[str]:
    """The pictures that a folder has, each under its heading."""
    there = [(folder / name, title) for name, title in PICTURES.items() if (folder / name).exists()]
    return [f"<h2>{title}</h2>" + html.picture(path.read_bytes(), path.name) for path, title in there]
