"""medseg jobs cancel"""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    where: Annotated[str, typer.Argument(help="site.yaml, a folder that `medseg batch` wrote, or postgresql://...")],
    jobs: Annotated[list[int], typer.Argument(help="Their numbers.")],
) -> None:
    """End jobs that nobody wants any more; those that are being worked on stop within seconds."""
    from medseg.service.operations import journals, person

    journal = journals.opened(where)

    def change(number: int) -> str:
        state = journal.jobs.cancel(number, person.here())
        return f"job {number}: {state if state == 'cancelled' else f'{state}, and asked to stop'}"

    refused = person.does("cancel", jobs, change, journal)
    journal.close()
    if refused:
        raise typer.Exit(2)
