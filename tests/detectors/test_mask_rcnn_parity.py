"""Mask R-CNN against torchvision's: what it adds to Faster R-CNN, and that the rest is as there."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection import roi_heads

from foodbox.detectors.mask_rcnn import MaskRCNN
from foodbox.records import Frame
from foodbox.weights import torchvision_rcnn
from tests.detectors.rcnn_pairs import KEPT, SIZE, Pair, close, pair_of, partners, some_targets, their_losses

PRESETS = [preset for detector, preset in torchvision_rcnn.COCO if detector == "mask_rcnn"]


@pytest.fixture(scope="module", params=PRESETS)
def pair(request: pytest.FixtureRequest) -> Pair:
    return pair_of("mask_rcnn", request.param)


@torch.no_grad()
def test_the_mask_branch_is_torchvisions(pair: Pair) -> None:
    """The logits of every class, of regions of all sizes."""
    assert isinstance(pair.ours, MaskRCNN)
    proposals, _ = pair.theirs.rpn(pair.images, pair.features)
    boxes = [p[:40] for p in proposals]
    heads = pair.theirs.roi_heads
    features = heads.mask_head(heads.mask_roi_pool(pair.features, boxes, pair.images.image_sizes))
    photo = torch.arange(2).repeat_interleave(40)
    pooled = pair.ours.pool(pair.ours.maps(pair.pixels)[0], torch.cat(boxes), photo, 14)
    close(pair.ours.mask_head(pooled), heads.mask_predictor(features)[:, KEPT])


@torch.no_grad()
def test_detections_and_masks_are_torchvisions(pair: Pair) -> None:
    proposals, _ = pair.theirs.rpn(pair.images, pair.features)
    found, _ = pair.theirs.roi_heads(pair.features, proposals, pair.images.image_sizes)
    frames = [Frame(SIZE[1], SIZE[0], SIZE[1], SIZE[0])] * 2
    for mine, theirs in zip(pair.ours.decode(pair.outputs, frames), found, strict=True):
        assert len(mine) == len(theirs["boxes"]) > 5
        labels = torch.tensor([KEPT.index(i) for i in theirs["labels"].tolist()])
        place = partners(mine.boxes, theirs["boxes"], (mine.labels, labels))
        same = place >= 0
        torch.testing.assert_close(mine.scores[place][same], theirs["scores"][same], rtol=0, atol=1e-4)
        assert mine.masks is not None
        torch.testing.assert_close(mine.masks[place][same], theirs["masks"][same, 0], rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("boxes", [(4, 2), (5, 0), (0, 0)])
def test_losses_are_torchvisions(pair: Pair, boxes: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the anchors and regions that torchvision sampled, and with its masks half a pixel on (`project_masks`)."""
    project = roi_heads.project_masks_on_boxes
    monkeypatch.setattr(roi_heads, "project_masks_on_boxes", lambda m, boxes, *more: project(m, boxes - 0.5, *more))
    targets, theirs = some_targets(boxes)
    expected, chosen, regions = their_losses(pair, theirs)
    found = pair.ours.rpn_losses(pair.outputs, targets, chosen)
    found |= pair.ours.second_losses(pair.ours.maps(pair.pixels)[0], regions, targets)
    names = {"objectness": "loss_objectness", "proposals": "loss_rpn_box_reg", "classes": "loss_classifier",
             "boxes": "loss_box_reg", "masks": "loss_mask"}  # fmt: skip
    assert found.keys() == names.keys()
    for ours, other in names.items():
        assert float(found[ours]) == pytest.approx(float(expected[other]), rel=1e-4, abs=1e-7), ours
    assert (float(found["masks"]) > 0) is any(boxes)
