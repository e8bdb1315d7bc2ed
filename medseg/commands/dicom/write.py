"""medseg dicom write"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    labels: Annotated[Path, typer.Argument(help="A .seg.nrrd, or a label map (NIfTI, NRRD, ...) with --labels.")],
    series: Annotated[Path, typer.Argument(help="Folder with the DICOM series that they lie on; zip.")],
    out: Annotated[Path, typer.Argument(help="The file; or a folder, for several outputs or where there is one.")],
    output: Annotated[
        list[str] | None,
        typer.Option(help="dicom_seg or rtstruct, or FORMAT:option=value,option=value. [default: dicom_seg]"),
    ] = None,
    of: Annotated[
        Path | None, typer.Option("--labels", help="Run folder (or one zipped) whose labels a label map's numbers are.")
    ] = None,
    which: Annotated[
        str | None,
        typer.Option("--series", help="Which series of the folder: UID, number, part of its description."),
    ] = None,
) -> None:
    """Write labels that a person may have corrected as DICOM objects that refer to the series that they lie on.

    Names, colours and codes of a .seg.nrrd are kept. Labels must lie on the voxels of the series; a .seg.nrrd may cover
    a part of them. The object says SEMIAUTOMATIC, for a person may have had a hand in it; its file is read back and
    compared before it gets its name. The files are named on standard output as JSON. A file that is there already stays
    as it is, and nothing is written among the files of the series.
    """
    import json
    import sys
    from functools import partial

    import medseg
    from medseg import described, interrupts
    from medseg.engine import drawn, scans, writers
    from medseg.refusal import Refusal

    table = None
    if of is not None:
        needed, remedy = "a run folder as `medseg train` makes it", "name another"
        table = described.model(of, where=of, needed=needed, remedy=remedy).table
        if table is None or table.unit != "voxel":
            raise Refusal(of, found="a run without labels of voxels", needed="one that segments", remedy=remedy)
    _refuse_taken(out, series)
    scan = medseg.read(series, series=which)
    made = drawn.on_scan(labels, scan, scans.stem(labels), table)
    chosen = writers.chosen(output or ["dicom_seg"], made.table, partial(print, file=sys.stderr))
    into_folder = len(chosen) > 1 or out.is_dir()
    paths = [out / f"{made.case}{one.module().SUFFIX}" if into_folder else out for one in chosen]
    for path in paths:
        _refuse_taken(path, series)
    left_out = drawn.empty(made) if of is None else ()  # a run has labels that are not in every scan
    if left_out:
        print(f"{labels.name}: nothing is drawn of {', '.join(left_out)}", file=sys.stderr)
    with interrupts.by_sigterm():
        for one, path in zip(chosen, paths, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            one.module().write(made, path, one.options)
    print(json.dumps({"files": list(map(str, paths))}, ensure_ascii=False))


def _refuse_taken(path: Path, series: Path) -> None:
    from medseg.refusal import Refusal

    if path.is_file():
        raise Refusal(path, found="a file of this name", needed="a new one", remedy="choose another name, or remove it")
    folder = series.parent if series.name.upper() == "DICOMDIR" else series
    if folder.is_dir() and any(one.is_dir() and one.samefile(folder) for one in (path, *path.resolve().parents)):
        raise Refusal(
            path,
            found=f"a place among the files of the series, {folder}",
            needed="one outside of it, as programs take all files of a folder for the series",
            remedy="choose another folder",
        )
