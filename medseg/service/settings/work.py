"""Workers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medseg.settings import Settings


class Work(Settings):
    """The processes that run models."""

    workers: Annotated[int, Field(ge=0)] = 0
    """How many; 0: one for each GPU, or one where there is none."""
    device: str = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of each; 0: the cores, shared out."""
    models: Annotated[int, Field(ge=1)] = 2
    """Most models that a worker keeps loaded."""
    tries: Annotated[int, Field(ge=1)] = 3
    """How often a job is begun before it is put aside."""
    limit_s: Annotated[float, Field(gt=0)] = 3600
    """Longest time of a case."""
