"""DICOM segmentations: where pixels lie by the file's own words, and what the proof before release sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg import originals, readers
from medseg.dicom import geometry, headers, objects, seg, seg_file
from medseg.engine import writers
from medseg.labels import LabelTable
from medseg.outputs import dicom_seg
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.volume import Slices, Source, Volume
from tests import dicom_series as ds
from tests.contracts.test_outputs import LABELS, REGIONS, prediction, scan

UNEVEN = np.array([[-30, -40, 55 + height] for height in (0, 3, 6, 11, 13.5, 16.5)])


def volume(folder: Path, places: np.ndarray, **options: Any) -> Volume:
    """A series whose slices lie anywhere, as a repaired scan: an even, straight grid of 2 mm that covers them."""
    frames = [headers.read(file).frames[0] for file in sorted(ds.series(folder, places, **options).iterdir())]
    facts = geometry.measure(frames)
    ordered = [frames[n] for n in facts.order]
    planes = np.stack([geometry.measure([replace(frame, thickness_mm=3.0)]).affine for frame in ordered])
    corners = (planes @ [[0, 0], [0, 9], [0, 0], [1, 1]])[:, :3].transpose(0, 2, 1).reshape(-1, 3)
    axes = planes[0][:3, :3] / np.linalg.norm(planes[0][:3, :3], axis=0)
    along = corners @ axes
    affine = np.eye(4)
    affine[:3, :3] = axes * [0.6, 0.8, 2.0]
    affine[:3, 3] = axes @ along.min(axis=0)
    shape = np.ceil(np.ptp(along, axis=0) / [0.6, 0.8, 2.0]).astype(int) + 2
    source = Source(folder, "dicom", instances=tuple(frame.instance for frame in ordered))
    return Volume(np.zeros((1, *shape), np.int16), affine, replace(source, slices=Slices(planes, (10, 12))))


def blobs(scan: Volume, table: LabelTable = LABELS) -> Prediction:
    """Labels without any symmetry all over the grid, and probabilities that agree with them."""
    noise = np.random.default_rng(0).random((len(table.labels), *scan.shape)).astype(np.float32)
    noise[:, ::2, :, :] **= 4
    best = np.where(noise.max(axis=0) > 0.6, noise.argmax(axis=0) + 1, 0)[None]
    target = best if table.exclusive else noise > 0.7
    provenance = {"model": "unit test", "weights sha256": "abc123", "seed": "17", "medseg": "9.9"}
    return Prediction("case-1", table, scan.with_array(target.astype(np.uint8)), provenance, noise)


def frames_of(path: Path) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(segment, pixels, LPS matrix of (column, row, 1)) of each frame, by nothing but pydicom's own decoding."""
    dataset = pydicom.dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    for plane, group in zip(pixels, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        orientation = (group.get("PlaneOrientationSequence") or shared.PlaneOrientationSequence)[0]
        measures = (group.get("PixelMeasuresSequence") or shared.PixelMeasuresSequence)[0]
        cosines = np.array(orientation.ImageOrientationPatient, float)
        down, across = (float(value) for value in measures.PixelSpacing)
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        matrix = np.stack([cosines[:3] * across, cosines[3:] * down, position], axis=1)
        numbered = group.get("SegmentIdentificationSequence")
        yield int(numbered[0].ReferencedSegmentNumber) if numbered else 0, plane, matrix


def points(mask: np.ndarray, matrix: np.ndarray) -> set[tuple[float, ...]]:
    """Places of true pixels (rows, columns) in LPS mm, to a hundredth."""
    rows, columns = np.nonzero(mask)
    return {tuple(point) for point in (matrix @ [columns, rows, np.ones(len(rows))]).T.round(2) + 0.0}


def expected_points(made: Prediction, position: int) -> set[tuple[float, ...]]:
    """The same from each slice's own file and the label map laid on it."""
    laid = originals.lay(made.target)
    found: set[tuple[float, ...]] = set()
    for n, instance in enumerate(made.target.source.instances):
        header = pydicom.dcmread(instance.path)
        cosines = np.array(header.ImageOrientationPatient, float)
        matrix = np.stack(
            [
                cosines[:3] * float(header.PixelSpacing[1]),
                cosines[3:] * float(header.PixelSpacing[0]),
                np.array(header.ImagePositionPatient, float),
            ],
            axis=1,
        )
        found |= points(made.table.mask(laid[..., n], position).T, matrix)
    return found


LEANING = ds.places(6, tilt=12)
TURNED = np.array([0.9541666, -0.2080757, 0.2151061, 0.2785886, 0.880128, -0.3843997])
STACKS = {
    "even": (ds.places(6), {}),
    "leaning": (LEANING, {}),
    "uneven": (UNEVEN, {}),
    "oblique": (ds.places(6, orientation=TURNED, tilt=-15), {"orientation": TURNED}),
}


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("table", [LABELS, REGIONS], ids=["labels", "regions"])
def test_pixels_lie_on_the_original_slices(tmp_path: Path, stack: str, kind: Any, table: LabelTable) -> None:
    places, options = STACKS[stack]
    made = blobs(volume(tmp_path / "scan", places, **options), table)
    path = tmp_path / "a.seg.dcm"
    if kind == "labelmap" and not table.exclusive:
        with pytest.raises(Refusal, match="labels that overlap"):
            dicom_seg.write(made, path, dicom_seg.Options(type=kind))
        return
    dicom_seg.write(made, path, dicom_seg.Options(type=kind))
    found: dict[int, set[tuple[float, ...]]] = {}
    for number, plane, matrix in frames_of(path):
        for one in [number] if number else np.unique(plane[plane > 0]):
            found.setdefault(int(one), set()).update(points(plane > 0 if number else plane == one, matrix))
    assert list(found) and sorted(found) == list(range(1, len(objects.segments(made)) + 1))
    for number, position in enumerate(objects.segments(made), 1):
        assert found[number] == expected_points(made, position)


def test_positions_are_the_headers_own_digits(tmp_path: Path) -> None:
    places = ds.places(4) + np.array([0.123456, -0.654321, 0.111111])
    made = blobs(volume(tmp_path / "scan", places, orientation=TURNED))
    dicom_seg.write(made, tmp_path / "a.seg.dcm", dicom_seg.Options())
    dataset = pydicom.dcmread(tmp_path / "a.seg.dcm")
    sources = {one.sop_instance_uid: pydicom.dcmread(one.path) for one in made.target.source.instances}
    shared = dataset.SharedFunctionalGroupsSequence[0]
    order = {one.sop_instance_uid: n for n, one in enumerate(made.target.source.instances, 1)}
    for group in dataset.PerFrameFunctionalGroupsSequence:
        named = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        segment = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        assert group.FrameContentSequence[0].DimensionIndexValues == [segment, order[named]]
        source = sources[named]
        assert group.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient
        assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == source.ImageOrientationPatient
        assert shared.PixelMeasuresSequence[0].PixelSpacing == source.PixelSpacing
    named = dataset.ReferencedSeriesSequence[0]
    assert [item.ReferencedSOPInstanceUID for item in named.ReferencedInstanceSequence] == list(sources)
    assert named.SeriesInstanceUID == next(iter(sources.values())).SeriesInstanceUID


def test_slices_that_differ_in_the_last_digits_keep_their_own(tmp_path: Path) -> None:
    """Scanners write such headers; what is equal on all slices stands once, what is not stands with each."""
    slices = [ds.slice_(place, number=n) for n, place in enumerate(ds.places(4), 1)]
    slices[2].ImageOrientationPatient = [1, 0.000001, 0, -0.000001, 1, 0]
    slices[1].SliceThickness = 3.1
    made = blobs(readers.read(ds.write(tmp_path / "scan", slices)))
    dicom_seg.write(made, tmp_path / "a.seg.dcm", dicom_seg.Options())
    dataset = pydicom.dcmread(tmp_path / "a.seg.dcm")
    headers_ = {one.SOPInstanceUID: one for one in slices}
    assert dataset.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence") is None
    for group in dataset.PerFrameFunctionalGroupsSequence:
        own = headers_[group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert group.PlaneOrientationSequence[0].ImageOrientationPatient == own.ImageOrientationPatient
        assert group.PixelMeasuresSequence[0].SliceThickness == own.SliceThickness


@pytest.mark.parametrize(("stack", "spacing"), [("even", 3.0), ("leaning", 3.0), ("uneven", None)])
def test_spacing_is_told_where_there_is_one(tmp_path: Path, stack: str, spacing: float | None) -> None:
    """Along the normal, as the standard defines it."""
    made = blobs(volume(tmp_path / "scan", STACKS[stack][0]))
    dicom_seg.write(made, tmp_path / "a.seg.dcm", dicom_seg.Options())
    shared = pydicom.dcmread(tmp_path / "a.seg.dcm").SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].get("SpacingBetweenSlices") == spacing


@pytest.mark.parametrize("table", [LABELS, REGIONS], ids=["labels", "regions"])
def test_probabilities_are_kept_to_half_a_step(tmp_path: Path, table: LabelTable) -> None:
    made = blobs(volume(tmp_path / "scan", LEANING), table)
    options = dicom_seg.Options(type="fractional")
    assert dicom_seg.keeps(options) == ("probabilities",) and not dicom_seg.keeps(dicom_seg.Options())
    assert writers.keeps(dicom_seg, options) == ("probabilities",)
    with pytest.raises(Refusal, match="without probabilities"):
        dicom_seg.write(replace(made, probabilities=None), tmp_path / "a.seg.dcm", options)
    dicom_seg.write(made, tmp_path / "a.seg.dcm", options)
    laid = originals.lay(made.target.with_array(made.probabilities))
    stored = np.zeros(laid.shape)
    planes = {tuple((LPS @ [0, 0, 0, 1])[:3].round(2)): n for n, LPS in enumerate(_lps(made.target))}
    for number, plane, matrix in frames_of(tmp_path / "a.seg.dcm"):
        stored[objects.segments(made)[number - 1], ..., planes[tuple(matrix[:, 2].round(2))]] = plane.T / 255
    assert np.abs(stored - laid).max() <= 0.5 / 255 + 1e-6
    back = readers.read(tmp_path / "a.seg.dcm")
    assert back.array.dtype == np.float32 and back.channels == tuple(table.names)


def _lps(volume: Volume) -> np.ndarray:
    return np.diag([-1.0, -1, 1, 1]) @ originals.affines(volume)


def test_a_label_that_is_likely_nowhere_comes_last(tmp_path: Path) -> None:
    base = prediction(scan(tmp_path), LABELS)  # liver and spleen have pixels
    chances = np.zeros((3, *base.target.shape), np.float32)
    chances[0, 1:4], chances[2, 2, 2, 4] = 0.9, 0.3
    made = replace(base, probabilities=chances)
    dicom_seg.write(made, tmp_path / "a.seg.dcm", dicom_seg.Options(type="fractional"))
    dataset = pydicom.dcmread(tmp_path / "a.seg.dcm")
    assert [item.SegmentLabel for item in dataset.SegmentSequence] == ["liver", "spleen", "kidney_left"]
    held = [(number, int(plane.max())) for number, plane, _ in frames_of(tmp_path / "a.seg.dcm")]
    assert held == [(1, 230)] * 5 + [(2, 0), (3, 77)]


def test_identifiers_codes_and_provenance(tmp_path: Path) -> None:
    table = LabelTable.of({"liver": 5, "kidney_cyst_left": 1, "kidney_right": 3})
    taken = scan(tmp_path)
    notes = {**taken.source.notes, objects.NOTE_OF_CHECK: "repaired: 1 missing slice"}
    made = blobs(replace(taken, source=replace(taken.source, notes=notes)), table)
    dicom_seg.write(made, tmp_path / "a.seg.dcm", dicom_seg.Options(series_number=77))
    dataset = pydicom.dcmread(tmp_path / "a.seg.dcm")
    assert (dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.SeriesNumber) == (
        objects.uid(made, "SEG"),
        objects.uid(made, "SEG series"),
        77,
    )
    liver, cyst, kidney = dataset.SegmentSequence
    assert liver.TrackingUID != cyst.TrackingUID and liver.TrackingID == "case-1 liver"
    region = cyst.AnatomicRegionSequence[0]
    assert (region.CodeValue, region.AnatomicRegionModifierSequence[0].CodeMeaning) == ("64033007", "Left")
    kind = kidney.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning) == ("64033007", "Right")
    algorithm = liver.SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    (equipment,) = [item for item in dataset.ContributingEquipmentSequence if item.Manufacturer == "medseg"]
    for text in (algorithm.AlgorithmParameters, equipment.ContributionDescription):
        for fact in ("weights sha256: abc123", "seed: 17", "medseg: 9.9", "1 missing slice"):
            assert fact in text


