"""What is known of photos, and how it is remembered: looked at once, again when changed, never in the way."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from foodbox.data import facts
from foodbox.data.facts import Facts, look
from tests.data.test_images import heic


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that knows nothing."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FOODBOX_CACHE", str(folder))
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the photos that were opened, one entry each time."""
    names: list[str] = []
    real = facts.open_header

    def counted(path: Path) -> Image.Image:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(facts, "open_header", counted)
    return names


def photo(path: Path, size: tuple[int, int] = (60, 40), turn: int = 1) -> Path:
    """A photo of noise: drawn ones look alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    Image.effect_noise(size, 80).convert("RGB").save(path, exif=exif)
    return path


def test_what_is_known_of_a_photo(tmp_path: Path) -> None:
    upright = photo(tmp_path / "a.jpg", (60, 40), turn=6)
    other = photo(tmp_path / "png.jpg", (30, 20)).rename(tmp_path / "b.png")
    found = look([upright, other])
    assert list(found.values()) == [Facts(40, 60, 6, "JPEG", "", None), Facts(30, 20, 1, "JPEG", "", None)]


def test_a_photo_is_opened_once(tmp_path: Path, opened: list[str]) -> None:
    paths = [photo(tmp_path / name) for name in ("a.jpg", "b.jpg", "sub/c.jpg")]
    first = look(paths)
    assert sorted(opened) == ["a.jpg", "b.jpg", "c.jpg"]
    assert look(paths) == first
    assert look(paths[:1]) == {paths[0]: first[paths[0]]}
    assert look([*paths, *paths]) == first
    assert len(opened) == 3


def test_the_same_file_by_another_path_is_the_same(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = photo(tmp_path / "a.jpg")
    about = look([path])[path]
    monkeypatch.chdir(tmp_path)
    assert look([Path("a.jpg")]) == {Path("a.jpg"): about}
    assert opened == ["a.jpg"]


def test_a_changed_photo_is_opened_again(tmp_path: Path, opened: list[str]) -> None:
    path, other = photo(tmp_path / "a.jpg"), photo(tmp_path / "b.jpg")
    look([path, other])
    photo(path, (90, 50))
    assert look([path, other])[path][:2] == (90, 50)
    assert sorted(opened) == ["a.jpg", "a.jpg", "b.jpg"]
    os.utime(path, ns=(1, 1))  # the same size, another time
    look([path, other])
    assert sorted(opened) == ["a.jpg", "a.jpg", "a.jpg", "b.jpg"]


def test_stamps_that_are_known_need_no_look_at_the_disk(tmp_path: Path, opened: list[str]) -> None:
    path = photo(tmp_path / "a.jpg")
    for stamp, times in (((1, 1), 1), ((1, 1), 1), ((1, 2), 2)):
        look([path], stamp=lambda path, known=stamp: known)
        assert len(opened) == times


def test_a_photo_known_by_its_head_is_read_whole_when_that_is_asked(tmp_path: Path, opened: list[str]) -> None:
    path = photo(tmp_path / "a.jpg")
    assert not look([path])[path].is_known
    whole = look([path], whole=True)[path]
    assert whole.is_known
    assert len(opened) == 2
    assert look([path], whole=True)[path] == whole
    assert look([path])[path] == whole  # and what is known whole is not forgotten
    assert len(opened) == 2


def test_photos_that_look_the_same_have_nearly_the_same_hash(tmp_path: Path) -> None:
    image = Image.effect_noise((8, 8), 100).resize((160, 160), Image.Resampling.BICUBIC).convert("RGB")
    image.save(tmp_path / "a.png")
    image.resize((100, 100)).save(tmp_path / "b.jpg", quality=60)
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "c.png")
    found = look([tmp_path / name for name in ("a.png", "b.jpg", "c.png")], whole=True).values()
    bits = [(about.hash or 0) & (2**64 - 1) for about in found]
    assert (bits[0] ^ bits[1]).bit_count() <= 6
    assert (bits[0] ^ bits[2]).bit_count() > 12


def test_a_broken_photo_is_remembered_with_its_fault(tmp_path: Path, opened: list[str]) -> None:
    path = photo(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:-400])
    no_photo = tmp_path / "b.jpg"
    no_photo.write_text("hello there")
    assert look([path])[path].fault == ""  # its head is whole
    for _ in range(2):
        found = look([path, no_photo], whole=True)
        assert found[path].fault.startswith("the file is a broken photo")
        assert found[no_photo].fault.startswith("the file is no photo")
    assert sorted(opened) == ["a.jpg", "a.jpg", "b.jpg"]


def test_a_remembered_fault_holds_for_every_path_to_the_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photos" / "a.jpg"
    path.parent.mkdir()
    path.write_text("hello there")
    fault = look([path])[path].fault
    monkeypatch.chdir(tmp_path)
    assert look([Path("photos/a.jpg")])[Path("photos/a.jpg")].fault == fault
    assert str(tmp_path) not in fault


@pytest.mark.parametrize("name", ["file", "photo", "e", "."])
def test_a_fault_has_the_same_words_whatever_the_photo_is_called(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it one of them, or a part of one."""
    monkeypatch.chdir(tmp_path)
    whole = photo(tmp_path / "a.jpg").read_bytes()
    path = Path(name)
    if name == ".":
        assert look([path])[path].fault.startswith("the file cannot be opened as a photo (")
        return
    for content, words in ((whole[:-400], "is a broken photo (image file is truncated"), (b"hello", "is no photo, wh")):
        path.write_bytes(content)
        assert look([path], whole=True)[path].fault.startswith(f"the file {words}")


