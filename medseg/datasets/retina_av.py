"""Photographs of the retina with arteries and veins: RITE, HRF, LES-AV, AVRDB, and RRWNet's prepared folders.

```
rite     root/training|test/{images/21_training.tif, av/21_training.png, mask/21_training_mask.gif}
hrf      root/{images/06_dr.JPG, HRF_AV_GT/06_dr_AVmanual.png, mask/06_dr_mask.tif}
les_av   root/{images/275.png, arteries-and-veins/275.png, masks/275_mask.gif}
avrdb    root/{images/IM000001.jpg, av-labels/IM000001--av.png}
rrwnet   root/{enhanced/21.png, av3/21.png, enhanced_masks/21.png}
```
The masks are the camera's field of view: outside it nothing is known. RITE's download (AV_groundTruth) has none; take
DRIVE's. Without the folder every pixel counts.

Labels: artery, vein and vessel (either of them, or one of which it is not known what it is); they overlap. In the
sets' own label maps red is artery, blue vein, green a crossing of both, white a vessel of unknown kind. In RRWNet's red
is artery, green vein and blue vessel, so that blue alone is a vessel of unknown kind. The loader turns colours into
numbers (red 1, green 2, blue 4), and those are the numbers of the label table.

Patients: RITE (40 photographs, from DRIVE's screening) and HRF (45; 15 each healthy, with glaucoma and with diabetic
retinopathy) show one eye of each person. LES-AV (22) and AVRDB (100) do not say whose the photographs are: give
`patient` or root/patients.csv (columns case, patient), or each counts as a patient of its own.

Licences: RITE and DRIVE for research, https://medicine.uiowa.edu/eye/rite-dataset; HRF CC BY 4.0, its vessel classes
(Hemelings et al. 2019) without a stated licence; LES-AV for scientific use only; AVRDB (AFIO) in the form with cleaned
colours, MIT. The original AVRDB, with a file for each class, is not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medseg.case import Case, CaseSet
from medseg.datasets import _examples, _files, _folds, _people, _tables
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.settings import Settings

OUTSIDE = 8
"""Number that stands outside the field of view."""
COLOURS = _tables.with_unknown(
    LabelTable.of({"artery": [1, 2], "vein": [2, 4], "vessel": [1, 2, 4, 7]}, paint=[1, 4, 7]),
    {"artery": [7], "vein": [7]},
    ignore=OUTSIDE,
)
"""Red artery, green crossing, blue vein, white unknown."""
THREE_MAPS = _tables.with_unknown(
    LabelTable.of({"artery": [5, 7], "vein": [6, 7], "vessel": [4, 5, 6, 7]}, paint=[5, 6, 4]),
    {"artery": [4], "vein": [4]},
    ignore=OUTSIDE,
)
"""Red artery, green vein, blue vessel."""


@dataclass(frozen=True)
class Layout:
    """Where a set keeps its files, and what its label maps' names end in. `{part}` stands for training or test."""

    images: str
    labels: str
    masks: str | None
    label_ending: str = ""
    table: LabelTable = COLOURS


LAYOUTS = {
    "rite": Layout("{part}/images", "{part}/av", "{part}/mask"),
    "hrf": Layout("images", "HRF_AV_GT", "mask", label_ending="_AVmanual"),
    "les_av": Layout("images", "arteries-and-veins", "masks"),
    "avrdb": Layout("images", "av-labels", None, label_ending="--av"),
    "rrwnet": Layout("enhanced", "av3", "enhanced_masks", table=THREE_MAPS),
}
PARTS = ("training", "test")


class Options(Settings):
    """Which set, and which part of it."""

    root: Path
    """Folder that holds the folders named above."""
    layout: Literal["rite", "hrf", "les_av", "avrdb", "rrwnet"]
    """The set."""
    part: Literal["training", "test", "all"] | None = None
    """RITE: its two folders; HRF: 06 to 15 are training, 01 to 05 test (Karlsson's split). The other sets have no
    parts. None: training, or all where there are no parts."""
    folds: Literal["none", "rrwnet"] = "none"
    """rrwnet: the four folds of RRWNet's training, for photographs of RITE and HRF. It never uses two of HRF's (15_g
    and 15_h), which are left out then."""
    patient: str | None = None
    """Regular expression whose one group catches the patient in the case id."""


