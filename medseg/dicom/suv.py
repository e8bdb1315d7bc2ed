"""Standardised uptake values of PET, from the header.

SUV = activity concentration [Bq/ml] * size of the body / dose [Bq] at the time that the images were corrected to, where
the size of the body is one of

    bw    weight [g]
    lbm   lean body mass [g], Janmahasatian et al. 2005 (Clin Pharmacokinet 44:1051), the LBMJANMA of DICOM
    bsa   body surface area [cm2], Du Bois and Du Bois 1916 (Arch Intern Med 17:863)

Sources: QIBA FDG-PET/CT profile 1.13 (vendor-neutral pseudo-code for SUV), RSNA; DICOM PS3.3 C.8.9.1 and C.8.22.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from medseg.refusal import Refusal

Kind = Literal["bw", "lbm", "bsa"]

PLAIN = (
    *("SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime", "FrameReferenceTime", "ActualFrameDuration"),
    *("DecayCorrection", "CorrectedImage", "Units", "SUVType", "PatientWeight", "PatientSize", "PatientSex"),
    *("DecayCorrected", "DecayCorrectionDateTime"),
)
PRIVATE = {
    "PhilipsSUVScaleFactor": (0x7053, "Philips PET Private Group", 0x00),
    "PhilipsActivityScaleFactor": (0x7053, "Philips PET Private Group", 0x09),
    "GEScanDateTime": (0x0009, "GEMS_PETD_01", 0x0D),
}
"""Of vendors: group, creator, element within the creator's block."""
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
TAGS: tuple[str | int, ...] = (
    *(*PLAIN, "RadiopharmaceuticalInformationSequence", *GROUPS),
    *(0x70530010, 0x70531000, 0x70531009, 0x00090010, 0x0009100D),
)
"""What a header must have been read with."""
DRUG = (
    *("RadionuclideTotalDose", "RadionuclideHalfLife"),
    *("RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime"),
)
SAME = (
    *("Units", "SUVType", "DecayCorrection", "PatientWeight", "PhilipsSUVScaleFactor", "PhilipsActivityScaleFactor"),
    *DRUG[:2],
)
"""What holds for a whole series: its values get one factor."""
UNITS = {"Bq/ml": ("BQML", ""), "{SUVbw}g/ml": ("GML", "BW"), "{SUVbsa}cm2/ml": ("CM2ML", "BSA")}
"""UCUM code of enhanced PET -> Units and SUVType of the classic kind."""
TYPES: dict[str, Kind] = {"BW": "bw", "BSA": "bsa", "LBMJANMA": "lbm"}
"""SUVType -> what values in SUV were worked out by. A mere LBM does not say by whose formula."""
HEAVIEST_KG = 635
"""More than anybody has weighed: a weight above it was given in grams."""
LEAST_BQ = 1e5
"""Less than anybody is given for a picture: a dose below it was given in megabecquerels."""
SIZES_M = 0.3, 2.8
"""Of people. A size outside was given in centimetres, or is none."""
EARLY_S, LATE_HALF_LIVES = 600, 10
"""A dynamic scan may begin a little before the injection; after ten half-lives, a thousandth, nothing is to be seen.
Beyond these, dates were changed (shifted or blanked by anonymisation) in one place and not in the other."""


def read(path: Path) -> dict[str, Any]:
    """`facts` of a file."""
    from medseg.dicom import parse

    with path.open("rb") as handle:
        return facts(parse.header(path, handle, parse.tags(TAGS)))


def facts(dataset: Any) -> dict[str, Any]:
    """What `factor` needs of one PET instance, by DICOM keyword; what is not there is left out."""
    drug = (dataset.get("RadiopharmaceuticalInformationSequence") or [{}])[0]
    found = {name: dataset.get(name) for name in PLAIN} | {name: drug.get(name) for name in DRUG}
    for name, (group, creator, element) in PRIVATE.items():
        with contextlib.suppress(KeyError):  # no such block, or nothing in it
            found[name] = dataset.private_block(group, creator)[element].value
    if dataset.get("PerFrameFunctionalGroupsSequence"):
        found |= _enhanced(dataset)
    return {name: value for name, value in found.items() if value not in (None, "")}


