"""One data set without the people in it: every attribute at every depth, by the rules; pixels are not touched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from medseg.dicom import objects
from medseg.dicom.deidentify import dates, people, rules, values
from medseg.dicom.deidentify.rules import Action, Private
from medseg.dicom.deidentify.secret import Secret
from medseg.refusal import Refusal

LONG_NUMBER = re.compile(r"\d{5,}")
"""Dates and numbers of cases are; those of a protocol (t2, 3D, 120 kV, 2000) are not."""
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
_NAME = r"(?:jan|feb|m[aä]r|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])[a-z]*"
DATE = re.compile(
    rf"(?<!\d)(?:{_DAY}([-./ _]){_DAY}\1{_YEAR}|{_DAY}([-./]){_DAY}\2\d\d|{_YEAR}([-./ _]){_DAY}\3{_DAY}"
    rf"|{_MONTH}[-./]{_YEAR}|{_YEAR}[-./]{_MONTH})(?!\d)"
    rf"|\d[ ._-]*{_NAME}[ ._-]*\d\d|{_NAME}[ ._-]*(?:\d\d?\W*)?{_YEAR}",
    re.IGNORECASE,
)
"""A month with a year, however they are written; lists of b-values (0_50_800) are none."""
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
    root: Any
    """The outermost data set, the only one whose pixels are an image."""
    names_somebody: Callable[[str], bool]
    safe: dict[tuple[int, str, int], str]
    """Representation of each private attribute that stays, by group, creator and element."""
    tally: Counter[tuple[str, str]] = field(default_factory=Counter)


def clean(dataset: Any, terms: Terms) -> Counter[tuple[str, str]]:
    """Clean a data set in place, and mark it as cleaned.

    Returns:
        how often (keyword of an attribute, what was done) came up; what is kept as it was is not counted.

    Raises:
        Refusal: the pixels are said to be something else than pixels.
    """
    listed = terms.private | (rules.safe_private() if "private" in terms.kept else frozenset())
    safe = {(one.group, one.creator, one.element): one.vr for one in listed}
    work = _Work(terms, dataset, people.finder(dataset), safe)
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
                work.tally[values.name(tag), done.value] += 1


def _element(dataset: Any, tag: int, element: Any, work: _Work) -> Action | None:
    """What was done to one standard attribute, or None if it stays as it was."""
    vr, stated = rules.representation(tag), element.VR
    if tag in PIXELS and dataset is work.root:
        if stated is not None and stated not in vr and stated not in ("OB", "OW", "OV"):
            raise Refusal(
                f"pixels at {values.name(tag)}",
                found=f"representation {stated}",
                needed=vr,
                remedy="repair the file first",
            )
        return None
    wanted = rules.action(tag, work.terms.kept)
    misfit = stated not in (None, "UN") and not values.alike(stated, vr)
    if wanted is Action.REMOVE or misfit or tag in PIXELS:
        del dataset[tag]
        return Action.REMOVE
    if vr == "SQ":
        return _sequence(dataset, tag, wanted, work)
    if not values.raw(element):
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
    form = values.FORM_OF_OFFSET if tag == values.OFFSET else values.FORMS.get(vr) if vr != "CS" else None
    if not values.countable(dataset.get_item(tag), tag, vr):
        return _empty(dataset, tag, vr, work)
    texts = values.of(dataset.get_item(tag))
    if form and not all(form.fullmatch(value.strip(" \0")) or not value.strip(" \0") for value in texts):
        return _empty(dataset, tag, vr, work)
    if tag == values.AGE and any(value[3:4] == "Y" and int(value[:3]) > values.OLDEST_YEARS for value in texts):
        dataset[tag].value = f"{values.OLDEST_YEARS + 1:03}Y"
        return Action.DUMMY
    return None


def _clean(dataset: Any, tag: int, vr: str, work: _Work) -> Action | None:
    if vr in (*values.TEXTS, "CS") and work.names_somebody(values.text(dataset, tag)):
        return _dummy(dataset, tag, vr, work)
    return _keep(dataset, tag, vr, work)


def _describe(dataset: Any, tag: int, vr: str, work: _Work) -> Action | None:
    text = values.text(dataset, tag)
    if LONG_NUMBER.search(text) or DATE.search(text):
        return _dummy(dataset, tag, vr, work)
    return _clean(dataset, tag, vr, work)


def _empty(dataset: Any, tag: int, vr: str, work: _Work) -> Action | None:
    dataset[tag] = DataElement(tag, vr.split(" ")[0], None)
    return Action.EMPTY


def _dummy(dataset: Any, tag: int, vr: str, work: _Work) -> Action | None:
    vr = vr.split(" ")[0]
    dataset[tag] = DataElement(tag, vr, values.DUMMIES[vr])
    return Action.DUMMY


def _uid(dataset: Any, tag: int, vr: str, work: _Work) -> Action | None:
    new = [UID(work.terms.secret.uid(value.strip(" \0"))) for value in values.of(dataset.get_item(tag))]
    dataset[tag] = DataElement(tag, "UI", new if len(new) > 1 else new[0])
    return Action.UID


def _shift(dataset: Any, tag: int, vr: str, work: _Work) -> Action | None:
    move = dates.shifted_date if vr == "DA" else dates.shifted_datetime
    moved = [move(value, work.terms.days) for value in values.of(dataset.get_item(tag))]
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
    creators = {tag: values.text(dataset, tag).strip() for tag in tags if 0x10 <= tag & 0xFFFF <= 0xFF}
    needed = set()
    for tag in tags:
        if tag in creators:
            continue
        reservation = tag & 0xFFFF0000 | tag >> 8 & 0xFF
        vr = work.safe.get((tag >> 16, creators.get(reservation, "").lower(), tag & 0xFF))
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
    if not vr or not values.raw(element):
        return element.VR != "SQ"
    if element.VR not in (None, "UN", vr):
        return False
    if vr == "DT":
        return "dates" in work.terms.kept and _shift(dataset, tag, vr, work) is Action.SHIFT
    if vr in values.FORMS:
        return all(values.FORMS[vr].fullmatch(value.strip(" \0")) for value in values.of(element))
    return isinstance(element.value, bytes) and len(element.value) % values.WORDS[vr] == 0


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
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
