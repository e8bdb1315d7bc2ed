"""A model's label table, as its run folder holds it, and the numbers that stand for it in training label maps."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from MedSegLib.trouble import Trouble

MOST_OVERLAPPING = 64


@dataclass(frozen=True)
class Entry:
    """A structure: the number of the painted result, and those that it has in training label maps."""

    index: int
    name: str
    members: tuple[int, ...]
    unknown: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """All structures of a model, in the network's order.

    Attributes:
        exclusive: whether a voxel has one of them at most.
        ignore: the number that means "not known"; None: there is none.
    """

    entries: tuple[Entry, ...]
    exclusive: bool
    ignore: int | None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.entries)

    @property
    def known(self) -> frozenset[int]:
        """Every number that may stand in a training label map."""
        numbers = (number for entry in self.entries for number in (*entry.members, *entry.unknown))
        return frozenset({0, *numbers, *(() if self.ignore is None else (self.ignore,))})

    def described(self) -> dict[str, Any]:
        """What labels.yaml of a `folder` data set says of it."""
        plain = self.exclusive and all(entry.members == (entry.index,) for entry in self.entries)
        if plain:
            said: dict[str, Any] = {"labels": {entry.name: entry.index for entry in self.entries}}
        else:
            labels = {entry.name: list(entry.members) for entry in self.entries}
            paint = [entry.index for entry in self.entries]
            said = {"labels": labels, "paint": paint, "exclusive": self.exclusive}
        if self.ignore is not None:
            said["ignore"] = self.ignore
        unknown = {entry.name: list(entry.unknown) for entry in self.entries if entry.unknown}
        return {**said, "unknown": unknown} if unknown else said


def one_run(run: Path) -> Path:
    """The run folder itself; of a cross-validation, that of its first fold."""
    return run / "fold0" if (run / "folds.json").is_file() else run


def of_run(run: Path) -> Table:
    """The table of a run folder, or of the folds of a cross-validation.

    Raises:
        Trouble: there is none, or it is of classes, not of structures.
    """
    try:
        said = json.loads((one_run(run) / "labels.json").read_text(encoding="utf-8"))
        entries = tuple(
            Entry(one["index"], one["name"], tuple(one["members"]), tuple(one.get("unknown", ())))
            for one in said["labels"]
        )
        table = Table(entries, bool(said["exclusive"]), said.get("ignore"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = "The model's folder does not say what its labels are, so that no label map can be made for it."
        remedy = (
            "Choose a run folder on this computer: one at a service, or a zipped one, has to be copied and unpacked."
        )
        raise Trouble(what, remedy, "model", repr(error)) from error
    if said.get("unit", "voxel") != "voxel":
        what = "This model tells classes of images, not structures: there is nothing to draw."
        raise Trouble(what, "Choose a model that segments.", "model")
    return table


def numbers(table: Table, masks: Mapping[str, np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Training label map (I, J, K) of the structures' masks, and sentences about what was decided on the way.

    Raises:
        Trouble: structures overlap, and the table has no number for both.
    """
    return _exclusive(table, masks) if table.exclusive else _overlapping(table, masks)


def _kind(table: Table) -> Any:
    return np.uint8 if max(table.known) < 256 else np.uint16


def _exclusive(table: Table, masks: Mapping[str, np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
    drawn = [(entry, masks[entry.name]) for entry in table.entries if entry.name in masks]
    values = np.zeros(drawn[0][1].shape, _kind(table))
    for entry, mask in drawn:
        taken = int(np.count_nonzero(values[mask]))
        if taken:
            number = values[mask & (values != 0)][0]
            other = next(one.name for one in table.entries if number in one.members)
            raise _no_number(f"'{entry.name}' and '{other}'", taken)
        values[mask] = entry.members[0]
    return values, ()


def _overlapping(table: Table, masks: Mapping[str, np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Each voxel's set of structures has a number, or belongs to the smallest set that has one: what was drawn as
    enhancing tumour outside the whole tumour is whole tumour, too."""
    if len(table.entries) > MOST_OVERLAPPING:
        what = f"The model has {len(table.entries)} labels that may overlap; up to {MOST_OVERLAPPING} are handled."
        raise Trouble(what, "Make the training case on the command line.", "labels")
    shape = next(iter(masks.values())).shape
    sets = np.zeros(shape, np.min_scalar_type(2 ** len(table.entries) - 1))
    for place, entry in enumerate(table.entries):
        if entry.name in masks:
            sets |= masks[entry.name].astype(sets.dtype) << sets.dtype.type(place)
    there = _sets_with_numbers(table)
    values = np.zeros(shape, _kind(table))
    notes = []
    found, counts = np.unique(sets, return_counts=True)
    for wanted, count in zip(found.tolist(), counts.tolist()):
        if not wanted:
            continue
        fits = [one for one in there if one & wanted == wanted]
        if not fits:
            raise _no_number(_named(table, wanted), count)
        best = min(fits, key=lambda one: bin(one).count("1"))
        values[sets == wanted] = there[best]
        if best != wanted:
            notes.append(f"{count} voxels of {_named(table, wanted)} count as {_named(table, best & ~wanted)}, too.")
    return values, tuple(notes)


def _sets_with_numbers(table: Table) -> dict[int, int]:
    """Set of structures, as bits -> a number that means these and no others; of several the painted one."""
    unknown = {number for entry in table.entries for number in entry.unknown}
    painted = [entry.index for entry in table.entries]
    there: dict[int, int] = {}
    for number in itertools.chain(painted, sorted(table.known)):
        held = sum(1 << place for place, entry in enumerate(table.entries) if number in entry.members)
        if held and number not in unknown:
            there.setdefault(held, number)
    return there


def _named(table: Table, held: int) -> str:
    names = [f"'{entry.name}'" for place, entry in enumerate(table.entries) if held >> place & 1]
    return " and ".join(names)


def _no_number(names: str, count: int) -> Trouble:
    what = f"{names} are both drawn in {count} voxels, and the model's labels have no number for that."
    remedy = (
        "In the Segment Editor, let one overwrite the other there (Masking > Modify other segments > Overwrite all)."
    )
    return Trouble(what, remedy, "overlap")
