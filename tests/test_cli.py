"""The program as a person calls it: what it prints, what it leaves, and how it says that a call is wrong."""

import errno
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import foodbox
import foodbox.training.fit as fit_module
from foodbox.cli import main
from foodbox.console import say
from foodbox.data import formats, tables
from foodbox.data.formats import FORMATS
from foodbox.detectors import DETECTORS
from foodbox.detectors.retinanet import LIGHT, RetinaNet, RetinaNetSettings
from foodbox.errors import FoodboxError
from foodbox.records import Dataset
from foodbox.weights.model_file import save_model

QUICK = ["--epochs", "1", "--batch-size", "2", "--workers", "0", "--size", "96", "--precision", "float32"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn tables as a Pascal VOC folder."""
    folder = tmp_path_factory.mktemp("tables")
    drawn = tables.write_tables(folder, 6, seed=7, workers=1)
    FORMATS["voc"].write(Dataset(drawn, tables.NAMES), folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained detector as a model file: enough for calls that do not ask how good it is."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    torch.manual_seed(0)
    save_model(path, RetinaNet(tables.NAMES, RetinaNetSettings(**LIGHT)), {})
    return path


def call(*words: object) -> int:
    """The exit code of a call within this process."""
    with pytest.raises(SystemExit) as ending:
        main([str(word) for word in words])
    return int(ending.value.code or 0)


@pytest.mark.parametrize(
    "use_up",
    [
        lambda: torch.empty(10**16),
        lambda: np.empty(10**16),
        lambda: next(iter(DataLoader(KillsItself(), num_workers=1))),  # type: ignore[arg-type]
    ],
    ids=["torch", "numpy", "a process that opens photos"],
)
def test_a_lack_of_memory_is_one_sentence(
    use_up: Callable[[], object], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(foodbox, "demo", lambda *_, **__: use_up())
    assert call("demo") == 1
    told = capfd.readouterr().err
    assert re.fullmatch(r"foodbox: [^\n]+--batch-size[^\n]+\.\n", told), told


class KillsItself:
    """Photos of which the first ends the process that opens it, as a system short of memory does."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, i: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_another_fault_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is our own mistake says where it is."""

    def wrong(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(foodbox, "demo", wrong)
    with pytest.raises(RuntimeError, match="a mistake"):
        main(["demo"])


# -- Right calls ------------------------------------------------------------------------------------------------------


def test_train_evaluate_detect(photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One person's way through the program, each step reading what the last left; only JSON on standard output."""
    assert call("train", photos, *QUICK, "--runs", tmp_path, "--name", "first", "--one-class", "food", "--json") == 0
    run = json.loads(capfd.readouterr().out)
    folder = tmp_path / "first"
    assert run["run"] == str(folder)
    assert {"ap", "ap50", "ap75", "recall", "mean_iou", "f1", "threshold", "per_class", "seconds", "model"} <= set(run)
    assert {p.name for p in folder.iterdir()} >= {
        "config.yaml", "split.json", "log.jsonl", "curves.png", "samples.jpg", "best.safetensors", "last", "report.html"
    }  # fmt: skip
    split = json.loads((folder / "split.json").read_text())
    assert len(split["train"]) == 5
    assert len(split["valid"]) == 1
    assert not set(split["train"]) & set(split["valid"])

    predictions = tmp_path / "predictions.txt"
    assert call("evaluate", run["model"], photos, "--json", "--starthon-file", predictions) == 0
    scores = json.loads(capfd.readouterr().out)
    assert scores["photos"] == 6
    assert scores["threshold"] == run["threshold"]  # the model's, though these photos may have a better one
    assert list(scores["per_class"]) == ["food"]  # folded as in training, without asking
    assert len(predictions.read_text().splitlines()) == 6

    out = tmp_path / "found"
    assert call("detect", run["model"], photos / "images", "--out", out, "--min-score", "0", "--crop", "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert [set(photo) for photo in found] == [{"path", "width", "height", "detections"}] * 6
    assert {"box", "score", "label"} == set(found[0]["detections"][0])
    tables = json.loads((out / "detections.json").read_text())
    assert all((out / photo.pop("picture")).exists() for photo in tables)
    assert all((out / row.pop("crop")).exists() for photo in tables for row in photo["detections"])
    assert tables == found
    assert len(list(out.glob("*.jpg"))) == 6
    assert len(list((out / "crops").glob("*.jpg"))) == sum(len(photo["detections"]) for photo in found)

    direct = foodbox.load(run["model"]).detect(found[0]["path"], min_score=0)
    assert direct.labels.tolist() == [0] * len(direct)
    assert len(direct) == len(found[0]["detections"])


def test_a_photo_that_cannot_be_opened_keeps_its_line_in_the_contests_file(
    model: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Else all lines below it would be of other photos. One whose label is at fault has its line, too."""
    shutil.copytree(photos, tmp_path / "p")
    first, second, third, *_ = sorted((tmp_path / "p" / "images").glob("*.jpg"))
    assert call("evaluate", model, tmp_path / "p", "--starthon-file", tmp_path / "whole.txt") == 0
    lines = (tmp_path / "whole.txt").read_text().splitlines()
    first.write_bytes(b"no photo")  # seen by its head
    second.write_bytes(second.read_bytes()[:2000])  # seen when it is read to its end
    (tmp_path / "p" / "annotations" / f"{third.stem}.xml").write_text("<annotation>")
    capfd.readouterr()
    assert call("evaluate", model, tmp_path / "p", "--skip-bad", "--starthon-file", tmp_path / "some.txt") == 0
    said = capfd.readouterr().err
    assert "6 lines" in said
    assert f"Among them 0,0,1,1 for 2 photos that cannot be opened, such as {first}." in said
    blank = "0.00000000,0.00000000,1.00000000,1.00000000"
    assert (tmp_path / "some.txt").read_text().splitlines() == [blank, blank, *lines[2:]]


def test_a_stopped_run_says_how_to_go_on_and_so_does_one_whose_disk_is_full(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In the second epoch, when the first is kept. Exit code 130, as shells give for Ctrl-C."""
    count, scored = [0], fit_module.score

    def ending(fault: BaseException) -> Callable[..., object]:
        def score(*arguments: Any) -> object:
            count[0] += 1
            if count[0] == 2:
                raise fault
            return scored(*arguments)

        return score

    words = ["train", photos, "--runs", tmp_path, *QUICK, "--epochs", "2", "--backbone-rate", "0"]
    monkeypatch.setattr(fit_module, "score", ending(KeyboardInterrupt()))
    assert call(*words, "--name", "one") == 130
    assert f"Go on with it: foodbox train --resume {tmp_path / 'one'}." in capfd.readouterr().err
    full = FoodboxError("Cannot write x: No space left on device.")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    count[0] = 0
    monkeypatch.setattr(fit_module, "score", ending(full))
    assert call(*words, "--name", "two") == 1
    said = f"No space left on device. Then go on with foodbox train --resume {tmp_path / 'two'}."
    assert said in capfd.readouterr().err

    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "two" / "config.yaml").write_text(
        (tmp_path / "two" / "config.yaml").read_text().replace(str(photos), str(tmp_path / "photos"))
    )
    (tmp_path / "two" / "split.json").write_text(
        (tmp_path / "two" / "split.json").read_text().replace(str(photos), str(tmp_path / "photos"))
    )
    for label in (tmp_path / "photos" / "annotations").glob("*.xml"):
        label.write_text(label.read_text().replace(f"<name>{tables.NAMES[0]}<", "<name>zz<"))
    assert call("train", "--resume", tmp_path / "two") == 1
    asked = r"The classes zz are not among .*two: name those of its photos as they were, or start a new run"
    assert re.search(asked, capfd.readouterr().err)


def test_words_without_json(model: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate", model, photos) == 0
    out = capfd.readouterr().out
    assert "COCO AP50" in out
    assert "AI Starthon" in out
    assert "boxes are missed by the detections over 0.3" in out
    assert "F1 of detections over 0.3 " in out
    assert call("detect", model, photos, "--out", tmp_path) == 0
    assert "0 found on 0 of 6 photos over 0.3:" in capfd.readouterr().out
    assert call("detect", model, photos, "--out", tmp_path, "--min-score", "1") == 0
    assert "0 found on 0 of 6 photos over 1" in capfd.readouterr().out


def test_evaluate_writes_a_page_with_its_pictures(
    model: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call("evaluate", model, photos, "--out", tmp_path / "scores") == 0
    assert f"report  {tmp_path / 'scores' / 'report.html'}" in capfd.readouterr().out
    files = {path.name for path in (tmp_path / "scores").iterdir()}
    assert files == {"report.html", "samples.jpg", "precision_recall.png", "confusion.png", "worst.jpg"}
    page = (tmp_path / "scores" / "report.html").read_text(encoding="utf-8")
    assert page.count("<img src=") == 4
    assert all(f"<td>{name}</td>" in page for name in tables.NAMES)
    assert call("evaluate", model, photos, "--out", model) == 1
    assert "Cannot write" in capfd.readouterr().err
    (tmp_path / "config.yaml").write_text("train: {}")
    assert call("evaluate", model, photos, "--out", tmp_path) == 2
    assert f"{tmp_path} is a run folder" in capfd.readouterr().err
    assert call("evaluate", model, photos, "--out", photos / "images") == 2
    assert "lies in the folder that pictures are written to" in capfd.readouterr().err


def test_check_says_where_and_its_code_whether_all_can_be_trained_on(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Warnings alone are no failure; an error is, and stays one with --json."""
    assert call("check", photos, "--out", tmp_path / "out") == 0
    words = capfd.readouterr().out
    assert words.startswith("6 photos, ")
    assert "part" not in words
    assert "warning: rare class" in words
    assert "boxes are reached by an anchor of retinanet (light)" in words
    assert f"report  {tmp_path / 'out' / 'report.html'}" in words
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!")

    place = Place(tmp_path, photos, photos)
    faulty = place.with_label(place.first_corner("xmax"), "<xmax>9999</xmax>")
    assert call("check", faulty, "--out", tmp_path / "out", "--json") == 1
    captured = capfd.readouterr()
    report = json.loads(captured.out)
    assert set(report) == {"format", "photos", "boxes", "parts", "classes", "anchors", "findings"}
    assert (report["format"], report["photos"]) == ("voc", 6)
    first = report["findings"][0]
    assert (first["harm"], first["kind"]) == ("error", "box outside the photo")
    assert Path(first["file"]) == sorted(faulty.rglob("*.xml"))[0]
    assert first["line"] > 1
    assert {"boxes", "photos"} == set(next(iter(report["classes"].values())))
    assert "read as Pascal VOC" in captured.err


def test_check_says_which_parts_there_are(photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for i, label in enumerate(sorted(photos.rglob("*.xml"))):
        folder = tmp_path / "parted" / ("train" if i else "val")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(label, folder)
        shutil.copy(next(photo for photo in photos.rglob(f"{label.stem}.*") if photo != label), folder)
    call("check", tmp_path / "parted", "--out", tmp_path / "out")
    assert "photos by part: train 5, valid 1\n" in capfd.readouterr().out


def test_check_prints_a_few_findings_of_a_kind_and_counts_the_rest(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for xml in sorted(photos.rglob("*.xml")):
        xml_to = tmp_path / "some" / xml.name
        xml_to.parent.mkdir(exist_ok=True)
        xml_to.write_text("<annotation>")
    for photo in photos.rglob("*.jpg"):
        (tmp_path / "some" / photo.name).write_bytes(photo.read_bytes())
    assert call("check", tmp_path / "some", "--out", tmp_path / "out") == 1
    words = capfd.readouterr().out
    assert "error: unreadable label (6)" in words
    assert words.count("no whole XML") == 5
    assert "... and 1 more" in words
    assert "anchor" not in words  # there is no box to hold them against


def test_check_mends_into_a_new_folder(photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = Place(tmp_path, photos, photos)
    faulty = place.with_label(place.first_corner("xmax"), "<xmax>9999</xmax>")
    before = {path: path.read_bytes() for path in faulty.rglob("*") if path.is_file()}
    out, mended = tmp_path / "out", tmp_path / "mended"
    assert call("check", faulty, "--out", out, "--fix", mended, "--json") == 1  # what was found, not what is left
    captured = capfd.readouterr()
    assert isinstance(json.loads(captured.out), dict)
    assert f"Wrote {mended}: 5 photos" in captured.err
    assert "box outside the photo" not in (mended / "changes.md").read_text()
    assert "lies outside the photo" in (mended / "changes.md").read_text()
    assert {path: path.read_bytes() for path in faulty.rglob("*") if path.is_file()} == before
    assert call("check", mended, "--out", out) == 0


def test_convert_there_and_back(photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    there, back = tmp_path / "csv", tmp_path / "voc"
    assert call("convert", photos, there, "--to", "csv", "--json") == 0
    captured = capfd.readouterr()
    about = json.loads(captured.out)
    assert {"folder": str(there), "format": "csv", "photos": 6, "lost": []}.items() <= about.items()
    assert about["classes"] == sorted(tables.NAMES)
    assert "read as Pascal VOC" in captured.err
    assert call("convert", there, back, "--to", "voc") == 0
    assert capfd.readouterr().out == f"{back}: 6 photos, {about['boxes']} boxes, {len(about['classes'])} classes\n"
    first, second = (
        {photo.path.name: photo.boxes.tolist() for photo in formats.read(folder)[0]} for folder in (photos, back)
    )
    assert first == second


def test_convert_says_what_the_format_cannot_hold(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call("convert", photos, tmp_path / "there", "--to", "starthon", "--json") == 0
    captured = capfd.readouterr()
    about = json.loads(captured.out)
    assert (about["photos"], about["boxes"]) == (6, 6)
    assert any("photos with several boxes keep one" in words for words in about["lost"])
    told = " ".join(captured.err.split())
    assert all(f"AI Starthon: {words}." in told for words in about["lost"])


def test_convert_leaves_faulty_photos_out_where_that_is_asked_for(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path, photos, photos)
    faulty = place.with_label(place.first_corner("xmax"), "<xmax>9999</xmax>")
    assert call("convert", faulty, tmp_path / "there", "--to", "coco", "--skip-bad", "--json") == 0
    captured = capfd.readouterr()
    assert json.loads(captured.out)["photos"] == 5
    assert "Left out because of 1 fault" in captured.err


def test_evaluate_a_part(photos: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The part to validate on where the labels name one, else what is asked for."""
    place = Place(tmp_path, photos, model)
    names = sorted(path.stem for path in photos.rglob("*.jpg"))

    def name_parts(folder: Path) -> None:
        (folder / "ImageSets" / "Main").mkdir(parents=True)
        for part, some in (("train", names[:3]), ("val", names[3:5]), ("test", names[5:])):
            (folder / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(some))

    folder = place.spoilt(name_parts)
    for flags, count in (([], 2), (["--part", "test"], 1), (["--part", "all"], 6), (["--part", "train"], 3)):
        assert call("evaluate", model, folder, "--json", *flags) == 0
        assert json.loads(capfd.readouterr().out)["photos"] == count


@pytest.mark.parametrize(
    "command",
    [[], ["demo"], ["check"], ["convert"], ["train"], ["compare"], ["evaluate"], ["detect"], ["export"], ["serve"]],
)
def test_help(command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert call(*command, "--help") == 0
    words = capfd.readouterr().out
    assert "usage: foodbox" in words
    if not command:
        listed = re.findall(r"• (\w+) ", words)
        assert listed == ["demo", "check", "convert", "train", "compare", "evaluate", "detect", "export", "serve"]


def test_the_version_is_that_of_the_installed_package(capfd: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capfd.readouterr().out == f"foodbox {importlib.metadata.version('foodbox')}\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("demo", "[FOLDER]"),
        ("check", "PHOTOS"),
        ("convert", "SOURCE DEST"),
        ("train", "[PHOTOS]"),
        ("compare", "PHOTOS"),
        ("evaluate", "MODEL PHOTOS"),
        ("detect", "MODEL PHOTO ..."),
        ("export", "MODEL"),
        ("serve", "MODEL"),
    ],
)
def test_help_names_what_a_command_takes(command: str, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    call(command, "--help")
    usage = " ".join(capfd.readouterr().out.split("\n\n")[0].split())
    assert re.sub(r"usage: foodbox \w+| \[-h\]| \[[A-Z]+ OPTIONS\]| --to TEXT| \[--[^]]+\]", "", usage).strip() == words


def test_help_says_what_can_be_chosen_and_what_a_switch_does(capfd: pytest.CaptureFixture[str]) -> None:
    call("train", "--help")
    words = " ".join(capfd.readouterr().out.replace("│", " ").split())
    listed = re.search(r"--detector TEXT ([\w, ]+)\.", words)
    assert listed is not None
    assert re.split(", | or ", listed[1]) == list(DETECTORS)
    assert "--freeze {backbone,C4}" in words
    assert "--no-frozen-batch-norm Switch off: keep the backbone's batch norm statistics and weights fixed." in words
    call("convert", "--help")
    words = capfd.readouterr().out
    assert all(name in words for name in FORMATS)


def test_help_has_the_settings_in_sections(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # wider ones have sections side by side
    call("train", "--detector", "rcnn", "--help")
    words = capfd.readouterr().out
    sections = re.findall(r"─ ([\w ]+) ─", words)
    run = ["photo options", "detector options", "training options", "augmentation options", "hardware options"]
    assert sections == [
        "positional arguments", "options", *run, "preprocessing options", "rcnn options", "search options"
    ]  # fmt: skip
    within = {section: re.findall(r"(--[\w-]+) ", words.split(f"─ {section} ─")[1].split("╰")[0]) for section in run}
    assert [flags[0] for flags in within.values()] == [
        "--valid", "--detector", "--epochs", "--mirror", "--precision"
    ]  # fmt: skip
    assert "--preset {light,vgg16}" in words


@pytest.mark.parametrize("command", ["demo", "check", "convert", "train", "compare", "evaluate", "detect", "export"])
def test_help_names_no_types_of_python(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    call(command, "--help")
    assert not re.search(r"None|STR|False|True", capfd.readouterr().out)


@pytest.mark.parametrize("asked", ["--help", "--version"])
def test_a_full_disk_behind_standard_output_is_said(asked: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    command = [sys.executable, "-m", "foodbox.cli", asked]
    with open("/dev/full", "w") as full:  # noqa: PTH123 - it is no file
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()) == (
        1, ["foodbox: Cannot write the result to standard output: No space left on device."]
    )  # fmt: skip


def test_the_package_has_the_names_that_it_says() -> None:
    assert set(dir(foodbox)) == set(foodbox.__all__)
    assert all(hasattr(foodbox, name) for name in foodbox.__all__)


# A program that runs `foodbox --help` and goes on.
HELP = "from foodbox.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"


@pytest.mark.parametrize(("start", "later"), [(HELP, "torch"), ("import foodbox.api\n", "matplotlib")])
def test_slow_imports_wait_until_they_are_needed(start: str, later: str) -> None:
    words = f"{start}import sys; assert {later!r} not in sys.modules"
    result = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_photos_of_every_kind(model: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """JPEG, PNG with alpha, grey, EXIF-turned and a large photo: boxes in their own pixels as a person sees them."""
    source = Image.open(next((photos / "images").glob("*.jpg")))
    kinds = tmp_path / "kinds"
    kinds.mkdir()
    source.save(kinds / "plain.JPG", "JPEG")
    source.convert("RGBA").save(kinds / "alpha.png")
    source.convert("L").save(kinds / "grey.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    source.save(kinds / "turned.jpg", exif=exif)
    source.resize((4000, 3000)).save(kinds / "large.jpg")
    assert call("detect", model, kinds, "--out", tmp_path / "out", "--min-score", "0", "--json") == 0
    sizes = {Path(p["path"]).stem: (p["width"], p["height"]) for p in json.loads(capfd.readouterr().out)}
    width, height = source.size
    assert sizes == {
        "plain": (width, height), "alpha": (width, height), "grey": (width, height), "turned": (height, width),
        "large": (4000, 3000),
    }  # fmt: skip
    for name, size in sizes.items():
        assert Image.open(tmp_path / "out" / f"{name}.jpg").size == size


def test_a_broken_photo_among_good_ones(
    model: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The good ones are done, the broken one is named, and the exit code says that something failed."""
    good = next((photos / "images").glob("*.jpg"))
    (tmp_path / "broken.jpg").write_bytes(good.read_bytes()[:5000])
    assert call("detect", model, good, tmp_path / "broken.jpg", "--out", tmp_path / "out", "--json") == 1
    captured = capfd.readouterr()
    assert [Path(p["path"]) for p in json.loads(captured.out)] == [good]
    assert "broken.jpg" in captured.err


# -- Wrong calls ------------------------------------------------------------------------------------------------------


def test_a_place_that_may_not_be_used_is_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "demo/tables/a.jpg")

    monkeypatch.setattr(foodbox, "demo", refused)
    assert call("demo") == 1
    told = " ".join(capfd.readouterr().err.split())
    assert told.startswith("foodbox: Cannot use demo/tables/a.jpg: Permission denied. Look whether")


@dataclass
class Place:
    """Where a wrong call is made."""

    folder: Path
    photos: Path
    model: Path

    def spoilt(self, change: Callable[[Path], None]) -> Path:
        """The photos, with something changed by `change`."""
        copy = self.folder / "spoilt"
        for path in self.photos.rglob("*"):
            if path.is_file():
                target = copy / path.relative_to(self.photos)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
        change(copy)
        return copy

    def with_label(self, old: str, new: str) -> Path:
        """The photos, with words in the first label file exchanged."""

        def change(folder: Path) -> None:
            label = sorted(folder.rglob("*.xml"))[0]
            text = label.read_text()
            assert old in text
            label.write_text(text.replace(old, new, 1))

        return self.spoilt(change)

    def first_corner(self, key: str) -> str:
        text = sorted(self.photos.rglob("*.xml"))[0].read_text()
        return text[text.index(f"<{key}>") : text.index(f"</{key}>") + len(key) + 3]

    def photo(self) -> Path:
        return sorted(self.photos.rglob("*.jpg"))[0]

    def file(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def in_parts(self) -> Path:
        """The photos twice, below train/ and valid/."""
        for part in ("train", "valid"):
            shutil.copytree(self.photos, self.folder / "parts" / part)
        return self.folder / "parts"

    def starthon(self, label: str) -> Path:
        """A folder in the AI Starthon's layout: one good photo, and one with this label."""
        photo = next((self.photos / "images").glob("*.jpg")).read_bytes()
        for name, text in (("a", "10,20,100,100"), ("b", label)):
            self.file(f"starthon/{name}.jpg", photo)
            self.file(f"starthon/{name}.txt", text)
        return self.folder / "starthon"


def truncate(folder: Path) -> None:
    photo = sorted(folder.rglob("*.jpg"))[0]
    photo.write_bytes(photo.read_bytes()[:9000])


def text_as_photo(folder: Path) -> None:
    sorted(folder.rglob("*.jpg"))[0].write_text("I am a text")


LONG = "x" * 300


def train(*words: object) -> Callable[[Place], list[object]]:
    return lambda place: ["train", place.photos, "--runs", place.folder / "runs", *words]


def train_on(make: Callable[[Place], Path], *words: object) -> Callable[[Place], list[object]]:
    return lambda place: ["train", make(place), "--runs", place.folder / "runs", *words]


WRONG: dict[str, tuple[Callable[[Place], list[object]], int, str]] = {
    "missing folder": (train_on(lambda p: p.folder / "nowhere"), 2, "nowhere is not there"),
    "missing validation folder": (train("--valid", "nowhere"), 2, "nowhere is not there"),
    "file that is no label": (train_on(lambda p: p.model), 2, "is no file of labels"),
    "photo for a folder": (train_on(lambda p: p.photo()), 2, "is one photo: expected a folder"),
    "no labels": (train_on(lambda p: p.photos / "images"), 2, "nothing says where the objects"),
    "no photos": (train_on(lambda p: p.file("empty/x.md", "x").parent), 2, "holds no photos"),
    "unknown format": (train("--format", "papyrus"), 2, "Unknown format 'papyrus'"),
    "a GPU's step without one": (train("--device", "cpu", "--gpu-step", "compiled"), 2, "needs one CUDA GPU"),
    "box outside": (
        train_on(lambda p: p.with_label(p.first_corner("xmax"), "<xmax>9999</xmax>")), 1, "outside the photo"),
    "x2 before x1": (train_on(lambda p: p.with_label(p.first_corner("xmax"), "<xmax>-5</xmax>")), 1, "exchanged"),
    "no number in a VOC box": (
        train_on(lambda p: p.with_label(p.first_corner("ymin"), "<ymin>top</ymin>")), 1, "ymin 'top'"),
    "no class name": (train_on(lambda p: p.with_label("<object>", "<object><name/>")), 1, "no name"),
    "XML cut short": (train_on(lambda p: p.with_label("</annotation>", "")), 1, "no whole XML"),
    "label without photo": (
        train_on(lambda p: p.spoilt(lambda f: sorted(f.rglob("*.jpg"))[0].unlink())), 1, "no photo named"),
    "words for numbers": (train_on(lambda p: p.starthon("ten,20,30,40")), 1, "b.txt:1: found 'ten,20,30,40'"),
    "three numbers": (train_on(lambda p: p.starthon("20,30,40")), 1, "b.txt:1: found '20,30,40'"),
    "negative size": (train_on(lambda p: p.starthon("20,30,-40,10")), 1, "b.txt:1: the box 20,30,-40,10 (x,y,w,h)"),
    "photos that look alike": (train_on(lambda p: p.starthon("0.1,0.2,0.5,0.5")), 2, "2 photos that all look alike"),
    "photo cut short": (train_on(lambda p: p.spoilt(truncate)), 1, "broken photo"),
    "text named .jpg": (train_on(lambda p: p.spoilt(text_as_photo)), 1, "is no photo"),
    "unknown backbone": (train("--backbone", "resnet5O"), 2, "Unknown backbone 'resnet5O'"),
    "backbone without maps": (train("--backbone", "vit_small_patch16_224", "--weights", "none"), 2, "no feature maps"),
    "unknown detector": (train("--detector", "yolo11"), 2, "There is no detector 'yolo11'"),
    "unknown preset": (train("--preset", "huge"), 2, "There is no preset 'huge'"),
    "unknown device": (train("--device", "tpu"), 2, "There is no device 'tpu'"),
    "text for a number": (train("--epochs", "many"), 2, "The setting epochs is 'many'"),
    "number out of range": (train("--epochs", "0"), 2, "The setting epochs is '0'"),
    "size out of range": (train("--size", "5"), 2, "The setting size is '5'"),
    "stretch without an end": (train("--stretch", "inf"), 2, "The setting stretch is 'inf'"),
    "zoom without an end": (train("--zoom", "1", "inf"), 2, "The setting zoom.1 is 'inf': input should be a finite"),
    "zoom beyond its end": (train("--zoom", "1", "11"), 2, "expected two numbers from 0.1 to 10"),
    "rate without an end": (train("--learning-rate", "inf"), 2, "The setting learning_rate is 'inf': input should be"),
    "decay without an end": (train("--weight-decay", "inf"), 2, "The setting weight_decay is 'inf': input should be"),
    "clip without an end": (train("--clip", "inf"), 2, "The setting clip is 'inf': input should be a finite number"),
    "share without an end": (train("--backbone-rate", "inf"), 2, "The setting backbone_rate is 'inf': input should"),
    "loss without an end": (train("--box-weight", "inf"), 2, "The setting box_weight is 'inf': input should be a"),
    "colour without an end": (train("--mean", "0", "0", "inf"), 2, "The setting mean.2 is 'inf': input should be a"),
    "name of a folder elsewhere": (train("--name", "../a"), 2, "--name is '../a': expected a folder's name of at"),
    "name too long for a run": (train("--name", LONG), 2, "expected a folder's name of at most 255 bytes"),
    "name too long for photos": (lambda p: ["check", LONG], 2, "is longer than the disk allows"),
    "name too long to convert to": (lambda p: ["convert", p.photos, LONG, "--to", "csv"], 2, "is longer than the disk"),
    "name too long to export": (lambda p: ["export", LONG], 2, "is longer than the disk allows"),
    "name too long to detect on": (lambda p: ["detect", p.model, LONG], 2, "is longer than the disk allows"),
    "demo in a file": (lambda p: ["demo", p.file("m.safetensors", "x")], 1, "a file is where the folder should be"),
    "seed beyond what torch takes": (train("--seed", str(2**64)), 2, "The setting seed is"),
    "time and epochs": (train("--time", "3s", "--epochs", "1"), 2, "--time and --epochs both say how long to train"),
    "views without freeze": (train("--views", "3"), 2, "--views is for --freeze, which is not given"),
    "a share beside a folder": (
        lambda p: ["train", p.photos, "--valid", p.photos, "--valid-share", "0.5"], 2,
        "--valid-share sets photos apart, and --valid or --split names them"),
    "a share beside folders that are parts": (
        lambda p: ["train", p.in_parts(), "--valid-share", "0.5"], 2,
        "--valid-share sets photos apart, and labels or folders name those to validate on"),
    "the rate of a frozen backbone": (
        train("--freeze", "backbone", "--backbone-rate", "0.1"), 2, "--backbone-rate is for a backbone that learns"),
    "stages of a frozen backbone": (
        train("--freeze", "backbone", "--frozen-stages", "2"), 2, "--frozen-stages is for a backbone that learns"),
    "a longest side of another fit": (
        train("--max-size", "900"), 2, "--max-size is for --fit shortest, and fit is longest here"),
    "a bend of another loss": (
        train("--smooth-l1-beta", "0.5", "--box-loss", "giou"), 2, "--smooth-l1-beta is for --box-loss smooth_l1"),
    "frozen random numbers": (train("--freeze", "backbone", "--weights", "none"), 2, "--weights none starts it from"),
    "another setting when going on": (
        lambda p: ["train", "--resume", p.folder, "--batch-size", "5"], 2, "leave --batch-size out beside --resume"),
    "another name when going on": (
        lambda p: ["train", "--resume", p.folder, "--name", "b"], 2, "leave --name out beside --resume"),
    "a file where the run should be": (
        lambda p: ["train", p.photos, "--runs", p.file("runs/a", "").parent, "--name", "a"], 2, "is there already"),
    "zoom upside down": (train("--zoom", "2", "1"), 2, "the smaller first"),
    "bounds upside down": (train("--match-low", "0.9"), 2, "expected at most match_high"),
    "one number of two": (train("--zoom", "1"), 2, "Missing value for argument '--zoom'"),
    "unknown flag": (train("--epoch", "3"), 2, "Unrecognized options: --epoch"),
    "a flag of another program": (train("--imgsz", "320"), 2, "There is no --imgsz: use --size."),
    "another one": (train("--lr=0.1"), 2, "There is no --lr: use --learning-rate."),
    "a share of another program": (
        lambda p: ["detect", p.model, p.photos, "--conf", "0.5"], 2, "There is no --conf: use --min-score."),
    "a flag that another command has": (
        lambda p: ["evaluate", p.model, p.photos, "--imgsz", "320"], 2, "Unrecognized options: --imgsz"),
    "unknown command": (lambda p: ["trian", p.photos], 2, "Unrecognized options: trian"),
    "train without photos": (lambda p: ["train"], 2, "Name a folder of photos"),
    "missing weights": (train("--weights", "best.safetensors"), 2, "There is no weight file best.safetensors"),
    "weights of another kind": (
        lambda p: ["train", p.photos, "--weights", p.file("a.onnx", "x")], 2, "does not end in any of"),
    "weights of another backbone": (
        lambda p: ["train", p.photos, "--weights", p.model, "--backbone", "resnet18"], 2,
        "has the backbone mobilenetv2_100, not resnet18: leave --backbone out"),
    "weights of another detector": (
        lambda p: ["train", p.photos, "--detector", "ssd", "--weights", p.model], 2,
        "is a retinanet, and ssd was asked for: take --detector retinanet"),
    "torchvision file cut short": (
        lambda p: ["train", p.photos, "--weights", p.file("a.pth", b"PK\3\4junk")], 1, "not a whole checkpoint"),
    "h5 file cut short": (
        lambda p: ["train", p.photos, "--weights", p.file("a.h5", b"\x89HDF\r\n")], 1, "not a whole .h5 file"),
    "no network for ImageNet": (train("--weights", "imagenet"), 1, "Go on without a network with the embedded"),
    "no network for COCO": (train("--preset", "resnet50"), 1, "Go on without a network with the embedded"),
    "no COCO weights": (train("--backbone", "resnet18"), 2, "no COCO weights for the backbone 'resnet18'"),
    "unwritable runs": (
        lambda p: ["train", p.photos, "--runs", p.file("taken", "x")], 1, "Cannot write"),
    "name taken": (
        lambda p: ["train", p.photos, "--runs", p.file("runs/a/x", "").parents[1], "--name", "a"], 2,
        "is there already"),
    "nothing to resume": (lambda p: ["train", "--resume", p.folder], 2, "no run to go on with"),
    "missing model": (lambda p: ["detect", "best.safetensors", p.photos], 2, "There is no weight file"),
    "run without a model": (
        lambda p: ["detect", p.file("runs/a/log.jsonl", "").parent, p.photos], 2, "There is no weight file"),
    "half of an exported model": (
        lambda p: ["detect", p.file("a.xml", "x").with_name(p.file("a.bin", "x").name), p.photos], 2, "a.xml."),
    "model cut in half": (
        lambda p: ["evaluate", p.file("half.safetensors", p.model.read_bytes()[:500_000]), p.photos], 1,
        "not a whole model file"),
    "text as a model": (
        lambda p: ["evaluate", p.file("m.safetensors", "hello there"), p.photos], 1, "not a whole model"),
    "classes unknown to the model": (
        lambda p: ["evaluate", p.model, p.starthon("1,2,30,40")], 2, "none that the model knows"),
    "missing photo": (
        lambda p: ["detect", p.model, "lunch.jpg"], 2, "There is no photo, folder or match for lunch.jpg"),
    "detect without photos": (lambda p: ["detect", p.model], 2, "Name at least one photo"),
    "folder without photos": (lambda p: ["detect", p.model, p.file("e/x.md", "").parent], 2, "holds no photos"),
    "a device that there is not": (
        lambda p: ["detect", p.model, p.photos, "--device", "gpu"], 2, "gpu"),
    "score out of range": (lambda p: ["detect", p.model, p.photos, "--min-score", "30"], 2, "from 0 to 1"),
    "check a missing folder": (lambda p: ["check", p.folder / "nowhere"], 2, "nowhere is not there"),
    "check nothing": (lambda p: ["check"], 2, "required"),
    "check a photo": (lambda p: ["check", p.photo()], 2, "is one photo: expected a folder"),
    "check without labels": (lambda p: ["check", p.photos / "images"], 2, "nothing says where the obj"),
    "check as an unknown format": (
        lambda p: ["check", p.photos, "--format", "papyrus"], 2, "Unknown format 'papyrus': expected one of starthon"),
    "check for an unknown detector": (
        lambda p: ["check", p.photos, "--detector", "yolo11"], 2, "There is no detector 'yolo11'"),
    "check for an unknown preset": (
        lambda p: ["check", p.photos, "--preset", "huge"], 2, "There is no preset 'huge' of retinanet"),
    "check against a missing folder": (
        lambda p: ["check", p.photos, "--valid", p.folder / "nowhere"], 2, "nowhere is not there"),
    "mend into a full folder": (
        lambda p: ["check", p.photos, "--fix", p.file("new/mine.txt", "x").parent], 2, "not empty: name a new folder"),
    "mend into the photos": (lambda p: ["check", p.photos, "--fix", p.photos / "new"], 2, "name a folder beside it"),
    "mend into another folder": (
        lambda p: ["check", p.photos, "--fix", p.file("d/x", "").parent], 2, "not empty: name a new folder"),
    "an empty word": (lambda p: ["check", ""], 2, "One of the words is empty"),
    "mend into a file": (lambda p: ["check", p.photos, "--fix", p.file("mended", "x")], 2, "is there already"),
    "unwritable report": (
        lambda p: ["check", p.photos, "--out", p.file("taken", "x") / "in"], 1, "Cannot write"),
    "convert a missing folder": (
        lambda p: ["convert", p.folder / "nowhere", p.folder / "new", "--to", "csv"], 2, "nowhere is not there"),
    "convert a photo": (
        lambda p: ["convert", p.photo(), p.folder / "new", "--to", "csv"], 2, "is one photo: expected a folder"),
    "convert to nowhere": (lambda p: ["convert", p.photos, "--to", "csv"], 2, "required"),
    "convert to nothing": (lambda p: ["convert", p.photos, p.folder / "new"], 2, "--to"),
    "convert to an unknown format": (
        lambda p: ["convert", p.photos, p.folder / "new", "--to", "papyrus"], 2, "Unknown format 'papyrus'"),
    "convert from an unknown format": (
        lambda p: ["convert", p.photos, p.folder / "new", "--to", "csv", "--format", "papyrus"], 2,
        "Unknown format 'papyrus': expected one"),
    "convert into a full folder": (
        lambda p: ["convert", p.photos, p.file("new/mine.txt", "x").parent, "--to", "csv"], 2, "not empty"),
    "convert into the photos": (lambda p: ["convert", p.photos, p.photos, "--to", "csv"], 2, "name a folder beside it"),
    "convert faulty photos": (
        lambda p: ["convert", p.with_label("</annotation>", ""), p.folder / "new", "--to", "csv"], 1,
        "add --skip-bad"),
    "a word for --fit-anchors": (train("--fit-anchors", "perhaps"), 2, "perhaps"),
    "missing split": (train("--split", "split.json"), 2, "split.json is no split of a run"),
    "no split": (lambda p: ["train", p.photos, "--split", p.file("s.json", "[]")], 2, "s.json is no split of a run"),
    "split of other photos": (
        lambda p: ["train", p.photos, "--split", p.file("s.json", '{"train": ["a.jpg"], "valid": []}')], 1,
        "1 photo of"),
    "unknown cache": (train("--cache", "cloud"), 2, "--cache"),
    "unknown part": (lambda p: ["evaluate", p.model, p.photos, "--part", "noon"], 2, "--part"),
    "part that is not named": (
        lambda p: ["evaluate", p.model, p.photos, "--part", "test"], 2, "The photos have no part 'test'"),
    "evaluate a photo": (lambda p: ["evaluate", p.model, p.photo()], 2, "is one photo: expected a folder"),
    "pictures over photos": (
        lambda p: ["detect", p.model, p.photo(), "--out", p.photo().parent], 2, "might be overwritten: name another"),
    "unwritable pictures": (
        lambda p: ["detect", p.model, p.photos, "--out", p.file("taken", "x") / "in"], 1, "Cannot write"),
}  # fmt: skip


def test_words_are_said_as_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    """The place in a file is no emoji (":100:"), a backslash one sign, and brackets are no markup."""
    say("labels.csv:100: the box [red] in C:\\photos\\")
    assert capfd.readouterr().err == "labels.csv:100: the box [red] in C:\\photos\\\n"


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls(
    name: str,
    photos: Path,
    model: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each gives its sentence on standard error, the exit code, no traceback, and leaves no run behind."""

    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    monkeypatch.chdir(tmp_path)
    make, code, sentence = WRONG[name]
    words = make(Place(tmp_path, photos, model))
    assert call(*words) == code
    captured = capfd.readouterr()
    told = " ".join(captured.err.split())
    assert sentence in told
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not list(tmp_path.glob("runs/*/config.yaml"))


def test_all_faults_at_once_and_skip_bad(
    photos: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two faults in two photos are told together; --skip-bad trains on the rest and says what it left out."""
    place = Place(tmp_path, photos, model)

    def change(folder: Path) -> None:
        truncate(folder)
        label = sorted(folder.rglob("*.xml"))[1]
        label.write_text(label.read_text().replace("<ymin>", "<ymin>x", 1))

    folder = place.spoilt(change)
    first, second = (sorted(folder.rglob(f"*.{ending}"))[i].name for i, ending in enumerate(("jpg", "xml")))
    assert call("train", folder, *QUICK, "--runs", tmp_path / "runs") == 1
    told = capfd.readouterr().err
    assert "2 faults" in told
    assert first in told
    assert f"{second}:" in told
    assert "--skip-bad" in told

    assert call("train", folder, *QUICK, "--runs", tmp_path / "runs", "--skip-bad", "--json") == 0
    captured = capfd.readouterr()
    assert "Left out because of 2 faults" in captured.err
    run = Path(json.loads(captured.out)["run"])
    parts = json.loads((run / "split.json").read_text())
    assert len(parts["train"]) + len(parts["valid"]) == 4
