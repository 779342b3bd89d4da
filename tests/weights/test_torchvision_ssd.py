"""torchvision's SSDs and the reduced VGG-16: names and categories, what is downloaded, files that are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torchvision.models import mobilenet_v3_large, resnet18
from torchvision.models.detection import keypointrcnn_resnet50_fpn, ssd300_vgg16, ssdlite320_mobilenet_v3_large

from foodbox.configure import apply
from foodbox.detectors.ssd import SSD, SSDSettings
from foodbox.errors import FoodboxError
from foodbox.layers.vgg import VGG16
from foodbox.weights import pretrained, torchvision_ssd, vgg
from foodbox.weights.model_file import build
from foodbox.weights.transfer import put

MODELS = {"ssd300": ssd300_vgg16, "ssdlite320": ssdlite320_mobilenet_v3_large}
PLACES = {"ssd300": (4, 6, 6, 6, 4, 4), "ssdlite320": (6,) * 6}
LAST = {"ssd300": "", "ssdlite320": "1."}


def filled(module: Any) -> dict[str, Tensor]:
    """A module's names and shapes; every tensor one number of its own, stored once, so that files stay small."""
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    numbers = (torch.arange(len(shapes), device="cpu") / 1000 + 0.5).split(1)
    return {
        name: number.reshape(()).expand(shape) for (name, shape), number in zip(shapes.items(), numbers, strict=True)
    }


def state_of(preset: str, categories: int = 91) -> dict[str, Tensor]:
    """A checkpoint whose class rows count categories."""
    with torch.device("meta"):
        state = filled(MODELS[preset](weights=None, weights_backbone=None, num_classes=categories))
    for i, count in enumerate(PLACES[preset]):
        name = f"head.classification_head.module_list.{i}.{LAST[preset]}"
        numbers = torch.arange(categories, dtype=torch.float32).repeat(count)
        state[f"{name}bias"] = numbers
        state[f"{name}weight"] = numbers.view(-1, 1, 1, 1).expand_as(state[f"{name}weight"])
    return state


def reduced_vgg() -> dict[str, Tensor]:
    """The names of vgg16_reducedfc.pth, as ssd.pytorch's sequence gives them."""
    with torch.device("meta"):
        state = filled(VGG16())
    places = {name: place for place, name in vgg.REDUCED.items()}
    return {f"{places[name.split('.')[0]]}.{name.split('.')[1]}": tensor for name, tensor in state.items()}


def saved(state: Any, path: Path) -> Path:
    torch.save(state, path)
    return path


# -- torchvision's SSDs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", MODELS)
def test_a_checkpoint_fills_the_whole_detector(preset: str, tmp_path: Path) -> None:
    """Every tensor of the file is used, each once."""
    state = state_of(preset)
    weights = pretrained.read(saved(state, tmp_path / "model.pth"))
    detector = build(weights)
    assert weights.detector == "ssd"
    assert detector.settings == SSDSettings(**SSD.presets[preset])
    tensors = {n: t for n, t in detector.state_dict().items() if not n.endswith("num_batches_tracked")}
    assert all(torch.equal(value, weights.tensors[name]) for name, value in tensors.items())
    assert len(weights.tensors) == len(state)


@pytest.mark.parametrize("preset", MODELS)
def test_background_is_kept_first_and_unused_numbers_are_left_out(preset: str) -> None:
    """COCO: person is 1, street sign 12 was never used, toothbrush is 90."""
    weights = torchvision_ssd.convert(state_of(preset), "a test")
    assert len(weights.names) == 80
    output = "output." if preset == "ssdlite320" else ""
    for i, count in enumerate(PLACES[preset]):
        for part in ("weight", "bias"):
            rows = weights.tensors[f"class_heads.{i}.{output}{part}"].reshape(count, 81, -1)[count - 1, :, 0]
            assert rows[0] == 0
            found = dict(zip(weights.names, rows[1:].tolist(), strict=True))
            assert (found["person"], found["fire hydrant"], found["stop sign"], found["toothbrush"]) == (1, 11, 13, 90)
            assert not {12.0, 26.0, 83.0} & set(found.values())


