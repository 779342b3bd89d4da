"""Folded norms give what convolution and norm gave; strided convolutions in bfloat16 give what float32 does."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from foodbox.layers.backbones import Backbone, batch_norms
from foodbox.layers.convolutions import ConvNormAct, FoldedConv, Norm, fold_norms, norm_layer, strided


def with_statistics(network: nn.Module) -> Any:
    """Norms as after some training."""
    torch.manual_seed(0)
    for norm in batch_norms(network):
        norm.running_mean.normal_(std=0.1)  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
        nn.init.normal_(norm.weight, 1, 0.1)
        nn.init.normal_(norm.bias)
    return network


def folded(network: nn.Module) -> list[FoldedConv]:
    return [m for m in network.modules() if isinstance(m, FoldedConv)]


@pytest.mark.parametrize(("norm", "parts"), [("none", ["conv", "act"]), ("group", ["conv", "norm", "act"])])
def test_a_convolution_has_a_norm_or_a_bias(norm: Norm, parts: list[str]) -> None:
    unit = ConvNormAct(4, 16, 3, norm_layer(norm, 16), nn.ReLU(), stride=2, padding=1)
    assert [name for name, _ in unit.named_children()] == parts
    assert (unit.conv.bias is None) == ("norm" in parts)
    assert unit(torch.zeros(1, 4, 8, 6)).shape == (1, 16, 4, 3)


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (9, 1), (16, 2), (36, 4), (64, 8), (256, 32), (576, 32), (960, 32)]
)
def test_groups_have_eight_channels_at_least(channels: int, groups: int) -> None:
    for most in (32, 8):
        norm = norm_layer("group", channels, groups=most)
        assert isinstance(norm, nn.GroupNorm)
        assert norm.num_groups == min(most, groups)


@pytest.mark.parametrize("name", ["mobilenetv2_100", "resnet18", "mobilenetv3_small_100", "regnety_002"])
def test_a_resting_norm_is_folded_and_changes_nothing(name: str) -> None:
    plain = with_statistics(timm.create_model(name, features_only=True)).eval()
    ours = copy.deepcopy(plain)
    fold_norms(ours, torch.zeros(1, 3, 64, 64))
    assert len(folded(ours)) == len(batch_norms(ours)) > 10
    assert list(ours.state_dict()) == list(plain.state_dict())
    images = torch.randn(2, 3, 96, 64)
    for mine, theirs in zip(ours(images), plain(images), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * theirs.std().item())


def test_a_norm_that_learns_is_not_folded() -> None:
    """In training its statistics are the batch's and move, as without folding."""
    plain = timm.create_model("resnet18", features_only=True).train()
    ours = copy.deepcopy(plain)
    fold_norms(ours.eval(), torch.zeros(1, 3, 64, 64))
    images = torch.randn(2, 3, 64, 64)
    for mine, theirs in zip(ours.train()(images), plain(images), strict=True):
        torch.testing.assert_close(mine, theirs)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)


def test_gradients_go_through_folded_norms() -> None:
    network = with_statistics(nn.Sequential(nn.Conv2d(3, 8, 3, bias=True), nn.BatchNorm2d(8), nn.ReLU())).double()
    plain = copy.deepcopy(network).eval()
    fold_norms(network.eval(), torch.zeros(1, 3, 8, 8, dtype=torch.double))
    images = torch.randn(2, 3, 8, 8, dtype=torch.double)
    for model in (network, plain):
        model(images).square().sum().backward()
    for mine, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("half", [False, True])
def test_what_rests_is_folded_once_and_anew_when_it_changes(half: bool) -> None:
    network = with_statistics(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))).eval().requires_grad_(False)
    fold_norms(network, torch.zeros(1, 3, 8, 8))
    images = torch.randn(2, 3, 8, 8)

    def output() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half), torch.inference_mode():
            return network(images).float().clone()

    first, conv = output(), folded(network)[0]
    kept = [made for _, made in conv._made.values()]
    torch.testing.assert_close(output(), first, rtol=0, atol=0)
    assert all(made is again for made, (_, again) in zip(kept, conv._made.values(), strict=True))
    for changed in (conv.weight, conv.norm[0].weight, conv.norm[0].running_mean):
        assert changed is not None
        changed.mul_(2)
        assert not torch.equal(output(), first)
        changed.mul_(0.5)
    network.load_state_dict({name: torch.zeros_like(value) for name, value in network.state_dict().items()})
    assert not output().any()


