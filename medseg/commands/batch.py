"""medseg batch"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

Quality = Literal["fast", "standard", "best"]


@contextmanager
def _quietly() -> Iterator[None]:
    """What becomes of each case is told as progress; the service's log has warnings alone, here and in the workers."""
    logger = logging.getLogger("medseg.service")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


@_quietly()
def command(
    run: Annotated[Path, typer.Argument(help="Run folder (or one zipped), or a folder of folds: the model.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT... OUT",
            help="Folders, files, DICOMDIRs, zips, tables (.csv: a column scan, or one for each channel; case) or "
            "DICOMweb addresses (https://HOST/dicom-web/studies?PatientID=...); last, the folder for the results.",
        ),
    ],
    output: Annotated[
        list[str] | None, typer.Option(help="FORMAT, or FORMAT:option=value; as `medseg predict` takes them.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Inference settings: overlap=0.75, dicom.gap_mm=5, ...")
    ] = None,
    quality: Annotated[Quality, typer.Option(help="fast, standard or best.")] = "standard",
    labels: Annotated[str, typer.Option(help="Only these labels, as in liver,spleen.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that run the model; 0: one for each GPU, or one.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of each; 0: the cores, shared out.")] = 0,
    ahead: Annotated[
        bool | None,
        typer.Option(help="Read the next case and write the last one while the network works. [default: on a GPU]"),
    ] = None,
    limit_s: Annotated[float, typer.Option(min=1, help="Longest time of a case, in seconds.")] = 3600,
    tries: Annotated[int, typer.Option(min=1, help="How often a case is begun before it is put aside.")] = 3,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what failed or was put aside before.")] = False,
    journal: Annotated[
        str, typer.Option(help="postgresql://... for several machines. [default: OUT/journal.sqlite]")
    ] = "",
    ray: Annotated[str, typer.Option(help="Address of a Ray cluster that runs the model; local: one here.")] = "",
    progress: Annotated[str, typer.Option(help="people, or json: an object a line on standard error.")] = "people",
) -> None:
    """Segment very many scans into the folder OUT (the last argument), and account for each of them.

    Every DICOM series to any depth is a case (every study, where the model chooses its series by rules), every volume
    of a series with several, every image file, every line of a table; what cannot be read is a case that is refused.
    Each ends done, repaired (and done) or not done for a reason that OUT/jobs.csv names; the table at the end adds up.

    What is done stays done: the same command goes on where it was stopped, by whatever. A case that kills its worker or
    takes longer than --limit-s is tried again by itself, and put aside after --tries. `medseg jobs show OUT JOB` tells
    all that happened to one. Exit code 1 unless all are done.
    """
    from medseg import interrupts
    from medseg import progress as showing
    from medseg.refusal import Refusal
    from medseg.service.journal import Journal
    from medseg.service.operations import person
    from medseg.service.settings.folders import refuse_unsayable
    from medseg.service.settings.work import Work
    from medseg.service.work import batch as batches
    from medseg.service.work import inputs as named
    from medseg.service.work import summary
    from medseg.service.work.parameters import Parameters

    if len(inputs) < 2:
        raise Refusal(
            "medseg batch", found="one path", needed="scans, and a folder for the results", remedy="add the folder"
        )
    *paths, last = inputs
    out = Path(last)
    for path in (run, out):
        refuse_unsayable(path)
    wanted = tuple(name.strip() for name in labels.split(",") if name.strip())
    parameters = Parameters(outputs=tuple(output or ()), changes=tuple(set_ or ()), quality=quality, labels=wanted)
    work = Work(workers=workers, device=device, threads=threads, ahead=ahead, tries=tries, limit_s=limit_s, drain_s=0)
    batch = batches.Batch(run, out, parameters, work, journal)
    found, passed = named.find(batches.fetched(paths, out), batch.needs(), out)
    with showing.cases(progress) as show, interrupts.requests() as asked:
        show(f"{len(found)} cases" + (f"; passed over: {passed}" if passed else ""))
        opened = Journal(batch.site.journal_at)
        jobs = batches.submit(batch, opened, found, who=person.here(), retry=retry)
        batches.run(batch, opened, jobs, asked=asked, show=show, ray=ray)
        stopped = asked()
    ended = [opened.jobs.get(job) for job in jobs]
    opened.close()
    summary.write(ended, out / "jobs.csv")
    print(summary.table(ended))
    print(f"each case: {out / 'jobs.csv'}")
    if stopped:
        raise typer.Exit(interrupts.exit_code(interrupts.Interrupted(stopped)))
    if not all(summary.is_good(job) for job in ended):
        raise typer.Exit(1)
