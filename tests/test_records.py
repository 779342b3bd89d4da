"""What travels through the house: sizes, the way between photo and input, and what detections turn into."""

from __future__ import annotations

import dataclasses
import json
import pickle
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from hypothesis import example, given
from hypothesis import strategies as st
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms.v2 import functional as transforms
from torchvision.tv_tensors import BoundingBoxes

from foodbox.detections import Detections
from foodbox.detectors.retinanet import RetinaNet, RetinaNetSettings
from foodbox.errors import UsageError
from foodbox.findings import Finding, Source
from foodbox.ops.boxes import clip
from foodbox.records import Dataset, Frame, Photo, Preprocessing, Target, no_boxes, no_labels
from tests.conftest import NAMES

side = st.integers(10, 6000)


def test_a_photo_takes_no_file_on_its_way_to_another_process() -> None:
    """Of a tensor each process holds an open file, or Windows a mapping, and there are three or more to a photo."""
    square = torch.tensor([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0]])
    one = Photo(Path("a.jpg"), 8, 6, torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([2]), [[square]], part="train")
    sent = bytes(ForkingPickler.dumps([one, Photo(Path("b.jpg"), 1, 1)]))  # which torch taught to share tensors
    assert b"torch.multiprocessing" not in sent
    (again, empty) = pickle.loads(sent)
    assert repr(again) == repr(one)
    assert (empty.boxes.shape, empty.masks) == ((0, 4), None)


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


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Any photo of up to 8000 px and any window of whole pixels, from a twentieth of the photo to twice as large."""
    width, height = draw(st.integers(1, 8000)), draw(st.integers(1, 8000))
    left, top = (round(draw(st.floats(-1, 0.95)) * side) for side in (width, height))
    wide, high = (max(1, round(draw(st.floats(0.05, 2)) * side)) for side in (width, height))
    size = draw(st.integers(1, 4096)), draw(st.integers(1, 4096))
    return Frame(
        width, height, *size, None, left, top, left + wide, top + high, *draw(st.tuples(st.booleans(), st.booleans()))
    )


@st.composite
def frames_and_boxes(draw: st.DrawFn) -> tuple[Frame, torch.Tensor]:
    """A frame and boxes float32 [N, 4] within its photo."""
    frame = draw(frames())
    count = draw(st.integers(0, 5))
    x = draw(st.lists(st.floats(0, frame.width, width=32), min_size=2 * count, max_size=2 * count))
    y = draw(st.lists(st.floats(0, frame.height, width=32), min_size=2 * count, max_size=2 * count))
    boxes = torch.tensor([x, y], dtype=torch.float32).view(2, count, 2).sort(-1).values  # [x or y, N, low or high]
    return frame, boxes.permute(1, 2, 0).reshape(count, 4)


@given(frames_and_boxes())
def test_any_way_and_back_ends_where_it_began(drawn: tuple[Frame, torch.Tensor]) -> None:
    """Resized, mirrored, turned over, cut out or laid on a larger ground: to 0.01 px in the float32 that boxes have."""
    frame, boxes = drawn
    there = frame.to_input(boxes)
    assert there.dtype == torch.float32
    assert (there[:, 2:] >= there[:, :2]).all()
    corners = frame.points_to_input(boxes.view(-1, 2, 2)).sort(1).values
    torch.testing.assert_close(corners.view(-1, 4), there)
    torch.testing.assert_close(frame.to_photo(there), boxes, rtol=0, atol=0.01)
    exact = boxes.double()
    torch.testing.assert_close(frame.to_photo(frame.to_input(exact)), exact, rtol=0, atol=1e-9)


@given(frames_and_boxes())
def test_the_way_to_the_input_is_torchvisions(drawn: tuple[Frame, torch.Tensor]) -> None:
    """Their crop, resize and flips move boxes to the same place, cut off at the input's border."""
    frame, boxes = drawn
    left, top = int(frame.left), int(frame.top)
    theirs = BoundingBoxes(boxes, format="XYXY", canvas_size=(frame.height, frame.width))  # type: ignore[call-arg]
    theirs = transforms.crop(theirs, top, left, int(frame.bottom) - top, int(frame.right) - left)
    theirs = transforms.resize(theirs, [frame.input_height, frame.input_width])
    if frame.mirror:
        theirs = transforms.horizontal_flip(theirs)
    if frame.upside_down:
        theirs = transforms.vertical_flip(theirs)
    mine = clip(frame.to_input(boxes), frame.input_width, frame.input_height)
    torch.testing.assert_close(mine, theirs.as_subclass(torch.Tensor), rtol=0, atol=0.01)


