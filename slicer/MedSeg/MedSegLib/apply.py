"""What the buttons do: volumes become orders, orders wait in the queue, results become nodes or files.

No Qt. All of it is called from the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from MedSegLib import dicom, private, scene, segments, steps, tables
from MedSegLib.job import Job
from MedSegLib.models import Model
from MedSegLib.runs import About, Runs
from MedSegLib.trouble import Trouble
from MedSegLib.work import Backend, Line, Order, Outcome, Run

SEGMENTATION, CLASSES, UNCERTAINTY = "seg_nrrd", "scores", "entropy"
ENDS = {SEGMENTATION: ".seg.nrrd", CLASSES: ".csv", UNCERTAINTY: ".entropy.nii.gz"}
"""How the names of files of these outputs end."""
CHANGED = "The volume was changed or moved while the run went on: the result belongs to what it was when the run began."
Ask = Callable[[Sequence[str]], Run]


@dataclass(frozen=True)
class Choices:
    """How a model is run.

    Attributes:
        quality: fast, standard or best.
        labels: names of those that are wanted; none: all.
        device: auto, cpu, cuda or mps.
        roi: a markups ROI node, or None: all of the scan.
        uncertainty: whether a volume that shows where the model was in doubt is wanted, too.
        table: whether a table of volumes is.
        harden: whether volumes under a transform are sent as they are shown, or refused.
    """

    quality: str = "standard"
    labels: tuple[str, ...] = ()
    device: str = "auto"
    roi: Any = None
    uncertainty: bool = False
    table: bool = False
    harden: bool = True


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        title: of the run.
        facts: see `work.Outcome`.
        segmentation, uncertainty, table: nodes, where there are such.
        folder: of the files, where they were wanted in place of nodes.
        notes: sentences that the user ought to read.
    """

    title: str
    facts: Mapping[str, Any]
    segmentation: Any = None
    uncertainty: Any = None
    table: Any = None
    folder: Path | None = None
    notes: tuple[str, ...] = ()


