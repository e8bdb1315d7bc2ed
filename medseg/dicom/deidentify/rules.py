"""What becomes of an attribute: table E.1-1 of DICOM PS3.15 (2026c) with the options chosen, and, for what the table
does not name, its value representation.

`attributes.csv` has the table's facts: action of the basic profile, and the options that would keep the attribute. The
table is a list of what was known to identify people. So what is in no dictionary goes as well, and so does long free
text; only what has a fixed form, or names kinds of things, stays.
"""

from __future__ import annotations

import csv
import enum
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydicom.datadict import dictionary_VR, keyword_for_tag

from medseg.boundary import parsing

FOLDER = Path(__file__).parent
OPTIONS = {
    "dates": "dates, shifted by days that each patient has of his own (without them, no time points and no SUV)",
    "patient": "sex, age (above 89 as 90), size, weight, ethnic group, smoking, pregnancy (SUV needs the weight)",
    "private": "private attributes known to be harmless: b-values, scale factors of Philips PET and MR, pitch",
    "device": "serial numbers and names of the scanner and its station (who compares scanners)",
    "institution": "name, address and department of the hospital (who compares centres)",
    "descriptors": "descriptions of study, series, protocol, contrast agent and regions of interest, unless they hold "
    "a name, a number of the patient, a date or a long number (who chooses series by them; look at them afterwards)",
}
"""What may be kept, and who would miss it."""
USUAL = ("dates", "patient", "private")
DESCRIPTORS = frozenset(
    {
        *(0x00081030, 0x0008103E, 0x00082111, 0x00180010, 0x00181030, 0x00181400, 0x00189424, 0x00321060, 0x00400254),
        *(0x30060002, 0x30060004, 0x30060026, 0x30060028, 0x30060088),  # structure sets: labels and names
        *(0x00620006, 0x00620020),  # description of a segment, and by what it is tracked
    }
)
"""The descriptors that say what a series is. Comments, histories and diagnoses go even if descriptors are kept."""
OWN_REMOVALS = {
    0x00120063: "DeidentificationMethod",  # an earlier one is free text; the file gets its own
    0x00120064: "DeidentificationMethodCodeSequence",
    0x04000500: "EncryptedAttributesSequence",  # holds the original identity, under a key that is not ours
    0x4FFE0001: "MACParametersSequence",  # of signatures, which go
}
ACQUISITION_CONTEXT = 0x00400555
"""X/Z by the table, and the one such sequence that images have to have, though it may be empty."""
CODES_IN_LONG_TEXT = (0x00080119, 0x00080120, 0x00080115)
"""LongCodeValue, URNCodeValue, CodingSchemeName."""
NAMES_OF_KINDS = frozenset({0x0008010C, 0x0008010D, 0x00080117, 0x00080118, 0x00089123, 0x3010001F})
"""UIDs of coding schemes, context groups, mapping resources, private creators of these, templates."""
TYPED_CODES = (0x00180015,)
"""BodyPartExamined, a code by the standard and whatever somebody typed by many a console."""
BINARY_GROUPS = (0x0028, 0x0066, 0x7FE0)
"""Lookup tables and colour profiles, surfaces, pixels."""


class Action(enum.Enum):
    """What is done to an attribute that has a value; the words are those of the account that the user gets."""

    KEEP = "kept"
    REMOVE = "removed"
    EMPTY = "emptied"
    DUMMY = "replaced"
    UID = "given a new UID"
    SHIFT = "shifted"
    PSEUDONYM = "given the pseudonym"
    CLEAN = "kept where it names nobody"
    DESCRIBE = "kept where it names nobody and has no date and no long number"


@dataclass(frozen=True)
class Row:
    """One row of table E.1-1: `action` is the table's code, such as X/Z/D."""

    action: str
    options: tuple[str, ...]


@cache
def table() -> dict[int, Row]:
    """Table E.1-1 by tag."""
    with (FOLDER / "attributes.csv").open(encoding="ascii", newline="") as lines:
        return {int(row["tag"], 16): Row(row["action"], tuple(row["options"].split())) for row in csv.DictReader(lines)}


