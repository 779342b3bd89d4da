"""R-CNN's own behaviour: warping, sampling, the last fits, detection by hand, and what its settings allow."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms

import foodbox
from foodbox.configure import apply, build
from foodbox.data import proposals, tables
from foodbox.data.formats import FORMATS
from foodbox.detectors.rcnn import RCNN, RCNNSettings
from foodbox.errors import FoodboxError, UsageError
from foodbox.ops.boxes import iou
from foodbox.ops.coding import encode_centre
from foodbox.records import Batch, Dataset, Frame, Target
from foodbox.training.step import TrainStep
from foodbox.weights.model_file import read_model
from tests.conftest import NAMES
from tests.detectors.test_all import grid

FRAME = Frame(64, 64, 64, 64)


def small(**changes: Any) -> RCNN:
    settings = build(RCNNSettings, RCNN.presets["light"])
    return RCNN(NAMES, apply(settings, {"size": 64, "crop_size": 32, "context": 4, "width": 16} | changes))


@pytest.fixture(scope="module")
def light() -> RCNN:
    return small().eval()


class Means(torch.nn.Module):
    """A backbone whose one map is the mean colour of each crop's middle, spread to a chosen width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, crops: Tensor) -> list[Tensor]:
        means = crops[..., 8:-8, 8:-8].mean((2, 3))  # [N, 3]
        return [F.pad(means, (0, self.width - 3))[..., None, None]]


def seeing_colours(**changes: Any) -> RCNN:
    """R-CNN whose features are the region's mean colour: red, green, blue, and nothing else."""
    detector = small(**changes)
    detector.backbone = Means(detector.backbone.channels[-1])  # type: ignore[assignment]
    detector.linear = torch.nn.Sequential(Narrow())
    return detector


class Narrow(torch.nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features[:, :16]


# -- Warping: appendix A --------------------------------------------------------------------------------------------


def test_a_region_is_stretched_to_the_square_with_context_around() -> None:
    """By hand: 16 px of a square of 32 show the region, so its 8 x 4 px are shown with 4 and 2 px around."""
    detector = small(context=8)
    x, y = torch.meshgrid(torch.arange(40.0), torch.arange(30.0), indexing="xy")
    image = torch.stack((x, y, x + y))[None]
    crop = detector.warp(image, torch.tensor([[10.0, 12, 18, 16]]), torch.tensor([0]))[0]
    assert crop.shape == (3, 32, 32)
    # 32 px across show 16 px of the photo from 6 on: pixel i shows 6 + (i + 0.5) / 2, whose value is half a px less.
    expected_x = 6 + (torch.arange(32) + 0.5) / 2 - 0.5
    expected_y = 10 + (torch.arange(32) + 0.5) / 4 - 0.5
    torch.testing.assert_close(crop[0], expected_x.expand(32, 32))
    torch.testing.assert_close(crop[1], expected_y[:, None].expand(32, 32))


def test_a_large_region_is_averaged_as_interpolation_with_antialias() -> None:
    """A checkerboard of single pixels that shrinks 4 times is grey everywhere, and is not seen in stripes."""
    detector = small(context=0)
    x, y = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="xy")
    image = ((x + y) % 2).float().expand(1, 3, -1, -1)
    crop = detector.warp(image, torch.tensor([[0.0, 0, 128, 128]]), torch.tensor([0]))
    torch.testing.assert_close(crop, torch.full_like(crop, 0.5))


def test_beyond_the_photo_is_its_mean() -> None:
    detector = small(context=8)
    crop = detector.warp(torch.full((1, 3, 20, 20), 7.0), torch.tensor([[0.0, 0, 20, 20]]), torch.tensor([0]))[0, 0]
    assert (crop[8:24, 8:24] == 7).all()
    assert (crop[:6] == 0).all()
    assert (crop[:, -6:] == 0).all()


