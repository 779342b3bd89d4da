"""torchvision's Faster and Mask R-CNNs with random weights, and ours with the same ones, through the importer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.image_list import ImageList

from foodbox.detectors.base import Outputs
from foodbox.detectors.faster_rcnn import FasterRCNN
from foodbox.layers.roi_heads import Regions
from foodbox.records import Target
from foodbox.weights import model_file, torchvision, torchvision_rcnn

CATEGORIES = torchvision.CATEGORIES
DROPPED = [i for i, name in enumerate(CATEGORIES) if name in ("__background__", "N/A")]
KEPT = [i for i in range(len(CATEGORIES)) if i not in DROPPED]
SIZE = (128, 192)
"""Height and width of the two photos, which fill the input."""
PROPOSALS = 150
"""Fewer than the models', to be fast; test_torchvision_rcnn.py compares the models' own numbers."""


@dataclass
class Pair:
    """Both models, and what both make of the same two photos."""

    theirs: TorchvisionFasterRCNN
    images: ImageList
    features: dict[str, Tensor]
    ours: FasterRCNN
    pixels: Tensor
    outputs: Outputs

    def their_rpn(self) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits [B, A], offsets [B, A, 4] and the anchors of each photo."""
        features = list(self.features.values())
        logits, deltas = self.theirs.rpn.head(features)
        flat = [
            torch.cat([x.view(len(x), -1, n, *x.shape[2:]).permute(0, 3, 4, 1, 2).flatten(1, 3) for x in maps], dim=1)
            for maps, n in ((logits, 1), (deltas, 4))
        ]
        return flat[0][..., 0], flat[1], self.theirs.rpn.anchor_generator(self.images, features)


def pair_of(detector: str, preset: str) -> Pair:
    """A pair with random weights under which scores reach from 0 to 1, and boxes move."""
    with torch.no_grad():
        torch.manual_seed(2)
        theirs: Any = torchvision_rcnn.MAKERS[detector, preset](
            weights=None, weights_backbone=None, num_classes=len(CATEGORIES), min_size=SIZE[0], max_size=SIZE[1],
            rpn_post_nms_top_n_train=300, rpn_post_nms_top_n_test=PROPOSALS, box_batch_size_per_image=64,
        ).eval()  # fmt: skip
        # torchvision sets the epsilon of its published first models' norms to 0; the MobileNets' stays at 1e-5.
        fill(theirs, eps={"torchvision": 0.0}.get(preset, 1e-5))
        photos = torch.rand(2, 3, *SIZE)
        images, _ = theirs.transform(list(photos))
        assert images.image_sizes == [SIZE, SIZE]
        assert images.tensors.shape[2:] == SIZE
        state = {n: t.clone() for n, t in theirs.state_dict().items() if not n.endswith("num_batches_tracked")}
        ours = model_file.build(torchvision_rcnn.convert(state, f"a test of {preset}"))
        assert isinstance(ours, FasterRCNN)
        ours.settings = ours.settings.model_copy(update={"proposals": PROPOSALS})
        pixels = photos * 255
        return Pair(theirs, images, theirs.backbone(images.tensors), ours, pixels, ours(pixels))


def fill(model: Any, eps: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.05)
        elif isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=module.in_channels**-0.5)
        elif isinstance(module, nn.BatchNorm2d):
            module.eps = eps
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.weight, 0.7, 0.1)
            nn.init.normal_(module.bias, std=0.1)
    features = model.backbone(torch.randn(1, 3, *SIZE))
    logits, deltas = model.rpn.head(list(features.values()))
    model.rpn.head.cls_logits.weight.mul_(2 / logits[0].std())
    model.rpn.head.bbox_pred.weight.mul_(0.3 / deltas[0].std())
    heads = model.roi_heads
    boxes = torch.tensor([[10.0, 10, 60, 90], [50, 20, 150, 120], [0, 0, 190, 120]])
    predict = heads.box_predictor
    pooled = heads.box_head(heads.box_roi_pool(features, [boxes], [SIZE]))
    predict.cls_score.weight.mul_(2.5 / predict.cls_score(pooled).std())
    predict.bbox_pred.weight.mul_(1.0 / predict.bbox_pred(pooled).std())
    # What the importer leaves out never shows in torchvision's detections either.
    predict.cls_score.weight[DROPPED[1:]] = 0
    predict.cls_score.bias[DROPPED[1:]] = -30
    if heads.has_mask():
        masks = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, [boxes], [SIZE])))
        heads.mask_predictor.mask_fcn_logits.weight.mul_(2 / masks.std())


