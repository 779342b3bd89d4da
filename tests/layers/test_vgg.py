"""The reduced VGG-16: its maps, its size, what is frozen; torchvision's VGG-16 up to conv5_3."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import vgg16

from foodbox.layers.vgg import VGG16


@pytest.mark.parametrize("side", [300, 320, 65, 1])
def test_maps_have_a_place_for_each_stride_begun(side: int) -> None:
    with torch.no_grad():
        conv4_3, fc7 = VGG16()(torch.zeros(1, 3, side, side))
    fine, coarse = -(-side // 8), -(-side // 16)
    assert conv4_3.shape == (1, 512, fine, fine)
    assert fc7.shape == (1, 1024, coarse, coarse)


def test_conv4_3_is_torchvisions_vggs() -> None:
    """Layer 22 of its features, the ReLU behind conv4_3."""
    ours, theirs = VGG16(), vgg16(weights=None).features[:23]
    names = [name for name in ours.state_dict() if not name.startswith(("conv5", "fc"))]
    for name, tensor in zip(names, theirs.state_dict().values(), strict=True):
        ours.get_parameter(name).data.copy_(tensor)
    images = torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(ours(images)[0], theirs(images))


def test_the_paper_networks_size() -> None:
    """VGG-16's convolutions have 14,714,688 parameters; fc6 is 512 x 1024 x 9 and 1024, fc7 1024 x 1024 and 1024."""
    fc = 512 * 1024 * 9 + 1024 + 1024 * 1024 + 1024
    assert sum(p.numel() for p in VGG16().parameters()) == 14_714_688 + fc


@pytest.mark.parametrize(("stages", "first"), [(0, "conv1_1"), (1, "conv3_1"), (2, "conv4_1"), (3, "conv5_1")])
def test_frozen_stages_are_those_up_to_a_stride(stages: int, first: str) -> None:
    trained = [name for name, p in VGG16(stages).named_parameters() if p.requires_grad]
    assert trained[0] == f"{first}.weight"
    assert trained[-1] == "fc7.bias"


@pytest.mark.parametrize("stages", [4, 5])
def test_all_can_be_frozen(stages: int) -> None:
    assert not any(p.requires_grad for p in VGG16(stages).parameters())
