"""Settings from values that people give: built, changed by name, and refused in a sentence."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from foodbox.config import TrainSettings
from foodbox.errors import UsageError

Settings = TypeVar("Settings", bound=BaseModel)


def setting_names(settings: BaseModel) -> list[str]:
    """The names of all settings, those of a part such as the preprocessing in its place."""
    parts = ((name, getattr(settings, name)) for name in type(settings).model_fields)
    return [inner for name, v in parts for inner in (setting_names(v) if isinstance(v, BaseModel) else [name])]


def apply(settings: Settings, changes: dict[str, Any]) -> Settings:
    """The settings with some values changed; a name may belong to a part of them, such as the preprocessing.

    Raises:
        UsageError: no such setting, or a value outside its range.
    """
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    for name, value in changes.items():
        owner = next((n for n, v in values.items() if isinstance(v, BaseModel) and name in setting_names(v)), None)
        if owner is not None:
            values[owner] = apply(values[owner], {name: value})
        elif name in values:
            values[name] = value
        else:
            raise unknown_setting(name, [*TrainSettings.model_fields, *setting_names(settings)])
    return build(type(settings), values)


def build(kind: type[Settings], values: dict[str, Any]) -> Settings:
    """Settings from values.

    Raises:
        UsageError: no such setting, or a value of the wrong type or outside its range.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as fault:
        first = fault.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise unknown_setting(name, list(kind.model_fields)) from fault
        message = first["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        raise UsageError(f"The setting {name} is {first['input']!r}: {message}.") from fault


def unknown_setting(name: str, known: list[str]) -> UsageError:
    """The sentence for a setting that does not exist, with the nearest that does."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}."
    return UsageError(f"There is no setting {name!r}: {hint}")
