"""Values of DICOM attributes as texts, what they look like, and what stands in their place."""

from __future__ import annotations

import re
from typing import Any

from pydicom.datadict import dictionary_VM, keyword_for_tag
from pydicom.multival import MultiValue

from medseg.dicom.deidentify import dates

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
WORDS = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "AT": 4, "FL": 4, "FD": 8, "UV": 8, "SV": 8}
"""Bytes of one binary number."""
OFFSET, FORM_OF_OFFSET = 0x00080201, re.compile(r"[+-]\d{4}")
AGE, OLDEST_YEARS = 0x00101010, 89
"""Above it, ages tell who somebody is; HIPAA's safe harbour (45 CFR 164.514) wants them to be one class."""
TEXTS = ("LO", "SH", "ST", "LT", "UT", "UC", "UR")


def split(value: Any) -> list[str]:
    """One value or several, as texts."""
    several = value if isinstance(value, (list, tuple, MultiValue)) else [value]
    return [str(one) for one in several if one is not None]


def alike(stated: str, expected: str) -> bool:
    """Whether a stated representation may hold what the dictionary expects: another kind of text for a text, another
    kind of number for a number, other words for bulk data."""
    texts = {*TEXTS, "CS", "AE", "PN", "DA", "DT", "TM", "AS", "DS", "IS", "UI"}
    options = expected.split(" or ")
    return stated in options or any(
        {stated, option} <= texts or {stated, option} <= WORDS.keys() or stated[:1] == option[:1] == "O"
        for option in options
    )


def countable(element: Any, tag: int, vr: str) -> bool:
    """Whether bytes that should be binary numbers are as many as the dictionary allows; true for all else."""
    stated = element.VR if element.VR in WORDS else vr.split(" ")[0]
    if stated not in WORDS or (element.VR not in WORDS and "O" in {option[0] for option in vr.split(" or ")}):
        return True
    if not isinstance(element.value, bytes):
        return True
    count, rest = divmod(len(element.value), WORDS[stated])
    most = dictionary_VM(tag).split("-")[-1]
    return rest == 0 and ("n" in most or count <= int(most))


def raw(element: Any) -> Any:
    """The value as it was read: bytes, or what pydicom has made of them; empty ones are false."""
    value = element.value
    return str(value) if isinstance(value, (int, float)) else value


def of(element: Any) -> list[str]:
    """Values of an attribute of ASCII letters and digits, each as a text."""
    value = element.value
    if isinstance(value, bytes):
        return value.decode("latin-1").split("\\")
    return split(value) or [""]


def text(dataset: Any, tag: int) -> str:
    """A text by the data set's character set; bytes that it could not be read as, letter by letter."""
    value = dataset[tag].value
    return value.decode("latin-1") if isinstance(value, bytes) else "\\".join(split(value))


def name(tag: int) -> str:
    """Keyword of a tag, or the tag where the standard's dictionary has none."""
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
