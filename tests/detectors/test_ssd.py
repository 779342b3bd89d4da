"""SSD's own behaviour: its default boxes, its losses and decoding by hand, and what its settings allow."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from foodbox.configure import apply
from foodbox.detectors.base import Outputs
from foodbox.detectors.ssd import LIGHT, SSD, SSDSettings
from foodbox.errors import UsageError
from foodbox.records import Frame, Preprocessing, Target
from foodbox.weights import pretrained
from foodbox.weights.transfer import put
from tests.conftest import NAMES

# Four default boxes that touch nowhere, so that what is matched and lost can be worked out by hand.
APART = torch.tensor([[0.0, 0, 20, 20], [40.0, 0, 60, 20], [0.0, 40, 20, 60], [40.0, 40, 60, 60]])
PRESETS = {name: SSDSettings(**values) for name, values in SSD.presets.items()}


def small(**changes: Any) -> SSD:
    """The light preset with the paper's scores on a small input."""
    other = {"preprocessing": Preprocessing(size=64, fit="stretch"), "scores": "softmax"}
    return SSD(NAMES, SSDSettings(**LIGHT | other | changes))


@pytest.fixture(scope="module")
def softmax() -> SSD:
    return small()


@pytest.fixture(scope="module")
def objectness() -> SSD:
    return small(scores="objectness")


def with_settings(detector: SSD, **changes: Any) -> SSD:
    """The same network with other settings of its losses and its decoding."""
    other = copy.copy(detector)
    other.settings = detector.settings.model_copy(update=changes)
    return other


def outputs_at(anchors: Tensor, logits: Tensor, deltas: Tensor | None = None) -> Outputs:
    """Outputs with these default boxes on 64 x 64 pixels: logits [B, A, 1 + K]; a map of three equal classes."""
    deltas = torch.zeros(len(logits), len(anchors), 4) if deltas is None else deltas
    return {"logits": logits, "deltas": deltas, "anchors": anchors, "classes": torch.zeros(len(logits), 3, 8, 8)}


# -- Default boxes and the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "count"),
    [
        # 38² x 4 + 19² x 6 + 10² x 6 + 5² x 6 + 3² x 4 + 4: the paper's table 7.
        ("ssd300", 8732),
        # 64² x 4 + (32² + 16² + 8² + 4²) x 6 + 2² x 4 + 4: the same table.
        ("ssd512", 24564),
        # (20² + 10² + 5² + 3² + 2² + 1) x 6
        ("ssdlite320", 3234),
        # and 40² x 6 besides
        ("light", 12834),
    ],
)
def test_the_number_of_default_boxes_is_the_papers(preset: str, count: int) -> None:
    settings = PRESETS[preset]
    size = settings.preprocessing.size
    assert settings.preprocessing.resized(640, 480) == (size, size)
    assert SSD.anchors_of(settings, size, size).shape == (count, 4)


def test_the_first_places_default_boxes_by_hand() -> None:
    """SSD300's conv4_3: 21 px and sqrt(21 x 45), then 21 with ratio 2, around 4, 4 and 12, 4."""
    found = SSD.anchors_of(PRESETS["ssd300"], 300, 300)[:8]
    centre, sides = (found[:, :2] + found[:, 2:]) / 2, found[:, 2:] - found[:, :2]
    torch.testing.assert_close(centre, torch.tensor([[4.0, 4.0]] * 4 + [[12.0, 4.0]] * 4))
    between, long, short = math.sqrt(21 * 45), 21 * math.sqrt(2), 21 / math.sqrt(2)
    expected = [[21.0, 21.0], [between, between], [long, short], [short, long]] * 2
    torch.testing.assert_close(sides, torch.tensor(expected))


def test_ssd512s_default_boxes_are_torchvisions_generators() -> None:
    """With the scales of the authors' code for COCO; on 512 px their steps are the input over the places."""
    settings = PRESETS["ssd512"]
    ratios = [[2], *[[2, 3]] * 4, [2], [2]]
    make = DefaultBoxGenerator(ratios, scales=list(settings.scales), steps=[8, 16, 32, 64, 128, 256, 512])
    images = ImageList(torch.zeros(1, 3, 512, 512), [(512, 512)])
    expected = make(images, [torch.zeros(1, 1, side, side) for side in (64, 32, 16, 8, 4, 2, 1)])[0]
    torch.testing.assert_close(SSD.anchors_of(settings, 512, 512), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "changes", [{}, {"first_map": 4, "scales": PRESETS["ssdlite320"].scales}, {"backbone": "resnet18"}]
)
def test_default_boxes_are_those_of_forward(changes: dict[str, Any]) -> None:
    """For sides that are no multiple of any stride as well, and smaller than the largest stride."""
    detector = small(**changes).eval()
    for height, width in [(64, 96), (65, 97), (33, 64), (100, 75), (7, 300), (1, 1)]:
        with torch.no_grad():
            outputs = detector(torch.zeros(1, 3, height, width))
        anchors = SSD.anchors_of(detector.settings, height, width)
        assert torch.equal(anchors, outputs["anchors"])
        assert outputs["logits"].shape == (1, len(anchors), 4), (height, width)
        assert outputs["deltas"].shape == (1, len(anchors), 4)


