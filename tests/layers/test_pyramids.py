"""The pyramid against torchvision's, its shapes, and the map of classes."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from foodbox.layers.pyramids import ClassMap, FeaturePyramid

WIDTHS = (8, 16, 24)


def maps(height: int, width: int) -> list[torch.Tensor]:
    """C3, C4, C5 of an input of height x width, rounded up as strided convolutions do."""
    return [torch.randn(2, c, -(-height // s), -(-width // s)) for c, s in zip(WIDTHS, (8, 16, 32), strict=True)]


@pytest.mark.parametrize("extra_from", ["C5", "P5"])
def test_levels_are_torchvisions(extra_from: Literal["C5", "P5"]) -> None:
    ours = FeaturePyramid(WIDTHS, 12, extra_from)
    theirs = FeaturePyramidNetwork(list(WIDTHS), 12, LastLevelP6P7(24 if extra_from == "C5" else 12, 12))
    state = {}
    for i in range(3):
        for part in ("weight", "bias"):
            state[f"inner_blocks.{i}.0.{part}"] = getattr(ours.lateral[i], part)
            state[f"layer_blocks.{i}.0.{part}"] = getattr(ours.output[i], part)
    state |= {
        f"extra_blocks.{p}.{part}": getattr(getattr(ours, p), part) for p in ("p6", "p7") for part in ("weight", "bias")
    }
    for tensor in state.values():
        torch.nn.init.normal_(tensor, std=0.2)
    theirs.load_state_dict(state)
    features = maps(96, 64)
    expected = theirs(OrderedDict(zip("345", features, strict=True))).values()
    for level, (mine, other) in enumerate(zip(ours(features), expected, strict=True), start=3):
        torch.testing.assert_close(mine, other, msg=f"P{level} differs")


@pytest.mark.parametrize("keras_layout", [False, True])
@pytest.mark.parametrize(("height", "width"), [(128, 256), (65, 97), (1, 1)])
def test_each_level_is_half_the_one_before_rounded_up(height: int, width: int, keras_layout: bool) -> None:
    levels = FeaturePyramid(WIDTHS, 12, keras_layout=keras_layout)(maps(height, width))
    assert [tuple(level.shape) for level in levels] == [
        (2, 12, -(-height // stride), -(-width // stride)) for stride in (8, 16, 32, 64, 128)
    ]


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (5, 1), (1, 5), (2, 2)])
def test_gradients_in_bfloat16_over_the_smallest_maps_are_those_of_float32(size: tuple[int, int]) -> None:
    """Those of oneDNN are NaN where a strided convolution runs over maps of width 1."""
    pyramid = FeaturePyramid([8, 8, 64], 64)
    features = [torch.randn(2, width, size[0] * s, size[1] * s) for width, s in ((8, 4), (8, 2), (64, 1))]

    def gradients(half: bool) -> torch.Tensor:
        pyramid.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            levels = pyramid(features)
        sum(level.float().square().sum() for level in levels).backward()
        return torch.cat([p.grad.flatten() for p in pyramid.parameters()])

    exact = gradients(half=False)
    assert (gradients(half=True) - exact).norm() < 0.03 * exact.norm()


def test_a_place_of_the_class_map_sees_the_places_around_it_on_every_map() -> None:
    """Where the maps say the same, so does the class map; a place of the coarsest has 4 x 4 of the finest."""
    torch.manual_seed(0)
    classes = ClassMap([8, 12, 16], 5, stride=8)
    maps = [torch.randn(2, 8, 1, 1).repeat(1, 1, 8, 12), torch.randn(2, 12, 4, 6), torch.randn(2, 16, 2, 3)]
    found = classes(maps)
    assert found.shape == (2, 5, 8, 12)
    blocks = found.unfold(2, 2, 2).unfold(3, 2, 2)  # of the map in the middle
    torch.testing.assert_close(blocks, blocks[..., :1, :1].expand_as(blocks), rtol=1e-4, atol=1e-5)
    for conv in (classes.lateral[1], classes.lateral[2]):
        before, weight = classes(maps), conv.weight.data.clone()
        conv.weight.data.zero_()
        assert (classes(maps) - before).abs().amin((0, 2, 3)).max() > 1e-4, "a map says nothing"
        conv.weight.data = weight
    alone = ClassMap([8], 5, stride=8)
    x = torch.randn(2, 8, 4, 4)
    normed = F.layer_norm(alone.lateral[0](x).permute(0, 2, 3, 1), (128,)).permute(0, 3, 1, 2)
    expected = alone.output(F.relu(normed))
    torch.testing.assert_close(alone([x]), expected)


def test_pairs_are_of_the_surest_boxes() -> None:
    """Two of three boxes are looked at, and of their four pairs the two best come out."""
    classes, class_map = ClassMap([8], 2, stride=8), torch.zeros(1, 2, 4, 4)
    class_map[0, 0, :, :2] = 3.0  # class 0 in the left half, nothing said in the right
    boxes = torch.tensor([[[16.0, 0, 32, 32], [0, 0, 16, 32], [0, 0, 16, 16]]])
    score, label, box = classes.score_classes(class_map, boxes, torch.tensor([[0.8, 0.6, 0.5]]), top_k=2)
    share = 1 / (1 + math.exp(-3))
    assert score[0].tolist() == pytest.approx([0.6 * share, 0.4])
    assert label[0, 0] == 0
    assert torch.equal(box[0], boxes[0, [1, 0]])


def test_boxes_that_are_padding_have_no_loss() -> None:
    """The mean over the three boxes of two photos; without any the loss is nothing."""
    classes, class_map = ClassMap([8], 5, stride=8), torch.randn(2, 5, 4, 4)
    labels = torch.tensor([[1, 4, 0], [2, 0, 0]])
    boxes = torch.tensor([[[0.0, 0, 8, 8], [8, 8, 32, 24], [0, 0, 0, 0]], [[0, 0, 16, 32], [0, 0, 0, 0], [0, 0, 0, 0]]])
    logits = class_map[0, :, 0, 0], class_map[0, :, 1:3, 1:].mean((1, 2)), class_map[1, :, :, :2].mean((1, 2))
    expected = F.cross_entropy(torch.stack(logits), torch.tensor([1, 4, 2]))
    torch.testing.assert_close(classes.loss(class_map, boxes, labels), expected)
    assert float(classes.loss(class_map, torch.zeros(2, 3, 4), labels)) == 0
