"""`Volume`: the one thing that crosses borders between stages. An array, where it lies in space, where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medseg.refusal import Refusal


@dataclass(frozen=True)
class Instance:
    """One DICOM instance (and frame) that a slice came from. Tuples of them follow the slice order along K."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class Slices:
    """Where the original slices of a scan lie, if they are not the K planes of the volume that was made of them.

    Attributes:
        affines: (n, 4, 4), (column, row, 0, 1) -> RAS+ mm, in the order of `Source.instances`.
        size: (columns, rows) of each.
    """

    affines: np.ndarray
    size: tuple[int, int]


@dataclass(frozen=True)
class Source:
    """Where a volume came from. `notes` holds what a reader wants an output of the same format to know.

    Attributes:
        instances: the original slices; those of a repaired series may be fewer or lie elsewhere than the volume's K
            planes, and then `slices` says where.
        slices: None where original slice n is plane n of the volume.
    """

    path: Path = Path()
    reader: str = ""
    modality: str = ""
    patient_id: str = ""
    instances: tuple[Instance, ...] = ()
    slices: Slices | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Volume:
    """An image or label map in space.

    Attributes:
        array: shape (C, I, J, K); channels first, then the three voxel axes. A photograph has K = 1.
        affine: (4, 4) float64, voxel index (i, j, k, 1) -> RAS+ millimetres (or pixels, see `unit`).
        unit: "mm", or "px" when no physical size is known; metrics in millimetres refuse pixels.
        channels: a name per channel, or empty.

    Raises:
        Refusal: the array is not 4-D, or the affine is not finite, not invertible or not (4, 4).

    Example:
        >>> v = Volume(np.zeros((1, 4, 5, 6)), np.diag([2.0, 2.0, 3.0, 1.0]))
        >>> v.shape, v.spacing_mm.tolist()
        ((4, 5, 6), [2.0, 2.0, 3.0])
    """

    array: np.ndarray
    affine: np.ndarray
    source: Source = field(default_factory=Source)
    unit: Literal["mm", "px"] = "mm"
    channels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine, dtype=np.float64)
        object.__setattr__(self, "affine", affine)
        if self.array.ndim != 4 or 0 in self.array.shape:
            self._refuse(f"an array of shape {self.array.shape}", "four non-empty axes (channel, i, j, k)")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            self._refuse(f"affine {affine.tolist()}", "a finite 4 x 4 affine")
        if not np.array_equal(affine[3], [0, 0, 0, 1]) or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            self._refuse(f"affine {affine.tolist()}", "an invertible affine with last row 0 0 0 1")

    def _refuse(self, found: str, needed: str) -> None:
        raise Refusal(self.source.path, found=found, needed=needed, remedy="repair the file's geometry before use")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(I, J, K)."""
        return self.array.shape[1:]

    @property
    def spacing_mm(self) -> np.ndarray:
        """Voxel size along I, J, K: the length of each affine column."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def with_array(self, array: np.ndarray, channels: tuple[str, ...] = ()) -> Volume:
        """The same place and source with other voxels."""
        return replace(self, array=array, channels=channels)
