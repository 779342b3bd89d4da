"""Other layouts of timm's ResNets: where keras-retinanet and M2Det have strides and padding elsewhere."""

from typing import Any

from timm.layers import Conv2dSame, create_pool2d
from torch import nn

from foodbox.errors import UsageError


def keras(body: Any) -> None:
    """Turns a timm ResNet into keras-resnet's: stride in a block's first convolution, "same" padding at the stem.

    TensorFlow pads the right and lower side more where the padding is odd, so that places lie half a stride further
    than in a network with symmetric padding.
    """
    if not hasattr(body, "layer1") or not hasattr(body, "maxpool"):
        raise UsageError("keras_layout is for ResNet backbones: take resnet50, resnet101 or resnet152.")
    stem = body.conv1
    body.conv1 = Conv2dSame(stem.in_channels, stem.out_channels, stem.kernel_size, stem.stride, bias=False)
    body.maxpool = create_pool2d("max", 3, 2, padding="same")
    for stage in (body.layer2, body.layer3, body.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = stage[0].conv2.stride, stage[0].conv1.stride


def fine_c4(body: Any) -> None:
    """Takes the stride out of a timm ResNet's third stage."""
    if not hasattr(body, "layer1") or not hasattr(body, "maxpool"):
        raise UsageError("fine_c4 is for ResNet backbones: take resnet50, resnet101 or resnet152.")
    for module in body.layer3[0].modules():
        if isinstance(module, nn.Conv2d | nn.AvgPool2d):
            module.stride = 1 if isinstance(module, nn.AvgPool2d) else (1, 1)
