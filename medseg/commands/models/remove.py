"""medseg models remove"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    site: Annotated[Path, typer.Argument(help="The installation's site.yaml.")],
    model: Annotated[str, typer.Argument(help="NAME@VERSION of an installed model.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it.")] = False,
) -> None:
    """Remove a version of a model: none that is in use, and none that a job still needs."""
    from medseg.refusal import Refusal
    from medseg.service.operations import person, shelf
    from medseg.service.settings.site import load

    name, version = shelf.parted(model)
    if not (dry_run or yes):
        raise Refusal(
            f"model {model}", found="neither --yes nor --dry-run", needed="one of them", remedy="say which is meant"
        )
    path = shelf.remove(load(site), name, version, who=person.here(), dry=dry_run)
    print(f"{'would remove' if dry_run else 'removed'} {path}")
