"""How long and in how much memory a large result is written as DICOM SEG: medseg (the proof by reading back included)
and highdicom called plainly, side by side, each in its own process.

    python benchmarks/dicom_seg.py [--slices 400] [--side 512] [--labels 117] [--plain-slices 400]

The scan is synthetic CT, the labels seeded ellipsoids. highdicom gets the first `--plain-slices` slices of the same
label map, as integers, which is its fastest input. Memory is the peak of the resident set of the writing process, the
label map itself included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

KINDS = ("binary", "labelmap")


def scan(folder: Path, slices: int, side: int) -> None:
    """CT slices of 1 mm with empty pixels: writing a segmentation reads headers alone."""
    study, series, frame = (generate_uid() for _ in range(3))
    for n in range(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.Modality, one.PatientID, one.PatientName, one.InstanceNumber = "CT", "1", "Bench^Mark", n + 1
        one.PatientBirthDate = one.PatientSex = one.StudyDate = one.StudyTime = one.StudyID = one.AccessionNumber = ""
        one.ReferringPhysicianName = one.PositionReferenceIndicator = ""
        one.ImagePositionPatient, one.ImageOrientationPatient = [-200, -180, n], [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness, one.Rows, one.Columns = [0.75, 0.75], 1, side, side
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        one.RescaleSlope, one.RescaleIntercept = 1, -1024
        one.PixelData = bytes(2 * side * side)
        one.save_as(folder / f"{n:04d}.dcm", enforce_file_format=True)


def ellipsoids(slices: int, side: int, labels: int) -> np.ndarray:
    """(slices, rows, columns) of 0 to `labels`; later ones lie over earlier ones."""
    random, shape = np.random.default_rng(1), np.array([slices, side, side])
    painted = np.zeros(shape, np.uint8)
    for label in range(1, labels + 1):
        radii = random.uniform([0.06, 0.03, 0.03], [0.3, 0.12, 0.12]) * shape
        centre = random.uniform(0.15, 0.85, 3) * shape
        low = np.maximum(centre - radii, 0).astype(int)
        high = np.minimum(centre + radii + 1, shape).astype(int)
        axes = np.ogrid[tuple(slice(*ends) for ends in zip(low, high, strict=True))]
        terms = zip(axes, centre, radii, strict=True)
        inside = sum(((axis - middle) / radius) ** 2 for axis, middle, radius in terms) <= 1
        painted[tuple(slice(*ends) for ends in zip(low, high, strict=True))][inside] = label
    return painted


def by_medseg(folder: Path, labels: np.ndarray, count: int, kind: str, path: Path) -> None:
    from medseg.dicom import headers
    from medseg.labels import LabelTable
    from medseg.outputs import dicom_seg
    from medseg.prediction import Prediction
    from medseg.volume import Source, Volume

    affine = np.diag([-0.75, -0.75, 1, 1])
    affine[:3, 3] = [200, 180, 0]
    instances = tuple(headers.read(file).frames[0].instance for file in sorted(folder.iterdir()))
    target = Volume(labels.transpose(2, 1, 0)[None], affine, Source(folder, "dicom", instances=instances))
    table = LabelTable.of({f"organ {label}": label for label in range(1, count + 1)})
    dicom_seg.write(Prediction("case", table, target), path, dicom_seg.Options(type=kind))


def by_highdicom(folder: Path, labels: np.ndarray, count: int, kind: str, path: Path) -> None:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence("plain", codes.DCM.ArtificialIntelligence, "1")
    described = [
        hd.seg.SegmentDescription(
            label,
            f"organ {label}",
            codes.SCT.Organ,
            codes.SCT.Organ,
            hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm,
        )
        for label in range(1, count + 1)
    ]
    sources = [pydicom.dcmread(file, stop_before_pixels=True) for file in sorted(folder.iterdir())[: len(labels)]]
    hd.seg.Segmentation(
        source_images=sources,
        pixel_array=labels,
        segmentation_type=kind.upper(),
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="plain",
        manufacturer_model_name="plain",
        software_versions="1",
        device_serial_number="0",
    ).save_as(path)


def measured(
    write: Callable[..., None], folder: Path, stored: Path, slices: int, count: int, kind: str
) -> dict[str, Any]:
    """Seconds, peak memory and frames of one writing, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as place, context.Pool(1) as pool:
        return pool.apply(_once, (write, folder, stored, slices, count, kind, Path(place) / "a.dcm"))


def _once(
    write: Callable[..., None], folder: Path, stored: Path, slices: int, count: int, kind: str, path: Path
) -> dict[str, Any]:
    labels = np.load(stored)[:slices]
    started, worked = time.perf_counter(), time.process_time()
    write(folder, labels, count, kind, path)
    taken = time.perf_counter() - started, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    frames = int(pydicom.dcmread(path, specific_tags=["NumberOfFrames"], stop_before_pixels=True).NumberOfFrames)
    return {"seconds": taken[0], "cpu": taken[1], "bytes": peak, "frames": frames, "file": path.stat().st_size}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--slices", type=int, default=400)
    asked.add_argument("--side", type=int, default=512)
    asked.add_argument("--labels", type=int, default=117)
    asked.add_argument("--plain-slices", type=int, default=400)
    given = asked.parse_args()
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, numpy {version('numpy')}, ", end="")
    print(f"pydicom {version('pydicom')}, highdicom {version('highdicom')}")
    print(f"{given.labels} labels, {given.side} x {given.side} x {given.slices}; load {os.getloadavg()[0]:.1f}")
    print(f"{'':24}{'frames':>8}{'wall s':>9}{'CPU s':>8}{'peak GB':>9}{'file MB':>9}")
    with tempfile.TemporaryDirectory() as place:
        folder, stored = Path(place) / "scan", Path(place) / "labels.npy"
        folder.mkdir()
        scan(folder, given.slices, given.side)
        np.save(stored, ellipsoids(given.slices, given.side, given.labels))
        for kind in KINDS:
            ours = measured(by_medseg, folder, stored, given.slices, given.labels, kind)
            _tell(f"medseg {kind}", ours)
            plain = measured(by_highdicom, folder, stored, given.plain_slices, given.labels, kind)
            _tell(f"highdicom {kind}", plain)


def _tell(name: str, found: dict[str, Any]) -> None:
    numbers = f"{found['frames']:>8}{found['seconds']:>9.1f}{found['cpu']:>8.1f}{found['bytes'] / 1e9:>9.2f}"
    print(f"{name:24}{numbers}{found['file'] / 1e6:>9.0f}", flush=True)


if __name__ == "__main__":
    main()
