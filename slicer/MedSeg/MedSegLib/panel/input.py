"""Section "Input": a volume for each of the model's channels, and a region."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt

import slicer
from MedSegLib import guess
from MedSegLib.panel import pieces
from MedSegLib.panel.desk import Desk

VOLUMES = ("vtkMRMLScalarVolumeNode",)


class Inputs:
    """`changed` hears of each choice."""

    def __init__(self, parent: Any, desk: Desk, changed: Callable[[], None]) -> None:
        self.desk, self.changed = desk, changed
        self.selectors: dict[str, Any] = {}
        self.section, self._form = pieces.section(parent, "Input")
        self._holder = qt.QWidget()
        self._form.addRow(self._holder)
        self.channels = pieces.form_of(self._holder)
        self.channels.setContentsMargins(0, 0, 0, 0)
        self.roi = pieces.nodes(
            ("vtkMRMLMarkupsROINode",),
            "Only this box is looked at: faster, and nothing outside of it is labelled. A turned box is taken as the "
            "smallest upright one around it. Make one with the Markups module.",
        )
        self._form.addRow(pieces.name("Region"), self.roi)
        self.roi.currentNodeChanged.connect(self._changed)
        self._quiet = False
        self.show()

    def show(self) -> None:
        """A selector for each channel of the chosen model, with a guess where a name says which it is."""
        model = self.desk.model
        wanted = model.channels if model else ("Volume",)
        self.roi.setEnabled(self.desk.here)
        if tuple(self.selectors) != tuple(wanted):
            while self.selectors:
                self.channels.removeRow(self.selectors.popitem()[1])
            for channel in wanted:
                box = pieces.nodes(VOLUMES, f"The volume that is the model's channel '{channel}'")
                box.currentNodeChanged.connect(self._changed)
                self.channels.addRow(pieces.name(channel), box)
                self.selectors[channel] = box
        self.guess()

    def guess(self) -> None:
        """Fill in what is empty."""
        volumes = {node.GetID(): node.GetName() for node in scans()}
        taken = {node.GetID() for node in self.volumes().values()}
        if not self.volumes() or len(taken) < len(self.volumes()):
            taken = set()
        free = {key: name for key, name in volumes.items() if key not in taken}
        empty = [channel for channel, box in self.selectors.items() if box.currentNode() is None]
        self._quiet = True
        for channel, key in guess.match(empty, free, _shown()).items():
            self.selectors[channel].setCurrentNode(slicer.mrmlScene.GetNodeByID(key))
        self._quiet = False

    def volumes(self) -> dict[str, Any]:
        """The node of each channel that has one."""
        return {name: box.currentNode() for name, box in self.selectors.items() if box.currentNode() is not None}

    def region(self) -> Any:
        """The ROI node; None: none, or a service, which takes whole scans only."""
        return self.roi.currentNode() if self.desk.here else None

    def _changed(self, *_: object) -> None:
        if not self._quiet:
            self.changed()


def scans() -> list[Any]:
    """Volume nodes that may be segmented: no label maps, and none that other modules hide from the user."""
    found = [node for node in slicer.util.getNodesByClass(VOLUMES[0]) if not node.GetHideFromEditors()]
    return [node for node in found if node.GetClassName() in VOLUMES]


def _shown() -> str:
    """Id of the volume that the slice views show; empty: none."""
    shown = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    return str(shown.GetBackgroundVolumeID() or "") if shown else ""
