"""One result on sheets of A4, as a PDF: facts, three pictures, a table of measurements, and how it came about."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.report.pictures import draw
from medseg.report.slices import Overlay, busiest, planes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT, MARGIN = 8.27, 11.69, 0.7
"""Inches, as all lengths here; counted from the top of the sheet."""
ACROSS = WIDTH - 2 * MARGIN
FACT, ROW, FOOT, GAP = 0.19, 0.21, 0.1, 0.12
NAMES, SWATCH = 2.5, 0.22
"""Width of the table's first column, and how far its text is from the left edge."""
LETTERS = 780
"""Letters of size 1 in a line: small print is about half as wide as it is high."""
PICTURE_DOTS_PER_INCH = 220
INK, PALE, RULE = "#1b2430", "#5b6673", "#c9d1d9"


@dataclass(frozen=True, eq=False)
class Sheet:
    """What is on the sheets. All of it is text that is shown as it is; nothing is computed here.

    Attributes:
        title: the largest line; `subtitle` stands below it.
        facts: name and value, in two columns.
        overlay: the case; None shows no pictures.
        columns: headings of the table; the first one's column holds names, the others numbers.
        rows: a cell for each column.
        colours: of each row's label, (red, green, blue) from 0 to 255.
        notes: lines below the table.
        account: how the result came about, in small print.
        footer: at the bottom of each sheet.
    """

    title: str
    subtitle: str
    facts: Sequence[tuple[str, str]]
    overlay: Overlay | None
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    colours: Sequence[tuple[int, int, int]]
    notes: Sequence[str]
    account: str
    footer: str


def pdf(sheet: Sheet) -> bytes:
    """The sheets as one PDF file. The same `Sheet` gives the same bytes with the same version of matplotlib."""
    from matplotlib import rc_context, rcdefaults, rcParams
    from matplotlib.backends.backend_pdf import PdfPages

    stream = io.BytesIO()
    with rc_context():
        rcdefaults()  # a style of the user's would change the sheet; the context gives it back afterwards
        rcParams["pdf.fonttype"] = 42
        made = _figures(sheet)
        with PdfPages(stream, metadata={"Title": sheet.title, "Creator": "medseg", "CreationDate": None}) as document:
            for number, figure in enumerate(made, start=1):
                _foot(figure, f"{number} / {len(made)}", sheet.footer)
                document.savefig(figure, dpi=PICTURE_DOTS_PER_INCH)
    return stream.getvalue()


def pages(document: bytes) -> int:
    """How many sheets a PDF of `pdf` has."""
    return len(re.findall(rb"/Type /Page\b", document))


