"""A job as it is asked for and as it stands, and what happens to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medseg.service.journal.states import State


class Lost(Exception):
    """The job was taken from this process, or has ended meanwhile: what it has done is not wanted."""


@dataclass(frozen=True)
class Identity:
    """What a person knows a study by. It is in the journal and on the page, and in no log."""

    study_uid: str = ""
    series_uid: str = ""
    patient_id: str = ""
    accession: str = ""
    study_date: str = ""
    description: str = ""
    modality: str = ""


@dataclass(frozen=True)
class Asked:
    """What a job is to do. Two with the same input, model, parameters and route are one job.

    Attributes:
        source: channel (or "all") -> file or folder of the input.
        digest: sha256 of the input: of its bytes, or of what tells it from every other (path, size, time).
        case: names the results.
        model: run folder, zipped run or folder of folds; empty: a route will tell.
        parameters: what `work.parameters.Parameters` knows: outputs, quality, changes, labels, series, ...
        route: which has asked for it, empty: a person.
        receivers: whom the results are sent to.
        hold: verdicts of the quality control (fail, look) with which results wait for a person.
        out: folder of the results.
        arrival: the study as it came in.
        supersedes: job of a former revision of the study.
    """

    source: Mapping[str, str]
    digest: str
    case: str
    model: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    route: str = ""
    receivers: Sequence[str] = ()
    hold: Sequence[str] = ()
    out: str = ""
    identity: Identity = Identity()
    arrival: int | None = None
    supersedes: int | None = None

    @property
    def key(self) -> str:
        return _sha256([self.digest, self.case, self.model, dict(self.parameters), self.route, self.arrival])

    @property
    def kind(self) -> str:
        """Jobs of one kind can share a loaded model: all is equal but which series of a study is meant."""
        return _sha256([self.model, {name: value for name, value in self.parameters.items() if name != "series"}])


@dataclass(frozen=True)
class Job:
    """A job as it stands: what was `Asked`, and since then

    Attributes:
        attempts: how often it was begun.
        owner: process that has it, None: nobody.
        beat: grows while the owner lives.
        not_before: moment of the next try.
        stop_asked: "", or the state (cancelled, superseded) that its owner is asked to end it in.
        stage, share: where the owner is, see `progress.Step`; share is from 0 to 1.
        reason_code, reason: of the last failure.
        verdict: of the quality control: pass, look, fail, or empty.
        facts: what the record of a prediction says of a case.
        files: file of the result -> its sha256.
        kept: whether the results are still on the disk: yes, going (they are being removed) or no.
    """

    id: int
    key: str
    state: State
    case: str
    source: dict[str, str]
    digest: str
    kind: str
    model: str
    parameters: dict[str, Any]
    route: str
    hold: list[str]
    out: str
    identity: Identity
    arrival: int | None
    supersedes: int | None
    superseded_by: int | None
    attempts: int
    owner: str | None
    beat: int
    not_before: float
    stop_asked: str
    stage: str
    share: float
    reason_code: str
    reason: str
    verdict: str
    facts: dict[str, Any]
    files: dict[str, str]
    received_at: float
    changed_at: float
    kept: str = "yes"


@dataclass(frozen=True)
class Event:
    """One change of a job, see `tables.events`."""

    job: int
    at: float
    state: State
    who: str
    what: str


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
