"""medseg view"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    scan: Annotated[Path, typer.Argument(help="Scan: any file medseg reads, or a DICOM folder.")],
    label_maps: Annotated[
        list[Path] | None, typer.Argument(help="Label maps on its grid: a prediction, the truth, ...")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Run folder or labels.yaml that says what the numbers mean.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Page to write. [default: <name of the scan>_view.html, here]")
    ] = None,
    series: Annotated[
        str | None,
        typer.Option(help="Which series of a DICOM folder: UID, number, part of its description."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    """Look at a scan and its labels in the browser: three planes and 3D, in one HTML page that needs no network.

    The page holds the voxels: it is as confidential as the scan. Nothing is sent anywhere.
    """
    import webbrowser

    from medseg.engine import scans
    from medseg.engine.inputs import table_from
    from medseg.engine.view import view

    page = out or Path(f"{scans.stem(scan)}_view.html")
    view(scan, label_maps or [], page, table=table_from(labels) if labels else None, series=series)
    print(f"{page}: {page.stat().st_size / 1e6:.1f} MB")
    if open_:
        webbrowser.open(page.resolve().as_uri())
