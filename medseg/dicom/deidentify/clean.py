"""One data set without the people in it: every attribute at every depth, by the rules; pixels are not touched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence
from pydicom.uid import UID

from medseg.dicom import objects
from medseg.dicom.deidentify import dates, rules
from medseg.dicom.deidentify.rules import Action, Private
from medseg.dicom.deidentify.secret import Secret
from medseg.refusal import Refusal

REMOVED = "REMOVED"
"""Stands where the standard wants a text; short enough for every text, and allowed in each."""
DUMMIES: dict[str, Any] = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), REMOVED),
    "AS": "000Y",
    "DA": "19000101",
    "DT": "19000101000000",
    "TM": "000000",
    "UR": "http://removed.invalid",
    **dict.fromkeys(("DS", "IS"), "0"),
    **dict.fromkeys(("US", "SS", "UL", "SL", "UV", "SV", "AT"), 0),
    **dict.fromkeys(("FL", "FD"), 0.0),
    **dict.fromkeys(("OB", "OW", "OF", "OD", "OL", "OV", "UN"), bytes(8)),  # a multiple of every word's length
}
FORMS = {
    "DS": re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"),
    "IS": re.compile(r"[-+]?\d+"),
    "AS": re.compile(r"\d{3}[DWMY]"),
    "UI": re.compile(r"[0-9.]{1,64}"),
    "TM": dates.TM,
    "CS": re.compile(r"[A-Z0-9_ .:+-]{0,16}"),
}
"""What values of a fixed form look like; what does not is not kept, as it may be a name in the wrong place. CS is asked
for private attributes only: in others, vendors take liberties that readers live with."""
WORDS = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8}
"""Bytes of one binary number."""
OFFSET, FORM_OF_OFFSET = 0x00080201, re.compile(r"[+-]\d{4}")
AGE, OLDEST_YEARS = 0x00101010, 89
"""Above it, ages tell who somebody is; HIPAA's safe harbour (45 CFR 164.514) wants them to be one class."""
TEXTS = ("LO", "SH", "ST", "LT", "UT", "UC", "UR")
IDENTIFYING = (
    *("PatientName", "PatientID", "OtherPatientNames", "OtherPatientIDs", "PatientBirthName", "PatientMotherBirthName"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "NameOfPhysiciansReadingStudy"),
    *("RequestingPhysician", "PhysiciansOfRecord", "AccessionNumber", "StudyID"),
)
SHORTEST_WORD, SHORTEST_NUMBER = 3, 4
LONG_NUMBER = re.compile(r"\d{5,}")
METHODS = {
    "descriptors": ("113105", "Clean Descriptors Option"),
    "dates": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    "patient": ("113108", "Retain Patient Characteristics Option"),
    "device": ("113109", "Retain Device Identity Option"),
    "private": ("113111", "Retain Safe Private Option"),
    "institution": ("113112", "Retain Institution Identity Option"),
}
"""Codes of context group 7050 (PS3.16)."""
PIXELS = frozenset({0x7FE00001, 0x7FE00002, 0x7FE00008, 0x7FE00009, 0x7FE00010})


@dataclass(frozen=True)
class Terms:
    """How one patient's files are cleaned.

    Attributes:
        kept: names out of `rules.OPTIONS`.
        private: what stays besides the safe private attributes.
        days: by which dates move.
    """

    secret: Secret
    kept: frozenset[str]
    private: frozenset[Private]
    pseudonym: str
    days: int


@dataclass
class _Work:
    terms: Terms
    people: re.Pattern[str] | None
    """Names and numbers of people, as whole words."""
    tally: Counter[tuple[str, str]] = field(default_factory=Counter)


def clean(dataset: Any, terms: Terms) -> Counter[tuple[str, str]]:
    """Clean a data set in place, and mark it as cleaned.

    Returns:
        how often (keyword of an attribute, what was done) came up; what is kept as it was is not counted.

    Raises:
        Refusal: the pixels are said to be something else than pixels.
    """
    work = _Work(terms, _people(dataset))
    _level(dataset, work)
    _mark(dataset, terms)
    return work.tally


def _level(dataset: Any, work: _Work) -> None:
    """One data set, or one item of a sequence, and what is below it."""
    _private(dataset, work)
    for tag in [int(tag) for tag in dataset.keys()]:  # noqa: SIM118 - a data set yields elements, decoded
        if not tag >> 16 & 1:
            element = dataset.get_item(tag)
            done = _element(dataset, tag, element, work)
            if done is not None:
                work.tally[_name(tag), done.value] += 1


