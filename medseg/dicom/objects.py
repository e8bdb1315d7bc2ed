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
from medseg.dicom import patient
from medseg.dicom.frames import Frame, locate
from medseg.labels import Code, Label
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.volume import Instance, Source, Volume

MANUFACTURER = "medseg"
NOTE_OF_CHECK = "preflight"
"""Key in `Source.notes`: what the check of the series found and what was repaired, in words, by the DICOM reader."""
NOTE_OF_OTHERS = "other_inputs"
"""Key in `Source.notes`: the series of the channels after the first, which alone has its images in `Source`."""
LONGEST_ST = 1024
"""Characters of a short text, in which highdicom takes no backslash."""
LONGEST_LT = 10240
"""Characters of a long text."""
AT_ONCE = 2**22
"""Pixels that are counted together."""
IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def uid(prediction: Prediction, role: str) -> str:
    """Identifier of one object of a result, or of the series that it is in: each role ("SEG", "SEG series", ...) has
    its own, and the same one whoever asks, so that a report can name the segmentation that is written beside it."""
    return _derived(f"{prediction.uid} {role}")


def device_uid(prediction: Prediction) -> str:
    """Identifier of what made a result: the same for all results of one version of medseg with the same weights."""
    weights = prediction.provenance.get("weights sha256", "")
    return _derived(f"{MANUFACTURER} {version()} {model(prediction)} {weights}")


def tracking(prediction: Prediction, label: Label) -> tuple[str, str]:
    """Identifier and name by which a segmentation and the reports about it know the same segment."""
    return uid(prediction, f"segment {label.name}"), f"{prediction.case} {label.name}"


def _derived(text: str) -> str:
    """An identifier that depends on a text alone; UUID-derived under 2.25, as DICOM PS3.5 B.2 allows."""
    digest = bytearray(hashlib.sha256(text.encode()).digest()[:16])
    digest[6], digest[8] = digest[6] & 0x0F | 0x50, digest[8] & 0x3F | 0x80  # a name-based UUID (RFC 9562, 4.1 and 4.2)
    return f"2.25.{int.from_bytes(digest)}"


def segments(prediction: Prediction) -> list[int]:
    """Positions in the label table of the labels that have pixels on the original slices; segment n is the n-th of
    them. Empty if none has."""
    return [position for position, count in enumerate(pixels(prediction)) if count]


def pixels(prediction: Prediction) -> list[int]:
    """How many pixels of the original slices each label of the table has."""
    laid, table = originals.lay(prediction.target), prediction.table
    count = len(table.labels)
    if not table.exclusive:
        return [int(np.count_nonzero(table.mask(laid, position))) for position in range(count)]
    flat, seen = laid.ravel(order="K"), np.zeros(count + 1, np.int64)
    for start in range(0, flat.size, AT_ONCE):  # bincount makes 8 bytes of each number
        seen += np.bincount(flat[start : start + AT_ONCE], minlength=count + 1)[: count + 1]
    return seen[1:].tolist()


def model(prediction: Prediction) -> str:
    """Name of the model, as long as DICOM's LO allows."""
    return (prediction.provenance.get("model") or MANUFACTURER)[:64]


def version() -> str:
    """Of medseg, for SoftwareVersions. From the installation, because the package's front, which knows it too, leads to
    the readers, which lie above this."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("medseg")
    except PackageNotFoundError:  # run from a source tree
        return "0"


def equipment(prediction: Prediction) -> dict[str, str]:
    """What made an object, as highdicom's constructors take it."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": model(prediction),
        "software_versions": version(),
        "device_serial_number": "0",
    }


def account(prediction: Prediction) -> str:
    """How a result came about, one `key: value` a line: the provenance (model, hash of its weights, code version, seed)
    what the check of the input series found, and what quality control says of the result. UIDs of the input are in the
    object's own references, but for those of further channels, whose series are named here."""
    lines = {key: str(value) for key, value in prediction.provenance.items()}
    notes = prediction.target.source.notes
    if notes.get(NOTE_OF_OTHERS):
        lines["other input"] = notes[NOTE_OF_OTHERS]
    lines["check of the series"] = str(notes.get(NOTE_OF_CHECK, "not made"))
    if prediction.quality:
        lines["quality control"] = prediction.quality.sentence()
    return "\n".join(f"{key}: {value}" for key, value in lines.items())