class _Flow:
    """Parts of given heights, one below the other; what does not fit on a sheet goes on to the next."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self._top = HEIGHT

    def take(self, height: float, keep: float = 0) -> tuple[Figure, float]:
        """The sheet of the next part, and its upper edge; `keep`: what must have room below it on the same sheet."""
        if self._top + height + keep > HEIGHT - MARGIN - FOOT:
            self.figures.append(_blank())
            self._top = MARGIN
        self._top += height
        return self.figures[-1], self._top - height


def _figures(sheet: Sheet) -> list[Figure]:
    flow = _Flow()
    _head(*flow.take(0.62), sheet)
    _facts(*flow.take(FACT * ((len(sheet.facts) + 1) // 2) + 0.12), sheet.facts)
    if sheet.overlay is not None:
        _pictures(*flow.take(_side(len(planes(sheet.overlay.shape))) + 0.4), sheet.overlay)
    _table(flow, sheet)
    flow.take(0.12)
    _paragraphs(flow, sheet.notes, 8.0)
    figure, top = flow.take(0.36, keep=0.2)
    _write(figure, MARGIN, top + 0.3, "How this came about", 8, fontweight="bold")
    _paragraphs(flow, sheet.account.splitlines(), 6.5)
    return flow.figures


def _blank() -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, HEIGHT), facecolor="white")


def _write(figure: Figure, x: float, y: float, text: str, size: float, colour: str = INK, **style: Any) -> None:
    """Text on the baseline y, from x on or, with `ha`, around it or up to it."""
    # Names may hold a dollar sign, which would begin a formula.
    figure.text(x / WIDTH, 1 - y / HEIGHT, text, fontsize=size, color=colour, parse_math=False, **style)


def _rule(figure: Figure, y: float, colour: str = RULE) -> None:
    from matplotlib.lines import Line2D

    ends = [MARGIN / WIDTH, 1 - MARGIN / WIDTH]
    figure.add_artist(Line2D(ends, [1 - y / HEIGHT] * 2, color=colour, linewidth=0.7))


def _head(figure: Figure, top: float, sheet: Sheet) -> None:
    _write(figure, MARGIN, top + 0.2, sheet.title, 17, fontweight="bold")
    _write(figure, MARGIN, top + 0.42, sheet.subtitle, 9, PALE)
    _rule(figure, top + 0.55, INK)


def _foot(figure: Figure, number: str, footer: str) -> None:
    _rule(figure, HEIGHT - MARGIN + 0.02)
    _write(figure, MARGIN, HEIGHT - MARGIN + 0.2, _short(footer, 130), 7, PALE)
    _write(figure, WIDTH - MARGIN, HEIGHT - MARGIN + 0.2, number, 7, PALE, ha="right")


def _facts(figure: Figure, top: float, facts: Sequence[tuple[str, str]]) -> None:
    half = (len(facts) + 1) // 2
    for place, (name, value) in enumerate(facts):
        x = MARGIN + (0 if place < half else ACROSS / 2)
        y = top + FACT * (place % half) + 0.14
        _write(figure, x, y, name, 7.5, PALE)
        _write(figure, x + 1.05, y, _short(value, 40), 8.5)


def _side(count: int) -> float:
    """Of a picture: a third of the width, or a half where there is only one."""
    return (ACROSS - 2 * GAP) / 3 if count > 1 else ACROSS / 2


def _pictures(figure: Figure, top: float, overlay: Overlay) -> None:
    shown = planes(overlay.shape)
    side = _side(len(shown))
    for place, plane in enumerate(shown):
        index = busiest(overlay, plane)
        left = MARGIN + place * (side + GAP)
        frame = (left / WIDTH, 1 - (top + side) / HEIGHT, side / WIDTH, side / HEIGHT)
        axes = figure.add_axes(frame, facecolor="black")
        draw(axes, overlay, plane, index)
        _behind(figure, frame)
        caption = f"{plane.name}, slice {index + 1} of {overlay.shape[plane.normal]}" if overlay.unit == "mm" else ""
        _write(figure, left, top + side + 0.15, caption, 7, PALE)


def _behind(figure: Figure, frame: tuple[float, float, float, float]) -> None:
    """A black square below a picture, which seldom is one."""
    from matplotlib.patches import Rectangle

    figure.add_artist(Rectangle(frame[:2], *frame[2:], facecolor="black", edgecolor="none", zorder=-1))


def _table(flow: _Flow, sheet: Sheet) -> None:
    """A line for each row, below headings that every sheet repeats."""
    figure: Figure | None = None
    for row, colour in zip(sheet.rows, sheet.colours, strict=True):
        here, top = flow.take(ROW, keep=0 if figure else ROW)
        if here is not figure:
            figure = here
            _cells(figure, top, sheet.columns, 7.5, PALE)
            _rule(figure, top + ROW - 0.02)
            here, top = flow.take(ROW)
        _swatch(here, top, colour)
        _cells(here, top, row, 8.5, INK)


def _cells(figure: Figure, top: float, cells: Sequence[str], size: float, colour: str) -> None:
    """The first from the left, the others up to the right edges of columns of one width."""
    name, *numbers = cells
    wide = (ACROSS - NAMES) / max(len(numbers), 1)
    _write(figure, MARGIN + SWATCH, top + 0.15, _short(name, 32), size, colour)
    for place, text in enumerate(numbers, start=1):
        _write(figure, MARGIN + NAMES + place * wide, top + 0.15, _short(text, 24), size, colour, ha="right")


def _swatch(figure: Figure, top: float, colour: tuple[int, int, int]) -> None:
    from matplotlib.patches import Rectangle

    corner = (MARGIN / WIDTH, 1 - (top + 0.165) / HEIGHT)
    tint = tuple(part / 255 for part in colour)
    figure.add_artist(Rectangle(corner, 0.12 / WIDTH, 0.12 / HEIGHT, facecolor=tint, edgecolor="none"))


def _paragraphs(flow: _Flow, lines: Sequence[str], size: float) -> None:
    for text in lines:
        for line in textwrap.wrap(text, int(LETTERS / size)):
            figure, top = flow.take(size / 72 * 1.45)
            _write(figure, MARGIN, top + size / 72, line, size, PALE)


def _short(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"
