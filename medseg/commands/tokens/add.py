"""medseg tokens add"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

Role = Literal["read", "submit", "admin"]


def command(
    site: Annotated[Path, typer.Argument(help="The site's file, site.yaml.")],
    name: Annotated[str, typer.Argument(help="Whose it is: a person, or a program such as slicer-room-3.")],
    role: Annotated[
        Role,
        typer.Option(
            help="read: look at jobs and results. submit: also ask for jobs, and cancel and retry these. admin: also "
            "cancel and retry those of others, and release what was held back."
        ),
    ] = "read",
) -> None:
    """Make a token and print it, once: it is kept nowhere, only a salted hash of it.

    Programs send it as `Authorization: Bearer TOKEN`; people log in with it on the page. Its name stands in the audit
    log beside everything that is done with it.
    """
    from medseg.service.settings.site import load
    from medseg.service.web import tokens

    of = load(site)
    path = of.at(of.serve.tokens)
    token = tokens.add(path, name, role)
    print(f"{path}: {name} may {role}; the token, which cannot be shown again:", file=sys.stderr)
    print(token)
