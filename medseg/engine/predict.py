"""From scans to labels in the scans' own geometry: models are loaded once, cases run one after another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import medseg
from medseg import atomic, config, plugins
from medseg.case import Case
from medseg.config import PredictSettings, Recipe
from medseg.engine import device as devices
from medseg.engine import runner, tiles
from medseg.engine.load import load_image
from medseg.engine.run import Run
from medseg.labels import LabelTable
from medseg.plan import Plan
from medseg.prediction import Prediction
from medseg.readers import read
from medseg.refusal import Refusal
from medseg.transforms import prepare as transform
from medseg.volume import Volume

TileCallback = Callable[[int, int], None]


@dataclass(frozen=True)
class Member:
    """One network and the plan that its scans are prepared by; the folds of a recipe differ in normalisation."""

    network: nn.Module
    plan: Plan


@dataclass(frozen=True)
class Predictor:
    """One loaded model, or a fold ensemble, ready for any number of scans.

    Example:
        >>> predictor = Predictor.load([Path("runs/liver")])            # doctest: +SKIP
        >>> prediction = predictor.predict_volume(read(Path("ct.nii.gz")), "ct")   # doctest: +SKIP
    """

    members: tuple[Member, ...]
    recipe: Recipe
    table: LabelTable
    settings: PredictSettings
    device: torch.device
    provenance: Mapping[str, str]

    @classmethod
    def load(cls, runs: Sequence[Path], *, device: str = "auto", changes: Sequence[str] = ()) -> Predictor:
        """Load the runs' best weights. Several runs are an ensemble: their logits are averaged.

        Args:
            runs: run folders, or zipped ones.
            device: auto, cpu, cuda or mps.
            changes: `key=value` changes of the recipe's inference settings.

        Raises:
            Refusal: a run is incomplete or damaged, or the runs do not share plan and labels.
        """
        devices.tune_allocator()
        opened = [Run.open(path) for path in runs]
        first = opened[0]
        for other in opened[1:]:
            if other.table != first.table or _grid(other.plan) != _grid(first.plan):
                raise Refusal(
                    other.folder,
                    found="another label table, channels, orientation, crop or spacing than the first run",
                    needed="runs of one recipe, for example its folds",
                    remedy="predict with each alone; with prepare.spacing_mm given in the recipe, all folds share one",
                )
        chosen = devices.choose(device)
        settings = config.changed(first.recipe.predict, changes)
        devices.check_precision(chosen, settings.precision, where="precision")
        loaded = [run.load_network() for run in opened]
        provenance = {
            "model": first.recipe.name,
            "network": first.recipe.model.name,
            "weights sha256": ", ".join(sha256 for _, sha256 in loaded),
            "medseg": medseg.__version__,
            "licence of the weights": first.recipe.licence,
        }
        return cls(
            members=tuple(
                Member(network.to(chosen), run.plan) for run, (network, _) in zip(opened, loaded, strict=True)
            ),
            recipe=first.recipe,
            table=first.table,
            settings=settings,
            device=chosen,
            provenance=provenance,
        )

    @property
    def plan(self) -> Plan:
        """Of the first member; channels, orientation and spacing are those of all."""
        return self.members[0].plan

    def predict_volume(self, scan: Volume, case: str, on_tile: TileCallback | None = None) -> Prediction:
        """Labels of one scan, on its grid.

        Args:
            scan: with the channels of the plan, in their order.
            case: id for files and reports.
            on_tile: called with (tiles done, tiles in all).
        """
        scores: torch.Tensor | None = None
        for member in self.members:
            image, undo = transform.image(scan, member.plan)
            logits = tiles.logits(
                [member.network],
                torch.from_numpy(image),
                tile=member.plan.patch,
                settings=self.settings,
                orientation=member.plan.orientation,
                device=self.device,
                on_tile=on_tile,
            )
            scores = logits if scores is None else scores.add_(logits)
        assert scores is not None  # a predictor has at least one member
        target = undo.to_native(scores.div_(len(self.members)), exclusive=self.table.exclusive)
        for step in self.recipe.postprocess:
            if scan.unit != "mm" and step.module().NEEDS_MM:
                raise Refusal(
                    scan.source.path,
                    found="an image without a physical size",
                    needed=f"millimetres for the clean-up step {step.name}",
                    remedy="leave that step out of the recipe",
                )
            target = step.module().apply(target, table=self.table, spacing_mm=scan.spacing_mm, options=step.options)
        return Prediction(case, self.table, scan.with_array(target), self.provenance)

    def read_scan(self, case: Case, *, series: str | None = None) -> Volume:
        """The scans of a case as one volume with the channels of the plan."""
        scan = load_image(case, partial(read, series=series), policy=self.plan.channels_on_other_grids)
        if len(scan.array) != len(self.plan.channels):
            raise Refusal(
                ", ".join(str(path) for path in case.images.values()),
                found=f"{len(scan.array)} channels",
                needed=f"{len(self.plan.channels)}: {', '.join(self.plan.channels)}",
                remedy="name one file for each channel: --channel NAME=FILE, or <case>_<channel> files in a folder",
            )
        return scan


def predict_all(
    predictor: Predictor,
    cases: Sequence[Case],
    out: Path,
    *,
    formats: Sequence[str] = ("nifti",),
    series: str | None = None,
    announce: Callable[[str], None] = print,
    on_tile: TileCallback | None = None,
    use: Callable[[Case, Volume, Prediction], None] | None = None,
) -> list[runner.Outcome]:
    """Predict every case into `out/<case><suffix>`; write `out/predict.json`, which says what became of each.

    `use` is called with each case, its scan and its prediction after the files are written; what it raises counts
    against that case only.

    A file that exists under a final name is complete. Cases that fail do not stop the others.
    """
    writers = {name: plugins.find("outputs", name) for name in formats}
    out.mkdir(parents=True, exist_ok=True)

    def work(case: Case) -> tuple[tuple[str, ...], dict[str, Any]]:
        places = {out / f"{case.id}{module.SUFFIX}": module for module in writers.values()}
        _spare_inputs(places, case)
        scan = predictor.read_scan(case, series=series)
        prediction = predictor.predict_volume(scan, case.id, on_tile)
        files = []
        for path, module in places.items():
            module.write(prediction, path, module.Options())
            files.append(path.name)
        if use:
            use(case, scan, prediction)
        return tuple(files), {"volume_ml": volumes_ml(prediction)}

    outcomes = []
    for number, outcome in enumerate(runner.run_all(cases, work), start=1):
        outcomes.append(outcome)
        told = ", ".join(outcome.files) if outcome.state == "done" else outcome.reason
        announce(f"[{number}/{len(cases)}] {outcome.case}: {outcome.state} in {outcome.seconds:.1f} s: {told}")
    report = {"provenance": dict(predictor.provenance), "cases": [outcome.to_json() for outcome in outcomes]}
    with atomic.replacing(out / "predict.json") as temporary:
        temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return outcomes


def _spare_inputs(places: Iterable[Path], case: Case) -> None:
    """Refuse to write labels over the scan that they are made from."""
    inputs = {path.resolve() for path in case.images.values()}
    for path in places:
        if path.resolve() in inputs:
            raise Refusal(
                path, found="the scan itself", needed="another place for its labels", remedy="choose another folder"
            )


def volumes_ml(prediction: Prediction) -> dict[str, float]:
    """Volume of each label in millilitres; empty for images without a physical size."""
    if prediction.target.unit != "mm":
        return {}
    voxel_ml = abs(float(np.linalg.det(prediction.target.affine[:3, :3]))) / 1000
    return {
        label.name: round(float(prediction.mask(place).sum()) * voxel_ml, 3)
        for place, label in enumerate(prediction.table.labels)
    }


def _grid(plan: Plan) -> tuple[Any, ...]:
    """What must agree for the logits of two members to lie on one grid."""
    return plan.orientation, plan.spacing_mm, plan.channels, plan.crop
