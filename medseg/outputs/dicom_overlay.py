"""Pictures for viewers that cannot show segmentations (.overlay.dcm): slices with the labels drawn in, as a DICOM
secondary capture."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from medseg import originals
from medseg.atomic import replacing
from medseg.dicom import capture, objects
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.report import burned, percentiles
from medseg.report.slices import WINDOWS
from medseg.settings import Settings
from medseg.volume import Volume

SUFFIX = ".overlay.dcm"
WRITES = "labels"
READ_BACK_BY = None
WARNING = "AI-made, not for primary diagnosis"


class Options(Settings):
    """What is shown, and what the object says about its series."""

    slices: Literal["labelled", "all"] = "labelled"
    """labelled: those with a label, and `margin` beside them; all: the whole scan, three bytes a pixel."""
    margin: int = 2
    """Slices without labels that are shown before and behind those with."""
    series_number: int = 304
    """Number of the new series in the study."""
    series_description: str = "medseg overlay (AI-made)"
    """Shown in the list of series."""


def check(scan: Volume, path: Path) -> None:
    """Refuse, before anything is predicted, a scan of which nothing could be written."""
    objects.refuse_unfit(scan, placed=True)


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write one multi-frame object in true colour: a frame for each slice that is shown, where the slice lies, with the
    labels' outlines and a tint inside. Below the slice, off the anatomy, stand a warning, what quality control says,
    and what the colours mean. Where nothing was found, the middle slice says so.

    One object is there or is not, its frames are in order, and each names its slice; single pictures could be lost or
    mixed up on their way. It is marked as derived and secondary, and refers to the scan. The file gets its name after
    it was read again and every pixel found.

    Raises:
        Refusal: the scan was not DICOM or has no frame of reference, its files are gone or it was not kept, or what was
            written did not come back the same.
    """
    if prediction.scan is None:
        raise Refusal(
            path, found="a scan that was not kept", needed="it, to draw on", remedy="choose the dicom_seg output"
        )
    headers = objects.sources(prediction.target, placed=True)
    comment = f"{WARNING}. Quality control: {_verdict(prediction)}. {objects.model(prediction)}"
    shots = _shots(prediction, prediction.scan, options)
    made = capture.build(
        prediction, shots, headers, comment=comment, number=options.series_number, text=options.series_description
    )
    with replacing(path) as temporary:
        made.save_as(temporary, enforce_file_format=True)
        capture.prove(temporary, path, shots)


def _shots(prediction: Prediction, scan: Volume, options: Options) -> list[capture.Shot]:
    labels, grey = originals.lay(prediction.target), originals.lay(scan)[0]
    places = originals.affines(prediction.target)
    seen = [[bool(mask.any()) for mask in _masks(prediction, labels[..., n])] for n in range(len(places))]
    shown = _shown([any(one) for one in seen], options)
    window = WINDOWS.get(scan.source.modality) or percentiles(grey[..., shown])
    words = [f"{WARNING}. {objects.model(prediction)}", f"Quality control: {_verdict(prediction)}"]
    if not any(map(any, seen)):
        words.append(f"Looked for and not found: {', '.join(prediction.table.names)}")
    lines = burned.legend_lines(max(map(sum, seen)))
    style = burned.Burned(prediction.table, window, (grey.shape[1], grey.shape[0]), tuple(words), lines)
    return [
        capture.Shot(
            style.picture(grey[..., n].T, [mask.T for mask in _masks(prediction, labels[..., n])]),
            _of_picture(places[n], style.zoom),
            n,
        )
        for n in shown
    ]


def _masks(prediction: Prediction, laid: np.ndarray) -> list[np.ndarray]:
    """Boolean (columns, rows) of each label of the table in one slice."""
    table = prediction.table
    return [table.mask(laid, position) for position in range(len(table.labels))]


def _shown(labelled: list[bool], options: Options) -> list[int]:
    count, found = len(labelled), [n for n, there in enumerate(labelled) if there]
    if options.slices == "all":
        return list(range(count))
    near = {n + step for n in found for step in range(-options.margin, options.margin + 1)}
    return sorted(n for n in near if 0 <= n < count) or [count // 2]


def _of_picture(affine: np.ndarray, zoom: int) -> np.ndarray:
    """Of an enlarged slice: its first pixel's centre lies before that of the slice."""
    made = affine.copy()
    made[:3, :2] /= zoom
    made[:3, 3] += made[:3, :2].sum(axis=1) * (1 - zoom) / 2
    return made


def _verdict(prediction: Prediction) -> str:
    return prediction.quality.sentence() if prediction.quality else "not judged"