def algorithm(prediction: Prediction) -> Any:
    """highdicom's AlgorithmIdentificationSequence, with the `account` as its parameters."""
    import highdicom as hd
    from pydicom.sr.codedict import codes as dicom_codes

    made = hd.AlgorithmIdentificationSequence(
        name=model(prediction),
        version=version(),
        family=dicom_codes.DCM.ArtificialIntelligence,
        source=MANUFACTURER,
    )
    made[0].AlgorithmParameters = account(prediction)[:LONGEST_LT]
    return made


def concept(code: Code) -> Any:
    """highdicom's form of a code."""
    import highdicom as hd

    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)


def contribution(prediction: Prediction) -> Any:
    """highdicom's ContributingEquipment with the `account`, as much of it as ST holds, for any object."""
    import highdicom as hd

    return hd.ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=hd.sr.CodedConcept("109102", "DCM", "Processing Equipment"),
        manufacturer_model_name=model(prediction),
        software_versions=version(),
        contribution_description=account(prediction)[:LONGEST_ST].replace("\\", "/"),
    )


def refuse_unfit(scan: Volume, *, placed: bool) -> None:
    """Refuse a scan that no object could refer to; one header is read, so that this can be said before a prediction.

    Args:
        placed: whether the object lies in the patient's space, on the scan's slices.
    """
    source = scan.source
    if not source.instances:
        raise Refusal(
            source.path,
            found=f"a scan without DICOM instances (read by '{source.reader}')",
            needed="a DICOM scan, which the object refers to",
            remedy="give the DICOM series itself, or choose an output that is not DICOM",
            code="no-identifiers",
        )
    header = _headers(source, _files(source)[:1])[0]
    missing = [name for name in IDENTIFIERS if not header.get(name)]
    if missing:
        raise Refusal(
            source.path,
            found=f"no {' and no '.join(missing)} in the scan's headers",
            needed="the identifiers by which the object refers to the scan",
            remedy="export the series again, or choose an output that is not DICOM",
            code="no-identifiers",
        )
    if placed and not header.get("FrameOfReferenceUID"):
        raise Refusal(
            source.path,
            found="no FrameOfReferenceUID in the scan's headers (removed by an anonymiser?)",
            needed="one, because the object lies in the scan's frame of reference",
            remedy="export the series with it, or choose the nifti or nrrd output",
            code="no-identifiers",
        )
    planes = len(originals.affines(scan))
    if placed and len(source.instances) != planes:
        raise Refusal(
            source.path,
            found=f"{len(source.instances)} DICOM instances for {planes} slices (read by '{source.reader}')",
            needed="one instance or frame a slice, which the object refers to",
            remedy="give the DICOM series itself, or choose the nifti or nrrd output",
        )


def sources(scan: Volume, *, placed: bool = False) -> list[Any]:
    """Headers of the original instances, each file once, in the order of `Source.instances`, with the attributes of
    patient and study that must exist. Objects take over those of the first.

    Raises:
        Refusal: as `refuse_unfit`; or the files are gone or damaged.
    """
    refuse_unfit(scan, placed=placed)
    found = _headers(scan.source, _files(scan.source))
    patient.mend(found[0], scan.source.path)
    return found


def _headers(source: Source, files: Sequence[Path]) -> list[Any]:
    import pydicom

    with parsing(
        source.path,
        needed="the scan's files, with headers that can be read",
        remedy="put the files back, or choose an output that is not DICOM",
    ):
        return [patient.complete(pydicom.dcmread(file, stop_before_pixels=True)) for file in files]


def slices(source: Source, datasets: Sequence[Any]) -> list[Frame]:
    """Where each original slice lies by its own header, in the order of `Source.instances`; `datasets` as `sources`
    gives them.

    Raises:
        Refusal: the files are not those any more that the scan was read from.
    """
    frames: dict[Instance, Frame] = {}
    for file, dataset in zip(_files(source), datasets, strict=True):
        with parsing(file, needed="a slice with a place in the patient", remedy="put the scan's own files back"):
            found, _ = locate(file, dataset)
        frames.update({frame.instance: frame for frame in found})
    for instance in source.instances:
        if instance not in frames:
            raise Refusal(
                instance.path,
                found="another file than the scan was read from",
                needed=f"SOP instance {instance.sop_instance_uid}",
                remedy="put the scan's own files back",
            )
    return [frames[instance] for instance in source.instances]


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
