"""darknet's files: which network one is, what lies beside it, files that are refused, and the download."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from foodbox.configure import apply
from foodbox.detectors.yolo import LIGHT, YOLO, YOLOSettings
from foodbox.errors import FoodboxError, UsageError
from foodbox.layers.darknet import DARKNET_TINY
from foodbox.weights import darknet, pretrained
from foodbox.weights.model_file import build
from foodbox.weights.transfer import Weights, put

# Counted by hand from darknet's cfg/yolov3-tiny.cfg: 4 values a filter where there is a norm, else 1, and the kernels.
WIDTHS = [(3, 16, 3), (16, 32, 3), (32, 64, 3), (64, 128, 3), (128, 256, 3), (256, 512, 3), (512, 1024, 3)]
HEADS = [(1024, 256, 1), (256, 512, 3), (256, 128, 1), (128 + 256, 256, 3)]
CFG = """[net]
width=320 # pixels
height=320
{convolutions}
[yolo]
mask = 2,3
anchors = 10,14,  23,27,  81,82,  135,169
classes={classes}
num=4
ignore_thresh = .5
{more}
[yolo]
mask = 0,1
anchors = 10,14,  23,27,  81,82,  135,169
classes={classes}
num=4
"""


def values_of(classes: int, priors: int = 3) -> int:
    units = sum(after * 4 + before * after * size**2 for before, after, size in [*WIDTHS, *HEADS])
    return units + priors * (5 + classes) * ((512 + 1) + (256 + 1))


def convolution(filters: int, size: int, norm: int = 1) -> str:
    return f"[convolutional]\nbatch_normalize={norm}\nfilters={filters}\nsize={size}\nstride=1\npad=1\n"


def tiny_cfg(classes: int = 3, priors: int = 2) -> str:
    """A network of our own two priors a scale, with the convolutions in darknet's order."""
    out = convolution(priors * (5 + classes), 1, 0)
    first = "".join(convolution(after, size) for _, after, size in [*WIDTHS, *HEADS[:2]]) + out
    second = "".join(convolution(after, size) for _, after, size in HEADS[2:]) + out
    return CFG.format(convolutions=first, more=second, classes=classes)


def write(path: Path, count: int, version: tuple[int, int, int] = (0, 2, 5), numbers: Any = None) -> Path:
    seen = np.array([64], "<i8" if version[0] * 10 + version[1] >= 2 else "<i4")
    values = np.arange(count, dtype="<f4") if numbers is None else numbers
    path.write_bytes(np.array(version, "<i4").tobytes() + seen.tobytes() + values.tobytes())
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """YOLOv3-tiny of three classes and six priors, its values counting up."""
    return write(tmp_path / "food.weights", values_of(3))


# -- Order ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(0, 1, 0), (0, 2, 0), (0, 2, 5), (1, 0, 0)])
def test_values_go_where_darknet_takes_them_from(version: tuple[int, int, int], tmp_path: Path) -> None:
    """Bias, scale, mean, variance, kernel; without norm bias, kernel; the header ends in a number of 4 or 8 bytes."""
    weights = darknet.read(write(tmp_path / "a.weights", values_of(3), version))
    t = weights.tensors
    first = "backbone.body.units.0"
    assert t[f"{first}.norm.bias"].tolist() == list(range(16))
    assert t[f"{first}.norm.weight"].tolist() == list(range(16, 32))
    assert t[f"{first}.norm.running_mean"].tolist() == list(range(32, 48))
    assert t[f"{first}.norm.running_var"].tolist() == list(range(48, 64))
    assert t[f"{first}.conv.weight"].flatten().tolist() == list(range(64, 64 + 16 * 27))
    assert t[f"{first}.conv.weight"].shape == (16, 3, 3, 3)
    # The network's end: the second head's output, 3 x 8 filters over 256 channels.
    end = values_of(3)
    assert t["heads.1.output.bias"][0] == end - 24 * 257
    assert t["heads.1.output.weight"][0, 0, 0, 0] == end - 24 * 256
    # The first head's output lies before the convolution that leads to the second scale.
    assert t["heads.0.output.weight"].max() < t["heads.1.reduce.norm.bias"].min()


