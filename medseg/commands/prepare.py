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

    Paste the printed plan's values under `prepare:` in the recipe to pin them.
    """
    import json

    from medseg import config
    from medseg.engine.material import assemble

    loaded = config.load(recipe, overrides or [])
    material = assemble(loaded, None, announce=lambda text: print(text, file=sys.stderr))
    print(json.dumps(material.plan.model_dump(mode="json"), indent=2))
    print(f"{len(material.prepared)} cases prepared in {loaded.cache}", file=sys.stderr)
