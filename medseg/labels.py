"""`LabelTable`: what the numbers in a label map mean, and how they become network classes."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from medseg.refusal import Refusal


@dataclass(frozen=True)
class Code:
    """A coded concept, as DICOM wants it: value, scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Label:
    """One structure.

    Attributes:
        index: the number written into label maps.
        name: for people and file names.
        members: the numbers in training label maps that belong to it; (index,) unless it is a region.
        code: standard code (SNOMED CT), if one is known.
        colour: (red, green, blue), 0 to 255.
    """

    index: int
    name: str
    members: tuple[int, ...]
    code: Code | None = None
    colour: tuple[int, int, int] = (255, 0, 0)


@dataclass(frozen=True)
class LabelTable:
    """The foreground labels of a task, in network order; background is always 0 and never listed.

    `exclusive` tables (softmax) have network class 0 = background and class n = labels[n - 1].
    Tables of regions (sigmoid; BraTS whole tumour, core, enhancing) have network channel n = labels[n]; regions may
    overlap, and a painted map writes them in order, so that later ones lie on top.

    Example:
        >>> table = LabelTable.of({"liver": 5, "spleen": 1})
        >>> table.encode(np.array([[[0, 5, 1]]])).tolist()
        [[[[0, 1, 2]]]]
        >>> brats = LabelTable.of({"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}, paint=[2, 1, 4])
        >>> brats.exclusive, brats.network_channels
        (False, 3)
    """

    labels: tuple[Label, ...]
    exclusive: bool = True

    def __post_init__(self) -> None:
        indices = [label.index for label in self.labels]
        names = [label.name for label in self.labels]
        if not self.labels or min(indices) < 1 or len(set(indices)) < len(indices) or len(set(names)) < len(names):
            raise Refusal(
                "labels",
                found=f"{dict(zip(names, indices, strict=True))}",
                needed="at least one label; distinct names; distinct numbers of 1 or more (0 is background)",
                remedy="correct the label table",
            )

    @classmethod
    def of(cls, names: Mapping[str, int | list[int]], *, paint: list[int] | None = None) -> LabelTable:
        """From `{name: number}`, or from regions `{name: [numbers]}`; `paint` gives each region the number that a
        painted map shows (default 1, 2, 3, ...). A name 'background' with number 0 is passed over."""
        items = {name: value for name, value in names.items() if not (name == "background" and value in (0, [0]))}
        regions = any(isinstance(value, list) and len(value) != 1 for value in items.values()) or paint is not None
        labels = []
        for position, (name, value) in enumerate(items.items()):
            members = tuple(value) if isinstance(value, list) else (value,)
            index = (paint[position] if paint else position + 1) if regions else members[0]
            labels.append(Label(index, name, members, colour=_colour(position)))
        return cls(tuple(labels), exclusive=not regions)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def network_channels(self) -> int:
        """Channels of the network's output: one more than the labels when a softmax needs background."""
        return len(self.labels) + (1 if self.exclusive else 0)

    @cached_property
    def known_values(self) -> frozenset[int]:
        """Every number that may stand in a training label map, 0 included."""
        return frozenset({0, *(member for label in self.labels for member in label.members)})

    def unknown(self, values: np.ndarray) -> list[int]:
        """Numbers in `values` that the table does not know, sorted."""
        return sorted(set(np.unique(values).tolist()) - self.known_values)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Label map (I, J, K) as in files -> network target: (1, I, J, K) class numbers when exclusive, else
        (R, I, J, K) of 0 and 1. Numbers that the table does not know become background."""
        if self.exclusive:
            lookup = np.zeros(max(int(values.max(initial=0)), *(self.known_values)) + 1, dtype=np.uint8)
            if len(self.labels) > 255:
                lookup = lookup.astype(np.uint16)
            for position, label in enumerate(self.labels, start=1):
                lookup[list(label.members)] = position
            return lookup[values][None]
        return np.stack([np.isin(values, label.members).astype(np.uint8) for label in self.labels])

    def paint(self, target: np.ndarray) -> np.ndarray:
        """Network target as `encode` makes it -> label map (I, J, K) with the numbers of this table."""
        kind = np.uint8 if max(label.index for label in self.labels) < 256 else np.uint16
        if self.exclusive:
            return np.array([0, *(label.index for label in self.labels)], dtype=kind)[target[0]]
        painted = np.zeros(target.shape[1:], dtype=kind)
        for label, region in zip(self.labels, target, strict=True):
            painted[region > 0] = label.index
        return painted

    def mask(self, target: np.ndarray, position: int) -> np.ndarray:
        """Boolean (I, J, K) of labels[position] in a network target."""
        return target[0] == position + 1 if self.exclusive else target[position] > 0

    def to_json(self) -> dict[str, Any]:
        return {
            "exclusive": self.exclusive,
            "labels": [
                {
                    "index": label.index,
                    "name": label.name,
                    "members": list(label.members),
                    "colour": list(label.colour),
                    "code": None if label.code is None else vars(label.code),
                }
                for label in self.labels
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LabelTable:
        return cls(
            tuple(
                Label(
                    index=entry["index"],
                    name=entry["name"],
                    members=tuple(entry["members"]),
                    code=Code(**entry["code"]) if entry["code"] else None,
                    colour=tuple(entry["colour"]),
                )
                for entry in data["labels"]
            ),
            exclusive=data["exclusive"],
        )


def _colour(position: int) -> tuple[int, int, int]:
    """Well separated hues: steps of the golden ratio around the circle."""
    red, green, blue = colorsys.hsv_to_rgb((position * 0.618034) % 1.0, 0.65, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)
