"""What headers say about pixel values: units, rescaling, burned-in text. It is only said, never mended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medseg.dicom.frames import Frame
from medseg.dicom.headers import Header
from medseg.dicom.preflight import Finding, Verdict, images, listed

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Also the beginning of the multi-frame classes' identifiers."""
PET_UNITS = ("BQML", "GML")
"""Units from which uptake values follow."""
OF_CT = ("", "HU")
"""Rescale types of CT that mean Hounsfield units; to say nothing means them too (DICOM PS3.3 C.11.1.1.2)."""


def remarks(headers: Sequence[Header], frames: Sequence[Frame]) -> tuple[Finding, ...]:
    """Everything worth saying about the values of one stack.

    Args:
        headers: of its series, at least those of its files.
        frames: of the stack.
    """
    files = {frame.instance.path for frame in frames}
    own = [header for header in headers if header.path in files]
    return tuple(
        Finding(kind, text, Verdict.GOOD, remedy=remedy)
        for kind, text, remedy in (*_pictures(own), *_rescale(own, frames), *_units(own), *_identity(own, frames))
    )


def unit_of_ct(headers: Sequence[Header], frames: Sequence[Frame]) -> str:
    """What the values of a CT stack are by its headers: HU, the rescale types that they name instead, or "not stated"
    where a slice has no rescale."""
    files = {frame.instance.path for frame in frames}
    others = {header.more["RescaleType"] for header in headers if header.path in files} - set(OF_CT)
    if others:
        return ", ".join(sorted(others))
    return "HU" if all(frame.rescaled for frame in frames) else "not stated"


def changes_values(frames: Sequence[Frame]) -> bool:
    """Whether a slice has a rescale that is not that of values as they are stored."""
    return any(frame.rescaled and (frame.slope, frame.intercept) != (1.0, 0.0) for frame in frames)


def _pictures(own: Sequence[Header]) -> Iterator[tuple[str, str, str]]:
    burned = [header.path.name for header in own if header.more["BurnedInAnnotation"].upper() == "YES"]
    if burned:
        text = f"text burned into the pixels of {images(len(burned))} ({listed(burned)})"
        yield "burned in", text, "look at them: names may be readable, and text is no tissue"
    captured = [header.path.name for header in own if header.sop_class_uid.startswith(SECONDARY_CAPTURE)]
    if captured:
        text = f"secondary captures ({listed(captured)}): values are grey levels, and places those of a screen"
        yield "capture", text, "prefer the original series"
    elif any("SECONDARY" in header.image_type for header in own):
        types = listed(sorted({" ".join(header.image_type) for header in own}), separator="; ")
        yield "derived", f"images made of other images ({types})", "prefer the original series"
    if all("LOCALIZER" in header.image_type for header in own):
        yield "localiser", "nothing but localisers", "prefer the series that was planned on them"
    if any(header.photometric == "MONOCHROME1" for header in own):
        yield "inverted", "MONOCHROME1: shown inverted, values as they are", ""


def _rescale(own: Sequence[Header], frames: Sequence[Frame]) -> Iterator[tuple[str, str, str]]:
    modality = own[0].modality
    without = [frame.instance.path.name for frame in frames if not frame.rescaled]
    if without and modality == "CT" and not changes_values(frames):  # else the stack is refused for it
        text = f"no rescale slope and intercept in {len(without)} of {len(frames)} slices ({listed(without)})"
        yield "rescale", text, "make sure that stored values are Hounsfield units"
    zero = [frame.instance.path.name for frame in frames if not frame.slope]
    if zero:
        yield "rescale", f"a rescale slope of 0 ({listed(zero)}): every value is the same", "repair the header"
    for name in ("slope", "intercept"):
        given = {getattr(frame, name) for frame in frames}
        if len(given) > 1:
            text = (
                f"each slice its own rescale {name} ({min(given):.6g} to {max(given):.6g}); each is applied to its own"
            )
            yield "rescale", text, ""


def _units(own: Sequence[Header]) -> Iterator[tuple[str, str, str]]:
    modality = own[0].modality
    types = sorted({header.more["RescaleType"] for header in own})
    if modality == "CT" and not set(types) <= set(OF_CT):
        text = f"values that are not Hounsfield units (RescaleType {listed([value or 'none' for value in types])})"
        yield "units", text, "prefer a series in Hounsfield units"
    units = sorted({header.more["Units"] for header in own})
    if modality == "PT" and (len(units) > 1 or units[0] not in PET_UNITS):
        text = f"values in {listed([value or 'no stated unit' for value in units])}, not in Bq/ml or g/ml"
        yield "units", text, "uptake values (SUV) cannot be had unless the maker's own factor is there"


def _identity(own: Sequence[Header], frames: Sequence[Frame]) -> Iterator[tuple[str, str, str]]:
    if not all(header.frame_of_reference_uid for header in own):
        text = "no FrameOfReferenceUID: DICOM results cannot refer to the patient's space"
        yield "frame of reference", text, "export the series again for DICOM results; other formats need none"
    studies = len({header.study_uid for header in own})
    if studies > 1:
        text = f"{studies} StudyInstanceUIDs in one series: results are filed with the first"
        yield "identifier", text, "make sure that the slices belong together"
    same = len(frames) - len({(frame.instance.sop_instance_uid, frame.instance.frame) for frame in frames})
    if same:
        text = f"{same} of {len(frames)} slices share a SOPInstanceUID with another one: results cannot refer to them"
        yield "identifier", text, "export the series again with identifiers of its own for each image"
