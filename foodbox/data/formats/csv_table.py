"""CSV tables with a row for each box: keras-retinanet's, DeepForest's, TensorFlow's.

    keras-retinanet   path,x1,y1,x2,y2,class without a header; path,,,,, for a photo without boxes; a second file of
                      class,id gives the order of the classes
    DeepForest        the header image_path,xmin,ymin,xmax,ymax,label; all corners 0 for a photo without boxes
    TensorFlow        the header filename,width,height,class,xmin,ymin,xmax,ymax
    others            a header with x,y,width,height, with cx,cy,width,height, or with a bbox of "[x, y, w, h]"

Columns under a header may stand in any order, and others beside them. A column split, or the names of several tables,
such as train.csv and valid.csv, give the part. Boxes are in pixels.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from foodbox.data.formats.common import (
    Labels,
    RawBox,
    RawPhoto,
    bad_label,
    copy_photos,
    could_be,
    first_text,
    numbers,
    part_of_file,
    part_of_name,
    plain,
    read_text,
    without_photo,
)
from foodbox.data.formats.photo_names import composed, without_ending
from foodbox.data.listing import Listing
from foodbox.files import write_whole
from foodbox.findings import Finding, Source
from foodbox.records import Dataset

CORNERS = ("x1", "y1", "x2", "y2")
NEEDED = ("path", *CORNERS, "class")
"""The columns of a table without a header, in their order."""
BOXES: dict[tuple[str, ...], Callable[..., tuple[float, float, float, float]]] = {
    CORNERS: lambda x1, y1, x2, y2: (x1, y1, x2, y2),
    ("x", "y", "w", "h"): lambda x, y, w, h: (x, y, x + w, y + h),
    ("cx", "cy", "w", "h"): lambda x, y, w, h: (x - w / 2, y - h / 2, x + w / 2, y + h / 2),
    ("bbox",): lambda x, y, w, h: (x, y, x + w, y + h),
}
"""The columns that a header may have for the box, the likeliest first, and the corners that their numbers mean."""
HEADS = {
    "path": "path imagepath imgpath filepath filename imagename imgname imagefile image img file frame imageid imgid",
    "x1": "x1 xmin left bboxx1 bboxxmin bndboxxmin",
    "y1": "y1 ymin top bboxy1 bboxymin bndboxymin",
    "x2": "x2 xmax right bboxx2 bboxxmax bndboxxmax",
    "y2": "y2 ymax bottom bboxy2 bboxymax bndboxymax",
    "x": "x bboxx bboxleft left xmin x1",
    "y": "y bboxy bboxtop top ymin y1",
    "cx": "cx xcenter xcentre centerx centrex",
    "cy": "cy ycenter ycentre centery centrey",
    "w": "w bboxw bboxwidth boxwidth",
    "h": "h bboxh bboxheight boxheight",
    "bbox": "bbox",
    "class": "label labelname classname class category categoryname name species",
    "class id": "classid labelid categoryid",
    "part": "split subset part partition set fold",
    "width": "imagewidth imgwidth width",
    "height": "imageheight imgheight height",
    "score": "score scores confidence conf probability",
}
"""Columns, and what they are called, the likeliest first; capitals, blanks, - and _ do not count."""
NAME = "object"
"""The class of all boxes of a table that has no column for it."""
CLASS_FILE = re.compile(r"class(es|list|map|mapping|names|ids)?|label(s|map|mapping)|mapping")
"""Names of files that may hold the order of the classes."""
SEPARATOR = re.compile(r"sep=([,;\t|])\s*", re.I)
"""A first line in which Excel notes what stands between the fields."""
NO_BOX = (0, 0, 0, 0)
"""Corners that DeepForest writes for a photo without boxes."""
LOOKED_AT = 50
"""Files that are looked at, and rows of each, to tell whether it is a table of boxes."""
EXPECTED = "rows of path,x1,y1,x2,y2,class, or a header with such columns,"


@dataclass(frozen=True)
class Layout:
    """Where a table's columns stand.

    Attributes:
        delimiter: what stands between two fields.
        columns: name, such as "x1" → place in the row, from 0.
        width: fields of a full row.
        box: the columns that have the box, one of BOXES.
        header: the row that names the columns, or None.
    """

    delimiter: str
    columns: dict[str, int]
    width: int
    box: tuple[str, ...] = CORNERS
    header: list[str] | None = None

    def get(self, row: Sequence[str], column: str) -> str:
        """A row's field without blanks around it; empty where the row or the table has none."""
        place = self.columns.get(column, len(row))
        return row[place].strip() if place < len(row) else ""

    def box_words(self, row: Sequence[str]) -> list[str]:
        """What the row has for the box's numbers, four words or as many as there are."""
        words = [self.get(row, column) for column in self.box]
        return words if len(words) > 1 else re.split(r"[\s,;]+", words[0].strip("[]() "))

    @property
    def last(self) -> int:
        """The place of the last field that a row must have."""
        return max(place for column, place in self.columns.items() if column in ("path", "class", *self.box))


