"""M2Det's checkpoints: the forms that are known, DataParallel's names, and files that are refused.

That the numbers are the authors' is in tests/detectors.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from foodbox.configure import apply
from foodbox.detectors.m2det import M2Det, M2DetSettings
from foodbox.errors import FoodboxError, UsageError
from foodbox.weights import checkpoint, m2det, pretrained
from foodbox.weights.model_file import build, read_model, save_model

SMALL = {"base_channels": (16, 16), "planes": 16, "tums": 2}
# A layer that the code shares stands in its files once for each level or scale.
COPY = re.compile(r"(leach\.|sfam_module\.fc\d\.)(\d+)(\..*)")


def filled(theirs: dict[str, Any], fill: ModuleType) -> dict[str, Tensor]:
    """A checkpoint of the authors' code, by the names and shapes of a conformance file."""
    seed, gain = theirs["seed"], theirs.get("gain", 1.0)
    return {n: torch.from_numpy(fill.tensor(n, tuple(s), seed, gain)) for n, s in theirs["state"].items()}


def state_of(classes: int = 3, **changes: Any) -> dict[str, Tensor]:
    """A checkpoint of a thin network; every tensor one number, stored once each, so that files are small.

    The copies of what the code shares hold -1, but for the last.
    """
    settings = M2DetSettings(**SMALL | changes)
    with torch.device("meta"):
        mine = M2Det(["x"] * classes, settings).state_dict()
    state: dict[str, Tensor] = {}
    for i, (name, tensor) in enumerate(mine.items()):
        theirs = m2det._theirs(name, settings)
        if copy := COPY.fullmatch(theirs):
            for number in range(int(copy[2])):
                state[f"{copy[1]}{number}{copy[3]}"] = torch.tensor(-1.0).expand(tensor.shape)
        counter = name.endswith("num_batches_tracked")
        state[theirs] = torch.tensor(7) if counter else torch.tensor(0.5 + i / 1000).expand(tensor.shape)
    return state


def saved(state: Any, path: Path) -> Path:
    torch.save(state, path)
    return path


# -- Files that are read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"variant": "released_sfam"},
        {"tums": 3, "planes": 32, "base_channels": (16, 32)},
        {"backbone": "resnet50", "fine_c4": True},
        {"backbone": "resnet101", "fine_c4": True, "base_maps": "C4+C5"},
    ],
)
def test_the_form_is_seen_from_the_tensors(changes: dict[str, Any], tmp_path: Path) -> None:
    """And all of them come over, from a file."""
    state = state_of(**changes) | {"base.fc.weight": torch.zeros(1), "base.fc.bias": torch.zeros(1)}
    weights = pretrained.read(saved(state, tmp_path / "m2det320.pth"))
    expected = M2DetSettings(**SMALL | changes)
    found = M2DetSettings(**weights.settings)
    for name in ("backbone", "fine_c4", "base_maps", "variant", "base_channels", "planes", "tums", "anchor_sizes"):
        assert getattr(found, name) == getattr(expected, name), name
    assert (weights.detector, weights.names) == ("m2det", ["1", "2", "3"])
    detector = build(weights)
    numbers = {float(t.flatten()[0]) for t in detector.state_dict().values()}
    assert -1.0 not in numbers, "a copy that the code would load over with the last one"


def test_a_file_from_dataparallel_is_read_the_same(tmp_path: Path) -> None:
    state = state_of()
    one, other = (
        pretrained.read(saved(s, tmp_path / "m2det.pth")) for s in (state, {f"module.{n}": t for n, t in state.items()})
    )
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def test_files_without_counters_of_batches_are_read() -> None:
    """The published file is of a torch that had none yet (0.4.0)."""
    state = {name: tensor for name, tensor in state_of().items() if not name.endswith("num_batches_tracked")}
    assert build(m2det.convert(state, "a test")).names == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("name", "size", "smallest"),
    [
        ("m2det512_vgg.pth", 512, 0.06),
        ("Final_M2Det_COCO_size800_netvgg16.pth", 800, 0.04),
        ("M2Det_COCO_size320_netvgg16_epoch130.pth", 320, 0.08),
        ("best.pth", 512, 0.06),
    ],
)
def test_the_inputs_size_is_told_by_the_name(name: str, size: int, smallest: float) -> None:
    """As the authors' code names its files; the published one has 512."""
    settings = M2DetSettings(**m2det.convert(state_of(), f"/somewhere/640/{name}").settings)
    assert (settings.preprocessing.size, settings.anchor_sizes[0]) == (size, smallest)


