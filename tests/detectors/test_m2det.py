"""M2Det's own behaviour: its default boxes, losses and decoding by hand, and the empty cases."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from foodbox.configure import apply
from foodbox.data.images import prepare
from foodbox.data.loader import Collate
from foodbox.detectors.base import Outputs
from foodbox.detectors.m2det import LIGHT, M2Det, M2DetSettings
from foodbox.errors import UsageError
from foodbox.layers.mlfpn import scale_sides
from foodbox.ops.boxes import iou
from foodbox.ops.coding import encode_ssd
from foodbox.ops.default_boxes import match_default_boxes
from foodbox.ops.losses import smooth_l1_loss
from foodbox.records import Frame, Preprocessing, Target
from foodbox.weights import pretrained
from foodbox.weights.transfer import put
from tests.conftest import NAMES

# Three default boxes that touch nowhere, so that what is matched and lost can be worked out by hand.
APART = torch.tensor([[0.0, 0.0, 20.0, 20.0], [40.0, 0.0, 60.0, 20.0], [0.0, 40.0, 20.0, 60.0]])
SMALL = {
    "preprocessing": Preprocessing(size=64),
    "backbone": "mobilenetv2_100",
    "frozen_batch_norm": True,
    "base_channels": (16, 16),
    "planes": 16,
    "tums": 2,
}
SCORES = ["softmax", "sigmoid", "objectness"]


def small(**changes: Any) -> M2Det:
    """The released code's settings on a light backbone with a thin MLFPN."""
    return M2Det(NAMES, M2DetSettings(**SMALL | changes))


@pytest.fixture(scope="module")
def detectors() -> dict[str, M2Det]:
    return {scores: small(scores=scores) for scores in SCORES}


@pytest.fixture(scope="module")
def softmax(detectors: dict[str, M2Det]) -> M2Det:
    return detectors["softmax"]


def with_settings(detector: M2Det, **changes: Any) -> M2Det:
    """The same network with other settings of its losses and its decoding."""
    other = copy.copy(detector)
    other.settings = detector.settings.model_copy(update=changes)
    return other


def outputs_at(anchors: Tensor, logits: Tensor, deltas: Tensor | None = None) -> Outputs:
    """Outputs with these default boxes: logits [B, A, values]; a class map that tells nothing."""
    if deltas is None:
        deltas = torch.zeros(len(logits), len(anchors), 4)
    return {"logits": logits, "deltas": deltas, "anchors": anchors, "classes": torch.zeros(len(logits), 3, 8, 8)}


def some_targets(*counts: int, side: float = 64) -> list[Target]:
    corner = [torch.rand(n, 2) * side / 2 for n in counts]
    boxes = [torch.cat((c, c + 8 + torch.rand(len(c), 2) * (side / 2 - 8)), dim=1) for c in corner]
    return [Target(box, torch.randint(3, (len(box),))) for box in boxes]


# -- The network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(64, 96), (32, 32), (130, 64), (8, 8)])
@pytest.mark.parametrize("base_maps", ["C3+C5", "C4+C5"])
@pytest.mark.parametrize("variant", ["released", "paper"])
def test_outputs_have_a_row_for_each_default_box(height: int, width: int, base_maps: str, variant: str) -> None:
    """Sides that are no multiple of anything as well."""
    detector = small(base_maps=base_maps, variant=variant).eval()
    with torch.no_grad():
        outputs = detector(torch.zeros(2, 3, height, width))
    count = len(M2Det.anchors_of(detector.settings, height, width))
    assert outputs["logits"].shape == (2, count, 4)
    assert outputs["deltas"].shape == (2, count, 4)
    assert torch.equal(outputs["anchors"], M2Det.anchors_of(detector.settings, height, width))


@pytest.mark.parametrize(
    ("tums", "planes", "millions"),
    [(2, 256, 40.1), (4, 128, 34.2), (4, 256, 60.2), (8, 128, 47.5), (8, 256, 98.9), (16, 128, 73.9), (16, 256, 176.8)],
)
def test_parameters_of_the_papers_configurations(tums: int, planes: int, millions: float) -> None:
    """Table 3, VGG-16 at 320 px with COCO's 80 classes, within what the paper leaves unsaid.

    Its three rows with 512 channels do not go with the others in any form of the network.
    """
    with torch.device("meta"):
        detector = M2Det(["x"] * 80, M2DetSettings(variant="paper", tums=tums, planes=planes))
    assert sum(p.numel() for p in detector.parameters()) / 1e6 == pytest.approx(millions, rel=0.06)


