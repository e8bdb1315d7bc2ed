"""Many cases through one model: what is written for each, and a record of what became of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg import atomic, measurements, plugins
from medseg.case import Case
from medseg.config import Chosen, output
from medseg.dicom.objects import NOTE_OF_CHECK
from medseg.engine import runner
from medseg.engine.load import CHOICE, load_valid
from medseg.engine.predict import Predictor, TileCallback
from medseg.engine.region import Roi, needs_one_scan
from medseg.labels import LabelTable
from medseg.prediction import Classification, Prediction
from medseg.readers import read
from medseg.refusal import Refusal
from medseg.volume import Volume

MAPS = "maps"
"""What outputs say that they write if it is probabilities and no labels."""


def predict_all(
    predictor: Predictor,
    cases: Sequence[Case],
    out: Path,
    *,
    formats: Sequence[str] = (),
    series: str | None = None,
    announce: Callable[[str], None] = print,
    on_tile: TileCallback | None = None,
    use: Callable[[Case, Volume, Any], None] | None = None,
    probabilities: bool = False,
    gate: Callable[[Case, Volume, Prediction], tuple[Prediction, dict[str, Any]]] | None = None,
    roi: Roi | None = None,
) -> list[runner.Outcome]:
    """Predict every case into `out/<case><suffix>`; write `out/predict.json`, which says what became of each.

    Formats: outputs, each by its name alone or with options as in `config.output`; by default a NIfTI label map, or a
    table of probabilities where the model tells classes.

    `use` is called with each case, its scan and its prediction after the files are written; what it raises counts
    against that case only.

    `gate` limits label maps before they are written, and says how; see `engine.gate`.

    `roi` is the box of every scan that gets labels; see `engine.region`.

    A file that exists under a final name is complete. Cases that fail do not stop the others.
    """
    writers = _writers(formats, predictor.table, announce)
    if gate and predictor.table.unit != "voxel":
        raise Refusal(
            "--gate",
            found=f"a model that tells a class for every {predictor.table.unit}",
            needed="a segmentation: a gate takes labels away from slices",
            remedy="name the segmentation's run first and the slice classifier after --gate",
        )
    needs_one_scan(roi, len(cases))
    probabilities = probabilities or any(_needs_probabilities(one.module(), one.options) for one in writers)
    out.mkdir(parents=True, exist_ok=True)

    def work(case: Case) -> tuple[tuple[str, ...], dict[str, Any]]:
        places = {out / f"{case.id}{chosen.module().SUFFIX}": chosen for chosen in writers}
        _spare_inputs(places, case)
        scan = predictor.read_scan(case, series=series)
        for path, chosen in places.items():  # before a network runs for minutes
            if check := getattr(chosen.module(), "check", None):
                check(scan, path)
        valid = load_valid(case, scan, read)
        prediction = predictor.predict(
            scan, case.id, on_tile, valid=valid, centre=case.centre, probabilities=probabilities, roi=roi
        )
        gated: dict[str, Any] = {}
        if gate and isinstance(prediction, Prediction):
            prediction, gated = gate(case, scan, prediction)
        files = []
        for path, chosen in places.items():
            chosen.module().write(prediction, path, chosen.options)
            files.append(path.name)
        if use:
            use(case, scan, prediction)
        return tuple(files), _facts(prediction) | gated | _reading(scan)

    outcomes = []
    for number, outcome in enumerate(runner.run_all(cases, work), start=1):
        outcomes.append(outcome)
        told = ", ".join(outcome.files) if outcome.state == "done" else outcome.reason
        announce(f"[{number}/{len(cases)}] {outcome.case}: {outcome.state} in {outcome.seconds:.1f} s: {told}")
        for warning in outcome.facts.get("warnings", ()):
            announce(f"{outcome.case}: {warning}")
    report = {"provenance": dict(predictor.provenance), "cases": [outcome.to_json() for outcome in outcomes]}
    with atomic.replacing(out / "predict.json") as temporary:
        text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files need not be text
    return outcomes


def _reading(scan: Volume) -> dict[str, str]:
    """Facts for predict.json: which series was taken, and what the check of it found."""
    names = {CHOICE: "series", NOTE_OF_CHECK: "check of the series"}
    return {name: scan.source.notes[key] for key, name in names.items() if scan.source.notes.get(key)}


def _needs_probabilities(module: Any, options: Any) -> bool:
    """Whether an output with these options wants more than labels; those that never do need not say so."""
    asked = getattr(module, "needs_probabilities", None)
    return asked is not None and asked(options)


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


def _facts(prediction: Prediction | Classification) -> dict[str, Any]:
    if isinstance(prediction, Prediction):
        return {"volume_ml": measurements.volumes_ml(prediction), **prediction.facts}
    return chances(prediction)


def chances(classification: Classification) -> dict[str, Any]:
    """Facts for predict.json: the probability of each class; of slices, the highest and how many are decided so."""
    names, found = classification.table.names, classification.probabilities
    if classification.table.unit == "image":
        return {"probability": {name: round(float(row[0]), 4) for name, row in zip(names, found, strict=True)}}
    decided = classification.decisions.sum(axis=1)
    return {
        "slices": found.shape[1],
        "highest probability": {name: round(float(row.max()), 4) for name, row in zip(names, found, strict=True)},
        "slices decided so": {name: int(count) for name, count in zip(names, decided, strict=True)},
    }


def _spare_inputs(places: Iterable[Path], case: Case) -> None:
    """Refuse to write labels over the scan that they are made from."""
    inputs = {path.resolve() for path in case.images.values()}
    for path in places:
        if path.resolve() in inputs:
            raise Refusal(
                path, found="the scan itself", needed="another place for its labels", remedy="choose another folder"
            )
