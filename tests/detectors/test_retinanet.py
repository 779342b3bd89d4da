"""RetinaNet's own behaviour: its start, its losses and decoding by hand, and the empty cases."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from foodbox.configure import apply, build
from foodbox.data.images import prepare
from foodbox.data.loader import Collate
from foodbox.detectors.base import Outputs
from foodbox.detectors.retinanet import LIGHT, RetinaNet, RetinaNetSettings
from foodbox.errors import UsageError
from foodbox.ops.boxes import area
from foodbox.records import Frame, Preprocessing, Target
from foodbox.weights import pretrained
from foodbox.weights.transfer import put
from tests.conftest import NAMES

# Three anchors that touch nowhere, so that what is matched and lost can be worked out by hand.
APART = torch.tensor([[0.0, 0.0, 20.0, 20.0], [40.0, 0.0, 60.0, 20.0], [0.0, 40.0, 20.0, 60.0]])


SMALL = {
    "preprocessing": Preprocessing(size=64),
    "backbone": "mobilenetv2_100",
    "pyramid_channels": 16,
    "tower_init": "kaiming",
}


def small(**changes: Any) -> RetinaNet:
    """The paper's settings on a light backbone with a narrow pyramid."""
    return RetinaNet(NAMES, RetinaNetSettings(**SMALL | changes))


@pytest.fixture(scope="module")
def sigmoid() -> RetinaNet:
    return small()


@pytest.fixture(scope="module")
def objectness() -> RetinaNet:
    return small(scores="objectness")


def with_settings(detector: RetinaNet, **changes: Any) -> RetinaNet:
    """The same network with other settings of its losses and its decoding."""
    other = copy.copy(detector)
    other.settings = detector.settings.model_copy(update=changes)
    return other


def outputs_at(anchors: Tensor, logits: Tensor, deltas: Tensor | None = None) -> Outputs:
    """Outputs of one level with these anchors: logits [B, A, K]; a class map that tells nothing."""
    if deltas is None:
        deltas = torch.zeros(len(logits), len(anchors), 4)
    levels, classes = torch.tensor([len(anchors)]), torch.zeros(len(logits), 3, 8, 8)
    return {"logits": logits, "deltas": deltas, "anchors": anchors, "levels": levels, "classes": classes}


def some_targets(*counts: int, side: float = 64) -> list[Target]:
    corner = [torch.rand(n, 2) * side / 2 for n in counts]
    boxes = [torch.cat((c, c + 8 + torch.rand(len(c), 2) * (side / 2 - 8)), dim=1) for c in corner]
    return [Target(box, torch.randint(3, (len(box),))) for box in boxes]