@pytest.mark.parametrize("preset", MODELS)
def test_other_numbers_of_classes_are_numbered(preset: str) -> None:
    weights = torchvision_ssd.convert(state_of(preset, categories=4), "a test")
    assert weights.names == ["1", "2", "3"]
    name = f"class_heads.0.{'output.' if preset == 'ssdlite320' else ''}bias"
    assert weights.tensors[name].tolist() == [0, 1, 2, 3] * PLACES[preset][0]


@pytest.mark.parametrize(
    "wrap", [lambda s: {"model": s, "epoch": 3}, lambda s: {f"module.{n}": t for n, t in s.items()}]
)
def test_a_training_scripts_checkpoint_is_read_too(wrap: Any, tmp_path: Path) -> None:
    """Beside an optimiser, or from DataParallel."""
    state = {name: t for name, t in state_of("ssdlite320").items() if not name.endswith("num_batches_tracked")}
    weights = pretrained.read(saved(wrap(state), tmp_path / "model.pth"))
    assert weights.tensors.keys() == torchvision_ssd.convert(state, "a test").tensors.keys()
    build(weights)


# -- Files that are refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", MODELS)
def test_a_checkpoint_with_tensors_missing_says_which(preset: str, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in state_of(preset).items() if "regression_head" not in name}
    pattern = (
        rf"model\.pth looks like torchvision's {preset}_\w+, but \d+ of its tensors do not fit "
        r"\(head\.regression_head\.module_list\.0\.\S+ is missing; .* \.\.\.\)"
    )
    with pytest.raises(FoodboxError, match=pattern):
        pretrained.read(saved(state, tmp_path / "model.pth"))


def test_a_tensor_of_another_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    state = state_of("ssd300") | {"backbone.scale_weight": torch.ones(256)}
    pattern = r"1 of its tensors do not fit \(backbone\.scale_weight is \[256\] and should be \[512\]\)"
    with pytest.raises(FoodboxError, match=pattern):
        pretrained.read(saved(state, tmp_path / "model.pth"))


