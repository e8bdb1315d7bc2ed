"""Many cases through one model into one folder, with a record of what became of each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from medseg.case import Case
from medseg.engine import device as devices
from medseg.engine import runner
from medseg.engine.bench import Bench, Gating, Order
from medseg.engine.predict import Predictor
from medseg.engine.record import Record
from medseg.engine.region import Roi, needs_one_scan
from medseg.progress import Course, Step
from medseg.refusal import Refusal
from medseg.volume import Volume


def predict_all(
    predictor: Predictor,
    cases: Sequence[Case],
    out: Path,
    *,
    formats: Sequence[str] = (),
    series: str | None = None,
    announce: Callable[[str], None] = print,
    on_step: Callable[[Step], None] | None = None,
    use: Callable[[Case, Volume, Any], None] | None = None,
    probabilities: bool = False,
    gate: Gating | None = None,
    roi: Roi | None = None,
    ahead: bool = False,
) -> list[runner.Outcome]:
    """Predict every case into `out/<case><suffix>`; keep `out/predict.json`, which says what became of each.

    Formats: outputs, each by its name alone or with options as in `config.output`; by default a NIfTI label map, or a
    table of probabilities where the model tells classes.

    `use` is called with each case, its scan and its prediction after the files are written; what it raises counts
    against that case only.

    `gate` limits label maps before they are written, and says how; see `engine.gate`.

    `roi` is the box of every scan that gets labels; see `engine.region`.

    `on_step` is told of every stage and every tile. If it raises `progress.Cancelled`, the batch ends: the case is on
    record as cancelled, and nothing of it stays in memory.

    `ahead`: the next case is read and the last one written while the network works; see `runner.run_all`. `use`, `gate`
    and `on_step` are called in the caller's thread all the same. Not under a limit of the host's memory.

    A file that exists under a final name is complete. Cases that fail do not stop the others. What `predict.json` says
    of other cases, which an earlier call left in the folder, stays in it.
    """
    bench = Bench.of(predictor, formats, announce=announce, probabilities=probabilities, gate=gate, roi=roi, use=use)
    bench.refuse_ahead(ahead)
    needs_one_scan(roi, len(cases))
    if out.is_file():  # of the words of a command line OUT is the last
        raise Refusal(out, found="a file", needed="a folder for the results", remedy="name it after the scans")
    out.mkdir(parents=True, exist_ok=True)
    record = Record(out / "predict.json", predictor.provenance)
    tell = on_step or (lambda step: None)
    orders = (
        Order(case, out, Course(tell, case.id, number, len(cases)), series) for number, case in enumerate(cases, 1)
    )
    outcomes: list[runner.Outcome] = []
    try:
        with closing(bench.run(orders, ahead=ahead, scratch_in=out)) as ended:
            for outcome in ended:
                outcomes.append(outcome)
                record.keep(outcome)
                for line in _told(outcome, len(outcomes), len(cases)):
                    announce(line)
    finally:
        record.write()
        devices.give_back(after_error=sys.exc_info()[0] is not None)
    return outcomes


def _told(outcome: runner.Outcome, number: int, cases: int) -> list[str]:
    """What became of a case, for people."""
    told = ", ".join(outcome.files) if outcome.state == "done" else outcome.reason or "as was asked"
    lines = [f"[{number}/{cases}] {outcome.case}: {outcome.state} in {outcome.seconds:.1f} s: {told}"]
    quality = outcome.facts.get("quality")
    if quality and quality["verdict"] != "pass":
        lines.append(f"{outcome.case}: {quality['verdict']}: {'; '.join(quality['reasons'])}")
    return lines + [f"{outcome.case}: {warning}" for warning in outcome.facts.get("warnings", ())]
