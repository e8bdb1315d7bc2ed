"""medseg predict"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from medseg.case import Case
    from medseg.engine.gate import Gate
    from medseg.engine.predict import Predictor
    from medseg.engine.runner import Outcome

Quality = Literal["fast", "standard", "best"]


def command(
    run: Annotated[Path, typer.Argument(help="Run folder (or one zipped), or a folder of folds: the model.")],
    scan: Annotated[
        list[Path],
        typer.Argument(
            metavar="SCAN... OUT",
            help="Scans (files or DICOM folders) or folders of scans; last, the folder for the results.",
        ),
    ],
    fold: Annotated[list[Path] | None, typer.Option("--with", help="Further run folders: an ensemble.")] = None,
    channel: Annotated[list[str] | None, typer.Option(help="NAME=FILE, once for each channel of one case.")] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            help="FORMAT, or FORMAT:option=value,option=value; `medseg list outputs` names them. "
            "[default: nifti, or scores for classes]"
        ),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option(
            help="Which series of a DICOM folder: UID, number, part of its description; 7/2 is its volume 2. "
            "[default: by the recipe's rules, dicom.select]"
        ),
    ] = None,
    repair: Annotated[
        str | None, typer.Option(help="Irregular DICOM series: fix, report or refuse. [default: the recipe's]")
    ] = None,
    gate: Annotated[
        Path | None, typer.Option(help="Run folder of a slice classifier: labels are limited to slices that it flags.")
    ] = None,
    gate_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Probability from which a slice is flagged.")
    ] = 0.5,
    roi: Annotated[
        str | None,
        typer.Option(
            help="Only this box: 10:120,:,30:60 (voxels i,j,k of the scan as stored, from 0, the last left out), or "
            "around a mask's file."
        ),
    ] = None,
    labels: Annotated[
        str, typer.Option(help="Only these labels, as in liver,spleen; by a coarse pass first if the model has one.")
    ] = "",
    quality: Annotated[
        Quality, typer.Option(help="fast: less overlap, no mirroring, one run; best: what training allows.")
    ] = "standard",
    centre: Annotated[str, typer.Option(help="Where the scans were taken, for models that are told.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Inference settings: overlap=0.75, mirror=[left-right], dicom.gap_mm=5, ..."),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 = all cores.")] = 0,
    max_memory: Annotated[
        str | None, typer.Option(help="Most memory of the whole process, such as 6GiB. [default: what is free]")
    ] = None,
    max_gpu_memory: Annotated[str | None, typer.Option(help="The same of the GPU. [default: what is free]")] = None,
    ahead: Annotated[
        bool | None,
        typer.Option(
            help="Read the next scan and write the last result while the network works: faster, and up to three cases "
            "are in memory. [default: on a GPU, without --max-memory]"
        ),
    ] = None,
    progress: Annotated[str, typer.Option(help="people, or json: an object a line on standard error.")] = "people",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only say of each case whether it fits, what memory it needs and how long it would take; with "
            "--progress json in one object on standard output.",
        ),
    ] = False,
) -> None:
    """Segment scans into the folder OUT (the last argument), each in its own geometry.

    Where the recipe has rules for DICOM series (dicom.select, or dicom.channels for several), each study in a folder
    is a case, and its series is chosen by the rules; `medseg dicom select` shows how. Else each subfolder is a series.
    A zip in a folder is a case, too.

    Each result is judged without the truth (pass, look or fail, with reasons) by what the run's training cases were
    like; after `medseg calibrate`, by what the network promises too.

    A scan that cannot be read is reported and the others go on; OUT/predict.json says what became of each. Exit code 1
    when any failed.

    --roi and --labels: all else becomes background, and clean-up sees only what is left. --quality sets the overlap of
    tiles, whether they lie around the patient alone, mirrored passes and how many run folders take part; what is set by
    --set comes after it.

    --gate: a lesion in a slice that is not flagged is lost. How often that was so on the gate's own held-out slices is
    said; `medseg evaluate RUN --gate ...` measures it on the run's cases.
    """
    from dataclasses import replace

    from medseg import interrupts
    from medseg import progress as showing
    from medseg.engine import device as devices
    from medseg.engine import scans
    from medseg.engine.batch import predict_all
    from medseg.engine.gate import Gate
    from medseg.engine.memory import Limits
    from medseg.engine.predict import Predictor
    from medseg.refusal import Refusal

    if len(scan) < (1 if channel else 2):
        raise Refusal(
            "medseg predict", found="one path", needed="a scan and a folder for the results", remedy="add the folder"
        )
    *inputs, out = scan
    devices.set_threads(threads)
    changes = [*(set_ or []), *([f"dicom.repair={repair}"] if repair else [])]
    wanted = [name.strip() for name in labels.split(",") if name.strip()]
    limits = Limits.of(max_memory, max_gpu_memory)
    if ahead and max_memory is not None:
        raise Refusal(
            "--ahead",
            found="it beside --max-memory",
            needed="one of them: what a plan of memory counts is one case at a time",
            remedy="leave one out",
        )
    predictor = Predictor.load(
        [run, *(fold or [])], device=device, changes=changes, quality=quality, labels=wanted, limits=limits
    )
    named = _named(channel or [])
    by_channel = bool(predictor.dicom.channels) and series is None
    by_study = by_channel or predictor.dicom.select is not None
    found = scans.find(inputs, predictor.plan.channels, named, by_study=by_study, by_channel=by_channel)
    cases = [replace(case, centre=centre) for case in found]
    gating = Gate.load(gate, threshold=gate_threshold, device=device, limits=limits) if gate else None
    if dry_run:
        _dry_run(predictor, cases, out, formats=output or [], series=series, roi=roi, gate=gating, progress=progress)
        return
    with interrupts.by_sigterm(), showing.cases(progress) as show:
        if gating:
            show(gating.cost)
        outcomes = predict_all(
            predictor,
            cases,
            out,
            formats=output or [],
            series=series,
            announce=show,
            on_step=show,
            gate=gating,
            roi=roi,
            ahead=predictor.device.type == "cuda" and max_memory is None if ahead is None else ahead,
        )
    if not _all_done(outcomes, out):
        raise typer.Exit(1)


def _named(channels: Sequence[str]) -> dict[str, Path]:
    """The file of each channel, from NAME=FILE."""
    from medseg.refusal import Refusal

    named: dict[str, Path] = {}
    for text in channels:
        name, equals, file = text.partition("=")
        if not equals:
            raise Refusal("--channel", found=f"'{text}'", needed="NAME=FILE", remedy="write it so")
        if name in named:
            raise Refusal(
                "--channel",
                found=f"{name} twice",
                needed="a file for each channel of one case",
                remedy="predict further cases by calls of their own, or name a folder of scans",
            )
        named[name] = Path(file)
    return named


def _all_done(outcomes: Sequence[Outcome], out: Path) -> bool:
    """Whether they are, which is said."""
    failed = sum(outcome.state != "done" for outcome in outcomes)
    verdicts = [outcome.facts["quality"]["verdict"] for outcome in outcomes if "quality" in outcome.facts]
    if verdicts:
        counts = {verdict: verdicts.count(verdict) for verdict in ("pass", "look", "fail")}
        print(f"quality control without truth: {', '.join(f'{count} {word}' for word, count in counts.items())}")
    print(f"{len(outcomes) - failed} done, {failed} not; see {out / 'predict.json'}")
    return not failed


def _dry_run(
    predictor: Predictor,
    cases: Sequence[Case],
    out: Path,
    *,
    formats: Sequence[str],
    series: str | None,
    roi: str | None,
    gate: Gate | None,
    progress: str,
) -> None:
    """Exit code 1 when any case would be refused."""
    import json

    from medseg import progress as showing
    from medseg.engine import outlook
    from medseg.engine.bench import Bench
    from medseg.engine.region import needs_one_scan

    needs_one_scan(roi, len(cases))
    found = []
    with showing.cases(progress) as show:
        bench = Bench.of(predictor, formats, announce=show, roi=roi, gate=gate)
        for one in outlook.look(bench, cases, out, series=series):
            found.append(one)
            if progress == "people":
                print("\n".join(one.lines()), flush=True)
    if progress == "json":
        told = {"name": predictor.recipe.name, "labels": list(predictor.table.names), "kind": predictor.table.unit}
        device, cases_told = str(predictor.device), [one.to_json() for one in found]
        print(json.dumps({"model": told, "device": device, "cases": cases_told}, ensure_ascii=False))
    if any(one.refusal for one in found):
        raise typer.Exit(1)
