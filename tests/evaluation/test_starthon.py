"""The AI Starthon's score and file against a reading of its rules in ten lines."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from foodbox.detections import Detections
from foodbox.evaluation.starthon import best_boxes, mean_iou, prediction_file
from foodbox.records import Dataset, Photo, no_boxes, no_labels
from tests.evaluation.random_detections import nothing, random_photos


def contest_score(lines: list[str], truth: list[tuple[str, int, int, list[float]]]) -> float:
    """Line by line in the order of the file names: x, y, w, h as shares of the photo, held against x1, y1, x2, y2."""
    total = 0.0
    for line, (_, width, height, box) in zip(lines, sorted(truth), strict=True):
        x, y, w, h = (float(v) for v in line.split(","))
        x1, y1, x2, y2 = x * width, y * height, (x + w) * width, (y + h) * height
        across = min(x2, box[2]) - max(x1, box[0])
        down = min(y2, box[3]) - max(y1, box[1])
        both = max(across, 0) * max(down, 0)
        total += both / ((x2 - x1) * (y2 - y1) + (box[2] - box[0]) * (box[3] - box[1]) - both)
    return total / len(lines)


def with_one_box_each(seed: int) -> tuple[Dataset, list[Detections]]:
    """Photos of different sizes, in no order, each with one box and something found."""
    draw = torch.Generator().manual_seed(seed)
    photos, found = [], []
    for i in torch.randperm(8, generator=draw).tolist():
        width, height = torch.randint(50, 400, (2,), generator=draw).tolist()
        corner = torch.rand(4, 2, generator=draw) * torch.tensor([width, height]) / 2
        boxes = torch.cat((corner, corner + 5 + corner.flip(0) / 2), dim=1)
        path, label = Path(f"photo{i}.jpg"), torch.zeros(1, dtype=torch.int64)
        photos.append(Photo(path, width, height, boxes[:1] + 3, label))
        scores = torch.rand(3, generator=draw).sort(descending=True).values
        found.append(Detections(boxes[:3], scores, label.repeat(3), ["food"], width, height, path))
    return Dataset(photos, ["food"]), found


@pytest.mark.parametrize("seed", range(4))
def test_file_and_score_agree_with_the_contests_rules(seed: int) -> None:
    """Also of photos on which nothing was found."""
    dataset, found = with_one_box_each(seed)
    found[seed] = nothing(dataset)[seed]
    lines = prediction_file(found).splitlines()
    truth = [(p.path.name, p.width, p.height, p.boxes[0].tolist()) for p in dataset]
    expected = contest_score(lines, truth)
    assert 0.05 < expected < 1
    assert mean_iou(dataset, found) == pytest.approx(expected, abs=1e-5)


def test_lines_stand_in_the_order_of_file_names_whatever_is_in_them() -> None:
    """x, y, w, h with eight decimals, a line a photo."""
    boxes = {"b.jpg": [0.0, 0.0, 50.0, 50.0], "a.jpg": [50.0, 25.0, 100.0, 50.0], "B.jpg": [10.0, 10.0, 20.0, 30.0]}
    found = [
        Detections(
            torch.tensor([box]), torch.ones(1), torch.zeros(1, dtype=torch.int64), ["food"], 200, 100, Path("x") / name
        )
        for name, box in boxes.items()
    ]
    assert prediction_file(found) == (
        "0.05000000,0.10000000,0.05000000,0.20000000\n"
        "0.25000000,0.25000000,0.25000000,0.25000000\n"
        "0.00000000,0.00000000,0.25000000,0.50000000\n"
    )


def test_where_nothing_is_found_the_whole_photo_is_handed_in_and_counts() -> None:
    """It meets a true box of a quarter of it by that quarter."""
    photo = Photo(Path("a.jpg"), 200, 100, torch.tensor([[20.0, 10.0, 120.0, 60.0]]), torch.zeros(1, dtype=torch.int64))
    dataset = Dataset([photo], ["food"])
    found = nothing(dataset)
    assert best_boxes(found).tolist() == [[0, 0, 200, 100]]
    assert prediction_file(found) == "0.00000000,0.00000000,1.00000000,1.00000000\n"
    assert mean_iou(dataset, found) == pytest.approx(0.25)


def test_photos_of_one_name_keep_their_order() -> None:
    """Whatever was found on them; else nobody could tell whose line is whose."""
    names = ["a"]
    found = [
        Detections(torch.tensor([box]), torch.tensor([0.9]), torch.tensor([0]), names, 10, 10, Path(folder, "z.jpg"))
        for folder, box in (("a", [5.0, 0.0, 10.0, 10.0]), ("b", [1.0, 0.0, 2.0, 10.0]))
    ]
    assert [line[:3] for line in prediction_file(found).splitlines()] == ["0.5", "0.1"]


def test_of_several_true_boxes_the_one_that_fits_best_counts_and_ignored_ones_do_not() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    photo = Photo(Path("a.jpg"), 100, 100, boxes, torch.zeros(2, dtype=torch.int64))
    found = [
        Detections(
            boxes[1:] + torch.tensor([0.0, 0, 0, 10]),
            torch.ones(1),
            torch.zeros(1, dtype=torch.int64),
            ["food"],
            100,
            100,
        )
    ]
    assert mean_iou(Dataset([photo], ["food"]), found) == pytest.approx(0.5)
    photo.ignore = torch.tensor([False, True])
    assert mean_iou(Dataset([photo], ["food"]), found) == 0


def test_photos_without_a_box_do_not_count() -> None:
    dataset, found = random_photos(0)
    counted = [i for i, p in enumerate(dataset) if (~p.ignore).any()]
    assert len(counted) < len(dataset)
    some = mean_iou(dataset.with_photos([dataset.photos[i] for i in counted]), [found[i] for i in counted])
    assert mean_iou(dataset, found) == pytest.approx(some)
    empty = Photo(Path("a.jpg"), 10, 10)
    assert mean_iou(Dataset([empty], ["food"]), nothing(Dataset([empty], ["food"]))) is None


def test_nothing_at_all() -> None:
    assert best_boxes([]).shape == (0, 4)
    assert prediction_file([]) == ""
    assert mean_iou(Dataset([], ["food"]), []) is None


def test_the_best_box_is_the_first_however_unsure() -> None:
    found = Detections(
        torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([1e-6]), torch.zeros(1, dtype=torch.int64), ["food"], 10, 10
    )
    none = Detections(no_boxes(), torch.zeros(0), no_labels(), ["food"], 7, 9)
    assert best_boxes([found, none]).tolist() == [[1, 2, 3, 4], [0, 0, 7, 9]]
