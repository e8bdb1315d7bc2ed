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
    for number in jobs:
        journal.jobs.release(number, person.here())
        journal.audit.add(person.here(), "release", f"job {number}")
        print(f"job {number}: released")
    journal.close()
