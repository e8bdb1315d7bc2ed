"""BIDS: sub-*/[ses-*/]anat/*_T1w.nii.gz, with label maps below derivatives/<name>/. A patient is a subject.

A case is a subject's session: `sub-01`, or `sub-01_ses-02`. For each channel (suffix: T1w, FLAIR, ...) it must have one
file, and one label map; where an acquisition or a run leaves a choice, `image_entities` and `label_entities` make it.
What numbers mean stands in `labels`, or in a dseg.tsv (columns index and name) below the derivatives. participants.tsv
gives the centre (column `site` or `centre`) and further attributes.

File names are parsed here, not by pybids: the part of BIDS that is needed is a dozen lines, and pybids would bring a
database and index every file before the first answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from medseg import tables
from medseg.case import Case, CaseSet
from medseg.datasets import _examples, _files, _tables
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.settings import Settings


class Options(Settings):
    """Where the data set is, and which of its files are wanted."""

    root: Path
    """Folder that holds sub-*/ and derivatives/."""
    channels: tuple[str, ...] = Field(default=("T1w",), min_length=1)
    """Suffixes of the images, in channel order."""
    image_entities: dict[str, str] = Field(default_factory=dict)
    """What image names must say besides, such as {acq: mprage}."""
    folder: str = "anat"
    """Data type folder of a subject or session: anat, dwi, perf, pet, ..."""
    derivatives: str = "labels"
    """Folder below derivatives/ that holds the label maps."""
    label_suffix: str = "dseg"
    """Suffix of label maps: dseg (several labels) or mask (one)."""
    label_entities: dict[str, str] = Field(default_factory=dict)
    """What names of label maps must say besides, such as {desc: manual}."""
    labels: dict[str, int | list[int]] = Field(default_factory=dict)
    """Number (or numbers, for a region) of each label. Empty: read dseg.tsv."""
    incomplete: Literal["refuse", "leave_out"] = "refuse"
    """What to do with a session that lacks a channel or its label map."""


def parse(path: Path) -> tuple[dict[str, str], str]:
    """Entities and suffix of a BIDS file name.

    Example:
        >>> parse(Path("sub-01_ses-2_acq-mprage_T1w.nii.gz"))
        ({'sub': '01', 'ses': '2', 'acq': 'mprage'}, 'T1w')
    """
    *pairs, suffix = _files.case_id(path).split("_")
    return {key: value for key, _, value in (pair.partition("-") for pair in pairs)}, suffix


def cases(options: Options) -> CaseSet:
    """Cases sorted by id.

    Raises:
        Refusal: no subjects, two files where one is wanted, or a channel or label map missing.
    """
    labelled = options.root / "derivatives" / options.derivatives
    if not labelled.is_dir():
        raise Refusal(
            labelled,
            found="no such folder",
            needed="the label maps, in a folder below derivatives",
            remedy="set 'derivatives' in the data settings to the name of that folder",
        )
    people = _participants(options.root / "participants.tsv")
    found, lacking = [], []
    for subject, session in _sessions(options.root):
        place = Path(subject) / session / options.folder
        images = {
            suffix: _one(options.root / place, suffix, options.image_entities, "image_entities")
            for suffix in options.channels
        }
        target = _one(labelled / place, options.label_suffix, options.label_entities, "label_entities")
        if target is None or None in images.values():
            lacking += [options.root / place / f"*_{suffix}.nii.gz" for suffix, path in images.items() if path is None]
            lacking += [labelled / place / f"*_{options.label_suffix}.nii.gz"] if target is None else []
            continue
        facts = people.get(subject, {})
        found.append(
            Case(
                id="_".join(filter(None, (subject, session))),
                patient=subject,
                images={suffix: path for suffix, path in images.items() if path is not None},
                target=target,
                group=session,
                centre=facts.get("centre", "") or facts.get("site", ""),
                attributes={key: value for key, value in facts.items() if key not in ("participant_id", "centre")},
            )
        )
    if lacking and (options.incomplete == "refuse" or not found):
        raise Refusal(
            lacking[0],
            found=f"no such file; missing in all: {', '.join(str(path) for path in lacking[:10])}",
            needed="every channel and a label map for each session",
            remedy="add the files, correct the suffixes, or set incomplete: leave_out in the data settings",
        )
    return CaseSet(tuple(sorted(found, key=lambda case: case.id)), options.channels, _labels(options, labelled))


def _sessions(root: Path) -> list[tuple[str, str]]:
    """(subject folder, session folder or empty), sorted."""
    subjects = sorted(path for path in root.glob("sub-*") if path.is_dir())
    if not subjects:
        raise Refusal(root, found="no folder sub-*", needed="a BIDS data set", remedy="correct the data set's root")
    found = []
    for subject in subjects:
        sessions = sorted(path.name for path in subject.glob("ses-*") if path.is_dir())
        found += [(subject.name, session) for session in sessions or [""]]
    return found


def _one(folder: Path, suffix: str, entities: dict[str, str], setting: str) -> Path | None:
    """The image in `folder` with this suffix and these entities; None if there is none."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(".") or not path.name.lower().endswith(_files.SUFFIXES):
            continue
        has, ends = parse(path)
        if ends == suffix and entities.items() <= has.items():
            found.append(path)
    if len(found) > 1:
        raise Refusal(
            folder,
            found=f"{len(found)} files for '{suffix}': {', '.join(path.name for path in found)}",
            needed="one",
            remedy=f"choose by '{setting}' in the data settings, such as {{run: '1'}}",
        )
    return found[0] if found else None


