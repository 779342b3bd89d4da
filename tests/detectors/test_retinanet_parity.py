"""RetinaNet against other implementations: torchvision's two models, and fizyr's keras-retinanet.

All are filled with random weights of such a spread that scores, boxes and losses vary as a trained model's do, and the
weights come over through the importers.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet as TorchvisionRetinaNet

from foodbox.detectors.base import Outputs
from foodbox.detectors.retinanet import RetinaNet
from foodbox.records import Frame, Target
from foodbox.weights import keras_retinanet, model_file, torchvision

CATEGORIES = torchvision.CATEGORIES
DROPPED = [i for i, name in enumerate(CATEGORIES) if name in ("__background__", "N/A")]
KEPT = [i for i in range(len(CATEGORIES)) if i not in DROPPED]
# Two photos of different shapes, as the network sees them (height, width), and the originals that they were made from.
SIZES = [(128, 192), (192, 128)]
ORIGINALS = [(256, 384), (288, 192)]
BATCH = (192, 192)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """The largest difference, as a share of the spread that the expected values have."""
    assert found.shape == expected.shape
    spread = float(expected.std())
    assert spread > 0
    assert float((found - expected).abs().max()) <= tolerance * spread


# -- torchvision ----------------------------------------------------------------------------------------------------


@dataclass
class Pair:
    """torchvision's model and ours with the same weights, and what both make of the same two photos."""

    theirs: TorchvisionRetinaNet
    images: ImageList
    head: dict[str, Tensor]
    levels: list[int]
    their_anchors: list[Tensor]
    ours: RetinaNet
    outputs: Outputs


def fill_torchvision(model: TorchvisionRetinaNet, eps: float | None) -> None:
    """Random weights under which the signal neither dies nor explodes, and scores reach from 0 to 1."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.05)
        elif isinstance(module, nn.BatchNorm2d):
            module.eps = module.eps if eps is None else eps
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.normal_(module.weight, 0.7, 0.1)
            nn.init.normal_(module.bias, std=0.1)
    classes, boxes = model.head.classification_head, model.head.regression_head
    features = list(model.backbone(torch.randn(1, 3, 128, 128)).values())
    classes.cls_logits.weight.mul_(1.5 / classes(features).std())
    boxes.bbox_reg.weight.mul_(0.4 / boxes(features).std())
    nn.init.normal_(classes.cls_logits.bias, -3, 0.3)
    # What the importer leaves out never shows in torchvision's detections either.
    places = classes.num_anchors
    classes.cls_logits.weight.view(places, len(CATEGORIES), -1)[:, DROPPED] = 0
    classes.cls_logits.bias.view(places, len(CATEGORIES))[:, DROPPED] = -20


def without_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published files hold frozen batch norms, which do not count batches."""
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


@pytest.fixture(scope="module", params=["v1", "v2"])
def pair(request: pytest.FixtureRequest) -> Pair:
    with torch.no_grad():
        torch.manual_seed(1)
        make = retinanet_resnet50_fpn if request.param == "v1" else retinanet_resnet50_fpn_v2
        theirs = make(
            weights=None, weights_backbone=None, num_classes=len(CATEGORIES), min_size=128, max_size=192
        ).eval()
        # torchvision sets the epsilon of its published first model's norms to 0.
        fill_torchvision(theirs, eps=0.0 if request.param == "v1" else None)
        photos = [torch.rand(3, *size) for size in SIZES]
        images, _ = theirs.transform(photos)
        assert images.image_sizes == SIZES
        features = list(theirs.backbone(images.tensors).values())

        ours = model_file.build(torchvision.convert(without_counters(theirs.state_dict()), "a test"))
        assert isinstance(ours, RetinaNet)
        assert ours.settings.tower_norm == ("group" if request.param == "v2" else "none")
        pixels = 255 * ours.mean.repeat(len(photos), 1, *BATCH)
        for image, photo in zip(pixels, photos, strict=True):
            image[:, : photo.shape[1], : photo.shape[2]] = photo * 255
        return Pair(
            theirs,
            images,
            theirs.head(features),
            [f.shape[-2] * f.shape[-1] * 9 for f in features],
            theirs.anchor_generator(images, features),
            ours,
            ours(pixels),
        )


def test_logits_and_offsets_are_torchvisions(pair: Pair) -> None:
    close(pair.outputs["logits"], pair.head["cls_logits"][..., KEPT])
    close(pair.outputs["deltas"], pair.head["bbox_regression"])


def test_anchors_are_torchvisions(pair: Pair) -> None:
    assert torch.equal(pair.outputs["anchors"], pair.their_anchors[0])
    assert pair.outputs["levels"].tolist() == pair.levels


@pytest.mark.parametrize("threshold", [0.05, 0.5])
def test_detections_are_torchvisions_box_by_box(pair: Pair, threshold: float) -> None:
    pair.theirs.score_thresh = threshold
    split = {name: list(values.split(pair.levels, dim=1)) for name, values in pair.head.items()}
    anchors = [list(a.split(pair.levels)) for a in pair.their_anchors]
    found = pair.theirs.postprocess_detections(split, anchors, SIZES)
    expected = pair.theirs.transform.postprocess(found, SIZES, ORIGINALS)
    frames = [Frame(w, h, size[1], size[0]) for (h, w), size in zip(ORIGINALS, SIZES, strict=True)]
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


