"""Slices of a scan with outlines of the reference and of the prediction, or with its errors, as bytes of a picture."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from medseg.report.slices import Overlay, Plane, busiest, cut, pixel_mm, planes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patheffects import AbstractPathEffect

SIDE_INCHES, CAPTION_INCHES = 3.5, 0.3
DOTS_PER_INCH, SMALL_DOTS_PER_INCH = 136, 100
QUALITY, QUALITY_BEHIND_ERRORS = 80, 60
"""Of WebP, 0 to 100. As PNG a noisy slice is four times as large, and a report has dozens."""
MISSED, FALSE_ALARM, CONFUSED = (213, 94, 0), (86, 180, 233), (240, 228, 66)
"""Vermilion, sky blue and yellow: red, green and blue, told apart by colour-blind eyes too (Okabe and Ito 2008)."""
DIMMED = 0.6
"""Brightness of a scan behind its errors."""
SCALE_BARS_MM = (200, 100, 50, 20, 10, 5, 2, 1)


def panel(overlay: Overlay, plane: Plane, index: int) -> bytes:
    """One slice as `draw` shows it, in a black square, as WebP."""
    return _webp(lambda axes: draw(axes, overlay, plane, index), QUALITY)


def error_panel(overlay: Overlay, plane: Plane, index: int, errors: tuple[np.ndarray, np.ndarray]) -> bytes:
    """One slice with the voxels that are missed, false alarms, or both (one label in place of another), as WebP.

    Args:
        errors: as `Overlay.errors`.
    """
    return _webp(lambda axes: _draw_errors(axes, overlay, plane, index, errors), QUALITY_BEHIND_ERRORS)


def strip(overlay: Overlay, caption: str) -> bytes:
    """The busiest slice along each axis side by side, small, with a line of text below, as PNG."""
    shown = [(plane, busiest(overlay, plane)) for plane in planes(overlay.shape)]
    high = SIDE_INCHES + CAPTION_INCHES
    with _canvas(SIDE_INCHES * len(shown), high) as figure:
        for place, (plane, index) in enumerate(shown):
            axes = figure.add_axes((place / len(shown), CAPTION_INCHES / high, 1 / len(shown), SIDE_INCHES / high))
            draw(axes, overlay, plane, index)
        # names may hold a dollar sign, which would begin a formula
        figure.text(0.01, 0.3 * CAPTION_INCHES / high, caption, fontsize=9, color="white", parse_math=False)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=SMALL_DOTS_PER_INCH, facecolor="black", metadata={"Software": None})
    return stream.getvalue()


def _webp(fill: Callable[[Axes], None], quality: int) -> bytes:
    """A black square that `fill` draws in."""
    from PIL import Image

    with _canvas(SIDE_INCHES, SIDE_INCHES) as figure:
        fill(figure.add_axes((0, 0, 1, 1)))
        figure.set_dpi(DOTS_PER_INCH)
        figure.canvas.draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
    stream = io.BytesIO()
    # sharp YUV keeps thin coloured lines from fading, since colours have half the resolution
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "WEBP", quality=quality, method=4, use_sharp_yuv=True)
    return stream.getvalue()


@contextmanager
def _canvas(wide: float, high: float) -> Iterator[Figure]:
    """A black figure of so many inches, whatever style the user has chosen."""
    from matplotlib import rc_context, rcdefaults
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context():
        rcdefaults()  # a style of the user's would change the bytes; the context gives it back afterwards
        figure = Figure(figsize=(wide, high), facecolor="black")
        FigureCanvasAgg(figure)
        yield figure


def draw(axes: Axes, overlay: Overlay, plane: Plane, index: int) -> None:
    """One slice in correct proportions: the prediction's outlines in the colours of the table, the reference's dashed
    and white on top of them, the patient's directions at the edges and a scale bar."""
    axes.set_axis_off()
    _draw_scan(axes, overlay, plane, index)
    _draw_outlines(axes, overlay, plane, index)
    if overlay.unit == "mm":
        _draw_directions(axes, plane)
        _draw_scale_bar(axes, overlay, plane)


def _draw_errors(axes: Axes, overlay: Overlay, plane: Plane, index: int, errors: tuple[np.ndarray, np.ndarray]) -> None:
    axes.set_axis_off()
    _draw_scan(axes, overlay, plane, index, brightness=DIMMED)
    missed, false = (cut(part, plane, index) for part in errors)
    painted = np.zeros((*missed.shape, 4), np.uint8)
    for where, colour in ((missed, MISSED), (false, FALSE_ALARM), (missed & false, CONFUSED)):
        painted[where] = (*colour, 255)
    height, width = _size_mm(overlay, plane)
    axes.imshow(painted, extent=(0, width, height, 0), interpolation="nearest")
    _square(axes, height, width)
    if overlay.unit == "mm":
        _draw_directions(axes, plane)