def test_every_tensor_of_the_network_is_filled_once(tiny: Path) -> None:
    weights = darknet.read(tiny)
    detector = build(weights)
    assert (weights.detector, weights.origin) == ("yolo", str(tiny))
    assert all(torch.equal(value, weights.tensors[name]) for name, value in detector.state_dict().items())
    numbers = torch.cat([t.flatten() for n, t in weights.tensors.items() if not n.endswith("tracked")])
    assert torch.equal(numbers.sort().values, torch.arange(values_of(3)).float())


# -- Which network --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 3, 80, 601])
def test_the_number_of_values_tells_the_network_and_its_classes(classes: int, tmp_path: Path) -> None:
    weights = darknet.read(write(tmp_path / "a.weights", values_of(classes)))
    assert weights.settings == YOLO.presets["yolov3_tiny"]
    assert len(weights.names) == classes
    assert weights.names[0] == ("person" if classes == 80 else "0")


@pytest.mark.parametrize(
    ("count", "preset", "classes"),
    [
        (62_001_757, "yolov3", 80),
        (61_678_657, "yolov3", 20),
        (64_807_342, "yolov3", 601),
        (8_858_734, "yolov3_tiny", 80),
    ],
)
def test_published_numbers_of_values(count: int, preset: str, classes: int) -> None:
    """Of darknet's yolov3.cfg, yolov3-voc.cfg, yolov3-openimages.cfg and yolov3-tiny.cfg."""
    assert darknet._network_of(count, Path("a.weights"))[:2] == (preset, classes)


def test_a_cfg_tells_priors_and_size(tiny: Path) -> None:
    tiny = write(tiny, values_of(3, priors=2))
    tiny.with_suffix(".cfg").write_text(tiny_cfg())
    settings = YOLOSettings.model_validate(darknet.read(tiny).settings)
    assert settings.priors == (10, 14, 23, 27, 81, 82, 135, 169)
    assert (settings.preprocessing.size, settings.preprocessing.fit, settings.preprocessing.antialias) == (
        320, "letterbox", False,
    )  # fmt: skip
    assert settings.ignore_threshold == 0.5
    assert build(darknet.read(tiny)).settings == settings


@pytest.mark.parametrize("name", ["food_final.weights", "food_1000.weights", "food_last.weights"])
def test_a_cfg_belongs_to_all_that_darknet_saved_with_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "food.cfg").write_text(tiny_cfg())
    (tmp_path / "other.cfg").write_text("[net]\n")
    weights = darknet.read(write(tmp_path / name, values_of(3, priors=2)))
    assert len(weights.settings["priors"]) == 8


def test_the_published_files_mistake_is_told(test_data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = test_data / "weights" / "yolov3_tiny_coco" / "yolov3-tiny.weights"
    weights = darknet.read(path)
    assert weights.settings["priors"] == darknet.MISTAKEN
    assert "find more with 23,27 37,58 81,82" in " ".join(capfd.readouterr().err.split())
    assert weights.names[:2] == ["person", "bicycle"]
    assert len(weights.names) == 80


# -- Names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["food.names", "obj.names", "coco.names"])
def test_names_lie_beside(name: str, tiny: Path) -> None:
    tiny.with_name(name).write_text("rice\n\nsoup\ngreen tea \n", encoding="utf-8")
    assert darknet.read(tiny).names == ["rice", "soup", "green tea"]


def test_names_of_another_number_are_refused(tiny: Path) -> None:
    tiny.with_suffix(".names").write_text("rice\nsoup\n")
    with pytest.raises(FoodboxError, match=r"food\.names holds 2 names, and the network has 3 classes"):
        darknet.read(tiny)


def test_names_with_a_mark_before_them_and_in_another_encoding(tiny: Path) -> None:
    tiny.with_suffix(".names").write_text("김치\nsoup\ntea\n", encoding="utf-8-sig")
    assert darknet.read(tiny).names == ["김치", "soup", "tea"]
    tiny.with_suffix(".names").write_text("김치\nsoup\ntea\n", encoding="cp949")
    with pytest.raises(FoodboxError, match=r"food\.names is no text in UTF-8"):
        darknet.read(tiny)


def test_of_two_lists_of_names_none_is_taken(tiny: Path) -> None:
    for name in ("a.names", "b.names"):
        tiny.with_name(name).write_text("rice\nsoup\ntea\n")
    assert darknet.read(tiny).names == ["0", "1", "2"]


# -- Darknet-53 alone -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [0, 1000 * 1025])
def test_the_backbone_alone_is_read_with_and_without_its_classifier(rest: int, tmp_path: Path) -> None:
    path = write(tmp_path / "darknet53.weights", 0, numbers=np.ones(40_620_640 + rest, "<f4"))
    weights = darknet.read(path)
    path.unlink()
    assert (weights.detector, weights.names) == ("", [])
    detector = YOLO(["food"], apply(YOLOSettings(), weights.settings))
    result = put(weights, detector)
    assert {name.split(".")[0] for name in result.fresh} == {"heads"}
    assert all(bool((t == 1).all()) for t in weights.tensors.values() if t.is_floating_point())


def test_timms_backbone_brings_its_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "imagenet", lambda name, **_: Weights({}, "timm's", settings={"backbone": name}))
    for detector, expected in (
        ("yolo", {"backbone": "darknet53", "leaky_slope": 0.01}),
        ("retinanet", {"backbone": "darknet53"}),
    ):
        weights = pretrained.find("imagenet", {"backbone": "darknet53"}, detector)
        assert weights is not None
        assert weights.settings == expected


