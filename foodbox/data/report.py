"""What the data doctor says, in one record: for the screen, for programs, and for the page."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from foodbox.data.check import by_harm
from foodbox.data.inputs import FEW_REACHED, REACHED
from foodbox.findings import Finding, Source
from foodbox.ops.anchor_fitting import best_overlap
from foodbox.records import Dataset, counted


@dataclass
class AnchorReach:
    """How well a detector's anchors fit the boxes.

    Attributes:
        detector: its name and preset.
        boxes: how many boxes were looked at.
        reached: the share of them that some anchor overlaps with an IoU of at least 0.5.
        fitted: the same with better anchors.
        settings: what makes them better, by name; empty where nothing would.
    """

    detector: str
    boxes: int
    reached: float
    fitted: float
    settings: dict[str, Any]

    def __str__(self) -> str:
        more = f"; {self.fitted:.1%} with --fit-anchors" if self.settings else ""
        return f"{self.reached:.1%} of {self.boxes:,} boxes are reached by an anchor of {self.detector}{more}"


@dataclass(repr=False, eq=False)
class Report:
    """What is known of a folder of labelled photos.

    Attributes:
        dataset: the photos that could be opened, with the boxes that could be read.
        findings: the worst first.
        anchors: None where there is no box or the detector has no anchors.
    """

    dataset: Dataset
    findings: list[Finding]
    anchors: AnchorReach | None = None

    def __post_init__(self) -> None:
        if self.anchors is not None and self.anchors.reached < FEW_REACHED < self.anchors.fitted:
            self.findings = [*self.findings, _few_reached(self.anchors, self.dataset)]
        self.findings = by_harm(self.findings)

    def __repr__(self) -> str:
        harms = Counter(finding.harm for finding in self.findings)
        found = ", ".join(counted(count, harm) for harm, count in harms.items())
        return f"<report on {self.dataset}: {found or 'nothing is wrong'}>"

    @property
    def errors(self) -> list[Finding]:
        """The findings because of which photos are not trained on."""
        return [finding for finding in self.findings if finding.harm == "error"]

    def kinds(self) -> dict[tuple[str, str], list[Finding]]:
        """The findings by harm and kind, the worst first."""
        result: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            result.setdefault((finding.harm, finding.kind), []).append(finding)
        return result

    def classes(self) -> dict[str, tuple[int, int]]:
        """Class → how many boxes and on how many photos."""
        photos = Counter(label for photo in self.dataset for label in set(photo.labels.tolist()))
        boxes = self.dataset.class_counts()
        return {name: (boxes[i], photos[i]) for i, name in enumerate(self.dataset.names)}

    def parts(self) -> dict[str, int]:
        """Part → how many photos, those in none last; empty where neither labels nor folders name parts."""
        found = Counter(photo.part or "in no part" for photo in self.dataset)
        order = ("train", "valid", "test", "in no part")
        return {part: found[part] for part in order if found[part]} if found.keys() - {order[-1]} else {}

    def to_dict(self) -> dict[str, Any]:
        """What `foodbox check --json` prints."""
        return {
            "format": self.dataset.format,
            "photos": len(self.dataset),
            "boxes": self.dataset.box_count,
            "parts": self.parts(),
            "classes": {name: {"boxes": boxes, "photos": photos} for name, (boxes, photos) in self.classes().items()},
            "anchors": None if self.anchors is None else asdict(self.anchors),
            "findings": [
                {
                    "harm": f.harm,
                    "kind": f.kind,
                    "file": str(f.source.path),
                    "line": f.source.line,
                    "photo": None if f.photo is None else str(f.photo),
                    "what": f.what,
                    "todo": f.todo,
                    "mend": f.mend,
                }
                for f in self.findings
            ],
        }


def anchor_reach(
    detector: str, boxes: Tensor, anchors: Tensor, fitted: Tensor, settings: dict[str, Any]
) -> AnchorReach | None:
    """Holds boxes [N, 4] against a detector's anchors [A, 4] and those that it has with better settings [B, 4]."""
    if not len(boxes) or not len(anchors):
        return None
    now, then = (float((best_overlap(boxes, some) >= REACHED).float().mean()) for some in (anchors, fitted))
    return AnchorReach(detector, len(boxes), now, max(now, then), settings if then > now else {})


def _few_reached(anchors: AnchorReach, dataset: Dataset) -> Finding:
    what = f"only {anchors.reached:.0%} of the boxes are reached by an anchor of {anchors.detector}"
    todo = f"Train with --fit-anchors, which reaches {anchors.fitted:.0%}"
    return Finding(Source(dataset.photos[0].path.parent), what, todo, "warning", kind="boxes without anchor")
