"""Faster R-CNN against torchvision's: every stage, the detections and all losses, with the same weights.

All are filled with random weights, which come over through the importer.
"""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from foodbox.records import Frame
from foodbox.weights import torchvision_rcnn
from tests.detectors.rcnn_pairs import (
    CATEGORIES,
    KEPT,
    SIZE,
    Pair,
    close,
    pair_of,
    partners,
    some_targets,
    their_losses,
)

PRESETS = [preset for detector, preset in torchvision_rcnn.COCO if detector == "faster_rcnn"]


@pytest.fixture(scope="module", params=PRESETS)
def pair(request: pytest.FixtureRequest) -> Pair:
    return pair_of("faster_rcnn", request.param)


@torch.no_grad()
def test_the_proposal_network_is_torchvisions(pair: Pair) -> None:
    logits, deltas, anchors = pair.their_rpn()
    close(pair.outputs["rpn_logits"], logits)
    close(pair.outputs["rpn_deltas"], deltas)
    assert torch.equal(pair.outputs["anchors"], anchors[0])


@torch.no_grad()
def test_proposals_are_torchvisions(pair: Pair) -> None:
    expected, _ = pair.theirs.rpn(pair.images, pair.features)
    for mine, theirs in zip(pair.outputs["proposals"], expected, strict=True):
        assert len(theirs) > 50
        mine = mine[(mine[:, 2] > mine[:, 0])]
        assert len(mine) == len(theirs)
        partners(mine, theirs)


@torch.no_grad()
def test_the_box_head_is_torchvisions(pair: Pair) -> None:
    proposals, _ = pair.theirs.rpn(pair.images, pair.features)
    count = min(len(p) for p in proposals)
    proposals = [p[:count] for p in proposals]
    heads = pair.theirs.roi_heads
    pooled = heads.box_head(heads.box_roi_pool(pair.features, proposals, pair.images.image_sizes))
    logits, deltas = heads.box_predictor(pooled)
    found = pair.ours.detect(*pair.ours.maps(pair.pixels), torch.stack(proposals), pair.pixels)
    close(found["logits"].flatten(0, 1), logits[:, [0, *KEPT]])
    close(found["deltas"].flatten(0, 1), deltas.unflatten(1, (-1, 4))[:, KEPT])


@torch.no_grad()
@pytest.mark.parametrize("threshold", [0.05, 0.5])
def test_selection_is_torchvisions(pair: Pair, threshold: float) -> None:
    """Of the same logits and offsets: every box and score, in the same order."""
    pair.theirs.roi_heads.score_thresh = threshold
    logits, deltas, proposals = (pair.outputs[name] for name in ("logits", "deltas", "proposals"))
    every = torch.full((*logits.shape[:2], len(CATEGORIES)), -100.0)
    every[..., [0, *KEPT]] = logits
    moves = torch.zeros(*logits.shape[:2], len(CATEGORIES), 4)
    moves[:, :, KEPT] = deltas
    expected = pair.theirs.roi_heads.postprocess_detections(
        every.flatten(0, 1), moves.flatten(0, 1).flatten(1), list(proposals), pair.images.image_sizes
    )
    frames = [Frame(SIZE[1], SIZE[0], SIZE[1], SIZE[0])] * 2
    for mine, boxes, scores, labels in zip(pair.ours.decode(pair.outputs, frames, threshold), *expected, strict=True):
        assert len(mine) == len(boxes) > 5
        assert [KEPT[i] for i in mine.labels.tolist()] == labels.tolist()
        torch.testing.assert_close(mine.scores, scores, rtol=0, atol=1e-6)
        torch.testing.assert_close(mine.boxes, boxes, rtol=0, atol=1e-4)


@torch.no_grad()
def test_detections_are_torchvisions(pair: Pair) -> None:
    """From the pixels to the photo's own pixels."""
    pair.theirs.roi_heads.score_thresh = 0.05
    proposals, _ = pair.theirs.rpn(pair.images, pair.features)
    expected, _ = pair.theirs.roi_heads(pair.features, proposals, pair.images.image_sizes)
    expected = pair.theirs.transform.postprocess(expected, pair.images.image_sizes, [(2 * SIZE[0], 2 * SIZE[1])] * 2)
    frames = [Frame(2 * SIZE[1], 2 * SIZE[0], SIZE[1], SIZE[0])] * 2
    for mine, theirs in zip(pair.ours.decode(pair.outputs, frames), expected, strict=True):
        assert len(mine) == len(theirs["boxes"]) > 50
        labels = torch.tensor([KEPT.index(i) for i in theirs["labels"].tolist()])
        place = partners(mine.boxes, theirs["boxes"], (mine.labels, labels))
        torch.testing.assert_close(mine.scores[place][place >= 0], theirs["scores"][place >= 0], rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("sizes", [[(100, 164), (128, 131)], [(97, 161), (97, 161)]])
def test_detections_on_padded_inputs_are_torchvisions(pair: Pair, sizes: list[tuple[int, int]]) -> None:
    """Both cut boxes off where the photo ends, before NMS in either stage; padding is what normalisation makes 0."""
    pair.theirs.roi_heads.score_thresh = 0.05
    pixels = pair.pixels.clone()
    for photo, (height, width) in zip(pixels, sizes, strict=True):
        photo[:, height:], photo[:, :, width:] = 255 * pair.ours.mean[0], 255 * pair.ours.mean[0]
    images = ImageList(pair.ours.normalise(pixels), sizes)
    features = pair.theirs.backbone(images.tensors)
    proposals, _ = pair.theirs.rpn(images, features)
    expected, _ = pair.theirs.roi_heads(features, proposals, sizes)
    outputs = pair.ours(pixels, torch.tensor(sizes).flip(1))
    frames = [Frame(width, height, width, height) for height, width in sizes]
    for mine, theirs in zip(pair.ours.decode(outputs, frames), expected, strict=True):
        assert len(mine) == len(theirs["boxes"]) > 50
        labels = torch.tensor([KEPT.index(i) for i in theirs["labels"].tolist()])
        place = partners(mine.boxes, theirs["boxes"], (mine.labels, labels))
        torch.testing.assert_close(mine.scores[place][place >= 0], theirs["scores"][place >= 0], rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("boxes", [(4, 2), (5, 0), (0, 0)])
def test_losses_are_torchvisions(pair: Pair, boxes: tuple[int, int]) -> None:
    """Of the anchors and regions that torchvision sampled."""
    targets, theirs = some_targets(boxes)
    expected, chosen, regions = their_losses(pair, theirs)
    maps = pair.ours.maps(pair.pixels)[0]
    found = pair.ours.rpn_losses(pair.outputs, targets, chosen) | pair.ours.second_losses(maps, regions, targets)
    names = {"objectness": "loss_objectness", "proposals": "loss_rpn_box_reg", "classes": "loss_classifier",
             "boxes": "loss_box_reg"}  # fmt: skip
    for ours, other in names.items():
        assert float(found[ours]) == pytest.approx(float(expected[other]), rel=1e-4, abs=1e-7), ours
    assert (float(found["boxes"]) > 0) is any(boxes)
    assert (float(found["proposals"]) > 0) is any(boxes)
