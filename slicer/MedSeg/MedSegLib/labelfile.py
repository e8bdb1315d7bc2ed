"""Segments as a file on the grid of a scan (.seg.nrrd), numbered as a model numbers them."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from MedSegLib.models import Label

PACKING = 1
"""gzip's fastest: label maps are packed well by it, and the window waits."""


@dataclass(frozen=True)
class Segment:
    """A structure of a segmentation.

    Attributes:
        key: the segmentation's own name for it.
        name: for people.
        colour: red, green, blue, 0 to 1.
        terminology: Slicer's entry (category~type~modifier and so on), or empty.
    """

    key: str
    name: str
    colour: tuple[float, float, float]
    terminology: str = ""

    @property
    def code(self) -> str:
        """SCHEME:value of its type; empty where it has none."""
        parts = self.terminology.split("~")
        scheme, value, *_ = [*parts[2].split("^"), "", ""] if len(parts) > 2 else ("", "")
        return f"{scheme}:{value}" if scheme and value else ""


@dataclass(frozen=True)
class Matched:
    """Which segment is which label.

    Attributes:
        numbers: of the label, by the segment's key.
        unknown: names of segments that are none of the labels.
        missing: names of labels for which there is no segment.
    """

    numbers: Mapping[str, int]
    unknown: tuple[str, ...]
    missing: tuple[str, ...]


def matched(segments: Sequence[Segment], labels: Sequence[Label]) -> Matched:
    """By name first, and by the code of what is left where only one label and one segment have it: left and right
    kidney share a code."""
    by_name = {label.name.casefold(): label for label in labels}
    found: dict[str, Label] = {}
    for segment in segments:
        label = by_name.pop(segment.name.casefold(), None)
        if label is not None:
            found[segment.key] = label
    for segment in segments:
        label = None if segment.key in found else _by_code(segment, segments, labels, found)
        if label is not None and label not in found.values():
            found[segment.key] = label
    return Matched(
        {key: label.number for key, label in found.items()},
        tuple(segment.name for segment in segments if segment.key not in found),
        tuple(label.name for label in labels if label not in found.values()),
    )


def _by_code(
    segment: Segment, segments: Sequence[Segment], labels: Sequence[Label], found: Mapping[str, Label]
) -> Label | None:
    """The one label with this segment's code."""
    same = [label for label in labels if label.code == segment.code]
    rivals = [other for other in segments if other.code == segment.code and other.key not in found]
    return same[0] if segment.code and len(same) == 1 and len(rivals) == 1 else None


def write(path: Path, maps: Sequence[np.ndarray], segments: Mapping[int, Segment], ijk_to_ras: np.ndarray) -> None:
    """Write the segments, each as its number, in as few layers as keep them apart where they overlap.

    Args:
        path: of the file, which ends in .seg.nrrd; its folder is private to the caller.
        maps: (K, J, I) of numbers, 0 is none; each segment is in one of them.
        segments: by number.
        ijk_to_ras: of the grid.
    """
    layers = _merged(maps, np.dtype(np.uint8 if max(segments) < 256 else "<u2"))
    lines = [*_header(layers, ijk_to_ras), *_described(layers, segments)]
    with path.open("wb") as raw:
        raw.write(("\n".join(lines) + "\n\n").encode("utf-8"))
        with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=PACKING, mtime=0, filename="") as handle:
            for plane in range(len(layers[0])):
                # the axis of the layers comes first in the file: it is the fastest
                handle.write(np.ascontiguousarray(np.stack([layer[plane] for layer in layers], axis=-1)).tobytes())


def _merged(maps: Sequence[np.ndarray], kind: np.dtype) -> list[np.ndarray]:
    """Each map added to the first layer where nothing is in its way."""
    layers: list[np.ndarray] = []
    for one in maps:
        free = next((layer for layer in layers if not np.logical_and(layer, one).any()), None)
        if free is None:
            layers.append(one.astype(kind))
        else:
            free += one.astype(kind)
    return layers


def _header(layers: Sequence[np.ndarray], ijk_to_ras: np.ndarray) -> list[str]:
    several = len(layers) > 1
    sizes = ([len(layers)] if several else []) + list(layers[0].shape[::-1])
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ijk_to_ras
    axes = ["({:.17g},{:.17g},{:.17g})".format(*lps[:3, column]) for column in range(4)]
    return [
        "NRRD0004",
        f"type: {'unsigned char' if layers[0].dtype.itemsize == 1 else 'unsigned short'}",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: {'none ' if several else ''}{' '.join(axes[:3])}",
        f"kinds: {'list ' if several else ''}domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {axes[3]}",
    ]


def _described(layers: Sequence[np.ndarray], segments: Mapping[int, Segment]) -> list[str]:
    """Slicer's own fields: of the whole, and of each segment."""
    fields = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_SourceRepresentation": "Binary labelmap",
        "Segmentation_MasterRepresentation": "Binary labelmap",  # its name before Slicer 5.0
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    place = {int(number): n for n, layer in enumerate(layers) for number in np.unique(layer)}
    whole = " ".join(f"0 {size - 1}" for size in layers[0].shape[::-1])
    for n, (number, segment) in enumerate(segments.items()):
        described = {
            "ID": f"Segment_{number}",
            "Name": segment.name,
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{part:.6g}" for part in segment.colour),
            "ColorAutoGenerated": "0",
            "LabelValue": str(number),
            "Layer": str(place.get(number, 0)),
            "Extent": whole,
            "Tags": f"TerminologyEntry:{segment.terminology}|" if segment.terminology else "",
        }
        fields.update({f"Segment{n}_{name}": value for name, value in described.items()})
    return [f"{name}:=" + value.replace("\\", "\\\\").replace("\n", "\\n") for name, value in fields.items()]
