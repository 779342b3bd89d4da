"""A detector over many photos: each photo's detections, in their order, whatever the batches."""

from __future__ import annotations

import copy
import importlib.util
import io
import itertools
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch import Tensor

import foodbox
from foodbox.data.images import PhotoError, open_photo, prepare
from foodbox.data.loader import Collate, photo_loader
from foodbox.detections import Detections
from foodbox.detectors.retinanet import RetinaNet, RetinaNetSettings
from foodbox.errors import FoodboxError, UsageError
from foodbox.inference import predict as predict_file
from foodbox.inference.predict import default_workers, in_order, predict, predict_photos
from foodbox.model import Model
from foodbox.records import Batch, Dataset, Preprocessing, Target, no_boxes, no_labels
from tests.conftest import NAMES
from tests.data.test_images import heic

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def detector() -> RetinaNet:
    """Untrained; a high prior makes it find something everywhere."""
    torch.manual_seed(0)
    settings = RetinaNetSettings(
        preprocessing=Preprocessing(size=64),
        backbone="resnet18",
        pyramid_channels=8,
        tower_init="kaiming",
        scores="objectness",
        prior=0.5,
        max_detections=100,
    )
    return RetinaNet(NAMES, settings)


def alone(detector: RetinaNet, dataset: Dataset, size: tuple[int, int]) -> list[Detections]:
    """Photo by photo, by hand, on an input as large as the batch's."""
    found = []
    for photo in dataset:
        pixels, frame = prepare(open_photo(photo.path), detector.preprocessing, photo.path)
        batch = Collate(Preprocessing(size=64, multiple=64))([(pixels, Target(), frame)])
        assert batch.images.shape[-2:] == size
        with torch.no_grad():
            found += detector.eval().decode(detector(batch.images), [frame], 0.0)
    return found


@pytest.mark.parametrize("batch_size", [1, 4, 8])
def test_every_photo_has_its_own_detections_in_order(detector: RetinaNet, drawn: Dataset, batch_size: int) -> None:
    square = Preprocessing(size=64, multiple=64)
    detector.settings = detector.settings.model_copy(update={"preprocessing": square})
    expected = alone(detector, drawn, (64, 64))
    found = list(
        predict_photos(detector, drawn.photos, CPU, half=False, min_score=0.0, batch_size=batch_size, workers=0)
    )
    assert [d.path for d in found] == [p.path for p in drawn]
    assert [(d.width, d.height) for d in found] == [(p.width, p.height) for p in drawn]
    for mine, other in zip(found, expected, strict=True):
        assert len(mine) == len(other) > 0
        torch.testing.assert_close(mine.scores, other.scores, rtol=0, atol=1e-4)


def test_what_is_found_on_a_photo_hangs_on_no_other(detector: RetinaNet, drawn: Dataset) -> None:
    """Lying and upright photos, which padding to one size would change."""
    detector.settings = detector.settings.model_copy(update={"preprocessing": Preprocessing(size=64, multiple=16)})
    model = Model(detector, {"train": {"precision": "float32"}}, "cpu")
    together = list(model.detect_many(drawn.photos, 0.01))
    assert len({(found.width, found.height) for found in together}) > 1
    for photo, found in zip(drawn, together, strict=True):
        torch.testing.assert_close(found.scores, model.detect(photo.path, 0.01).scores, rtol=0, atol=1e-5)


def test_progress_is_told_batch_by_batch_and_photos_are_taken_as_they_are_needed(
    detector: RetinaNet, drawn: Dataset
) -> None:
    taken, done = [], []

    def batches() -> Iterator[Batch]:
        for photo in drawn.photos[:3]:
            taken.append(photo)
            pixels, frame = prepare(open_photo(photo.path), detector.preprocessing, photo.path)
            yield Collate(detector.preprocessing)([(pixels, Target(), frame)])

    found = predict(detector, batches(), CPU, half=False, progress=done.append)
    next(found)
    assert len(taken) == 1
    assert len(list(found)) == 2
    assert done == [1, 1, 1]


