"""What every detector must bear, with its light preset: no boxes, tiny photos, other classes, its model file.

A detector joins by being in the dictionary.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from foodbox.configure import apply, build
from foodbox.data.images import prepare
from foodbox.data.loader import Collate
from foodbox.detections import Detections
from foodbox.detectors import DETECTORS
from foodbox.detectors.base import BACKBONE, Detector
from foodbox.inference.kernels import Kernels
from foodbox.records import Batch, Frame, KeptMaps, Target
from foodbox.weights import model_file
from foodbox.weights.transfer import Weights, put

NAMES = ["apple", "bowl", "cake"]
Photos = list[tuple[tuple[int, int], list[list[float]]]]
"""Width and height of each, and boxes in its pixels."""

SIDE = 64
"""Of the inputs in pixels: enough for every stride, and fast."""


def light(name: str, names: list[str]) -> Detector:
    """A detector of the first preset for small photos, its norms as after some training."""
    kind = DETECTORS[name]
    settings = build(kind.Settings, next(iter(kind.presets.values())))
    detector = kind(names, apply(settings, {"size": SIDE}))
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return detector


@pytest.fixture(params=DETECTORS)
def detector(request: pytest.FixtureRequest) -> Detector:
    return light(request.param, NAMES)


def batch_of(detector: Detector, photos: Photos) -> Batch:
    """A batch of one-coloured photos, with labels 0, 1, 2 ..."""
    items = []
    for i, (size, boxes) in enumerate(photos):
        image = Image.new("RGB", size, ("red", "green", "blue")[i % 3])
        pixels, frame = prepare(image, detector.preprocessing)
        target = frame.to_input(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        masks = filled(target, frame) if detector.needs_masks else None
        target = Target(target, torch.arange(len(boxes)) % len(detector.names), masks)
        sides = frame.input_width, frame.input_height
        items.append((pixels, target, frame, *([grid(*sides)] if detector.needs_proposals else [])))
    return Collate(detector.preprocessing)(items)


def grid(width: int, height: int) -> Tensor:
    """Regions [14, 4] of an input of width x height: the whole, its quarters and its ninths."""
    parts = [(n, x, y) for n in (1, 2, 3) for x in range(n) for y in range(n)]
    boxes = torch.tensor([[x / n, y / n, (x + 1) / n, (y + 1) / n] for n, x, y in parts])
    return boxes * torch.tensor([width, height, width, height])


def inputs_of(detector: Detector, pixels: Tensor) -> tuple[Tensor, ...]:
    """Pixels [B, 3, H, W], and regions where the detector gets them from outside."""
    regions = grid(pixels.shape[3], pixels.shape[2]).expand(len(pixels), -1, -1)
    return (pixels, regions) if detector.needs_proposals else (pixels,)


def filled(boxes: Tensor, frame: Frame) -> Tensor:
    """Masks bool [N, H, W] that fill their boxes [N, 4]: every pixel whose middle lies in it."""
    masks = torch.zeros(len(boxes), frame.input_height, frame.input_width, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.round().long().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    return masks


BATCHES: dict[str, Photos] = {
    "boxes": [((90, 60), [[10, 10, 50, 50]]), ((60, 90), [[5, 5, 55, 80], [20, 30, 40, 50]])],
    "a photo without boxes": [((90, 60), []), ((60, 90), [[5, 5, 55, 80]])],
    "no boxes": [((90, 60), []), ((60, 90), [])],
    "one photo": [((90, 60), [[10, 10, 50, 50], [10, 10, 50, 50]])],
    "a box of the whole photo": [((90, 60), [[0, 0, 90, 60]])],
    "a tiny box": [((90, 60), [[30, 30, 30.2, 30.2]])],
    "one pixel": [((1, 1), [[0, 0, 1, 1]])],
    "one pixel without boxes": [((1, 1), [])],
    "a line of pixels": [((1, 400), [[0, 20, 1, 200]]), ((400, 1), [[20, 0, 200, 1]])],
}


@pytest.mark.parametrize("photos", BATCHES.values(), ids=BATCHES)
def test_losses_are_finite_and_train(detector: Detector, photos: Photos) -> None:
    batch = batch_of(detector.train(), photos)
    losses = detector.losses(batch.images, batch.targets, *batch.inputs[1:])
    assert losses
    assert all(value.ndim == 0 and value.isfinite() and value >= 0 for value in losses.values()), losses
    torch.stack(list(losses.values())).sum().backward()
    gradients = [p.grad for p in detector.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    if any(boxes for _, boxes in photos):
        assert any(gradient.any() for gradient in gradients)


def check(found: Detections, names: list[str], size: tuple[int, int]) -> None:
    """Detections keep the contract: inside the photo, no empty box, best first."""
    assert found.boxes.shape == (len(found), 4)
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert found.labels.dtype == torch.int64
    assert found.names == names
    assert (found.width, found.height) == size
    assert found.boxes.isfinite().all()
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] <= torch.tensor(size) + 1e-3).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert ((found.labels >= 0) & (found.labels < len(names))).all()


@pytest.mark.parametrize("photos", BATCHES.values(), ids=BATCHES)
def test_detections_are_whole_or_none(detector: Detector, photos: Photos) -> None:
    """All that a threshold of 0 lets through, and nothing at a threshold that nothing reaches."""
    batch = batch_of(detector.eval(), photos)
    with torch.no_grad():
        outputs = detector(*batch.inputs)
    every, none = detector.decode(outputs, batch.frames, min_score=0.0), detector.decode(outputs, batch.frames, 1.0)
    assert [len(found) for found in none] == [0] * len(photos)
    for found, nothing, (size, _) in zip(every, none, photos, strict=True):
        assert len(found) > 0
        check(found, NAMES, size)
        check(nothing, NAMES, size)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("fit", ["longest", "letterbox"])
def test_boxes_that_the_photos_border_makes_alike_are_found_once(name: str, fit: str) -> None:
    """Beyond a wide photo lies padding, or a letterbox's bars: boxes may differ there alone, and NMS must see it."""
    detector = light(name, NAMES)
    settings = apply(detector.settings, {"fit": fit})
    frame = settings.preprocessing.frame(640, 320)
    top = 16.0 if fit == "letterbox" else 0.0
    boxes = torch.tensor([[0.0, top + 24, 30, top + 48], [0.0, top + 24, 30, top + 32], [40.0, top, 60, top + 20]])
    found = {"boxes": boxes[None], "scores": torch.tensor([[0.9, 0.8, 0.7]]), "labels": torch.zeros(1, 3).long()}
    if detector.needs_masks:
        found["masks"] = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1).expand(1, 3, 28, 28)
    one = detector.decode(found, [frame], 0.0)[0]
    expected = torch.tensor([[0.0, 240, 300, 320], [400.0, 0, 600, 200]])
    if len(one) == 3:  # soft-NMS lowers scores and drops none
        assert name == "m2det"
        assert one.scores.min() < 0.7
        return
    torch.testing.assert_close(one.boxes, expected, rtol=0, atol=1e-3)
    assert one.scores.tolist() == pytest.approx([0.9, 0.7])
    if one.masks is not None:
        assert one.masks[:, 0, 0].tolist() == pytest.approx([0.1, 0.3])