def test_default_boxes_follow_maps_that_a_backbone_rounds_down() -> None:
    """VGG's pooling leaves 37 of 300 px places out that a stride of 8 begins."""
    settings = {"preprocessing": Preprocessing(size=300, fit="stretch", multiple=1), "backbone": "vgg11"}
    detector = SSD(["food"], apply(SSDSettings(**SSD.presets["light"]), settings)).eval()
    with torch.no_grad():
        outputs = detector(torch.zeros(1, 3, 300, 300))
    assert outputs["logits"].shape[1] == len(outputs["anchors"]) != len(SSD.anchors_of(detector.settings, 300, 300))


@pytest.mark.parametrize("preset", SSD.presets)
def test_every_choice_is_a_valid_setting_of_as_many_default_boxes(preset: str) -> None:
    """As many at each place as before, so that the heads' starting weights still fit."""
    own = PRESETS[preset]
    for boxes in (torch.tensor([[0.0, 0, 30, 30]]), torch.tensor([[0.0, 0, 20, 60], [5, 5, 100, 40]])):
        choices = SSD.anchor_choices(own, boxes)
        counts = {len(SSD.anchors_of(apply(own, choice), 64, 96)) for choice in choices}
        assert counts == {len(SSD.anchors_of(own, 64, 96))}


def test_small_boxes_get_smaller_default_boxes() -> None:
    corner = torch.rand(60, 2) * 290
    boxes = torch.cat((corner, corner + 12 + torch.rand(60, 2) * 16), dim=1)
    assert SSD.fit_anchors(PRESETS["light"], boxes, 320, 320)["scales"][0] < 0.15


def test_the_parameters_of_ssd300_are_torchvisions() -> None:
    """35,641,826 for 91 categories, as torchvision publishes."""
    with torch.device("meta"):
        detector = SSD([str(i) for i in range(90)], PRESETS["ssd300"])
    assert sum(p.numel() for p in detector.parameters()) == 35_641_826


def test_conv4_3_has_the_norm_20_at_each_place() -> None:
    """Section 3.1. Seen behind a head that adds up the squares."""
    detector = small(**{name: SSD.presets["ssd300"][name] for name in ("frozen_stages",)}, backbone="vgg16",
                     layout="ssd300", norm="none", scales=PRESETS["ssd300"].scales, maps_of_four=(0, 4, 5))  # fmt: skip
    seen: list[Tensor] = []
    detector.class_heads[0].register_forward_hook(lambda _, given, out: seen.append(given[0]))
    with torch.no_grad():
        detector.eval()(torch.rand(2, 3, 64, 64) * 255)
    torch.testing.assert_close(seen[0].norm(dim=1), torch.full((2, 8, 8), 20.0))


def test_the_embedded_backbone_fills_the_light_preset() -> None:
    weights = pretrained.find("coco", PRESETS["light"].model_dump(), "ssd")
    assert weights is not None
    detector = SSD(NAMES, apply(PRESETS["light"], weights.settings))
    result = put(weights, detector)
    backbone = {n for n in detector.state_dict() if n.startswith("backbone.") and not n.endswith("num_batches_tracked")}
    assert set(result.kept) == backbone


# -- Losses ---------------------------------------------------------------------------------------------------------


def test_losses_by_hand(softmax: SSD) -> None:
    """One box of class 1 that is default box 0, all logits 0: -log(1/4) for it and for three negatives, over one."""
    detector = with_settings(softmax, least_negatives=0)
    outputs = outputs_at(APART, torch.zeros(1, 4, 4), torch.full((1, 4, 4), 2.0))
    found = detector.losses_of(outputs, [Target(APART[:1], torch.tensor([1]))])
    assert float(found["classes"]) == pytest.approx(4 * math.log(4))
    assert float(found["boxes"]) == pytest.approx(4 * 1.5)  # |2| - 1/2 each


