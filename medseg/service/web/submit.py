"""A request for a job becomes one: files are told apart, kept by their content, and put on record.

<data>/uploads/<digest>/0.nrrd, 1.nrrd, ...     volumes, one for each channel of the model
<data>/uploads/<digest>/dicom/000000.dcm, ...   a DICOM series or study

What is sent twice is kept once, and the same asked of it is the same job. DICOM without a model goes the way of all
studies instead: into the intake, and from there by the site's routes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg import plugins
from medseg.service.intake import head
from medseg.service.journal import Journal
from medseg.service.journal.jobs import Asked, Identity, Job
from medseg.service.settings.routes import Route
from medseg.service.settings.site import Site
from medseg.service.web import offered, unzip, volumes
from medseg.service.web.parts import Part, no_room
from medseg.service.web.problem import Problem
from medseg.service.web.shapes import Ask, Model

UPLOADS, RESULTS = "uploads", "results"
"""Folders in the data folder."""
ASK = "ask"
"""The part that says what is asked."""
CHANGES = (
    "overlap",
    "blend",
    "mirror",
    "batch",
    "precision",
    "skip_air",
    "fit_body",
    "dicom.repair",
    "dicom.tolerance_mm",
    "dicom.gap_mm",
    "dicom.suv",
)
"""Inference settings that may be asked for; those that name files (coarse) or what is run (backend) may not."""
OUTPUT = re.compile(r"([a-z_]+)(:[a-z_]+=[\w .,=-]*)?")
FOR_VOLUMES, FOR_DICOM = ("nifti",), tuple(Route.model_fields["outputs"].default)
SHOWN = 16
"""Characters of a hash that name a case."""
OWN = "medseg"
"""What the page and the API are to the record of a job, before the name of the token."""


@dataclass(frozen=True)
class Space:
    """Where uploads are received.

    Attributes:
        folder: `<data>/uploads`.
        most_bytes: of one upload, unpacked.
        free_bytes: that must be left on the disk.
    """

    folder: Path
    most_bytes: int
    free_bytes: int

    @classmethod
    def of(cls, site: Site) -> Space:
        folder = site.at(site.data) / UPLOADS
        return cls(folder, int(site.serve.largest_mib * 2**20), int(site.keep.free_gib * 2**30))

    @contextmanager
    def coming_in(self, declared: int) -> Iterator[Path]:
        """A folder for what is coming in; what is not moved out of it goes with it.

        Raises:
            Problem: 507, no room for what is declared.
        """
        folder = self.folder / f".partial-{uuid.uuid4().hex}"
        folder.mkdir(parents=True)
        try:
            if shutil.disk_usage(folder).free - declared < self.free_bytes:
                raise no_room()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a killed service has left half-received; nobody else may be receiving."""
        for leftover in self.folder.glob(".partial-*"):
            shutil.rmtree(leftover, ignore_errors=True)


def checked(ask: Ask, site: Site) -> Model | None:
    """What is asked for, if it can be; None: by the site's routes.

    Raises:
        Problem: 400, an output, a change or a label that cannot be asked for; 404, no such model.
    """
    for text in ask.outputs:
        fits = OUTPUT.fullmatch(text)
        if not fits or fits[1] not in plugins.names("outputs"):
            raise _unfit("outputs", text, f"one of: {', '.join(plugins.names('outputs'))}")
    for text in ask.changes:
        if text.partition("=")[0] not in CHANGES:
            raise _unfit("changes", text, f"key=value of one of: {', '.join(CHANGES)}")
    if not ask.model:
        if ask.outputs or ask.changes or ask.labels or ask.series or ask.quality != "standard":
            raise _unfit("ask", "parameters without a model", "a model; without one, the site's routes say how")
        return None
    model = offered.described(site, ask.model)
    known = [label.name for label in model.labels]
    for name in ask.labels:
        if name not in known:
            raise _unfit("labels", name, f"of: {', '.join(known)}")
    return model


def files(parts: Sequence[Part]) -> dict[str, Part]:
    """Name -> file, of a form.

    Raises:
        Problem: 400, two of one name, or none.
    """
    found: dict[str, Part] = {}
    for part in parts:
        if part.name != ASK and found.setdefault(part.name, part) is not part:
            raise _unfit("upload", "two files of one name", "a name for each; several DICOM files come in a zip")
    if not found:
        raise _unfit("upload", "no file", "the scan, or ask.study")
    return found


