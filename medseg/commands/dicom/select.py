"""medseg dicom select"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from medseg.dicom.select import Choice


def command(
    recipe: Annotated[Path, typer.Argument(help="Recipe (YAML) with rules under dicom.select, or a run folder.")],
    folder: Annotated[Path, typer.Argument(help="Folder with one study or with many; zip; DICOMDIR.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Any recipe key: dicom.select.must.slices=[40,2000]")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the verdicts here; - for the screen.")] = None,
) -> None:
    """Show which series of each study the rules of a recipe would take, and why, without running the model.

    Only headers are read. Exit code 1 when a study has no series that fits, or several that fit equally well.
    """
    import json
    import sys

    from medseg import config
    from medseg.cores import available_cores
    from medseg.dicom import archive, select, study, sweep
    from medseg.progress import counting
    from medseg.refusal import Refusal

    settings = config.load(_recipe_of(recipe), overrides or []).dicom
    rules = settings.channels or ({"": settings.select} if settings.select else {})
    if not rules:
        raise Refusal(
            recipe, found="no rules", needed="dicom: {select: ...} in the recipe", remedy="see docs/series-selection.md"
        )
    files = list(archive.files(folder)) if archive.holds_several(folder) else []
    with counting("reading headers", total=len(files)) as done:
        outcomes = sweep.look(files, workers=available_cores(), done=done)
    for outcome in outcomes:
        if isinstance(outcome, Refusal):
            print(outcome, file=sys.stderr)
    studies = study.by_study(outcome for outcome in outcomes if not isinstance(outcome, Refusal))
    if not studies:
        raise Refusal(
            folder, found="no DICOM file that can be read", needed="a folder with some", remedy="check the path"
        )
    choices = {
        (uid, channel): select.choose(wanted, found)
        for uid, found in studies.items()
        for channel, wanted in rules.items()
    }
    if json_file is None:
        for (uid, channel), choice in choices.items():
            _show(uid, channel, choice)
    else:
        text = (
            json.dumps([_plain(*key, choice) for key, choice in choices.items()], indent=2, ensure_ascii=False) + "\n"
        )
        if str(json_file) == "-":
            print(text, end="")
        else:
            json_file.write_text(text, encoding="utf-8")
    if not all(choice.taken for choice in choices.values()):
        raise typer.Exit(1)


def _recipe_of(path: Path) -> Path:
    """The recipe's file, of a run folder its own."""
    if path.suffix == ".zip":
        from medseg.engine.run import Run

        return Run.open(path).path("recipe.yaml")
    return path / "recipe.yaml" if path.is_dir() else path


def _show(uid: str, channel: str, choice: Choice) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from medseg.dicom.facts import spoken_number

    title = f"study {uid}" + (f", channel {channel}" if channel else "")
    names = ("", "series", "description", "what", "slices", "mm", "reason")
    table = Table(*(Column(name, overflow="fold") for name in names), title=title, title_justify="left")
    for verdict in choice.verdicts:
        facts = verdict.facts
        what = " ".join(part for part in (facts.modality, facts.plane) if part)
        spacing = "" if facts.spacing_mm is None else f"{facts.spacing_mm:.3g}"
        mark = "taken" if verdict in choice.taken else ""
        number = spoken_number(facts.number, facts.volume_number) or "-"
        name = ", ".join(part for part in (facts.name, facts.volume) if part)
        cells = (mark, number, name, what, str(facts.slices or ""), spacing, verdict.reason)
        table.add_row(*map(Text, cells))
    Console().print(table)
    print(choice.because)


def _plain(uid: str, channel: str, choice: Choice) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "study": uid,
        "channel": channel,
        "taken": choice.taken[0].facts.uid if choice.taken else None,
        "volumes": [one.facts.volume_number for one in choice.taken if one.facts.volume_number],
        "because": choice.because,
        "series": [
            {**asdict(verdict.facts), "fits": verdict.fits, "score": verdict.score, "reason": verdict.reason}
            for verdict in choice.verdicts
        ],
    }
