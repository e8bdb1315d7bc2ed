"""The DICOM listener."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medseg.service.settings.tls import Tls
from medseg.settings import Settings


class Listen(Settings):
    """What takes studies in by C-STORE."""

    ae_title: Annotated[str, Field(min_length=1, max_length=16)] = "MEDSEG"
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 for all of the machine."""
    port: Annotated[int, Field(ge=0, le=65535)] = 11112
    """0: any that is free."""
    allow: tuple[str, ...] = ()
    """AE titles that may send; none: any."""
    tls: Tls | None = None
    associations: Annotated[int, Field(ge=1)] = 50
    """At once; more are refused with the status that says to come again, but for the first of an address."""
    quiet_s: Annotated[float, Field(gt=0)] = 30
    """A study to which nothing was added for so long is complete."""
    idle_s: Annotated[float, Field(gt=0)] = 60
    """An association on which nothing comes for so long is ended."""
    largest_mib: Annotated[float, Field(gt=0)] = 4096
    """No object may be larger."""
