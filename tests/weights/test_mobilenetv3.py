"""Starts from torchvision's small COCO detectors: the same maps as theirs, what is downloaded, and files."""

from __future__ import annotations

import re
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn, ssdlite320_mobilenet_v3_large

from foodbox.configure import apply, build
from foodbox.detectors import DETECTORS
from foodbox.detectors.base import Detector
from foodbox.errors import FoodboxError, UsageError
from foodbox.layers.backbones import Backbone
from foodbox.layers.trunks import make_trunk
from foodbox.weights import pretrained
from foodbox.weights.transfer import Transfer, Weights, put

LARGE, REDUCED = "mobilenetv3_large_100", "mobilenet_v3_large_reduced"
MAKERS: dict[str, Any] = {LARGE: fasterrcnn_mobilenet_v3_large_fpn, REDUCED: ssdlite320_mobilenet_v3_large}
URLS = {
    LARGE: "https://download.pytorch.org/models/fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
    REDUCED: "https://download.pytorch.org/models/ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
}
"""As torchvision's documentation names them."""


@pytest.fixture(scope="module")
def theirs() -> dict[str, nn.Module]:
    """Both detectors, every tensor of them random, the statistics of batch norms too."""
    models: dict[str, nn.Module] = {name: make(weights=None, weights_backbone=None) for name, make in MAKERS.items()}
    generator = torch.Generator().manual_seed(7)
    for model in models.values():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low, high in (
                    (module.running_mean, -0.1, 0.1), (module.running_var, 0.5, 1.5),
                    (module.weight, 0.5, 1.5), (module.bias, -0.1, 0.1),
                ):  # fmt: skip
                    assert tensor is not None
                    nn.init.uniform_(tensor, low, high, generator)
        model.eval()
    return models


