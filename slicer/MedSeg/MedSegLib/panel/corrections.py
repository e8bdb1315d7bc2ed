"""Section "Corrections": what was put right by hand becomes a training case, a DICOM segmentation, a better model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt

from MedSegLib.panel import pieces
from MedSegLib.panel.desk import Desk
from MedSegLib.panel.loop import Case, Loop, drawn_on
from MedSegLib.trouble import Trouble


class Corrections:
    """`volumes` gives the node of each channel that is chosen at Input."""

    def __init__(self, parent: Any, desk: Desk, loop: Loop, volumes: Callable[[], dict[str, Any]]) -> None:
        self.desk, self.loop, self.volumes = desk, loop, volumes
        self.section, form = pieces.section(parent, "Corrections", collapsed=True)
        self.segmentation = pieces.nodes(
            ("vtkMRMLSegmentationNode",),
            "What you corrected in the Segment Editor. A new result never takes its place.",
        )
        self.of = pieces.note()
        self.of.setToolTip("The volume that the segmentation was drawn on: this one is saved or exported with it")
        form.addRow(pieces.name("Segmentation"), self.segmentation)
        form.addRow(pieces.name("Drawn on"), self.of)
        self._ask_case(form)
        self._ask_tuning(form)
        self._ask_export(form)
        self.state = pieces.note()
        form.addRow(self.state)

    def _ask_case(self, form: Any) -> None:
        self.cases = pieces.path(
            True, self.desk.settings.cases, "A data set that grows with each case: images/, labels/ and who is who"
        )
        self.case = qt.QLineEdit()
        self.case.setPlaceholderText("left empty: a name made from the voxels")
        self.case.setToolTip("Becomes the name of files. Without a name of yours it says nothing about the patient.")
        self.patient = qt.QLineEdit()
        self.patient.setPlaceholderText("a pseudonym; cases of one patient share it")
        self.patient.setToolTip(
            "Training keeps all cases of a patient on one side of each split. Left empty: what stands for the Patient "
            "ID, where the volume has one; else each case is a patient."
        )
        self.save = pieces.button(
            "Save as training case",
            lambda *_: self._try(self._save),
            "Volumes and corrected segments, as medseg trains on them; segments are matched to the model's labels",
        )
        form.addRow(pieces.name("Data set"), self.cases)
        form.addRow(pieces.name("Case"), self.case)
        form.addRow(pieces.name("Patient"), self.patient)
        form.addRow(pieces.name(""), self.save)
        self.cases.currentPathChanged.connect(self._keep)

    def _ask_tuning(self, form: Any) -> None:
        self.epochs = qt.QSpinBox()
        self.epochs.setRange(1, 1000)
        self.epochs.setValue(20)
        self.epochs.setToolTip("How often all cases are gone through. The best state on held-out cases is kept.")
        self.out = pieces.path(
            True, "", "A new folder for the better model. The same folder again goes on where it was."
        )
        self.tune = pieces.button(
            "Fine-tune the model on the data set",
            lambda *_: self._try(self._tune),
            "Trains in the background from the chosen model on; only on this computer. It needs some cases of at least "
            "two patients.",
        )
        form.addRow(pieces.name("Epochs"), self.epochs)
        form.addRow(pieces.name("New model in"), self.out)
        form.addRow(pieces.name(""), self.tune)

    def _ask_export(self, form: Any) -> None:
        self.export = pieces.button(
            "Export as DICOM SEG…",
            lambda *_: self._try(self._export),
            "A DICOM segmentation that refers to the series that the volume was loaded from, for the archive",
        )
        self.file = pieces.path(False, "", "The DICOM file to be written, such as segmentation.dcm", new=True)
        form.addRow(pieces.name("DICOM file"), self.file)
        form.addRow(pieces.name(""), self.export)

    def offer(self, segmentation: Any) -> None:
        """Choose this node, if none is chosen yet: somebody may be correcting the one that is."""
        if self.segmentation.currentNode() is None:
            self.segmentation.setCurrentNode(segmentation)

    def tick(self) -> None:
        """Called by the panel's timer: the Segment Editor may say later what a segmentation is drawn on."""
        node = self.segmentation.currentNode()
        volume = drawn_on(node) if node is not None else None
        unknown = "no volume that is known" if node is not None else ""
        text = pieces.escaped(volume.GetName()) if volume is not None else unknown
        if pieces.read(self.of, "text") != text:
            self.of.setText(text)

    def show(self) -> None:
        """Which of the buttons make sense now."""
        model = self.desk.model
        segments = model is not None and model.segments
        self.save.setEnabled(segments)
        self.tune.setEnabled(segments and self.desk.here)
        self.export.setEnabled(bool(self.desk.program))

    def say(self, level: str, text: str) -> None:
        pieces.state(self.state, level, text)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Trouble as trouble:
            self.say("stop", str(trouble.failure))

    def _save(self) -> None:
        case, patient = (str(pieces.read(field, "text")).strip() for field in (self.case, self.patient))
        data = str(self.cases.currentPath or "")
        self.loop.save(self.segmentation.currentNode(), self.volumes(), Case(data, case, patient), self.say)

    def _tune(self) -> None:
        data, out = str(self.cases.currentPath or ""), str(self.out.currentPath or "")
        self.loop.tune(data, out, int(pieces.read(self.epochs, "value")), self.say)

    def _export(self) -> None:
        file = str(self.file.currentPath or "")
        self.loop.export(self.segmentation.currentNode(), file, self.say)

    def _keep(self, *_: object) -> None:
        self.desk.keep(cases=str(self.cases.currentPath or ""))
