"""medseg jobs list"""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    where: Annotated[str, typer.Argument(help="site.yaml, a folder that `medseg batch` wrote, or postgresql://...")],
    state: Annotated[
        list[str] | None, typer.Option(help="Only these: queued, running, done, failed, quarantined, held, ...")
    ] = None,
    text: Annotated[
        str, typer.Option(help="Only with this in the case's name, the model, the patient's number, ...")
    ] = "",
    route: Annotated[str, typer.Option(help="Only of this route.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Most that are listed; 0: all.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, everything that the journal knows.")] = False,
) -> None:
    """List jobs, the newest first: where each stands, and why those that failed did."""
    import json
    from dataclasses import asdict

    from medseg.service.operations import journals

    states = [journals.state(one) for one in state or ()]
    journal = journals.opened(where)
    found = journal.jobs.find(states=states, text=text, route=route, limit=limit)
    journal.close()
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=1, ensure_ascii=False))
        return
    for one in found:
        share = f" {100 * one.share:.0f} %" if one.state == "running" else ""
        first, *more = one.reason.splitlines() or [""]
        why = f"  {one.reason_code}: {first}{' ...' if more else ''}" if one.reason_code else ""
        verdict = f"  quality control: {one.verdict}" if one.verdict else ""
        print(f"{one.id:6}  {one.state}{share}  {one.case}{verdict}{why}")
    if limit and len(found) == limit:
        print(f"the newest {limit}; --limit 0 lists all")
    if not found:
        print("no such jobs")
