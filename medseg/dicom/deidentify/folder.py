"""A folder of DICOM files, cleaned into another: first whose each file is and whether it can be cleaned, then the
cleaning itself, file by file, in several processes.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pydicom
import pydicom.config
from pydicom.dataset import FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID

from medseg import atomic
from medseg.boundary import parsing
from medseg.dicom.deidentify import kinds, patients, rules
from medseg.dicom.deidentify.clean import PIXELS, Terms, clean
from medseg.dicom.deidentify.patients import NOBODY, Link, Patient
from medseg.dicom.deidentify.rules import Private
from medseg.dicom.deidentify.secret import Secret
from medseg.dicom.signature import is_dicom
from medseg.refusal import Refusal

Result = TypeVar("Result")
Ticker = Callable[[], None]
NEEDED, REMEDY = "a DICOM file that can be read to its end", "export or copy it again"
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
UNDEFINED = 0xFFFFFFFF
"""Length of a value that ends with a mark."""
DIRECTORY = "1.2.840.10008.1.3.10"


@dataclass(frozen=True)
class Choices:
    """What the user chose.

    Attributes:
        kept: names out of `rules.OPTIONS`.
        private: private attributes to keep besides the safe ones.
        pseudonyms: by patient number, instead of those that the key makes.
        accept_burned_in: copy pictures that may show names.
    """

    kept: frozenset[str] = frozenset(rules.USUAL)
    private: frozenset[Private] = frozenset()
    pseudonyms: Mapping[str, str] | None = None
    accept_burned_in: bool = False


@dataclass(frozen=True)
class Job:
    """A file to clean, and where it goes."""

    path: Path
    target: Path
    terms: Terms
    warning: str


@dataclass
class Plan:
    """What is to be done, and what is not and why: reasons by file."""

    jobs: list[Job] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)
    failed: dict[Path, str] = field(default_factory=dict)

    @property
    def warnings(self) -> dict[Path, str]:
        return {job.path: job.warning for job in self.jobs if job.warning}


@dataclass(frozen=True)
class Look:
    """What the header of one file says; `obstacle` is why it is left out, `writing` why its pixels may show a name."""

    path: Path
    patient: Patient = NOBODY
    uids: tuple[str, ...] = ()
    obstacle: str = ""
    writing: str = ""


def plan(
    source: Path, out: Path, secret: Secret, choices: Choices, *, workers: int = 1, tick: Ticker = lambda: None
) -> Plan:
    """Look at every file in `source` (a folder, or one file).

    Raises:
        Refusal: one folder lies in the other, or nothing is there.
    """
    if out.resolve().is_relative_to(source.resolve()) or source.resolve().is_relative_to(out.resolve()):
        raise Refusal(
            out, found="one folder within the other", needed="two folders apart", remedy="choose another folder"
        )
    made, seen = Plan(), []
    for path, result in zip(paths := files(source), each(look, paths, workers), strict=True):
        tick()
        if isinstance(result, Refusal):
            made.failed[path] = str(result)
        elif result.obstacle or (result.writing and not choices.accept_burned_in):
            made.left_out[path] = result.obstacle or result.writing
        else:
            seen.append(result)
    _place(seen, out, secret, choices, made)
    return made


def files(source: Path) -> list[Path]:
    """Every file, hidden ones too: what is left behind is told.

    Raises:
        Refusal: there is none.
    """
    found = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    if not found:
        raise Refusal(source, found="no file", needed="DICOM files", remedy="check the path")
    return found


def look(path: Path) -> Look | Refusal:
    """The header of one file, as far as the plan needs it, or why it cannot be read."""
    try:
        if not is_dicom(path):
            return Look(path, obstacle="no DICOM file")
        with parsing(path, needed=NEEDED, remedy=REMEDY), pydicom.config.disable_value_validation():
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*kinds.TAGS, *patients.TAGS, *UIDS])
            stated = str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or "")
            dataset.SOPClassUID = stated
            patient, writing = patients.of(dataset), kinds.writing(dataset)
            uids = tuple(str(dataset.get(name) or "").strip(" \0") for name in UIDS)
        if stated == DIRECTORY:
            return Look(path, obstacle="a DICOMDIR, whose file names are no longer right")
        if obstacle := kinds.left_out(stated):
            return Look(path, obstacle=obstacle)
        if not all(uids):
            absent = next(name for name, uid in zip(UIDS, uids, strict=True) if not uid)
            raise Refusal(path, found=f"no {absent}", needed=", ".join(UIDS), remedy=REMEDY)
        return Look(path, patient, uids, writing=writing)
    except Refusal as refusal:
        return refusal


def _place(seen: Sequence[Look], out: Path, secret: Secret, choices: Choices, made: Plan) -> None:
    """Give every file its patient's terms and its place; what cannot have one goes to the failed."""
    shared = patients.mixed(one.patient for one in seen)
    taken: dict[Path, Path] = {}
    links: dict[tuple[str, str], Link] = {}
    for one in seen:
        try:
            terms = _terms(one, secret, choices, shared)
        except Refusal as refusal:
            made.failed[one.path] = str(refusal)
            continue
        study, series, instance = (secret.uid(uid) for uid in one.uids)
        target = out / terms.pseudonym / study / series / f"{instance}.dcm"
        if target in taken:
            made.left_out[one.path] = f"the same SOPInstanceUID as {taken[target]}"
            continue
        taken[target] = one.path
        made.jobs.append(Job(one.path, target, terms, one.writing))
        identity, days = one.patient.identity, str(terms.days) if "dates" in choices.kept else ""
        links[identity, one.uids[0]] = Link(identity, terms.pseudonym, days, one.uids[0], study)
    made.links = list(links.values())