def test_detections_come_as_soon_as_those_of_the_photos_before_them_are_there(drawn: Dataset) -> None:
    photos = [drawn.photos[i] for i in (0, 1, 2, 4, 3, 5)]  # lying, upright, lying, upright, lying, lying
    loader = photo_loader(photos, Preprocessing(size=64, multiple=16), batch_size=2, workers=0)
    assert loader.batch_sampler == [[(0, 0), (0, 2)], [(0, 1), (0, 3)], [(0, 4), (0, 5)]]
    made = []

    def found() -> Iterator[Detections]:
        for batch in loader:
            for frame in batch.frames:
                made.append(frame.path)
                yield Detections(no_boxes(), torch.zeros(0), no_labels(), NAMES, frame.width, frame.height, frame.path)

    known = []
    for detections in in_order(found(), loader):
        known.append((detections.path, len(made)))
    assert known == [(photo.path, after) for photo, after in zip(photos, (1, 3, 3, 4, 5, 6), strict=True)]


def test_predicting_puts_the_detector_in_evaluation_and_needs_no_gradient(detector: RetinaNet, drawn: Dataset) -> None:
    detector.train()
    found = next(predict_photos(detector, drawn.photos[:1], CPU, half=False, min_score=0.0))
    assert not detector.training
    assert not found.boxes.requires_grad
    assert found.boxes.dtype == torch.float32


def test_half_precision_gives_nearly_the_same_scores(detector: RetinaNet, drawn: Dataset) -> None:
    one, half = (next(predict_photos(detector, drawn.photos[:1], CPU, half=h, min_score=0.0)) for h in (False, True))
    assert half.scores.dtype == torch.float32
    assert float(half.scores[0]) == pytest.approx(float(one.scores[0]), abs=0.05)
    assert not torch.equal(half.scores[:5], one.scores[:5])


def test_no_photos(detector: RetinaNet) -> None:
    assert list(predict_photos(detector, [], CPU, half=False)) == []


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 1), (8, 4), (64, 8)])
def test_half_the_cores_open_photos(cores: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_file, "cores", lambda: cores)
    assert default_workers() == workers
    assert default_workers(CPU) == (workers if workers > 1 else 0)
    assert default_workers(torch.device("cuda")) == workers