# -- Files that are refused -----------------------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(FoodboxError) as caught:
        darknet.read(path)
    assert path.name in str(caught.value) or path.with_suffix(".cfg").name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"hello there", b"<html>404 not found</html>" * 9, b"\x89PNG\r\n\x1a\n" + bytes(99)]
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.weights").write_bytes(content)
    assert "is not a whole .weights file" in refused(tmp_path / "a.weights")


def test_a_file_cut_within_a_number_is_refused(tiny: Path) -> None:
    tiny.write_bytes(tiny.read_bytes()[:-3])
    assert "is not a whole .weights file" in refused(tiny)


def test_a_file_cut_short_names_the_tensor(tiny: Path) -> None:
    """Without a .cfg nobody knows its classes; with one, the tensor is sure."""
    tiny.write_bytes(tiny.read_bytes()[: -4 * 100])
    words = refused(tiny)
    assert "cut short in heads.1.output.weight" in words or "cut short in heads.1.last" in words
    assert "YOLOv3-tiny has 8,858,734 for 80 classes" in words
    write(tiny, values_of(3, priors=2) - 50).with_suffix(".cfg").write_text(tiny_cfg())
    words = refused(tiny)
    total = values_of(3, priors=2)
    assert f"ends in heads.1.output.weight, of which it has {16 * 256 - 50:,} of {16 * 256:,} values" in words
    assert f"as YOLOv3-tiny it should hold {total:,} and not {total - 50:,}" in words


@pytest.mark.parametrize(
    ("count", "looks"), [(11_237_145, "YOLOv2-tiny"), (20_856_776, "Darknet-19"), (50_983_561, "YOLOv2")]
)
def test_another_networks_file_is_named(count: int, looks: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.weights", 0, numbers=np.zeros(count, "<f4"))
    words = refused(path)
    path.unlink()
    assert f"holds {count:,} values, which fit neither network" in words
    assert f"It looks like {looks}, which foodbox does not have" in words


def test_a_file_longer_than_any_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FoodboxError, match="goes on behind both networks' last tensor"):
        darknet._network_of(70_000_000, tmp_path / "a.weights")


