"""medseg route"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.service.routing.table import RouteVerdict


def command(
    site: Annotated[Path, typer.Argument(help="site.yaml, with the table under routes.")],
    study: Annotated[list[Path], typer.Argument(help="Folders with one study or with many; zips; DICOMDIRs.")],
    explain: Annotated[bool, typer.Option("--explain", help="Every route's verdict on every series.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="All of it as JSON.")] = False,
) -> None:
    """Show what the routes of a site would do with studies: which jobs there would be, with which series, and why.

    Only headers are read. No model is loaded, nothing goes into the journal, nothing is sent. Exit code 1 when no route
    wants one of the studies, or one that a route wants would be refused.
    """
    import json
    import sys

    from medseg.cores import available_cores
    from medseg.dicom import archive, sweep
    from medseg.progress import counting
    from medseg.refusal import Refusal
    from medseg.service.routing import explain as told
    from medseg.service.routing import table, targets
    from medseg.service.settings import site as sites

    routes = targets.of(sites.load(site))
    files = archive.gather(study)
    with counting("reading headers", total=len(files)) as done:
        outcomes = sweep.look(files, workers=available_cores(), done=done)
    unreadable = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    for refusal in unreadable:
        print(refusal, file=sys.stderr)
    studies: dict[str, list[sweep.Header]] = {}
    for outcome in outcomes:
        if not isinstance(outcome, Refusal):
            studies.setdefault(outcome.study_uid, []).append(outcome)
    judged = {uid: table.judge(routes, headers, headers[0].path.parent) for uid, headers in studies.items()}
    if json_:
        print(json.dumps({uid: [told.plain(one) for one in verdicts] for uid, verdicts in judged.items()}, indent=1))
    else:
        for uid, verdicts in judged.items():
            _show(uid, verdicts, explain)
    good = all(any(one.series for one in verdicts) for verdicts in judged.values())
    refused = any(one.refusal for verdicts in judged.values() for one in verdicts)
    if unreadable or refused or not judged or not good:
        raise typer.Exit(1)


def _show(uid: str, verdicts: Sequence[RouteVerdict], explain: bool) -> None:
    from medseg.service.routing import explain as told

    print(f"study {uid or 'without identifier'}")
    if not verdicts:
        print("  the site has no routes")
    for verdict in verdicts:
        route = verdict.target.route
        print(f"  {told.sentence(verdict)}")
        for line in told.reasons(verdict) if explain else ():
            print(f"  {line}")
        if verdict.series:
            receivers = ", ".join(route.send_to) or "nobody; results stay in the data folder"
            held = f", held back where quality control says {' or '.join(route.hold)}" if route.hold else ""
            print(f"    job: {verdict.target.model} makes {', '.join(route.outputs)} for {receivers}{held}")
