"""Fingerprint and plan, on data sets small enough to check on paper."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medseg.case import Case, CaseSet
from medseg.engine.fingerprint import CaseFingerprint, Fingerprint, Intensity, fingerprint
from medseg.engine.need import Need
from medseg.engine.planning import make_plan
from medseg.labels import LabelTable
from medseg.plan import Normalisation, PrepareSettings
from medseg.refusal import Refusal
from medseg.volume import Source, Volume

TABLE = LabelTable.of({"a": 1, "b": 2})


def one(shape=(200, 200, 100), spacing=(1.0, 1.0, 2.0), cropped=None, modalities=("CT",)) -> CaseFingerprint:
    return CaseFingerprint(shape, spacing, cropped or shape, modalities, "mm", (10, 0), (0.1, 0.0))


def of(*cases: CaseFingerprint, channels=("CT",)) -> Fingerprint:
    intensities = tuple(Intensity(-50.0, 200.0, 60.0, 40.0) for _ in channels)
    return Fingerprint("RAS", channels, ("a", "b"), {str(n): case for n, case in enumerate(cases)}, intensities)


def plan(found: Fingerprint, *, memory_gib=8.0, divisor=(16, 16, 16), per_voxel=2000.0, **settings):
    return make_plan(
        found,
        PrepareSettings(**settings),
        divisor=divisor,
        channels=found.channels,
        need=Need(0, per_voxel),
        memory_gib=memory_gib,
    )


def test_fingerprint_of_two_cases(tmp_path):
    volumes = {
        Path("image"): Volume(
            np.pad(np.full((1, 2, 4, 6), 7, np.int16), ((0, 0), (1, 1), (0, 0), (0, 0))),
            np.array([[0, 0, 3, 0], [-1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]]),
            Source(modality="MR"),
        ),
        Path("label"): Volume(
            np.pad(np.ones((1, 1, 2, 2), np.uint8), ((0, 0), (1, 2), (1, 1), (2, 2))),
            np.array([[0, 0, 3, 0], [-1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]]),
        ),
    }
    case = Case("x", "p", {"T1": Path("image")}, Path("label"))
    found = fingerprint(
        CaseSet((case, replace(case, id="y", target=None)), ("T1",), TABLE), read=volumes.__getitem__, workers=0
    )
    assert found.cases["x"].traits["a"]["volume"] == pytest.approx(0.024)
    assert replace(found.cases["x"], traits={}) == CaseFingerprint(
        shape=(6, 4, 4),
        spacing_mm=(3.0, 1.0, 2.0),
        cropped=(6, 2, 4),
        modalities=("MR",),
        unit="mm",
        voxels=(4, 0),
        volumes_ml=(0.024, 0.0),
    )
    assert found.cases["y"].voxels == (0, 0)
    assert found.intensities[0].percentile_99_5 == 7
    assert Fingerprint.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_spacing_is_the_median_or_the_10th_percentile_of_thick_slices():
    cases = [one(spacing=(0.8, 0.8, z)) for z in (1.0, 2.0, 2.4)]
    assert plan(of(*cases)).spacing_mm == (0.8, 0.8, 2.0)
    thick = [one((512, 512, 30), (0.8, 0.8, z)) for z in (2.0, 5.0, 5.0, 5.0, 5.0)]
    assert plan(of(*thick)).spacing_mm == (0.8, 0.8, pytest.approx(3.2))
    assert plan(of(*cases), spacing_mm="native").spacing_mm == "native"
    assert plan(of(*cases), spacing_mm=(1, 1, 1)).spacing_mm == (1, 1, 1)


@pytest.mark.parametrize("memory_gib", [0.5, 2, 8, 64])
@pytest.mark.parametrize("divisor", [(16, 16, 16), (32, 32, 4), (1, 1, 1)])
def test_patches_fit_memory_data_and_model(memory_gib, divisor):
    made = plan(of(one((512, 512, 100), (0.8, 0.8, 3.0))), memory_gib=memory_gib, divisor=divisor)
    assert all(size % unit == 0 for size, unit in zip(made.patch, divisor, strict=True))
    assert math.prod(made.patch) * made.batch * 2000 <= memory_gib * 2**30
    assert math.prod(made.patch) <= 128**3
    assert made.batch >= 2
    # not much smaller than it could be: one more step along some axis would not fit
    grown = min(math.prod(made.patch) // size * (size + unit) for size, unit in zip(made.patch, divisor, strict=True))
    assert grown > 0.5 * min(128**3, memory_gib * 2**30 / 2000 / 2)


def test_what_does_not_grow_with_the_patch_is_taken_off_first():
    data = of(one((512, 512, 100), (0.8, 0.8, 3.0)))

    def made(fixed: float, memory_gib: float):
        return make_plan(
            data,
            PrepareSettings(),
            divisor=(16, 16, 16),
            channels=("CT",),
            need=Need(fixed, 2000),
            memory_gib=memory_gib,
        )

    assert made(2 * 2**30, 4).patch == made(0, 2).patch != made(0, 4).patch
    with pytest.raises(Refusal, match=r"needed 2\.0\d GiB for the smallest patch"):
        made(2 * 2**30, 2)


def test_small_cases_get_small_patches_and_larger_batches():
    made = plan(of(*[one((30, 40, 20), (1.0, 1.0, 1.0))] * 100), memory_gib=64)
    assert made.patch == (32, 48, 32)
    assert made.batch == 2 + int(0.05 * 100 * 30 * 40 * 20 / (32 * 48 * 32)) - 2


def test_what_does_not_fit_is_refused():
    with pytest.raises(Refusal, match=r"memory_gib: found 0\.001 GiB"):
        plan(of(one()), memory_gib=0.001)
    with pytest.raises(Refusal, match=r"multiples of \[16, 16, 16\].*\[96, 112, 16\]"):
        plan(of(one()), patch=(100, 110, 8))
    with pytest.raises(Refusal, match=r"prepare\.normalisation: found 1 entries"):
        plan(of(one(modalities=("MR", "MR")), channels=("T1", "T2")), normalisation=(Normalisation(),))
    assert plan(of(one()), patch=(64, 64, 32), batch=5).batch == 5


def test_normalisation_follows_the_modality():
    made = plan(of(one(modalities=("CT", "PT", "MR", "", "")), channels=("a", "b", "c", "CT", "x")))
    assert [how.kind for how in made.normalisation] == ["ct", "suv", "zscore", "ct", "zscore"]
    assert made.normalisation[0] == Normalisation(kind="ct", lower=-50, upper=200, mean=60, sd=40)
    made = plan(of(one(modalities=("MR",), cropped=(150, 150, 100)), channels=("T1",)))
    assert made.crop == "nonzero" and made.normalisation[0].kind == "zscore_nonzero"
    assert plan(of(one(modalities=("",))), modalities=("MR",)).normalisation[0].kind == "zscore"
    assert plan(of(one(cropped=(190, 190, 100)))).crop == "none"


def test_modalities_are_pinned_where_recipe_files_or_names_agree():
    made = plan(of(one(modalities=("CT", "PT", "OP", "", "")), channels=("a", "b", "c", "Flair", "x")))
    assert made.modalities == ("CT", "PT", "", "MR", "")
    assert made.channels_text() == "a (CT), b (PT), c, Flair (MR), x"
    both = of(one(modalities=("CT",)), one(modalities=("MR",)), one(modalities=("",)), channels=("CT",))
    assert plan(both).modalities == ("",)
    assert plan(both, modalities=("MR",)).modalities == ("MR",)
    assert plan(both, modalities=("",)).modalities == ("",)


def test_photographs_are_not_measured_in_millimetres():
    for unit in ("mm", "px"):
        found = of(replace(one(), unit=unit))
        assert plan(found, spacing_mm=(1, 1, 2)).spacing_text() == f"1 x 1 x 2 {unit}"