def test_losses_with_objectness_by_hand(objectness: SSD) -> None:
    """The same box: -log(1/2) of default boxes, and the cross entropy of three equal classes, log 3, of the box."""
    detector = with_settings(objectness, least_negatives=0)
    found = detector.losses_of(outputs_at(APART, torch.zeros(1, 4, 2)), [Target(APART[:1], torch.tensor([1]))])
    assert float(found["objectness"]) == pytest.approx(4 * math.log(2))
    assert float(found["classes"]) == pytest.approx(math.log(3))


def test_an_objectness_is_of_every_class(objectness: SSD) -> None:
    """Boxes of other classes than the first are objects, too, to the network's last number."""
    logits = torch.tensor([[[30.0, 0.0], [0.0, 60.0], [0.0, 60.0], [30.0, 0.0]]])
    found = objectness.losses_of(outputs_at(APART, logits), [Target(APART[1:3], torch.tensor([1, 2]))])
    assert float(found["objectness"]) == pytest.approx(0, abs=1e-6)


def test_one_class_needs_no_class_map() -> None:
    """Its objectness is its score, and there is nothing else to learn."""
    detector = SSD(["food"], SSDSettings(**LIGHT))
    assert set(detector.losses(torch.zeros(1, 3, 64, 64), [Target()])) == {"objectness", "boxes"}


def test_the_class_behind_the_background_is_the_boxs(softmax: SSD) -> None:
    logits = torch.zeros(1, 4, 4)
    logits[0, :, 0] = 30  # background everywhere
    logits[0, 2, 3] = 60  # but at default box 2, class 2
    found = softmax.losses_of(outputs_at(APART, logits), [Target(APART[2:3], torch.tensor([2]))])
    assert float(found["classes"]) == pytest.approx(0, abs=1e-6)
    assert float(found["boxes"]) == pytest.approx(0, abs=1e-6)


def test_losses_are_divided_by_the_positives_of_the_batch(softmax: SSD) -> None:
    logits, deltas = torch.randn(2, 4, 4), torch.randn(2, 4, 4)
    targets = [Target(APART[:1], torch.tensor([0])), Target(APART[:3], torch.tensor([0, 1, 2]))]
    together = softmax.losses_of(outputs_at(APART, logits, deltas), targets)
    parts = [
        softmax.losses_of(outputs_at(APART, logits[i : i + 1], deltas[i : i + 1]), targets[i : i + 1]) for i in range(2)
    ]
    for name, value in together.items():
        assert float(value) == pytest.approx((float(parts[0][name]) + 3 * float(parts[1][name])) / 4, rel=1e-5)


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
def test_boxes_on_the_default_boxes_cost_nothing(softmax: SSD, box_loss: str) -> None:
    detector = with_settings(softmax, box_loss=box_loss)
    targets = [Target(APART, torch.tensor([0, 1, 2, 0])), Target(APART[1:2], torch.tensor([2]))]
    found = detector.losses_of(outputs_at(APART, torch.zeros(2, 4, 4)), targets)
    assert float(found["boxes"]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("least", "expected"), [(0, 0.0), (3, 3 * math.log(4))])
def test_photos_without_boxes_have_negatives_where_it_is_wished(softmax: SSD, least: int, expected: float) -> None:
    found = with_settings(softmax, least_negatives=least).losses_of(outputs_at(APART, torch.zeros(1, 4, 4)), [Target()])
    assert float(found["classes"]) == pytest.approx(expected)
    assert float(found["boxes"]) == 0


