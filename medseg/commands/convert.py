"""medseg convert"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    source: Annotated[Path, typer.Argument(help="Scan or label map: any file medseg reads, or a DICOM folder.")],
    target: Annotated[Path, typer.Argument(help="File to write; its suffix chooses the format.")],
    series: Annotated[
        str | None,
        typer.Option(help="Which series of a DICOM folder: UID, number, part of its description; 7/2 is its volume 2."),
    ] = None,
    repair: Annotated[str | None, typer.Option(help="Irregular DICOM series: fix, report or refuse.")] = None,
) -> None:
    """Convert an image or label map, values and geometry unchanged, to .nii.gz, .nii, .nrrd or .mha."""
    import medseg
    from medseg.engine.convert import convert

    convert(medseg.read(source, series=series, repair=repair), target)
    print(target)
