"""Scores and pictures of them as parts of a page."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from foodbox.drawing import html
from foodbox.errors import UsageError
from foodbox.evaluation.diagnosis import Diagnosis
from foodbox.evaluation.scores import Scores, class_rows, score_rows
from foodbox.files import make_folder, write_whole
from foodbox.records import counted

OF_DIAGNOSIS = {
    "samples.jpg": "Samples", "precision_recall.png": "Precision and recall", "confusion.png": "Confusion matrix",
    "worst.jpg": "Photos with the most mistakes",
}  # fmt: skip
"""The pictures that a diagnosis may have, and their headings on a page."""
PICTURES = {"curves.png": "Curves"} | OF_DIAGNOSIS
"""All that pages show, where a folder has them."""


def write_page(folder: Path, diagnosis: Diagnosis, scores: Scores) -> None:
    """report.html, one page that can be sent as it is, and its pictures.

    Raises:
        FoodboxError: the folder cannot be written to, or a photo cannot be opened.
    """
    pictures = diagnosis.pictures()
    make_folder(folder)
    for name, picture in pictures.items():
        write_whole(folder / name, picture)
    parts = [f"<h1>{html.text(folder.name)}</h1>", *score_parts(scores, "Scores"), *picture_parts(folder, pictures)]
    write_whole(folder / "report.html", html.document(folder.name, parts))


def expect_no_run(folder: Path) -> None:
    """Looks that a page does not take the place of a run's own.

    Raises:
        UsageError: it would.
    """
    if (folder / "config.yaml").exists():
        raise UsageError(f"{folder} is a run folder, whose report.html would be overwritten: choose another --out.")


def score_parts(scores: Scores, title: str) -> list[str]:
    """The scores under a heading, what pulls them down, and the scores by class."""
    seen = f"{counted(scores.photos, 'photo')}, {counted(scores.boxes, 'box', 'boxes')}"
    head, *rows = class_rows(scores.to_dict())
    return [
        f"<h2>{html.text(title)}</h2><p>{seen}.</p>{html.table(score_rows(scores.to_dict()))}",
        *(f"<p>{html.text(remark)}.</p>" for remark in scores.remarks),
        "<h2>By class</h2>" + html.table(rows, [str(name) for name in head]),
    ]


def picture_parts(folder: Path, names: Container[str] = tuple(PICTURES)) -> list[str]:
    """The pictures that a folder has, or those of these names, each under its heading."""
    there = [(folder / name, title) for name, title in PICTURES.items() if name in names and (folder / name).exists()]
    return [f"<h2>{title}</h2>" + html.picture(path.read_bytes(), path.name) for path, title in there]
