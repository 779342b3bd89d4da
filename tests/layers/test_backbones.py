"""Which parameters are frozen, by their names; and what a backbone refuses to be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from foodbox.errors import UsageError
from foodbox.layers.backbones import Backbone

# What each further stage freezes, worked out from the networks: the last layer of stride 2, 4, 8, 16 and 32.
STAGES = {
    "mobilenetv2_100": [
        ["conv_stem.", "bn1.", "blocks.0."],
        ["blocks.1."],
        ["blocks.2."],
        ["blocks.3.", "blocks.4."],
        ["blocks.5.", "blocks.6."],
    ],
    "resnet18": [["conv1.", "bn1."], ["layer1."], ["layer2."], ["layer3."], ["layer4."]],
    "vgg11": [
        ["features_0.", "features_3."],
        ["features_6.", "features_8."],
        ["features_11.", "features_13."],
        ["features_16.", "features_18."],
        [],
    ],
    "regnety_002": [["stem."], ["s1."], ["s2."], ["s3."], ["s4."]],
    "dla34": [["base_layer.", "level0.", "level1."], ["level2."], ["level3."], ["level4."], ["level5."]],
}


@pytest.mark.parametrize("stages", range(6))
@pytest.mark.parametrize("name", STAGES)
def test_stages_are_frozen_from_the_first_on(name: str, stages: int) -> None:
    backbone = Backbone(name, frozen_stages=stages, frozen_batch_norm=False)
    prefixes = tuple(prefix for stage in STAGES[name][:stages] for prefix in stage)
    expected = {n for n, _ in backbone.body.named_parameters() if n.startswith(prefixes)} if prefixes else set()
    assert {n for n, p in backbone.body.named_parameters() if not p.requires_grad} == expected
    assert len(expected) == (sum(1 for _ in backbone.body.parameters()) if stages == 5 else len(expected))


@pytest.mark.parametrize(
    "name", ["mobilenetv2_100", "mobilenetv3_large_100", "mobilenet_v3_large_reduced", "resnet18", "dla34"]
)
def test_going_on_from_c4_gives_the_same_c5(name: str) -> None:
    backbone = Backbone(name).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(2, 3, 64, 96))
        assert backbone.resumes
        resumed = backbone.resume(maps[:-1])
    assert len(maps) == len(resumed) == 3
    assert all(torch.equal(one, other) for one, other in zip(maps, resumed, strict=True))


@pytest.mark.parametrize("wishes", [{"name": "mobilenetv2_100", "expansion": True}, {"name": "darknet_tiny"}])
def test_some_backbones_cannot_go_on_from_c4(wishes: dict[str, Any]) -> None:
    """Their C4 is a map that nothing goes on from, or nobody says what does."""
    assert not Backbone(**wishes).resumes


def test_a_frozen_batch_norm_freezes_scales_and_shifts_and_no_convolution() -> None:
    backbone = Backbone("resnet18", frozen_stages=0, frozen_batch_norm=True)
    frozen = {n for n, p in backbone.body.named_parameters() if not p.requires_grad}
    # Two norms in each of eight blocks, three beside the shortcuts, one at the stem; a scale and a shift each.
    assert len(frozen) == 2 * (16 + 3 + 1)
    assert all(".bn" in n or n.startswith("bn1") or "downsample.1" in n for n in frozen)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_training_step_leaves_a_frozen_batch_norm_as_it_was(frozen: bool) -> None:
    backbone = Backbone("resnet18", frozen_batch_norm=frozen).train()
    shortcut, norm = backbone.body.layer2[0].downsample
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    convolution = shortcut.weight.clone()
    parameters = [p for p in backbone.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(parameters, lr=0.1)
    sum(level.square().mean() for level in backbone(torch.randn(2, 3, 64, 64))).backward()
    optimiser.step()
    assert norm.training is not frozen
    assert not torch.equal(shortcut.weight, convolution)
    for name, value in norm.state_dict().items():
        assert torch.equal(value, before[name]) is frozen, name


def test_the_rest_of_a_backbone_does_train() -> None:
    backbone = Backbone("resnet18", frozen_batch_norm=True)
    assert backbone.train().body.layer1.training
    assert not backbone.eval().body.layer1.training


@pytest.mark.parametrize("eps", [0.0, 1e-3])
def test_batch_norms_have_the_epsilon_that_is_asked_for(eps: float) -> None:
    backbone = Backbone("mobilenetv2_100", batch_norm_eps=eps)
    assert {m.eps for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {eps}


@pytest.mark.parametrize(("name", "channels"), [("mobilenetv2_100", [32, 96, 320]), ("resnet18", [128, 256, 512])])
def test_feature_maps_are_8_16_and_32_times_smaller(name: str, channels: list[int]) -> None:
    backbone = Backbone(name).eval()
    assert backbone.channels == channels
    shapes = [tuple(level.shape) for level in backbone(torch.zeros(2, 3, 96, 64))]
    assert shapes == [(2, width, 96 // s, 64 // s) for width, s in zip(channels, (8, 16, 32), strict=True)]


def test_an_unknown_backbone_is_refused_with_names_that_exist() -> None:
    with pytest.raises(UsageError, match=r"Unknown backbone 'resnet_19'.*resnet"):
        Backbone("resnet_19")


def test_a_backbone_without_feature_maps_is_refused() -> None:
    with pytest.raises(UsageError, match=r"vit_small_patch16_224.*strides 8, 16 and 32"):
        Backbone("vit_small_patch16_224")


def test_the_keras_layout_is_for_resnets() -> None:
    with pytest.raises(UsageError, match="keras_layout is for ResNet"):
        Backbone("mobilenetv2_100", keras_layout=True)


def test_an_epsilon_of_zero_is_never_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchvision's first weights have it, torch 2.11 refuses it; resting norms are folded into convolutions."""
    batch_norm = torch.nn.functional.batch_norm

    def strict(*arguments: Any, **options: Any) -> Tensor:
        assert (options.get("eps") or arguments[-1]) > 0
        return batch_norm(*arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "batch_norm", strict)
    backbone = Backbone("resnet18", batch_norm_eps=0.0)
    with torch.no_grad():
        assert [x.shape[1] for x in backbone(torch.rand(1, 3, 64, 64))] == backbone.channels