def test_a_photos_outputs_do_not_depend_on_the_batch(detector: Detector) -> None:
    batch = batch_of(detector.eval(), [((90, 90), []), ((90, 90), []), ((90, 90), [])])
    with torch.no_grad():
        together, alone = detector(*batch.inputs), detector(*(part[1:2] for part in batch.inputs))
    for name, value in together.items():
        if value.shape[:1] == (3,) and alone[name].shape[:1] == (1,):
            torch.testing.assert_close(value[1:2], alone[name], rtol=1e-3, atol=1e-4)


def losses_of(detector: Detector, batch: Batch) -> dict[str, Tensor]:
    """The losses with the same lots, by which some detectors draw what they look at."""
    torch.manual_seed(0)
    return detector.losses(batch.images, batch.targets, *batch.inputs[1:])


def test_kept_maps_give_what_pixels_give(detector: Detector) -> None:
    """A frozen backbone's maps in the images' place, for the outputs and for the losses."""
    if not detector.has_maps:
        pytest.skip("its backbone looks at regions, not at photos")
    batch = batch_of(detector.eval(), BATCHES["boxes"])
    images, *regions = batch.inputs
    with torch.no_grad():
        kept = KeptMaps(detector.backbone_maps(images), *images.shape[2:])
        assert kept.shape == images.shape
        pixels, maps = detector(images, *regions), detector(kept, *regions)
    assert pixels.keys() == maps.keys()
    assert all(torch.equal(pixels[name], maps[name]) for name in pixels)
    if getattr(detector.backbone, "resumes", False):  # the last map is made of the one before
        with torch.no_grad():
            resumed = detector(KeptMaps(kept.maps[:-1], *images.shape[2:]), *regions)
        assert all(torch.equal(pixels[name], resumed[name]) for name in pixels)
    found = []
    for source in (images, kept):
        torch.manual_seed(0)  # for the regions and anchors that some draw at random
        found.append(detector.losses(source, batch.targets, *regions))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_losses_do_not_depend_on_the_order_of_photos(detector: Detector) -> None:
    photos = BATCHES["a photo without boxes"]
    one, other = (batch_of(detector.eval(), order) for order in (photos, photos[::-1]))
    one.images[[0, 1]] = other.images[[1, 0]]  # the colours are drawn by place
    first, second = (losses_of(detector, batch) for batch in (one, other))
    for name, value in first.items():
        assert value.item() == pytest.approx(second[name].item(), rel=1e-3, abs=1e-5)


