"""Faster R-CNN's own behaviour: anchors, losses and proposals by hand, one map, and what its settings allow."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from foodbox.configure import apply
from foodbox.detectors.base import Outputs
from foodbox.detectors.faster_rcnn import LIGHT, FasterRCNN, FasterRCNNSettings
from foodbox.errors import UsageError
from foodbox.layers.roi_heads import Regions
from foodbox.records import Frame, Preprocessing, Target
from foodbox.weights import pretrained
from foodbox.weights.transfer import put
from tests.conftest import NAMES

# Four anchors that touch nowhere, so that what is matched and lost can be worked out by hand.
APART = torch.tensor([[0.0, 0, 20, 20], [40.0, 0, 60, 20], [0.0, 40, 20, 60], [40.0, 40, 60, 60]])
PRESETS = {name: FasterRCNNSettings(**values) for name, values in FasterRCNN.presets.items()}
SIXTY_FOUR = Preprocessing(size=64)
FRAME = [Frame(64, 64, 64, 64)]


def small(**changes: Any) -> FasterRCNN:
    return FasterRCNN(NAMES, FasterRCNNSettings(**LIGHT | {"preprocessing": SIXTY_FOUR} | changes))


@pytest.fixture(scope="module")
def light() -> FasterRCNN:
    return small()


def with_settings(detector: FasterRCNN, **changes: Any) -> FasterRCNN:
    """The same network with other settings of its losses and its decoding."""
    other = copy.copy(detector)
    other.settings = detector.settings.model_copy(update=changes)
    return other


def rpn_at(anchors: Tensor, logits: Tensor, deltas: Tensor | None = None) -> Outputs:
    """What the proposal network gives: logits [B, A] at these anchors, all of one level."""
    deltas = torch.zeros(*logits.shape, 4) if deltas is None else deltas
    return {"rpn_logits": logits, "rpn_deltas": deltas, "anchors": anchors, "levels": torch.tensor([len(anchors)])}


# -- Anchors and the network ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "height", "width", "count"),
    [
        # (200 x 272 + 100 x 136 + 50 x 68 + 25 x 34 + 13 x 17) x 3
        ("resnet50", 800, 1088, 217_413),
        # The paper, section 3.1.1: "WHk anchors", of which "for a 1000 x 600 image, there will be roughly 20000".
        ("vgg16", 608, 992, 38 * 62 * 9),
        # (10 x 10 x 2 + 5 x 5) x 15: two maps of stride 32.
        ("mobilenet_v3_320", 320, 320, 3375),
        # (40² + 20² + 10² + 5²) x 3
        ("light", 320, 320, 6375),
    ],
)
def test_the_number_of_anchors(preset: str, height: int, width: int, count: int) -> None:
    assert FasterRCNN.anchors_of(PRESETS[preset], height, width).shape == (count, 4)


def test_the_anchors_of_a_place_by_hand() -> None:
    """Section 3.1.1: three scales and three ratios, around the middle of a cell of 16 x 16 px."""
    found = FasterRCNN.anchors_of(PRESETS["vgg16"], 608, 992)[:9]
    torch.testing.assert_close((found[:, :2] + found[:, 2:]) / 2, torch.full((9, 2), 8.0))
    sides = found[:, 2:] - found[:, :2]
    torch.testing.assert_close(sides.prod(1).sqrt(), torch.tensor([128.0, 256, 512] * 3))
    torch.testing.assert_close(sides[:, 1] / sides[:, 0], torch.tensor([0.5] * 3 + [1.0] * 3 + [2.0] * 3))


@pytest.mark.parametrize("changes", [{}, {"first_level": 2, "anchor_sizes": (16, 32, 64, 128, 256)}, {
    "neck": "c4", "anchor_sizes": (64,), "anchor_scales": (1.0, 2.0)}, {"backbone": "resnet18"},
    {"anchor_places": "torchvision"}])  # fmt: skip
def test_anchors_are_those_of_forward(changes: dict[str, Any]) -> None:
    """For sides that are no multiple of any stride as well, and smaller than the largest stride."""
    detector = small(**changes).eval()
    for height, width in [(64, 96), (65, 97), (33, 64), (7, 300), (1, 1)]:
        if changes.get("anchor_places") == "torchvision" and (height % 32 or width % 32):
            continue  # its strides are those of the grids that there are
        with torch.no_grad():
            outputs = detector(torch.zeros(1, 3, height, width))
        anchors = FasterRCNN.anchors_of(detector.settings, height, width)
        assert torch.equal(anchors, outputs["anchors"])
        assert outputs["rpn_logits"].shape == (1, len(anchors)), (height, width)
        assert outputs["rpn_deltas"].shape == (1, len(anchors), 4)


def test_outputs_have_the_shapes_that_they_say(light: FasterRCNN) -> None:
    with torch.no_grad():
        outputs = light.eval()(torch.rand(2, 3, 64, 96) * 255)
    anchors, regions = outputs["anchors"].shape[0], 256
    shapes = {
        "rpn_logits": (2, anchors), "rpn_deltas": (2, anchors, 4), "anchors": (anchors, 4), "levels": (4,),
        "proposals": (2, regions, 4), "logits": (2, regions, 2), "deltas": (2, regions, 1, 4),
        "boxes": (2, 100, 4), "scores": (2, 100), "labels": (2, 100),
    }  # fmt: skip
    assert {name: tuple(value.shape) for name, value in outputs.items()} == shapes
    boxes = outputs["boxes"][outputs["scores"] >= 0]
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([96.0, 64, 96, 64])).all()


@pytest.mark.parametrize("preset", FasterRCNN.presets)
def test_every_choice_is_a_valid_setting_of_as_many_anchors(preset: str) -> None:
    """As many at each place as before, so that the heads' starting weights still fit."""
    own = PRESETS[preset]
    for boxes in (torch.tensor([[0.0, 0, 30, 30]]), torch.tensor([[0.0, 0, 20, 60], [5, 5, 100, 40]])):
        choices = FasterRCNN.anchor_choices(own, boxes)
        counts = {len(FasterRCNN.anchors_of(apply(own, choice), 64, 96)) for choice in choices}
        assert counts == {len(FasterRCNN.anchors_of(own, 64, 96))}