def test_a_resnets_third_stage_can_keep_the_stride() -> None:
    coarse, fine = (small(backbone="resnet18", fine_c4=fine).eval() for fine in (False, True))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert [x.shape[2] for x in coarse.backbone(image)] == [8, 4, 2]
        assert [x.shape[2] for x in fine.backbone(image)] == [8, 8, 4]
    with pytest.raises(UsageError, match="fine_c4 is for ResNet"):
        small(fine_c4=True)


@pytest.mark.parametrize("scores", ["sigmoid", "objectness"])
@pytest.mark.parametrize("prior", [0.01, 0.1])
def test_every_score_starts_at_the_prior(scores: str, prior: float) -> None:
    weights = pretrained.embedded()
    settings = apply(M2DetSettings(**LIGHT), weights.settings | {"scores": scores, "prior": prior})
    detector = M2Det(NAMES, settings).eval()
    put(weights, detector)
    with torch.no_grad():
        logits = detector(torch.rand(1, 3, 64, 64) * 255)["logits"]
    assert prior / 3 < float(logits.sigmoid().median()) < prior * 3


def test_released_pixels_lose_caffes_mean_and_keep_their_spread() -> None:
    """The code takes (104, 117, 123) off blue green red."""
    detector = small(preprocessing=M2DetSettings().preprocessing)
    pixels = torch.tensor([255, 0, 128], dtype=torch.uint8).view(1, 3, 1, 1)
    torch.testing.assert_close(detector.normalise(pixels).flatten(), torch.tensor([132.0, -117.0, 24.0]))


# -- Default boxes --------------------------------------------------------------------------------------------------


def test_default_boxes_by_hand() -> None:
    """At 320 px the first place lies at 4 4, and its boxes have the sides 25.6 and sqrt(25.6 x 48)."""
    anchors = M2Det.anchors_of(M2DetSettings(), 320, 320)
    assert len(anchors) == 6 * (40**2 + 20**2 + 10**2 + 5**2 + 3**2 + 1) == 12810
    side, between = 25.6, math.sqrt(25.6 * 48)
    sides = [(side, side), (between, between)]
    for ratio in (2, 3):
        sides += [
            (side * math.sqrt(ratio), side / math.sqrt(ratio)),
            (side / math.sqrt(ratio), side * math.sqrt(ratio)),
        ]
    expected = [[4 - w / 2, 4 - h / 2, 4 + w / 2, 4 + h / 2] for w, h in sides]
    torch.testing.assert_close(anchors[:6], torch.tensor(expected))
    # The second place of the first row, and the first of the second.
    torch.testing.assert_close(anchors[6:12], anchors[:6] + torch.tensor([8.0, 0, 8, 0]))
    torch.testing.assert_close(anchors[240:246], anchors[:6] + torch.tensor([0, 8.0, 0, 8]))


def test_no_default_box_is_larger_than_the_input() -> None:
    """At the last place: 278.4 px times sqrt 3 is 482."""
    last = M2Det.anchors_of(M2DetSettings(), 320, 320)[-6:]
    sides = last[:, 2:] - last[:, :2]
    assert float(sides.max()) == 320
    assert float(sides[0, 0]) == pytest.approx(0.87 * 320)


@pytest.mark.parametrize(("size", "step"), [(320, 107), (512, 128), (704, 117), (800, 115)])
def test_released_steps_between_places_and_the_papers(size: int, step: float) -> None:
    """At the fifth scale, of 3, 4, 6 and 7 places; only 512 has even ones."""
    places = {320: 3, 512: 4, 704: 6, 800: 7}[size]
    for variant, expected in (("released", step), ("paper", size / places)):
        settings = M2DetSettings(preprocessing=Preprocessing(size=size), variant=variant)
        anchors = M2Det.anchors_of(settings, size, size)
        last = {320: 1, 512: 2, 704: 4, 800: 5}[size]
        fifth = anchors[len(anchors) - 6 * (last**2 + places**2) :][: 6 * places**2]
        centres = ((fifth[:, 0] + fifth[:, 2]) / 2).round(decimals=2).unique()
        assert float(centres[1] - centres[0]) == pytest.approx(expected, abs=0.02)


