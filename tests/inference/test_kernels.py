"""Which convolutions a shape of input gets on a GPU. The choice and its numbers are there on a CPU, too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from foodbox.detectors.retinanet import LIGHT, RetinaNet, RetinaNetSettings
from foodbox.inference import kernels
from foodbox.inference.kernels import Kernels, OwnDepthwise, by_shape
from foodbox.inference.replay import network_for


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with a GPU, where a shape is worth cuDNN's start after 50 and 100 numbers."""
    monkeypatch.setattr(torch.backends.cudnn, "enabled", True)
    monkeypatch.setattr(kernels, "WORTH", (50, 100))


def level() -> int:
    """Of convolutions, here and now. torch's own depthwise ones give what is not channels last."""
    if not torch.backends.cudnn.enabled:
        return 0
    x = torch.zeros(1, 2, 2, 2).to(memory_format=torch.channels_last)
    return 1 if nn.Conv2d(2, 2, 1, groups=2)(x).is_contiguous() else 2


def test_a_shape_gets_cudnn_when_it_has_come_often() -> None:
    seen = []

    def function(images: Tensor, more: int) -> int:
        seen.append(level())
        return len(images) + more

    call = by_shape(function, Kernels(nn.Conv2d(4, 4, 3, groups=4)))
    assert [call(torch.zeros(1, 3, 2, 4), 1) for _ in range(6)] == [2] * 6  # 24 numbers each
    assert seen == [0, 0, 1, 1, 2, 2]
    assert call(torch.zeros(2, 3, 2, 2), 0) == 2  # another shape, from the beginning
    assert call(torch.zeros(9, 3, 2, 2), 0) == 9  # 108 at once
    assert seen[6:] == [0, 2]
    assert level() == 2


@pytest.mark.parametrize("before", [0, 1])
def test_what_fails_leaves_the_choice_as_it_was(before: int) -> None:
    def function(images: Tensor) -> None:
        raise ValueError(level())

    with pytest.raises(ValueError, match=str(before)):
        by_shape(function, Kernels(nn.Conv2d(4, 4, 3, groups=4)))(torch.zeros(1, 3, 4, 4 + 4 * before))
    assert level() == 2


@pytest.mark.parametrize("groups", [1, 2])
def test_networks_without_depthwise_convolutions_get_cudnn_at_once(groups: int) -> None:
    call = by_shape(lambda images: level(), Kernels(nn.Sequential(nn.Conv2d(4, 4, 3, groups=groups))))
    assert call(torch.zeros(1, 3, 4, 4)) == 2


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 6, 1),
        nn.Conv2d(8, 6, 1, bias=False),
        nn.Conv2d(8, 6, 1, stride=(2, 3)),
        nn.Conv2d(8, 6, 1, padding=1),
        nn.Conv2d(8, 6, 1, padding="same"),
        nn.Conv2d(8, 6, 1, padding=1, padding_mode="reflect"),
        nn.Conv2d(8, 8, 3, groups=8, padding=1, stride=2),
        nn.Conv2d(8, 8, 3, groups=8, padding="same", dilation=2),
        nn.Conv2d(8, 4, 3, groups=4),
        nn.Conv2d(8, 6, 3, padding=1),
        nn.Conv2d(8, 6, (1, 3)),
    ],
    ids=str,
)
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_torchs_own_give_the_same_numbers_and_gradients(layer: nn.Conv2d, order: torch.memory_format) -> None:
    x = torch.randn(2, 8, 7, 10).to(memory_format=order).requires_grad_()
    layer = layer.to(memory_format=order)
    expected = layer(x)
    weights = torch.randn_like(expected)
    inputs = (x, *layer.parameters())
    gradients = torch.autograd.grad((expected * weights).sum(), inputs)
    with OwnDepthwise():
        found = layer(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad((found * weights).sum(), inputs), gradients)


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch knows no CUDA")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torch_would_choose_its_own_kernel(dtype: torch.dtype) -> None:
    """It can be asked without a GPU, by tensors that have no numbers: cuDNN's outputs are channels last."""

    def convolved(groups: int) -> Tensor:
        shapes = (4, 32, 40, 40), (32, 32 // groups, 3, 3)
        x, weight = (torch.empty(shape, device="cuda", dtype=dtype) for shape in shapes)
        x, weight = (part.to(memory_format=torch.channels_last) for part in (x, weight))
        return F.conv2d(x, weight, groups=groups)

    with FakeTensorMode():
        assert convolved(32).is_contiguous(memory_format=torch.channels_last)
        others = [convolved(groups).stride() for groups in (1, 4)]
        with OwnDepthwise():
            assert convolved(32).is_contiguous()
            assert [convolved(groups).stride() for groups in (1, 4)] == others


def test_without_a_gpu_a_detector_runs_by_itself() -> None:
    detector = RetinaNet(["a"], RetinaNetSettings(**LIGHT))
    assert network_for(detector, torch.device("cpu")) is detector
