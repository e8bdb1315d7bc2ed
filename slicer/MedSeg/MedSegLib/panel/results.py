"""Section "Results": what came of the last run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt

from MedSegLib import segments, tables
from MedSegLib.apply import Result
from MedSegLib.panel import pieces
from MedSegLib.panel.desk import Desk

LEVELS = {"pass": "ok", "look": "look", "fail": "stop"}
WORDS = {
    "pass": "Quality control: nothing unusual.",
    "look": "Quality control: look at it before you use it.",
    "fail": "Quality control: do not use it unseen.",
}
ROW, MOST_ROWS = 22, 6
"""Height of a row of the table, and how many are seen at once."""


class Results:
    """Filled by each run that ends well."""

    def __init__(self, parent: Any, desk: Desk) -> None:
        self.desk = desk
        self.section, form = pieces.section(parent, "Results")
        self.title = pieces.note("Nothing yet.")
        self.verdict = pieces.note()
        self.table = qt.QTableWidget()
        self.table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        self.table.verticalHeader().setVisible(False)
        self.table.verticalHeader().setDefaultSectionSize(ROW)
        self.table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        form.addRow(self.title)
        form.addRow(self.verdict)
        form.addRow(self.table)
        self.verdict.setVisible(False)
        self.table.setVisible(False)

    def show(self, result: Result) -> None:
        """Where it is, what its quality control says, and its volumes or classes."""
        nodes = [node for node in (result.segmentation, result.uncertainty, result.table) if node is not None]
        names = ", ".join(node.GetName() for node in nodes)
        where = f"In the scene: {names}." if names else f"In the folder {result.folder}."
        told = "".join(f"<br>{pieces.marked('look', note)}" for note in result.notes)
        self.title.setText(f"<b>{pieces.escaped(result.title)}</b><br>{pieces.escaped(where)}{told}")
        quality = result.facts.get("quality") or {}
        level = str(quality.get("verdict", ""))
        lines = [pieces.marked(LEVELS.get(level, ""), WORDS.get(level, "The model has no quality control."))]
        lines += [pieces.escaped(str(reason)) for reason in quality.get("reasons") or ()]
        self.verdict.setText("<br>".join(lines))
        self.verdict.setVisible(result.folder is None)
        volumes = result.facts.get("volume_ml")
        if volumes:
            wanted = (
                {one.name for one in segments.segments(result.segmentation)} if result.segmentation else set(volumes)
            )
            rows = [(str(name), f"{float(ml):.2f}") for name, ml in volumes.items() if name in wanted]
            self._fill(["Structure", tables.VOLUME], rows)
        else:
            self._fill(*_of_node(result.table))

    def _fill(self, heads: list[str], rows: Sequence[Sequence[str]]) -> None:
        self.table.setVisible(bool(rows))
        self.table.setColumnCount(len(heads))
        self.table.setHorizontalHeaderLabels(heads)
        self.table.setRowCount(len(rows))
        self.table.setFixedHeight(ROW * (min(len(rows), MOST_ROWS) + 1) + 8)
        for at, row in enumerate(rows):
            for column, text in enumerate(row):
                self.table.setItem(at, column, qt.QTableWidgetItem(text))


def _of_node(node: Any) -> tuple[list[str], list[tuple[str, ...]]]:
    """Headings and rows of a table node; none of None."""
    if node is None:
        return [], []
    columns = range(node.GetNumberOfColumns())
    heads = [str(node.GetColumnName(column)) for column in columns]
    count = node.GetNumberOfRows()
    return heads, [tuple(str(node.GetCellText(row, column)) for column in columns) for row in range(count)]