def test_padding_makes_no_default_box_larger() -> None:
    """Sizes are shares of the side that photos are prepared for."""
    settings = M2DetSettings(preprocessing=Preprocessing(size=320, fit="longest"))
    wide, square = (M2Det.anchors_of(settings, height, 320) for height in (256, 320))
    assert torch.equal(wide[:6], square[:6])


def test_small_boxes_get_smaller_default_boxes() -> None:
    settings = M2DetSettings(**LIGHT)
    corner = torch.rand(60, 2) * 280
    small_ones = torch.cat((corner, corner + 8 + 8 * torch.rand(60, 2)), 1)
    fitted = apply(settings, M2Det.fit_anchors(settings, small_ones, 320, 320))
    assert fitted.anchor_sizes[0] <= 0.5 * settings.anchor_sizes[0]
    assert len(M2Det.anchors_of(fitted, 320, 320)) == len(M2Det.anchors_of(settings, 320, 320))


# -- Losses ---------------------------------------------------------------------------------------------------------


def test_multibox_losses_by_hand(softmax: M2Det) -> None:
    """One box of class 1 on default box 0; all four logits equal, so that each cross entropy is log 4.

    Both negatives are among the three hardest: 3 log 4 over one positive. The box costs 4 x (0.5² / 2).
    """
    outputs = outputs_at(APART, torch.zeros(1, 3, 4), torch.full((1, 3, 4), 0.5))
    found = softmax.losses_of(outputs, [Target(APART[:1], torch.tensor([1]))])
    assert float(found["classes"]) == pytest.approx(3 * math.log(4))
    assert float(found["boxes"]) == pytest.approx(4 * 0.125)


def test_only_the_hardest_negatives_count(softmax: M2Det) -> None:
    """One positive and ten negatives of which three count, those least taken for background."""
    anchors = torch.tensor([[30.0 * i, 0.0, 30.0 * i + 20, 20.0] for i in range(11)])
    logits = torch.zeros(1, 11, 4)
    logits[0, 1:, 0] = torch.arange(10.0)  # the background's: the first three are the hardest
    found = softmax.losses_of(outputs_at(anchors, logits), [Target(anchors[:1], torch.tensor([0]))])
    hard = [math.log(math.exp(x) + 3) - x for x in (0, 1, 2)]
    assert float(found["classes"]) == pytest.approx(math.log(4) + sum(hard), rel=1e-5)


def test_focal_losses_by_hand(detectors: dict[str, M2Det]) -> None:
    """All logits 0: p = 1/2. As in RetinaNet's test, over 3 x 3 classes, or over 3 objectnesses and log 3."""
    target = [Target(APART[:1], torch.tensor([1]))]
    found = detectors["sigmoid"].losses_of(outputs_at(APART, torch.zeros(1, 3, 3)), target)
    assert float(found["classes"]) == pytest.approx((0.25 + 8 * 0.75) * 0.25 * math.log(2))
    found = detectors["objectness"].losses_of(outputs_at(APART, torch.zeros(1, 3, 1)), target)
    assert float(found["objectness"]) == pytest.approx((0.25 + 2 * 0.75) * 0.25 * math.log(2))
    assert float(found["classes"]) == pytest.approx(math.log(3))


