"""REST and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from medseg.service.settings.tls import Tls
from medseg.settings import Settings


class Serve(Settings):
    """What answers over HTTP."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """0: any that is free."""
    names: tuple[str, ...] = ()
    """Host names that it is reached by, besides this machine's own and addresses in numbers. Requests for any other are
    refused, so that no foreign page can make a browser ask under a name of its own."""
    tokens: Path = Path("tokens.yaml")
    """File of who may do what; see `medseg tokens`."""
    tls: Tls | None = None
    """Without it, only addresses of this machine are listened at, unless `plain` says so."""
    plain: bool = False
    """Listen without TLS at other addresses too, because something in front of it does TLS."""
    largest_mib: Annotated[float, Field(gt=0)] = 4096
    """Of what is uploaded at once."""
