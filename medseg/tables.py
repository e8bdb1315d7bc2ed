"""Tables with a header line as text, as people and their spreadsheets write them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from medseg.boundary import parsing
from medseg.refusal import Refusal


def rows(path: Path, *, columns: Iterable[str]) -> list[dict[str, str]]:
    """Rows of a table with a header line; cells stripped. `columns` must be there. Cells end with commas, semicolons or
    tabs, whichever the header has most of; a byte order mark may come first. Spreadsheets write all of these.

    Raises:
        Refusal: no such file, no text in UTF-8, columns that are missing or there twice, lines of another length.
    """
    header, lines = _table(path)
    lacking = [column for column in columns if column not in header]
    twice = [name for name in header if name and header.count(name) > 1]  # spreadsheets leave empty columns behind
    if lacking or twice:
        raise Refusal(
            path,
            found=f"two columns '{twice[0]}'" if twice else f"columns {', '.join(header) or '(none)'}",
            needed="each name once" if twice else f"also {', '.join(lacking)}",
            remedy="rename one of them" if twice else "add the columns, or name others where the table is named",
        )
    content = []
    for number, cells in lines:
        if len(cells) != len(header):
            raise Refusal(
                path,
                found=f"line {number} with another number of cells than the header",
                needed=f"{len(header)} cells a line",
                remedy="repair the line (quote cells that hold the delimiter)",
            )
        content.append(dict(zip(header, cells, strict=True)))
    return content


def columns(path: Path) -> list[str]:
    """Names in the header of a table, as `rows` reads it."""
    return _table(path)[0]


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and each line that holds anything with its number."""
    if not path.is_file():
        raise Refusal(path, found="no such file", needed="a table with a header line", remedy="correct the path")
    with parsing(path, needed="a table with a header line, as text in UTF-8", remedy="save it as CSV in UTF-8"):
        text = path.read_text(encoding="utf-8-sig")
        delimiter = max("\t,;", key=text.partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
    return (lines[0][1], lines[1:]) if lines else ([], [])
