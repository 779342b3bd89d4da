"""What is remembered of a folder is what reading it anew gives, and nothing that changed is remembered."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from foodbox.data import formats
from foodbox.data.formats import FORMATS, prune, remembered
from foodbox.records import Dataset, Photo


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """However few the photos are."""
    monkeypatch.setattr(remembered, "WORTH_IT", 1)
    monkeypatch.setenv("FOODBOX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "labels"


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever labels are read and not remembered."""
    counted: list[int] = []
    assemble = formats.assemble
    monkeypatch.setattr(formats, "assemble", lambda *args: counted.append(1) or assemble(*args))
    return counted


def described(photo: Photo) -> tuple[object, ...]:
    """A photo with all that is known of it, as plain values."""
    masks = None if photo.masks is None else [[polygon.tolist() for polygon in polygons] for polygons in photo.masks]
    return (
        photo.path, photo.width, photo.height, photo.boxes.tolist(), photo.boxes.dtype, photo.labels.tolist(),
        photo.labels.dtype, masks, photo.ignore.tolist(), [str(source) for source in photo.sources], photo.labelled,
        photo.part, photo.kind, photo.hash,
    )  # fmt: skip


def assert_same(one: Dataset, other: Dataset) -> None:
    assert (one.names, one.format) == (other.names, other.format)
    assert [described(photo) for photo in one] == [described(photo) for photo in other]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_is_remembered_as_it_was_read(
    name: str,
    whole: bool,
    everything: Dataset,
    readings: list[int],
    tmp_path: Path,
) -> None:
    FORMATS[name].write(prune(everything, name)[0], tmp_path / "photos")
    first, found = formats.read(tmp_path / "photos", name, whole)
    second, found_again = formats.read(tmp_path / "photos", name, whole)
    assert_same(first, second)
    assert [(str(f), f.harm, f.kind, f.mend, f.photo) for f in found] == [
        (str(f), f.harm, f.kind, f.mend, f.photo) for f in found_again
    ]
    assert len(readings) == (1 if FORMATS[name].alone else 2)


def starthon(folder: Path) -> Path:
    folder.mkdir()
    for i in range(3):
        Image.new("RGB", (60, 40), (i, 50, 90)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text("1,2,30,20")
    return folder


def later(path: Path) -> None:
    """As if it had been written a second after: two writings in one tick of the clock cannot be told apart."""
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


def test_what_changed_is_read_anew(readings: list[int], tmp_path: Path) -> None:
    folder = starthon(tmp_path / "photos")
    formats.read(folder)
    formats.read(folder)
    assert len(readings) == 1
    (folder / "0.txt").write_text("5,2,30,20")
    later(folder / "0.txt")
    assert formats.read(folder)[0].photos[0].boxes.tolist() == [[5, 2, 35, 22]]
    Image.new("RGB", (80, 50)).save(folder / "1.png")
    later(folder / "1.png")
    assert formats.read(folder)[0].photos[1].width == 80
    shutil.copy(folder / "2.png", folder / "3.png")
    assert len(formats.read(folder)[0]) == 4
    (folder / "2.txt").unlink()
    assert not formats.read(folder)[0].photos[2].labelled
    assert len(readings) == 5


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no time of the last change of any kind.")
def test_labels_that_were_unpacked_with_their_old_times_are_read_anew(readings: list[int], tmp_path: Path) -> None:
    folder = starthon(tmp_path / "photos")
    formats.read(folder)
    before = (folder / "0.txt").stat()
    time.sleep(0.05)  # longer than a tick of the disk's clock
    (folder / "0.txt").write_text("5,2,30,20")
    os.utime(folder / "0.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (folder / "0.txt").stat().st_size == before.st_size
    assert formats.read(folder)[0].photos[0].boxes.tolist() == [[5, 2, 35, 22]]
    assert len(readings) == 2


def test_labels_are_not_remembered_as_read_by_another_version_or_in_another_way(
    readings: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = starthon(tmp_path / "photos")
    formats.read(folder)
    formats.read(folder, whole=True)
    assert len(readings) == 2
    monkeypatch.setattr(remembered, "_code", lambda: "another version")
    formats.read(folder)
    assert len(readings) == 3


def test_what_was_looked_at_whole_is_not_read_again(readings: list[int], tmp_path: Path) -> None:
    """`check` looks at the photos whole, and `train` after it reads no label again."""
    folder = starthon(tmp_path / "photos")
    first, _ = formats.read(folder, None, whole=True)
    second, _ = formats.read(folder, None)
    assert_same(first, second)
    assert len(readings) == 1


def test_a_folder_with_an_error_is_read_anew(readings: list[int], tmp_path: Path) -> None:
    """It may depend on what lies elsewhere: a photo that is looked for, a package that opens it."""
    folder = starthon(tmp_path / "photos")
    (folder / "0.txt").write_text("nothing to read")
    for _ in range(2):
        assert [f.harm for f in formats.read(folder)[1]] == ["error"]
    assert len(readings) == 2


def test_a_folder_that_is_missing_elsewhere_may_come_back(readings: list[int], tmp_path: Path) -> None:
    for place in ("photos/train", "other"):
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (20, 10)).save(tmp_path / place / "a.jpg")
        (tmp_path / place / "a.txt").write_text("0 .5 .5 .5 .5")
    yaml = f"train: train\nval: {tmp_path / 'other'}\nnames: [x]\n"
    (tmp_path / "photos" / "data.yaml").write_text(yaml)
    (tmp_path / "other").rename(tmp_path / "away")
    assert [f.kind for f in formats.read(tmp_path / "photos")[1]] == ["missing folder"]
    (tmp_path / "away").rename(tmp_path / "other")
    dataset, findings = formats.read(tmp_path / "photos")
    assert findings == []
    assert sorted(photo.part for photo in dataset) == ["train", "valid"]


def test_classes_that_are_named_above_the_folder_may_be_changed(readings: list[int], tmp_path: Path) -> None:
    (tmp_path / "train").mkdir(parents=True)
    Image.new("RGB", (20, 10)).save(tmp_path / "train" / "a.jpg")
    (tmp_path / "train" / "a.txt").write_text("0 .5 .5 .5 .5")
    assert formats.read(tmp_path / "train")[0].names == ["0"]
    for name in ("x", "y"):
        (tmp_path / "data.yaml").write_text(f"train: train\nnames: [{name}]\n")
        assert formats.read(tmp_path / "train")[0].names == [name]


def test_a_damaged_file_does_no_harm(kept: Path, readings: list[int], tmp_path: Path) -> None:
    folder = starthon(tmp_path / "photos")
    first, _ = formats.read(folder)
    (file,) = kept.iterdir()
    for content in (b"", file.read_bytes()[:100], b"{}" * 500):
        file.write_bytes(content)
        assert_same(formats.read(folder)[0], first)
    assert len(readings) == 4
    assert_same(formats.read(folder)[0], first)
    assert len(readings) == 4


def test_only_the_latest_folders_are_kept(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "KEPT", 2)
    for i in range(4):
        formats.read(starthon(tmp_path / f"photos{i}"))
    assert len(list(kept.iterdir())) == 2


def test_what_is_remembered_can_be_trained_on(tmp_path: Path) -> None:
    folder = starthon(tmp_path / "photos")
    formats.read(folder)
    photo = formats.read(folder)[0].photos[0]
    assert torch.equal(photo.keep(torch.tensor([False])).boxes, torch.zeros((0, 4)))