def test_all_that_the_maps_ask_learns_and_nothing_else() -> None:
    """HRNet's parts run in another order than they are named, and some are behind the last map."""
    backbone = Backbone("hrnet_w18_small", frozen_batch_norm=False)
    torch.stack([found.sum() for found in backbone.eval()(torch.randn(1, 3, 64, 64))]).sum().backward()
    for name, parameter in backbone.body.named_parameters():
        assert parameter.requires_grad is (parameter.grad is not None), name
    assert any(not parameter.requires_grad for parameter in backbone.parameters())
    backbone.body.requires_grad_(True)
    torch.stack([found.sum() for found in backbone.eval()(torch.randn(1, 3, 64, 64))]).sum().backward()
    asked = {name for name, parameter in backbone.body.named_parameters() if parameter.grad is not None}
    fresh = Backbone("hrnet_w18_small", frozen_batch_norm=False)
    assert {name for name, parameter in fresh.body.named_parameters() if parameter.requires_grad} == asked


def test_a_backbone_may_be_built_in_inference_mode() -> None:
    torch.manual_seed(0)
    usual = Backbone("resnet18").eval()
    torch.manual_seed(0)
    with torch.inference_mode():
        found = Backbone("resnet18").eval()(torch.ones(1, 3, 64, 64))
    for mine, wanted in zip(found, usual(torch.ones(1, 3, 64, 64)), strict=True):
        torch.testing.assert_close(mine, wanted.detach())