@pytest.mark.parametrize("scores", ["softmax", "objectness"])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_a_step_has_a_gradient_in_every_part_that_trains(norm: str, scores: str) -> None:
    detector = small(norm=norm, scores=scores).train()
    corner = torch.rand(2, 2, 2) * 30
    targets = [Target(torch.cat((c, c + 20), dim=1), torch.tensor([0, 2])) for c in corner]
    torch.stack(list(detector.losses(torch.rand(2, 3, 64, 64) * 255, targets).values())).sum().backward()
    without = [
        n for n, p in detector.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert without == []


def test_one_photo_trains_batch_norms_on_maps_of_one_place() -> None:
    detector = small(norm="batch").train()
    target = Target(torch.tensor([[4.0, 4, 40, 40]]), torch.tensor([0]))
    losses = detector.losses(torch.rand(1, 3, 64, 64) * 255, [target])
    assert all(value.isfinite() for value in losses.values())


# -- Decoding -------------------------------------------------------------------------------------------------------


def test_scores_are_the_softmax_without_background(softmax: SSD) -> None:
    logits = torch.randn(1, 4, 4) * 2
    found = softmax.decode(outputs_at(APART, logits), [Frame(64, 64, 64, 64)], min_score=0.0)[0]
    places = [int((box == APART).all(1).nonzero()) for box in found.boxes]
    expected = logits[0].softmax(-1)[places, found.labels + 1]
    assert len(found) == 4 * 3
    torch.testing.assert_close(found.scores, expected)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_objectness_times_the_softmax_is_the_score(objectness: SSD) -> None:
    """Of a box within which the class map says 1, 2, -1, and of another in which it says nothing."""
    outputs = outputs_at(APART[[0, 3]], torch.tensor([[[1.0, 3.0], [0.0, 0.0]]]))
    outputs["classes"][0, :, :3, :3] = torch.tensor([1.0, 2.0, -1.0])[:, None, None]
    found = objectness.decode(outputs, [Frame(64, 64, 64, 64)], min_score=0.0)[0]
    there = math.exp(3) / (math.exp(1) + math.exp(3))
    share = torch.tensor([1.0, 2.0, -1.0]).softmax(0)
    expected = torch.stack((there * share, torch.full((3,), 0.5 / 3)))  # [2, K]
    places = [int((box == APART[[0, 3]]).all(1).nonzero()) for box in found.boxes]
    assert len(found) == 2 * 3
    torch.testing.assert_close(found.scores, expected[places, found.labels])


def test_decoded_boxes_by_hand(softmax: SSD) -> None:
    """Offsets of 1 in the centre are a tenth of the default box's side, and of 1 in the size a factor of e^0.2."""
    logits = torch.tensor([[[0.0, 9.0, 0.0, 0.0]]])
    outputs = outputs_at(torch.tensor([[20.0, 20.0, 40.0, 40.0]]), logits, torch.tensor([[[1.0, -1.0, 1.0, 0.0]]]))
    found = softmax.decode(outputs, [Frame(128, 64, 64, 64)])[0]
    half = 10 * math.exp(0.2)
    torch.testing.assert_close(found.boxes[:1], torch.tensor([[2 * (32 - half), 18.0, 2 * (32 + half), 38.0]]))


def test_at_most_so_many_candidates_a_class_and_boxes_a_photo(softmax: SSD) -> None:
    logits = torch.zeros(2, 4, 4)
    logits[:, :, 1] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    frames = [Frame(64, 64, 64, 64)] * 2
    few = with_settings(softmax, candidates=2).decode(outputs_at(APART, logits), frames, min_score=0.0)
    assert [[int((d.labels == k).sum()) for k in range(3)] for d in few] == [[2, 2, 2]] * 2
    assert few[0].boxes[:2].tolist() == APART[[3, 2]].tolist()
    assert [len(d) for d in with_settings(softmax, max_detections=3).decode(outputs_at(APART, logits), frames)] == [
        3,
        3,
    ]


def test_only_scores_over_the_threshold_are_decoded(softmax: SSD) -> None:
    """A score of a half exactly is not over a half."""
    logits = torch.full((1, 4, 4), -200.0)
    logits[0, :, 0] = 0.0
    logits[0, :, 2] = torch.tensor([0.01, 0.0, -0.01, -50.0])
    found = softmax.decode(outputs_at(APART, logits), [Frame(64, 64, 64, 64)], min_score=0.5)[0]
    assert found.labels.tolist() == [1]


# -- Settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("match_high", 0), ("negatives", -1), ("least_negatives", -1), ("box_weight", 0), ("first_map", 5),
        ("layout", "ssd299"), ("norm", "layer"), ("scales", (0.1,)), ("scales", (0.1, 0)), ("anchor_ratios", ()),
        ("anchor_ratios", (1.0,)), ("nms_iou", 2), ("candidates", 0),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        apply(SSDSettings(), {name: value})


@pytest.mark.parametrize("changes", [{"scales": (0.1, 0.2, 0.3)}, {"steps": (8.0, 16.0)}, {"first_map": 4}])
def test_scales_and_steps_of_another_number_of_maps_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"scales and \d steps: expected \d scales"):
        small(**changes)


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Unknown backbone 'mobilenetv2_10'.*mobilenetv2_100"):
        small(backbone="mobilenetv2_10")


def test_default_boxes_of_an_upright_input_by_hand() -> None:
    settings = SSDSettings(**SSD.presets["ssd512"]).model_copy(update={"steps": ()})
    first = SSD.anchors_of(settings, 512, 256)[0]
    assert (first[2:] - first[:2]).tolist() == pytest.approx([settings.scales[0] * 256, settings.scales[0] * 512])
    found = SSD.anchors_of(settings, 512, 250)  # 32 columns of 7.8125, 64 rows of 8
    centre = (found[:, :2] + found[:, 2:]) / 2
    assert centre[0].tolist() == pytest.approx([250 / 64, 4.0])
