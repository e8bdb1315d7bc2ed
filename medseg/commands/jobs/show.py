"""medseg jobs show"""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    where: Annotated[str, typer.Argument(help="site.yaml, a folder that `medseg batch` wrote, or postgresql://...")],
    job: Annotated[int, typer.Argument(help="Its number, as `medseg jobs list` shows it.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Explain a job: what was asked, all that happened to it, who has its results, and what its reason code means."""
    import json
    import time
    from dataclasses import asdict

    from medseg.service.journal.states import REASONS
    from medseg.service.operations import journals

    journal = journals.opened(where)
    found = journal.jobs.get(job)
    events = [event for _, event in journal.jobs.events(job)]
    deliveries = journal.deliveries.of(job)
    journal.close()
    if as_json:
        parts = {"events": [asdict(one) for one in events], "deliveries": [asdict(one) for one in deliveries]}
        print(json.dumps(asdict(found) | parts, indent=1, ensure_ascii=False))
        return
    print(f"job {found.id}: {found.case}, {found.state}")
    if found.reason_code:
        print(f"  reason      {found.reason_code}: {REASONS.get(found.reason_code, 'see the words')}")
        print(f"              {found.reason}")
    known = ", ".join(f"{name} {value}" for name, value in asdict(found.identity).items() if value)
    rows = {
        "input": "; ".join(found.source.values()),
        "known as": known,
        "model": found.model or "a route will tell",
        "route": found.route,
        "parameters": ", ".join(f"{name}={value}" for name, value in found.parameters.items() if value),
        "attempts": str(found.attempts),
        "worked by": f"{found.owner}, {found.stage} {100 * found.share:.0f} %" if found.owner else "",
        "verdict": found.verdict,
        "results": found.out if found.files else "",
        "supersedes": f"job {found.supersedes}" if found.supersedes else "",
        "superseded": f"by job {found.superseded_by}" if found.superseded_by else "",
    }
    for name, value in rows.items():
        if value:
            print(f"  {name:<12}{value}")
    for file, sha256 in found.files.items():
        print(f"    {file}  sha256 {sha256}")
    for one in deliveries:
        print(f"  to {one.receiver}: {one.state}, sent {one.tries} times{f', {one.problem}' if one.problem else ''}")
    print("  what happened (times are UTC)")
    for event in events:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(event.at))
        print(f"    {at}  {event.state:<12}{event.what} [{event.who}]")
