"""medseg check"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    recipe: Annotated[Path, typer.Argument(help="Recipe (YAML), see pipelines/.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Any recipe key: dataset.root=...")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the problems here.")] = None,
) -> None:
    """Read every case of a recipe before any training and list all problems in one table.

    Missing files, label and image on different grids (in mm), unknown labels, NaN, empty labels, patients on two
    sides of the split, the same image under two names. Exit code 1 when there is any.
    """
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from medseg import config
    from medseg.data import splits
    from medseg.engine import gather
    from medseg.engine.check import check, presence
    from medseg.readers import read

    loaded = config.load(recipe, overrides or [])
    cases = gather.cases(loaded)
    found = presence(cases, read=read) if loaded.split.stratify == "classes" else None
    split = splits.make(cases.cases, loaded.split, presence=found)
    problems = check(cases, split=split, read=read)
    if json_file:
        json_file.write_text(json.dumps([asdict(problem) for problem in problems], indent=2, default=str) + "\n")
    if not problems:
        print(f"{len(cases.cases)} cases, no problem")
        return
    table = Table("case", "problem", "found", "needed", "what to do", "file", show_lines=True)
    for problem in problems:
        table.add_row(problem.case, problem.problem, problem.found, problem.needed, problem.remedy, str(problem.file))
    Console().print(table)
    print(f"{len(problems)} problems in {len({problem.case for problem in problems})} of {len(cases.cases)} cases")
    raise typer.Exit(1)
