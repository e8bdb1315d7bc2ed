"""A request for a job becomes one: files are told apart, kept beside where the result will be, and put on record.

<data>/results/<what is asked>/input/0.nrrd, 1.nrrd, ...    volumes, one for each channel of the model
<data>/results/<what is asked>/input/dicom/000000.dcm, ...  a DICOM series or study

The same asked twice is the same job, and its input is kept once, as long as its result. DICOM without a model goes the
way of all studies instead: into the intake, and from there by the site's routes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.service.intake import head
from medseg.service.intake.room import GIB, Room
from medseg.service.journal import Journal
from medseg.service.journal.job import Asked, Identity, Job
from medseg.service.settings.routes import Route
from medseg.service.settings.site import Site
from medseg.service.web import offered, shown, unzip, volumes
from medseg.service.web.asks import unfit
from medseg.service.web.parts import Part, no_room
from medseg.service.web.problem import Problem
from medseg.service.web.shapes import Ask, Model

RESULTS, INPUT = "results", "input"
"""A folder in the data folder; and in a job's folder there, what it reads."""
FOR_VOLUMES, FOR_DICOM = ("nifti",), tuple(Route.model_fields["outputs"].default)
SHOWN = 16
"""Characters of a hash that name a case."""
ALL = "all"
"""The channel of a job whose model finds its channels itself, or has one."""


@dataclass(frozen=True)
class Desk:
    """Where requests are handed in. Safe to use from several threads.

    Attributes:
        incoming: a folder of this process alone, on the disk of the data folder; a later one clears it away.
        room: what there is for uploads.
    """

    site: Site
    journal: Journal
    incoming: Path
    room: Room

    @property
    def most_bytes(self) -> int:
        """Of one upload, unpacked too."""
        return int(self.site.serve.largest_mib * 2**20)

    @property
    def free_bytes(self) -> int:
        """That must be left on the disk."""
        return int(self.site.keep.free_gib * GIB)

    @contextmanager
    def coming_in(self, declared: int) -> Iterator[Path]:
        """A folder for what is coming in; what is not moved out of it goes with it.

        Raises:
            Problem: 507, no room for what is declared.
        """
        folder = self.incoming / uuid.uuid4().hex
        folder.mkdir()
        try:
            if self.room.full() or shutil.disk_usage(folder).free - declared < self.free_bytes:
                raise no_room()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def of_files(self, ask: Ask, model: Model, given: Mapping[str, Part], folder: Path, who: str) -> tuple[Job, bool]:
        """Put a job for uploaded files on record.

        Args:
            given: file -> where it lies, below `folder`, see `coming_in`.

        Returns:
            The job, and whether it is new.

        Raises:
            Refusal: files that will not do, or not those that the model needs.
        """
        suffixes = {name: volumes.suffix(part.path) for name, part in given.items()}
        dicom = bool({".dcm", ".zip"} & set(suffixes.values()))
        by_channel = _by_channel(given, model.channels, dicom=dicom)
        sums = [(channel, part.sha256, suffixes[part.name]) for channel, part in by_channel.items()]
        whole = folder / INPUT
        whole.mkdir()
        names = {
            channel: self._placed(part.path, suffixes[part.name], whole, place)
            for place, (channel, part) in enumerate(by_channel.items())
        }
        _sync(whole)
        first = Asked(
            source={},
            digest=_sha256(sums),
            case=ask.case or f"upload-{_sha256(sums)[:SHOWN]}",
            model=str(offered.folder(self.site, ask.model)),
            parameters=_parameters(ask, dicom=dicom),
            identity=_identity(whole) if dicom else Identity(),
        )
        again = 0
        while True:
            asked = replace(first, digest=_sha256([*sums, again])) if again else first
            out = self._out(asked)
            source = {channel: str(out / INPUT / name) for channel, name in names.items()}
            moved = _keep(whole, out / INPUT)
            job, new = self.journal.jobs.submit(replace(asked, out=str(out), source=source), who=who)
            if new or not _cleared(job, self.site):
                return job, new
            if moved:  # the job had its turn, and does not come back for it
                (out / INPUT).rename(whole)
            again += 1

    def of_study(self, ask: Ask, who: str) -> tuple[Job, bool]:
        """Put a job for a study on record that came in before, as it was when it last was complete.

        Raises:
            Problem: 404, it is not here, or not complete yet.
        """
        study = ask.study or ""
        found = [job for job in self.journal.jobs.find(text=study) if job.identity.study_uid == study and job.arrival]
        here = [job for job in found if Path(job.source.get(ALL, "")).is_dir()]
        if not here:
            raise Problem(
                404,
                "study",
                found="none of this UID that is here and complete",
                needed="a study that came in",
                remedy="send it first, by C-STORE or to /dicom-web/studies, and wait until it is in the worklist",
            )
        latest = max(here, key=lambda job: (job.arrival or 0, -job.id))
        asked = Asked(
            source=latest.source,
            digest=latest.digest,
            case=ask.case or latest.case,
            model=str(offered.folder(self.site, ask.model)),
            parameters=_parameters(ask, dicom=True),
            identity=latest.identity,
            arrival=latest.arrival,
        )
        return self.journal.jobs.submit(replace(asked, out=str(self._out(asked))), who=who)

    @property
    def _data(self) -> Path:
        return self.site.at(self.site.data).absolute()

    def _out(self, asked: Asked) -> Path:
        """Folder of its results, named by what is asked, because a job has no number yet."""
        return self._data / RESULTS / asked.key[:32]

    def _placed(self, path: Path, kind: str, whole: Path, place: int) -> str:
        """Move a file to where it stays, or unpack it; its name there."""
        if kind not in (".zip", ".dcm"):
            path.rename(whole / f"{place}{kind}")
            return f"{place}{kind}"
        folder = whole / "dicom"
        folder.mkdir()
        if kind == ".dcm":
            path.rename(folder / "000000.dcm")
        else:
            unzip.dicom_files(path, folder, most_bytes=self.most_bytes, free_bytes=self.free_bytes)
        return folder.name


