"""Regions of a photo where something may be, found without a detector: selective search, for R-CNN and Fast R-CNN.

Uijlings, van de Sande, Gevers, Smeulders, "Selective Search for Object Recognition", IJCV 2013, as OpenCV has it. What
was found is kept in the user's cache folder, a file a photo, and looked up again by the photo's path, size and time and
by the settings of the search.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from foodbox.console import progress_bar, say
from foodbox.data.images import open_photo
from foodbox.data.inputs import FEW_REACHED, REACHED
from foodbox.data.processes import cores, processes
from foodbox.errors import FoodboxError
from foodbox.files import cache_folder, stamp, write_whole
from foodbox.ops.anchor_fitting import best_overlap
from foodbox.ops.boxes import area, clip
from foodbox.records import Frame, Photo, SelectiveSearch

RECALL_PHOTOS = 250
"""Photos of which it is measured."""
REGIONS_EXTRA = 'pip install "foodbox[regions]"'
# Goes into the names of the kept files. To be counted up when regions are found or ordered in another way.
VERSION = 1
# Uijlings, table 4, "Fast" has segmentations of k = 50 and 100. OpenCV takes the first k and a step, and adds a third,
# 150; its "quality" goes on to 250, the paper's to 300. Smoothing by 0.8 is OpenCV's.
FIRST_K, NEXT_K, SMOOTHING = 50, 50, 0.8


def expect_extra() -> None:
    """Looks whether the libraries for regions are there.

    Raises:
        FoodboxError: they are not, with the command that installs them.
    """
    missing = [name for name in ("cv2", "sklearn") if importlib.util.find_spec(name) is None]
    if not missing:
        import cv2

        if hasattr(cv2, "ximgproc"):
            return
        missing = ["cv2.ximgproc"]  # an OpenCV without its contributed modules
    raise FoodboxError(
        f"R-CNN and Fast R-CNN need libraries that find regions, and {' and '.join(missing)} cannot be imported: "
        f"{REGIONS_EXTRA}."
    )


def find(image: Image.Image, search: SelectiveSearch) -> Tensor:
    """The regions of an RGB picture, the most promising first: float32 [R, 4] in its pixels, R <= search.proposals.

    The search is of a picture reduced to search_size pixels, for its time grows with their number and it does not see
    objects of any size alike: at one size for all photos, as in R-CNN section 4.2, it means the same for all of them.
    """
    small = _reduced(image.width, image.height, search)
    return _in_pixels(_search(image, small, search), small, image.width, image.height, search)


def of_photo(photo: Photo, search: SelectiveSearch) -> Tensor:
    """`find` of a photo on the disk, in its pixels: looked up, or found and kept.

    Raises:
        FoodboxError: the file is no photo.
    """
    found, small = _kept(_place(photo.path, search)), _reduced(photo.width, photo.height, search)
    if found is None:
        found = _find_and_keep((photo.path, small), search)
    return _in_pixels(found, small, photo.width, photo.height, search)


def prepare_all(photos: Sequence[Photo], search: SelectiveSearch) -> None:
    """Finds and keeps the regions of all photos that have none yet, on all cores.

    Raises:
        FoodboxError: a file is no photo, or the libraries are missing.
    """
    expect_extra()
    files = {photo.path: photo for photo in photos}  # which may be both trained and validated on
    missing = [
        (path, _reduced(photo.width, photo.height, search))
        for path, photo in files.items()
        if not _place(path, search).exists()
    ]
    if not missing:
        return
    say(f"Finding regions of {len(missing):,} photos (selective search), which are kept in {_folder()}.")
    with processes(min(cores(), len(missing))) as pool, progress_bar("regions", len(missing)) as bar:
        for _ in pool.map(partial(_find_and_keep, search=search), missing, chunksize=4):
            bar.advance()


def say_reached(photos: Sequence[Photo], search: SelectiveSearch) -> None:
    """Says how many boxes some region meets, where they are few: no detector of these regions finds the others."""
    some = [photo for photo in photos if not photo.ignore.all()][:RECALL_PHOTOS]
    best = torch.cat([best_overlap(photo.boxes[~photo.ignore], of_photo(photo, search)) for photo in some])
    if (share := float((best >= REACHED).float().mean())) < FEW_REACHED:
        say(
            f"The regions meet {share:.0%} of the boxes at IoU {REACHED}, and what none meets cannot be found: try a "
            f"--search-size over {search.search_size}, more --proposals, or another detector."
        )


def in_input(regions: Tensor, frame: Frame) -> Tensor:
    """Regions [R, 4] in the photo's pixels → those that the input shows, cut off at its border, in its pixels."""
    shown = clip(frame.to_input(regions), frame.input_width, frame.input_height)
    return shown[area(shown) > 0]


