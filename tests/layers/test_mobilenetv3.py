"""MobileNetV3-Large's two maps, and what of it is frozen."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v3_large

from foodbox.layers.mobilenetv3 import MobileNetV3Large


@pytest.mark.parametrize(("reduced", "width"), [(True, 480), (False, 960)])
@pytest.mark.parametrize("side", [64, 65, 1])
def test_maps_have_a_place_for_each_stride_begun(side: int, reduced: bool, width: int) -> None:
    backbone = MobileNetV3Large(reduced).eval()
    assert backbone.channels == [672, width]
    with torch.no_grad():
        c4, c5 = backbone(torch.zeros(2, 3, side, side))
    assert c4.shape == (2, 672, -(-side // 16), -(-side // 16))
    assert c5.shape == (2, width, -(-side // 32), -(-side // 32))


def test_the_last_map_is_torchvisions() -> None:
    """Whose ImageNet weights fit, names and all, behind "body."."""
    ours, theirs = MobileNetV3Large(reduced_tail=False).eval(), mobilenet_v3_large(weights=None).eval()
    theirs.features.load_state_dict(ours.body.state_dict())
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images)[1], theirs.features(images))


@pytest.mark.parametrize(("stages", "first"), [(0, 0), (1, 2), (2, 4), (3, 7), (4, 13), (5, None)])
def test_frozen_stages_are_those_up_to_a_stride(stages: int, first: int | None) -> None:
    trained = [n for n, p in MobileNetV3Large(True, stages).named_parameters() if p.requires_grad]
    assert (int(trained[0].split(".")[1]) if trained else None) == first


def test_frozen_norms_keep_their_statistics() -> None:
    backbone = MobileNetV3Large(True, frozen_batch_norm=True).train()
    before = {name: tensor.clone() for name, tensor in backbone.named_buffers()}
    backbone(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.named_buffers())
    assert any(p.requires_grad for p in backbone.parameters())
