"""What the tests share: a fixed seed, drawn photos with boxes, and the folder of real data where there is one."""

from __future__ import annotations

import importlib.util
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image, ImageDraw

from foodbox.data.formats import voc
from foodbox.records import Dataset, Photo

# Examples are the same in every run, and a slow machine is no failure.
settings.register_profile(
    "foodbox", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("foodbox")

# Tensors are small here: more threads win little, and on a busy machine their waiting for each other costs minutes.
torch.set_num_threads(1)

NAMES = ["apple", "bowl", "cake"]
STOPPABLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from foodbox.cli import main; main()"
)
"""The program for `python -c`, which Ctrl-C reaches: a job in the background of a shell would pass it by."""
COLOURS = ["#D02020", "#20A040", "#2040D0"]
# Width, height, and (label, x1, y1, x2, y2) of what is drawn: lying and upright photos, one of them empty.
DRAWN: list[tuple[tuple[int, int], list[tuple[int, int, int, int, int]]]] = [
    ((96, 64), [(0, 8, 10, 40, 50)]),
    ((64, 96), [(1, 10, 20, 50, 80)]),
    ((96, 64), [(0, 4, 6, 30, 40), (2, 50, 20, 90, 60)]),
    ((80, 60), []),
    ((60, 80), [(1, 5, 5, 25, 45), (1, 30, 40, 58, 78)]),
    ((96, 72), [(2, 30, 15, 85, 65)]),
]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
    random.seed(0)


@pytest.fixture(autouse=True, scope="session")
def cache_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither see nor change what the user's own runs keep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOODBOX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real photos, weights and other implementations' outputs."""
    folder = os.environ.get("FOODBOX_TEST_DATA")
    if not folder:
        pytest.skip("FOODBOX_TEST_DATA names no folder of real photos, weights and conformance files.")
    return Path(folder)


@pytest.fixture(scope="session")
def fill(test_data: Path) -> ModuleType:
    """conformance/fill.py: tensors and images by name, the same that the reference network had."""
    spec = importlib.util.spec_from_file_location("conformance_fill", test_data / "conformance" / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def keras_reference(test_data: Path) -> dict[str, Any]:
    """Outputs of fizyr's keras-retinanet on such tensors."""
    file = test_data / "conformance" / "keras_retinanet" / "resnet50_3classes.json"
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return result


def draw_photo(path: Path, size: tuple[int, int], boxes: list[tuple[int, int, int, int, int]]) -> Photo:
    """A grey photo with a filled rectangle for each (label, x1, y1, x2, y2)."""
    image = Image.new("RGB", size, "#909090")
    pen = ImageDraw.Draw(image)
    for label, x1, y1, x2, y2 in boxes:
        pen.rectangle((x1, y1, x2 - 1, y2 - 1), fill=COLOURS[label])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return Photo(
        path,
        *size,
        torch.tensor([box[1:] for box in boxes], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([box[0] for box in boxes], dtype=torch.int64),
    )


@pytest.fixture
def drawn(tmp_path: Path) -> Dataset:
    """Six drawn photos, three classes, one photo without boxes."""
    folder = tmp_path / "drawn"
    return Dataset([draw_photo(folder / f"photo{i}.png", *what) for i, what in enumerate(DRAWN)], list(NAMES))


@pytest.fixture
def voc_folder(drawn: Dataset, tmp_path: Path) -> Path:
    """The drawn photos as a Pascal VOC folder."""
    folder = tmp_path / "voc"
    voc.write(drawn, folder)
    return folder
