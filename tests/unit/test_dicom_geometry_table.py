"""Where readers put the voxels of even and uneven series: voxels that say where they were taken, and textures.

`pytest tests/unit/test_dicom_geometry_table.py --geometry docs/dicom-geometry.md` writes the page anew, with other
readers measured beside medseg; without it medseg's results are held against the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg import originals
from medseg.dicom.objects import NOTE_OF_CHECK
from medseg.readers import dicom
from medseg.refusal import Refusal
from medseg.volume import Volume
from tests import dicom_cases as cases
from tests import dicom_series as ds
from tests import tiny

PAGE = tiny.ROOT / "docs" / "dicom-geometry.md"
NOISE_HU = 10


def medseg_reads(case: cases.Case) -> cases.Read:
    def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
        volume = volume_of(case, folder)
        return volume.array, volume.affine

    return read


def volume_of(case: cases.Case, folder: Path) -> Volume:
    return dicom.read(folder, dicom.Options(**case.options))  # type: ignore[arg-type]


def medseg_tells(case: cases.Case, folder: Path, caplog: pytest.LogCaptureFixture) -> str:
    """What medseg does with a series, which is what was expected of it."""
    try:
        found = cases.locate(folder, case.build, medseg_reads(case))
    except Refusal as refusal:
        assert re.search(case.expected, refusal.found), refusal
        return f"refused: {refusal.found}"
    note = volume_of(case, folder / "x").source.notes[NOTE_OF_CHECK]
    assert note == "good" or note in caplog.text  # never silent
    assert len(found.places) == case.channels
    in_mm, in_voxels = found.errors()
    if case.expected == "exact":
        assert in_mm.max() <= cases.EXACT_MM and found.covered.all()
        return "ok" if note == "good" else f"ok ({note})"
    assert case.expected == "repaired", note
    assert in_mm[found.inner()].max() <= cases.EXACT_MM and in_voxels.max() <= 0.501  # headers are rounded
    assert found.covered.sum() >= 20 * 9 * 9
    rim = "" if in_mm.max() <= cases.EXACT_MM else f"; {in_mm.max():.2f} mm ({in_voxels.max():.2f} voxels) at the rim"
    return f"repaired: at most 0.01 mm{rim}"


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_positions(
    case: cases.Case,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    cells = {"medseg": medseg_tells(case, tmp_path, caplog)}
    if not request.config.getoption("--geometry", default=None):
        row = next((line for line in PAGE.read_text().splitlines() if line.startswith(f"| {case.name} |")), "absent")
        assert row.split(" | ")[1] == cells["medseg"]
        return
    if not case.options:  # which are medseg's own
        for name, read in cases.MEASURED.items():
            cells[name] = cases.told(tmp_path, case.build, read, lambda: "".join(capfd.readouterr()))
    record_property("geometry", json.dumps({"case": case.name, **cells, **case.facts}))


@pytest.mark.parametrize(
    "case",
    [case for case in cases.CASES if case.expected == "repaired"],
    ids=lambda case: case.name,
)
def test_a_label_lies_right_on_every_original_slice(case: cases.Case, tmp_path: Path) -> None:
    """The upper half of each coordinate is a label of the repaired volume; on the original slices every pixel that is
    more than half a voxel from the border has the label that its own position says."""
    for axis in range(3):
        folder = ds.write(tmp_path / "xyz"[axis], case.build(cases.coordinate(axis), PixelRepresentation=0))
        volume = volume_of(case, folder)
        assert volume.source.slices is not None
        taken = volume.array / cases.PER_MM - cases.OFFSET_MM
        own = np.stack([stored(instance.path) for instance in volume.source.instances], axis=-1)
        border = float(np.median(own))
        laid = originals.lay(volume.with_array((taken > border).astype(np.uint8)))[0]
        assert laid.shape == own.shape
        reach = np.abs(volume.affine[axis, :3]).sum() / 2 + cases.EXACT_MM
        sure = np.abs(own - border) > reach
        assert sure.mean() > 0.5
        np.testing.assert_array_equal(laid[sure], own[sure] > border)


def stored(file: Path) -> np.ndarray:
    """(columns, rows) of the coordinates that a file holds, in mm."""
    import pydicom

    return (pydicom.dcmread(file).pixel_array.astype(float) - 1024).T / cases.PER_MM - cases.OFFSET_MM


@pytest.mark.parametrize("texture", [cases.clouds, cases.head], ids=lambda texture: texture.__name__)
@pytest.mark.parametrize(
    "case",
    [case for case in cases.CASES if case.expected == "repaired"],
    ids=lambda case: case.name,
)
def test_textures(
    case: cases.Case,
    texture: ds.Values,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    """Values against the truth at each voxel's place: repaired, and stacked evenly as if nothing were the matter."""
    size = {"rows": 48, "columns": 44}
    folder = ds.write(tmp_path, case.build(cases.noisy(texture, NOISE_HU), **size))
    errors = {}
    for name, read in (("repaired", medseg_reads(case)), ("stacked", cases.by_simpleitk)):
        array, affine = read(folder)
        off = array[0] - texture(cases.centres(affine, array.shape[1:]))
        errors[name] = np.abs(off[array[0] > -1024])
    typical = {name: float(np.median(off)) for name, off in errors.items()}
    rms = {name: float(np.sqrt((off**2).mean())) for name, off in errors.items()}
    assert rms["repaired"] < rms["stacked"]
    cells = [f"{rms[name]:.0f} ({typical[name]:.0f})" for name in ("repaired", "stacked")]
    row = f"| {case.name} | {texture.__name__} | {' | '.join(cells)} |"
    if not request.config.getoption("--geometry", default=None):
        assert row in PAGE.read_text().splitlines()
        return
    record_property("texture", row)
