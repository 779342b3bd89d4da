"""The training loop: it learns, repeats itself, can be stopped and gone on with, and keeps what is good."""

import dataclasses
import itertools
import json
import math
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import foodbox
from foodbox import api
from foodbox.config import TrainSettings, batch_size_for, epochs_for
from foodbox.data import tables
from foodbox.data.formats import FORMATS, read
from foodbox.data.loader import photo_loader
from foodbox.detectors.retinanet import LIGHT, RetinaNet, RetinaNetSettings
from foodbox.errors import FoodboxError, UsageError
from foodbox.evaluation.diagnosis import Diagnosis
from foodbox.evaluation.scores import Scores
from foodbox.records import Dataset
from foodbox.training import choices, keeper
from foodbox.training import fit as fit_module
from foodbox.training.feature_cache import freeze, kept_loader
from foodbox.training.run_folder import RunFolder
from foodbox.training.step import TrainStep
from foodbox.weights.model_file import read_model

QUICK: dict[str, Any] = {"batch_size": 4, "workers": 0, "size": 96, "precision": "float32", "valid_share": 0.25}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight drawn tables as a Pascal VOC folder."""
    folder = tmp_path_factory.mktemp("tables")
    drawn = tables.write_tables(folder, 8, seed=5, workers=1)
    FORMATS["voc"].write(Dataset(drawn, tables.NAMES), folder)
    return folder


def losses(run: Path) -> list[dict[str, float]]:
    return [json.loads(line)["losses"] for line in (run / "log.jsonl").read_text().splitlines()]


def tensors(file: Path) -> dict[str, torch.Tensor]:
    return read_model(file).tensors


def test_the_same_seed_gives_the_same_run(photos: Path, tmp_path: Path) -> None:
    runs = [foodbox.train(photos, runs=tmp_path, epochs=2, seed=seed, **QUICK) for seed in (1, 1, 2)]
    first, again, other = (losses(run.folder) for run in runs)
    assert first == again
    assert first != other
    last = [tensors(run.folder / "last" / "model.safetensors") for run in runs]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])


def test_where_decoded_photos_are_kept_changes_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOODBOX_CACHE", str(tmp_path / "cache"))
    runs = [
        foodbox.train(photos, runs=tmp_path, epochs=2, cache=cache, **QUICK) for cache in ("memory", "disk", "disk")
    ]
    assert "Keeping 6 decoded photos on disk" in capfd.readouterr().err
    assert len(list((tmp_path / "cache").glob("*.pixels"))) == 1
    first, *others = (losses(run.folder) for run in runs)
    assert others == [first, first]


@pytest.mark.parametrize("kept", [False, True])
def test_photos_of_both_shapes_are_scored_by_their_own_detections(drawn: Dataset, kept: bool) -> None:
    detector = RetinaNet(drawn.names, RetinaNetSettings(**RetinaNet.presets["light"]))
    checks = photo_loader(drawn.photos, detector.preprocessing, batch_size=2, workers=0)
    numbers = [number for batch in checks.batch_sampler for _, number in batch]
    assert numbers != sorted(numbers)  # upright and lying ones are mixed
    device = torch.device("cpu")
    if kept:
        freeze(detector, "backbone")
        checks = kept_loader(detector, checks, 1, device, half=False, disk=False)
    found = fit_module._detect(detector, checks, device, False, drawn, detector)
    assert [detections.path for detections in found] == [photo.path for photo in drawn]
    assert [(d.width, d.height) for d in found] == [(p.width, p.height) for p in drawn]


@pytest.mark.parametrize(
    ("epoch", "keeping", "kept"),
    [
        (2, 0.0, 1),
        (3, 0.0, 2),
        (3, 1e9, 1),  # short epochs: only the first is kept
    ],
)
def test_resume_goes_on_where_it_was(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, keeping: float, kept: int
) -> None:
    """A run stopped by Ctrl-C in its second or third epoch and gone on with ends as one that was never stopped."""
    whole = foodbox.train(photos, runs=tmp_path, name="whole", epochs=3, **QUICK)

    forward, calls = TrainStep.forward, []

    def stopping(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2 * epoch:  # two steps an epoch: its last one
            raise KeyboardInterrupt
        return forward(self, *arguments)

    monkeypatch.setattr(TrainStep, "forward", stopping)
    monkeypatch.setattr(keeper, "KEEP_SECONDS", keeping)
    stopped = foodbox.train(photos, runs=tmp_path, name="stopped", epochs=3, **QUICK)
    assert stopped.interrupted
    assert len(losses(stopped.folder)) == epoch - 1
    assert RunFolder(stopped.folder).read_state()[1].epochs == kept
    assert foodbox.load(stopped.model).names == sorted(tables.NAMES)
    monkeypatch.undo()

    resumed = foodbox.resume(stopped.folder)
    assert not resumed.interrupted
    assert losses(resumed.folder) == losses(whole.folder)
    ends = [tensors(run.folder / "last" / "model.safetensors") for run in (whole, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert resumed.scores == whole.scores


def test_the_best_model_may_be_of_an_epoch_that_was_not_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going on, even twice, no worse model takes its place, and its scores are the run's."""
    monkeypatch.setattr(keeper, "KEEP_SECONDS", 1e9)
    score, given = fit_module.score, iter((0.1, 0.9, None, 0.2, None, 0.3))

    def scored(*arguments: Any) -> Scores:
        if (ap := next(given)) is None:  # Ctrl-C in the third epoch
            raise KeyboardInterrupt
        return dataclasses.replace(score(*arguments), ap=ap)

    monkeypatch.setattr(fit_module, "score", scored)
    stopped = foodbox.train(photos, runs=tmp_path, epochs=3, **QUICK)
    before = stopped.model.read_bytes()
    foodbox.resume(stopped.folder)  # and stopped again, when the second epoch was kept
    resumed = foodbox.resume(stopped.folder)
    assert (stopped.epoch, resumed.epoch) == (2, 2)
    assert resumed.scores is not None
    assert resumed.scores.ap == 0.9
    assert resumed.model.read_bytes() == before


