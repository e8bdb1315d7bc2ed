"""A file or folder -> `Volume`; the reader is found by asking each one in this folder whether it knows the path."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from medseg import plugins
from medseg.dicom.settings import DicomSettings
from medseg.refusal import Refusal
from medseg.volume import Volume


def knows(path: Path) -> str | None:
    """Name of the reader that knows `path`, or None."""
    return next((name for name in plugins.names("readers") if plugins.find("readers", name).matches(path)), None)


def find(path: Path) -> ModuleType:
    """The reader that knows `path`.

    Raises:
        Refusal: nothing is there, or no reader knows it.
    """
    if not path.exists():
        raise Refusal(
            path, found="nothing there", needed="a file or folder to read", remedy="correct the path", code="lost-input"
        )
    if path.is_file() and not path.stat().st_size:
        raise Refusal(
            path, found="an empty file", needed="an image", remedy="copy or download it again", code="unreadable"
        )
    name = knows(path)
    if name:
        return plugins.find("readers", name)
    if path.is_dir():
        files = sum(1 for file in path.rglob("*") if file.is_file())
        found, remedy = (
            f"a folder with {files} files, none of them DICOM" if files else "an empty folder",
            "give a folder with a DICOM series, or a single image file",
        )
    else:
        found, remedy = (
            f"a file of {path.stat().st_size} bytes that no reader knows",
            f"convert it to NIfTI; medseg reads through: {', '.join(plugins.names('readers'))}",
        )
    raise Refusal(path, found=found, needed="an image", remedy=remedy, code="unreadable")


def read(path: Path, *, series: str | None = None, dicom: DicomSettings | None = None) -> Volume:
    """Read an image of any known format.

    Args:
        path: a file, or a folder with a DICOM series.
        series: which series of a DICOM folder: its UID, its number, or part of its description.
        dicom: how DICOM series are chosen and repaired; of no meaning to other files.

    Returns:
        Volume with (C, I, J, K) stored values after rescaling, and the affine to RAS+ mm.

    Raises:
        Refusal: nothing is there, no reader knows it, or its reader refuses it.
    """
    path = Path(path)
    reader = find(path)
    if series is not None and "series" not in reader.Options.model_fields:
        raise Refusal(
            path,
            found=f"series '{series}' asked of a file that holds no DICOM series",
            needed="a DICOM folder when a series is named",
            remedy="leave the series out, or correct the path",
        )
    given = dict(dicom or ()) if issubclass(reader.Options, DicomSettings) else {}
    return reader.read(path, reader.Options(**given | ({} if series is None else {"series": series})))