def _by_channel(given: Mapping[str, Part], channels: Sequence[str], *, dicom: bool) -> dict[str, Part]:
    """Channel of a job's source -> file, in the order of the model's channels.

    Raises:
        Problem: 400, not the files that the model needs.
    """
    only = next(iter(given.values())) if len(given) == 1 else None
    if dicom and only is None:
        raise unfit("upload", "a DICOM study beside other files", "one zip with all of its series")
    if only is not None and (dicom or len(channels) == 1):
        return {ALL: only}
    if set(given) != set(channels):
        raise unfit("upload", f"files named {', '.join(sorted(given))}", f"one each for: {', '.join(channels)}")
    return {channel: given[channel] for channel in channels}


def _parameters(ask: Ask, *, dicom: bool) -> dict[str, Any]:
    """As `Asked.parameters` holds them."""
    return {
        "outputs": list(ask.outputs or (FOR_DICOM if dicom else FOR_VOLUMES)),
        "changes": list(ask.changes),
        "quality": ask.quality,
        "labels": list(ask.labels),
        "series": ask.series,
    }


def _cleared(job: Job, site: Site) -> bool:
    """Whether it ended well, and its result is not here any more."""
    folder = shown.folder(job, site)
    return job.state == "done" and not all((folder / name).is_file() for name in job.files)


def _keep(whole: Path, kept: Path) -> bool:
    """Give an upload its final name, unless it is there already; says whether it did."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    if kept.exists():
        return False
    try:
        whole.rename(kept)
    except OSError:
        if kept.exists():  # somebody else has sent the same at the same moment
            return False
        raise
    _sync(kept.parent)
    return True


def _sync(folder: Path) -> None:
    """Make what is in a folder outlive a power cut."""
    for path in (*folder.rglob("*"), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _identity(whole: Path) -> Identity:
    """What a person knows an uploaded study by: from the header of its first file."""
    return head.read(min((whole / "dicom").iterdir()), "the study").identity


def _sha256(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()
