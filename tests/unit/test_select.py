"""Rules that choose a series: the right one of a dozen or none, with the reason, whatever the order of the files; and
never another one because a header says less."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pydicom
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some
from pydantic import ValidationError
from pydicom.dataset import Dataset

from medseg import config, readers
from medseg.dicom import select, signature, study, sweep, vocabulary
from medseg.dicom.facts import Facts
from medseg.dicom.settings import DicomSettings, SeriesRules
from medseg.refusal import Refusal
from tests import dicom_series as ds
from tests import dicom_sources, dicom_study, tiny

RULES = {
    "liver, portal venous": """
        must: {modality: CT, body_part: abdomen, plane: axial, phase: portal venous, slices: [5, null]}
        must_not: [{kernel: Br6}, {description: lung|lunge}]
        prefer: [{spacing_mm: [0, 2]}, {contrast: yes, score: 0.5}]""",
    "lung": """
        must: {modality: CT, body_part: chest, plane: axial}
        prefer: [{kernel: Br6|lung|B70, score: 2}, {spacing_mm: [0, 1.5]}]""",
    "native": """
        must: {modality: CT, body_part: abdomen, plane: axial, contrast: no}
        prefer: [{phase: native, score: 2}]
        ties: [more slices]""",
    "arterial": "{must: {modality: [CT, MR], phase: arterial}}",
    "thick portal": "{must: {modality: CT, phase: portal venous, spacing_mm: [4, 6]}}",
    "coronal": "{must: {modality: CT, plane: coronal}, allow: [reformatted]}",
    "pet": "{must: {modality: PT, body_part: abdomen}}",
    "T1 with contrast": r"""
        must: {modality: MR, body_part: head, description: \bt1|_t1, contrast: yes, plane: axial}""",
    "T1 without": "{must: {modality: MR, description: t1, contrast: no}, prefer: [{plane: axial}]}",
    "T1 sagittal": "{must: {modality: MR, description: t1, plane: sagittal}}",
    "FLAIR": "{must: {modality: MR, study: sch.del, description: flair}}",
    "T2": "{must: {modality: MR, protocol: t2}, must_not: [{description: flair|swi}]}",
    "b 1000": r"{must: {description: 'diff.*b_?1000\b', image_type: [diffusion]}}",
    "ADC": "{must: {modality: MR, image_type: [DIFFUSION, ADC]}}",
}
EXPECTED = {
    "liver, portal venous": ("portal thin", None),
    "lung": ("lung", None),
    "native": ("native thin", None),
    "arterial": ("arterial", None),
    "thick portal": ("portal thick", None),
    "coronal": ("portal coronal", None),
    "pet": ("pet", None),
    "T1 with contrast": (None, "t1c"),
    "T1 without": (None, "t1 axial"),
    "T1 sagittal": (None, "t1"),
    "FLAIR": (None, "flair"),
    "T2": (None, "t2"),
    "b 1000": (None, "b1000"),
    "ADC": (None, "adc"),
}
"""In the CT study, in the MR study."""
TEXTS = ("description", "protocol", "study", "body_part", "agent", "acquired", "number", "delay_s")


def rules(text: str) -> SeriesRules:
    return SeriesRules.model_validate(yaml.safe_load(text))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The CT study, and the MR study with its files shuffled in one folder."""
    root = tmp_path_factory.mktemp("studies")
    mr = dicom_study.write(root / "mr", dicom_study.head(), shuffled=1)
    return dicom_study.write(root / "ct", dicom_study.abdomen()), mr


@pytest.fixture(scope="module")
def studies(folders: tuple[Path, Path]) -> tuple[list[Facts], list[Facts]]:
    ct, mr = (next(iter(survey(folder).values())) for folder in folders)
    return ct, mr


def survey(folder: Path) -> dict[str, list[Facts]]:
    return study.by_study(sweep.look(list(signature.files(folder)), workers=1))  # type: ignore[arg-type]


@cache
def names(patient: str) -> dict[str, str]:
    made_up = dicom_study.abdomen() if patient == "P1" else dicom_study.head()
    return {made[0].SeriesInstanceUID: name for name, made in made_up.items()}


