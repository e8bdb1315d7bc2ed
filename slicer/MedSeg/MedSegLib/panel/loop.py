"""What the buttons of the section Corrections do."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from MedSegLib import scene, segments
from MedSegLib.apply import Apply
from MedSegLib.panel.desk import Desk
from MedSegLib.scene import Trouble
from MedSegLib.work import DONE, Outcome


class Loop:
    """Corrected segmentations out of the scene, and models that learn from them. `trained` hears of a new model."""

    def __init__(self, desk: Desk, trained: Callable[[], None]) -> None:
        self.desk, self.trained = desk, trained

    def save(self, segmentation: Any, volumes: dict[str, Any], data: str, case: str, patient: str) -> str:
        """Make a training case of the segmentation node and the volume node of each channel; a sentence on it.

        Raises:
            Trouble: something is not chosen, or does not suit the data set.
        """
        from MedSegLib import training

        model = self.desk.model
        if model is None or segmentation is None or len(volumes) < len(model.channels) or not data:
            raise Trouble(
                "Something is not chosen.", "Choose a model, its volumes, the segmentation and a folder.", "choice"
            )
        folder = Path(tempfile.mkdtemp(prefix="medseg-case-"))
        try:
            images = {}
            for number, channel in enumerate(model.channels):
                images[channel] = folder / f"image-{number}.nrrd"
                scene.write_volume(volumes[channel], images[channel])
            labels = folder / "labels.seg.nrrd"
            written = segments.write_labels(segmentation, volumes[model.channels[0]], labels, labels=model.labels)
            saved = training.save_case(Path(data), case, patient, images, labels, self.desk.entry)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        left = f" Left out, since the model has no such label: {', '.join(written.unknown)}." if written.unknown else ""
        return f"Saved as {saved.case}.{left}"

    def tune(self, data: str, out: str, epochs: int, said: Callable[[str, str], None]) -> None:
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
                said("ok", "The new model is made; it is in the list at Model if its folder is listed there.")
                self.trained()
            elif outcome.failure:
                said("stop", str(outcome.failure))
            else:
                said("look", "Cancelled. The same button goes on where it was.")

        self.desk.runs.add(
            f"Fine-tune {model.name}",
            lambda: training.fine_tune(program, Path(model.ask), Path(data), Path(out), epochs=epochs),
            ended,
        )
        said("", "It waits in the list at Apply.")

    def export(self, segmentation: Any, volumes: dict[str, Any], file: str, said: Callable[[str, str], None]) -> None:
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
