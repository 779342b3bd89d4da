"""Backbones with their necks: widths and strides of the maps, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from foodbox.errors import UsageError
from foodbox.layers.backbones import Backbone
from foodbox.layers.pyramids import FeaturePyramid
from foodbox.layers.rpn_head import RPNHead
from foodbox.layers.trunks import SingleMap, make_trunk, map_strides


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
@pytest.mark.parametrize(
    ("name", "neck", "first"),
    [("resnet18", "pyramid", 2), ("resnet18", "pyramid", 3), ("mobilenetv2_100", "pyramid", 3), ("resnet18", "c4", 2),
     ("mobilenetv2_100", "c4", 3), ("vgg16", "c4", 2), ("mobilenet_v3_large", "pyramid", 2)],
)  # fmt: skip
def test_maps_have_the_strides_that_are_said(name: str, neck: str, first: int, norm: str) -> None:
    backbone, top = make_trunk(name, neck, first, 16, norm)  # type: ignore[arg-type]
    with torch.no_grad():
        maps = top.eval()(backbone.eval()(torch.zeros(2, 3, 64, 128)))
    strides = map_strides(name, neck, first)  # type: ignore[arg-type]
    assert [tuple(m.shape) for m in maps] == [(2, 16, max(1, 64 // s), 128 // s) for s in strides]


def test_a_map_that_is_narrow_enough_is_left_alone() -> None:
    """VGG-16's conv5_3 in the paper."""
    assert list(SingleMap(512, 512).parameters()) == []
    x = torch.randn(1, 512, 2, 2)
    assert SingleMap(512, 512)([torch.zeros(0), x])[0] is x


def test_what_is_behind_c4_does_not_learn() -> None:
    for name in ("mobilenetv2_100", "resnet18"):
        backbone = Backbone(name, levels=(4, 4))
        assert len(backbone.channels) == 1
        backbone(torch.randn(1, 3, 64, 64))[0].sum().backward()
        assert all(p.grad is not None for p in backbone.parameters() if p.requires_grad)


def test_torchvisions_mobilenet_has_no_single_map() -> None:
    with pytest.raises(UsageError, match="take neck pyramid, or another backbone"):
        make_trunk("mobilenet_v3_large", "c4", 2, 16)


def test_a_backbone_without_the_maps_is_refused() -> None:
    with pytest.raises(UsageError, match=r"vit_small_patch16_224.*at strides 4, 8, 16 and 32"):
        make_trunk("vit_small_patch16_224", "pyramid", 2, 16)


def test_a_pyramid_with_norms_is_torchvisions() -> None:
    ours = FeaturePyramid((8, 16), 12, "pool", norm="batch").eval()
    theirs = FeaturePyramidNetwork([8, 16], 12, LastLevelMaxPool(), norm_layer=nn.BatchNorm2d).eval()
    state = ours.state_dict()
    renamed = {}
    for name, tensor in state.items():
        part, i, unit, last = name.split(".")
        block = {"lateral": "inner_blocks", "output": "layer_blocks"}[part]
        renamed[f"{block}.{i}.{'0' if unit == 'conv' else '1'}.{last}"] = tensor
    theirs.load_state_dict(renamed)
    features = {"0": torch.randn(2, 8, 9, 11), "1": torch.randn(2, 16, 5, 6)}
    for mine, other in zip(ours(list(features.values())), theirs(features).values(), strict=True):
        torch.testing.assert_close(mine, other)


def test_the_proposal_network_runs_over_places_and_then_anchors() -> None:
    """Only the score of anchor 1 at row 0, column 2 is raised: the third place's second."""
    head = RPNHead(4, 3)
    features = torch.zeros(1, 4, 2, 5)
    features[0, 0, 0, 2] = 1.0
    with torch.no_grad():
        for p in head.parameters():
            p.zero_()
        head.convs[0].weight[0, 0, 1, 1] = 1.0
        head.objectness.weight[1, 0] = 1.0
        head.boxes.weight[4 + 2, 0] = 1.0
        logits, deltas = head(features)
    assert logits.shape == (1, 30)
    assert logits.nonzero().tolist() == [[0, 2 * 3 + 1]]
    assert deltas.nonzero().tolist() == [[0, 2 * 3 + 1, 2]]
