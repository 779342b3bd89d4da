"""As many processes open photos as have room to hand them over."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from foodbox.data import shared_memory
from foodbox.data.loader import PreparedPhotos, photo_loader
from foodbox.data.shared_memory import with_room
from foodbox.records import Photo, Preprocessing

BATCHES = [[(0, 0), (0, 1)], [(0, 2)]]
BATCH = 2 * 3 * 64 * 64
"""Bytes of the larger batch."""


@pytest.fixture
def items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreparedPhotos:
    monkeypatch.setattr(shared_memory, "PLACE", tmp_path)
    return PreparedPhotos([Photo(Path(f"{i}.jpg"), 128, 128) for i in range(3)], Preprocessing(size=64), None)


@pytest.mark.parametrize(("batches", "workers"), [(100, 8), (24, 8), (23, 7), (3, 1), (2, 0), (0, 0)])
def test_each_has_room_for_three_batches(
    batches: int,
    workers: int,
    items: PreparedPhotos,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda _: SimpleNamespace(free=batches * BATCH + 5))
    assert with_room(8, items, BATCHES) == workers
    assert ("docker run --shm-size" in capfd.readouterr().err) is (workers < 8)


def test_masks_take_room_too(items: PreparedPhotos, monkeypatch: pytest.MonkeyPatch) -> None:
    items.masks = True
    items.photos[0].boxes = items.photos[0].boxes.new_tensor([[0.0, 0, 9, 9]] * 3)
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda _: SimpleNamespace(free=12 * BATCH))
    assert with_room(8, items, BATCHES) == 2


def test_other_systems_and_no_photos(items: PreparedPhotos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert with_room(4, PreparedPhotos([], Preprocessing(), None), []) == 4
    monkeypatch.setattr(shared_memory, "PLACE", Path("/nowhere"))
    assert with_room(4, items, BATCHES) == 4


def test_a_loader_goes_without_processes_then(items: PreparedPhotos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert photo_loader(items.photos, items.preprocessing, 2, workers=4).num_workers == 0