def _terms(one: Look, secret: Secret, choices: Choices, shared: Mapping[str, str]) -> Terms:
    if one.patient.number in shared:
        raise Refusal(
            one.path,
            found=f"a PatientID that two people have, by their {shared[one.patient.number]}",
            needed="a number for each person",
            remedy="clean the files of one of them at a time, each with --pseudonyms of their own",
        )
    name = patients.pseudonym(one.path, one.patient, secret, choices.pseudonyms)
    return Terms(secret, choices.kept, choices.private, name, secret.days(one.patient.identity))


def run(
    jobs: Sequence[Job], *, write: bool = True, workers: int = 1, tick: Ticker = lambda: None
) -> tuple[Counter[tuple[str, str]], dict[Path, str]]:
    """Clean the files of a plan, or only count what would be done.

    Returns:
        how often (attribute, what was done to it) came up, and the files that failed, with the reason; these are not
        written at all.
    """
    tally: Counter[tuple[str, str]] = Counter()
    failed = {}
    for job, result in zip(jobs, each(partial(_clean_file, write=write), jobs, workers), strict=True):
        tick()
        if isinstance(result, Refusal):
            failed[job.path] = str(result)
        else:
            tally.update(result)
    return tally, failed


def _clean_file(job: Job, *, write: bool) -> Counter[tuple[str, str]] | Refusal:
    try:
        with parsing(job.path, needed=NEEDED, remedy=REMEDY), pydicom.config.disable_value_validation():
            dataset = pydicom.dcmread(job.path, stop_before_pixels=not write)
            _refuse_cut(dataset, job.path, pixels=write)
            tally = clean(dataset, job.terms)
            if write:
                _head(dataset)
                with atomic.replacing(job.target) as temporary:
                    dataset.save_as(temporary, enforce_file_format=True)
        return tally
    except Refusal as refusal:
        return refusal


def _refuse_cut(dataset: Any, path: Path, *, pixels: bool) -> None:
    """Refuse a file that ends too soon, of which pydicom gives what there is."""
    elements = [dataset.get_item(tag) for tag in dataset.keys()]  # noqa: SIM118 - a data set yields elements, decoded
    cut = [one.tag for one in elements if one.is_raw and one.length != UNDEFINED and one.length > len(one.value or b"")]
    image = dataset.get("SOPClassUID") in (*kinds.IMAGES, *kinds.SCREENS)
    found = f"an end within {cut[0]}" if cut else "no SOPClassUID" if "SOPClassUID" not in dataset else ""
    if found or (pixels and image and not PIXELS & dataset.keys()):
        raise Refusal(path, found=found or "an image without pixels", needed=NEEDED, remedy=REMEDY)


def _head(dataset: Any) -> None:
    """A new preamble and new file meta information: the old ones name applications, networks and more."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    dataset.file_meta, dataset.preamble = meta, bytes(128)


def each(work: Callable[[Any], Result], things: Sequence[Any], workers: int) -> Iterator[Result]:
    """`work` for each thing, in order; in several processes, because parsing holds Python's lock."""
    if workers < 2 or len(things) < 2:
        yield from map(work, things)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(work, things, chunksize=max(1, min(32, len(things) // (4 * workers))))
        except BrokenProcessPool as error:
            raise Refusal(
                "processes",
                found="one that was ended from outside, perhaps for want of memory",
                needed="all of them",
                remedy="run the same command again with --workers 1; what is there is complete",
            ) from error
