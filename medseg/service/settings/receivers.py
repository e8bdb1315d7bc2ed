"""Who gets results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from medseg.service.settings.tls import Tls
from medseg.settings import Settings


class StoreReceiver(Settings):
    """An archive that takes objects by C-STORE."""

    kind: Literal["dicom"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    ae_title: str
    calling: str = ""
    """AE title that medseg gives itself; empty: that of the listener."""
    commitment: bool = False
    """Whether to ask it to confirm that it keeps what it took (storage commitment)."""
    reports: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port at listen.host to which it confirms, for archives that open an association of their own for that (most do);
    another than the listener's. 0: on the association on which it was asked."""
    tls: Tls | None = None


class WebReceiver(Settings):
    """An archive that takes objects by STOW-RS."""

    kind: Literal["dicomweb"]
    url: str
    token: str = ""
    """For an Authorization header of kind Bearer; ${NAME} stands for an environment variable."""
    authority: str = ""
    """File of certificates to trust; empty: those of the system."""


class FolderReceiver(Settings):
    """A folder that exists, on this machine or mounted; within a mounted share rather than its mount point."""

    kind: Literal["folder"]
    folder: Path


Receiver = Annotated[StoreReceiver | WebReceiver | FolderReceiver, Field(discriminator="kind")]