@pytest.mark.parametrize(
    ("classes", "names"),
    [(80, ("person", "toothbrush")), (20, ("aeroplane", "tvmonitor")), (2, ("1", "2"))],
)
def test_classes_are_cocos_or_vocs_by_their_number(classes: int, names: tuple[str, str]) -> None:
    found = m2det.convert(state_of(classes), "a test").names
    assert (len(found), found[0], found[-1]) == (classes, *names)


def test_the_first_convolution_reads_red_first() -> None:
    """Theirs reads blue, green, red."""
    state = state_of()
    state["base.0.weight"] = torch.arange(3.0).view(1, 3, 1, 1).expand(64, 3, 3, 3)
    tensors = m2det.convert(state, "a test").tensors
    assert tensors["backbone.conv1_1.weight"][0, :, 0, 0].tolist() == [2, 1, 0]


def test_an_imported_model_is_saved_and_read_again(tmp_path: Path) -> None:
    detector = build(m2det.convert(state_of(), "a test"))
    save_model(tmp_path / "model.safetensors", detector, {})
    again = build(read_model(tmp_path / "model.safetensors"))
    assert again.settings == detector.settings
    assert all(torch.equal(t, again.state_dict()[name]) for name, t in detector.state_dict().items())


@pytest.mark.parametrize("preset", M2Det.presets)
def test_every_preset_can_be_saved(preset: str, tmp_path: Path) -> None:
    """No two tensors share their memory, which safetensors refuses."""
    detector = M2Det(["a"], apply(M2DetSettings(**M2Det.presets[preset]), {"planes": 16, "tums": 1}))
    places = [t.data_ptr() for t in detector.state_dict().values() if t.numel()]
    assert len(places) == len(set(places))


# -- Files that are refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_cut_short_is_refused(share: float, tmp_path: Path) -> None:
    path = saved(state_of(), tmp_path / "m2det512_vgg.pth")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(FoodboxError, match=r"m2det512_vgg\.pth is not a whole checkpoint.*Download it again"):
        pretrained.read(path)


def test_missing_and_misshapen_tensors_are_named_as_in_the_file() -> None:
    state = state_of()
    del state["unet2.smooth.3.conv.weight"]
    state["reduce.bn.weight"] = torch.zeros(5)
    state["extra.weight"] = torch.zeros(5)
    with pytest.raises(FoodboxError, match="looks like M2Det, but 3 of its tensors do not fit") as caught:
        m2det.convert(state, "some.pth")
    for words in ("unet2.smooth.3.conv.weight is missing", "reduce.bn.weight is ", "extra.weight"):
        assert words in str(caught.value)


@pytest.mark.parametrize("kept", ["unet1.layers.0.conv.weight", "leach.0.conv.weight", "unet2.smooth.0.bn.bias"])
def test_one_tensor_alone_is_no_network(kept: str) -> None:
    with pytest.raises(FoodboxError, match=r"looks like M2Det, but \d+ of its tensors do not fit"):
        m2det.convert({kept: state_of()[kept]}, "some.pth")


def test_another_width_than_can_be_built_is_refused() -> None:
    state = state_of()
    state["unet1.layers.0.conv.weight"] = torch.zeros(100, 8, 3, 3)
    with pytest.raises(FoodboxError, match=r"some\.pth looks like M2Det, but.*100"):
        m2det.convert(state, "some.pth")


def test_another_networks_file_says_which_it_looks_like(tmp_path: Path) -> None:
    path = saved({"layer1.0.conv1.weight": torch.zeros(3), "fc.weight": torch.zeros(3)}, tmp_path / "net.pth")
    for read in (lambda file: m2det.convert(checkpoint.load(file), str(file)), pretrained.read):
        with pytest.raises(FoodboxError, match=r"net\.pth looks like a ResNet.*expected .*M2Det"):
            read(path)


@pytest.mark.parametrize(
    ("preset", "words"), [("m2det320_vgg", "m2det512_vgg alone,"), ("m2det320_resnet101", "none with resnet101")]
)
def test_coco_weights_of_paper_size_cannot_be_downloaded(preset: str, words: str) -> None:
    settings = M2DetSettings(**M2Det.presets[preset]).model_dump()
    with pytest.raises(UsageError, match=r"github\.com/qijiezhao/M2Det.*--weights imagenet.*--preset light") as caught:
        pretrained.find("coco", settings, "m2det")
    assert words in str(caught.value)


def test_the_light_preset_starts_from_the_embedded_backbone() -> None:
    weights = pretrained.find("coco", M2DetSettings(**M2Det.presets["light"]).model_dump(), "m2det")
    assert weights is not None
    assert "embedded" in weights.origin
