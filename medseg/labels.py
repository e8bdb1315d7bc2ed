"""`LabelTable`: what the numbers in a label map mean, and how they become network classes."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal
from unicodedata import category

import numpy as np

from medseg.refusal import Refusal

IGNORE = 255
"""In a network target: whether the label is here is not known. Losses and metrics leave such places out."""


@dataclass(frozen=True)
class Code:
    """A coded concept, as DICOM wants it: value, scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Coded:
    """What DICOM's segment description wants.

    Attributes:
        category: anatomical structure, abnormal structure, tissue, ...
        kind: what it is (the type): liver, cyst, ...
        side: left or right; modifies `site` where there is one, else `kind`.
        site: the anatomic region that it is in, of a lesion for example; None: not known, or `kind` says it.
        detail: what modifies `kind` where `side` modifies `site`.
    """

    category: Code
    kind: Code
    side: Code | None = None
    site: Code | None = None
    detail: Code | None = None

    @property
    def codes(self) -> tuple[Code, ...]:
        """All of them."""
        return tuple(one for one in (self.category, self.kind, self.side, self.site, self.detail) if one)

    @property
    def of_kind(self) -> Code | None:
        """What modifies `kind`."""
        return self.detail if self.site else self.side

    @property
    def of_site(self) -> Code | None:
        """What modifies `site`."""
        return self.side if self.site else None


@dataclass(frozen=True)
class Label:
    """One structure.

    Attributes:
        index: the number written into label maps.
        name: for people and file names.
        members: the numbers in training label maps that belong to it; (index,) unless it is a region.
        unknown: numbers at which it is not known whether it is there (a vessel that may be artery or vein).
        code: standard code (SNOMED CT), if one is known.
        coded: all that a file says of it in codes, in place of `code`; label tables do not keep it.
        colour: (red, green, blue), 0 to 255.
    """

    index: int
    name: str
    members: tuple[int, ...]
    code: Code | None = None
    colour: tuple[int, int, int] = (255, 0, 0)
    unknown: tuple[int, ...] = ()
    coded: Coded | None = None


