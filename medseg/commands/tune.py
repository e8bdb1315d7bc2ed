"""medseg tune"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Run folder (or one zipped): the model.")],
    cases: Annotated[
        list[Path] | None,
        typer.Argument(help="Scans, or folders of scans, without labels: also settle the number format on them."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    seconds: Annotated[float, typer.Option(min=0, help="How long to measure.")] = 60,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads, as for predict; 0 = all cores.")] = 0,
) -> None:
    """Measure which back end computes a model the fastest on this machine, and remember it for `medseg predict`.

    Every installed one is measured on a tile of the model's own size. One is taken only if its labels are those of
    float32 about as often as PyTorch's own are in the same number format, and if it is 5 % faster than PyTorch.

    With CASES, that bf16 gives the labels of float32 is checked on up to five of them and pinned in the run folder, as
    training does on its validation cases. They must not be what the model was trained on.
    """
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from medseg import progress
    from medseg.engine import device as devices
    from medseg.engine import tuning
    from medseg.engine.run import Run

    devices.tune_allocator()
    devices.set_threads(threads)
    chosen = devices.choose(device)
    if cases:
        _settle(run, cases, device)
    with progress.share("measuring, seconds") as show:
        found = tuning.tune(Run.open(run), device=chosen, seconds=seconds, on_time=show)
    columns = ("seconds a tile", "largest difference", "equal labels")
    table = Table("precision", "back end", *(Column(name, justify="right") for name in columns), "")
    for tuned in found:
        for one in tuned.measured:
            numbers = ("", "", "")
            if one.seconds is not None:
                numbers = (f"{one.seconds:.4f}", f"{one.largest_difference:.2g}", f"{one.equal:.4%}")
            remark = "fastest" if one.backend == tuned.backend else one.reason
            table.add_row(one.precision, one.backend, *numbers, Text(remark))
    Console().print(table)
    print("Differences are those from float32 as PyTorch computes it.", file=sys.stderr)


def _settle(folder: Path, cases: list[Path], device: str) -> None:
    """Let the model answer cases in bf16 and in float32, and pin the format."""
    from functools import partial

    from medseg.engine import precision, scans
    from medseg.engine.predict import Predictor
    from medseg.engine.run import Run
    from medseg.refusal import Refusal

    if not folder.is_dir():
        raise Refusal(
            folder,
            found="a zipped run",
            needed="a folder, where the number format is pinned",
            remedy="unzip it, or leave the cases out",
        )
    predictor = Predictor.load([folder], device=device, changes=["precision=32", "backend=eager"])
    by_study = bool(predictor.dicom.channels) or predictor.dicom.select is not None
    found = scans.find(cases, predictor.plan.channels, {}, by_study=by_study, by_channel=bool(predictor.dicom.channels))
    opened = Run.open(folder)
    if known := sorted(case.id for case in found if case.id in opened.learned_from):
        raise Refusal(
            ", ".join(str(path) for path in cases),
            found=f"{len(known)} with the names of cases that the model was trained on, such as {known[0]}",
            needed="other scans: of those that it knows a network is surer",
            remedy="leave them out, and rename cases that are others in truth",
        )
    images = {case.id: partial(predictor.prepared, case) for case in found}
    say = partial(print, file=sys.stderr, flush=True)
    precision.settle(opened, images, device=predictor.device, announce=say)
