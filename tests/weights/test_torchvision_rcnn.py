"""torchvision's Faster and Mask R-CNNs: names and categories, what is downloaded, files that are refused.

Their outputs are compared in tests/detectors/test_faster_rcnn_parity.py and test_mask_rcnn_parity.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large

from foodbox.configure import apply, build
from foodbox.detectors import DETECTORS
from foodbox.errors import FoodboxError, UsageError
from foodbox.weights import model_file, pretrained, torchvision_rcnn, torchvision_ssd
from foodbox.weights.transfer import put
from tests.weights.test_torchvision_ssd import filled

MODELS = list(torchvision_rcnn.COCO)
OLD = [("faster_rcnn", "torchvision"), ("mask_rcnn", "torchvision")]
FILES = {
    ("faster_rcnn", "torchvision"): "fasterrcnn_resnet50_fpn_coco-258fb6c6",
    ("faster_rcnn", "torchvision_v2"): "fasterrcnn_resnet50_fpn_v2_coco-dd69338a",
    ("faster_rcnn", "mobilenet_v3"): "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7",
    ("faster_rcnn", "mobilenet_v3_320"): "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9",
    ("mask_rcnn", "torchvision"): "maskrcnn_resnet50_fpn_coco-bf2d0c1e",
    ("mask_rcnn", "torchvision_v2"): "maskrcnn_resnet50_fpn_v2_coco-73cbd019",
}
"""As torchvision's documentation names them."""


def state_of(model: tuple[str, str], categories: int = 91) -> dict[str, Tensor]:
    """A checkpoint whose class rows count categories, and whose boxes' rows count coordinates besides."""
    with torch.device("meta"):
        state = filled(torchvision_rcnn.MAKERS[model](weights=None, weights_backbone=None, num_classes=categories))
    numbers = torch.arange(categories, dtype=torch.float32)
    by_coordinate = (numbers[:, None] + torch.arange(4) / 10).flatten()
    rows = {"roi_heads.box_predictor.cls_score": numbers, "roi_heads.box_predictor.bbox_pred": by_coordinate}
    if model[0] == "mask_rcnn":
        rows["roi_heads.mask_predictor.mask_fcn_logits"] = numbers
    for name, values in rows.items():
        state[f"{name}.bias"] = values
        weight = state[f"{name}.weight"]
        state[f"{name}.weight"] = values.view(-1, *[1] * (weight.ndim - 1)).expand_as(weight)
    return state