# -- The search -----------------------------------------------------------------------------------------------------


def _search(image: Image.Image, size: tuple[int, int], search: SelectiveSearch) -> npt.NDArray[np.uint16]:
    """All distinct regions of a picture reduced to `size`: [R, 4], x1 y1 x2 y2 in its pixels, in their order."""
    expect_extra()
    import cv2

    small = image.resize(size, Image.Resampling.BOX)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # photos are done side by side, in processes
    try:
        searching = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        searching.setBaseImage(np.asarray(small)[:, :, ::-1].copy())  # OpenCV's order is blue, green, red
        if search.search_mode == "fast":
            searching.switchToSelectiveSearchFast(FIRST_K, NEXT_K, SMOOTHING)
        else:
            searching.switchToSelectiveSearchQuality(FIRST_K, NEXT_K, SMOOTHING)
        found = np.asarray(searching.process(), dtype=np.int64).reshape(-1, 4)  # x y width height
    finally:
        cv2.setNumThreads(threads)
    found = np.unique(np.hstack((found[:, :2], found[:, :2] + found[:, 2:])), axis=0)  # x1 y1 x2 y2, one order
    return found[_order(found)].astype(np.uint16)


def _order(regions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Uijlings section 3.3: a region's place in the hierarchy times a random number; least first.

    The whole photo's place is 1. OpenCV draws from C's rand(), which gives another order each time; here the same
    regions always have the same order. Places go by area, for OpenCV does not say how regions were merged: what
    contains another comes before it, as there.
    """
    sizes = (regions[:, 2] - regions[:, 0]) * (regions[:, 3] - regions[:, 1])
    place = np.empty(len(regions))
    place[np.argsort(-sizes, kind="stable")] = np.arange(1, len(regions) + 1)
    order: npt.NDArray[np.int64] = np.argsort(place * np.random.default_rng(0).random(len(regions)), kind="stable")
    return order


def _reduced(width: int, height: int, search: SelectiveSearch) -> tuple[int, int]:
    """Width and height of the picture that is searched; a smaller one is not enlarged."""
    scale = min(1.0, search.search_size / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _in_pixels(
    found: npt.NDArray[np.uint16], small: tuple[int, int], width: int, height: int, search: SelectiveSearch
) -> Tensor:
    """The first regions, in pixels of a photo of width x height that was reduced to `small`."""
    boxes = torch.from_numpy(found[: search.proposals].astype(np.float32))  # [R, 4]
    return boxes * torch.tensor([width / small[0], height / small[1]] * 2)


# -- What is kept ---------------------------------------------------------------------------------------------------


def _folder() -> Path:
    return cache_folder() / "regions"


def _place(path: Path, search: SelectiveSearch) -> Path:
    """The file of a photo's regions: another one when its bytes, its time or the search is another one."""
    size, time = stamp(path)
    if (size, time) == (0, 0):
        raise FoodboxError(f"There is no photo {path} any more. Put it back, or leave it out.")
    about = f"{VERSION} {search.search_mode} {search.search_size} {size} {time}\n"
    name = hashlib.sha256(about.encode() + os.fsencode(path.absolute())).hexdigest()[:32]
    return _folder() / name[:2] / f"{name}.npy"


def _kept(place: Path) -> npt.NDArray[np.uint16] | None:
    """What the file holds; None where there is none, or a damaged one."""
    try:
        found: npt.NDArray[np.uint16] = np.load(place, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = found.dtype == np.uint16 and found.ndim == 2 and found.shape[1] == 4
    return found if fits else None


def _keep(place: Path, found: npt.NDArray[np.uint16]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, found, allow_pickle=False)
    with suppress(FoodboxError):  # a full disk: they are found again, which is slower and no reason to end a run
        write_whole(place, buffer.getvalue())


def _find_and_keep(photo: tuple[Path, tuple[int, int]], search: SelectiveSearch) -> npt.NDArray[np.uint16]:
    """The regions of a photo's file, reduced to width x height."""
    path, size = photo
    found = _search(open_photo(path, at_least=(search.search_size, 1)), size, search)
    _keep(_place(path, search), found)
    return found
