"""medseg compare"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    evaluations: Annotated[
        list[Path], typer.Argument(help="Two or more folders that `medseg evaluate` wrote, or their metrics.json.")
    ],
    test: Annotated[str, typer.Option(help="wilcoxon (signed ranks) or permutation (signs flipped).")] = "wilcoxon",
    out: Annotated[
        Path | None, typer.Option(help="Folder for compare.json and compare.csv. [default: the first evaluation's]")
    ] = None,
) -> None:
    """Say which of several evaluations of the same cases is better, and how sure that is.

    Cases are paired by name. Of each label and number: the mean difference, its 95 % interval by drawing patients
    with all their images, and p of a paired test with one value a patient, corrected after Holm for the number of
    labels and metrics. Three or more are ranked as challenges do (ranked in each case, ranks averaged), with the share
    of draws of patients in which each has each place.

    \b
        medseg evaluate one --truth truth --labels labels.yaml --cases cases.csv --out a
        medseg evaluate two --truth truth --labels labels.yaml --cases cases.csv --out b
        medseg compare a b

    Without --cases (or a run's own patients) each case counts as a patient: then p is too small if some are of one.
    An interval that contains 0, or p above 0.05, shows no difference; it does not show that there is none. Evaluations
    on other truth are refused. A case that one of them lacks is named and left out of all.
    """
    from medseg.engine import compare

    found = compare.compare(evaluations, test=test)
    folder = out or (evaluations[0] if evaluations[0].is_dir() else evaluations[0].parent)
    compare.save(found, folder)
    print(compare.as_text(found))
    print(f"written: {folder / 'compare.json'}", file=sys.stderr)