def test_small_boxes_get_smaller_anchors() -> None:
    corner = torch.rand(60, 2) * 290
    boxes = torch.cat((corner, corner + 8 + torch.rand(60, 2) * 8), dim=1)
    assert FasterRCNN.fit_anchors(PRESETS["light"], boxes, 320, 320)["anchor_sizes"][0] < 20


def test_the_embedded_backbone_fills_the_light_preset() -> None:
    weights = pretrained.find("coco", PRESETS["light"].model_dump(), "faster_rcnn")
    assert weights is not None
    detector = FasterRCNN(NAMES, apply(PRESETS["light"], weights.settings))
    result = put(weights, detector)
    backbone = {n for n in detector.state_dict() if n.startswith("backbone.") and not n.endswith("num_batches_tracked")}
    assert set(result.kept) == backbone


# -- The proposal network's losses ----------------------------------------------------------------------------------


def test_losses_of_anchors_by_hand(light: FasterRCNN) -> None:
    """One box that is anchor 0, all logits 0: log 2 of each; smooth L1 with beta 1 of four offsets of 2, over 4."""
    detector = with_settings(light, box_loss="smooth_l1", smooth_l1_beta=1.0, box_weight=1.0)
    rpn = rpn_at(APART, torch.zeros(1, 4), torch.full((1, 4, 4), 2.0))
    found = detector.rpn_losses(rpn, [Target(APART[:1], torch.tensor([1]))])
    assert float(found["objectness"]) == pytest.approx(math.log(2))
    assert float(found["proposals"]) == pytest.approx(4 * 1.5 / 4)


def test_only_the_chosen_anchors_count(light: FasterRCNN) -> None:
    detector = with_settings(light, box_loss="smooth_l1", box_weight=1.0)
    logits = torch.tensor([[0.0, 50, 0, 0]])  # the second is wrong by 50
    rpn = rpn_at(APART, logits, torch.full((1, 4, 4), 2.0))
    found = detector.rpn_losses(rpn, [Target(APART[:1], torch.tensor([1]))], torch.tensor([[False, True, True, False]]))
    assert float(found["objectness"]) == pytest.approx((50 + math.log(2)) / 2)
    assert float(found["proposals"]) == 0