@dataclass
class Table:
    """What one file says.

    Attributes:
        photos: each photo that it names, with the boxes of all of its rows.
        lines: the first line of each.
        empty: the line that says of a photo that it shows nothing.
    """

    photos: dict[Path, RawPhoto] = field(default_factory=dict)
    lines: dict[Path, int] = field(default_factory=dict)
    empty: dict[Path, int] = field(default_factory=dict)


def fits(listing: Listing) -> bool:
    """Whether some .csv file below the folder is a table of boxes, and not of detections, which have scores."""
    return any(_layout(first_text(file), file == listing.label) for file in listing.ending(".csv")[:LOOKED_AT])


def read(listing: Listing) -> Labels:
    """All photos, with the boxes that the folder's tables give them; photos in no row are ones that nobody labelled."""
    labels = Labels()
    layouts: dict[Path, Layout] = {}
    heads = {file: first_text(file) for file in listing.ending(".csv")}
    for file, head in heads.items():
        if layout := _layout(head, file == listing.label):
            layouts[file] = layout
    if not layouts:
        for file, head in heads.items():
            first = next((line.strip() for line in head.splitlines() if line.strip()), "")[:60]
            lacks = _lacks(head)
            what = f"the table {lacks}" if lacks else f"found {first!r} where {EXPECTED} were expected"
            labels.findings.append(bad_label(Source(file, 1), what, None, "Correct the header or the first row"))
    # A table without classes is read where no other one has them: it may be of other things.
    layouts = {file: layout for file, layout in layouts.items() if "class" in layout.columns} or layouts
    for file, layout in layouts.items():
        if "class" not in layout.columns:
            what = f"no column says the class: all boxes are of one, {NAME!r}"
            labels.findings.append(Finding(Source(file, 1), what, harm="note", kind="no class names"))
        elif layout.header and len(several := _class_columns(layout.header)) > 1:
            told = ", ".join(layout.header[i].strip() for i in sorted(several))
            what = f"the columns {told} may each be the class: {layout.header[layout.columns['class']].strip()} is read"
            todo = "If another is meant, take the rest out"
            labels.findings.append(Finding(Source(file, 1), what, todo, "warning", kind="several class columns"))
    labels.names, class_file = _classes(listing, labels.findings)
    # Tables that name a part come first: a table of all photos beside them repeats their rows.
    files = sorted(layouts, key=lambda file: not part_of_file(file, listing.root))
    texts = {file: read_text(file, labels.findings) or "" for file in files}
    named = {
        (folder, layouts[file].get(row, "path")): None
        for file, folder in [(file, str(file.parent)) for file in files]
        for _, row in _rows(texts[file], layouts[file].delimiter)
    }
    places = _places(listing, list(named))
    found: dict[Path, RawPhoto] = {}
    origin: dict[Path, Path] = {}
    for file in files:
        reader = _Reader(file, layouts[file], places, labels.names, class_file, labels.findings)
        table = reader.read(texts[file], part_of_file(file, listing.root))
        _merge(table, file, found, origin, labels.findings)
    rest = [RawPhoto(path, labelled=False) for path in listing.photos if path not in found]
    labels.photos = [*found.values(), *rest]
    return labels


def write(dataset: Dataset, folder: Path) -> None:
    """Copies the photos to folder/images, and writes annotations.csv and classes.csv as keras-retinanet has them.

    Photos that belong to a part get train.csv, valid.csv or test.csv. Photos that nobody labelled are in no table.
    """
    tables: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    names = [" ".join(name.splitlines()) for name in dataset.names]
    for photo, target in copy_photos(dataset, folder / "images"):
        rows = tables[photo.part or "annotations"] if photo.labelled else []
        path = f"images/{target.name}"
        for box, label in zip(photo.boxes.tolist(), photo.labels.tolist(), strict=True):
            rows.append((path, *map(plain, box), names[label]))
        if not len(photo.boxes):
            rows.append((path, "", "", "", "", ""))
    tables["classes"] = [(name, str(i)) for i, name in enumerate(names)]
    for name, rows in tables.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_whole(folder / f"{name}.csv", text.getvalue())


