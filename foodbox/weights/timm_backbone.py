"""A backbone alone, in a checkpoint with timm's names: what people keep of timm's networks → our names."""

from __future__ import annotations

from typing import Any

import timm
from torch import Tensor, nn

from foodbox.layers.backbones import Backbone
from foodbox.weights import checkpoint
from foodbox.weights.transfer import Weights


def fits(state: dict[str, Tensor], backbone: str) -> bool:
    """Whether most tensors of timm's network `backbone`, up to C5, are in a checkpoint, by name and shape."""
    found, expected = _flat(state), _flat(Backbone(backbone).body.state_dict())
    same = sum(name in found and found[name].shape == tensor.shape for name, tensor in expected.items())
    return 2 * same > len(expected)


def convert(state: dict[str, Tensor], backbone: str, origin: str) -> Weights:
    """The tensors of timm's network `backbone` under our names; what sorts photos behind it is left out.

    A checkpoint does not say which pixels and which epsilon it was trained with: they are timm's for this network.

    Raises:
        FoodboxError: some tensors are missing, or of another shape.
    """
    ours, found = Backbone(backbone).body.state_dict(), _flat(state)
    mine = {name: found[flat] for name in ours if (flat := name.replace(".", "_")) in found}
    checkpoint.compare(mine, {name: tensor.shape for name, tensor in ours.items()}, f"timm's {backbone}", origin)
    tensors = {f"backbone.body.{name}": tensor.float() for name, tensor in mine.items()}
    return Weights(tensors, origin, settings=needs(backbone, timm.create_model(backbone, features_only=True)))


def needs(backbone: str, network: nn.Module) -> dict[str, Any]:
    """The settings that weights of timm's network `backbone` work with, as timm has them."""
    config = timm.get_pretrained_cfg(backbone)
    norms = [m.eps for m in network.modules() if hasattr(m, "running_mean") and hasattr(m, "eps")]
    settings = {"backbone": backbone, "mean": tuple(config.mean), "std": tuple(config.std)}
    return settings | ({"batch_norm_eps": norms[0]} if norms else {})


def _flat(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by names without dots: timm writes stages_0 where it cuts a network off behind C5, and else stages.0."""
    return {name.replace(".", "_"): tensor for name, tensor in state.items()}
