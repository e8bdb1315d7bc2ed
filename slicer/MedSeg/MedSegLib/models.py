"""Models to choose from, as `medseg info --json` and a service's `GET /api/v1/models` describe them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Label:
    """A structure, or a class. `colour` is red, green, blue, 0 to 255; `code` is SCHEME:value, or empty."""

    number: int
    name: str
    colour: tuple[int, int, int]
    code: str
    meaning: str


@dataclass(frozen=True)
class Model:
    """What one needs to know of a model before it is run.

    Attributes:
        name: for people.
        ask: what a backend asks for it by: the path of its run folder, or its name at the service.
        channels: names of the images that it needs, in their order.
        modalities: of the channels, each empty where the model does not say; or none at all.
        labels: what it finds.
        kind: `voxel` (structures), `slice` or `image` (classes).
        spacing_mm: voxel size that it works at; None: each scan's own.
        licence, intended_use: as its makers state them.
        weights_bytes: size of its weights on the disk.
        partial: whether it is a part of a network, from which one can train and which cannot predict.
    """

    name: str
    ask: str
    channels: tuple[str, ...]
    modalities: tuple[str, ...]
    labels: tuple[Label, ...]
    kind: str
    spacing_mm: tuple[float, float, float] | None
    licence: str
    intended_use: str
    weights_bytes: int
    partial: bool = False

    @property
    def segments(self) -> bool:
        """Whether its result is a segmentation, and not a table of classes."""
        return self.kind == "voxel"


def of_json(entry: Mapping[str, Any], ask: str) -> Model:
    """From one entry of either list; fields that are not known are passed over.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    spacing = entry.get("spacing_mm")
    return Model(
        name=str(entry["name"]),
        ask=ask,
        channels=tuple(map(str, entry["channels"])),
        modalities=tuple(map(str, entry.get("modalities") or ())),
        labels=tuple(
            Label(int(one["number"]), str(one["name"]), _rgb(one["colour"]), str(one["code"]), str(one["meaning"]))
            for one in entry["labels"]
        ),
        kind=str(entry["kind"]),
        spacing_mm=None if spacing is None else _triple(spacing),
        licence=str(entry.get("licence") or "not stated"),
        intended_use=str(entry.get("intended_use") or "not stated"),
        weights_bytes=int(entry.get("weights_bytes") or 0),
        partial=bool(entry.get("partial")),
    )


def _rgb(parts: Any) -> tuple[int, int, int]:
    red, green, blue = (int(part) for part in parts)
    return red, green, blue


def _triple(parts: Any) -> tuple[float, float, float]:
    x, y, z = (float(part) for part in parts)
    return x, y, z
