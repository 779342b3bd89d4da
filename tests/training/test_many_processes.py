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


ALONE = pytest.mark.skipif(NO_GLOO or sys.platform == "win32", reason="Processes cannot talk to each other here.")
STEP = """
from pathlib import Path

import torch
from accelerate import Accelerator
from foodbox.config import TrainSettings
from foodbox.detectors.retinanet import LIGHT, RetinaNet, RetinaNetSettings
from foodbox.records import Batch, Target
from foodbox.training.optimiser import make_optimiser, set_rate
from foodbox.training.step import learner

accelerator, settings = Accelerator(cpu=True), TrainSettings()
torch.manual_seed(0)
detector = RetinaNet(["food"], RetinaNetSettings(**LIGHT)).train()
optimiser = make_optimiser(detector, settings)
learn = learner(detector, optimiser, settings.clip, accelerator, "plain")
sums = [[float(p.detach().double().sum()) for p in detector.parameters()]]
torch.manual_seed(accelerator.process_index)  # each process has photos of its own
for done in (0.1, 0.2):
    set_rate(optimiser, settings, done)
    target = Target(torch.tensor([[8.0, 8.0, 40.0, 50.0]]), torch.tensor([0]))
    learn(Batch(torch.randint(256, (1, 3, 64, 64)).byte(), [target], []))
    sums.append([float(p.detach().double().sum()) for p in detector.parameters()])
Path(f"{__file__}.{accelerator.process_index}").write_text(str(sums))  # what two print at once may be mixed
"""


def torchrun(processes: int, *words: object, seconds: float = 240) -> tuple[int, str, str]:
    """`torchrun WORDS` on this machine's CPU: exit code, standard output, standard error."""
    # The address is given, for a machine's own name may lead nowhere.
    launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command = [sys.executable, *launcher, "--nproc-per-node", str(processes), *map(str, words)]
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


@ALONE
def test_processes_that_train_together_have_the_same_weights(tmp_path: Path) -> None:
    """Each has photos of its own, and all move by the mean of their gradients."""
    (tmp_path / "step.py").write_text(STEP)
    code, _, err = torchrun(2, tmp_path / "step.py")
    assert code == 0, err
    ours, theirs = (json.loads((tmp_path / f"step.py.{i}").read_text()) for i in range(2))
    assert ours == theirs
    assert ours[0] != ours[1] != ours[2]


@ALONE
def test_processes_agree_on_when_their_time_is_up(voc_folder: Path, tmp_path: Path) -> None:
    """The first alone knows what scoring takes; where another decided by its own clock, each waited for the other."""
    words = ["--runs", tmp_path, "--name", "timed", "--time", "8s", "--size", "64", "--workers", "0"]
    code, out, err = torchrun(
        2, "-m", "foodbox.cli", "train", voc_folder, *words, "--batch-size", "1", "--device", "cpu", "--json",
        seconds=120,
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["epoch"] > 1


@ALONE
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
    code, out, err = torchrun(2, "-m", "foodbox.cli", *words, "--batch-size", "1", "--device", "cpu", "--json")
    assert code == 0, err
    run = json.loads(out)  # one value, not one of each
    assert run["run"] == str(tmp_path / "both")
    assert err.count("Training on ") == err.count("epoch   1/1") == 1
    folder = tmp_path / "both"
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "split.json", "log.jsonl", "curves.png", "samples.jpg", "precision_recall.png", "confusion.png",
        "worst.jpg", "best.safetensors", "last", "report.html",
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
