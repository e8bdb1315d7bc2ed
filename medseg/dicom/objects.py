"""What every DICOM object that medseg writes has in common: whose it is, what made it, and from what."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medseg import originals
from medseg.boundary import parsing
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.volume import Source

MANUFACTURER = "medseg"
NOTE_OF_CHECK = "preflight"
"""Key in `Source.notes`: what the check of the series found and what was repaired, in words, by the DICOM reader."""
NEEDED_TEXT = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""Attributes of patient and study that must be there, though they may be empty."""


def uid(prediction: Prediction, role: str) -> str:
    """Identifier of one object of a result, or of the series that it is in: each role ("SEG", "SEG series", ...) has
    its own, and the same one whoever asks, so that a report can name the segmentation that is written beside it."""
    return _derived(f"{prediction.uid} {role}")


def device_uid(prediction: Prediction) -> str:
    """Identifier of what made a result: the same for all results of one version of medseg with the same weights."""
    weights = prediction.provenance.get("weights sha256", "")
    return _derived(f"{MANUFACTURER} {version()} {model(prediction)} {weights}")


def _derived(text: str) -> str:
    """An identifier that depends on a text alone; UUID-derived under 2.25, as DICOM PS3.5 B.2 allows."""
    digest = bytearray(hashlib.sha256(text.encode()).digest()[:16])
    digest[6], digest[8] = digest[6] & 0x0F | 0x50, digest[8] & 0x3F | 0x80  # a name-based UUID (RFC 9562, 4.1 and 4.2)
    return f"2.25.{int.from_bytes(digest)}"


def segments(prediction: Prediction) -> list[int]:
    """Positions in the label table of the labels that have pixels on the original slices; segment n is the n-th of
    them. Empty if none has."""
    laid, table = originals.lay(prediction.target), prediction.table
    if table.exclusive:
        seen = np.bincount(laid.ravel(order="K"), minlength=len(table.labels) + 1)
        return [position for position in range(len(table.labels)) if seen[position + 1]]
    return [position for position in range(len(table.labels)) if table.mask(laid, position).any()]


def model(prediction: Prediction) -> str:
    """Name of the model, as long as DICOM's LO allows."""
    return (prediction.provenance.get("model") or MANUFACTURER)[:64]


def version() -> str:
    """Of medseg, for SoftwareVersions."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("medseg")
    except PackageNotFoundError:  # run from a source tree
        return "0"


def account(prediction: Prediction) -> str:
    """How a result came about, one `key: value` a line: the provenance (model, hash of its weights, code version, seed)
    and what the check of the input series found. UIDs of the input are in the object's own references."""
    lines = {key: str(value) for key, value in prediction.provenance.items()}
    lines["check of the series"] = str(prediction.target.source.notes.get(NOTE_OF_CHECK, "not made"))
    return "\n".join(f"{key}: {value}" for key, value in lines.items())


def contribution(prediction: Prediction) -> Any:
    """highdicom's ContributingEquipment with the `account`, for any object."""
    import highdicom as hd

    return hd.ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=hd.sr.CodedConcept("109102", "DCM", "Processing Equipment"),
        manufacturer_model_name=model(prediction),
        software_versions=version(),
        contribution_description=account(prediction),
    )


def sources(source: Source) -> list[Any]:
    """Headers of the original instances, each file once, in the order of `Source.instances`, with the attributes of
    patient and study that must exist.

    Raises:
        Refusal: the scan was not DICOM, or its files are gone or damaged.
    """
    import pydicom

    if not source.instances:
        raise Refusal(
            source.path,
            found=f"a scan without DICOM instances (read by '{source.reader}')",
            needed="a DICOM scan, which the object refers to",
            remedy="give the DICOM series itself, or choose an output that is not DICOM",
        )
    with parsing(
        source.path,
        needed="the scan's files, with headers that can be read",
        remedy="put the files back, or choose an output that is not DICOM",
    ):
        return [complete(pydicom.dcmread(file, stop_before_pixels=True)) for file in _files(source)]


def _files(source: Source) -> Sequence[Path]:
    return list(dict.fromkeys(instance.path for instance in source.instances))


@contextlib.contextmanager
def building(source: Source) -> Iterator[None]:
    """Around a library's call that makes an object from the headers of a scan: what those make it raise becomes a
    refusal, and no warning of it prints the patient's name."""
    with (
        parsing(
            source.path,
            needed="headers that allow a DICOM object to be made from them",
            remedy="choose an output that is not DICOM, and report this series' header",
        ),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings(
            "ignore", message=".*unlikely to represent the intended person name", module="highdicom"
        )
        yield


def complete(dataset: Any) -> Any:
    """The dataset with the attributes of patient and study that libraries take for granted and the standard lets be
    empty."""
    for name in NEEDED_TEXT:
        if name not in dataset:
            setattr(dataset, name, "")
    if not dataset.get("SpecificCharacterSet", "ISO_IR 6"):
        del dataset.SpecificCharacterSet  # empty is the default character set, which highdicom knows only as absent
    return dataset
