"""BraTS 2018 to 2021 and 2023: four MR channels with tumour regions, or the tumour's grade as a class of the image.

```
root/[HGG|LGG/]BraTS19_CBICA_AAB_1/BraTS19_CBICA_AAB_1_flair.nii.gz, _t1ce, _t1, _t2, _seg        2018 to 2021
root/BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2f.nii.gz, -t1c, -t1n, -t2w, -seg                   2023
```
Packed (.nii.gz) or not. Regions as the challenge scores them: TC (tumour core: necrosis and enhancing tumour), WT
(whole tumour), ET (enhancing tumour), and channels FLAIR, T1ce, T1, T2; both in the order of the published Swin UNETR.
Enhancing tumour is 4 until 2021 and 3 in 2023. A painted map has WT 2, TC 1, ET 4 (or 3), as the label maps of the set.

Who is who: in 2018 and 2019 the name without its last number, in 2023 the first of its two numbers (the second is the
time point); in 2020 and 2021 each case is a patient. `patient` or root/patients.csv overrides that.

Grades (task: grade): from the folders HGG and LGG (2018, 2019) or name_mapping.csv (2020), on one channel (T1ce unless
`channels` says otherwise), with healthy people's T1 from IXI as a third class if `healthy` names their folder
(IXI002-Guys-0828-T1.nii.gz). Those come from other scanners, without contrast: a network can tell them apart by that
alone, so look at LGG against HGG by themselves.

Free for research after registration (https://www.synapse.org/brats), by the year's terms. IXI: CC BY-SA 3.0.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from medseg import tables
from medseg.case import Case, CaseSet
from medseg.datasets import _examples, _files, _people
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.settings import Settings

Channel = Literal["FLAIR", "T1ce", "T1", "T2"]
ENDINGS: dict[Channel, tuple[str, str]] = {
    "FLAIR": ("_flair", "-t2f"),
    "T1ce": ("_t1ce", "-t1c"),
    "T1": ("_t1", "-t1n"),
    "T2": ("_t2", "-t2w"),
}
"""Channel -> ending of its file until 2021, and from 2023."""
SEGMENTATION = ("_seg", "-seg")
NEW_NAME = re.compile(r"(BraTS-[A-Za-z]+-\d+)-(\d+)")
OLD_NAME = re.compile(r"BraTS1\d_(([^_]+)_.+)_(\d+)", re.IGNORECASE)
"""Until 2019: BraTS19_<centre>_<patient>_<number>."""
IXI_NAME = re.compile(r"(IXI\d+)-([A-Za-z]+)-\d+-T1", re.IGNORECASE)
GRADES = {"LGG": 0, "HGG": 1, "healthy": 2}


class Options(Settings):
    """Where the data set is, and what is asked of it."""

    root: Path
    """Folder that holds the cases' folders, directly or in HGG/ and LGG/."""
    task: Literal["segmentation", "grade"] = "segmentation"
    """Outline the regions, or tell the grade."""
    channels: tuple[Channel, ...] = ()
    """In order. Empty: FLAIR, T1ce, T1, T2 to segment, T1ce for grades."""
    enhancing: Literal[3, 4] | None = None
    """Number of enhancing tumour in the label maps. None: 3 where the names are those of 2023, else 4."""
    healthy: Path | None = None
    """For grades: folder of healthy T1 scans (IXI), which join as a third class."""
    patient: str | None = None
    """Regular expression whose one group catches the patient in the case id."""


def cases(options: Options) -> CaseSet:
    """Cases sorted by id. Where no case has a segmentation (validation data), none has a target.

    Raises:
        Refusal: no cases, names of two kinds, a missing file, or no grade for a case.
    """
    places = _places(options.root)
    new = {bool(NEW_NAME.fullmatch(place.name)) for place in places}
    if len(new) > 1:
        raise Refusal(
            options.root,
            found="names as until 2021 and names as from 2023",
            needed="one kind: their label maps differ",
            remedy="give each release a folder of its own",
        )
    naming = int(new.pop())
    channels = options.channels or (("T1ce",) if options.task == "grade" else tuple(ENDINGS))
    facts = _facts(options, places)
    found = {
        place: Case(
            id=place.name,
            images={channel: _file(place, ENDINGS[channel][naming]) for channel in channels},
            **facts[place.name],
        )
        for place in places
    }
    _files.must_exist([path for case in found.values() for path in case.images.values()], named_by=options.root)
    return _graded(options, found, channels) if options.task == "grade" else _outlined(options, found, channels, naming)


