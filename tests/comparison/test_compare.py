"""A comparison from the call to its page: trained in processes of their own, stopped, killed, refused, gone on with."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import foodbox
from foodbox import cli
from foodbox.comparison import compare as module
from foodbox.comparison.results import Comparison
from foodbox.data import tables
from foodbox.data.formats import FORMATS
from foodbox.data.parts import read_split
from foodbox.detectors import DETECTORS
from foodbox.errors import FoodboxError, UsageError
from foodbox.records import Dataset, Photo
from foodbox.training.run_folder import RunFolder
from foodbox.weights.model_file import read_model
from tests.conftest import STOPPABLE

QUICK: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 2,
    "workers": 0,
    "size": 64,
    "precision": "float32",
    "weights": "none",
}

SHARE = {"valid_share": 0.25}
"""Which a trial does not get beside its split."""

# The program that carries out a trial, with three more detectors: one that refuses the photos, one that is faulty, and
# one whose process ends all of a sudden.
WITH_STAND_INS = """
import os
from foodbox.comparison.trial import main
from foodbox.detectors import DETECTORS
from foodbox.errors import FoodboxError, UsageError

LIKE = DETECTORS["retinanet"]

class Refuses(LIKE):
    def __init__(self, *_): raise FoodboxError("These photos have no masks:\\n  draw some.")

class Faulty(LIKE):
    def losses(self, *_): return {}["boxes"]

class Vanishes(LIKE):
    def losses(self, *_): os._exit(3)

STAND_INS = {"refuses": Refuses, "faulty": Faulty, "vanishes": Vanishes}
DETECTORS |= STAND_INS
if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight drawn tables as a Pascal VOC folder."""
    folder = tmp_path_factory.mktemp("tables")
    drawn = tables.write_tables(folder, 8, seed=5, workers=1)
    FORMATS["voc"].write(Dataset(drawn, tables.NAMES), folder)
    return folder


@pytest.fixture(scope="module")
def compared(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two detectors that can be trained on the photos, and three that cannot."""
    runs = tmp_path_factory.mktemp("runs")
    script = runs / "with_stand_ins.py"
    script.write_text(WITH_STAND_INS)
    names = ["refuses", "retinanet", "faulty", "ssd", "vanishes"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TRIAL", [sys.executable, str(script)])
        for name in ("refuses", "faulty", "vanishes"):
            patch.setitem(DETECTORS, name, DETECTORS["retinanet"])
        return foodbox.compare(photos, detectors=names, runs=runs, name="all", one_class="dish", **SHARE, **QUICK)


def test_photos_with_boxes_from_all_over_are_shown() -> None:
    """Of eight, five: the first five would not be."""
    boxed = [Photo(Path(f"{i}.jpg"), 10, 10, torch.tensor([[0.0, 0, 5, 5]]), torch.tensor([0])) for i in range(8)]
    dataset = Dataset([*boxed[:4], Photo(Path("empty.jpg"), 10, 10), *boxed[4:]], ["rice"])
    assert [photo.path.stem for photo in module._shown(dataset)] == ["0", "2", "4", "5", "7"]


def test_every_detector_has_its_row(compared: Comparison) -> None:
    assert {trial.detector for trial in compared.scored} == {"retinanet", "ssd"}
    assert compared.waiting == []
    assert not compared.interrupted
    for trial in compared.scored:
        run = compared.folder / trial.detector
        log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        assert (trial.ap, trial.ap50) == (log[0]["scores"]["ap"], log[0]["scores"]["ap50"])
        assert trial.epochs == 1
        assert trial.seconds is not None
        assert trial.seconds >= log[0]["seconds"]
        assert trial.file_size == (run / "best.safetensors").stat().st_size
        weights = read_model(run / "best.safetensors")
        numbers = sum(t.numel() for name, t in weights.tensors.items() if "running" not in name)
        assert trial.parameters is not None
        assert trial.parameters == pytest.approx(numbers, rel=0.02)  # a frozen batch norm has no parameters
        assert weights.run["train"]["one_class"] == "dish"
        assert trial.size == 64
        assert all(value and value > 0 for value in (trial.milliseconds, trial.photos_per_second, trial.multiply_adds))
    assert (compared.folder / "table.json").exists()


def test_a_detector_that_cannot_be_trained_says_why(compared: Comparison) -> None:
    words = {trial.detector: trial.refused for trial in compared.refused}
    assert words["refuses"] == "These photos have no masks: draw some."
    assert words["faulty"].startswith("It broke off (KeyError: 'boxes').")
    assert "in losses" in (compared.folder / "faulty" / "error.txt").read_text()
    assert "exit code 3" in words["vanishes"]


def test_all_have_the_same_photos(compared: Comparison) -> None:
    split = read_split(compared.folder / "split.json")
    assert (len(split["train"]), len(split["valid"])) == (compared.train, compared.valid) == (6, 2)
    for trial in compared.scored:
        assert read_split(compared.folder / trial.detector / "split.json") == split


def test_what_it_leaves(compared: Comparison) -> None:
    folder = compared.folder
    there = {path.name for path in folder.iterdir()}
    assert there >= {"compare.json", "split.json", "table.json", "table.csv", "compare.png", "sheet.jpg", "report.html"}
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]
    assert json.loads((folder / "table.json").read_text())["detectors"] == compared.to_dict()["detectors"]
    with (folder / "table.csv").open(encoding="utf-8") as file:
        assert [row["detector"] for row in csv.DictReader(file)] == [
            trial.detector for trial in [*compared.scored, *compared.refused]
        ]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") == 1 + 2 * 3  # the chart; the truth, and two detectors on both validation photos
    assert "These photos have no masks" in page