def test_a_default_box_between_the_bounds_counts_nothing(detectors: dict[str, M2Det]) -> None:
    """The second box has the IoU 0.45 with default box 1, which another takes for its best, or 2, which nobody does."""
    boxes = torch.cat((APART[:1], torch.tensor([[0.0, 40.0, 20.0, 49.0]])))
    third = torch.tensor([[0.0, 40.0, 20.0, 58.0]])  # it has box 2's favour, with 0.5
    anchors = torch.cat((APART, third))
    target = [Target(boxes, torch.tensor([0, 1]))]
    for low, counted in ((0.5, 2), (0.4, 1)):
        detector = with_settings(detectors["objectness"], match_low=low)
        found = detector.losses_of(outputs_at(anchors, torch.zeros(1, 4, 1)), target)
        expected = (2 * 0.25 + counted * 0.75) * 0.25 * math.log(2) / 2
        assert float(found["objectness"]) == pytest.approx(expected), low


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
def test_boxes_on_the_default_boxes_cost_nothing(softmax: M2Det, box_loss: str) -> None:
    targets = [Target(APART, torch.tensor([0, 1, 2])), Target(APART[1:2], torch.tensor([2]))]
    found = with_settings(softmax, box_loss=box_loss).losses_of(outputs_at(APART, torch.zeros(2, 3, 4)), targets)
    assert float(found["boxes"]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
@pytest.mark.parametrize("scores", SCORES)
def test_without_any_box_losses_are_finite(scores: str, box_loss: str) -> None:
    """With the focal loss they teach, too; SSD's hard negatives need positives."""
    detector = small(scores=scores, box_loss=box_loss).train()
    losses = detector.losses(torch.rand(2, 3, 64, 64) * 255, [Target(), Target()])
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.isfinite()
    assert losses["boxes"].item() == 0
    gradients = [p.grad for p in detector.class_heads.parameters() if p.grad is not None]
    assert len(gradients) == len(list(detector.class_heads.parameters()))
    assert all(g.isfinite().all() for g in gradients)
    assert any(g.any() for g in gradients) == (scores != "softmax")


@pytest.mark.parametrize("variant", ["released", "released_sfam", "paper"])
@pytest.mark.parametrize("scores", SCORES)
def test_a_step_has_a_gradient_in_every_part_that_trains(scores: str, variant: str) -> None:
    detector = small(scores=scores, variant=variant, norm="group", scales=3, anchor_sizes=(0.2, 0.4, 0.6, 0.8)).train()
    losses = detector.losses(torch.rand(2, 3, 64, 64) * 255, some_targets(2, 1))
    torch.stack(list(losses.values())).sum().backward()
    trained = [(n, p) for n, p in detector.named_parameters() if p.requires_grad]
    assert [n for n, p in trained if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("scores", SCORES)
def test_the_order_of_boxes_does_not_matter(detectors: dict[str, M2Det], scores: str) -> None:
    detector = detectors[scores].eval()
    with torch.no_grad():
        outputs = detector(torch.rand(1, 3, 64, 64) * 255)
    target = some_targets(4)[0]
    turned = Target(target.boxes.flip(0), target.labels.flip(0))
    one, other = detector.losses_of(outputs, [target]), detector.losses_of(outputs, [turned])
    assert {k: float(v) for k, v in one.items()} == pytest.approx({k: float(v) for k, v in other.items()}, rel=1e-5)


# -- Decoding -------------------------------------------------------------------------------------------------------


def logits_of(scores: list[list[float]]) -> Tensor:
    """Softmax logits [1, A, 1 + K] that give these scores, with what is left for background."""
    rows = torch.tensor([[1 - sum(row), *row] for row in scores])
    return rows.clamp(min=1e-12).log()[None]


def test_decoding_with_soft_nms_by_hand(softmax: M2Det) -> None:
    """Two boxes of a class that overlap by 19/21, and one of another class beside them; a photo at half its size."""
    anchors = torch.tensor([[0.0, 0.0, 20.0, 20.0], [1.0, 0.0, 21.0, 20.0], [40.0, 40.0, 60.0, 60.0]])
    logits = logits_of([[0.0, 0.6, 0.0], [0.0, 0.9, 0.0], [0.3, 0.0, 0.0]])
    deltas = torch.zeros(1, 3, 4)
    # Times the variances: 0.5 and -0.25 of a side, log 2: 10 right, 5 up, twice as wide.
    deltas[0, 2] = torch.tensor([5.0, -2.5, math.log(2) / 0.2, 0.0])
    found = softmax.decode(outputs_at(anchors, logits, deltas), [Frame(128, 100, 64, 50)])[0]
    assert found.labels.tolist() == [1, 0, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.3, 0.6 * (1 - 19 / 21)], rel=1e-4)
    expected = torch.tensor([[2.0, 0.0, 42.0, 40.0], [80.0, 70.0, 128.0, 100.0], [0.0, 0.0, 40.0, 40.0]])
    torch.testing.assert_close(found.boxes, expected)


@pytest.mark.parametrize(("nms", "second"), [("hard", None), ("gaussian", 0.6 * math.exp(-((19 / 21) ** 2) / 0.5))])
def test_the_other_kinds_of_nms(softmax: M2Det, nms: str, second: float | None) -> None:
    anchors = torch.tensor([[0.0, 0.0, 20.0, 20.0], [1.0, 0.0, 21.0, 20.0]])
    outputs = outputs_at(anchors, logits_of([[0.0, 0.6, 0.0], [0.0, 0.9, 0.0]]))
    found = with_settings(softmax, nms=nms).decode(outputs, [Frame(64, 64, 64, 64)])[0]
    assert found.scores.tolist() == pytest.approx([0.9] if second is None else [0.9, second], rel=1e-4)


@pytest.mark.parametrize("scores", SCORES)
def test_scores_are_what_they_are_called(detectors: dict[str, M2Det], scores: str) -> None:
    """With an objectness, the classes' logits are those of the class map."""
    logits = torch.tensor([[[0.5, 1.0, 2.0, -1.0]]])[..., : 3 if scores == "sigmoid" else 4]
    there, *classes = logits[0, 0].tolist()
    outputs = outputs_at(APART[:1], logits[..., :1] if scores == "objectness" else logits)
    outputs["classes"] += torch.tensor([1.0, 2.0, -1.0]).view(3, 1, 1)
    share = [math.exp(c) / sum(map(math.exp, classes)) for c in classes]
    expected = {
        "softmax": [math.exp(c) / sum(map(math.exp, [there, *classes])) for c in classes],
        "sigmoid": [1 / (1 + math.exp(-c)) for c in [there, *classes]],
        "objectness": [s / (1 + math.exp(-there)) for s in share],
    }[scores]
    found = detectors[scores].decode(outputs, [Frame(64, 64, 64, 64)], min_score=0.0)[0]
    assert {NAMES[i]: s for i, s in zip(found.labels.tolist(), found.scores.tolist(), strict=True)} == pytest.approx(
        dict(zip(NAMES, expected, strict=True))
    )


def test_at_most_so_many_candidates_and_boxes_a_photo(softmax: M2Det) -> None:
    anchors = torch.tensor([[30.0 * i, 0.0, 30.0 * i + 20, 20.0] for i in range(10)])
    outputs = outputs_at(anchors, logits_of([[0.9 - 0.05 * i, 0.0, 0.0] for i in range(10)]))
    frame = [Frame(400, 64, 400, 64)]
    assert len(softmax.decode(outputs, frame)[0]) == 10
    for name, count in (("candidates", 4), ("max_detections", 3)):
        found = with_settings(softmax, **{name: count}).decode(outputs, frame)[0]
        assert found.boxes[:, 0].tolist() == [30 * i for i in range(count)]


def test_only_scores_over_the_threshold_are_decoded(softmax: M2Det) -> None:
    outputs = outputs_at(APART, logits_of([[0.6, 0.0, 0.0], [0.5, 0.0, 0.0], [0.4, 0.0, 0.0]]))
    frame = [Frame(64, 64, 64, 64)]
    assert len(softmax.decode(outputs, frame, min_score=0.45)[0]) == 2
    assert len(with_settings(softmax, score_threshold=0.55).decode(outputs, frame)[0]) == 1
    assert len(softmax.decode(outputs, frame, min_score=0.0)[0]) == 9


def test_decoding_nothing(softmax: M2Det) -> None:
    """All scores under the threshold, in a batch beside a photo with a detection."""
    logits = torch.cat((logits_of([[0.01] * 3] * 3), logits_of([[0.01] * 3, [0.01] * 3, [0.9, 0.01, 0.01]])))
    empty, one = softmax.decode(outputs_at(APART, logits), [Frame(64, 64, 64, 64)] * 2)
    assert (len(empty), len(one)) == (0, 1)
    assert empty.boxes.shape == (0, 4)
    assert empty.scores.shape == (0,)
    assert empty.labels.dtype == torch.int64


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
def test_photos_of_one_pixel(detectors: dict[str, M2Det], scores: str, size: tuple[int, int]) -> None:
    detector = detectors[scores].train()
    pixels, frame = prepare(Image.new("RGB", size, "red"), detector.preprocessing)
    box = frame.to_input(torch.tensor([[0.0, 0.0, *map(float, size)]]))
    batch = Collate(detector.preprocessing)([(pixels, Target(box, torch.tensor([0])), frame)])
    losses = detector.losses(batch.images, batch.targets)
    assert all(value.isfinite() for value in losses.values())
    with torch.no_grad():
        found = detector.eval().decode(detector(batch.images), batch.frames, min_score=0.0)[0]
    assert len(found) > 0
    assert found.boxes.isfinite().all()
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] <= torch.tensor(size) + 1e-3).all()


