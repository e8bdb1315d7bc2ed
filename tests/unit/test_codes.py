"""Codes by name; values are held against pydicom's dictionary where that knows them."""

from __future__ import annotations

import pytest
from pydicom.sr._concepts_dict import concepts

from medseg import codes
from medseg.labels import Code, Label


def coded(name: str) -> codes.Coded:
    return codes.of(Label(1, name, (1,)))


@pytest.mark.parametrize(
    ("name", "value", "side", "category"),
    [
        ("liver", "10200004", None, "Anatomical Structure"),
        ("Left Kidney", "64033007", "Left", "Anatomical Structure"),
        ("kidney_right", "64033007", "Right", "Anatomical Structure"),
        ("lungs", "39607008", None, "Anatomical Structure"),
        ("vertebrae_L5", "49668003", None, "Anatomical Structure"),
        ("rib_left_1", "48535007", "Left", "Anatomical Structure"),
        ("left_atrium", "82471001", None, "Anatomical Structure"),
        ("liver tumour", "108369006", None, "Morphologically Abnormal Structure"),
        ("ET", "108369006", None, "Morphologically Abnormal Structure"),
        ("edema", "79654002", None, "Morphologically Abnormal Structure"),
        ("subcutaneous_fat", "67769002", None, "Tissue"),
    ],
)
def test_common_names(name: str, value: str, side: str | None, category: str) -> None:
    found = coded(name)
    assert (found.kind.value, found.kind.scheme, found.category.meaning) == (value, "SCT", category)
    assert (found.side.meaning if found.side else None) == side


def test_unknown_names_get_a_private_code_of_their_own() -> None:
    first, second = coded("flux capacitor").kind, coded("warp core").kind
    assert (first.scheme, first.meaning, len(first.value)) == ("99MEDSEG", "flux capacitor", 12)
    assert first.value != second.value and first == coded("flux capacitor").kind


def test_a_labels_own_code_comes_first() -> None:
    own = Code("123", "99X", "thing")
    assert codes.of(Label(1, "liver", (1,), own)).kind == own


def test_values_mean_what_the_table_says() -> None:
    known = {value: words for entries in concepts["SCT"].values() for value, (words, _) in entries.items()}
    checked = 0
    for table in (codes.ORGANS, codes.FINDINGS, codes.TISSUES):
        for value, meaning in table.values():
            if value in known:
                stem = meaning.split()[0].lower()[:4]
                checked += stem in known[value].lower() or meaning.startswith("Rib ")
    assert checked > 60


def test_the_place_of_a_finding_whatever_its_spelling() -> None:
    for name in ("liver_tumour", "liver_tumor", "liver_mass"):
        assert coded(name).site == coded("liver").kind
