"""DICOM structure set (RTSTRUCT): closed contours on the original slices, read back and compared before it is kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg import codes, originals
from medseg.atomic import replacing
from medseg.dicom import objects
from medseg.geometry import LPS_FROM_RAS
from medseg.labels import Label
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.volume import Instance

if TYPE_CHECKING:
    from medseg.dicom.structures import Roi

log = logging.getLogger(__name__)

SUFFIX = ".rtstruct.dcm"
WRITES = "labels"
READ_BACK_BY = "rtstruct"
STORAGE_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management: retired, and still what the reference to a study names."""
COORDINATE = "%.3f\\"
"""In mm, with the separator: rounded by at most 0.0005 mm, and within the 16 characters that DICOM allows."""


class Options(Settings):
    """What the object says about itself."""

    series_number: int = 301
    """Number of the new series in the study."""
    series_description: str = "medseg structures"
    """Shown in the list of series."""


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write a region of interest for every label that has pixels; regions may overlap.

    Contours lie on the original slices and run along the edges of pixels, holes joined to the contour around them; see
    `medseg.dicom.contours`. When nothing was segmented, every label becomes a region without contours. Before the file
    gets its name it is read again: on every original slice, placed by its own header, the contours must enclose exactly
    the pixels of the label, and their largest distance from the outline of those pixels is logged.

    Raises:
        Refusal: the scan was not DICOM, has no frame of reference, its files are gone, or what was written did not come
            back the same.
    """
    source = prediction.target.source
    headers = objects.sources(source)
    if not source.notes.get("frame_of_reference_uid"):
        raise Refusal(
            source.path,
            found="no FrameOfReferenceUID in the scan's headers (removed by an anonymiser?)",
            needed="one, because contours lie in the scan's frame of reference",
            remedy="export the series with it, or choose the nifti or nrrd output",
        )
    laid, shown = originals.lay(prediction.target), objects.segments(prediction)
    with replacing(path) as temporary:
        dataset = _frame(prediction, headers[0], options)
        dataset.ReferencedFrameOfReferenceSequence = [_references(prediction, headers)]
        regions = shown or list(range(len(prediction.table.labels)))
        frame_of_reference = str(source.notes["frame_of_reference_uid"])
        for number, position in enumerate(regions, start=1):
            _describe(dataset, number, prediction.table.labels[position], prediction, frame_of_reference)
        _draw(dataset, prediction, laid, shown)
        dataset.save_as(temporary, implicit_vr=True, little_endian=True, enforce_file_format=True)
        del dataset
        _prove(prediction, laid, shown, temporary, path)


def _frame(prediction: Prediction, first: Any, options: Options) -> Any:
    """Everything but the regions. Implicit VR, because explicit VR has no room for a contour of more than 65534
    characters."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    made: Any = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SpecificCharacterSet = "ISO_IR 192"
    for name in (*objects.NEEDED_TEXT, "StudyInstanceUID", "FrameOfReferenceUID", "PositionReferenceIndicator"):
        setattr(made, name, str(first.get(name, "")))
    made.SOPClassUID, made.SOPInstanceUID = STORAGE_CLASS, objects.uid(prediction, "RTSTRUCT")
    made.Modality, made.SeriesInstanceUID = "RTSTRUCT", objects.uid(prediction, "RTSTRUCT series")
    made.SeriesNumber, made.SeriesDescription = options.series_number, options.series_description[:64]
    made.OperatorsName, made.InstanceNumber = "", 1
    made.Manufacturer, made.ManufacturerModelName = objects.MANUFACTURER, objects.model(prediction)
    made.SoftwareVersions, made.DeviceSerialNumber = objects.version(), "0"
    made.ContributingEquipmentSequence = [objects.contribution(prediction)]
    now = datetime.now()
    made.StructureSetDate = made.InstanceCreationDate = now.strftime("%Y%m%d")
    made.StructureSetTime = made.InstanceCreationTime = now.strftime("%H%M%S")
    made.StructureSetLabel, made.StructureSetName = objects.MANUFACTURER, objects.model(prediction)
    made.StructureSetDescription = objects.account(prediction)[:1024]
    made.ApprovalStatus = "UNAPPROVED"
    made.StructureSetROISequence, made.ROIContourSequence, made.RTROIObservationsSequence = [], [], []
    return made