def test_an_account_of_any_length_finds_room(tmp_path: Path) -> None:
    made = blobs(scan(tmp_path))
    made = replace(made, provenance={**made.provenance, "trained on": "C:\\data, " * 1500})
    dicom_seg.write(made, tmp_path / "a.seg.dcm", dicom_seg.Options())
    dataset = pydicom.dcmread(tmp_path / "a.seg.dcm")
    algorithm = dataset.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert len(algorithm.AlgorithmParameters) == 10240 and "seed: 17" in algorithm.AlgorithmParameters


def test_texts_of_any_language(tmp_path: Path) -> None:
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    sets = {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": name}
    table = LabelTable.of({"Öhr – 肝": 1})
    made = blobs(readers.read(ds.series(tmp_path / "s", ds.places(4), **sets)), table)
    dicom_seg.write(made, tmp_path / "a.seg.dcm", dicom_seg.Options())
    dataset = pydicom.dcmread(tmp_path / "a.seg.dcm")
    assert (str(dataset.PatientName), dataset.SegmentSequence[0].SegmentLabel) == (name, "Öhr – 肝")


def test_more_labels_than_a_byte_can_number(tmp_path: Path) -> None:
    table = LabelTable.of({f"label {n}": n for n in range(1, 301)})
    target = np.arange(10 * 12 * 5).reshape(1, 10, 12, 5) % 301
    taken = readers.read(ds.series(tmp_path / "s", ds.places(5)))
    made = Prediction("c", table, taken.with_array(target.astype(np.uint16)))
    for kind in ("labelmap", "binary"):
        dicom_seg.write(made, tmp_path / "a.seg.dcm", dicom_seg.Options(type=kind))
        assert np.array_equal(readers.read(tmp_path / "a.seg.dcm").array, target)
    dicom_seg.write(made, tmp_path / "a.seg.dcm", dicom_seg.Options(type="labelmap"))
    assert pydicom.dcmread(tmp_path / "a.seg.dcm").BitsAllocated == 16


# What the proof sees: each of these alters a written file before it is read back.


def other_pixel(dataset: Any) -> None:
    dataset.PixelData = bytes([dataset.PixelData[0] ^ 1]) + dataset.PixelData[1:]


def other_instance(dataset: Any) -> None:
    first, last = dataset.PerFrameFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[-1]
    first.DerivationImageSequence = last.DerivationImageSequence


def unknown_instance(dataset: Any) -> None:
    source = dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    source.ReferencedSOPInstanceUID = "1.2.3.4.5"


def other_place(dataset: Any) -> None:
    dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient[2] += 0.01


def other_orientation(dataset: Any) -> None:
    orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    cosines = list(orientation.ImageOrientationPatient)
    orientation.ImageOrientationPatient = cosines[3:] + cosines[:3]


def other_spacing(dataset: Any) -> None:
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = list(measures.PixelSpacing)[::-1]


def other_segment(dataset: Any) -> None:
    groups = dataset.PerFrameFunctionalGroupsSequence
    groups[0].SegmentIdentificationSequence = groups[-1].SegmentIdentificationSequence


def other_label(dataset: Any) -> None:
    one, two = dataset.SegmentSequence[-2:]
    one.TrackingUID, two.TrackingUID = two.TrackingUID, one.TrackingUID


def other_numbers(dataset: Any) -> None:
    """A file that agrees with itself, but not with a report that names its segments."""
    dataset.SegmentSequence[0].SegmentNumber, dataset.SegmentSequence[1].SegmentNumber = 2, 1
    for group in dataset.PerFrameFunctionalGroupsSequence:
        identification = group.SegmentIdentificationSequence[0]
        number = identification.ReferencedSegmentNumber
        identification.ReferencedSegmentNumber = {1: 2, 2: 1}.get(number, number)


def other_slice(dataset: Any) -> None:
    """The pixels of two slices change places, of one segment or of all."""
    size = dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8
    first, second, rest = dataset.PixelData[:size], dataset.PixelData[size : 2 * size], dataset.PixelData[2 * size :]
    dataset.PixelData = second + first + rest


def no_label(dataset: Any) -> None:
    dataset.SegmentSequence.pop()


def fewer_frames(dataset: Any) -> None:
    """The last frame is missing, in pixels, groups and number alike."""
    kept = dataset.NumberOfFrames - 1
    planes = dataset.pixel_array[:kept]
    packed = np.packbits(planes.ravel(), bitorder="little") if dataset.BitsAllocated == 1 else planes.ravel()
    dataset.PixelData = packed.tobytes() + b"\0" * (packed.size % 2)
    dataset.NumberOfFrames = kept
    dataset.PerFrameFunctionalGroupsSequence.pop()


def cut_short(dataset: Any) -> None:
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 4 * 2]


