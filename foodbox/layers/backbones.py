"""Backbones: timm's networks as feature maps C3, C4, C5, with stages frozen where the person asks."""

import contextlib
import difflib
from collections.abc import Sequence
from typing import Any, Self

import timm
import torch
from timm.models import FeatureListNet
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn

from foodbox.errors import UsageError
from foodbox.layers import resnet_layouts
from foodbox.layers.convolutions import fold_norms, graph
from foodbox.layers.darknet import DARKNET_TINY, DarknetTiny
from foodbox.layers.reduced_mobilenet import REDUCED_MOBILENET_V3, reduced_mobilenet_v3

REDUCTIONS = (8, 16, 32)
"""C3, C4 and C5 are 8, 16 and 32 times smaller than the input: the level's number is the power of two."""


class Backbone(nn.Module):
    """A timm network up to C5, without weights of its own until somebody loads them.

    Args:
        name: timm's name of a network with feature maps at strides 8, 16 and 32, "darknet_tiny", or
            "mobilenet_v3_large_reduced".
        frozen_stages: 0 trains all; n freezes everything up to and with the last layer of stride 2^n, so that 5 freezes
            the whole backbone.
        frozen_batch_norm: use the statistics that came with the weights and train neither scale nor shift: right for
            small batches, whose own statistics are too rough.
        batch_norm_eps: the epsilon that the weights were trained with.
        keras_layout: strides and padding as keras-resnet has them; for its weights, ResNets only.
        fine_c4: C4 keeps C3's stride of 8 and C5 has 16, as in M2Det's ResNets; ResNets only.
        leaky_slope: of every LeakyReLU below 0, where the weights need another than the network's own.
        expansion: of MobileNets and EfficientNets, each map before its last convolution, which makes it narrow: six
            times the channels, behind an activation. SSDLite begins nearby (MobileNetV2 section 6.2: at the first
            convolution of the next block, and at the very last layer), where timm gives no maps. Other networks give
            the maps that they have.
        levels: the first and last map that comes out: C2 to C5 for the pyramid of FPN's paper.

    Raises:
        UsageError: timm has no such network, or it has no such feature maps.
    """

    @torch.inference_mode(False)  # in which autograd would remember nothing of what is looked at here
    def __init__(
        self,
        name: str,
        frozen_stages: int = 0,
        frozen_batch_norm: bool = True,
        batch_norm_eps: float = 1e-5,
        keras_layout: bool = False,
        fine_c4: bool = False,
        leaky_slope: float | None = None,
        expansion: bool = False,
        levels: tuple[int, int] = (3, 5),
    ) -> None:
        super().__init__()
        self.body: Any
        strides = tuple(2**level for level in range(levels[0], levels[1] + 1))
        self.body, maps = _timm_features(name, expansion, strides)
        if keras_layout:
            resnet_layouts.keras(self.body)
        if fine_c4:
            resnet_layouts.fine_c4(self.body)
        for module in self.modules():
            if isinstance(module, nn.LeakyReLU) and leaky_slope is not None:
                module.negative_slope = leaky_slope
        self.channels: list[int] = [self.body.feature_info.channels()[i] for i in maps]
        self._levels = maps
        fold_norms(self.body, torch.zeros(1, 3, 64, 64))
        for module in batch_norms(self):
            module.eps = batch_norm_eps
            if frozen_batch_norm:
                module.requires_grad_(False)
        self._map_modules: list[str] = self.body.feature_info.module_name()
        self._asked = self._asked_by_maps()
        self.freeze(frozen_stages)
        for parameter_name, parameter in self.body.named_parameters():
            if not any(parameter_name in self._asked[i] for i in maps):  # behind the last map, in some networks
                parameter.requires_grad_(False)
        self._last_stage = _behind(self.body, self._map_modules[maps[-2]]) if maps[1:] else ()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [B, 3, H, W] → the maps asked for, mostly C3, C4, C5; level l is [B, channels, H / 2^l, W / 2^l]."""
        features = self.body(images)
        return [features[i] for i in self._levels]

    @property
    def resumes(self) -> bool:
        """Whether `resume` is there: not for every network it is known which of its parts come behind C4."""
        return bool(self._last_stage)

    def resume(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """All maps but C5, computed before → all maps; only what lies between C4 and C5 is run."""
        last = maps[-1]
        for part in self._last_stage:
            last = part(last)
        return [*maps, last]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        rest_frozen_norms(self)
        return self

    def freeze(self, stages: int) -> None:
        """Takes everything up to and with the last layer of stride 2^stages out of the training."""
        reached = [i for i, r in enumerate(self.body.feature_info.reduction()) if r <= 2**stages]
        if stages == 0 or not reached:
            return
        last = self._map_modules[reached[-1]]
        # With `expansion` a map is the one before its block's last convolution, which has the same stride.
        behind = () if not last.endswith(".conv_pwl") else (f"{last}.", last.replace("conv_pwl", "bn3."))
        for name, parameter in self.body.named_parameters():
            if name in self._asked[reached[-1]] or name.startswith(behind):
                parameter.requires_grad_(False)

    def _asked_by_maps(self) -> list[set[str]]:
        """Of each of the network's maps, the names of the parameters that it depends on, as autograd remembers.

        Where a network's parts run in another order than they are named, or have names of their own, that still tells.
        """
        names = {parameter: name for name, parameter in self.body.named_parameters()}
        learning = [parameter.requires_grad for parameter in names]
        self.body.requires_grad_(True)
        with torch.enable_grad():
            found = self.body.eval()(torch.zeros(1, 3, 64, 64))
        asked = [{names[node.variable] for node in graph([x.grad_fn]) if hasattr(node, "variable")} for x in found]
        for parameter, learns in zip(names, learning, strict=True):
            parameter.requires_grad_(learns)
        return asked


def batch_norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    """Every batch norm within a module."""
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def rest_frozen_norms(module: nn.Module) -> None:
    """Where a batch norm is frozen, alone or with its stage, its statistics stay too."""
    for norm in batch_norms(module):
        if not norm.weight.requires_grad:
            norm.train(False)


def check_backbone(name: str) -> None:
    """Raises UsageError where timm has no network of this name, with names that are near."""
    if not timm.is_model(name) and name not in (DARKNET_TINY, REDUCED_MOBILENET_V3):
        near = difflib.get_close_matches(name, timm.list_models(), n=3) or ["mobilenetv2_100", "resnet50"]
        raise UsageError(f"Unknown backbone {name!r}: expected the name of a timm network, such as {', '.join(near)}.")


def _timm_features(name: str, expansion: bool = False, strides: tuple[int, ...] = REDUCTIONS) -> tuple[Any, list[int]]:
    """Timm's network with feature maps only, and which of its maps are C3, C4 and C5, or others of these strides."""
    check_backbone(name)
    try:
        body: Any = DarknetTiny() if name == DARKNET_TINY else _create(name, expansion)
        reductions = list(body.feature_info.reduction())
        levels = [max(i for i, r in enumerate(reductions) if r == wanted) for wanted in strides]
        if levels[-1] + 1 < len(reductions) and name != DARKNET_TINY:  # what comes behind the last map is not built
            body = _create(name, expansion, out_indices=tuple(range(levels[-1] + 1)))
        with torch.no_grad():
            shapes = [feature.shape for feature in body.eval()(torch.zeros(1, 3, 64, 64))]
        fit = [
            shapes[i][1:] == (body.feature_info.channels()[i], 64 // r, 64 // r)
            for i, r in zip(levels, strides, strict=True)
        ]
    except (RuntimeError, AttributeError, ValueError, TypeError, AssertionError):
        fit = [False]
    if not all(fit):
        raise UsageError(
            f"The backbone {name!r} has no feature maps of any photo's size at strides {_listed(strides)}, which the "
            "detector needs; take a convolutional network such as mobilenetv2_100 or resnet50."
        )
    return body, levels


def _behind(body: Any, module: str) -> tuple[nn.Module, ...]:
    """What a network runs after one of its modules, in its order; nothing where that is not known."""
    parts: dict[str, nn.Module] = {}
    if isinstance(body, FeatureListNet):
        parts = dict(body.items())
        module = module.replace(".", "_")
    elif isinstance(body, EfficientNetFeatures | MobileNetV3Features):
        parts = {f"blocks.{i}": block for i, block in enumerate(body.blocks)}
    return tuple(parts.values())[list(parts).index(module) + 1 :] if module in parts else ()


def _listed(numbers: tuple[int, ...]) -> str:
    """In words: 8, 16 and 32."""
    return " and ".join(", ".join(map(str, numbers)).rsplit(", ", 1))


def _create(name: str, expansion: bool, **wishes: Any) -> Any:
    if name == REDUCED_MOBILENET_V3:
        return reduced_mobilenet_v3(feature_location="expansion" if expansion else "bottleneck", **wishes)
    if expansion:
        with contextlib.suppress(TypeError, KeyError):  # of networks that have none
            return timm.create_model(name, features_only=True, pretrained=False, feature_location="expansion", **wishes)
    return timm.create_model(name, features_only=True, pretrained=False, **wishes)
