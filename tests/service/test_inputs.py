"""What a batch takes for a case: series, volumes, studies, files, lines of a table; and nothing is passed over."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
import SimpleITK as sitk

from medseg import readers
from medseg.dicom.settings import DicomSettings
from medseg.refusal import Refusal
from medseg.service.intake import dicomweb
from medseg.service.work import batch, inputs
from medseg.service.work.facts import of_path
from medseg.service.work.inputs import Input, Needs
from tests import dicom_series, dicom_study
from tests.service import site as sites
from tests.tiny import nifti, phantom

ONE = Needs(("image",), DicomSettings())


def found(folder: Path, *paths: Path, needs: Needs = ONE) -> dict[str, Input]:
    return {one.case: one for one in inputs.find(paths, needs, folder / "out")[0]}


def facts(one: Input) -> str:
    return json.dumps(one.facts)


@pytest.fixture
def disc(tmp_path) -> Path:
    """Two series side by side, one of its own, a damaged file, and a picture."""
    root = tmp_path / "disc"
    for uid in ("1.2.1", "1.2.2"):
        positions = dicom_series.places(6)
        slices = [
            dicom_series.slice_(place, number=number, series=uid, SeriesNumber=int(uid[-1]))
            for number, place in enumerate(positions, start=1)
        ]
        dicom_series.write(root / "mixed", slices, prefix=uid)
    dicom_series.series(root / "alone", dicom_series.places(5), series="1.2.3")
    (root / "mixed" / "damaged.dcm").write_bytes(b"cut")
    sites.scan(root / "b.nii.gz")
    return root


def test_each_series_is_a_case_and_so_is_what_cannot_be_read(disc, tmp_path):
    cases = found(tmp_path, disc)
    assert len(cases) == 5 and {"alone", "b"} < set(cases)
    assert cases["alone"].source == {"all": str(disc / "alone")}
    series = [one for one in cases.values() if one.identity.series_uid in ("1.2.1", "1.2.2")]
    for one in series:
        assert one.case.startswith(f"mixed_{one.identity.series_uid[-1]}_")
        assert readers.read(Path(one.source["all"])).shape[2] == 6, "the links lead to this series alone"
    [damaged] = [one for name, one in cases.items() if "damaged" in name]
    with pytest.raises(Refusal, match=r"damaged\.dcm"):
        readers.read(Path(damaged.source["all"]))


def test_the_same_is_found_the_same_and_what_changed_is_another(disc, tmp_path):
    first = found(tmp_path, disc)
    links = {path: path.stat().st_ino for path in (tmp_path / "out" / "inputs").iterdir()}
    assert first == found(tmp_path, disc) and len(links) == 2
    assert links == {path: path.stat().st_ino for path in links}, "what somebody may be reading stays as it is"
    file = next((disc / "alone").iterdir())
    file.write_bytes(file.read_bytes() + b"\0" * 8)
    changed = found(tmp_path, disc)
    assert {name for name in first if facts(first[name]) != facts(changed[name])} == {"alone"}


@pytest.mark.parametrize(
    ("suffix", "voxels"),
    [(".mhd", "{}.raw"), (".mhd", "{}.zraw"), (".nhdr", "{}.raw"), (".nhdr", "{}.raw.gz"), (".hdr", "{}.img")],
)
def test_other_voxels_under_the_same_header_are_another_input(suffix, voxels, tmp_path):
    """The header is written again with the same bytes, and here not at all."""
    first, header = tmp_path / "scans" / "a.nii.gz", tmp_path / "scans" / f"a{suffix}"
    image = sitk.ReadImage(sites.scan(first))
    sitk.WriteImage(image, header, "z" in voxels)
    first.unlink()
    raw = header.parent / voxels.format("a")
    [(name, before)] = found(tmp_path, header.parent).items()
    assert (name, found(tmp_path, header.parent)) == ("a", {"a": before})
    raw.write_bytes(raw.read_bytes() + b"\0")
    assert facts(found(tmp_path, header.parent)["a"]) != facts(before)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("a.mhd", "ElementDataFile = LIST\nv1.raw\nv2.raw\n"),
        ("a.mhd", "ElementDataFile = v%d.raw 1 2 1\n"),
        ("a.nhdr", "data file: LIST 2\nv1.raw\nv2.raw\n"),
        ("a.nhdr", "data file: v%01d.raw 1 2 1 2\n"),
    ],
)
def test_voxels_in_several_files_each_count(name, field, tmp_path):
    header, raws = tmp_path / name, [tmp_path / "v1.raw", tmp_path / "v2.raw"]
    header.write_text(f"NDims = 3\n{field}")
    for raw in raws:
        raw.write_bytes(b"0")
    assert [Path(one[0]) for one in of_path(header)] == [header, *raws]


@pytest.mark.parametrize("place", ["", "with [brackets] and blanks/", "absolute"])
@pytest.mark.parametrize("name", ["v{}.raw", "v[1] *{}.raw"])
def test_numbered_voxels_count_wherever_they_lie(place, name, tmp_path):
    around = tmp_path / "elsewhere" if place == "absolute" else tmp_path / place
    header, raws = tmp_path / "a.mhd", [around / name.format(number) for number in (0, 1, 2)]
    around.mkdir(exist_ok=True)
    for raw in (*raws, around / "other.raw"):
        raw.write_bytes(b"0")
    written = f"{around}/" if place == "absolute" else place
    header.write_text(f"NDims = 3\nElementDataFile = {written}{name.format('%d')} 0 2 1\n")
    assert [Path(one[0]) for one in of_path(header)] == [header, *raws]


@pytest.mark.parametrize(
    ("field", "more"),
    [
        (b"ElementDataFile = v\0.raw", 0),
        (b"ElementDataFile = v\0%d.raw 0 2 1", 0),
        (b"ElementDataFile = LIST\nv\0.raw", 1),
        (b"ElementDataFile = /%d/%d 0 2 1", 0),
        (b"ElementDataFile = " + b"x" * 300 + b"/v%d.raw 0 2 1", 0),
        (b"ElementDataFile =", 0),
    ],
)
def test_a_header_that_names_no_file_keeps_no_other_case_from_its_turn(field, more, tmp_path):
    header = tmp_path / "in" / "a.mhd"
    sites.scan(header.with_name("b.nii.gz"))
    header.write_bytes(b"NDims = 3\n" + field + b"\n")
    assert set(found(tmp_path, header.parent)) == {"a", "b"}
    first, *others = of_path(header)
    assert Path(first[0]) == header and len(others) == more


def test_a_zip_is_looked_into_wherever_it_lies(disc, tmp_path):
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as packed:
        for file in (disc / "alone").iterdir():
            packed.write(file, file.name)
    shutil.rmtree(disc / "alone")
    [one] = found(tmp_path, tmp_path / "study.zip").values()
    assert one.case == "study" and readers.read(Path(one.source["all"])).shape[2] == 5
    assert facts(one) == facts(found(tmp_path, tmp_path / "study.zip")["study"])
    (tmp_path / "study.zip").rename(disc / "study.zip")
    assert "study" in found(tmp_path, disc)
    (disc / "study.zip").write_bytes(b"PK\x03\x04 cut")
    assert "study" not in found(tmp_path, disc), "no zip with DICOM: nothing that a batch could say of it"


def test_each_volume_of_a_series_is_a_case_for_a_model_of_one_channel(tmp_path):
    slices = [
        dicom_series.slice_(
            place, number=number, series="1.2.5", AcquisitionNumber=phase, TemporalPositionIdentifier=phase
        )
        for phase in (1, 2)
        for number, place in enumerate(dicom_series.places(5), start=1)
    ]
    dicom_series.write(tmp_path / "in" / "dynamic", slices)
    cases = found(tmp_path, tmp_path / "in")
    assert {one.series for one in cases.values()} == {"1.2.5/1", "1.2.5/2"} and len(cases) == 2
    for one in cases.values():
        assert readers.read(Path(one.source["all"]), series=one.series).array.shape[0] == 1
    two = Needs(("first", "second"), DicomSettings())
    [whole] = found(tmp_path, tmp_path / "in", needs=two).values()
    assert (whole.case, whole.series) == ("dynamic", "")


def test_where_rules_choose_the_series_each_study_is_a_case(tmp_path):
    dicom_study.write(tmp_path / "in" / "one", dicom_study.abdomen())
    by_rules = Needs(("image",), DicomSettings.model_validate({"select": {"must": {"modality": "CT"}}}))
    cases, passed = inputs.find([tmp_path / "in"], by_rules, tmp_path / "out")
    assert [one.series for one in cases] == [""] and len({one.identity.study_uid for one in cases}) == 1
    assert passed


def test_a_table_names_scans_or_channels(tmp_path):
    for name in ("t1", "t2"):
        nifti(tmp_path / f"{name}.nii.gz", phantom(0)[0])
    table = tmp_path / "cases.csv"
    table.write_text("case,scan\nfirst,t1.nii.gz\n,t2.nii.gz\n")
    assert {name: one.source["all"] for name, one in found(tmp_path, table).items()} == {
        "first": str(tmp_path / "t1.nii.gz"),
        "t2": str(tmp_path / "t2.nii.gz"),
    }
    table.write_text("case;T1;T2\nboth;t1.nii.gz;t2.nii.gz\n")
    [both] = found(tmp_path, table, needs=Needs(("T1", "T2"), DicomSettings())).values()
    assert set(both.source) == {"T1", "T2"}
    for text, said in (("case\nx\n", "the columns case"), ("case,scan\nx,\n", "no scan in line 2")):
        table.write_text(text)
        with pytest.raises(Refusal, match=said):
            found(tmp_path, table)


@pytest.mark.parametrize("named", ["study", "study/DICOMDIR"])
def test_a_folder_that_a_table_names_is_told_by_all_files_in_it(named, tmp_path):
    scan = dicom_series.series(tmp_path / "study" / "deep" / "series", dicom_series.places(5), series="1.2.3")
    (tmp_path / "study" / "DICOMDIR").write_bytes(bytes(8))
    (tmp_path / "cases.csv").write_text(f"case,scan\nfirst,{named}\n")
    before = facts(found(tmp_path, tmp_path / "cases.csv")["first"])
    assert before == facts(found(tmp_path, tmp_path / "cases.csv")["first"])
    file = next(scan.iterdir())
    file.write_bytes(file.read_bytes() + b"\0" * 8)
    assert before != facts(found(tmp_path, tmp_path / "cases.csv")["first"])
    with pytest.raises(Refusal, match="the folder of the results in it"):
        inputs.find([tmp_path / "cases.csv"], ONE, tmp_path / "study" / "out")


def test_two_of_one_name_are_told_apart_and_one_named_twice_is_refused(tmp_path):
    paths = [sites.scan(tmp_path / place / "a.nii.gz") for place in ("one", "two")]
    cases = found(tmp_path, *paths)
    assert len(cases) == 2 and all(name.startswith("a_") for name in cases)
    with pytest.raises(Refusal, match="the same input twice"):
        found(tmp_path, paths[0], paths[0])


def test_names_of_cases_are_names_of_files(tmp_path):
    scan = sites.scan(tmp_path / "in" / "..a b;ü<c>.nii.gz")
    [name] = found(tmp_path, scan)
    assert name == "a_b_ü_c"


def test_results_are_not_written_over_scans(tmp_path):
    scan = sites.scan(tmp_path / "out" / "a.nii.gz")
    (tmp_path / "cases.csv").write_text("case,scan\nb,out/a.nii.gz\n")
    for path in (scan, tmp_path / "cases.csv"):
        with pytest.raises(Refusal, match="a scan in the folder of the results"):
            found(tmp_path, path)
    assert found(tmp_path, sites.scan(tmp_path / "out" / "deep" / "a.nii.gz"))


def test_results_do_not_become_inputs(disc, tmp_path):
    with pytest.raises(Refusal, match="the folder of the results in it"):
        inputs.find([tmp_path], ONE, tmp_path / "out")
    for path in (tmp_path / "absent", tmp_path / "empty"):
        if path.name == "empty":
            path.mkdir()
        with pytest.raises(Refusal, match=path.name):
            found(tmp_path, path)


def test_an_address_is_fetched_into_the_results_and_again_it_is_the_same(tmp_path, monkeypatch):
    asked = []
    there = dicom_series.series(tmp_path / "there", dicom_series.places(5), series="1.2.3")

    def download(address: str, folder: Path) -> list[Path]:
        asked.append(address)
        return [Path(shutil.copytree(there, folder / "1.2", dirs_exist_ok=True))]

    monkeypatch.setattr(dicomweb, "download", download)
    address = "https://pacs/dicom-web/studies?PatientID=P7"
    local = sites.scan(tmp_path / "a.nii.gz")
    first = batch.fetched([str(local), address], tmp_path / "out")
    assert first[0] == local and first[1].is_relative_to(tmp_path / "out" / "downloads") and asked == [address]
    before = found(tmp_path, *first)
    for file in first[1].iterdir():
        os.utime(file, (1, 1))
    file = next(first[1].iterdir())
    file.write_bytes(file.read_bytes()[:-8] + b"another!")
    changed = found(tmp_path, *first)
    assert {name for name, one in before.items() if facts(one) != facts(changed[name])} == set(before) - {"a"}
    again = batch.fetched([str(local), address], tmp_path / "out")
    assert again == first and {name: facts(one) for name, one in found(tmp_path, *again).items()} == {
        name: facts(one) for name, one in before.items()
    }
