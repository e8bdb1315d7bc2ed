"""What the training data is like: sizes, spacings, modalities, foreground intensities. The plan is made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from medseg import traits
from medseg.case import Case, CaseSet
from medseg.engine.load import WRONG_CHANNELS, Read, load_case
from medseg.engine.parallel import for_each
from medseg.geometry import axis_map
from medseg.labels import IGNORE, LabelTable
from medseg.measurements import MODALITIES
from medseg.plan import Sizes, Triple
from medseg.refusal import Refusal
from medseg.transforms.prepare import crop_box

VOXELS_PER_CASE = 10_000
"""Foreground voxels that each case lends to the intensity statistics, however large its structures are."""
SEED = 20240229


@dataclass(frozen=True)
class CaseFingerprint:
    """One case in canonical orientation.

    Attributes:
        shape: (I, J, K).
        spacing_mm: along these axes.
        cropped: (I, J, K) of the smallest box with every voxel where a channel is not 0.
        modalities: what the reader says of each channel; empty where it does not know.
        unit: "mm" or "px".
        voxels: of each label in the table.
        volumes_ml: of each label in the table; empty when the unit is not mm.
        traits: by which predictions are judged, see `traits.measure`; empty where there are no labels of voxels.
    """

    shape: Sizes
    spacing_mm: Triple
    cropped: Sizes
    modalities: tuple[str, ...]
    unit: str
    voxels: tuple[int, ...]
    volumes_ml: tuple[float, ...]
    traits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CaseFingerprint:
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**fields)


@dataclass(frozen=True)
class Intensity:
    """Of one channel, over sampled foreground voxels of all cases (all voxels where a case has no foreground)."""

    percentile_00_5: float
    percentile_99_5: float
    mean: float
    sd: float


@dataclass(frozen=True)
class Fingerprint:
    """All cases by id, and intensities by channel."""

    orientation: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    cases: Mapping[str, CaseFingerprint]
    intensities: tuple[Intensity, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fingerprint:
        return cls(
            orientation=data["orientation"],
            channels=tuple(data["channels"]),
            labels=tuple(data["labels"]),
            cases={case: CaseFingerprint.from_json(fields) for case, fields in data["cases"].items()},
            intensities=tuple(Intensity(**fields) for fields in data["intensities"]),
        )


def fingerprint(
    cases: CaseSet,
    *,
    read: Read,
    orientation: str = "RAS",
    policy: Literal["refuse", "resample", "register"] = "refuse",
    workers: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Fingerprint:
    """Read every case once.

    Raises:
        Refusal: there are no cases, or some cannot be read; it lists them with their files.
    """
    if not cases.cases:
        raise Refusal("data set", found="no cases", needed="at least one", remedy="correct the data set's root")
    work = partial(
        _look, table=cases.labels, channels=cases.channels, read=read, orientation=orientation, policy=policy
    )
    seen = for_each(
        work, ((case.id, case) for case in cases.cases), workers=workers, progress=progress, doing="reading"
    )
    samples = [
        np.concatenate([values[channel] for _, values in seen.values()]) for channel in range(len(cases.channels))
    ]
    return Fingerprint(
        orientation,
        cases.channels,
        cases.labels.names,
        {case: one for case, (one, _) in seen.items()},
        tuple(_intensity(values) for values in samples),
    )


def _look(
    case: Case,
    *,
    table: LabelTable,
    channels: tuple[str, ...],
    read: Read,
    orientation: str,
    policy: Literal["refuse", "resample", "register"],
) -> tuple[CaseFingerprint, np.ndarray]:
    """Facts of one case, and sampled intensities (C, n)."""
    image, labels = load_case(case, read, policy=policy, table=table)
    if len(image.array) != len(channels):
        raise Refusal(
            image.source.path,
            found=f"{len(image.array)} channels",
            needed=f"{len(channels)}: {', '.join(channels)}",
            remedy=WRONG_CHANNELS,
        )
    axes = axis_map(image.affine, orientation)
    canonical = axes.apply(image.array)
    spacing = image.spacing_mm[list(axes.permutation)]
    voxels = [0] * len(table.labels)
    foreground = np.zeros(0, np.int64)
    encoded = np.zeros((0, *image.shape), np.uint8)
    if labels is not None:
        encoded = table.structures(labels.array[0])
        voxels = [int(np.count_nonzero(table.mask(encoded, position))) for position in range(len(table.labels))]
        marked = ((encoded != 0) & (encoded != IGNORE)).any(axis=0, keepdims=True)
        foreground = np.flatnonzero(axes.apply(marked)[0])
    generator = np.random.default_rng(SEED)
    if not len(foreground):
        foreground = generator.integers(canonical[0].size, size=min(VOXELS_PER_CASE, canonical[0].size))
    elif len(foreground) > VOXELS_PER_CASE:
        foreground = generator.choice(foreground, VOXELS_PER_CASE, replace=False)
    place = np.unravel_index(foreground, canonical.shape[1:])
    samples = np.stack([channel[place] for channel in canonical]).astype(np.float32)
    millilitres = [count * float(np.prod(spacing)) / 1000 for count in voxels] if image.unit == "mm" else []
    facts = CaseFingerprint(
        shape=_sizes(canonical.shape[1:]),
        spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        cropped=_sizes(stop - start for start, stop in crop_box(canonical, "nonzero")),
        modalities=image.source.notes[MODALITIES],
        unit=image.unit,
        voxels=tuple(voxels),
        volumes_ml=tuple(millilitres),
        traits={} if labels is None or table.unit != "voxel" else traits.measure(encoded, table, image),
    )
    return facts, samples


def _intensity(values: np.ndarray) -> Intensity:
    lower, upper = np.percentile(values, (0.5, 99.5))
    return Intensity(
        float(lower), float(upper), float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    )


def _sizes(values: Any) -> Sizes:
    first, second, third = (int(value) for value in values)
    return first, second, third
