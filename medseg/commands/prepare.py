"""medseg prepare"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    recipe: Annotated[Path, typer.Argument(help="Recipe (YAML), see pipelines/.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Any recipe key: prepare.spacing_mm=[1,1,1]")] = None,
) -> None:
    """Measure the data, print the plan, and fill the cache of prepared cases; `train` does this too when needed.

    What is printed can be pasted under `prepare:` in the recipe, all of it or in part, to pin it.
    """
    import json

    from medseg import config
    from medseg.engine.material import assemble
    from medseg.plan import PrepareSettings

    loaded = config.load(recipe, overrides or [])
    material = assemble(loaded, None, announce=lambda text: print(text, file=sys.stderr))
    # what a plan has besides follows from the data and the network, and is no setting
    print(json.dumps(material.plan.model_dump(mode="json", include=set(PrepareSettings.model_fields)), indent=2))
    print(f"{len(material.prepared)} cases prepared in {loaded.cache}", file=sys.stderr)
