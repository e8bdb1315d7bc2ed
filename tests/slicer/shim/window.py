"""What Slicer's window adds to its core: enough of it that the panel and the module can be opened without one."""

from __future__ import annotations

import os
import sys
import types
from typing import Any

import qt  # noqa: F401 - see there: it keeps None alive
import slicer.util
from PySide6.QtCore import Property, Signal
from PySide6.QtWidgets import QApplication, QComboBox, QVBoxLayout, QWidget
from shiboken6 import isValid

import slicer

GERMAN = {("qSlicerAbstractCoreModule", "Segmentation"): "Segmentierung"}
"""What Slicer calls its own categories of modules in another language."""


class qMRMLNodeComboBox(QComboBox):  # Slicer's own name
    """A list of the scene's nodes of some classes, which follows the scene."""

    currentNodeChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._types: list[str] = []
        self._none = self._children = True
        self.addEnabled = self.removeEnabled = self.renameEnabled = self.selectNodeUponCreation = True
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self._ids: list[str] = []
        self.currentIndexChanged.connect(lambda _: self.currentNodeChanged.emit(self.currentNode()))

    def _set_types(self, types: list[str]) -> None:
        self._types = list(types)
        self.update_nodes()

    def _set_none(self, none: bool) -> None:
        self._none = none
        self.update_nodes()

    def _set_children(self, children: bool) -> None:
        self._children = children
        self.update_nodes()

    nodeTypes = Property(list, lambda self: self._types, _set_types)
    noneEnabled = Property(bool, lambda self: self._none, _set_none)
    showChildNodeTypes = Property(bool, lambda self: self._children, _set_children)

    def setMRMLScene(self, scene: Any) -> None:  # Slicer's own name
        self._scene = scene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent):
            scene.AddObserver(event, lambda *_: self.update_nodes() if isValid(self) else None)
        self.update_nodes()

    def currentNode(self) -> Any:  # Slicer's own name
        at = self.currentIndex()
        return self._scene.GetNodeByID(self._ids[at]) if self._scene and 0 <= at < len(self._ids) else None

    def setCurrentNode(self, node: Any) -> None:  # Slicer's own name
        self.setCurrentIndex(self._ids.index(node.GetID() if node else ""))

    def update_nodes(self) -> None:
        """Names as they are now; what was chosen stays so while it is there."""
        if self._scene is None:
            return
        former = self._ids[self.currentIndex()] if 0 <= self.currentIndex() < len(self._ids) else ""
        nodes = [node for kind in self._types for node in slicer.util.getNodesByClass(kind, self._scene)]
        nodes = [node for node in nodes if not node.GetHideFromEditors()]
        nodes = [node for node in nodes if self._children or node.GetClassName() in self._types]
        self.blockSignals(True)
        self.clear()
        self._ids = ([""] if self._none or not nodes else []) + [node.GetID() for node in nodes]
        names = {node.GetID(): node.GetName() for node in nodes}
        for key in self._ids:
            self.addItem(names.get(key, "None"))
        self.setCurrentIndex(self._ids.index(former) if former in self._ids else 0)
        self.blockSignals(False)
        if former != self._ids[self.currentIndex()]:
            self.currentNodeChanged.emit(self.currentNode())

    def showPopup(self) -> None:  # Qt's own name
        self.update_nodes()
        super().showPopup()


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: QWidget | None = None) -> None:
        self.parent = parent or QWidget()
        self.layout = self.parent.layout() or QVBoxLayout(self.parent)
        if parent is None:
            self.setup()

    def setup(self) -> None:
        """Slicer builds its developer's buttons here."""

    def onReload(self) -> None:  # Slicer's own name
        """Slicer's reads the module's file again, and opens a new panel."""
        self.cleanup()


class ScriptedLoadableModuleLogic:
    """Slicer gives it a parameter node, which MedSeg does not use."""


class ScriptedLoadableModuleTest:
    def delayDisplay(self, message: str, _milliseconds: int = 0) -> None:  # Slicer's own name
        print(message)


def application() -> QApplication:
    return QApplication.instance() or QApplication([])


def install(scene: Any) -> QApplication:
    """Make the names known, and the scene the one that is open."""
    app = application()
    module = types.ModuleType("slicer.ScriptedLoadableModule")
    for each in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    ):
        setattr(module, each.__name__, each)
    sys.modules[module.__name__] = module
    words = types.ModuleType("slicer.i18n")
    words.translate = lambda context, text: GERMAN.get((context, text), text)
    sys.modules[words.__name__] = words
    slicer.ScriptedLoadableModule = module
    slicer.qMRMLNodeComboBox = qMRMLNodeComboBox
    slicer.mrmlScene = scene
    slicer.util.startupEnvironment = lambda: dict(os.environ)
    if not hasattr(slicer, "app"):
        slicer.app = types.SimpleNamespace()
    slicer.app.processEvents = app.processEvents
    return app