def name_of(facts: Facts) -> str:
    """What tests/dicom_study.py calls a series."""
    return names(facts.patient_id)[facts.uid]


def taken(text: str, found: Sequence[Facts]) -> str | None:
    chosen = select.choose(rules(text), found).taken
    return name_of(chosen[0].facts) if chosen else None


@pytest.mark.parametrize("recipe", RULES)
def test_the_right_series_or_none(recipe: str, studies: tuple[list[Facts], list[Facts]]) -> None:
    assert tuple(taken(RULES[recipe], found) for found in studies) == EXPECTED[recipe]
    for found in studies:
        choice = select.choose(rules(RULES[recipe]), found)
        assert len(choice.verdicts) == len(found) and all(verdict.reason for verdict in choice.verdicts)


def test_reasons_are_in_words(studies: tuple[list[Facts], list[Facts]]) -> None:
    ct, mr = studies
    choice = select.choose(rules(RULES["liver, portal venous"]), ct)
    assert choice.because == (
        "series 6 'Abdomen portalvenös 1.0' (CT, 40 slices), chosen by the rules from 13 series, of which 2 fit: "
        "modality CT, body part 'ABDOMEN', plane axial, slices 40, phase portal venous, by 'portal'; "
        "score 1.5 (spacing 1 mm +1; contrast yes, 'portal' +0.5); "
        "next series 5 'Abdomen portalvenös 5.0' (CT, 8 slices) with score 0.5"
    )
    reasons = {name_of(verdict.facts): verdict.reason for verdict in choice.verdicts}
    assert reasons["localiser"] == (
        "localiser, by image type LOCALIZER; slices 2 (needed 5 to any); phase not stated (needed 'portal venous')"
    )
    assert reasons["native thin"] == "phase native, by 'nativ' (needed 'portal venous')"
    assert reasons["lung"] == "body part 'CHEST', 'Thorax 1.0 Br64' (needed 'abdomen'); kernel 'Br64f' (must not be)"
    assert reasons["portal coronal"] == "reformatted, by image type MPR; plane coronal (needed 'axial')"
    assert reasons["mip"].startswith("projection, by image type MIP")
    assert reasons["dose"] == "no scan: colour pixels"
    assert reasons["seg"] == "no scan: segmentation"
    assert reasons["rtstruct"] == "no scan: object without pixels"
    assert reasons["pet"].startswith("modality PT (needed CT)")
    assert "none of 12 series that fits the rules" in select.choose(rules(RULES["pet"]), mr).because


@given(order=some.permutations(range(13)), recipe=some.sampled_from(sorted(RULES)))
def test_the_order_does_not_matter(studies: tuple[list[Facts], list[Facts]], order: list[int], recipe: str) -> None:
    for found in studies:
        moved = [found[index] for index in order if index < len(found)]
        assert select.choose(rules(RULES[recipe]), moved) == select.choose(rules(RULES[recipe]), found)


@given(some.dictionaries(some.sampled_from(range(13)), some.sets(some.sampled_from(TEXTS), min_size=1)))
def test_a_header_that_says_less_never_passes_for_another_phase_or_part(
    studies: tuple[list[Facts], list[Facts]], missing: dict[int, set[str]]
) -> None:
    ct = studies[0]
    less = [
        replace(facts, **{name: None if name == "delay_s" else "" for name in missing.get(place, ())})
        for place, facts in enumerate(ct)
    ]
    assert taken(RULES["liver, portal venous"], less) in ("portal thin", "portal thick", None)


def test_attributes_that_are_missing_everywhere(studies: tuple[list[Facts], list[Facts]]) -> None:
    ct, mr = studies
    bare = [replace(facts, description="", protocol="") for facts in ct]
    # the times since the injection tell the phase, the body part and the kernel keep the lung out
    assert taken(RULES["liver, portal venous"], bare) == "portal thin"
    assert taken(RULES["arterial"], bare) == "arterial"
    assert taken(RULES["native"], bare) == "native thin"  # no agent is stated; 40 slices against 8
    timeless = [replace(facts, delay_s=None) for facts in bare]
    assert taken(RULES["liver, portal venous"], timeless) is None
    assert taken(RULES["FLAIR"], [replace(facts, description="") for facts in mr]) == "flair"  # by the protocol
    assert taken(RULES["FLAIR"], [replace(facts, study="") for facts in mr]) is None
    unplaced = [replace(facts, unfit="no ImagePositionPatient") for facts in ct]
    assert select.choose(rules("{}"), unplaced).because == "none of 13 series that fits the rules"


