"""torchvision's checkpoints: names and categories, files that are refused, and no code that a file brings along."""

from __future__ import annotations

import pickle
import re
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet, retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from foodbox.errors import FoodboxError
from foodbox.weights import pretrained, torchvision
from foodbox.weights.model_file import build

CLASSES = "head.classification_head.cls_logits"


def state_of(version: str, categories: int = 91) -> dict[str, Tensor]:
    """A checkpoint's names and shapes; every tensor one number, but for the class rows, which count categories.

    The numbers are stored once each, so that files stay small.
    """
    make = retinanet_resnet50_fpn if version == "v1" else retinanet_resnet50_fpn_v2
    with torch.device("meta"):
        shapes = make(weights=None, weights_backbone=None, num_classes=categories).state_dict()
    state = {
        name: torch.tensor(0.5 + i / 1000).expand(shape.shape)
        for i, (name, shape) in enumerate(shapes.items())
        if not name.endswith("num_batches_tracked")
    }
    count = torch.arange(categories, dtype=torch.float32).repeat(9)
    return state | {f"{CLASSES}.bias": count, f"{CLASSES}.weight": count.view(-1, 1, 1, 1).expand(-1, 256, 3, 3)}


def as_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first model's file is older than the sequences in its blocks: conv.0, conv.2 ... and inner_blocks.0."""
    renamed = {}
    for name, tensor in state.items():
        name = re.sub(r"(head\.\w+\.conv)\.(\d)\.0\.", lambda m: f"{m[1]}.{2 * int(m[2])}.", name)
        renamed[re.sub(r"((?:inner|layer)_blocks\.\d)\.0\.", r"\1.", name)] = tensor
    return renamed


def saved(state: Any, path: Path, **options: Any) -> Path:
    torch.save(state, path, **options)
    return path


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_checkpoint_fills_the_whole_detector(version: str, tmp_path: Path) -> None:
    weights = pretrained.read(saved(state_of(version), tmp_path / "model.pth"))
    detector = build(weights)
    assert weights.detector == "retinanet"
    assert detector.names == weights.names
    assert all(torch.equal(value, weights.tensors[name]) for name, value in detector.state_dict().items())


def test_the_published_files_old_names_are_read_the_same(tmp_path: Path) -> None:
    state = state_of("v1")
    old = as_published(state)
    assert "head.classification_head.conv.6.weight" in old
    assert "head.regression_head.conv.2.bias" in old
    assert "backbone.fpn.inner_blocks.0.weight" in old
    mine, other = (pretrained.read(saved(s, tmp_path / "model.pth")) for s in (state, old))
    assert mine.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(mine.tensors[name], other.tensors[name]) for name in mine.tensors)
    assert mine.settings == other.settings


def test_background_and_unused_numbers_are_left_out() -> None:
    """COCO: person is 1, street sign 12 was never used, toothbrush is 90."""
    weights = torchvision.convert(state_of("v1"), "a test")
    assert len(weights.names) == 80
    for name in ("class_tower.output.bias", "class_tower.output.weight"):
        numbers = weights.tensors[name].view(9, 80, -1)[4, :, 0]
        found = dict(zip(weights.names, numbers.tolist(), strict=True))
        assert (found["person"], found["fire hydrant"], found["stop sign"], found["toothbrush"]) == (1, 11, 13, 90)
        assert not {0.0, 12.0, 26.0, 83.0} & set(found.values())


def test_other_numbers_of_classes_are_numbered() -> None:
    weights = torchvision.convert(state_of("v1", categories=4), "a test")
    assert weights.names == ["1", "2", "3"]
    assert weights.tensors["class_tower.output.bias"].tolist() == [1, 2, 3] * 9


def test_a_training_scripts_checkpoint_holds_the_model_beside_other_things(tmp_path: Path) -> None:
    state = state_of("v2")
    path = saved({"model": state, "optimizer": {"state": {}}, "epoch": 3}, tmp_path / "model.pth")
    assert pretrained.read(path).tensors.keys() == torchvision.convert(state, "a test").tensors.keys()


# -- Files that are refused -----------------------------------------------------------------------------------------


class Malicious:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_a_file_with_program_objects_is_refused_without_running_them(kind: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "was_here", tmp_path / "model.pth"
    state = state_of("v1") | {"extra": Malicious(mark)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"extra": Malicious(mark)}, protocol=2))
        pickle.loads(path.read_bytes())
    else:
        saved(state, path, _use_new_zipfile_serialization=kind == "zip")
        torch.load(path, weights_only=False)
    assert mark.exists()  # it does run where nobody takes care
    mark.unlink()
    with pytest.raises(FoodboxError, match="not loaded, for safety") as caught:
        pretrained.read(path)
    assert str(path) in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_checkpoint_cut_short_is_refused(share: float, tmp_path: Path) -> None:
    path = saved(state_of("v1"), tmp_path / "model.pth")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(FoodboxError, match=r"model\.pth is not a whole checkpoint.*Download it again"):
        pretrained.read(path)


