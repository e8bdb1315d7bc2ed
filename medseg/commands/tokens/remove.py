"""medseg tokens remove"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    site: Annotated[Path, typer.Argument(help="The site's file, site.yaml.")],
    name: Annotated[str, typer.Argument(help="As `medseg tokens list` says it.")],
) -> None:
    """Take a token back; a running `medseg serve` refuses it from its next request on, sessions of the page too."""
    from medseg.service.settings.site import load
    from medseg.service.web import tokens

    of = load(site)
    tokens.remove(of.at(of.serve.tokens), name)
    print(f"{name} is removed")
