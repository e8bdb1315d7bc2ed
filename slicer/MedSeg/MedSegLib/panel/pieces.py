"""Widgets that the sections are built from."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ctk
import qt

import slicer
from MedSegLib.words import Failure

COLOURS = {"ok": "#23853f", "look": "#a06800", "stop": "#d63a30", "": "#757575"}
"""Of what is well, what needs a look and what stops one. As text on white their contrast is 4.5 to 1 and more, on dark
windows 3 to 1."""

NAME_WIDTH = 84
"""Pixels: the longest name of a field has room."""

LETTERS = 12
"""That a list or a path shows at least: the longest text must not make the panel wider than the window."""

LONG = re.compile(r"\S{24}(?=\S)")
"""Words, such as paths, that have to be broken: a label is never narrower than its longest word."""


def read(widget: Any, name: str) -> Any:
    """A property of a Qt widget: the one way to ask that PythonQt and PySide6 share."""
    return widget.property(name)


def section(parent: Any, title: str, *, collapsed: bool = False) -> tuple[Any, Any]:
    """A part of the panel that can be folded away: the button and the form below it."""
    button = ctk.ctkCollapsibleButton()
    button.text = title
    parent.addWidget(button)
    form = form_of(button)
    button.collapsed = collapsed
    return button, form


def note(text: str = "") -> Any:
    """Text of several lines, which can be selected and copied."""
    label = qt.QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(qt.Qt.TextSelectableByMouse)
    return label


def name(text: str) -> Any:
    """What stands before a field: of one width, so that the fields of all sections lie below one another."""
    label = qt.QLabel(text)
    label.setMinimumWidth(NAME_WIDTH)
    label.setAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    return label


def state(label: Any, level: str, text: str) -> None:
    """Say how something is, with a coloured mark: `ok`, `look`, `stop`, or none."""
    label.setText(marked(level, text))


def failed(label: Any, failure: Failure | None) -> None:
    state(label, "stop", str(failure) if failure else "It did not work, and the reason is not known.")


def marked(level: str, text: str) -> str:
    return f'<span style="color:{COLOURS[level]}">●</span>&nbsp;{escaped(text)}'


def button(text: str, pressed: Callable[..., None], tip: str) -> Any:
    made = qt.QPushButton(text)
    made.setToolTip(tip)
    made.clicked.connect(pressed)
    return made


def path(folder: bool, text: str, tip: str, *, new: bool = False) -> Any:
    """A field for a path, with a button to choose it.

    Args:
        new: whether the file is one that is to be made: its dialogue asks before it gives one that is there.
    """
    line = ctk.ctkPathLineEdit()
    kind = ctk.ctkPathLineEdit.Dirs if folder else ctk.ctkPathLineEdit.Files
    line.filters = kind | ctk.ctkPathLineEdit.Writable if new else kind
    line.sizeAdjustPolicy = ctk.ctkPathLineEdit.AdjustToMinimumContentsLength
    line.minimumContentsLength = LETTERS
    line.currentPath = text
    line.setToolTip(tip)
    return line


def choice(options: Iterable[tuple[str, str]], chosen: str, tip: str) -> Any:
    """A list to choose one of: (value, text for people)."""
    box = qt.QComboBox()
    for value, text in options:
        box.addItem(text, value)
    box.setCurrentIndex(max(0, box.findData(chosen)))
    box.setToolTip(tip)
    box.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(LETTERS)
    box.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
    return box


def chosen(box: Any) -> str:
    at = int(read(box, "currentIndex"))
    return str(box.itemData(at)) if at >= 0 else ""


def tick(text: str, ticked: bool, tip: str) -> Any:
    box = qt.QCheckBox(text)
    box.setChecked(ticked)
    box.setToolTip(tip)
    return box


def nodes(kinds: Sequence[str], tip: str, *, none: bool = True) -> Any:
    """A list of the scene's nodes of just these classes: a label map is a kind of scalar volume, and no scan."""
    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = list(kinds)
    box.showChildNodeTypes = False
    box.addEnabled = False
    box.removeEnabled = False
    box.renameEnabled = False
    box.noneEnabled = none
    box.selectNodeUponCreation = False
    box.setMRMLScene(slicer.mrmlScene)
    box.setToolTip(tip)
    return box


def row(*widgets: Any) -> Any:
    """Widgets side by side; the first takes what room there is."""
    holder = qt.QWidget()
    layout = qt.QHBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    for number, widget in enumerate(widgets):
        layout.addWidget(widget, 0 if number else 1)
    return holder


def column(*widgets: Any) -> Any:
    holder = qt.QWidget()
    layout = qt.QVBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    layout.addStretch(1)
    return holder


def fit(items: Any, most: int) -> None:
    """Make a list as high as its rows, up to some."""
    rows = max(1, min(most, int(read(items, "count"))))
    items.setFixedHeight(rows * max(18, items.sizeHintForRow(0)) + 6)


def lines(height: int) -> Any:
    """A log: text that grows and cannot be edited."""
    text = qt.QPlainTextEdit()
    text.setReadOnly(True)
    text.setMaximumHeight(height)
    text.setMaximumBlockCount(2000)
    return text


def form_of(holder: Any) -> Any:
    """A form within a box or another form."""
    form = qt.QFormLayout(holder)
    form.setFieldGrowthPolicy(qt.QFormLayout.AllNonFixedFieldsGrow)
    form.setLabelAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    return form


def escaped(text: str) -> str:
    """For labels that show HTML; long words may be broken."""
    return html.escape(LONG.sub(lambda part: part[0] + "\u200b", text))


def counted(number: int, noun: str) -> str:
    """`1 case`, `2 cases`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
