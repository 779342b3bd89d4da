"""What the data doctor reports: boxes as a network sees them, what anchors reach of them, numbers for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from foodbox.data.report import BOXES, AnchorReach, Report, anchor_reach, boxes_in_input
from foodbox.records import Dataset, Finding, Photo, Preprocessing, Source


def photo(size: tuple[int, int], *boxes: tuple[float, ...], name: str = "photos/a.jpg") -> Photo:
    return Photo(
        Path(name), *size, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.zeros(len(boxes), dtype=torch.int64),
    )  # fmt: skip


# -- Boxes as a network sees them -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preprocessing", "box", "height", "width"),
    [
        # Twice as small, to 320 x 240, which is padded to 320 x 256.
        (Preprocessing(size=320), [50, 100, 150, 200], 256, 320),
        (Preprocessing(size=320, multiple=1), [50, 100, 150, 200], 240, 320),
        (Preprocessing(size=240, fit="shortest", max_size=999), [50, 100, 150, 200], 256, 320),
        # Stretched: half as wide, two thirds as high.
        (Preprocessing(size=320, fit="stretch"), [50, 400 / 3, 150, 800 / 3], 320, 320),
        (Preprocessing(size=1280), [200, 400, 600, 800], 960, 1280),
    ],
)
def test_boxes_in_the_input_by_hand(preprocessing: Preprocessing, box: list[float], height: int, width: int) -> None:
    """One box on a photo of 640 x 480."""
    found = boxes_in_input(Dataset([photo((640, 480), (100, 200, 300, 400))], ["a"]), preprocessing)
    torch.testing.assert_close(found[0], torch.tensor([box], dtype=torch.float32))
    assert found[1:] == (height, width)


def test_the_input_holds_lying_and_upright_photos() -> None:
    """Photos without a box ask for no room."""
    photos = [photo((640, 320), (0, 0, 64, 32)), photo((320, 640), (0, 0, 32, 64)), photo((100, 100))]
    boxes, height, width = boxes_in_input(Dataset(photos, ["a"]), Preprocessing(size=320))
    assert boxes.tolist() == [[0, 0, 32, 16], [0, 0, 16, 32]]
    assert (height, width) == (320, 320)
    assert boxes_in_input(Dataset(photos[:1], ["a"]), Preprocessing(size=320))[1:] == (160, 320)


def test_boxes_that_do_not_count_are_left_out() -> None:
    one = photo((320, 320), (0, 0, 64, 32), (10, 10, 300, 300))
    one.ignore = torch.tensor([False, True])
    assert boxes_in_input(Dataset([one], ["a"]), Preprocessing(size=320))[0].tolist() == [[0, 0, 64, 32]]


def test_of_many_boxes_always_the_same_thousand() -> None:
    dataset = Dataset([photo((320, 320), *((i / 10, 0, i / 10 + 5, 9) for i in range(BOXES + 500)))], ["a"])
    boxes, *_ = boxes_in_input(dataset, Preprocessing(size=320))
    assert boxes.shape == (BOXES, 4)
    assert torch.equal(boxes, boxes_in_input(dataset, Preprocessing(size=320))[0])
    assert len(boxes[:, 0].unique()) == BOXES  # none twice
    assert (
        len(boxes_in_input(Dataset([photo((320, 320), *[(0, 0, 9, 9)] * BOXES)], ["a"]), Preprocessing())[0]) == BOXES
    )


@pytest.mark.parametrize("photos", [[], [photo((640, 480))]])
def test_without_boxes(photos: list[Photo]) -> None:
    boxes, height, width = boxes_in_input(Dataset(photos, ["a"]), Preprocessing(size=320))
    assert boxes.shape == (0, 4)
    assert min(height, width) > 0


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


def test_the_numbers_for_programs(drawn: Dataset) -> None:
    drawn.format = "voc"
    path = drawn.photos[0].path
    told = Report(drawn, some_findings(path), reach_of(0.9, 0.95)).to_dict()
    back = json.loads(json.dumps(told, allow_nan=False))
    assert (back["format"], back["photos"], back["boxes"]) == ("voc", 6, 7)
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
