"""The base of every settings class: frozen, typed, and unknown keys are errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen, typed settings. A component's `Options` derives from this and from nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def keys_at(model: type[Settings], place: Iterable[int | str]) -> tuple[str, ...]:
    """The keys that there are at a place, as pydantic's errors name it: with keys, numbers in a list, names in a
    mapping, and the word that chooses one of several classes."""
    there = [model]
    for part in place:
        fields = [one.model_fields[str(part)] for one in there if part in one.model_fields]
        inner = [found for field in fields for found in _settings_in(field.annotation)]
        there = inner or [one for one in there if _chosen_by(part, one)] or there
    return tuple(dict.fromkeys(key for one in there for key in one.model_fields))


def _settings_in(annotation: Any) -> Iterator[type[Settings]]:
    """The settings classes that an annotation names, alone, or within a tuple or beside others."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for inner in get_args(annotation):
        yield from _settings_in(inner)


def _chosen_by(word: int | str, model: type[Settings]) -> bool:
    return any(word in get_args(field.annotation) for field in model.model_fields.values())