# -- What a file is -------------------------------------------------------------------------------------------------


def _layout(head: str, has_scores: bool = False) -> Layout | None:
    """How a table is laid out, by its first lines; None for a file that is no table of boxes.

    Args:
        has_scores: take a table of detections too, because the person named it.
    """
    found = (_layout_with(delimiter, head, has_scores) for delimiter in _delimiters(head))
    return next(filter(None, found), None)


def _layout_with(delimiter: str, head: str, has_scores: bool) -> Layout | None:
    rows = [row for _, row in islice(_rows(head, delimiter), LOOKED_AT)]
    if not rows:
        return None
    columns = _columns(rows)
    box = next((box for box in BOXES if columns.keys() >= set(box)), None)
    if box and "path" in columns:
        known = has_scores or "score" not in columns
        return Layout(delimiter, columns, len(rows[0]), box, rows[0]) if known else None
    layout = Layout(delimiter, {column: i for i, column in enumerate(NEEDED)}, len(NEEDED))
    # The first row must have a photo, lest it be a header of another kind of table; any may be its first whole one.
    return layout if _is_photo(rows[0][0]) and any(_is_whole(row, layout) for row in rows) else None


def _columns(rows: Sequence[Sequence[str]]) -> dict[str, int]:
    """Column → its place in a table's header; of several that may be it, the likeliest.

    Args:
        rows: the table's first ones, the header before all.
    """
    places: dict[str, int] = {}
    for i, cell in enumerate(rows[0]):
        places.setdefault(_plain_head(cell), i)
    known = {column: [places[head] for head in heads.split() if head in places] for column, heads in HEADS.items()}
    columns = {column: some[0] for column, some in known.items() if some}
    start = columns.get("x", columns.get("cx", len(rows[0])))
    for side, of_photo in (("w", "width"), ("h", "height")):
        # Behind x and y they are the box's, else the photo's.
        if side not in columns and not columns.keys() >= set(CORNERS) and (place := places.get(of_photo, -1)) > start:
            columns[side] = place
            if columns[of_photo] == place:
                del columns[of_photo]
    if classes := _class_columns(rows[0]):
        # Of several the likeliest; numbers beside names are their ids.
        columns["class"] = min(classes, key=lambda i: all(row[i : i + 1] and row[i].isdecimal() for row in rows[1:]))
    if several := known["part"]:  # a column of folds, or of sets of another kind, names no part
        tell = (i for i in several if any(part_of_name("".join(row[i : i + 1])) for row in rows[1:]))
        columns["part"] = next(tell, several[0])
    return columns


def lacking(listing: Listing) -> str:
    """What is said of the first table whose header has some columns of labels and not all; "" where none has."""
    found = ((file, _lacks(first_text(file))) for file in listing.ending(".csv")[:LOOKED_AT])
    return next((f"{file} {lacks}." for file, lacks in found if lacks), "")


def _lacks(head: str) -> str:
    """What a table lacks that has two columns of labels at least, by its first lines; "" for others."""
    rows = [row for _, row in islice(_rows(head, _delimiters(head)[0]), LOOKED_AT)]
    columns = _columns(rows) if rows else {}
    boxes = set().union(*BOXES)
    if len({place for column, place in columns.items() if column in {"path", "class"} | boxes}) < 2:
        return ""
    box = max(BOXES, key=lambda box: sum(column in columns for column in box) / len(box))
    missing = [{"path": "filename", "w": "width", "h": "height"}.get(c, c) for c in ("path", *box) if c not in columns]
    if missing:
        has = ", ".join(cell.strip() for cell in rows[0])[:100]
        return (
            f"lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}: its columns are {has}, expected such as "
            "filename, x1, y1, x2, y2 (or x, y, width, height) and class"
        )
    return "has a column of scores, as tables of what a program found: name the file itself if it is to be trained on"


def _plain_head(cell: str) -> str:
    return re.sub(r"[\s_-]", "", cell).lower()