def test_torchs_own_depthwise_convolutions_change_nothing(detector: Detector) -> None:
    """As a GPU gets them for shapes that came some hundred times."""
    batch = batch_of(detector.eval(), BATCHES["boxes"])
    found = []
    for level in (1, 2):
        with Kernels.chosen(level):
            losses = losses_of(detector, batch)
            with torch.no_grad():
                found.append(losses | detector(*batch.inputs))
    torch.testing.assert_close(*found)


def test_a_saved_model_gives_the_same_outputs_to_the_bit(detector: Detector, tmp_path: Path) -> None:
    model_file.save_model(tmp_path / "model.safetensors", detector.eval(), {})
    loaded = model_file.build(model_file.read_model(tmp_path / "model.safetensors"))
    assert type(loaded) is type(detector)
    assert loaded.settings == detector.settings
    assert loaded.names == NAMES
    pixels = torch.randint(256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    with torch.no_grad():
        one, other = (one(*inputs_of(detector, pixels)) for one in (detector, loaded))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("names", [["cake", "apple", "bowl"], ["cake"], ["egg", "cake", "fig", "apple"]])
def test_classes_are_carried_over_by_name(name: str, names: list[str]) -> None:
    """In another order, a part of them, and among new ones: their entries, and what stands before them."""
    given, mine = light(name, NAMES), light(name, names)
    source = {key: tensor.clone() for key, tensor in given.state_dict().items()}
    result = put(Weights(source, "a test", NAMES, name), mine)
    after = mine.state_dict()
    assert mine.class_rows
    told = mine.class_rows.keys() & after.keys()  # an objectness needs no telling apart of one class
    assert told or (len(names) == 1 and getattr(mine.settings, "scores", "") == "objectness")
    assert result.classes == [n for n in names if n in NAMES and told]
    for key, tensor in after.items():
        if key not in mine.class_rows:
            assert key.endswith("num_batches_tracked") or torch.equal(tensor, source[key]), key
            continue
        places, before = mine.class_rows[key]
        got, had = rows(tensor, places, before, names), rows(source[key], places, before, NAMES)
        assert torch.equal(got[:, :before], had[:, :before])
        for label in result.classes:
            assert torch.equal(got[:, before + names.index(label)], had[:, before + NAMES.index(label)])


def rows(tensor: Tensor, places: int, before: int, names: list[str]) -> Tensor:
    return tensor.reshape(places, before + len(names), *tensor.shape[1:])


@pytest.mark.parametrize("name", DETECTORS)
def test_the_pretrained_part_is_named(name: str) -> None:
    """The prefix is that of some parameters, and not of all."""
    detector = light(name, NAMES)
    names = [n for n, _ in detector.named_parameters()]
    assert 0 < sum(n.startswith(BACKBONE) for n in names) < len(names)


@pytest.mark.parametrize(
    ("name", "preset"), [(name, preset) for name, kind in DETECTORS.items() for preset in kind.presets]
)
def test_presets_are_settings(name: str, preset: str) -> None:
    """Each value is what the preset says, checked as settings are."""
    kind = DETECTORS[name]
    changes = kind.presets[preset]
    settings = build(kind.Settings, changes)
    assert {key: getattr(settings, key) for key in changes} == changes


@pytest.mark.parametrize("name", DETECTORS)
def test_presets_can_be_built(name: str) -> None:
    """All of them, without memory for their weights."""
    kind = DETECTORS[name]
    for values in kind.presets.values():
        with torch.device("meta"):
            assert sum(p.numel() for p in kind(["food"], build(kind.Settings, values)).parameters()) > 0


@pytest.mark.parametrize("bad", [[200.0, 200, 240, 240], [90.0, 90, 10, 10], [40.0, 10, 10, 40], [10.0, 10, 10, 40]])
def test_boxes_that_are_none_are_not_detected(bad: list[float]) -> None:
    """In the input's padding, or with corners exchanged, which a wild network's deltas make, or without an area."""
    detector = light("retinanet", NAMES)
    boxes, scores = torch.tensor([[bad, [10.0, 10, 40, 40]]]), torch.tensor([[0.9, 0.8]])
    labels = torch.tensor([[0, 1]])
    found = detector.select(scores, labels, boxes, [Frame(100, 100, 100, 100)], 0.5)[0]
    assert found.boxes.tolist() == [[10, 10, 40, 40]]
    assert found.labels.tolist() == [1]
