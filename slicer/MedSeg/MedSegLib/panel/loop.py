"""What the buttons of the section Corrections do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from MedSegLib import cases, dicom, private, scene, segments
from MedSegLib.apply import Apply
from MedSegLib.cases import Correction
from MedSegLib.panel import pieces
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
        model = self.desk.model
        if model is None or segmentation is None or not case.data:
            raise Trouble("Something is not chosen.", "Choose a model, the segmentation and a data set.", "choice")
        if self.desk.asks.busy("save"):  # two at once would write the data set's tables over one another
            raise Trouble("The former case is still being saved.", "Press the button again in a moment.", "busy")
        volumes, who = _matching(segmentation, volumes, model.channels)
        folder = private.make()
        try:
            images = [(channel, folder / f"image-{n}.nrrd") for n, channel in enumerate(model.channels)]
            for channel, file in images:
                scene.write_volume(volumes[channel], file)
            labels = folder / "labels.seg.nrrd"
            written = segments.write_labels(segmentation, volumes[model.channels[0]], labels, labels=model.labels)
            _consent(written)
        except BaseException:
            private.remove(folder)
            raise
        correction = Correction(images, labels, case.name, case.patient, who)
        said("", "Saving…")
        run = cases.saving(Path(case.data), correction, model)
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

    def export(self, segmentation: Any, file: str, said: Said) -> None:
        """Queue a DICOM segmentation that refers to the volume which the segmentation node was drawn on; `said` hears
        when it is written.

        Raises:
            Trouble: something is not chosen, or the volume is not from Slicer's DICOM database.
        """
        if segmentation is None or not file or self.desk.backend is None:
            raise Trouble("Something is not chosen.", "Choose the segmentation and a file.", "choice")
        volume = _needed(segmentation)
        work = Apply(
            self.desk.backend,
            self.desk.runs,
            slicer.mrmlScene,
            shown=lambda result: said("ok", f"Written: {Path(file).name}."),
        )
        work.export(segmentation, volume, _database(), self.desk.ask, Path(file))
        said("", "It waits in the list at Apply.")


def drawn_on(segmentation: Any) -> Any:
    """The volume node that the segmentation node's grid is of; None: it does not say."""
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return segmentation.GetNodeReference(role)


def _needed(segmentation: Any) -> Any:
    volume = drawn_on(segmentation)
    if volume is None:
        raise Trouble(
            f"{segmentation.GetName()} does not say which volume it was drawn on, or that volume is not in the scene.",
            "Load the volume, and choose it in the Segment Editor as the geometry (the button beside Source volume).",
            "volume",
        )
    return volume


def _matching(segmentation: Any, volumes: dict[str, Any], channels: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The volume node of each channel, and the Patient ID. Of one channel it is the node that the segmentation node was
    drawn on, whatever is chosen at Input; of several, that one has to be among those at Input.

    Raises:
        Trouble: they do not belong together.
    """
    volume = _needed(segmentation)
    if len(channels) == 1:
        return {channels[0]: volume}, _identity(volume)
    missing = [channel for channel in channels if channel not in volumes]
    if missing:
        raise Trouble(f"No volume is chosen for {', '.join(missing)}.", "Choose one at Input.", "channels")
    if all(node is not volume for node in volumes.values()):
        raise Trouble(
            f"{segmentation.GetName()} was drawn on {volume.GetName()}, which is not at Input: other volumes are.",
            "Choose at Input the volumes that belong to the segmentation.",
            "volume",
        )
    people = {who for node in volumes.values() if (who := _identity(node))}
    if len(people) > 1:
        raise Trouble("The volumes at Input have different Patient IDs.", "Choose volumes of one patient.", "volume")
    return volumes, next(iter(people), "")


def _consent(written: segments.Written) -> None:
    """A label without a segment teaches that the structure is not there; beside a segment that no label is called, it
    was more likely renamed.

    Raises:
        Trouble: the user does not want that.
    """
    if not written.unknown or not written.missing:
        return
    unknown, missing = ", ".join(written.unknown), ", ".join(written.missing)
    question = (
        f"The model has no label {unknown}: it would be left out.\nNo segment is called {missing}: the case would "
        "teach that this is not there.\n\nSave it all the same?"
    )
    if not slicer.util.confirmYesNoDisplay(question):
        raise Trouble(
            f"Nothing is saved: {unknown} is no label of the model, and there is no segment {missing}.",
            "Give the segments the names of the labels, or remove those that are not meant.",
            "absent",
        )


def _database() -> Any:
    return getattr(slicer, "dicomDatabase", None)


def _identity(volume: Any) -> str:
    """The Patient ID of a volume from the DICOM database, as its first file has it, else as the subject hierarchy does;
    empty: it has none. It never leaves this computer: the data set gets what stands for it."""
    known_in_file = dicom.identity(_database(), volume)
    if known_in_file:
        return known_in_file
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
    cases, patients = pieces.counted(saved.cases, "case"), pieces.counted(saved.patients, "patient")
    counted = f"The data set has {cases} of {patients}."
    said("look" if notes else "ok", " ".join([f"Saved as {saved.case}.", counted, *notes]))
