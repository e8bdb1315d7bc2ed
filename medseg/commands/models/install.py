"""medseg models install"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    site: Annotated[Path, typer.Argument(help="The installation's site.yaml.")],
    run: Annotated[Path, typer.Argument(help="Run folder, zipped run (`medseg export`), or folder of folds.")],
    name: Annotated[str, typer.Argument(help="What routes call it, such as liver.")],
    version: Annotated[str, typer.Option(help="[default: the beginning of its weights' sha256]")] = "",
    use: Annotated[bool, typer.Option("--use", help="Let the bare name stand for it from now on.")] = False,
    code: Annotated[bool, typer.Option("--code", help="Let in a recipe that names modules outside of medseg.")] = False,
) -> None:
    """Copy a model into an installation, once its checksums are found to be right.

    Its first version is in use at once, later ones by --use or `medseg models use`. What was predicted with a version
    says so; a version never changes: the same name and version with other content is refused.

    A model is data. One whose recipe names modules outside of medseg is a program, and is refused without --code.
    """
    from medseg.service.operations import person, shelf
    from medseg.service.settings.site import load

    made = shelf.install(load(site), run, name, version, who=person.here(), use=use, code=code)
    print(f"{made.name}@{made.version} ({'in use' if made.used else 'not in use'})")
    print(f"  weights       sha256 {made.weights}")
    print(f"  licence       {made.licence}")
    print(f"  intended use  {made.intended_use}")
