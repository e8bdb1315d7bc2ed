"""medseg clean"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medseg.service.operations.retention import Tidied


def command(
    site: Annotated[Path, typer.Argument(help="The installation's site.yaml.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go, and what stays.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it.")] = False,
) -> None:
    """Remove what nobody needs any more, as site.yaml says under keep. `medseg work` does so by itself now and then.

    Received studies go when all their jobs have ended, results when every receiver has confirmed them; what failed is
    kept longer. Over the quota, the oldest of what ended well goes before its time. Days are days in which the
    installation ran, since it was first seen that something is not needed; no clock can empty the disk by a jump.
    Rows of the journal stay.
    """
    from medseg.refusal import Refusal
    from medseg.service.journal import Journal
    from medseg.service.operations import person, retention
    from medseg.service.settings.site import load

    if dry_run == yes:
        raise Refusal(
            "medseg clean",
            found="both --yes and --dry-run" if yes else "neither --yes nor --dry-run",
            needed="one of them",
            remedy="look at what --dry-run shows, then say --yes",
        )
    settings = load(site)
    journal = Journal(settings.journal_at)
    try:
        if dry_run:
            _show(retention.plan(settings, journal, journal.keeping.age), removed=False)
            return
        journal.audit.add(person.here(), "clean", "studies and results that nobody needs")
        age = journal.keeping.grow(None)
        _show(retention.tidy(settings, journal, age=age, who=person.here()), removed=True)
    finally:
        journal.close()


def _show(found: Tidied, *, removed: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("what", "of", "MiB", "days", "kept", "removed" if removed else "goes"):
        table.add_column(name, overflow="fold")
    for one in found.judged:
        size, days = f"{one.bytes / 2**20:.1f}", f"{one.days:.1f}"
        of = one.leaving.name if one.leaving.kind == "study" else f"job {one.leaving.name}"
        table.add_row(*map(Text, (one.leaving.kind, of, size, days, f"{one.limit:g} days", one.why or "no")))
    if found.judged:
        Console().print(table)
    studies = sum(one.leaving.kind == "study" for one in found.going)
    results = len(found.going) - studies
    mib = sum(one.bytes for one in found.going) / 2**20
    what = f"{studies} {'study' if studies == 1 else 'studies'} and results of {results} jobs, {mib:.1f} MiB"
    print(f"removed: {what}" if removed else f"would remove: {what}; nothing was removed")
    if found.over:
        print(f"what must stay is {found.over / 2**20:.1f} MiB more than keep.quota_gib: raise it")
