"""Opening a photo as a person sees it, and resizing it for a network."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO

import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from foodbox.data import heif
from foodbox.errors import FoodboxError
from foodbox.records import Frame, Preprocessing

ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)
"""File endings that are taken for photos, in lower case."""

_WAY = Image.Transpose
TURNS = {
    2: _WAY.FLIP_LEFT_RIGHT, 3: _WAY.ROTATE_180, 4: _WAY.FLIP_TOP_BOTTOM, 5: _WAY.TRANSPOSE, 6: _WAY.ROTATE_270,
    7: _WAY.TRANSVERSE, 8: _WAY.ROTATE_90,
}  # fmt: skip
"""EXIF orientation → how the stored pixels become those that a person sees."""


class PhotoError(FoodboxError):
    """A file that is no photo, or not a whole one. Its args are the path and, in words behind it, why not."""

    def __str__(self) -> str:
        return " ".join(map(str, self.args))


def photo_size(path: Path) -> tuple[int, int, int]:
    """Width and height in pixels as a person sees the photo, and its EXIF orientation, without decoding its pixels.

    Raises:
        PhotoError: the file cannot be opened as a photo.
    """
    with open_header(path) as image:
        return seen_size(image)


def open_photo(path: Path, at_least: tuple[int, int] | None = None) -> Image.Image:
    """A photo's pixels: EXIF turn applied, red green blue, what is transparent on white.

    Args:
        at_least: two sides in pixels below which a JPEG's must not fall; a large one is then decoded at a half, a
            quarter or an eighth of its size, which is much faster (the DCT's lower frequencies, libjpeg's scaling).

    Raises:
        PhotoError: the file is no photo, or is cut short.
    """
    with open_header(path) as image:
        return decode(image, path, at_least)


def open_header(path: Path | IO[bytes]) -> Image.Image:
    """A file, or one that is open already, as a photo whose pixels are not yet decoded. To be closed.

    Raises:
        PhotoError: it is no photo, or holds more pixels than Pillow opens (179 million, against decompression bombs).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path)
    except FileNotFoundError as fault:
        raise PhotoError(path, "is missing. Check the name.") from fault
    except UnidentifiedImageError as fault:
        if "HEIF" not in Image.ID and heif.is_heif(path):
            try:
                heif.teach_pillow()
            except ImportError:
                raise PhotoError(path, f"is a HEIC photo: {heif.EXTRA} to open it, or save it as JPEG.") from fault
            return open_header(path)
        raise PhotoError(path, "is no photo, whatever its name says. Replace it or leave it out.") from fault
    except Image.DecompressionBombError as fault:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise PhotoError(path, f"claims over {limit} million pixels, which are not opened. Make it smaller.") from fault
    except (OSError, SyntaxError, ValueError, RuntimeError, MemoryError) as fault:
        why = getattr(fault, "strerror", None) or fault  # the system's words have the path again
        raise PhotoError(path, f"cannot be opened as a photo ({why}). Replace it or leave it out.") from fault


def seen_size(image: Image.Image) -> tuple[int, int, int]:
    """Width and height of an opened photo in pixels as a person sees it, and its EXIF orientation, 1 to 8."""
    turn = _orientation(image)
    width, height = image.size
    # From 5 on width and height change places. Pillow turns TIFFs by itself, and gives their size turned already.
    turned = turn >= 5 and image.format != "TIFF"
    return (height, width, turn) if turned else (width, height, turn)


def decode(image: Image.Image, path: Path | IO[bytes], at_least: tuple[int, int] | None = None) -> Image.Image:
    """The pixels of a photo that `open_header` gave; as `open_photo`."""
    try:
        if at_least is not None:
            image.draft("RGB", _no_smaller(image.size, at_least))
        image.load()
        return as_seen(image)
    except (OSError, SyntaxError, ValueError, RuntimeError, MemoryError) as fault:
        raise PhotoError(
            path, f"is a broken photo ({fault}): expected a whole {image.format} file. Copy it again or leave it out."
        ) from fault


def resize(image: Image.Image, size: tuple[int, int], antialias: bool = True) -> Tensor:
    """Pixels of an RGB picture resized to width x height: uint8 [3, height, width]."""
    pixels = transforms.pil_to_tensor(image)
    resized: Tensor = transforms.resize(pixels, [size[1], size[0]], antialias=antialias)
    return resized


def prepare(
    image: Image.Image, preprocessing: Preprocessing, path: Path | None = None, size: tuple[int, int] | None = None
) -> tuple[Tensor, Frame]:
    """A picture as a network wants it: uint8 [3, h, w], and the way back to the photo's pixels.

    Args:
        size: width and height of the photo itself, where `image` was decoded at a reduced scale.
    """
    width, height = size or image.size
    pixels = resize(image, preprocessing.resized(width, height), preprocessing.antialias)
    return lay(pixels, preprocessing), preprocessing.frame(width, height, path)


def lay(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """A resized photo uint8 [3, h, w] as it lies in its input: in a letterbox [3, size, size], else as it is."""
    if preprocessing.fit != "letterbox":
        return pixels
    height, width = pixels.shape[1:]
    left, top = ((preprocessing.size - side) // 2 for side in (width, height))
    square = torch.tensor(preprocessing.ground).to(pixels.dtype).view(3, 1, 1)
    square = square.repeat(1, preprocessing.size, preprocessing.size)
    square[:, top : top + height, left : left + width] = pixels
    return square


def _orientation(image: Image.Image) -> int:
    try:
        turn = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (ValueError, TypeError, SyntaxError, OSError):
        turn = 1
    return turn if 1 <= turn <= 8 else 1  # damaged EXIF: the pixels are what there is


def as_seen(image: Image.Image) -> Image.Image:
    """A picture as a person sees it: EXIF turn applied, red green blue, what is transparent on white."""
    # Not ImageOps.exif_transpose: it writes the EXIF anew, which fails where a tag of it is damaged.
    if (turn := _orientation(image)) in TURNS and image.format != "TIFF":
        image = image.transpose(TURNS[turn])
    if image.mode == "I;16B":  # the other order of bytes, of which Pillow finds no brightest
        image = image.convert("I")
    if image.mode[0] in "IF":  # 16 or 32 bit grey, or decimals, which convert() would cut off instead of scaling
        brightest = float(image.getextrema()[1])  # type: ignore[arg-type]
        # Decimals mostly go from 0 to 1.
        scale = 255.0 if image.mode == "F" and 0 < brightest <= 1 else 255 / max(255.0, brightest)
        image = image.point(lambda value: value * scale).convert("L")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _no_smaller(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    longest, shortest = max(wanted), min(wanted)  # whichever way EXIF turns the photo
    for reduction in (8, 4, 2):
        # libjpeg rounds a side that does not divide up to a whole pixel, which stretches the picture: a quarter of a
        # pixel is as much as boxes can bear.
        stretched = max(-side % reduction / side for side in size) * longest
        enough = max(size) >= longest * reduction and min(size) >= (shortest - 1) * reduction  # rounded up or down
        if enough and stretched <= 0.25:
            return size[0] // reduction, size[1] // reduction
    return size