def test_regions_are_cut_from_their_own_photo() -> None:
    detector = small(context=0)
    images = torch.stack((torch.zeros(3, 20, 20), torch.ones(3, 20, 20)))
    crops = detector.warp(images, torch.tensor([[2.0, 2, 18, 18]] * 3), torch.tensor([1, 0, 1]))
    assert crops.mean((1, 2, 3)).tolist() == [1, 0, 1]


def test_parts_at_once_change_nothing(light: RCNN) -> None:
    images, regions = torch.rand(2, 3, 64, 64), grid(64, 64).repeat(2, 1)
    photo = torch.arange(2).repeat_interleave(14)
    with torch.no_grad():
        whole = light.features(images, regions, photo)
        few = copy.copy(light)
        few.settings = light.settings.model_copy(update={"at_once": 5})
        parts = few.features_in_parts(images, regions, photo)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


# -- Detection: section 2.2 -----------------------------------------------------------------------------------------


def test_detections_are_those_of_nms_class_by_class(light: RCNN) -> None:
    regions = torch.rand(1, 40, 4).mul(30)
    regions[..., 2:] += regions[..., :2] + 3
    images = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        outputs = light(images, regions)
    found = light.decode(outputs, [FRAME], min_score=0.0)[0]
    _, last = light.features(light.normalise(images), regions[0], torch.zeros(40).long())
    scores = light.classes(last).softmax(-1)[:, 1:]
    for k in range(3):
        kept = nms(regions[0], scores[:, k], 0.3)
        mine = found.labels == k
        torch.testing.assert_close(found.boxes[mine], regions[0][kept].clamp(max=64), rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found.scores[mine], scores[kept, k], rtol=1e-4, atol=1e-5)


def test_detection_by_hand() -> None:
    """SVMs and regressors as given: scores by the sigmoid, boxes moved by a tenth of their width."""
    detector = seeing_colours().eval()
    detector.svms.weight[0, 0] = 1.0  # red
    detector.svms.bias[0] = -0.5
    detector.svms.slope[0], detector.svms.offset[0], detector.svms.fitted[0] = 2.0, 0.25, 1.0
    detector.regressors.bias[0] = 0.1  # t_x of class 0
    images = torch.full((1, 3, 64, 64), 127.5)
    image = detector.normalise(images)[0, :, 0, 0]
    regions = torch.tensor([[[10.0, 20, 30, 30], [0, 0, 0, 0]]])
    with torch.no_grad():
        outputs = detector(images, regions)
    chance = torch.sigmoid(2 * (image[0] - 0.5) + 0.25)
    assert float(outputs["region_scores"][0, 0, 0]) == pytest.approx(float(chance), rel=1e-4)
    assert outputs["region_boxes"][0, 0, 0].tolist() == pytest.approx([12, 20, 32, 30])
    assert outputs["region_boxes"][0, 0, 1].tolist() == pytest.approx([10, 20, 30, 30])
    assert (outputs["region_scores"][0, 1] == -1).all()
    softmax = copy.copy(detector)
    softmax.settings = detector.settings.model_copy(update={"classifier": "softmax"})
    with torch.no_grad():
        theirs = softmax(images, regions)["region_scores"]
    assert theirs[0, 0, 0] != outputs["region_scores"][0, 0, 0]
    torch.testing.assert_close(theirs[0, 0, 1:], outputs["region_scores"][0, 0, 1:])  # of classes without an SVM


@pytest.mark.parametrize("regions", [torch.zeros(2, 0, 4), torch.zeros(2, 3, 4)], ids=["none", "zero boxes"])
def test_without_regions_nothing_is_found_and_training_goes_on(light: RCNN, regions: Tensor) -> None:
    pixels = torch.rand(2, 3, 64, 64) * 255
    with torch.no_grad():
        found = light.decode(light(pixels, regions), [FRAME] * 2, min_score=0.0)
    assert [len(d) for d in found] == [0, 0]
    for target in (Target(), Target(torch.tensor([[5.0, 5, 40, 40]]), torch.tensor([0]))):
        losses = light.losses(pixels, [target, Target()], regions)
        assert all(value.isfinite() for value in losses.values())
        torch.stack(list(losses.values())).sum().backward()