def test_the_way_to_the_input_by_hand() -> None:
    frame = Frame(640, 480, 320, 160)
    assert frame.to_input(torch.tensor([[64.0, 48.0, 640.0, 480.0]])).tolist() == [[32.0, 16.0, 320.0, 160.0]]
    assert frame.to_photo(torch.zeros(2, 0, 4)).shape == (2, 0, 4)


def test_a_window_its_mirror_image_and_it_upside_down_by_hand() -> None:
    """The window 100 -60 300 340, 200 x 400 pixels, on 50 x 200 of the input: a quarter and a half."""
    window = {"left": 100, "top": -60, "right": 300, "bottom": 340}
    box = torch.tensor([[120.0, 40.0, 200.0, 140.0]])
    frame = Frame(640, 480, 50, 200, **window)  # type: ignore[arg-type]
    assert (frame.scale_x, frame.scale_y) == (0.25, 0.5)
    assert frame.to_input(box).tolist() == [[5.0, 50.0, 25.0, 100.0]]
    mirrored = Frame(640, 480, 50, 200, **window, mirror=True)  # type: ignore[arg-type]
    assert (mirrored.scale_x, mirrored.scale_y) == (0.25, 0.5)
    assert mirrored.to_input(box).tolist() == [[25.0, 50.0, 45.0, 100.0]]
    assert mirrored.to_photo(mirrored.to_input(box)).tolist() == box.tolist()
    turned = dataclasses.replace(mirrored, mirror=False, upside_down=True)
    assert (turned.scale_x, turned.scale_y) == (0.25, 0.5)
    assert turned.to_input(box).tolist() == [[5.0, 100.0, 25.0, 150.0]]
    assert turned.to_photo(turned.to_input(box)).tolist() == box.tolist()


def test_the_window_is_the_photo_unless_said_otherwise() -> None:
    frame = Frame(640, 480, 320, 160)
    assert (frame.left, frame.top, frame.right, frame.bottom, frame.mirror) == (0, 0, 640, 480, False)
    assert frame == Frame(640, 480, 320, 160, None, 0, 0, 640, 480)


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


def test_the_boxes_of_each_class() -> None:
    labels = torch.tensor([0, 2, 2])
    photo = Photo(Path("a.jpg"), 10, 10, torch.ones(3, 4), labels, ignore=torch.tensor([False, True, False]))
    dataset = Dataset([photo, photo, Photo(Path("b.jpg"), 10, 10)], ["rice", "soup", "tea"])
    assert dataset.class_counts() == [2, 0, 4]
    assert dataset.class_counts(ignored=False) == [2, 0, 2]
    assert dataset.with_photos([]).class_counts() == [0, 0, 0]
    assert Dataset([], []).class_counts() == []


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


@pytest.mark.parametrize("one", [1, -1, torch.tensor(1), np.int64(1), slice(1, 2), [1], [False, True]])
def test_one_detection_is_kept_as_one_of_one(found: Detections, one: Any) -> None:
    found.masks = torch.stack((torch.ones(4, 4), torch.zeros(4, 4)))
    kept = found.keep(one)
    assert (kept.boxes.shape, kept.labels.tolist()) == ((1, 4), [0])
    assert kept.masks is not None
    assert kept.masks.shape == (1, 4, 4)
    assert kept.rows() == found.rows()[1:]


def test_detections_are_the_same_only_as_themselves(found: Detections) -> None:
    other = dataclasses.replace(found)
    assert found != other
    assert [other, found].index(found) == 1
    assert len({found, other, found}) == 2


