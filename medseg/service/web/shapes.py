"""What the API says of jobs, models and the whole; and what it can be asked. `docs/service-api.md` explains it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from medseg.service.journal.deliveries import DeliveryState
from medseg.service.journal.states import State
from medseg.service.web.tokens import Role
from medseg.settings import Settings

CASE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
LONGEST = 200
"""Letters of anything that is asked."""
Word = Annotated[str, Field(max_length=LONGEST, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Without control characters, which not every database keeps."""


class Ask(Settings):
    """What a job is to do, as the part `ask` of an upload, or alone where the study is here already."""

    model: Word = ""
    """As `GET models` names it; empty: the site's routes say, which takes DICOM alone."""
    outputs: Annotated[tuple[Word, ...], Field(max_length=20)] = ()
    """FORMAT or FORMAT:option=value,...; none: nifti, or of DICOM what routes have by default."""
    quality: Literal["fast", "standard", "best"] = "standard"
    labels: Annotated[tuple[Word, ...], Field(max_length=500)] = ()
    """Only these; none: all."""
    changes: Annotated[tuple[Word, ...], Field(max_length=20)] = ()
    """key=value of inference settings, see `asks.CHANGES`."""
    series: Word | dict[Word, Word] = ""
    """Of a DICOM study: series UID, or channel -> UID; empty: by the model's own rules."""
    case: Annotated[str, Field(pattern=CASE)] | None = None
    """Names the files of the result; none: made from the content."""
    study: Annotated[str, Field(pattern=r"^[0-9.]{1,64}$")] | None = None
    """StudyInstanceUID of a study that is here already, in place of files."""


class Study(Settings):
    """What people know a study by."""

    study_uid: str
    series_uid: str
    patient_id: str
    accession: str
    study_date: str
    description: str
    modality: str


class File(Settings):
    """A file of a result."""

    name: str
    sha256: str
    bytes: int | None
    """None: it is not there any more."""


class Sent(Settings):
    """A result on its way to a receiver."""

    receiver: str
    state: DeliveryState
    tries: int
    problem: str
    changed_at: float


class Row(Settings):
    """A job in a list. Moments are seconds since 1970 (UTC)."""

    id: int
    state: State
    ended: bool
    """Whether nothing goes on by itself: done, failed, quarantined, unmatched, cancelled or superseded."""
    good: bool
    """Whether it ended well: done."""
    percent: int
    """Of the network's tiles while it runs; 100 once the result is written."""
    stage: str
    case: str
    model: str
    route: str
    study: Study
    verdict: str
    """Of the quality control: pass, look, fail, or empty."""
    code: str
    """Of the last failure, for programs."""
    reason: str
    """The same in words."""
    attempts: int
    received_at: float
    changed_at: float


class Change(Settings):
    """One change of a job."""

    id: int
    job: int
    at: float
    state: State
    who: str
    what: str


class Whole(Row):
    """All that is known of a job."""

    meaning: str
    """What the code means."""
    remedy: str
    """What to do about it."""
    may: tuple[str, ...]
    """What this token may do with it: cancel, retry, release."""
    parameters: dict[str, Any]
    facts: dict[str, Any]
    """What the record of the prediction says: volumes, verdict with reasons, and how the scan was read."""
    files: tuple[File, ...]
    deliveries: tuple[Sent, ...]
    events: tuple[Change, ...]
    supersedes: int | None
    superseded_by: int | None


class Page(Settings):
    """Some jobs, the newest first."""

    jobs: tuple[Row, ...]
    next: int | None
    """`before` of the next page; None: there is none."""


class Summary(Settings):
    """How many jobs are in each state. `total` is their sum, and each job is in one state."""

    jobs: dict[State, int]
    total: int
    done: int
    under_way: int
    waiting_for_people: int
    """held, failed, quarantined, unmatched."""
    stopped: int
    """cancelled, superseded."""
    coming_in: int
    """Studies that are not complete yet, and so no jobs."""
    objects: int
    """DICOM objects that were received, as often as they came."""
    duplicates: int
    """How many of these were here already."""
    deliveries: dict[str, dict[str, int]]
    """Of each receiver: state -> how many."""
    name: str
    """Of the installation."""
    version: str


class Submitted(Settings):
    """What became of a request for a job."""

    job: Row | None
    """None: the study waits until it is complete, and then for a route."""
    new: bool
    """Whether it was not known before; the same asked twice is one job."""
    studies: tuple[str, ...]
    """StudyInstanceUIDs of what was taken in."""


class Label(Settings):
    """A structure that a model finds."""

    number: int
    name: str
    colour: tuple[int, int, int]
    """Red, green, blue, 0 to 255."""
    code: str
    """SCHEME:value of a standard code, such as SCT:10200004; empty: none is known."""
    meaning: str


class Model(Settings):
    """A model that jobs can ask for."""

    name: str
    """To ask for it by."""
    version: str
    in_use: bool
    """Whether the name without a version means this one."""
    channels: tuple[str, ...]
    """Files that a job needs, by these names."""
    modalities: tuple[str, ...]
    """Of the channels: CT, MR, PT, or empty where it is not known. A scan whose header says another is refused."""
    labels: tuple[Label, ...]
    kind: Literal["voxel", "slice", "image"]
    """Structures in voxels, or classes of slices or of the whole image."""
    spacing_mm: tuple[float, float, float] | None
    """Voxel size that scans are resampled to; None: each keeps its own."""
    licence: str
    intended_use: str
    weights_bytes: int
    sha256: str
    routes: tuple[str, ...]
    """Of this site, that take it."""


class Entry(Settings):
    """A line of the audit log."""

    id: int
    at: float
    who: str
    what: str
    about: str
    outcome: str


class Me(Settings):
    """Whose token it is."""

    name: str
    role: Role
