"""Decoding one compressed frame.

Who decodes what: JPEG and JPEG 2000 go to GDCM inside SimpleITK, which lets other threads run meanwhile; JPEG-LS,
HTJ2K and RLE to pydicom's plugins. A codestream says itself how large it is and is compared with the header first, so
that a lie in either is refused before memory is taken, and so that no decoder in C is handed what it did not expect.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000)
HTJ2K = (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
PLUGINS = {
    **dict.fromkeys(JPEG_LS, "pyjpegls"),
    **dict.fromkeys(HTJ2K, "pylibjpeg"),
    uid.RLELossless: "pydicom",
}
"""pydicom's decoder of a transfer syntax; one, so that a damaged frame is not tried until some decoder takes it."""
COMPRESSED = (*JPEG, *JPEG_2000, *PLUGINS)
NATIVE = (
    *(uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian),
    uid.DeflatedExplicitVRLittleEndian,
)
READ = frozenset((*COMPRESSED, *NATIVE))
"""Transfer syntaxes whose pixels can be read."""

SOF = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""JPEG markers that begin a frame header; 0xF7 is JPEG-LS."""
TABLES = {0xC4, 0xDB, 0xDD, 0xF8}
"""JPEG markers before the scan that a decoder needs: Huffman and quantisation tables, restarts, JPEG-LS parameters."""
SOS, END = 0xDA, b"\xff\xd9"
SIZ = b"\xff\x4f\xff\x51"
PADDING = b"\0\xff"


@dataclass(frozen=True)
class Frame:
    """What a header says of one frame: bits and signs are those of PS3.3 C.7.6.3, before decoding."""

    syntax: str
    rows: int
    columns: int
    allocated: int
    stored: int
    high: int
    signed: bool


@dataclass(frozen=True)
class Stream:
    """What a codestream says of itself; `signed` is None where it cannot say."""

    data: bytes
    rows: int
    columns: int
    components: int
    precision: int
    signed: bool | None = None


def decode(code: bytes, frame: Frame) -> np.ndarray:
    """Stored values of one compressed frame, (rows, columns).

    Raises:
        ValueError: the codestream is cut, or is not what the header says.
        Exception: what the decoder raises on a damaged one.
    """
    if frame.syntax not in COMPRESSED:
        raise ValueError(f"pixels compressed as {uid.UID(frame.syntax).name}, which no decoder here knows")
    if frame.syntax == uid.RLELossless:
        return settle(_by_pydicom(code, frame, frame.allocated), frame.stored, frame.high, frame.signed)
    stream = _jpeg_2000(code) if frame.syntax in (*JPEG_2000, *HTJ2K) else _jpeg(code)
    if (stream.rows, stream.columns, stream.components) != (frame.rows, frame.columns, 1):
        raise ValueError(
            f"compressed pixels of {stream.rows} rows, {stream.columns} columns and {stream.components} components, "
            f"where the header says {frame.rows}, {frame.columns} and 1"
        )
    container = 8 if stream.precision <= 8 else 16 if stream.precision <= 16 else 32
    if stream.precision > 32 or container > max(frame.allocated, 8):
        raise ValueError(f"compressed samples of {stream.precision} bits in {frame.allocated}")
    how = _by_itk if frame.syntax in (*JPEG, *JPEG_2000) else _by_pydicom
    samples = how(stream.data, frame, container, stream)
    if stream.signed == frame.signed:
        return samples
    bits = min(stream.precision, frame.stored) if stream.signed is None else stream.precision
    return settle(samples, bits, bits - 1, frame.signed)


def settle(samples: np.ndarray, bits: int, high: int, signed: bool) -> np.ndarray:
    """The `bits` bits up to bit number `high` of each sample, as a signed or unsigned number; what else was stored
    beside them (overlays, leftovers) is dropped. Codecs that know no signs leave it to this, too."""
    width = 8 * samples.dtype.itemsize
    if not 0 < bits <= high + 1 <= width:
        raise ValueError(f"{bits} bits up to bit {high} in samples of {width}")
    kind = np.dtype(f"{'i' if signed else 'u'}{width // 8}")
    if bits == width:
        return samples.view(kind)
    raised = np.left_shift(samples.view(f"u{width // 8}"), width - 1 - high)
    return np.right_shift(raised.view(kind), width - bits)


def _by_itk(code: bytes, frame: Frame, container: int, stream: Stream) -> np.ndarray:
    """SimpleITK reads files only, so the frame is put into a DICOM file of its own that says nothing else."""
    import SimpleITK as sitk

    with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        path = Path(folder, "frame.dcm")
        _alone(code, frame, container, stream).save_as(path, enforce_file_format=True)
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))[0]


def _alone(code: bytes, frame: Frame, container: int, stream: Stream) -> Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = uid.SecondaryCaptureImageStorage
    meta.TransferSyntaxUID = uid.UID(frame.syntax)
    alone = Dataset()
    alone.file_meta = meta
    alone.SOPClassUID = alone.SOPInstanceUID = uid.SecondaryCaptureImageStorage
    alone.SamplesPerPixel, alone.PhotometricInterpretation = 1, "MONOCHROME2"
    alone.Rows, alone.Columns = frame.rows, frame.columns
    alone.BitsAllocated, alone.BitsStored, alone.HighBit = container, stream.precision, stream.precision - 1
    alone.PixelRepresentation = int(bool(stream.signed))
    alone.PixelData = encapsulate([code])
    alone["PixelData"].VR = "OB"
    return alone


def _by_pydicom(code: bytes, frame: Frame, container: int, stream: Stream | None = None) -> np.ndarray:
    samples, _ = get_decoder(frame.syntax).as_array(
        encapsulate([code]),
        raw=True,
        index=0,
        decoding_plugin=PLUGINS[uid.UID(frame.syntax)],
        apply_j2k_sign_correction=False,
        apply_jls_sign_correction=False,
        correct_unused_bits=False,
        rows=frame.rows,
        columns=frame.columns,
        number_of_frames=1,
        samples_per_pixel=1,
        photometric_interpretation="MONOCHROME2",
        bits_allocated=container,
        bits_stored=stream.precision if stream else frame.stored,
        pixel_representation=int(bool(stream and stream.signed)),
    )
    return samples


def _jpeg(code: bytes) -> Stream:
    """A JPEG or JPEG-LS stream with nothing before its scan but what decoding needs."""
    _refuse_cut(code)
    size: tuple[int, ...] | None = None
    kept = [b"\xff\xd8"]
    for marker, start, stop in _segments(code):
        if marker in SOF:
            if size or stop - start < 10:
                raise ValueError("a JPEG stream with a broken frame header")
            size = struct.unpack(">BHHB", code[start + 4 : start + 10])
        if marker == SOS:
            if size is None:
                break
            precision, rows, columns, components = size
            return Stream(b"".join([*kept, code[start:]]), rows, columns, components, precision)
        if marker in SOF or marker in TABLES:
            kept.append(code[start:stop])
    raise ValueError("a JPEG stream without frame header or scan")


def _segments(code: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, first byte, byte after the last) of each segment up to the scan's header."""
    if not code.startswith(b"\xff\xd8"):
        raise ValueError("no JPEG stream")
    place = 2
    while place + 4 <= len(code):
        if code[place] != 0xFF:
            raise ValueError("a JPEG stream with something between its segments")
        if code[place + 1] == 0xFF:  # a marker may be preceded by any number of these
            place += 1
            continue
        (length,) = struct.unpack(">H", code[place + 2 : place + 4])
        stop = place + 2 + length
        if length < 2 or stop > len(code):
            raise ValueError("a JPEG stream with a segment that is cut")
        yield code[place + 1], place, stop
        place = stop