# -- Settings, classes, learning ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prior", 0),
        ("frozen_stages", 6),
        ("planes", 100),
        ("base_channels", (64, 0)),
        ("scales", 2),
        ("scales", 5),  # of the six sizes, one is too many
        ("anchor_sizes", (0.1, 0.2)),
        ("anchor_ratios", (0,)),
        ("variant", "mine"),
        ("nms", "soft"),
        ("nms_sigma", 0),
        ("base_maps", "C5+C3"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match="anchor_sizes" if value == 5 else name):
        apply(M2DetSettings(), {name: value})


@pytest.mark.parametrize("scores", SCORES)
def test_classes_are_carried_over_by_name(scores: str) -> None:
    """Bowl and apple come over, in another order and beside a new class."""

    def outputs(detector: M2Det) -> list[Tensor]:
        """The biases of what gives classes: of six boxes at a place, or of any box."""
        if detector.classes is not None:
            return [detector.classes.output.bias[None]]
        return [head.bias.view(6, -1) for head in detector.class_heads]  # type: ignore[union-attr, operator]

    first = small(scores=scores)
    with torch.no_grad():
        for bias in outputs(first):
            bias.copy_(torch.arange(bias.numel()).view_as(bias))
    kept = pretrained.Weights(first.state_dict(), "a test", NAMES, "m2det", first.settings.model_dump())
    second = M2Det(["bowl", "pie", "apple"], first.settings)
    before = first.before
    assert put(kept, second).classes == ["bowl", "apple"]
    for theirs, mine in zip(outputs(first), outputs(second), strict=True):
        assert torch.equal(mine[:, before], theirs[:, before + 1])
        assert torch.equal(mine[:, before + 2], theirs[:, before])
        assert torch.equal(mine[:, :before], theirs[:, :before])


