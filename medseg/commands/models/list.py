"""medseg models list"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    site: Annotated[Path, typer.Argument(help="The installation's site.yaml.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with every file and its sha256.")] = False,
) -> None:
    """List the models of an installation: versions, which is in use, licence, intended use, channels and labels."""
    import json
    from dataclasses import asdict

    from medseg.service import models
    from medseg.service.settings.site import load

    folder = models.at(load(site))
    found, broken = models.listed(folder), models.broken(folder)
    if as_json:
        whole = [asdict(one) | {"folder": str(one.folder), "damaged": ""} for one in found]
        damaged = [{"name": one.name, "version": one.version, "damaged": one.found} for one in broken]
        print(json.dumps(whole + damaged, indent=1))
        return
    for one in found:
        print(f"{one.name}@{one.version}{' (in use)' if one.used else ''}")
        print(f"  licence       {one.licence}")
        print(f"  intended use  {one.intended_use}")
        print(f"  channels      {', '.join(one.channels)}")
        print(f"  labels        {', '.join(one.labels)}")
        print(f"  weights       sha256 {one.weights}")
    for lost in broken:
        print(f"{lost.name}@{lost.version} (damaged)")
        print(f"  found         {lost.found}")
    if not (found or broken):
        print("no models are installed: `medseg models install` brings one in")
