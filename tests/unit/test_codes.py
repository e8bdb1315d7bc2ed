"""Codes by name: every name that published label tables use has a standard one, with the value that DICOM's dictionary
or a published mapping gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydicom.sr._concepts_dict import concepts

from medseg import codes
from medseg.labels import Code, Label
from tests.published_labels import AMOS, BTCV, OTHERS, SUBTASKS, TOTALSEGMENTATOR, words


def coded(name: str) -> codes.Coded:
    return codes.of(Label(1, name, (1,)))


def names_of_published_models() -> list[str]:
    catalogue = yaml.safe_load(Path(codes.__file__).with_name("catalogue.yaml").read_text(encoding="utf-8"))
    return sorted({name for entry in catalogue.values() for name in entry.get("labels", {})})


def test_the_lists_are_whole() -> None:
    assert (len(set(TOTALSEGMENTATOR)), len(AMOS), len(BTCV)) == (117, 15, 13)
    assert len(names_of_published_models()) == 104 + 3 + 3


@pytest.mark.parametrize(
    "names",
    [TOTALSEGMENTATOR, SUBTASKS, AMOS, BTCV, OTHERS, names_of_published_models()],
    ids=["TotalSegmentator", "its other tasks", "AMOS", "BTCV", "others", "catalogue"],
)
def test_every_published_name_has_a_standard_code(names: list[str]) -> None:
    assert [name for name in names if coded(name).kind.scheme == codes.PRIVATE] == []
    for name in names:
        sides = [word for word in name.replace(" ", "_").split("_") if word in codes.SIDES]
        if sides and "cusp" not in name:  # of the aortic valve, which has no side
            side = coded(name).side
            told = side.meaning if side else coded(name).kind.meaning  # a code of its own may say the side
            assert sides == [word for word in codes.SIDES if word in told.lower()], name


def test_different_structures_have_different_codes() -> None:
    found = {name: (coded(name).kind, coded(name).side, coded(name).site) for name in TOTALSEGMENTATOR}
    assert len(set(found.values())) == 117


@pytest.mark.parametrize(
    ("name", "value", "side", "site", "category"),
    [
        ("liver", "10200004", None, None, "Anatomical Structure"),
        ("Left Kidney", "64033007", "Left", None, "Anatomical Structure"),
        ("kidney_right", "64033007", "Right", None, "Anatomical Structure"),
        ("lungs", "39607008", None, None, "Anatomical Structure"),
        ("vertebrae_L5", "49668003", None, None, "Anatomical Structure"),
        ("vertebrae_T10", "7610001", None, None, "Anatomical Structure"),
        ("rib_left_1", "48535007", "Left", None, "Anatomical Structure"),
        ("rib_right_12", "43993008", "Right", None, "Anatomical Structure"),
        ("left_atrium", "82471001", None, None, "Anatomical Structure"),
        ("heart_atrium_left", "82471001", None, None, "Anatomical Structure"),
        ("atrial_appendage_left", "33626005", None, None, "Anatomical Structure"),
        ("lung_middle_lobe_right", "72481006", None, None, "Anatomical Structure"),
        ("subclavian_artery_left", "36765005", "Left", None, "Anatomical Structure"),
        ("costal_cartilages", "50016007", None, None, "Anatomical Structure"),
        ("liver_segment_4", "277958008", None, None, "Anatomical Structure"),
        ("postcava", "64131007", None, None, "Anatomical Structure"),
        ("masseter_right", "79368004", "Right", None, "Anatomical Structure"),
        ("sterno_thyroid_left", "81727001", "Left", None, "Anatomical Structure"),
        ("liver tumour", "108369006", None, "Liver", "Morphologically Abnormal Structure"),
        ("liver lesion", "52988006", None, "Liver", "Morphologically Abnormal Structure"),
        ("skin lesion", "52988006", None, "Skin", "Morphologically Abnormal Structure"),
        ("lymphoma lesion", "1163043007", None, None, "Morphologically Abnormal Structure"),
        ("kidney_cyst_left", "367643001", "Left", "Kidney", "Morphologically Abnormal Structure"),
        ("lung_nodules", "27925004", None, "Lung", "Morphologically Abnormal Structure"),
        ("colon cancer primaries", "108369006", None, "Colon", "Morphologically Abnormal Structure"),
        ("pleural_effusion", "41699000", None, "Pleural cavity", "Morphologically Abnormal Structure"),
        ("ET", "C113842", None, "Brain", "Morphologically Abnormal Structure"),
        ("enhancing_tumour", "C113842", None, "Brain", "Morphologically Abnormal Structure"),
        ("WT", "108369006", None, "Brain", "Morphologically Abnormal Structure"),
        ("tumour_core", "108369006", None, "Brain", "Morphologically Abnormal Structure"),
        ("NCR", "6574001", None, "Brain", "Morphologically Abnormal Structure"),
        ("ED", "79654002", None, "Brain", "Morphologically Abnormal Structure"),
        ("edema", "79654002", None, None, "Morphologically Abnormal Structure"),
        ("retinal_artery", "51114001", None, "Retina", "Anatomical Structure"),
        ("retinal vein", "29092000", None, "Retina", "Anatomical Structure"),
        ("subcutaneous_fat", "67769002", None, None, "Tissue"),
        ("torso_fat", "55603005", None, "Trunk", "Tissue"),
        ("hip_implant", "40388003", None, "Hip joint", "Physical object"),
    ],
)
def test_common_names(name: str, value: str, side: str | None, site: str | None, category: str) -> None:
    found = coded(name)
    assert (found.kind.value, found.category.meaning) == (value, category)
    assert (found.side.meaning if found.side else None, found.site.meaning if found.site else None) == (side, site)


def test_unknown_names_get_a_private_code_of_their_own() -> None:
    first, second = coded("flux capacitor").kind, coded("warp core").kind
    assert (first.scheme, first.meaning, len(first.value)) == ("99MEDSEG", "flux capacitor", 12)
    assert first.value != second.value and first == coded("flux capacitor").kind


@pytest.mark.parametrize("names", [("肝脏", "脾脏", "печень"), ("C+", "C-"), ("", "?")])
def test_private_codes_of_names_in_any_script_differ(names: tuple[str, ...]) -> None:
    assert len({coded(name).kind.value for name in names}) == len(names)


def test_a_word_in_another_script_is_not_passed_over() -> None:
    assert coded("非liver").kind.scheme == "99MEDSEG"
    assert coded("肝 tumour").kind.meaning == "Neoplasm"


def test_a_labels_own_code_comes_first() -> None:
    own = Code("123", "99X", "thing")
    assert codes.of(Label(1, "liver", (1,), own)) == codes.Coded(codes.STRUCTURE, own)
    cyst = Code("367643001", "SCT", "Cyst")
    assert codes.of(Label(1, "liver", (1,), cyst)).category == codes.ABNORMAL


MAPPED = {
    *words(
        """
        autochthon carpal cricoid_cartilage digastric genital_organ gluteus_maximus gluteus_medius gluteus_minimus
        hard_palate heart_myocardium iliopsoas infiltrate intervertebral_discs lateral_pterygoid lung_covid_infiltrate
        masseter medial_pterygoid metatarsal phalanges phalanges_feet phalanges_hand pharyngeal_constrictor platysma
        pleural_cavity portal_vein_and_splenic_vein quadriceps_femoris sartorius subcutaneous_fat temporalis
        thigh_medial_compartment thigh_posterior_compartment vertebrae_body vertebrae_s1
        """
    ),
    *(f"rib_{n}" for n in range(1, 13)),
}
"""Not in DICOM's dictionary; from published mappings. docs/decisions.md lists their values."""


