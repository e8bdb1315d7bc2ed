"""`pytest tests/unit/test_dicom_geometry_table.py --geometry docs/dicom-geometry.md` writes the page of what readers do
with uneven series.

Each of its tests says its result through `record_property`: "geometry" a JSON row by reader, "texture" a line.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path

import pytest

COLUMNS = ("medseg", "SimpleITK", "highdicom", "MONAI PydicomReader", "MONAI ITKReader", "dicom2nifti")
HEAD = """# What readers do with uneven DICOM series

Made by `pytest tests/unit/test_dicom_geometry_table.py --geometry docs/dicom-geometry.md` on {machine}, with
{versions}.

Every series is made by a script: {slices} slices of CT, 0.6 x 0.8 mm pixels, 3 mm apart unless the row says otherwise.
Each is written three times, so that its pixels show their own x, y and z. A reader's volume is then asked where each
voxel was taken, and where its affine puts it. **The distance is printed if it is more than 0.01 mm**; "silently" means
that nothing was printed or warned of either. SimpleITK is what MONAI Label reads with (`ImageSeriesReader`, files in
GDCM's order). MONAI's affine of a tilted stack is sheared: right, but most tools take its axes for perpendicular.

medseg's column holds in every run of the tests. "Repaired" volumes are linear interpolations between slices; at the
rim, where a slice ends between two voxels, its outermost pixel reaches half its size further. Whatever is not plainly
good is said in a line of the log and in `Source.notes["preflight"]`, and from there in the objects that are written.

The columns MONAI ITKReader (itk 5.4.7) and dicom2nifti (2.6.2) were measured once, on series of the same kind whose
pixels showed z alone; these readers are not installed beside medseg.

| series | {columns} |
|---|{rules}|
"""
TEXTURES = """
## Values

A ramp is interpolated without error, a texture is not. The same uneven series were made of a smooth random texture
("clouds": blobs of some 9 mm, standard deviation 100 HU) and of a head of ellipsoids with sharp borders ("head", after
Shepp and Logan), with noise of 10 HU in every slice. Each voxel is compared with the noiseless truth at the place where
the affine puts it: root mean square (median of the absolute values), in HU. "Stacked evenly" is SimpleITK's volume of
the same files. Noise alone gives 10 (7); interpolated planes have less noise than that.

| series | texture | repaired by medseg | stacked evenly |
|---|---|---:|---:|
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--geometry", type=Path, help="write the page of uneven DICOM series to this file")


def pytest_terminal_summary(terminalreporter, exitstatus: int, config: pytest.Config) -> None:
    path = config.getoption("--geometry", default=None)  # unknown when the whole suite runs
    if path is None:
        return
    reports = [report for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    found = [property for report in reports for property in report.user_properties]
    rows = [json.loads(value) for name, value in found if name == "geometry"]
    textures = [value for name, value in found if name == "texture"]
    if exitstatus or not rows or not textures:
        raise pytest.UsageError("--geometry: the tests of the page must all pass to make it")
    path.write_text(page(rows, textures), encoding="utf-8")
    terminalreporter.write_line(f"{len(rows)} and {len(textures)} rows written to {path}")


def page(rows: list[dict[str, str]], textures: list[str]) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("SimpleITK", "highdicom", "MONAI", "pydicom"))
    head = HEAD.format(
        machine=f"{platform.system()} {platform.machine()}",
        versions=versions,
        slices=20,
        columns=" | ".join(COLUMNS),
        rules="|".join(["---"] * len(COLUMNS)),
    )
    lines = ["| " + " | ".join([row["case"], *(row.get(name, "") for name in COLUMNS)]) + " |" for row in rows]
    return head + "\n".join(lines) + "\n" + TEXTURES + "\n".join(textures) + "\n"
