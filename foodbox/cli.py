"""`foodbox VERB`: each command is a few lines that call the API."""

import dataclasses
import errno
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import tyro
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from tyro.conf import Positional, arg

from foodbox import __version__
from foodbox.config import TrainSettings
from foodbox.console import is_speaker, say
from foodbox.errors import FoodboxError, UsageError, first_line
from foodbox.files import as_json
from foodbox.garbage import collect_seldom, end_without_collecting, without_collecting

Model = Annotated[Path, Positional, arg(metavar="MODEL", help_behavior_hint="")]
Photos = Annotated[Path, Positional, arg(metavar="PHOTOS", help_behavior_hint="")]
# Flags that may be left out; what happens then stands in their help.
Text = Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="")]
Word = Annotated[str, arg(metavar="TEXT")]
Place = Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")]
Whole = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
Number = Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")]
Part = Annotated[
    Literal["train", "valid", "test", "all"] | None, arg(metavar="{train,valid,test,all}", help_behavior_hint="")
]
Switch = Annotated[bool, arg(help_behavior_hint="")]

OF_TRAINING = {
    "--lr": "--learning-rate", "--lr0": "--learning-rate", "--imgsz": "--size", "--batch": "--batch-size",
    "--project": "--runs",
}  # fmt: skip
ELSEWHERE = {"train": OF_TRAINING, "compare": OF_TRAINING, "detect": {"--conf": "--min-score", "--project": "--out"}}
"""What other programs call a flag of a command, and what it is here."""
STOPPED = 130
"""The exit code that shells have for a program that Ctrl-C (signal 2) ended: 128 and its number."""

