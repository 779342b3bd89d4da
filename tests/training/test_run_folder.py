"""A run's folder: whose it is, and which epoch is its best."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from foodbox.errors import UsageError
from foodbox.evaluation.scores import score
from foodbox.training.run_folder import Progress, RunFolder, load_optimiser, optimiser_tensors
from tests.evaluation.random_detections import random_photos


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


def test_a_class_may_have_any_letter_in_the_log(tmp_path: Path) -> None:
    """Of which some break lines, if not JSON's."""
    folder = RunFolder.new(tmp_path, "mine", "ssd")
    entries = [{"epoch": 1, "scores": {"per_class": {"a\u2028b\u0085c": 0.5}}}, {"epoch": 2}]
    folder.write_log(entries)
    assert folder.log() == entries


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
