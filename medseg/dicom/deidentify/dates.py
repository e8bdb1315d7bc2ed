"""Dates moved by whole days, times looked at: DICOM's DA, DT and TM as texts (PS3.5, 6.2)."""

from __future__ import annotations

import re
from datetime import date, timedelta

DA = re.compile(r"(\d{4})(\d{2})(\d{2})|(\d{4})\.(\d{2})\.(\d{2})")
"""The second form is ACR-NEMA's, which old files have."""
DT = re.compile(r"(\d{4})(\d{2})?(\d{2})?((?:[01]\d|2[0-3])?(?:[0-5]\d)?(?:[0-5]\d|60)?(?:\.\d{1,6})?)([+-]\d{4})?")
TM = re.compile(r"(?:[01]\d|2[0-3])(?::?[0-5]\d(?::?(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?")
MIDDLE_OF_YEAR, MIDDLE_OF_MONTH = (7, 1), 15
"""Where a date that names no day is taken to lie; no day lies nearer to all of them."""


def shifted_date(text: str, days: int) -> str | None:
    """A DA value some days later; None if it is no date, or leaves the years 1 to 9999.

    Example:
        >>> shifted_date("20240301", -1)
        '20240229'
    """
    found = DA.fullmatch(text.strip(" \0"))
    if found is None:
        return None
    year, month, day = (int(part) for part in found.groups() if part)
    moved = _moved(year, month, day, days)
    return f"{moved:%Y%m%d}".rjust(8, "0") if moved else None


def shifted_datetime(text: str, days: int) -> str | None:
    """A DT value some days later, as exact as it was, its time of day and zone untouched; None as for `shifted_date`.

    A value of a year or a month alone is moved from its middle.

    Example:
        >>> shifted_datetime("20240229235959.5+0100", 1), shifted_datetime("202401", 31)
        ('20240301235959.5+0100', '202402')
    """
    found = DT.fullmatch(text.strip(" \0"))
    if found is None:
        return None
    year, month, day, time, zone = found.groups()
    if time and not (month and day):
        return None
    middle = (int(month), MIDDLE_OF_MONTH) if month else MIDDLE_OF_YEAR
    moved = _moved(int(year), *((int(month), int(day)) if month and day else middle), days)
    if moved is None:
        return None
    kept = 8 if day else 6 if month else 4
    return f"{moved:%Y%m%d}".rjust(8, "0")[:kept] + (time or "") + (zone or "")


def _moved(year: int, month: int, day: int, days: int) -> date | None:
    try:
        return date(year, month, day) + timedelta(days=days)
    except (ValueError, OverflowError):
        return None