def as_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first models' names of 2019, before a unit was a sequence of its own; their norms count no batches."""
    old = [
        (r"(backbone\.fpn\.\w+_blocks\.\d)\.0\.", r"\1."),
        (r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv."),
        (r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}."),
    ]
    renamed = {}
    for name, tensor in state.items():
        for pattern, theirs in old:
            name = re.sub(pattern, theirs, name)  # type: ignore[call-overload]
        renamed[name] = tensor
    return {name: tensor for name, tensor in renamed.items() if not name.endswith("num_batches_tracked")}


def saved(state: dict[str, Tensor], path: Path) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize("model", MODELS, ids=FILES.values())
def test_a_checkpoint_fills_the_whole_detector(model: tuple[str, str], tmp_path: Path) -> None:
    """Every tensor of the file is used, each once."""
    state = state_of(model)
    weights = pretrained.read(saved(state, tmp_path / f"{FILES[model]}.pth"))
    detector = model_file.build(weights)
    kind = DETECTORS[model[0]]
    assert weights.detector == model[0]
    # Unlike the published first models, these have batch norms that somebody trained, with their epsilon.
    own = {"batch_norm_eps": 1e-5} if model[1] == "torchvision" else {}
    assert detector.settings == build(kind.Settings, kind.presets[model[1]] | own)
    tensors = {n: t for n, t in detector.state_dict().items() if not n.endswith("num_batches_tracked")}
    assert all(torch.equal(value, weights.tensors[name]) for name, value in tensors.items())
    assert len(weights.tensors) == len(state)


@pytest.mark.parametrize("model", OLD, ids=["faster", "mask"])
def test_published_batch_norms_have_no_epsilon(model: tuple[str, str]) -> None:
    state = {name: tensor for name, tensor in state_of(model).items() if not name.endswith("num_batches_tracked")}
    assert torchvision_rcnn.convert(state, "a test").settings["batch_norm_eps"] == 0


@pytest.mark.parametrize("model", OLD, ids=["faster", "mask"])
def test_the_published_names_of_the_first_models_are_read(model: tuple[str, str]) -> None:
    state = state_of(model)
    old = as_published(state)
    assert "backbone.fpn.inner_blocks.0.weight" in old
    assert "rpn.head.conv.weight" in old
    assert ("roi_heads.mask_head.mask_fcn4.bias" in old) is (model[0] == "mask_rcnn")
    found, expected = torchvision_rcnn.convert(old, "a test"), torchvision_rcnn.convert(state, "a test")
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert name.endswith("num_batches_tracked") or torch.equal(found.tensors[name], tensor)


@pytest.mark.parametrize("model", MODELS, ids=FILES.values())
def test_unused_numbers_are_left_out_and_background_is_kept_for_classes(model: tuple[str, str]) -> None:
    """COCO: person is 1, street sign 12 was never used, toothbrush is 90. Boxes run coordinate by coordinate."""
    weights = torchvision_rcnn.convert(state_of(model), "a test")
    assert len(weights.names) == 80
    known = {"person": 1, "fire hydrant": 11, "stop sign": 13, "toothbrush": 90}
    parts = [("box_head.classes", 1, 1), ("box_head.boxes", 4, 0)]
    parts += [("mask_head.masks", 1, 0)] if model[0] == "mask_rcnn" else []
    for name, places, before in parts:
        for part in ("weight", "bias"):
            rows = weights.tensors[f"{name}.{part}"].reshape(places, before + 80, -1)[..., 0]
            if before:
                assert rows[:, 0].tolist() == [0]
            for place in range(places):
                found = dict(zip(weights.names, rows[place, before:].tolist(), strict=True))
                for label, number in known.items():
                    assert found[label] == pytest.approx(number + place / 10)
                assert not {12.0, 26.0, 83.0} & {round(value - place / 10, 3) for value in found.values()}


@pytest.mark.parametrize("model", MODELS, ids=FILES.values())
def test_the_settings_are_torchvisions(model: tuple[str, str]) -> None:
    """What their models are made with, by their parts: anchors, thresholds, numbers of candidates and of samples."""
    kind = DETECTORS[model[0]]
    s: Any = build(kind.Settings, kind.presets[model[1]])
    with torch.device("meta"):
        theirs: Any = torchvision_rcnn.MAKERS[model](weights=None, weights_backbone=None)
    rpn, heads, fit = theirs.rpn, theirs.roi_heads, theirs.transform
    assert (s.preprocessing.size, s.preprocessing.max_size) == (fit.min_size[0], fit.max_size)
    assert (list(s.preprocessing.mean), list(s.preprocessing.std)) == (fit.image_mean, fit.image_std)
    sizes = tuple(tuple(scale * size for scale in s.anchor_scales) for size in s.anchor_sizes)
    assert sizes == tuple(tuple(level) for level in rpn.anchor_generator.sizes)
    assert rpn.anchor_generator.aspect_ratios == (s.anchor_ratios,) * len(sizes)
    assert rpn._pre_nms_top_n == {"training": s.train_candidates, "testing": s.candidates}
    assert rpn._post_nms_top_n == {"training": s.train_proposals, "testing": s.proposals}
    assert (rpn.nms_thresh, rpn.score_thresh) == (s.rpn_nms_iou, s.rpn_threshold)
    matcher, sampler = rpn.proposal_matcher, rpn.fg_bg_sampler
    assert (matcher.high_threshold, matcher.low_threshold) == (s.rpn_match_high, s.rpn_match_low)
    assert (sampler.batch_size_per_image, sampler.positive_fraction) == (s.rpn_samples, s.rpn_positives)
    matcher, sampler = heads.proposal_matcher, heads.fg_bg_sampler
    assert (matcher.high_threshold, matcher.low_threshold) == (s.match, s.match)
    assert (sampler.batch_size_per_image, sampler.positive_fraction) == (s.samples, s.positives)
    assert (heads.score_thresh, heads.nms_thresh, heads.detections_per_img) == (
        s.score_threshold, s.nms_iou, s.max_detections
    )  # fmt: skip
    assert (s.box_loss, s.smooth_l1_beta) == ("smooth_l1", 1 / 9)


@pytest.mark.parametrize("model", MODELS, ids=FILES.values())
def test_as_many_parameters_as_torchvision_publishes(model: tuple[str, str]) -> None:
    """But for the background's boxes and masks, which are never used: 4 (1024 + 1), and 256 + 1 for its mask."""
    kind = DETECTORS[model[0]]
    with torch.device("meta"):
        detector = kind([str(i) for i in range(90)], build(kind.Settings, kind.presets[model[1]]))
    found = sum(p.numel() for p in detector.parameters())
    meta = torchvision_rcnn.COCO[model].meta
    unused = 4 * 1025 + (257 if model[0] == "mask_rcnn" else 0)
    # Published numbers leave out the scale and shift of frozen norms.
    frozen = meta["num_params"] - found - unused
    norms = sum(p.numel() for m in detector.backbone.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    assert frozen in (0, -norms)


def test_other_numbers_of_classes_are_numbered() -> None:
    weights = torchvision_rcnn.convert(state_of(("mask_rcnn", "torchvision"), categories=4), "a test")
    assert weights.names == ["1", "2", "3"]
    assert weights.tensors["box_head.classes.bias"].tolist() == [0, 1, 2, 3]
    assert weights.tensors["mask_head.masks.bias"].tolist() == [1, 2, 3]


# -- Files that are refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [MODELS[0], MODELS[2], MODELS[5]])
def test_a_checkpoint_with_tensors_missing_says_which(model: tuple[str, str], tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in state_of(model).items() if "bbox_pred" not in name}
    pattern = (
        rf"model\.pth looks like torchvision's {model[0].replace('_', '')}_\w+, but 4 of its tensors do not fit "
        r"\(rpn\.head\.bbox_pred\.weight is missing; .* \.\.\.\)"
    )
    with pytest.raises(FoodboxError, match=pattern):
        pretrained.read(saved(state, tmp_path / "model.pth"))


def test_another_backbone_is_refused(tmp_path: Path) -> None:
    """A Faster R-CNN on a ResNet-18, say."""
    state = {n: t for n, t in state_of(MODELS[0]).items() if "layer3.5" not in n}
    with pytest.raises(FoodboxError, match=r"backbone\.body\.layer3\.5\.\S+ is missing"):
        pretrained.read(saved(state, tmp_path / "model.pth"))


# -- Download -------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs that are asked for; each gives a checkpoint of its network."""
    urls: list[str] = []

    def fetch(url: str) -> dict[str, Tensor]:
        urls.append(url)
        return state_of(next(model for model, file in FILES.items() if file in url))

    monkeypatch.setattr(torchvision_rcnn, "fetch", fetch)
    return urls


@pytest.mark.parametrize(
    ("detector", "preset", "changes", "file", "whole"),
    [
        *[(*model, {}, model, True) for model in MODELS],
        ("faster_rcnn", "mobilenet_v3", {"size": 320}, ("faster_rcnn", "mobilenet_v3_320"), True),
        ("faster_rcnn", "resnet50", {}, ("faster_rcnn", "torchvision"), True),
        ("faster_rcnn", "resnet50", {"channels": 64}, ("faster_rcnn", "torchvision"), False),
        ("faster_rcnn", "torchvision_v2", {"first_level": 3, "anchor_sizes": (32, 64, 128, 256)},
         ("faster_rcnn", "torchvision_v2"), False),
        ("mask_rcnn", "resnet50", {"norm": "group"}, ("mask_rcnn", "torchvision"), False),
    ],
)  # fmt: skip
def test_coco_is_the_official_file_or_its_backbone(
    asked: list[str], detector: str, preset: str, changes: dict[str, Any], file: tuple[str, str], whole: bool
) -> None:
    kind = DETECTORS[detector]
    settings = apply(build(kind.Settings, kind.presets[preset]), changes)
    weights = pretrained.find("coco", settings.model_dump(), detector)
    assert weights is not None
    assert asked == [f"https://download.pytorch.org/models/{FILES[file]}.pth"]
    assert weights.detector == (detector if whole else "")
    mine = kind(weights.names or ["food"], apply(settings, {} if whole else weights.settings))
    fresh = put(weights, mine).fresh
    assert not [name for name in fresh if name.startswith("backbone.")]
    assert (fresh == []) is whole


def test_the_light_presets_need_no_network(asked: list[str]) -> None:
    for name in ("faster_rcnn", "mask_rcnn"):
        kind = DETECTORS[name]
        settings = build(kind.Settings, kind.presets["light"])
        weights = pretrained.find("coco", settings.model_dump(), name)
        assert weights is not None
        detector = kind(["food"], apply(settings, weights.settings))
        backbone = {n for n in detector.state_dict() if n.startswith("backbone.") and "num_batches" not in n}
        assert set(put(weights, detector).kept) == backbone
    assert asked == []


def test_nobody_published_coco_weights_on_vgg(asked: list[str]) -> None:
    kind = DETECTORS["faster_rcnn"]
    settings = build(kind.Settings, kind.presets["vgg16"])
    with pytest.raises(UsageError, match="no COCO weights for the backbone 'vgg16'"):
        pretrained.find("coco", settings.model_dump(), "faster_rcnn")
    assert asked == []


def test_imagenets_mobilenet_is_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = DETECTORS["faster_rcnn"]
    settings = build(kind.Settings, kind.presets["mobilenet_v3"])
    with torch.device("meta"):
        state = filled(mobilenet_v3_large(weights=None))
    monkeypatch.setattr(torchvision_ssd, "fetch", lambda _: state)
    weights = pretrained.find("imagenet", settings.model_dump(), "faster_rcnn")
    assert weights is not None
    detector = kind(["food"], apply(settings, weights.settings))
    backbone = {n for n in detector.state_dict() if n.startswith("backbone.") and "num_batches" not in n}
    assert set(put(weights, detector).kept) == backbone
