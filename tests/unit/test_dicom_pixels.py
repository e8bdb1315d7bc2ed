"""Stored values and their rescaling: bits, signs, compression, many frames, and headers that lie about sizes."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from medseg import readers, scratch
from medseg.dicom import codec, headers, parse, pixels
from medseg.dicom.frames import Frame
from medseg.refusal import Refusal
from tests import dicom_series as ds
from tests import judges
from tests.dicom_frames import enhanced

ROWS, COLUMNS = 48, 40
SMALL = {"rows": 12, "columns": 10}
J, I = np.mgrid[:ROWS, :COLUMNS]  # noqa: E741 - the axes' own names
RAMP = (J * 80 + I * 7).astype(np.uint16)  # twelve bits
SIGNED = (RAMP.astype(np.int32) - 1500).astype(np.int16)
HTJ2K = {  # 300 * row + 7 * column over 12 rows and 10 columns, and the same - 1500; by OpenJPH 0.26.3
    "unsigned": "/0//UQApQAAAAAAKAAAADAAAAAAAAAAAAAAACgAAAAwAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCI"
    "kJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAGwAAf+TwAAmD/YFB3QAAMAAEsAAEwDyAId0"
    "ABD0A4d0AMAAEcAAEwABEwCnpwBCNADAABHAABVAE+MARCUqUcBSgf62AMAAKmAAFcBMMvna/X5LdgBWWrFixcr0EEZCAey4AP/Z",
    "signed": "/0//UQApQAAAAAAKAAAADAAAAAAAAAAAAAAACgAAAAwAAAAAAAAAAAABjwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCI"
    "kJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAGsAAf+TwAAlxwGHdAAAwAASwAATAPIAh3QA"
    "EPQDh3QAwAARwAATAAETAKenAEI0AMAAEcAAFUAT4wBEJSpRwFKB/rYAwAAqYAAVwEwy+dr9fkt2AFZasWLFyvQQRkIB7LgA/9k=",
}


def one(folder: Path, **changes: object) -> np.ndarray:
    """What medseg reads of a slice with these attributes, (rows, columns); no rescaling unless they ask for it."""
    syntax = changes.pop("syntax", uid.ExplicitVRLittleEndian)
    return written(folder, slice_(**{"RescaleSlope": 1, "RescaleIntercept": 0, **changes}), syntax)  # type: ignore[arg-type]


def slice_(n: int = 0, **changes: object) -> Dataset:
    """The nth of six slices, showing SIGNED."""
    size = {"rows": ROWS, "columns": COLUMNS, "PixelData": SIGNED.tobytes()}
    return ds.slice_(ds.places(6)[n], **{**size, **changes})  # type: ignore[arg-type]


def written(folder: Path, dataset: Dataset, syntax: uid.UID) -> np.ndarray:
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax.is_encapsulated:
        dataset["PixelData"].VR = "OB"
    plain = Dataset()  # a FileDataset keeps to the byte order that it was made with
    plain.update(dataset)
    plain.file_meta = dataset.file_meta
    plain.save_as(folder / "slice", enforce_file_format=True)
    return readers.read(folder / "slice").array[0, :, :, 0].T


def bits(stored: int, high: int | None = None, signed: bool = False, allocated: int = 16) -> dict[str, object]:
    return {
        "BitsAllocated": allocated,
        "BitsStored": stored,
        "HighBit": stored - 1 if high is None else high,
        "PixelRepresentation": int(signed),
    }


@given(
    stored=st.integers(2, 16),
    above=st.integers(0, 14),
    signed=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_bits_beside_the_stored_ones_do_not_count(stored: int, above: int, signed: bool, seed: int) -> None:
    high = min(stored - 1 + above, 15)
    rng = np.random.default_rng(seed)
    low = -(2 ** (stored - 1)) if signed else 0
    values = rng.integers(low, low + 2**stored, size=(3, 4))
    placed = (values & (2**stored - 1)) << (high + 1 - stored)
    mask = (2**stored - 1) << (high + 1 - stored)
    noise = rng.integers(0, 2**16, size=values.shape) & ~mask & 0xFFFF
    found = codec.settle((placed | noise).astype(np.uint16), stored, high, signed)
    np.testing.assert_array_equal(found, values)
    assert found.dtype.kind == ("i" if signed else "u")


def test_an_overlay_in_the_high_bits_is_no_part_of_the_values(tmp_path: Path) -> None:
    overlay = ((I > 4).astype(np.uint16) << 15) | RAMP
    found = one(tmp_path, PixelData=overlay.tobytes(), **bits(12))
    np.testing.assert_array_equal(found, RAMP)


def test_signs_of_twelve_bits(tmp_path: Path) -> None:
    stored = (SIGNED.astype(np.int32) & 0x0FFF).astype(np.uint16)  # as scanners write them, nothing in the upper bits
    np.testing.assert_array_equal(
        one(tmp_path, PixelData=stored.tobytes(), **bits(12, signed=True)), (SIGNED + 2048) % 4096 - 2048
    )


@pytest.mark.parametrize("allocated", [8, 32])
@pytest.mark.parametrize("signed", [False, True])
def test_other_widths(tmp_path: Path, allocated: int, signed: bool) -> None:
    kind = np.dtype(f"{'i' if signed else 'u'}{allocated // 8}")
    values = (np.linspace(np.iinfo(kind).min / 2, np.iinfo(kind).max / 3, RAMP.size)).astype(kind).reshape(RAMP.shape)
    found = one(tmp_path, PixelData=values.tobytes(), **bits(allocated, signed=signed, allocated=allocated))
    np.testing.assert_array_equal(found, values)
    assert found.dtype == (np.int16 if allocated == 8 else np.int32)


def test_whole_numbers_beyond_32_bits_are_read_as_floats(tmp_path: Path) -> None:
    values = np.full(RAMP.shape, 2**32 - 2**8, np.uint32)
    found = one(tmp_path, PixelData=values.tobytes(), RescaleSlope=4, **bits(32, allocated=32))
    assert found.dtype == np.float32 and (found == 4.0 * (2**32 - 2**8)).all()


def test_monochrome1_and_padding_stay_as_they_are(tmp_path: Path) -> None:
    values = SIGNED.copy()
    values[:2] = -2000
    found = one(tmp_path, PixelData=values.tobytes(), PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=-2000)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
def test_floating_point_pixels(tmp_path: Path, keyword: str) -> None:
    kind = np.float32 if keyword == "FloatPixelData" else np.float64
    dataset = slice_(BitsAllocated=8 * np.dtype(kind).itemsize, RescaleSlope=1, RescaleIntercept=0)
    for name in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, name)
    values = (RAMP / 7).astype(kind)
    setattr(dataset, keyword, values.tobytes())
    found = written(tmp_path, dataset, uid.ExplicitVRLittleEndian)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.astype(np.float32))


def test_a_deflated_file_is_read_whatever_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last piece may come out after all of the file is taken in."""
    whole = bytes.fromhex(
        "63601805a321301a02c33d0400"
    )  # by zlib, level 1: it ends within the byte in which the last copy begins
    (tmp_path / "a").write_bytes(whole)
    for size in (1000, *range(740, 1000)):
        monkeypatch.setattr(parse, "CHUNK_BYTES", size)
        with (tmp_path / "a").open("rb") as handle:
            assert parse._inflated(tmp_path / "a", handle).read() == bytes(1000)
    (tmp_path / "a").write_bytes(whole[:-1])
    with (tmp_path / "a").open("rb") as handle, pytest.raises(EOFError):
        parse._inflated(tmp_path / "a", handle)