def _jpeg_2000(code: bytes) -> Stream:
    """A JPEG 2000 codestream, taken out of the JP2 file that some writers put it in."""
    start = code.find(SIZ)
    if start < 0 or len(code) < start + 45 or (start and not code.startswith(b"\0\0\0\x0cjP  ")):
        raise ValueError("no JPEG 2000 stream")
    _refuse_cut(code)
    right, bottom, left, top = struct.unpack(">4I", code[start + 8 : start + 24])
    components, depth, *subsampling = struct.unpack(">H3B", code[start + 40 : start + 45])
    if subsampling != [1, 1]:
        raise ValueError("a JPEG 2000 stream with fewer samples than pixels")
    return Stream(code[start:], bottom - top, right - left, components, (depth & 0x7F) + 1, bool(depth & 0x80))


def _refuse_cut(code: bytes) -> None:
    """Decoders fill up what is missing at the end with anything, and do not all say so."""
    if not code.rstrip(PADDING).endswith(END):
        raise ValueError("a compressed frame that is cut before its end")


def streams(pixels: bytes, frames: int) -> list[bytes]:
    """Codestreams of the frames in encapsulated pixel data.

    Raises:
        ValueError: more or fewer than `frames`.
    """
    from pydicom.encaps import generate_frames

    found = list(generate_frames(pixels, number_of_frames=frames))
    if len(found) != frames:
        raise ValueError(f"{len(found)} compressed frames, where the header says {frames}")
    return found


def layout(dataset: Any) -> Frame:
    """What a header says of each of its frames.

    Raises:
        Exception: something is not there, or is no number.
    """
    allocated = int(dataset.BitsAllocated)
    stored = int(dataset.get("BitsStored") or allocated)
    high = dataset.get("HighBit")
    return Frame(
        syntax=str(dataset.file_meta.TransferSyntaxUID),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        allocated=allocated,
        stored=stored,
        high=stored - 1 if high is None else int(high),
        signed=bool(dataset.get("PixelRepresentation") or 0),
    )
