"""Numbers in label maps that no label of the table has: a wrong table, or a wrong file."""

from __future__ import annotations

from pathlib import Path

from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.volume import Volume

NAMED = 10


def refuse(path: Path | str, labels: Volume, table: LabelTable, *, remedy: str) -> None:
    """Refuse a label map (1, I, J, K) with numbers that the table does not name.

    Args:
        remedy: what to do besides completing the table.
    """
    unknown = table.unknown(labels.array)
    if unknown:
        known = (f"{label.name} {'/'.join(map(str, label.members))}" for label in table.labels)
        raise Refusal(
            path,
            found=f"the numbers {', '.join(map(str, unknown[:NAMED]))}{', ...' if len(unknown) > NAMED else ''}",
            needed=f"only numbers that the label table names: {', '.join(known)}",
            remedy=f"add them to the labels, or {remedy}",
        )