@pytest.mark.parametrize(
    ("make", "network"),
    [
        (lambda: keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None), "torchvision's Keypoint R-CNN"),
        (lambda: resnet18(weights=None), "a ResNet that sorts photos"),
        (lambda: mobilenet_v3_large(weights=None), "a MobileNet that sorts photos"),
        (lambda: torch.nn.ModuleDict({"odd": torch.nn.Linear(2, 2)}), "no network that foodbox knows"),
    ],
)
def test_another_networks_checkpoint_is_refused_by_its_name(make: Any, network: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        state = filled(make())
    with pytest.raises(FoodboxError, match=rf"looks like {network} \(it holds .*expected a checkpoint of torch"):
        pretrained.read(saved(state, tmp_path / "model.pth"))


# -- The reduced VGG-16 ---------------------------------------------------------------------------------------------


def test_the_reduced_vgg_fills_the_backbone(tmp_path: Path) -> None:
    """With the pixels that it was trained on, red green blue without a spread."""
    state = reduced_vgg()
    assert list(state)[-4:] == ["31.weight", "31.bias", "33.weight", "33.bias"]
    weights = pretrained.read(saved(state, tmp_path / "vgg16_reducedfc.pth"))
    detector = SSD(["food"], apply(SSDSettings(**SSD.presets["ssd300"]), weights.settings))
    result = put(weights, detector)
    assert set(result.kept) == {name for name in detector.state_dict() if name.startswith("backbone.")}
    assert torch.equal(detector.backbone.fc6.bias, state["31.bias"])  # type: ignore[union-attr, arg-type]
    black = detector.normalise(torch.zeros(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(black, torch.tensor([-123.0, -117.0, -104.0]))


def test_a_reduced_vgg_cut_short_says_what_is_missing(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in reduced_vgg().items() if not name.startswith("33.")}
    with pytest.raises(FoodboxError, match=r"VGG-16.*2 of its tensors do not fit \(33\.weight is missing; 33\.bias"):
        pretrained.read(saved(state, tmp_path / "vgg.pth"))


def test_imagenets_vgg_is_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fourth channel of fc6 and fc7, and fc6's places 0, 3 and 6 of 7; the convolutions as they are."""
    with torch.device("meta"):
        state = filled(timm.create_model("vgg16"))
    channel = torch.arange(4096.0)
    place = 10 * torch.arange(7.0)[:, None] + torch.arange(7.0)
    state["pre_logits.fc1.weight"] = place.expand(4096, 512, 7, 7)
    state["pre_logits.fc1.bias"] = state["pre_logits.fc2.bias"] = channel
    state["pre_logits.fc2.weight"] = channel[:, None, None, None] + (channel / 4096)[:, None, None]
    asked: dict[str, Any] = {}

    class Timms:
        def state_dict(self) -> dict[str, Tensor]:
            return state

    def create(name: str, **options: Any) -> Timms:
        asked.update(options, name=name)
        return Timms()

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr(pretrained, "_reachable", lambda _: None)
    settings = SSDSettings(**SSD.presets["ssd300"])
    weights = pretrained.find("imagenet", settings.model_dump(), "ssd")
    assert weights is not None
    assert asked == {"name": "vgg16", "features_only": False, "pretrained": True}
    assert weights.settings["mean"] == (0.485, 0.456, 0.406)
    fc6, fc7 = weights.tensors["backbone.fc6.weight"], weights.tensors["backbone.fc7.weight"]
    assert fc6[5, 7].tolist() == [[0, 3, 6], [30, 33, 36], [60, 63, 66]]
    assert weights.tensors["backbone.fc6.bias"].tolist() == list(range(0, 4096, 4))
    assert fc7[3, 2].item() == pytest.approx(12 + 8 / 4096)
    monkeypatch.undo()
    detector = SSD(["food"], apply(settings, weights.settings))
    assert {n for n in detector.state_dict() if n.startswith("backbone.")} == set(put(weights, detector).kept)


# -- Download -------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs that are asked for; each gives a checkpoint of its network."""
    urls: list[str] = []

    def fetch(url: str) -> dict[str, Tensor]:
        urls.append(url)
        if "ssd" in url:
            return state_of("ssdlite320" if "lite" in url else "ssd300")
        with torch.device("meta"):
            return filled(mobilenet_v3_large(weights=None))

    monkeypatch.setattr(torchvision_ssd, "fetch", fetch)
    return urls


@pytest.mark.parametrize(
    ("preset", "changes", "file", "whole"),
    [
        ("ssd300", {}, r"ssd300_vgg16_coco-b556d3b4", True),
        ("ssdlite320", {}, r"ssdlite320_mobilenet_v3_large_coco-a79551df", True),
        ("ssd512", {}, r"ssd300_vgg16_coco-b556d3b4", False),
        ("ssdlite320", {"norm": "group"}, r"ssdlite320_mobilenet_v3_large_coco-a79551df", False),
    ],
)
def test_coco_is_the_official_file_or_its_backbone(
    asked: list[str], preset: str, changes: dict[str, Any], file: str, whole: bool
) -> None:
    settings = apply(SSDSettings(**SSD.presets[preset]), changes)
    weights = pretrained.find("coco", settings.model_dump(), "ssd")
    assert weights is not None
    assert len(asked) == 1
    assert re.fullmatch(rf"https://download\.pytorch\.org/models/{file}\.pth", asked[0])
    assert (weights.detector == "ssd") is whole
    detector = SSD(weights.names or ["food"], apply(settings, weights.settings))
    fresh = put(weights, detector).fresh
    assert not [name for name in fresh if name.startswith("backbone.")]
    assert (fresh == []) is whole


def test_imagenets_mobilenet_brings_its_whole_tail(asked: list[str]) -> None:
    settings = SSDSettings(**SSD.presets["ssdlite320"])
    weights = pretrained.find("imagenet", settings.model_dump(), "ssd")
    assert weights is not None
    assert re.search(r"mobilenet_v3_large-[0-9a-f]{8}\.pth$", asked[0])
    detector = SSD(["food"], apply(settings, weights.settings))
    kept = {name for name in detector.state_dict() if name.startswith("backbone.") and "num_batches" not in name}
    assert set(put(weights, detector).kept) == kept
    theirs = {m.eps for m in mobilenet_v3_large().modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert theirs == {weights.settings["batch_norm_eps"]}


def test_the_light_preset_needs_no_network(asked: list[str]) -> None:
    weights = pretrained.find("coco", SSDSettings(**SSD.presets["light"]).model_dump(), "ssd")
    assert weights is not None
    assert "embedded" in weights.origin
    assert asked == []
