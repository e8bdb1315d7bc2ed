"""Dates that move, and what is no date."""

from __future__ import annotations

import string
from datetime import date, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medseg.dicom.deidentify import dates
from medseg.dicom.deidentify.secret import LARGEST_SHIFT_DAYS, Secret

DAYS = st.integers(-4000, 4000)
YEARS = st.dates(date(1900, 1, 1), date(2100, 1, 1))
TIMES = st.sampled_from(["", "10", "1011", "101112", "101112.5", "235960", "000000.123456"])
ZONES = st.sampled_from(["", "+0100", "-0530", "+0000"])


@given(YEARS, YEARS, DAYS)
def test_distances_between_dates_stay(one: date, other: date, days: int) -> None:
    moved = [dates.shifted_date(f"{day:%Y%m%d}", days) for day in (one, other)]
    first, second = (datetime.strptime(str(text), "%Y%m%d").date() for text in moved)
    assert second - first == other - one and first - one == timedelta(days=days)


@given(YEARS, DAYS, TIMES, ZONES)
def test_time_of_day_and_zone_of_a_datetime_stay(day: date, days: int, time: str, zone: str) -> None:
    moved = dates.shifted_datetime(f"{day:%Y%m%d}{time}{zone}", days)
    assert moved == f"{dates.shifted_date(f'{day:%Y%m%d}', days)}{time}{zone}"


@given(YEARS, DAYS, st.sampled_from([4, 6]))
def test_a_date_without_a_day_stays_as_inexact_and_moves_to_the_nearest(day: date, days: int, length: int) -> None:
    text = f"{day:%Y%m%d}"[:length]
    moved = dates.shifted_datetime(text, days)
    assert moved is not None and len(moved) == length
    middle = date(int(text[:4]), int(text[4:]) if length == 6 else 7, 15 if length == 6 else 1)
    assert moved == f"{middle + timedelta(days=days):%Y%m%d}"[:length]


@given(st.text(string.digits + "+-. ^AZ", max_size=26), DAYS)
def test_what_is_no_date_never_passes(text: str, days: int) -> None:
    stripped = text.strip(" ")
    try:
        datetime.strptime(stripped, "%Y%m%d")
        assume(len(stripped) != 8)
    except ValueError:
        pass
    assume(not dates.DA.fullmatch(stripped))
    assert dates.shifted_date(text, days) is None


@pytest.mark.parametrize("text", ["20230229", "2024013", "SMITH", "20240101-20240201", "20240101X", "00000000", "2024"])
def test_no_dates(text: str) -> None:
    assert dates.shifted_date(text, -3) is None


@pytest.mark.parametrize("text", ["20230229", "202413", "SMITH", "20240101250000", "2024-0x", "20240101+1"])
def test_no_datetimes(text: str) -> None:
    assert dates.shifted_datetime(text, -3) is None


def test_a_date_that_leaves_the_calendar_is_none() -> None:
    assert dates.shifted_date("00010101", -1) is None and dates.shifted_date("99991231", 1) is None
    assert dates.shifted_date("00010102", -1) == "00010101"


def test_the_old_form_of_dates_is_understood() -> None:
    assert dates.shifted_date("1995.03.01 ", -1) == "19950228"


@pytest.mark.parametrize(("text", "is_one"), [("101112.5", True), ("10:11:12", True), ("10", True), ("SMITH", False)])
def test_times(text: str, is_one: bool) -> None:
    assert bool(dates.TM.fullmatch(text)) is is_one


def test_days_are_the_patients_own_whole_and_in_the_past() -> None:
    secret, other = Secret(bytes(32)), Secret(bytes([1]) * 32)
    drawn = [secret.days(f"patient {n}") for n in range(2000)]
    assert min(drawn) >= -LARGEST_SHIFT_DAYS and max(drawn) <= -1 and len(set(drawn)) > 1300
    assert secret.days("a") == secret.days("a") != other.days("a")