def _participants(path: Path) -> dict[str, dict[str, str]]:
    """Facts by subject folder; 'n/a' is BIDS for nothing."""
    if not path.exists():
        return {}
    rows = tables.rows(path, columns=("participant_id",))
    return {row["participant_id"]: {key: "" if cell == "n/a" else cell for key, cell in row.items()} for row in rows}


def _labels(options: Options, labelled: Path) -> LabelTable:
    if options.labels:
        return _tables.label_table(options.labels, Path("data.labels"))
    given = [path for path in (labelled / "dseg.tsv", options.root / "dseg.tsv") if path.is_file()]
    path = given[0] if given else labelled / "dseg.tsv"
    names: dict[str, int] = {}
    for row in tables.rows(path, columns=("index", "name")):
        if not row["index"].isdecimal() or row["name"] in names:
            raise Refusal(
                path,
                found=f"index '{row['index']}' of '{row['name']}'",
                needed="a whole number, and each name once",
                remedy="correct the table",
            )
        if row["index"] != "0":
            names[row["name"]] = int(row["index"])
    return _tables.label_table(names, path)


def example(folder: Path) -> Options:
    """Two subjects, the first with two sessions; two channels."""
    for seed, (subject, session) in enumerate((("sub-01", "ses-1"), ("sub-01", "ses-2"), ("sub-02", "ses-1"))):
        place = Path(subject) / session / "anat"
        for suffix in ("T1w", "FLAIR"):
            _examples.write_nifti(folder / place / f"{subject}_{session}_{suffix}.nii.gz", seed)
        label = folder / "derivatives/manual" / place / f"{subject}_{session}_desc-manual_dseg.nii.gz"
        _examples.write_nifti(label, seed, label=True)
    table = "index\tname\n0\tbackground\n1\tleft\n2\tright\n"
    (folder / "derivatives/manual/dseg.tsv").write_text(table, encoding="utf-8")
    people = "participant_id\tage\tsite\nsub-01\t40\tUlm\nsub-02\tn/a\tBern\n"
    (folder / "participants.tsv").write_text(people, encoding="utf-8")
    return Options(root=folder, channels=("T1w", "FLAIR"), derivatives="manual")
