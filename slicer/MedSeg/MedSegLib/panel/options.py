"""Section "Options": how thorough, what is wanted, and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt

from MedSegLib.models import Label
from MedSegLib.panel import pieces
from MedSegLib.panel.desk import Desk

QUALITY = (("fast", "Fast: a first look"), ("standard", "Standard"), ("best", "Best: all that the model can do"))
DEVICES = (
    ("auto", "Whatever is fastest"),
    ("cpu", "Processor"),
    ("cuda", "NVIDIA graphics card"),
    ("mps", "Apple graphics"),
)


class Options:
    """All but the labels is kept between sessions; `changed` hears of each choice."""

    def __init__(self, parent: Any, desk: Desk, changed: Callable[[], None]) -> None:
        self.desk, self.changed = desk, changed
        kept = desk.settings
        self.section, form = pieces.section(parent, "Options")
        self.quality = pieces.choice(
            QUALITY,
            kept.quality,
            "Fast: tiles overlap less, nothing is looked at mirrored, and one network of several answers. "
            "Best: everything that the model was trained for; it takes some times longer.",
        )
        self.device = pieces.choice(DEVICES, kept.device, "Only for what runs on this computer")
        self.uncertainty = pieces.tick(
            "A volume of the uncertainty",
            kept.uncertainty,
            "Entropy of what the network says at each voxel: high where it hesitates. Good to know where to look.",
        )
        self.table = pieces.tick("A table of the volumes", kept.table, "Millilitres of each structure, in a table node")
        self.harden = pieces.tick(
            "Volumes under a transform as they are shown",
            kept.harden,
            "What is sent is a copy with the transform in it, and the result lies where the volume is shown. Without "
            "the tick, a volume under a transform is refused, and you decide yourself what to do with it.",
        )
        self._listed: tuple[Label, ...] = ()
        self.labels = qt.QListWidget()
        self.labels.setToolTip(
            "What is not ticked becomes background. Where a model has a coarse pass, few labels are found much faster, "
            "and only around them is it looked at finely."
        )
        self.every = pieces.button("All", lambda *_: self._tick(qt.Qt.Checked), "Keep all")
        self.none = pieces.button("None", lambda *_: self._tick(qt.Qt.Unchecked), "Begin with none")
        form.addRow(pieces.name("Quality"), self.quality)
        form.addRow(pieces.name("Device"), self.device)
        form.addRow(pieces.name("Also"), pieces.column(self.table, self.uncertainty, self.harden))
        form.addRow(pieces.name("Keep"), pieces.row(self.labels, pieces.column(self.every, self.none)))
        for box in (self.quality, self.device):
            box.currentIndexChanged.connect(self._keep)
        self.labels.itemChanged.connect(lambda *_: self.changed())
        for box in (self.uncertainty, self.table, self.harden):
            box.clicked.connect(self._keep)

    def show(self) -> None:
        """The labels of the chosen model, all of them ticked; the same labels keep their ticks."""
        model = self.desk.model
        self.device.setEnabled(self.desk.here)
        labels = tuple(model.labels) if model else ()
        if labels == self._listed:
            return
        self._listed = labels
        self.labels.blockSignals(True)
        self.labels.clear()
        for label in labels:
            item = qt.QListWidgetItem(label.name)
            swatch = qt.QPixmap(12, 12)
            swatch.fill(qt.QColor(*label.colour))
            item.setIcon(qt.QIcon(swatch))
            item.setData(qt.Qt.UserRole, label.name)
            item.setCheckState(qt.Qt.Checked)
            self.labels.addItem(item)
        self.labels.blockSignals(False)
        pieces.fit(self.labels, 6)

    def kept_labels(self) -> tuple[str, ...] | None:
        """Names of those to keep; none: all of them; None: not one is ticked."""
        items = [self.labels.item(at) for at in range(int(pieces.read(self.labels, "count")))]
        names = [str(item.data(qt.Qt.UserRole)) for item in items if item.checkState() == qt.Qt.Checked]
        if items and not names:
            return None
        return () if len(names) == len(items) else tuple(names)

    def _tick(self, state: Any) -> None:
        self.labels.blockSignals(True)
        for at in range(int(pieces.read(self.labels, "count"))):
            self.labels.item(at).setCheckState(state)
        self.labels.blockSignals(False)
        self.changed()

    def _keep(self, *_: object) -> None:
        self.desk.keep(
            quality=pieces.chosen(self.quality),
            device=pieces.chosen(self.device),
            uncertainty=bool(pieces.read(self.uncertainty, "checked")),
            table=bool(pieces.read(self.table, "checked")),
            harden=bool(pieces.read(self.harden, "checked")),
        )
        self.changed()