def test_bitmaps_of_boxes_are_refused(found: Detections) -> None:
    for bitmap in (lambda: found.bitmap(0), found.bitmaps):
        with pytest.raises(UsageError, match="have boxes only"):
            bitmap()
    assert found.over(1.0).bitmaps().shape == (0, 60, 50)


def test_masks_are_kept_with_their_detections(found: Detections) -> None:
    found.masks = torch.stack((torch.ones(4, 4), torch.zeros(4, 4)))
    sure = found.over(0.5)
    assert sure.masks is not None
    assert sure.masks.shape == (1, 4, 4)
    assert sure.masks.all()
    assert found.keep(torch.tensor([1, 0])).bitmap(1).equal(found.bitmap(0))


def test_masks_as_polygons_stand_in_the_rows(found: Detections) -> None:
    """A full map is outlined by its box, with corners cut off; another detection's is empty."""
    found.masks = torch.stack((torch.ones(28, 28), torch.zeros(28, 28)))
    first, second = found.rows()
    [polygon] = first["segmentation"]
    xs, ys = polygon[0::2], polygon[1::2]
    assert [min(xs), min(ys), max(xs), max(ys)] == first["box"]
    assert second["segmentation"] == []
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    found.masks = None
    assert "segmentation" not in found.rows()[0]
    assert found.outlines() == [[], []]


def test_bitmaps_are_of_the_photos_size(found: Detections) -> None:
    found.masks = torch.stack((torch.ones(28, 28), torch.zeros(28, 28)))
    assert found.bitmaps().shape == (2, 60, 50)
    assert found.bitmaps().sum((1, 2)).tolist() == [30 * 40, 0]  # the box of 29 x 38.1, rounded outwards
    assert found.over(1.0).bitmaps().shape == (0, 60, 50)


def test_a_target_goes_to_a_device_with_its_masks() -> None:
    target = Target(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64), torch.ones(1, 2, 3, dtype=torch.bool))
    moved = target.to("meta")
    assert moved.masks is not None
    assert moved.masks.device.type == "meta"
    assert Target().to("cpu").masks is None


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
    found.masks = torch.stack((torch.ones(28, 28), torch.zeros(28, 28)))
    theirs = found.to_supervision()
    sure = theirs[theirs.confidence > 0.5]
    assert list(sure["class_name"]) == ["soup"]
    assert sure.mask is not None
    assert sure.mask.shape == (1, 60, 50)
    np.testing.assert_array_equal(sure.mask[0], found.bitmap(0))


def test_things_with_tensors_are_equal_to_themselves_alone() -> None:
    """Two tensors have no one answer to ==: it would be an error in `photo in photos`."""
    boxes, labels = torch.tensor([[0.0, 0, 4, 4], [1, 1, 2, 2]]), torch.tensor([0, 0])
    photos = [Photo(Path("a"), 8, 8, boxes, labels) for _ in range(2)]
    assert photos[1] in photos
    assert photos[0] != photos[1]
    assert len(set(photos)) == 2
    assert Dataset(photos, ["food"]) != Dataset(photos, ["food"])


def test_detections_of_a_network_that_learns_hold_no_graph() -> None:
    detector = RetinaNet(NAMES, RetinaNetSettings(preprocessing=Preprocessing(size=64), backbone="resnet18", prior=0.5))
    outputs = detector.train()(torch.zeros(1, 3, 64, 64))
    (found,) = detector.decode(outputs, [detector.preprocessing.frame(64, 64)], 0.0)
    assert len(found) > 0
    assert not found.boxes.requires_grad
    assert not found.scores.requires_grad


def test_bitmaps_lie_where_their_boxes_do() -> None:
    """Whatever device a caller has tensors made on."""
    for count in (0, 2):
        boxes = torch.tensor([[0.0, 0, 4, 4], [1, 1, 6, 6]])[:count]
        found = Detections(boxes, torch.ones(count), torch.zeros(count, dtype=torch.int64), NAMES, 8, 8)
        found.masks = torch.ones(count, 28, 28)
        with torch.device("meta"):
            assert found.bitmaps().device.type == "cpu"
