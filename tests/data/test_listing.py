"""The files below a folder: which are seen, in which order, and what is said where they cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foodbox.data.listing import find_photos, scan
from foodbox.errors import UsageError


def make(folder: Path, *names: str) -> Path:
    """Empty files; photos are known by their endings."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def link(path: Path, target: Path | str) -> None:
    try:
        path.symlink_to(target)
    except OSError:
        pytest.skip("This system makes no links.")


def below(folder: Path, paths: list[Path]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_photos_are_found_by_their_endings(tmp_path: Path) -> None:
    make(tmp_path, "b.JPG", "a/c.jpeg", "a/d.Png", "notes.txt", "a/e.webp", "jpg", "a/f.HEIC", "g.avif")
    (tmp_path / "folder.jpg").mkdir()
    assert below(tmp_path, find_photos(tmp_path)) == ["a/c.jpeg", "a/d.Png", "a/e.webp", "a/f.HEIC", "b.JPG", "g.avif"]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    """Thumbnails, notebooks' copies, and what a Mac leaves on other disks."""
    make(tmp_path, "a.jpg", ".a.jpg", "._a.jpg", ".ipynb_checkpoints/a.jpg", "sub/.thumbnails/x/a.jpg", "sub/.a.xml")
    assert list(scan(tmp_path).files) == [str(tmp_path / "a.jpg")]


def test_what_foodbox_wrote_is_left_out(tmp_path: Path) -> None:
    """Where it is called in the folder of the photos, its runs and pictures come to lie among them."""
    run, found = ("config.yaml", "split.json", "samples.jpg", "last/a.jpg"), ("detections.json", "detections.csv")
    make(tmp_path, "a.jpg", "split.json", *(f"runs/retinanet-1/{name}" for name in run))
    make(
        tmp_path,
        *(f"found/{name}" for name in (*found, "a.jpg")),
        "b/split.json",
        "b/b.jpg",
        "c/detections.csv",
        "c/c.jpg",
    )
    make(tmp_path, *(f"runs/compare-1/{name}" for name in ("compare.json", "split.json", "photos/a.jpg")))
    make(tmp_path, *(f"scores/{name}" for name in ("report.html", "precision_recall.png", "worst.jpg")))
    assert below(tmp_path, find_photos(tmp_path)) == ["a.jpg", "b/b.jpg", "c/c.jpg"]
    assert below(tmp_path, find_photos(tmp_path / "found")) == ["found/a.jpg"]  # as the person says


def test_a_folder_that_is_itself_below_a_hidden_one_is_read(tmp_path: Path) -> None:
    make(tmp_path / ".data" / "photos", "a.jpg")
    assert below(tmp_path, find_photos(tmp_path / ".data" / "photos")) == [".data/photos/a.jpg"]


@given(
    names=st.lists(
        st.tuples(
            st.lists(st.sampled_from(["a", "a b", "a-1", "A", "a1", "b", "점심"]), max_size=2),
            st.sampled_from(["a.jpg", "a-1.jpg", "a 2.jpg", "A.JPG", "b.jpg", "a.b.jpg"]),
        ),
        max_size=8,
    )
)
def test_the_order_is_that_of_the_paths(
    names: list[tuple[list[str], str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A folder "a" comes before a file "a-1.jpg", which as text it would not."""
    folder = make(tmp_path_factory.mktemp("order"), *("/".join([*parts, name]) for parts, name in names))
    found = find_photos(folder)
    assert found == sorted(found)
    assert set(found) == {path for path in folder.rglob("*") if path.is_file()}


def test_size_and_time_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("12345")
    about = (tmp_path / "a.txt").stat()
    assert scan(tmp_path).stamp(tmp_path / "a.txt") == (5, about.st_mtime_ns)
    assert scan(tmp_path).stamp(tmp_path / "b.txt") == (0, 0)


def test_below_the_folder_where_one_is_names_are_as_a_path_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.jpg", "sub/b.jpg", "classes.txt", "sub/classes.txt", "my_classes.txt")
    monkeypatch.chdir(tmp_path)
    listing = scan(Path())
    assert listing.photos == [Path("a.jpg"), Path("sub/b.jpg")]
    assert listing.named("classes.txt") == [Path("classes.txt"), Path("sub/classes.txt")]
    assert listing.ending(".jpg", ".txt") == [
        Path("a.jpg"), Path("classes.txt"), Path("my_classes.txt"), Path("sub/b.jpg"), Path("sub/classes.txt"),
    ]  # fmt: skip
    assert all(photo in listing for photo in listing.photos)
    assert Path("c.jpg") not in listing


# -- Links ----------------------------------------------------------------------------------------------------------


def test_a_link_back_into_the_folder_is_not_followed_for_ever(tmp_path: Path) -> None:
    make(tmp_path, "sub/a.jpg")
    link(tmp_path / "sub" / "up", tmp_path)
    assert below(tmp_path, find_photos(tmp_path)) == ["sub/a.jpg"]


def test_a_folder_that_two_names_lead_to_is_seen_once(tmp_path: Path) -> None:
    make(tmp_path / "photos", "a.jpg")
    link(tmp_path / "again", tmp_path / "photos")
    assert len(find_photos(tmp_path)) == 1


def test_links_to_photos_and_folders_elsewhere_are_followed(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", "deep/a.jpg", "b.jpg")
    (tmp_path / "photos").mkdir()
    link(tmp_path / "photos" / "deep", tmp_path / "elsewhere" / "deep")
    link(tmp_path / "photos" / "c.jpg", tmp_path / "elsewhere" / "b.jpg")
    assert below(tmp_path / "photos", find_photos(tmp_path / "photos")) == ["c.jpg", "deep/a.jpg"]


def test_links_that_lead_nowhere_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    link(tmp_path / "gone.jpg", tmp_path / "nowhere.jpg")
    link(tmp_path / "self.jpg", "self.jpg")
    assert below(tmp_path, find_photos(tmp_path)) == ["a.jpg"]


# -- One label file -------------------------------------------------------------------------------------------------


def test_a_named_label_file_is_the_only_one(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "new.json", "old.json", "b.xml")
    assert below(tmp_path, scan(tmp_path).ending(".json")) == ["new.json", "old.json"]
    listing = scan(tmp_path / "new.json")
    assert (listing.root, listing.label) == (tmp_path, tmp_path / "new.json")
    assert listing.ending(".json", ".xml") == listing.named("new.json", "old.json") == [tmp_path / "new.json"]
    assert listing.ending(".xml") == listing.named("old.json") == []
    assert below(tmp_path, listing.photos) == ["a.jpg"]


def test_the_photos_of_a_label_file_may_lie_beside_its_folder(tmp_path: Path) -> None:
    """As COCO lays them out: annotations/instances.json and images/."""
    make(tmp_path, "images/a.jpg", "annotations/instances.json", "annotations/other.json")
    listing = scan(tmp_path / "annotations" / "instances.json")
    root = tmp_path.resolve()
    assert (listing.root, listing.label) == (root, root / "annotations" / "instances.json")
    assert below(root, listing.photos) == ["images/a.jpg"]
    assert below(root, listing.ending(".json")) == ["annotations/instances.json"]


def test_a_label_file_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.jpg", "labels.csv")
    monkeypatch.chdir(tmp_path)
    listing = scan(Path("labels.csv"))
    assert listing.photos == [Path("a.jpg")]
    assert listing.ending(".csv") == [Path("labels.csv")]


# -- What cannot be read --------------------------------------------------------------------------------------------


def test_what_is_not_there_and_what_is_a_photo_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    with pytest.raises(UsageError, match=r"The folder .*nowhere is not there: .* Check its name\."):
        scan(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"a\.jpg is one photo: expected a folder"):
        scan(tmp_path / "a.jpg")


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Played: who runs the tests may be allowed everything."""
    make(tmp_path, "a.jpg", "locked/b.jpg")
    real = os.scandir

    def scandir(folder: str) -> object:
        if Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied", folder)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UsageError, match=r"The folder .*locked cannot be read \(Permission denied\): give yourself"):
        scan(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
@pytest.mark.parametrize("rights", [0o000, 0o400])
def test_a_folder_without_rights_is_named(rights: int, tmp_path: Path) -> None:
    """Also one whose names may be seen and whose files may not."""
    make(tmp_path, "locked/b.jpg")
    (tmp_path / "locked").chmod(rights)
    try:
        with pytest.raises(UsageError, match=r"The folder .*locked cannot be read"):
            scan(tmp_path)
    finally:
        (tmp_path / "locked").chmod(0o700)
