"""What the data doctor reports: what anchors reach of the boxes, numbers for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from foodbox.data.report import AnchorReach, Report, anchor_reach
from foodbox.findings import Finding, Source
from foodbox.records import Dataset

# -- What anchors reach -----------------------------------------------------------------------------------------------

ANCHORS = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 40.0, 10.0]])
BOXES_BY_HAND = torch.tensor(
    [
        [0.0, 0.0, 10.0, 10.0],  # the first anchor: 1
        [0.0, 0.0, 10.0, 5.0],  # half of it: 50 / 100
        [0.0, 0.0, 10.0, 4.9],  # a little less than half
        [15.0, 0.0, 35.0, 10.0],  # 150 of 250 with the second: 0.6
        [50.0, 50.0, 60.0, 60.0],  # far from both: 0
    ]
)


def test_what_is_printed_of_a_report_is_short(drawn: Dataset) -> None:
    assert repr(Report(drawn, [])) == f"<report on {drawn}: nothing is wrong>"
    found = [Finding(Source("a"), "x"), Finding(Source("a"), "x"), Finding(Source("a"), "x", harm="note")]
    assert repr(Report(drawn, found)) == f"<report on {drawn}: 2 errors, 1 note>"


def test_reach_by_hand() -> None:
    """Three of five boxes have an IoU of at least a half with some anchor; with the small one moved there, four."""
    better = torch.cat((ANCHORS, BOXES_BY_HAND[4:]))
    reach = anchor_reach("net (small)", BOXES_BY_HAND, ANCHORS, better, {"sizes": (1.0,)})
    assert reach is not None
    assert (reach.detector, reach.boxes, reach.settings) == ("net (small)", 5, {"sizes": (1.0,)})
    assert reach.reached == pytest.approx(0.6)
    assert reach.fitted == pytest.approx(0.8)
    assert str(reach) == "60.0% of 5 boxes are reached by an anchor of net (small); 80.0% with --fit-anchors"


@pytest.mark.parametrize("fitted", [ANCHORS, ANCHORS[:1]])
def test_anchors_that_are_no_better_change_nothing(fitted: torch.Tensor) -> None:
    reach = anchor_reach("net", BOXES_BY_HAND, ANCHORS, fitted, {"sizes": (1.0,)})
    assert reach is not None
    assert (reach.reached, reach.fitted, reach.settings) == (pytest.approx(0.6), pytest.approx(0.6), {})
    assert str(reach).endswith("an anchor of net")


def test_without_boxes_or_anchors_nothing_is_said() -> None:
    nothing = torch.zeros(0, 4)
    assert anchor_reach("net", nothing, ANCHORS, ANCHORS, {}) is None
    assert anchor_reach("net", BOXES_BY_HAND, nothing, nothing, {}) is None


# -- The report -------------------------------------------------------------------------------------------------------


def reach_of(reached: float, fitted: float) -> AnchorReach:
    return AnchorReach("net", 100, reached, fitted, {"anchor_sizes": (16.0, 32.0)})


@pytest.mark.parametrize(
    ("reached", "fitted", "told"),
    [(0.5, 0.95, True), (0.79, 0.81, True), (0.8, 0.95, False), (0.5, 0.7, False), (0.9, 0.95, False)],
)
def test_few_boxes_reached_are_told_where_that_can_be_helped(
    drawn: Dataset, reached: float, fitted: float, told: bool
) -> None:
    given: list[Finding] = []
    report = Report(drawn, given, reach_of(reached, fitted))
    assert [f.kind for f in report.findings] == (["boxes without anchor"] if told else [])
    assert given == []  # the caller's list is its own
    if told:
        finding = report.findings[0]
        assert finding.harm == "warning"
        assert finding.what == f"only {reached:.0%} of the boxes are reached by an anchor of net"
        assert finding.todo == f"Train with --fit-anchors, which reaches {fitted:.0%}"


def some_findings(path: Path) -> list[Finding]:
    return [
        Finding(Source(path), "seen", harm="note", photo=path, kind="EXIF turn"),
        Finding(Source("a.xml", 3), "wrong", "Correct it", "error", path, "empty box", "the box is removed"),
        Finding(Source("b.xml", 4), "no photo", kind="label without photo"),
        Finding(Source("c.xml", 5), "wrong too", "", "error", path, "empty box"),
        Finding(Source(path), "odd", "Look", "warning", path, "tiny box", box=0),
    ]


def test_kinds_are_in_the_order_of_harm(drawn: Dataset) -> None:
    report = Report(drawn, some_findings(drawn.photos[0].path))
    kinds = {key: [f.source.line for f in found] for key, found in report.kinds().items()}
    assert list(kinds.items()) == [
        (("error", "empty box"), [3, 5]),
        (("error", "label without photo"), [4]),
        (("warning", "tiny box"), [None]),
        (("note", "EXIF turn"), [None]),
    ]
    assert [f.source.line for f in report.errors] == [3, 5, 4]
    assert Report(drawn, []).kinds() == {}


def test_classes_count_boxes_and_photos(drawn: Dataset) -> None:
    """Two bowls on one photo are two boxes on one photo."""
    drawn.names.append("unused")
    assert Report(drawn, []).classes() == {"apple": (2, 2), "bowl": (3, 2), "cake": (2, 2), "unused": (0, 0)}
    assert Report(Dataset([], []), []).classes() == {}


def test_parts_are_counted_where_there_are_some(drawn: Dataset) -> None:
    assert Report(drawn, []).parts() == {}
    drawn.photos[2].part = "test"
    for photo in drawn.photos[3:]:
        photo.part = "train"
    assert list(Report(drawn, []).parts().items()) == [("train", 3), ("test", 1), ("in no part", 2)]


def test_the_numbers_for_programs(drawn: Dataset) -> None:
    drawn.format = "voc"
    path = drawn.photos[0].path
    told = Report(drawn, some_findings(path), reach_of(0.9, 0.95)).to_dict()
    back = json.loads(json.dumps(told, allow_nan=False))
    assert (back["format"], back["photos"], back["boxes"]) == ("voc", 6, 7)
    assert back["parts"] == {}
    assert back["classes"]["bowl"] == {"boxes": 3, "photos": 2}
    assert back["anchors"] == {
        "detector": "net", "boxes": 100, "reached": 0.9, "fitted": 0.95, "settings": {"anchor_sizes": [16.0, 32.0]}
    }  # fmt: skip
    assert len(back["findings"]) == 5
    assert back["findings"][0] == {
        "harm": "error", "kind": "empty box", "file": "a.xml", "line": 3, "photo": str(path), "what": "wrong",
        "todo": "Correct it", "mend": "the box is removed",
    }  # fmt: skip
    assert back["findings"][2]["photo"] is None
    assert json.loads(json.dumps(Report(Dataset([], []), []).to_dict()))["anchors"] is None