def _element(dataset: Any, tag: int, element: Any, work: _Work) -> Action | None:
    """What was done to one standard attribute, or None if it stays as it was."""
    vr, stated = rules.representation(tag), element.VR
    if tag in PIXELS:
        if stated is not None and stated not in vr and stated not in ("OB", "OW", "OV"):
            raise Refusal(
                f"pixels at {_name(tag)}", found=f"representation {stated}", needed=vr, remedy="repair the file first"
            )
        return None
    wanted = rules.action(tag, work.terms.kept)
    misfit = stated not in (None, "UN") and not _alike(stated, vr)
    if wanted is Action.REMOVE or misfit:
        del dataset[tag]
        return Action.REMOVE
    if vr == "SQ":
        return _sequence(dataset, tag, wanted, work)
    if not _raw(element):
        return None
    return STEPS[wanted](dataset, tag, vr, work)


def _sequence(dataset: Any, tag: int, wanted: Action, work: _Work) -> Action | None:
    items = dataset[tag].value
    if not isinstance(items, Sequence):  # bytes that could not be looked into
        del dataset[tag]
        return Action.REMOVE
    if wanted is Action.EMPTY:
        dataset[tag] = DataElement(tag, "SQ", [])
        return wanted if items else None
    for item in items:
        _level(item, work)
        if wanted is Action.DUMMY:
            _fill(item, work)
    return wanted if wanted is Action.DUMMY else None


def _fill(item: Any, work: _Work) -> None:
    """Replace whatever is still in an item, at any depth."""
    for element in list(item):
        if element.VR == "SQ":
            for below in element.value:
                _fill(below, work)
        elif element.VR == "UI":
            _uid(item, int(element.tag), "UI", work)
        else:
            _dummy(item, int(element.tag), element.VR, work)


def _keep(dataset: Any, tag: int, vr: str, work: _Work) -> Action | None:
    form = FORM_OF_OFFSET if tag == OFFSET else FORMS.get(vr) if vr != "CS" else None
    values = _values(dataset.get_item(tag))
    if form and not all(form.fullmatch(value.strip(" \0")) or not value.strip(" \0") for value in values):
        return _empty(dataset, tag, vr, work)
    if tag == AGE and any(value[3:4] == "Y" and int(value[:3]) > OLDEST_YEARS for value in values):
        dataset[tag].value = f"{OLDEST_YEARS + 1:03}Y"
        return Action.DUMMY
    return None


def _clean(dataset: Any, tag: int, vr: str, work: _Work) -> Action | None:
    if vr in TEXTS and work.people and work.people.search(_text(dataset, tag)):
        return _dummy(dataset, tag, vr, work)
    return _keep(dataset, tag, vr, work)


def _describe(dataset: Any, tag: int, vr: str, work: _Work) -> Action | None:
    if LONG_NUMBER.search(_text(dataset, tag)):
        return _dummy(dataset, tag, vr, work)
    return _clean(dataset, tag, vr, work)


def _empty(dataset: Any, tag: int, vr: str, work: _Work) -> Action | None:
    dataset[tag] = DataElement(tag, vr.split(" ")[0], None)
    return Action.EMPTY


def _dummy(dataset: Any, tag: int, vr: str, work: _Work) -> Action | None:
    vr = vr.split(" ")[0]
    dataset[tag] = DataElement(tag, vr, DUMMIES[vr])
    return Action.DUMMY


def _uid(dataset: Any, tag: int, vr: str, work: _Work) -> Action | None:
    new = [UID(work.terms.secret.uid(value.strip(" \0"))) for value in _values(dataset.get_item(tag))]
    dataset[tag] = DataElement(tag, "UI", new if len(new) > 1 else new[0])
    return Action.UID


def _shift(dataset: Any, tag: int, vr: str, work: _Work) -> Action | None:
    move = dates.shifted_date if vr == "DA" else dates.shifted_datetime
    moved = [move(value, work.terms.days) for value in _values(dataset.get_item(tag))]
    if None in moved:
        return _empty(dataset, tag, vr, work)
    dataset[tag] = DataElement(tag, vr, moved if len(moved) > 1 else moved[0])
    return Action.SHIFT


def _pseudonym(dataset: Any, tag: int, vr: str, work: _Work) -> Action | None:
    dataset[tag] = DataElement(tag, vr, work.terms.pseudonym)
    return Action.PSEUDONYM


STEPS: dict[Action, Callable[[Any, int, str, _Work], Action | None]] = {
    Action.KEEP: _keep,
    Action.CLEAN: _clean,
    Action.DESCRIBE: _describe,
    Action.EMPTY: _empty,
    Action.DUMMY: _dummy,
    Action.UID: _uid,
    Action.SHIFT: _shift,
    Action.PSEUDONYM: _pseudonym,
}