def facts(**changes: object) -> Facts:
    usual = {
        "uid": "1",
        "study_uid": "s",
        "patient_id": "p",
        "number": "1",
        "modality": "CT",
        "slices": 10,
        "images": 10,
    }
    return Facts(**{**usual, "spacing_mm": 1.0, "plane": "axial", "description": "Abdomen", **changes})  # type: ignore[arg-type]


def test_a_tie_is_refused_unless_something_decides() -> None:
    thin = facts(uid="1", slices=40, spacing_mm=1.0, acquired="20260101100000")
    thick = facts(uid="2", number="2", slices=10, spacing_mm=4.0, acquired="20260101090000")
    assert "2 series that fit the rules equally well" in select.choose(SeriesRules(), [thin, thick]).because
    for tie, expected in (("more slices", "1"), ("thinner", "1"), ("earlier", "2"), ("later", "1")):
        choice = select.choose(SeriesRules(ties=(tie,)), [thick, thin])
        assert choice.taken and choice.taken[0].facts.uid == expected
        assert f"nothing is asked, {tie} than 1 of the same score" in choice.because
    undated = replace(thick, acquired="")
    assert select.choose(SeriesRules(ties=("earlier",)), [thin, undated]).taken == ()
    second = select.choose(SeriesRules(ties=("earlier", "thinner")), [thin, undated])
    assert second.taken and second.taken[0].facts.uid == "1"
    twice = select.choose(SeriesRules(ties=("more slices",)), [thin, replace(thin, uid="3")])
    assert twice.taken == ()


@pytest.mark.parametrize(("attribute", "words"), [("patient_id", "2 patients"), ("study_uid", "2 studies")])
def test_series_of_two_patients_are_never_weighed_against_each_other(attribute: str, words: str) -> None:
    one, other = facts(), replace(facts(uid="2", spacing_mm=5.0), **{attribute: "x"})
    choice = select.choose(rules("prefer: [{spacing_mm: [0, 2]}]"), [one, other])
    assert choice.taken == () and words in choice.because
    only_one_fits = select.choose(rules("must: {spacing_mm: [0, 2]}"), [one, other])
    assert only_one_fits.taken and only_one_fits.taken[0].facts == one


def test_scores_add_up_and_may_be_negative() -> None:
    verdict = select.judge(
        rules("prefer: [{modality: CT, score: 2}, {slices: [5, 20], plane: axial}, {body_part: abdomen, score: -4}]"),
        facts(),
    )
    assert verdict.score == -1
    assert verdict.reason == "score -1 (modality CT +2; plane axial, slices 10 +1; body part 'Abdomen' -4)"


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("{modality: [mr, ct]}", True),
        ("{slices: [10, 10]}", True),
        ("{slices: [11, null]}", False),
        ("{slices: [null, 9]}", False),
        ("{spacing_mm: [0.5, 1]}", True),
        ("{spacing_mm: [1.1, 2]}", False),
        ("{description: ^abd}", True),
        ("{kernel: .}", False),
        ("{image_type: [ORIGINAL]}", False),
        ("{body_part: ABDOMEN}", True),
        ("{body_part: 'abd.m'}", True),
        ("{body_part: chest}", False),
    ],
)
def test_conditions(condition: str, holds: bool) -> None:
    assert select.judge(rules(f"must: {condition}"), facts()).fits == holds


