"""The viewer's page: what it is told, and how it becomes HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg import progress
from medseg.atomic import replacing
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.viewer import voxels
from medseg.volume import Volume

MOST_VOXELS = 512 * 512 * 320
"""The largest scan that was tried, with one label map; a browser holds each voxel of both several times over."""
CT_WINDOWS = {
    "soft tissue": (-160, 240),
    "lung": (-1350, 150),
    "bone": (-450, 1050),
    "brain": (0, 80),
    "liver": (-45, 105),
}
"""Values in HU shown as black and as white."""
AIR_HU = -200
"""A scan that goes below this is taken for a CT where nothing says what it is."""
UNNAMED = 0.618034
"""Steps around the circle of hues, for numbers without a name."""


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Labels to lay over a scan.

    Attributes:
        name: what it is called on the page.
        volume: (1, I, J, K) of whole numbers, on the grid of the scan.
        table: what the numbers mean; None: not known, and they are shown as numbers.
    """

    name: str
    volume: Volume
    table: LabelTable | None = None


def write(path: Path, scan: Volume, labels: Sequence[LabelMap], *, title: str) -> None:
    """Write one self-contained HTML file, complete or not at all.

    Args:
        scan: (C, I, J, K); of several channels that are no colour picture, the first is shown.

    Raises:
        Refusal: more voxels than a browser holds.
        OSError: the folder cannot be written to.
    """
    if int(np.prod(scan.shape)) * max(1, len(labels)) > MOST_VOXELS:
        raise Refusal(
            scan.source.path,
            found=f"{' x '.join(map(str, scan.shape))} voxels, and {len(labels)} label maps",
            needed=f"at most {MOST_VOXELS:,} voxels for a page, over all label maps together",
            remedy="name fewer label maps, open a part of the scan or a coarser copy, or take a program that is not a "
            "browser, such as 3D Slicer",
        )
    about: dict[str, Any] = {"title": title, **_scan(scan), "maps": []}
    data = {}
    with progress.counting("packing volumes", total=1 + len(labels)) as done:
        data["scan"] = voxels.scan(scan)
        done()
        for number, given in enumerate(labels):
            entries = _entries(given)
            places = {entry["number"]: place for place, entry in enumerate(entries, start=1)}
            data[f"map-{number}"] = voxels.labels(given.volume, places)
            about["maps"].append({"name": given.name, "labels": entries})
            done()
    page = _render(about, data).encode("utf-8")
    with replacing(path) as temporary:
        temporary.write_bytes(page)


def _scan(scan: Volume) -> dict[str, Any]:
    """What the page has to know of the scan, apart from its voxels."""
    shown = scan.array[0]
    low, high = float(shown.min()), float(shown.max())
    ct = scan.source.modality == "CT" or (not scan.source.modality and scan.unit == "mm" and low < AIR_HU)
    window = CT_WINDOWS["soft tissue"] if ct else _percentiles(shown)
    several = len(scan.array) > 1 and not voxels.in_colour(scan)
    return {
        "unit": scan.unit,
        "colour": voxels.in_colour(scan),
        "flat": scan.shape[2] == 1,
        "window": [*window] if window[1] > window[0] else [low, max(high, low + 1)],
        "windows": {
            **({name: [*edges] for name, edges in CT_WINDOWS.items()} if ct else {}),
            "all values": [low, high],
        },
        "channel": f"channel 1 of {len(scan.array)}{_named(scan)}" if several else "",
    }


def _percentiles(image: np.ndarray) -> tuple[float, float]:
    """The 1st and the 99th, of what is not 0 if anything is."""
    low, high = np.percentile(image[image != 0] if image.any() else image, (1, 99))
    return float(low), float(high)


def _named(scan: Volume) -> str:
    return f": {scan.channels[0]}" if scan.channels else ""


def _entries(given: LabelMap) -> list[dict[str, Any]]:
    """A row of the legend for each number in a label map: name, colour, and a place (RAS mm) that lies in it."""
    from scipy import ndimage

    known = _known(given.table)
    entries = []
    # SciPy goes through the axes from first to last; volumes mostly lie in memory from last to first.
    for number, box in enumerate(ndimage.find_objects(given.volume.array[0].T), start=1):
        if box is None:
            continue
        name, colour = known.get(number, (f"number {number}", _colour(number)))
        place = _inside(given.volume, box[::-1], number)
        entries.append({"number": number, "name": name, "colour": list(colour), "inside": place})
    return entries


def _known(table: LabelTable | None) -> Mapping[int, tuple[str, tuple[int, int, int]]]:
    """(name, colour) by number: a number that label maps are painted with, or one that training files use."""
    known: dict[int, tuple[str, tuple[int, int, int]]] = {}
    for label in table.labels if table else ():
        for number in label.members:
            known.setdefault(number, (label.name, label.colour))
    return known | {label.index: (label.name, label.colour) for label in (table.labels if table else ())}


def _inside(volume: Volume, box: tuple[slice, ...], number: int) -> list[float]:
    """Centre of the voxel of a label that lies nearest to the middle of its fullest slice; `box` is around it."""
    mask = volume.array[0][box] == number
    k = int(np.count_nonzero(mask, axis=(0, 1)).argmax())
    found = np.argwhere(mask[..., k])
    i, j = found[np.linalg.norm(found - found.mean(axis=0), axis=1).argmin()]
    start = [side.start for side in box]
    place = volume.affine @ (*np.add(start, (i, j, k)), 1)
    return [round(float(part), 3) for part in place[:3]]


def _colour(number: int) -> tuple[int, int, int]:
    import colorsys

    red, green, blue = colorsys.hsv_to_rgb(number * UNNAMED % 1.0, 0.65, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def _render(about: Mapping[str, Any], data: Mapping[str, str]) -> str:
    import jinja2

    loader = jinja2.PackageLoader("medseg.viewer", "")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # In a script element nothing is unescaped, and only "</script" would end it.
    told = json.dumps(about).replace("<", "\\u003c")
    niivue = (Path(__file__).parent / "niivue.umd.js").read_text(encoding="utf-8")
    return environment.get_template("viewer.html").render(about=about, told=told, data=data, niivue=niivue)