def test_an_anchor_between_the_bounds_counts_nothing(light: FasterRCNN) -> None:
    """IoU 0.5 lies between 0.3 and 0.7: it is the box's best and positive, unless another is better."""
    box = torch.tensor([[0.0, 0, 20, 10]])  # half of anchor 0
    logits = torch.tensor([[-9.0, -9, -9, -9]])
    target = [Target(box, torch.tensor([0]))]
    assert float(light.rpn_losses(rpn_at(APART, logits), target)["objectness"]) == pytest.approx(9 / 4, abs=1e-3)
    better = torch.cat((APART, torch.tensor([[0.0, 0, 20, 11]])))
    logits = torch.tensor([[-9.0, -9, -9, -9, 9]])
    assert float(light.rpn_losses(rpn_at(better, logits), target)["objectness"]) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
def test_boxes_on_the_anchors_cost_nothing(light: FasterRCNN, box_loss: str) -> None:
    detector = with_settings(light, box_loss=box_loss)
    targets = [Target(APART, torch.tensor([0, 1, 2, 0])), Target(APART[1:2], torch.tensor([2]))]
    found = detector.rpn_losses(rpn_at(APART, torch.zeros(2, 4)), targets)
    assert float(found["proposals"]) == pytest.approx(0, abs=1e-6)


def test_as_many_anchors_are_looked_at_as_the_settings_say(light: FasterRCNN) -> None:
    """Of 400 anchors, 4 of which are boxes: 2 positives and 6 negatives, each with its own loss."""
    anchors = torch.cat((APART, 1000 + 30 * torch.arange(396.0)[:, None] + torch.tensor([0.0, 0, 20, 20])))
    logits = torch.full((1, 400), 3.0)
    detector = with_settings(light, rpn_samples=8, rpn_positives=0.25)
    found = detector.rpn_losses(rpn_at(anchors, logits), [Target(APART, torch.zeros(4, dtype=torch.int64))])
    wrong, right = math.log(1 + math.exp(3)), math.log(1 + math.exp(-3))
    assert float(found["objectness"]) == pytest.approx((6 * wrong + 2 * right) / 8, rel=1e-5)


# -- Proposals ------------------------------------------------------------------------------------------------------


def test_proposals_are_decoded_cut_off_and_thinned(light: FasterRCNN) -> None:
    """Offsets of half a side to the right and of a double size, in an input of 64 x 64."""
    deltas = torch.zeros(1, 4, 4)
    deltas[0, 0] = torch.tensor([0.5, 0, 0, 0])
    deltas[0, 3] = torch.tensor([0, 0, math.log(2), math.log(2)])
    rpn = rpn_at(APART, torch.tensor([[1.0, 2, 0, 4]]), deltas)
    found = light.propose(rpn, torch.zeros(1, 3, 64, 64), 10, 3)
    expected = torch.tensor([[30.0, 30, 64, 64], [40, 0, 60, 20], [10, 0, 30, 20]])
    torch.testing.assert_close(found[0], expected)


def test_proposals_are_not_trained_through(light: FasterRCNN) -> None:
    rpn = rpn_at(APART, torch.zeros(1, 4, requires_grad=True), torch.zeros(1, 4, 4, requires_grad=True))
    assert not light.propose(rpn, torch.zeros(1, 3, 64, 64), 10, 3).requires_grad


def test_a_pyramids_last_level_is_for_proposals_alone(light: FasterRCNN) -> None:
    """FPN section 4.2: a region of the whole input comes from P5."""
    maps = [torch.full((1, 64, 2 ** (6 - i), 2 ** (6 - i)), float(i)) for i in range(4)]
    pooled = light.pool(maps, torch.tensor([[0.0, 0, 500, 500]]), torch.tensor([0]), 7)
    assert pooled.unique().tolist() == [2]


