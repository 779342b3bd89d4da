"""Which classes a YOLO label has: those of a data.yaml, of an obj.data, or of a file with a class's name a line."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from foodbox.data.formats.common import ONE_CLASS, bad_label, first_text, numbers, read_text
from foodbox.data.listing import Listing, above
from foodbox.findings import Finding, Source

PARTS = {"train": "train", "val": "valid", "valid": "valid", "validation": "valid", "test": "test"}
"""Keys of data.yaml, and the part that each names."""
LARGEST = 1 << 20
"""Bytes of a data.yaml; LVIS's 1,203 classes take 30,000."""
NAMES = re.compile(r"^names\s*[:=]", re.M)
"""How a data.yaml or an obj.data names its classes."""
LISTS = ("classes.txt", "_darknet.labels")
"""Files with a class's name a line, besides *.names; their capitals do not count."""


NUMBERED = re.compile(r"(\d+)(?:\s*[:,]\s*|\s+)(\S.*)")
"""A line of a list that has the class's number before its name."""


@dataclass(frozen=True)
class ClassList:
    """A list of classes.

    Attributes:
        names: the classes by their numbers; none where they cannot be read.
        source: where they stand.
        findings: what there is to say of them where some label has them.
        fault: why they cannot be read.
    """

    names: list[str]
    source: Source
    findings: list[Finding] = field(default_factory=list)
    fault: Finding | None = None


@dataclass(frozen=True)
class Config:
    """What a data.yaml or an obj.data says.

    Attributes:
        file: where it is.
        text: all of it.
        content: its keys; all values are text, or lists and dicts of text.
        classes: its list of classes, without names where it has none.
    """

    file: Path
    text: str
    content: dict[str, Any]
    classes: ClassList

    @property
    def path(self) -> str:
        """The folder that all others start from; "" is the file's own."""
        found = self.content.get("path")
        return found if isinstance(found, str) else ""

    @property
    def keypoints(self) -> int:
        """Numbers behind each box that say where points of a body are."""
        shape = self.content.get("kpt_shape")
        values = numbers(shape) if isinstance(shape, list) and all(isinstance(v, str) for v in shape) else None
        return int(values[0] * values[1]) if values and len(values) == 2 else 0

    def entries(self) -> Iterator[tuple[str, str]]:
        """Each folder or list of photos that the file names, with its key."""
        for key in PARTS:
            value = self.content.get(key) or []
            for text in [value] if isinstance(value, str) else value:
                if isinstance(text, str) and text.strip():
                    yield key, text.strip()

    def source(self, key: str) -> Source:
        """Where a key stands."""
        lines = self.text.splitlines()
        return Source(
            self.file, next((n for n, line in enumerate(lines, 1) if re.match(rf"{key}\s*[:=]", line, re.I)), None)
        )


def find_configs(listing: Listing, findings: list[Finding]) -> list[Config]:
    """All data.yaml, the nearest to the folder first, one of each folder's classes; without one, darknet's obj.data."""
    found = [config for file in _small(listing, ".yaml", ".yml") if (config := _yaml(file, findings))]
    if not found:
        found = [config for file in _small(listing, ".data") if (config := _darknet(file, listing, findings))]
    found.sort(key=lambda config: (len(config.file.parts), config.file.name != "data.yaml", config.file))
    first: dict[Path, Config] = {}
    kept = []
    for config in found:
        mine = first.setdefault(config.file.parent, config)
        # An obj.data has the classes of the photos that it names, and darknet keeps many in one folder.
        if config.classes.names == mine.classes.names or config.file.suffix.lower() == ".data":
            kept.append(config)
        else:
            what = f"its classes are others than those of {mine.file}, and are not read"
            findings.append(bad_label(config.source("names"), what, None, "Name the one file that counts"))
    return kept


