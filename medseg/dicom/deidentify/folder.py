"""A folder of DICOM files, cleaned into another: first whose each file is and whether it can be cleaned, then the
cleaning itself, file by file, in several processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pydicom.config
from pydicom.dataset import FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID

from medseg import atomic
from medseg.boundary import parsing
from medseg.cores import in_order
from medseg.dicom import parse
from medseg.dicom.deidentify import kinds, patients, rules
from medseg.dicom.deidentify.clean import PIXELS, Terms, clean
from medseg.dicom.deidentify.look import NEEDED, REMEDY, Look, files, look
from medseg.dicom.deidentify.mapping import Link
from medseg.dicom.deidentify.patients import Patient
from medseg.dicom.deidentify.rules import Private
from medseg.dicom.deidentify.secret import Secret
from medseg.refusal import Refusal

Result = TypeVar("Result")
Ticker = Callable[[], None]


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


def plan(
    source: Path,
    out: Path,
    secret: Secret,
    choices: Choices,
    earlier: Sequence[Link] = (),
    *,
    workers: int = 1,
    tick: Ticker = lambda: None,
) -> Plan:
    """Look at every file in `source` (a folder, or one file); `earlier` are the studies of earlier runs.

    Raises:
        Refusal: one folder lies in the other, nothing is there, or there are files in `out` that no earlier run made.
    """
    _refuse_place(source, out, earlier)
    made, seen = Plan(), []
    for path, result in zip(paths := files(source), _each(look, paths, workers), strict=True):
        tick()
        if isinstance(result, Refusal):
            made.failed[path] = str(result)
        elif result.obstacle or (result.writing and not choices.accept_burned_in):
            made.left_out[path] = result.obstacle or result.writing
        else:
            seen.append(result)
    _place(seen, out, secret, choices, earlier, made)
    return made


def _refuse_place(source: Path, out: Path, earlier: Sequence[Link]) -> None:
    if out.resolve().is_relative_to(source.resolve()) or source.resolve().is_relative_to(out.resolve()):
        raise Refusal(
            out, found="one folder within the other", needed="two folders apart", remedy="choose another folder"
        )
    if out.exists() and not out.is_dir():
        raise Refusal(out, found="a file", needed="a folder, or the name of a new one", remedy="choose another name")
    known = {(link.pseudonym, link.new_study) for link in earlier}
    for path in out.rglob("*"):
        if (path.is_symlink() or not path.is_dir()) and path.relative_to(out).parts[:2] not in known:
            raise Refusal(
                path,
                found="a file among the cleaned ones that no run with this mapping has made",
                needed="an empty folder, or one that earlier runs have filled",
                remedy="choose another folder, or take the file away",
            )


def _place(
    seen: Sequence[Look], out: Path, secret: Secret, choices: Choices, earlier: Sequence[Link], made: Plan
) -> None:
    """Give every file its patient's terms and its place; what cannot have one goes to the failed."""
    before = [(Patient(link.patient, "", link.birth_date, "", link.study), (link.study,)) for link in earlier]
    shared = patients.mixed([*(one.patient for one in seen), *(patient for patient, _ in before)])
    torn = patients.torn([*((one.patient, one.uids[:2]) for one in seen), *before])
    born = {one.patient.identity: one.patient.birth_date for one in seen if one.patient.birth_date}
    taken: dict[Path, Path] = {}
    links: dict[tuple[str, str], Link] = {}
    for one in seen:
        try:
            _refuse_doubtful(one, shared, torn)
            name = patients.pseudonym(one.path, one.patient, secret, choices.pseudonyms)
        except Refusal as refusal:
            made.failed[one.path] = str(refusal)
            continue
        identity = one.patient.identity
        terms = Terms(secret, choices.kept, choices.private, name, secret.days(identity))
        study, series, instance = (secret.uid(uid) for uid in one.uids)
        target = out / terms.pseudonym / study / series / f"{instance}.dcm"
        if target in taken:
            made.left_out[one.path] = f"the same SOPInstanceUID as {taken[target]}"
            continue
        taken[target] = one.path
        made.jobs.append(Job(one.path, target, terms, one.writing))
        days = str(terms.days) if "dates" in choices.kept else ""
        links[identity, one.uids[0]] = Link(identity, born.get(identity, ""), name, days, one.uids[0], study)
    made.links = list(links.values())


def _refuse_doubtful(one: Look, shared: Mapping[str, str], torn: set[str]) -> None:
    """Refuse a file of which it is not sure whose it is."""
    if one.patient.number in shared:
        raise Refusal(
            one.path,
            found=f"a PatientID that two people have, by their {shared[one.patient.number]}",
            needed="a number for each person",
            remedy="clean the files of one of them apart, with another --key and into another folder",
        )
    if torn & set(one.uids[:2]):
        raise Refusal(
            one.path,
            found="a study or series with files of two patients, or of one and of nobody",
            needed="the same PatientID in all files of a study",
            remedy="correct it, or clean the files of one of them apart, with another --key and into another folder",
        )


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
    for folder in {job.target.parent for job in jobs} if write else ():
        atomic.remove_partial(folder)
    for job, result in zip(jobs, _each(partial(_clean_file, write=write), jobs, workers), strict=True):
        tick()
        if isinstance(result, Refusal):
            failed[job.path] = str(result)
        else:
            tally.update(result)
    return tally, failed


def _clean_file(job: Job, *, write: bool) -> Counter[tuple[str, str]] | Refusal:
    try:
        with parsing(job.path, needed=NEEDED, remedy=REMEDY), pydicom.config.disable_value_validation():
            dataset = parse.whole(job.path) if write else parse.all_but_pixels(job.path)
            _refuse_part(dataset, job.path, pixels=write)
            tally = clean(dataset, job.terms)
            if write:
                _head(dataset)
        if write:
            _save(dataset, job)
        return tally
    except Refusal as refusal:
        return refusal


def _save(dataset: Any, job: Job) -> None:
    try:
        with (
            parsing(job.path, needed=NEEDED, remedy=REMEDY),
            pydicom.config.disable_value_validation(),
            atomic.replacing(job.target) as temporary,
        ):
            dataset.save_as(temporary, enforce_file_format=True)
    except Refusal as refusal:
        if isinstance(refusal.__cause__, OSError):  # not this file's fault, and the next one will fare no better
            raise refusal.__cause__ from None
        raise


def _refuse_part(dataset: Any, path: Path, *, pixels: bool) -> None:
    """Refuse a file that lacks what makes it one; see also `parse.whole`."""
    image = dataset.get("SOPClassUID") in (*kinds.IMAGES, *kinds.SCREENS)
    found = "no SOPClassUID" if "SOPClassUID" not in dataset else ""
    if found or (pixels and image and not PIXELS & dataset.keys()):
        raise Refusal(path, found=found or "an image without pixels", needed=NEEDED, remedy=REMEDY)


def _head(dataset: Any) -> None:
    """A new preamble and new file meta information: the old ones name applications, networks and more."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    dataset.file_meta, dataset.preamble = meta, bytes(128)


def _each(work: Callable[[Any], Result], things: Sequence[Any], workers: int) -> Iterator[Result]:
    """`work` for each thing, in order; portions small enough for progress to show."""
    portion = max(1, min(32, len(things) // (4 * max(workers, 1))))
    return in_order(work, things, workers=min(workers, len(things)), portion=portion)
