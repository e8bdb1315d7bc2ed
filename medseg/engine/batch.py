"""Many cases through one model: what is written for each, and a record of what became of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg import plugins, scratch
from medseg.case import Case
from medseg.config import Chosen, output
from medseg.engine import device as devices
from medseg.engine import runner, stages
from medseg.engine.budget import SCRATCH_SHARE
from medseg.engine.load import load_valid
from medseg.engine.predict import Predictor
from medseg.engine.record import Record, facts
from medseg.engine.region import Roi, needs_one_scan
from medseg.labels import LabelTable
from medseg.prediction import Prediction
from medseg.progress import Course, Step
from medseg.readers import read
from medseg.refusal import Refusal
from medseg.volume import Volume

Gating = Callable[[Case, Volume, Prediction], tuple[Prediction, dict[str, Any]]]
MAPS = "maps"
"""What outputs say that they write if it is no labels, but shares from 0 to 1."""


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

    A file that exists under a final name is complete. Cases that fail do not stop the others.
    """
    if ahead and predictor.limits.host is not None:
        raise Refusal(
            "--ahead",
            found="a limit of memory, and three cases at once",
            needed="one at a time: what the others take is not known before they are read",
            remedy="leave out --ahead, or --max-memory",
        )
    writers = _writers(formats, predictor.table, announce)
    if gate and predictor.table.unit != "voxel":
        raise Refusal(
            "--gate",
            found=f"a model that tells a class for every {predictor.table.unit}",
            needed="a segmentation: a gate takes labels away from slices",
            remedy="name the segmentation's run first and the slice classifier after --gate",
        )
    needs_one_scan(roi, len(cases))
    wanted = {name for one in writers for name in _keeps(one.module(), one.options)}
    probabilities = probabilities or "probabilities" in wanted
    uncertainty = wanted - {"probabilities"}
    out.mkdir(parents=True, exist_ok=True)
    record = Record(out / "predict.json", predictor.provenance)
    batch = _Batch(
        predictor, writers, out, series, probabilities, uncertainty, gate, roi, use, _courses(cases, on_step), announce
    )
    outcomes: list[runner.Outcome] = []
    above = predictor.limits.host_bytes() // SCRATCH_SHARE
    try:
        with (
            scratch.on_disk(out, above=above),
            closing(runner.run_all(batch.begun(cases), batch.work, ahead=ahead, on_stage=batch.tell)) as ended,
        ):
            for outcome in ended:
                outcomes.append(outcome)
                if outcome.state != "done":
                    devices.give_back(after_error=True)
                record.keep(outcome)
                told = ", ".join(outcome.files) if outcome.state == "done" else outcome.reason or "as was asked"
                announce(
                    f"[{len(outcomes)}/{len(cases)}] {outcome.case}: {outcome.state} in {outcome.seconds:.1f} s: {told}"
                )
                quality = outcome.facts.get("quality")
                if quality and quality["verdict"] != "pass":
                    announce(f"{outcome.case}: {quality['verdict']}: {'; '.join(quality['reasons'])}")
                for warning in outcome.facts.get("warnings", ()):
                    announce(f"{outcome.case}: {warning}")
    finally:
        record.write()
        devices.give_back(after_error=sys.exc_info()[0] is not None)
    return outcomes


def _courses(cases: Sequence[Case], on_step: Callable[[Step], None] | None) -> dict[str, Course]:
    tell = on_step or (lambda step: None)
    return {case.id: Course(tell, case.id, number, len(cases)) for number, case in enumerate(cases, start=1)}