def _references(prediction: Prediction, headers: list[Any]) -> Any:
    """Frame of reference, study, series, and every image of the scan."""
    source = prediction.target.source
    series = _item(SeriesInstanceUID=str(headers[0].SeriesInstanceUID))
    series.ContourImageSequence = [
        _item(ReferencedSOPClassUID=str(header.SOPClassUID), ReferencedSOPInstanceUID=str(header.SOPInstanceUID))
        for header in headers
    ]
    study = _item(
        ReferencedSOPClassUID=STUDY_CLASS,
        ReferencedSOPInstanceUID=str(headers[0].StudyInstanceUID),
        RTReferencedSeriesSequence=[series],
    )
    return _item(
        FrameOfReferenceUID=str(source.notes["frame_of_reference_uid"]), RTReferencedStudySequence=[study]
    )


def _describe(made: Any, number: int, label: Label, prediction: Prediction, frame_of_reference: str) -> None:
    """Add a region's three entries, without contours."""
    import highdicom as hd
    from pydicom.sr.codedict import codes as dicom_codes

    coded = codes.of(label)
    algorithm = hd.AlgorithmIdentificationSequence(
        name=objects.model(prediction), version=objects.version(), family=dicom_codes.DCM.ArtificialIntelligence
    )
    made.StructureSetROISequence.append(
        _item(
            ROINumber=number,
            ReferencedFrameOfReferenceUID=frame_of_reference,
            ROIName=label.name[:64],
            ROIGenerationAlgorithm="AUTOMATIC",
            ROIDerivationAlgorithmIdentificationSequence=algorithm,
        )
    )
    made.ROIContourSequence.append(_item(ReferencedROINumber=number, ROIDisplayColor=list(label.colour)))
    # never a target volume: whether a tumour is to be treated is not for a program to say
    organ = coded.category == codes.STRUCTURE and coded.kind.scheme == "SCT"
    kind = _concept(coded.kind)
    observation = _item(
        ObservationNumber=number,
        ReferencedROINumber=number,
        SegmentedPropertyCategoryCodeSequence=[_concept(coded.category)],
        RTROIIdentificationCodeSequence=[kind],
        RTROIInterpretedType="ORGAN" if organ else "",
        ROIInterpreter="",
    )
    if coded.site is not None:
        site = _concept(coded.site)
        if coded.side is not None:
            site.AnatomicRegionModifierSequence = [_concept(coded.side)]
        observation.AnatomicRegionSequence = [site]
    elif coded.side is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(coded.side)]
    made.RTROIObservationsSequence.append(observation)


def _draw(made: Any, prediction: Prediction, laid: np.ndarray, shown: list[int]) -> None:
    """Add the contours of every region. A region without any gets no sequence, which may not be empty."""
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    from medseg.dicom import contours

    planes = LPS_FROM_RAS @ originals.affines(prediction.target)
    drawn: list[list[Any]] = [[] for _ in shown]
    for n, region, mask, corner in _masks(prediction, laid, shown):
        image = _image(prediction.target.source.instances[n])
        for contour in contours.trace(mask):
            places = (contour + corner) @ planes[n, :3, :2].T + planes[n, :3, 3]
            text = (COORDINATE * places.size % tuple(places.ravel().tolist()))[:-1].encode("ascii")
            text += b" " * (len(text) % 2)
            entry = _item(
                ContourImageSequence=[image],
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(places),
                ContourNumber=len(drawn[region]) + 1,
            )
            # as bytes: a decimal object for each of millions of coordinates would take gigabytes
            entry[0x30060050] = RawDataElement(Tag(0x30060050), "DS", len(text), text, 0, True, True)
            drawn[region].append(entry)
    for entry, found in zip(made.ROIContourSequence, drawn, strict=False):
        entry.ContourSequence = found


def _masks(
    prediction: Prediction, laid: np.ndarray, shown: list[int]
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """(slice, region, mask, column and row of its first pixel) of each label on each slice, cut to where it is."""
    from scipy import ndimage

    exclusive = prediction.table.exclusive
    for n in range(laid.shape[3]):
        together = ndimage.find_objects(laid[0, ..., n]) if exclusive else []
        for region, position in enumerate(shown):
            boxes = together if exclusive else [None] * position + ndimage.find_objects(laid[position, ..., n])
            box = boxes[position] if position < len(boxes) else None
            if box is not None:
                mask = prediction.table.mask(laid[:, *box, n], position)
                yield n, region, mask, np.array([side.start for side in box])


def _image(instance: Instance) -> Any:
    image = _item(ReferencedSOPClassUID=instance.sop_class_uid, ReferencedSOPInstanceUID=instance.sop_instance_uid)
    if instance.frame is not None:
        image.ReferencedFrameNumber = instance.frame
    return image


def _concept(code: codes.Code) -> Any:
    import highdicom as hd

    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)