DESCRIPTION = """foodbox finds the food in your own photos: photos and boxes in, a trained detector out.

  foodbox demo                                see it learn on drawn tables
  foodbox check PHOTOS                        what is wrong with your photos and labels
  foodbox train PHOTOS                        train on your photos
  foodbox compare PHOTOS                      which detector is best for your photos
  foodbox evaluate runs/retinanet-1 PHOTOS    score it on labelled photos
  foodbox detect runs/retinanet-1 lunch.jpg   boxes on your photos
  foodbox export runs/retinanet-1             the same model, faster on a CPU
  foodbox serve runs/retinanet-1              a page for photos, and an HTTP API for programs
  foodbox --version                           which version this is
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """The program: exit code 0 done, 1 failed, 2 wrong call, 130 stopped by Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a letter that a file or a console in an older encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    end_without_collecting()
    try:
        code = _run(words)
        sys.stdout.flush()
    except FoodboxError as fault:
        say(f"foodbox: {fault}")
        sys.exit(fault.exit_code)
    except (MemoryError, RuntimeError) as fault:
        if (sentence := _of_memory(fault)) is None:
            raise
        say(f"foodbox: {sentence}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("foodbox: stopped.")
        sys.exit(STOPPED)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as fault:
        if (sentence := _of_disk(fault)) is None:
            raise
        if fault.filename is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left when it ends
        say(f"foodbox: {sentence}")
        sys.exit(UsageError.exit_code if fault.errno == errno.ENAMETOOLONG else 1)
    sys.exit(code or 0)


def _run(words: list[str]) -> int | None:
    """Does what the words ask for; 0, None or the exit code."""
    if words == ["--version"]:
        print(f"foodbox {__version__}")
        return 0
    if "" in words:  # a path of it would be the folder that one stands in
        raise UsageError("One of the words is empty, such as a variable that is not set: name what is meant.")
    for flag in (word.split("=", 1)[0] for word in words):
        if (meant := ELSEWHERE.get(words[0], {}).get(flag)) is not None:
            raise UsageError(f"There is no {flag}: use {meant}.")
    with without_collecting():
        commands = _commands(words)
        collect_seldom()  # now that most of what is imported has been
    code: int | None = commands.cli(
        prog="foodbox",
        description=DESCRIPTION,
        args=words,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    return code


def _of_memory(fault: MemoryError | RuntimeError) -> str | None:
    """What to say where memory ran out, as torch, numpy and the system tell it; None of any other fault."""
    words = first_line(fault)
    less = "train with a smaller --batch-size or --size, or close other programs."
    if re.match(r"DataLoader worker .* (killed|exited)", words):
        return f"A process that opens photos was ended, mostly for want of memory: take --workers 0, or {less}"
    if isinstance(fault, MemoryError) or re.search(r"out of memory|not enough memory|can't allocate memory", words):
        return f"Memory ran out ({words.rstrip('.')}): {less}"
    return None


def _of_disk(fault: OSError) -> str | None:
    """What to say where the disk does not take what it is given; None of any other fault."""
    if fault.filename is None:
        full = fault.errno in (errno.ENOSPC, errno.EIO)
        return f"Cannot write the result to standard output: {fault.strerror}." if full else None
    if fault.errno == errno.ENAMETOOLONG:
        return f"The name {str(fault.filename)[:40]}... is longer than the disk allows: give a shorter one."
    if fault.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EIO):
        return f"Cannot use {fault.filename}: {fault.strerror}. Look whether you may read and write it, and for room."
    return None


def _commands(words: list[str]) -> tyro.extras.SubcommandApp:
    app = tyro.extras.SubcommandApp()
    trains = _train_command(words), _compare_command(words)
    for command in (demo, check, convert, *trains, evaluate, detect, export, serve):
        app.command(command)
    return app


# -- The commands ---------------------------------------------------------------------------------------------------


def demo(
    folder: Annotated[Path, Positional, arg(metavar="[FOLDER]")] = Path("demo"),
    *,
    photos: int = 200,
    unseen: int = 40,
    epochs: int = 10,
    json: Switch = False,
) -> int:
    """Draw laid tables, train the default detector on them, and score it on unseen ones.

    Args:
        folder: Drawings and the run go here.
        photos: Tables to train on.
        unseen: Tables to score on.
        epochs: Passes over the tables.
        json: Print one JSON object and nothing else on standard output.
    """
    import foodbox

    run = foodbox.demo(folder, photos=photos, unseen=unseen, epochs=epochs)
    return _end(run, json)


def check(
    photos: Photos,
    *,
    valid: Place = None,
    format: Text = None,
    detector: Word = "retinanet",
    preset: Text = None,
    out: Path = Path("check"),
    fix: Place = None,
    json: Switch = False,
) -> int:
    """Find everything that is wrong or strange about photos and labels; exit code 1 if some cannot be trained on.

    Args:
        photos: Folder with photos and labels, or a label file such as annotations.csv.
        valid: Folder of validation photos, none of which should be in PHOTOS.
        format: The label format, if it is not detected.
        detector: The detector whose anchors are compared with the boxes.
        preset: The detector's preset; its first by default.
        out: Folder for report.html, which shows the findings with pictures.
        fix: New folder for a mended copy, with a list of the changes.
        json: Print one JSON object and nothing else on standard output.
    """
    import foodbox

    report = foodbox.check(photos, valid=valid, format=format, detector=detector, preset=preset, out=out, fix=fix)
    if json:
        _print_json(report.to_dict())
    else:
        _print_report(report)
        print(f"report  {out / 'report.html'}")
    return 1 if report.errors else 0


def convert(
    source: Annotated[Path, Positional, arg(metavar="SOURCE")],
    dest: Annotated[Path, Positional, arg(metavar="DEST")],
    *,
    to: Word,
    format: Text = None,
    skip_bad: Switch = False,
    json: Switch = False,
) -> None:
    """Copy photos into a new folder, with their labels in another format; says what the format cannot hold.

    Args:
        source: Folder with photos and labels, or a label file.
        dest: New folder.
        to: The format to write: starthon, kfood, kfood_corners, csv, voc, coco, yolo, labelme or uecfood.
        format: The format of SOURCE, if it is not detected.
        skip_bad: Leave faulty photos out instead of stopping.
        json: Print one JSON object and nothing else on standard output.
    """
    import foodbox

    dataset, lost = foodbox.convert(source, dest, to=to, format=format, skip_bad=skip_bad)
    if json:
        about = {"folder": str(dest), "format": to, "photos": len(dataset), "boxes": dataset.box_count}
        _print_json(about | {"classes": dataset.names, "lost": lost})
    else:
        print(f"{dest}: {dataset}")


def _train_command(words: list[str]) -> Any:
    """The train command, with a flag for each setting of the run and of the detector that the words name."""
    presets: list[str] = []
    own: dict[str, list[Flag]] = {}
    if words[:1] == ["train"]:  # torch is only needed to know the detector's settings
        from foodbox.api import detector_and_settings

        name = _value(words, "detector", "retinanet")
        kind, settings = detector_and_settings(name, _value(words, "preset", None))
        presets, own = list(kind.presets), _sections(settings, {next(iter(kind.Settings.model_fields)): name})
    Flags = _flags(_sections(TrainSettings(), RUN_SECTIONS, presets) | own)

    def train(
        photos: Annotated[Path | None, Positional, arg(metavar="[PHOTOS]", help_behavior_hint="")] = None,
        *,
        runs: Path = Path("runs"),
        name: Text = None,
        resume: Place = None,
        json: Switch = False,
        settings: Annotated[Flags, arg(name="")] = Flags(),  # type: ignore[valid-type]  # noqa: B008
    ) -> int:
        import foodbox

        if (photos is None) == (resume is None):
            raise UsageError("Name a folder of photos to train on, or a run to go on with (--resume runs/NAME).")
        given = _given(words, settings)
        if resume is not None:
            if others := [*given, *(flag for flag in ("name", "runs") if _is_given(words, flag))]:
                flag = others[0].replace("_", "-")
                raise UsageError(f"A run goes on with its own settings: leave --{flag} out beside --resume.")
            run = foodbox.resume(resume)
        else:
            run = foodbox.train(photos, runs=runs, name=name, **given)  # type: ignore[arg-type]
        return _end(run, json)

    train.__doc__ = """Train a detector on a folder of photos with boxes.

    Args:
        photos: Folder with photos and labels; the label format is detected.
        runs: The run folder is made in here.
        name: Name of the run folder; by default the detector's and a number.
        resume: A run folder: continue from its last saved epoch. Takes no other settings.
        json: Print one JSON object and nothing else on standard output.
    """
    return train


def _compare_command(words: list[str]) -> Any:
    """The compare command, with a flag for each setting that runs of all detectors have."""
    sections = _sections(TrainSettings(), RUN_SECTIONS)
    sections["detector"] = [flag for flag in sections["detector"] if flag[0] != "detector"]
    Flags = _flags(sections)

    def compare(
        photos: Photos,
        *,
        detectors: Word = "all",
        size: Whole = None,
        tile_size: Whole = None,
        runs: Path = Path("runs"),
        name: Text = None,
        json: Switch = False,
        settings: Annotated[Flags, arg(name="")] = Flags(),  # type: ignore[valid-type]  # noqa: B008
    ) -> int:
        import foodbox

        given = _given(words, settings)
        given |= {name: v for name, v in (("size", size), ("tile_size", tile_size)) if v is not None}
        result = foodbox.compare(photos, detectors=detectors, runs=runs, name=name, **given)
        if json:
            _print_json(result.to_dict())
        else:
            _print_comparison(result)
        return STOPPED if result.interrupted else 0 if result.scored else 1

    compare.__doc__ = """Train several detectors on the same photos with the same budget, and set them side by side.

    The same command again goes on where it was stopped; exit code 1 if no detector could be scored.

    Args:
        photos: Folder with photos and labels; the label format is detected.
        detectors: all, or names with commas between them. Each takes its first preset, or --preset.
        size: Input size in pixels, for all; by default each one's own.
        tile_size: Also see larger photos in tiles of this many pixels; 0: none; by default as suits each.
        runs: The comparison's folder is made in here.
        name: Name of the comparison's folder; to go on with one, or to add detectors to it.
        json: Print one JSON object and nothing else on standard output.
    """
    return compare


def evaluate(
    model: Model,
    photos: Photos,
    *,
    one_class: Text = None,
    format: Text = None,
    part: Part = None,
    tile_size: Whole = None,
    skip_bad: Switch = False,
    starthon_file: Place = None,
    out: Place = None,
    device: Text = None,
    json: Switch = False,
) -> None:
    """Score a model on labelled photos: COCO AP (of masks too), VOC AP50, recall, and the AI Starthon's mean IoU.

    Args:
        model: A model file, or a run folder for its best model.
        photos: Folder with photos and labels.
        one_class: Fold all classes of the photos into one of this name.
        format: The label format, if it is not detected.
        part: Part of the photos, where labels or folders name parts; by default valid, else test, else all.
        tile_size: Also see larger photos in tiles of this many pixels; 0: none; by default as the model was trained.
        skip_bad: Leave faulty photos out instead of stopping.
        starthon_file: Write the contest's prediction file: x,y,w,h as fractions, a line a photo by file name.
        out: Folder for report.html with precision-recall curves, the confusion matrix and the worst photos.
        device: cpu, cuda or mps; by default the fastest there is.
        json: Print one JSON object and nothing else on standard output.
    """
    import foodbox

    loaded = foodbox.load(model, device, tile_size=tile_size)
    scores = foodbox.evaluate(
        loaded,
        photos,
        one_class=one_class,
        format=format,
        part=part,
        skip_bad=skip_bad,
        starthon_file=starthon_file,
        out=out,
    )
    if json:
        _print_json(scores.to_dict())
        return
    _print_scores(scores.to_dict())
    if out is not None:
        print(f"report  {out / 'report.html'}")


def detect(
    model: Model,
    photos: Annotated[list[str], Positional, arg(metavar="PHOTO ...", help_behavior_hint="")],
    *,
    out: Path = Path("detections"),
    min_score: Number = None,
    tile_size: Whole = None,
    crop: Switch = False,
    device: Text = None,
    json: Switch = False,
) -> int:
    """Find boxes on photos, and outlines where the model has masks; writes pictures, one JSON and one CSV.

    Args:
        model: A model file, or a run folder for its best model.
        photos: Photos, folders, or patterns such as "july/*.jpg".
        out: Output folder.
        min_score: Drop detections with a lower score, 0 to 1; by default the threshold found on the validation photos.
        tile_size: Also see larger photos in tiles of this many pixels; 0: none; by default as the model was trained.
        crop: Also write each detected region as its own photo.
        device: cpu, cuda or mps; by default the fastest there is.
        json: Print the detections as JSON and nothing else on standard output.
    """
    import foodbox

    if not photos:
        raise UsageError("Name at least one photo, folder or pattern behind the model file.")
    if min_score is not None and not 0 <= min_score <= 1:
        raise UsageError(f"--min-score is {min_score:g}: expected a score from 0 to 1.")
    loaded = foodbox.load(model, device, tile_size=tile_size)
    min_score = loaded.threshold if min_score is None else min_score
    found, findings = foodbox.detect(loaded, photos, out=out, min_score=min_score, crop=crop)
    for finding in findings:
        say(f"foodbox: {finding}")
    if json:
        _print_json([detections.to_dict() for detections in found])
    else:
        hits = sum(len(detections) > 0 for detections in found)
        print(f"{sum(map(len, found))} found on {hits} of {len(found)} photos over {min_score:.3g}: see {out}")
    return 1 if findings else 0


def export(
    model: Model,
    *,
    out: Place = None,
    int8: Place = None,
    valid: Place = None,
    json: Switch = False,
) -> None:
    """Write a model for OpenVINO, which detects faster on a CPU, or as ONNX; detect and evaluate take both.

    Args:
        model: A model file or run folder of a one-stage detector.
        out: NAME.xml for OpenVINO, with NAME.bin beside it, or NAME.onnx; by default OpenVINO's, beside the model.
        int8: For OpenVINO, folder of labelled photos to quantise to int8 with: faster still; prints its cost in AP.
        valid: Folder of labelled photos to score on before and after; by default those of --int8.
        json: Print one JSON object and nothing else on standard output.
    """
    import foodbox
    from foodbox.evaluation.scores import SCORE_ROWS

    result = foodbox.export(model, out=out, int8=int8, valid=valid)
    if json:
        _print_json(result.to_dict())
        return
    if result.before is not None and result.after is not None:
        print(f"{'':<28}  before  after")
        for key in ("ap", "ap50"):
            before, after = (_figure(scores.to_dict()[key]) for scores in (result.before, result.after))
            print(f"{SCORE_ROWS[key]:<28}  {before:>6}  {after:>5}")
    print(f"model   {result.model}")
    if result.weights is not None:
        print(f"weights {result.weights}")


def serve(
    model: Model,
    *,
    host: Word = "127.0.0.1",
    port: int = 8000,
    tile_size: Whole = None,
    device: Text = None,
    json: Switch = False,
) -> None:
    """Serve a model over HTTP until Ctrl-C: a page that photos are dropped on, and an API for programs.

    Args:
        model: A model file, or a run folder for its best model.
        host: The address to listen on; 0.0.0.0 to be reached from other computers and phones.
        port: The port to listen on; 0 for any free one.
        tile_size: Also see larger photos in tiles of this many pixels; 0: none; by default as the model was trained.
        device: cpu, cuda or mps; by default the fastest there is.
        json: Print one JSON object with the address and nothing else on standard output.
    """
    import foodbox

    def ready(address: str) -> None:
        print(as_json({"address": address}) if json else f"{address}  (Ctrl-C stops it)", flush=True)

    foodbox.serve(foodbox.load(model, device, tile_size=tile_size), host=host, port=port, ready=ready)


# -- Words and numbers out ------------------------------------------------------------------------------------------


def _print_json(value: Any) -> None:
    print(as_json(value, encoding=sys.stdout.encoding or "utf-8"))


LINES = 5
"""Findings of a kind that are printed; the report has more."""


def _print_report(report: Any) -> None:
    print(f"{report.dataset}")
    if parts := report.parts():
        print("photos by part: " + ", ".join(f"{part} {count:,}" for part, count in parts.items()))
    for (harm, kind), findings in report.kinds().items():
        print(f"{harm}: {kind} ({len(findings):,})")
        for finding in findings[:LINES]:
            print(f"  {finding}")
        if len(findings) > LINES:
            print(f"  ... and {len(findings) - LINES:,} more")
    if not report.findings:
        print("Nothing is wrong.")
    width = max([len("class"), *map(len, report.classes())])
    print(f"{'class':<{width}}  boxes  photos")
    for name, (boxes, photos) in report.classes().items():
        print(f"{name:<{width}}  {boxes:>5}  {photos:>6}")
    if report.anchors is not None:
        print(f"{report.anchors}.")


def _end(run: Any, json: bool) -> int:
    """Prints a run that has ended, and how to go on with one that was stopped; the exit code."""
    from foodbox.training.run_folder import RunFolder

    _print_run(run, json)
    if run.interrupted and RunFolder(run.folder).has_state:
        say(f"Go on with it: foodbox train --resume {run.folder}.")
    return STOPPED if run.interrupted else 0


def _print_run(run: Any, json: bool) -> None:
    if not is_speaker():
        return
    if json:
        _print_json(run.to_dict())
        return
    if run.scores is not None:
        _print_scores(run.scores.to_dict())
    print(f"{run.seconds:.0f} seconds; the best epoch was {run.epoch}.")
    print(f"model   {run.model}")
    for name in ("curves.png", "samples.jpg", "report.html"):
        if (run.folder / name).exists():
            print(f"{name.split('.')[0]:<7} {run.folder / name}")


def _print_comparison(result: Any) -> None:
    for line in [*result.lines(), *result.verdict()]:
        print(line)
    for name in ("report.html", "compare.png", "sheet.jpg", "table.csv"):
        if (result.folder / name).exists():
            print(f"{name.split('.')[0]:<7} {result.folder / name}")


def _print_scores(scores: dict[str, Any]) -> None:
    from foodbox.evaluation.scores import class_rows, score_rows
    from foodbox.records import counted

    print(f"{counted(scores['photos'], 'photo')}, {counted(scores['boxes'], 'box', 'boxes')}")
    for title, value in score_rows(scores):
        print(f"  {title:<40} {_figure(value)}")
    if len(scores["per_class"]) > 1:
        head, *rows = class_rows(scores)
        # Names may have line breaks.
        lines = {" ".join(row[0].split()): row[1:] for row in rows if row[-1]}
        width = max(len("class"), *map(len, lines))
        print(f"  {'class':<{width}}" + "".join(f"  {name:>9}" for name in head[1:]))
        for name, (*figures, boxes) in lines.items():
            print(f"  {name:<{width}}" + "".join(f"  {_figure(value):>9}" for value in figures) + f"  {boxes:>9}")
        if missing := sum(not row["boxes"] for row in scores["per_class"].values()):
            print(f"  {counted(missing, 'class has', 'classes have')} no box here")
    for remark in scores["remarks"]:
        print(f"{remark}.")


def _figure(value: float | None) -> str:
    return "  n/a" if value is None else f"{value:.3f}"


# -- Settings as flags ----------------------------------------------------------------------------------------------


RUN_SECTIONS = {
    "valid": "photo", "detector": "detector", "epochs": "training", "mirror": "augmentation", "precision": "hardware"
}  # fmt: skip
"""The sections of the help for `TrainSettings`: the setting that each begins with, and its name."""
Flag = tuple[str, Any, Any]
"""A field of a dataclass: its name, its type with the help, and its default."""


def _sections(settings: BaseModel, starts: dict[str, str], presets: Sequence[str] = ()) -> dict[str, list[Flag]]:
    """A flag for each setting, by section of the help; settings within settings have a section of their own.

    Numbers come in as words and are checked with the settings, which have their ranges and say what is wrong.

    Args:
        starts: the setting that each section begins with, and the section's name.
        presets: those of the detector, for the help.
    """
    sections: dict[str, list[Flag]] = {}
    title = ""
    for name, info in type(settings).model_fields.items():
        title = starts.get(name, title)
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            sections |= _sections(value, {next(iter(type(value).model_fields)): name})
        else:
            choices = presets if name == "preset" else ()
            sections.setdefault(title, []).append(_flag(name, info, value, choices))
    return sections


def _flags(sections: dict[str, list[Flag]]) -> Any:
    """The dataclass of flags that tyro reads, one within it for each section."""
    fields = []
    for title, flags in sections.items():
        kind = dataclasses.make_dataclass(title, flags)
        fields.append((title, Annotated[kind, arg(name=title)], dataclasses.field(default_factory=kind)))
    return dataclasses.make_dataclass("Flags", fields, frozen=True)


def _given(words: list[str], flags: Any) -> dict[str, Any]:
    """The settings that the words give, from the flags that tyro read."""
    values = {name: value for section in vars(flags).values() for name, value in vars(section).items()}
    return {name: value for name, value in values.items() if _is_given(words, name)}


def _flag(name: str, info: FieldInfo, value: Any, choices: Sequence[str]) -> Flag:
    kind, metavar = _flag_type(info.annotation)
    if choices:
        metavar = "{" + ",".join(choices) + "}"
    shown = " ".join(
        f"{v:g}" if isinstance(v, float) else str(v) for v in (value if isinstance(value, tuple) else [value])
    )
    words = (info.description or "") + ("" if isinstance(value, bool) or value is None else f" (default: {shown})")
    if value is True:  # its flag is --no-...
        words = f"Switch off: {words[:1].lower()}{words[1:]}"
    note = arg(help=words, help_behavior_hint="", metavar=metavar)
    return name, Annotated[kind, note], dataclasses.field(default=_as_words(value, kind))


def _flag_type(annotation: Any) -> tuple[Any, str | None]:
    """The type that the command line takes for a setting's type, and the word that stands for it in the help."""
    if annotation is bool or get_origin(annotation) is Literal:
        return annotation, None
    if get_origin(annotation) is tuple:
        first, *others = get_args(annotation)
        metavar = _flag_type(first)[1]
        if others == [Ellipsis]:
            return tuple[str, ...], f"{metavar} ..."
        count = 1 + len(others)
        return tuple.__class_getitem__((str,) * count), " ".join([str(metavar)] * count)  # type: ignore[attr-defined]
    kind = next(k for k in (get_args(annotation) or (annotation,)) if k is not type(None))
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:  # or None, where it is not given
        return str, "{" + ",".join(get_args(kind)) + "}"
    return str, {int: "INT", float: "FLOAT", Path: "PATH"}.get(kind, "TEXT")


def _as_words(value: Any, kind: Any) -> Any:
    if kind is bool or get_origin(kind) is Literal:
        return value
    return tuple(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)


def _value(words: list[str], name: str, default: Any) -> Any:
    """What the words give for a flag that decides on the others; of several, the last counts, as for all flags."""
    found = default
    for i, word in enumerate(words):
        if word == f"--{name}" and i + 1 < len(words):
            found = words[i + 1]
        elif word.startswith(f"--{name}="):
            found = word.split("=", 1)[1]
    return found


def _is_given(words: list[str], name: str) -> bool:
    dashed = name.replace("_", "-")
    return any(w.split("=", 1)[0].replace("_", "-") in (f"--{dashed}", f"--no-{dashed}") for w in words)


if __name__ == "__main__":
    main()