@pytest.mark.parametrize(
    ("text", "phase", "contrast"),
    [
        ("Abdomen nativ 3.0", "native", False),
        ("CT ABD W/O CONTRAST", "native", False),
        ("sans injection", "native", False),
        ("Leber arteriell", "arterial", True),
        ("late arterial", "arterial", True),
        ("Spät-arteriell", "arterial", True),
        ("ABD_PORTAL_VENOUS", "portal venous", True),
        ("temps veineux", "portal venous", True),
        ("Abdomen venös", "portal venous", True),
        ("Leber Spätphase", "delayed", True),
        ("delayed 10 min", "delayed", True),
        ("tardif", "delayed", True),
        ("lateral", "", None),
        ("with intravenous contrast", "", True),
        ("art + ven", "", None),  # two phases in one series
        ("T1 C+", "", True),
        ("t1_tse_KM", "", True),
        ("start", "", None),
        ("Abdomen post OP", "", None),
        ("Thorax pre-op", "", None),
        ("MRT post-op KM", "", True),
        ("AX T1 POST", "", True),
        ("T1 post FS", "", True),
        ("AX T1 PRE", "native", False),
        ("injury", "", None),
        ("Alternativrekonstruktion", "", None),
    ],
)
def test_words_for_phases(text: str, phase: str, contrast: bool | None) -> None:
    assert vocabulary.phase(vocabulary.plain(text), None)[0] == phase
    assert vocabulary.contrast(vocabulary.plain(text), "", None)[0] == contrast


@pytest.mark.parametrize(
    ("delay_s", "phase"),
    [(10, ""), (15, "arterial"), (44.9, "arterial"), (45, "portal venous"), (110, ""), (150, "delayed"), (3600, "")],
)
def test_times_for_phases(delay_s: float, phase: str) -> None:
    assert vocabulary.phase("abdomen", delay_s)[0] == phase
    assert vocabulary.phase("abdomen arteriell", delay_s)[0] == "arterial"  # words go first
    assert vocabulary.phase("abdomen art ven", delay_s)[0] == ""  # and two of them are not settled by the time


def test_agents() -> None:
    assert vocabulary.contrast("abdomen", "Iomeron 400", None) == (True, "agent 'Iomeron 400'")
    for none in ("NONE", "no contrast", "ohne KM", "nativ", "n/a"):
        assert vocabulary.contrast("abdomen", none, None)[0] is False
    assert vocabulary.contrast("abdomen nativ", "Iomeron 400", None)[0] is False  # copied by the scanner
    assert vocabulary.contrast("abdomen", "", 70.0)[0] is True
    assert vocabulary.contrast("abdomen", "", 24 * 3600 - 60.0)[0] is None  # a minute before the injection


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("THORAX_ABDOMEN", {"chest", "abdomen"}),
        ("TAP", {"chest", "abdomen", "pelvis"}),
        ("Schädel", {"head"}),
        ("GALLBLADDER", {"abdomen"}),
        ("Harnblase", {"pelvis"}),
        ("Cœur", {"heart"}),
        ("LWS", {"spine"}),
        ("Ganzkörper", set(vocabulary.BODY_PARTS)),
        ("t1_tse", set()),
        ("Bestrahlungsplanung Becken", {"pelvis"}),
        ("Lungenkrebs", {"chest"}),
    ],
)
def test_words_for_body_parts(text: str, parts: set[str]) -> None:
    assert vocabulary.body_parts(vocabulary.plain(text)) == parts


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"description": "Topogramm"}, "localiser"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "localiser"),
        ({"description": "Abdomen MPR cor"}, "reformatted"),
        ({"description": "t1_mprage_sag"}, ""),
        ({"image_type": ("DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE")}, "reformatted"),
        ({"description": "MIP axial"}, "projection"),
        ({"image_type": ("DERIVED", "PRIMARY", "MINIP")}, "projection"),
        ({"description": "T1 SUB"}, "subtraction"),
        ({"description": "Dose Report"}, "capture"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7.4"}, "capture"),
        ({"image_type": ("DERIVED", "SECONDARY", "AXIAL")}, ""),
    ],
)
def test_kinds_that_are_passed_over(changes: dict[str, object], kind: str) -> None:
    assert select.kind_of(facts(**changes))[0] == kind
    assert select.judge(SeriesRules(), facts(**changes)).fits == (not kind)
    if kind:
        assert select.judge(SeriesRules(allow=(kind,)), facts(**changes)).fits  # type: ignore[arg-type]


