"""medseg work"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    site: Annotated[Path, typer.Argument(help="site.yaml.")],
    drain: Annotated[bool, typer.Option("--drain", help="End when nothing is left to do.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that run models. [default: work.workers of the site]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps. [default: work.device of the site]")] = "",
    ray: Annotated[
        str, typer.Option(help="Address of a Ray cluster whose machines run the models; local: one on this machine.")
    ] = "",
) -> None:
    """Route, segment and send what has arrived, until it is asked to end.

    One process routes, one sends, and a worker for each GPU (or one, where there is none) runs models, which stay
    loaded. Processes that die are replaced, and their studies taken up again by others; a study that kills its workers
    is put aside after work.tries. Further machines take part with the same site.yaml, if its journal is PostgreSQL and
    its data folder is one that all of them see.

    SIGTERM and Ctrl-C drain: nothing new is begun, what runs may end within work.drain_s, and what does not is given
    back to whoever comes next.
    """
    from medseg.service import logs
    from medseg.service.settings import site as sites
    from medseg.service.work import run

    logs.begin()
    loaded = sites.load(site)
    given = {name: value for name, value in (("workers", workers), ("device", device)) if value}
    loaded = loaded.model_copy(update={"work": loaded.work.model_copy(update=given)})
    run.everything(loaded, drain=drain, ray=ray)
