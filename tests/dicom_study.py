"""Two studies as hospitals have them, small: a CT of the abdomen and an MR of the head, twelve series each and more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from tests import dicom_series as ds

CORONAL = (1, 0, 0, 0, 0, -1)
SAGITTAL = (0, 1, 0, 0, 0, -1)
ORIGINAL = ["ORIGINAL", "PRIMARY", "AXIAL"]
DERIVED = ["DERIVED", "SECONDARY", "MPR"]
INJECTED = "100000"
"""Time of the injection."""


def ct(number: int, text: str, count: int, step_mm: float, **more: Any) -> list[Dataset]:
    """A CT series of the abdomen."""
    orientation = more.pop("orientation", ds.AXIAL)
    about = {
        "SpecificCharacterSet": "ISO_IR 192",
        "StudyDescription": "CT Abdomen",
        "ProtocolName": "Abdomen 3 Phasen",
        "BodyPartExamined": "ABDOMEN",
        "SeriesDescription": text,
        "SeriesNumber": number,
        "SliceThickness": step_mm,
        "AcquisitionDate": "20260102",
        "AcquisitionTime": "095500",
        "ConvolutionKernel": "Br40d",
        "PatientID": "P1",
        **more,
    }
    places = ds.places(count, step_mm, orientation)
    kind = {"orientation": orientation, "series": f"1.2.3.{number}", "rows": 4, "columns": 4}
    return [ds.slice_(place, number=n, **kind, **about) for n, place in enumerate(places, start=1)]


def without_pixels(number: int, text: str, modality: str, sop_class: str) -> list[Dataset]:
    """An object that is no image."""
    [made] = ct(number, text, 1, 1.0, Modality=modality, SOPClassUID=sop_class)
    for name in ("Rows", "Columns", "PixelData", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(made, name)
    return [made]


def segmentation(number: int, text: str) -> list[Dataset]:
    return ct(number, text, 1, 1.0, Modality="SEG", SOPClassUID=SegmentationStorage)


def capture(number: int, text: str) -> list[Dataset]:
    """A picture of a screen."""
    kind = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    [made] = ct(number, text, 1, 1.0, SOPClassUID=SecondaryCaptureImageStorage, ImageType=kind, SamplesPerPixel=3)
    return [made]


def abdomen() -> dict[str, list[Dataset]]:
    """Localiser, native thin and thick, arterial, portal venous thin, thick and coronal, lung, MIP, dose report,
    segmentation, structure set, PET."""
    arterial = {"ContrastBolusAgent": "Iomeron 400", "ContrastBolusStartTime": INJECTED, "AcquisitionTime": "100032"}
    portal = {**arterial, "AcquisitionTime": "100110"}
    pet = {
        "Modality": "PT",
        "SOPClassUID": PositronEmissionTomographyImageStorage,
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "BodyPartExamined": "",
        "ProtocolName": "",
        "StudyDescription": "PET/CT Ganzkörper",
    }
    return {
        "localiser": ct(1, "Topogramm 0.6", 2, 1.0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "native thick": ct(2, "Abdomen nativ 5.0", 8, 5.0),
        "native thin": ct(3, "Abdomen nativ 1.0", 40, 1.0),
        "arterial": ct(4, "Abdomen arteriell 1.0", 40, 1.0, **arterial),
        "portal thick": ct(5, "Abdomen portalvenös 5.0", 8, 5.0, **portal),
        "portal thin": ct(6, "Abdomen portalvenös 1.0", 40, 1.0, **portal),
        "portal coronal": ct(7, "Abdomen portalvenös cor", 20, 2.0, orientation=CORONAL, ImageType=DERIVED, **portal),
        "lung": ct(
            8, "Thorax 1.0 Br64", 44, 1.0, **portal | {"ConvolutionKernel": "Br64f", "BodyPartExamined": "CHEST"}
        ),
        "mip": ct(9, "Thorax axial", 10, 2.0, **portal, ImageType=["DERIVED", "SECONDARY", "MIP"]),
        "dose": capture(10, "Patient Protocol"),
        "seg": segmentation(11, "Leber"),
        "rtstruct": without_pixels(12, "Contours", "RTSTRUCT", RTStructureSetStorage),
        "pet": ct(13, "PET WB MAC", 30, 3.0, **pet),
    }


def head() -> dict[str, list[Dataset]]:
    """Localiser, T1, T1 with contrast (axial and its coronal reformat), T2, FLAIR, DWI b 0 and b 1000, ADC, SWI, and a
    subtraction."""

    def mr(number: int, text: str, count: int, step_mm: float, **more: Any) -> list[Dataset]:
        about = {
            "Modality": "MR",
            "SOPClassUID": MRImageStorage,
            "StudyDescription": "MRT Schädel",
            "ProtocolName": text,
            "BodyPartExamined": "",
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
            "PatientID": "P2",
            "StudyInstanceUID": f"{ds.STUDY}.2",
        }
        made = ct(number, text, count, step_mm, **about | more)
        for one in made:
            del one.ConvolutionKernel
        return made

    injected = {"ContrastBolusAgent": "Gadovist"}
    diffusion = ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]
    return {
        "localiser": mr(1, "localizer_3plane", 3, 10.0),
        "t2": mr(2, "t2_tse_tra_3mm", 30, 3.0),
        "flair": mr(3, "t2_flair_tra_3mm", 30, 3.0),
        "b0": mr(4, "ep2d_diff_b0", 20, 5.0, ImageType=["ORIGINAL", "PRIMARY", "DIFFUSION"]),
        "b1000": mr(5, "ep2d_diff_b1000", 20, 5.0, ImageType=["ORIGINAL", "PRIMARY", "DIFFUSION"]),
        "adc": mr(6, "ep2d_diff_ADC", 20, 5.0, ImageType=diffusion),
        "swi": mr(7, "t2_swi_tra", 40, 2.0),
        "t1": mr(8, "t1_mpr_sag_nativ", 40, 1.0, orientation=SAGITTAL),
        "t1 axial": mr(9, "t1_se_tra_3mm", 30, 3.0),
        "t1c": mr(10, "t1_se_tra_3mm_KM", 30, 3.0, **injected),
        "t1c coronal": mr(11, "t1_se_KM MPR cor", 20, 2.0, orientation=CORONAL, ImageType=DERIVED, **injected),
        "subtraction": mr(12, "t1_se_tra_KM_SUB", 30, 3.0, **injected),
    }


def write(folder: Path, study: Mapping[str, list[Dataset]], *, shuffled: int | None = None) -> Path:
    """Each series into a subfolder; or all files into one folder in a drawn order under meaningless names."""
    if shuffled is None:
        for name, series in study.items():
            ds.write(folder / name, series)
        return folder
    everything = [dataset for series in study.values() for dataset in series]
    order = np.random.default_rng(shuffled).permutation(len(everything))
    return ds.write(folder, [everything[index] for index in order], prefix="f")
