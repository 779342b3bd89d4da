"""Processes that train together: one folder, one voice, and none in another's way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed

from foodbox.errors import UsageError
from foodbox.training.run_folder import RunFolder
from foodbox.weights.model_file import read_model

NO_GLOO = not (torch.distributed.is_available() and torch.distributed.is_gloo_available())


def torchrun(processes: int, *words: object, seconds: float = 240) -> tuple[int, str, str]:
    """`torchrun -m foodbox.cli WORDS` on this machine's CPU: exit code, standard output, standard error."""
    # The address is given, for a machine's own name may lead nowhere.
    launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command = [sys.executable, *launcher, "--nproc-per-node", str(processes), "-m", "foodbox.cli", *map(str, words)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, out, err


@pytest.mark.skipif(NO_GLOO or sys.platform == "win32", reason="Processes cannot talk to each other here.")
def test_two_processes_train_into_one_folder(voc_folder: Path, tmp_path: Path) -> None:
    words = [
        "train",
        voc_folder,
        "--runs",
        tmp_path,
        "--name",
        "both",
        "--epochs",
        "1",
        "--size",
        "64",
        "--workers",
        "0",
    ]
    code, out, err = torchrun(2, *words, "--batch-size", "1", "--device", "cpu", "--json")
    assert code == 0, err
    run = json.loads(out)  # one value, not one of each
    assert run["run"] == str(tmp_path / "both")
    assert err.count("Training on ") == err.count("epoch   1/1") == 1
    folder = tmp_path / "both"
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "split.json", "log.jsonl", "curves.png", "samples.jpg", "best.safetensors", "last", "report.html"
    }  # fmt: skip
    assert len((folder / "log.jsonl").read_text().splitlines()) == 1
    assert read_model(folder / "best.safetensors").names == ["apple", "bowl", "cake"]


def test_the_first_process_makes_the_folder_whoever_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that another process had made already would look taken."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert RunFolder.new(tmp_path / "runs", "both", "retinanet").path == tmp_path / "runs" / "both"
    assert not (tmp_path / "runs").exists()
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "last").mkdir()
    RunFolder.expect_free(tmp_path, "made")  # by the first process, who was faster
    monkeypatch.setenv("RANK", "0")
    assert RunFolder.new(tmp_path / "runs", "both", "retinanet").path == tmp_path / "runs" / "both"
    assert (tmp_path / "runs" / "both" / "last").is_dir()
    with pytest.raises(UsageError, match="is there already"):
        RunFolder.new(tmp_path / "runs", "both", "retinanet")


@pytest.mark.parametrize("rank", ["0", "1"])
def test_processes_that_train_together_need_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(UsageError, match="give it a --name"):
        RunFolder.new(tmp_path, None, "retinanet")