@pytest.mark.parametrize("boxes", [(3, 2), (4, 0), (0, 0)])
def test_losses_are_torchvisions(pair: Pair, boxes: tuple[int, int]) -> None:
    """Averaged photo by photo, also where one has no box or none has."""
    targets, theirs = [], []
    for count, (height, width) in zip(boxes, SIZES, strict=True):
        corner = torch.rand(count, 2) * torch.tensor([width - 60, height - 60])
        box = torch.cat((corner, corner + 20 + torch.rand(count, 2) * 40), dim=1)
        labels = torch.randint(len(KEPT), (count,))
        targets.append(Target(box, labels))
        theirs.append({"boxes": box, "labels": torch.tensor(KEPT)[labels]})
    expected = pair.theirs.compute_loss(theirs, pair.head, pair.their_anchors)
    found = pair.ours.losses_of(pair.outputs, targets)
    assert float(found["classes"]) == pytest.approx(float(expected["classification"]), rel=1e-4)
    assert float(found["boxes"]) == pytest.approx(float(expected["bbox_regression"]), rel=1e-4, abs=1e-7)
    assert (float(found["boxes"]) > 0) is any(boxes)


# -- keras-retinanet ------------------------------------------------------------------------------------------------


@dataclass
class Keras:
    """What our network makes of the tensors and the image that keras-retinanet was given."""

    detector: RetinaNet
    outputs: Outputs
    expected: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def keras_values(keras_reference: dict[str, Any], fill: ModuleType) -> dict[str, np.ndarray]:
    seed, gain = keras_reference["seed"], keras_reference.get("gain", 1.0)
    return {path: fill.tensor(path, shape, seed, gain) for path, shape in keras_reference["state"].items()}


@pytest.fixture(scope="module")
def keras(
    keras_reference: dict[str, Any],
    keras_values: dict[str, np.ndarray],
    fill: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
) -> Keras:
    """By way of a file as Keras saves a model."""
    h5py = pytest.importorskip("h5py")
    path = tmp_path_factory.mktemp("keras") / "resnet50_3classes.h5"
    with h5py.File(path, "w") as file:
        for name, value in keras_values.items():
            file[f"model_weights/{name}"] = value
        file["optimizer_weights/training/Adam/iterations:0"] = 7
    detector = model_file.build(keras_retinanet.read(path))
    path.unlink()
    assert isinstance(detector, RetinaNet)
    # The image is preprocessed already, and its channels are blue, green, red, which the importer turned round.
    detector.mean.zero_()
    detector.std.fill_(1 / 255)
    image = torch.from_numpy(fill.image(*keras_reference["input"], seed=keras_reference["seed"])).flip(1)
    with torch.no_grad():
        return Keras(detector, detector(image), keras_reference["outputs"])


def close_to_sample(found: Tensor, expected: dict[str, Any], fill: ModuleType) -> None:
    array = found.double().numpy()
    assert list(array.shape) == expected["shape"]
    spread = expected["std"]
    np.testing.assert_allclose(fill.sample(array), expected["sample"], rtol=0, atol=1e-4 * spread)
    assert array.mean() == pytest.approx(expected["mean"], abs=1e-4 * spread)
    assert array.std() == pytest.approx(spread, rel=1e-4)


def test_the_network_is_keras_retinanets(keras: Keras, fill: ModuleType) -> None:
    close_to_sample(keras.outputs["logits"].sigmoid(), keras.expected["classification"], fill)
    close_to_sample(keras.outputs["deltas"], keras.expected["regression"], fill)
    close_to_sample(keras.outputs["anchors"], keras.expected["anchors"], fill)


def test_a_file_of_weights_alone_is_read_the_same(keras: Keras, keras_values: dict[str, np.ndarray]) -> None:
    """Without the group "model_weights" that a file of a whole model has."""
    state = keras.detector.state_dict()
    tensors = keras_retinanet.convert(keras_values, "a test").tensors
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], state[name]) for name in state)


def test_decoded_boxes_are_keras_retinanets(keras: Keras, fill: ModuleType) -> None:
    """Every anchor's box, by decoding without threshold, suppression or border."""
    everything = {"candidates": 10**6, "nms_iou": 1.0, "max_detections": 10**6, "score_threshold": 0.0}
    small = {"backbone": "resnet18", "pyramid_channels": 8}  # its own network is not asked
    decoder = RetinaNet(["all"], keras.detector.settings.model_copy(update=everything | small))
    anchors = len(keras.outputs["anchors"])
    # One class, whose scores fall from anchor to anchor, so that boxes come out in the order of the anchors; moved far
    # from the border, which would cut them off.
    outputs = keras.outputs | {
        "logits": torch.linspace(8, -8, anchors).view(1, anchors, 1),
        "anchors": keras.outputs["anchors"] + 4096,
    }
    found = decoder.decode(outputs, [Frame(10**4, 10**4, 10**4, 10**4)])[0]
    close_to_sample((found.boxes - 4096)[None], keras.expected["boxes"], fill)


def test_the_imported_settings_are_keras_retinanets(keras: Keras) -> None:
    """As its README and losses.py say: smooth L1 with sigma 3, no best anchor below IoU 0.5, 800 px, "caffe" pixels."""
    settings = keras.detector.settings
    assert settings.smooth_l1_beta == pytest.approx(1 / 9)
    assert (settings.match_high, settings.match_low, settings.match_best) == (0.5, 0.4, False)
    assert (settings.preprocessing.size, settings.preprocessing.max_size) == (800, 1333)
    black = RetinaNet(["all"], settings.model_copy(update={"backbone": "resnet18"})).normalise(torch.zeros(1, 3, 1, 1))
    torch.testing.assert_close(black.flatten(), torch.tensor([-123.68, -116.779, -103.939]))
    assert keras.detector.names == ["0", "1", "2"]
