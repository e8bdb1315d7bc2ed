"""Quality control without truth: what stands out, in words; how well it tells; and where it is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import plausibility
from benchmarks.plausibility import Patient
from medseg import quality, traits
from medseg.case import Case
from medseg.engine import plausible
from medseg.engine.batch import predict_all
from medseg.engine.predict import Predictor
from medseg.engine.run import Run, export
from medseg.labels import LabelTable
from medseg.outputs import dicom_page, dicom_seg, dicom_sr, statistics_json
from medseg.prediction import Prediction, Quality
from medseg.quality import Reference
from medseg.usual import CERTAINTY, DISAGREEMENT
from medseg.volume import Volume
from tests import judges, tiny
from tests.contracts import test_outputs as contracts

TABLE = LabelTable.of({"liver": 1, "spleen": 2, "spine": 3})
SHAPE, MM = (44, 40, 36), 4.0
AFFINE = np.diag([MM, MM, MM, 1.0])
ORGANS = {
    1: ((0.66, 0.6, 0.55), (8, 7, 6), 60),
    2: ((0.28, 0.5, 0.6), (4, 5, 5), 100),
    3: ((0.5, 0.2, 0.5), (3, 4, 14), 250),
}


def body(seed: int) -> Patient:
    """Three ellipsoids whose sizes and places differ from patient to patient."""
    draws = np.random.default_rng(seed)
    index, scale = np.indices(SHAPE), draws.normal(1, 0.06)
    target, image = np.zeros(SHAPE, np.uint8), draws.normal(0, 20, SHAPE)
    for number, (place, radii, value) in ORGANS.items():
        centre = np.array(place) * SHAPE + draws.normal(0, 1, 3)
        size = np.array(radii) * scale * draws.normal(1, 0.05, 3)
        there = (((index - centre[:, None, None, None]) / size[:, None, None, None]) ** 2).sum(0) < 1
        target[there] = number
        image[there] += value + draws.normal(0, 8)
    return Patient(f"p{seed}", Volume(image[None].astype(np.float32), AFFINE), target[None])


@pytest.fixture(scope="module")
def reference() -> Reference:
    return plausibility.learned([body(seed) for seed in range(20)], TABLE)


def told(reference: Reference, target: np.ndarray, patient: Patient) -> Quality:
    return quality.judge(traits.measure(target, TABLE, patient.scan), reference, TABLE.names)


def test_poor_segmentations_are_told_from_good_ones(reference: Reference) -> None:
    """The goal is 0.8, by patients that nothing was learned from and corruptions that nothing was tuned on."""
    cases = plausibility.judged(reference, [body(seed) for seed in range(100, 110)], TABLE)
    poor = [case for case in cases if case.dice < plausibility.POOR]
    assert len(poor) >= 60 and len(cases) - len(poor) >= 80
    value, low, _ = plausibility.power(cases, draws=200)
    assert value >= 0.9 and low >= 0.85
    good = [case for case in cases if case.kind == plausibility.GOOD]
    assert sum(case.verdict == "pass" for case in good) >= 0.85 * len(good)
    assert sum(case.verdict != "pass" for case in poor) >= 0.8 * len(poor)


def test_reasons_are_said_in_words(reference: Reference) -> None:
    patient = body(7)
    assert told(reference, patient.truth, patient) == Quality("pass", pytest.approx(0, abs=0.3))
    truth = patient.truth[0]
    small = np.where((truth == 1) & (np.indices(SHAPE)[0] > 26), 0, truth)[None]
    found = told(reference, small, patient)
    assert found.verdict == "fail"
    usual = reference.labels["liver"].ranges["volume"]
    assert any(
        one.startswith("liver: ") and one.endswith(f" ml, training cases {usual.low:.0f} to {usual.high:.0f}")
        for one in found.reasons
    )
    pieces = truth.copy()
    pieces[2:5, 2:5, 2:5] = pieces[2:5, 30:34, 30:34] = 2
    assert "spleen: 3 pieces, training cases 1" in told(reference, pieces[None], patient).reasons
    edge = truth.copy()
    edge[20:26, 20:26, 30:] = 1
    assert "liver touches the upper edge of the field of view" in told(reference, edge[None], patient).reasons
    gone = np.where(truth == 2, 0, truth)[None]
    assert told(reference, gone, patient).reasons[0] == "no spleen found, which 20 of 20 training cases have"
    other = replace(patient, scan=patient.scan.with_array(patient.scan.array * 0.5 - 790))
    reasons = told(reference, patient.truth, other).reasons
    assert any(one.startswith("intensities unlike the training scans: ") and "training cases" in one for one in reasons)
    swapped = np.array([0, 2, 1, 3], np.uint8)[truth][None]
    assert any(
        "off its place among the labels (left-right)" in one for one in told(reference, swapped, patient).reasons
    )


def test_a_scan_stored_otherwise_has_the_same_traits() -> None:
    patient = body(3)
    plain = traits.measure(patient.truth, TABLE, patient.scan)
    shift = np.eye(4)
    shift[0, 3] = SHAPE[0] - 1
    turned = AFFINE @ shift @ np.diag([-1, 1, 1, 1])
    scan = Volume(patient.scan.array[:, ::-1].transpose(0, 3, 1, 2), turned[:, [2, 0, 1, 3]])
    found = traits.measure(patient.truth[:, ::-1].transpose(0, 3, 1, 2), TABLE, scan)
    assert found.keys() == plain.keys()
    for name in plain:
        assert found[name] == pytest.approx(plain[name])


def test_traits_are_those_of_the_masks() -> None:
    """Independently, in the scan's own voxels; they are 4 mm, so that none is left out."""
    patient = body(5)
    found = traits.measure(patient.truth, TABLE, patient.scan)
    for name, number in (("liver", 1), ("spine", 3)):
        where = np.argwhere(patient.truth[0] == number)
        assert found[name]["volume"] == pytest.approx(len(where) * 0.064)
        assert found[name]["y"] == pytest.approx((where[:, 1].mean() + 0.5) * MM)
        assert found[name]["part z"] == pytest.approx((where[:, 2].mean() + 0.5) / SHAPE[2])
        assert found[name]["length x"] == (np.ptp(where[:, 0]) + 1) * MM
        assert found[name]["median 0"] == pytest.approx(np.median(patient.scan.array[0][patient.truth[0] == number]))
        assert found[name]["pieces"] == found[name]["largest"] == 1


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(1, 14)] * 3),
    st.floats(0, 1),
    st.sampled_from([TABLE, replace(TABLE, exclusive=False)]),
    st.integers(0, 2**32 - 1),
)
def test_whatever_a_network_says_is_judged(
    reference: Reference, shape: tuple[int, int, int], share: float, table: LabelTable, seed: int
) -> None:
    """Specks, nothing, everything, a single voxel."""
    draws = np.random.default_rng(seed)
    there = draws.random((1 if table.exclusive else 3, *shape)) < share
    target = np.where(there, draws.integers(1, 4 if table.exclusive else 2, there.shape), 0).astype(np.uint8)
    scan = Volume(draws.normal(size=(1, *shape)).astype(np.float32), AFFINE)
    found = quality.judge(traits.measure(target, table, scan), reference, table.names)
    assert found.verdict in ("pass", "look", "fail") and found.score is not None and 0 <= found.score <= 1


