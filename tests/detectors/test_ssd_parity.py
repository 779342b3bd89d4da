"""SSD against torchvision's ssd300_vgg16 and ssdlite320_mobilenet_v3_large.

Both are filled with random weights of such a spread that scores, boxes and losses vary as a trained model's do, and the
weights come over through the importer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssd300_vgg16, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.ssd import SSD as TorchvisionSSD
from torchvision.ops import box_iou

from foodbox.detectors.base import Outputs
from foodbox.detectors.ssd import SSD
from foodbox.records import Frame, Target
from foodbox.weights import model_file, torchvision_ssd
from foodbox.weights.torchvision import CATEGORIES

UNUSED = [i for i, name in enumerate(CATEGORIES) if name == "N/A"]
KEPT = [i for i in range(len(CATEGORIES)) if i not in UNUSED]  # background is the first
ORIGINALS = [(256, 384), (288, 192)]


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """The largest difference, as a share of the spread that the expected values have."""
    assert found.shape == expected.shape
    spread = float(expected.std())
    assert spread > 0
    assert float((found - expected).abs().max()) <= tolerance * spread


@dataclass
class Pair:
    """torchvision's model and ours with the same weights, and what both make of the same two photos."""

    theirs: TorchvisionSSD
    head: dict[str, Tensor]
    their_anchors: list[Tensor]
    size: int
    ours: SSD
    outputs: Outputs