def _class_columns(header: Sequence[str]) -> list[int]:
    """The places of columns that may hold the class, the likeliest first; those of ids where there are no others."""
    heads = [_plain_head(cell) for cell in header]
    found = ([heads.index(head) for head in HEADS[column].split() if head in heads] for column in ("class", "class id"))
    return next(filter(None, found), [])


def _is_photo(word: str) -> bool:
    return without_ending(word.strip()) != word.strip()


def _is_whole(row: list[str], layout: Layout) -> bool:
    """Whether a row has the six fields of a table without a header: a box, or none at all."""
    words = [*layout.box_words(row), layout.get(row, "class")]
    if len(row) < layout.width or any(cell.strip() for cell in row[layout.width :]) or not _is_photo(row[0]):
        return False
    values = _numbers(words[:4], layout)
    return not any(words) or values == NO_BOX or (values is not None and bool(words[-1]))


def _delimiters(text: str) -> list[str]:
    """What may stand between the fields: the one that Excel notes, else signs by how often the first line has them."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    if noted := SEPARATOR.fullmatch(first):
        return [noted[1]]
    return sorted(",;\t|", key=first.count, reverse=True)


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with its line.

    Each line is read by itself, so that a quote that is opened and not closed does not swallow the rows below it: the
    field then ends with the line's end. A line with a field of over 131,072 signs gives [].
    """
    for number, line in enumerate(io.StringIO(f"{text}\n", newline=None), start=1):
        if not line.strip() or (number == 1 and SEPARATOR.fullmatch(line)):
            continue
        try:
            row = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
        except csv.Error:
            row = []
        if any(cell and not cell.isspace() for cell in row) or not row:
            yield number, row


# -- Classes --------------------------------------------------------------------------------------------------------


def _classes(listing: Listing, findings: list[Finding]) -> tuple[list[str] | None, Path | None]:
    """The names in the order of their ids, and the file that has them; None without such a file."""
    files = [Path(path) for path in listing.files if path.lower().endswith(".csv")]
    files = [file for file in files if CLASS_FILE.fullmatch(re.sub(r"[\W_]", "", file.stem.lower()))]
    if listing.label is not None:  # the one beside it, where there are several
        files = [file for file in files if file.parent == listing.label.parent] or files
    names, first = None, None
    for file in files:
        delimiter = None if file == listing.label else _delimiter_of_ids(file)
        if delimiter is None:
            continue
        mine: list[Finding] = []
        found = _read_classes(file, delimiter, mine)
        if first is None:
            names, first = found, file
            findings.extend(mine)
        elif found != names:
            what = f"the classes are others than those of {first}"
            findings.append(bad_label(Source(file, 1), what, None, "Keep one file of classes"))
    return names, first


def _delimiter_of_ids(file: Path) -> str | None:
    """What parts names and whole numbers in a file of these; in all rows but a header, unless its name is plain."""
    head = first_text(file)
    for delimiter in _delimiters(head):
        rows = islice(_rows(head, delimiter), LOOKED_AT)
        good = [len(row) == 2 and row[1].strip().isdecimal() and not _is_photo(row[0]) for _, row in rows]
        if any(good) if "class" in file.stem.lower() else any(good) and all(good[1:]):
            return delimiter
    return None


def _read_classes(file: Path, delimiter: str, findings: list[Finding]) -> list[str]:
    text = read_text(file, findings) or ""
    lines: dict[int, int] = {}  # id → line
    names: dict[int, str] = {}
    for i, (number, row) in enumerate(_rows(text, delimiter)):
        source = Source(file, number)
        name, word = (composed(cell.strip()) for cell in row) if len(row) == 2 else ("", "")
        if i == 0 and name and re.fullmatch(r"(class|label)?[\s_-]*(id|index|number)s?", word, re.I):
            continue  # a header
        if not name or not word.isdecimal():
            what = f"found {','.join(row)[:40]!r} where class,id with an id from 0 on was expected"
            findings.append(bad_label(source, what, None))
        elif int(word) in names:
            what = f"the id {word} of {name!r} is {names[int(word)]!r} in line {lines[int(word)]} already"
            findings.append(bad_label(source, what, None, "Give each class its own id"))
        elif name in names.values():
            findings.append(bad_label(source, f"the class {name!r} has an id already", None, "Remove one of the two"))
        else:
            lines[int(word)], names[int(word)] = number, name
    ids = sorted(names)
    if ids != list(range(len(ids))):
        last = Source(file, lines[ids[-1]])
        what = f"the ids of {len(ids)} classes go from {ids[0]} to {ids[-1]}, expected 0 to {len(ids) - 1}"
        todo = "Number the classes from 0 on; until then they count in the order of their ids"
        findings.append(Finding(last, what, todo, "warning", kind="class ids with gaps"))
    return [names[i] for i in ids]


