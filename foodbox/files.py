"""Files: written whole or not at all; paths, locks, free names, and JSON in any encoding."""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import platformdirs
from filelock import FileLock, Timeout

from foodbox.errors import FoodboxError, UsageError

PathLike = str | Path
Stamp = tuple[int, int]
"""A file's size in bytes and its time in nanoseconds; a changed file has another."""


def as_path(given: object, what: str, otherwise: str = "") -> Path:
    """What a caller gave as the path of something.

    Args:
        what: what it is the path of, for the sentence.
        otherwise: what the sentence says besides, such as where other things than paths are taken.

    Raises:
        UsageError: it is no path, or an empty one, which would be the folder that one is in.
    """
    if isinstance(given, str | os.PathLike) and given != "":
        return Path(given)
    kind = "an empty word" if isinstance(given, str) else type(given).__name__
    raise UsageError(f"{what} is {kind}: expected a path{otherwise}.")


def write_whole(path: Path, content: bytes | str) -> None:
    """Writes a file so that nobody ever sees half of it.

    Text is UTF-8, with the bytes as they are of file names that are none.

    Raises:
        FoodboxError: the place cannot be written to.
    """
    with _whole(path) as file:
        file.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)


def write_sparse(path: Path, size: int) -> None:
    """Writes a sparse file of `size` bytes, zeros until somebody writes, whole or not at all.

    Raises:
        FoodboxError: the place cannot be written to.
    """
    with _whole(path) as file:
        file.truncate(size)


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A neighbour of the file, which takes its name when the block has ended, and goes where it fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not of tempfile, whose files are the owner's alone: what a person writes can be read as their other files can.
        neighbour = path.with_name(f".foodbox.{secrets.token_hex(8)}")
        try:
            with neighbour.open("xb") as file:
                yield file
            neighbour.replace(path)
        except BaseException:
            neighbour.unlink(missing_ok=True)
            raise
    except OSError as fault:
        raise cannot_write(path, fault) from fault


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other foodboxes of this machine out of a folder as long as the block runs.

    The system lets go of the lock when the process ends, however it does.

    Raises:
        UsageError: another one is in it.
    """
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
    lock = FileLock(cache_folder() / "locks" / digest, timeout=0)
    try:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as fault:
        raise UsageError(
            f"Another foodbox is at work in {folder}: wait until it ends, or give another --name."
        ) from fault
    except OSError:  # no place for locks: that is no reason not to work
        pass
    try:
        yield
    finally:
        lock.release()


def make_folder(path: Path) -> Path:
    """Makes a folder and those above it, or says in one sentence why that cannot be.

    Raises:
        FoodboxError: the place cannot be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as fault:
        raise FoodboxError(
            f"Cannot write {path}: a file is where the folder should be. Choose another place."
        ) from fault
    except OSError as fault:
        raise cannot_write(path, fault) from fault
    return path


def cache_folder() -> Path:
    """Where is kept what saves time and may be deleted: FOODBOX_CACHE, or the system's place for it."""
    return Path(os.environ.get("FOODBOX_CACHE") or platformdirs.user_cache_path("foodbox"))


def expect_new(path: Path, source: Path) -> None:
    """Looks that nothing is where a folder shall be made, and that it will be no part of what is read.

    Raises:
        UsageError: there is something, or it is within the folder `source`.
    """
    if path.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{path} would lie in {source} and be read with it the next time: name a folder beside it.")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path} is there already and not empty: name a new folder, so that nothing is overwritten.")


def stamp(path: Path) -> Stamp:
    """A file's size and time; (0, 0) where it is not there."""
    try:
        about = path.stat()
    except OSError:
        return (0, 0)
    return about.st_size, about.st_mtime_ns


def free_name(stem: str, taken: set[str]) -> str:
    """The name, or the name and a number where another has it already, whatever its capitals; then it is taken."""
    name, number = stem, 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.casefold())
    return name


def as_json(content: Any, indent: int | None = None, encoding: str = "utf-8") -> str:
    """Content as JSON, letters as they are; escaped where the encoding lacks one, or a file's name is no UTF-8."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=indent)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(content, allow_nan=False, indent=indent)
    return text


def readable(name: str) -> str:
    """A file's name as text that every list of names can hold.

    On Linux a name may be no UTF-8: it is read as CP949, which old Korean archives have. Line breaks become blanks.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        name = os.fsencode(name).decode("cp949", "replace")
    return re.sub(r"[\r\n]+", " ", name)


def cannot_write(path: Path, fault: OSError) -> FoodboxError:
    """The sentence for a place that cannot be written to."""
    return FoodboxError(
        f"Cannot write {path}: {fault.strerror or fault}. Choose a place that you may write to and that has room."
    )


def amount(size: float) -> str:
    """Bytes in words, such as "64.3 MB"."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
