"""The sample data sets for the tasks: read by their adapters, complete, and not solved by a number or a threshold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medseg import readers
from medseg.case import CaseSet
from medseg.datasets import brats, dr_grading, folder, isic, retina_av
from medseg.engine.baseline import fit_thresholds, threshold_dice
from sample_data.phantoms import brain_grades, brats_mr, fundus_dr, liver_mr, lymphoma_pet, retina, skin

SAMPLE = Path(__file__).parents[2] / "sample_data"
SETS: dict[str, Callable[[Path], CaseSet]] = {
    "brats_mr": lambda root: brats.cases(brats.Options(root=root)),
    "skin": lambda root: isic.cases(isic.Options(root=root, year=2018)),
    "retina": lambda root: retina_av.cases(retina_av.Options(root=root, layout="rite", part="all")),
    "liver_mr": lambda root: folder.cases(folder.Options(root=root)),
    "brain_grades": lambda root: folder.cases(folder.Options(root=root)),
    "fundus_dr": lambda root: dr_grading.cases(dr_grading.Options(root=root, layout="eyepacs")),
    "lymphoma_pet": lambda root: folder.cases(folder.Options(root=root, channels=("SUV", "CT"))),
}
CASES = {
    "brats_mr": 8,
    "skin": 24,
    "retina": 20,
    "liver_mr": 8,
    "brain_grades": 48,
    "fundus_dr": 60,
    "lymphoma_pet": 32,
}
PHANTOMS = (brain_grades, brats_mr, fundus_dr, liver_mr, lymphoma_pet, retina, skin)


def bits(path: Path) -> np.ndarray:
    """Label map (I, J, K); red, green and blue of a picture add 1, 2 and 4."""
    array = readers.read(path).array
    return array[0] if len(array) == 1 else (array[0] > 127) + 2 * (array[1] > 127) + 4 * (array[2] > 127)


def auc(positive: np.ndarray, score: np.ndarray) -> float:
    """Chance that a positive one scores higher than a negative one."""
    above = score[positive][:, None] - score[~positive][None]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def best_threshold(images: list[np.ndarray], masks: list[np.ndarray]) -> float:
    """Mean Dice on each fourth of the cases of the interval fitted on the others."""
    pairs, scores = list(zip(images, (mask.astype(int) for mask in masks), strict=True)), []
    for part in range(4):
        fitted = fit_thresholds([pair for place, pair in enumerate(pairs) if place % 4 != part], {"x": 1})
        scores += [threshold_dice(*pair, fitted, {"x": 1})["x"] for pair in pairs[part::4]]
    return float(np.mean(scores))


@pytest.mark.parametrize("name", SETS)
def test_the_adapter_reads_it(name: str) -> None:
    data = SETS[name](SAMPLE / name)
    assert len(data.cases) == CASES[name]
    assert len({case.patient for case in data.cases}) == (30 if name == "fundus_dr" else CASES[name])
    seen: set[int] = set()
    for case in data.cases:
        images = [readers.read(path).array for path in case.images.values()]
        assert sum(len(image) for image in images) == len(data.channels)
        assert len({image.shape[1:] for image in images}) == 1
        if case.target is not None:
            truth = bits(case.target)
            assert truth.shape == images[0].shape[1:] and data.labels.unknown(truth) == []
            seen |= set(np.unique(truth).tolist())
        seen |= set(case.classes or ())
    assert all(seen & set(label.members) for label in data.labels.labels)


def test_every_case_shows_every_structure() -> None:
    for name, least in (("brats_mr", 100), ("skin", 100), ("retina", 100), ("liver_mr", 20)):
        data = SETS[name](SAMPLE / name)
        for case in data.cases:
            truth = bits(case.target)
            counts = [int(np.isin(truth, label.members).sum()) for label in data.labels.labels]
            assert min(counts) >= least, (name, case.id, counts)


def test_masks_cut_the_corners_off() -> None:
    for case in SETS["retina"](SAMPLE / "retina").cases:
        valid = readers.read(case.valid).array[0] > 127
        assert 0.6 < valid.mean() < 0.8 and not valid[0, 0, 0]
        assert (bits(case.target)[~valid] == 0).all()


def test_two_centres_and_two_eyes() -> None:
    centres = {case.patient: case.centre for case in SETS["lymphoma_pet"](SAMPLE / "lymphoma_pet").cases}
    assert sorted(centres.values()) == ["north"] * 16 + ["south"] * 16
    eyes = SETS["fundus_dr"](SAMPLE / "fundus_dr").cases
    assert sorted(case.group for case in eyes) == ["left"] * 30 + ["right"] * 30


# --- pure functions ---------------------------------------------------------------------------------------------------


def first(module, seed: int):
    """What the module's `sample` draws first, as a list of arrays."""
    drawn = module.sample(0, "left", seed) if module is fundus_dr else module.sample(0, seed)
    return list(drawn.values()) if isinstance(drawn, dict) else list(drawn)


@pytest.mark.parametrize("module", PHANTOMS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_sample_depends_on_its_number_and_seed_alone(module) -> None:
    one, again, other = first(module, 5), first(module, 5), first(module, 6)
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one[0], other[0])


@pytest.mark.parametrize("name", SETS)
def test_other_counts_and_seeds_can_be_written(name: str, tmp_path: Path) -> None:
    module = next(module for module in PHANTOMS if module.__name__.endswith(name))
    count = 15 if name == "retina" else 4  # one of them in its test part
    module.write(tmp_path, count, 5)
    assert len({case.patient for case in SETS[name](tmp_path).cases}) == count


