"""Boxes drawn on a photo, and many photos on one sheet."""

from __future__ import annotations

import io
from bisect import bisect
from collections.abc import Collection, Sequence

from PIL import Image, ImageDraw

from foodbox.detections import Detections
from foodbox.drawing.fonts import font
from foodbox.masks import Polygon
from foodbox.records import Photo

# Okabe and Ito's colours, which people with any colour vision tell apart; the first is used where there is one class.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")
TRUTH = "#FFFFFF"
MASK_ALPHA = 110
"""How much a mask's colour covers the photo, of 255: both are to be seen."""


def jpeg(image: Image.Image, quality: int = 80) -> bytes:
    """A picture as the bytes of a file; of the usual quality small enough for a page with many."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def draw_detections(image: Image.Image, detections: Detections) -> Image.Image:
    """A copy of the picture with each detection's box, class and score, the best on top; masks lie under all boxes.

    The picture may be smaller than the photo that the detections are of; boxes and masks shrink with it. Words that
    find no place beside those of surer detections are left out: of hundreds of boxes none could be seen.
    """
    result = image.copy()
    pen = ImageDraw.Draw(result)
    scale = image.width / detections.width, image.height / detections.height
    colours = [COLOURS[label % len(COLOURS)] for label in detections.labels.tolist()]
    for outlines, colour in reversed(list(zip(detections.outlines(), colours, strict=True))):
        _shade(result, outlines, scale, colour)
    rows = [(row, _scaled(row["box"], scale), colour) for row, colour in zip(detections.rows(), colours, strict=True)]
    for _, box, colour in reversed(rows):
        _box(pen, result.size, box, colour)
    taken: list[list[float]] = []
    for row, box, colour in rows:
        _name(pen, result.size, box, colour, row["label"], f"{row['score']:.2f}", taken)
    return result


def draw_truth(
    image: Image.Image, photo: Photo, marked: Collection[int] = (), colour: str = COLOURS[0], names: Sequence[str] = ()
) -> Image.Image:
    """A copy of the picture with the photo's true boxes in white, without words; the marked ones in colour, on top.

    Their outlines, where there are any, are shaded in the classes' colours.

    Args:
        names: the classes, where boxes are to have their class's colour and name.
    """
    result = image.copy()
    pen = ImageDraw.Draw(result)
    scale = image.width / photo.width, image.height / photo.height
    labels = photo.labels.tolist()
    for outlines, label in zip(photo.masks or (), labels, strict=False):
        _shade(result, outlines, scale, COLOURS[label % len(COLOURS)])
    boxes = [_scaled(box, scale) for box in photo.boxes.tolist()]
    plain = [COLOURS[label % len(COLOURS)] if names else TRUTH for label in labels]
    for i, box in sorted(enumerate(boxes), key=lambda item: item[0] in marked):
        _box(pen, result.size, box, colour if i in marked else plain[i], 2 if i in marked else 1)
    taken: list[list[float]] = []
    for box, label, own in zip(boxes, labels, plain, strict=True) if names else ():
        _name(pen, result.size, box, own, names[label], "", taken)
    return result


def sheet(images: Sequence[Image.Image], columns: int, tile: tuple[int, int], title: str = "") -> Image.Image:
    """Pictures side by side, each shrunk into a tile of width x height pixels, with a title above."""
    rows = -(-len(images) // columns)
    head = 28 if title else 0
    result = Image.new("RGB", (columns * tile[0], rows * tile[1] + head), "#202020")
    if title:
        ImageDraw.Draw(result).text((8, 5), title, fill="white", font=font(title, 16))
    for i, image in enumerate(images):
        small = image.copy()
        small.thumbnail((tile[0] - 6, tile[1] - 6))
        left = i % columns * tile[0] + (tile[0] - small.width) // 2
        result.paste(small, (left, head + i // columns * tile[1] + (tile[1] - small.height) // 2))
    return result


def captioned(image: Image.Image, words: str) -> Image.Image:
    """A copy of the picture with words in a dark strip above it."""
    result = Image.new("RGB", (image.width, image.height + 22), "#202020")
    ImageDraw.Draw(result).text((4, 2), words, fill="white", font=font(words, 14))
    result.paste(image, (0, 22))
    return result


def _scaled(box: Sequence[float], scale: tuple[float, float]) -> list[float]:
    return [value * scale[i % 2] for i, value in enumerate(box)]


def _shade(image: Image.Image, outlines: Sequence[Polygon], scale: tuple[float, float], colour: str) -> None:
    """Covers what outlines in the photo's pixels enclose half with colour, each pixel once, and draws their line."""
    corners = [[(x * scale[0], y * scale[1]) for x, y in outline.tolist()] for outline in outlines if len(outline) >= 3]
    if not corners:
        return
    xs, ys = zip(*(point for outline in corners for point in outline), strict=True)
    left, top = max(0, int(min(xs))), max(0, int(min(ys)))
    right, bottom = min(image.width, int(max(xs)) + 1), min(image.height, int(max(ys)) + 1)
    cover = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    for outline in corners:
        ImageDraw.Draw(cover).polygon([(x - left, y - top) for x, y in outline], fill=MASK_ALPHA)
    image.paste(colour, (left, top), cover)
    for outline in corners:  # tells objects of one class apart that touch
        ImageDraw.Draw(image).polygon(outline, outline=colour, width=max(1, round(_length(image.size) / 500)))