def _item(**attributes: Any) -> Any:
    from pydicom.dataset import Dataset

    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def _prove(prediction: Prediction, laid: np.ndarray, shown: list[int], written: Path, path: Path) -> None:
    """Read the file, place its contours by the headers of the slices that they name, and compare."""
    from medseg.dicom import headers, structures

    instances = prediction.target.source.instances
    read = {file: headers.read(file).frames for file in dict.fromkeys(instance.path for instance in instances)}
    frames = [read[instance.path][(instance.frame or 1) - 1] for instance in instances]
    labels = [prediction.table.labels[position].name[:64] for position in shown]
    rois = [roi for roi in structures.read(written).rois if roi.contours]
    if [roi.name for roi in rois] != labels:
        _refuse(path, f"regions {[roi.name for roi in rois]}", f"{labels}")
    named = {(instance.sop_instance_uid, instance.frame) for instance in instances}
    if any(contour.image not in named for roi in rois for contour in roi.contours):
        _refuse(path, "contours on images that are not of this scan", "contours on its slices")
    largest_mm, pixels = 0.0, _pixels(prediction, laid)
    for roi, position in zip(rois, shown, strict=True):
        distance_mm, enclosed = _distance_mm(prediction, laid, position, roi, frames, path)
        if enclosed != pixels[position]:
            _refuse(path, f"{enclosed} pixels in the contours of '{roi.name}'", f"the {pixels[position]} of its label")
        largest_mm = max(largest_mm, distance_mm)
    half_mm = min(min(frame.spacing_mm) for frame in frames) / 2
    if largest_mm >= half_mm:
        _refuse(path, f"contours {largest_mm:.4g} mm away from their labels", f"less than half a pixel, {half_mm:.4g} mm")
    log.info("%s: largest distance of a contour %.4f mm, half a pixel is %.4g mm", path.name, largest_mm, half_mm)


def _distance_mm(
    prediction: Prediction, laid: np.ndarray, position: int, roi: Roi, frames: list[Any], path: Path
) -> tuple[float, int]:
    """Largest distance of a region's corners from the corners of its label's outline, and how many pixels the contours
    enclose. Both outlines run straight between corners, so that the distance holds for all of their points.

    Raises:
        Refusal: other pixels.
    """
    from medseg.dicom import contours, structures

    largest_mm, seen = 0.0, 0
    for n, shapes in structures.by_slice(path, roi, frames).items():
        corners = np.concatenate(shapes)
        low, high = np.floor(corners[:, :2].min(axis=0)).astype(int), np.ceil(corners[:, :2].max(axis=0)).astype(int)
        mask = np.zeros(high - low + 1, dtype=bool)
        inside = [slice(max(start, 0), stop + 1) for start, stop in zip(low, high, strict=True)]
        part = prediction.table.mask(laid[:, inside[0], inside[1], n], position)
        mask[tuple(slice(a, a + size) for a, size in zip(np.maximum(-low, 0), part.shape, strict=True))] = part
        if not np.array_equal(contours.fill([shape[:, :2] - low for shape in shapes], mask.shape), mask):
            _refuse(path, f"other pixels of '{roi.name}' on slice {n}, after reading it back", "the pixels of its label")
        nearest = np.floor(corners[:, :2]) + 0.5
        around = [mask[tuple((nearest - low + 0.5).astype(int).T - np.array([[a], [b]]))] for a in (0, 1) for b in (0, 1)]
        if (np.all(around, axis=0) | ~np.any(around, axis=0)).any():
            _refuse(path, f"a contour of '{roi.name}' off its outline on slice {n}", "contours along the edges of pixels")
        off_mm = (corners[:, :2] - nearest) * np.array(frames[n].spacing_mm)[::-1]
        largest_mm = max(largest_mm, float(np.linalg.norm(np.column_stack([off_mm, corners[:, 2]]), axis=1).max()))
        seen += int(mask.sum())
    return largest_mm, seen


def _pixels(prediction: Prediction, laid: np.ndarray) -> np.ndarray:
    """How many pixels each label of the table has on all slices."""
    count = len(prediction.table.labels)
    if not prediction.table.exclusive:
        return np.array([np.count_nonzero(laid[position] == 1) for position in range(count)])
    slices = (laid[0, ..., n].ravel() for n in range(laid.shape[3]))
    return sum((np.bincount(pixels, minlength=count + 1)[1:] for pixels in slices), np.zeros(count, dtype=int))


def _refuse(path: Path, found: str, needed: str) -> None:
    remedy = "choose the nifti or nrrd output, and report this series' geometry"
    raise Refusal(path, found=found, needed=needed, remedy=remedy)