def test_a_missing_photo_is_no_photo_until_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    assert look([path])[path].fault == "the file is missing. Check the name"
    photo(path)
    assert look([path])[path].fault == ""


def test_a_heic_photo_that_could_not_be_opened_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pi-heif may have been installed since then."""
    pytest.importorskip("pi_heif")
    path = heic(tmp_path / "a.heic")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pi_heif", None)
        without.setattr(Image, "ID", [kind for kind in Image.ID if kind != "HEIF"])
        assert "foodbox[heif]" in look([path])[path].fault
    assert look([path])[path] == Facts(32, 16, 1, "HEIF", "", None)


# -- The store ------------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_replaced(tmp_path: Path, cache: Path, opened: list[str]) -> None:
    cache.mkdir()
    (cache / "photos.sqlite").write_bytes(b"no database " * 1000)
    path = photo(tmp_path / "a.jpg")
    for _ in range(2):
        assert look([path])[path][:2] == (60, 40)
    assert opened == ["a.jpg"]


def test_a_database_damaged_inside_is_replaced(tmp_path: Path, cache: Path, opened: list[str]) -> None:
    paths = [photo(tmp_path / f"{'x' * 100}{i}.jpg") for i in range(60)]
    look(paths)
    store = cache / "photos.sqlite"
    content = store.read_bytes()
    store.write_bytes(content[:4096] + bytes(range(256)) * ((len(content) - 4096) // 256))
    for _ in range(3):  # once over the damage, once into the new file, once out of it
        assert len(look(paths)) == 60
    assert 120 <= len(opened) <= 180
    before = len(opened)
    look(paths)
    assert len(opened) == before


def test_another_process_that_writes_is_not_disturbed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = photo(tmp_path / "a.jpg")
    look([path])
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda file: connect(file, timeout=0.01))
    other = connect(cache / "photos.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    about = look([path])[path]
    assert about[:2] == (60, 40)
    other.execute("COMMIT")
    assert other.execute("SELECT width FROM photos2").fetchall() == [(60,)]
    other.close()


@pytest.mark.parametrize("begun", [False, True])
def test_a_cache_that_may_only_be_read_does_no_harm(begun: bool, tmp_path: Path, cache: Path) -> None:
    path, later = photo(tmp_path / "a.jpg"), photo(tmp_path / "b.jpg")
    cache.mkdir()
    if begun:
        look([path])
        (cache / "photos.sqlite").chmod(0o400)
    cache.chmod(0o500)
    try:
        for _ in range(2):
            assert [about[:2] for about in look([path, later]).values()] == [(60, 40)] * 2
    finally:
        cache.chmod(0o700)


def test_a_cache_folder_that_cannot_be_made_does_no_harm(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FOODBOX_CACHE", str(tmp_path / "file" / "cache"))
    path = photo(tmp_path / "a.jpg")
    for _ in range(2):
        assert look([path])[path][:2] == (60, 40)
    assert len(opened) == 2


# -- Many photos ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True])
def test_processes_see_what_threads_see(whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [photo(tmp_path / f"{i}.jpg", (20 + i, 30)) for i in range(6)]
    (tmp_path / "6.jpg").write_text("hello there")
    paths.append(tmp_path / "6.jpg")
    by_threads = look(paths, whole)
    monkeypatch.setenv("FOODBOX_CACHE", str(tmp_path / "another"))
    monkeypatch.setattr(facts, "MANY", 3)
    monkeypatch.setattr(facts, "BATCH", 4)
    done: list[int] = []
    assert look(paths, whole, progress=done.append) == by_threads
    assert done == list(range(8))
    done.clear()
    assert look(paths, whole, progress=done.append) == by_threads
    assert done == [7]


def test_what_ctrl_c_interrupts_is_remembered_up_to_the_last_batch(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [photo(tmp_path / f"{i}.jpg") for i in range(6)]
    monkeypatch.setattr(facts, "BATCH", 2)

    def interrupt(count: int) -> None:
        if count == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look(paths, progress=interrupt)
    opened.clear()
    look(paths)
    assert sorted(opened) == ["4.jpg", "5.jpg"]


def test_no_photos(tmp_path: Path) -> None:
    assert look([]) == {}
