"""DICOM files behind what Slicer shows, from its database (a ctkDICOMDatabase)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MedSegLib.trouble import Trouble

PATIENT, MODALITY, DATE, NUMBER = "0010,0020", "0008,0060", "0008,0020", "0020,0011"
STUDY, SERIES = "0008,1030", "0008,103E"
IMAGES = ("CT", "MR", "PT", "US", "XA", "NM", "CR", "DX", "MG", "OP")
"""Modalities that are worth listing: no reports, plans or segmentations."""


@dataclass(frozen=True)
class Patient:
    """An entry of the database: its own key, and the name for the user's eyes."""

    key: str
    name: str


@dataclass(frozen=True)
class Series:
    """A series of images.

    Attributes:
        uid, study: series and study UID.
        title: for the user's eyes: number, description and modality.
        name: for a folder: patient's ID, date and number of the series, as far as they are letters and digits.
        modality: CT, MR, ...
        images: files.
    """

    uid: str
    study: str
    title: str
    name: str
    modality: str
    images: int


def patients(database: Any) -> Iterator[Patient]:
    """All of the database, in its order. No file is opened: the database knows their names."""
    for key in database.patients():
        yield Patient(key, str(database.nameForPatient(key) or key))


def identity(database: Any, volume: Any) -> str:
    """The Patient ID in the first file that the volume node was loaded from; empty: it is not from the database, or its
    file is gone."""
    uids = str(volume.GetAttribute("DICOM.instanceUIDs") or "").split()
    file = str(database.fileForInstance(uids[0]) or "") if database is not None and uids else ""
    return str(database.fileValue(file, PATIENT) or "").strip() if file else ""


def series(database: Any, patient: Patient) -> tuple[Series, ...]:
    """Series of images of one patient, study after study. One file of each is looked into."""
    found = []
    for study in database.studiesForPatient(patient.key):
        for uid in database.seriesForStudy(study):
            files = database.filesForSeries(uid)
            if files and str(database.fileValue(files[0], MODALITY)) in IMAGES:
                found.append(_described(database, uid, study, files))
    return tuple(found)


def _described(database: Any, uid: str, study: str, files: Sequence[str]) -> Series:
    def value(tag: str) -> str:
        return str(database.fileValue(files[0], tag) or "").strip()

    words = (value(STUDY), value(NUMBER), value(SERIES), value(MODALITY))
    name = "_".join(filter(None, (_plain(value(tag)) for tag in (PATIENT, DATE, NUMBER)))) or "series"
    return Series(uid, study, " ".join(filter(None, words)), name, value(MODALITY), len(files))


def _plain(text: str) -> str:
    """For file names on every system."""
    return re.sub(r"[^\w-]+", "-", text).strip("-")[:60]


def files_of_series(database: Any, chosen: Sequence[Series]) -> tuple[Path, ...]:
    """All files of the series.

    Raises:
        Trouble: some are no longer where the database has seen them.
    """
    return _there([Path(file) for one in chosen for file in database.filesForSeries(one.uid)], chosen[0].title)


def files_of_volume(database: Any, volume: Any) -> tuple[Path, ...]:
    """The files that the volume node was loaded from. `database` may be None: Slicer has none open.

    Raises:
        Trouble: it was not loaded from the database, or files are gone.
    """
    uids = str(volume.GetAttribute("DICOM.instanceUIDs") or "").split()
    found = [database.fileForInstance(uid) for uid in uids] if database is not None else []
    if not found or not all(found):
        raise Trouble(
            f"{volume.GetName()} was not loaded from Slicer's DICOM database, or is no longer in it.",
            "Import its DICOM files in the module DICOM and load it from there: a DICOM segmentation must name the "
            "images that it belongs to.",
            "dicom",
        )
    return _there([Path(file) for file in found], volume.GetName())


def _there(files: Sequence[Path], title: str) -> tuple[Path, ...]:
    gone = sum(not file.is_file() for file in files)
    if gone or not files:
        raise Trouble(
            f"{title}: {gone or 'all'} of {len(files)} DICOM files are not where Slicer's database has seen them.",
            "Connect the disk that they are on, or import them again in the module DICOM.",
            "dicom",
        )
    return tuple(files)


def refuse_taken(out: Path, files: Sequence[Path]) -> None:
    """Let a new file be only where there is none, and not among the files of the scan.

    Raises:
        Trouble: it is taken, or lies there.
    """
    if out.exists():
        raise Trouble(f"{out} is there already.", "Choose another name, or remove it first.", "taken")
    if out.parent.resolve() in {file.parent.resolve() for file in files}:
        raise Trouble(
            f"{out.parent} is the folder of the DICOM files that the volume was loaded from.",
            "Choose another folder: programs take all files of a folder for the series.",
            "taken",
        )


def put(made: Path, out: Path) -> None:
    """Move a file to where the user wants it, under its name only once it is whole.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f".{uuid.uuid4().hex[:8]}-{out.name}")
    try:
        shutil.move(str(made), str(beside))
        beside.replace(out)
    finally:
        if beside.exists():
            beside.unlink()


def gather(files: Sequence[Path], folder: Path, stopped: Callable[[], bool]) -> None:
    """Put the files into a new folder: as further names of the same data where the disk allows that, else as copies.

    Raises:
        Trouble: one cannot be read, or the disk is full.
    """
    folder.mkdir()
    for number, file in enumerate(files):
        if stopped():
            return
        place = folder / f"{number:06}.dcm"
        if not _named(file, place):
            _copied(file, place)


def _named(file: Path, place: Path) -> bool:
    """Whether the data got a further name: not on another disk, and not where they may not be changed, as of a CD: on
    Windows such a name could not be removed."""
    with contextlib.suppress(OSError):
        if file.stat().st_mode & stat.S_IWRITE:
            os.link(file, place)
            return True
    return False


def _copied(file: Path, place: Path) -> None:
    try:
        shutil.copyfile(file, place)
    except OSError as error:
        raise Trouble(
            f"A DICOM file could not be copied: {error.strerror or error}.",
            f"Look whether {place.parent.parent} has room and the DICOM files can be read.",
            "files",
            str(file),
        ) from error