@pytest.mark.parametrize(
    "content",
    {
        "text": b"hello there\n",
        "a web page": b"<html>404</html>",
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "an empty dict": b"\x80\x02}q\x00.",
        "a pickle of nothing": b"\x80\x02.",
        "a pickle cut in a number": b"\x80\x02X\x05",
    }.values(),
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(FoodboxError, match=r"model\.pth is"):
        pretrained.read(path)


@pytest.mark.parametrize("state", [{"features.0.weight": torch.zeros(3)}, [torch.zeros(3)], torch.zeros(3), {}])
def test_another_networks_checkpoint_is_refused(state: Any, tmp_path: Path) -> None:
    with pytest.raises(FoodboxError, match=r"model\.pth (looks like a VGG.*expected|is no checkpoint)"):
        pretrained.read(saved(state, tmp_path / "model.pth"))


def test_a_checkpoint_without_its_box_head_is_refused(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in state_of("v1").items() if "regression" not in name}
    with pytest.raises(FoodboxError, match=r"model\.pth"):
        build(pretrained.read(saved(state, tmp_path / "model.pth")))


# -- Download -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "version"), [("torchvision", "v1"), ("torchvision_v2", "v2")])
def test_the_official_file_is_asked_for_safely(
    preset: Any, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checked against the hash in its name, and without program objects."""
    state = state_of(version)
    path = saved(as_published(state) if version == "v1" else state, tmp_path / "model.pth")
    asked: dict[str, Any] = {}

    def from_disk(url: str, **options: Any) -> Any:
        asked.update(options, url=url)
        return torch.load(path, map_location=options["map_location"], weights_only=options["weights_only"])

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", from_disk)
    weights = torchvision.download(preset)
    assert re.fullmatch(
        r"https://download\.pytorch\.org/models/retinanet_resnet50_fpn\w*-[0-9a-f]{8}\.pth", asked["url"]
    )
    assert asked["check_hash"] is True
    assert asked["weights_only"] is True
    assert weights.tensors.keys() == torchvision.convert(state, "a test").tensors.keys()
    assert build(weights).settings.tower_norm == ("none" if version == "v1" else "group")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "fault", [urllib.error.URLError("no route to host"), TimeoutError("timed out"), RuntimeError("invalid hash value")]
)
def test_without_a_network_the_ways_on_are_named(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise fault

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fails)
    with pytest.raises(FoodboxError, match=r"Could not download.*embedded.*--weights FILE"):
        torchvision.download("torchvision")


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet101"])
def test_a_retinanet_on_another_resnet_is_known_by_its_blocks(name: str) -> None:
    from_c3 = {"returned_layers": [2, 3, 4], "extra_blocks": LastLevelP6P7(256, 256)}
    with torch.device("meta"):
        theirs = RetinaNet(resnet_fpn_backbone(backbone_name=name, weights=None, **from_c3), 4)  # type: ignore[arg-type]
    state = {name: torch.tensor(0.1).expand(tensor.shape) for name, tensor in theirs.state_dict().items()}
    weights = torchvision.convert(state, "a test")
    assert weights.settings["backbone"] == name
    assert build(weights).names == ["1", "2", "3"]


def test_a_checkpoint_that_lacks_tensors_is_refused() -> None:
    state = dict(list(state_of("v1").items())[50:])
    with pytest.raises(FoodboxError, match=r"looks like torchvision's RetinaNet on resnet50, but .* is missing"):
        torchvision.convert(state, "a test")


def test_batch_norms_that_somebody_trained_have_an_epsilon() -> None:
    state = state_of("v1")
    assert torchvision.convert(state, "a test").settings["batch_norm_eps"] == 0
    state["backbone.body.bn1.num_batches_tracked"] = torch.tensor(7)
    assert torchvision.convert(state, "a test").settings["batch_norm_eps"] == 1e-5


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\3\4half a zip"])
def test_a_damaged_file_in_torchs_cache_is_named(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    kept = tmp_path / "checkpoints" / torchvision.COCO["torchvision"].url.rsplit("/", 1)[-1]
    kept.parent.mkdir()
    kept.write_bytes(content)
    with pytest.raises(FoodboxError, match=rf"{kept}, which was downloaded before.*Delete it"):
        torchvision.download("torchvision")
