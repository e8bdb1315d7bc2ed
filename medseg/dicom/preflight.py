"""What is wrong with the slices of a stack, in mm, and what can be done about it. Nothing is changed here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from medseg.dicom import repair
from medseg.dicom.frames import Frame
from medseg.dicom.geometry import SAME_PLACE_MM, Geometry, measure
from medseg.volume import Instance

TILT_DEGREES = 0.05
"""Stacks that lean more than this are straightened. An affine could hold the shear, but surfaces, SEG viewers and most
NIfTI tools take the axes for perpendicular. Below it lies what four-digit direction cosines leave; the affine keeps
it."""
STEEPEST_DEGREES = 45.0
"""Gantries tilt by 30 degrees at most. Slices that lie rather beside than above one another are no stack."""
SKEW = 1e-3
"""Row and column directions may differ from unit length and from perpendicular by this: rounding in the header."""
SPACING = 1e-3
"""Pixel spacings of one stack may differ by this share: rounding in the header."""
UNTURNED_DEGREES = 1e-4
"""An angle that moves no corner pixel by a hundredth of a millimetre."""
NEARLY = 0.1
"""Share of the wide steps: slices that are closer were hardly taken for one volume, and are not blended."""
ALTERNATING = 0.3
"""Share of the widest step by which steps must differ that come round again and again: less is left by rounding."""
CODES = {"missing": "missing-slices", "unplaced": "no-geometry"}
"""Codes of refusals that are not called as the kind of finding is."""
NAMED = 3
"""Files, volumes or values that a finding spells out."""


class Verdict(StrEnum):
    """Of a stack of slices."""

    GOOD = "good"
    REPAIRABLE = "repairable"
    REFUSED = "refused"


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: one word for tables and programs: missing, spacing, tilt, drift, repeated, orientation, size, ...
        text: what it is, with numbers and units.
        severity: refused stops the series, repairable can be mended by `repair`, good is only said.
        size_mm: how far it would misplace the worst voxel if it were ignored; 0 where nothing moves.
        repair: what mends it: a word of `repair.KINDS`; empty where nothing needs to, or can, be done.
        remedy: what a person can do about it.
    """

    kind: str
    text: str
    severity: Verdict
    size_mm: float = 0.0
    repair: str = ""
    remedy: str = ""

    @property
    def code(self) -> str:
        """Of a refusal for this reason, see `refusal.CODES`."""
        return CODES.get(self.kind, self.kind.replace(" ", "-"))


@dataclass(frozen=True)
class Judgement:
    """All findings about one stack of slices."""

    geometry: Geometry
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """That of the worst finding."""
        return worst(self.findings)


def worst(findings: Sequence[Finding]) -> Verdict:
    """Verdict of the worst finding; good if there is none."""
    severities = {finding.severity for finding in findings}
    return next((one for one in (Verdict.REFUSED, Verdict.REPAIRABLE) if one in severities), Verdict.GOOD)


def judge(frames: Sequence[Frame], *, tolerance_mm: float, gap_mm: float, known: tuple[Finding, ...] = ()) -> Judgement:
    """Whether one affine puts every pixel within `tolerance_mm` of where its own slice's header puts it, and if not,
    whether shifting and interpolating slices makes it so.

    Args:
        frames: of one stack (`stacks.split`), in any order.
        tolerance_mm: how far a voxel may be off.
        gap_mm: widest distance between slices over which values may be interpolated.
        known: what is known about the stack already; it comes first among the findings.

    Returns:
        Nothing but the first reason to refuse if slices are no stack of equal planes; else everything that is uneven.
    """
    geometry = measure(frames)
    broken = next(_planes(geometry, frames, tolerance_mm), None)
    if broken:
        return Judgement(geometry, (*known, broken))
    limit = tolerance_mm
    if geometry.off_grid_mm > tolerance_mm:  # each part may be within it, and their sum not: then the largest is meant
        limit = min(limit, 0.999 * max(geometry.off_step_mm, geometry.off_side_mm))
    uneven = (*_steps(geometry, frames, limit, gap_mm), *_shifts(geometry, limit))
    beyond = _beyond(geometry, frames, tolerance_mm) if any(finding.repair for finding in uneven) else ()
    return Judgement(geometry, (*known, *uneven, *beyond))


def listed(words: Sequence[str], *, separator: str = ", ") -> str:
    """The first few different words, and how many more there are."""
    words = list(dict.fromkeys(words))
    more = len(words) - NAMED
    return separator.join(words[:NAMED]) + (f" and {more} more" if more > 0 else "")