def test_models_know_their_own_epochs_threshold_and_the_samples_are_the_best_ones(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, given = fit_module.score, iter(((0.5, 0.1), (0.9, 0.4), (0.2, 0.7)))
    drawn: list[float] = []
    pictures = Diagnosis.pictures

    def scored(*arguments: Any) -> Scores:
        ap, threshold = next(given)
        return dataclasses.replace(score(*arguments), ap=ap, threshold=threshold)

    def drawing(diagnosis: Diagnosis) -> dict[str, bytes]:
        drawn.append(diagnosis.threshold)
        assert all((found.scores >= diagnosis.threshold).all() for _, found in diagnosis.samples)
        return pictures(diagnosis)

    monkeypatch.setattr(fit_module, "score", scored)
    monkeypatch.setattr(Diagnosis, "pictures", drawing)
    run = foodbox.train(photos, runs=tmp_path, epochs=3, **QUICK)
    assert foodbox.load(run.model).threshold == 0.4
    assert foodbox.load(run.folder / "last" / "model.safetensors").threshold == 0.7
    assert drawn == [0.4]


def test_a_state_without_scores_takes_them_from_the_log(photos: Path, tmp_path: Path) -> None:
    """As foodbox wrote them once: with the best figure alone."""
    run = foodbox.train(photos, runs=tmp_path, epochs=1, **QUICK)
    state = run.folder / "last" / "state.safetensors"
    values, progress = RunFolder(run.folder).read_state()
    told = {"epochs": 1, "best": 0.5, "best_epoch": 1, "seconds": progress.seconds}
    save_file(values, state, {"progress": json.dumps(told)})
    resumed = foodbox.resume(run.folder)
    assert (resumed.scores, resumed.epoch) == (run.scores, 1)
    log = run.folder / "log.jsonl"
    log.write_text(log.read_text()[:-20])
    with pytest.raises(UsageError, match=r"log\.jsonl:1 cannot be read as an epoch"):
        foodbox.resume(run.folder)


def test_stopped_in_the_first_epoch_leaves_a_model(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainStep, "forward", stopping)
    run = foodbox.train(photos, runs=tmp_path, epochs=1, **QUICK)
    assert run.interrupted
    assert run.scores is None
    photo = next((photos / "images").glob("*.jpg"))
    assert foodbox.load(run.model).detect(photo, min_score=0).names == sorted(tables.NAMES)
    with pytest.raises(UsageError, match="no epoch ended"):
        foodbox.resume(run.folder)


@pytest.mark.parametrize(("step", "factor"), [(3, math.nan), (4, math.nan), (3, -math.inf)])
def test_a_loss_that_is_not_finite_names_its_photos(
    step: int, factor: float, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first step of the second epoch, or at its last."""
    forward, calls = TrainStep.forward, []

    def exploding(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        found = forward(self, *arguments)
        return found | ({"boxes": found["boxes"] * factor} if len(calls) == step else {})

    monkeypatch.setattr(TrainStep, "forward", exploding)
    with pytest.raises(FoodboxError, match=r"boxes.*table_\d+\.jpg.*last good model") as fault:
        foodbox.train(photos, runs=tmp_path, name="run", epochs=2, **QUICK)
    kept = tmp_path / "run" / "last" / "model.safetensors"
    assert str(kept) in str(fault.value)
    assert all(torch.isfinite(t).all() for t in tensors(kept).values() if t.is_floating_point())


def test_a_run_does_what_its_settings_say(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step trains, clipped, in each epoch on the photos in another order."""
    loaders: list[tuple[Any, ...]] = []
    orders: list[list[Path | None]] = []
    norms: list[float] = []
    training: list[bool] = []

    def spied(owner: Any, name: str, look: Callable[..., None]) -> None:
        original = getattr(owner, name)

        def spy(*arguments: Any, **named: Any) -> Any:
            look(*arguments)
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, spy)

    spied(fit_module, "training_loader", lambda *given: loaders.append(given))
    spied(fit_module, "PendingLoss", lambda _, batch: orders.append([frame.path for frame in batch.frames]))
    spied(fit_module.Accelerator, "clip_grad_norm_", lambda _, parameters, norm: norms.append(norm))
    spied(RetinaNet, "losses", lambda detector, *_: training.append(detector.training))
    changes: dict[str, Any] = {"mirror": 0.25, "upside_down": 0.6, "zoom": (0.9, 1.1), "colour": 0.75, "stretch": 1.5}
    foodbox.train(photos, runs=tmp_path, epochs=3, seed=7, clip=3.0, **changes, **QUICK)
    ((augmentation, *rest),) = (given[2:6] for given in loaders)
    assert {name: getattr(augmentation, name) for name in changes} == changes
    assert rest == [4, 0, 7]  # photos a step, workers, seed
    assert norms == [3.0] * 6  # two steps an epoch
    assert training == [True] * 6
    epochs = [(*orders[i], *orders[i + 1]) for i in (0, 2, 4)]
    assert len({frozenset(epoch) for epoch in epochs}) == 1
    assert len(set(epochs)) == 3


def test_a_stop_before_the_first_step_leaves_the_name_free(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fit_module, "make_optimiser", stopping)
    with pytest.raises(KeyboardInterrupt):
        foodbox.train(photos, runs=tmp_path, name="mine", epochs=1, **QUICK)
    assert not (tmp_path / "mine").exists()


def test_a_run_goes_on_from_another_folder(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where other photos of the same names may lie."""
    other = tmp_path / "other"
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copytree(photos, other / "photos")
    monkeypatch.chdir(tmp_path)
    run = foodbox.train("photos", valid="photos", runs="runs", epochs=1, **(QUICK | {"valid_share": 0.2}))
    monkeypatch.chdir(other)
    seen: list[Path] = []
    monkeypatch.setattr(api, "_fit", lambda _, train, valid, *__, **___: seen.extend(p.path for p in (*train, *valid)))
    foodbox.resume(tmp_path / run.folder)
    assert len(seen) == 16
    assert all(path.is_relative_to(tmp_path / "photos") for path in seen)


def test_unsure_detections_are_scored(photos: Path) -> None:
    dataset, _ = read(photos)
    torch.manual_seed(0)
    network = RetinaNet(dataset.names, RetinaNetSettings(**LIGHT))
    checks = photo_loader(dataset.photos, network.preprocessing, 8, 0)
    found = fit_module._detect(network, checks, torch.device("cpu"), False, dataset, network)
    assert all(len(detections) for detections in found)


def test_the_last_fit_is_of_the_photos_to_train_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(
        RetinaNet, "finish", lambda _, batches: seen.extend(str(f.path) for batch in batches for f in batch.frames)
    )
    run = foodbox.train(photos, runs=tmp_path, epochs=1, **QUICK)
    assert sorted(seen) == sorted(json.loads((run.folder / "split.json").read_text())["train"])


@pytest.mark.parametrize(("precision", "expected"), [("bfloat16", "bf16"), ("float32", "no")])
def test_the_precision_is_as_asked_for(precision: Any, expected: str) -> None:
    made = fit_module._accelerator(TrainSettings(precision=precision, device="cpu"))
    assert made.mixed_precision == expected


@pytest.mark.parametrize(("photos", "size"), [(1, 2), (119, 2), (180, 3), (250, 4), (480, 8), (40_612, 8)])
def test_few_photos_a_step_where_there_are_few(photos: int, size: int) -> None:
    assert batch_size_for(photos) == size


@pytest.mark.parametrize(("time", "seconds"), [("90s", 90), ("15m", 900), ("1.5h", 5400)])
def test_times_in_seconds(time: str, seconds: float) -> None:
    assert TrainSettings(time=time).budget == seconds


def test_weights_of_a_run_start_another(photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """All of the network comes over where the classes are the same; with others, only what is common to them."""
    first = foodbox.train(photos, runs=tmp_path, epochs=1, pyramid_channels=32, **QUICK)
    capfd.readouterr()
    again = foodbox.train(photos, runs=tmp_path, epochs=1, weights=str(first.model), **QUICK)
    told = capfd.readouterr().err
    assert "randomly initialised" not in told
    assert foodbox.load(again.model).detector.settings.pyramid_channels == 32  # the file's, not the preset's
    one = foodbox.train(photos, runs=tmp_path, epochs=1, weights=str(first.model), one_class="food", **QUICK)
    assert "randomly initialised" not in capfd.readouterr().err  # whether anything is there at all is the same question
    foodbox.train(photos, runs=tmp_path, epochs=1, weights=str(one.model), **QUICK)
    assert "randomly initialised: classes." in capfd.readouterr().err


def test_fitted_anchors_and_another_runs_split(photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Anchors that reach more boxes are kept in the model; what the person sets goes before them."""
    first = foodbox.train(photos, runs=tmp_path, epochs=1, fit_anchors=True, seed=3, **QUICK)
    assert "boxes are reached by an anchor of retinanet" in capfd.readouterr().err
    split = first.folder / "split.json"
    sizes = (9.0, 18.0, 36.0, 72.0, 144.0)
    of_split = {name: value for name, value in QUICK.items() if name != "valid_share"}
    again = foodbox.train(
        photos, runs=tmp_path, epochs=1, fit_anchors=True, split=split, seed=4, anchor_sizes=sizes, **of_split
    )
    assert foodbox.load(again.model).detector.settings.anchor_sizes == sizes
    said = capfd.readouterr().err
    assert " changed." in said
    assert "anchor_sizes" not in said  # of which nothing is changed, nor is their share given
    assert (again.folder / "split.json").read_text() == split.read_text()
    other = foodbox.train(photos, runs=tmp_path, epochs=1, seed=4, **QUICK)
    assert (other.folder / "split.json").read_text() != split.read_text()


def test_anchors_are_fitted_to_the_network_that_the_weights_bring(photos: Path, tmp_path: Path) -> None:
    """Its input has another size than the preset's, and its pyramid other levels."""
    own = {**QUICK, "size": 64, "anchor_sizes": (16.0, 32.0, 64.0, 128.0)}
    first = foodbox.train(photos, runs=tmp_path, epochs=1, preset="coarse", **own)
    again, anew = (
        foodbox.train(photos, runs=tmp_path, epochs=1, fit_anchors=True, **more, **asked)  # type: ignore[arg-type]
        for more, asked in (
            ({name: value for name, value in QUICK.items() if name != "size"}, {"weights": first.model}),  # a Path, too
            (own, {"preset": "coarse"}),
        )
    )
    of_weights, expected = (foodbox.load(run.model).detector.settings for run in (again, anew))
    assert len(of_weights.anchor_sizes) == 4
    assert of_weights.preprocessing.size == 64
    assert of_weights.anchor_ratios == expected.anchor_ratios


def test_a_preset_beside_a_model_of_another_is_told(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = foodbox.train(photos, runs=tmp_path, epochs=1, preset="coarse", **QUICK)
    capfd.readouterr()
    foodbox.train(photos, runs=tmp_path, epochs=1, preset="coarse", weights=first.model, **QUICK)
    assert "brings its own network" not in capfd.readouterr().err
    foodbox.train(photos, runs=tmp_path, epochs=1, preset="light", weights=first.model, **QUICK)
    assert f"{first.model} brings its own network: --preset light does not change it." in capfd.readouterr().err


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_a_model_scores_as_it_did_in_its_run(photos: Path, tmp_path: Path, precision: str) -> None:
    run = foodbox.train(photos, valid=photos, runs=tmp_path, epochs=2, workers=0, size=96, precision=precision)
    assert run.scores is not None
    assert foodbox.evaluate(run.model, photos) == run.scores


def test_unknown_settings_are_refused_before_reading(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no setting 'epoch': did you mean 'epochs'"):
        foodbox.train(tmp_path, epoch=3)


@pytest.mark.parametrize(
    ("photos", "epochs"), [(1, 100), (25, 100), (26, 96), (100, 25), (249, 10), (250, 10), (40_612, 10)]
)
def test_few_photos_are_seen_more_often(photos: int, epochs: int) -> None:
    assert epochs_for(photos) == epochs


def test_without_a_number_of_epochs_the_photos_decide(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Five, as if the six photos were many, lest it takes too long; the rate falls to the end of just so many."""
    monkeypatch.setattr(choices, "epochs_for", lambda count: epochs_for(100 * count) // 2)
    run = foodbox.train(photos, runs=tmp_path, **QUICK)
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == [1, 2, 3, 4, 5]
    assert log[-1]["learning_rate"] == pytest.approx(0, abs=5e-5)
    assert "epoch   5/5  loss" in capfd.readouterr().err
    saved = RunFolder(run.folder).read_config()
    decided = {"preset": "light", "epochs": 5, "batch_size": 4, "learning_rate": 1e-3, "backbone_rate": 0.3}
    assert saved["train"] | decided == saved["train"]
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert re.search(r"<p>retinanet \(light\), 96 px, 6 training photos, batches of 4, 5 epochs, \d+ s; the best", page)


def test_a_budget_of_time_ends_the_run(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of ours: a second whenever somebody looks. Unscored epochs keep the scores' share of time small."""
    ticks = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))
    run = foodbox.train(photos, runs=tmp_path, time="4m", **QUICK)
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert 200 < log[-1]["seconds"] <= 260
    assert log[-1]["learning_rate"] == pytest.approx(1e-5, abs=5e-5)  # it has fallen to the end
    epochs = [entry["epoch"] for entry in log]
    assert epochs == sorted(set(epochs))
    assert epochs[-1] > len(epochs) > 1  # most epochs went unscored
    assert (run.folder / "curves.png").stat().st_size > 0
    resumed = foodbox.resume(run.folder)  # nothing is left of the time
    assert len((run.folder / "log.jsonl").read_text().splitlines()) == len(log)
    assert resumed.scores == run.scores


def test_the_last_fit_is_made_though_scoring_used_up_the_time(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that leaps when the first epoch is scored: one more step, then the last fit and the last scores."""
    now, fits = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    detect = fit_module._detect

    def slow(*arguments: Any) -> Any:
        now[0] += 50
        return detect(*arguments)

    monkeypatch.setattr(fit_module, "_detect", slow)
    monkeypatch.setattr(RetinaNet, "finish", lambda self, batches: fits.append(len(list(batches))))
    run = foodbox.train(photos, runs=tmp_path, time="60s", **QUICK)
    assert len(fits) == 1
    assert len(losses(run.folder)) == 2


def test_time_is_left_for_the_last_fit(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of ours: a step takes a second, scoring or fitting half a second a photo."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def takes(target: object, name: str, seconds: Callable[..., float]) -> None:
        original = getattr(target, name)

        def slow(*arguments: Any) -> Any:
            now[0] += seconds(*arguments)
            return original(*arguments)

        monkeypatch.setattr(target, name, slow)

    takes(fit_module, "set_rate", lambda *_: 1)
    takes(fit_module, "_detect", lambda *arguments: len(arguments[4]) / 2)
    takes(fit_module, "_finish", lambda _, train, *__: len(train) / 2)
    monkeypatch.setattr(RetinaNet, "finish", lambda self, batches: None)
    run = foodbox.train(photos, runs=tmp_path, time="40s", **QUICK)
    assert 39 <= run.seconds <= 41


def test_the_last_fit_is_made_though_coming_back_used_up_the_time(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that stands still until the run is stopped, and leaps while it comes back."""
    now, fits, scored = [0.0], [], [0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(RetinaNet, "finish", lambda self, batches: fits.append(len(list(batches))))
    detect = fit_module._detect

    def stopped(*arguments: Any) -> Any:
        scored[0] += 1
        if scored[0] == 2:
            raise KeyboardInterrupt
        return detect(*arguments)

    monkeypatch.setattr(fit_module, "_detect", stopped)
    run = foodbox.train(photos, runs=tmp_path, time="60s", **QUICK)
    assert (run.interrupted, fits) == (True, [])
    now[0] = 1000
    monkeypatch.setattr(keeper, "KEEP_SECONDS", 0.0)
    read = RunFolder.read_state

    def late(self: RunFolder) -> Any:
        tensors, progress = read(self)
        return tensors, dataclasses.replace(progress, seconds=59.9999)

    monkeypatch.setattr(RunFolder, "read_state", late)
    monkeypatch.setattr(time, "monotonic", lambda: now.append(now[-1] + 1) or now[-1])
    assert not foodbox.resume(run.folder).interrupted
    assert len(fits) == 1
    monkeypatch.undo()
    monkeypatch.setattr(RetinaNet, "finish", lambda self, batches: fits.append(0))
    foodbox.resume(run.folder)  # which has ended
    assert len(fits) == 1


def test_less_time_than_reading_takes_still_trains_a_step(photos: Path, tmp_path: Path) -> None:
    run = foodbox.train(photos, runs=tmp_path, time="0.001s", **QUICK)
    assert run.scores is not None
    assert run.epoch == 1


@pytest.mark.parametrize("wrong", ["", "15", "m", "-3m", "0s", "nan m", "infh", "1d"])
def test_times_that_are_none(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"time is .*expected a time such as 90s, 15m or 2h"):
        foodbox.train(tmp_path, time=wrong)


@pytest.mark.slow
def test_it_learns(tmp_path: Path) -> None:
    """Eight tables, seen often, are learnt by heart: the loss falls and the boxes are found again."""
    drawn = tables.write_tables(tmp_path, 8, seed=11, workers=1)
    FORMATS["voc"].write(Dataset(drawn, tables.NAMES), tmp_path)
    run = foodbox.train(
        tmp_path, valid=tmp_path, runs=tmp_path / "runs", epochs=40, batch_size=4, workers=0, one_class="dish",
        mirror=0, zoom=(1.0, 1.0), colour=0, stretch=1,
    )  # fmt: skip
    sums = [sum(parts.values()) for parts in losses(run.folder)]
    assert sums[-1] < sums[0] / 4
    assert run.scores is not None
    assert run.scores.ap50 is not None
    assert run.scores.ap50 > 0.9
