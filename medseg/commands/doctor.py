"""medseg doctor"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    site: Annotated[
        Path | None, typer.Argument(help="An installation's site.yaml. [default: look at the machine alone]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, an object for each finding.")] = False,
) -> None:
    """Look at all that medseg needs, and say what is amiss and what to do.

    Versions, extras, packages that report their use, decoders (a frame of each compressed transfer syntax), GPUs (a
    small computation on each), memory and limits of a container, clock. With an installation also the room and the
    file system of its data folder, its journal, models (checksums, licences), routes, ports, and whether its receivers
    and sources answer.

    ok: as it should be; look: it works, and somebody should know; bad: it does not work. Exit code 1 where something is
    bad.
    """
    import json
    from dataclasses import asdict

    from medseg.service.operations.doctor import examine
    from medseg.service.settings.site import load

    found = []
    for one in examine(load(site) if site else None):
        found.append(one)
        if not as_json:
            print(f"{one.verdict:<5}{one.what}: {one.found}", flush=True)
        if one.remedy and not as_json:
            print(f"     -> {one.remedy}", flush=True)
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    if any(one.verdict == "bad" for one in found):
        raise typer.Exit(1)
