"""Time of `medseg dicom check` on many files, its start included, beside a plain loop of pydicom that only reads them.

    python benchmarks/dicom_preflight.py --files 2000 --repeat 5

The files are CT slices of 512 x 512 pixels with some 130 attributes, private ones and a sequence among them, in series
of 200, ten series a patient. They were just written, so that the disk has no part in it.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

ROOT = Path(__file__).resolve().parents[1]
SIDE, PER_SERIES, SERIES_PER_PATIENT = 512, 200, 10
TEXTS = (
    *("Manufacturer", "InstitutionName", "StationName", "StudyDescription", "ManufacturerModelName", "ProtocolName"),
    *("PatientName", "AccessionNumber", "BodyPartExamined", "ScanOptions", "FilterType", "ReferringPhysicianName"),
)
NUMBERS = (
    *("SliceThickness", "KVP", "DataCollectionDiameter", "ReconstructionDiameter", "DistanceSourceToDetector"),
    *("GantryDetectorTilt", "TableHeight", "SpiralPitchFactor", "WindowCenter", "WindowWidth", "PatientWeight"),
)


def slice_(number: int) -> Dataset:
    """One CT slice without its pixels."""
    series, z = divmod(number, PER_SERIES)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["series", str(series)])
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study", str(series // SERIES_PER_PATIENT)])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame", str(series // SERIES_PER_PATIENT)])
    dataset.PatientID, dataset.Modality = f"P{series // SERIES_PER_PATIENT}", "CT"
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.AcquisitionNumber = series, z + 1, 1
    dataset.SeriesDescription, dataset.ConvolutionKernel = f"series {series}", "B30f"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    for name in TEXTS:
        setattr(dataset, name, "A TEXT")
    for name in NUMBERS:
        setattr(dataset, name, 12.5)
    for name in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(dataset, name, "20200102")
    for name in ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(dataset, name, f"1030{z % 60:02d}.125")
    block = dataset.private_block(0x0021, "SOME MAKER", create=True)
    for element in range(70):
        block.add_new(element, "LO" if element % 2 else "DS", "12.5")
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, generate_uid(entropy_srcs=["r"])
    dataset.ReferencedImageSequence = Sequence([item, item, item])
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [-250, -250, z * 1.25], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.RescaleSlope, dataset.RescaleIntercept = [0.9765625, 0.9765625], 1, -1024
    dataset.Rows = dataset.Columns = SIDE
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    return dataset


def write(folder: Path, count: int) -> list[Path]:
    pixels = np.zeros((SIDE, SIDE), np.uint16).tobytes()
    paths = []
    for number in range(count):
        dataset = slice_(number)
        series = number // PER_SERIES
        place = folder / f"patient {series // SERIES_PER_PATIENT}" / f"series {series}"
        place.mkdir(parents=True, exist_ok=True)
        paths.append(place / f"{number:06d}.dcm")
        dataset.PixelData = pixels
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def timed(work: Callable[[], object], repeat: int) -> Iterator[float]:
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        yield time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = f"Python {platform.python_version()}, pydicom {pydicom.__version__}"
    print(f"{platform.system()} {platform.machine()}, {cores} cores, {python}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        paths = write(Path(name), given.files)
        command = [sys.executable, "-m", "medseg", "dicom", "check", name]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}

        def check() -> None:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            series = -(-given.files // PER_SERIES)
            if f"{series} series, {series} volumes: {series} good" not in done.stdout:
                sys.exit(f"not what was written:\n{done.stdout[-500:]}{done.stderr}")

        def plain() -> None:
            for path in paths:
                pydicom.dcmread(path, stop_before_pixels=True)

        for what, work in (("medseg dicom check", check), ("pydicom, a loop over dcmread", plain)):
            times = sorted(timed(work, given.repeat))
            print(f"{what}: {given.files} files, best of {given.repeat} {times[0]:.2f} s, worst {times[-1]:.2f} s")


if __name__ == "__main__":
    main()
