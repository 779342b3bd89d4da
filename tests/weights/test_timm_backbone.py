"""Checkpoints of timm's networks alone: every map as timm computes it, and files of other networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from foodbox.configure import apply
from foodbox.detectors.retinanet import LIGHT, RetinaNet, RetinaNetSettings
from foodbox.errors import FoodboxError
from foodbox.weights import pretrained
from foodbox.weights.transfer import put


def network(name: str) -> Any:
    """Timm's whole network, classifier and all, with every tensor random."""
    model = timm.create_model(name, pretrained=False).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.normal_(module.running_mean, 0, 0.1)  # type: ignore[arg-type]
    return model


def wanted(backbone: str) -> dict[str, Any]:
    return RetinaNetSettings(**LIGHT | {"backbone": backbone}).model_dump()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("backbone", "file", "wrapper"),
    [
        ("tf_efficientnet_lite0", "w.pth", None),
        ("mobilenetv2_100", "w.pt", "state_dict"),
        ("resnet18", "w.pth", None),
        ("darknet53", "w.pth", None),  # stages.0 in the whole network, and stages_0 where it is cut off
    ],
)
def test_a_networks_own_checkpoint_fills_the_backbone(
    backbone: str, file: str, wrapper: str | None, tmp_path: Path
) -> None:
    theirs = network(backbone)
    torch.save({wrapper: theirs.state_dict()} if wrapper else theirs.state_dict(), tmp_path / file)
    weights = pretrained.find(str(tmp_path / file), wanted(backbone))
    assert weights is not None
    config = timm.get_pretrained_cfg(backbone)
    assert config is not None
    assert (weights.settings["mean"], weights.settings["std"]) == (config.mean, config.std)
    mine = RetinaNet(["food"], apply(RetinaNetSettings(**LIGHT), weights.settings)).eval()  # type: ignore[arg-type]
    assert [name for name in put(weights, mine).fresh if name.startswith("backbone.")] == []

    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = theirs.forward_intermediates(images, intermediates_only=True)[-3:]
        for found, other in zip(mine.backbone(images), expected, strict=True):
            assert found.shape == other.shape
            assert float((found - other).abs().max()) < 1e-4 * float(other.abs().max())


def test_another_networks_checkpoint_is_refused_and_the_backbone_named(tmp_path: Path) -> None:
    torch.save(network("tf_efficientnet_lite0").state_dict(), tmp_path / "lite0.pth")
    with pytest.raises(FoodboxError, match=r"EfficientNet of timm's.*or of timm's mobilenetv2_100, the --backbone"):
        pretrained.find(str(tmp_path / "lite0.pth"), wanted("mobilenetv2_100"))


def test_a_checkpoint_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    state = network("resnet18").state_dict()
    del state["layer3.0.conv1.weight"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(FoodboxError, match=r"timm's resnet18, but 1 of its tensors.*layer3\.0\.conv1\.weight is miss"):
        pretrained.find(str(tmp_path / "part.pth"), wanted("resnet18"))


@pytest.mark.parametrize(("detector", "backbone"), [("ssd", "vgg16"), ("m2det", "vgg16"), ("yolo", "darknet53")])
def test_where_a_detector_has_a_layout_of_its_own_timms_is_refused(
    detector: str, backbone: str, tmp_path: Path
) -> None:
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in timm.create_model(backbone).state_dict().items()}
    torch.save({name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}, tmp_path / "model.pth")
    with pytest.raises(FoodboxError, match=r"expected a checkpoint of .* or the reduced VGG-16\."):
        pretrained.find(str(tmp_path / "model.pth"), {"backbone": backbone}, detector)
    assert pretrained.find(str(tmp_path / "model.pth"), {"backbone": backbone}, "rcnn") is not None
