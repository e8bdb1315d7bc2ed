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
    ahead: bool | None = None
    """Read the next case and write the last one while the network works: up to three cases are in memory. Empty: on a
    GPU."""
    tries: Annotated[int, Field(ge=1)] = 3
    """How often a job is begun before it is put aside."""
    limit_s: Annotated[float, Field(gt=0)] = 3600
    """Longest time of a case: a worker that neither begins nor ends one for so long is killed, and its case given
    back."""
    drain_s: Annotated[float, Field(ge=0)] = 60
    """Asked to end, a worker begins nothing new, and gives back what is not done after so long."""