# -- Fine-tuning: section 2.3 ---------------------------------------------------------------------------------------


def test_the_loss_is_the_log_loss_of_what_the_regions_are() -> None:
    """By hand: logits that are all 0 but one: a quarter of four regions is positive, as many as there are boxes."""
    detector = small(regions_per_photo=4).eval()
    torch.nn.init.zeros_(detector.classes.weight)
    detector.classes.bias.data = torch.tensor([2.0, 0.0, 0.0, 0.0])
    target = Target(torch.tensor([[0.0, 0, 30, 30]]), torch.tensor([2]))
    found = detector.losses(torch.zeros(1, 3, 64, 64), [target], grid(64, 64)[None])
    total = math.log(math.exp(2) + 3)
    assert found["classes"].item() == pytest.approx((3 * (total - 2) + total) / 4)


def test_training_forgets_what_was_fitted_last() -> None:
    detector = small()
    detector.svms.fitted.fill_(1.0)
    detector.regressors.bias.fill_(0.1)
    inputs = torch.rand(1, 3, 64, 64), [Target()], grid(64, 64)[None]
    detector.eval().losses(*inputs)
    assert detector.svms.fitted.all()
    detector.train().losses(*inputs)
    assert not detector.svms.fitted.any()
    assert not detector.regressors.bias.any()


# -- The last fits --------------------------------------------------------------------------------------------------


def coloured(count: int = 12) -> list[Batch]:
    """Photos of a red, a green or a blue square on grey, with regions on and beside it, some moved to the right."""
    batches = []
    for i in range(count):
        torch.manual_seed(i)
        box = (torch.rand(2) * 28).repeat(2) + torch.tensor([0.0, 0, 24, 24])
        x1, y1, x2, y2 = box.round().long().tolist()
        images = torch.full((1, 3, 64, 64), 128.0)
        images[0, :, y1:y2, x1:x2] = 255.0 * torch.eye(3)[i % 3][:, None, None]
        moved = box + torch.tensor([3.0, 0, 3, 0])
        regions = torch.cat((torch.stack((moved, box)), grid(64, 64)))[None]
        batches.append(Batch(images, [Target(box[None], torch.tensor([i % 3]))], [FRAME], regions))
    return batches


def test_the_last_fits_tell_classes_apart_and_move_boxes() -> None:
    """Features are colours. SVMs know the colours; a regression of few samples shrinks, and still moves to the left."""
    detector = seeing_colours().eval()
    batches = coloured()
    before = [detector.decode(detector(*b.inputs), b.frames, 0.0)[0] for b in batches]
    detector.finish(iter(batches))
    assert detector.svms.fitted.tolist() == [1, 1, 1]
    for i, batch in enumerate(batches):
        outputs = detector(*batch.inputs)
        on, beside = outputs["region_scores"][0, 1], outputs["region_scores"][0, 8]
        assert int(on.argmax()) == i % 3
        assert on.max() > beside.max()
        assert ((on >= 0) & (on <= 1)).all()
    offsets = detector.regressors(torch.zeros(1, detector.regressors.weight.shape[1]))[0]
    assert (offsets[:, 0] < 0).all()
    assert len(before) == len(batches)


