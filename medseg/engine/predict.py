"""From scans to labels in the scans' own geometry: models are loaded once, cases run one after another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import medseg
from medseg import config, scratch
from medseg.case import Case
from medseg.config import PredictSettings, Recipe
from medseg.dicom.settings import DicomSettings
from medseg.engine import calibration, folds, members, plausible, precision, region, seen, stages, tiles
from medseg.engine import device as devices
from medseg.engine import quality as qualities
from medseg.engine.clean import Clean
from medseg.engine.forecast import Forecast
from medseg.engine.forward import mirrored
from medseg.engine.keep import Wanted
from medseg.engine.load import load_scan, load_valid
from medseg.engine.members import Member
from medseg.engine.memory import FREE, Limits
from medseg.engine.planner import Planner
from medseg.engine.run import Run
from medseg.engine.segment import Layout, segment, tiling
from medseg.labels import LabelTable
from medseg.plan import AXIS_OF, Plan
from medseg.prediction import Classification, Prediction
from medseg.quality import Reference
from medseg.readers import read
from medseg.refusal import Refusal
from medseg.transforms import prepare as transform
from medseg.transforms.kept import Draw
from medseg.transforms.kept import probabilities as chances
from medseg.volume import Volume

TileCallback = Callable[[int, int], None]
OF_COARSE = ("model", "weights sha256")
"""What the provenance says of a coarse model, which decides where labels can be."""
DICOM = "dicom."
"""What changes of the DICOM settings begin with."""


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
    dicom: DicomSettings
    device: torch.device
    provenance: Mapping[str, str]
    reference: Reference | None = None
    """By which results are judged, see `engine.plausible`."""
    temperature: float = 1.0
    """By which scores are divided before they become probabilities, see `engine.calibration`."""
    labels: tuple[str, ...] = ()
    """Those that are kept; none: all."""
    coarse: Predictor | None = None
    """Finds `labels` first."""
    limits: Limits = FREE
    """Of memory."""
    exact: bool = False
    """Whether the allocator keeps no freed blocks, see `device.tune_allocator`."""

    @classmethod
    def load(
        cls,
        runs: Sequence[Path],
        *,
        device: str = "auto",
        changes: Sequence[str] = (),
        quality: qualities.Quality = "standard",
        labels: Sequence[str] = (),
        limits: Limits = FREE,
    ) -> Predictor:
        """Load the runs' best weights. Several runs are an ensemble: their logits are averaged.

        Args:
            runs: run folders, or zipped ones; folders of a cross-validation stand for all their folds.
            device: auto, cpu, cuda or mps.
            changes: `key=value` changes of the recipe's inference settings, and `dicom.key=value` of how it reads
                DICOM.
            quality: see `engine.quality`; `changes` come after it.
            labels: names of those that are wanted; the others become background. Empty: all.
            limits: of memory; by default, what is free when a scan comes.

        Raises:
            Refusal: a run is incomplete or damaged, the runs do not share plan and labels, or a label is unknown.
        """
        exact = _keep_no_blocks(limits)
        runs = qualities.runs(quality, folds.run_folders(runs))
        opened = [Run.open(path) for path in runs]
        loaded = [run.load_network() for run in opened]  # first, for only the weights say that they are a part
        first = members.refuse_different(opened)
        chosen = devices.choose(device)
        settings, reading = _settings(first, changes, quality)
        devices.check_precision(chosen, settings.precision, where="precision")
        pinned = [run.plan.inference_precision for run in opened]
        number_format, why = precision.chosen(settings.precision, pinned, chosen)
        limits.enforce(chosen)
        coarse = cls._load_coarse(first, settings, labels, device, limits)
        hashes = [sha256 for _, sha256 in loaded]
        temperature, calibrated = calibration.of_runs(opened, hashes)
        found, computed_by = members.of_runs(opened, loaded, settings.backend, number_format, chosen)
        provenance = _provenance(opened, hashes, {"precision": f"{number_format} ({why})", "backend": computed_by})
        also = {"temperature": calibrated, "quality": "" if quality == "standard" else quality}
        also |= {"labels asked for": ", ".join(labels)}
        also |= {f"coarse {key}": coarse.provenance[key] for key in OF_COARSE} if coarse else {}
        return cls(
            members=found,
            recipe=first.recipe,
            table=first.table,
            settings=settings.model_copy(update={"precision": number_format}),
            dicom=reading,
            device=chosen,
            provenance=provenance | {name: text for name, text in also.items() if text},
            reference=plausible.of_run(first),
            temperature=temperature,
            labels=tuple(labels),
            coarse=coarse,
            limits=limits,
            exact=exact,
        )

    @classmethod
    def _load_coarse(
        cls, run: Run, settings: PredictSettings, labels: Sequence[str], device: str, limits: Limits
    ) -> Predictor | None:
        """The model that finds the wanted labels first, if there are any and the settings name one."""
        if not labels:
            return None
        region.check_labels(labels, run.table)
        if settings.coarse is None:
            return None
        coarse = cls.load([settings.coarse], device=device, limits=limits)
        region.check_labels(labels, coarse.table, f"coarse model {settings.coarse}")
        if coarse.plan.channels != run.plan.channels:
            raise Refusal(
                settings.coarse,
                found=f"a coarse model of the channels {', '.join(coarse.plan.channels)}",
                needed=f"one of {', '.join(run.plan.channels)}, which is what it will be given",
                remedy="name another run as predict.coarse, or none: coarse=null",
            )
        return replace(coarse, reference=None)  # what it finds is not what anybody gets

    def limited(self, limits: Limits) -> Predictor:
        """The same, planning with other limits of memory."""
        exact = _keep_no_blocks(limits)
        return replace(self, limits=limits, exact=exact, coarse=self.coarse and self.coarse.limited(limits))

    @property
    def plan(self) -> Plan:
        """Of the first member; channels, orientation and spacing are those of all."""
        return self.members[0].plan

    @cached_property
    def planner(self) -> Planner:
        """How the work on a scan is cut up."""
        return Planner(self.members, self.recipe.model, self.table, self.settings, self.device, self.limits, self.exact)

    def _image(
        self, member: Member, scan: Volume, valid: np.ndarray | None, centre: str, *, slowest: int = 0
    ) -> tuple[torch.Tensor, transform.Undo]:
        """What a member sees of a scan, (C, i, j, k), and the way back."""
        return seen.image(
            scan,
            member.plan,
            valid=valid,
            centre=centre,
            square=self.table.unit == "image",
            slowest=slowest,
            device=self.device,
            room=seen.room(self.limits, self.device, len(self.members)),
        )

    def prepared(self, case: Case) -> np.ndarray:
        """A case as the first member's network sees it, float32 (C, i, j, k)."""
        scan = self.read_scan(case)
        image, _ = self._image(self.members[0], scan, load_valid(case, scan, read), case.centre)
        return image.cpu().numpy()

    def predict(
        self,
        scan: Volume,
        case: str,
        on_tile: TileCallback | None = None,
        *,
        valid: np.ndarray | None = None,
        centre: str = "",
        probabilities: bool = False,
        uncertainty: Collection[str] = (),
        roi: region.Roi | None = None,
        on_forecast: Callable[[Forecast], None] | None = None,
    ) -> Prediction | Classification:
        """Labels of one scan on its grid, or probabilities of its classes, whichever the network was trained for."""
        if self.table.unit == "voxel":
            return self.predict_volume(
                scan,
                case,
                on_tile,
                valid=valid,
                centre=centre,
                probabilities=probabilities,
                uncertainty=uncertainty,
                roi=roi,
                on_forecast=on_forecast,
            )
        if roi is not None:
            raise Refusal(
                "--roi",
                found=f"a model that tells a class for every {self.table.unit}",
                needed="a model that labels voxels",
                remedy="leave it out, or cut the scan itself",
            )
        return self.classify(scan, case, on_tile, centre=centre)

    def classify(
        self, scan: Volume, case: str, on_tile: TileCallback | None = None, *, centre: str = ""
    ) -> Classification:
        """Probabilities of the classes of a scan, or of each of its slices; and how far mirrored images and folds
        disagree."""
        each: list[torch.Tensor] = []
        for member in self.members:
            image, undo = self._image(member, scan, None, centre)
            for axes in self.planner.passes:
                once = tiles.Seen(image, mirrored(member.run, [axes]))
                with stages.stage("network"):
                    each.append(tiles.answers(once, tiling(image.shape[1:], self.plan, self.settings)))
                if on_tile:
                    on_tile(len(each), self.answers)
        scores = torch.stack(each).mean(dim=0)
        found = self._chances(scores)
        spread = np.std([self._chances(one) for one in each], axis=0) if len(each) > 1 else None
        ends = np.array([[0, 0, 0, 1], [0, 0, undo.prepared[2] - 1, 1]]) @ undo.prepared_affine.T
        axis = "xyz".index(AXIS_OF[self.plan.orientation[2]])
        by_slice = self.table.unit == "slice"
        positions = np.linspace(ends[0, axis], ends[1, axis], found.shape[1]) if by_slice else np.zeros(0)
        logits = scores.flatten(1).numpy()
        return Classification(case, self.table, found, positions, undo, self.provenance, spread, logits)

    def _chances(self, scores: torch.Tensor) -> np.ndarray:
        """(classes, n) from a classifier's logits (classes, i, j, k)."""
        return chances(scores, self.temperature, exclusive=self.table.exclusive).flatten(1).numpy()

    def predict_volume(
        self,
        scan: Volume,
        case: str,
        on_tile: TileCallback | None = None,
        *,
        valid: np.ndarray | None = None,
        centre: str = "",
        probabilities: bool = False,
        uncertainty: Collection[str] = (),
        draw: Draw | None = None,
        roi: region.Roi | None = None,
        on_forecast: Callable[[Forecast], None] | None = None,
    ) -> Prediction:
        """Labels of one scan, on its grid.

        Args:
            scan: with the channels of the plan, in their order.
            case: id for files and reports.
            on_tile: called with (tiles done, tiles in all); what it raises, such as `progress.Cancelled`, ends the work
                and lets go of everything.
            valid: boolean (1, I, J, K) of the pixels that count, for photographs; None: found in the image.
            centre: where it was taken, for models that are told.
            probabilities: keep them too, all classes at once on the scan's grid.
            uncertainty: maps that are kept, of `transforms.kept.UNCERTAINTY`.
            draw: voxels of which the scores are kept.
            roi: the box that gets labels, see `region.Roi`; all else is background. None: the surroundings of the
                wanted labels where a coarse model finds them, or everything.
            on_forecast: told how the work is cut up and what memory it will take, before a network runs; and again
                where memory runs out all the same.

        Raises:
            Refusal: no way to cut it up stays within the limits of memory; or there are no members that could disagree.
        """
        wanted = self._wanted(probabilities, uncertainty, draw, whole=roi is None)
        with stages.stage("plan"):
            where = self._region(scan, roi, on_tile, valid, centre)
            undo = transform.way_back(scan, self.plan)
            course = self.planner.course(undo, where.blocks(undo), wanted, on_forecast)
        layout = course.forecast.layout
        images, undo = self._images(scan, valid, centre, undo, layout)
        kept = wanted.arrays(self.table, undo, layout.axis, self.temperature)
        with stages.stage("plan"):
            places, facts = self.planner.worthwhile(scan, undo, layout)
        counted = _Counted(on_tile)
        target = segment(
            images,
            places,
            undo,
            layout,
            channels=self.table.network_channels,
            exclusive=self.table.exclusive,
            on_tile=counted,
            kept=kept,
            smaller=course.smaller,
        )
        steps = Clean(self.table, self.labels, bool(self.plan.steps), self.recipe.postprocess)
        target = steps.up(target, kept, scan, valid)
        facts["tiles"] = counted.done  # more than were planned, where memory ran out and some were seen again
        facts = _together(where.facts, facts, course.forecast.to_json())
        told = {**self.provenance, **{name: str(facts[name]) for name in ("region",) if name in facts}}
        made = Prediction(case, self.table, scan.with_array(target), told, scan=scan, facts=facts, **kept.maps)
        if not wanted.certainty:
            return made
        with stages.stage("judge"):
            return plausible.judged(made, self.reference, kept.promised(len(self.table.labels)), self.labels)

    def _images(
        self, scan: Volume, valid: np.ndarray | None, centre: str, undo: transform.Undo, layout: Layout
    ) -> tuple[list[tiles.Seen], transform.Undo]:
        """What each member sees, and the way back."""
        slowest = layout.axis if self.planner.image_size(undo) > scratch.threshold() else 0
        each = []
        for member in self.members:
            image, undo = self._image(member, scan, valid, centre, slowest=slowest)
            alone = [mirrored(member.run, [axes]) for axes in self.planner.passes]
            each.append(tiles.Seen(image, mirrored(member.run, self.planner.passes), alone))
        return each, undo

    def _wanted(self, probabilities: bool, uncertainty: Collection[str], draw: Draw | None, *, whole: bool) -> Wanted:
        """What is kept beside labels; a result is judged only where all of the scan gets labels."""
        maps = {*uncertainty, *(["probabilities"] if probabilities else [])}
        return Wanted.of(maps, draw, certainty=self.reference is not None and whole, answers=self.answers)

    @property
    def answers(self) -> int:
        """Of all members and mirrored passes, for each tile."""
        return self.planner.answers

    def forecast(
        self, scan: Volume, *, probabilities: bool = False, uncertainty: Collection[str] = (), roi: region.Roi | None
    ) -> tuple[Forecast, dict[str, Any]]:
        """How the work on one scan would be cut up and what memory it would take, and facts about its tiles, without
        any of the work. What a coarse model would find is not known: it is as if all of the scan got labels.

        Raises:
            Refusal: as `predict_volume`.
        """
        wanted = self._wanted(probabilities, uncertainty, None, whole=roi is None)
        where = region.Region() if roi is None else region.given(roi, scan)
        undo = transform.way_back(scan, self.plan)
        found = self.planner.course(undo, where.blocks(undo), wanted).forecast
        return found, self.planner.worthwhile(scan, undo, found.layout)[1]

    def memory_of_classes(self, scan: Volume) -> tuple[int, int]:
        """Tiles of one answer of a classifier, and bytes that its work on a scan takes beside what is held already."""
        return self.planner.of_classes(transform.way_back(scan, self.plan))

    def trial(self, batch: int) -> Predictor:
        """The same with one network and no mirrored passes, for timing: all tiles are seen, so many at once."""
        settings = self.settings.model_copy(update={"mirror": (), "skip_air": False, "batch": batch})
        made = replace(self, members=self.members[:1], settings=settings, coarse=None)
        vars(made.planner)["need"] = self.planner.need  # where cached_property keeps it: a pass takes the same
        return made

    def _region(
        self,
        scan: Volume,
        roi: region.Roi | None,
        on_tile: TileCallback | None,
        valid: np.ndarray | None,
        centre: str,
    ) -> region.Region:
        """Where labels are wanted: as the user says, or around what a coarse model finds."""
        if roi is not None:
            return region.given(roi, scan)
        if self.coarse is None:
            return region.Region()
        waiting = on_tile and (lambda done, total: on_tile(0, total))  # it is the fine pass whose tiles are counted
        found = self.coarse.predict_volume(scan, "coarse pass", waiting, valid=valid, centre=centre)
        return region.around(found, self.labels, margin_mm=self.settings.coarse_margin_mm)

    def read_scan(self, case: Case, *, series: str | Mapping[str, str] | None = None) -> Volume:
        """The scans of a case as one volume with the channels of the plan.

        Args:
            series: which one of a DICOM folder, or which for each channel; None: as the model's rules say.
        """
        readers = {name: partial(read, dicom=self.dicom.of_channel(name)) for name in self.dicom.channels}
        if isinstance(series, Mapping):
            readers |= {name: partial(read, series=uid, dicom=self.dicom) for name, uid in series.items()}
            series = None
        return load_scan(case, partial(read, series=series, dicom=self.dicom), self.plan, readers=readers)


