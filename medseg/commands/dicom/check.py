"""medseg dicom check"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.refusal import Refusal

if TYPE_CHECKING:
    from rich.table import Table

    from medseg.dicom.settings import DicomSettings
    from medseg.dicom.survey import Checked, CheckedSeries, Survey

LISTED = 20
"""Files that are named on the screen."""
SAID = {"refused": "refused", "repairable": "repairable", "good": "note"}
"""How a finding is introduced if no repair names it, the worst first."""
SEVERITIES = list(SAID)


def command(
    paths: Annotated[list[Path], typer.Argument(help="Folders, searched to any depth; files; DICOMDIR; zip.")],
    json_file: Annotated[
        str, typer.Option("--json", help="Write everything here as JSON, with all numbers; - writes to the screen.")
    ] = "",
    tolerance_mm: Annotated[
        float | None, typer.Option(help="How far one grid may put a voxel from where its header puts it [0.01].")
    ] = None,
    gap_mm: Annotated[
        float | None, typer.Option(help="Widest distance of slices over which a repair may interpolate [10].")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read headers; by default one per core.")] = None,
) -> None:
    """Look at DICOM files before anything is computed from them: which series there are, and how their slices lie.

    Only headers are read. Files are grouped into series, and series into volumes (phases, echoes, b-values, time
    points). Each volume gets a verdict: good (one straight, even grid holds every slice to within the tolerance),
    repairable (missing slices, uneven steps, gantry tilt, localisers in between, ...: reading repairs it, unless told
    not to), or refused. All reasons are in mm. Units, rescaling, burned-in text and the like are said as well.

    Exit code 1 when something was refused or could not be parsed, 2 when there is no DICOM file at all.
    """
    import json

    from medseg import atomic
    from medseg.cores import available_cores
    from medseg.dicom import archive, survey, sweep
    from medseg.progress import counting

    settings, files = _settings(tolerance_mm=tolerance_mm, gap_mm=gap_mm), archive.gather(paths)
    with counting("reading headers", total=len(files)) as done:
        found = sweep.look(files, workers=available_cores() if workers is None else workers, done=done)
    result = survey.check(found, settings)
    if json_file:
        text = json.dumps(survey.facts(result), indent=1) + "\n"
        if json_file == "-":
            print(text, end="")
        else:
            atomic.write_text(Path(json_file), text)
    if json_file != "-":
        _print(result)
    if result.refused:
        raise typer.Exit(1)


def _settings(**given: float | None) -> DicomSettings:
    from medseg.dicom.settings import DicomSettings

    try:
        return DicomSettings.model_validate({name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise Refusal(
            "--tolerance-mm and --gap-mm",
            found=", ".join(f"{value}" for value in given.values() if value is not None),
            needed="millimetres: a tolerance above 0, a gap of at least 0",
            remedy="leave them out for the usual ones",
        ) from error


def _print(result: Survey) -> None:
    from rich.console import Console

    if result.series:
        Console().print(_table(result.series))
    for one in result.series:
        for volume in one.volumes:
            _explain(one, volume)
    for header in result.unplaced[:LISTED]:
        print(f"{header.path}: refused\n  no slice in space: {header.unplaced}")
    for refusal in result.unreadable[:LISTED]:
        print(f"{refusal.where}: cannot be read\n  {refusal.found}: {refusal.remedy}")
    more = sum(max(len(given) - LISTED, 0) for given in (result.unplaced, result.unreadable))
    if more:
        print(f"and {more} more files; --json names them all")
    volumes = [volume for one in result.series for volume in one.volumes]
    counts = Counter(volume.verdict.value for volume in volumes)
    verdicts = ", ".join(f"{counts[name]} {name}" for name in reversed(SEVERITIES) if counts[name])
    print(f"{len(result.series)} series, {len(volumes)} volumes" + (f": {verdicts}" if volumes else ""))
    if result.unplaced or result.unreadable:
        print(f"{len(result.unplaced)} images with no place in space, {len(result.unreadable)} unreadable files")
    if result.others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in result.kinds.items())
        print(f"{len(result.others)} other objects: {kinds}")


def _table(series: Sequence[CheckedSeries]) -> Table:
    from rich import box
    from rich.table import Column, Table
    from rich.text import Text

    names = ("series", "what", "slices", "voxel, mm", "line", "tilt", "verdict")
    caption = "line: how far slices are from their best straight line, mm; tilt: of that line against them, degrees"
    columns = (
        Column(name, overflow="fold", no_wrap=name != "what", min_width=10 if name == "what" else None)
        for name in names
    )
    table = Table(
        *columns, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption=caption, caption_justify="left"
    )
    for one in series:
        for volume in one.volumes:
            facts, frame = volume.judgement.geometry, volume.stack.frames[0]
            step = facts.typical_mm or frame.thickness_mm or 0
            cells = (
                _number(one, volume),
                " ".join(part for part in (one.head.modality, one.head.description, volume.stack.name) if part),
                str(len(volume.stack.frames)),
                f"{frame.spacing_mm[1]:.3g} x {frame.spacing_mm[0]:.3g} x {step:.3g}",
                f"{facts.off_line_mm:.3f}",
                f"{facts.tilt_degrees:.2f}",
                volume.verdict.value,
            )
            table.add_row(*map(Text, cells))
    return table


def _number(one: CheckedSeries, volume: Checked) -> str:
    from medseg.dicom.facts import spoken_number

    return spoken_number(one.head.series_number, volume.stack.number if len(one.volumes) > 1 else 0) or "-"


def _explain(one: CheckedSeries, volume: Checked) -> None:
    if not volume.findings:
        return
    print(f"series {_number(one, volume)} in {one.head.path.parent}: {volume.verdict.value}")
    for finding in sorted(volume.findings, key=lambda finding: SEVERITIES.index(finding.severity.value)):
        print(f"  {finding.repair or SAID[finding.severity.value]}: {finding.text}")
