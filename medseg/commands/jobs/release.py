"""medseg jobs release"""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    where: Annotated[str, typer.Argument(help="site.yaml, or postgresql://...")],
    jobs: Annotated[list[int], typer.Argument(help="Their numbers.")],
) -> None:
    """Send results that a route holds back for what the quality control said of them."""
    from medseg.service.operations import journals, person

    journal = journals.opened(where)

    def change(number: int) -> str:
        journal.jobs.release(number, person.here())
        return f"job {number}: released"

    refused = person.does("release", jobs, change, journal)
    journal.close()
    if refused:
        raise typer.Exit(2)