def cases(options: Options) -> CaseSet:
    """Cases sorted by id.

    Raises:
        Refusal: no such folder, no such part, or a photograph lacks its label map or mask.
    """
    layout = LAYOUTS[options.layout]
    parts = options.layout in ("rite", "hrf")
    if options.part in PARTS and not parts:
        raise Refusal("data.part", found=f"{options.part} of {options.layout}", needed="all", remedy="leave 'part' out")
    wanted = (options.part or "training") if parts else "all"
    found: dict[str, tuple[str, Path, Path, Path | None]] = {}
    for part in PARTS if "{part}" in layout.images else ("",):
        if not part or wanted in (part, "all"):
            found |= _files_of(options.root, layout, part)
    if options.layout == "hrf":
        found = {case: (_part_of_hrf(case), *files[1:]) for case, files in found.items()}
        found = {case: files for case, files in found.items() if wanted in (files[0], "all")}
    folds = _fold(options, list(found))
    facts = _people.people(options.root, found, options.patient)
    listed = []
    for case, (part, image, label, mask) in sorted(found.items()):
        if folds is not None and case not in folds:
            continue
        about = facts[case]
        about |= {"fold": folds[case]} if folds is not None else {}
        about["attributes"] = {**about.get("attributes", {}), **({"part": part} if part else {})}
        listed.append(Case(id=case, images={"all": image}, target=label, valid=mask, **about))
    return CaseSet(tuple(listed), _files.COLOURS, layout.table)


def _files_of(root: Path, layout: Layout, part: str) -> dict[str, tuple[str, Path, Path, Path | None]]:
    """(part, photograph, label map, mask) by case."""
    place, labels_at = root / layout.images.format(part=part), root / layout.labels.format(part=part)
    images, labels = _files.images(place), _files.images(labels_at, ending=layout.label_ending)
    _files.must_match(images, labels, image_folder=place, label_folder=labels_at)
    masks: dict[str, Path] = {}
    if layout.masks is not None and (masks_at := root / layout.masks.format(part=part)).is_dir():
        masks = {name.removesuffix("_mask"): path for name, path in _files.images(masks_at).items()}
        _files.must_match(images, masks, image_folder=place, label_folder=masks_at)
    return {case: (part, image, labels[case], masks.get(case)) for case, image in images.items()}


def _part_of_hrf(case: str) -> str:
    return "test" if case[:2] in ("01", "02", "03", "04", "05") else "training"


def _fold(options: Options, ids: list[str]) -> dict[str, int] | None:
    """Fold by case, for those that have one; None where none are wanted."""
    if options.folds == "none":
        return None
    known = {**_folds.consecutive(_folds.RITE, 4), **_folds.consecutive(_folds.HRF, 4)}
    unused = set(_folds.HRF) - set(known)
    found = {case: known[name] for case in ids if (name := case.removesuffix("_training")) in known}
    strange = sorted(set(ids) - set(found) - unused)
    if strange:
        raise Refusal(
            "data.folds",
            found=f"no fold of RRWNet's for '{strange[0]}'",
            needed="training photographs of RITE or HRF",
            remedy="set part: training, or leave 'folds' out",
        )
    return found


def example(folder: Path) -> Options:
    """Three photographs of RITE's training part, two of them of one patient."""
    for seed, case in enumerate(("21_training", "22_training", "23_training")):
        place = folder / "training"
        _examples.write_photograph(place / "images" / f"{case}.tif", seed)
        _examples.write_colours(place / "av" / f"{case}.png")
        _examples.write_mask(place / "vessel" / f"{case}.png")
        _examples.write_mask(place / "mask" / f"{case}_mask.gif", margin=1)
    rows = ("21_training,a", "22_training,a", "23_training,b")
    _examples.write_table(folder / "patients.csv", "case,patient", *rows)
    return Options(root=folder, layout="rite")