@cache
def representation(tag: int) -> str:
    """VR by the dictionary of the standard; of several (US or SS) all, empty if the tag is in no dictionary."""
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return ""


@cache
def action(tag: int, kept: frozenset[str]) -> Action:
    """What is done to a standard attribute, given the options to keep."""
    group, vr = tag >> 16, representation(tag)
    if tag in (0x00100010, 0x00100020):
        return Action.PSEUDONYM
    outside = group in (0x0000, 0x0002, 0x0004) or tag & 0xFFFF == 0  # belongs into no data set; lengths of groups
    graphics = group & 0xFF00 in (0x5000, 0x6000)  # curves and overlays
    if outside or graphics or not vr or tag in OWN_REMOVALS:
        return Action.REMOVE
    if "descriptors" in kept and tag in DESCRIPTORS:
        return Action.DESCRIBE
    row = table().get(tag)
    if tag == ACQUISITION_CONTEXT:
        return Action.EMPTY
    return _by_table(row, vr, kept) if row else _by_form(tag, vr, kept)


def _by_table(row: Row, vr: str, kept: Collection[str]) -> Action:
    if "U" in row.action or (vr == "UI" and "D" in row.action):
        return Action.UID
    if "dates" in row.options:  # before the others: a date of a device is still a date
        if "dates" in kept and vr in ("DA", "DT"):
            return Action.SHIFT
        if "dates" in kept and vr in ("TM", "SH"):  # the one SH is the offset of the time zone
            return Action.KEEP
    elif any(option in kept for option in row.options if option != "descriptors"):
        return Action.CLEAN
    if vr == "SQ" and "X" in row.action:
        return Action.REMOVE
    return Action.DUMMY if "D" in row.action else Action.EMPTY if "Z" in row.action else Action.REMOVE


def _by_form(tag: int, vr: str, kept: Collection[str]) -> Action:
    """For attributes that the table does not name."""
    if vr in ("DA", "DT", "TM"):
        return Action.EMPTY if "dates" not in kept else Action.KEEP if vr == "TM" else Action.SHIFT
    if vr == "UI":
        kinds = tag in NAMES_OF_KINDS or any(word in keyword_for_tag(tag) for word in ("Class", "TransferSyntax"))
        return Action.KEEP if kinds else Action.UID
    if vr == "PN":
        return Action.EMPTY
    if vr in ("LT", "ST", "UT", "UC", "UR") and tag not in CODES_IN_LONG_TEXT:
        return Action.DUMMY
    if vr == "AE" or (vr.startswith("O") and tag >> 16 not in BINARY_GROUPS):
        return Action.REMOVE
    texts = ("LO", "SH", "LT", "ST", "UT", "UC", "UR")
    return Action.CLEAN if vr in texts or tag in TYPED_CODES else Action.KEEP


@dataclass(frozen=True)
class Private:
    """A private attribute: its block is wherever the creator has reserved one. `vr` is empty if any will do."""

    group: int
    creator: str
    element: int
    vr: str


@cache
def safe_private() -> frozenset[Private]:
    """Those of the table of this package: numbers and words of fixed form that table E.3.10-1 of PS3.15 calls safe, or
    that say how diffusion was weighted."""
    return read_private(FOLDER / "private.csv")


def read_private(path: Path) -> frozenset[Private]:
    """Private attributes listed in a CSV file with the columns group, creator, element (hexadecimal), and vr.

    Raises:
        Refusal: a column is missing, or a number is none.
    """
    with (
        parsing(
            path,
            needed="a CSV file with the columns group, creator, element, such as 2001,Philips Imaging DD 001,03",
            remedy="correct it",
        ),
        path.open(encoding="utf-8-sig", newline="") as lines,
    ):
        return frozenset(
            Private(int(row["group"], 16), row["creator"].strip().lower(), int(row["element"], 16), row.get("vr") or "")
            for row in csv.DictReader(lines)
        )