def _private(dataset: Any, work: _Work) -> None:
    """Remove private attributes but the safe ones, and the reservations of blocks that are empty then."""
    tags = [int(tag) for tag in dataset.keys() if int(tag) >> 16 & 1]  # noqa: SIM118
    creators = {tag: _text(dataset, tag).strip() for tag in tags if 0x10 <= tag & 0xFFFF <= 0xFF}
    listed = work.terms.private | (rules.safe_private() if "private" in work.terms.kept else frozenset())
    safe = {(one.group, one.creator, one.element): one.vr for one in listed}
    needed = set()
    for tag in tags:
        if tag in creators:
            continue
        reservation = tag & 0xFFFF0000 | tag >> 8 & 0xFF
        vr = safe.get((tag >> 16, creators.get(reservation, "").lower(), tag & 0xFF))
        if vr is not None and _fits(dataset, tag, vr, work):
            needed.add(reservation)
        else:
            del dataset[tag]
            work.tally["private attributes", Action.REMOVE.value] += 1
    for tag in creators.keys() - needed:
        del dataset[tag]


def _fits(dataset: Any, tag: int, vr: str, work: _Work) -> bool:
    """Whether a private attribute's value has the form that is known of it. One that the user listed without a
    representation stays as it is; if it is a sequence, what it holds is cleaned."""
    element = dataset.get_item(tag)
    if element.VR == "SQ" and not vr:
        for item in dataset[tag].value:
            _level(item, work)
        return True
    if not vr or not _raw(element):
        return element.VR != "SQ"
    if element.VR not in (None, "UN", vr):
        return False
    if vr == "DT":
        return "dates" in work.terms.kept and _shift(dataset, tag, vr, work) is Action.SHIFT
    if vr in FORMS:
        return all(FORMS[vr].fullmatch(value.strip(" \0")) for value in _values(element))
    return isinstance(element.value, bytes) and len(element.value) % WORDS[vr] == 0


def _mark(dataset: Any, terms: Terms) -> None:
    """Say in the file what was done to it (PS3.3, C.12.1.1.1 and C.7.1.1)."""
    codes = [("113100", "Basic Application Confidentiality Profile")]
    codes += [METHODS[name] for name in rules.OPTIONS if name in terms.kept]
    dataset.PatientName = dataset.PatientID = terms.pseudonym
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = [f"medseg {objects.version()}"[:64], "DICOM PS3.15 table E.1-1 of 2026c"]
    dataset.DeidentificationMethodCodeSequence = Sequence(_code(*code) for code in codes)
    dataset.LongitudinalTemporalInformationModified = "MODIFIED" if "dates" in terms.kept else "REMOVED"


def _code(value: str, meaning: str) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _people(dataset: Any) -> re.Pattern[str] | None:
    """Names and numbers of the people whom the data set's own attributes name."""
    words = set()
    for name in IDENTIFYING:
        if name in dataset:
            for value in _split(dataset[name].value):
                words |= set(_telling(value))
    if not words:
        return None
    return re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in sorted(words)), re.IGNORECASE)


def _telling(text: str) -> Iterator[str]:
    """The words of a name or number that would tell who is meant."""
    for word in re.split(r"[\s^=,;]+", text.strip(" \0")):
        if not word.isascii() or len(word) >= (SHORTEST_NUMBER if re.search(r"\d", word) else SHORTEST_WORD):
            yield from [word] if word else []


def _split(value: Any) -> list[str]:
    several = value if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else [value]
    return [str(one) for one in several if one is not None]


def _alike(stated: str, expected: str) -> bool:
    """Whether a stated representation may hold what the dictionary expects: another kind of text for a text, one of
    several for ambiguous ones."""
    texts = {*TEXTS, "CS", "AE", "PN", "DA", "DT", "TM", "AS", "DS", "IS", "UI"}
    if stated == "SQ" or expected == "SQ":
        return stated == expected
    return stated in expected.split(" or ") or (stated in texts) == (expected in texts)


def _raw(element: Any) -> Any:
    """The value as it was read: bytes, or what pydicom has made of them; empty ones are false."""
    value = element.value
    return str(value) if isinstance(value, (int, float)) else value


def _values(element: Any) -> list[str]:
    """Values of an attribute of ASCII letters and digits, each as a text."""
    value = element.value
    if isinstance(value, bytes):
        return value.decode("latin-1").split("\\")
    return _split(value) or [""]


def _text(dataset: Any, tag: int) -> str:
    """A text by the data set's character set; bytes that it could not be read as, letter by letter."""
    value = dataset[tag].value
    return value.decode("latin-1") if isinstance(value, bytes) else "\\".join(_split(value))


def _name(tag: int) -> str:
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
