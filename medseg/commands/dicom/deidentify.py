"""medseg dicom deidentify"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer


def command(
    source: Annotated[Path, typer.Argument(help="Folder of DICOM files, or one file; it is only read.")],
    out: Annotated[Path, typer.Argument(help="Folder for the cleaned files.")],
    key: Annotated[Path, typer.Option(help="File with the key that pseudonyms come from; made if it is not there.")],
    way_back: Annotated[
        Path | None,
        typer.Option("--mapping", help="CSV file that leads back to the patients. [default: KEY.mapping.csv]"),
    ] = None,
    keep: Annotated[
        str,
        typer.Option(help="What stays, by commas: dates, patient, private, device, institution, descriptors; or none."),
    ] = "dates,patient,private",
    keep_private: Annotated[
        Path | None, typer.Option(help="CSV file of more private attributes to keep: group, creator, element.")
    ] = None,
    pseudonyms: Annotated[
        Path | None, typer.Option(help="Table (CSV) of your own pseudonyms, with the columns patient_id and pseudonym.")
    ] = None,
    accept_burned_in: Annotated[
        bool, typer.Option("--accept-burned-in", help="Copy pictures that may show names, too; look at each.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; say what would be done.")] = False,
    workers: Annotated[int, typer.Option(help="Processes; 0 is one a core.")] = 0,
) -> None:
    """Copy DICOM files without the identities in them, by the basic profile of DICOM PS3.15.

    Key and mapping stay with you: whoever has them can lead the copies back to the patients. Exit code 1 when a file
    failed; it is then named, and not in the copies.
    """
    import os

    from medseg import progress
    from medseg.dicom.deidentify import folder, mapping, patients, secret
    from medseg.dicom.deidentify.rules import read_private

    kept = _kept(keep)
    way_back = way_back or key.with_name(key.name + ".mapping.csv")
    for path in (key, way_back):
        _refuse_inside(path, out)
    choices = folder.Choices(
        kept=kept,
        private=read_private(keep_private) if keep_private else frozenset(),
        pseudonyms=patients.read_pseudonyms(pseudonyms) if pseudonyms else None,
        accept_burned_in=accept_burned_in,
    )
    found = folder.files(source)
    hidden = secret.fresh() if dry_run and not key.exists() else secret.read_or_make(key)
    workers = workers or os.cpu_count() or 1
    earlier = mapping.read(way_back)
    with progress.counting("looking", total=len(found)) as tick:
        plan = folder.plan(source, out, hidden, choices, earlier, workers=workers, tick=tick)
    links = mapping.merge(way_back, earlier, plan.links)
    if not dry_run:
        mapping.write(way_back, links)
    with progress.counting("cleaning", total=len(plan.jobs)) as tick:
        tally, failed = folder.run(plan.jobs, write=not dry_run, workers=workers, tick=tick)
    failed |= plan.failed
    if dry_run:
        _tell_attributes(tally)
    _tell("left out", plan.left_out)
    _tell("copied although its pixels may show a name; look at it", plan.warnings)
    _tell("failed", failed)
    done, would = len(plan.jobs) - len(failed.keys() - plan.failed.keys()), "would be " if dry_run else ""
    people = len({link.pseudonym for link in plan.links})
    print(f"{done} files of {people} patients {would}cleaned, {len(plan.left_out)} left out, {len(failed)} failed")
    if not dry_run:
        print(f"key: {key}, way back: {way_back}; neither goes along with {out}")
    if failed:
        raise typer.Exit(1)


def _kept(keep: str) -> frozenset[str]:
    from medseg.dicom.deidentify.rules import OPTIONS
    from medseg.plugins import nearest
    from medseg.refusal import Refusal

    names = [] if keep.strip() == "none" else [name.strip() for name in keep.split(",")]
    for name in names:
        if name not in OPTIONS:
            raise Refusal("--keep", found=f"'{name}'", needed="what can be kept", remedy=nearest(name, tuple(OPTIONS)))
    return frozenset(names)


def _refuse_inside(path: Path, out: Path) -> None:
    from medseg.refusal import Refusal

    if path.resolve().is_relative_to(out.resolve()):
        raise Refusal(
            path,
            found="a place among the cleaned files",
            needed="one that is not handed on with them",
            remedy="name another with --key and --mapping",
        )


def _tell(what: str, reasons: Mapping[Path, str]) -> None:
    for path, reason in reasons.items():
        print(f"{what}: {reason}" if str(path) in reason else f"{what}: {path}: {reason}")


def _tell_attributes(tally: Counter[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(Column("attribute", overflow="fold"), "what", Column("times", justify="right"))
    for (name, what), count in sorted(tally.items()):
        table.add_row(*map(Text, (name, what, str(count))))
    Console().print(table)
