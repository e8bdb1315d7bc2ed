"""Standard codes of structures and lesions by the names that label tables use, for outputs that need a code.

The facts are in codes.csv, a row a concept: name, coding scheme, value, meaning, category, and the row of the organ
that it is in, if the concept does not say so (`site`). Values are those of DICOM's context groups where these have the
concept, else those of published mappings, which docs/decisions.md lists. Any other name gets a private code under
99MEDSEG. What the numbers of a label map mean is said in `labels`; a label may bring a code of its own.
"""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from medseg.labels import Code, Coded, Label

CATEGORIES = {
    "structure": Code("123037004", "SCT", "Anatomical Structure"),
    "abnormal": Code("49755003", "SCT", "Morphologically Abnormal Structure"),
    "tissue": Code("85756007", "SCT", "Tissue"),
    "substance": Code("91720002", "SCT", "Body Substance"),
    "object": Code("260787004", "SCT", "Physical object"),
}
STRUCTURE, ABNORMAL, TISSUE = (CATEGORIES[name] for name in ("structure", "abnormal", "tissue"))
SIDES = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}
PRIVATE = "99MEDSEG"

SYNONYMS = {
    "adrenal": "adrenal_gland",
    "arota": "aorta",  # so spelt in AMOS
    "atrial_appendage_left": "left_auricular_appendage",
    "atrial_appendage_right": "right_auricular_appendage",
    "bladder": "urinary_bladder",
    "body_extremities": "extremities",
    "body_trunc": "trunk",
    "cancer": "tumor",
    "carcinoma": "tumor",
    "clavicle": "clavicula",
    "gall_bladder": "gallbladder",
    "haemorrhage": "hemorrhage",
    "heart_atrium_left": "left_atrium",
    "heart_atrium_right": "right_atrium",
    "heart_ventricle_left": "left_ventricle",
    "heart_ventricle_right": "right_ventricle",
    "hepatic_vessel": "liver_vessels",
    "inferior_pharyngeal_constrictor": "pharyngeal_constrictor",
    "ivc": "inferior_vena_cava",
    "lung_trachea_bronchia": "trachea_and_bronchus",
    "lv": "left_ventricle",
    "metastases": "metastasis",
    "middle_pharyngeal_constrictor": "pharyngeal_constrictor",
    "myo": "heart_myocardium",
    "myocardium": "heart_myocardium",
    "necrotic": "necrosis",
    "neoplasm": "tumor",
    "oedema": "edema",
    "oesophagus": "esophagus",
    "peritumoral_oedema": "peritumoral_edema",
    "postcava": "inferior_vena_cava",
    "prostate_uterus": "genital_organ",
    "pz": "prostate_peripheral_zone",
    "rv": "right_ventricle",
    "sinus_frontal": "frontal_sinus",
    "sinus_maxillary": "maxillary_sinus",
    "small_intestine": "small_bowel",
    "superior_pharyngeal_constrictor": "pharyngeal_constrictor",
    "svc": "superior_vena_cava",
    "teeth": "tooth",
    "tumour": "tumor",
    "tz": "prostate_transition_zone",
    "vertebrae": "vertebra",
    "vessels": "vessel",
}
"""Other names of the same thing. British spellings are read as American ones, and plurals as singulars, anyway."""
WIDER = {
    "muscle_of_head": "lateral_rectus_muscle medial_rectus_muscle superior_rectus_muscle inferior_rectus_muscle "
    "superior_oblique_muscle inferior_oblique_muscle levator_palpebrae_superioris",
    "muscle_of_neck": "levator_scapulae middle_scalene posterior_scalene sterno_thyroid thyrohyoid prevertebral",
    "muscle_of_upper_limb": "coracobrachial triceps_brachii",
    "abdominal_wall_muscle": "rectus_abdominis external_oblique internal_oblique quadratus_lumborum",
    "autochthon": "transversospinalis",
    "iliopsoas": "psoas_major",
    "aortic_valve": "right_coronary_cusp left_coronary_cusp non_coronary_cusp",
    "temporal_bone": "styloid_process",
    "zygomatic_bone": "zygomatic_arch",
    "tooth": "teeth_lower teeth_upper",
    "cerebral_hemisphere": "central_sulcus",
    "brain": "septum_pellucidum",
    "corpus_striatum": "lentiform_nucleus",
    "lateral_ventricle": "ventricle_body ventricle_trigone",
}
"""Published label names without a code that could be checked, by the next wider structure that has one."""
_OTHER_NAMES = SYNONYMS | {name: wider for wider, names in WIDER.items() for name in names.split()}


def of(label: Label) -> Coded:
    """Codes of a label: its own, or by its name from the tables here, or a private one that depends on the name alone.

    Example:
        >>> coded = of(Label(2, "kidney_cyst_left", (2,)))
        >>> coded.kind.meaning, coded.site.meaning, coded.side.meaning, coded.category.meaning
        ('Cyst', 'Kidney', 'Left', 'Morphologically Abnormal Structure')
    """
    if label.coded is not None:
        return label.coded
    if label.code is not None:
        known = (coded.category for coded in _table().values() if coded.kind == label.code)
        return Coded(next(known, STRUCTURE), label.code)
    name = re.sub(r"[\W_]+", "_", label.name.lower().replace("tumour", "tumor")).strip("_")
    whole = _known(name)
    if whole is not None:
        return whole
    words = name.split("_")
    sides = [SIDES[word] for word in words if word in SIDES]
    side = sides[0] if len(sides) == 1 else None
    rest = [word for word in words if side is None or word not in SIDES]
    found = _known("_".join(rest)) or _lesion_somewhere(rest)
    if found is not None:
        return replace(found, side=side)
    return Coded(STRUCTURE, Code(_private(label), PRIVATE, name_of(label)))


def name_of(label: Label) -> str:
    """A label's name in the 64 characters of DICOM's LO, which a backslash would part in two.

    Example:
        >>> name_of(Label(1, "left\\\\right\\n", (1,)))
        'left/right'
    """
    return " ".join(label.name.replace("\\", "/").split())[:64].strip()


def _private(label: Label) -> str:
    """A code value for a name, in whatever script: case and the signs between words do not matter, as in `of`."""
    name = re.sub(r"[\s_-]+", "_", label.name.casefold()).strip("_")
    return hashlib.sha256(name.encode()).hexdigest()[:12].upper()


def _lesion_somewhere(words: list[str]) -> Coded | None:
    """ "liver_tumor", "colon cancer primaries": what it is, from one word, and where, from the others."""
    for word in words:
        what = _known(word)
        if what is not None and what.category == ABNORMAL:
            others = [other for other in words if other != word]
            places = (_known(place) for place in ("_".join(others), *others))
            where = next((place.kind for place in places if place is not None and place.category == STRUCTURE), None)
            return replace(what, site=where or what.site)
    return None


def _known(name: str) -> Coded | None:
    table = _table()
    for form in (name, name.removesuffix("s")):
        form = _OTHER_NAMES.get(form, form)
        if form in table:
            return table[form]
    return None


@cache
def _table() -> dict[str, Coded]:
    """The rows of codes.csv by name."""
    with Path(__file__).with_name("codes.csv").open(encoding="utf-8", newline="") as lines:
        rows = {row["name"]: row for row in csv.DictReader(lines)}
    codes = {name: Code(row["value"], row["scheme"], row["meaning"]) for name, row in rows.items()}
    return {
        name: Coded(CATEGORIES[row["category"]], codes[name], site=codes[row["site"]] if row["site"] else None)
        for name, row in rows.items()
    }
