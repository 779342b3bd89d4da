"""From folders to the photos to train on and those to validate on: read, folded, sampled, checked, split."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from foodbox.config import TrainSettings
from foodbox.console import say
from foodbox.data import formats, splits
from foodbox.data.check import ACROSS, healthy, look_alikes, look_whole, sound
from foodbox.errors import FoodboxError, UsageError
from foodbox.findings import Finding
from foodbox.records import Dataset, Photo, counted


def read_labels(place: Path, format: str | None = None, whole: bool = False) -> tuple[Dataset, list[Finding]]:
    """`formats.read`, and says what the folder was read as."""
    dataset, findings = formats.read(place, format, whole)
    say(f"{place}: read as {formats.FORMATS[dataset.format].title}: {dataset}.")
    return dataset, findings


def part_of(dataset: Dataset, part: str | None) -> Dataset:
    """The photos of one part, where labels or folders name parts.

    Args:
        part: "train", "valid", "test" or "all"; None for "valid" where there is such a part, else for "test" beside
            others, as photos that were trained on flatter, else for all.

    Raises:
        UsageError: there is no such part.
    """
    there = {photo.part for photo in dataset}
    chosen = part or ("valid" if "valid" in there else "test" if "test" in there and len(there) > 1 else "all")
    if chosen == "all":
        return dataset
    if chosen not in there:
        known = ", ".join(sorted(there - {""})) or "none"
        raise UsageError(
            f"The photos have no part {chosen!r}: expected one of those that their labels or folders name ({known})."
        )
    inside = dataset.with_photos([photo for photo in dataset if photo.part == chosen])
    say(f"Of them the part {chosen!r}, which labels or folders name: {counted(len(inside), 'photo')}.")
    return inside


def read_parts(photos: Path, settings: TrainSettings, outlined: bool = False) -> tuple[Dataset, Dataset]:
    """The photos to train on and those to validate on, checked, with one list of names.

    They are those of another run's `--split`; else the second are those of `--valid`, else the part "valid" that the
    labels or the folders name, else a share of the first. A part "test" is left for testing.

    Args:
        outlined: only photos of which every box has an outline, for a detector that learns masks.

    Raises:
        UsageError: a folder is not there, or holds no labels that are known.
        FoodboxError: photos or labels are at fault, or none has outlines where they are needed.
    """
    split = None if settings.split is None else read_split(settings.split)
    dataset, given, findings = _named_parts(photos, settings)
    there = _paths(dataset) | _paths(given)
    dataset, given = _chosen_of(dataset, given, settings, split)
    named = given.photos and settings.valid is None and split is None
    if named and settings.valid_share != TrainSettings.model_fields["valid_share"].default:
        raise UsageError(
            "--valid-share sets photos apart, and labels or folders name those to validate on: leave --valid-share out."
        )
    if outlined:
        dataset = _with_outlines(dataset, "train")
        given = _with_outlines(given, "validate") if given.photos else given
    # Validation photos are set apart besides the sample, so that as many are trained on as were asked for.
    apart = 0 if given.photos else max(1, round((settings.sample or 0) * settings.valid_share))
    if settings.sample is not None:
        bad = {f.photo for f in findings if f.harm == "error"} if settings.skip_bad else set()
        labelled = dataset.with_photos([photo for photo in dataset if photo.labelled and photo.path not in bad])
        dataset = splits.sample(labelled, settings.sample + apart, settings.seed)
    both = dataset.with_photos(dataset.photos + given.photos)
    wanted = _paths(both)
    # Faults of photos that are left out stop nothing. Those that cannot be opened are of no part: they may be meant.
    chosen = settings.sample is not None or split is not None
    findings = [f for f in findings if f.photo is None or f.photo in wanted or not (chosen or f.photo in there)]
    findings += look_whole(both.photos)
    left, words = healthy(both, findings, settings.skip_bad)
    for line in words:
        say(line)
    if given.photos:
        kept = _paths(left)
        train, valid = (part.with_photos([p for p in part if p.path in kept]) for part in (dataset, given))
        _warn_of_look_alikes(train, valid)
    else:
        share = settings.valid_share
        if settings.sample is not None and len(left) >= settings.sample + apart:  # else all of few photos
            share = (len(left) - settings.sample) / len(left)
        train, valid = splits.split(left, share, settings.seed)
    _expect_boxes(train, "train")
    _expect_boxes(valid, "validate")
    _warn_of_unseen(train, valid, given=bool(given.photos))
    return train, valid


def _named_parts(photos: Path, settings: TrainSettings) -> tuple[Dataset, Dataset, list[Finding]]:
    """All photos to choose from, those of `--valid` apart, with one list of names, and the findings on both."""
    dataset, findings = read_labels(photos, settings.format)
    _warn_of_numbers(findings)
    if settings.valid is None:
        return dataset, dataset.with_photos([]), findings
    given, more = read_labels(settings.valid, settings.format)
    _warn_of_numbers(more)
    if settings.split is None:  # which says itself what is validated on
        given = part_of(given, None)  # as `evaluate` does
    names = dataset.names if dataset.names == given.names else sorted({*dataset.names, *given.names})
    return splits.with_names(dataset, names), splits.with_names(given, names), findings + more


def _chosen_of(
    dataset: Dataset, given: Dataset, settings: TrainSettings, split: dict[str, list[str]] | None
) -> tuple[Dataset, Dataset]:
    """Of these, the photos to train on and to validate on that a split, labels or folders name, with folded classes."""
    if split is not None and settings.split is not None:
        dataset, given = _saved(split, [dataset, given], dataset.names, settings.split)
    else:
        whole, dataset = dataset, _to_train_on(dataset)
        if settings.valid is None and len(dataset) < len(whole) and any(photo.part == "valid" for photo in whole):
            given = part_of(whole, "valid")
    if settings.one_class is None:
        return dataset, given
    return splits.one_class(dataset, settings.one_class), splits.one_class(given, settings.one_class)


def saved_parts(
    split: dict[str, list[str]], photos: Path, settings: TrainSettings, names: Sequence[str], run: Path
) -> tuple[Dataset, Dataset]:
    """The very photos that a run began with.

    Args:
        split: part → the photos' paths, as split.json has them.
        names: the run's classes.
        run: the run's folder, for what is said if photos are gone.
    """
    readings = [read_labels(place, settings.format) for place in (photos, settings.valid) if place is not None]
    sources = [dataset for dataset, _ in readings]
    if settings.one_class:
        sources = [splits.one_class(part, settings.one_class) for part in sources]
    parts = _saved(split, sources, names, run)
    both = [photo for part in parts for photo in part]
    wanted = {photo.path for photo in both}
    # Faults that have come since: what has lost its box would be taught as background.
    sound(parts[0], [finding for _, findings in readings for finding in findings if finding.photo in wanted], False)
    if bare := [photo.path for photo in both if not photo.labelled]:
        raise FoodboxError(
            f"{counted(len(bare), 'photo')} of {run} lost the labels since, such as {bare[0]}: bring them back, or "
            "start a new run."
        )
    return parts


def read_split(file: Path) -> dict[str, list[str]]:
    """A run's split.json: part → the photos' paths.

    Raises:
        UsageError: it is not there or no such file.
    """
    try:
        split = json.loads(file.read_text(encoding="utf-8"))
        return {part: [str(path) for path in split[part]] for part in ("train", "valid")}
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise UsageError(
            f"{file} is no split of a run ({fault}): expected a split.json that foodbox train wrote."
        ) from fault


def _to_train_on(dataset: Dataset) -> Dataset:
    """`splits.to_train_on`, and says what is left out."""
    chosen = splits.to_train_on(dataset)
    if left_out := len(dataset) - len(chosen):
        if chosen.photos[0].part:
            return part_of(dataset, "train")
        say(f"Training on none of the {left_out:,} photos kept for validation or tests.")
    return chosen


def _with_outlines(dataset: Dataset, role: str) -> Dataset:
    """The photos of which every box that counts has an outline; says how many others are left out.

    An object without one would teach a mask detector that its pixels belong to nothing.

    Raises:
        FoodboxError: no photo has outlines.
    """
    lacking = [photo for photo in dataset if not _is_outlined(photo)]
    gone = {photo.path for photo in lacking}
    left = dataset.with_photos([photo for photo in dataset if photo.path not in gone])
    if not left.box_count and lacking:
        holds = ", ".join(kind.title for kind in formats.FORMATS.values() if kind.masks)
        raise FoodboxError(
            f"This detector learns masks, and none of the {len(dataset):,} photos to {role} on has outlines of all its "
            f"objects, only boxes: label them with polygons ({holds} hold them), or train a detector that needs boxes "
            "only, such as --detector faster_rcnn."
        )
    if lacking:
        say(
            f"Left out {len(lacking):,} of {len(dataset):,} photos to {role} on, such as {lacking[0].path}: they have "
            "boxes without an outline, and this detector learns masks."
        )
    return left


def _is_outlined(photo: Photo) -> bool:
    """Whether every box that counts has an outline."""
    masks = photo.masks or [[]] * len(photo.boxes)
    return all(ignore or outlines for ignore, outlines in zip(photo.ignore.tolist(), masks, strict=True))


def _saved(
    split: dict[str, list[str]], sources: Sequence[Dataset], names: Sequence[str], origin: Path
) -> tuple[Dataset, Dataset]:  # fmt: skip
    """The photos of a split with labels into `names`; of other photos, which may have come later, no class matters."""
    # Absolute: the folder may be spelled another way than for the run.
    split = {part: [os.path.abspath(path) for path in paths] for part, paths in split.items()}  # noqa: PTH100 - no link followed
    wanted = {path for paths in split.values() for path in paths}
    by_path: dict[str, Photo] = {}
    for source in sources:
        there = {os.path.abspath(photo.path): photo for photo in source}  # noqa: PTH100
        own = {path: photo for path, photo in there.items() if path in wanted}
        if not own:  # the folder may have been named by a link, then or now
            real = {os.path.realpath(path): path for path in wanted}
            linked = ((real.get(os.path.realpath(path)), photo) for path, photo in there.items())
            own = {path: photo for path, photo in linked if path is not None}
        try:
            named = splits.with_names(source.with_photos(list(own.values())), names)
        except UsageError as fault:  # a class was renamed since
            raise FoodboxError(
                f"{fault} These are the classes of {origin}: name those of its photos as they were, or start a new run."
            ) from fault
        by_path |= dict(zip(own, named, strict=True))
    gone = [path for paths in split.values() for path in paths if path not in by_path]
    if gone:
        who = f"{counted(len(gone), 'photo')} of {origin} {'is' if len(gone) == 1 else 'are'}"
        raise FoodboxError(
            f"{who} no longer there or readable, such as {gone[0]}. Bring back what is missing, or start a new run."
            if not Path(gone[0]).exists()
            else f"{who} not in the folders that are named, such as {gone[0]}. Name its folder as well, with --valid."
        )
    train, valid = (
        Dataset([by_path[path] for path in split[part]], list(names), sources[0].format) for part in ("train", "valid")
    )
    return train, valid


def _paths(dataset: Dataset) -> set[Path]:
    return {photo.path for photo in dataset}


def _warn_of_numbers(findings: Sequence[Finding]) -> None:
    """Says in full where classes are called by their numbers, as they will be in the model."""
    for finding in findings:
        if finding.kind == "no class names" and finding.harm == "warning":
            say(str(finding))


def _warn_of_look_alikes(train: Dataset, valid: Dataset) -> None:
    count = sum(finding.kind == ACROSS for finding in look_alikes(train, valid))
    if count:
        who = "1 photo to train on looks like one" if count == 1 else f"{count:,} photos to train on look like ones"
        say(f"{who} to validate on, which flatters the scores: see foodbox check.")


def _expect_boxes(part: Dataset, role: str) -> None:
    """Raises FoodboxError where no photo to train, or to validate, on has a box that counts."""
    if not sum(part.class_counts(ignored=False)):
        besides = f" ({part.box_count} are marked as crowd or difficult)" if part.box_count else ""
        raise FoodboxError(
            f"None of the {len(part)} photos to {role} on has a box that counts{besides}: add labelled photos."
        )


def _warn_of_unseen(train: Dataset, valid: Dataset, given: bool) -> None:
    """Says which classes are validated on and not learnt.

    Args:
        given: the person said which photos to validate on.
    """
    lacking = zip(train.names, train.class_counts(), valid.class_counts(), strict=True)
    if unseen := [name for name, seen, wanted in lacking if wanted and not seen]:
        shown = ", ".join(unseen[:10]) + (f" and {len(unseen) - 10} more" if len(unseen) > 10 else "")
        say(
            f"No photo to train on shows {shown}, which is validated on: see how these classes are spelled."
            if given
            else f"All photos of {shown} were set apart for validation, and none is left to learn from: add photos."
        )
