"""Every detector trains through the one loop, and goes on after a stop as if there had been none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import foodbox
from foodbox.data import tables
from foodbox.data.formats import FORMATS
from foodbox.detectors import DETECTORS
from foodbox.records import Dataset
from foodbox.training.step import TrainStep
from foodbox.weights.model_file import read_model

QUICK: dict[str, Any] = {
    "epochs": 2, "batch_size": 2, "workers": 0, "size": 64, "precision": "float32", "valid_share": 0.34,
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn tables with outlines."""
    folder = tmp_path_factory.mktemp("tables")
    drawn = tables.write_tables(folder, 6, seed=5, workers=1)
    FORMATS["coco"].write(Dataset(drawn, tables.NAMES), folder / "coco")
    return folder / "coco"


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_goes_on_where_it_was(
    name: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOODBOX_CACHE", str(tmp_path / "cache"))
    settings = QUICK | {"detector": name}
    if DETECTORS[name].needs_proposals:
        settings["proposals"] = 20
    whole = foodbox.train(photos, runs=tmp_path, name="whole", **settings)
    assert whole.scores is not None

    forward, calls = TrainStep.forward, []

    def stopping(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:  # two steps an epoch: the last step of the second
            raise KeyboardInterrupt
        return forward(self, *arguments)

    monkeypatch.setattr(TrainStep, "forward", stopping)
    stopped = foodbox.train(photos, runs=tmp_path, name="stopped", **settings)
    assert stopped.interrupted
    monkeypatch.setattr(TrainStep, "forward", forward)

    resumed = foodbox.resume(stopped.folder)
    logs = [
        [json.loads(line)["losses"] for line in (run.folder / "log.jsonl").read_text().splitlines()]
        for run in (whole, resumed)
    ]
    assert len(logs[0]) == 2
    assert logs[0] == logs[1]
    ends = [read_model(run.folder / "last" / "model.safetensors").tensors for run in (whole, resumed)]
    assert all(torch.equal(ends[0][tensor], ends[1][tensor]) for tensor in ends[0])