def of_files(
    ask: Ask, model: Model, given: Mapping[str, Part], folder: Path, site: Site, journal: Journal, who: str
) -> tuple[Job, bool]:
    """Put a job for uploaded files on record.

    Args:
        folder: in which they lie; see `Space.coming_in`.

    Returns:
        The job, and whether it is new.

    Raises:
        Refusal: files that will not do, or not those that the model needs.
    """
    suffixes = {name: volumes.suffix(part.path) for name, part in given.items()}
    dicom = bool({".dcm", ".zip"} & set(suffixes.values()))
    if dicom and len(given) > 1:
        raise _unfit("upload", "a DICOM study beside other files", "one zip with all of its series")
    if not dicom and set(given) != set(model.channels) and not (len(given) == len(model.channels) == 1):
        raise _unfit("upload", f"files named {', '.join(sorted(given))}", f"one each for: {', '.join(model.channels)}")
    channels = dict(zip(model.channels, given, strict=True)) if len(given) == 1 and not dicom else dict.fromkeys(given)
    order = ["all"] if dicom else list(model.channels)
    names = {"all": next(iter(given))} if dicom else {one: channels.get(one) or one for one in order}
    sums = [(one, given[names[one]].sha256, suffixes[names[one]]) for one in order]
    digest = hashlib.sha256(repr(sums).encode()).hexdigest()
    whole = folder / "whole"
    whole.mkdir()
    source = {}
    for place, channel in enumerate(order):
        path, kind = given[names[channel]].path, suffixes[names[channel]]
        source[channel] = _placed(path, kind, whole, place, Space.of(site))
    kept = Space.of(site).folder / digest
    _keep(whole, kept)
    wanted = Asked(
        source={channel if len(order) > 1 else "all": str(kept / name) for channel, name in source.items()},
        digest=digest,
        case=ask.case or f"upload-{digest[:SHOWN]}",
        model=str(offered.folder(site, ask.model)),
        parameters=_parameters(ask, dicom=dicom),
        identity=_identity(kept) if dicom else Identity(),
    )
    return journal.jobs.submit(_with_out(wanted, site), who=who)


def of_study(ask: Ask, site: Site, journal: Journal, who: str) -> tuple[Job, bool]:
    """Put a job for a study on record that came in before, as it was when it last was complete.

    Raises:
        Problem: 404, it is not here, or not complete yet.
    """
    study = ask.study or ""
    here = [job for job in journal.jobs.find(text=study) if job.identity.study_uid == study and job.arrival]
    if not here:
        raise Problem(
            404,
            "study",
            found="none of this UID that is complete",
            needed="a study that came in",
            remedy="send it first, by C-STORE or to /dicom-web/studies, and wait until it is in the worklist",
        )
    latest = max(here, key=lambda job: (job.arrival or 0, -job.id))
    wanted = Asked(
        source=latest.source,
        digest=latest.digest,
        case=ask.case or latest.case,
        model=str(offered.folder(site, ask.model)),
        parameters=_parameters(ask, dicom=True),
        identity=latest.identity,
        arrival=latest.arrival,
    )
    return journal.jobs.submit(_with_out(wanted, site), who=who)


def _parameters(ask: Ask, *, dicom: bool) -> dict[str, Any]:
    """As `Asked.parameters` holds them."""
    return {
        "outputs": list(ask.outputs or (FOR_DICOM if dicom else FOR_VOLUMES)),
        "changes": list(ask.changes),
        "quality": ask.quality,
        "labels": list(ask.labels),
        "series": ask.series,
    }


def _placed(path: Path, kind: str, whole: Path, place: int, space: Space) -> str:
    """Move a file to where it stays, or unpack it; its name within the upload."""
    if kind not in (".zip", ".dcm"):
        path.rename(whole / f"{place}{kind}")
        return f"{place}{kind}"
    folder = whole / "dicom"
    folder.mkdir()
    if kind == ".dcm":
        path.rename(folder / "000000.dcm")
    else:
        unzip.dicom_files(path, folder, most_bytes=space.most_bytes, free_bytes=space.free_bytes)
    return folder.name


def _keep(whole: Path, kept: Path) -> None:
    """Make an upload durable under its content's name, unless it is there already."""
    for path in (*(path for path in whole.rglob("*")), whole):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    if kept.exists():
        return
    try:
        whole.rename(kept)
    except OSError:
        if not kept.exists():  # somebody else has sent the same at the same moment
            raise


def _identity(kept: Path) -> Identity:
    """What a person knows an uploaded study by: from the header of its first file."""
    return head.read(min((kept / "dicom").iterdir()), "the study").identity


def _with_out(asked: Asked, site: Site) -> Asked:
    """The folder of its results is named by what is asked, because a job has no number yet."""
    return replace(asked, out=str(site.at(site.data).absolute() / RESULTS / asked.key[:32]))


def _unfit(where: str, found: str, needed: str) -> Problem:
    return Problem(400, where, found=f"'{found}'", needed=needed, remedy="see docs/service-api.md")