# -- The network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(64, 96), (32, 32), (128, 64)])
def test_outputs_have_a_row_for_each_anchor(sigmoid: RetinaNet, height: int, width: int) -> None:
    with torch.no_grad():
        outputs = sigmoid(torch.zeros(2, 3, height, width))
    places = [-(-height // 2**level) * -(-width // 2**level) for level in range(3, 8)]
    anchors = 9 * sum(places)
    assert outputs["levels"].tolist() == [9 * count for count in places]
    assert outputs["logits"].shape == (2, anchors, 3)
    assert outputs["deltas"].shape == (2, anchors, 4)
    assert outputs["anchors"].shape == (anchors, 4)


@pytest.mark.parametrize(("sizes", "finest"), [((64, 128, 256, 512), 4), ((16, 32, 64, 128, 256, 512), 2)])
def test_there_is_a_level_for_each_anchor_size(sizes: tuple[int, ...], finest: int) -> None:
    detector = small(anchor_sizes=sizes)
    with torch.no_grad():
        outputs = detector(torch.zeros(2, 3, 64, 96))
    places = [-(-64 // 2**level) * -(-96 // 2**level) for level in range(finest, 8)]
    assert outputs["levels"].tolist() == [9 * count for count in places]
    assert len(outputs["anchors"]) == outputs["logits"].shape[1] == 9 * sum(places)
    assert area(outputs["anchors"])[[0, -9]].sqrt().tolist() == pytest.approx([sizes[0], sizes[-1]], rel=1e-4)
    losses = detector.train().losses(torch.zeros(2, 3, 64, 96), some_targets(2, 3))
    assert all(torch.isfinite(loss) for loss in losses.values())
    with pytest.raises(ValidationError, match="at least 4"):
        small(anchor_sizes=sizes[:3])


@pytest.mark.parametrize(
    ("init", "norm", "factor"), [("paper", "none", 1.01), ("kaiming", "none", 2.0), ("kaiming", "group", 2.0)]
)
@pytest.mark.parametrize("prior", [0.01, 0.1])
@pytest.mark.parametrize("scores", ["sigmoid", "objectness"])
def test_every_score_starts_at_the_prior(scores: str, prior: float, init: str, norm: str, factor: float) -> None:
    """With the backbone that the default preset starts from; an untrained one gives no features of sane size.

    Kaiming's start keeps the features' spread, so that scores vary from the first step on.
    """
    weights = pretrained.embedded()
    settings = apply(
        RetinaNetSettings(**LIGHT),
        weights.settings
        | {"scores": scores, "prior": prior, "tower_init": init, "tower_norm": norm, "tower_layers": 4},
    )
    detector = RetinaNet(NAMES, settings).eval()
    put(weights, detector)
    with torch.no_grad():
        logits = detector(torch.rand(1, 3, 64, 64) * 255)["logits"]
    assert prior / factor < float(logits.sigmoid().median()) < prior * factor


def test_pixels_are_normalised_as_imagenets_networks_expect(sigmoid: RetinaNet) -> None:
    pixels = torch.tensor([255, 0, 128], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (128 / 255 - 0.406) / 0.225]
    torch.testing.assert_close(sigmoid.normalise(pixels).flatten(), torch.tensor(expected))


# -- Losses ---------------------------------------------------------------------------------------------------------


def test_losses_by_hand(sigmoid: RetinaNet) -> None:
    """One box of class 1 that is anchor 0; all logits 0, so that p = 1/2 and -log p = log 2 everywhere.

    Of 3 anchors x 3 classes one is there: alpha (1/2)² log 2 for it, (1 - alpha) (1/2)² log 2 for the eight others.
    """
    outputs = outputs_at(APART, torch.zeros(1, 3, 3), torch.full((1, 3, 4), 0.5))
    found = sigmoid.losses_of(outputs, [Target(APART[:1], torch.tensor([1]))])
    assert float(found["classes"]) == pytest.approx((0.25 + 8 * 0.75) * 0.25 * math.log(2))
    assert float(found["boxes"]) == pytest.approx(4 * (0.5 - 0.5 / 9))


def test_losses_with_objectness_by_hand(objectness: RetinaNet) -> None:
    """Focal loss on the objectness of three anchors; cross entropy of three equal classes, log 3, of the box."""
    found = objectness.losses_of(outputs_at(APART, torch.zeros(1, 3, 1)), [Target(APART[:1], torch.tensor([1]))])
    assert float(found["objectness"]) == pytest.approx((0.25 + 2 * 0.75) * 0.25 * math.log(2))
    assert float(found["classes"]) == pytest.approx(math.log(3))
    assert float(found["boxes"]) == pytest.approx(0)


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
def test_boxes_on_the_anchors_cost_nothing(sigmoid: RetinaNet, box_loss: str) -> None:
    detector = with_settings(sigmoid, box_loss=box_loss)
    targets = [Target(APART, torch.tensor([0, 1, 2])), Target(APART[1:2], torch.tensor([2]))]
    found = detector.losses_of(outputs_at(APART, torch.zeros(2, 3, 3)), targets)
    assert float(found["boxes"]) == pytest.approx(0, abs=1e-6)
    assert float(found["classes"]) > 0.1


def test_an_anchor_between_the_bounds_counts_nothing(sigmoid: RetinaNet) -> None:
    """A box of 20 x 9 has the IoU 0.45 with the anchor around it: neither taken nor background."""
    box = torch.tensor([[0.0, 0.0, 20.0, 9.0]])
    found = with_settings(sigmoid, match_best=False).losses_of(
        outputs_at(APART, torch.zeros(1, 3, 3)), [Target(box, torch.tensor([0]))]
    )
    assert float(found["classes"]) == pytest.approx(6 * 0.75 * 0.25 * math.log(2))
    assert float(found["boxes"]) == 0


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
@pytest.mark.parametrize("scores", ["sigmoid", "objectness"])
@pytest.mark.parametrize("loss_per", ["photo", "batch"])
def test_without_any_box_losses_are_finite_and_train(scores: str, box_loss: str, loss_per: str) -> None:
    detector = small(scores=scores, box_loss=box_loss, loss_per=loss_per).train()
    losses = detector.losses(torch.rand(2, 3, 64, 64) * 255, [Target(), Target()])
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.isfinite()
    assert losses["boxes"].item() == 0
    gradients = [p.grad for p in detector.class_tower.parameters() if p.grad is not None]
    assert len(gradients) == len(list(detector.class_tower.parameters()))
    assert all(g.isfinite().all() for g in gradients)
    assert any(g.any() for g in gradients)


@pytest.mark.parametrize("scores", ["sigmoid", "objectness"])
def test_a_step_has_a_gradient_in_every_part_that_trains(scores: str) -> None:
    detector = small(scores=scores).train()
    losses = detector.losses(torch.rand(2, 3, 64, 64) * 255, some_targets(2, 1))
    torch.stack(list(losses.values())).sum().backward()
    without = [
        n for n, p in detector.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert without == []


@pytest.mark.parametrize("counts", [(3, 1, 0), (2, 2, 5)])
def test_losses_per_photo_are_the_mean_of_single_photos(sigmoid: RetinaNet, counts: tuple[int, ...]) -> None:
    detector = with_settings(sigmoid, loss_per="photo")
    with torch.no_grad():
        outputs = sigmoid(torch.rand(3, 3, 64, 64) * 255)
    targets = some_targets(*counts)
    together = detector.losses_of(outputs, targets)
    single = [
        detector.losses_of(outputs | {k: outputs[k][i : i + 1] for k in ("logits", "deltas")}, [targets[i]])
        for i in range(3)
    ]
    for part, value in together.items():
        assert float(value) == pytest.approx(sum(float(one[part]) for one in single) / 3, rel=1e-5)


def test_losses_per_batch_are_divided_by_all_positives(sigmoid: RetinaNet) -> None:
    """Two photos with one and three matched anchors: the sums of both over four."""
    logits = torch.randn(2, 3, 3)
    targets = [Target(APART[:1], torch.tensor([0])), Target(APART, torch.tensor([0, 1, 2]))]
    outputs = outputs_at(APART, logits, torch.randn(2, 3, 4))
    together = with_settings(sigmoid, loss_per="batch").losses_of(outputs, targets)
    for part in ("classes", "boxes"):
        single = [
            float(
                sigmoid.losses_of(outputs_at(APART, logits[i : i + 1], outputs["deltas"][i : i + 1]), [targets[i]])[
                    part
                ]
            )
            for i in range(2)
        ]
        assert float(together[part]) == pytest.approx((single[0] * 1 + single[1] * 3) / 4, rel=1e-5)


def test_the_order_of_boxes_does_not_matter(sigmoid: RetinaNet) -> None:
    with torch.no_grad():
        outputs = sigmoid(torch.rand(1, 3, 64, 64) * 255)
    target = some_targets(4)[0]
    turned = Target(target.boxes.flip(0), target.labels.flip(0))
    one, other = sigmoid.losses_of(outputs, [target]), sigmoid.losses_of(outputs, [turned])
    assert {k: float(v) for k, v in one.items()} == pytest.approx({k: float(v) for k, v in other.items()}, rel=1e-5)


# -- Decoding -------------------------------------------------------------------------------------------------------


def test_decoding_by_hand(sigmoid: RetinaNet) -> None:
    """Two overlapping boxes of one class and a third of another on the same place; a photo at half its size."""
    anchors = torch.tensor([[0.0, 0.0, 20.0, 20.0], [1.0, 0.0, 21.0, 20.0], [40.0, 40.0, 60.0, 60.0]])
    logits = torch.full((1, 3, 3), -20.0)
    logits[0, 0, 1], logits[0, 1, 1], logits[0, 1, 2], logits[0, 2, 0] = 1.0, 2.0, 0.0, -1.0
    deltas = torch.zeros(1, 3, 4)
    deltas[0, 2] = torch.tensor([0.5, -0.25, math.log(2), 0.0])  # 10 right, 5 up, twice as wide
    found = sigmoid.decode(outputs_at(anchors, logits, deltas), [Frame(128, 100, 64, 50)])[0]
    assert found.names == NAMES
    assert (found.width, found.height) == (128, 100)
    assert found.labels.tolist() == [1, 2, 0]
    expected = [1 / (1 + math.exp(-x)) for x in (2, 0, -1)]
    torch.testing.assert_close(found.scores, torch.tensor(expected))
    # The last one, 40 35 80 55, is cut at the photo's border 64 50, then everything doubles.
    torch.testing.assert_close(
        found.boxes, torch.tensor([[2.0, 0.0, 42.0, 40.0], [2.0, 0.0, 42.0, 40.0], [80.0, 70.0, 128.0, 100.0]])
    )


def test_objectness_times_the_softmax_is_the_score(objectness: RetinaNet) -> None:
    """Of three boxes, within which the class map says something else each."""
    outputs = outputs_at(APART, torch.tensor([[[0.5], [-30.0], [3.0]]]))
    logits, class_map = outputs["logits"], outputs["classes"][0]
    of_box = torch.tensor([[1.0, 2.0, -1.0], [5.0, 0.0, 0.0], [0.0, 0.0, 4.0]])
    class_map[:, :3, :3], class_map[:, :3, 5:], class_map[:, 5:, :3] = of_box[:, :, None, None]
    found = objectness.decode(outputs, [Frame(64, 64, 64, 64)], min_score=0.05)[0]
    expected = {}
    for anchor, classes in enumerate(of_box.tolist()):
        share = [math.exp(c) / sum(map(math.exp, classes)) for c in classes]
        expected |= {(anchor, k): share[k] / (1 + math.exp(-float(logits[0, anchor]))) for k in range(3)}
    shown = {key: score for key, score in expected.items() if score > 0.05}
    places = [int((box == APART).all(1).nonzero()) for box in found.boxes]
    assert dict(
        zip(zip(places, found.labels.tolist(), strict=True), found.scores.tolist(), strict=True)
    ) == pytest.approx(shown, abs=1e-6)


def test_at_most_so_many_candidates_a_level_and_boxes_a_photo(sigmoid: RetinaNet) -> None:
    anchors = torch.tensor([[30.0 * i, 0.0, 30.0 * i + 20, 20.0] for i in range(10)])
    logits = torch.linspace(2, -2, 10).view(1, 10, 1).repeat(1, 1, 3) - torch.tensor([0.0, 20.0, 20.0])
    outputs = outputs_at(anchors, logits) | {"levels": torch.tensor([6, 4])}
    frame = [Frame(400, 64, 400, 64)]
    assert len(sigmoid.decode(outputs, frame)[0]) == 10
    assert with_settings(sigmoid, candidates=2).decode(outputs, frame)[0].boxes[:, 0].tolist() == [0, 30, 180, 210]
    assert with_settings(sigmoid, max_detections=3).decode(outputs, frame)[0].boxes[:, 0].tolist() == [0, 30, 60]


def test_only_scores_over_the_threshold_are_decoded(sigmoid: RetinaNet) -> None:
    """A score of a half exactly is not over a half; a threshold of 0 lets everything through."""
    logits = torch.full((1, 3, 3), -200.0)
    logits[0, :, 0] = torch.tensor([0.01, 0.0, -0.01])
    frame = [Frame(64, 64, 64, 64)]
    outputs = outputs_at(APART, logits)
    assert len(sigmoid.decode(outputs, frame, min_score=0.5)[0]) == 1
    assert len(with_settings(sigmoid, score_threshold=0.49).decode(outputs, frame)[0]) == 3
    assert len(sigmoid.decode(outputs, frame, min_score=0.0)[0]) == 9


def test_decoding_nothing(sigmoid: RetinaNet) -> None:
    """All scores under the threshold, in a batch beside a photo with a detection."""
    logits = torch.full((2, 3, 3), -20.0)
    logits[1, 2, 0] = 4.0
    empty, one = sigmoid.decode(outputs_at(APART, logits), [Frame(64, 64, 64, 64)] * 2)
    assert (len(empty), len(one)) == (0, 1)
    assert empty.boxes.shape == (0, 4)
    assert empty.scores.shape == (0,)
    assert empty.labels.dtype == torch.int64
    nothing = sigmoid.decode(outputs_at(APART, logits[:1]), [Frame(64, 64, 64, 64)])
    assert [len(d) for d in nothing] == [0]


def test_a_box_wholly_in_the_padding_is_left_out(sigmoid: RetinaNet) -> None:
    """The photo covers 30 x 64 of the input; the second anchor begins at x = 40."""
    logits = torch.full((1, 3, 3), 4.0)
    found = sigmoid.decode(outputs_at(APART, logits), [Frame(30, 64, 30, 64)])[0]
    assert len(found) == 2 * 3
    assert float(found.boxes[:, 2].max()) <= 30


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
def test_photos_of_one_pixel(objectness: RetinaNet, size: tuple[int, int]) -> None:
    pixels, frame = prepare(Image.new("RGB", size, "red"), objectness.preprocessing)
    box = frame.to_input(torch.tensor([[0.0, 0.0, *map(float, size)]]))
    batch = Collate(objectness.preprocessing)([(pixels, Target(box, torch.tensor([0])), frame)])
    losses = objectness.losses(batch.images, batch.targets)
    assert all(value.isfinite() for value in losses.values())
    with torch.no_grad():
        found = objectness.eval().decode(objectness(batch.images), batch.frames, min_score=0.0)[0]
    assert len(found) > 0
    assert found.boxes.isfinite().all()
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] <= torch.tensor(size) + 1e-3).all()


# -- Settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prior", 0),
        ("prior", 1),
        ("frozen_stages", 6),
        ("match_high", 1.1),
        ("focal_gamma", -1),
        ("nms_iou", 2),
        ("candidates", 0),
        ("scores", "softmax"),
        ("box_weight", 0),
        ("anchor_sizes", (32, 64)),
        ("anchor_sizes", (0, 64, 128, 256, 512)),
        ("anchor_ratios", ()),
        ("match_low", 0.6),
        ("size", 8),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        apply(RetinaNetSettings(), {name: value})


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no setting 'frozen_stage'.*'frozen_stages'"):
        apply(RetinaNetSettings(), {"frozen_stage": 1})
    with pytest.raises(UsageError, match="no setting 'anchors'"):
        build(RetinaNetSettings, {"anchors": 3})


def test_objectness_alone_starts_at_the_prior() -> None:
    bias = small(scores="objectness").class_tower.output.bias
    assert torch.allclose(bias, torch.tensor(-math.log(99.0)).expand(9))


def test_one_class_needs_no_telling_apart() -> None:
    """Its objectness is its score, and there is nothing else to learn."""
    detector = RetinaNet(["food"], RetinaNetSettings(**SMALL, scores="objectness"))
    assert set(detector.losses(torch.zeros(1, 3, 64, 64), [Target()])) == {"objectness", "boxes"}
    logits = torch.tensor([[[0.5], [-30.0], [3.0]]])
    found = detector.decode(outputs_at(APART, logits), [Frame(64, 64, 64, 64)], min_score=0.05)[0]
    assert found.scores.tolist() == pytest.approx([1 / (1 + math.exp(-x)) for x in (3.0, 0.5)])
    assert found.labels.tolist() == [0, 0]


def test_the_same_box_on_two_photos_is_detected_on_both() -> None:
    logits = torch.full((2, 3, 3), -9.0)
    logits[:, 0, 1] = 3.0
    found = small().decode(outputs_at(APART, logits), [Frame(64, 64, 64, 64)] * 2)
    assert [len(detections) for detections in found] == [1, 1]


@pytest.mark.parametrize(
    ("mirror", "upside_down", "place", "expected"),
    [
        (True, False, [34, 10, 54, 30], [[0.5, 1], [0, 1]]),
        (False, True, [10, 34, 30, 54], [[1, 0], [1, 0.5]]),
        (True, True, [34, 34, 54, 54], [[0, 1], [0.5, 1]]),
    ],
)
def test_a_flipped_inputs_masks_are_turned_back(
    mirror: bool, upside_down: bool, place: list[float], expected: list[list[float]]
) -> None:
    mask = torch.tensor([[[1.0, 0.5], [1.0, 0.0]]])
    box, one = torch.tensor([[10.0, 10, 30, 30]]), torch.ones(1)
    frame = Frame(64, 64, 64, 64, mirror=mirror, upside_down=upside_down)
    found = small()._in_photo(frame, box, one, one.long(), mask)
    assert found.boxes.tolist() == [place]
    assert found.masks is not None
    assert found.masks[0].tolist() == expected