# -- Both stages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{}, {"norm": "none"}, {"class_agnostic": False, "box_loss": "smooth_l1", "norm": "batch", "box_convs": 1},
     {"neck": "c4", "anchor_sizes": (32,), "anchor_scales": (1.0, 2.0), "pooling": "pool"}],
)  # fmt: skip
def test_a_step_has_a_gradient_in_every_part_that_trains(changes: dict[str, Any]) -> None:
    detector = small(**changes).train()
    corner = torch.rand(2, 2, 2) * 30
    targets = [Target(torch.cat((c, c + 20), dim=1), torch.tensor([0, 2])) for c in corner]
    torch.stack(list(detector.losses(torch.rand(2, 3, 64, 64) * 255, targets).values())).sum().backward()
    without = [
        n for n, p in detector.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert without == []


def test_the_same_lots_give_the_same_losses(light: FasterRCNN) -> None:
    targets = [Target(APART, torch.tensor([0, 1, 2, 0]))]
    images, found = torch.rand(1, 3, 64, 64) * 255, []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append({name: float(value.detach()) for name, value in light.eval().losses(images, targets).items()})
    assert found[0] == found[1]


def test_the_weights_of_boxes_count_twice(light: FasterRCNN) -> None:
    regions = Regions(
        torch.zeros(2, dtype=torch.int64),
        APART[:2] + 3,
        torch.tensor([1, 0]),
        torch.zeros(2, dtype=torch.int64),
        APART[:2],
    )
    maps, _ = light.eval().maps(torch.rand(1, 3, 64, 64) * 255)
    one, two = (with_settings(light, box_weight=w).second_losses(maps, regions, [Target()]) for w in (1.0, 2.0))
    assert float(two["boxes"].detach()) == pytest.approx(2 * float(one["boxes"].detach()))
    assert torch.equal(two["regions"], one["regions"])


# -- One map --------------------------------------------------------------------------------------------------------


class TheirTrunk(nn.Module):
    """Our backbone and narrowing convolution, as torchvision wants a backbone of one map."""

    out_channels = 64

    def __init__(self, ours: FasterRCNN) -> None:
        super().__init__()
        self.ours = [ours]  # in a list, so that its weights are not taken for torchvision's

    def forward(self, images: Tensor) -> Tensor:
        maps: list[Tensor] = self.ours[0].neck(self.ours[0].backbone(images))
        return maps[0]


@torch.no_grad()
def test_one_map_is_as_torchvisions_guide_has_it() -> None:
    """Detections of torchvision's FasterRCNN with a backbone of one map, the same weights in its heads."""
    ours = small(
        neck="c4", backbone="resnet18", anchor_sizes=(32,), anchor_scales=(1, 2, 4), anchor_places="torchvision",
        class_agnostic=False, norm="none", box_layers=2, box_width=64, rpn_nms_iou=0.7, candidates=400, proposals=100,
        preprocessing=Preprocessing(size=128, fit="shortest"), scores="softmax",
    ).eval()  # fmt: skip
    head = ours.box_head
    for part, gain in ((ours.rpn_head.objectness, 30), (ours.rpn_head.boxes, 5), (head.classes, 40), (head.boxes, 80)):
        part.weight.mul_(gain)
    theirs: Any = TorchvisionFasterRCNN(
        TheirTrunk(ours), 1 + len(NAMES), min_size=128, max_size=192, rpn_pre_nms_top_n_test=400,
        rpn_post_nms_top_n_test=100, rpn_anchor_generator=AnchorGenerator(((32, 64, 128),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2), box_head=nn.Sequential(nn.Flatten(), *head.linear),
        box_score_thresh=0.05,
    ).eval()  # fmt: skip
    theirs.rpn.head.conv[0][0].load_state_dict(ours.rpn_head.convs[0].state_dict())
    theirs.rpn.head.cls_logits.load_state_dict(ours.rpn_head.objectness.state_dict())
    theirs.rpn.head.bbox_pred.load_state_dict(ours.rpn_head.boxes.state_dict())
    # Theirs has a box for the background, and the classes before the coordinates.
    predict = nn.Module()
    predict.forward = lambda x: (head.classes(x), nn.functional.pad(head.boxes(x).unflatten(1, (4, -1)), (1, 0))
                                 .transpose(1, 2).flatten(1))  # type: ignore[method-assign] # fmt: skip
    theirs.roi_heads.box_predictor = predict
    photos = torch.rand(2, 3, 128, 192)
    expected = theirs(list(photos))
    found = ours.decode(ours(photos * 255), [Frame(192, 128, 192, 128)] * 2, 0.05)
    for mine, other in zip(found, expected, strict=True):
        assert len(mine) == len(other["boxes"]) > 5
        torch.testing.assert_close(mine.scores, other["scores"], rtol=0, atol=1e-4)
        torch.testing.assert_close(mine.boxes, other["boxes"], rtol=0, atol=1e-2)
        assert (mine.labels + 1).tolist() == other["labels"].tolist()


# -- Settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rpn_match_low", 0.8), ("rpn_samples", 0), ("rpn_positives", 0), ("samples", 0), ("positives", 1.5),
        ("box_weight", 0), ("first_level", 4), ("neck", "c5"), ("norm", "layer"), ("anchor_sizes", ()),
        ("anchor_ratios", (0.0,)), ("pooling", "mean"), ("nms_iou", 2), ("proposals", 0), ("channels", 4), ("match", 0),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        apply(FasterRCNNSettings(), {name: value})


@pytest.mark.parametrize(
    ("changes", "count"), [({"anchor_sizes": (32, 64)}, 4), ({"neck": "c4"}, 1), ({"first_level": 2}, 5)]
)
def test_sizes_of_another_number_of_maps_are_refused(changes: dict[str, Any], count: int) -> None:
    with pytest.raises(UsageError, match=rf"There are \d anchor sizes: expected {count}, one for each map"):
        small(**changes)


def test_torchvisions_mobilenet_has_no_c4_here() -> None:
    with pytest.raises(UsageError, match=r"mobilenet_v3_large has no map C4 here: take neck pyramid"):
        small(backbone="mobilenet_v3_large", neck="c4", anchor_sizes=(32,))


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Unknown backbone 'mobilenetv2_10'.*mobilenetv2_100"):
        small(backbone="mobilenetv2_10")


def test_training_proposes_as_many_as_its_own_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = with_settings(small(), train_candidates=7, train_proposals=5, candidates=3, proposals=2)
    seen = []

    def propose(self: FasterRCNN, rpn: Any, images: Tensor, candidates: int, most: int) -> Tensor:
        seen.append((candidates, most))
        return torch.zeros(len(images), 1, 4)

    monkeypatch.setattr(FasterRCNN, "propose", propose)
    detector.losses(torch.rand(1, 3, 64, 64) * 255, [Target(torch.tensor([[4.0, 4, 40, 40]]), torch.tensor([1]))])
    assert seen == [(7, 5)]


def test_the_weight_of_boxes_counts_for_proposals_too() -> None:
    light = small()
    with torch.no_grad():
        images = torch.rand(1, 3, 64, 64) * 255
        rpn = light.rpn(light.maps(images)[0], images)
    target = [Target(torch.tensor([[4.0, 4, 40, 40]]), torch.tensor([1]))]
    chosen = torch.ones_like(rpn["rpn_logits"], dtype=torch.bool)
    one, two = (with_settings(light, box_weight=weight).rpn_losses(rpn, target, chosen) for weight in (1.0, 2.0))
    assert float(two["proposals"]) == pytest.approx(2 * float(one["proposals"]))
    assert float(one["proposals"]) > 0
    assert float(two["objectness"]) == pytest.approx(float(one["objectness"]))


def test_nothing_under_the_threshold_is_proposed() -> None:
    light = with_settings(small(), rpn_threshold=0.5)
    anchors = torch.tensor([[0.0, 0, 20, 20], [30.0, 30, 50, 50]])
    rpn = {
        "rpn_logits": torch.tensor([[1.0, -1.0]]), "rpn_deltas": torch.zeros(1, 2, 4), "anchors": anchors,
        "levels": torch.tensor([2]),
    }  # fmt: skip
    found = light.propose(rpn, torch.zeros(1, 3, 64, 64), 10, 10)[0]
    assert found[found.any(1)].tolist() == [[0, 0, 20, 20]]


def test_a_score_has_to_be_over_the_threshold() -> None:
    outputs = {
        "boxes": torch.tensor([[[0.0, 0, 9, 9], [20, 20, 40, 40]]]),
        "scores": torch.tensor([[0.75, 0.5]]),
        "labels": torch.zeros(1, 2, dtype=torch.int64),
    }
    assert len(small().decode(outputs, [Frame(64, 64, 64, 64)], 0.5)[0]) == 1