def _yaml(file: Path, findings: list[Finding]) -> Config | None:
    """A data.yaml; None for another file, or where its classes cannot be read."""
    text = _text(file, findings)
    try:
        # BaseLoader leaves all as text: to YAML a class named no is False, and 2024-01-01 is a date.
        content = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as fault:
        if NAMES.search(text):
            mark = getattr(fault, "problem_mark", None)
            what = f"the file is no whole YAML ({getattr(fault, 'problem', None) or fault})"
            findings.append(bad_label(Source(file, mark.line + 1 if mark else None), what, None, "Correct it"))
        return None
    if not isinstance(content, dict) or not any(key in content for key in (*PARTS, "nc")):
        return None
    config = Config(file, text, content, ClassList([], Source(file)))
    if names := _listed_names(content.get("names")):
        classes = _named(names, config.source("names"))
        nc = content.get("nc")
        if isinstance(nc, str) and nc.strip() != str(len(names)):
            what = f"found nc {nc} and {len(names)} names: the names count"
            finding = Finding(config.source("nc"), what, "Correct it", "warning", kind="number of classes")
            classes.findings.append(finding)
        return dataclasses.replace(config, classes=classes)
    if "names" in content:
        what = "names is neither a list of the classes nor numbers from 0 with a name each"
        todo = "Correct it: a name with a colon stands in quotes"
        findings.append(bad_label(config.source("names"), what, None, todo))
    return None


def _darknet(file: Path, listing: Listing, findings: list[Finding]) -> Config | None:
    """An obj.data with the classes of the file that it names; None for another file."""
    text = _text(file, findings)
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    content = {key.strip().lower(): value.strip() for key, value in pairs}  # CVAT's have Train
    if not any(key in content for key in PARTS):
        return None
    config = Config(file, text, content, ClassList([], Source(file)))
    names = content.get("names")
    places = likely_places(names, config, listing.root) if names else ()
    place = next((path for path in places if path in listing), None)
    return dataclasses.replace(config, classes=_list(place, findings)) if place else config


def _text(file: Path, findings: list[Finding]) -> str:
    """The text of what may be a data.yaml or an obj.data.

    One that cannot be read is an error if it names classes, or cannot be looked into: other programs have such files.
    """
    mine: list[Finding] = []
    text = read_text(file, mine)
    if mine and (not (head := first_text(file)) or NAMES.search(head)):
        findings += mine
    return text or ""


def _small(listing: Listing, *endings: str) -> list[Path]:
    return [file for file in listing.ending(*endings) if listing.stamp(file)[0] <= LARGEST]


def _listed_names(names: object) -> list[str] | None:
    """`names` of a data.yaml, a list or a dict from number to name, in the order of the numbers."""
    if isinstance(names, str):
        return [name.strip() for name in names.rstrip(", ").split(",")] if names.strip(", ") else []
    if not isinstance(names, list | dict):
        return None
    if not all(isinstance(name, str) for name in (names.values() if isinstance(names, dict) else names)):
        return None
    if isinstance(names, list):
        return [name.strip() for name in names]
    if names and all(key.isdecimal() and len(key) < 6 for key in names):
        found = {int(key): name.strip() for key, name in names.items()}
        return [found.get(i, str(i)) for i in range(max(found) + 1)]
    return None


def _named(names: Sequence[str], source: Source, a_line_each: bool = False) -> ClassList:
    """Classes as they are listed; those without a name are called by their numbers."""
    called = [name or str(number) for number, name in enumerate(names)]
    findings = []
    for number, name in enumerate(names):
        if not name:
            place = Source(source.path, number + 1) if a_line_each else source
            what = f"the class {number} has no name and is called by its number"
            findings.append(Finding(place, what, "Give it a name", "warning", kind="no class names"))
    for name in dict.fromkeys(name for name in called if called.count(name) > 1):
        numbered = ", ".join(str(i) for i, other in enumerate(called) if other == name)
        what = f"the class {name!r} stands {called.count(name)} times ({numbered}) and is taken as one"
        todo, kind = "Keep one of them, or give them different names", "repeated class name"
        findings.append(Finding(source, what, todo, "warning", kind=kind, mend=ONE_CLASS))
    return ClassList(called, source, findings)


