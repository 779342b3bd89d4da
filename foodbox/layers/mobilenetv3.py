"""MobileNetV3-Large as SSDLite and torchvision's Faster R-CNN use it.

It is torchvision's: SSDLite's C4 lies within a block, where timm gives no map.
"""

from __future__ import annotations

from functools import partial
from typing import Self, cast

from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large

from foodbox.layers.backbones import batch_norms, rest_frozen_norms
from foodbox.layers.convolutions import BatchNorm

FIRST_OF_C5 = 13
"""The block with which C5 begins; what its expansion gives, at C4's stride, is the first map."""
BLOCKS_UP_TO = (1, 3, 6, 12, 16)
"""The last block at stride 2, 4, 8, 16 and 32."""


class MobileNetV3Large(nn.Module):
    """MobileNetV3-Large (Howard et al. 2019) up to its last convolution, without weights of its own.

    The two maps are those of its section 6.3: the expansion layer of the 13th bottleneck block is the first, as in
    MobileNetV2's SSDLite, and the layer just before pooling the second.

    Args:
        reduced_tail: half the channels from C4 on (section 6.3 as well); ImageNet's weights have all of them.
        frozen_stages, frozen_batch_norm: as `Backbone` has them.
        batch_norm_eps: the epsilon that the weights were trained with.
        behind_block: the first map is what the block of C5's stride gives, 160 channels (80 with the reduced tail), as
            torchvision's Faster R-CNN has it; both maps then have the stride 32.
    """

    def __init__(
        self,
        reduced_tail: bool,
        frozen_stages: int = 0,
        frozen_batch_norm: bool = False,
        batch_norm_eps: float = 1e-3,
        behind_block: bool = False,
    ) -> None:
        super().__init__()
        norm = partial(BatchNorm, eps=batch_norm_eps, momentum=0.03)
        self.body: nn.Sequential = mobilenet_v3_large(reduced_tail=reduced_tail, norm_layer=norm).features
        self.channels = [672, 480 if reduced_tail else 960]
        self.behind_block = behind_block
        if behind_block:
            self.channels[0] = 80 if reduced_tail else 160
        for module in self.body.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.03)
        if frozen_batch_norm:
            for module in batch_norms(self):
                module.requires_grad_(False)
        if frozen_stages:
            self.body[: BLOCKS_UP_TO[frozen_stages - 1] + 1].requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [B, 3, H, W] → C4 [B, 672, H/16, W/16] and C5 [B, 480 or 960, H/32, W/32].

        With `behind_block` the first is [B, 80 or 160, H/32, W/32].
        """
        x = self.body[:FIRST_OF_C5](images)
        expand, *rest = cast(nn.Sequential, self.body[FIRST_OF_C5].block)
        c4 = x = expand(x)
        for layer in rest:
            x = layer(x)
        return [x if self.behind_block else c4, self.body[FIRST_OF_C5 + 1 :](x)]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        rest_frozen_norms(self)
        return self
