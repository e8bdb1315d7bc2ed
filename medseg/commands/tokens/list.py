"""medseg tokens list"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(site: Annotated[Path, typer.Argument(help="The site's file, site.yaml.")]) -> None:
    """Names and roles; the tokens themselves are kept nowhere."""
    from medseg.service.settings.site import load
    from medseg.service.web import tokens

    of = load(site)
    found = tokens.load(of.at(of.serve.tokens))
    for token in found:
        print(f"{token.name:<40} {token.role}")
    if not found:
        print(f"none: `medseg tokens add {site} NAME --role admin` makes one")
