"""Files are written whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from foodbox.errors import FoodboxError, UsageError
from foodbox.files import alone_in, amount, expect_new, make_folder, readable, stamp, write_whole


@pytest.mark.parametrize("content", ["떡볶이\n", b"\x00\xff", "", b""])
def test_what_is_written_is_there(content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_whole(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(path.parent.iterdir()) == [path]


def test_an_older_file_gives_way(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "a long older text")
    write_whole(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_a_write_that_fails_leaves_the_older_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    write_whole(tmp_path / "file", "older")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(FoodboxError, match=r"Cannot write .*file: No space left on device\. Choose a place"):
        write_whole(tmp_path / "file", "newer")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file", "older")]


def test_being_stopped_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", "newer")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights.")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_others_may_read_what_the_person_lets_them(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "file", "x")
    finally:
        found = os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask
    assert found == mask


def test_what_all_threads_share_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask that is read by setting another one is that other one to a second thread, which then keeps it for good."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the process's mask was changed"))
    write_whole(tmp_path / "file", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="names are always Unicode there")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("김치".encode(), "김치"),
        ("김치".encode("cp949"), "김치"),
        (b"caf\xe9", "caf\ufffd"),
        (b"two\r\nlines\n", "two lines "),
    ],
)
def test_names_that_lists_can_hold(name: bytes, text: str) -> None:
    assert readable(os.fsdecode(name)) == text


def test_one_at_a_time_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOODBOX_CACHE", str(tmp_path / "cache"))
    program = "import sys, pathlib; from foodbox.files import alone_in\nwith alone_in(pathlib.Path(sys.argv[1])): pass"
    with alone_in(tmp_path / "run"):
        other = subprocess.run([sys.executable, "-c", program, tmp_path / "run"], capture_output=True, text=True)
        assert "Another foodbox is at work in" in other.stderr
        assert subprocess.run([sys.executable, "-c", program, tmp_path / "else"], check=False).returncode == 0
    assert subprocess.run([sys.executable, "-c", program, tmp_path / "run"], check=False).returncode == 0
    assert not (tmp_path / "run").exists()


def test_without_a_place_for_locks_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("FOODBOX_CACHE", str(tmp_path / "taken"))
    with alone_in(tmp_path), alone_in(tmp_path):  # without a lock nothing keeps the second one out
        (tmp_path / "done").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done", "taken"]


def test_a_folder_to_be_is_no_part_of_what_is_read(tmp_path: Path) -> None:
    for inside in (tmp_path, tmp_path / "new", tmp_path / "a" / ".." / "new"):
        with pytest.raises(UsageError, match="name a folder beside it"):
            expect_new(inside, tmp_path)
    expect_new(tmp_path / "new", tmp_path / "photos")


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(FoodboxError, match=r"Cannot write .*taken"):
        make_folder(tmp_path / "taken" / "below")
    with pytest.raises(FoodboxError, match=r"Cannot write .*taken"):
        write_whole(tmp_path / "taken" / "file", "x")
    assert make_folder(tmp_path / "new" / "folder").is_dir()


def test_a_file_stands_where_a_folder_shall_be_made(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(UsageError, match="is there already"):
        expect_new(tmp_path / "a", tmp_path / "photos")


def test_amounts_in_words() -> None:
    assert [amount(size) for size in (64_300_000, 40_000, 9_812_345_678)] == ["64.3 MB", "0.0 MB", "9.8 GB"]


def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path) -> None:
    """80 Korean letters have 240 bytes, of 255."""
    path = tmp_path / ("떡" * 80 + ".txt")
    write_whole(path, "1,2,3,4")
    assert path.read_text() == "1,2,3,4"
    assert list(tmp_path.iterdir()) == [path]


def test_a_changed_file_has_another_stamp(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert stamp(path) == (0, 0)
    path.write_text("four")
    os.utime(path, ns=(1, 2))
    assert stamp(path) == (4, 2)