# -- Rows -----------------------------------------------------------------------------------------------------------

Places = dict[tuple[str, str], list[Path]]
"""The folder of a table and a path in it → the photo that it means; none, or several."""


class _Reader:
    """Reads one table."""

    def __init__(
        self, file: Path, layout: Layout, places: Places, names: list[str] | None, class_file: Path | None,
        findings: list[Finding],
    ) -> None:  # fmt: skip
        self.file = file
        self.layout = layout
        self.places = places
        self.names = None if names is None else set(names)
        self.class_file = class_file
        self.findings = findings
        self.table = Table()
        self.named: dict[str, RawPhoto | None] = {}  # what stands in a row → its photo
        self.in_two: set[Path] = set()  # photos of two parts

    def read(self, text: str, part: str) -> Table:
        for number, row in _rows(text, self.layout.delimiter):
            if row != self.layout.header:  # which also stands amid tables that were put together
                self._row(Source(self.file, number), row, part_of_name(self.layout.get(row, "part")) or part)
        for path, line in self.table.empty.items():
            if self.table.photos[path].boxes:
                what = "the row says that the photo shows nothing, and other rows give it boxes"
                source = Source(self.file, line)
                self.findings.append(Finding(source, what, "Remove the row", "warning", path, "boxes on empty photo"))
        return self.table

    def _row(self, source: Source, row: list[str], part: str) -> None:
        is_open = not row or row[-1].endswith("\n")  # its last field is a quote without an end
        photo = self._photo(source, row, part) if len(row) > 1 or not is_open else None
        path = photo.path if photo else None
        words = self.layout.box_words(row)
        name = composed(self.layout.get(row, "class")) if "class" in self.layout.columns else NAME
        values = _numbers(words, self.layout)
        what, todo = "", "Correct the line"
        if is_open:
            what, todo = "a quote is opened and not closed in the line", "Close it, and keep each row in one line"
        elif not self.layout.get(row, "path"):
            what, todo = "the row names no photo", "Name it, or remove the row"
        elif len(row) <= self.layout.last:
            what = f"the row has {len(row)} of {self.layout.width} fields"
        elif any(cell.strip() for cell in row[self.layout.width :]):
            what = f"the row has {len(row)} fields, expected {self.layout.width}"
            todo = f"Put a name with {self.layout.delimiter!r} in it in quotes"
        elif (not any(words) and (not name or self.layout.header)) or values == NO_BOX:
            if photo:
                self.table.empty.setdefault(photo.path, source.line or 0)
        elif values is None:
            shown = ", ".join(f"{column} {self.layout.get(row, column)!r}" for column in self.layout.box)
            what = f"the box has {shown}, expected four numbers"
        elif self.layout.box != CORNERS and min(values[2:]) < 0:
            what = f"the box has the size {values[2]:g} x {values[3]:g}, expected both above 0"
        elif not name:
            what, todo = "the box has no class", "Name its class"
        elif self.names is not None and name not in self.names:
            what, todo = f"the class {name!r} is not in {self.class_file}", "Add it there, or correct its name"
        elif photo:
            photo.boxes.append(RawBox(BOXES[self.layout.box](*values), name, source))
        if what:
            self.findings.append(bad_label(source, what, path, todo))

    def _photo(self, source: Source, row: list[str], part: str) -> RawPhoto | None:
        """The photo that a row names, or None, and a finding for the first such row."""
        word = self.layout.get(row, "path")
        if not word:
            return None
        if word not in self.named:
            self.named[word] = self._first_row(source, word, part)
        photo = self.named[word]
        if photo is not None and photo.stored_size is None and "width" in self.layout.columns:
            sides = numbers([self.layout.get(row, column) for column in ("width", "height")])
            if sides and min(sides) > 0:
                photo.stored_size = int(sides[0]), int(sides[1])
        if photo is not None and part and part != photo.part:
            if photo.part and photo.path not in self.in_two:
                self.in_two.add(photo.path)
                where = f"line {self.table.lines[photo.path]}"
                self.findings.append(_in_two_parts(source, photo, part, where))
            photo.part = photo.part or part
        return photo

    def _first_row(self, source: Source, word: str, part: str) -> RawPhoto | None:
        paths = self.places[str(self.file.parent), word]
        if len(paths) == 1:
            self.table.lines.setdefault(paths[0], source.line or 0)
            return self.table.photos.setdefault(paths[0], RawPhoto(paths[0], part=part))
        if paths:
            self.findings.append(could_be(source, word, paths, "Write the path from the table's folder on"))
        else:
            self.findings.append(without_photo(source, word))
        return None