def test_what_the_box_regressors_learn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Appendix C: regions that overlap a box by more than 0.6, and what leads from each to the box."""
    detector = seeing_colours().eval()
    seen: list[tuple[Tensor, ...]] = []
    monkeypatch.setattr(detector.regressors, "fit", lambda *rows: seen.append(rows))
    batches = coloured(2)
    detector.finish(iter(batches))
    ((features, offsets, labels),) = seen
    regions = torch.cat([b.proposals[0] for b in batches])  # type: ignore[index]
    overlaps = torch.cat([iou(b.targets[0].boxes, b.proposals[0])[0] for b in batches])  # type: ignore[index]
    truth = torch.cat([b.targets[0].boxes.expand(16, -1) for b in batches])
    near = overlaps > 0.6
    assert near.sum() >= 4
    torch.testing.assert_close(offsets, encode_centre(truth, regions)[near])
    assert labels.tolist() == [i // 16 for i in near.nonzero().flatten().tolist()]
    assert features.shape == (int(near.sum()), detector.regressors.weight.shape[1])


@pytest.mark.parametrize("regions", [None, torch.zeros(1, 0, 4), grid(64, 64)[None]], ids=["no", "empty", "no boxes"])
def test_with_nothing_to_fit_on_nothing_is_fitted(regions: Tensor | None) -> None:
    detector = small().eval()
    batch = Batch(torch.zeros(1, 3, 64, 64), [Target()], [FRAME], regions)
    detector.finish(iter([batch] if regions is not None else []))
    assert not detector.svms.fitted.any()
    assert not detector.regressors.weight.any()


def test_softmax_needs_no_svms() -> None:
    detector = seeing_colours(classifier="softmax").eval()
    detector.finish(iter(coloured()))
    assert not detector.svms.fitted.any()
    assert detector.regressors.bias.any()


# -- A whole run ----------------------------------------------------------------------------------------------------


QUICK: dict[str, Any] = {
    "detector": "rcnn", "batch_size": 4, "workers": 0, "size": 96, "precision": "float32", "valid_share": 0.25,
    "crop_size": 32, "context": 4, "width": 16, "proposals": 20, "search_size": 64, "regions_per_photo": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    FORMATS["voc"].write(Dataset(tables.write_tables(folder, 8, seed=5, workers=1), tables.NAMES), folder)
    return folder


def test_a_run_fits_last_before_its_last_scores_and_goes_on_where_it_was(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in its last epoch and gone on with, it ends as one that was never stopped, to the bit."""
    whole = foodbox.train(photos, runs=tmp_path, name="whole", epochs=2, **QUICK)
    last = read_model(whole.folder / "last" / "model.safetensors").tensors
    assert last["svms.fitted"].any()
    assert last["regressors.bias"].any()

    forward, calls = TrainStep.forward, []

    def stopping(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return forward(self, *arguments)

    monkeypatch.setattr(TrainStep, "forward", stopping)
    stopped = foodbox.train(photos, runs=tmp_path, name="stopped", epochs=2, **QUICK)
    assert stopped.interrupted
    first = read_model(stopped.folder / "last" / "model.safetensors").tensors
    assert not first["svms.fitted"].any()
    monkeypatch.undo()
    foodbox.resume(stopped.folder)
    again = read_model(stopped.folder / "last" / "model.safetensors").tensors
    assert all(torch.equal(again[name], last[name]) for name in last)

    model = foodbox.load(whole.folder / "last" / "model.safetensors")
    photo = sorted(photos.rglob("*.jpg"))[0]
    one = model.detect(photo, min_score=0.0)
    (other,) = foodbox.detect(model, [photo], min_score=0.0)[0]
    assert one.rows() == other.rows()
    assert len(one) > 0


def test_a_picture_in_memory_is_searched_too(photos: Path, tmp_path: Path) -> None:
    from foodbox.data.images import open_photo
    from foodbox.model import Model

    torch.manual_seed(0)
    model = Model(small().eval(), {}, "cpu")
    picture = open_photo(sorted(photos.rglob("*.jpg"))[0])
    assert len(model.detect(picture, min_score=0.0)) > 0


def test_without_the_libraries_nothing_is_read(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = proposals.importlib.util.find_spec
    monkeypatch.setattr(proposals.importlib.util, "find_spec", lambda name: None if name == "cv2" else known(name))
    with pytest.raises(FoodboxError, match=r'pip install "foodbox\[regions\]"'):
        foodbox.train(tmp_path / "no such folder", runs=tmp_path, detector="fast_rcnn")


# -- Settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crop_size", 100), ("context", 112), ("layers", 0), ("classifier", "tree"), ("at_once", 0), ("nms_iou", 2),
        ("regions_per_photo", 0), ("positives", 0), ("match_iou", 0), ("svm_negative_iou", 2), ("search_size", 4000),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        apply(RCNNSettings(), {name: value})
