"""A loaded model with everything that is the same for all of its cases, and the work on one of them.

`medseg predict`, `medseg batch` and the workers of the service all work here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg import scratch
from medseg.case import Case
from medseg.config import Chosen
from medseg.engine import device as devices
from medseg.engine import runner, stages, writers
from medseg.engine.budget import SCRATCH_SHARE
from medseg.engine.load import load_valid
from medseg.engine.predict import Predictor
from medseg.engine.record import facts
from medseg.engine.region import Roi
from medseg.prediction import Classification, Prediction
from medseg.progress import Course
from medseg.readers import read
from medseg.refusal import Refusal
from medseg.volume import Volume

Gating = Callable[[Case, Volume, Prediction], tuple[Prediction, dict[str, Any]]]
Series = str | Mapping[str, str] | None
"""Of a DICOM folder: one for the case, or one for each channel."""


@dataclass(frozen=True)
class Order:
    """A case, and what is its own beside it.

    Attributes:
        out: folder of its results.
        course: told of each of its steps; see `progress.Course`.
        series: which series of a DICOM folder, see `readers.read`.
        uid: what its results derive their identifiers from, where a second attempt is to give the same; empty: new.
    """

    case: Case
    out: Path
    course: Course
    series: Series = None
    uid: str = ""

    @property
    def id(self) -> str:
        return self.case.id


@dataclass(frozen=True)
class Bench:
    """What is the same for all cases; see `engine.batch.predict_all` for what the parts do."""

    predictor: Predictor
    outputs: tuple[Chosen, ...]
    probabilities: bool = False
    uncertainty: Collection[str] = ()
    gate: Gating | None = None
    roi: Roi | None = None
    use: Callable[[Case, Volume, Any], None] | None = None
    announce: Callable[[str], None] = print

    @classmethod
    def of(
        cls,
        predictor: Predictor,
        formats: Sequence[str] = (),
        *,
        announce: Callable[[str], None] = print,
        probabilities: bool = False,
        gate: Gating | None = None,
        roi: Roi | None = None,
        use: Callable[[Case, Volume, Any], None] | None = None,
    ) -> Bench:
        """
        Raises:
            Refusal: outputs of no use to the model, or a gate for what is no segmentation.
        """
        outputs = tuple(writers.chosen(formats, predictor.table, announce))
        if gate and predictor.table.unit != "voxel":
            raise Refusal(
                "--gate",
                found=f"a model that tells a class for every {predictor.table.unit}",
                needed="a segmentation: a gate takes labels away from slices",
                remedy="name the segmentation's run first and the slice classifier after --gate",
            )
        wanted = {name for one in outputs for name in writers.keeps(one.module(), one.options)}
        return cls(
            predictor,
            outputs,
            probabilities or "probabilities" in wanted,
            wanted - {"probabilities"},
            gate,
            roi,
            use,
            announce,
        )

    def run(
        self, orders: Iterable[Order], *, ahead: bool = False, scratch_in: Path | None = None
    ) -> Generator[runner.Outcome, None, None]:
        """Work on cases as they come, one outcome for each, in their order; see `runner.run_all`.

        Args:
            orders: asked for the next one only when there is room for it, in the caller's thread.
            scratch_in: folder for arrays that are larger than memory; None: where the system keeps temporary files.

        Raises:
            Refusal: `ahead` under a limit of the host's memory.
        """
        self.refuse_ahead(ahead)
        above = self.predictor.limits.host_bytes() // SCRATCH_SHARE
        with scratch.on_disk(scratch_in, above=above):
            for outcome in runner.run_all(
                _begun(orders), self.work, ahead=ahead, on_stage=lambda order, stage: order.course.stage(stage)
            ):
                if outcome.state != "done":
                    devices.give_back(after_error=True)
                yield outcome

    def refuse_ahead(self, ahead: bool) -> None:
        """What the others take is not known before they are read."""
        if ahead and self.predictor.limits.host is not None:
            raise Refusal(
                "--ahead",
                found="a limit of memory, and three cases at once",
                needed="one at a time: what the others take is not known before they are read",
                remedy="leave out --ahead, or --max-memory",
            )

    def work(self, order: Order) -> runner.Steps:
        """The steps of one case, for `runner.run_all`."""
        places = self._places(order)
        with stages.stage("read"):
            scan = self.scan(order)
            valid = load_valid(order.case, scan, read)
        yield
        order.course.megabytes = scan.array.nbytes / 1e6
        prediction = self.predictor.predict(
            scan,
            order.id,
            order.course.tiles,
            valid=valid,
            centre=order.case.centre,
            probabilities=self.probabilities,
            uncertainty=self.uncertainty,
            roi=self.roi,
            on_forecast=lambda forecast: self.announce(f"{order.id}: {forecast.sentence()}"),
        )
        prediction, gated = self._gated(order, scan, prediction)
        order.course.stage("write")
        yield
        for path, chosen in places.items():
            with stages.stage("write"):
                chosen.module().write(prediction, path, chosen.options)
        with stages.stage("measure"):
            found = facts(prediction, scan) | gated
        yield
        if self.use:
            with stages.stage("use"):
                self.use(order.case, scan, prediction)
        return tuple(path.name for path in places), found

    def _places(self, order: Order) -> dict[Path, Chosen]:
        """Files of its results."""
        return {order.out / f"{order.id}{chosen.module().SUFFIX}": chosen for chosen in self.outputs}

    def scan(self, order: Order) -> Volume:
        """The scan, which every output has agreed to, before a network runs for minutes.

        Raises:
            Refusal: it cannot be read, or an output could not be written of it.
        """
        places = self._places(order)
        _spare_inputs(places, order.case)
        scan = self.predictor.read_scan(order.case, series=order.series)
        for path, chosen in places.items():
            if check := getattr(chosen.module(), "check", None):
                check(scan, path)
        return scan

    def _gated(
        self, order: Order, scan: Volume, made: Prediction | Classification
    ) -> tuple[Prediction | Classification, dict[str, Any]]:
        """The prediction under its own identity, limited by the gate; and what that has done."""
        if not isinstance(made, Prediction):
            return made, {}
        if order.uid:
            made = replace(made, uid=order.uid)
        if self.gate is None:
            return made, {}
        with stages.stage("gate"):
            return self.gate(order.case, scan, made)


def _begun(orders: Iterable[Order]) -> Iterator[Order]:
    """The cases, each told of when its reading begins, whichever thread reads it."""
    for order in orders:
        order.course.stage("read")
        yield order


def _spare_inputs(places: Iterable[Path], case: Case) -> None:
    """Refuse to write labels over the scan that they are made from."""
    inputs = {path.resolve() for path in case.images.values()}
    for path in places:
        if path.resolve() in inputs:
            raise Refusal(
                path, found="the scan itself", needed="another place for its labels", remedy="choose another folder"
            )