def test_facts_of_irregular_files(tmp_path: Path) -> None:
    """Mixed planes, two phases in one series, a gap, an injection before midnight."""
    places = ds.places(6)
    mixed = [ds.slice_(places[0]), ds.slice_(places[0], orientation=dicom_study.CORONAL)]
    phases = [ds.slice_(place, series="1.2.3.5") for place in [*places, *places]]
    gap = [ds.slice_(place, series="1.2.3.6") for place in places[[0, 1, 2, 3, 5]]]
    late = {"ContrastBolusStartTime": "235930", "AcquisitionDate": "20260101", "AcquisitionTime": "000040.5"}
    night = [ds.slice_(place, series="1.2.3.7", **late) for place in places]
    ds.write(tmp_path, [*mixed, *phases, *gap, *night])
    studies = survey(tmp_path)
    by_uid = {facts.uid: facts for facts in studies[ds.STUDY]}
    assert by_uid["1.2.3.4"].plane == "mixed" and by_uid["1.2.3.4"].spacing_mm is None
    assert (by_uid["1.2.3.5"].slices, by_uid["1.2.3.5"].images) == (6, 12)
    assert by_uid["1.2.3.6"].spacing_mm == pytest.approx(3.0)
    assert by_uid["1.2.3.7"].delay_s == pytest.approx(70.5)


def diffusion(folder: Path) -> Path:
    """Three b-values in one series, and a T2."""
    kind = {"Modality": "MR", "SeriesDescription": "ep2d_diff", "SeriesNumber": 4}
    slices = [
        ds.slice_(place, number=n, DiffusionBValue=float(b), AcquisitionTime=f"1000{n:02}", **kind)
        for n, b in enumerate((0, 400, 1000))
        for place in ds.places(6)
    ]
    ds.series(folder / "t2", ds.places(8), series="1.2.3.9", Modality="MR", SeriesDescription="t2_tse", SeriesNumber=9)
    return ds.write(folder / "dwi", slices).parent


def test_volumes_of_one_series_are_told_apart(tmp_path: Path) -> None:
    folder = diffusion(tmp_path)
    one = readers.read(folder, dicom=DicomSettings(select=rules("must: {volume: b = 1000}")))
    assert len(one.array) == 1 and one.channels == ()
    assert one.source.notes["series_choice"].startswith(
        "series 4/3 'ep2d_diff', b = 1000 (MR, 6 slices), chosen by the"
    )
    assert pydicom.dcmread(one.source.instances[0].path).DiffusionBValue == 1000
    every = readers.read(folder, dicom=DicomSettings(select=rules("must: {description: diff}")))
    assert every.channels == ("b = 0", "b = 400", "b = 1000")  # equally good, of one series
    two = readers.read(
        folder, dicom=DicomSettings(select=rules("{must: {volume: b = .*0$}, must_not: [{volume: 400}]}"))
    )
    assert two.channels == ("b = 0", "b = 1000")
    later = rules("{must: {modality: MR, slices: [6, 6]}, prefer: [{volume: b = 400}]}")
    assert (
        readers.read(folder, dicom=DicomSettings(select=later)).source.notes["series_choice"].startswith("series 4/2 ")
    )
    alone = tmp_path / "dwi"
    only = readers.read(alone, dicom=DicomSettings(select=rules("must: {volume: b = 400}")))
    assert len(only.array) == 1 and "series 4/2" in only.source.notes["series_choice"]
    part = readers.read(folder, series="/2", dicom=DicomSettings(select=rules("must: {description: diff}")))
    assert pydicom.dcmread(part.source.instances[0].path).DiffusionBValue == 400
    with pytest.raises(Refusal, match=r"none of 1 series \(3 volumes\) that fits the rules"):
        readers.read(alone, dicom=DicomSettings(select=rules("must: {volume: b = 800}")))
    with pytest.raises(Refusal, match="2 series that fit the rules equally well"):
        readers.read(folder, dicom=DicomSettings(select=rules("{}")))