def _box(pen: ImageDraw.ImageDraw, size: tuple[int, int], box: Sequence[float], colour: str, thick: int = 1) -> None:
    width = thick * _line(size)
    x1, y1, x2, y2 = box
    outline = [x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)]
    pen.rectangle([v + d for v, d in zip(outline, (-1, -1, 1, 1), strict=True)], outline="black", width=width + 2)
    pen.rectangle(outline, outline=colour, width=width)


def _name(
    pen: ImageDraw.ImageDraw, size: tuple[int, int], box: Sequence[float], colour: str, label: str, score: str,
    taken: list[list[float]],
) -> None:  # fmt: skip
    """Class and score at a box where they lie on nothing that is `taken`, to which their place is added; else none.

    Of a name that is longer than the picture is wide, as much is written as leaves room for the score.
    """
    label = " ".join(label.split())  # on one line
    letters = font(label, max(11, round(_length(size) / 45)))

    def shortened(most: int) -> str:
        return f"{label if most >= len(label) else label[:most].rstrip() + '...'} {score}".rstrip()

    def sticks_out(most: int) -> bool:
        return bool(pen.textlength(shortened(most), font=letters) > size[0] - 6)

    words = shortened(len(label))
    if sticks_out(len(label)):
        words = shortened(max(0, bisect(range(len(label)), False, key=sticks_out) - 1))
    left, _, right, bottom = pen.textbbox((0, 0), words, font=letters)
    x, high = min(max(0.0, box[0]), max(0, size[0] - right - 6)), bottom + 4
    # Above the box, else inside it, else below: of a box that words do not cover themselves, or that has no above.
    above, inside, below = box[1] - high, box[1] + _line(size), box[3]
    for y in (above, inside, below) if above <= 0 or box[3] - box[1] > 3 * high else (above,):
        place = [x, y, x + right - left + 6, y + high]
        free = not any(x < x2 and x1 < place[2] and y < y2 and y1 < place[3] for x1, y1, x2, y2 in taken)
        if free and 0 < y <= size[1] - high:
            taken.append(place)
            pen.rectangle(place, fill=colour)
            pen.text((x + 3, y + 1), words, fill="black", font=letters)
            return


def _line(size: tuple[int, int]) -> int:
    """How thick a box is drawn, in pixels."""
    return max(2, round(_length(size) / 250))


def _length(size: tuple[int, int]) -> int:
    """By what lines and letters are made thick: the longer side, but of panoramas four times the shorter one."""
    return min(max(size), 4 * min(size))