def some_targets(counts: tuple[int, int]) -> tuple[list[Target], list[dict[str, Tensor]]]:
    """So many boxes with masks on the two photos, for us and for torchvision."""
    ours, theirs = [], []
    for count in counts:
        corner = torch.rand(count, 2) * torch.tensor([SIZE[1] - 90.0, SIZE[0] - 70])
        boxes = torch.cat((corner, corner + 20 + torch.rand(count, 2) * 48), dim=1)
        labels = torch.randint(len(KEPT), (count,))
        masks = torch.rand(count, *SIZE) > 0.5
        ours.append(Target(boxes, labels, masks))
        theirs.append({"boxes": boxes, "labels": torch.tensor(KEPT)[labels], "masks": masks.to(torch.uint8)})
    return ours, theirs


def their_losses(pair: Pair, targets: list[dict[str, Tensor]]) -> tuple[dict[str, Tensor], Tensor, Regions]:
    """The losses of torchvision, the anchors that it sampled (bool [B, A]), and its sampled regions.

    Its parts are told that they train, while their norms stay as they are.
    """
    rpn, heads = pair.theirs.rpn, pair.theirs.roi_heads
    anchors: list[Tensor] = []
    samples: list[Any] = []
    sampler, select = rpn.fg_bg_sampler, heads.select_training_samples

    def sample(labels: list[Tensor]) -> Any:
        positive, negative = sampler(labels)
        anchors.extend((p | n).bool() for p, n in zip(positive, negative, strict=True))
        return positive, negative

    def select_training_samples(*given: Any) -> Any:
        samples.extend(select(*given))
        return samples

    rpn.fg_bg_sampler, heads.select_training_samples = sample, select_training_samples
    rpn.training = heads.training = True
    try:
        proposals, losses = rpn(pair.images, pair.features, targets)
        _, more = heads(pair.features, proposals, pair.images.image_sizes, targets)
    finally:
        rpn.training = heads.training = False
        rpn.fg_bg_sampler, heads.select_training_samples = sampler, select
    boxes, answers, labels, _ = samples
    photo = torch.cat([torch.full((len(b),), i) for i, b in enumerate(boxes)])
    answer, category = torch.cat(answers), torch.cat(labels)
    label = torch.tensor([KEPT.index(c) + 1 if c else 0 for c in category.tolist()])
    every = [torch.cat((t["boxes"], torch.zeros(1, 4))) for t in targets]
    truth = torch.stack([every[i][j] for i, j in zip(photo.tolist(), answer.tolist(), strict=True)])
    return losses | more, torch.stack(anchors), Regions(photo, torch.cat(boxes), label, answer, truth)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """The largest difference, as a share of the spread that the expected values have."""
    assert found.shape == expected.shape
    spread = float(expected.std())
    assert spread > 0
    assert float((found - expected).abs().max()) <= tolerance * spread


def partners(found: Tensor, expected: Tensor, labels: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """For each expected box [N, 4] the place of the nearest found one of its label, which is the same to 1e-4.

    Rounding decides about boxes that overlap by a threshold exactly, or about the order of equal scores: one in fifty
    may have no partner (then its place is -1), and its place in the order may be another.
    """
    assert found.shape == expected.shape
    distance = torch.cdist(found, expected, p=torch.inf)  # [N, N]
    if labels is not None:
        distance[labels[0][:, None] != labels[1]] = torch.inf
    nearest, place = distance.min(0)
    same = nearest <= 1e-4 * expected.std()
    assert float(same.float().mean()) >= 0.98
    return torch.where(same, place, -1)
