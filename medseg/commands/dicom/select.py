"""medseg dicom select"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from medseg.dicom.select import Choice


def command(
    recipe: Annotated[Path, typer.Argument(help="Recipe (YAML) with rules under dicom.select, or a run.")],
    folder: Annotated[Path, typer.Argument(help="Folder with one study or with many; zip; DICOMDIR.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Any recipe key: dicom.select.must.slices=[40,2000]")
    ] = None,
    json_file: Annotated[str, typer.Option("--json", help="Write the verdicts here; - for the screen.")] = "",
) -> None:
    """Show which series of each study the rules of a recipe would take, and why, without running the model.

    Only headers are read. Exit code 1 when nothing would be taken of a study, or one series for several channels; or
    when a file cannot be read, because predicting refuses what lies beside it.
    """
    import json
    import sys

    from medseg import atomic, config
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
    if folder.exists() and not archive.holds_several(folder):
        raise Refusal(
            folder, found="a single file", needed="a folder, a zip or a DICOMDIR", remedy="give the study's folder"
        )
    files = archive.gather([folder])
    with counting("reading headers", total=len(files)) as done:
        outcomes = sweep.look(files, workers=available_cores(), done=done)
    unreadable = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    for refusal in unreadable:
        print(refusal, file=sys.stderr)
    studies = study.by_study(outcome for outcome in outcomes if not isinstance(outcome, Refusal))
    if not studies:
        raise Refusal(
            folder, found="no file that can be read", needed="a study", remedy="see what is said of the files"
        )
    choices = {
        (uid, channel): select.choose(wanted, found)
        for uid, found in studies.items()
        for channel, wanted in rules.items()
    }
    twice = {uid: select.shared({name: choices[uid, name] for name in rules}) for uid in studies}
    if json_file:
        text = json.dumps([_plain(*key, choice) for key, choice in choices.items()], indent=1)
        if json_file == "-":
            print(text)
        else:
            atomic.write_text(Path(json_file), text + "\n")
    if json_file != "-":
        for (uid, channel), choice in choices.items():
            _show(uid, channel, choice)
        for uid, names in twice.items():
            print(f"study {uid}: one series for several channels: {', '.join(names)}\n" * bool(names), end="")
    if unreadable or any(twice.values()) or not all(choice.taken for choice in choices.values()):
        raise typer.Exit(1)


def _recipe_of(path: Path) -> Path:
    """The recipe's file, of a run folder its own."""
    if path.suffix == ".zip":
        from medseg.engine.run import Run

        return Run.open(path).path("recipe.yaml")
    return path / "recipe.yaml" if path.is_dir() else path


def _show(uid: str, channel: str, choice: Choice) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from medseg.dicom.facts import spoken_number

    title = f"study {uid}" + (f", channel {channel}" if channel else "")
    columns = (Column(name, overflow="fold") for name in ("series", "what", "slices", "mm", "why"))
    table = Table(
        *columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for verdict in choice.verdicts:
        facts = verdict.facts
        what = " ".join(part for part in (facts.modality, facts.plane, facts.name, facts.volume) if part)
        spacing = "" if facts.spacing_mm is None else f"{facts.spacing_mm:.3g}"
        mark = "taken: " if verdict in choice.taken else ""
        number = spoken_number(facts.number, facts.volume_number) or "-"
        cells = (number, what, str(facts.slices or ""), spacing, mark + verdict.reason)
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