def test_the_reader_follows_the_rules_and_says_why(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    settings = DicomSettings(select=rules(RULES["liver, portal venous"]))
    with caplog.at_level(logging.INFO, logger="medseg"):
        volume = readers.read(folders[0], dicom=settings)
    assert volume.source.notes["series_number"] == "6" and volume.shape == (4, 4, 40)
    assert volume.source.notes["series_choice"].startswith("series 6 'Abdomen portalvenös 1.0' (CT, 40 slices), chosen")
    assert "chosen by the rules from 13 series, of which 2 fit" in caplog.text
    named = readers.read(folders[0], series="arteriell", dicom=settings)  # naming one goes before the rules
    assert named.source.notes["series_number"] == "4" and named.source.notes["series_choice"] == ""
    with pytest.raises(Refusal) as refused:
        readers.read(folders[1], dicom=settings)
    for words in (
        "none of 12 series that fits the rules",
        "series 3 't2_flair_tra_3mm' (MR, 30 slices): modality MR",
        "--series",
    ):
        assert words in str(refused.value)
    assert str(refused.value).count("\n  series ") == 12
    with pytest.raises(Refusal, match="10 series"):
        readers.read(folders[0])  # without rules


def test_the_only_scan_is_read_if_its_header_is_silent_but_not_if_it_says_otherwise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = dicom_study.abdomen()
    dicom_study.write(tmp_path / "native", {name: whole[name] for name in ("native thin", "seg", "rtstruct")})
    portal = DicomSettings(select=rules(RULES["liver, portal venous"]))
    with pytest.raises(Refusal, match=r"none of 3 series that fits the rules:\n  series 3 .*phase native, by 'nativ'"):
        readers.read(tmp_path / "native", dicom=portal)
    fitting = readers.read(tmp_path / "native", dicom=DicomSettings(select=rules(RULES["native"])))
    assert fitting.source.notes["series_choice"] == ""
    for kind in ("localiser", "mip", "portal coronal", "pet"):
        dicom_study.write(tmp_path / kind, {kind: whole[kind]})
        with pytest.raises(Refusal, match="none of 1 series that fits the rules"):
            readers.read(tmp_path / kind, dicom=portal)
    silent = whole["portal thin"]
    for one in silent:
        for name in ("SeriesDescription", "ProtocolName", "BodyPartExamined", "StudyDescription", "AcquisitionTime"):
            delattr(one, name)
    dicom_study.write(tmp_path / "silent", {"silent": silent, "seg": whole["seg"]})
    with caplog.at_level(logging.INFO, logger="medseg"):
        volume = readers.read(tmp_path / "silent", dicom=portal)
    assert volume.source.notes["series_choice"] == (
        "series 6 '' (CT, 40 slices), as the only scan; its header does not say all that the rules ask for: "
        "body part not stated (needed 'abdomen'); phase not stated (needed 'portal venous')"
    )
    assert [record.levelname for record in caplog.records if "the only scan" in record.message] == ["WARNING"]
    said = tiny.medseg_command("dicom", "select", recipe(tmp_path / "r.yaml", RULES["arterial"]), tmp_path / "silent")
    assert said.code == 0 and "taken" in said.out and "as the only scan" in said.out


def test_scores_that_are_equal_but_for_the_last_bit_are_equal() -> None:
    tenths = "prefer: [{modality: CT, score: 0.1}, {plane: axial, score: 0.2}, {plane: coronal, score: 0.3}]"
    choice = select.choose(rules(tenths), [facts(), facts(uid="2", modality="MR", plane="coronal")])
    assert choice.taken == () and "equally well" in choice.because


def recipe(path: Path, select_rules: str) -> Path:
    data = {"name": "x", "dataset": "none", "model": "residual_unet", "dicom": {"select": yaml.safe_load(select_rules)}}
    path.write_text(yaml.safe_dump(data))
    return path


def test_the_command_shows_every_series_without_a_model(folders: tuple[Path, Path], tmp_path: Path) -> None:
    file = recipe(tmp_path / "recipe.yaml", RULES["liver, portal venous"])
    said = tiny.medseg_command("dicom", "select", file, folders[0].parent)  # both studies
    assert said.code == 1 and said.out.count("study 1.2.826") == 2
    assert "none of 12 series that fits the rules" in said.out and "series 6 'Abdomen portalvenös 1.0'" in said.out
    said = tiny.medseg_command("dicom", "select", file, folders[0], "dicom.select.must.phase=arterial", "--json", "-")
    [found] = json.loads(said.out)
    assert said.code == 0 and found["taken"] == "1.2.3.4" and len(found["series"]) == 13
    assert {row["uid"]: row["fits"] for row in found["series"]}["1.2.3.6"] is False
    said = tiny.medseg_command("dicom", "select", file, folders[0], "dicom.select=null")
    assert said.code == 2 and "found no rules" in said.err
    assert tiny.medseg_command("dicom", "select", file, tmp_path / "none").code == 2
    (tmp_path / "bad" / "broken.dcm").parent.mkdir()
    (tmp_path / "bad" / "broken.dcm").write_bytes(b"\0" * 128)
    said = tiny.medseg_command("dicom", "select", file, tmp_path / "bad")
    assert said.code == 2 and "broken.dcm: found no DICOM signature" in said.err


def test_rules_come_back_from_a_dumped_recipe_without_what_they_do_not_say(tmp_path: Path) -> None:
    for text in RULES.values():
        made = config.load(recipe(tmp_path / "r.yaml", text))
        dumped = config.dump(made)
        (tmp_path / "again.yaml").write_text(dumped)
        assert config.load(tmp_path / "again.yaml") == made
        assert "kernel: null" not in dumped


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{must: {modalty: CT}}", "dicom.select.must.modalty: no such key; did you mean 'modality'"),
        ("{prefer: [{phase: portal}]}", "dicom.select.prefer.0.phase: found 'portal'; input should be 'native'"),
        ("{must_not: [{}]}", "dicom.select.must_not.0: found {}; at least one condition is needed: modality"),
        ("{must: {description: '('}}", "dicom.select.must.description: found '('; a regular expression is needed"),
        ("{must: {slices: [9, 1]}}", "the smallest comes first"),
        ("{ties: [thick]}", "dicom.select.ties.0: found 'thick'"),
        ("{must: {description: no}}", "dicom.select.must.description: found False; input should be a valid string"),
        ("{must_not: [{image_type: []}]}", "dicom.select.must_not.0.image_type: found []"),
        ("{prefer: [{plane: axial, score: .nan}]}", "score: found nan; input should be a finite number"),
        ("{prefer: [{plane: axial, scor: 2}]}", "dicom.select.prefer.0.scor: no such key; did you mean 'score'"),
    ],
)
def test_mistakes_in_rules_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        config.load(recipe(tmp_path / "r.yaml", text))
    assert message in str(refused.value)