def test_of_mere_specks_no_piece_counts() -> None:
    target = np.zeros((1, 60, 60, 60), np.uint8)
    target[0, ::4, ::4, ::4] = 1
    scan = Volume(np.zeros((1, 60, 60, 60), np.float32), np.diag([3.0, 3, 3, 1]))
    found = traits.measure(target, TABLE, scan)["liver"]
    assert (found["pieces"], found["length x"]) == (0, 57 * 3)


def test_regions_that_overlap_have_traits_each() -> None:
    table = LabelTable.of({"whole": [1, 2], "core": [2]})
    patient = body(1)
    target = table.encode(patient.truth[0])
    found = traits.measure(target, table, patient.scan)
    assert found["whole"]["volume"] == pytest.approx(0.064 * target[0].sum()) and found["whole"]["pieces"] == 2
    assert found["core"]["volume"] == pytest.approx(0.064 * target[1].sum())


@given(scale=st.floats(0.05, 20), more=st.floats(1.05, 3))
@settings(max_examples=30, deadline=None)
def test_what_is_further_away_is_never_less_suspicious(reference: Reference, scale: float, more: float) -> None:
    plain = traits.measure(body(2).truth, TABLE, body(2).scan)

    def score(factor: float) -> float:
        liver = plain["liver"] | {"volume": plain["liver"]["volume"] * factor}
        return quality.judge({**plain, "liver": liver}, reference, TABLE.names).score or 0.0

    further = scale * more if scale > 1 else scale / more
    assert 0 <= score(scale) <= score(further) <= 1


def test_few_cases_are_said_to_be_few() -> None:
    few = plausibility.learned([body(seed) for seed in range(4)], TABLE)
    found = told(few, body(9).truth, body(9))
    assert (found.verdict, found.score) == ("look", None) and found.reasons == (
        "too few training cases to judge by: 4",
    )
    rare = [body(seed) for seed in range(12)]
    rare = [
        replace(one, truth=np.where(one.truth == 2, 0 if seed > 2 else 2, one.truth)) for seed, one in enumerate(rare)
    ]
    found = told(plausibility.learned(rare, TABLE), body(9).truth, body(9))
    assert found.verdict == "pass" and found.reasons[-1] == "not judged, for too few training cases have it: spleen"