def test_values_left_over_are_refused(tiny: Path) -> None:
    write(tiny, values_of(3, priors=2) + 7).with_suffix(".cfg").write_text(tiny_cfg())
    assert "7 values are left over behind heads.1.output.weight, the last tensor of YOLOv3-tiny" in refused(tiny)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[yolo]", "[region]", "it has 0 [yolo] layers"),
        (
            "filters=512",
            "filters=500",
            "its convolution 6 has filters, size and stride 500 3 1, YOLOv3-tiny has 512 3 1",
        ),
        (
            "[convolutional]\nbatch_normalize=1\nfilters=16\n",
            "[nothing]\n",
            "it has 12 convolutions, YOLOv3-tiny has 13",
        ),
        ("classes=3\n", "", "cannot be used"),
        ("mask = 2,3", "mask = 2,3,1", "cannot be used"),
        ("mask = 2,3", "mask = one", "cannot be used"),
        ("classes=3\nnum=4\nignore_thresh", "classes=4\nnum=4\nignore_thresh", "cannot be used"),
        ("[net]", "[none]", "does not begin with [net]"),
        ("width=320", "", "cannot be used"),
        ("width=320 # pixels\nheight=320", "width=0\nheight=0", "cannot be used"),
        ("width=320 # pixels\nheight=320", "width=-5\nheight=-5", "cannot be used"),
    ],
)
def test_a_cfg_of_another_network_is_refused(old: str, new: str, words: str, tiny: Path) -> None:
    config = tiny_cfg()
    assert old in config
    tiny.with_suffix(".cfg").write_text(config.replace(old, new))
    assert words in refused(tiny)


def test_the_first_layer_may_be_called_network(tiny: Path) -> None:
    write(tiny, values_of(3, priors=2)).with_suffix(".cfg").write_text(tiny_cfg().replace("[net]", "[network]"))
    assert darknet.read(tiny).detector == "yolo"


def test_an_empty_cfg_is_refused(tiny: Path) -> None:
    tiny.with_suffix(".cfg").write_text("")
    assert "it has 0 [yolo] layers" in refused(tiny)


# -- Starting weights -----------------------------------------------------------------------------------------------


def settings_of(preset: str) -> dict[str, Any]:
    return YOLOSettings(**YOLO.presets[preset]).model_dump()


def test_the_official_file_is_asked_for_and_its_size_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def from_disk(url: str, file: str) -> None:
        asked.append(url)
        write(Path(file), values_of(80))

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", from_disk)
    for _ in range(2):  # the second time from the cache
        weights = pretrained.find("coco", settings_of("yolov3_tiny"), "yolo")
        assert weights is not None
        assert weights.settings == YOLO.presets["yolov3_tiny"]
        assert weights.names[-1] == "toothbrush"
    assert asked == ["https://pjreddie.com/media/files/yolov3-tiny.weights"]
    file = tmp_path / "checkpoints" / "yolov3-tiny.weights"
    assert file.stat().st_size == darknet.PUBLISHED[DARKNET_TINY][1]

    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda _, file: Path(file).write_bytes(b"<html>"))
    with pytest.raises(
        FoodboxError, match=r"Could not download.*yolov3\.weights \(6 bytes came instead of 248,007,048\)"
    ):
        pretrained.find("coco", settings_of("yolov3"), "yolo")
    assert not (tmp_path / "checkpoints" / "yolov3.weights").exists()


@pytest.mark.parametrize("fault", [urllib.error.URLError("no route to host"), TimeoutError("timed out")])
def test_without_a_network_the_ways_on_are_named(
    fault: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise fault

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fails)
    with pytest.raises(FoodboxError, match=r"Could not download darknet's COCO.*embedded.*--weights FILE"):
        pretrained.find("coco", settings_of("yolov3"), "yolo")


def test_another_detector_with_the_same_backbone_gets_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no COCO weights for the backbone 'darknet53'"):
        pretrained.find("coco", {"backbone": "darknet53"}, "retinanet")


def test_classes_of_a_darknet_file_are_carried_over_by_name(tiny: Path) -> None:
    """To a network with other classes, as training from the file does."""
    tiny.with_suffix(".names").write_text("rice\nsoup\ntea\n")
    weights = pretrained.find(str(tiny), settings_of("yolov3_tiny"), "yolo")
    assert weights is not None
    detector = YOLO(["tea", "cake"], YOLOSettings.model_validate(weights.settings))
    result = put(weights, detector)
    assert result.classes == ["tea"]
    rows: Tensor = detector.heads[0].output.bias.view(3, 7)
    theirs = weights.tensors["heads.0.output.bias"].view(3, 8)
    assert torch.equal(rows[:, :6], theirs[:, [0, 1, 2, 3, 4, 7]])


def test_light_does_not_ask_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_: pytest.fail("the network was asked"))
    weights = pretrained.find("coco", YOLOSettings(**LIGHT).model_dump(), "yolo")
    assert weights is not None
    assert "embedded" in weights.origin