def _list(file: Path, findings: list[Finding]) -> ClassList:
    """The classes of a file with a name a line."""
    mine: list[Finding] = []
    lines = [line.strip() for line in (read_text(file, mine) or "").rstrip().splitlines()]
    findings += mine
    numbered = [NUMBERED.fullmatch(line) for line in lines]
    if [match and int(match[1]) for match in numbered] == list(range(len(lines))):
        lines = [match[2] for match in numbered if match]
    classes = _named(lines, Source(file), a_line_each=True)
    return dataclasses.replace(classes, fault=mine[0] if mine else None)


def find_lists(listing: Listing, configs: Sequence[Config], findings: list[Finding]) -> dict[Path, ClassList]:
    """Folder → the classes of its file with a name a line. A list that goes on as another one begins is taken for both.

    Beside the .names that an obj.data names, others are of other photos.
    """
    darknets = [config for config in configs if config.file.suffix.lower() == ".data" and config.classes.names]
    told = {Path(config.classes.source.path).parent for config in darknets}
    files = [file for file in _list_files(listing) if file.suffix.lower() != ".names" or file.parent not in told]
    lists = {file: _list(file, findings) for file in files}
    lists = {file: one for file, one in lists.items() if one.names or one.fault}
    # labelImg writes one a folder, which grows as classes are met: the longest has them all.
    longest_first = sorted(lists, key=lambda file: -len(lists[file].names))
    found: dict[Path, ClassList] = {}
    for file in longest_first:
        names = lists[file].names
        of = next((other for other in longest_first if names and lists[other].names[: len(names)] == names), file)
        mine = found.setdefault(file.parent, dataclasses.replace(lists[of], findings=[*lists[of].findings]))
        if names and mine.names != lists[of].names:
            what = f"its classes are others than those of {mine.source.path}, and are not read"
            mine.findings.append(bad_label(Source(file), what, None, "Keep the one that counts"))
    return {file.parent: found[file.parent] for file in lists}  # in the order of the paths


def find_above(listing: Listing, findings: list[Finding]) -> Config | None:
    """A data.yaml one folder above that names this one, as Roboflow's names train/; else a list of classes there."""
    place = above(listing.root)
    folder = Path(os.path.abspath(listing.root))  # noqa: PTH100 - as `above` has it

    def names_it(config: Config) -> bool:
        places = (near for _, text in config.entries() for near in likely_places(text, config, place.root))
        return bool(config.classes.names) and any(folder in (near, *near.parents) for near in places)

    found = next(filter(names_it, find_configs(place, [])), None)
    if found is None and (classes := find_lists(place, [], []).get(place.root)) and classes.names:
        found = Config(Path(classes.source.path), "", {}, classes)
    if found:
        what = f"it names the classes of {listing.root}, one folder below"
        findings.append(Finding(found.classes.source, what, harm="note", kind="class names above"))
    return found


def _list_files(listing: Listing) -> list[Path]:
    """The files with a class's name a line, *.names first; only the named one where one is."""
    paths = listing.files if listing.label is None else [str(listing.label)]
    files = [Path(path) for path in paths if path.lower().endswith((".names", *LISTS))]
    names = [file for file in files if file.suffix.lower() == ".names"]
    return names + [file for file in files if file.name.lower() in LISTS]


def likely_places(text: str, config: Config, root: Path) -> Iterator[Path]:
    """Where a folder or list of a data.yaml may be, the likeliest first.

    From `path`, from the file and from the root; then with the front taken off part by part: ../ of Roboflow, which is
    a level too high, and folders of another computer.
    """
    bases = list(dict.fromkeys((config.file.parent / config.path, config.file.parent, root)))
    for base in bases:
        yield Path(os.path.normpath(base / text))
    parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for first in range(len(parts)):
        if first and parts[first:] == ["images"]:  # of train/images too, but not only
            break
        yield from (base.joinpath(*parts[first:]) for base in bases)


