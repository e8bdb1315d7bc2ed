"""medseg serve"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    site: Annotated[Path, typer.Argument(help="The site's file, site.yaml.")],
) -> None:
    """Answer over HTTP: the worklist for people in a browser, and the API for programs such as 3D Slicer.

    It shows what `medseg listen` and `medseg work` do, and takes studies and requests for jobs in; each of the three
    runs by itself, and they meet in the journal. Who wants in needs a token: `medseg tokens add SITE NAME --role admin`
    makes one. Address, port, TLS and limits stand under `serve` in site.yaml; without TLS it listens at addresses of
    this machine alone.

    Ctrl-C and SIGTERM end it when what is being answered is answered.
    """
    import contextlib

    from medseg import interrupts
    from medseg.optional import need

    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        need(module, extra="service", purpose="answer over HTTP")
    from medseg.service import logs
    from medseg.service.intake.store import Store
    from medseg.service.journal import Journal
    from medseg.service.settings.site import load
    from medseg.service.web import server, tokens
    from medseg.service.web.app import app

    of = load(site)
    server.refuse_open(of)
    known = tokens.load(of.at(of.serve.tokens))
    journal = Journal(of.journal_at)
    store = Store(of, journal)
    try:
        with server.listening(of) as bound:
            running = server.server(app(of, journal, store), of)
            print(f"listening at {server.address(of, bound)}", flush=True)
            if not known:
                print(f"nobody can log in yet: `medseg tokens add {site} NAME --role admin` makes a token", flush=True)
            logs.begin()
            with interrupts.by_sigterm(), contextlib.suppress(KeyboardInterrupt):  # which comes when all is answered
                running.run([bound])
    finally:
        store.close()
        journal.close()