def test_deflated_and_big_endian(tmp_path: Path) -> None:
    deflated = one(tmp_path, PixelData=SIGNED.tobytes(), syntax=uid.DeflatedExplicitVRLittleEndian)
    np.testing.assert_array_equal(deflated, SIGNED)
    swapped = one(tmp_path, PixelData=SIGNED.astype(">i2").tobytes(), syntax=uid.ExplicitVRBigEndian)
    np.testing.assert_array_equal(swapped, SIGNED)


@pytest.mark.parametrize(
    "syntax", [uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.RLELossless], ids=lambda one: one.name
)
@pytest.mark.parametrize(("stored", "signed"), [(16, True), (16, False), (13, True), (13, False), (8, False)])
def test_what_is_compressed_comes_back(tmp_path: Path, syntax: uid.UID, stored: int, signed: bool) -> None:
    allocated = 8 if stored == 8 else 16
    values = (RAMP >> 5).astype(np.uint8) if stored == 8 else SIGNED if signed else RAMP
    dataset = slice_(RescaleSlope=1, RescaleIntercept=0, **bits(stored, signed=signed, allocated=allocated))
    dataset.PixelData = values.tobytes()
    dataset.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(written(tmp_path, dataset, syntax), values)


@pytest.mark.parametrize(
    "syntax", [uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K], ids=lambda syntax: syntax.name
)
@pytest.mark.parametrize(("name", "least"), [("unsigned", 0), ("signed", -1500)])
def test_high_throughput_jpeg_2000(tmp_path: Path, syntax: uid.UID, name: str, least: int) -> None:
    code = encapsulate([base64.b64decode(HTJ2K[name])])
    found = one(tmp_path, PixelData=code, syntax=syntax, **SMALL, **bits(16, signed=name == "signed"))
    np.testing.assert_array_equal(found, J[:12, :10] * 300 + I[:12, :10] * 7 + least)


