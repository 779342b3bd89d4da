"""Small detectors of every one-stage kind, and a small trained model with the photos that it has seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from foodbox import configure
from foodbox.data.formats import read, voc
from foodbox.data.loader import photo_loader
from foodbox.detectors import DETECTORS
from foodbox.detectors.base import OneStageDetector
from foodbox.detectors.retinanet import RetinaNet, RetinaNetSettings
from foodbox.records import Dataset, Photo, Preprocessing
from foodbox.weights.model_file import save_model
from tests.conftest import NAMES

# Small enough to be quick. Untrained networks' scores are all alike unless what they start at and the norms say more.
SMALL: dict[str, dict[str, Any]] = {
    "retinanet": {"prior": 0.5},
    "ssd": {},
    "yolo": {"head_widths": (32, 16, 8), "head_layers": (1, 1, 1), "start": 0.5},
    "m2det": {
        "planes": 32,
        "tums": 2,
        "base_channels": (16, 32),
        "scales": 4,
        "anchor_sizes": (0.1, 0.2, 0.4, 0.6, 0.8),
    },
}


def small(kind: str) -> OneStageDetector:
    torch.manual_seed(0)
    cls = DETECTORS[kind]
    preset = next(iter(cls.presets.values()))
    prepared = preset["preprocessing"].model_copy(update={"size": 128})
    return cls(NAMES, configure.build(cls.Settings, preset | {"preprocessing": prepared} | SMALL[kind])).eval()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photos, each with one bright square on noise, as a Pascal VOC folder."""
    folder = tmp_path_factory.mktemp("squares")
    made = []
    for i in range(8):
        x, y = 6 + 7 * i, 60 - 6 * i
        image = Image.effect_noise((128, 128), 30).convert("RGB")
        ImageDraw.Draw(image).rectangle((x, y, x + 47, y + 47), fill="red")
        path = folder / f"{i}.png"
        image.save(path)
        made.append(
            Photo(path, 128, 128, torch.tensor([[x, y, x + 48.0, y + 48.0]]), torch.zeros(1, dtype=torch.int64))
        )
    voc.write(Dataset(made, ['떡 & <rice> "cake"']), folder / "voc")
    return folder / "voc"


@pytest.fixture(scope="session")
def model(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that has seen the squares a few times."""
    torch.manual_seed(0)
    dataset, _ = read(photos)
    settings = configure.apply(
        RetinaNetSettings(**RetinaNet.presets["light"]),
        {"preprocessing": Preprocessing(size=96), "backbone": "resnet18", "pyramid_channels": 16, "frozen_stages": 0},
    )
    detector = RetinaNet(dataset.names, settings).train()
    optimiser = torch.optim.AdamW(detector.parameters(), 2e-3)
    batch = next(iter(photo_loader(dataset.photos, settings.preprocessing, 8, 0)))
    for _ in range(15):
        optimiser.zero_grad()
        torch.stack(list(detector.losses(batch.images, batch.targets).values())).sum().backward()
        optimiser.step()
    path = tmp_path_factory.mktemp("model") / "best.safetensors"
    save_model(path, detector, {"photos": '떡\n"<&>', "epoch": 3})
    return path