def test_the_page_says_what_the_code_gives() -> None:
    """The example and the tables of docs/m2det.md."""
    text = (Path(__file__).parents[2] / "docs" / "m2det.md").read_text(encoding="utf-8")

    def says(*words: str) -> None:
        for word in words:
            assert word in text, f"docs/m2det.md does not say {word!r}"

    settings = M2DetSettings()
    box = Frame(1280, 960, *settings.preprocessing.resized(1280, 960)).to_input(torch.tensor([[512.0, 256, 1024, 704]]))
    says("`{:.6g} {:.4g} {:.6g} {:.5g}`".format(*box[0].tolist()))
    for size in (320, 512, 800):
        says(f"| {size} px | " + " | ".join(f"{n} × {n}" for n in scale_sides(size // 8, 6)) + " |")

    anchors, start = M2Det.anchors_of(settings, 320, 320), 0
    for i, places in enumerate(scale_sides(40, 6)):
        square, between = (float(a[2] - a[0]) for a in anchors[start : start + 2])
        says(f"| {i + 1} | {places} × {places} | {square:.1f} | {between:.1f} | {6 * places**2:,} |")
        start += 6 * places**2
    says(f"A = {len(anchors):,}")

    overlap = iou(box, anchors)
    matched = match_default_boxes(overlap)
    found = int((matched >= 0).sum())
    says(f"{found} take the box and {len(anchors) - found:,} are background", f"here {3 * found}")
    for row, share in re.findall(r"^\| `([\d. ]+)` \| \d \| ([\d.]+) \| takes the box \|$", text, re.M):
        near = (anchors - torch.tensor([float(v) for v in row.split()])).abs().amax(1)
        assert float(near.min()) < 0.01
        assert f"{float(overlap[0, near.argmin()]):.3f}" == share
        assert matched[near.argmin()] == 0
    first = anchors[(anchors - torch.tensor([142.36, 110.36, 273.64, 241.64])).abs().amax(1).argmin()][None]
    deltas = encode_ssd(box, first)
    says("t = ({:.4f}, {:.4f}, {:.4f}, {:.4f})".format(*deltas[0].tolist()).replace("-", "−"))
    says(f"= {float(smooth_l1_loss(torch.zeros(1, 4), deltas, 1.0)):.3f}")

    losses = [-math.log(p) for p in (0.1, 0.98, 0.9, 0.6, 0.5, 0.3)]
    says(f"Together {losses[0] + sum(sorted(losses[1:])[-3:]):.3f}")
    with torch.device("meta"):
        code, paper = (M2Det(["x"] * 80, M2DetSettings(variant=v)) for v in ("released", "paper"))
    for words, part in (
        ("VGG-16", "backbone"),
        ("MLFPN", "mlfpn"),
        ("class heads", "class_heads"),
        ("box heads", "box_heads"),
    ):
        says(f"| {words} | " + " | ".join(f"{size_of(net.get_submodule(part)):,}" for net in (code, paper)) + " |")
    says(f"| all | {size_of(code):,} | {size_of(paper):,} |", f"{size_of(code.mlfpn.tums[1]):,} parameters")
    says(*(f"| `{preset}` |" for preset in M2Det.presets))


def size_of(module: torch.nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in module.parameters())


def test_soft_nms_leaves_nothing_under_the_threshold() -> None:
    """Two boxes nearly on each other: the second's score is lowered, under the threshold it goes."""
    detector = M2Det(["food"], M2DetSettings(**{**LIGHT, "preprocessing": Preprocessing(size=64, fit="stretch")}))
    anchors = torch.tensor([[10.0, 10, 50, 50], [11, 10, 51, 50]])
    logits = torch.tensor([[[2.0], [1.5]]])  # objectness of 0.88 and 0.82
    outputs = {"logits": logits, "deltas": torch.zeros(1, 2, 4), "anchors": anchors}
    low, high = (detector.decode(outputs, [Frame(64, 64, 64, 64)], min_score)[0] for min_score in (0.0, 0.3))
    assert len(low) == 2
    assert float(low.scores[1]) < 0.3
    assert high.scores.tolist() == low.scores[:1].tolist()


def test_default_boxes_end_with_the_inputs_own_sides() -> None:
    """Upright inputs, too, where rows and columns have steps of their own."""
    settings = M2DetSettings(preprocessing=Preprocessing(size=320, fit="longest"))
    last = M2Det.anchors_of(settings, 320, 192)[-6:]
    assert (last[:, 2:] - last[:, :2]).amax(0).tolist() == [192, 320]
    found = M2Det.anchors_of(settings, 320, 188)
    centre = (found[:, :2] + found[:, 2:]) / 2
    assert centre[0].tolist() == pytest.approx([188 / 24 / 2, 4.0], rel=1e-5)


def test_between_the_bounds_a_default_box_is_no_negative_either() -> None:
    boxes = torch.cat((APART[:1], torch.tensor([[0.0, 40.0, 20.0, 49.0]])))
    anchors = torch.cat((APART, torch.tensor([[0.0, 40.0, 20.0, 58.0]])))
    outputs, target = outputs_at(anchors, torch.zeros(1, 4, 4)), [Target(boxes, torch.tensor([0, 1]))]
    for low, counted in ((0.5, 4), (0.4, 3)):
        found = with_settings(small(scores="softmax"), match_low=low).losses_of(outputs, target)
        assert float(found["classes"]) == pytest.approx(counted * math.log(4) / 2)


def test_default_boxes_follow_maps_that_a_backbone_rounds_down() -> None:
    """VGG's pooling leaves 11 of 92 px places out that a stride of 8 begins."""
    settings = {"preprocessing": Preprocessing(size=92, fit="stretch", multiple=1), "backbone": "vgg11"}
    detector = M2Det(["food"], apply(M2DetSettings(**LIGHT), settings)).eval()
    with torch.no_grad():
        outputs = detector(torch.zeros(1, 3, 92, 92))
    assert outputs["logits"].shape[1] == len(outputs["anchors"]) != len(M2Det.anchors_of(detector.settings, 92, 92))
