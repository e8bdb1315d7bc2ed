"""The two widgets of CTK that the panel uses, with the properties and signals that it uses."""

from __future__ import annotations

from PySide6.QtCore import Property, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QMouseEvent, QPainter, QPaintEvent, QPolygonF
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QToolButton, QWidget

HEADER = 26


class ctkCollapsibleButton(QWidget):  # CTK's own name
    """A heading that hides what is below it when it is clicked."""

    contentsCollapsed = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._text, self._collapsed = "", False
        self.setContentsMargins(0, HEADER, 0, 2)
        self.setMinimumHeight(HEADER)

    def _is_collapsed(self) -> bool:
        return self._collapsed

    def _collapse(self, collapsed: bool) -> None:
        self._collapsed = collapsed
        self.setMaximumHeight(HEADER if collapsed else 16777215)
        self.updateGeometry()
        self.update()
        self.contentsCollapsed.emit(collapsed)

    def _name(self, text: str) -> None:
        self._text = text
        self.update()

    text = Property(str, lambda self: self._text, _name)
    collapsed = Property(bool, _is_collapsed, _collapse)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # Qt's own name
        if event.position().y() < HEADER:
            self._collapse(not self._collapsed)

    def paintEvent(self, event: QPaintEvent) -> None:  # Qt's own name
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        palette = self.palette()
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(palette.button())
        painter.drawRoundedRect(QRectF(0, 0, self.width(), HEADER - 2), 3, 3)
        corners = [(8, 8), (8, 16), (14, 12)] if self._collapsed else [(7, 9), (15, 9), (11, 15)]
        painter.setBrush(palette.buttonText())
        painter.drawPolygon(QPolygonF([QPointF(*corner) for corner in corners]))
        painter.setPen(palette.buttonText().color())
        font = self.font()
        font.setBold(True)
        painter.setFont(font)
        painter.drawText(QRectF(22, 0, self.width() - 26, HEADER - 2), Qt.AlignmentFlag.AlignVCenter, self._text)
        painter.end()


class ctkPathLineEdit(QWidget):  # CTK's own name
    """A path, and a button that lets one choose it."""

    Files, Dirs, Writable = 2, 1, 32
    AdjustToContentsOnFirstShow, AdjustToMinimumContentsLength = 1, 2
    currentPathChanged = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.filters = self.Files
        self.sizeAdjustPolicy, self.minimumContentsLength = self.AdjustToContentsOnFirstShow, 0
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        self._line, button = QLineEdit(), QToolButton()
        button.setText("…")
        button.clicked.connect(self._choose)
        self._line.textChanged.connect(self.currentPathChanged)
        self._line.textChanged.connect(lambda _: self.updateGeometry())
        row.addWidget(self._line)
        row.addWidget(button)

    currentPath = Property(str, lambda self: self._line.text(), lambda self, path: self._line.setText(path))

    def setCurrentPath(self, path: str) -> None:  # CTK's own name
        self._line.setText(path)

    def minimumSizeHint(self) -> QSize:  # Qt's own name
        """As CTK's: as wide as the text, unless it is told to be no wider than some letters."""
        letters = self.minimumContentsLength
        if self.sizeAdjustPolicy != self.AdjustToMinimumContentsLength:
            letters = max(letters, len(self._line.text()))
        hint = super().minimumSizeHint()
        return QSize(max(hint.width(), letters * self.fontMetrics().averageCharWidth() + 40), hint.height())

    def show_path(self, path: str) -> None:
        """For pictures: nobody hears of it."""
        self._line.blockSignals(True)
        self._line.setText(path)
        self._line.blockSignals(False)

    def _choose(self) -> None:
        if self.filters == self.Dirs:
            path = QFileDialog.getExistingDirectory(self)
        elif self.filters & self.Writable:
            path = QFileDialog.getSaveFileName(self)[0]
        else:
            path = QFileDialog.getOpenFileName(self)[0]
        if path:
            self._line.setText(path)
