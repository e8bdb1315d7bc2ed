"""Label tables from what a file or a recipe says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from medseg.datasets import _files
from medseg.labels import LabelTable
from medseg.refusal import Refusal

UNITS = ("voxel", "slice", "image")


def label_table(names: Any, path: Path, *, paint: Any = None) -> LabelTable:
    """Label table from `{name: number or list of numbers}` as a file or recipe gives it."""
    _refuse_unless_numbers(names, path)
    foreground = {str(name): value for name, value in names.items() if not (name == "background" and value in (0, [0]))}
    whole = isinstance(paint, list) and all(isinstance(number, int) for number in paint)
    if paint is not None and not (whole and len(paint) == len(foreground)):
        raise Refusal(
            path,
            found=f"paint order {paint!r} for {len(foreground)} labels",
            needed="a list with one number for each label",
            remedy="correct it, or leave it out",
        )
    return LabelTable.of(foreground, paint=paint)


def numbered(names: Any, path: Path, key: str) -> tuple[str, ...]:
    """Channel names in order, from {"0": name, "1": name, ...} as nnU-Net and the Decathlon write it."""
    order = [str(number) for number in range(len(names))] if isinstance(names, dict) else None
    if not order or sorted(names) != sorted(order) or len({str(name) for name in names.values()}) < len(order):
        raise Refusal(
            path,
            found=f"{key} {names!r}",
            needed='channels numbered from 0, each with a name of its own, such as {"0": "T1", "1": "FLAIR"}',
            remedy=f"correct '{key}'",
        )
    return tuple(str(names[number]) for number in order)


def forward_labels(names: Any, path: Path) -> dict[str, Any]:
    """{name: number}, also from the older form {"1": name}."""
    if isinstance(names, dict) and names and all(isinstance(value, str) for value in names.values()):
        if not all(str(key).isdecimal() for key in names) or len(set(names.values())) < len(names):
            raise Refusal(
                path, found=f"labels {names!r}", needed="number: name, each name once", remedy="correct 'labels'"
            )
        names = {name: int(number) for number, name in names.items()}
    if not isinstance(names, dict):
        raise Refusal(path, found=f"labels {names!r}", needed="names with numbers", remedy="correct 'labels'")
    return {name: value for name, value in names.items() if value != 0}


def described(content: Mapping[str, Any], path: Path) -> LabelTable:
    """Label table of a labels.yaml: `labels`, and where they are given `paint`, `unit`, `exclusive`, `ignore` and
    `unknown`, as the `folder` data set says.

    Raises:
        Refusal: a key of the wrong form, or keys that contradict each other.
    """
    names = _files.wanted(content, "labels", path)
    unit = content.get("unit", "voxel")
    if unit not in UNITS:
        raise Refusal(path, found=f"unit {unit!r}", needed=f"one of {', '.join(UNITS)}", remedy="correct 'unit'")
    exclusive = content.get("exclusive")
    if not (exclusive is None or isinstance(exclusive, bool)):
        raise Refusal(path, found=f"exclusive {exclusive!r}", needed="true or false", remedy="correct 'exclusive'")
    if unit == "voxel":
        return _structures(content, names, exclusive, path)
    odd = [key for key in ("paint", "ignore", "unknown") if key in content]
    if odd or (unit == "slice" and exclusive):
        raise Refusal(
            path,
            found=f"'{odd[0] if odd else 'exclusive'}' with unit: {unit}",
            needed="classes without it" + (", because a slice may show several structures" if not odd else ""),
            remedy="leave it out",
        )
    return _disjoint(classes(names, path, exclusive=unit == "image" and exclusive is not False, unit=unit), path)


def classes(names: Any, path: Path, *, exclusive: bool, unit: Literal["slice", "image"]) -> LabelTable:
    """Classes of images or slices from `{name: number or list of numbers}`; none is passed over."""
    _refuse_unless_numbers(names, path)
    return LabelTable.classes({str(name): value for name, value in names.items()}, exclusive=exclusive, unit=unit)


def with_unknown(table: LabelTable, unknown: Mapping[str, list[int]], *, ignore: int | None = None) -> LabelTable:
    """The same table, which says besides at which numbers labels are not known, by label; and for all labels."""
    labels = tuple(replace(label, unknown=tuple(unknown.get(label.name, ()))) for label in table.labels)
    return replace(table, labels=labels, ignore=ignore)


def numbers_of(cell: str, table: LabelTable, path: Path, case: str, *, between: str = ";") -> tuple[int, ...]:
    """Classes of an image from a cell of a table: numbers or names of classes, with `between` between several. Where
    names are numbers, and other ones than those of the classes (grades 1 to 5 as classes 0 to 4), names alone count.

    Raises:
        Refusal: a word that is no class, or other than one class where they exclude each other.
    """
    by_name = {label.name: label.index for label in table.labels}
    known = {number for label in table.labels for number in label.members}
    named = any(name.isdecimal() and int(name) != number for name, number in by_name.items())
    words = [cell] if cell in by_name else [word.strip() for word in cell.split(between) if word.strip()]
    found = tuple(by_name.get(word, int(word) if word.isdecimal() and not named else -1) for word in words)
    if not set(found) <= known or (table.exclusive and sum(table.holding(found)) != 1):
        listed = ", ".join(f"{label.name} ({'/'.join(map(str, label.members))})" for label in table.labels)
        raise Refusal(
            path,
            found=f"class '{cell}' of case '{case}'",
            needed=f"{'one' if table.exclusive else 'any'} of {listed}"
            + ("" if table.exclusive else f", joined by {between} where several hold"),
            remedy="correct the table of classes, or the labels",
        )
    return found


def _structures(content: Mapping[str, Any], names: Any, exclusive: bool | None, path: Path) -> LabelTable:
    table = label_table(names, path, paint=content.get("paint"))
    if exclusive is not None:
        table = _disjoint(replace(table, exclusive=exclusive), path)
    ignore, unknown = content.get("ignore"), content.get("unknown", {})
    members = {number for label in table.labels for number in label.members}
    if not (ignore is None or (type(ignore) is int and ignore > 0 and ignore not in members)):
        raise Refusal(
            path, found=f"ignore {ignore!r}", needed="a number above 0 that is no label's", remedy="correct 'ignore'"
        )
    fits = isinstance(unknown, dict) and all(
        name in table.names and isinstance(numbers, list) and all(type(number) is int for number in numbers)
        for name, numbers in unknown.items()
    )
    if not fits or (unknown and table.exclusive):
        raise Refusal(
            path,
            found=f"unknown {unknown!r}" + (" with labels that exclude each other" if fits else ""),
            needed="label: [numbers], for labels that may overlap (exclusive: false)",
            remedy="correct 'unknown', or give 'ignore' where no label is known",
        )
    return with_unknown(table, unknown, ignore=ignore)


def _disjoint(table: LabelTable, path: Path) -> LabelTable:
    """The table, unless labels that exclude each other share a number."""
    numbers = [number for label in table.labels for number in label.members]
    double = sorted({number for number in numbers if numbers.count(number) > 1})
    if table.exclusive and double:
        raise Refusal(
            path,
            found=f"number {double[0]} in two labels that exclude each other",
            needed="each number in one label",
            remedy="correct the labels, or say exclusive: false",
        )
    return table


def _refuse_unless_numbers(names: Any, path: Path) -> None:
    numbers = all(
        isinstance(value, int) or (isinstance(value, list) and value and all(isinstance(n, int) for n in value))
        for value in (names.values() if isinstance(names, dict) else [None])
    )
    if not numbers or not names:
        raise Refusal(
            path,
            found=f"labels {names!r}",
            needed="name: number, or name: list of numbers for a region",
            remedy="correct the labels, for example 'liver: 1'",
        )