def _outlined(options: Options, found: dict[Path, Case], channels: tuple[Channel, ...], naming: int) -> CaseSet:
    targets = {place: _file(place, SEGMENTATION[naming]) for place in found}
    labelled = any(path.exists() for path in targets.values())
    _files.must_exist(targets.values() if labelled else (), named_by=options.root)
    enhancing = options.enhancing or (3 if naming else 4)
    regions: dict[str, int | list[int]] = {"TC": [1, enhancing], "WT": [1, 2, enhancing], "ET": [enhancing]}
    return CaseSet(
        tuple(replace(case, target=targets[place] if labelled else None) for place, case in found.items()),
        channels,
        LabelTable.of(regions, paint=[1, 2, enhancing]),
    )


def _graded(options: Options, found: dict[Path, Case], channels: tuple[Channel, ...]) -> CaseSet:
    grades = _grades(options.root, list(found))
    graded = [
        replace(case, classes=(GRADES[grades[place]],), unit="image", attributes={**case.attributes, "source": "BraTS"})
        for place, case in found.items()
    ]
    if options.healthy is not None and len(channels) != 1:
        raise Refusal(
            "data.channels",
            found=", ".join(channels),
            needed="one channel, because healthy people have T1 alone",
            remedy="set, for example, channels: [T1ce]",
        )
    if options.healthy is not None:
        graded += _healthy(options.healthy, channels[0])
    names = {name: number for name, number in GRADES.items() if name != "healthy" or options.healthy is not None}
    return CaseSet(tuple(sorted(graded, key=lambda case: case.id)), channels, LabelTable.classes(names))


def _healthy(folder: Path, channel: Channel) -> list[Case]:
    """Healthy people's scans, in the place of `channel`."""
    found = []
    for case, path in _files.images(folder).items():
        match = IXI_NAME.match(case)
        patient, centre = (match.group(1), match.group(2)) if match else (case, "")
        about = {"patient": patient, "centre": centre, "attributes": {"source": "IXI"}}
        found.append(
            Case(id=case, images={channel: path}, classes=(GRADES["healthy"],), unit="image", **about)  # type: ignore[arg-type]
        )
    return found


def _places(root: Path) -> list[Path]:
    """Folders of the cases, sorted by name."""
    roots = [place for place in (root / "HGG", root / "LGG") if place.is_dir()] or [root]
    return sorted((place for one in roots for place in _files.folders(one, "brats*")), key=lambda place: place.name)


def _file(place: Path, ending: str) -> Path:
    """Packed unless only an unpacked file is there."""
    packed, plain = (place / f"{place.name}{ending}{suffix}" for suffix in (".nii.gz", ".nii"))
    return plain if plain.exists() and not packed.exists() else packed


def _facts(options: Options, places: list[Path]) -> dict[str, dict[str, Any]]:
    """Patient, time point and centre by case, as the names say; patients.csv knows better."""
    known, more = {}, {}
    for place in places:
        old, new = OLD_NAME.fullmatch(place.name), NEW_NAME.fullmatch(place.name)
        if new:
            known[place.name], more[place.name] = new.group(1), {"group": new.group(2)}
        elif old:
            known[place.name], more[place.name] = old.group(1), {"group": old.group(3), "centre": old.group(2)}
    people = _people.people(options.root, [place.name for place in places], options.patient, known=known)
    return {case: {"attributes": {}, **more.get(case, {}), **facts} for case, facts in people.items()}


def _grades(root: Path, places: list[Path]) -> dict[Path, str]:
    """LGG or HGG by case: its parent folder, or the line in name_mapping.csv (2020)."""
    if places[0].parent != root:
        return {place: place.parent.name for place in places}
    table = root / "name_mapping.csv"
    rows = tables.rows(table, columns=("Grade", "BraTS_2020_subject_ID"))
    by_case = {row["BraTS_2020_subject_ID"]: row["Grade"] for row in rows}
    for place in places:
        if by_case.get(place.name) not in ("LGG", "HGG"):
            raise Refusal(
                table,
                found=f"grade '{by_case.get(place.name, '')}' of {place.name}",
                needed="LGG or HGG for every case",
                remedy="complete the table, or sort the cases into the folders LGG and HGG",
            )
    return {place: by_case[place.name] for place in places}


def example(folder: Path) -> Options:
    """Three scans of two patients in the layout of 2023."""
    for seed, case in enumerate(("BraTS-GLI-00000-000", "BraTS-GLI-00000-001", "BraTS-GLI-00002-000")):
        for _, ending in ENDINGS.values():
            _examples.write_nifti(folder / case / f"{case}{ending}.nii.gz", seed)
        _examples.write_nifti(folder / case / f"{case}-seg.nii.gz", seed, label=True, numbers=(1, 2, 3))
    return Options(root=folder)
