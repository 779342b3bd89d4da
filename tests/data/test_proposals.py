"""Regions by selective search: what OpenCV finds, in an order of ours, kept, and moved with the photo."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from foodbox.data import proposals
from foodbox.data.augment import Augmentation
from foodbox.data.formats import read
from foodbox.data.images import open_photo
from foodbox.data.loader import PreparedPhotos, photo_loader, training_loader
from foodbox.errors import FoodboxError
from foodbox.ops.boxes import iou
from foodbox.records import Dataset, Frame, Photo, Preprocessing, SelectiveSearch
from tests.conftest import draw_photo

cv2 = pytest.importorskip("cv2")
SEARCH = SelectiveSearch(proposals=50, search_size=250)
SMALL = Preprocessing(size=64)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOODBOX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.npy"))


@pytest.fixture
def photo(tmp_path: Path) -> Photo:
    return draw_photo(
        tmp_path / "three.png", (200, 150), [(0, 20, 30, 70, 90), (1, 100, 20, 170, 60), (2, 90, 80, 180, 140)]
    )


# -- The search -----------------------------------------------------------------------------------------------------


def test_the_regions_are_opencvs(photo: Photo) -> None:
    """As a set: OpenCV draws their order anew each time."""
    searching = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    searching.setBaseImage(cv2.imread(str(photo.path)))
    searching.switchToSelectiveSearchFast(50, 50, 0.8)
    theirs = {(x, y, x + w, y + h) for x, y, w, h in searching.process().tolist()}
    ours = proposals.find(open_photo(photo.path), SelectiveSearch())
    assert {tuple(box) for box in ours.int().tolist()} == theirs
    assert len(ours) == len(theirs) > 5


def test_what_is_drawn_is_found(photo: Photo) -> None:
    found = proposals.of_photo(photo, SEARCH)
    assert iou(photo.boxes, found).amax(1).min() > 0.9
    assert found.dtype == torch.float32


def test_colours_are_not_exchanged(tmp_path: Path) -> None:
    """OpenCV takes blue first. A red and a blue that weigh alike in grey are told apart only by their own weights."""
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[:, :40], picture[:, 40:] = (120, 0, 0), (0, 0, 255)
    seen: list[np.ndarray] = []

    class Spy:
        def __getattr__(self, name: str) -> object:
            return (lambda: np.array([[0, 0, 8, 6]])) if name == "process" else (lambda *args: seen.append(args))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cv2.ximgproc.segmentation, "createSelectiveSearchSegmentation", Spy)
        proposals.find(Image.fromarray(picture), SEARCH)
    assert seen[0][0][0, 0].tolist() == [0, 0, 120]


def test_the_order_is_the_same_each_time_and_not_by_size(photo: Photo) -> None:
    picture = open_photo(photo.path)
    first, second = (proposals.find(picture, SEARCH) for _ in range(2))
    assert torch.equal(first, second)
    sizes = (first[:, 2:] - first[:, :2]).prod(1)
    assert not torch.equal(sizes, sizes.sort(descending=True).values)


def test_large_regions_tend_to_come_first() -> None:
    """Uijlings section 3.3: place times a random number. Of a hundred nested squares, the larger half comes first."""
    sides = np.arange(1, 201)
    nested = np.stack((0 * sides, 0 * sides, sides, sides), axis=1)
    order = proposals._order(nested)
    assert sorted(order.tolist()) == list(range(200))
    assert sides[order[:50]].mean() > 130
    assert sides[order[-50:]].mean() < 60


def test_boxes_that_no_region_meets_are_said(photo: Photo, capfd: pytest.CaptureFixture[str]) -> None:
    """Three boxes that are found, then one more, in the middle of nothing."""
    proposals.say_reached([photo], SEARCH)
    assert "The regions meet" not in capfd.readouterr().err
    boxes = torch.cat((photo.boxes, torch.tensor([[0.0, 0, 4, 4]])))
    photo = Photo(photo.path, photo.width, photo.height, boxes, torch.zeros(4, dtype=torch.int64))
    proposals.say_reached([photo], SEARCH)
    words = " ".join(capfd.readouterr().err.split())
    assert "The regions meet 75% of the boxes at IoU 0.5, and what none meets cannot be found: try a" in words


def test_only_so_many_are_given_and_the_first_do_not_depend_on_how_many(photo: Photo) -> None:
    few, many = (proposals.of_photo(photo, SEARCH.model_copy(update={"proposals": n})) for n in (3, 2000))
    assert len(few) == 3
    assert torch.equal(few, many[:3])
    assert len(many.unique(dim=0)) == len(many)


def test_quality_finds_at_least_as_many(photo: Photo) -> None:
    modes = [SelectiveSearch(search_size=150, search_mode=mode) for mode in ("fast", "quality")]  # type: ignore[arg-type]
    fast, quality = (proposals.of_photo(photo, mode) for mode in modes)
    assert {tuple(b) for b in fast.tolist()} <= {tuple(b) for b in quality.tolist()}


def test_a_large_photo_is_searched_small_and_its_regions_are_in_its_own_pixels(tmp_path: Path) -> None:
    photo = draw_photo(tmp_path / "large.jpg", (1600, 1200), [(0, 200, 300, 900, 1000)])
    found = proposals.of_photo(photo, SEARCH)
    assert iou(photo.boxes, found).max() > 0.97
    assert (found <= torch.tensor([1600, 1200] * 2)).all()
    small = found * torch.tensor([250 / 1600, 188 / 1200] * 2)
    torch.testing.assert_close(small, small.round(), rtol=0, atol=1e-3)  # whole pixels of the picture of 250 x 188


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (2, 2), (64, 48)])
def test_a_photo_of_one_colour_has_the_whole_of_it(size: tuple[int, int]) -> None:
    found = proposals.find(Image.new("RGB", size, "red"), SEARCH)
    assert [0, 0, *size] in found.tolist()
    assert ((found[:, 2:] - found[:, :2]) > 0).all()


# -- What is kept ---------------------------------------------------------------------------------------------------


def test_regions_are_kept_and_found_again(photo: Photo, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = proposals.of_photo(photo, SEARCH)
    assert len(files(own_cache)) == 1
    monkeypatch.setattr(proposals, "_search", lambda *args: pytest.fail("searched again"))
    assert torch.equal(proposals.of_photo(photo, SEARCH), found)
    assert torch.equal(proposals.of_photo(photo, SEARCH.model_copy(update={"proposals": 2})), found[:2])


@pytest.mark.parametrize("damage", [b"", b"no array", np.zeros(3).tobytes()])
def test_a_damaged_file_is_made_anew(photo: Photo, own_cache: Path, damage: bytes) -> None:
    found = proposals.of_photo(photo, SEARCH)
    (file,) = files(own_cache)
    whole = file.read_bytes()
    file.write_bytes(damage or whole[: len(whole) // 2])
    assert torch.equal(proposals.of_photo(photo, SEARCH), found)
    assert file.read_bytes() == whole


def test_another_array_is_not_taken_for_regions(photo: Photo, own_cache: Path) -> None:
    found = proposals.of_photo(photo, SEARCH)
    np.save(files(own_cache)[0], np.zeros((5, 3), np.uint16))
    assert torch.equal(proposals.of_photo(photo, SEARCH), found)


def test_a_changed_photo_or_search_is_searched_again(photo: Photo, own_cache: Path) -> None:
    proposals.of_photo(photo, SEARCH)
    proposals.of_photo(photo, SEARCH.model_copy(update={"search_size": 100}))
    proposals.of_photo(photo, SEARCH.model_copy(update={"search_mode": "quality"}))
    os.utime(photo.path, ns=(1, 1))
    proposals.of_photo(photo, SEARCH)
    assert len(files(own_cache)) == 4


def test_a_cache_that_cannot_be_written_only_costs_time(
    photo: Photo, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cache.write_text("a file where the folder should be")
    assert len(proposals.of_photo(photo, SEARCH)) > 3


def test_all_photos_are_done_by_processes_once(
    drawn: Dataset, own_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    proposals.of_photo(drawn.photos[0], SEARCH)
    proposals.prepare_all(drawn.photos, SEARCH)
    assert "regions of 5 photos" in capsys.readouterr().err.replace("\n", " ")
    assert len(files(own_cache)) == 6
    monkeypatch.setattr(proposals, "_search", lambda *args: pytest.fail("searched again"))
    proposals.prepare_all(drawn.photos, SEARCH)
    assert capsys.readouterr().err == ""
    assert all(len(proposals.of_photo(photo, SEARCH)) for photo in drawn)


def test_a_broken_photo_is_named(drawn: Dataset) -> None:
    drawn.photos[3].path.write_bytes(b"no photo")
    with pytest.raises(FoodboxError, match="photo3"):
        proposals.prepare_all(drawn.photos, SEARCH)
    drawn.photos[3].path.unlink()
    with pytest.raises(FoodboxError, match="There is no photo"):
        proposals.of_photo(drawn.photos[3], SEARCH)


@pytest.mark.parametrize("module", ["cv2", "sklearn"])
def test_without_the_libraries_a_sentence_names_the_command(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = proposals.importlib.util.find_spec
    monkeypatch.setattr(proposals.importlib.util, "find_spec", lambda name: None if name == module else known(name))
    with pytest.raises(FoodboxError, match=rf'{module} cannot be imported: pip install "foodbox\[regions\]"\.$'):
        proposals.expect_extra()


def test_an_opencv_without_its_contributed_modules_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["cv2"], "ximgproc", None)
    monkeypatch.delattr(sys.modules["cv2"], "ximgproc")
    with pytest.raises(FoodboxError, match="ximgproc"):
        proposals.expect_extra()


# -- In batches -----------------------------------------------------------------------------------------------------


def test_regions_move_with_the_photo() -> None:
    """By hand: a mirror image of the right half, at twice the size; what is not shown goes, the rest is cut off."""
    frame = Frame(100, 80, 100, 160, left=50, top=0, right=100, bottom=80, mirror=True)
    regions = torch.tensor([[60.0, 10, 80, 30], [0, 0, 40, 80], [40, 20, 60, 40]])
    assert proposals.in_input(regions, frame).tolist() == [[40, 20, 80, 60], [80, 40, 100, 80]]
    assert proposals.in_input(regions[:0], frame).shape == (0, 4)


@pytest.mark.parametrize("augmentation", [None, Augmentation(0.5, (0.7, 1.6), 0)])
def test_a_batch_has_regions_of_its_inputs(drawn: Dataset, augmentation: Augmentation | None) -> None:
    """Each drawn rectangle is still met after cutting, mirroring and padding."""
    loader = training_loader(drawn.photos, SMALL, augmentation, 3, workers=0, seed=0, search=SEARCH)
    for batch in loader:
        assert batch.inputs[1] is batch.proposals
        assert batch.proposals.shape[::2] == (3, 4)
        assert batch.to("cpu").proposals is not None
        for regions, target, frame in zip(batch.proposals, batch.targets, batch.frames, strict=True):
            there = regions[(regions != 0).any(1)]
            assert (there[:, 2:] > there[:, :2]).all()
            assert (there <= torch.tensor([frame.input_width, frame.input_height] * 2)).all()
            assert ((regions != 0).any(1).sort(descending=True).values == (regions != 0).any(1)).all()
            large = (target.boxes[:, 2:] - target.boxes[:, :2]).amin(1) > 12
            assert (iou(target.boxes[large], there).amax(1) > 0.7).all()


def test_workers_find_the_same(drawn: Dataset) -> None:
    one, two = (list(photo_loader(drawn.photos, SMALL, 2, workers, SEARCH)) for workers in (0, 2))
    assert all(torch.equal(a.proposals, b.proposals) for a, b in zip(one, two, strict=True))


def test_without_a_search_there_are_none(drawn: Dataset) -> None:
    batch = next(iter(photo_loader(drawn.photos, SMALL, 2, 0)))
    assert batch.proposals is None
    assert batch.inputs == (batch.images,)
    assert len(PreparedPhotos(drawn.photos, SMALL, None)[0, 0]) == 3


# -- Recall ---------------------------------------------------------------------------------------------------------


def recall(photos: list[Photo], search: SelectiveSearch) -> float:
    """The share of boxes that some region overlaps by half: what a detector of these regions can find at most."""
    best: list[Tensor] = [
        iou(photo.boxes, proposals.of_photo(photo, search)).amax(1) for photo in photos if len(photo.boxes)
    ]
    return float((torch.cat(best) >= 0.5).float().mean())


@pytest.mark.slow
@pytest.mark.parametrize(("count", "least"), [(200, 0.92), (600, 0.97)])
def test_recall_on_photos_of_meals(test_data: Path, count: int, least: float) -> None:
    """The validation photos of cafeteria, with the search of the light presets."""
    photos = read(test_data / "data" / "cafeteria" / "valid", None)[0].photos
    assert recall(photos, SelectiveSearch(proposals=count, search_size=250)) >= least
