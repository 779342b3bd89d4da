"""What a detector does well and badly on labelled photos, in pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from foodbox.data.images import open_photo
from foodbox.data.splits import spread
from foodbox.detections import Detections
from foodbox.drawing.boxes import draw_detections, draw_truth, jpeg, sheet
from foodbox.evaluation.confusion import Confusion, confusion
from foodbox.evaluation.threshold import F1Curve
from foodbox.evaluation.voc import ranked_hits
from foodbox.records import Dataset, Photo

SHOWN = 9
"""Photos on a sheet: three by three."""
MOST_CURVES = 8
"""Classes that have a curve of their own, those with the most boxes: more could not be told apart."""
SIDE = 360
"""Pixels of a photo's longer side on a sheet."""


@dataclass
class Diagnosis:
    """What the pictures are drawn of.

    Attributes:
        names: the classes.
        threshold: the score from which detections are shown.
        pairs: which classes were taken for which.
        curve, by_class: precision and recall, of all classes and of some.
        samples, worst: photos from all over the dataset, and those with the most mistakes, the worst first; with the
            detections that are shown.
    """

    names: list[str]
    threshold: float
    pairs: Confusion
    curve: F1Curve
    by_class: dict[str, F1Curve]
    samples: list[tuple[Photo, Detections]]
    worst: list[tuple[Photo, Detections]]

    @staticmethod
    def of(dataset: Dataset, detections: Sequence[Detections], threshold: float) -> Diagnosis:
        """Of detections, one for each photo of the dataset, with labels into its names, unsure ones included."""
        ranked, counts = ranked_hits(dataset, detections), dataset.class_counts(ignored=False)
        pairs = confusion(dataset, detections, threshold)
        order = [i for i in pairs.mistakes.argsort(descending=True, stable=True).tolist() if pairs.mistakes[i]]

        def shown(chosen: Sequence[int]) -> list[tuple[Photo, Detections]]:
            return [(dataset.photos[i], detections[i].over(threshold)) for i in chosen]

        common = sorted(range(len(counts)), key=lambda k: -counts[k])[:MOST_CURVES]
        return Diagnosis(
            names=dataset.names,
            threshold=threshold,
            pairs=pairs,
            curve=F1Curve.of(ranked, sum(counts)),
            by_class={dataset.names[k]: F1Curve.of(ranked.of_class(k), counts[k]) for k in sorted(common) if counts[k]},
            samples=shown(spread(range(len(dataset)), SHOWN)),
            worst=shown(order[:SHOWN]),
        )

    def pictures(self) -> dict[str, bytes]:
        """The pictures' files by name.

        Raises:
            FoodboxError: a photo cannot be opened.
        """
        from foodbox.drawing import metrics  # and matplotlib, half a second's import, when there is a chart

        several = len(self.names) > 1
        by_class = self.by_class if several else {}
        over = f"Left: labelled. Right: found with a score over {self.threshold:.3g}"
        files = {
            "samples.jpg": side_by_side(self.samples, over),
            "precision_recall.png": metrics.precision_recall(self.curve, self.threshold, by_class),
        }
        if several:
            files["confusion.png"] = metrics.confusion_matrix(self.pairs.counts, self.names)
        if self.worst:
            files["worst.jpg"] = side_by_side(self.worst, f"The most mistakes. {over}")
        return files


def side_by_side(photos: Sequence[tuple[Photo, Detections]], title: str) -> bytes:
    """A JPEG of photos, three a row: the labels of each on the left, what was found on the right.

    Raises:
        FoodboxError: a photo cannot be opened.
    """
    tiles = []
    for photo, found in photos:
        image = open_photo(photo.path, at_least=(SIDE, 1))
        image.thumbnail((SIDE, SIDE))
        pair = Image.new("RGB", (image.width * 2 + 4, image.height), "#202020")
        names = found.names if len(found.names) > 1 else ()
        pair.paste(draw_truth(image, photo, names=names), (0, 0))
        pair.paste(draw_detections(image, found), (image.width + 4, 0))
        tiles.append(pair)
    tile = max(t.width for t in tiles) + 8, max(t.height for t in tiles) + 8
    return jpeg(sheet(tiles, min(3, len(tiles)), tile, title), quality=88)