def test_infinity_is_no_limit() -> None:
    with pytest.raises(ValidationError):
        rules("must: {slices: [1, .inf]}")


def test_multi_frame_objects_say_it_elsewhere(tmp_path: Path) -> None:
    """In the functional groups that all frames share, and as codes."""
    folder = dicom_sources.enhanced_ct(tmp_path)
    [file] = list(folder.rglob("*.dcm")) if folder.is_dir() else [folder]
    dataset = pydicom.dcmread(file)
    del dataset.BodyPartExamined
    region, agent, anatomy, kernel = (Dataset() for _ in range(4))
    region.CodeMeaning, agent.CodeMeaning, kernel.ConvolutionKernel = "Abdomen", "Iopamidol", ["Br40", "3"]
    anatomy.AnatomicRegionSequence, dataset.ContrastBolusAgentSequence = [region], [agent]
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.FrameAnatomySequence, shared.CTReconstructionSequence = [anatomy], [kernel]
    dataset.AcquisitionDateTime = "20260102100110.5"
    dataset.save_as(file)
    [[found]] = survey(file.parent).values()
    assert (found.body_part, found.kernel, found.agent) == ("Abdomen", "Br40 3", "Iopamidol")
    assert found.acquired == "20260102100110.5"
    assert select.judge(rules("must: {body_part: abdomen, contrast: yes, kernel: br40}"), found).fits