def test_a_network_without_numbers_runs() -> None:
    """On torch's meta device, where a network's shapes are found out."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval().requires_grad_(False)
    fold_norms(network, torch.zeros(1, 3, 8, 8))
    assert network.to("meta")(torch.zeros(2, 3, 8, 8, device="meta")).shape == (2, 8, 6, 6)


def test_what_was_made_in_inference_mode_can_be_used() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval().requires_grad_(False)
    fold_norms(network, torch.zeros(1, 3, 8, 8))
    with torch.inference_mode():
        network = copy.deepcopy(network)
    assert network[0].weight.is_inference()
    images = torch.randn(1, 3, 8, 8)
    for mode in (torch.inference_mode(), torch.no_grad()):
        with mode:
            assert network(images).shape == (1, 8, 6, 6)


def test_a_norm_that_learns_bears_one_photo_on_one_place() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), BatchNormAct2d(8))
    fold_norms(network, torch.zeros(2, 3, 8, 8))
    network.train()(torch.randn(1, 3, 3, 3)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_what_learns_is_folded_at_every_step() -> None:
    """Fused AdamW writes without counting up the tensors' versions."""
    network = with_statistics(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))).eval()
    network[1].requires_grad_(False)
    fold_norms(network, torch.zeros(1, 3, 8, 8))
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
    optimiser = torch.optim.AdamW(network[0].parameters(), lr=0.1, fused=True)
    images = torch.randn(2, 3, 8, 8)
    for _ in range(3):
        with torch.inference_mode():
            seen = network(images).clone()
            plain.load_state_dict(network.state_dict())
            torch.testing.assert_close(seen, plain(images))
        optimiser.zero_grad()
        network(images).square().sum().backward()
        optimiser.step()


def test_a_copy_folds_its_own_norms() -> None:
    backbone = Backbone("mobilenetv2_100")
    twin = copy.deepcopy(backbone)
    theirs = {id(norm) for norm in batch_norms(twin)}
    assert all(id(conv.norm[0]) in theirs for conv in folded(twin))


def test_a_norm_behind_something_else_stays() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.BatchNorm2d(8))
    fold_norms(network.eval(), torch.zeros(1, 3, 8, 8))
    assert not folded(network)


class Entwined(nn.Module):
    """What the convolution gives, or the norm does, is for others too."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.norm, self.how = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), how

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        if self.how == "rectified":
            return self.norm(y.relu_())
        normed = self.norm(y)
        return {
            "added": lambda: y + normed,
            "given": lambda: [y, normed],
            "norm shared": lambda: normed + self.norm(x),
            "convolution shared": lambda: normed + self.conv(x + 1),
        }[self.how]()


@pytest.mark.parametrize("how", ["added", "given", "rectified", "norm shared", "convolution shared"])
def test_a_norm_is_folded_only_where_nothing_else_needs_the_two(how: str) -> None:
    plain = with_statistics(Entwined(how)).eval()
    ours = copy.deepcopy(plain)
    fold_norms(ours, torch.zeros(1, 3, 8, 8))
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(ours(images), plain(images))


def depthwise(stride: int) -> Iterator[nn.Module]:
    yield nn.Conv2d(16, 16, 3, stride, 1, groups=16)
    norms = nn.Sequential(nn.Conv2d(16, 16, 3, stride, 1, groups=16), nn.BatchNorm2d(16)).eval()
    fold_norms(norms, torch.zeros(1, 16, 8, 8))
    yield norms


@pytest.mark.parametrize("shape", [(2, 16, 12, 9), (2, 16, 6, 1)])
def test_strided_depthwise_convolutions_run_in_float32_on_the_cpu(shape: tuple[int, ...]) -> None:
    """And are right to float32's precision, with their gradients."""
    for conv in depthwise(2):
        exact = copy.deepcopy(conv).double()
        image = torch.randn(shape)
        inputs = image.clone().requires_grad_(), image.double().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            output = strided(conv, inputs[0])
        assert output.dtype == torch.float32
        expected = exact(inputs[1])
        torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)
        for result in (output, expected):
            result.square().sum().backward()
        torch.testing.assert_close(grad(inputs[0]), grad(inputs[1]), rtol=1e-4, atol=1e-5)


def grad(x: Tensor) -> Tensor:
    assert x.grad is not None
    return x.grad.double()


def test_other_convolutions_keep_bfloat16() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert strided(nn.Conv2d(16, 8, 3, 2, 1), torch.randn(1, 16, 8, 8)).dtype == torch.bfloat16


@pytest.mark.parametrize("height", [2, 9, 16, 33])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_strided_convolutions_of_narrow_maps_learn_as_in_float32(width: int, height: int) -> None:
    """Where the output is one place wide, oneDNN's gradient of the weights is anything, up to NaN."""
    torch.manual_seed(0)
    conv = nn.Conv2d(40, 24, 3, 2, 1)
    for order in (torch.contiguous_format, torch.channels_last):
        image = torch.randn(2, 40, height, width).to(memory_format=order)
        gradients = []
        for half in (True, False):
            conv.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                output = strided(conv, image)
            output.float().square().sum().backward()
            assert conv.weight.grad is not None
            gradients.append(conv.weight.grad.clone())
        assert (gradients[0] - gradients[1]).norm() < 0.05 * gradients[1].norm()
