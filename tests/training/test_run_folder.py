"""A run's folder: whose it is, and which epoch is its best."""

from __future__ import annotations

import dataclasses
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from foodbox.drawing import curves as drawing
from foodbox.drawing import html
from foodbox.errors import FoodboxError, UsageError
from foodbox.evaluation.scores import score, score_rows
from foodbox.files import alone_in
from foodbox.training.run_folder import Progress, RunFolder, load_optimiser, optimiser_tensors
from tests.evaluation.random_detections import random_photos


def entry(epoch: int, scores: dict[str, Any]) -> dict[str, Any]:
    """A line of the log."""
    return {"epoch": epoch, "seconds": 1.0, "losses": {"a": 1.0}, "scores": scores}


def test_runs_that_start_at_once_have_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: RunFolder.new(tmp_path / "runs", None, "ssd").path, range(40)))
    assert len(set(made)) == 40


def test_of_runs_of_one_name_that_start_at_once_one_starts(tmp_path: Path) -> None:
    def start(_: int) -> bool:
        try:
            RunFolder.new(tmp_path / "runs", "same", "ssd")
        except UsageError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(start, range(40))) == 1


def test_a_run_that_fails_before_it_has_a_model_leaves_its_name_free(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path, "mine", "ssd")
    folder.write_config({"photos": "p"})
    folder.give_up()
    assert not folder.path.exists()
    folder = RunFolder.new(tmp_path, "mine", "ssd")
    folder.write_config({"photos": "p"})
    folder.last_model.write_bytes(b"kept")
    folder.give_up()
    assert folder.last_model.exists()
    assert folder.read_config() == {"photos": "p"}  # which going on needs


def test_a_run_that_cannot_be_gone_on_with_is_not_recommended(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path, "mine", "ssd")
    with pytest.raises(UsageError, match="is there already: choose another --name, or remove it"):
        RunFolder.expect_free(tmp_path, "mine")
    folder.write_state({"a": torch.zeros(1)}, Progress())
    with pytest.raises(UsageError, match="is there already: choose another --name, or go on with --resume"):
        RunFolder.expect_free(tmp_path, "mine")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/a", "a\\b", "a\0b", 86 * "점"])
