"""medseg: a scan goes in as DICOM, NIfTI or a picture, and comes out as a labelled object in the same place in space.

From Python:

    import medseg

    volume = medseg.read("ct.nii.gz")                       # array (C, I, J, K) and affine to RAS+ millimetres
    run = medseg.train("pipelines/demo_ct.yaml", "runs/ct") # -> path of the run folder
    prediction = medseg.predict("runs/ct", "ct.nii.gz")     # labels on the scan's own grid
    prediction.painted().array                              # (1, I, J, K), the numbers of the label table
    medseg.models.build("stunet", in_channels=1, out_channels=3, size="S")          # a network, with fresh weights

Importing medseg imports none of the heavy packages; the functions do.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from medseg.prediction import Classification, Prediction
    from medseg.volume import Volume

__version__ = "0.1.0"
__all__ = ["predict", "read", "train"]


def __getattr__(name: str) -> ModuleType:
    """`medseg.models`, imported when it is first used."""
    if name == "models":
        return importlib.import_module("medseg.models")
    raise AttributeError(f"module 'medseg' has no attribute '{name}'")


def read(path: str | Path, *, series: str | None = None, repair: str | None = None) -> Volume:
    """Read a scan or a label map: NIfTI, NRRD, MetaImage, a DICOM folder, a DICOM SEG or a photograph.

    Args:
        path: file, or folder with one DICOM series.
        series: where a folder holds several: UID, number or part of the description of one.
        repair: what becomes of a DICOM series whose slices lie unevenly: fix (the usual), report or refuse.

    Returns:
        `medseg.volume.Volume`: array (C, I, J, K), affine from voxel index to RAS+ mm.

    Raises:
        medseg.refusal.Refusal: the file is not what it should be; the message says what to do.

    Example:
        >>> medseg.read("sample_data/ct/images/p01.nii.gz").shape   # doctest: +SKIP
        (64, 56, 40)
    """
    from medseg.config import changed
    from medseg.dicom.settings import DicomSettings
    from medseg.readers import read as read_any

    if repair is None:
        return read_any(Path(path), series=series)
    return read_any(
        Path(path), series=series, dicom=changed(DicomSettings(), [f"repair={repair}"], where=f"repair={repair}")
    )


def train(recipe: str | Path, out: str | Path | None = None, overrides: Sequence[str] = ()) -> Path:
    """Prepare the recipe's cases and train; goes on where a former call with the same arguments was stopped.

    Args:
        recipe: YAML file.
        out: run folder to make; None: runs/<name of the recipe>, as on the command line.
        overrides: `key=value` pairs, such as "train.epochs=20".

    Returns:
        the run folder, which is the model.

    Example:
        >>> medseg.train("pipelines/demo_ct.yaml", "runs/demo", ["train.epochs=2"])   # doctest: +SKIP
    """
    from medseg import config
    from medseg.engine.train import train as train_run

    # worker processes would import the calling script again, which scripts without a main guard do not stand
    loaded = config.load(Path(recipe), ["prepare.workers=0", *overrides])
    return train_run(loaded, Path(out) if out else Path("runs") / loaded.name).folder


def predict(
    model: str | Path,
    scan: str | Path,
    *,
    series: str | None = None,
    device: str = "auto",
    roi: str | Path | Sequence[slice] | None = None,
    labels: Sequence[str] = (),
    quality: Literal["fast", "standard", "best"] = "standard",
) -> Prediction | Classification:
    """Segment one scan, or tell its class, whichever the model was trained for.

    Args:
        model: run folder, or one zipped.
        scan: file or DICOM folder.
        series: see `read`.
        device: auto, cpu, cuda or mps.
        roi: the only box that gets labels, in voxels of the scan as it is stored: three slices, a text such as
            "10:120,:,30:60", or a mask's file. None: everything.
        labels: names of those that are wanted; empty: all.
        quality: overlap of tiles and mirrored passes in one word.

    Returns:
        `medseg.prediction.Prediction` on the scan's own grid, or `medseg.prediction.Classification`.

    Example:
        >>> medseg.predict("runs/demo", "sample_data/ct_dicom").painted().array.shape   # doctest: +SKIP
        (1, 64, 56, 40)
    """
    from medseg.engine import scans
    from medseg.engine.predict import Predictor

    predictor = Predictor.load([Path(model)], device=device, quality=quality, labels=labels)
    case = scans.single(Path(scan), predictor.plan.channels)
    if predictor.dicom.channels and series is None:
        case = scans.of_study(case, predictor.plan.channels)
    return predictor.predict(predictor.read_scan(case, series=series), case.id, roi=roi)