def test_other_settings_or_photos_are_another_comparison(compared: Comparison, photos: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in compared.folder.rglob("*")}
    same = {"runs": compared.folder.parent, "name": "all", "one_class": "dish"} | SHARE | QUICK
    for changes, words in (
        ({"epochs": 2}, "its epochs is 1, not 2"),
        ({"one_class": "food"}, "its one_class is 'dish', not 'food'"),
        ({"size": 96}, "its size is 64, not 96"),
        ({"colour": 0.1}, "its colour is 0.5, not 0.1"),
    ):
        with pytest.raises(UsageError, match=f"all is another comparison: {words}"):
            foodbox.compare(photos, detectors="ssd", **(same | changes))
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match="its photos are"):
        foodbox.compare(tmp_path / "other", detectors="ssd", **same)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="is no comparison: choose another --name"):
        foodbox.compare(photos, runs=tmp_path, name="mine")
    assert {path: path.stat().st_mtime_ns for path in compared.folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"detectors": "ssd,rtinanet"}, "no detector 'rtinanet': expected all, or some of .*ssd"),
        ({"detector": "ssd"}, "name them with --detectors"),
        ({"epoch": 3}, "no setting 'epoch': did you mean 'epochs'"),
        ({"detectors": ["ssd"], "epoch": 3}, "no setting 'epoch': did you mean 'epochs'"),
        ({"tile_size": 5}, "--tile-size is 5: expected 32 pixels or more"),
        ({"name": "../all"}, "--name is '../all': expected a folder's name"),
        ({"name": ""}, "--name is '': expected a folder's name"),
        ({"epochs": 0}, "The setting epochs is 0"),
        ({"size": "large"}, "The setting size is 'large'"),
        ({"preset": "huge"}, "no preset 'huge'"),
        ({"epochs": 1, "time": "10s"}, "--time and --epochs both say how long"),
        ({"views": 2}, "--views is for --freeze"),
        ({"device": "abacus"}, "no device 'abacus'"),
        ({}, "nowhere"),
    ],
)
def test_wrong_calls_leave_nothing(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        foodbox.compare(tmp_path / "nowhere", runs=tmp_path / "runs", **settings)
    assert not (tmp_path / "runs").exists()


def test_the_words_of_the_program(
    compared: Comparison, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the flags give to the call, the table, and one JSON value instead; exit code 1 where nothing was scored."""
    given: dict[str, Any] = {}

    def stand_in(photos: Path, **settings: Any) -> Comparison:
        given.update(settings, photos=photos)
        return compared

    monkeypatch.setattr(foodbox, "compare", stand_in, raising=False)
    words = ["compare", "lunch", "--detectors", "ssd,yolo", "--epochs", "3", "--size", "64", "--one-class", "food"]
    words += ["--tile-size", "0"]
    with pytest.raises(SystemExit) as ending:
        cli.main([*words, "--json"])
    assert ending.value.code == 0
    assert given == {"photos": Path("lunch"), "detectors": "ssd,yolo", "epochs": "3", "size": 64, "one_class": "food",
                     "tile_size": 0, "runs": Path("runs"), "name": None}  # fmt: skip
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(compared.to_dict()))
    with pytest.raises(SystemExit):
        cli.main(words)
    told = capsys.readouterr().out
    assert told.splitlines()[0].split()[:3] == ["detector", "AP", "AP50"]
    assert all(line in told for line in compared.verdict())
    assert f"report  {compared.folder / 'report.html'}" in told

    compared.trials, kept = compared.refused, compared.trials
    with pytest.raises(SystemExit) as ending:
        cli.main(words)
    compared.trials = kept
    assert ending.value.code == 1


# -- Stopped and killed -----------------------------------------------------------------------------------------------


def start(photos: Path, runs: Path) -> subprocess.Popen[str]:
    settings = QUICK | {"epochs": 5}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    words = ["compare", photos, "--detectors", "ssd,retinanet", "--runs", runs, *flags, "--json"]
    return subprocess.Popen(
        [sys.executable, "-c", STOPPABLE, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 240
    while not file.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"{file} does not come"
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send.")
def test_stopped_killed_and_gone_on_with(photos: Path, tmp_path: Path) -> None:
    """Ctrl-C in the first detector, SIGKILL in the second: the same command goes on each time, and repeats nothing."""
    folder = tmp_path / "compare-1"
    with start(photos, tmp_path) as first:
        wait_for(folder / "ssd" / "last" / "state.safetensors", first)
        first.send_signal(signal.SIGINT)
        out, said = first.communicate(timeout=240)
    assert first.returncode == 130, said
    told = json.loads(out)
    assert told["interrupted"]
    assert told["waiting"] == ["ssd", "retinanet"]
    assert "The same command goes on where it was" in " ".join(said.split())
    assert "Traceback" not in said
    state, progress = RunFolder(folder / "ssd").read_state()
    epochs = progress.epochs  # of short ones not all are kept
    assert progress.memory is None or progress.memory > 1e8
    progress.memory = 10**12  # as if this process had held more than the next one will
    RunFolder(folder / "ssd").write_state(state, progress)
    assert 1 <= epochs <= len((folder / "ssd" / "log.jsonl").read_text().splitlines()) < 5

    with start(photos, tmp_path) as second:
        wait_for(folder / "retinanet" / "last" / "state.safetensors", second)
        second.kill()
        # Its standard error ends only when the trial, which has it too, is gone as well.
        _, said = second.communicate(timeout=240)
    assert said.count("Going on with") == 1
    assert re.findall(r"epoch +(\d)/5", said)[: 5 - epochs] == [str(i) for i in range(epochs + 1, 6)]
    kept = (folder / "ssd" / "trial.json").read_bytes()
    assert json.loads(kept)["epochs"] == 5
    assert json.loads(kept)["memory"] == 10**12
    assert not (folder / "retinanet" / "trial.json").exists()
    assert {trial["detector"] for trial in json.loads((folder / "table.json").read_text())["detectors"]} == {"ssd"}

    with start(photos, tmp_path) as third:
        out, said = third.communicate(timeout=240)
    assert third.returncode == 0, said
    assert said.count("Going on with") == 1
    assert "of 2: ssd" not in said
    told = json.loads(out)
    assert (told["interrupted"], told["waiting"]) == (False, [])
    assert {trial["detector"]: trial["epochs"] for trial in told["detectors"]} == {"ssd": 5, "retinanet": 5}
    assert (folder / "ssd" / "trial.json").read_bytes() == kept
    assert [path.name for path in tmp_path.iterdir()] == ["compare-1"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such program.")
def test_what_has_ended_is_not_repeated_and_detectors_may_be_added(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials are counted by a program that does nothing; a trial without a result is tried again."""
    tried: list[str] = []
    carry_out = module._carry_out
    monkeypatch.setattr(module, "TRIAL", ["false"])
    monkeypatch.setattr(module, "_carry_out", lambda order: (tried.append(order.detector), carry_out(order))[1])
    same = {"runs": tmp_path, "name": "all"} | QUICK
    assert "exit code 1" in foodbox.compare(photos, detectors="ssd", **same).refused[0].refused
    foodbox.compare(photos, detectors=["yolo", "ssd"], **same)
    assert tried == ["ssd", "ssd", "yolo"]
    (tmp_path / "all" / "ssd").mkdir(exist_ok=True)
    (tmp_path / "all" / "ssd" / "trial.json").write_text('{"detector": "ssd", "ap": 0.5}')
    result = foodbox.compare(photos, detectors="yolo", **same)
    assert tried == ["ssd", "ssd", "yolo", "yolo"]
    assert [trial.detector for trial in result.scored] == ["ssd"]
    assert result.detectors == ["ssd", "yolo"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such program.")
def test_whoever_looks_for_regions_on_whole_photos_goes_without_tiles(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, object] = {}
    carry_out = module._carry_out
    monkeypatch.setattr(module, "TRIAL", ["false"])
    monkeypatch.setattr(
        module, "_carry_out", lambda o: (asked.update({o.detector: o.settings.get("tile_size")}), carry_out(o))[1]
    )
    foodbox.compare(photos, detectors="ssd,rcnn", runs=tmp_path, tile_size=160, **QUICK)
    assert asked == {"ssd": 160, "rcnn": None}
    assert capfd.readouterr().err.count("goes without --tile-size") == 1


def test_a_place_that_cannot_be_written_to_is_said_before_photos_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # whoever is root may write anywhere
    with pytest.raises(FoodboxError, match=r"Cannot write .*compare-1: Permission denied"):
        foodbox.compare(tmp_path / "nowhere", runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
