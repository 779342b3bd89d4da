"""VGG-16 as SSD changed it: the body of SSD300, SSD512 and M2Det."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Width and number of the 3 x 3 convolutions of each block: VGG (Simonyan and Zisserman 2015) table 1, column D."""


class VGG16(nn.Module):
    """VGG-16 without its classifier, "reduced" as in SSD section 3: two feature maps, without weights of its own.

    fc6 and fc7 are convolutions of 1024 channels (ParseNet, Liu et al. 2015). pool5 is 3 x 3 with stride 1, and fc6 has
    a dilation of 6 in exchange, so that it sees as much of the photo as before (DeepLab's à trous).

    Pooling rounds up, as Caffe's did: a map's sides are ceil(side / stride). torch's ports of SSD round up in pool3
    alone, which is the same on 300 px and on every multiple of 16.

    Args:
        frozen_stages: as `Backbone` has it: 0 trains all; n freezes the blocks up to stride 2^n: 1 conv1 and conv2, 2
            conv3 besides, 3 conv4, and 4 everything.

    Attributes:
        channels: of conv4_3 (stride 8) and fc7 (stride 16).
    """

    def __init__(self, frozen_stages: int = 0) -> None:
        super().__init__()
        self.channels = [512, 1024]
        before = 3
        for block, (width, count) in enumerate(BLOCKS, start=1):
            for i in range(1, count + 1):
                self.add_module(f"conv{block}_{i}", nn.Conv2d(before, width, 3, padding=1))
                before = width
        self.fc6 = nn.Conv2d(512, 1024, 3, padding=6, dilation=6)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        for conv in self.children():
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)
        names = [f"conv{block}" for block in range(1, frozen_stages + 2)] if frozen_stages else []
        names += ["fc"] if frozen_stages >= 4 else []
        for name, parameter in self.named_parameters():
            if name.startswith(tuple(names)):
                parameter.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [B, 3, H, W] → conv4_3 [B, 512, H/8, W/8] and fc7 [B, 1024, H/16, W/16], both after their ReLU."""
        x = conv4_3 = images
        for block, (_, count) in enumerate(BLOCKS, start=1):
            for i in range(1, count + 1):
                x = F.relu(self.get_submodule(f"conv{block}_{i}")(x), inplace=True)
            if block == 4:
                conv4_3 = x
            x = F.max_pool2d(x, 2, 2, ceil_mode=True) if block < 5 else F.max_pool2d(x, 3, 1, padding=1)
        return [conv4_3, F.relu(self.fc7(F.relu(self.fc6(x), inplace=True)))]