@dataclass(frozen=True)
class _Batch:
    """What is the same for all cases, and the work on one; see `predict_all`."""

    predictor: Predictor
    writers: Sequence[Chosen]
    out: Path
    series: str | None
    probabilities: bool
    uncertainty: Collection[str]
    gate: Gating | None
    roi: Roi | None
    use: Callable[[Case, Volume, Any], None] | None
    courses: Mapping[str, Course]
    announce: Callable[[str], None]

    def begun(self, cases: Iterable[Case]) -> Iterator[Case]:
        """The cases, each told of when its reading begins, whichever thread reads it."""
        for case in cases:
            self.tell(case, "read")
            yield case

    def tell(self, case: Case, stage: str) -> None:
        self.courses[case.id].stage(stage)

    def work(self, case: Case) -> runner.Steps:
        places = {self.out / f"{case.id}{chosen.module().SUFFIX}": chosen for chosen in self.writers}
        with stages.stage("read"):
            scan = self._scan(case, places)
            valid = load_valid(case, scan, read)
        yield
        course = self.courses[case.id]
        course.megabytes = scan.array.nbytes / 1e6
        prediction = self.predictor.predict(
            scan,
            case.id,
            course.tiles,
            valid=valid,
            centre=case.centre,
            probabilities=self.probabilities,
            uncertainty=self.uncertainty,
            roi=self.roi,
            on_forecast=lambda forecast: self.announce(f"{case.id}: {forecast.sentence()}"),
        )
        gated: dict[str, Any] = {}
        if self.gate and isinstance(prediction, Prediction):
            with stages.stage("gate"):
                prediction, gated = self.gate(case, scan, prediction)
        course.stage("write")
        yield
        for path, chosen in places.items():
            with stages.stage("write"):
                chosen.module().write(prediction, path, chosen.options)
        with stages.stage("measure"):
            found = facts(prediction, scan) | gated
        yield
        if self.use:
            with stages.stage("use"):
                self.use(case, scan, prediction)
        return tuple(path.name for path in places), found

    def _scan(self, case: Case, places: Mapping[Path, Chosen]) -> Volume:
        """The scan, which every output has agreed to, before a network runs for minutes."""
        _spare_inputs(places, case)
        scan = self.predictor.read_scan(case, series=self.series)
        for path, chosen in places.items():
            if check := getattr(chosen.module(), "check", None):
                check(scan, path)
        return scan


def _keeps(module: Any, options: Any) -> tuple[str, ...]:
    """Maps that an output with these options wants besides labels; those that never do need not say so."""
    asked = getattr(module, "keeps", None)
    return () if asked is None else tuple(asked(options))


def _writers(formats: Sequence[str], table: LabelTable, announce: Callable[[str], None]) -> list[Chosen]:
    """The outputs asked for, with their options; those for label maps are of no use to classes, and the other way
    round. What a module refers to (its NEEDS, with the options that fit) is written too, and before it."""
    wanted, usual = (("labels", MAPS), "nifti") if table.unit == "voxel" else (("classes",), "scores")
    writers = [output(text) for text in formats or [usual]]
    names = [chosen.name for chosen in writers]
    for name in names:
        if names.count(name) > 1:
            raise Refusal(
                f"--output {name}",
                found="the same format twice",
                needed="each once: their files would have one name",
                remedy="leave one out, or write the other into another folder",
            )
        if plugins.find("outputs", name).WRITES not in wanted:
            fitting = [one for one in plugins.names("outputs") if plugins.find("outputs", one).WRITES in wanted]
            raise Refusal(
                f"output {name}",
                found=f"a format for {plugins.find('outputs', name).WRITES}",
                needed=f"one for {wanted[0]}, which is what this model gives",
                remedy=f"choose {' or '.join(fitting)}",
            )
    return _with_needs(writers, announce)


def _with_needs(writers: Sequence[Chosen], announce: Callable[[str], None]) -> list[Chosen]:
    asked = {chosen.name: chosen for chosen in writers}
    ordered: dict[str, Chosen] = {}
    for chosen in writers:
        for needed, fitting in getattr(chosen.module(), "NEEDS", {}).items():
            if needed not in asked and needed not in ordered:
                announce(f"{needed} is written too, because {chosen.name} refers to it")
            ordered.setdefault(needed, asked.get(needed) or output(needed))
            _refuse_unfit(chosen.name, ordered[needed], fitting)
        ordered.setdefault(chosen.name, chosen)
    return list(ordered.values())


def _refuse_unfit(name: str, needed: Chosen, fitting: Mapping[str, Sequence[str]]) -> None:
    """What an output refers to must be of a kind that it can refer to."""
    for option, values in fitting.items():
        given = getattr(needed.options, option)
        if given not in values:
            raise Refusal(
                f"--output {needed.name}",
                found=f"{option}={given} beside the output {name}, which refers to it",
                needed=f"{option} {' or '.join(values)}",
                remedy=f"choose that, or leave {name} out",
            )


def _spare_inputs(places: Iterable[Path], case: Case) -> None:
    """Refuse to write labels over the scan that they are made from."""
    inputs = {path.resolve() for path in case.images.values()}
    for path in places:
        if path.resolve() in inputs:
            raise Refusal(
                path, found="the scan itself", needed="another place for its labels", remedy="choose another folder"
            )
