"""A model that finds something everywhere, and a photo for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import ExifTags, Image

from foodbox.detectors.retinanet import RetinaNet, RetinaNetSettings
from foodbox.model import Model
from foodbox.records import Preprocessing


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    settings = RetinaNetSettings(
        preprocessing=Preprocessing(size=64), backbone="resnet18", pyramid_channels=8, tower_init="kaiming", prior=0.5
    )
    return Model(RetinaNet(["떡 & <rice>", "tea"], settings), {"threshold": 0.25}, "cpu")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """120 x 90 pixels as a person sees it; stored lying on its side."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = tmp_path / "lunch.jpg"
    Image.effect_noise((90, 120), 90).convert("RGB").save(path, exif=exif)
    return path
