"""DICOM segmentation object (.dcm) that refers to the original slices, read back and compared before it is kept."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medseg import codes
from medseg.atomic import replacing
from medseg.boundary import parsing
from medseg.labels import Label
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.volume import Instance, Volume

SUFFIX = ".dcm"
WRITES = "labels"
READ_BACK_BY = "dicom_seg"
SAME_VOXEL = 0.01
"""A stored voxel must come back at its place to within this part of a voxel."""


class Options(Settings):
    """What the object says about itself."""

    series_number: int = 300
    """Number of the new series in the study."""
    series_description: str = "medseg segmentation"
    """Shown in the list of series."""


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write one BINARY segmentation with a segment for every label that has voxels; regions may overlap.

    Slices without any label are left out, as viewers expect. When nothing at all was segmented, every label becomes a
    segment with one empty frame, on the first slice: "looked for and not found" is a result, and a segment without a
    frame is not allowed. Before the file gets its name it is read again and every segment is compared with the
    prediction, voxel by voxel in patient space.

    Raises:
        Refusal: the scan was not DICOM, its files are gone, or what was written did not come back the same.
    """
    target = prediction.target
    instances = target.source.instances
    if len(instances) != target.shape[2]:
        raise Refusal(
            target.source.path,
            found=f"{len(instances)} DICOM instances for {target.shape[2]} slices (read by '{target.source.reader}')",
            needed="a DICOM scan with one instance or frame a slice, which the segmentation refers to",
            remedy="give the DICOM series itself, or choose the nifti or nrrd output",
        )
    if not target.source.notes.get("frame_of_reference_uid"):
        raise Refusal(
            target.source.path,
            found="no FrameOfReferenceUID in the scan's headers (removed by an anonymiser?)",
            needed="one, because a DICOM segmentation lies in the scan's frame of reference",
            remedy="export the series with it, or choose the nifti or nrrd output",
        )
    present = _present(prediction)
    with replacing(path) as temporary:
        _build(prediction, present, options).save_as(temporary)
        _compare(prediction, present, temporary, path)


def _present(prediction: Prediction) -> list[int]:
    """Positions in the table of the labels that have voxels."""
    count = len(prediction.table.labels)
    if prediction.table.exclusive:
        seen = np.bincount(prediction.target.array.ravel(order="K"), minlength=count + 1)
        return [position for position in range(count) if seen[position + 1]]
    return [position for position in range(count) if prediction.mask(position).any()]


def _build(prediction: Prediction, present: list[int], options: Options) -> Any:
    """highdicom's Segmentation. Its frames must follow the source: one file a slice, or the frames of one file."""
    import highdicom as hd
    import pydicom
    from pydicom.valuerep import DS

    instances = prediction.target.source.instances
    order = _source_order(instances)
    files = [instances[k].path for k in order]
    if instances[0].frame is not None:
        files = files[:1]
    parsed = partial(
        parsing,
        prediction.target.source.path,
        needed="the scan's files, with headers that allow a DICOM segmentation",
        remedy="put the files back, or choose the nifti or nrrd output",
    )
    with parsed():
        sources = [_complete(pydicom.dcmread(file, stop_before_pixels=True)) for file in files]
    described = present or list(range(len(prediction.table.labels)))
    pixels = _pixels(prediction, present, order)
    placing: dict[str, Any] = {"omit_empty_frames": bool(present)}
    if not present:
        pixels = np.zeros((1, *pixels.shape[1:3], len(described)), dtype=np.uint8)
        placing["plane_positions"] = [_position(prediction, 0)]
    segments = [
        _describe(number, prediction.table.labels[position], prediction)
        for number, position in enumerate(described, start=1)
    ]
    with parsed(), warnings.catch_warnings():
        # would print the patient's name
        warnings.filterwarnings(
            "ignore", message=".*unlikely to represent the intended person name", module="highdicom"
        )
        made = hd.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=hd.UID(),
            series_number=options.series_number,
            series_description=options.series_description[:64],
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="medseg",
            manufacturer_model_name=_model(prediction),
            software_versions=_version(),
            device_serial_number="0",
            content_label="SEGMENTATION",
            **placing,
        )
    # copied from the first slice's header, where it is often absent, wrong, or the gap between slices; readers need it
    # to lay frames on a grid when empty ones are left out
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = DS(float(prediction.target.spacing_mm[2]), auto_format=True)
    return made


def _source_order(instances: tuple[Instance, ...]) -> list[int]:
    """Slices in the order highdicom expects: K for single files, frame number for one multi-frame file."""
    if instances[0].frame is None:
        return list(range(len(instances)))
    if len({instance.path for instance in instances}) > 1:
        raise Refusal(
            instances[0].path.parent,
            found="a scan of several multi-frame files",
            needed="single-frame files, or one multi-frame file",
            remedy="choose the nifti or nrrd output",
        )
    return sorted(range(len(instances)), key=lambda k: instances[k].frame or 0)


