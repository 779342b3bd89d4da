"""Starting weights by choice: what the package carries, what is downloaded, what is refused."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from torch import nn
from torchvision.models import mobilenet_v2

from foodbox.configure import apply
from foodbox.detectors.retinanet import LIGHT, TORCHVISION_V1, RetinaNet, RetinaNetSettings
from foodbox.errors import FoodboxError, UsageError
from foodbox.weights import model_file, pretrained, torchvision
from foodbox.weights.transfer import Weights, put


def wanted(backbone: str, **changes: Any) -> dict[str, Any]:
    """A detector's settings."""
    return RetinaNetSettings(backbone=backbone, **changes).model_dump()


# -- What the package carries ---------------------------------------------------------------------------------------


def test_the_embedded_backbone_fills_the_default_presets() -> None:
    weights = pretrained.find("coco", wanted("mobilenetv2_100"))
    assert weights is not None
    detector = RetinaNet(["food"], apply(RetinaNetSettings(**LIGHT), weights.settings))
    result = put(weights, detector)
    backbone = {n for n in detector.state_dict() if n.startswith("backbone.") and not n.endswith("num_batches_tracked")}
    assert set(result.kept) == backbone
    assert {m.eps for m in detector.backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def test_the_embedded_backbone_is_small() -> None:
    assert pretrained.EMBEDDED.stat().st_size < 5e6


def test_the_embedded_backbone_computes_what_the_checkpoint_does(test_data: Path) -> None:
    """In torchvision's MobileNetV2, whose names the checkpoint has; rounded to half precision as the package's are."""
    file = test_data / "weights" / "mobilenet_v2_coco" / "mobilenet_v2_features_coco_torchvision_names.pth"
    state = torch.load(file, map_location="cpu", weights_only=True)
    theirs = mobilenet_v2(weights=None).features.eval()
    theirs.load_state_dict({name: tensor.half().float() for name, tensor in state.items()})
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    weights = pretrained.embedded()
    ours = RetinaNet(["food"], apply(RetinaNetSettings(**LIGHT), weights.settings)).eval()
    put(weights, ours)
    pixels = torch.rand(1, 3, 96, 64) * 255
    expected, signal = {}, pixels * 2 / 255 - 1
    with torch.no_grad():
        found = ours.backbone(ours.normalise(pixels))
        for i, layer in enumerate(theirs):
            signal = layer(signal)
            expected[i] = signal
    for mine, other in zip(found, (expected[6], expected[13], expected[17]), strict=True):
        assert mine.shape == other.shape
        assert float((mine - other).abs().max()) < 1e-4 * float(other.std())


# -- Choices that cannot be -----------------------------------------------------------------------------------------


def test_none_is_nothing() -> None:
    assert pretrained.find("none", wanted("resnet18")) is None


def test_a_backbone_without_coco_weights_is_refused_with_the_ways_on() -> None:
    with pytest.raises(UsageError, match=r"no COCO weights for the backbone 'resnet18'.*--weights imagenet"):
        pretrained.find("coco", wanted("resnet18"))


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no weight file nowhere\.pth: .* for training one of coco, imagenet"):
        pretrained.find("nowhere.pth", wanted("resnet18"))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no weight file"):
        pretrained.find(str(tmp_path), wanted("resnet18"))


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.onnx").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"weights\.onnx does not end in any of \.safetensors, \.pth"):
        pretrained.find(str(tmp_path / "weights.onnx"), wanted("resnet18"))


def test_a_run_folder_stands_for_its_best_model(tmp_path: Path) -> None:
    model_file.save_model(tmp_path / "best.safetensors", RetinaNet(["soup"], RetinaNetSettings(**LIGHT)), {})
    weights = pretrained.find(str(tmp_path), wanted("mobilenetv2_100"))
    assert weights is not None
    assert weights.names == ["soup"]


def test_half_of_an_exported_model_names_the_other(tmp_path: Path) -> None:
    (tmp_path / "best.bin").write_bytes(b"x")
    with pytest.raises(
        UsageError, match=r"best\.bin does not end in .* for detecting an exported model's \.xml or \.onnx\."
    ):
        pretrained.read(tmp_path / "best.bin")
    (tmp_path / "best.xml").write_bytes(b"x")
    with pytest.raises(UsageError, match=rf"best\.bin does not end in .* for detecting {tmp_path}/best\.xml\."):
        pretrained.read(tmp_path / "best.bin")
    with pytest.raises(UsageError, match=r"for detecting also of an exported model's \.xml or \.onnx, or for training"):
        pretrained.read(tmp_path / "gone.bin")


@pytest.mark.parametrize("name", ["w.pth", "W.PT", "w.h5", "w.hdf5", "w.safetensors"])
def test_an_ending_chooses_the_reader_whatever_its_case(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("hello there")
    with pytest.raises(FoodboxError, match="is not a whole") as caught:
        pretrained.find(str(tmp_path / name), wanted("resnet18"))
    assert not isinstance(caught.value, UsageError)


@pytest.mark.parametrize("backbone", ["no_such_net", "resnet18.no_such_tag"])
def test_a_backbone_without_imagenet_weights_is_refused(backbone: str) -> None:
    with pytest.raises(UsageError, match=f"no ImageNet weights for the backbone '{backbone}'"):
        pretrained.imagenet(backbone)


@pytest.mark.parametrize(("norm", "preset"), [("none", "torchvision"), ("group", "torchvision_v2")])
def test_the_towers_norm_chooses_torchvisions_model(norm: str, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision, "download", lambda chosen: Weights({}, chosen))
    weights = pretrained.find("coco", wanted("resnet50", tower_norm=norm))
    assert weights is not None
    assert weights.origin == preset


def test_a_pyramid_of_another_width_takes_torchvisions_backbone_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what its tensors need: epsilon and colours, and nothing of how the whole was trained."""
    tensors = {"backbone.body.conv1.weight": torch.ones(1), "pyramid.p6.weight": torch.ones(1)}
    whole = Weights(tensors, "a test", ["person"], "retinanet", {"backbone": "resnet50"} | TORCHVISION_V1)
    monkeypatch.setattr(torchvision, "download", lambda _: whole)
    weights = pretrained.find("coco", wanted("resnet50", pyramid_channels=64))
    assert weights is not None
    assert list(weights.tensors) == ["backbone.body.conv1.weight"]
    assert (weights.names, weights.detector) == ([], "")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert weights.settings == {"backbone": "resnet50", "batch_norm_eps": 0.0, "mean": mean, "std": std}


# -- timm's hub -----------------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)


@pytest.mark.usefixtures("nothing_cached")
@pytest.mark.parametrize(
    "fault",
    [urllib.error.URLError("no route to host"), TimeoutError("timed out"), TimeoutError(), ConnectionResetError()],
)
def test_without_a_network_the_ways_on_are_named(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise fault

    monkeypatch.setattr(urllib.request, "urlopen", fails)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("the hub was asked"))
    with pytest.raises(FoodboxError, match=r"Could not download timm's ImageNet resnet18.*embedded.*--weights FILE"):
        pretrained.find("imagenet", wanted("resnet18"))


@pytest.mark.usefixtures("nothing_cached")
def test_a_hub_that_answers_with_a_fault_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its front page may refuse what its files do not; then timm's own fault is said."""

    def answers(*_: Any, **__: Any) -> Any:
        raise urllib.error.HTTPError("https://hub", 403, "Forbidden", None, None)  # type: ignore[arg-type]

    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the file is gone\nand more lines")

    monkeypatch.setattr(urllib.request, "urlopen", answers)
    monkeypatch.setattr(timm, "create_model", fails)
    with pytest.raises(FoodboxError, match=r"\(the file is gone\)"):
        pretrained.imagenet("resnet18")


@pytest.mark.parametrize(
    ("backbone", "mean"), [("resnet18", 0.485), ("mobilenetv2_100", 0.485), ("tf_efficientnet_lite0", 0.5)]
)
def test_timms_weights_bring_their_preprocessing(backbone: str, mean: float, monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def untrained(name: str, **options: Any) -> nn.Module:
        assert options.pop("pretrained") is True
        body = create(name, **options)
        for module in body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 2e-3
        return body

    monkeypatch.setattr(timm, "create_model", untrained)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: "a file")
    weights = pretrained.imagenet(backbone)
    monkeypatch.undo()
    config = timm.get_pretrained_cfg(backbone)
    assert config is not None
    assert weights.settings == {
        "backbone": backbone,
        "mean": tuple(config.mean),
        "std": tuple(config.std),
        "batch_norm_eps": 2e-3,
    }
    assert weights.settings["mean"][0] == mean
    detector = RetinaNet(["food"], apply(RetinaNetSettings(**LIGHT), weights.settings))
    result = put(weights, detector)
    assert not [name for name in result.fresh if name.startswith("backbone.")]
    assert detector.preprocessing.mean[0] == mean