def _numbers(words: Sequence[str], layout: Layout) -> tuple[float, ...] | None:
    """Four numbers; where no comma stands between the fields, it may stand for the point in them."""
    values = numbers(words if layout.delimiter == "," else [word.replace(",", ".") for word in words])
    return values if values and len(values) == 4 else None


def _in_two_parts(source: Source, photo: RawPhoto, part: str, where: str) -> Finding:
    what = f"the photo {photo.path.name} is for {part} here and for {photo.part} in {where}, which counts"
    return Finding(source, what, "Remove one of the two", "warning", photo.path, "photo in two parts")


def _merge(
    table: Table, file: Path, found: dict[Path, RawPhoto], origin: dict[Path, Path], findings: list[Finding]
) -> None:  # fmt: skip
    """Adds a table's photos to those of the tables before it. What both have is to have the same boxes."""
    for path, photo in table.photos.items():
        first = found.setdefault(path, photo)
        if first is photo:
            origin[path] = file
            continue
        theirs, mine = ({(box.corners, box.label): box.source for box in one.boxes} for one in (first, photo))
        if theirs.keys() != mine.keys():
            source = next((mine[box] for box in mine if box not in theirs), Source(file, table.lines[path]))
            what = f"{origin[path]} labels the photo {path.name} otherwise"
            findings.append(bad_label(source, what, path, "Keep one of the tables, or name the one to be read"))
        elif first.part and photo.part and first.part != photo.part:
            findings.append(_in_two_parts(Source(file, table.lines[path]), first, photo.part, str(origin[path])))
        first.part = first.part or photo.part


def _places(listing: Listing, named: Sequence[tuple[str, str]]) -> Places:
    """The photo that each path means: as it stands, seen from its table's folder, else by its name.

    A path that leads nowhere, as of another computer, means the photo of the folder whose path ends most alike, unless
    another row names that photo by its right path. Where none is called so, endings do not count: it may have none.
    """
    by_path = {_key(str(path)): path for path in listing.photos}
    result: Places = {}
    for folder, word in named:
        for way in (word, word.replace("\\", "/")):
            target = os.path.abspath(os.path.join(folder, way))  # noqa: PTH100, PTH118 - two for each of 100,000 rows
            if _key(target) in by_path:
                result[folder, word] = [by_path[_key(target)]]
                break
            if word and os.path.isfile(target):  # noqa: PTH113
                # Outside the folder, or in it by another way, such as a link.
                result[folder, word] = [listing.own(target)]
                break
    for parts_of in (_folders, _without_ending):
        rest = {key: parts_of(key[1].replace("\\", "/")) for key in named if key not in result}
        names = {parts[-1] for parts in rest.values()}
        taken = {path for paths in result.values() for path in paths}
        by_end = defaultdict(list)  # free photos by the last names of their paths, one, two and so on
        for path in listing.photos if names else ():
            parts = parts_of(composed(path))
            if parts[-1] in names and path not in taken:
                for start in range(len(parts)):
                    by_end[parts[start:]].append(path)
        for key, parts in rest.items():
            if end := next((parts[n:] for n in range(len(parts)) if parts[n:] in by_end), None):
                result[key] = by_end[end]
    return {key: result.get(key, []) for key in named}


def _folders(path: str) -> tuple[str, ...]:
    return tuple(composed(path).casefold().split("/"))


def _without_ending(path: str) -> tuple[str, ...]:
    *folders, name = _folders(path)
    return (*folders, without_ending(name))


def _key(path: str) -> str:
    return composed(os.path.abspath(path))  # noqa: PTH100 - links keep their names
