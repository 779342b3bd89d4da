"""One detector of a comparison, trained and measured in a process of its own.

So its memory is its own, and when it breaks, nothing else does. It ends as soon as the process that started it is gone:
two must never write into one run. A line on standard input asks it to stop, as Ctrl-C would.
"""

from __future__ import annotations

import _thread
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from foodbox import api
from foodbox.comparison.results import Trial, refusal
from foodbox.data.images import open_photo
from foodbox.drawing.boxes import draw_detections, jpeg
from foodbox.errors import FoodboxError, UsageError, first_line
from foodbox.evaluation import speed
from foodbox.files import write_whole
from foodbox.garbage import collect_seldom, end_without_collecting
from foodbox.inference.output import find_all
from foodbox.model import load
from foodbox.records import Photo, Preprocessing
from foodbox.training.run_folder import RunFolder

RESULT = "trial.json"
"""In the run's folder: the trial, once it has ended."""
SIDE = 400
"""Longer side in pixels of a photo that is shown."""


class Order(NamedTuple):
    """What a trial is to do.

    Attributes:
        photos: the folder.
        folder: the comparison's; the run's is the one in it that is named after the detector.
        settings: what `foodbox.train` takes.
        shown: the photos that are drawn with what was found.
    """

    photos: str
    folder: str
    detector: str
    settings: dict[str, Any]
    shown: list[str]


def run(order: Order) -> Trial:
    """Trains, or goes on where a trial before was cut off, and measures.

    Raises:
        KeyboardInterrupt: it was asked to stop.
        FoodboxError: the detector cannot be trained on these photos, or on this machine.
    """
    folder = RunFolder(Path(order.folder) / order.detector)
    trained = _train(order, folder)
    memory = speed.peak_memory()
    if trained.interrupted:
        raise KeyboardInterrupt
    earlier = folder.read_state()[1].memory  # that of the process which began, where this one went on
    memory = max(memory or 0, earlier or 0) or None
    model = load(trained.model, order.settings.get("device"))
    gpu_memory = torch.cuda.max_memory_allocated() if model.device.type == "cuda" else None
    scores = trained.scores.to_dict() if trained.scores else {}
    log, preprocessing = folder.log(), model.detector.preprocessing
    for i, path in enumerate(order.shown):
        picture = draw_detections(opened(Path(path)), model.detect(path))
        write_whole(folder.path / shown_name(i), jpeg(picture))

    photos, _ = find_all(folder.read_split()["valid"])
    milliseconds, rate = None, None
    if seconds := speed.median_seconds(model.detect, _at_input_size(photos, preprocessing)):
        milliseconds = 1000 * seconds
        some = photos[: max(8, int(speed.LONG_ENOUGH / seconds))]
        with _nothing_kept():
            rate = speed.per_second(model.detect_many(some))
    # A photo, not an empty square: what a network of two stages has to do depends on what there is to see.
    square = opened(photos[0].path).resize((preprocessing.size, preprocessing.size))
    counted = model if model.device.type == "cpu" else load(trained.model, "cpu")  # what a GPU replays is not counted
    return Trial(
        detector=order.detector,
        ap=scores.get("ap"),
        ap50=scores.get("ap50"),
        mean_iou=scores.get("mean_iou"),
        mask_ap50=scores.get("mask_ap50"),
        seconds=trained.seconds,
        epochs=log[-1]["epoch"] if log else 0,
        milliseconds=milliseconds,
        photos_per_second=rate,
        parameters=speed.parameters(model.detector),
        multiply_adds=speed.multiply_adds(lambda: counted.detect(square)),
        memory=memory,
        gpu_memory=gpu_memory,
        file_size=trained.model.stat().st_size,
        size=preprocessing.size,
        device=_device_name(model.device),
        model=str(trained.model),
        course=[(entry["seconds"], entry["scores"]["ap"] or 0.0) for entry in log],
    )


def _train(order: Order, folder: RunFolder) -> api.Run:
    try:
        folder.read_state()
    except UsageError:  # no epoch ended: what there is came from a trial that was cut off, or did not get far
        shutil.rmtree(folder.path, ignore_errors=True)
        settings = order.settings | {"detector": order.detector}
        return api.train(order.photos, runs=order.folder, name=order.detector, **settings)
    return api.resume(folder.path)


def _at_input_size(photos: list[Photo], preprocessing: Preprocessing) -> Iterator[Image.Image]:
    """Photos one by one, as large as they are opened for detection: whole where they are seen in tiles."""
    for photo in photos:
        least = preprocessing.resized(photo.width, photo.height)
        yield open_photo(photo.path, None if preprocessing.tile_size else least)


@contextmanager
def _nothing_kept() -> Iterator[None]:
    """An empty cache folder: for photos that were never seen, training has left nothing there that saves time."""
    kept = os.environ.get("FOODBOX_CACHE")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as empty:
        os.environ["FOODBOX_CACHE"] = empty
        try:
            yield
        finally:
            os.environ.pop("FOODBOX_CACHE")
            os.environ.update({} if kept is None else {"FOODBOX_CACHE": kept})


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


# -- Pictures, which the comparison draws of the truth, too ---------------------------------------------------------


def opened(path: Path) -> Image.Image:
    """A photo as large as it is shown."""
    image = open_photo(path, at_least=(SIDE, 1))
    image.thumbnail((SIDE, SIDE))
    return image


def shown_name(place: int) -> str:
    """The file of the picture in this place."""
    return f"shown-{place + 1}.jpg"


# -- The process ----------------------------------------------------------------------------------------------------


def main() -> None:
    """Carries out the order that stands in the first argument, as JSON, and writes what came of it.

    Exit code 0: the result is written, be it a refusal. 1: stopped before the end.
    """
    collect_seldom()
    end_without_collecting()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would have none
    order = Order(**json.loads(sys.argv[1]))
    folder = Path(order.folder) / order.detector
    try:
        threading.Thread(target=_listen, daemon=True).start()  # it may have been asked to stop already
        trial = run(order)
    except KeyboardInterrupt:
        sys.exit(1)
    except FoodboxError as fault:
        trial = Trial(order.detector, refused=refusal(fault))
    except Exception as fault:  # a fault of ours or of the machine: the others are tried all the same
        write_whole(folder / "error.txt", traceback.format_exc())
        words = f"{type(fault).__name__}: {first_line(fault)}".rstrip(".")
        trial = Trial(order.detector, refused=f"It broke off ({words}). {folder / 'error.txt'} has the details.")
    trial.write(folder / RESULT)


def _listen() -> None:
    """A line asks to stop; the end of the stream says that the other side is gone."""
    while os.read(sys.stdin.fileno(), 80):  # not through Python's buffer, whose lock would be held at the end
        _thread.interrupt_main()
    os._exit(1)


if __name__ == "__main__":
    main()
