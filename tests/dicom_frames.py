"""Synthetic objects of many frames: enhanced CT, segmentation; and a structure set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, RTStructureSetStorage, SegmentationStorage

from tests import dicom_series as ds

OF_ONE_SLICE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")


def enhanced(planes: Sequence[np.ndarray], order: Sequence[int], *, shared_rescale: bool = False) -> Dataset:
    """An enhanced CT that stores plane n, for each n of `order`, at the nth place.

    Each is rescaled by slope n + 1 and intercept 100 n, or all by slope 2 and intercept 5.
    """
    rows, columns = planes[0].shape
    dataset = _of_frames(EnhancedCTImageStorage, order, rows, columns)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for n, group in zip(order, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        rescale = _item(RescaleSlope=2 if shared_rescale else n + 1, RescaleIntercept=5 if shared_rescale else 100 * n)
        (shared if shared_rescale else group).PixelValueTransformationSequence = [rescale]
    dataset.PixelData = b"".join(planes[n].tobytes() for n in order)
    return dataset


def segmentation() -> Dataset:
    """Three frames of one segment."""
    dataset = _of_frames(SegmentationStorage, range(3), 16, 16)
    dataset.Modality, dataset.SegmentationType = "SEG", "BINARY"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 1, 1, 0, 0
    code = _item(CodeValue="64033007", CodingSchemeDesignator="SCT", CodeMeaning="Kidney")
    dataset.SegmentSequence = [
        _item(
            SegmentNumber=1,
            SegmentLabel="kidney",
            SegmentAlgorithmType="MANUAL",
            SegmentedPropertyCategoryCodeSequence=[code],
            SegmentedPropertyTypeCodeSequence=[code],
        )
    ]
    for group in dataset.PerFrameFunctionalGroupsSequence:
        group.SegmentIdentificationSequence = [_item(ReferencedSegmentNumber=1)]
    dataset.PixelData = bytes(range(96))
    return dataset


def structures(image_uid: str) -> Dataset:
    """A structure set with one contour, on a slice at the first of `ds.places`."""
    dataset = ds.slice_(ds.places(1)[0], Modality="RTSTRUCT", SOPClassUID=RTStructureSetStorage)
    for name in ("PixelData", "Rows", "Columns", *OF_ONE_SLICE):
        delattr(dataset, name)
    contour = _item(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=3)
    x, y, z = ds.places(1)[0]
    contour.ContourData = [x, y, z, x + 4, y, z, x, y + 4, z]
    contour.ContourImageSequence = [_item(ReferencedSOPClassUID=CTImageStorage, ReferencedSOPInstanceUID=image_uid)]
    dataset.StructureSetROISequence = [_item(ROINumber=1, ROIName="kidney")]
    dataset.RTROIObservationsSequence = [_item(ObservationNumber=1, ReferencedROINumber=1)]
    dataset.ROIContourSequence = [_item(ReferencedROINumber=1, ContourSequence=[contour])]
    return dataset


def _of_frames(sop_class: str, order: Sequence[int], rows: int, columns: int) -> Dataset:
    dataset = ds.slice_(ds.places(1)[0], rows=rows, columns=columns, SOPClassUID=sop_class)
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    for name in (*OF_ONE_SLICE, "RescaleSlope", "RescaleIntercept"):
        delattr(dataset, name)
    dataset.SharedFunctionalGroupsSequence = [
        _item(
            PlaneOrientationSequence=[_item(ImageOrientationPatient=list(ds.AXIAL))],
            PixelMeasuresSequence=[_item(PixelSpacing=[0.8, 0.6], SliceThickness=3)],
        )
    ]
    places = ds.places(max(order) + 1)
    dataset.PerFrameFunctionalGroupsSequence = [
        _item(PlanePositionSequence=[_item(ImagePositionPatient=list(places[n]))]) for n in order
    ]
    dataset.NumberOfFrames = len(order)
    return dataset


def _item(**values: object) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item