def _enhanced(dataset: Any) -> dict[str, Any]:
    """Units and decay correction of an enhanced multi-frame object, in the terms of the classic one."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
    units = set()
    for own in dataset.PerFrameFunctionalGroupsSequence:
        mapping, rescale = (
            (own.get(name) or shared.get(name) or [{}])[0]
            for name in ("RealWorldValueMappingSequence", "PixelValueTransformationSequence")
        )
        lines = [
            [float(values.get(name) or default) for name, default in zip(names, (1, 0), strict=True)]
            for values, names in (
                (mapping, ("RealWorldValueSlope", "RealWorldValueIntercept")),
                (rescale, ("RescaleSlope", "RescaleIntercept")),
            )
        ]
        if lines[0] != lines[1]:
            _refuse("a mapping to real values other than the rescaling of the pixels", "the same slope and intercept")
        code = (mapping.get("MeasurementUnitsCodeSequence") or [{}])[0].get("CodeValue")
        units.add(str(code or "units that are not stated"))
    if len(units) > 1:
        _refuse(f"frames in {' and '.join(sorted(units))}", "one unit")
    (unit,) = units
    named, kind = UNITS.get(unit, (unit, ""))
    corrected = str(dataset.get("DecayCorrected") or "").strip() == "YES"
    return {"Units": named, "SUVType": kind} | (
        {"DecayCorrection": "START", "CorrectedImage": "DECY"} if corrected else {"DecayCorrection": "NONE"}
    )


def factor(instances: Sequence[dict[str, Any]], kind: Kind = "bw") -> float:
    """What to multiply the rescaled values of a series by to get SUV, in g/ml for bw and lbm, in cm2/ml for bsa.

    Args:
        instances: `facts` of every instance of one series.

    Raises:
        Refusal: the header lacks something, or says something impossible; the message names it.
    """
    for name in SAME:
        given = sorted({str(one.get(name, "none")).strip() for one in instances})
        if len(given) > 1:
            _refuse(f"images with {name} {' and '.join(given)}", "one for all images of a series")
    first = instances[0]
    units = str(_needed(first, "Units")).strip()
    if units in ("GML", "CM2ML"):
        stated = str(first.get("SUVType") or ("BSA" if units == "CM2ML" else "BW")).strip()
        if stated not in TYPES:
            _refuse(f"SUV of type {stated}", f"one of {', '.join(TYPES)}")
        stored = TYPES[stated]
        return 1.0 if stored == kind else body(first, kind) / body(first, stored)
    if units == "CNTS":
        by_weight = _number(first, "PhilipsSUVScaleFactor") if "PhilipsSUVScaleFactor" in first else 0.0
        if by_weight > 0:
            return by_weight if kind == "bw" else by_weight * body(first, kind) / body(first, "bw")
        if "PhilipsActivityScaleFactor" in first:
            return _positive(first, "PhilipsActivityScaleFactor") * body(first, kind) / _dose_left(instances)
    if units != "BQML":
        _refuse(f"values in {units}", "Bq/ml (BQML), g/ml (GML), cm2/ml (CM2ML), or counts with Philips' factors")
    return body(first, kind) / _dose_left(instances)


def body(one: dict[str, Any], kind: Kind) -> float:
    """Size of the body: g for bw and lbm, cm2 for bsa.

    Raises:
        Refusal: weight, size or sex is missing or impossible.
    """
    weight = _positive(one, "PatientWeight")
    if weight > HEAVIEST_KG:
        _refuse(f"a patient of {weight:g} kg", f"a weight in kilograms, at most {HEAVIEST_KG}")
    if kind == "bw":
        return weight * 1000
    size = _positive(one, "PatientSize")
    if not SIZES_M[0] <= size <= SIZES_M[1]:
        _refuse(f"a patient of {size:g} m", f"a size in metres, from {SIZES_M[0]:g} to {SIZES_M[1]:g}")
    if kind == "bsa":
        return 1e4 * 0.007184 * (100 * size) ** 0.725 * weight**0.425
    sex = str(_needed(one, "PatientSex")).strip()
    if sex not in ("M", "F"):
        _refuse(f"PatientSex '{sex}'", "M or F, for which there are formulas of lean body mass")
    constant, slope = (6680, 216) if sex == "M" else (8780, 244)
    return 1000 * 9270 * weight / (constant + slope * weight / size**2)


def _dose_left(instances: Sequence[dict[str, Any]]) -> float:
    """Bq of the dose at the time that the images were corrected to."""
    first = instances[0]
    dose = _positive(first, "RadionuclideTotalDose")
    if dose < LEAST_BQ:
        _refuse(f"a dose of {dose:g} Bq", f"becquerels, at least {LEAST_BQ:g}; megabecquerels times a million")
    correction = str(_needed(first, "DecayCorrection")).strip()
    if correction == "ADMIN":
        return dose
    corrected = first.get("CorrectedImage") or ()  # one value alone comes as a text
    if correction != "START" or "DECY" not in ([corrected] if isinstance(corrected, str) else map(str, corrected)):
        _refuse(f"decay correction {correction}", "images corrected for decay (DECY), to START or ADMIN")
    half_life = _positive(first, "RadionuclideHalfLife")
    reference = _reference_time(instances, half_life)
    waited = (reference - _injection(first, reference)).total_seconds()
    if not -EARLY_S <= waited <= LATE_HALF_LIVES * half_life:
        _refuse(
            f"an injection {abs(waited) / 3600:.3g} hours {'before' if waited > 0 else 'after'} the scan",
            f"one before it, by at most {LATE_HALF_LIVES} half-lives of {half_life:g} s",
        )
    return dose * 2 ** (-waited / half_life)


def _reference_time(instances: Sequence[dict[str, Any]], half_life: float) -> datetime:
    """The time that values were corrected to: as an enhanced object states it; else the series time, unless that was
    rewritten after the acquisition. Then it is what GE notes of its own, or is worked out from the first frame, whose
    own reference time is when its count rate was its mean."""
    if "DecayCorrectionDateTime" in instances[0]:
        return _parse(str(instances[0]["DecayCorrectionDateTime"]), "DecayCorrectionDateTime")
    first = min(instances, key=lambda one: _moment(one, "AcquisitionDate", "AcquisitionTime"))
    acquired = _moment(first, "AcquisitionDate", "AcquisitionTime")
    series = _moment(first, "SeriesDate", "SeriesTime")
    if series <= acquired:
        return series
    if "GEScanDateTime" in first:
        return _parse(str(first["GEScanDateTime"]), "GEScanDateTime")
    decay = math.log(2) / half_life
    during = decay * _positive(first, "ActualFrameDuration") / 1000
    to_mean_rate = math.log(during / -math.expm1(-during)) / decay
    return acquired - timedelta(seconds=_number(first, "FrameReferenceTime") / 1000 - to_mean_rate)


def _injection(one: dict[str, Any], reference: datetime) -> datetime:
    """Full date where there is one, else the time of day on the day of the scan, or the day before."""
    if "RadiopharmaceuticalStartDateTime" in one:
        return _parse(str(one["RadiopharmaceuticalStartDateTime"]), "RadiopharmaceuticalStartDateTime")
    day = f"{reference:%Y%m%d}" if "DecayCorrectionDateTime" in one else str(_needed(one, "SeriesDate")).strip()
    when = _parse(day + str(_needed(one, "RadiopharmaceuticalStartTime")).strip(), "RadiopharmaceuticalStartTime")
    return when - timedelta(days=1) if when > reference else when


def _moment(one: dict[str, Any], date: str, time: str) -> datetime:
    return _parse(str(_needed(one, date)).strip() + str(_needed(one, time)).strip(), time)


def _parse(text: str, name: str) -> datetime:
    """YYYYMMDDhhmmss with a fraction or without; a time zone at the end is cut off, as all times share it."""
    digits, _, fraction = re.split("[+-]", text.strip(), maxsplit=1)[0].partition(".")
    try:
        moment = datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S")
        return moment + timedelta(seconds=float(f"0.{fraction}") if fraction else 0.0)
    except ValueError:
        _refuse(f"{name} '{text}'", "a DICOM date and time")
        raise


def _positive(one: dict[str, Any], name: str) -> float:
    value = _number(one, name)
    if not value > 0:
        _refuse(f"{name} {value:g}", "a number above 0")
    return value


def _number(one: dict[str, Any], name: str) -> float:
    try:
        return float(_needed(one, name))
    except (TypeError, ValueError):
        _refuse(f"{name} '{one[name]}'", "a number")
        raise


def _needed(one: dict[str, Any], name: str) -> Any:
    if name not in one:
        _refuse(f"no {name}", "all that SUV is worked out from")
    return one[name]


def _refuse(found: str, needed: str) -> None:
    raise Refusal("PET header", found=found, needed=needed, remedy="export the series again with this attribute")
