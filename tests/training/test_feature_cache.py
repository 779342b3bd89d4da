"""A frozen backbone is run once over each view; what is kept is what it gave, in memory or on the disk."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import foodbox
from foodbox.data import tables
from foodbox.data.augment import Augmentation
from foodbox.data.formats import FORMATS
from foodbox.data.loader import PhotoLoader, PreparedPhotos, training_loader
from foodbox.detectors.retinanet import LIGHT, RetinaNet, RetinaNetSettings
from foodbox.errors import FoodboxError, UsageError
from foodbox.layers.backbones import Backbone
from foodbox.records import Batch, Dataset, KeptMaps, Preprocessing, SelectiveSearch
from foodbox.training import feature_cache
from foodbox.training.feature_cache import kept_loader
from foodbox.training.run_folder import RunFolder
from foodbox.weights.model_file import read_model
from foodbox.weights.pretrained import embedded
from tests.conftest import draw_photo

SMALL = Preprocessing(size=96)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("tables")
    return Dataset(tables.write_tables(folder, 6, seed=3, workers=1), tables.NAMES)


def detector() -> RetinaNet:
    torch.manual_seed(0)
    return RetinaNet(tables.NAMES, RetinaNetSettings(**{**LIGHT, "preprocessing": SMALL})).eval()


def batches(dataset: Dataset, views: int, disk: bool = False, epochs: int = 1) -> tuple[list[Any], list[Any]]:
    """The batches of some epochs, with pixels and with kept maps."""
    plain = training_loader(dataset.photos, SMALL, Augmentation(), 2, workers=0, seed=1)
    network = detector()
    feature_cache.freeze(network, "backbone")
    kept = kept_loader(network, plain, views, CPU, False, disk)
    found: tuple[list[Any], list[Any]] = [], []
    for epoch in range(epochs):
        plain.batch_sampler.epoch = epoch  # type: ignore[union-attr]
        for into, loader in zip(found, (plain, kept), strict=True):
            into.append(list(loader))
    return found


@pytest.mark.parametrize(("seconds", "views"), [(-1.0, 1), (600.0, 3)])
def test_views_are_no_more_than_the_time_allows(drawn: Dataset, seconds: float, views: int) -> None:
    """Of each photo there is one in any case; epochs take in turn what there is."""
    plain = training_loader(drawn.photos, SMALL, Augmentation(), 2, workers=0, seed=1)
    network = detector()
    feature_cache.freeze(network, "backbone")
    kept = kept_loader(network, plain, 3, CPU, False, False, until=time.monotonic() + seconds).dataset
    assert isinstance(kept, feature_cache.KeptPhotos)
    assert kept.views == views
    assert len(kept) == len(drawn.photos)
    seen = {tuple(float(m.double().sum()) for m in kept[epoch, 0][0]) for epoch in range(6)}
    assert len(seen) == views


def maps_of(batch: Batch) -> list[Tensor]:
    assert isinstance(batch.images, KeptMaps)
    return batch.images.maps


@pytest.mark.parametrize("disk", [False, True])
def test_what_is_kept_is_what_the_backbone_gives(
    drawn: Dataset, disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """To bfloat16, with the targets and frames of the same views."""
    monkeypatch.setenv("FOODBOX_CACHE", str(tmp_path))
    pixels, kept = batches(drawn, views=2, disk=disk, epochs=2)
    assert ("on the disk" if disk else "in memory") in capfd.readouterr().err
    network = detector()
    for plain, ours in zip(itertools.chain(*pixels), itertools.chain(*kept), strict=True):
        assert ours.images.shape == plain.images.shape
        assert ours.frames == plain.frames
        for mine, theirs in zip(ours.targets, plain.targets, strict=True):
            assert torch.equal(mine.boxes, theirs.boxes)
        if len({(frame.input_width, frame.input_height) for frame in plain.frames}) > 1:
            continue  # padded: the ground's maps are no zeros
        with torch.no_grad():
            expected = network.backbone_maps(plain.images)
        for found, right in zip(maps_of(ours), expected, strict=True):
            assert found.dtype == torch.bfloat16
            torch.testing.assert_close(found.float(), right, rtol=2**-7, atol=1e-3)
    assert not list(tmp_path.glob("*.pixels"))


def test_views_take_turns(drawn: Dataset) -> None:
    """Two of them: the third epoch has the first one's, the second one's are others."""
    _, kept = batches(drawn, views=2, epochs=3)
    first, second, third = ({frame.path: frame for batch in epoch for frame in batch.frames} for epoch in kept)
    assert first == third
    assert first != second


def test_photos_of_other_sizes_share_a_batch(drawn: Dataset) -> None:
    """The smaller one's maps have zeros right and below."""
    items = [
        ([torch.ones(2, 4, 3), torch.ones(2, 2, 2)], (32, 24), *rest(drawn), None),
        ([torch.ones(2, 3, 4), torch.ones(2, 2, 2)], (24, 32), *rest(drawn), None),
    ]
    batch = feature_cache.collate(items)
    assert batch.images.shape == (2, 3, 32, 32)
    fine, coarse = maps_of(batch)
    assert fine.shape == (2, 2, 4, 4)
    assert float(fine[0].sum()) == float(fine[1].sum()) == 2 * 12
    assert float(fine[0, :, :, 3].abs().sum()) == float(fine[1, :, 3].abs().sum()) == 0
    assert coarse.shape == (2, 2, 2, 2)


