"""Every row of the table in docs/formats.md: what a format can hold comes back from it, what it cannot is said."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch

import foodbox
from foodbox.data import formats
from foodbox.data.formats import FORMATS, prune
from foodbox.masks import rasterise
from foodbox.records import Dataset, Photo
from tests.conftest import draw_photo

DOCS = Path(__file__).parents[3] / "docs" / "formats.md"
FLAGS = ("classes", "many", "masks", "ignore", "empty", "unlabelled", "parts")


def by_size(dataset: Dataset) -> dict[tuple[int, int], Photo]:
    """Photos told by their sizes: their names may have changed."""
    return {(photo.width, photo.height): photo for photo in dataset}


def described(photo: Photo, names: list[str]) -> list[tuple[str, bool]]:
    return sorted(
        (names[label], ignore) for label, ignore in zip(photo.labels.tolist(), photo.ignore.tolist(), strict=True)
    )


def ordered(photo: Photo) -> torch.Tensor:
    return photo.boxes[photo.boxes[:, 0].argsort()]


def assert_same(found: Dataset, wanted: Dataset) -> None:
    """The same photos, classes, marks, parts, and boxes to half a pixel, in whatever order."""
    assert by_size(found).keys() == by_size(wanted).keys()
    for size, photo in by_size(wanted).items():
        other = by_size(found)[size]
        assert other.labelled == photo.labelled
        assert other.part == photo.part or not photo.labelled  # a photo that nobody labelled may lose its part
        assert described(other, found.names) == described(photo, wanted.names)
        assert torch.allclose(ordered(other), ordered(photo), rtol=0, atol=0.501)
        # Outlines that an object does not have come back as none, or as those of a photo without any.
        outlines, others = (sorted(map(len, p.masks)) if p.masks and any(p.masks) else None for p in (photo, other))
        assert others == outlines


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_format_can_hold_comes_back(name: str, everything: Dataset, tmp_path: Path) -> None:
    held, _ = prune(everything, name)
    FORMATS[name].write(held, tmp_path / "written")
    found, findings = formats.read(tmp_path / "written", None if name != "kfood_corners" else name)
    assert found.format == name
    assert [str(finding) for finding in findings if finding.harm == "error"] == []
    if FORMATS[name].classes:
        assert set(found.names) >= {held.names[label] for photo in held for label in photo.labels.tolist()}
    else:
        found = dataclasses.replace(found, names=held.names)
    assert_same(found, held)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("others", [0, 2])
def test_a_box_of_one_pixel_comes_back(name: str, others: int, tmp_path: Path) -> None:
    """And is not taken for the whole photo in shares, though 0, 0, 1, 1 might be one."""
    boxes = [[0.0, 0.0, 1.0, 1.0], *[[5.0, 6.0, 30.0, 32.0]] * others]
    drawn = [draw_photo(tmp_path / f"{i}.png", (60 + i, 40), [(0, *map(int, box))]) for i, box in enumerate(boxes)]
    FORMATS[name].write(Dataset(drawn, ["food"]), tmp_path / "written")
    found, findings = formats.read(tmp_path / "written", name)
    assert [str(finding) for finding in findings if finding.harm == "error"] == []
    read = torch.cat([photo.boxes for _, photo in sorted(by_size(found).items())])
    torch.testing.assert_close(read, torch.tensor(boxes), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [name for name, kind in FORMATS.items() if kind.masks])
@pytest.mark.parametrize("steps", [1, 2])
def test_outlines_cover_the_same_pixels_when_they_come_back(name: str, steps: int, tmp_path: Path) -> None:
    """An object in one piece and one in two, which YOLO joins by a line; where all have outlines."""
    one = torch.tensor([[10.5, 12.25], [60.0, 20.0], [40.0, 70.0]])
    pieces = [
        torch.tensor([[80.0, 10.0], [99.0, 10.0], [99.0, 30.0]]),
        torch.tensor([[70.0, 50.0], [90, 50], [90, 75]]),
    ]
    corners = torch.tensor([[10.5, 12.25, 60.0, 70.0], [70.0, 10.0, 99.0, 75.0]])
    draw_photo(tmp_path / "a.png", (100, 80), [])
    dataset = Dataset([Photo(tmp_path / "a.png", 100, 80, corners, torch.tensor([0, 1]), [[one], pieces])], ["a", "b"])
    for step in range(steps):
        FORMATS[name].write(dataset, tmp_path / str(step))
        dataset, _ = formats.read(tmp_path / str(step))
    masks = dataset.photos[0].masks
    assert masks is not None
    found, wanted = rasterise(masks, 80, 100), rasterise([[one], pieces], 80, 100)
    assert wanted.any(2).any(1).all()
    assert ((found & wanted).sum((1, 2)) / (found | wanted).sum((1, 2)) > 0.98).all()


@pytest.mark.parametrize("name", FORMATS)
def test_the_table_of_the_docs_is_what_pruning_does(name: str, everything: Dataset) -> None:
    row = re.search(rf"^\| `{name}` \| [^|]+ \|(.+)\|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert row is not None
    kind = FORMATS[name]
    holds = [cell.strip() == "yes" for cell in row[1].split("|")]
    assert holds == [getattr(kind, flag) for flag in FLAGS]

    held, lost = prune(everything, name)
    words = " ".join(lost)
    assert ("outlines" in words) is not kind.masks
    assert ("no mark" in words) is not kind.ignore
    assert ("show nothing are left out" in words) is not kind.empty
    assert ("nobody labelled" in words) is not kind.unlabelled
    assert ("belong to" in words) is not kind.parts
    assert ("smallest around" in words) is not kind.many
    assert ("become one" in words) is not kind.classes
    assert len(held) == 6 - (not kind.empty) - (not kind.unlabelled)


def test_several_boxes_become_the_one_around_them(everything: Dataset) -> None:
    held, lost = prune(everything, "kfood")
    photo = by_size(held)[480, 640]
    assert photo.boxes.tolist() == [[0, 0, 480, 640]]
    assert [held.names[label] for label in photo.labels.tolist()] == [everything.names[1]]  # that of the largest
    assert "1 photos with several boxes keep one, the smallest around all of them" in lost
    assert "1 boxes that do not count (difficult, crowd) are left out: it has no mark for them" in lost


@pytest.mark.parametrize("source", [name for name in FORMATS if name != "kfood_corners"])
def test_any_format_becomes_any_other(source: str, everything: Dataset, tmp_path: Path) -> None:
    start, _ = prune(everything, source)
    FORMATS[source].write(start, tmp_path / source)
    for dest in FORMATS:
        wanted, _ = prune(start, dest)
        if dest == "yolo":  # which cannot say that nobody labelled a photo: it is left out
            assert all(photo.labelled for photo in wanted)
        written, _ = foodbox.convert(tmp_path / source, tmp_path / f"{source}-{dest}", to=dest)
        found, findings = formats.read(tmp_path / f"{source}-{dest}", dest)
        assert [str(finding) for finding in findings if finding.harm == "error"] == []
        assert len(found) == len(written) == len(wanted)
        if not FORMATS[dest].classes:
            found = dataclasses.replace(found, names=wanted.names)
        assert_same(found, wanted if FORMATS[source].classes or not FORMATS[dest].classes else _called_food(wanted))


def _called_food(dataset: Dataset) -> Dataset:
    """What comes of a format without classes: all boxes are food."""
    return dataclasses.replace(dataset, names=["food"])


@pytest.mark.parametrize("name", FORMATS)
def test_classes_keep_their_order_or_it_is_said_that_they_do_not(name: str, tmp_path: Path) -> None:
    """And those that no box has, where the format lists its classes."""
    kind = FORMATS[name]
    drawn = [draw_photo(tmp_path / f"{i}.png", (60 + i, 40), [(label, 5, 5, 30, 30)]) for i, label in enumerate((0, 2))]
    held, lost = prune(Dataset(drawn, ["tomato", "never", "apple"]), name)
    if not kind.classes:
        return
    words = " ".join(lost)
    assert ("1 classes that no box has are left out" in words) is not kind.listed
    assert ("2 classes come into the order of the alphabet" in words) is not kind.listed
    kind.write(held, tmp_path / "written")
    found, _ = formats.read(tmp_path / "written", name)
    assert found.names == held.names
    for size, photo in by_size(found).items():
        assert described(photo, found.names) == described(by_size(held)[size], held.names)


def test_the_class_of_the_one_box_around_several_is_said(tmp_path: Path) -> None:
    mixed = draw_photo(tmp_path / "a.png", (60, 40), [(0, 5, 5, 30, 30), (1, 10, 10, 20, 20)])
    held, lost = prune(Dataset([mixed], ["rice", "soup"]), "kfood")
    assert held.names == ["rice"]
    assert "1 photos with boxes of several classes keep the class of the largest" in lost
    assert "1 classes that no box has are left out: it has no list of classes" in lost


def test_classes_that_get_another_name_are_said(tmp_path: Path) -> None:
    drawn = [draw_photo(tmp_path / f"{i}.png", (60 + i, 40), [(i, 5, 5, 30, 30)]) for i in range(2)]
    dataset = Dataset(drawn, ["rice", "soup/stew"])
    held, lost = prune(dataset, "kfood")
    words = "1 classes get a name that a folder can have, such as 'soup/stew', which becomes 'soup_stew'"
    assert lost == [words]
    FORMATS["kfood"].write(held, tmp_path / "kfood")
    assert formats.read(tmp_path / "kfood")[0].names == ["rice", "soup_stew"]
    one = Dataset(drawn[:1], ["rice"])
    assert prune(one, "kfood")[1] == []
    assert prune(one, "starthon")[1] == ["1 class (rice) becomes 'food': it has no names"]
    assert prune(Dataset(drawn[:1], ["food"]), "starthon")[1] == []
