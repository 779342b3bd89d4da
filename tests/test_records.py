"""What travels through the house: sizes, the way between photo and input, and what detections turn into."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from foodbox.records import Dataset, Detections, Finding, Frame, Photo, Preprocessing, Source, no_boxes, no_labels

side = st.integers(10, 6000)


# -- Sizes ----------------------------------------------------------------------------------------------------------


@given(side, side)
@example(640, 480)
@example(634, 341)  # 634 x (1333 / 634) is a hair under 1333
def test_the_shortest_sides_rule_is_torchvisions(width: int, height: int) -> None:
    transform = GeneralizedRCNNTransform(800, 1333, [0.0] * 3, [1.0] * 3)
    resized, _ = transform.resize(torch.zeros(1, height, width, device="meta"))
    found = Preprocessing(size=800, fit="shortest", max_size=1333).resized(width, height)
    assert found == (resized.shape[-1], resized.shape[-2])


@pytest.mark.parametrize(
    ("fit", "size", "expected"),
    [
        ("longest", (640, 480), (320, 240)),
        ("longest", (480, 640), (240, 320)),
        ("longest", (100, 50), (320, 160)),
        ("longest", (10000, 1), (320, 1)),
        ("shortest", (640, 480), (426, 320)),
        ("shortest", (4000, 400), (500, 50)),
        ("stretch", (640, 480), (320, 320)),
    ],
)
def test_sizes_by_hand(fit: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    preprocessing = Preprocessing(size=320, fit=fit, max_size=500)  # type: ignore[arg-type]
    assert preprocessing.resized(*size) == expected


# -- Photo and input ------------------------------------------------------------------------------------------------


@given(st.integers(1, 8000), st.integers(1, 8000), st.sampled_from(["longest", "shortest", "stretch"]), st.data())
def test_the_way_to_the_input_and_back_ends_where_it_began(
    width: int, height: int, fit: str, data: st.DataObject
) -> None:
    size = Preprocessing(size=320, fit=fit).resized(width, height)  # type: ignore[arg-type]
    frame = Frame(width, height, *size)
    x = sorted(data.draw(st.lists(st.floats(0, width, width=32), min_size=2, max_size=2)))
    y = sorted(data.draw(st.lists(st.floats(0, height, width=32), min_size=2, max_size=2)))
    box = torch.tensor([[x[0], y[0], x[1], y[1]]])
    there = frame.to_input(box)
    assert (there <= torch.tensor([size[0], size[1]] * 2) * (1 + 1e-6)).all()
    torch.testing.assert_close(frame.to_photo(there), box, rtol=0, atol=0.01)


def test_the_way_to_the_input_by_hand() -> None:
    frame = Frame(640, 480, 320, 160)
    assert frame.to_input(torch.tensor([[64.0, 48.0, 640.0, 480.0]])).tolist() == [[32.0, 16.0, 320.0, 160.0]]
    assert frame.to_photo(torch.zeros(2, 0, 4)).shape == (2, 0, 4)


# -- Photos and findings --------------------------------------------------------------------------------------------


def test_a_photo_without_boxes_has_empty_tensors() -> None:
    photo = Photo(Path("a.jpg"), 10, 10)
    assert (photo.boxes.shape, photo.boxes.dtype) == ((0, 4), torch.float32)
    assert (photo.labels.shape, photo.labels.dtype) == ((0,), torch.int64)
    assert (photo.ignore.shape, photo.ignore.dtype) == ((0,), torch.bool)
    assert (no_boxes().shape, no_labels().shape) == ((0, 4), (0,))


def test_boxes_count_unless_said_otherwise() -> None:
    assert Photo(Path("a.jpg"), 10, 10, torch.ones(2, 4), torch.zeros(2, dtype=torch.int64)).ignore.tolist() == [
        False,
        False,
    ]


def test_a_dataset_in_words() -> None:
    photo = Photo(Path("a.jpg"), 10, 10, torch.ones(2, 4), torch.zeros(2, dtype=torch.int64))
    assert str(Dataset([photo], ["a", "b"])) == "1 photo, 2 boxes, 2 classes"
    assert str(Dataset([photo] * 1500, ["a"])) == "1,500 photos, 3,000 boxes, 1 class"


def test_a_finding_says_where_what_and_what_to_do() -> None:
    finding = Finding(Source(Path("a.xml"), 7), "no name", "Name it")
    assert str(finding) == "a.xml:7: no name. Name it."
    assert str(Finding(Source(Path("a.jpg")), "broken")) == "a.jpg: broken."


# -- Detections -----------------------------------------------------------------------------------------------------


@pytest.fixture
def found() -> Detections:
    return Detections(
        boxes=torch.tensor([[1.004, 2.0, 30.0, 40.126], [5.0, 6.0, 7.0, 8.0]]),
        scores=torch.tensor([0.912345, 0.3]),
        labels=torch.tensor([1, 0]),
        names=["rice", "soup"],
        width=50,
        height=60,
        path=Path("lunch.jpg"),
    )


def test_detections_as_plain_values(found: Detections) -> None:
    assert found.to_dict() == {
        "path": "lunch.jpg",
        "width": 50,
        "height": 60,
        "detections": [
            {"box": [1.0, 2.0, 30.0, 40.13], "score": 0.9123, "label": "soup"},
            {"box": [5.0, 6.0, 7.0, 8.0], "score": 0.3, "label": "rice"},
        ],
    }
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()


def test_detections_over_a_score_include_it(found: Detections) -> None:
    assert len(found.over(0.0)) == 2
    assert found.over(float(found.scores[1])).labels.tolist() == [1, 0]
    assert found.over(0.5).labels.tolist() == [1]
    assert found.over(1.0).boxes.shape == (0, 4)
    assert found.keep(torch.tensor([1])).rows() == found.rows()[1:]


def test_masks_are_kept_with_their_detections(found: Detections) -> None:
    found.masks = torch.zeros(2, 60, 50, dtype=torch.bool)
    found.masks[0, 0, 0] = True
    assert found.over(0.5).masks is not None
    assert found.over(0.5).masks.shape == (1, 60, 50)  # type: ignore[union-attr]
    assert found.over(0.5).masks.any()  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("count", [2, 0])
def test_detections_as_supervisions(found: Detections, count: int) -> None:
    supervision = pytest.importorskip("supervision")
    some = found.keep(torch.arange(count))
    theirs = some.to_supervision()
    assert isinstance(theirs, supervision.Detections)
    assert len(theirs) == count
    np.testing.assert_allclose(theirs.xyxy, some.boxes)
    np.testing.assert_allclose(theirs.confidence, some.scores)
    assert theirs.class_id.tolist() == some.labels.tolist()
    assert list(theirs["class_name"]) == ["soup", "rice"][:count]
    assert theirs.mask is None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_supervision_filters_them_with_their_masks(found: Detections) -> None:
    pytest.importorskip("supervision")
    found.masks = torch.zeros(2, 60, 50, dtype=torch.bool)
    theirs = found.to_supervision()
    sure = theirs[theirs.confidence > 0.5]
    assert list(sure["class_name"]) == ["soup"]
    assert sure.mask is not None
    assert sure.mask.shape == (1, 60, 50)