@dataclass(frozen=True)
class LabelTable:
    """What a task's network tells apart, in network order: structures in a label map, or classes of a whole image.

    Structures (`unit` voxel): background is always 0 and never listed. `exclusive` tables (softmax) have network class
    0 = background and class n = labels[n - 1]. Tables of regions (sigmoid; BraTS whole tumour, core, enhancing) have
    network channel n = labels[n]; regions may overlap, and a painted map writes them in `painting_order`.

    Classes (`unit` image or slice): every class is listed, number 0 too, and network channel n = labels[n]; one of them
    holds where they are exclusive, any number of them otherwise. The class of an image is given as a number; a slice
    has every class whose structure appears in it.

    Example:
        >>> table = LabelTable.of({"liver": 5, "spleen": 1})
        >>> table.encode(np.array([[[0, 5, 1]]])).tolist()
        [[[[0, 1, 2]]]]
        >>> brats = LabelTable.of({"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}, paint=[2, 1, 4])
        >>> brats.exclusive, brats.network_channels
        (False, 3)
        >>> grades = LabelTable.classes({"no or mild": [0, 1], "referable": [2, 3, 4]})
        >>> grades.network_channels, grades.encode_classes((3,)).ravel().tolist()
        (2, [1])
    """

    labels: tuple[Label, ...]
    exclusive: bool = True
    unit: Literal["voxel", "slice", "image"] = "voxel"
    ignore: int | None = None
    """A number in label maps that means: not known for any label (outside the field of view)."""

    def __post_init__(self) -> None:
        indices = [label.index for label in self.labels]
        names = [label.name for label in self.labels]
        lowest = 1 if self.unit == "voxel" else 0
        unreadable = [name for name in names if not name.strip() or any(map(_steers, name))]
        if unreadable:
            raise Refusal(
                "labels",
                found=f"the name {unreadable[0]!r}",
                needed="names that can be read: not empty, and without control characters",
                remedy="correct the label table",
            )
        if not self.labels or min(indices) < lowest or len(set(indices)) < len(indices) or len(set(names)) < len(names):
            raise Refusal(
                "labels",
                found=f"{dict(zip(names, indices, strict=True))}",
                needed=f"at least one label; distinct names; distinct numbers of {lowest} or more"
                + (" (0 is background)" if lowest else ""),
                remedy="correct the label table",
            )

    @classmethod
    def classes(
        cls, names: Mapping[str, int | list[int]], *, exclusive: bool = True, unit: Literal["slice", "image"] = "image"
    ) -> LabelTable:
        """Classes of whole images (or of slices) from `{name: number}` or `{name: [numbers]}`, in network order."""
        members = [(name, tuple(value) if isinstance(value, list) else (value,)) for name, value in names.items()]
        labels = (
            Label(numbers[0], name, numbers, colour=_colour(place)) for place, (name, numbers) in enumerate(members)
        )
        return cls(tuple(labels), exclusive=exclusive, unit=unit)

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
        return len(self.labels) + (1 if self.exclusive and self.unit == "voxel" else 0)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """A name for each channel of the network's output."""
        return self.names if len(self.labels) == self.network_channels else ("background", *self.names)

    @property
    def painting_order(self) -> list[int]:
        """Places in the table, in the order in which regions are painted: those of more members first, so that parts
        lie on top of the whole; of equal ones the later on top."""
        return sorted(range(len(self.labels)), key=lambda place: -len(self.labels[place].members))

    @property
    def painted_kind(self) -> np.dtype:
        """Type of painted maps."""
        return np.dtype(np.uint8 if max(label.index for label in self.labels) < 256 else np.uint16)

    @cached_property
    def known_values(self) -> frozenset[int]:
        """Every number that may stand in a training label map, 0 included."""
        ignored = () if self.ignore is None else (self.ignore,)
        return frozenset({0, *ignored, *(number for label in self.labels for number in label.members + label.unknown)})

    def unknown(self, values: np.ndarray) -> list[int]:
        """Numbers in `values` that the table does not know, sorted."""
        return sorted(set(np.unique(values.ravel(order="K")).tolist()) - self.known_values)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Label map (I, J, K) as in files -> network target: (1, I, J, K) class numbers when exclusive, else
        (R, I, J, K) of 0 and 1; `IGNORE` where it is not known. Numbers that the table does not know become
        background."""
        if self.exclusive:
            lookup = np.zeros(max(int(values.max(initial=0)), *(self.known_values)) + 1, dtype=np.uint8)
            if len(self.labels) >= IGNORE:
                lookup = lookup.astype(np.uint16)
            for position, label in enumerate(self.labels, start=1):
                lookup[list(label.members)] = position
            if self.ignore is not None:
                lookup[self.ignore] = IGNORE
            return lookup[values][None]
        regions = np.stack([np.isin(values, label.members).astype(np.uint8) for label in self.labels])
        for label, region in zip(self.labels, regions, strict=True):
            unknown = label.unknown if self.ignore is None else (*label.unknown, self.ignore)
            if unknown:
                region[np.isin(values, unknown)] = IGNORE
        return regions

    def structures(self, values: np.ndarray) -> np.ndarray:
        """`encode`; for classes of slices (R, I, J, K) of 0 and 1: where the structure of each class is."""
        if self.unit == "voxel":
            return self.encode(values)
        return np.stack([np.isin(values, label.members) for label in self.labels]).astype(np.uint8)

    def holding(self, numbers: tuple[int, ...]) -> list[bool]:
        """Which labels have one of these numbers."""
        return [not set(numbers).isdisjoint(label.members) for label in self.labels]

    def encode_classes(self, numbers: tuple[int, ...]) -> np.ndarray:
        """The classes of an image, as numbers -> network target (1, 1, 1, 1) with the channel of its class when
        exclusive, else (R, 1, 1, 1) of 0 and 1.

        Raises:
            Refusal: a number that no class has, or several where classes exclude each other.
        """
        found = self.holding(numbers)
        unknown = set(numbers) - {member for label in self.labels for member in label.members}
        if unknown or (self.exclusive and sum(found) != 1):
            raise Refusal(
                "class of an image",
                found=", ".join(map(str, numbers)) or "none",
                needed="one of " * self.exclusive + str({label.name: list(label.members) for label in self.labels}),
                remedy="correct the data set's table of classes, or the label table",
            )
        values = [found.index(True)] if self.exclusive else found
        return np.array(values, np.uint8).reshape(-1, 1, 1, 1)

    def encode_slices(self, values: np.ndarray) -> np.ndarray:
        """Label map (I, J, K) -> (R, 1, 1, K): whether each class's structure appears in each slice along K."""
        return np.any(self.structures(values), axis=(1, 2), keepdims=True).astype(np.uint8)

    def paint(self, target: np.ndarray) -> np.ndarray:
        """Network target as `encode` makes it -> label map (I, J, K) with the numbers of this table."""
        if self.exclusive:
            numbers = np.array([0, *(label.index for label in self.labels)], dtype=self.painted_kind)
            return numbers[np.where(target[0] < len(numbers), target[0], 0)]
        painted = np.zeros(target.shape[1:], dtype=self.painted_kind)
        for place in self.painting_order:
            painted[target[place] == 1] = self.labels[place].index
        return painted

    def mask(self, target: np.ndarray, position: int) -> np.ndarray:
        """Boolean (I, J, K) of labels[position] in a network target."""
        if not self.exclusive or self.unit == "slice":
            return target[position] == 1
        return target[0] == (position + 1 if self.unit == "voxel" else position)

    def boxes(self, target: np.ndarray) -> dict[int, tuple[slice, slice, slice]]:
        """Smallest box (I, J, K) around each label with voxels in a network target, by its position in the table."""
        if not self.exclusive or self.unit == "slice":
            found = [_objects(channel, 1)[0] for channel in target]
        else:
            found = _objects(target[0] if self.unit == "voxel" else target[0] + 1, len(self.labels))
        return {position: box for position, box in enumerate(found) if box is not None}

    def known(self, target: np.ndarray, position: int) -> np.ndarray | None:
        """Boolean (I, J, K) of where it is known whether labels[position] is there; None: everywhere."""
        if self.ignore is None and not any(label.unknown for label in self.labels):
            return None
        return target[0 if self.exclusive else position] != IGNORE

    def to_json(self) -> dict[str, Any]:
        return {
            "exclusive": self.exclusive,
            "unit": self.unit,
            "ignore": self.ignore,
            "labels": [
                {
                    "index": label.index,
                    "name": label.name,
                    "members": list(label.members),
                    "unknown": list(label.unknown),
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
                    unknown=tuple(entry.get("unknown", ())),
                )
                for entry in data["labels"]
            ),
            exclusive=data["exclusive"],
            unit=data.get("unit", "voxel"),
            ignore=data.get("ignore"),
        )


def _objects(values: np.ndarray, most: int) -> list[tuple[slice, slice, slice] | None]:
    """Box around each number from 1 to `most`. SciPy goes through the axes from first to last, so that they are put in
    the order in which they lie in memory."""
    from scipy import ndimage

    order = np.argsort(values.strides)[::-1]
    back = np.argsort(order)
    found = ndimage.find_objects(values.transpose(order), max_label=most)
    return [None if box is None else (box[back[0]], box[back[1]], box[back[2]]) for box in found]


def _steers(sign: str) -> bool:
    """Whether a character is for machines: files that lay it down as it is would not be read again."""
    return category(sign) == "Cc" and sign not in "\n\t"


def _colour(position: int) -> tuple[int, int, int]:
    """Well separated hues: steps of the golden ratio around the circle."""
    red, green, blue = colorsys.hsv_to_rgb((position * 0.618034) % 1.0, 0.65, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)