class Apply:
    """Gives work to a backend by way of the queue.

    Args:
        mrml: the scene that results go to.
        shown: called with each result.
        temporary: where private folders are made; None: where the system has such.
    """

    def __init__(
        self,
        backend: Backend,
        runs: Runs,
        mrml: Any,
        *,
        shown: Callable[[Result], None] = lambda result: None,
        temporary: Path | None = None,
    ):
        self._backend, self._runs, self._scene = backend, runs, mrml
        self._shown, self._temporary = shown, temporary
        self._jobs: list[Job] = []

    def start(self, volumes: Mapping[str, Any], model: Model, choices: Choices) -> int:
        """Segment (or classify) a case; gives the number of its run. The volume nodes, by channel, are written when its
        turn has come.

        Raises:
            Trouble: it is known already that this cannot be: a channel is missing, a volume is no scan, the ROI lies
                beside it.
        """
        nodes = _checked(volumes, model, choices)
        first = next(iter(nodes.values()))
        title, about = f"{first.GetName()}: {model.name}", About(model)

        sent: list[Any] = []

        def begin(folder: Path) -> Run:
            about.order, lines = self._order(nodes, model, choices, Order(title, model.ask, (), folder))
            sent.extend(map(scene.stamp, nodes.values()))
            return steps.Before([Line(line) for line in lines if line], self._backend.start(about.order))

        def end(done: Outcome) -> Result:
            notes = () if sent == list(map(scene.stamp, nodes.values())) else (CHANGED,)
            return replace(self._into_scene(title, done, first, model, choices), notes=notes)

        return self._queue(title, begin, end, about)

    def batch(self, cases: Sequence[Mapping[str, Any]], model: Model, choices: Choices) -> tuple[int, ...]:
        """The same for several cases, one run each.

        Raises:
            Trouble: see `start`; then none has begun.
        """
        for case in cases:
            _checked(case, model, choices)
        return tuple(self.start(case, model, choices) for case in cases)

    def batch_dicom(
        self, database: Any, cases: Sequence[Sequence[dicom.Series]], model: Model, choices: Choices, into: Path
    ) -> tuple[int, ...]:
        """Series of the DICOM database, one run for each of `cases`; results are folders in `into`.

        Args:
            cases: a series, or all of a study where the model's own rules are to choose.
        """
        return tuple(self._one_dicom(database, case, model, choices, into) for case in cases)

    def export(self, segmentation: Any, volume: Any, database: Any, ask: Ask, out: Path) -> int:
        """Write the segmentation node as DICOM SEG that refers to the files of the volume node; gives the run's number.

        Args:
            ask: runs `medseg` with these words: `Local.ask`.
            out: the file, which is not there yet; it appears only if the run is done.

        Raises:
            Trouble: the volume is not from the database, or the file is there or would be among the volume's.
        """
        files = dicom.files_of_volume(database, volume)
        dicom.refuse_taken(out, files)
        title = f"{segmentation.GetName()}: DICOM SEG"

        def begin(folder: Path) -> Run:
            labels = folder / "labels.seg.nrrd"
            notes = segments.write_labels(segmentation, volume, labels, as_shown=False).notes
            words = ["dicom", "write", str(labels), str(folder / "series"), str(folder / "made.dcm")]
            run = steps.After(
                "looking for its DICOM files",
                lambda stopped: dicom.gather(files, folder / "series", stopped),
                lambda: ask(words),
            )
            return steps.Before([Line(note) for note in notes], run)

        def end(done: Outcome) -> Result:
            dicom.refuse_taken(out, files)  # another run may have been quicker
            dicom.put(Path(done.facts["answer"]["files"][0]), out)
            return Result(title, done.facts, folder=out.parent)

        return self._queue(title, begin, end, About())

    def close(self) -> None:
        """Remove what runs left behind that were never heard of again: when Slicer ends while they go on."""
        for job in self._jobs:
            job.clear()

    def _queue(
        self,
        title: str,
        begin: Callable[[Path], Run],
        end: Callable[[Outcome], Result],
        about: About,
        within: Path | None = None,
    ) -> int:
        def ended(outcome: Outcome) -> None:
            job.clear()
            if job.result is not None:
                for note in job.result.notes:
                    self._runs.entries[number - 1].say(note)
                self._shown(job.result)

        job = Job(begin, end, within or self._temporary)
        self._jobs = [one for one in self._jobs if one.folder is not None]
        self._jobs.append(job)
        number = self._runs.add(title, job.start, ended, about)
        return number

    def _order(self, nodes: Mapping[str, Any], model: Model, choices: Choices, order: Order) -> tuple[Order, list[str]]:
        """Write the images; the order for them, and lines for the log."""
        first, images, lines = next(iter(nodes.values())), [], []
        for number, (channel, node) in enumerate(nodes.items()):
            self._still_here(node)
            file = order.folder / f"image-{number}.nrrd"  # without the volume's name, which may be a patient's
            lines.append(scene.write_volume(node, file, harden=choices.harden))
            images.append((channel, file))
        roi = "" if choices.roi is None else scene.roi_text(choices.roi, first)
        return _chosen(order, model, choices, images=tuple(images), roi=roi), lines

    def _one_dicom(
        self, database: Any, case: Sequence[dicom.Series], model: Model, choices: Choices, into: Path
    ) -> int:
        title, about = f"{case[0].title}: {model.name}", About(model)

        def begin(folder: Path) -> Run:
            files, place = dicom.files_of_series(database, case), folder / case[0].name
            order = _chosen(Order(title, model.ask, (), folder, dicom=place), model, choices, archive=True)
            about.order = order
            return steps.After(
                "looking for its DICOM files",
                lambda stopped: dicom.gather(files, place, stopped),
                lambda: self._backend.start(order),
            )

        return self._queue(title, begin, lambda done: self._into_folder(title, done, into, case[0].name), about, into)

    def _into_scene(self, title: str, done: Outcome, volume: Any, model: Model, choices: Choices) -> Result:
        self._still_here(volume)
        name, segmentation, doubt, table = f"{volume.GetName()} {model.name}", None, None, None
        with scene.adding(self._scene):
            if not model.segments:
                table = tables.add_classes(self._scene, name, _file(done, CLASSES))
            else:
                segmentation = scene.add_segmentation(self._scene, _file(done, SEGMENTATION), name, volume)
                if choices.uncertainty:
                    doubt = scene.add_map(self._scene, _file(done, UNCERTAINTY), f"{name} uncertainty", volume)
                if choices.table:
                    ml = done.facts.get("volume_ml") or tables.counted(segmentation)
                    table = tables.add_volumes(self._scene, f"{name} volumes", ml)
        return Result(title, done.facts, segmentation, doubt, table)

    def _into_folder(self, title: str, done: Outcome, into: Path, name: str) -> Result:
        number, place = 1, into / name
        while place.exists():
            number += 1
            place = into / f"{name} ({number})"
        beside = private.make(into)
        try:
            whole = beside / "whole"
            whole.mkdir(0o700)
            for file in done.files.values():
                file.replace(whole / file.name)
            whole.replace(place)
        finally:
            private.remove(beside)
        return Result(title, done.facts, folder=place)

    def _still_here(self, volume: Any) -> None:
        """Another node may have its ID by now, in a scene of another patient: only the node itself will do."""
        if not self._scene.IsNodePresent(volume):
            raise Trouble(
                f"The volume {volume.GetName()} is no longer in the scene.", "Load it and run it again.", "gone"
            )


def _checked(volumes: Mapping[str, Any], model: Model, choices: Choices) -> dict[str, Any]:
    """The nodes in the model's order, once all is well that can be known without reading voxels."""
    missing = [channel for channel in model.channels if volumes.get(channel) is None]
    if missing:
        raise Trouble(f"No volume is chosen for {', '.join(missing)}.", "Choose one.", "channels")
    nodes = {channel: volumes[channel] for channel in model.channels}
    for node in nodes.values():
        scene.described(node)
        scene.shown(node, harden=choices.harden)
    if choices.roi is not None:
        scene.roi_text(choices.roi, nodes[model.channels[0]])
    return nodes


def _chosen(
    order: Order,
    model: Model,
    choices: Choices,
    *,
    archive: bool = False,
    images: tuple[tuple[str, Path], ...] = (),
    roi: str = "",
) -> Order:
    outputs = [SEGMENTATION, *(["dicom_seg"] if archive else [])] if model.segments else [CLASSES]
    outputs += [UNCERTAINTY] if choices.uncertainty and model.segments else []
    return replace(
        order,
        images=images,
        outputs=tuple(outputs),
        quality=choices.quality,
        labels=choices.labels,
        roi=roi,
        device=choices.device,
    )


def _file(done: Outcome, output: str) -> Path:
    for name, file in done.files.items():
        if name.endswith(ENDS[output]):
            return file
    raise Trouble(f"The result lacks the file of {output}.", "Copy the report and tell its makers.", "result")
