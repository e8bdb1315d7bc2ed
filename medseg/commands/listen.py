"""medseg listen"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    site: Annotated[Path, typer.Argument(help="The site's file, site.yaml.")],
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds that running associations get to end, once it is asked to stop.")
    ] = 30.0,
    json: Annotated[bool, typer.Option("--json", help="Logs as lines of JSON, without what a patient is known by.")] = (
        False
    ),
) -> None:
    """Take studies in: by C-STORE at the port of the section listen, and from watched folders.

    Every object is on the disk and in the journal before its sender is told so. A study to which nothing was added for
    listen.quiet_s is complete, and goes to `medseg work`. What arrives later makes a new revision of it.

    Who may send, over TLS or not, and how many at once: the section listen. While there is less room than the section
    keep wants, senders are told to come again.

    SIGTERM or Ctrl-C: no more associations are taken; those that run may end.
    """
    from medseg import interrupts, optional
    from medseg.service import logs
    from medseg.service.settings.site import load

    optional.need("pynetdicom", extra="service", purpose="listen for DICOM")
    from medseg.service.intake.program import run

    loaded = load(site)
    logs.begin(lines=json)
    with interrupts.requests() as asked:
        run(loaded, lambda: bool(asked()), grace_s=grace)
