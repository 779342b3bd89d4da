"""What the verbs refuse before anything is read: what is no path, and arguments that would do nothing."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

import foodbox
from foodbox import api
from foodbox.data import tables
from foodbox.data.formats import FORMATS
from foodbox.errors import UsageError
from foodbox.files import as_path
from foodbox.records import Dataset

MODEL = "best.safetensors"
CALLS: dict[str, Callable[[Any], Any]] = {
    "train": lambda path: foodbox.train(path),
    "train to": lambda path: foodbox.train("photos", runs=path),
    "resume": lambda path: foodbox.resume(path),
    "check": lambda path: foodbox.check(path),
    "check beside": lambda path: foodbox.check("photos", valid=path),
    "check to": lambda path: foodbox.check("photos", out=path),
    "mend to": lambda path: foodbox.check("photos", fix=path),
    "convert": lambda path: foodbox.convert(path, "new", to="coco"),
    "convert to": lambda path: foodbox.convert("photos", path, to="coco"),
    "load": lambda path: foodbox.load(path),
    "evaluate": lambda path: foodbox.evaluate(path, "photos"),
    "evaluate on": lambda path: foodbox.evaluate(MODEL, path),
    "evaluate to": lambda path: foodbox.evaluate(MODEL, "photos", starthon_file=path),
    "detect by": lambda path: foodbox.detect(path, "photos"),
    "detect to": lambda path: foodbox.detect(MODEL, "photos", out=path),
    "export": lambda path: foodbox.export(path),
    "export to": lambda path: foodbox.export(MODEL, out=path),
    "demo": lambda path: foodbox.demo(path),
    "compare": lambda path: foodbox.compare(path),
    "compare to": lambda path: foodbox.compare("photos", runs=path),
}
MAY_BE_NONE = {"check beside", "check to", "mend to", "evaluate to", "detect to", "export to"}


@pytest.mark.parametrize("verb", CALLS)
@pytest.mark.parametrize("wrong", [None, "", 5, b"photos", ["photos"]])
def test_what_is_no_path_is_refused(verb: str, wrong: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one is the folder that one is in to Python, and a slip to a person."""
    if wrong is None and verb in MAY_BE_NONE:
        return
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r" is (NoneType|an empty word|int|bytes|list): expected a path"):
        CALLS[verb](wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: foodbox.train("photos", name=5), "The name of the run is 5"),  # type: ignore[arg-type]
        (lambda: foodbox.compare("photos", name=5), "The name of the run is 5"),  # type: ignore[arg-type]
        (lambda: foodbox.train("photos", valid=""), "valid is '': expected a path, and this is an empty word"),
        (lambda: foodbox.train("photos", split=""), "split is '': expected a path, and this is an empty word"),
        (lambda: foodbox.compare("photos", detectors=[]), "No detector is named"),
        (lambda: foodbox.compare("photos", detectors=","), "No detector is named"),
        (lambda: foodbox.compare("photos", detectors=[1]), r"detectors is \[1\]"),  # type: ignore[list-item]
        (lambda: foodbox.compare("photos", detectors=None), "detectors is None"),  # type: ignore[arg-type]
        (lambda: foodbox.demo("there", photos="a"), "--photos is a"),  # type: ignore[arg-type]
        (lambda: foodbox.demo("there", unseen=2.5), "--unseen 2.5"),  # type: ignore[arg-type]
        (lambda: foodbox.train("photos", views=2), "--views is for --freeze, which is not given: add it"),
    ],
)
def test_what_an_argument_cannot_be_is_said_before_anything_is_read(
    call: Callable[[], object], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words):
        call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_callers_program_goes_on_as_it_was(precision: str, tmp_path: Path) -> None:
    """Its Accelerate, its row of random numbers, and its autocast, which changes nothing of the training."""
    photos = tables.write_tables(tmp_path / "photos", 6, seed=3, workers=1)
    FORMATS["voc"].write(Dataset(photos, tables.NAMES), tmp_path / "photos")
    settings = {"epochs": 3, "size": 64, "batch_size": 3, "workers": 0, "precision": precision, "weights": "none"}
    its_own = Accelerator(cpu=True, mixed_precision="no", gradient_accumulation_steps=4)
    losses = []
    for half in (False, True):
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            run = foodbox.train(tmp_path / "photos", runs=tmp_path / "runs", **settings)
            assert torch.is_autocast_enabled("cpu") is half
        assert (torch.autocast_increment_nesting(), torch.autocast_decrement_nesting()) == (1, 0)
        assert torch.equal(torch.rand(3), expected)
        losses.append(json.loads((run.folder / "log.jsonl").read_text().splitlines()[-1])["losses"])
        assert (its_own.mixed_precision, its_own.gradient_accumulation_steps) == ("no", 4)
        Accelerator(
            cpu=True, mixed_precision="no", gradient_accumulation_steps=4
        )  # which refuses what is not as it was
    assert losses[0] == losses[1]


def test_paths_are_taken_as_they_come(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (entry,) = os.scandir(tmp_path)
    assert as_path("a/b", "It") == as_path(Path("a/b"), "It") == Path("a/b")
    assert as_path(entry, "It") == tmp_path / "a"
    assert as_path(".", "It") == Path()


def test_regions_without_a_folder_are_refused() -> None:
    with pytest.raises(UsageError, match="no folder is named for them"):
        foodbox.detect(MODEL, "photos", crop=True)


@pytest.mark.parametrize("name", ["", 5, True])
def test_a_class_without_a_name_is_refused_as_in_training(name: Any) -> None:
    for call in (
        lambda: foodbox.evaluate(MODEL, "photos", one_class=name),
        lambda: foodbox.train("photos", one_class=name),
    ):
        with pytest.raises(UsageError, match=r"The setting one_class is .*should (have at least 1|be a valid string)"):
            call()


@pytest.mark.parametrize("side", ["400", 400.0, [400]])
def test_tile_sizes_that_are_none(side: Any) -> None:
    with pytest.raises(UsageError, match=r"The tile size is .*: expected a whole number of pixels"):
        foodbox.load(MODEL, tile_size=side)


@pytest.mark.parametrize("std", [(0, 0, 0), (-1, 1, 1)])
def test_pixels_are_divided_by_what_is_more_than_nothing(std: Any) -> None:
    with pytest.raises(UsageError, match=r"The setting std\S* is .*: input should be greater than 0"):
        foodbox.train("photos", std=std)


@pytest.mark.parametrize("own", ["valid", "runs"])
def test_the_demonstration_has_photos_and_a_folder_of_its_own(own: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"of its own: leave {own} out"):
        foodbox.demo(tmp_path / "demo", **{own: tmp_path})
    assert not list(tmp_path.iterdir())


def test_trainings_of_two_threads_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each seeds torch's random numbers, which all threads draw from."""
    inside, most = [0], [0]

    def reading(*_: object) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.1)
        inside[0] -= 1
        raise foodbox.FoodboxError("enough")

    def training() -> None:
        with pytest.raises(foodbox.FoodboxError, match="enough"):
            foodbox.train(tmp_path, runs=tmp_path / "runs")

    monkeypatch.setattr(api, "read_parts", reading)
    threads = [threading.Thread(target=training) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
