"""Pictures of a few validation cases while a network trains: its labels and the true ones over the image."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg import atomic, report
from medseg.data.cache import PreparedCase
from medseg.engine.run import Run
from medseg.engine.validate import Slices
from medseg.geometry import AXIS_CODES, axis_map
from medseg.labels import LabelTable
from medseg.plan import Plan

LAST, BEST = "last", "best"
"""Folders below `validation` in a run folder. Only these two are kept: a thousand epochs would fill a disk."""


@dataclass(frozen=True)
class Examples:
    """The cases to draw, always the same ones, so that one sees what changes.

    Attributes:
        cases: their ids.
        epoch: for the captions.
    """

    run: Run
    cases: Sequence[str]
    plan: Plan
    table: LabelTable
    epoch: int

    def draw(self, case: PreparedCase, slices: Slices, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Write the picture of a case, if it is one of these.

        Args:
            slices: those along k that were held out.
            truth, predicted: network targets of these.
        """
        if case.id not in self.cases:
            return
        image = np.asarray(case.image)[..., slices]
        turn = axis_map(_affine(self.plan.orientation), "RAS")
        colour = self.plan.unit == "px" and len(image) >= 3
        scan = turn.apply(image[:3] if colour else image[:1])
        first, second, third = (_spacing(case)[axis] for axis in turn.permutation)
        overlay = report.Overlay(
            case=case.id,
            scan=scan if colour else scan[0],
            predicted=turn.apply(predicted),
            truth=turn.apply(truth),
            spacing_mm=(first, second, third),
            window=report.percentiles(scan),
            table=self.table,
            unit=self.plan.unit or "mm",
        )
        path = self._path(LAST, case.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(path) as temporary:
            temporary.write_bytes(report.strip(overlay, f"{case.id}, epoch {self.epoch}; reference dashed"))

    def pictures(self) -> list[Path]:
        """Those of this validation."""
        return [path for case in self.cases if (path := self._path(LAST, case)).exists()]

    def keep_as_best(self) -> None:
        """The weights of this validation are the best so far."""
        for path in self.pictures():
            best = self.run.path("validation") / BEST / path.name
            best.parent.mkdir(exist_ok=True)
            with atomic.replacing(best) as temporary:
                shutil.copyfile(path, temporary)

    def _path(self, kind: str, case: str) -> Path:
        return self.run.path("validation") / kind / f"{re.sub(r'[^A-Za-z0-9._-]', '_', case)}.png"


def _affine(orientation: str) -> np.ndarray:
    """4 x 4, of voxels of 1 mm whose axes run as the three letters say."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(orientation):
        world = next(place for place, codes in enumerate(AXIS_CODES) if letter in codes)
        affine[world, axis] = -1 if letter == AXIS_CODES[world][0] else 1
    return affine


def _spacing(case: PreparedCase) -> list[float]:
    """Voxel size of a prepared image: what was cut out of the scan, divided into its voxels."""
    undo = case.undo
    sides = np.linalg.norm(np.array(undo.affine)[:3, :3], axis=0)[list(undo.permutation)]
    return [
        float(side * (stop - start) / count)
        for side, (start, stop), count in zip(sides, undo.crop, undo.prepared, strict=True)
    ]
