"""All scores of a detector on labelled photos, and plain words on why they are what they are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foodbox.detections import Detections
from foodbox.evaluation.coco import MOST, CocoScores, coco_scores, mask_scores
from foodbox.evaluation.confusion import Confusion, confusion
from foodbox.evaluation.starthon import mean_iou
from foodbox.evaluation.threshold import SURE, F1Curve
from foodbox.evaluation.voc import MATCH_IOU, ranked_hits, voc_ap50
from foodbox.records import Dataset, counted

SCORE_ROWS = {
    "ap": "COCO AP (IoU 0.50:0.95)",
    "ap50": "COCO AP50",
    "ap75": "COCO AP75",
    "ap_small": "COCO AP, small boxes (under 32² px)",
    "ap_medium": "COCO AP, medium boxes (to 96² px)",
    "ap_large": "COCO AP, large boxes",
    "mask_ap": "COCO mask AP (IoU 0.50:0.95)",
    "mask_ap50": "COCO mask AP50",
    "voc_ap50": "Pascal VOC AP50",
    "recall": "recall of all detections (IoU 0.50)",
    "mean_iou": "AI Starthon: mean IoU of the best box",
    "shown_precision": "precision of detections over {threshold:.3g}",
    "shown_recall": "recall of detections over {threshold:.3g}",
    "f1": "F1 of detections over {threshold:.3g}",
}
"""The scores in words, in the order in which people are shown them."""


@dataclass
class Scores(CocoScores):
    """COCO's scores and the others, from 0 to 1, or None where there was nothing to count.

    Attributes:
        voc_ap50: as Pascal VOC counts it.
        mean_iou: the AI Starthon's score.
        photos, boxes: how many were scored and counted.
        remarks: sentences on what pulls the scores down.
        mask_ap, mask_ap50: COCO's AP and AP50 of masks; None for detectors that find boxes only.
        threshold: the score from which a detection is shown to people unless they ask otherwise.
        f1, shown_precision, shown_recall: of the detections that are shown, over all classes.
    """

    voc_ap50: float | None
    mean_iou: float | None
    photos: int
    boxes: int
    remarks: list[str]
    mask_ap: float | None = None
    mask_ap50: float | None = None
    threshold: float = SURE
    f1: float | None = None
    shown_precision: float | None = None
    shown_recall: float | None = None

    @property
    def decisive(self) -> float:
        """By what the best epoch is chosen: mask AP where there is one, else AP; 0 where nothing counted.

        Who trains on outlines wants masks; and a mask is only as good as the box that it lies in, not the other way
        round. COCO's own contest for masks goes by mask AP, too.
        """
        chosen = self.ap if self.mask_ap is None else self.mask_ap
        return 0.0 if chosen is None else chosen

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and the log."""
        return dataclasses.asdict(self)


def score(dataset: Dataset, detections: Sequence[Detections], threshold: float | None = None) -> Scores:
    """Holds detections against the truth.

    Args:
        dataset: labelled photos.
        detections: one for each photo, in its order, labels into the dataset's names, unsure ones included.
        threshold: from which detections are shown; the one that is best on these photos if not given.
    """
    ranked = ranked_hits(dataset, detections)
    boxes = sum(dataset.class_counts(ignored=False))
    curve = F1Curve.of(ranked, boxes)
    threshold = curve.best_threshold() if threshold is None else threshold
    pairs = confusion(dataset, detections, threshold)
    coco = coco_scores(dataset, detections)
    for values, precision, recall in zip(
        coco.per_class.values(), pairs.precision.tolist(), pairs.recall.tolist(), strict=True
    ):
        values |= {"precision": _known(precision), "recall": _known(recall)}
    mask_ap, mask_ap50 = mask_scores(dataset, detections)
    return Scores(
        photos=len(dataset),
        boxes=boxes,
        voc_ap50=voc_ap50(dataset, ranked),
        mean_iou=mean_iou(dataset, detections),
        remarks=_remarks(dataset, detections, threshold, pairs),
        mask_ap=mask_ap,
        mask_ap50=mask_ap50,
        threshold=threshold,
        f1=curve.over(threshold),
        shown_precision=pairs.right / pairs.shown if pairs.shown else None,
        shown_recall=pairs.right / pairs.boxes if pairs.boxes else None,
        **dataclasses.asdict(coco),
    )


def _remarks(dataset: Dataset, detections: Sequence[Detections], threshold: float, pairs: Confusion) -> list[str]:
    """What a person would see on the pictures: photos without a detection, boxes missed, wrong boxes, wrong classes."""
    silent = asked = most = 0
    for photo, found in zip(dataset, detections, strict=True):
        labels = photo.labels[~photo.ignore]
        most = max([most, *labels.bincount().tolist()])
        asked += len(labels) > 0
        silent += len(labels) > 0 and not bool((found.scores >= threshold).any())
    boxes, shown = pairs.boxes, pairs.shown
    over, has = f"over {threshold:.3g}", "has" if silent == 1 else "have"
    remarks = [
        (silent, f"{counted(silent, 'photo')} with boxes of {asked} {has} no detection {over}"),
        (pairs.missed, f"{pairs.missed} of {boxes} boxes are missed by the detections {over} (IoU {MATCH_IOU})"),
        (pairs.false, f"{pairs.false} of {shown} detections {over} are on no box, or on one that was found already"),
        (most > MOST, f"A photo has {most} boxes of one class, and COCO's AP counts the best {MOST} detections of it"),
        (pairs.confused, f"{pairs.confused} of {shown} detections {over} are on a box of another class"),
    ]
    return [words for count, words in remarks if count]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def score_rows(scores: dict[str, Any]) -> list[tuple[str, float | None]]:
    """Scores as people are shown them, in words; those of masks only where there are any."""
    keys = [key for key in SCORE_ROWS if scores[key] is not None or not key.startswith("mask_")]
    return [(SCORE_ROWS[key].format(**scores), scores[key]) for key in keys]


def class_rows(scores: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Scores by class as people are shown them, the columns' names first."""
    columns = {"ap": "AP", "ap50": "AP50", "precision": "precision", "recall": "recall", "boxes": "boxes"}
    rows = [(name, *(values.get(key) for key in columns)) for name, values in scores["per_class"].items()]
    return [("class", *columns.values()), *rows]