ANY = [
    other_pixel,
    other_instance,
    unknown_instance,
    other_place,
    other_orientation,
    other_spacing,
    other_label,
    other_slice,
]
DAMAGES = {
    "binary": [*ANY, other_segment, other_numbers, no_label, fewer_frames, cut_short],
    "labelmap": [*ANY, no_label, fewer_frames],
    "fractional": [*ANY, other_segment, fewer_frames],
}


@pytest.mark.parametrize(("kind", "damage"), [(kind, one) for kind, each in DAMAGES.items() for one in each])
def test_what_reads_back_differently_is_not_kept(
    kind: Any, damage: Callable[[Any], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = blobs(readers.read(ds.series(tmp_path / "s", ds.places(4, orientation=TURNED), orientation=TURNED)))
    honest = seg_file.save

    def damaged(path: Path, *rest: Any) -> None:
        honest(path, *rest)
        dataset = pydicom.dcmread(path)
        damage(dataset)
        dataset.save_as(path)

    monkeypatch.setattr(seg_file, "save", damaged)
    with pytest.raises(Refusal, match=r"after reading it back|bytes of pixels|can be read back"):
        dicom_seg.write(made, tmp_path / "a.seg.dcm", dicom_seg.Options(type=kind))
    assert not list(tmp_path.glob("*.dcm")) and not list(tmp_path.glob(".partial*"))


def test_a_fraction_may_be_off_by_half_a_step_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = blobs(scan(tmp_path))
    monkeypatch.setattr("medseg.dicom.seg_frames._stored", lambda chances: (chances * 255).astype(np.uint8))
    with pytest.raises(Refusal, match="other probabilities of segment 1 on slice 1"):
        dicom_seg.write(made, tmp_path / "a.seg.dcm", dicom_seg.Options(type="fractional"))


def test_labels_beside_their_slices_are_refused(tmp_path: Path) -> None:
    taken = scan(tmp_path)
    moved = taken.affine.copy()
    moved[:3, 3] += 0.5
    with pytest.raises(Refusal, match=r"labels 0\.87 mm beside the slice"):
        dicom_seg.write(blobs(replace(taken, affine=moved)), tmp_path / "a.seg.dcm", dicom_seg.Options())
    fewer = replace(taken.source, instances=taken.source.instances[:3])
    with pytest.raises(Refusal, match="3 DICOM instances for 5 slices"):
        dicom_seg.write(blobs(replace(taken, source=fewer)), tmp_path / "a.seg.dcm", dicom_seg.Options())


def test_another_file_in_the_place_of_a_slice_is_refused(tmp_path: Path) -> None:
    made = blobs(scan(tmp_path))
    instances = made.target.source.instances
    instances[2].path.write_bytes(instances[1].path.read_bytes())
    with pytest.raises(Refusal, match="another file than the scan was read from"):
        dicom_seg.write(made, tmp_path / "a.seg.dcm", dicom_seg.Options())


def test_more_pixels_than_one_object_can_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seg_file, "LARGEST", 50)
    with pytest.raises(Refusal, match="at most 4 GiB"):
        dicom_seg.write(blobs(scan(tmp_path)), tmp_path / "a.seg.dcm", dicom_seg.Options())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_frames_of_any_size_are_packed_and_unpacked(tmp_path: Path, data: st.DataObject) -> None:
    """Bits run on from frame to frame, also where a frame is no whole number of bytes."""
    shape = data.draw(st.tuples(st.integers(1, 19), st.integers(1, 9), st.integers(1, 9)))
    frames = np.random.default_rng(data.draw(st.integers(0, 99))).random(shape) < 0.4
    packed = b"".join(seg_file._packed(iter(frames)))
    assert packed == np.packbits(frames.ravel(), bitorder="little").tobytes()
    dataset = ds.slice_([0, 0, 0])
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = shape
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = dataset.PixelRepresentation = 0
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    dataset["PixelData"].VR = "OB"
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    read = list(seg.planes(tmp_path / "a.dcm", pydicom.dcmread(tmp_path / "a.dcm", stop_before_pixels=True)))
    np.testing.assert_array_equal(np.array(read), frames)


# Reading.


def written(folder: Path, places: np.ndarray, labelled: Sequence[int], **options: Any) -> tuple[Prediction, Path]:
    taken = volume(folder / "scan", places, **options)
    made = blobs(taken)
    slices = taken.source.slices
    assert slices is not None
    cut = Volume(np.zeros((1, 10, 12, 1), np.uint8), slices.affines[0])
    target = np.zeros((1, 10, 12, len(labelled)), np.uint8)
    target[0, 2:5, 3:9] = 1
    target[0, 3, 4, :] = np.arange(1, len(labelled) + 1) % 2 + 1
    source = replace(
        taken.source,
        instances=tuple(taken.source.instances[n] for n in labelled),
        slices=Slices(slices.affines[list(labelled)], slices.size),
    )
    affine = cut.affine.copy()
    if len(labelled) > 1:
        affine[:3, 2] = slices.affines[labelled[1]][:3, 3] - slices.affines[labelled[0]][:3, 3]
    affine[:3, 3] = slices.affines[labelled[0]][:3, 3]
    made = replace(made, target=Volume(target, affine, source), probabilities=None)
    dicom_seg.write(made, folder / "a.seg.dcm", dicom_seg.Options())
    return made, folder / "a.seg.dcm"


def test_a_slice_a_tenth_of_a_millimetre_off_the_grid_is_refused(tmp_path: Path) -> None:
    places = ds.places(5)
    places[2, 2] += 0.1
    _, path = written(tmp_path, places, (0, 1, 2, 3, 4))
    with pytest.raises(Refusal, match=r"frames 2\.9 to 3\.1 mm apart"):
        readers.read(path)


@pytest.mark.parametrize(("tilt", "turn"), [(12, ds.AXIAL), (-18.5, TURNED)])
def test_a_leaning_stack_is_read_as_it_lies(tmp_path: Path, tilt: float, turn: Any) -> None:
    places = ds.places(6, orientation=turn, tilt=tilt)
    made, path = written(tmp_path, places, (0, 1, 2, 3, 4, 5), orientation=turn)
    back = readers.read(path)
    np.testing.assert_array_equal(back.array, made.target.array)
    np.testing.assert_allclose(back.affine, made.target.affine, atol=1e-4)


def test_uneven_slices_are_refused_in_words(tmp_path: Path) -> None:
    _, path = written(tmp_path, UNEVEN, (2, 3, 4, 5))
    with pytest.raises(Refusal, match=r"frames 2\.5 to 5 mm apart"):
        readers.read(path)


def test_even_slices_of_an_uneven_stack_are_read(tmp_path: Path) -> None:
    made, path = written(tmp_path, UNEVEN, (0, 1, 2))
    back = readers.read(path)
    np.testing.assert_array_equal(back.array, made.target.array)
    np.testing.assert_allclose(back.affine, made.target.affine, atol=1e-4)


def test_a_turned_frame_is_refused(tmp_path: Path) -> None:
    _, path = written(tmp_path, ds.places(4), (0, 1, 2, 3))
    dataset = pydicom.dcmread(path)
    turned = np.radians(8)  # 7 pixels of 0.8 mm from the corner: more than half a pixel
    for n, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        group.PlaneOrientationSequence = pydicom.Sequence([pydicom.Dataset()])
        cosines = [np.cos(turned), np.sin(turned), 0, -np.sin(turned), np.cos(turned), 0] if n == 2 else ds.AXIAL
        group.PlaneOrientationSequence[0].ImageOrientationPatient = [f"{value:.8f}" for value in cosines]
    del dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    dataset.save_as(path)
    with pytest.raises(Refusal, match=r"turned by 8\.0 degrees"):
        readers.read(path)


def test_a_segmentation_that_does_not_say_how_its_pixels_are_stored_is_refused(tmp_path: Path) -> None:
    dicom_seg.write(prediction(scan(tmp_path), LABELS), tmp_path / "a.seg.dcm", dicom_seg.Options())
    dataset = pydicom.dcmread(tmp_path / "a.seg.dcm")
    del dataset.BitsAllocated
    dataset.save_as(tmp_path / "b.seg.dcm")
    with pytest.raises(Refusal, match="BitsAllocated"):
        readers.read(tmp_path / "b.seg.dcm")