class LabelClasses:
    """Finds each label's list of classes.

    Args:
        configs: their classes are for the labels below their folders.
        named: folder → classes for the labels of the photos in it, which a config elsewhere names.
        lists: folder → classes for the labels below it, or beside whose photos they stand.
        unread: folder → classes for the labels below it that cannot be read.
    """

    def __init__(
        self, configs: Sequence[Config], named: Mapping[Path, ClassList], lists: Mapping[Path, ClassList],
        unread: Mapping[Path, ClassList], findings: list[Finding],
    ) -> None:  # fmt: skip
        of_folders: dict[Path, list[ClassList]] = defaultdict(list)
        for config in configs:
            if config.classes.names:
                of_folders[config.file.parent].append(config.classes)
        self.own = {
            folder: some[0] for folder, some in of_folders.items() if all(one.names == some[0].names for one in some)
        }
        self.named = named
        self.lists = lists
        self.unread = unread
        self.known = [one for one in (*(c.classes for c in configs), *lists.values()) if one.names]
        self.findings = findings
        self._found: dict[tuple[Path, Path], ClassList | None] = {}
        self._said: set[Finding] = set()

    def of(self, label: Path, photo: Path) -> ClassList | None:
        """The classes of a label, or None where there are none, or several lists and none of them is for it."""
        folders = label.parent, photo.parent
        if folders not in self._found:
            self._found[folders] = found = self._find(*folders)
            self._say(found.findings if found else [])
        return self._found[folders]

    def names(self) -> list[str]:
        """The classes of all labels that were asked for, each once; of all lists where none was."""
        used = [found.names for found in self._found.values() if found]
        lists = [one for one in self.known if one.names in used] or list(self.own.values()) or self.known
        return list(dict.fromkeys(name for one in lists for name in one.names))

    def _find(self, label: Path, photo: Path) -> ClassList | None:
        above, naming = _nearest(label, self.own), _nearest(photo, self.named)
        config = self.own[above] if above else self.named[naming] if naming else None
        beside = _nearest(label, self.lists) or _nearest(photo, self.lists)
        if above and beside in above.parents:  # the config is nearer
            beside = None
        listed = self.lists[beside] if beside else None
        if config and listed and listed.names:
            return self._longer(config, listed)
        if config or listed:
            return config or listed
        if unread := _nearest(label, self.unread):
            return self.unread[unread]
        if self.known:
            first, *others = self.known
            return first if all(one.names == first.names for one in others) else None
        return next(iter((*self.unread.values(), *self.lists.values())), None)

    def _longer(self, config: ClassList, listed: ClassList) -> ClassList:
        """The longer of a label's two lists, where it goes on as the other one begins; else the config's."""
        short, long = sorted((listed, config), key=lambda one: len(one.names))
        both = zip(listed.names, config.names, strict=False)
        if differs := next(((n, mine, other) for n, (mine, other) in enumerate(both) if mine != other), None):
            number, mine, other = differs
            what = (
                f"its classes are others than those of {config.source}, and are not read: "
                f"{number} is {mine!r} here and {other!r} there"
            )
            self._say([bad_label(listed.source, what, None, "Keep the one that counts")])
            return config
        if rest := long.names[len(short.names) :]:
            what = f"{long.source} goes on with {', '.join(map(repr, rest[:3]))}: its {len(long.names)} classes count"
            self._say([Finding(short.source, what, "Keep the one that counts", "warning", kind="number of classes")])
        return long

    def _say(self, findings: Sequence[Finding]) -> None:
        self.findings += [finding for finding in findings if finding not in self._said]
        self._said.update(findings)


def _nearest(folder: Path, known: Mapping[Path, object]) -> Path | None:
    """The folder itself, or the nearest above it, of which something is known."""
    return next((one for one in (folder, *folder.parents) if one in known), None)