def test_a_codestream_of_another_sign_than_the_header(tmp_path: Path) -> None:
    """Some writers compress signed values as unsigned ones of as many bits."""
    source = slice_(**bits(12), PixelData=RAMP.tobytes())
    source.compress(uid.JPEG2000Lossless, generate_instance_uid=False)
    found = one(tmp_path, PixelData=source.PixelData, syntax=uid.JPEG2000Lossless, **bits(12, signed=True))
    np.testing.assert_array_equal(found, (RAMP.astype(np.int32) + 2048) % 4096 - 2048)
    code = encapsulate([base64.b64decode(HTJ2K["signed"])])
    found = one(tmp_path, PixelData=code, syntax=uid.HTJ2K, **SMALL, **bits(16))
    np.testing.assert_array_equal(found, (J[:12, :10] * 300 + I[:12, :10] * 7 - 1500) % 2**16)


@pytest.mark.dicom_tools
@pytest.mark.parametrize(
    ("option", "syntax", "off"),
    [
        ("+e1", uid.JPEGLosslessSV1, 0),
        ("+el", uid.JPEGLossless, 0),
        ("+ee", uid.JPEGExtended12Bit, 8),
        ("+eb", uid.JPEGBaseline8Bit, 40),
    ],
)
@judges.needs("dcmcjpeg", "dcmdjpeg")[1]
def test_jpeg_by_another_writer(tmp_path: Path, option: str, syntax: uid.UID, off: int) -> None:
    """As dcmtk writes it, and as dcmtk reads it again."""
    folder = ds.write(tmp_path, [slice_(**bits(12), PixelData=RAMP.tobytes())])
    plain, packed, unpacked = folder / "IM0000.dcm", tmp_path / "packed" / "x", tmp_path / "unpacked"
    packed.parent.mkdir()
    subprocess.run(["dcmcjpeg", option, "+un", str(plain), str(packed)], check=True, timeout=60)
    subprocess.run(["dcmdjpeg", str(packed), str(unpacked)], check=True, timeout=60)
    truth, header = dcmread(unpacked), dcmread(packed, stop_before_pixels=True)
    assert header.file_meta.TransferSyntaxUID == syntax
    found = readers.read(packed).array[0, :, :, 0].T
    rescaled = truth.pixel_array * float(truth.RescaleSlope) + float(truth.RescaleIntercept)
    assert np.abs(found - rescaled).max() <= (float(truth.RescaleSlope) if off else 0) * 1.001
    if not off:
        np.testing.assert_array_equal(found, RAMP.astype(int) - 1024)


