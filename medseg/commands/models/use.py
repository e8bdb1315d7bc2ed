"""medseg models use"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    site: Annotated[Path, typer.Argument(help="The installation's site.yaml.")],
    model: Annotated[str, typer.Argument(help="NAME@VERSION of an installed model.")],
) -> None:
    """Let a model's bare name stand for one of its versions: a newer one, or an earlier one again (roll-back).

    Studies that come from now on are routed to it; jobs that have been routed keep the version that they were given.
    Its files are compared with their checksums first.
    """
    from medseg.service.operations import person, shelf
    from medseg.service.settings.site import load

    before, now = shelf.choose(load(site), *shelf.parted(model), who=person.here())
    print(f"{now.name}: {now.version} is in use" + (f", before it {before}" if before else ""))
