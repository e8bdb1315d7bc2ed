"""What medseg does about the geometry that was measured: whatever one affine cannot represent is refused, in mm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medseg.dicom.geometry import Geometry
from medseg.dicom.headers import Frame
from medseg.refusal import Refusal

TILT_DEGREES = 0.05
"""Stacks that lean more than this are refused. An affine could hold the shear, but surfaces, SEG viewers and most NIfTI
tools take the axes for perpendicular. Below it lies what four-digit direction cosines leave; the affine keeps it."""
SKEW = 1e-3
"""Row and column directions may differ from unit length and from perpendicular by this: rounding in the header."""


def refuse_irregular(where: Path, geometry: Geometry, frames: Sequence[Frame], tolerance_mm: float) -> None:
    """Return if one affine puts every pixel within `tolerance_mm` of where its own slice's header puts it.

    Raises:
        Refusal: it does not; the text names the reason and gives its size in mm.
    """
    for judge in (_planes, _repeated, _tilt, _missing):
        found = judge(geometry, frames)
        if found:
            break
    else:
        if geometry.off_grid_mm <= tolerance_mm:
            return
        found = (
            (
                f"slices {min(geometry.steps_mm):.4g} to {max(geometry.steps_mm):.4g} mm apart"
                if geometry.steps_mm
                else "a slice"
            ),
            "read the part with even spacing only, or export the series again with even spacing",
        )
    text, remedy = found
    count = len(frames)
    misplaced = geometry.off_grid_mm > tolerance_mm
    distance = f"; an even grid would misplace voxels by up to {geometry.off_grid_mm:.2f} mm" if misplaced else ""
    raise Refusal(
        where,
        found=f"{text} ({count} {'slice' if count == 1 else 'slices'}{distance})",
        needed=f"equal slices, straight above one another at even distances to within {tolerance_mm:g} mm",
        remedy=remedy,
    )


def _planes(geometry: Geometry, frames: Sequence[Frame]) -> tuple[str, str] | None:
    """Anything that makes the slices no stack of equal planes."""
    low, high = geometry.spacing_range_mm
    if not low > 0 or high == float("inf"):
        return f"a pixel spacing of {low} mm", "repair the header or export the series again"
    if not geometry.skewed <= SKEW:
        return (
            f"row and column directions that are not perpendicular unit vectors (off by {geometry.skewed:.3g})",
            "repair the header or export the series again",
        )
    if len(geometry.sizes) > 1:
        sizes = ", ".join(f"{rows} x {columns}" for rows, columns in geometry.sizes)
        return f"slices of different sizes ({sizes} pixels)", "separate them into folders of their own"
    if geometry.odd:
        names = ", ".join(frames[index].instance.path.name for index in geometry.odd[:3])
        more = " and more" if len(geometry.odd) > 3 else ""
        return (
            f"{len(geometry.odd)} slices in another orientation, turned by up to {geometry.turned_degrees:.1f} degrees "
            f"(a localiser? {names}{more})",
            "move them out of the folder",
        )
    by_axis = [{frame.spacing_mm[axis] for frame in frames} for axis in (0, 1)]
    if any(max(values) - min(values) > 1e-3 * max(values) for values in by_axis):
        return (
            f"pixel spacings from {low:.4g} to {high:.4g} mm in one series",
            "separate them into folders of their own",
        )
    if len(frames) == 1 and not geometry.affine[:3, 2].any():
        return "a single slice without SliceThickness", "read the whole series"
    return None


def _repeated(geometry: Geometry, frames: Sequence[Frame]) -> tuple[str, str] | None:
    if not geometry.repeated:
        return None
    places = len(frames) - geometry.repeated
    uids = {(frame.instance.sop_instance_uid, frame.instance.frame) for frame in frames}
    if len(uids) < len(frames):
        return f"{len(frames) - len(uids)} copies of the same instance", "remove the copies"
    return (
        f"{len(frames)} slices at {places} places (several phases, echoes or time points in one series)",
        "separate them into folders of their own",
    )


def _tilt(geometry: Geometry, frames: Sequence[Frame]) -> tuple[str, str] | None:
    if geometry.tilt_degrees <= TILT_DEGREES:
        return None
    return (
        f"a stack that leans by {geometry.tilt_degrees:.2f} degrees against its slices (gantry tilt), shifting the "
        f"last slice sideways by {geometry.drift_mm:.2f} mm",
        "resample the series onto a straight grid first, for example with a gantry tilt correction",
    )


def _missing(geometry: Geometry, frames: Sequence[Frame]) -> tuple[str, str] | None:
    if not geometry.missing:
        return None
    total = sum(count for _, count in geometry.missing)
    names = [frames[index].instance.path.name for index in geometry.order]
    places = ", ".join(f"{count} after {names[n - 1]}" for n, count in geometry.missing[:3])
    more = ", ..." if len(geometry.missing) > 3 else ""
    return (
        f"{total} missing slice{'' if total == 1 else 's'} of {geometry.typical_mm:.4g} mm ({places}{more}), "
        f"a gap of {max(geometry.steps_mm):.4g} mm",
        "fetch the missing slices from the archive",
    )
