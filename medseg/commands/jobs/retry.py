"""medseg jobs retry"""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    where: Annotated[str, typer.Argument(help="site.yaml, a folder that `medseg batch` wrote, or postgresql://...")],
    jobs: Annotated[list[int] | None, typer.Argument(help="Their numbers.")] = None,
    state: Annotated[
        str, typer.Option(help="In place of numbers, all in this state: failed, quarantined, unmatched or cancelled.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
) -> None:
    """Try jobs again that ended badly, as if they had never been begun."""
    from medseg.refusal import Refusal
    from medseg.service.journal.states import State
    from medseg.service.operations import journals, person

    if bool(jobs) == bool(state):
        raise Refusal(
            "medseg jobs retry",
            found="numbers of jobs and --state" if jobs else "no job",
            needed="numbers, or --state failed|quarantined|unmatched|cancelled",
            remedy="give one of them",
        )
    journal = journals.opened(where)
    if state:
        again: tuple[State, ...] = ("failed", "quarantined", "unmatched", "cancelled")
        numbers = [job.id for job in journal.jobs.find(states=[journals.state(state, again)])][::-1]
    else:
        numbers = sorted(jobs or ())

    def change(number: int) -> str:
        job = journal.jobs.get(number)
        now = "would be tried again" if dry_run else journal.jobs.retry(number, person.here())
        return f"job {number}: {job.case}: {job.state} before, {now}"

    refused = person.does("" if dry_run else "retry", numbers, change, journal)
    journal.close()
    print(f"{len(numbers) - refused} jobs" + (", nothing was changed" if dry_run else ""))
    if refused:
        raise typer.Exit(2)
