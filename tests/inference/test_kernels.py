"""Which convolutions a shape of input gets on a GPU. The switch itself is there on a CPU, too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from foodbox.detectors.retinanet import LIGHT, RetinaNet, RetinaNetSettings
from foodbox.inference import replay
from foodbox.inference.replay import Kernels, by_shape, network_for


@pytest.fixture
def cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with a GPU, where a shape is worth cuDNN's start after 100 numbers."""
    monkeypatch.setattr(torch.backends.cudnn, "enabled", True)
    monkeypatch.setattr(replay, "WORTH", 100)


@pytest.mark.usefixtures("cudnn")
def test_a_shape_gets_cudnn_when_it_has_come_often() -> None:
    seen = []

    def function(images: Tensor, more: int) -> int:
        seen.append(torch.backends.cudnn.enabled)
        return len(images) + more

    call = by_shape(function, Kernels(nn.Conv2d(4, 4, 3, groups=4)))
    assert [call(torch.zeros(1, 3, 4, 4), 1) for _ in range(4)] == [2] * 4  # 48 numbers each
    assert seen == [False, False, True, True]
    assert call(torch.zeros(2, 3, 2, 2), 0) == 2  # another shape, from the beginning
    assert call(torch.zeros(9, 3, 2, 2), 0) == 9  # 108 at once
    assert seen[4:] == [False, True]
    assert torch.backends.cudnn.enabled


@pytest.mark.usefixtures("cudnn")
def test_what_fails_leaves_the_switch_as_it_was() -> None:
    def function(images: Tensor) -> None:
        raise ValueError(torch.backends.cudnn.enabled)

    with pytest.raises(ValueError, match="False"):
        by_shape(function, Kernels(nn.Conv2d(4, 4, 3, groups=4)))(torch.zeros(1, 3, 4, 4))
    assert torch.backends.cudnn.enabled


@pytest.mark.usefixtures("cudnn")
def test_networks_that_start_quickly_get_cudnn_at_once() -> None:
    call = by_shape(lambda images: torch.backends.cudnn.enabled, Kernels(nn.Sequential(nn.Conv2d(4, 4, 3))))
    assert call(torch.zeros(1, 3, 4, 4))


def test_without_a_gpu_a_detector_runs_by_itself() -> None:
    detector = RetinaNet(["a"], RetinaNetSettings(**LIGHT))
    assert network_for(detector, torch.device("cpu")) is detector