def frames_of(folder: Path) -> list[Frame]:
    return [frame for path in sorted(folder.iterdir()) for frame in headers.read(path).frames]


@pytest.mark.parametrize("compress", [None, uid.JPEG2000Lossless, uid.JPEGLSLossless])
def test_threads_change_neither_order_nor_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: uid.UID | None
) -> None:
    slices = []
    for n, place in enumerate(ds.places(25)):
        dataset = ds.slice_(place, rows=ROWS, columns=COLUMNS, RescaleIntercept=-1024 if n % 3 else -512)
        if compress:
            dataset.compress(compress, generate_instance_uid=False)
        slices.append(dataset)
    frames = frames_of(ds.write(tmp_path, slices))
    results = []
    for workers in (1, 2, 7):
        monkeypatch.setattr(pixels, "WORKERS", workers)
        monkeypatch.setattr(pixels, "available_cores", lambda: 8)
        results.append(pixels.load(frames))
    assert (results[0] == results[1]).all() and (results[0] == results[2]).all()
    z = np.array([frame.position[2] for frame in frames])
    expected = np.rint(z * ds.Z_PER_MM) + np.where(np.arange(25) % 3, 0, 512)
    np.testing.assert_array_equal(results[0][0, 0], expected)


def test_a_series_of_mixed_width_is_widened_once_it_must_be(tmp_path: Path) -> None:
    small = slice_(0, RescaleIntercept=0, RescaleSlope=1, PixelData=SIGNED.tobytes())
    large = slice_(1, RescaleIntercept=40000, RescaleSlope=1, PixelData=SIGNED.tobytes())
    frames = frames_of(ds.write(tmp_path / "series", [small, large]))
    array = pixels.load(frames)
    assert array.dtype == np.int32
    with scratch.on_disk(tmp_path, above=0):
        on_disk = pixels.load(frames)
    assert isinstance(on_disk, np.memmap) and on_disk[..., 0].T.flags.c_contiguous
    np.testing.assert_array_equal(on_disk, array)
    np.testing.assert_array_equal(array.transpose(2, 1, 0), [SIGNED, SIGNED.astype(int) + 40000])


PLANES = [(SIGNED + n).astype(np.int16) for n in range(6)]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 2, 0, 3, 1, 4]])
@pytest.mark.parametrize("compress", [None, uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.RLELossless])
def test_frames_in_any_order_each_with_its_own_rescaling(
    tmp_path: Path, order: list[int], compress: uid.UID | None
) -> None:
    dataset = enhanced(PLANES, order)
    if compress:
        dataset.compress(compress, generate_instance_uid=False)
    dataset.save_as(tmp_path / "e", enforce_file_format=True)
    volume = readers.read(tmp_path / "e")
    planes = volume.array[0].transpose(2, 1, 0).astype(int)
    np.testing.assert_array_equal(planes, [(SIGNED.astype(int) + n) * (n + 1) + 100 * n for n in range(6)])
    assert [instance.frame for instance in volume.source.instances] == [order.index(n) + 1 for n in range(6)]


def test_a_rescaling_that_all_frames_share(tmp_path: Path) -> None:
    enhanced(PLANES, [1, 0, 2], shared_rescale=True).save_as(tmp_path / "e", enforce_file_format=True)
    planes = readers.read(tmp_path / "e").array[0].transpose(2, 1, 0)
    np.testing.assert_array_equal(planes, [(SIGNED + n) * 2 + 5 for n in range(3)])


def test_a_rescaling_in_the_file_itself_is_that_of_its_frames(tmp_path: Path) -> None:
    """As secondary captures of many frames have it; what a frame says of its own goes first."""
    dataset = enhanced(PLANES, [1, 0, 2], shared_rescale=True)
    del dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    dataset.RescaleSlope, dataset.RescaleIntercept = 3, -7
    own = Dataset()
    own.RescaleSlope, own.RescaleIntercept = 2, 5
    dataset.PerFrameFunctionalGroupsSequence[0].PixelValueTransformationSequence = [own]  # plane 1
    dataset.save_as(tmp_path / "e", enforce_file_format=True)
    planes = readers.read(tmp_path / "e").array[0].transpose(2, 1, 0)
    expected = [SIGNED * 3 - 7, (SIGNED + 1) * 2 + 5, (SIGNED + 2) * 3 - 7]
    np.testing.assert_array_equal(planes, expected)


