"""The words by which a data set names people, so that they can be looked for in its texts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

from pydicom.sequence import Sequence

from medseg.dicom.deidentify.rules import representation
from medseg.dicom.deidentify.values import split

NUMBERS = frozenset(
    {
        *(0x00100020, 0x00101000, 0x00100030),  # PatientID, OtherPatientIDs, PatientBirthDate
        *(0x00080050, 0x00200010, 0x00380010),  # AccessionNumber, StudyID, AdmissionID
    }
)
SHORTEST_WORD, SHORTEST_NUMBER = 3, 4
"""Shorter ones are in too many texts by chance. Letters beyond ASCII tell more: there, one is enough."""
SCHEMES = frozenset({"dcm", "sct", "srt", "ucum", "fma", "ncit", "umls", "mayo"})
"""Designators of coding schemes. As the initials of an operator they would take the meaning from every code."""
UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]{2,}"
)
"""Scripts that put no space between words, or none between a name and its title."""
BESIDE = r"[\W_]*"
"""What may stand between the parts of a name or number that was written anew: Smith-Jones, SMITH_JONES, smithjones."""


def finder(dataset: Any) -> Callable[[str], bool]:
    """Whether a text has a name or number of the people whom the data set's own attributes name, at any depth.

    Case, accents and what separates the parts do not matter. Letters that follow a name do (Smithsonite), but for
    scripts without spaces.
    """
    patterns = {pattern for value in _values(dataset) for pattern in _patterns(value)}
    if not patterns:
        return lambda _: False
    search = re.compile("|".join(sorted(patterns))).search
    return lambda text: search(_plain(text)) is not None


def _values(dataset: Any) -> Iterator[str]:
    for tag in [int(tag) for tag in dataset.keys()]:  # noqa: SIM118 - a data set yields elements, decoded
        vr = representation(tag)
        if vr == "SQ":
            items = dataset[tag].value
            for item in items if isinstance(items, Sequence) else ():
                yield from _values(item)
        elif vr == "PN" or tag in NUMBERS:
            yield from split(dataset[tag].value)


def _patterns(value: str) -> Iterator[str]:
    for group in value.strip(" \0").split("="):
        words = [word for word in re.split(r"[\s^,;]+", group) if word]
        for word in words:
            parts = re.findall(r"[^\W_]+", word)
            yield from _pattern(parts)
            if not any(map(str.isdigit, word)):
                for part in parts:
                    yield from _pattern([part])
        yield from _pattern(words)
        yield from _pattern(words[::-1])


def _pattern(parts: list[str]) -> Iterator[str]:
    """What finds the parts one after another, if they tell who is meant."""
    whole = "".join(parts)
    shortest = SHORTEST_NUMBER if any(map(str.isdigit, whole)) else SHORTEST_WORD
    if not whole or (whole.isascii() and len(whole) < shortest) or whole.casefold() in SCHEMES:
        return
    inner = BESIDE.join(map(_spellings, parts))
    if UNSPACED.fullmatch(whole):
        yield inner
    else:
        yield _not_beside(whole[0], "<!") + inner + _not_beside(whole[-1], "!")


def _spellings(part: str) -> str:
    """Müller is also written Mueller and Muller, and the other way round."""
    letters = re.sub("[äöü]", lambda umlaut: _plain(umlaut[0]) + "e", unicodedata.normalize("NFC", part.casefold()))
    escaped = re.escape(_plain(letters))
    return re.sub("(?<=[aou])e", "e?", escaped) if len(part) > SHORTEST_WORD else escaped


def _not_beside(letter: str, side: str) -> str:
    """A number goes on with digits only, a name with letters: t1_Smith2 names Smith."""
    return rf"(?{side}\d)" if letter.isdigit() else rf"(?{side}[^\W\d_])"


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