def test_values_mean_what_the_table_says() -> None:
    """Against the SNOMED CT and NCIt content of DICOM's context groups."""
    meanings: dict[tuple[str, str], set[str]] = {}
    for scheme in ("SCT", "NCIt"):
        for entries in concepts[scheme].values():
            for value, (meaning, _) in entries.items():
                meanings.setdefault((scheme, value), set()).add(meaning.lower())
    absent = set()
    for name, entry in codes._table().items():
        known = meanings.get((entry.kind.scheme, entry.kind.value))
        if known is None:
            absent.add(name)
        else:
            meaning = entry.kind.meaning.lower()
            assert any(meaning in text or text in meaning for text in known), (name, known)
    assert absent == MAPPED
    listed = (Path(codes.__file__).parents[1] / "docs" / "decisions.md").read_text(encoding="utf-8")
    assert [name for name in MAPPED if codes._table()[name].kind.value not in listed] == []


def test_categories_and_sides_are_dicoms() -> None:
    known = {value: words for entries in concepts["SCT"].values() for value, (words, _) in entries.items()}
    for code in (*codes.CATEGORIES.values(), *codes.SIDES.values()):
        assert code.scheme == "SCT" and code.value in known


def test_values_have_a_right_check_digit() -> None:
    """The last digit of a SNOMED CT identifier (Verhoeff's scheme) shows slips of the pen."""
    turn = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    for name, entry in codes._table().items():
        if entry.kind.scheme != "SCT":
            continue
        check = 0
        for place, digit in enumerate(map(int, reversed(entry.kind.value))):
            for _ in range(place % 8):
                digit = turn[digit]
            check = _dihedral(check, digit)
        assert check == 0, name


def _dihedral(one: int, other: int) -> int:
    """Product in the group of the symmetries of a pentagon: 0 to 4 are turns, 5 to 9 are flips."""
    turn = (one % 5 + (other % 5 if one < 5 else -(other % 5))) % 5
    return turn + 5 * ((one < 5) != (other < 5))


def test_the_place_of_a_finding_whatever_its_spelling() -> None:
    for name in ("liver_tumour", "liver_tumor", "liver_mass"):
        assert coded(name).site == coded("liver").kind
