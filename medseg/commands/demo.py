"""medseg demo"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo-output"),
    data: Annotated[Path, typer.Option(help="The sample data.")] = Path("sample_data"),
    recipe: Annotated[Path, typer.Option(help="The demo's recipe.")] = Path("pipelines/demo_ct.yaml"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Train again, even if the demo ran before.")] = False,
) -> None:
    """Five minutes to a result: train on the sample CTs, segment an unseen patient's DICOM series, score, report.

    Works without a network. Run from the project's folder.
    """
    from medseg.engine.demo import demo

    demo(out=out, data=data, recipe=recipe, fresh=fresh)