def test_a_min_score_goes_before_the_settings_threshold(detector: RetinaNet, drawn: Dataset) -> None:
    photos = drawn.photos[:1]
    everything = next(predict_photos(detector, photos, CPU, half=False, min_score=0.0))
    middle = float(everything.scores[len(everything) // 2])
    some = next(predict_photos(detector, photos, CPU, half=False, min_score=middle))
    assert 0 < len(some) < len(everything)
    assert float(some.scores.min()) > middle


def test_what_a_network_chose_already_is_decoded_as_its_outputs(detector: RetinaNet, drawn: Dataset) -> None:
    """A GPU's recording reaches as far as the candidates."""

    def chosen(images: Tensor) -> dict[str, Tensor]:
        return detector.candidates(detector(images))

    photos = drawn.photos[:3]
    middle = float(next(predict_photos(detector, photos, CPU, half=False, min_score=0.0)).scores[10])
    for score in (0.0, middle):
        found, again = (
            list(predict_photos(detector, photos, CPU, half=False, min_score=score, network=network))
            for network in (None, chosen)
        )
        assert any(len(one) for one in found)
        for one, other in zip(found, again, strict=True):
            assert torch.equal(one.boxes, other.boxes)
            assert torch.equal(one.scores, other.scores)
            assert torch.equal(one.labels, other.labels)


def test_decoding_leaves_the_threads_as_they_were(
    detector: RetinaNet, drawn: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between two photos of a batch, where the caller goes on with something else."""
    during = []
    decode = detector.decode
    monkeypatch.setattr(detector, "decode", lambda *a: during.append(torch.get_num_threads()) or decode(*a))
    torch.set_num_threads(2)
    try:
        found = predict_photos(detector, drawn.photos[:2], CPU, half=False, workers=0)
        next(found)
        assert (during, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(1)


def threads_in_decode(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many threads are in the model's decoding as each comes in; it takes a while from now on."""
    decode, inside, seen = model.detector.decode, [0], [0]

    def slowly(*words: Any) -> list[Detections]:
        inside[0] += 1
        seen.append(inside[0])
        time.sleep(0.05)
        inside[0] -= 1
        return decode(*words)

    monkeypatch.setattr(model.detector, "decode", slowly)
    return seen


def test_threads_that_share_a_model_take_turns(
    detector: RetinaNet, drawn: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one would find torch on the single thread of another's decoding, and leave it so."""
    model = Model(copy.deepcopy(detector), {}, "cpu")
    seen = threads_in_decode(model, monkeypatch)
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda photo: model.detect(photo.path, 0.0), drawn.photos[:4]))
        assert (max(seen), torch.get_num_threads()) == (1, 2)
    finally:
        torch.set_num_threads(1)
    assert all(len(one) for one in found)


def test_threads_that_detect_on_many_photos_take_turns(
    detector: RetinaNet, drawn: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is told of progress may use the model meanwhile."""
    model = Model(copy.deepcopy(detector), {}, "cpu")
    seen = threads_in_decode(model, monkeypatch)
    pixels = np.zeros((32, 32, 3), np.uint8)

    def all_of(_: int) -> list[Detections]:
        return list(model.detect_many(drawn.photos[:4], 0.0, lambda _: model.detect(pixels) and None))

    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(all_of, range(3)))
        assert (max(seen), torch.get_num_threads()) == (1, 2)
    finally:
        torch.set_num_threads(1)
    assert [len(some) for some in found] == [4, 4, 4]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_model_is_copied_and_pickled(detector: RetinaNet, drawn: Dataset, again: Any) -> None:
    model = Model(detector, {"threshold": 0.2, "train": {"precision": "float32"}}, "cpu")
    wanted = model.detect(drawn.photos[0].path)  # with all that is kept by then
    other = again(model)
    assert (other.names, other.run, other.device, other._half) == (model.names, model.run, model.device, model._half)
    found = other.detect(drawn.photos[0].path)
    assert len(found) == len(wanted) > 0
    assert torch.equal(found.boxes, wanted.boxes)
    assert torch.equal(found.scores, wanted.scores)


def test_a_model_goes_to_another_process(detector: RetinaNet, drawn: Dataset) -> None:
    model = Model(detector, {}, "cpu")
    paths = [photo.path for photo in drawn.photos[:2]]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.map_async(model.detect, paths).get(120)
    for path, found in zip(paths, there, strict=True):
        torch.testing.assert_close(found.scores, model.detect(path).scores, rtol=0, atol=1e-4)


def test_a_picture_is_seen_as_its_file_is(detector: RetinaNet, tmp_path: Path) -> None:
    """Turned by EXIF; what is transparent lies on white."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.effect_noise((96, 64), 90).convert("RGB").save(tmp_path / "a.png", exif=exif)
    Image.effect_noise((96, 64), 90).convert("RGBA").save(tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        image.putalpha(80)
        image.save(tmp_path / "b.png")
    model = Model(detector, {}, "cpu")
    for name, size in (("a.png", (64, 96)), ("b.png", (96, 64))):
        with Image.open(tmp_path / name) as image:
            mine, theirs = model.detect(image, 0.0), model.detect(tmp_path / name, 0.0)
        assert (mine.width, mine.height) == (theirs.width, theirs.height) == size
        assert torch.equal(mine.boxes, theirs.boxes)
        assert len(mine) > 0


def test_an_open_file_is_a_photo_and_a_folder_is_not(detector: RetinaNet, tmp_path: Path) -> None:
    Image.effect_noise((96, 64), 90).convert("RGB").save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    model = Model(detector, {}, "cpu")
    assert torch.equal(model.detect(io.BytesIO(data), 0.0).boxes, model.detect(tmp_path / "a.png", 0.0).boxes)
    with (tmp_path / "a.png").open("rb") as file:
        assert model.detect(file, 0.0).path is None
    for broken in (b"a text", data[:200]):
        with pytest.raises(FoodboxError, match=r"^The open file is (no photo|a broken photo)"):
            model.detect(io.BytesIO(broken))
    with pytest.raises(UsageError, match="open it with mode 'rb'"):
        model.detect(io.StringIO("a text"))  # type: ignore[arg-type]
    reading, writing = os.pipe()  # a stream, which does not go back
    os.write(writing, data)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        assert torch.equal(model.detect(stream, 0.0).boxes, model.detect(tmp_path / "a.png", 0.0).boxes)
    with pytest.raises(UsageError, match=r"is a folder: name one photo, or give folders to foodbox\.detect"):
        model.detect(tmp_path)


def test_an_open_file_is_decoded_as_a_path_is(detector: RetinaNet, tmp_path: Path) -> None:
    """A large JPEG at a reduced size, its EXIF turn applied; and what iPhones write."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.effect_noise((1600, 1200), 90).convert("RGB").save(tmp_path / "a.jpg", exif=exif)
    photos = [tmp_path / "a.jpg"]
    if importlib.util.find_spec("pi_heif"):
        photos.append(heic(tmp_path / "b.heic"))
    model = Model(detector, {}, "cpu")
    for path in photos:
        with path.open("rb") as file:
            mine, theirs = model.detect(file, 0.0), model.detect(path, 0.0)
        assert (mine.width, mine.height) == (theirs.width, theirs.height)
        assert torch.equal(mine.boxes, theirs.boxes)
    assert not torch.equal(
        model.detect(Image.open(tmp_path / "a.jpg"), 0.0).scores, model.detect(photos[0], 0.0).scores
    )


def test_what_is_printed_of_a_model_and_its_detections_is_short(detector: RetinaNet, drawn: Dataset) -> None:
    model = Model(detector, {}, "cpu")
    names = ", ".join(model.names[:5]) + (", ..." if len(model.names) > 5 else "")
    assert repr(model) == f"<RetinaNet model of {len(model.names)} classes ({names}) on cpu>"
    found = model.detect(drawn.photos[0].path, 0.0)
    assert repr(found).startswith(f"<{len(found)} detections on {found.path}: {found.names[int(found.labels[0])]} 0.")
    assert repr(found).endswith(f", and {len(found) - 5} more>")
    assert repr(found.keep(slice(0))) == f"<0 detections on {found.path}>"
    assert list(found) == found.rows()


def test_an_option_that_scoring_does_not_have_is_said(detector: RetinaNet, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no setting 'skipbad': did you mean 'skip_bad'"):
        Model(detector, {}, "cpu").evaluate(tmp_path, skipbad=True)


def test_a_model_shows_what_is_over_its_threshold(detector: RetinaNet, drawn: Dataset) -> None:
    photo = drawn.photos[0]
    everything = Model(detector, {}, "cpu").detect(photo.path, 0.0)
    gaps = -everything.scores.diff()
    middle = float(everything.scores[gaps.argmax()] - gaps.max() / 2)
    model = Model(detector, {"threshold": middle}, "cpu")
    some = everything.over(middle)
    assert 0 < len(some) < len(everything)
    (of_many,), _ = foodbox.detect(model, photo.path)
    for found in (model.detect(photo.path), *model.detect_many([photo]), of_many):
        assert torch.equal(found.scores, some.scores)
    assert len(model.detect(photo.path, 0.0)) == len(everything)
    assert Model(detector, {}, "cpu").threshold == 0.3  # of a model that nobody validated


def test_detections_are_the_callers_to_change(detector: RetinaNet, drawn: Dataset) -> None:
    with torch.inference_mode():  # as a service may load its model
        model = foodbox.load(saved(detector, drawn.photos[0].path.parent), torch.device("cpu"))  # type: ignore[arg-type]
    one = model.detect(drawn.photos[0].path, 0.0)
    (other,), _ = foodbox.detect(model, str(drawn.photos[0].path), min_score=0.0)  # one path is a list of one
    assert torch.equal(one.boxes, other.boxes)
    one.boxes *= 2
    one.scores[0] = 1.0
    assert torch.equal(one.boxes, other.boxes * 2)


def test_a_picture_that_pillow_cannot_use_is_said(detector: RetinaNet) -> None:
    closed = Image.new("RGB", (8, 8))
    closed.close()
    for picture in (closed, Image.new("La", (8, 8))):
        with pytest.raises(PhotoError, match="The picture cannot be used"):
            Model(detector, {}, "cpu").detect(picture)


def test_a_path_of_another_kind_is_a_path(detector: RetinaNet, drawn: Dataset) -> None:
    model = Model(detector, {}, "cpu")
    path = drawn.photos[0].path
    entry = next(entry for entry in os.scandir(path.parent) if entry.name == path.name)
    assert model.detect(entry, 0.0).path == path  # type: ignore[arg-type]


FORKED = """
import multiprocessing, sys
import torch, foodbox
torch.set_num_threads(2)
model = foodbox.load(sys.argv[1])
torch.nn.functional.conv2d(torch.rand(8, 16, 64, 64), torch.rand(16, 16, 3, 3))
child = multiprocessing.get_context("fork").Process(target=model.detect, args=(sys.argv[2],))
child.start()
child.join(60)
sys.exit(child.exitcode if child.exitcode is not None else child.kill() or 99)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system has no forks.")
def test_a_model_loaded_before_a_fork_detects_in_the_child(detector: RetinaNet, drawn: Dataset, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKED, str(saved(detector, tmp_path)), str(drawn.photos[0].path)]
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (None, "A photo is NoneType: expected a path, an open file, a Pillow picture, or an array"),
        (torch.zeros(3, 8, 8), "A photo is Tensor"),
        (np.zeros((8, 8, 3)), r"A photo is an array \[8, 8, 3\] of float64"),
        (np.zeros((3, 8, 8), np.uint8), r"A photo is an array \[3, 8, 8\] of uint8"),
        (np.zeros((8, 8, 2), np.uint8), r"A photo is an array \[8, 8, 2\] of uint8"),
        ("", "A photo is an empty word"),
        (np.zeros((0, 0, 3), np.uint8), r"A photo is an array \[0, 0, 3\] of uint8"),
        (np.zeros(10, np.uint8), r"A photo is an array \[10\] of uint8"),  # as where a file was not decoded
        (np.array(1, np.uint8), r"A photo is an array \[\] of uint8"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"A photo is an array \[1, 8, 8, 3\] of uint8"),
        (Image.new("RGB", (0, 4)), "The picture has 0 x 4 pixels"),
    ],
)
def test_what_is_no_photo_is_said(detector: RetinaNet, wrong: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Model(detector, {}, "cpu").detect(wrong)


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan"), "0.5", [0.5], np.array([0.3, 0.4])])
def test_scores_that_are_none(detector: RetinaNet, score: Any) -> None:
    with pytest.raises(UsageError, match="expected a number from 0 to 1"):
        Model(detector, {}, "cpu").detect(np.zeros((8, 8, 3), np.uint8), score)


@pytest.mark.parametrize("name", ["x.pth", "x", "x.xml"])
def test_a_model_is_saved_as_what_it_can_be_read_from(detector: RetinaNet, name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"A model is saved as \.safetensors"):
        Model(detector, {}, "cpu").save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_process_that_may_have_none_of_its_own_opens_photos_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    assert default_workers() == 0


def saved(detector: RetinaNet, folder: Path) -> Path:
    Model(detector, {}, "cpu").save(folder / "model.safetensors")
    return folder / "model.safetensors"


def test_what_was_found_before_a_stop_is_written(
    detector: RetinaNet, drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(detector, {}, "cpu")
    whole = Model.detect_many

    def stopped(self: Model, *args: Any) -> Iterator[Detections]:
        yield from itertools.islice(whole(self, *args), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(Model, "detect_many", stopped)
    with pytest.raises(KeyboardInterrupt):
        foodbox.detect(model, [photo.path for photo in drawn], out=tmp_path / "out")
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 2
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 2


def test_photos_that_cannot_be_read_to_their_end_are_found_and_the_others_go_on(
    detector: RetinaNet, drawn: Dataset, tmp_path: Path
) -> None:
    """Two of twelve, which are met one after the other; what was detected before them is not detected again."""
    model, paths = Model(detector, {}, "cpu"), []
    for i, photo in zip(range(12), itertools.cycle(drawn), strict=False):
        paths.append(tmp_path / f"{i:02}{photo.path.suffix}")
        whole = photo.path.read_bytes()
        paths[-1].write_bytes(whole[: len(whole) // 2] if i in (5, 11) else whole)
    found, findings = foodbox.detect(model, paths, out=tmp_path / "out", min_score=0.0)
    assert [one.path for one in found] == [path for path in paths if path not in (paths[5], paths[11])]
    assert [(finding.photo, finding.harm) for finding in findings] == [(paths[5], "error"), (paths[11], "error")]
    assert len(list((tmp_path / "out").glob("*.*g"))) == 10
    alone_found = [model.detect(path, 0.0) for path in (paths[0], paths[10])]
    for one, other in zip(alone_found, (found[0], found[-1]), strict=True):
        torch.testing.assert_close(one.boxes, other.boxes, rtol=1e-3, atol=0.05)


def test_a_fault_that_nothing_explains_is_not_met_for_ever(
    detector: RetinaNet, drawn: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Iterator[Detections]:
        raise PhotoError("it was unreadable for a moment")
        yield

    monkeypatch.setattr(Model, "detect_many", broken)
    with pytest.raises(PhotoError, match="for a moment"):
        foodbox.detect(Model(detector, {}, "cpu"), [photo.path for photo in drawn])
