"""Slices of a scan with labels burnt in, and below them, off the anatomy, what the colours mean and a warning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from medseg.labels import LabelTable
from medseg.report.pictures import grey

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

WIDE = 512
"""Pixels that a picture has across at least; a smaller slice is enlarged by a whole number."""
FILL = 0.25
"""How much of a label's colour lies over its inside."""
LETTER = 1 / 42
"""Height of letters, of the picture's width."""
ACROSS, MOST_LINES = 3, 4
"""Columns of the legend, and most lines of it."""
WARNING = (255, 200, 0)


@dataclass(frozen=True, eq=False)
class Burned:
    """How all pictures of one object look.

    Attributes:
        table: what the labels are.
        window: intensities shown as black and as white.
        size: (rows, columns) of a slice.
        lines: of text below each picture, the first in the colour of a warning.
        legend_lines: of the legend.
    """

    table: LabelTable
    window: tuple[float, float]
    size: tuple[int, int]
    lines: tuple[str, ...]
    legend_lines: int

    @property
    def zoom(self) -> int:
        """Pixels of the picture along each side of a pixel of the slice."""
        return max(1, -(-WIDE // self.size[1]))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of a picture, the text below it included."""
        rows, columns = (side * self.zoom for side in self.size)
        return rows + self._line * (len(self.lines) + self.legend_lines) + self._line // 2, columns

    @property
    def _line(self) -> int:
        return int(self.size[1] * self.zoom * LETTER * 1.5)

    def picture(self, scan: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
        """(rows, columns, 3) uint8.

        Args:
            scan: (rows, columns) intensities.
            masks: boolean (rows, columns) of each label of the table.
        """
        shown = np.repeat(_enlarged(grey(scan, self.window), self.zoom)[..., None] * 255, 3, axis=2)
        seen = []
        for label, mask in zip(self.table.labels, masks, strict=True):
            if not mask.any():
                continue
            seen.append((label.name, label.colour))
            inside, colour = _enlarged(mask, self.zoom), np.array(label.colour, np.float32)
            shown[inside] += FILL * (colour - shown[inside])
            shown[inside & ~ndimage.binary_erosion(inside, border_value=1)] = colour
        whole = np.zeros((*self.shape, 3), np.uint8)
        whole[: shown.shape[0]] = shown.round()
        whole[shown.shape[0] :] = self._text(shown.shape[0], seen)
        return whole

    def _text(self, below: int, seen: list[tuple[str, tuple[int, int, int]]]) -> np.ndarray:
        from PIL import Image, ImageDraw

        high, wide = self.shape[0] - below, self.shape[1]
        image = Image.new("RGB", (wide, high))
        draw, font = ImageDraw.Draw(image), _font(max(8, int(wide * LETTER)))
        edge, step = self._line // 3, self._line
        for number, line in enumerate(self.lines):
            draw.text((edge, number * step), _fitted(line, wide - edge, font), WARNING if not number else "white", font)
        room = ACROSS * self.legend_lines
        listed = seen if len(seen) <= room else seen[: room - 1]
        words = [name for name, _ in listed] + (
            [f"and {len(seen) - len(listed)} more"] if len(listed) < len(seen) else []
        )
        for number, name in enumerate(words):
            x, y = edge + (number % ACROSS) * wide // ACROSS, (len(self.lines) + number // ACROSS) * step
            if number < len(listed):
                draw.rectangle((x, y + step // 5, x + step // 2, y + step // 5 + step // 2), listed[number][1])
            draw.text((x + step * 3 // 4, y), _fitted(name, wide // ACROSS - step, font), "white", font)
        return np.asarray(image)


def legend_lines(labels: int) -> int:
    """Lines for so many labels in one picture."""
    return min(-(-labels // ACROSS), MOST_LINES)


def _enlarged(array: np.ndarray, times: int) -> np.ndarray:
    return array.repeat(times, axis=0).repeat(times, axis=1)


def _fitted(text: str, wide: float, font: FreeTypeFont) -> str:
    """As much of a text as fits."""
    if font.getlength(text) <= wide:
        return text
    while text and font.getlength(text + "…") > wide:
        text = text[:-1]
    return text + "…"


@cache
def _font(size: int) -> FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has the letters of most languages."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