def _complete(dataset: Any) -> Any:
    """Attributes that highdicom takes for granted: of the patient and study, which the standard lets be empty, and of
    all frames of a multi-frame image, which the standard lets stand in each frame."""
    for name in (
        *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
        *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
    ):
        if name not in dataset:
            setattr(dataset, name, "")
    if not dataset.get("SpecificCharacterSet", "ISO_IR 6"):
        del dataset.SpecificCharacterSet  # empty is the default character set, which highdicom knows only as absent
    shared, frames = (dataset.get(f"{kind}FunctionalGroupsSequence") for kind in ("Shared", "PerFrame"))
    for name in ("PixelMeasuresSequence", "PlaneOrientationSequence"):  # equal in all frames, or the scan was refused
        if shared and frames and name not in shared[0] and name in frames[0]:
            setattr(shared[0], name, frames[0].get(name))
    return dataset


def _pixels(prediction: Prediction, present: list[int], order: list[int]) -> np.ndarray:
    """(slices, rows, columns) of segment numbers, or (slices, rows, columns, segments) of 0 and 1 for regions."""
    target = prediction.target.array
    if prediction.table.exclusive:
        return _segment_numbers(prediction, present)[target[0].transpose(2, 1, 0)[order]]
    return (target[present].transpose(3, 2, 1, 0)[order] > 0).astype(np.uint8)


def _segment_numbers(prediction: Prediction, present: list[int]) -> np.ndarray:
    """Lookup table, network class -> segment number; absent classes and background are 0."""
    numbers = np.zeros(len(prediction.table.labels) + 1, dtype=np.uint8 if len(present) < 256 else np.uint16)
    numbers[[position + 1 for position in present]] = np.arange(1, len(present) + 1)
    return numbers


def _position(prediction: Prediction, k: int) -> Any:
    import highdicom as hd

    x, y, z = (prediction.target.affine @ [0, 0, k, 1])[:3]
    return hd.PlanePositionSequence(hd.CoordinateSystemNames.PATIENT, (-float(x), -float(y), float(z)))


def _describe(number: int, label: Label, prediction: Prediction) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes as dicom_codes

    coded = codes.of(label)
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label.name[:64],
        segmented_property_category=_concept(coded.category),
        segmented_property_type=_concept(coded.kind),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=_model(prediction), version=_version(), family=dicom_codes.DCM.ArtificialIntelligence
        ),
        tracking_uid=hd.UID(),
        tracking_id=f"{prediction.case} {label.name}"[:64],
        display_color=hd.color.CIELabColor.from_rgb(*label.colour),
    )
    if coded.side is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(coded.side)]
    return description


def _concept(code: codes.Code) -> Any:
    import highdicom as hd

    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)


def _model(prediction: Prediction) -> str:
    return (prediction.provenance.get("model") or "medseg")[:64]


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("medseg")
    except PackageNotFoundError:  # run from a source tree
        return "0"


def _compare(prediction: Prediction, present: list[int], written: Path, path: Path) -> None:
    """Read the file and compare every segment with the prediction, in patient space."""
    from medseg.dicom import seg

    found = seg.read(written)
    remedy = "choose the nifti or nrrd output, and report this series' geometry"
    names = [prediction.table.labels[position].name[:64] for position in present]
    if present and [segment.label for segment in found.segments] != names:
        raise Refusal(path, found=f"segments {found.segments}", needed=f"{names}", remedy=remedy)
    placed = _on_grid(found.array, found.affine, prediction.target)
    if placed is None:
        raise Refusal(
            path,
            found="frames between the slices or outside of the scan, after reading it back",
            needed=f"voxels on the scan's grid, to within {SAME_VOXEL} of a voxel",
            remedy=remedy,
        )
    if prediction.table.exclusive and len(placed) == 1:
        same = np.array_equal(placed[0], _segment_numbers(prediction, present)[prediction.target.array[0]])
    else:
        channels = placed if len(placed) == len(present) else [placed[0] == n + 1 for n in range(len(present))]
        pairs = zip(channels, present, strict=True)
        same = all(np.array_equal(mask > 0, prediction.mask(position)) for mask, position in pairs)
    if not same:
        raise Refusal(
            path,
            found="other voxels than were predicted, after reading it back",
            needed="every voxel of every segment in its place",
            remedy=remedy,
        )


def _on_grid(array: np.ndarray, affine: np.ndarray, target: Volume) -> np.ndarray | None:
    """An array (C, I, J, K) of another extent, axis order or direction, on the grid of `target`; None if its voxels do
    not fall on that grid."""
    exact = np.linalg.inv(target.affine) @ affine
    whole = np.rint(exact)
    corners = np.array(np.meshgrid(*((0, size - 1) for size in array.shape[1:]), [1])).reshape(4, -1)
    steps = np.abs(whole[:3, :3])
    permutes = (steps.sum(axis=0) == 1).all() and (steps.sum(axis=1) == 1).all()
    if not permutes or np.abs((exact - whole) @ corners).max() > SAME_VOXEL:
        return None
    low = (whole @ corners).min(axis=1)[:3].astype(int)
    axes = steps.argmax(axis=1)
    view = array.transpose(0, *(1 + axes))
    flips = [whole[new, old] < 0 for new, old in enumerate(axes)]
    view = view[(slice(None), *(slice(None, None, -1 if flip else 1) for flip in flips))]
    high = low + view.shape[1:]
    if (low < 0).any() or (high > target.shape).any():
        return None
    placed = np.zeros((len(array), *target.shape), dtype=array.dtype)
    placed[(slice(None), *(slice(start, stop) for start, stop in zip(low, high, strict=True)))] = view
    return placed
