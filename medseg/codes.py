"""Facts: SNOMED CT codes of structures by the names that label tables use, for outputs that need a code.

The values were compared with the SNOMED CT content of DICOM's context groups (pydicom's dictionary) and with published
mappings of CT segmentation models. A name that is not here gets a private code under 99MEDSEG.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from medseg.labels import Code, Label

STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
TISSUE = Code("85756007", "SCT", "Tissue")
SIDES = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}

ORGANS = {
    "adrenal_gland": ("23451007", "Adrenal gland"),
    "aorta": ("15825003", "Aorta"),
    "autochthon": ("244849004", "Deep muscle of back"),
    "bone": ("3138006", "Bone"),
    "brachiocephalic_trunk": ("12691009", "Brachiocephalic artery"),
    "brachiocephalic_vein": ("8887007", "Brachiocephalic vein"),
    "brain": ("12738006", "Brain"),
    "bronchus": ("955009", "Bronchus"),
    "carpal": ("83936004", "Carpus"),
    "cerebellum": ("113305005", "Cerebellum"),
    "clavicula": ("51299004", "Clavicle"),
    "colon": ("71854001", "Colon"),
    "common_carotid_artery": ("32062004", "Common carotid artery"),
    "coronary_arteries": ("41801008", "Coronary artery"),
    "duodenum": ("38848004", "Duodenum"),
    "esophagus": ("32849002", "Esophagus"),
    "face": ("89545001", "Face"),
    "femur": ("71341001", "Femur"),
    "fibula": ("87342007", "Fibula"),
    "gallbladder": ("28231008", "Gallbladder"),
    "gluteus_maximus": ("181674001", "Gluteus maximus muscle"),
    "gluteus_medius": ("78333006", "Gluteus medius muscle"),
    "gluteus_minimus": ("75297007", "Gluteus minimus muscle"),
    "heart": ("80891009", "Heart"),
    "heart_myocardium": ("74281007", "Myocardium"),
    "hip": ("29836001", "Hip"),
    "hippocampus": ("5366008", "Hippocampus"),
    "humerus": ("85050009", "Humerus"),
    "iliac_artery": ("73634005", "Common iliac artery"),
    "iliac_vena": ("46027005", "Common iliac vein"),
    "iliopsoas": ("68455001", "Iliopsoas muscle"),
    "inferior_vena_cava": ("64131007", "Inferior vena cava"),
    "kidney": ("64033007", "Kidney"),
    "left_atrium": ("82471001", "Left atrium"),
    "left_ventricle": ("87878005", "Left ventricle of heart"),
    "liver": ("10200004", "Liver"),
    "lung": ("39607008", "Lung"),
    "lung_lower_lobe": ("90572001", "Lower lobe of lung"),
    "lung_middle_lobe_right": ("72481006", "Middle lobe of right lung"),
    "lung_upper_lobe": ("45653009", "Upper lobe of lung"),
    "mandible": ("91609006", "Mandible"),
    "metacarpal": ("36455000", "Metacarpal bones"),
    "metatarsal": ("53884002", "Metatarsal"),
    "pancreas": ("15776009", "Pancreas"),
    "patella": ("64234005", "Patella"),
    "portal_vein_and_splenic_vein": ("110765007", "Portal vein and splenic vein"),
    "prostate": ("41216001", "Prostate"),
    "pulmonary_artery": ("81040000", "Pulmonary artery"),
    "pulmonary_vein": ("122972007", "Pulmonary vein"),
    "radius": ("62413002", "Radius"),
    "rectum": ("34402009", "Rectum"),
    "retina": ("5665001", "Retina"),
    "rib": ("113197003", "Rib"),
    "right_atrium": ("73829009", "Right atrium"),
    "right_ventricle": ("53085002", "Right ventricle of heart"),
    "sacrum": ("54735007", "Sacrum"),
    "scapula": ("79601000", "Scapula"),
    "skeletal_muscle": ("127954009", "Skeletal muscle"),
    "skull": ("89546000", "Skull"),
    "small_bowel": ("30315005", "Small intestine"),
    "spinal_cord": ("2748008", "Spinal cord"),
    "spleen": ("78961009", "Spleen"),
    "sternum": ("56873002", "Sternum"),
    "stomach": ("69695003", "Stomach"),
    "subclavian_artery": ("29700009", "Subclavian artery"),
    "superior_vena_cava": ("48345005", "Superior vena cava"),
    "tarsal": ("108371006", "Tarsal bones"),
    "thyroid_gland": ("69748006", "Thyroid gland"),
    "tibia": ("12611008", "Tibia"),
    "trachea": ("44567001", "Trachea"),
    "ulna": ("23416004", "Ulna"),
    "urinary_bladder": ("89837001", "Urinary bladder"),
    "uterus": ("35039007", "Uterus"),
    "vertebra": ("51282000", "Vertebra"),
    "vertebrae_S1": ("65985001", "S1 vertebra"),
}
NUMBERED = {
    "vertebrae_C": "14806007 39976000 113205007 5329002 36978003 36054005 87391001",
    "vertebrae_L": "66794005 14293000 36470004 11994002 49668003",
    "vertebrae_T": "64864005 53733008 1626008 73071006 56401006 45296009 62487009 11068009 82687006 7610001 12989004 "
    "23215003",
}
RIBS = "48535007 78247007 25888004 25523003 15339008 59558009 24915002 5953002 22565002 77644006 58830002 43993008"
ORGANS |= {
    f"{name}{number}": (value, f"{name[-1]}{number} vertebra")
    for name, values in NUMBERED.items()
    for number, value in enumerate(values.split(), start=1)
}
ORGANS |= {f"rib_{number}": (value, f"Rib {number}") for number, value in enumerate(RIBS.split(), start=1)}

FINDINGS = {
    "cyst": ("367643001", "Cyst"),
    "edema": ("79654002", "Edema"),
    "hemorrhage": ("50960005", "Hemorrhage"),
    "lesion": ("52988006", "Lesion"),
    "mass": ("4147007", "Mass"),
    "necrosis": ("6574001", "Necrosis"),
    "nodule": ("27925004", "Nodule"),
    "tumor": ("108369006", "Tumor"),
}
"""Also found as a word inside a longer name: "liver tumour", "kidney_cyst_left"."""

TISSUES = {"subcutaneous_fat": ("67769002", "Subcutaneous fatty tissue"), "fat": ("55603005", "Fat")}

SYNONYMS = {
    "adrenal": "adrenal_gland",
    "bladder": "urinary_bladder",
    "bones": "bone",
    "cancer": "tumor",
    "carcinoma": "tumor",
    "clavicle": "clavicula",
    "enhancing_tumor": "tumor",
    "et": "tumor",
    "gall_bladder": "gallbladder",
    "haemorrhage": "hemorrhage",
    "heart_atrium_left": "left_atrium",
    "heart_atrium_right": "right_atrium",
    "heart_ventricle_left": "left_ventricle",
    "heart_ventricle_right": "right_ventricle",
    "ivc": "inferior_vena_cava",
    "kidneys": "kidney",
    "lungs": "lung",
    "myocardium": "heart_myocardium",
    "ncr": "necrosis",
    "necrotic": "necrosis",
    "neoplasm": "tumor",
    "oedema": "edema",
    "oesophagus": "esophagus",
    "small_intestine": "small_bowel",
    "svc": "superior_vena_cava",
    "tc": "tumor",
    "tumour": "tumor",
    "tumor_core": "tumor",
    "whole_tumor": "tumor",
    "wt": "tumor",
}
_ORGANS = {name.lower(): code for name, code in ORGANS.items()}


@dataclass(frozen=True)
class Coded:
    """What DICOM's segment description wants.

    Attributes:
        category: anatomical structure, abnormal structure, tissue, ...
        kind: what it is (the type): liver, cyst, ...
        side: left or right; modifies `site` where there is one, else `kind`.
        site: of an abnormality, the anatomic region that it is in; None: not known, or `kind` says it.
    """

    category: Code
    kind: Code
    side: Code | None = None
    site: Code | None = None


def of(label: Label) -> Coded:
    """Codes of a label: its own, or by its name from the tables here, or a private one that depends on the name alone.

    Example:
        >>> coded = of(Label(2, "kidney_left", (2,)))
        >>> coded.kind.value, coded.side.meaning, coded.category.meaning
        ('64033007', 'Left', 'Anatomical Structure')
    """
    if label.code is not None:
        abnormal = label.code.value in {value for value, _ in FINDINGS.values()}
        return Coded(ABNORMAL if abnormal else STRUCTURE, label.code)
    name = re.sub(r"[^0-9a-z]+", "_", label.name.lower()).strip("_")
    whole = _known(name)
    if whole is not None:
        return whole
    words = name.split("_")
    sides = [word for word in words if word in SIDES]
    if len(sides) == 1:
        known = _known("_".join(word for word in words if word not in SIDES))
        if known is not None:
            return Coded(known.category, known.kind, SIDES[sides[0]])
    for word in words:  # "liver_tumour": what it is, without where; the segment's label says the rest
        finding = SYNONYMS.get(word, word)
        if finding in FINDINGS:
            value, meaning = FINDINGS[finding]
            place = _known("_".join(other for other in words if other != word and other not in SIDES))
            side = SIDES[sides[0]] if len(sides) == 1 and place else None
            return Coded(ABNORMAL, Code(value, "SCT", meaning), side, place.kind if place else None)
    digest = hashlib.sha256(name.encode()).hexdigest()[:12].upper()
    return Coded(STRUCTURE, Code(digest, "99MEDSEG", name_of(label)))


def name_of(label: Label) -> str:
    """A label's name in the 64 characters of DICOM's LO, which a backslash would part in two.

    Example:
        >>> name_of(Label(1, "left\\\\right\\n", (1,)))
        'left/right'
    """
    return " ".join(label.name.replace("\\", "/").split())[:64].strip()


def _known(name: str) -> Coded | None:
    name = SYNONYMS.get(name, name)
    for table, category in ((_ORGANS, STRUCTURE), (FINDINGS, ABNORMAL), (TISSUES, TISSUE)):
        if name in table:
            value, meaning = table[name]
            return Coded(category, Code(value, "SCT", meaning))
    return None
