"""Section "Batch": many cases, one after the other: volumes that are loaded, or series of Slicer's DICOM database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import qt

import slicer
from MedSegLib import dicom
from MedSegLib.dicom import Patient, Series
from MedSegLib.panel import pieces
from MedSegLib.panel.desk import Desk
from MedSegLib.panel.input import scans

SLICE_S = 0.02
"""For which patients of the database are listed in one go: there may be thousands, and the window must not wait."""
SOURCES = (("loaded", "Volumes that are loaded"), ("database", "Slicer's DICOM database"))


class Batch:
    """`begun` is called when its button is pressed."""

    def __init__(self, parent: Any, desk: Desk, begun: Callable[[], None]) -> None:
        self.desk = desk
        self.section, form = pieces.section(parent, "Batch", collapsed=True)
        self.source = pieces.choice(SOURCES, "loaded", "Results of loaded volumes become nodes, those of series files")
        self.tree = qt.QTreeWidget()
        self.tree.setHeaderHidden(True)
        self.tree.setMaximumHeight(150)
        self.tree.setToolTip("Tick what is to be segmented. A patient's tick ticks all series that suit the model.")
        self.folder = pieces.path(
            True, desk.settings.batch, "A folder for each case is made in it; none is overwritten"
        )
        self.start = pieces.button("Segment all that is ticked", lambda *_: begun(), "They wait in the list at Apply")
        self.state = pieces.note()
        form.addRow(pieces.name("From"), self.source)
        form.addRow(self.tree)
        form.addRow(pieces.name("Results to"), self.folder)
        form.addRow(self.start)
        form.addRow(self.state)
        self.series: dict[str, Series] = {}
        self._coming: Iterator[Patient] = iter(())
        self.source.currentIndexChanged.connect(self.look)
        self.section.contentsCollapsed.connect(self.look)
        self.tree.itemExpanded.connect(self._opened)
        self.tree.itemChanged.connect(self._ticked)
        self.folder.currentPathChanged.connect(self._keep)

    @property
    def from_database(self) -> bool:
        return pieces.chosen(self.source) == "database"

    def look(self, *_: object) -> None:
        """Look anew at what there is."""
        self.folder.setEnabled(self.from_database)
        if self.section.collapsed:
            return
        self.tree.blockSignals(True)
        self.tree.clear()
        self.series, self._coming = {}, iter(())
        if self.from_database:
            self._find_patients()
        else:
            self._list_volumes(set())
        self.tree.blockSignals(False)

    def look_at_scene(self) -> None:
        """The same where volumes came or went; what is ticked stays so."""
        if not self.section.collapsed and not self.from_database:
            ticked = {_key(item) for item in self._items() if _is_ticked(item)}
            self.tree.blockSignals(True)
            self.tree.clear()
            self._list_volumes(ticked)
            self.tree.blockSignals(False)

    def tick(self) -> None:
        """Called by the panel's timer."""
        end = time.monotonic() + SLICE_S
        for patient in self._coming:
            self.tree.blockSignals(True)
            item = _item(patient.name, patient.key)
            item.setChildIndicatorPolicy(qt.QTreeWidgetItem.ShowIndicator)
            self.tree.addTopLevelItem(item)
            self.tree.blockSignals(False)
            if time.monotonic() > end:
                break

    def _list_volumes(self, ticked: set[str]) -> None:
        for node in scans():
            self.tree.addTopLevelItem(_item(node.GetName(), node.GetID(), ticked=node.GetID() in ticked))

    def _find_patients(self) -> None:
        database = getattr(slicer, "dicomDatabase", None)
        if database is None or not database.isOpen:
            pieces.state(self.state, "stop", "Slicer's DICOM database is not open: see the module DICOM.")
            return
        self._coming = iter(dicom.patients(database))
        self.tick()

    def _opened(self, item: Any, *_: object) -> None:
        """Series are looked up when a patient is opened: a database may hold thousands."""
        if not self.from_database or item.childCount() or item.parent() is not None:
            return
        patient = dicom.Patient(_key(item), item.text(0))
        self.tree.blockSignals(True)
        for one in dicom.series(slicer.dicomDatabase, patient):
            self.series[one.uid] = one
            item.addChild(_item(f"{one.title}, {pieces.counted(one.images, 'file')}", one.uid))
        self.tree.blockSignals(False)

    def _ticked(self, item: Any, *_: object) -> None:
        if not self.from_database or item.parent() is not None:
            return
        self._opened(item)
        wanted = set(self.desk.model.modalities) if self.desk.model else set()
        self.tree.blockSignals(True)
        for at in range(item.childCount()):
            series = self.series[_key(item.child(at))]
            suits = not wanted or series.modality in wanted
            item.child(at).setCheckState(0, item.checkState(0) if suits else qt.Qt.Unchecked)
        self.tree.blockSignals(False)

    def volumes(self) -> list[Any]:
        """Nodes that are ticked."""
        found = [slicer.mrmlScene.GetNodeByID(_key(item)) for item in self._items() if _is_ticked(item)]
        return [node for node in found if node is not None]

    def cases(self) -> list[tuple[Series, ...]]:
        """Series that are ticked: each for itself, or, for a model of several channels, together with those of its
        study, from which the model's own rules choose."""
        patients = self._items()
        children = [item.child(at) for item in patients for at in range(item.childCount())]
        ticked = [self.series[_key(item)] for item in children if _is_ticked(item)]
        if self.desk.model is None or len(self.desk.model.channels) == 1:
            return [(one,) for one in ticked]
        studies: dict[str, list[Series]] = {}
        for one in ticked:
            studies.setdefault(one.study, []).append(one)
        return [tuple(some) for some in studies.values()]

    def say(self, level: str, text: str) -> None:
        pieces.state(self.state, level, text)

    def into(self) -> Path | None:
        """Where results of series go; None: not chosen."""
        path = str(self.folder.currentPath or "")
        return Path(path) if path else None

    def _items(self) -> list[Any]:
        return [self.tree.topLevelItem(at) for at in range(int(pieces.read(self.tree, "topLevelItemCount") or 0))]

    def _keep(self, *_: object) -> None:
        self.desk.keep(batch=str(self.folder.currentPath or ""))


def _item(text: str, key: str, *, ticked: bool = False) -> Any:
    """Without a parent: Python gives it up to the tree that it is added to, and not to one that it is made with."""
    item = qt.QTreeWidgetItem()
    item.setText(0, text)
    item.setData(0, qt.Qt.UserRole, key)
    item.setCheckState(0, qt.Qt.Checked if ticked else qt.Qt.Unchecked)
    return item


def _key(item: Any) -> str:
    return str(item.data(0, qt.Qt.UserRole))


def _is_ticked(item: Any) -> bool:
    return bool(item.checkState(0) == qt.Qt.Checked)
