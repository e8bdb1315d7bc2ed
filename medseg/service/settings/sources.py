"""Archives that studies are asked for and fetched from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medseg.service.settings.tls import Tls
from medseg.settings import Settings


class DicomSource(Settings):
    """An archive that answers C-FIND, and gives studies by C-GET, or by C-MOVE to this site's listener."""

    kind: Literal["dicom"] = "dicom"
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    ae_title: str
    by: Literal["get", "move"] = "get"
    tls: Tls | None = None


class WebSource(Settings):
    """An archive that answers QIDO-RS and gives studies by WADO-RS."""

    kind: Literal["dicomweb"]
    url: str
    token: str = ""
    """For an Authorization header of kind Bearer; ${NAME} stands for an environment variable."""
    authority: str = ""
    """File of certificates to trust; empty: those of the system."""


Source = Annotated[DicomSource | WebSource, Field(discriminator="kind")]
