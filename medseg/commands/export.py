"""medseg export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    target: Annotated[Path, typer.Argument(help="Zip file to write.")],
) -> None:
    """Zip what is needed to use a run (weights, recipe, plan, labels, card), without its training state."""
    from medseg.engine.run import Run, export

    export(Run.open(run), target)
    print(target)