def grey(scan: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Intensities -> 0 (black) to 1 (white). A window of no width becomes a step at its value."""
    low, high = (float(edge) for edge in window)
    if not high > low:
        return (scan > low).astype(np.float32)
    return np.clip((scan.astype(np.float32) - low) / (high - low), 0, 1)


def _size_mm(overlay: Overlay, plane: Plane) -> tuple[float, float]:
    """(height, width) of the whole slice."""
    height, width = pixel_mm(plane, overlay.spacing_mm)
    return height * overlay.shape[plane.rows], width * overlay.shape[plane.columns]


def _draw_scan(axes: Axes, overlay: Overlay, plane: Plane, index: int, *, brightness: float = 1) -> None:
    picture = grey(cut(overlay.scan, plane, index), overlay.window) * brightness
    height, width = _size_mm(overlay, plane)
    if picture.ndim == 3:
        axes.imshow(np.moveaxis(picture, 0, -1), extent=(0, width, height, 0))
    else:
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
    _square(axes, height, width)


def _square(axes: Axes, height: float, width: float) -> None:
    side = max(height, width)
    axes.set_xlim(width / 2 - side / 2, width / 2 + side / 2)
    axes.set_ylim(height / 2 + side / 2, height / 2 - side / 2)


def _draw_outlines(axes: Axes, overlay: Overlay, plane: Plane, index: int) -> None:
    for (array, number), label in zip(overlay.layers(overlay.predicted), overlay.table.labels, strict=True):
        colour = tuple(part / 255 for part in label.colour)
        _outline(axes, overlay, plane, cut(array, plane, index) == number, colour, "solid")
    if overlay.truth is not None:
        for array, number in overlay.layers(overlay.truth):
            _outline(axes, overlay, plane, cut(array, plane, index) == number, (1.0, 1.0, 1.0), "dashed")


def _outline(
    axes: Axes, overlay: Overlay, plane: Plane, mask: np.ndarray, colour: tuple[float, ...], style: str
) -> None:
    """Contour of a mask, half-way between voxel centres; a margin of background closes it at the picture's edge."""
    if not mask.any():
        return
    height, width = pixel_mm(plane, overlay.spacing_mm)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = rows[0], columns[0]
    # Only the part with the structure in it: a hundred outlines of whole slices would take half a minute.
    inside = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1).astype(np.float32)
    x = (np.arange(inside.shape[1]) + left - 0.5) * width
    y = (np.arange(inside.shape[0]) + top - 0.5) * height
    if style == "solid":
        axes.contourf(x, y, inside, levels=[0.5, 2], colors=[colour], alpha=0.12)
        axes.contour(x, y, inside, levels=[0.5], colors=[colour], linewidths=1.9)
    else:
        lines = axes.contour(x, y, inside, levels=[0.5], colors=[colour], linewidths=1.1)
        lines.set_linestyle([(0, (2.2, 2.2))])
        lines.set_path_effects(_rim(1.8))


def _draw_directions(axes: Axes, plane: Plane) -> None:
    places = ((0.025, 0.5, plane.left), (0.975, 0.5, plane.right), (0.5, 0.97, plane.top), (0.5, 0.03, plane.bottom))
    for x, y, letter in places:
        across = "left" if x < 0.1 else "right" if x > 0.9 else "center"
        upwards = "bottom" if y < 0.1 else "top" if y > 0.9 else "center"
        _write(axes, x, y, letter, across, upwards, 11)


def _draw_scale_bar(axes: Axes, overlay: Overlay, plane: Plane) -> None:
    side = max(_size_mm(overlay, plane))
    length = next((bar for bar in SCALE_BARS_MM if bar <= side / 4), None)
    if length is None:
        return
    ends = [0.035, 0.035 + length / side]
    axes.plot(ends, [0.045, 0.045], transform=axes.transAxes, color="white", linewidth=2.2, path_effects=_rim(4))
    _write(axes, 0.035, 0.06, f"{length} mm", "left", "bottom", 8)


def _write(axes: Axes, x: float, y: float, text: str, across: str, upwards: str, size: float) -> None:
    axes.text(
        x,
        y,
        text,
        transform=axes.transAxes,
        ha=across,
        va=upwards,
        fontsize=size,
        color="white",
        fontfamily="DejaVu Sans",
        fontweight="bold",
        path_effects=_rim(2.2),
    )


def _rim(width: float) -> list[AbstractPathEffect]:
    """A dark rim, which keeps white letters and lines legible on bone."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="black")]