@pytest.fixture(scope="module")
def files(theirs: dict[str, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both checkpoints, under the names that they are published by."""
    folder = tmp_path_factory.mktemp("files")
    for name, model in theirs.items():
        torch.save(model.state_dict(), folder / URLS[name].rsplit("/", 1)[-1])
    return {name: folder / URLS[name].rsplit("/", 1)[-1] for name in theirs}


@pytest.fixture
def asked(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs that are asked for, with their hashes checked; each gives its file."""
    urls: list[str] = []

    def from_disk(url: str, **options: Any) -> Any:
        assert options["check_hash"] is options["weights_only"] is True
        urls.append(url)
        return torch.load(files[next(name for name in URLS if URLS[name] == url)], weights_only=True)

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", from_disk)
    return urls


def started(choice: str, name: str, preset: str | None = None, **changes: Any) -> tuple[Detector, Transfer, Weights]:
    """A detector with its starting weights, put together as `foodbox train` does it."""
    kind = DETECTORS[name]
    settings = build(kind.Settings, kind.presets[preset or next(iter(kind.presets))])
    weights = pretrained.find(choice, apply(settings, changes).model_dump(), name)
    assert weights is not None
    assert weights.detector == ""
    detector = kind(["food"], apply(apply(settings, weights.settings), changes)).eval()
    return detector, put(weights, detector), weights


def maps_of(model: nn.Module, backbone: str, images: Tensor) -> list[Tensor]:
    """C3, C4 and C5 of torchvision's network: what its blocks 6, 12 and 16 give."""
    body: Any = model.backbone
    if backbone == LARGE:
        layers = list(body.body.values())
    else:
        first, second = body.features
        layers = [*first[:13], nn.Sequential(first[13], *second[0]), *second[1:]]
    maps = []
    for i, layer in enumerate(layers):
        images = layer(images)
        if i in (6, 12, 16):
            maps.append(images)
    return maps


def assert_near(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


# -- The same numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", [LARGE, REDUCED])
def test_the_maps_are_torchvisions(backbone: str, theirs: dict[str, nn.Module], files: dict[str, Path]) -> None:
    """On the same pixels, which the two detectors scale in their own ways."""
    mine, _, _ = started(str(files[backbone]), "retinanet")
    pixels = torch.rand(2, 3, 96, 160) * 255
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if backbone == LARGE else ((0.5,) * 3, (0.5,) * 3)
    images = (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        for found, expected in zip(
            mine.backbone_maps(pixels), maps_of(theirs[backbone], backbone, images), strict=True
        ):
            assert_near(found, expected)


@pytest.mark.parametrize(
    ("detector", "changes"),
    [
        ("retinanet", {"pyramid_channels": 256}),
        ("faster_rcnn", {"channels": 256, "norm": "none", "first_level": 3}),
        ("faster_rcnn", {"channels": 256, "norm": "none", "first_level": 2, "anchor_sizes": (16, 32, 64, 128, 256)}),
    ],
)
def test_p5_of_a_pyramid_as_wide_is_torchvisions(
    detector: str, changes: dict[str, Any], theirs: dict[str, nn.Module], files: dict[str, Path]
) -> None:
    mine: Any
    mine, _, weights = started(str(files[LARGE]), detector, backbone=LARGE, **changes)
    assert weights.origin.startswith("the backbone and P5 of ")
    images = torch.randn(1, 3, 96, 64)
    pyramid = mine.pyramid if detector == "retinanet" else mine.neck
    model: Any = theirs[LARGE]
    with torch.no_grad():
        found = pyramid(mine.backbone(images))[5 - changes.get("first_level", 3)]
        assert_near(found, model.backbone(images)["1"])


def test_a_narrower_pyramid_starts_anew(files: dict[str, Path]) -> None:
    _, result, weights = started(str(files[LARGE]), "retinanet")
    assert weights.origin.startswith("the backbone of ")
    assert all(name.startswith("backbone.") for name in weights.tensors)
    assert not [name for name in result.kept if not name.startswith("backbone.")]


# -- Every detector -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", [LARGE, REDUCED])
@pytest.mark.parametrize("detector", DETECTORS)
def test_coco_fills_the_backbone_of_every_detector(detector: str, backbone: str, asked: list[str]) -> None:
    if (detector, backbone) == ("ssd", REDUCED):
        pytest.skip("SSD has torchvision's own layout of it: tests/weights/test_torchvision_ssd.py")
    mine, result, weights = started("coco", detector, backbone=backbone)
    assert asked == [URLS[backbone]]
    assert [name for name in result.fresh if name.startswith("backbone.")] == []
    state = mine.state_dict()
    assert torch.equal(state["backbone.body.conv_stem.weight"], weights.tensors["backbone.body.conv_stem.weight"])
    epsilon = 1e-5 if backbone == LARGE else 1e-3
    assert {m.eps for m in mine.backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {epsilon}
    assert mine.preprocessing.mean == ((0.485, 0.456, 0.406) if backbone == LARGE else (0.5, 0.5, 0.5))


@pytest.mark.parametrize("backbone", [LARGE, REDUCED])
def test_a_file_says_its_backbone(backbone: str, files: dict[str, Path]) -> None:
    """Where the person has named none: the preset's gives way."""
    for detector in ("retinanet", "yolo"):
        mine, _, _ = started(str(files[backbone]), detector)
        assert mine.settings.backbone == backbone  # type: ignore[attr-defined]


def test_torchvisions_own_detectors_take_the_file_whole(files: dict[str, Path]) -> None:
    for detector, backbone in (("faster_rcnn", LARGE), ("ssd", REDUCED)):
        kind = DETECTORS[detector]
        settings = build(kind.Settings, kind.presets["light"]).model_dump()
        weights = pretrained.find(str(files[backbone]), settings, detector)
        assert weights is not None
        assert weights.detector == detector


def test_the_reduced_network_in_a_trunk() -> None:
    body, neck = make_trunk(REDUCED, "pyramid", 2, 16)
    with torch.no_grad():
        assert [tuple(x.shape[1:]) for x in neck(body(torch.zeros(1, 3, 64, 64)))] == [
            (16, side, side) for side in (16, 8, 4, 2, 1)
        ]


@pytest.mark.parametrize(("stages", "first"), [(1, "blocks.1."), (3, "blocks.3."), (4, "blocks.5."), (5, None)])
def test_the_reduced_network_freezes_like_timms(stages: int, first: str | None) -> None:
    backbone = Backbone(REDUCED, frozen_stages=stages, frozen_batch_norm=False)
    trained = [name for name, p in backbone.body.named_parameters() if p.requires_grad]
    assert (trained[0][: len("blocks.1.")] if trained else None) == first


# -- What cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", [LARGE, REDUCED])
def test_without_a_network_the_ways_on_are_named(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fails)
    with pytest.raises(FoodboxError, match=rf"{re.escape(URLS[backbone])}.*--preset light.*--weights FILE"):
        started("coco", "retinanet", backbone=backbone)


@pytest.mark.parametrize(
    ("detector", "known"),
    [
        ("retinanet", "mobilenet_v3_large_reduced, mobilenetv2_100, mobilenetv3_large_100 and resnet50;"),
        ("ssd", "mobilenet_v3_large, mobilenet_v3_large_reduced, .*, resnet50 and vgg16;"),
        ("fast_rcnn", "mobilenet_v3_large, mobilenet_v3_large_reduced, .* and resnet50;"),
        ("yolo", "darknet53, darknet_tiny, mobilenet_v3_large_reduced, .* and resnet50;"),
    ],
)
def test_a_refusal_lists_what_there_is(detector: str, known: str, asked: list[str]) -> None:
    with pytest.raises(UsageError, match=f"no COCO weights for the backbone 'resnet18', only for {known}"):
        started("coco", detector, backbone="resnet18")
    assert asked == []


@pytest.mark.parametrize("backbone", [LARGE, REDUCED])
def test_a_checkpoint_that_lacks_a_tensor_is_refused(backbone: str, files: dict[str, Path], tmp_path: Path) -> None:
    state = torch.load(files[backbone], weights_only=True)
    name = next(name for name in state if name.endswith("fc1.weight"))
    del state[name]
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(FoodboxError, match=rf"model\.pth looks like .*{re.escape(name)} is missing"):
        started(str(tmp_path / "model.pth"), "retinanet", backbone=backbone)
