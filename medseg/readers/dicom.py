"""A DICOM series: a folder, or one of its files; single-frame and enhanced multi-frame, compressed or not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medseg.dicom import archive, signature
from medseg.dicom.settings import DicomSettings
from medseg.refusal import Refusal
from medseg.volume import Source, Volume

if TYPE_CHECKING:
    from medseg.dicom.frames import Frame
    from medseg.dicom.preflight import Finding, Judgement
    from medseg.dicom.repair import Grid
    from medseg.dicom.series import Series
    from medseg.dicom.stacks import Stack

log = logging.getLogger(__name__)


class Options(DicomSettings):
    """Which series, and what may be done to it."""

    series: str | None = None
    """Series UID, series number, or part of the series description, when a folder holds several. Behind a slash, which
    of the volumes in that series: its number, or part of its name ("7/2", "7/echo 2"; "/2" if there is one series)."""


def matches(path: Path) -> bool:
    """A file with DICOM's signature or suffix, or a folder, zip or DICOMDIR with such a file, unless it is all
    segmentations; no structure set by itself."""
    if archive.holds_several(path):
        if next(archive.files(path), None) is None:
            return False
        from medseg.dicom import seg

        return seg.only_segmentation(path) is None
    if not signature.claims_dicom(path):
        return False
    from medseg.dicom import headers

    return headers.sop_class(path) not in (*headers.SEGMENTATION_CLASSES, headers.STRUCTURE_SET_CLASS)


def read(path: Path, options: Options) -> Volume:
    """Read a series as (C, columns, rows, planes), planes along the normal (row x column) of the slices.

    Slices are sorted by position, never by InstanceNumber. Values are stored * slope + intercept of each slice; PET
    comes as SUVbw (g/ml) where the header allows (`notes["values"]`). MONOCHROME1 is not inverted, because it says how
    to show values, not what they are (`notes["photometric"]`).
    A single file stands for its whole series, gathered from its own folder.

    Volumes of one series that lie at the same places (phases, echoes, b-values, time points) are channels; the
    instances are those of the first. Slices that lie unevenly are repaired as the options allow; then
    `source.slices` says where the original slices lie. What was found and done is in `notes["preflight"]`.

    Raises:
        Refusal: no series or several; volumes of one series at different places; slices that cannot be placed to
            within `tolerance_mm`, or may not be repaired; or pixels that cannot be decoded.
    """
    from medseg.boundary import refuse_not_finite
    from medseg.dicom import allowed, pixels, preflight, repair, values
    from medseg.dicom.objects import NOTE_OF_CHECK

    chosen, volumes, why = _chosen(path, options)
    judgements = [
        preflight.judge(stack.frames, tolerance_mm=options.tolerance_mm, gap_mm=options.gap_mm, known=stack.findings)
        for stack in volumes
    ]
    for judgement in judgements:
        refusal = allowed.refusal(path, judgement.findings, len(judgement.geometry.order), options)
        if refusal:
            raise refusal
    ordered = [
        [stack.frames[index] for index in judgement.geometry.order]
        for stack, judgement in zip(volumes, judgements, strict=True)
    ]
    _refuse_apart(path, chosen, volumes, ordered, options.tolerance_mm)
    first, head = judgements[0], chosen.headers[0]
    uneven = any(finding.repair in repair.GRIDS for finding in first.findings)
    grid = repair.plan(ordered[0]) if uneven else None
    note = _account(first, grid, volumes, values.remarks(chosen.headers, volumes[0].frames))
    if not note.startswith("good"):
        log.warning("%s: %s", path, note)

    array = pixels.load([frame for frames in ordered for frame in frames]).transpose(2, 1, 0)
    array = array.reshape(len(ordered), -1, *array.shape[1:])
    notes: dict[str, Any] = {}
    if head.modality == "PT":
        array, notes = _uptake(array, [frame.instance.path for frames in ordered for frame in frames], options.suv)
    elif head.modality == "CT":
        notes = {"values": values.unit_of_ct(chosen.headers, volumes[0].frames)}
    refuse_not_finite(array.transpose(0, 3, 2, 1), path)
    if grid is not None:
        fill = repair.padding(array, head.modality)
        array = np.stack([repair.resample(stack, grid, fill) for stack in array])
    source = Source(
        path,
        reader="dicom",
        modality=head.modality,
        patient_id=head.patient_id,
        instances=tuple(frame.instance for frame in ordered[0]),
        slices=None if grid is None else grid.slices,
        notes={
            "study_uid": head.study_uid,
            "series_uid": head.series_uid,
            "series_number": head.series_number,
            "series_description": head.description,
            "series_choice": why,
            "frame_of_reference_uid": head.frame_of_reference_uid,
            "photometric": head.photometric,
            "off_grid_mm": first.geometry.off_grid_mm if grid is None else grid.residual_mm,
            NOTE_OF_CHECK: note,
            **notes,
        },
    )
    affine = first.geometry.affine if grid is None else grid.affine
    names = tuple(stack.name for stack in volumes) if len(volumes) > 1 else ()
    return Volume(array.transpose(0, 3, 2, 1), affine, source, channels=names)


def _chosen(path: Path, options: Options) -> tuple[Series, Sequence[Stack], str]:
    """The series that is meant, its volumes that are meant, and why, if rules had to say so."""
    from medseg.dicom import series, stacks, study

    named = options.series or ""
    if options.select is None or not archive.holds_several(path) or (named and not named.startswith("/")):
        chosen, part = series.choose(path, named)
        volumes, why = stacks.split(chosen).stacks, ""
    else:
        chosen, volumes, why = study.choose(path, options.select)
        part = named[1:]
    if part:
        volumes = _picked(path, chosen, stacks.split(chosen).stacks, part)
    return chosen, [volumes[0].alone] if len(volumes) == 1 else volumes, why


def _picked(path: Path, chosen: Series, stacks: Sequence[Stack], wanted: str) -> tuple[Stack, ...]:
    """The volume of a series that is wanted."""
    hits = [stack for stack in stacks if wanted == str(stack.number)] or [
        stack for stack in stacks if wanted.lower() in stack.name.lower()
    ]
    if len(hits) != 1:
        raise Refusal(
            path,
            found=f"'{wanted}' fits {len(hits)} of {len(stacks)} volumes of {chosen.text}: {_listing(stacks)}",
            needed="a choice that fits exactly one",
            remedy="give its number behind the slash",
            code="no-series",
        )
    return tuple(hits)


def _listing(stacks: Sequence[Stack]) -> str:
    return "; ".join(f"{stack.number}: {stack.name or 'all'} ({len(stack.frames)} slices)" for stack in stacks)


def _refuse_apart(
    path: Path, chosen: Series, stacks: Sequence[Stack], ordered: Sequence[Sequence[Frame]], tolerance_mm: float
) -> None:
    """Refuse volumes that cannot be the channels of one because their slices do not lie at the same places."""
    from medseg.dicom import repair

    first = ordered[0]
    if all(
        len(frames) == len(first)
        and frames[0].size == first[0].size
        and repair.distance_mm(repair.planes(frames), repair.planes(first), first[0].size) <= tolerance_mm
        for frames in ordered[1:]
    ):
        return
    number = chosen.headers[0].series_number
    raise Refusal(
        path,
        found=f"{len(stacks)} volumes at different places in {chosen.text}: {_listing(stacks)}",
        needed="one volume, or several whose slices lie at the same places",
        remedy=f"choose one by its number behind a slash: --series {number}/1, or series='{number}/1' from Python",
        code="several-volumes",
    )


def _account(judgement: Judgement, grid: Grid | None, stacks: Sequence[Stack], remarks: Sequence[Finding]) -> str:
    """What was found and what is done about it, in words; and last the remarks, about which nothing is done."""
    noted = [finding.text for finding in remarks]
    words = [finding.text for finding in judgement.findings]
    if all(not finding.repair for finding in judgement.findings):
        words.insert(0, "good")
    if len(stacks) > 1:
        words.append(f"read as {len(stacks)} channels")
    elif stacks[0].name:
        words.append(f"{stacks[0].name} alone is read")
    if grid is not None:
        words.append(
            f"repaired: {len(judgement.geometry.order)} slices interpolated onto {grid.shape[0]} straight planes "
            f"{grid.step_mm:.4g} mm apart, to within {max(grid.residual_mm, 0.001):.3f} mm of their places"
        )
    return "; ".join([*words, *noted])


def _uptake(
    array: np.ndarray, paths: list[Path], kind: Literal["bw", "lbm", "bsa", "none"]
) -> tuple[np.ndarray, dict[str, Any]]:
    """PET values as SUV; where that is not wanted, or the header does not allow it, as they are, with the reason in the
    notes: what wants SUV then refuses them."""
    from medseg.boundary import parsing
    from medseg.dicom import suv

    stored = "units that are not stated"
    try:
        with parsing(paths[0].parent, needed="readable PET headers", remedy="copy or export the series again"):
            headers = [suv.read(path) for path in dict.fromkeys(paths)]
        stored = str(headers[0].get("Units", stored))
        if kind == "none":
            return array, {"values": stored, "no_suv": "as the setting suv: none wants it"}
        factor = suv.factor(headers, kind)
    except Refusal as refusal:
        return array, {"values": stored, "no_suv": refusal.found}
    return (array * np.float32(factor)).astype(np.float32, copy=False), {"values": f"SUV{kind}"}
