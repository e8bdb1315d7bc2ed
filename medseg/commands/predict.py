"""medseg predict"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Run folder (or one zipped): the model.")],
    scan: Annotated[list[Path], typer.Argument(help="Scans (files or DICOM folders) or folders of scans, then OUT.")],
    fold: Annotated[list[Path] | None, typer.Option("--with", help="Further run folders: an ensemble.")] = None,
    channel: Annotated[list[str] | None, typer.Option(help="NAME=FILE, once for each channel of one case.")] = None,
    output: Annotated[list[str] | None, typer.Option(help="Formats to write. [default: nifti]")] = None,
    series: Annotated[
        str | None, typer.Option(help="Which series of a DICOM folder: UID, number or part of its description.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Inference settings: overlap=0.75 mirror=[left-right]")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 = all cores.")] = 0,
) -> None:
    """Segment scans into the folder OUT (the last argument), each in its own geometry.

    A scan that cannot be read is reported and the others go on; OUT/predict.json says what became of each. Exit code 1
    when any failed.
    """
    from medseg import progress
    from medseg.engine import device as devices
    from medseg.engine import scans
    from medseg.engine.predict import Predictor, predict_all
    from medseg.refusal import Refusal

    if len(scan) < (1 if channel else 2):
        raise Refusal(
            "medseg predict", found="one path", needed="a scan and a folder for the results", remedy="add the folder"
        )
    *inputs, out = scan
    devices.set_threads(threads)
    predictor = Predictor.load([run, *(fold or [])], device=device, changes=set_ or [])
    for text in channel or []:
        if "=" not in text:
            raise Refusal("--channel", found=f"'{text}'", needed="NAME=FILE", remedy="write it so")
    named = {name: Path(file) for name, _, file in (text.partition("=") for text in channel or [])}
    cases = scans.find(inputs, predictor.plan.channels, named)
    with progress.share("segmenting") as show:
        outcomes = predict_all(
            predictor,
            cases,
            out,
            formats=output or ["nifti"],
            series=series,
            announce=lambda text: print(text, file=sys.stderr, flush=True),
            on_tile=show,
        )
    failed = sum(outcome.state != "done" for outcome in outcomes)
    print(f"{len(outcomes) - failed} done, {failed} not; see {out / 'predict.json'}")
    if failed:
        raise typer.Exit(1)
