"""Convolutions with their norms, which run faster than they are written: folded, and in bfloat16 only where it pays."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

Norm = Literal["none", "batch", "group"]


class ConvNormAct(nn.Sequential):
    """A convolution, the norm of its outputs (it then has no bias), and an activation."""

    def __init__(
        self, before: int, width: int, kernel: int, norm: nn.Module | None, act: nn.Module | None = None, **conv: int
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, width, kernel, bias=norm is None, **conv)  # type: ignore[arg-type]
        for name, part in (("norm", norm), ("act", act)):
            if part is not None:
                self.add_module(name, part)


def norm_layer(norm: Norm, width: int, eps: float = 1e-5, momentum: float = 0.1, groups: int = 32) -> nn.Module | None:
    """A norm of so many channels: epsilon and momentum are batch norm's, the groups are group norm's at most."""
    if norm == "group":
        return nn.GroupNorm(min(groups, group_count(width)), width)
    return BatchNorm(width, eps, momentum) if norm == "batch" else None


def group_count(channels: int) -> int:
    """32 groups as in the paper (Wu and He 2018), or fewer, so that each has 8 channels at least.

    Smaller groups cost time (on the CPU, 32 groups of 2 channels ten times as much as one group), and one channel alone
    on one place would have no spread.
    """
    return math.gcd(min(32, max(1, channels // 8)), channels)


def strided(conv: nn.Module, x: Tensor) -> Tensor:
    """A module of strided convolutions, in float32 where bfloat16 is wrong: [B, C, H, W] → [B, C', H', W'].

    On the CPU, the weights' gradient of a strided bfloat16 convolution that gives a map one place wide, from a map of
    width 1 or 2, is wrong, up to NaN (torch 2.14 with oneDNN). Photos of 64 px, or far taller than wide, have such
    maps. The input's gradient of a strided depthwise one is right, but takes forty times as long as in float32.
    """
    if x.device.type == "cpu" and (x.shape[-1] <= 2 or any(_slow_backward(part, x) for part in conv.modules())):
        with torch.autocast("cpu", enabled=False):
            result: Tensor = conv(x.float())
    else:
        result = conv(x)
    return result


def _slow_backward(module: nn.Module, x: Tensor) -> bool:
    """Whether it is a strided convolution of each channel by itself, and gradients will go through it."""
    depthwise = isinstance(module, nn.Conv2d) and max(module.stride) > 1 and module.groups == module.in_channels > 1
    learns = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *module.parameters(recurse=False)))
    return depthwise and learns


class FoldedConv(nn.Conv2d):
    """A convolution that applies the batch norm behind it too, while that norm is in eval mode.

    Both modules keep their parameters and names, so state dicts do not change. Where either is trained, the folded
    weights are computed anew in each call, in float32.
    """

    norm: tuple[nn.BatchNorm2d]
    """In a tuple, so that the norm stays where it is in the network."""
    _made: dict[str, tuple[list[Any], tuple[Tensor, Tensor]]]
    """What was folded, by its kind, with the state of what it was made of."""

    def forward(self, input: Tensor) -> Tensor:
        norm = self.norm[0]
        weight, bias = (self.weight, self.bias) if norm.training else self._folded(norm)
        if input.device.type == "cpu" and _slow_backward(self, input):  # see `strided`
            with torch.autocast("cpu", enabled=False):
                return self._conv_forward(input.to(weight), weight, bias)  # type: ignore[no-any-return]
        return self._conv_forward(input, weight, bias)  # type: ignore[no-any-return]

    def _folded(self, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
        """Kernel and bias that do the resting norm's work too; in autocast's type where nothing of it learns."""
        of_norm = (*norm.parameters(), *norm.buffers())
        own = tuple(self.parameters(recurse=False))

        def folded() -> tuple[Tensor, Tensor]:
            scale, shift = self._kept("norm", of_norm, lambda: _as_scale_and_shift(norm))
            bias = shift if self.bias is None else shift + self.bias * scale
            return self.weight * scale.view(-1, 1, 1, 1), bias

        if torch.compiler.is_compiling():  # the compiler does not look into what is asked for below
            return folded()
        kind = self.weight.device.type  # "meta" has no autocast to ask for
        autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        if any(parameter.requires_grad for parameter in own) or not autocast:
            return self._kept("whole", own + of_norm, folded)
        half = torch.get_autocast_dtype(kind)
        return self._kept(str(half), own + of_norm, lambda: tuple(part.to(half) for part in folded()))  # type: ignore[arg-type,return-value]

    def _kept(
        self, name: str, sources: Sequence[Tensor], make: Callable[[], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """What `make` gives, kept where no source learns: made again only when one is another tensor or was written to.

        Fused optimisers write without leaving a trace, so that nothing is kept of what learns, not even in detection.
        """
        # What was made in inference mode does not count how often it is written to.
        if torch.compiler.is_compiling() or any(s.requires_grad or s.is_inference() for s in sources):
            return make()
        state = [(source.data_ptr(), source._version, source.dtype, source.device) for source in sources]
        if name not in self._made or self._made[name][0] != state:
            with torch.inference_mode(False), torch.no_grad():  # training may be next to use it
                self._made[name] = state, make()
        return self._made[name][1]


def _as_scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """A resting batch norm as a factor and a summand for each channel: [C], [C]."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that takes its running statistics where a batch gives none: one photo on a map of one place.

    A channel's only value has no spread to divide by, and torch refuses such a map in training.
    """

    def forward(self, input: Tensor) -> Tensor:
        return _at_rest(self, input) if self.training and _is_single(input) else super().forward(input)


def _is_single(maps: Tensor) -> bool:
    return maps.shape[0] * maps.shape[2] * maps.shape[3] == 1


def _at_rest(norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    return F.batch_norm(maps, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


class FoldedNorm(BatchNorm):
    """A batch norm whose work the convolution before it does, as long as it rests."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if self.training else input


class FoldedNormAct(BatchNormAct2d):  # type: ignore[misc]  # timm has no types
    """The same with an activation, as timm's networks have it."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not _is_single(x):
            result: Tensor = super().forward(x)
        else:
            result = self.act(self.drop(_at_rest(self, x) if self.training else x))
        return result


FOLDED: dict[type[nn.Module], type[nn.Module]] = {nn.BatchNorm2d: FoldedNorm, BatchNormAct2d: FoldedNormAct}


def fold_norms(network: nn.Module, example: Tensor) -> None:
    """Lets convolutions do the work of the batch norms that follow them directly, whenever these rest.

    A norm rests in detection and, frozen, in training: it is then a factor and a summand a channel, and a pass over the
    whole map is saved (Jacob et al. 2018, section 3.2). Which norm follows which convolution, and that nothing else
    reads what lies between, a run shows: autograd remembers it.

    Args:
        example: an input for the run.
    """
    convs: dict[Any, nn.Conv2d] = {}  # by what autograd knows of their outputs
    norms: dict[Any, nn.BatchNorm2d] = {}  # of their inputs
    hooks = []
    for m in network.modules():
        if type(m) is nn.Conv2d:
            hooks.append(m.register_forward_hook(lambda conv, _, output: convs.update({output.grad_fn: conv})))
        elif type(m) in FOLDED and m.affine:
            hooks.append(m.register_forward_pre_hook(lambda norm, inputs: norms.update({inputs[0].grad_fn: norm})))
    with torch.enable_grad():
        found = network(example.requires_grad_())
    for hook in hooks:
        hook.remove()
    ends = [x.grad_fn for x in ([found] if isinstance(found, Tensor) else found)]
    read = [before for node in graph(ends) for before, _ in node.next_functions]
    times = Counter((*ends, *read, *convs.values(), *norms.values()))
    for node in convs.keys() & norms.keys():
        conv, norm = convs[node], norms[node]
        if max(times[node], times[conv], times[norm]) == 1:
            conv.__class__, norm.__class__ = FoldedConv, FOLDED[type(norm)]  # type: ignore[assignment]
            conv.norm, conv._made = (norm,), {}  # type: ignore[assignment]


def graph(ends: Sequence[Any]) -> set[Any]:
    """All that autograd remembers of how tensors came about, from their `grad_fn` on."""
    nodes = list(ends)
    seen = set(nodes)
    while nodes:
        nodes += (before := {node for node, _ in nodes.pop().next_functions if node is not None} - seen)
        seen |= before
    return seen
