"""Series are divided into volumes by what their headers say, or left whole and refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from medseg.dicom import headers, preflight, series, signature, stacks
from medseg.dicom.divide import divide
from medseg.dicom.frames import Frame
from medseg.dicom.preflight import Verdict
from medseg.dicom.stacks import Split
from medseg.volume import Instance
from tests import dicom_series as ds

PLACES = ds.places(6)
CORONAL, SAGITTAL = (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)


def split(folder: Path) -> Split:
    (one,) = series.by_series([headers.read(file) for file in signature.files(folder)])
    return stacks.split(one)


def verdict(found: Split, number: int = 0) -> Verdict:
    stack = found.stacks[number]
    return preflight.judge(stack.frames, tolerance_mm=0.01, gap_mm=10, known=stack.findings).verdict


def volumes(folder: Path, *attributes: dict[str, object], places: Sequence[np.ndarray] = (PLACES,)) -> Path:
    """A series with every place once for each set of attributes, mixed as files come."""
    slices = [
        ds.slice_(place, number=None, **given)  # type: ignore[arg-type]
        for number, given in enumerate(attributes)
        for place in places[number % len(places)]
    ]
    order = np.random.default_rng(0).permutation(len(slices))
    return ds.write(folder, [slices[index] for index in order])


@pytest.mark.parametrize(
    ("attributes", "names"),
    [
        (
            [{"TemporalPositionIdentifier": n} for n in (1, 2, 10)],
            ["time point 1", "time point 2", "time point 10"],
        ),
        ([{"EchoTime": t} for t in (4.6, 2.3)], ["echo 1, 2.3 ms", "echo 2, 4.6 ms"]),
        ([{"EchoNumbers": n} for n in (1, 2)], ["echo 1", "echo 2"]),
        ([{"DiffusionBValue": b} for b in (0.0, 50.0, 800.0)], ["b = 0", "b = 50", "b = 800"]),
        ([{"TriggerTime": t} for t in (0, 35.5)], ["phase 1, 0 ms", "phase 2, 35.5 ms"]),
        ([{"AcquisitionNumber": n} for n in (4, 3)], ["acquisition 3", "acquisition 4"]),
        (
            [{"AcquisitionDateTime": f"2020010110{minute}05.25"} for minute in (31, 30)],
            ["phase 1, acquired at 10:30:05", "phase 2, acquired at 10:31:05"],
        ),
        (
            [{"AcquisitionTime": time} for time in ("093005", "103105")],
            ["phase 1, acquired at 09:30:05", "phase 2, acquired at 10:31:05"],
        ),
        ([{"ContentTime": t} for t in ("103005", "103105")], ["part 1, made at 10:30:05", "part 2, made at 10:31:05"]),
        ([{"ImageType": ["ORIGINAL", "PRIMARY", kind]} for kind in "MP"], ["M", "P"]),
        ([{"ComplexImageComponent": c} for c in ("MAGNITUDE", "PHASE")], ["MAGNITUDE", "PHASE"]),
        ([{"ConvolutionKernel": k} for k in ("B30f", "B60f")], ["kernel B30f", "kernel B60f"]),
        ([{"KVP": k} for k in (80, 140)], ["80 kV", "140 kV"]),
        # to be without is a value, too
        ([{}, {"DiffusionBValue": 800.0}], ["no b-value", "b = 800"]),
        # together where neither alone does it
        (
            [{"EchoTime": t, "ImageType": ["ORIGINAL", "PRIMARY", kind]} for t in (2, 4) for kind in "MP"],
            ["echo 1, 2 ms, M", "echo 1, 2 ms, P", "echo 2, 4 ms, M", "echo 2, 4 ms, P"],
        ),
        # what is meant rather than what comes with it
        ([{"EchoTime": 2 * n, "AcquisitionNumber": n} for n in (1, 2)], ["echo 1, 2 ms", "echo 2, 4 ms"]),
    ],
    ids=lambda value: str(list(value[-1]) if isinstance(value[-1], dict) else ""),
)  # fmt: skip
def test_volumes_are_told_apart_and_named(
    tmp_path: Path, attributes: list[dict[str, object]], names: list[str]
) -> None:
    found = split(volumes(tmp_path, *attributes))
    assert [stack.name for stack in found.stacks] == names
    assert [stack.number for stack in found.stacks] == list(range(1, len(names) + 1))
    for number, stack in enumerate(found.stacks):
        assert sorted(frame.position for frame in stack.frames) == sorted(map(tuple, PLACES.round(6).tolist()))
        assert len({tuple(frame.marks.items()) for frame in stack.frames}) == 1
        assert verdict(found, number) is Verdict.REPAIRABLE  # by taking them apart
        assert [finding.repair for finding in stack.findings] == ["split"]
    assert not found.dropped


def test_diffusion_directions_need_the_b_value_too(tmp_path: Path) -> None:
    weighted = [{"DiffusionBValue": 800.0, "DiffusionGradientOrientation": np.eye(3)[n].tolist()} for n in range(3)]
    found = split(volumes(tmp_path, {"DiffusionBValue": 0.0}, *weighted))
    assert [stack.name for stack in found.stacks] == [
        "b = 0, no direction",
        *(f"b = 800, direction {n}" for n in (1, 2, 3)),
    ]


def test_siemens_and_ge_keep_the_b_value_in_private_attributes(tmp_path: Path) -> None:
    for name, group, creator, element, values in (
        ("siemens", 0x0019, "SIEMENS MR HEADER", 0x0C, ("0", "1000")),
        ("ge", 0x0043, "GEMS_PARM_01", 0x39, ([0, 8, 0, 0], [1000001000, 8, 0, 0])),
        ("old ge", 0x0043, "GEMS_PARM_01", 0x39, ("0", "1000")),
    ):
        slices = []
        for value in values:
            for place in PLACES:
                dataset = ds.slice_(place, number=None)
                dataset.private_block(group, creator, create=True).add_new(element, "IS", value)
                slices.append(dataset)
        found = split(ds.write(tmp_path / name, slices))
        assert [stack.name for stack in found.stacks] == ["b = 0", "b = 1000"]


@pytest.mark.parametrize("value", [None, "", []])
def test_an_emptied_private_b_value_stops_nothing(tmp_path: Path, value: object) -> None:
    slices = [ds.slice_(place) for place in PLACES]
    for dataset in slices:
        dataset.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x39, "IS", value)
    assert len(split(ds.write(tmp_path, slices)).stacks) == 1


def test_phases_go_on_past_midnight(tmp_path: Path) -> None:
    """The second of two phases, 20 s after the first at each place, begins on the day before it ends."""
    slices = []
    for n, place in enumerate(PLACES):
        for phase in (0, 1):
            day, second = divmod(86380 + 3 * n + 20 * phase, 86400)
            time = f"{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}"
            date = f"2020010{1 + day}"
            slices.append(
                ds.slice_(place, number=None, AcquisitionDate=date, AcquisitionTime=time, SeriesDescription=str(phase))
            )
    folder = ds.write(tmp_path, slices)
    files = sorted(file.name for file in folder.iterdir())
    phase_of = {name: dataset.SeriesDescription for name, dataset in zip(files, slices, strict=True)}
    found = split(folder)
    assert [stack.name for stack in found.stacks] == [
        "phase 1, acquired at 23:59:40",
        "phase 2, acquired at 00:00:00",
    ]
    for number, stack in enumerate(found.stacks):
        assert {phase_of[frame.instance.path.name] for frame in stack.frames} == {str(number)}


def test_instance_numbers_tell_uneven_volumes_apart_that_lie_among_one_another(tmp_path: Path) -> None:
    slices = [
        ds.slice_(place + np.array([0, 0, off]), number=1 + n + 6 * part)
        for part, off in enumerate((0, 0.5))
        for n, place in enumerate(PLACES)
    ]
    found = split(ds.write(tmp_path / "there", slices))
    assert [stack.name for stack in found.stacks] == ["part 1, instances 1 to 6", "part 2, instances 7 to 12"]
    for dataset in slices:
        del dataset.InstanceNumber
    nameless = split(ds.write(tmp_path / "nameless", slices))
    assert len(nameless.stacks) == 1 and verdict(nameless) is Verdict.REFUSED


def test_moments_are_ranked_at_each_place(tmp_path: Path) -> None:
    """Every slice of a cine has trigger times of its own."""
    times = np.random.default_rng(1).uniform(0, 9, len(PLACES))
    slices = [
        ds.slice_(place, number=None, TriggerTime=f"{own + 40 * phase:.3f}")
        for phase in (2, 0, 1)
        for place, own in zip(PLACES, times, strict=True)
    ]
    found = split(ds.write(tmp_path, slices))
    assert len(found.stacks) == 3
    for phase, stack in enumerate(found.stacks):
        assert stack.name.startswith(f"phase {phase + 1}, ")
        assert all(40 * phase <= frame.marks["trigger"] < 40 * phase + 10 for frame in stack.frames)  # type: ignore[operator]


def test_instance_numbers_are_the_last_resort_and_said(tmp_path: Path) -> None:
    blocks = [ds.slice_(place, number=n) for n, place in enumerate([*PLACES, *PLACES[::-1]], start=1)]
    found = split(ds.write(tmp_path / "blocks", blocks))
    assert [stack.name for stack in found.stacks] == ["part 1, instances 1 to 6", "part 2, instances 7 to 12"]
    assert "as nothing else tells them apart" in found.stacks[0].findings[0].text
    for stack in found.stacks:
        assert len({frame.position for frame in stack.frames}) == 6
    mixed = [ds.slice_(place, number=n) for n, place in enumerate(np.repeat(PLACES, 2, axis=0), start=1)]
    without = [ds.slice_(place, number=None) for place in [*PLACES, *PLACES]]
    lacking = [ds.slice_(place, number=n) for n, place in enumerate([*PLACES, *PLACES[1:]], start=1)]
    for name, slices in (("mixed", mixed), ("without", without), ("lacking", lacking)):
        found = split(ds.write(tmp_path / name, slices))
        assert len(found.stacks) == 1 and verdict(found) is Verdict.REFUSED


def test_a_phase_may_lack_slices_or_reach_further(tmp_path: Path) -> None:
    attributes = [{"AcquisitionNumber": n} for n in (1, 2)]
    found = split(volumes(tmp_path / "lacks", *attributes, places=[PLACES, np.delete(PLACES, 2, axis=0)]))
    assert [len(stack.frames) for stack in found.stacks] == [6, 5]
    found = split(volumes(tmp_path / "reaches", *attributes, places=[PLACES[:4], ds.places(9)[2:]]))
    assert [len(stack.frames) for stack in found.stacks] == [4, 7]


def test_what_differs_with_every_slice_divides_nothing(tmp_path: Path) -> None:
    slices = [
        ds.slice_(place, number=None, ContentTime=f"1030{n:02d}", AcquisitionNumber=n)
        for n, place in enumerate([*PLACES, *PLACES])
    ]
    found = split(ds.write(tmp_path, slices))
    assert len(found.stacks) == 1 and verdict(found) is Verdict.REFUSED


def test_marks_that_only_tell_slices_apart_divide_nothing(tmp_path: Path) -> None:
    """Together they would make three parts of two volumes."""
    at_two_places = ((0, 2, "M"), (0, 4, "M"), (1, 2, "M"), (1, 2, "P"))
    slices = [
        ds.slice_(PLACES[n], number=None, EchoTime=time, ImageType=["ORIGINAL", "PRIMARY", kind])
        for n, time, kind in at_two_places
    ]
    found = split(ds.write(tmp_path, slices))
    assert len(found.stacks) == 1 and verdict(found) is Verdict.REFUSED


def test_volumes_that_lie_among_one_another_are_not_blended(tmp_path: Path) -> None:
    between = PLACES + np.array([0, 0, 1.5])
    echoes = split(volumes(tmp_path / "a", {"EchoTime": 2}, {"EchoTime": 4}, places=[PLACES, between]))
    assert [stack.name for stack in echoes.stacks] == ["echo 1, 2 ms", "echo 2, 4 ms"]
    numbers = [{"AcquisitionNumber": n} for n in (1, 2)]
    uneven = split(volumes(tmp_path / "b", *numbers, places=[PLACES, PLACES + np.array([0, 0, 0.7])]))
    assert [len(stack.frames) for stack in uneven.stacks] == [6, 6]
    # 1 mm and 2 mm apart in turn, which is no volume of 1 mm that lacks every third slice
    thirds = split(volumes(tmp_path / "e", *numbers, places=[PLACES, PLACES + np.array([0, 0, 1.0])]))
    assert [stack.name for stack in thirds.stacks] == ["acquisition 1", "acquisition 2"]
    # packages of one volume: odd slices, then even ones
    packages = split(volumes(tmp_path / "c", *numbers, places=[PLACES, between]))
    assert len(packages.stacks) == 1 and verdict(packages) is Verdict.GOOD
    lacking = split(volumes(tmp_path / "f", *numbers, places=[PLACES, between[1:]]))
    assert len(lacking.stacks) == 1 and verdict(lacking) is Verdict.REPAIRABLE
    # nothing says what they are
    nameless = split(volumes(tmp_path / "d", {}, {}, places=[PLACES, PLACES + np.array([0, 0, 0.2])]))
    assert len(nameless.stacks) == 1 and verdict(nameless) is Verdict.REFUSED


def test_strays_are_left_out_and_named(tmp_path: Path) -> None:
    slices = [ds.slice_(place) for place in PLACES]
    copy = ds.slice_(PLACES[2])
    copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = slices[2].SOPInstanceUID
    localiser = ds.slice_((0, 0, 90), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    coronal = ds.slice_((0, 0, 0), orientation=CORONAL)
    screenshot = ds.slice_((0, 0, 0), PhotometricInterpretation="RGB", SamplesPerPixel=3)
    found = split(ds.write(tmp_path, [*slices, copy, localiser, coronal, screenshot]))
    assert [(dropped.files, dropped.reason) for dropped in found.dropped] == [
        (("IM0006.dcm",), "copy of another instance"),
        (("IM0007.dcm",), "localiser"),
        (("IM0008.dcm",), "another orientation"),
        (("IM0009.dcm",), "colour pixels"),
    ]
    (stack,) = found.stacks
    assert len(stack.frames) == 6 and not stack.name
    assert verdict(found) is Verdict.REPAIRABLE and {finding.repair for finding in stack.findings} == {"drop"}


def test_phases_that_share_their_identifiers_are_no_copies(tmp_path: Path) -> None:
    """As some anonymisers leave them."""
    for name, uids in (("one", ["1.2.9"] * 12), ("again", [f"1.2.{n % 6}" for n in range(12)])):
        slices = [
            ds.slice_(place, number=None, AcquisitionNumber=phase, SOPInstanceUID=uids[6 * phase + n])
            for phase in (0, 1)
            for n, place in enumerate(PLACES)
        ]
        found = split(ds.write(tmp_path / name, slices))
        assert [stack.name for stack in found.stacks] == ["acquisition 0", "acquisition 1"]
        assert not found.dropped


def test_a_slice_that_lost_its_place_is_no_stray(tmp_path: Path) -> None:
    slices = [ds.slice_(place) for place in PLACES]
    del slices[5].ImagePositionPatient
    found = split(ds.write(tmp_path, slices))
    assert verdict(found) is Verdict.REFUSED and not found.dropped
    assert "1 image with no ImagePositionPatient among the slices (IM0005.dcm)" in found.stacks[0].findings[0].text


def test_three_planes_are_three_volumes(tmp_path: Path) -> None:
    slices = [
        ds.slice_(place, orientation=orientation, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
        for orientation, count in ((ds.AXIAL, 5), (CORONAL, 4), (SAGITTAL, 3))
        for place in ds.places(count, orientation=orientation)
    ]
    found = split(ds.write(tmp_path / "many", slices))
    assert [(stack.name, len(stack.frames)) for stack in found.stacks] == [
        ("axial", 5),
        ("coronal", 4),
        ("sagittal", 3),
    ]
    few = split(ds.write(tmp_path / "few", [slices[0], slices[5], slices[9]]))
    assert len(few.stacks) == 1 and verdict(few) is Verdict.REFUSED  # nothing is left if two of three are dropped


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"PatientID": "P2"}, "patient"),
        ({"FrameOfReferenceUID": "1.9"}, "frame of reference"),
        ({"Modality": "MR"}, "modality"),
        ({"RescaleSlope": None, "RescaleIntercept": None}, "rescale"),
    ],
)
def test_mixtures_are_refused(tmp_path: Path, change: dict[str, object], kind: str) -> None:
    slices = [ds.slice_(place, **(change if n == 3 else {})) for n, place in enumerate(PLACES)]  # type: ignore[arg-type]
    found = split(ds.write(tmp_path, slices))
    assert [finding.kind for finding in found.stacks[0].findings] == [kind]
    assert verdict(found) is Verdict.REFUSED


def test_a_rescaling_that_is_lost_is_held_against_its_own_volume(tmp_path: Path) -> None:
    slices = [
        ds.slice_(place, number=None, EchoTime=echo, RescaleIntercept=None if (n, echo) == (3, 4.6) else -1024, **lost)
        for echo in (2.3, 4.6)
        for n, place in enumerate(PLACES)
        for lost in [{"RescaleSlope": None} if (n, echo) == (3, 4.6) else {}]
    ]
    found = split(ds.write(tmp_path, slices))
    assert [[finding.kind for finding in stack.findings] for stack in found.stacks] == [
        ["several"],
        ["several", "rescale"],
    ]
    assert [verdict(found, n) for n in (0, 1)] == [Verdict.REPAIRABLE, Verdict.REFUSED]


def test_no_rescaling_is_fine_where_it_would_change_nothing(tmp_path: Path) -> None:
    one: dict[str, object] = {"RescaleSlope": 1, "RescaleIntercept": 0}
    none = dict.fromkeys(one)
    slices = [ds.slice_(place, **(none if n == 3 else one)) for n, place in enumerate(PLACES)]  # type: ignore[arg-type]
    assert verdict(split(ds.write(tmp_path, slices))) is Verdict.GOOD


def enhanced(attributes: Sequence[dict[str, object]], places: np.ndarray = PLACES) -> Dataset:
    """A multi-frame object with a frame at each place for each set of attributes, given by their path."""
    base = ds.slice_((0, 0, 0), rows=4, columns=4)
    frames = []
    for given_ in attributes:
        for place in places:
            item, position = Dataset(), Dataset()
            position.ImagePositionPatient = place.tolist()
            item.PlanePositionSequence = Items([position])
            for path, value in given_.items():
                sequence, name = path.split(".")
                group = Dataset()
                setattr(group, name, value)
                setattr(item, sequence, Items([group]))
            frames.append(item)
    order = np.random.default_rng(0).permutation(len(frames))
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [1, 1], 3
    orientation.ImageOrientationPatient = list(ds.AXIAL)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([orientation])
    base.SharedFunctionalGroupsSequence = Items([shared])
    base.PerFrameFunctionalGroupsSequence = Items([frames[index] for index in order])
    base.NumberOfFrames, base.PixelData = len(frames), b"\0" * (32 * len(frames))
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(base, name)
    return base


@pytest.mark.parametrize(
    ("path", "values", "names"),
    [
        ("FrameContentSequence.StackID", ["1", "2"], ["stack 1", "stack 2"]),
        ("FrameContentSequence.TemporalPositionIndex", [1, 2], ["time point 1", "time point 2"]),
        ("MREchoSequence.EffectiveEchoTime", [2.5, 5.0], ["echo 1, 2.5 ms", "echo 2, 5 ms"]),
        ("MRDiffusionSequence.DiffusionBValue", [0.0, 800.0], ["b = 0", "b = 800"]),
        (
            "MRImageFrameTypeSequence.FrameType",
            [["ORIGINAL", "PRIMARY", "ASL", "NONE"], ["DERIVED", "PRIMARY", "ASL", "NONE"]],
            ["DERIVED", "ORIGINAL"],
        ),
    ],
)
def test_volumes_of_one_enhanced_object(tmp_path: Path, path: str, values: list[object], names: list[str]) -> None:
    found = split(ds.write(tmp_path, [enhanced([{path: value} for value in values])]))
    assert [stack.name for stack in found.stacks] == names
    for stack in found.stacks:
        assert len({frame.position for frame in stack.frames}) == len(stack.frames) == 6


def frame(z: float, number: int, **marks: float) -> Frame:
    instance = Instance(Path(f"{number}.dcm"), "1", f"1.{number}")
    return Frame(instance, (0.0, 0.0, z), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0), (8, 8), 1.0, 0.0, 3.0, marks)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(2, 7), st.floats(0.5, 8), st.randoms(use_true_random=False))
def test_dividing_loses_and_doubles_nothing(count: int, places: int, step: float, random: object) -> None:
    """Whatever the order, each part has every place once, and all parts together every frame."""
    numbered = [(phase, n) for phase in range(count) for n in range(places)]
    frames = [frame(n * step, phase * places + n, acquisition=float(phase)) for phase, n in numbered]
    random.shuffle(frames)  # type: ignore[attr-defined]
    _, parts = divide(frames)
    assert len(parts) == count
    assert sorted(one.instance.path.name for _, members in parts for one in members) == sorted(
        one.instance.path.name for one in frames
    )
    for _, members in parts:
        assert len({one.position for one in members}) == len(members) == places
        assert len({one.marks["acquisition"] for one in members}) == 1