def test_doubt_of_the_network_counts_once_validation_cases_were_seen(reference: Reference) -> None:
    plain = traits.measure(body(2).truth, TABLE, body(2).scan)

    def with_certainty(value: float) -> dict[str, dict[str, float]]:
        return {**plain, "liver": plain["liver"] | {CERTAINTY: value}}

    dice = dict.fromkeys(TABLE.names, 0.9)
    known = [plausible.Known(with_certainty(value), dice) for value in (0.7, 0.72, 0.73, 0.75, 0.76, 0.74)]
    known.append(plausible.Known(with_certainty(0.2), dice | {"liver": 0.3}))
    settled = plausible.settled(reference, known)
    assert settled.validated == 7 and settled.labels["liver"].ranges[CERTAINTY].low == 0.7, "the poor one is no model"
    assert quality.judge(with_certainty(0.74), settled, TABLE.names).verdict == "pass"
    assert quality.judge(with_certainty(0.999), settled, TABLE.names).verdict == "pass", "more is no worse"
    doubted = quality.judge(with_certainty(0.3), settled, TABLE.names)
    assert doubted.verdict == "fail"
    assert doubted.reasons[0] == "liver: 0.3 is the Dice that its probabilities promise, validation cases 0.7 to 0.76"
    assert quality.judge(with_certainty(0.3), reference, TABLE.names).verdict == "pass", "nothing to compare with"


def test_disagreement_counts_where_it_was_kept(reference: Reference) -> None:
    patient = body(2)
    own = np.where(patient.truth == 1, 0.3, 0.04).astype(np.float32)
    found = traits.measure(patient.truth, TABLE, patient.scan, {DISAGREEMENT: own})
    assert found["liver"][DISAGREEMENT] == pytest.approx(0.3) and found["spine"][DISAGREEMENT] == pytest.approx(0.04)
    good = {"liver": [found["liver"]] * 6}
    known = quality.widened(reference, good)
    assert quality.judge(found, known, ("liver",)).verdict == "pass"
    less = {**found, "liver": found["liver"] | {DISAGREEMENT: 0.0}}
    assert quality.judge(less, known, ("liver",)).score == 0
    more = {**found, "liver": found["liver"] | {DISAGREEMENT: 0.6}}
    assert quality.judge(more, known, ("liver",)).reasons == (
        "liver: 0.6 is how far folds and mirrored passes disagree, validation cases 0.3",
    )


