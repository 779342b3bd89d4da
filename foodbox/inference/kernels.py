"""torch's own convolutions or cuDNN's: a GPU starts with what is there at once, and gets faster ones where it pays."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

WORTH = 200_000_000, 7_500_000_000
"""Numbers in inputs of one shape, after which cuDNN is worth its start: for convolutions that are not depthwise, and
for those that are; docs/benchmarks.md, "On a GPU"."""


class Kernels:
    """Whose convolutions the inputs of a shape get: torch's own first, cuDNN's where the shape comes often.

    cuDNN chooses a kernel for each convolution and each shape: for the depthwise ones of a light network's step that
    takes 5 seconds, for all others half a second. torch's own start at once and take up to four times as long: matrix
    products behind im2col, and a plain kernel for the depthwise ones. So a shape gets cuDNN's when about as much time
    was lost as choosing will take, as one rents skis before buying them. Networks without depthwise convolutions get
    them at once.
    """

    def __init__(self, network: nn.Module) -> None:
        convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d))
        self._start_slowly = any(convolution.groups == convolution.in_channels > 1 for convolution in convolutions)
        self._numbers: Counter[torch.Size] = Counter()

    def level(self, shape: torch.Size) -> int:
        """What inputs of this shape get from now on: 0 torch's own, 1 cuDNN's but depthwise, 2 all cuDNN's.

        These inputs are counted.
        """
        self._numbers[shape] += shape.numel()
        return bisect_left(WORTH, self._numbers[shape]) if self._start_slowly else 2

    @staticmethod
    def chosen(level: int) -> AbstractContextManager[Any]:
        """Convolutions within it are of that level."""
        if level == 0:
            return torch.backends.cudnn.flags(enabled=False)  # type: ignore[no-untyped-call,no-any-return]
        return OwnDepthwise() if level == 1 else nullcontext()


def by_shape(function: Callable[..., Any], kernels: Kernels) -> Callable[..., Any]:
    """A function of images, with the kernels that their shape is worth; further arguments go through."""

    def call(images: Any, *others: Any) -> Any:
        with kernels.chosen(kernels.level(images.shape)):
            return function(images, *others)

    return call


class OwnDepthwise(TorchFunctionMode):  # type: ignore[misc]
    """Depthwise convolutions within it get torch's own kernels, also in their backward pass."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (_convolution if func is F.conv2d else func)(*args, **(kwargs or {}))


def _convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """`F.conv2d`: [B, C, H, W] → [B, C', H', W']."""
    if groups == x.shape[1] > 1:
        # torch takes its own where neither is channels last. By its strides a depthwise kernel [C, 1, h, w] may be both
        # that and contiguous, and only a view makes them plain.
        x, weight = x.contiguous(), weight.contiguous().flatten().view(weight.shape)
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