def test_a_run_lies_in_its_folder(name: str, tmp_path: Path) -> None:
    for call in (RunFolder.expect_free, lambda runs, name: RunFolder.new(runs, name, "ssd")):
        with pytest.raises(
            UsageError, match=r"^--name is .*: expected a folder's name of at most 255 bytes, without / and \\;"
        ):
            call(tmp_path / "runs", name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mine", "my run", "점심", "v1.2", "a:b", None])
def test_a_name_may_have_any_other_letter(name: str | None, tmp_path: Path) -> None:
    RunFolder.expect_free(tmp_path / "runs", name)
    folder = RunFolder.new(tmp_path / "runs", name, "ssd")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [folder.path.name] == [name or "ssd-1"]


@pytest.mark.parametrize("name", ["mine", None])
def test_a_place_that_cannot_be_written_to_is_said_at_once(
    name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FoodboxError, match=r"Cannot write .*: a file is where the folder should be"):
        RunFolder.expect_free(tmp_path / "file" / "runs", name)
    asked: list[Path] = []
    monkeypatch.setattr(os, "access", lambda path, _: asked.append(path))  # whoever is root may write anywhere
    with pytest.raises(FoodboxError, match=r"Cannot write .*runs.*: Permission denied"):
        RunFolder.expect_free(tmp_path / "new" / "runs", name)
    assert asked == [tmp_path]


def test_the_report_has_the_words_of_the_screen(tmp_path: Path) -> None:
    dataset, found = random_photos(0)
    scores = score(dataset, found)
    folder = RunFolder.new(tmp_path, "mine", "ssd")
    folder.write_report({"photos": "p"}, scores)
    page = (folder.path / "report.html").read_text(encoding="utf-8")
    assert f"<p>{scores.photos} photos, {scores.boxes} boxes.</p>" in page
    assert all(html.text(title) in page for title, _ in score_rows(scores.to_dict()))
    assert "ap50" not in page
    assert "mask" not in page


def test_a_picture_that_the_best_epoch_lacks_is_taken_away(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path, "mine", "ssd")
    (folder.path / "curves.png").write_bytes(b"curves")
    folder.write_pictures({"samples.jpg": b"1", "worst.jpg": b"1"})
    folder.write_pictures({"samples.jpg": b"2"})
    pictures = {path.name: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}
    assert pictures == {"curves.png": b"curves", "samples.jpg": b"2"}


def test_the_curves_name_the_epoch_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, found = random_photos(0)
    scores = [dataclasses.replace(score(dataset, found), ap=ap).to_dict() for ap in (0.1, 0.3, 0.2)]
    folder = RunFolder.new(tmp_path, "mine", "ssd")
    folder.write_log([entry(i + 1, one) for i, one in enumerate(scores)])
    asked: list[int] = []
    monkeypatch.setattr(drawing, "curves", lambda log, title, best: asked.append(best) or b"")
    folder.write_curves()
    assert asked == [2]


def test_a_class_may_have_any_letter_in_the_log(tmp_path: Path) -> None:
    """Of which some break lines, if not JSON's."""
    folder = RunFolder.new(tmp_path, "mine", "ssd")
    scores = score(*random_photos(0)).to_dict()
    entries = [entry(1, scores | {"per_class": {"a\u2028b\u0085c": 0.5}}), entry(2, scores)]
    folder.write_log(entries)
    assert folder.log() == entries


WHOLE = json.dumps(entry(1, score(*random_photos(0)).to_dict())) + "\n"


@pytest.mark.parametrize(
    "line",
    [
        WHOLE[:-20],
        WHOLE.replace('"epoch"', '"step"'),
        WHOLE.replace('"voc_ap50"', '"voc"'),
        WHOLE.replace('"seconds": 1.0, ', ""),
        "hello",
        "[1, 2]",
        "7",
        '{"epoch": 1, "seconds": 1, "losses": {}, "scores": null}',
        "[" * 100_000,
        "1" * 5000,
        "\udcff\udcff",
    ],
    ids=["cut short", "another name", "another score", "lacks one", "words", "list", "number", "not scored", "deep",
         "long", "no text"],
)  # fmt: skip
def test_a_damaged_log_is_said_in_a_sentence_with_its_line(line: str, tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path, "mine", "ssd")
    (folder.path / "log.jsonl").write_text(WHOLE + line, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UsageError, match=r"log\.jsonl:2 cannot be read as an epoch of this version of foodbox\. Rem"):
        folder.log()


def test_the_state_is_not_mapped_when_it_is_written_again(tmp_path: Path) -> None:
    """Windows replaces no file that is."""
    folder = RunFolder.new(tmp_path, "mine", "ssd")
    folder.write_state({"a": torch.zeros(1000)}, Progress())
    tensors, _ = folder.read_state()
    maps = Path("/proc/self/maps")
    assert not maps.exists() or "state.safetensors" not in maps.read_text()
    assert len(tensors["a"]) == 1000


def test_of_equal_epochs_the_later_one_is_the_best() -> None:
    dataset, found = random_photos(0)
    progress, scores = Progress(), score(dataset, found)
    assert progress.note_if_better(scores, 1)
    assert progress.note_if_better(scores, 2)  # of equals the one that was trained longer
    assert not progress.note_if_better(dataclasses.replace(scores, ap=(scores.ap or 0) - 0.1), 3)
    assert progress.best_epoch == 2


def test_the_optimisers_memory_lies_in_the_order_of_the_weights() -> None:
    """Files keep no order of memory: read as it is, fused AdamW would go across it, many times as slowly."""
    weight = nn.Parameter(torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last))
    first, second = (torch.optim.AdamW([weight], fused=True) for _ in range(2))
    weight.grad = torch.randn_like(weight)
    first.step()
    load_optimiser(second, {name: value.contiguous() for name, value in optimiser_tensors(first).items()})
    for key, value in first.state[weight].items():
        assert torch.equal(second.state[weight][key], value)
        assert second.state[weight][key].stride() == value.stride()
    assert second.state[weight]["exp_avg"].stride() == weight.stride() != (36, 9, 3, 1)


@pytest.mark.parametrize("later", [[torch.zeros(3, 4)], [torch.zeros(3, 4), torch.zeros(5)]])
def test_an_optimisers_memory_of_other_parameters_is_refused(later: list[torch.Tensor]) -> None:
    """Of another version, with fewer parameters or of other shapes."""
    first, second = (
        torch.optim.AdamW([nn.Parameter(value) for value in values])
        for values in ([torch.zeros(3, 4), torch.zeros(6)], later)
    )
    for weight in first.param_groups[0]["params"]:
        weight.grad = torch.ones_like(weight)
    first.step()
    with pytest.raises(UsageError, match="another version of foodbox began it"):
        load_optimiser(second, optimiser_tensors(first))


def test_a_folder_that_another_one_is_at_work_in_is_not_to_be_removed(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path, "mine", "ssd")
    folder.write_config({"photos": "p"})
    with alone_in(folder.path), pytest.raises(UsageError, match="Another foodbox is at work in"):
        RunFolder.new(tmp_path, "mine", "ssd")
    with pytest.raises(UsageError, match="or remove it, for no epoch of it was kept"):
        RunFolder.new(tmp_path, "mine", "ssd")
