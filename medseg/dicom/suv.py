"""Standardised uptake value of PET by body weight (SUVbw), from the header.

SUVbw = activity concentration [Bq/ml] * body weight [g] / dose [Bq] at the time that the images were corrected to.
Source: QIBA FDG-PET/CT profile 1.13 (vendor-neutral pseudo-code for SUV), RSNA.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from medseg.refusal import Refusal

TAGS = (
    *("SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime", "FrameReferenceTime", "ActualFrameDuration"),
    *("DecayCorrection", "CorrectedImage", "Units", "PatientWeight", "RadiopharmaceuticalInformationSequence"),
)
"""What a header must have been read with."""
DRUG = (
    *("RadionuclideTotalDose", "RadionuclideHalfLife"),
    *("RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime"),
)
HEAVIEST_KG = 635
"""More than anybody has weighed: a weight above it was given in grams."""
LEAST_BQ = 1e5
"""Less than anybody is given for a picture: a dose below it was given in megabecquerels."""
EARLY_S, LATE_HALF_LIVES = 600, 10
"""A dynamic scan may begin a little before the injection; after ten half-lives, a thousandth, nothing is to be seen.
Beyond these, dates were changed (shifted or blanked by anonymisation) in one place and not in the other."""


def facts(dataset: Any) -> dict[str, Any]:
    """What `factor` needs of one PET instance, by DICOM keyword; what is not there is left out."""
    drug = (dataset.get("RadiopharmaceuticalInformationSequence") or [{}])[0]
    found = {name: dataset.get(name) for name in TAGS[:-1]} | {name: drug.get(name) for name in DRUG}
    return {name: value for name, value in found.items() if value not in (None, "")}


def factor(instances: Sequence[dict[str, Any]]) -> float:
    """What to multiply the rescaled values of a series by to get SUVbw in g/ml.

    Args:
        instances: `facts` of every instance of one series; the first one's drug and patient count.

    Raises:
        Refusal: the header lacks something, or says something impossible; the message names it.
    """
    first = instances[0]
    units = str(_needed(first, "Units")).strip()
    if units == "GML":
        return 1.0
    if units != "BQML":
        _refuse(f"values in {units}", "Bq/ml (BQML) or g/ml (GML)")
    weight, dose = (_positive(first, name) for name in ("PatientWeight", "RadionuclideTotalDose"))
    if weight > HEAVIEST_KG:
        _refuse(f"a patient of {weight:g} kg", f"a weight in kilograms, at most {HEAVIEST_KG}")
    if dose < LEAST_BQ:
        _refuse(f"a dose of {dose:g} Bq", f"becquerels, at least {LEAST_BQ:g}; megabecquerels times a million")
    correction = str(_needed(first, "DecayCorrection")).strip()
    if correction == "ADMIN":
        return weight * 1000 / dose
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
    return weight * 1000 / (dose * 2 ** (-waited / half_life))


def _reference_time(instances: Sequence[dict[str, Any]], half_life: float) -> datetime:
    """The time that values were corrected to: the series time, unless that was rewritten after the acquisition; then
    it is worked out from the first frame, whose own reference time is when its count rate was its mean."""
    first = min(instances, key=lambda one: _moment(one, "AcquisitionDate", "AcquisitionTime"))
    acquired = _moment(first, "AcquisitionDate", "AcquisitionTime")
    series = _moment(first, "SeriesDate", "SeriesTime")
    if series <= acquired:
        return series
    decay = math.log(2) / half_life
    during = decay * _positive(first, "ActualFrameDuration") / 1000
    to_mean_rate = math.log(during / -math.expm1(-during)) / decay
    return acquired - timedelta(seconds=_number(first, "FrameReferenceTime") / 1000 - to_mean_rate)


def _injection(one: dict[str, Any], reference: datetime) -> datetime:
    """Full date where there is one, else the time of day on the day of the scan, or the day before."""
    if "RadiopharmaceuticalStartDateTime" in one:
        return _parse(str(one["RadiopharmaceuticalStartDateTime"]), "RadiopharmaceuticalStartDateTime")
    day = str(_needed(one, "SeriesDate")).strip()
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