def test_the_promised_dice_is_what_probabilities_say(tmp_path: Path) -> None:
    """Against a sum over all even places of the grid, which is the scan's; cut into blocks, it is the same."""
    predictor = Predictor.load([tiny.untrained_run(tmp_path / "run").folder], device="cpu")
    scan = Volume(np.random.default_rng(3).normal(0, 1, (1, *tiny.SHAPE)).astype(np.float32), tiny.AFFINE)
    given_: list[list[float]] = []
    judged = plausible.judged

    def spy(made: Prediction, reference: Reference, certainty: list[float], wanted: object) -> Prediction:
        given_.append(certainty)
        return judged(made, reference, certainty, ())

    reference = plausibility.learned([body(seed) for seed in range(6)], TABLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plausible, "judged", spy)
        found = replace(predictor, reference=reference).predict_volume(scan, "a", probabilities=True)
    assert found.probabilities is not None
    canonical = np.flip(found.probabilities, 1)[:, ::2, ::2, ::2], np.flip(found.target.array, 1)[0, ::2, ::2, ::2]
    expected = [
        2 * p[canonical[1] == n].sum() / ((canonical[1] == n).sum() + p.sum()) for n, p in enumerate(canonical[0], 1)
    ]
    assert given_[0] == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def judging(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that can judge, by cases unlike anything that an untrained network says."""
    labels: dict[str, int | list[int]] = {"liver": 1, "spleen": 2, "spine": 3}
    run = tiny.untrained_run(tmp_path_factory.mktemp("judging") / "run", labels=labels, spacing=(MM, MM, MM))
    learned = plausibility.learned([body(seed) for seed in range(8)], TABLE)
    run.write("quality.json", learned.model_dump(mode="json"))
    return run


def test_every_case_is_judged_and_it_is_said_everywhere(judging: Run, tmp_path: Path) -> None:
    predictor, said = Predictor.load([judging.folder], device="cpu"), []
    path = tiny.nifti(tmp_path / "a.nii.gz", body(1).scan.array[0][:20, :20, :20], AFFINE)
    formats = ["nifti", "statistics_json"]
    [done] = predict_all(
        predictor, [Case("a", "a", {"image": path})], tmp_path / "out", formats=formats, announce=said.append
    )
    assert done.state == "done", done.reason
    [case] = json.loads((tmp_path / "out" / "predict.json").read_text())["cases"]
    case = case["facts"]
    assert case["quality"]["verdict"] in ("look", "fail") and case["quality"]["reasons"]
    assert 0 < case["quality"]["score"] <= 1
    table = json.loads((tmp_path / "out" / "a.statistics.json").read_text())
    assert table["quality"] == case["quality"]
    assert f"a: {case['quality']['verdict']}: {'; '.join(case['quality']['reasons'])}" in said
    words = tiny.medseg_command("predict", judging.folder, path, tmp_path / "more", "--device", "cpu", "--threads", "1")
    assert words.code == 0 and "quality control without truth: 0 pass, " in words.out


def test_what_was_cut_to_a_box_is_not_judged(judging: Run) -> None:
    predictor = Predictor.load([judging.folder], device="cpu")
    scan = Volume(body(1).scan.array[:, :20, :20, :20], AFFINE)
    assert predictor.predict_volume(scan, "a", roi="0:10,:,:").quality is None
    assert predictor.predict_volume(scan, "a").quality is not None
    photograph = replace(scan, unit="px")
    assert plausible.judged(Prediction("a", TABLE, scan, scan=photograph), predictor.reference, [], ()).quality is None


def test_labels_that_nobody_asked_for_are_not_missed(judging: Run) -> None:
    predictor = Predictor.load([judging.folder], device="cpu", labels=["liver"])
    found = predictor.predict_volume(Volume(body(1).scan.array[:, :20, :20, :20], AFFINE), "a")
    assert found.quality is not None
    assert not any("spleen" in reason or "spine" in reason for reason in found.quality.reasons)


def test_it_goes_with_an_export(judging: Run, tmp_path: Path) -> None:
    export(judging, tmp_path / "model.zip")
    assert Predictor.load([tmp_path / "model.zip"], device="cpu").reference == plausible.of_run(judging)


def test_training_leaves_what_its_cases_are_like(tmp_path: Path) -> None:
    from medseg import config
    from medseg.engine import material

    recipe = config.load(tiny.recipe(tmp_path / "r.yaml", tiny.data_set(tmp_path / "data")))
    (tmp_path / "run").mkdir()
    material.assemble(recipe, tmp_path / "run", announce=lambda text: None)
    found = plausible.of_run(Run(tmp_path / "run"))
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert found is not None and found.cases == len(split["folds"][0]["train"]) and found.unit == "mm"
    assert not any(case in (tmp_path / "run" / "quality.json").read_text() for case in tiny.CASES)


BAD = Quality("fail", 0.98, ("liver: 310 ml, training cases 900 to 2,300", "spleen touches the upper edge"))


def test_dicom_objects_say_it(tmp_path: Path) -> None:
    import highdicom as hd

    volume = contracts.scan(tmp_path)
    made = replace(contracts.prediction(volume, contracts.LABELS), quality=BAD, scan=volume)
    dicom_seg.write(made, tmp_path / "a.seg.dcm", dicom_seg.Options())
    written = pydicom.dcmread(tmp_path / "a.seg.dcm")
    assert written.ContentDescription == "quality control: fail"
    parameters = written.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
    assert f"quality control: {BAD.sentence()}" in parameters
    dicom_sr.write(made, tmp_path / "a.sr.dcm", dicom_sr.Options())
    groups = hd.sr.srread(tmp_path / "a.sr.dcm").content.get_image_measurement_groups()
    [control] = [group for group in groups if group.tracking_identifier == "case-1 quality control"]
    [verdict] = control.get_qualitative_evaluations()
    assert verdict.value.value == "FAIL"
    comments = [item.TextValue for item in control[0].ContentSequence if item.ValueType == "TEXT"]
    assert [one for one in comments if one in BAD.reasons] == list(BAD.reasons)
    assert ("Quality control", BAD.sentence()) in dicom_page._facts(made, written)
    statistics_json.write(made, tmp_path / "a.json", statistics_json.Options())
    assert json.loads((tmp_path / "a.json").read_text())["quality"] == BAD.to_json()
    plain = replace(made, quality=None)
    dicom_seg.write(plain, tmp_path / "b.seg.dcm", dicom_seg.Options())
    assert not pydicom.dcmread(tmp_path / "b.seg.dcm").get("ContentDescription")


@pytest.mark.parametrize("mark", [pytest.param("", marks=judges.needs("dciodvfy"))])
def test_the_validator_finds_no_error_in_them(tmp_path: Path, mark: str) -> None:
    volume = contracts.scan(tmp_path)
    made = replace(contracts.prediction(volume, contracts.LABELS), quality=BAD, scan=volume)
    for output, name in ((dicom_seg, "a.seg.dcm"), (dicom_sr, "a.sr.dcm"), (dicom_page, "a.page.dcm")):
        output.write(made, tmp_path / name, output.Options())
        assert judges.dciodvfy(tmp_path / name) == [], name