def packed(syntax: uid.UID, **changes: object) -> Dataset:
    dataset = slice_(**bits(12), PixelData=RAMP.tobytes())
    dataset.compress(syntax, generate_instance_uid=False)
    for name, value in changes.items():
        setattr(dataset, name, value)
    return dataset


def cut(dataset: Dataset, length: int) -> Dataset:
    code = codec.streams(dataset.PixelData, 1)[0]
    dataset.PixelData = encapsulate([code[:length]])
    return dataset


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (lambda: packed(uid.JPEG2000Lossless, Rows=65535, Columns=65535), "claims 8 GiB of pixels in a file of"),
        (lambda: packed(uid.JPEG2000Lossless, Rows=47), "48 rows, 40 columns .* header says 47, 40"),
        (lambda: cut(packed(uid.JPEG2000Lossless), 150), "cut before its end"),
        (lambda: cut(packed(uid.JPEGLSLossless), 150), "cut before its end"),
        (lambda: packed(uid.JPEG2000Lossless, BitsAllocated=8, BitsStored=8, HighBit=7), "12 bits in 8"),
        (lambda: slice_(Rows=65535, Columns=65535), "pixels cut short .* of 8589672450 bytes"),
        (lambda: slice_(Rows=49), "pixels cut short"),
        (lambda: slice_(BitsStored=0), "'Bits Stored' value of '0'"),
    ],
)
def test_headers_that_lie_are_refused_before_memory_is_taken(
    tmp_path: Path, dataset: Callable[[], Dataset], words: str
) -> None:
    made = dataset()
    made.save_as(tmp_path / "x", enforce_file_format=True)
    with pytest.raises(Refusal, match=words):
        readers.read(tmp_path / "x")


def test_a_transfer_syntax_that_nobody_here_decodes_is_named(tmp_path: Path) -> None:
    code = encapsulate([b"\0" * 100])
    with pytest.raises(Refusal, match="compressed as MPEG2"):
        one(tmp_path, PixelData=code, syntax=uid.MPEG2MPML)


def test_damage_says_nothing_on_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dataset = slice_(**bits(12), PixelData=RAMP.tobytes())
    dataset.compress(uid.JPEGLSLossless, generate_instance_uid=False)
    code = bytearray(codec.streams(dataset.PixelData, 1)[0])
    code[40:60] = b"\xff" * 20
    dataset.PixelData = encapsulate([bytes(code)])
    dataset.save_as(tmp_path / "x", enforce_file_format=True)
    with pytest.raises(Refusal):
        readers.read(tmp_path / "x")
    assert "Traceback" not in capfd.readouterr().err


def test_application_segments_of_jpeg_do_not_reach_the_decoder() -> None:
    frame = b"\xff\xc3" + bytes([0, 11, 12, 0, 12, 0, 10, 1, 1, 0x11, 0])
    scan = b"\xff\xda\0\x08\x01\x01\0\x01\0\0" + b"\x12\x34" + b"\xff\xd9"
    stream = codec._jpeg(b"\xff\xd8" + b"\xff\xe0\0\x10JFIF" + b"\0" * 10 + b"\xff\xfe\0\x05abc" + frame + scan)
    assert (stream.rows, stream.columns, stream.components, stream.precision) == (12, 10, 1, 12)
    assert stream.data == b"\xff\xd8" + frame + scan


def test_a_file_is_not_kept_open(tmp_path: Path) -> None:
    path = ds.series(tmp_path, ds.places(2)) / "IM0000.dcm"
    stored = pixels.opened(path)
    path.unlink()
    assert stored(0).shape == (12, 10)
