"""How long things are kept, and how full the disk may be."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medseg.settings import Settings


class Keep(Settings):
    """Only what has ended and was confirmed is ever removed; the journal's rows stay. Days are those in which the
    installation ran, since it was first seen that something is not needed, see `journal.keeping`."""

    studies_days: Annotated[float, Field(ge=0)] = 7
    """Received objects, after the last job of their study has ended."""
    results_days: Annotated[float, Field(ge=0)] = 30
    """Results, after every receiver has them."""
    failed_days: Annotated[float, Field(ge=0)] = 90
    """Received objects of studies with a job that ended badly, or is held."""
    quota_gib: Annotated[float, Field(ge=0)] = 0
    """Most that the data folder may hold: above it, what ended well goes before its time, the oldest first, and then
    nothing more is taken in. 0: what the disk has."""
    free_gib: Annotated[float, Field(ge=0)] = 5
    """Less room than this on the disk, and nothing more is taken in."""
