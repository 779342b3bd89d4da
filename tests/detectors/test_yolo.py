"""YOLOv3's own behaviour: equations, assignment and losses by hand, darknet's loop, the empty cases, learning."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.ops import box_iou

from foodbox.configure import apply
from foodbox.data.images import prepare
from foodbox.data.loader import Collate
from foodbox.detectors.base import BACKBONE, Outputs
from foodbox.detectors.yolo import LIGHT, STRIDES, YOLO, YOLOSettings
from foodbox.errors import UsageError
from foodbox.ops.priors import match_priors
from foodbox.records import Frame, Preprocessing, Target
from foodbox.weights import pretrained
from foodbox.weights.transfer import put
from tests.conftest import NAMES

SIDE = 64
SMALL: dict[str, Any] = {
    "preprocessing": Preprocessing(size=SIDE, fit="letterbox"),
    "backbone": "mobilenetv2_100",
    "head_widths": (32, 16, 8),
    "head_layers": (1, 1, 1),
    "head_norm": "group",
    "priors": (4, 6, 10, 8, 16, 16, 12, 24, 30, 14, 24, 40, 40, 24, 50, 50, 20, 60),
}


def small(**changes: Any) -> YOLO:
    """YOLOv3's settings on a light backbone with narrow heads."""
    return YOLO(NAMES, YOLOSettings(**SMALL | changes))


@pytest.fixture(scope="module")
def detector() -> YOLO:
    return small()


def with_settings(detector: YOLO, **changes: Any) -> YOLO:
    """The same network with other settings of its losses and its decoding."""
    other = copy.copy(detector)
    other.settings = detector.settings.model_copy(update=changes)
    return other


