"""What the buttons of the section Corrections do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from MedSegLib import private, scene, segments
from MedSegLib.apply import Apply
from MedSegLib.panel.asks import Removing
from MedSegLib.panel.desk import Desk
from MedSegLib.runs import About
from MedSegLib.trouble import Trouble
from MedSegLib.work import DONE, Event, Outcome

Said = Callable[[str, str], None]
"""How a section hears how it went: ok, look or stop, and a sentence."""


@dataclass(frozen=True)
class Case:
    """Where a correction goes: the folder of the data set, and names of case and patient, which may be empty."""

    data: str
    name: str
    patient: str


class Loop:
    """Corrected segmentations out of the scene, and models that learn from them. `trained` hears of a new model."""

    def __init__(self, desk: Desk, trained: Callable[[], None]) -> None:
        self.desk, self.trained = desk, trained

    def save(self, segmentation: Any, volumes: dict[str, Any], case: Case, said: Said) -> None:
        """Make a training case of the segmentation node and the volume node of each channel; `said` hears how it went.

        Raises:
            Trouble: something is not chosen, or no segment is one of the model's.
        """
        from MedSegLib import training

        model = self.desk.model
        if model is None or segmentation is None or len(volumes) < len(model.channels) or not case.data:
            raise Trouble(
                "Something is not chosen.", "Choose a model, its volumes, the segmentation and a data set.", "choice"
            )
        folder = private.make()
        try:
            images = [(channel, folder / f"image-{n}.nrrd") for n, channel in enumerate(model.channels)]
            for channel, file in images:
                scene.write_volume(volumes[channel], file)
            labels = folder / "labels.seg.nrrd"
            written = segments.write_labels(segmentation, volumes[model.channels[0]], labels, labels=model.labels)
        except BaseException:
            private.remove(folder)
            raise
        who = _identity(volumes[model.channels[0]])
        run = training.saving(Path(case.data), case.name, case.patient, images, labels, model, identity=who)
        said("", "Saving…")
        self.desk.asks.ask("save", Removing(run, folder), lambda event: _saved(event, written.notes, said))

    def tune(self, data: str, out: str, epochs: int, said: Said) -> None:
        """Queue a training on the data set, from the chosen model on; `said` hears how it ended.

        Raises:
            Trouble: something is not chosen.
        """
        from MedSegLib import training

        model, program = self.desk.model, self.desk.program
        if model is None or not program or not data or not out:
            raise Trouble(
                "Something is not chosen.", "Choose a model, the data set and a folder for the new one.", "choice"
            )

        def ended(outcome: Outcome) -> None:
            if outcome.state == DONE:
                said("ok", _learnt(outcome))
                self.trained()
            elif outcome.failure:
                said("stop", str(outcome.failure))
            else:
                said("look", "Cancelled. The same button goes on where it was.")

        self.desk.runs.add(
            f"Fine-tune {model.name}",
            lambda: training.fine_tune(
                program, Path(model.ask), Path(data), Path(out), epochs=epochs, device=self.desk.settings.device
            ),
            ended,
            About(model),
        )
        said("", "It waits in the list at Apply.")

    def export(self, segmentation: Any, volumes: dict[str, Any], file: str, said: Said) -> None:
        """Queue a DICOM segmentation; `said` hears when it is written.

        Raises:
            Trouble: something is not chosen, or the volume is not from Slicer's DICOM database.
        """
        if segmentation is None or not volumes or not file or self.desk.backend is None:
            raise Trouble("Something is not chosen.", "Choose the segmentation, its volume and a file.", "choice")
        work = Apply(
            self.desk.backend,
            self.desk.runs,
            slicer.mrmlScene,
            shown=lambda result: said("ok", f"Written: {Path(file).name}."),
        )
        database = getattr(slicer, "dicomDatabase", None)
        work.export(segmentation, next(iter(volumes.values())), database, self.desk.ask, Path(file))
        said("", "It waits in the list at Apply.")


def _identity(volume: Any) -> str:
    """The Patient ID of a volume from the DICOM database; empty: it has none. It never leaves this computer: the data
    set gets what stands for it."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(volume) if hierarchy else 0
    if not item:
        return ""
    known = slicer.vtkMRMLSubjectHierarchyConstants
    name, level = known.GetDICOMPatientIDAttributeName(), known.GetDICOMLevelPatient()
    return str(hierarchy.GetAttributeFromItemAncestor(item, name, level) or "")


def _learnt(outcome: Outcome) -> str:
    dice = outcome.facts.get("dice")
    how = "cases that it did not learn from" if outcome.facts.get("unseen") else "the cases that it learned from"
    measured = f" Dice {float(dice):.3f} on {how}." if dice is not None else ""
    return f"The new model is made.{measured} It is at Model when the folder that it lies in is chosen there."


def _saved(event: Event, left_out: tuple[str, ...], said: Said) -> None:
    if not isinstance(event, Outcome):
        return
    if event.state != DONE:
        said("stop", str(event.failure or "It was not saved."))
        return
    saved = event.facts["saved"]
    notes = [*saved.notes, *left_out]
    counted = f"The data set has {saved.cases} cases of {saved.patients} patients."
    said("look" if notes else "ok", " ".join([f"Saved as {saved.case}.", counted, *notes]))
