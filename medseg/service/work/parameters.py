"""What a job says about how its model is to be used, typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from medseg.case import Case
from medseg.engine import scans
from medseg.engine.predict import Predictor
from medseg.refusal import Refusal
from medseg.service.journal.job import Job
from medseg.settings import Settings


class Parameters(Settings):
    """`Job.parameters`; all but `series` decide what has to be loaded."""

    outputs: tuple[str, ...] = ()
    """As `medseg predict --output` takes them; none: the model's usual one."""
    changes: tuple[str, ...] = ()
    """As `medseg predict --set` takes them."""
    quality: Literal["fast", "standard", "best"] = "standard"
    labels: tuple[str, ...] = ()
    """Only these; none: all."""
    series: str | dict[str, str] = ""
    """Which series of a DICOM folder, as `medseg predict --series` takes it, or which for each channel; empty: as the
    model's rules say."""

    def to_json(self) -> dict[str, Any]:
        """For `Asked.parameters`: with every default, so that the same is always written the same."""
        return self.model_dump(mode="json")


def of(job: Job) -> Parameters:
    """
    Raises:
        Refusal: the job was asked for by somebody who writes other parameters.
    """
    try:
        return Parameters.model_validate(job.parameters)
    except ValidationError as error:
        raise Refusal(
            f"job {job.id}",
            found="; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()),
            needed=f"parameters among {', '.join(Parameters.model_fields)}",
            remedy="ask for it again with these",
        ) from error


def case(job: Job, asked: Parameters, predictor: Predictor) -> Case:
    """The case of a job, as its model wants it.

    Raises:
        Refusal: its name would lead out of the folder of its results.
    """
    if job.case != Path(job.case).name or job.case.startswith("."):
        raise Refusal(
            f"job {job.id}",
            found=f"a case named '{job.case}'",
            needed="a name that a file may have",
            remedy="ask for it again with another",
        )
    paths = {name: Path(path) for name, path in job.source.items()}
    channels = predictor.plan.channels
    if set(paths) != {"all"}:
        return Case(job.case, job.case, paths)
    if isinstance(asked.series, dict):
        return Case(job.case, job.case, dict.fromkeys(channels, paths["all"]))
    one = scans.single(paths["all"], channels, job.case)
    return scans.of_study(one, channels) if predictor.dicom.channels and not asked.series else one