def names(frames: Sequence[Frame]) -> str:
    """The first few files of frames."""
    return listed([frame.instance.path.name for frame in frames])


def images(count: int, noun: str = "image") -> str:
    """Count with its noun."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _named(instance: Instance) -> str:
    return instance.path.name + ("" if instance.frame is None else f", frame {instance.frame}")


def _range(low: float, high: float) -> str:
    digits = next((digits for digits in (4, 6) if f"{low:.{digits}g}" != f"{high:.{digits}g}"), 8)
    return f"{low:.{digits}g} to {high:.{digits}g}"


def _planes(geometry: Geometry, frames: Sequence[Frame], tolerance_mm: float) -> Iterator[Finding]:
    """Anything that makes the slices no stack of equal planes at different places."""

    def refused(kind: str, text: str, remedy: str, size_mm: float = 0.0) -> Finding:
        return Finding(kind, text, Verdict.REFUSED, size_mm, remedy=remedy)

    again, apart = "repair the header or export the series again", "separate them into folders of their own"
    low, high = geometry.spacing_range_mm
    if not low > 0:
        yield refused("pixel spacing", f"a pixel spacing of {low} mm", again)
    if not geometry.skewed <= SKEW:
        text = f"row and column directions that are not perpendicular unit vectors (off by {geometry.skewed:.3g})"
        yield refused("orientation", text, again)
    if len(geometry.sizes) > 1:
        sizes = ", ".join(f"{rows} x {columns}" for rows, columns in geometry.sizes)
        yield refused("size", f"slices of different sizes ({sizes} pixels)", apart)
    if geometry.odd:
        odd = [frames[index] for index in geometry.odd]
        text = (
            f"{images(len(odd), 'slice')} in another orientation, turned by up to {geometry.turned_degrees:.1f} "
            f"degrees (a localiser? {names(odd)})"
        )
        yield refused("orientation", text, "move them out of the folder", geometry.off_plane_mm)
    if _scaled(frames) > SPACING or (
        geometry.off_plane_mm > tolerance_mm and geometry.turned_degrees < UNTURNED_DEGREES
    ):
        text = f"pixel spacings from {low:.4g} to {high:.4g} mm in one series"
        yield refused("pixel spacing", text, apart, geometry.off_plane_mm)
    if geometry.off_plane_mm > tolerance_mm:
        text = (
            f"slices turned against each other by up to {geometry.turned_degrees:.3f} degrees, which moves their "
            f"corners by {geometry.off_plane_mm:.2f} mm"
        )
        yield refused("orientation", text, again, geometry.off_plane_mm)
    if len(frames) == 1 and not geometry.affine[:3, 2].any():
        yield refused("thickness", "a single slice without SliceThickness", "read the whole series")
    if geometry.repeated:
        yield _repeated(geometry, frames)
    elif len(frames) > 2 and min(geometry.steps_mm) < NEARLY * (wide := _wide(geometry.steps_mm)):
        text = (
            f"slices only {min(geometry.steps_mm):.4g} mm apart among steps of {wide:.4g} mm, which may be of several "
            "volumes (phases, echoes or time points)"
        )
        yield refused("repeated", text, apart)
    elif cycle := _cycle(geometry.steps_mm):
        text = (
            f"steps that come round as {', '.join(f'{step:.4g}' for step in cycle)} mm, as those of several volumes "
            "among one another do (phases, echoes or time points)"
        )
        yield refused("repeated", text, apart)
    if geometry.tilt_degrees > STEEPEST_DEGREES:
        text = f"a stack that leans by {geometry.tilt_degrees:.2f} degrees against its slices"
        yield refused("tilt", text, again, geometry.drift_mm)


def _wide(steps: Sequence[float]) -> float:
    """A step that a quarter of the steps reach: that between places, if up to three volumes lie nearly together."""
    return sorted(steps)[3 * len(steps) // 4]


def _cycle(steps: Sequence[float]) -> Sequence[float]:
    """The two or three different steps that are repeated from one end to the other, if the steps are of that kind."""
    for length in (2, 3):
        wide, cycle = max(steps, default=0.0), steps[:length]
        again = all(abs(step - cycle[n % length]) <= 2 * SAME_PLACE_MM for n, step in enumerate(steps))
        if again and len(steps) >= 4 * length and max(cycle) - min(cycle) > ALTERNATING * wide:
            return cycle
    return ()


def _scaled(frames: Sequence[Frame]) -> float:
    """Largest difference of pixel spacings along one axis, as a share of the larger."""
    by_axis = [[frame.spacing_mm[axis] for frame in frames] for axis in (0, 1)]
    return max(1 - min(values) / max(values) for values in by_axis)


def _repeated(geometry: Geometry, frames: Sequence[Frame]) -> Finding:
    places = len(frames) - geometry.repeated
    text = (
        f"{len(frames)} slices at {places} places, which nothing in their headers tells apart (several phases, echoes "
        "or time points in one series?)"
    )
    if places == 1:
        text = f"{len(frames)} slices at 1 place, which make no volume (monitoring of a bolus, a film?)"
    return Finding("repeated", text, Verdict.REFUSED, remedy="separate them into folders of their own")


def _steps(geometry: Geometry, frames: Sequence[Frame], tolerance_mm: float, gap_mm: float) -> Iterator[Finding]:
    """Slices that are missing, or stand at uneven distances."""
    if not geometry.missing and geometry.off_step_mm <= tolerance_mm:
        return
    widest = max(geometry.steps_mm)
    if geometry.missing:
        total = sum(count for _, count in geometry.missing)
        ordered = [frames[index].instance for index in geometry.order]
        places = ", ".join(f"{count} after {_named(ordered[n - 1])}" for n, count in geometry.missing[:NAMED])
        more = ", ..." if len(geometry.missing) > NAMED else ""
        kind, repair, remedy = "missing", "fill", "fetch the missing slices from the archive"
        text = (
            f"{images(total, 'missing slice')} of {geometry.typical_mm:.4g} mm ({places}{more}), "
            f"a gap of {widest:.4g} mm"
        )
    else:
        kind, repair = "spacing", "regrid"
        remedy = "read the part with even spacing only, or export the series again with even spacing"
        text = f"slices {_range(min(geometry.steps_mm), widest)} mm apart"
    text += f"; an even grid would misplace voxels by up to {geometry.off_step_mm:.2f} mm"
    if widest <= gap_mm + SAME_PLACE_MM:  # 10 mm along an oblique normal may be a billionth more
        yield Finding(kind, text, Verdict.REPAIRABLE, geometry.off_step_mm, repair, remedy)
        return
    text += f"; gaps over {gap_mm:g} mm are not interpolated"
    remedy += f", or allow wider gaps (gap_mm={math.ceil(widest)})"
    yield Finding(kind, text, Verdict.REFUSED, geometry.off_step_mm, remedy=remedy)


def _shifts(geometry: Geometry, tolerance_mm: float) -> Iterator[Finding]:
    """Parallel slices that do not stand straight above one another."""
    remedy = "repair it here, or resample the series onto a straight grid"
    if geometry.tilt_degrees > TILT_DEGREES:
        text = (
            f"a stack that leans by {geometry.tilt_degrees:.2f} degrees against its slices (gantry tilt), shifting the "
            f"last slice sideways by {geometry.drift_mm:.2f} mm"
        )
        yield Finding("tilt", text, Verdict.REPAIRABLE, geometry.drift_mm, "straighten", remedy)
    if geometry.off_side_mm > tolerance_mm:
        text = (
            f"slices shifted sideways; a straight grid would misplace voxels by up to {geometry.off_side_mm:.2f} mm "
            f"(positions are up to {geometry.off_line_mm:.2f} mm from their best line)"
        )
        yield Finding("drift", text, Verdict.REPAIRABLE, geometry.off_side_mm, "straighten", remedy)


def _beyond(geometry: Geometry, frames: Sequence[Frame], tolerance_mm: float) -> Iterator[Finding]:
    """A repair that would need absurdly many voxels, or leave slices too far from their places."""
    grid = repair.plan([frames[index] for index in geometry.order])
    if grid.residual_mm > tolerance_mm:
        text = f"slices that a repair would leave up to {grid.residual_mm:.4g} mm from their places"
        remedy = f"export the series again, or allow as much (tolerance_mm={math.ceil(100 * grid.residual_mm) / 100:g})"
        yield Finding("inexact", text, Verdict.REFUSED, grid.residual_mm, remedy=remedy)
    if grid.growth > repair.GROWTH:
        text = (
            f"slices that only a grid of {' x '.join(map(str, grid.shape))} voxels would hold, {grid.growth:.0f} times "
            "as many as were scanned"
        )
        remedy = "repair the headers, or read the part that lies evenly"
        yield Finding("room", text, Verdict.REFUSED, remedy=remedy)