class _Counted:
    """Tells of tiles, and knows how many are done."""

    def __init__(self, tell: TileCallback | None):
        self._tell, self.done = tell, 0

    def __call__(self, done: int, total: int) -> None:
        self.done = done
        if self._tell:
            self._tell(done, total)


def _together(*facts: Mapping[str, Any]) -> dict[str, Any]:
    """All of them, with the warnings of all."""
    found = {name: value for some in facts for name, value in some.items() if name != "warnings"}
    warnings = [warning for some in facts for warning in some.get("warnings", ())]
    return {**found, **({"warnings": warnings} if warnings else {})}


def _keep_no_blocks(limits: Limits) -> bool:
    """Set the allocator as the limit of memory wants it; whether it keeps no freed blocks from here on."""
    limited = limits.host is not None
    return devices.tune_allocator(exact=limited) and limited


def _settings(run: Run, changes: Sequence[str], quality: qualities.Quality) -> tuple[PredictSettings, DicomSettings]:
    """How a run predicts and how it reads DICOM, with what was changed of either."""
    of_dicom = [text.removeprefix(DICOM) for text in changes if text.startswith(DICOM)]
    usual = qualities.settings(quality, run.recipe, run.table)
    settings = config.changed(usual, [text for text in changes if not text.startswith(DICOM)])
    reading = config.changed(run.recipe.dicom, of_dicom, key=DICOM)
    _check_channels(reading, run.plan)
    return settings, reading


def _provenance(runs: Sequence[Run], hashes: Sequence[str], computed: Mapping[str, str]) -> dict[str, str]:
    """What every result says of the model that made it."""
    recipe = runs[0].recipe
    return {
        "model": recipe.name,
        "network": recipe.model.name,
        "weights sha256": ", ".join(hashes),
        "medseg": medseg.__version__,
        "seed": ", ".join(str(run.recipe.seed) for run in runs),
        **computed,
        "licence of the weights": recipe.licence,
        "intended use": recipe.intended_use,
    }


def _check_channels(dicom: DicomSettings, plan: Plan) -> None:
    if dicom.channels and set(dicom.channels) != set(plan.channels):
        raise Refusal(
            "dicom.channels",
            found=f"rules for {', '.join(dicom.channels)}",
            needed=f"rules for each channel of the model: {', '.join(plan.channels)}",
            remedy="correct the names; for a model with one channel, dicom.select is enough",
        )
