"""medseg jobs summary"""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    where: Annotated[str, typer.Argument(help="site.yaml, a folder that `medseg batch` wrote, or postgresql://...")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Count what came in, and what became of every job: the lines add up, and a failure is never counted as done."""
    import json

    from medseg.service.operations import journals
    from medseg.service.work import summary

    journal = journals.opened(where)
    came, found, sent = journal.arrivals.counts(), journal.jobs.find(), journal.deliveries.counts()
    journal.close()
    if as_json:
        print(json.dumps({"received": came.__dict__, "jobs": summary.counts(found), "deliveries": sent}, indent=1))
        return
    if came.received:
        print(f"{came.received:7}  objects received")
        print(f"{came.duplicates:7}    of them known already")
        print(f"{came.corrected:7}    of them in another version now")
        print(f"{came.studies:7}  studies, {came.open} of them not complete yet")
    print(summary.table(found))
    for receiver, states in sorted(sent.items()):
        print(f"to {receiver}: {', '.join(f'{count} {state}' for state, count in sorted(states.items()))}")