def test_slices_without_a_body_in_common(tmp_path: Path) -> None:
    lymphoma_pet.write(tmp_path, 2, correlated=False)
    assert len(SETS["lymphoma_pet"](tmp_path).cases) == 2


# --- what does not solve them -----------------------------------------------------------------------------------------


def test_no_threshold_finds_the_tumours_of_heads() -> None:
    heads = [brats_mr.sample(number) for number in range(8)]
    for members in ((1, 4), (1, 2, 4), (4,)):
        masks = [np.isin(label, members) for _, label in heads]
        for channel in range(4):
            images = [
                np.where(x[channel] > 0, (x[channel] - x[channel][x[channel] > 0].mean()) / x[channel].std(), -9)
                for x, _ in heads
            ]
            assert best_threshold(images, masks) < 0.7


def test_no_threshold_finds_lesions_of_the_skin() -> None:
    photographs = [skin.sample(number) for number in range(24)]
    masks = [mask > 0 for _, mask in photographs]
    for channel in range(3):
        level = [picture[..., channel] / np.median(picture[..., channel]) for picture, _ in photographs]
        assert best_threshold(level, masks) < 0.6


def test_no_threshold_finds_livers_and_their_lesions() -> None:
    scans = [liver_mr.sample(number) for number in range(8)]
    images = [image / np.percentile(image, 90) for image, _, _ in scans]
    assert best_threshold(images, [label > 0 for _, label, _ in scans]) < 0.65
    assert best_threshold(images, [label == 2 for _, label, _ in scans]) < 0.1


def test_darkness_alone_does_not_tell_veins_from_arteries() -> None:
    """On the true vessels, against their surroundings; guessing the commoner kind would be right for 0.58."""
    darkness, vein = [], []
    for number in range(12):
        eye = retina.sample(number)
        inside, green = eye["mask"] > 0, eye["image"][..., 1].astype(float)
        around = gaussian_filter(green * inside, 6) / np.maximum(gaussian_filter(inside.astype(float), 6), 0.05)
        artery, blue = (eye["av"] == (255, 0, 0)).all(axis=-1), (eye["av"] == (0, 0, 255)).all(axis=-1)
        darkness.append((-green / np.maximum(around, 1))[artery | blue])
        vein.append(blue[artery | blue])
    score, truth = np.concatenate(darkness), np.concatenate(vein)
    limits = np.quantile(score, np.linspace(0, 1, 101))
    assert 0.6 < max(float(((score > limit) == truth).mean()) for limit in limits) < 0.7


def test_no_single_number_grades_tumours() -> None:
    heads = [brain_grades.sample(number) for number in range(36)]
    kinds = np.array([kind for _, kind in heads])
    values = [image[image > 0].astype(float) for image, _ in heads]
    relative = [value / np.median(value) for value in values]
    for numbers in ([v.mean() for v in values], [v.max() for v in values], [r.std() for r in relative]):
        found = auc(kinds[kinds > 0] == 2, np.array(numbers)[kinds > 0])
        assert 0.2 < found < 0.85


def test_brightness_does_not_tell_who_is_to_be_referred() -> None:
    eyes = [fundus_dr.sample(patient, eye) for patient in range(30) for eye in fundus_dr.EYES]
    referable = np.array([grade >= 2 for _, grade in eyes])
    assert 0.25 < referable.mean() < 0.45
    green = [picture[..., 1][picture[..., 1] > 8].astype(float) for picture, _ in eyes]
    level = np.array([values.mean() for values in green])
    assert 0.3 < auc(referable, level) < 0.7
    assert 0.15 < auc(referable, np.array([(values / np.median(values)).min() for values in green])) < 0.85
    apart = abs(level[referable].mean() - level[~referable].mean())
    assert level.reshape(30, 2).mean(axis=1).std() > 2 * apart, "patients differ more than classes"


@pytest.mark.parametrize("correlated", [True, False])
def test_neighbouring_slices_promise_too_much_where_bodies_are_shared(correlated: bool) -> None:
    """The three most similar slices, of all or of other patients only: how well their labels predict a slice's."""
    patients = 16 if correlated else 10
    scans = [lymphoma_pet.sample(number, correlated=correlated) for number in range(patients)]
    positive = np.concatenate([(scan["label"] > 0).any(axis=(0, 1)) for scan in scans])
    uptake = np.concatenate([scan["SUV"].transpose(2, 0, 1).reshape(24, -1) for scan in scans])
    density = np.concatenate([scan["CT"].transpose(2, 0, 1).reshape(24, -1) for scan in scans])
    assert 0.15 < positive.mean() < 0.35 and auc(positive, uptake.max(axis=1)) < 0.75, "a bright organ is no tumour"
    features = np.concatenate([np.sqrt(uptake), 0.003 * density], axis=1)
    squares = (features**2).sum(axis=1)
    distance = squares[:, None] + squares[None] - 2 * features @ features.T
    who = np.repeat(np.arange(patients), 24)
    scores = []
    for forbidden in (np.eye(len(who), dtype=bool), who[:, None] == who[None]):
        nearest = np.where(forbidden, np.inf, distance).argsort(axis=1, kind="stable")[:, :3]
        scores.append(auc(positive, positive[nearest].mean(axis=1)))
    by_slice, by_patient = scores
    if correlated:
        assert by_slice > 0.8 and by_patient < 0.7
    else:
        assert abs(by_slice - by_patient) < 0.12