def outputs_of(values: Tensor, detector: YOLO) -> Outputs:
    """What forward would give for an input of 64 x 64 with these values [B, A, 5 + K]."""
    grids = torch.tensor([[SIDE // stride] * 2 for stride in STRIDES])
    strides = torch.cat([torch.full((3 * (SIDE // stride) ** 2, 1), stride) for stride in STRIDES])
    anchors = YOLO.anchors_of(detector.settings, SIDE, SIDE)
    return {"values": values, "anchors": anchors, "strides": strides, "grids": grids}


def zeros(detector: YOLO, batch: int = 1) -> Tensor:
    return torch.zeros(batch, 3 * (4 + 16 + 64), detector.values_per_prior)


def place(scale: int, row: int, column: int, prior: int) -> int:
    """The index of a prior among the 252 of an input of 64 x 64: 2 x 2, 4 x 4 and 8 x 8 cells of three."""
    side = (2, 4, 8)[scale]
    return (0, 12, 60)[scale] + (row * side + column) * 3 + prior


def some_targets(*counts: int) -> list[Target]:
    corner = [torch.rand(n, 2) * SIDE / 2 for n in counts]
    boxes = [torch.cat((c, c + 4 + torch.rand(len(c), 2) * 28), dim=1) for c in corner]
    return [Target(box, torch.randint(3, (len(box),))) for box in boxes]


# -- The network: sections 2.3 and 2.4 ------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(64, 96), (32, 32), (65, 97), (127, 33), (1, 1)])
def test_outputs_have_a_row_for_each_prior_in_each_cell(detector: YOLO, height: int, width: int) -> None:
    with torch.no_grad():
        outputs = detector.eval()(torch.zeros(2, 3, height, width))
    grids = [[math.ceil(height / stride), math.ceil(width / stride)] for stride in STRIDES]
    anchors = 3 * sum(rows * columns for rows, columns in grids)
    assert outputs["grids"].tolist() == grids
    assert outputs["values"].shape == (2, anchors, 8)
    assert torch.equal(outputs["anchors"], YOLO.anchors_of(detector.settings, height, width))
    assert outputs["strides"].flatten().tolist() == [
        stride for stride, (rows, columns) in zip(STRIDES, grids, strict=True) for _ in range(3 * rows * columns)
    ]


def test_priors_stand_in_the_middle_of_their_cells_the_largest_in_the_coarsest(detector: YOLO) -> None:
    anchors = YOLO.anchors_of(detector.settings, SIDE, SIDE)
    assert anchors[place(0, 1, 0, 2)].tolist() == [16 - 10, 48 - 30, 16 + 10, 48 + 30]
    assert anchors[place(1, 0, 3, 0)].tolist() == [56 - 6, 8 - 12, 56 + 6, 8 + 12]
    assert anchors[place(2, 7, 1, 1)].tolist() == [12 - 5, 60 - 4, 12 + 5, 60 + 4]


@pytest.mark.parametrize(("preset", "millions"), [("yolov3", 61.9), ("yolov3_tiny", 8.85)])
def test_the_networks_have_their_published_size(preset: str, millions: float) -> None:
    """Parameters for COCO's 80 classes: 62.0 and 8.86 million values in darknet's files, statistics among them."""
    with torch.device("meta"):
        network = YOLO([str(i) for i in range(80)], YOLOSettings(**YOLO.presets[preset]))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(millions * 1e6, rel=1e-3)
    head = network.heads[0].output
    assert head.out_channels == 255


@pytest.mark.parametrize("start", [0.5, 0.01])
def test_objectness_begins_where_it_is_told(start: float) -> None:
    detector = small(start=start).eval()
    with torch.no_grad():
        values = detector(torch.rand(1, 3, SIDE, SIDE) * 255)["values"]
    assert float(values[..., 4].sigmoid().median()) == pytest.approx(start, rel=0.1)
    assert float(values[..., 5:].sigmoid().median()) == pytest.approx(0.5, abs=0.05)


# -- Bounding boxes: section 2.1 ------------------------------------------------------------------------------------


def test_boxes_by_hand(detector: YOLO) -> None:
    """b_x = σ(t_x) + c_x, in cells of 16 px; b_w = p_w e^t_w. The prior is 12 x 24, its cell row 1, column 2."""
    values = zeros(detector)
    at = place(1, 1, 2, 0)
    values[0, at, :4] = torch.tensor([math.log(3), -math.log(3), math.log(2), -math.log(2)])  # σ: 3/4 and 1/4
    boxes = detector.boxes(outputs_of(values, detector))
    x, y, w, h = 16 * (2 + 0.75), 16 * (1 + 0.25), 24, 12
    torch.testing.assert_close(boxes[0, at], torch.tensor([x - w / 2, y - h / 2, x + w / 2, y + h / 2]))
    # All zeros: the prior in the middle of its cell.
    torch.testing.assert_close(boxes[0, 0], detector.anchors_of(detector.settings, SIDE, SIDE)[0])


def test_no_value_makes_a_box_infinite(detector: YOLO) -> None:
    boxes = detector.boxes(outputs_of(zeros(detector) + 1e4, detector))
    assert boxes.isfinite().all()


def matched_by(detector: YOLO, boxes: Tensor, outputs: Outputs) -> Tensor:
    places = outputs["anchors"], outputs["strides"], outputs["grids"]
    return match_priors(boxes, *places, detector.priors_per_scale, detector.settings.share_iou)


# -- Which prior has which box --------------------------------------------------------------------------------------


def test_a_box_belongs_to_the_best_prior_in_the_cell_of_its_centre(detector: YOLO) -> None:
    """28 x 16 at 40, 20: 30 x 14 fits best (392 / 476), in cell 1, 2 of the middle scale."""
    outputs = outputs_of(zeros(detector), detector)
    box = torch.tensor([[[40.0 - 14, 20 - 8, 40 + 14, 20 + 8]]])
    matched = matched_by(detector, box, outputs)
    assert (matched[0] >= 0).nonzero().flatten().tolist() == [place(1, 1, 2, 1)]


def test_padding_has_no_prior_and_a_later_box_takes_the_place_of_an_earlier(detector: YOLO) -> None:
    boxes = torch.tensor(
        [[[2.0, 2, 6, 8], [3.0, 2, 7, 8], [0.0, 0, 0, 0]], [[40.0, 40, 64, 60], [0.0, 0, 0, 0], [0.0, 0, 0, 0]]]
    )
    matched = matched_by(detector, boxes, outputs_of(zeros(detector, 2), detector))
    assert (matched[0] >= 0).nonzero().flatten().tolist() == [place(2, 0, 0, 0)]
    assert matched[0, place(2, 0, 0, 0)] == 1
    assert matched[1].max() == 0
    assert (matched[1] >= 0).sum() == 1


def test_a_centre_on_the_inputs_border_lies_in_the_last_cell(detector: YOLO) -> None:
    box = torch.tensor([[[60.0, 60, 68, 72]]])  # as an unclipped target would be
    matched = matched_by(detector, box, outputs_of(zeros(detector), detector))
    assert (matched[0] >= 0).nonzero().flatten().tolist() == [place(2, 7, 7, 1)]


def test_priors_that_fit_well_enough_share_a_box_but_never_take_anothers(detector: YOLO) -> None:
    """16 x 16 is a prior itself; of the others 12 x 24, 10 x 8 ... only those with an IoU of 0.5 join it."""
    outputs = outputs_of(zeros(detector), detector)
    box = torch.tensor([[[24.0, 24, 40, 40], [24.0, 20, 36, 44]]])
    assert (matched_by(detector, box[:, :1], outputs)[0] >= 0).sum() == 1
    shared = matched_by(with_settings(detector, share_iou=0.5), box[:, :1], outputs)[0]
    # Overlaps of 16 x 16: 12 x 24 has 192 / 352, 30 x 14 has 224 / 452; 24 x 40 has 256 / 960.
    assert (shared >= 0).nonzero().flatten().tolist() == [place(1, 2, 2, 0), place(2, 4, 4, 2)]
    both = matched_by(with_settings(detector, share_iou=0.5), box, outputs)[0]
    # The second box is the prior 12 x 24: it keeps it, though the first would share it.
    assert both[place(1, 2, 1, 0)] == 1
    assert both[place(2, 4, 4, 2)] == 0


def test_a_prior_that_two_scales_have_takes_a_box_in_both() -> None:
    """As in YOLOv3-tiny, whose 81 x 82 stands in two of darknet's layers."""
    detector = small(head_widths=(32, 16), head_layers=(1, 1), priors=(10, 10, 20, 20, 20, 20, 50, 50))
    with torch.no_grad():
        outputs = detector.eval()(torch.zeros(1, 3, SIDE, SIDE))
    matched = matched_by(detector, torch.tensor([[[20.0, 20, 40, 40]]]), outputs)
    assert outputs["strides"][matched[0] >= 0].flatten().tolist() == [32, 16]


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(0, 6))
def test_the_assignment_is_a_loop_over_boxes(detector: YOLO, seed: int, count: int) -> None:
    torch.manual_seed(seed)
    target = some_targets(count)[0]
    boxes = target.boxes[None] if count else torch.zeros(1, 1, 4)
    expected = torch.full((252,), -1)
    for i, (x1, y1, x2, y2) in enumerate(target.boxes.tolist()):
        scale, column, row, prior = darknets_place(detector, x1, y1, x2, y2)
        expected[place(scale, row, column, prior)] = i
    assert torch.equal(matched_by(detector, boxes, outputs_of(zeros(detector), detector))[0], expected)


def darknets_place(detector: YOLO, x1: float, y1: float, x2: float, y2: float) -> tuple[int, int, int, int]:
    """Scale, column, row and prior of a box: the loop over l.total in forward_yolo_layer."""
    priors = torch.tensor(detector.settings.priors).view(-1, 2).tolist()
    best_iou, best = 0.0, 0
    for n, (width, height) in enumerate(priors):
        common = min(width, x2 - x1) * min(height, y2 - y1)
        iou = common / (width * height + (x2 - x1) * (y2 - y1) - common)
        if iou > best_iou:
            best_iou, best = iou, n
    scale = 2 - best // 3
    return scale, int((x1 + x2) / 2 / STRIDES[scale]), int((y1 + y2) / 2 / STRIDES[scale]), best % 3


# -- Losses ---------------------------------------------------------------------------------------------------------


def darknets_deltas(detector: YOLO, values: Tensor, target: Target, ignore: float) -> Tensor:
    """What darknet's forward_yolo_layer and delta_yolo_box write for one photo: the negative slope of each value."""
    delta = torch.zeros_like(values)
    boxes = detector.boxes(outputs_of(values[None], detector))[0]
    for a in range(len(values)):
        delta[a, 4] = -values[a, 4].sigmoid()
        if any(float(box_iou(boxes[a : a + 1], truth[None])) > ignore for truth in target.boxes):
            delta[a, 4] = 0
    for (x1, y1, x2, y2), label in zip(target.boxes.tolist(), target.labels.tolist(), strict=True):
        scale, column, row, prior = darknets_place(detector, x1, y1, x2, y2)
        width, height = detector.settings.priors[6 * (2 - scale) + 2 * prior :][:2]
        a = place(scale, row, column, prior)
        weight = 2 - (x2 - x1) * (y2 - y1) / SIDE**2
        truth = [
            (x1 + x2) / 2 / STRIDES[scale] - column,
            (y1 + y2) / 2 / STRIDES[scale] - row,
            math.log((x2 - x1) / width),
            math.log((y2 - y1) / height),
        ]
        said = [*values[a, :2].sigmoid().tolist(), *values[a, 2:4].tolist()]
        delta[a, :4] = torch.tensor([weight * (t - s) for t, s in zip(truth, said, strict=True)])
        delta[a, 4] = 1 - values[a, 4].sigmoid()
        for k in range(len(detector.names)):
            delta[a, 5 + k] = float(k == label) - values[a, 5 + k].sigmoid()
    return delta


@pytest.mark.parametrize("ignore", [0.7, 0.5, 0.2])
@pytest.mark.parametrize("counts", [(3,), (0,), (2, 4)])
def test_the_slopes_are_darknets(detector: YOLO, counts: tuple[int, ...], ignore: float) -> None:
    """Its C code has no loss, only deltas: our losses' gradients are these, divided by the photos."""
    values = (torch.randn(len(counts), 252, 8) * 0.5).requires_grad_()
    targets = some_targets(*counts)
    losses = with_settings(detector, ignore_threshold=ignore).losses_of(outputs_of(values, detector), targets)
    torch.stack(list(losses.values())).sum().backward()
    assert values.grad is not None
    for i, target in enumerate(targets):
        expected = darknets_deltas(detector, values[i].detach(), target, ignore)
        torch.testing.assert_close(-values.grad[i] * len(counts), expected, rtol=1e-4, atol=1e-5)


def test_losses_by_hand(detector: YOLO) -> None:
    """A box of 24 x 36 in the middle of a cell of 16 px, whose prior 24 x 40 takes it; all values 0.

    In a cell's middle σ(t) is 1/2: log 2 for each of x and y; (log 36/40)² / 2 for the height; times 2 - its share.
    Objectness: log 2 for each of 252 priors, for no other one's box overlaps the truth by over 0.7. Classes: log 2 for
    each of three.
    """
    box = torch.tensor([[28.0, 22, 52, 58]])  # at 40, 40
    assert darknets_place(detector, *box[0].tolist()) == (1, 2, 2, 2)
    found = detector.losses_of(outputs_of(zeros(detector), detector), [Target(box, torch.tensor([1]))])
    expected = (2 * math.log(2) + math.log(36 / 40) ** 2 / 2) * (2 - 24 * 36 / 64**2)
    assert float(found["boxes"]) == pytest.approx(expected)
    assert float(found["objectness"]) == pytest.approx(252 * math.log(2), rel=1e-5)
    assert float(found["classes"]) == pytest.approx(3 * math.log(2), rel=1e-5)


def test_losses_with_objectness_by_hand() -> None:
    """The same box: the cross entropy of three equal classes, log 3, of what lies in it; all else as above."""
    detector = small(scores="objectness")
    box = torch.tensor([[28.0, 22, 52, 58]])
    outputs = outputs_of(zeros(detector), detector) | {"classes": torch.zeros(1, 3, 8, 8)}
    found = detector.losses_of(outputs, [Target(box, torch.tensor([1]))])
    assert outputs["values"].shape[2] == 5
    assert float(found["objectness"]) == pytest.approx(252 * math.log(2), rel=1e-5)
    assert float(found["classes"]) == pytest.approx(math.log(3))


def test_one_class_needs_no_class_map() -> None:
    """Its objectness is its score, and there is nothing else to learn."""
    detector = YOLO(["food"], YOLOSettings(**LIGHT))
    assert set(detector.losses(torch.zeros(1, 3, 64, 64), [Target()])) == {"objectness", "boxes"}


def test_objectness_times_the_softmax_is_the_score() -> None:
    """Of the one prior that is there, 30 x 14 in cell 1, 2 of the middle scale, in whose half the map says 1, 2, -1."""
    detector = small(scores="objectness")
    values = torch.zeros(1, 252, 5)
    values[..., 4] = -30.0
    values[0, place(1, 1, 2, 1), 4] = 1.0
    outputs = outputs_of(values, detector) | {"classes": torch.zeros(1, 3, 8, 8)}
    outputs["classes"][0, :, :, 3:] = torch.tensor([1.0, 2.0, -1.0])[:, None, None]
    found = detector.decode(outputs, [Frame(64, 64, SIDE, SIDE)], min_score=0.01)[0]
    share = torch.tensor([1.0, 2.0, -1.0]).softmax(0)
    assert found.labels.tolist() == [1, 0, 2]
    torch.testing.assert_close(found.scores, share[[1, 0, 2]] / (1 + math.exp(-1)))
    assert found.boxes.tolist() == [[25.0, 17.0, 55.0, 31.0]] * 3


def test_the_papers_slope_is_the_truth_minus_the_prediction() -> None:
    """Section 2.1: "our gradient is the ground truth value minus our prediction", by inverting the equations."""
    detector = small(box_loss="squared")
    values = (torch.randn(1, 252, 8) * 0.5).requires_grad_()
    box = torch.tensor([[29.0, 31, 53, 49]])
    detector.losses_of(outputs_of(values, detector), [Target(box, torch.tensor([0]))])["boxes"].backward()
    scale, column, row, prior = darknets_place(detector, *box[0].tolist())
    at, stride = place(scale, row, column, prior), STRIDES[scale]
    width, height = detector.settings.priors[6 * (2 - scale) + 2 * prior :][:2]
    inside = torch.tensor([41 / stride - column, 40 / stride - row])
    truth = torch.cat((inside.logit(), torch.tensor([24 / width, 18 / height]).log()))
    assert values.grad is not None
    torch.testing.assert_close(-values.grad[0, at, :4], truth - values[0, at, :4].detach())
    assert values.grad.abs().sum() == values.grad[0, at, :4].abs().sum()


@pytest.mark.parametrize("box_loss", ["squared", "giou"])
def test_the_right_box_costs_nothing(detector: YOLO, box_loss: str) -> None:
    box = torch.tensor([[20.0, 36, 36, 52]])  # the prior 16 x 16, its centre at 28, 44: half a cell
    found = with_settings(detector, box_loss=box_loss).losses_of(
        outputs_of(zeros(detector), detector), [Target(box, torch.tensor([0]))]
    )
    assert float(found["boxes"]) == pytest.approx(0, abs=1e-6)


def test_the_box_weight_and_the_divisor(detector: YOLO) -> None:
    """Two photos with one and three boxes: divided by 2 photos or by 4 priors."""
    values = torch.randn(2, 252, 8)
    corner = torch.tensor([[2.0, 2, 6, 8], [34, 34, 58, 62], [50, 2, 62, 26]])
    targets = [Target(corner[:1], torch.tensor([0])), Target(corner, torch.tensor([0, 1, 2]))]
    by_photo = detector.losses_of(outputs_of(values, detector), targets)
    by_box = with_settings(detector, loss_per="box", box_weight=3.0).losses_of(outputs_of(values, detector), targets)
    assert float(by_box["objectness"]) == pytest.approx(float(by_photo["objectness"]) / 2)
    assert float(by_box["classes"]) == pytest.approx(float(by_photo["classes"]) / 2)
    assert float(by_box["boxes"]) == pytest.approx(float(by_photo["boxes"]) / 2 * 3)


def test_who_overlaps_a_box_is_excused(detector: YOLO) -> None:
    """By its prediction as in darknet, or by its prior as in the paper: each counts where the other does not."""
    box = torch.tensor([[8.0, 7, 32, 33]])  # 24 x 26
    values = zeros(detector)
    values[..., 4] = -20.0  # a cost only where it is raised
    near, far = place(2, 2, 2, 2), place(2, 7, 7, 2)
    values[0, near, :4] = torch.tensor([0.0, 0.0, math.log(24 / 16), math.log(26 / 16)])  # at 20, 20: the box
    values[0, [near, far], 4] = 1.0
    target = [Target(box, torch.tensor([0]))]
    cost = math.log(1 + math.e)
    prior_at = darknets_place(detector, *box[0].tolist())
    own = place(prior_at[0], prior_at[2], prior_at[1], prior_at[3])
    values[0, own, 4] = 20.0
    by_prediction = detector.losses_of(outputs_of(values, detector), target)["objectness"]
    by_prior = with_settings(detector, ignore_by="prior").losses_of(outputs_of(values, detector), target)["objectness"]
    assert own != near
    assert float(by_prediction) == pytest.approx(cost, abs=1e-4)
    assert float(by_prior) == pytest.approx(2 * cost, abs=1e-4)
    # The prior of `near`, 16 x 16, overlaps the box by 256 / 624.
    loose = with_settings(detector, ignore_by="prior", ignore_threshold=0.4)
    assert float(loose.losses_of(outputs_of(values, detector), target)["objectness"]) == pytest.approx(cost, abs=1e-4)


@pytest.mark.parametrize("box_loss", ["darknet", "squared", "giou"])
@pytest.mark.parametrize("loss_per", ["photo", "box"])
def test_without_any_box_losses_are_finite_and_train(box_loss: str, loss_per: str) -> None:
    detector = small(box_loss=box_loss, loss_per=loss_per).train()
    losses = detector.losses(torch.rand(2, 3, SIDE, SIDE) * 255, [Target(), Target()])
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.isfinite()
    assert losses["boxes"].item() == losses["classes"].item() == 0
    gradients = [p.grad for p in detector.heads.parameters() if p.grad is not None]
    assert len(gradients) == len(list(detector.heads.parameters()))
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("changes", [{}, {"head_norm": "batch"}, {"box_loss": "giou"}, {"scores": "objectness"}])
def test_a_step_has_a_gradient_in_every_part_that_trains(changes: dict[str, Any]) -> None:
    detector = small(**changes).train()
    losses = detector.losses(torch.rand(2, 3, SIDE, SIDE) * 255, some_targets(2, 1))
    torch.stack(list(losses.values())).sum().backward()
    without = [
        n for n, p in detector.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert without == []


# -- Detection ------------------------------------------------------------------------------------------------------


def test_detections_by_hand(detector: YOLO) -> None:
    """Objectness times class; two boxes of one class on one place, one of them with another class as well."""
    values = zeros(detector) - 20.0
    one, other = place(2, 4, 4, 2), place(2, 4, 5, 2)
    values[0, [one, other], :4] = 0.0
    values[0, one, 4:] = torch.tensor([2.0, -20.0, 1.0, 0.0])
    values[0, other, 4:] = torch.tensor([0.5, -20.0, 3.0, -20.0])
    values[0, other, 0] = -20.0  # its left border: 4 px from the other's centre
    found = detector.decode(outputs_of(values, detector), [Frame(128, 64, SIDE, SIDE)])[0]

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    assert found.labels.tolist() == [1, 2]
    torch.testing.assert_close(found.scores, torch.tensor([sigmoid(2) * sigmoid(1), sigmoid(2) * sigmoid(0)]))
    torch.testing.assert_close(found.boxes, torch.tensor([[56.0, 28, 88, 44]] * 2))


def test_only_scores_over_the_threshold_and_at_most_so_many(detector: YOLO) -> None:
    values = zeros(detector)
    outputs, frame = outputs_of(values, detector), [Frame(64, 64, SIDE, SIDE)]
    assert len(detector.decode(outputs, frame, min_score=0.25)[0]) == 0
    assert len(detector.decode(outputs, frame, min_score=0.24)[0]) > 0
    assert len(with_settings(detector, candidates=7).decode(outputs, frame)[0]) <= 7
    assert len(with_settings(detector, max_detections=3).decode(outputs, frame)[0]) == 3


@pytest.mark.parametrize("size", [(96, 32), (32, 96), (50, 49), (1, 1), (1, 500), (500, 1)])
def test_detections_of_a_letterbox_end_inside_the_photo(detector: YOLO, size: tuple[int, int]) -> None:
    pixels, frame = prepare(Image.new("RGB", size, "red"), detector.preprocessing)
    box = frame.to_input(torch.tensor([[0.0, 0.0, *map(float, size)]]))
    batch = Collate(detector.preprocessing)([(pixels, Target(box, torch.tensor([0])), frame)])
    assert batch.images.shape == (1, 3, SIDE, SIDE)
    losses = detector.train().losses(batch.images, batch.targets)
    assert all(value.isfinite() for value in losses.values())
    with torch.no_grad():
        found = detector.eval().decode(detector(batch.images), batch.frames, min_score=0.0)[0]
    assert len(found) > 0
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] <= torch.tensor(size)).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()


def test_decoding_nothing(detector: YOLO) -> None:
    values = zeros(detector, 2) - 20.0
    values[1, 5, :4] = 0.0
    values[1, 5, 4:] = 4.0
    empty, some = detector.decode(outputs_of(values, detector), [Frame(64, 64, SIDE, SIDE)] * 2)
    assert (len(empty), len(some)) == (0, 3)
    assert empty.boxes.shape == (0, 4)
    assert empty.labels.dtype == torch.int64


# -- Settings and transfer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("start", 0),
        ("share_iou", 0),
        ("ignore_threshold", 1.1),
        ("box_loss", "smooth_l1"),
        ("head_widths", ()),
        ("head_widths", (4, 4, 4)),
        ("head_layers", (5, 5)),
        ("priors", ()),
        ("priors", (10, 13, 16)),
        ("priors", (10, 13, 16, 30)),
        ("priors", (10, 13, 16, 30, 33, -2)),
        ("nms_iou", 2),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        apply(YOLOSettings(), {name: value})


@pytest.mark.parametrize("preset", YOLO.presets)
def test_inputs_are_whole_cells_and_darknets_are_letterboxes(preset: str) -> None:
    preprocessing = YOLOSettings(**YOLO.presets[preset]).preprocessing
    assert preprocessing.fit == ("longest" if preset == "light" else "letterbox")
    assert preprocessing.size % STRIDES[0] == preprocessing.multiple % STRIDES[0] == 0


def test_classes_are_carried_over_by_name() -> None:
    source, target = small(), YOLO(["cake", "pie", "apple"], YOLOSettings(**SMALL))
    weights = pretrained.Weights(source.state_dict(), "a test", source.names, "yolo")
    assert put(weights, target).classes == ["cake", "apple"]
    theirs = source.heads[1].output.weight.view(3, 8, -1)
    mine = target.heads[1].output.weight.view(3, 8, -1)
    assert torch.equal(mine[:, :5], theirs[:, :5])
    assert torch.equal(mine[:, 5], theirs[:, 5 + NAMES.index("cake")])
    assert torch.equal(mine[:, 7], theirs[:, 5 + NAMES.index("apple")])
    assert not torch.equal(mine[:, 6], theirs[:, 6])


def test_priors_are_fitted_to_boxes_by_k_means() -> None:
    """Two shapes that no prior of the paper is near; with fewer boxes than priors the largest stands again."""
    own = YOLOSettings(**SMALL)
    corner = torch.rand(40, 2) * 10
    sides = torch.tensor([[50.0, 5.0], [6.0, 52.0]]).repeat(20, 1)
    boxes = torch.cat((corner, corner + sides), dim=1)
    fitted = apply(own, YOLO.fit_anchors(own, boxes, SIDE, SIDE))
    assert set(zip(fitted.priors[::2], fitted.priors[1::2], strict=True)) == {(50.0, 5.0), (6.0, 52.0)}
    assert len(fitted.priors) == len(own.priors)
    one = YOLO.anchor_choices(own, boxes[:1])[1]["priors"]
    assert one == (50.0, 5.0) * 9


def test_light_starts_from_the_embedded_backbone() -> None:
    weights = pretrained.find("coco", YOLOSettings(**LIGHT).model_dump(), "yolo")
    assert weights is not None
    detector = YOLO(["food"], apply(YOLOSettings(**LIGHT), weights.settings))
    result = put(weights, detector)
    assert not [name for name in result.fresh if name.startswith("backbone.")]
    frozen = [n for n, p in detector.named_parameters() if not p.requires_grad]
    assert frozen
    assert all(n.startswith(BACKBONE) for n in frozen)


def test_a_box_that_is_the_prior_keeps_it_before_one_that_would_share_it() -> None:
    """Both in one cell, the prior's own box first."""
    detector = small()
    outputs = outputs_of(zeros(detector), detector)
    box = torch.tensor([[[26.0, 20, 38, 44], [24.0, 24, 40, 40]]])
    both = matched_by(with_settings(detector, share_iou=0.5), box, outputs)[0]
    assert both[place(1, 2, 2, 0)] == 0
    assert both[place(2, 4, 4, 2)] == 1