def rest(dataset: Dataset) -> tuple[Any, Any]:
    batch = next(iter(training_loader(dataset.photos, SMALL, None, 1, workers=0, seed=0)))
    return batch.targets[0], batch.frames[0]


def test_the_room_that_maps_need_is_said_beforehand(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Of photos of any shape, the first of them the smallest."""
    sizes = [(300, 20), *[(300, 300)] * 3, (300, 150)]
    drawn = [draw_photo(tmp_path / f"{i}.png", size, []) for i, size in enumerate(sizes)]
    plain = training_loader(drawn, SMALL, Augmentation(), 2, workers=0, seed=1)
    monkey = detector()
    feature_cache.freeze(monkey, "backbone")
    kept = kept_loader(monkey, plain, 3, CPU, False, False).dataset
    size = sum(m.nbytes for maps in kept._maps._maps.values() for m in maps)  # type: ignore[attr-defined]
    assert f"in memory: {size / 2**20:,.1f} MB" in capfd.readouterr().err


def test_no_more_views_are_kept_than_there_are_epochs(drawn: Dataset, tmp_path: Path) -> None:
    FORMATS["voc"].write(drawn, tmp_path / "photos")
    quick: dict[str, Any] = {"workers": 0, "size": 96, "valid_share": 0.34, "batch_size": 2}
    seen: list[int] = []
    forward = Backbone.forward

    def counting(self: Backbone, images: Tensor) -> list[Tensor]:
        seen.append(len(images))
        return forward(self, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backbone, "forward", counting)
        foodbox.train(tmp_path / "photos", runs=tmp_path, freeze="backbone", views=4, epochs=1, **quick)
    assert sum(seen) == 4 + 2  # of the photos to train on and to validate on


def test_a_disk_that_fills_up_under_way_is_said(drawn: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def seek(self, *_: int) -> int:
            return 0

        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_cache.tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(FoodboxError, match=r"Cannot write .*No space left on device"):
        batches(drawn, views=1, disk=True)


def test_a_full_disk_is_said(drawn: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(FoodboxError, match=r"needs .* MB on the disk.*FOODBOX_CACHE.*fewer --views"):
        batches(drawn, views=1, disk=True)


def trained_on_kept_maps(
    part: str, drawn: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Tensor], set[str]]:
    """Five epochs with that part frozen: the backbone as it started, and the names of what moved.

    However many epochs there are, it is run once over each view; and the network learns.
    """
    FORMATS["voc"].write(drawn, folder / "photos")
    seen: list[int] = []
    forward = Backbone.forward

    def counting(self: Backbone, images: Tensor) -> list[Tensor]:
        seen.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Backbone, "forward", counting)
    quick: dict[str, Any] = {"workers": 0, "size": 96, "precision": "float32", "valid_share": 0.34, "batch_size": 2}
    run = foodbox.train(folder / "photos", runs=folder, freeze=part, views=2, epochs=5, **quick)
    assert sum(seen) == 4 * 2 + 2  # four photos in two views, and two to validate on
    losses = [json.loads(line)["losses"] for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert sum(losses[-1].values()) < sum(losses[0].values())
    start, end = embedded().tensors, read_model(run.folder / "last" / "model.safetensors").tensors
    return start, {name for name, tensor in start.items() if not torch.equal(end[name], tensor.to(end[name].dtype))}


def test_a_frozen_backbone_stays(drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start, moved = trained_on_kept_maps("backbone", drawn, tmp_path, monkeypatch)
    assert not moved
    assert len(start) > 200


def test_frozen_up_to_c4_what_lies_behind_it_learns(
    drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, moved = trained_on_kept_maps("C4", drawn, tmp_path, monkeypatch)
    behind = tuple(f"backbone.body.blocks.{i}." for i in (5, 6))
    kernels = {name for name, tensor in start.items() if name.startswith(behind) and tensor.ndim == 4}
    assert moved == kernels
    assert len(kernels) == 3 * 3 + 3


def test_a_backbone_that_cannot_go_on_from_c4_is_named() -> None:
    network = detector()
    network.backbone = Backbone("mobilenetv2_100", expansion=True)
    with pytest.raises(UsageError, match=r"--freeze C4 needs a backbone .*: take --freeze backbone"):
        feature_cache.freeze(network, "C4")


class Brightness(torch.nn.Module):
    """A backbone of one map: the pixels' red."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = torch.nn.Identity()

    def backbone_maps(self, images: Tensor) -> list[Tensor]:
        return [images[:, :1].float()]


def test_each_photo_keeps_its_own_proposals(tmp_path: Path) -> None:
    boxes = [[(0, 8, 10, 40, 50)], [(1, 50, 20, 90, 60)]]
    two = [draw_photo(tmp_path / f"{i}.png", (96, 64), own) for i, own in enumerate(boxes)]
    photos = PreparedPhotos(two, SMALL, None, search=SelectiveSearch(search_size=96))
    kept = feature_cache.keep_maps(Brightness(), photos, 1, 0, CPU, False, False)  # type: ignore[arg-type]
    for i in range(2):
        proposals, own = kept[0, i][4], photos[0, i][3]  # type: ignore[misc]
        assert proposals is not None
        assert torch.equal(proposals[: len(own)], own)


def test_photos_of_all_shapes_keep_the_maps_that_they_have_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photos of another shape would see each other's padding; those of one shape are run together."""
    sizes = [(96, 64), (64, 96), (96, 48), (96, 64)]
    photos = PreparedPhotos(
        [draw_photo(tmp_path / f"{i}.png", s, [(0, 8, 8, 30, 40)]) for i, s in enumerate(sizes)], SMALL, None
    )
    network, together = detector(), []
    backbone_maps = network.backbone_maps

    def counting(images: Tensor) -> list[Tensor]:
        together.append(len(images))
        return backbone_maps(images)

    monkeypatch.setattr(network, "backbone_maps", counting)
    feature_cache.freeze(network, "backbone")
    kept = feature_cache.keep_maps(network, photos, 2, 0, CPU, False, False, until=time.monotonic() - 1)
    assert sorted(together) == [1, 1, 2]  # one view of each, however late it is
    for i in range(len(sizes)):
        alone = next(iter(PhotoLoader(photos, [[(0, i)]], 0)))
        with torch.no_grad():
            expected = backbone_maps(alone.images)
        for found, right in zip(kept[0, i][0], expected, strict=True):
            torch.testing.assert_close(found.float(), right[0], rtol=2**-7, atol=1e-3)


@pytest.mark.parametrize(("more", "place"), [(0, "in memory"), (-1, "on the disk")])
def test_maps_go_to_the_disk_unasked_where_memory_is_too_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], more: int, place: str
) -> None:
    """To the byte: a photo's maps are its input, 96 x 64 values in bfloat16."""
    monkeypatch.setenv("FOODBOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(feature_cache, "MEMORY_BYTES", 96 * 64 * 2 + more)
    photos = PreparedPhotos([draw_photo(tmp_path / "a.png", (96, 64), [])], SMALL, None)
    kept = feature_cache.keep_maps(Brightness(), photos, 1, 0, CPU, False, False)  # type: ignore[arg-type]
    assert f"maps {place}" in capfd.readouterr().err
    assert kept[0, 0][0][0].shape == (1, 64, 96)


def test_a_kept_map_holds_no_others_in_memory() -> None:
    store = feature_cache.MemoryMaps()
    store.put((0, 0), [torch.zeros(8, 4, 3, 3)[0]])
    assert store.get((0, 0))[0].untyped_storage().nbytes() == 4 * 4 * 3 * 3


def test_frozen_up_to_c4_nothing_before_it_learns() -> None:
    """MobileNetV2's blocks 5 and 6 make C5 of C4."""
    network = RetinaNet(["a"], RetinaNetSettings(**LIGHT))
    feature_cache.freeze(network, "C4")
    learning = {name.split(".")[2] for name, tensor in network.backbone.named_parameters() if tensor.requires_grad}
    assert learning == {"5", "6"}


def test_targets_keep_their_masks_in_little_room(drawn: Dataset) -> None:
    """As run lengths: a bitmap of each object takes more than the maps do."""
    plain = training_loader(drawn.photos, SMALL, Augmentation(), 2, workers=0, seed=1, masks=True)
    kept = kept_loader(detector(), plain, 1, CPU, False, False)
    masks = [[target.masks for batch in loader for target in batch.targets] for loader in (kept, plain)]
    assert sum(map(len, masks[1])) > 10
    for mine, theirs in zip(*masks, strict=True):
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine, theirs)
    assert all(target.masks is None for _, target, *_ in kept.dataset._about.values())  # type: ignore[attr-defined]


@pytest.mark.parametrize("ended", [True, False])
def test_a_run_that_has_ended_computes_no_maps(
    drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    FORMATS["voc"].write(drawn, tmp_path / "photos")
    settings: dict[str, Any] = {"freeze": "backbone", "size": 96, "workers": 0, "batch_size": 2, "views": 2}
    run = foodbox.train(tmp_path / "photos", runs=tmp_path, epochs=2, **settings)
    if not ended:  # as if it had been stopped after its first epoch
        folder = RunFolder(run.folder)
        tensors, progress = folder.read_state()
        folder.write_state(tensors, dataclasses.replace(progress, epochs=1))
    seen: list[int] = []
    backbone_maps = RetinaNet.backbone_maps

    def counting(self: RetinaNet, images: Any) -> Any:
        seen.append(0 if isinstance(images, KeptMaps) else len(images))
        return backbone_maps(self, images)

    monkeypatch.setattr(RetinaNet, "backbone_maps", counting)
    foodbox.resume(run.folder)
    assert bool(sum(seen)) == (not ended)
