"""The first stage of the two-stage detectors, Faster R-CNN's: where something may be."""

from torch import Tensor, nn

from foodbox.layers.heads import per_anchor


class RPNHead(nn.Module):
    """Faster R-CNN's region proposal network (section 3.1): 3 x 3 convolutions, and 1 x 1 ones for scores and boxes.

    Args:
        channels: width in and between.
        anchors: of one place, k of the paper.
        convs: 3 x 3 convolutions; the paper has 1.
    """

    def __init__(self, channels: int, anchors: int, convs: int = 1) -> None:
        super().__init__()
        layers = ((nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True)) for _ in range(convs))
        self.convs = nn.Sequential(*(layer for pair in layers for layer in pair))
        self.objectness = nn.Conv2d(channels, anchors, 1)
        self.boxes = nn.Conv2d(channels, 4 * anchors, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)  # section 3.1.3
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[B, channels, H, W] → logits [B, H x W x A] and offsets [B, H x W x A, 4]."""
        x = self.convs(features)
        return per_anchor(self.objectness(x), 1)[..., 0].float(), per_anchor(self.boxes(x), 4).float()