def fill_torchvision(model: TorchvisionSSD, size: int) -> None:
    """Random weights under which the signal neither dies nor explodes, and scores reach from 0 to 1.

    Logits of categories that COCO never used are low, as in the published weights: the importer drops them.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.05)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.weight, 0.9, 0.1)
            nn.init.normal_(module.bias, std=0.1)
    images, _ = model.transform([torch.rand(3, size, size)])
    features = list(model.backbone(images.tensors).values())
    heads = ((model.head.classification_head, 2.0), (model.head.regression_head, 1.5))
    for head, spread in heads:
        for module, feature in zip(head.module_list, features, strict=True):
            last = module[-1] if isinstance(module, nn.Sequential) else module
            last.weight.mul_(spread / module(feature).std())
            if spread == 2.0:
                bias = last.bias.view(-1, len(CATEGORIES))
                nn.init.normal_(bias, std=0.3)
                bias[:, 0] += 3.0
                last.weight.view(len(bias), len(CATEGORIES), -1)[:, UNUSED] = 0
                bias[:, UNUSED] = -30


@pytest.fixture(scope="module", params=["ssd300", "ssdlite320"])
def pair(request: pytest.FixtureRequest) -> Pair:
    with torch.no_grad():
        torch.manual_seed(1)
        make = ssd300_vgg16 if request.param == "ssd300" else ssdlite320_mobilenet_v3_large
        theirs = make(weights=None, weights_backbone=None, num_classes=len(CATEGORIES)).eval()
        size = int(request.param[-3:])
        fill_torchvision(theirs, size)
        photos = [torch.rand(3, size, size) for _ in ORIGINALS]
        images, _ = theirs.transform(photos)
        features = list(theirs.backbone(images.tensors).values())
        ours = model_file.build(torchvision_ssd.convert(theirs.state_dict(), "a test"))
        assert isinstance(ours, SSD)
        outputs = ours(torch.stack(photos) * 255)
        return Pair(theirs, theirs.head(features), theirs.anchor_generator(images, features), size, ours, outputs)


def test_logits_and_offsets_are_torchvisions(pair: Pair) -> None:
    """Map by map: what is near to what for one may be far for another."""
    counts = [anchors * side for anchors, side in _per_map(pair)]
    for name, theirs in (("logits", pair.head["cls_logits"][..., KEPT]), ("deltas", pair.head["bbox_regression"])):
        assert pair.outputs[name].shape == theirs.shape
        for mine, other in zip(pair.outputs[name].split(counts, 1), theirs.split(counts, 1), strict=True):
            close(mine, other)


def _per_map(pair: Pair) -> list[tuple[int, int]]:
    """Default boxes of a place, and places, of each map."""
    sides = (38, 19, 10, 5, 3, 1) if pair.size == 300 else (20, 10, 5, 3, 2, 1)
    return list(zip(pair.theirs.anchor_generator.num_anchors_per_location(), [s * s for s in sides], strict=True))


def test_default_boxes_are_torchvisions(pair: Pair) -> None:
    assert torch.allclose(pair.outputs["anchors"], pair.their_anchors[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_detections_are_torchvisions_box_by_box(pair: Pair, threshold: float | None) -> None:
    pair.theirs.score_thresh = pair.ours.settings.score_threshold if threshold is None else threshold
    sizes = [(pair.size, pair.size)] * 2
    found = pair.theirs.postprocess_detections(pair.head, pair.their_anchors, sizes)
    expected = pair.theirs.transform.postprocess(found, sizes, ORIGINALS)
    frames = [Frame(width, height, pair.size, pair.size) for height, width in ORIGINALS]
    for mine, theirs in zip(pair.ours.decode(pair.outputs, frames, threshold), expected, strict=True):
        boxes = theirs["boxes"]
        solid = ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).nonzero().flatten()
        assert len(mine) == len(solid) > 20
        assert len(mine.labels.unique()) > 10
        assert mine.scores.tolist() == sorted(mine.scores.tolist(), reverse=True)
        # Equal scores may change places: each of theirs is compared with the nearest of ours of the same name.
        left = list(range(len(mine)))
        for i in solid.tolist():
            name = CATEGORIES[theirs["labels"][i]]
            alike = [j for j in left if mine.names[mine.labels[j]] == name]
            distances = [float((mine.boxes[j] - boxes[i]).abs().max()) for j in alike]
            j = alike[int(np.argmin(distances))]
            left.remove(j)
            assert min(distances) < 1e-4 * float(boxes.std())
            assert float(mine.scores[j]) == pytest.approx(float(theirs["scores"][i]), abs=1e-4)


def some_boxes(pair: Pair, count: int) -> Tensor:
    """Default boxes within the photo, moved a little.

    A box within two default boxes of one size overlaps both the same, and rounding alone would decide between them.
    """
    anchors = pair.their_anchors[0]
    inside = anchors[(anchors >= 0).all(1) & (anchors <= pair.size).all(1)]
    drawn = inside[torch.randperm(len(inside))[:count]]
    sides = (drawn[:, 2:] - drawn[:, :2]).repeat(1, 2)
    return (drawn + (torch.rand(count, 4) - 0.5) * 0.3 * sides).clamp(0, pair.size)


@pytest.mark.parametrize("boxes", [(6, 3), (4, 0), (0, 0)])
def test_losses_are_torchvisions(pair: Pair, boxes: tuple[int, int]) -> None:
    """Also where one photo has no box, or none has."""
    targets, theirs, matched = [], [], []
    for count in boxes:
        box = some_boxes(pair, count)
        labels = torch.randint(len(KEPT) - 1, (count,))
        targets.append(Target(box, labels))
        theirs.append({"boxes": box, "labels": torch.tensor(KEPT)[labels + 1]})
        anchors = pair.their_anchors[0]
        nothing = torch.full((len(anchors),), -1)
        matched.append(pair.theirs.proposal_matcher(box_iou(box, anchors)) if count else nothing)
    expected = pair.theirs.compute_loss(theirs, pair.head, pair.their_anchors, matched)
    found = pair.ours.losses_of(pair.outputs, targets)
    assert float(found["classes"]) == pytest.approx(float(expected["classification"]), rel=1e-4, abs=1e-6)
    assert float(found["boxes"]) == pytest.approx(float(expected["bbox_regression"]), rel=1e-4, abs=1e-6)
    assert (float(found["boxes"]) > 0) is any(boxes)


def test_boxes_that_want_the_same_default_box_are_matched_as_torchvisions(pair: Pair) -> None:
    """Twice the same box: the later one has it."""
    anchors = pair.their_anchors[0]
    box = some_boxes(pair, 8)
    box = torch.cat((box, box[:4], box[4:] + 0.5))
    theirs = {"boxes": box, "labels": torch.arange(1, len(box) + 1)}
    head = {name: values[:1] for name, values in pair.head.items()}
    matched = [pair.theirs.proposal_matcher(box_iou(box, anchors))]
    expected = pair.theirs.compute_loss([theirs], head, [anchors], matched)
    labels = torch.tensor([KEPT.index(i) - 1 if i in KEPT else 0 for i in theirs["labels"].tolist()])
    outputs = pair.outputs | {name: pair.outputs[name][:1] for name in ("logits", "deltas")}
    found = pair.ours.losses_of(outputs, [Target(box, labels)])
    assert float(found["boxes"]) == pytest.approx(float(expected["bbox_regression"]), rel=1e-4)
