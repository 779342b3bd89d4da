"""Decoded photos kept in memory, on disk or not at all: the same items, decoded as seldom as may be."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from foodbox.data import loader as loader_module
from foodbox.data.augment import Augmentation
from foodbox.data.disk_cache import CRC_BYTES, DiskCache, SharedCache
from foodbox.data.loader import MemoryCache, training_loader
from foodbox.errors import FoodboxError
from foodbox.records import Batch, Dataset, Photo, Preprocessing, Window

SMALL = Preprocessing(size=64)
KINDS: list[Literal["memory", "disk", "none"]] = ["memory", "disk", "none"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, empty."""
    monkeypatch.setenv("FOODBOX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every photo that this process decodes from now on."""
    found: list[Path] = []
    original = loader_module.open_photo

    def counting(path: Path, at_least: tuple[int, int] | None = None) -> Any:
        found.append(path)
        return original(path, at_least)

    monkeypatch.setattr(loader_module, "open_photo", counting)
    return found


def run(dataset: Dataset, cache: Literal["memory", "disk", "none"], workers: int = 0, epochs: int = 2) -> list[Batch]:
    loader = training_loader(dataset.photos, SMALL, Augmentation(), 2, workers, seed=1, cache=cache)
    batches = []
    for epoch in range(epochs):
        loader.batch_sampler.epoch = epoch  # type: ignore[union-attr]
        batches += list(loader)
    return batches


def assert_alike(some: list[Batch], others: list[Batch]) -> None:
    for one, other in zip(some, others, strict=True):
        assert torch.equal(one.images, other.images)
        assert one.frames == other.frames
        for mine, theirs in zip(one.targets, other.targets, strict=True):
            assert torch.equal(mine.boxes, theirs.boxes)


def stored(folder: Path) -> Path:
    """The only file in the cache folder."""
    (file,) = folder.iterdir()
    return file


# -- Each kind ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", KINDS)
def test_batches_are_the_same_wherever_photos_are_kept(
    drawn: Dataset, cache: Literal["memory", "disk", "none"]
) -> None:
    assert_alike(run(drawn, cache), run(drawn, "none"))
    assert_alike(run(drawn, cache), run(drawn, "none"))  # the second time from what the first one left


@pytest.mark.parametrize(("cache", "expected"), [("memory", 6), ("disk", 6), ("none", 18)])
def test_a_photo_is_decoded_once_where_it_is_kept(
    drawn: Dataset, cache: Literal["memory", "disk", "none"], expected: int, decoded: list[Path], folder: Path
) -> None:
    run(drawn, cache, epochs=3)
    assert len(decoded) == expected
    assert folder.exists() is (cache == "disk")


def test_memory_is_bounded() -> None:
    cache = MemoryCache(250)
    for index in range(4):
        cache.put(index, torch.full((3, 5, 7), index, dtype=torch.uint8))  # 105 bytes
    found = [cache.get(index) for index in range(4)]
    assert [pixels is None for pixels in found] == [False, False, True, True]
    assert found[1] is not None
    assert found[1].unique().tolist() == [1]


# -- Shared by workers -----------------------------------------------------------------------------------------------


def test_workers_find_what_the_others_decoded(drawn: Dataset, folder: Path) -> None:
    """After one epoch nobody needs to decode anything, whoever gets which photo; then the file is gone."""
    loader = training_loader(drawn.photos, SMALL, Augmentation(), 1, workers=2, seed=1)
    batches = list(loader)
    cache = loader.dataset.cache  # type: ignore[attr-defined]
    assert all(cache.get(i) is not None for i in range(len(drawn)))
    assert_alike(batches, list(training_loader(drawn.photos, SMALL, Augmentation(), 1, workers=0, seed=1)))
    path = cache.path
    assert path.exists()
    del loader, cache
    gc.collect()
    assert not path.exists()
    assert not folder.exists()


def test_what_workers_share_is_bounded() -> None:
    cache = SharedCache([(7, 5)] * 4, 250)
    for index in reversed(range(4)):
        cache.put(index, torch.full((3, 5, 7), index, dtype=torch.uint8))  # 105 bytes
    found = [cache.get(index) for index in range(4)]
    assert [pixels is None for pixels in found] == [False, False, True, True]
    assert found[1] is not None
    assert found[1].unique().tolist() == [1]


def test_a_worker_that_is_started_afresh_leaves_the_shared_file() -> None:
    cache = SharedCache([(7, 5)], 250)
    again = pickle.loads(pickle.dumps(cache))
    again.put(0, torch.zeros(3, 5, 7, dtype=torch.uint8))
    del again
    gc.collect()
    assert cache.get(0) is not None


# -- On the disk ----------------------------------------------------------------------------------------------------


def test_a_later_run_decodes_nothing(drawn: Dataset, decoded: list[Path], folder: Path) -> None:
    first = run(drawn, "disk")
    assert len(decoded) == len(drawn)
    size = stored(folder).stat().st_size
    assert_alike(run(drawn, "disk"), first)
    assert len(decoded) == len(drawn)
    assert stored(folder).stat().st_size == size


def test_processes_share_the_file(drawn: Dataset, decoded: list[Path], folder: Path) -> None:
    """Two workers fill it; this process then finds everything there, and they what this one wrote."""
    first = run(drawn, "disk", workers=2)
    assert_alike(run(drawn, "disk"), first)
    assert decoded == []
    assert_alike(run(drawn, "disk", workers=2), first)


def test_a_worker_that_is_started_afresh_finds_it(tmp_path: Path) -> None:
    """What spawn and forkserver send to it is the way to the file and not what is in it."""
    photo = tmp_path / "photo"
    photo.write_bytes(b"x")
    cache = DiskCache([Photo(photo, 200, 100)] * 100, [(200, 100)] * 100)
    pixels = torch.randint(256, (3, 100, 200), dtype=torch.uint8)
    cache.put(99, pixels)
    sent = pickle.dumps(cache)
    assert len(sent) < 10_000
    again = pickle.loads(sent)
    assert torch.equal(again.get(99), pixels)
    assert again.get(0) is None


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def half(file: Path, _: int) -> None:
    """As if the process had ended in the middle of the file's only photo."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


@pytest.mark.parametrize(("damage", "place"), [(flip, 0), (flip, 1000), (flip, -1), (flip, -CRC_BYTES), (half, 0)])
def test_damage_is_noticed(
    damage: Callable[[Path, int], None], place: int, drawn: Dataset, decoded: list[Path], folder: Path
) -> None:
    one = drawn.with_photos(drawn.photos[:1])
    first = run(one, "disk")
    damage(stored(folder), place)
    assert_alike(run(one, "disk"), first)
    assert len(decoded) == 2
    assert_alike(run(one, "disk"), first)
    assert len(decoded) == 2, "decoded again, it was not kept"


@pytest.mark.parametrize("size", [0, 10_000, 10**6])
def test_a_file_of_another_size_is_made_anew(size: int, drawn: Dataset, decoded: list[Path], folder: Path) -> None:
    first = run(drawn, "disk")
    whole = stored(folder).stat().st_size
    os.truncate(stored(folder), size)
    assert_alike(run(drawn, "disk"), first)
    assert stored(folder).stat().st_size == whole
    assert len(decoded) == 2 * len(drawn)


def test_a_file_cut_short_or_deleted_under_way_ends_no_run(drawn: Dataset, folder: Path) -> None:
    expected = run(drawn, "none", epochs=3)
    loader = training_loader(drawn.photos, SMALL, Augmentation(), 2, 0, seed=1, cache="disk")
    batches = list(loader)
    os.truncate(stored(folder), 10_000)
    loader.batch_sampler.epoch = 1  # type: ignore[union-attr]
    batches += list(loader)
    stored(folder).unlink()
    loader.batch_sampler.epoch = 2  # type: ignore[union-attr]
    batches += list(loader)
    assert_alike(batches, expected)


def test_a_disk_that_fills_up_under_way_ends_no_run(
    drawn: Dataset, monkeypatch: pytest.MonkeyPatch, decoded: list[Path]
) -> None:
    expected = run(drawn, "none")
    decoded.clear()
    original = Path.open

    def opening(self: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if self.suffix == ".pixels":
            raise OSError(28, "No space left on device")
        return original(self, mode, *arguments, **named)

    monkeypatch.setattr(Path, "open", opening)
    assert_alike(run(drawn, "disk"), expected)
    assert len(decoded) == 2 * len(drawn)


def test_a_changed_photo_has_another_file(drawn: Dataset, folder: Path) -> None:
    run(drawn, "disk")
    photo = drawn.photos[2].path
    os.utime(photo, ns=(0, photo.stat().st_mtime_ns + 1_000_000_000))
    run(drawn, "disk")
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"photos": []},
        {"photos": ["b", "a"]},
        {"sizes": [(10, 6), (4, 8)]},
        {"antialias": False},
        {"window": Window(0, 8, 30, 30)},
    ],
)
def test_what_has_another_file(change: dict[str, Any], tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"x")
    plain: dict[str, Any] = {"photos": ["a", "b"], "sizes": [(10, 6), (4, 7)], "antialias": True}
    plain |= {"window": Window(0, 0, 30, 30)}

    def file(photos: list[str], sizes: list[tuple[int, int]], antialias: bool, window: Window) -> Path:
        tiles = [Photo(tmp_path / name, 20, 20, window=window) for name in photos]
        return DiskCache(tiles, sizes[: len(photos)], antialias).path

    assert file(**plain) == file(**plain)
    assert file(**plain | change) != file(**plain)


def test_the_name_is_the_same_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"x")
    there = DiskCache([Photo(tmp_path / "a", 1, 1)], [(1, 1)]).path
    monkeypatch.chdir(tmp_path)
    assert DiskCache([Photo(Path("a"), 1, 1)], [(1, 1)]).path == there


# -- Words ----------------------------------------------------------------------------------------------------------


def test_it_says_how_large_the_file_gets(drawn: Dataset, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    training_loader(drawn.photos, SMALL, Augmentation(), 2, 0, seed=1, cache="disk")
    told = capfd.readouterr().err
    assert told == f"Keeping 6 decoded photos on disk: 0.1 MB in {stored(folder)}, which you may delete.\n"


def test_too_little_room_in_a_sentence(drawn: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 40_000))  # type: ignore[attr-defined]
    with pytest.raises(
        FoodboxError, match=r"^Keeping 6 .* needs 0\.1 MB, and .*cache has 0\.0 MB left: .*--cache memory"
    ):
        training_loader(drawn.photos, SMALL, Augmentation(), 2, 0, seed=1, cache="disk")
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="There the file has all of its room from the start.")
def test_only_what_is_not_there_yet_needs_room(drawn: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(drawn, "disk")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 0))  # type: ignore[attr-defined]
    assert_alike(run(drawn, "disk"), first)


def test_a_folder_that_cannot_be(drawn: Dataset, folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(FoodboxError, match=r"Cannot write .*cache"):
        run(drawn, "disk")


def test_a_photo_that_has_gone(drawn: Dataset) -> None:
    drawn.photos[0].path.unlink()
    with pytest.raises(FoodboxError, match=r"There is no photo .*photo0\.png any more"):
        run(drawn, "disk")
