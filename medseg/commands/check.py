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
    sides of the split, the same image under two names. Exit code 1 when training must not start on them.
    """
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from medseg import atomic, config, progress
    from medseg.cores import available_cores
    from medseg.engine import gather
    from medseg.engine.check import examine, split_problems
    from medseg.engine.material import reader

    loaded = config.load(recipe, overrides or [])
    cases = gather.cases(loaded)
    with progress.counting("reading cases", total=len(cases.cases)) as done:
        checked = examine(
            cases,
            read=reader(loaded),
            progress=lambda number, total, case: done(),
            channels_may_differ=loaded.prepare.channels_on_other_grids != "refuse",
            unknown_labels_may_occur=loaded.prepare.unknown_labels == "background",
            workers=available_cores(),
        )
    problems = [*checked.problems, *split_problems(cases, loaded.split, checked.presence)]
    if json_file:
        atomic.write_text(json_file, json.dumps([asdict(one) for one in problems], indent=2, default=str) + "\n")
    if not problems:
        print(f"{len(cases.cases)} cases, no problem")
        return
    columns = ("case", "problem", "found", "needed", "what to do", "file")
    table = Table(*(Column(name, overflow="fold") for name in columns), show_lines=True)  # no path is cut short
    for problem in problems:
        cells = (problem.case, problem.problem, problem.found, problem.needed, problem.remedy, problem.file)
        table.add_row(*map(Text, cells))  # as they are: rich takes [words] for markup
    Console().print(table)
    named = {name for problem in problems for name in problem.case.split(" and ")}  # of identical images, both
    everywhere = any(problem.case == "all" and problem.fatal for problem in problems)
    concerned = sum(everywhere or case.id in named for case in cases.cases)
    count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
    if concerned:
        print(f"{count} in {concerned} of {len(cases.cases)} cases")
    else:
        print(f"{count} of the data set as a whole; none of its {len(cases.cases)} cases has one")
    if any(problem.fatal for problem in problems):
        raise typer.Exit(1)
