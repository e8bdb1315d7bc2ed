"""Patches for small lesions and rare labels: how often what is met, and that chance hangs on the number alone."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from medseg import config
from medseg.data import cache, components
from medseg.data.patches import PatchSource, Rare, draw_patch, generator_for, rarest
from medseg.data.split import Split, SplitSettings
from medseg.engine import material, train
from medseg.labels import LabelTable
from medseg.plan import Normalisation, Plan
from medseg.refusal import Refusal
from medseg.transforms import prepare
from medseg.volume import Volume
from tests import tiny

TABLE = LabelTable.of({"organ": 1, "lesion": 2, "never": 3})
PLAN = Plan(
    orientation="RAS",
    spacing_mm="native",
    patch=(1, 1, 1),
    batch=1,
    normalisation=(Normalisation(kind="none"),),
    crop="none",
    order=3,
    channels=("CT",),
)
SHAPE = (20, 20, 20)
ORGAN = np.s_[1:4, 1:4, 1:4]
LARGE = np.s_[8:16, 8:16, 8:16]
DOTS = [(18, 2, 2), (2, 18, 18), (18, 18, 5)]
DRAWS = 1500
UNLIKELY = {1: 10.8, 3: 16.3, 4: 18.5}
"""Chi-square that fair draws exceed once in a thousand times, by degrees of freedom."""


def write(folder: Path, *, organ: bool = False, large: bool = False, dots: bool = False) -> Path:
    values = np.zeros((1, *SHAPE), np.uint8)
    if organ:
        values[0][ORGAN] = 1
    if large:
        values[0][LARGE] = 2
    for dot in DOTS if dots else []:
        values[0][dot] = 2
    scan = Volume(np.arange(values.size, dtype=np.float32).reshape(values.shape), np.eye(4))
    image, undo = prepare.image(scan, PLAN)
    target = prepare.target(scan.with_array(values), undo, TABLE)
    cache.write_case(folder, folder.name, image, target, undo, TABLE)
    return folder


def chi_square(counts: Counter, expected: dict) -> float:
    assert set(counts) <= set(expected)
    total = sum(counts.values())
    return sum((counts[key] - total * share) ** 2 / (total * share) for key, share in expected.items())


def part(place: tuple[int, int, int]) -> str:
    """Of `write`'s scan, what a voxel belongs to."""
    return {1: "organ", 2: str(place) if place in DOTS else "large", 0: "air"}[VALUES[place]]


VALUES = np.zeros(SHAPE, np.uint8)
VALUES[ORGAN], VALUES[LARGE] = 1, 2
for one in DOTS:
    VALUES[one] = 2


@settings(max_examples=30, deadline=None)
@example(np.array([1, 0, 1], np.uint8).reshape(1, 1, 3, 1), False)
@given(arrays.arrays(np.uint8, (1, 6, 5, 4), elements=st.sampled_from([0, 0, 0, 1, 2])), st.booleans())
def test_components_are_those_of_scipy(values, regions):
    table = LabelTable.of({"both": [1, 2], "second": [2]} if regions else {"first": 1, "second": 2})
    target = values if not regions else np.concatenate([values > 0, values == 2]).astype(np.uint8)
    found = components.grouped(components.find(target, table))
    for position in (0, 1):
        mask = table.mask(target, position)
        labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
        if not count:
            assert position not in found
            continue
        own = found[position]
        met = [
            {int(labels[tuple(voxel)]) for voxel in own.voxels[first:stop]}
            for first, stop in zip(own.starts[:-1], own.starts[1:], strict=True)
        ]
        assert sorted(map(tuple, met)) == [(number,) for number in range(1, count + 1)]
        assert [int((labels == next(iter(number))).sum()) for number in met] == own.sizes.tolist()
        assert len(np.unique(own.voxels, axis=0)) == len(own.voxels) == np.minimum(own.sizes, components.VOXELS).sum()


def test_few_voxels_of_a_large_component_and_few_of_many_components_are_kept():
    target = np.zeros((1, 28, 24, 24), np.uint8)
    target[0, ::2, ::2, ::2] = 1  # 14 * 12 * 12 = 2016 dots
    dots = components.grouped(components.find(target, TABLE))[0]
    assert len(dots.sizes) == len(dots.voxels) == components.MOST and set(dots.sizes) == {1}
    assert dots.voxels[:, 0].min() < 3 and dots.voxels[:, 0].max() > 24
    target[:] = 1
    block = components.grouped(components.find(target, TABLE))[0]
    assert block.sizes.tolist() == [28 * 24 * 24] and len(block.voxels) == components.VOXELS
    assert (block.voxels.max(0) - block.voxels.min(0) > 15).all()


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_in_memory_does_not_change_what_is_stored(order):
    """Components and voxels come in the order of their places in the scan, whatever box they are looked for in."""
    target = np.asarray(np.random.default_rng(2).random((1, 9, 8, 7)) < 0.1, np.uint8, order=order)
    target[0, 0, 0, 0] = target[0, 8, 7, 6] = 1
    found = components.grouped(components.find(target, TABLE))[0]
    firsts = [tuple(int(side) for side in found.voxels[start]) for start in found.starts[:-1]]
    assert firsts == sorted(firsts) and len(firsts) > 3
    coordinates, voxels = cache._foreground(target, TABLE)
    assert coordinates.tolist() == np.argwhere(target[0] == 1).tolist() and voxels == [len(coordinates), 0, 0]


def test_shares_of_zero_leave_patches_as_they_were(tmp_path):
    prepared = cache.open_case(write(tmp_path / "a", organ=True, large=True, dots=True))
    for number in range(50):
        generator, own = generator_for(7, 0, number), generator_for(7, 0, number)
        found = draw_patch(own, prepared, (4, 4, 4), foreground_share=0.6)
        if generator.random() < 0.6:
            voxels = prepared.coordinates[int(generator.integers(2))]
            centre = voxels[generator.integers(len(voxels))]
            assert found == tuple(int(min(max(place - 2, 0), 16)) for place in centre)
        else:
            assert found == tuple(int(generator.integers(17)) for _ in range(3))
        assert own.random() == generator.random()  # as much chance was used


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_small_lesions_are_met_as_often_as_large_ones(tmp_path, share):
    prepared = cache.open_case(write(tmp_path / "a", large=True, dots=True))
    drawn = [
        draw_patch(generator_for(1, 0, number), prepared, (1, 1, 1), foreground_share=1, small_share=share)
        for number in range(DRAWS)
    ]
    tiny_one = share / 4 + (1 - share) / 515
    expected = {str(dot): tiny_one for dot in DOTS} | {"large": 1 - 3 * tiny_one}
    counts = Counter(part(place) for place in drawn)
    if share:
        assert chi_square(counts, expected) < UNLIKELY[3]
    else:
        assert counts["large"] > 0.98 * DRAWS


def test_labels_stay_as_likely_as_one_another(tmp_path):
    """However many components each has."""
    prepared = cache.open_case(write(tmp_path / "a", organ=True, large=True, dots=True))
    drawn = Counter(
        part(draw_patch(generator_for(2, 0, number), prepared, (1, 1, 1), foreground_share=1, small_share=1))
        for number in range(DRAWS)
    )
    expected = {"organ": 1 / 2, "large": 1 / 8} | {str(dot): 1 / 8 for dot in DOTS}
    assert chi_square(drawn, expected) < UNLIKELY[4]


@pytest.fixture
def folders(tmp_path) -> list[Path]:
    """Five cases: organs, one of them with a lesion too, and one without anything."""
    made = [write(tmp_path / f"organ{number}", organ=True) for number in range(3)]
    return [*made, write(tmp_path / "both", organ=True, dots=True), write(tmp_path / "nothing")]


def test_cases_with_the_rarest_label_are_drawn_more_often(folders):
    rare = rarest(folders, 0.4)
    assert rare == Rare(1, (folders[3],), 0.4)
    source = PatchSource([folders], (1, 1, 1), DRAWS, seed=5, foreground_share=0, rare=rare)
    samples = [source[number] for number in range(DRAWS)]
    cases = Counter(case for _, _, case in samples)
    expected = {folder.name: 0.6 / 5 for folder in folders}
    assert chi_square(cases, expected | {"both": 0.4 + 0.6 / 5}) < UNLIKELY[4]
    centred = Counter(bool((target == 2).all()) for _, target, _ in samples)
    by_chance = 0.6 / 5 * 3 / np.prod(SHAPE)
    assert chi_square(centred, {True: 0.4 + by_chance, False: 0.6 - by_chance}) < UNLIKELY[1]


def test_of_labels_in_as_many_cases_the_one_of_fewest_voxels_is_the_rarest(tmp_path):
    large, dots = write(tmp_path / "a", organ=True, large=True), write(tmp_path / "b", organ=True, dots=True)
    assert [rarest([one], 1).label for one in (large, dots)] == [0, 1]  # an organ has 27 voxels
    assert rarest([large, write(tmp_path / "c", organ=True)], 1).label == 1


def test_a_data_set_without_labels_has_no_rarest(tmp_path):
    with pytest.raises(Refusal, match=r"train\.rare: found no label in any of the 1 training cases"):
        rarest([write(tmp_path / "a")], 0.5)


def test_cases_without_lesions_are_cut_anywhere(tmp_path):
    prepared = cache.open_case(write(tmp_path / "a"))
    assert prepared.components == {}
    drawn = {
        draw_patch(generator_for(1, 0, number), prepared, (1, 1, 1), foreground_share=1, small_share=1)
        for number in range(200)
    }
    assert len(drawn) > 180


def test_a_sample_hangs_on_its_number_alone(folders):
    made = {"foreground_share": 0.5, "small_share": 0.5, "rare": rarest(folders, 0.5)}
    source = PatchSource([folders], (2, 2, 2), 30, seed=3, **made)
    copy = pickle.loads(pickle.dumps(source))
    forwards = [source[number] for number in range(30)]
    for number in reversed(range(30)):
        for one, other in zip(forwards[number], copy[number], strict=True):
            assert np.array_equal(one, other)


def test_a_rare_label_in_the_slices_of_the_other_side_ends_no_training(folders):
    """A lesion of three slices, all of which validate; patches are cut elsewhere."""
    places = [dot[2] for dot in DOTS]
    seed = next(
        seed
        for seed in range(200)
        if all(side(seed, k) == "validation" for k in places) and any(side(seed, k) == "train" for k in range(20))
    )
    split = Split(("both",), ("both",), settings=SplitSettings(kind="slice", seed=seed, validation=0.5))
    source = PatchSource([folders[3:4]], (2, 2, 1), 40, seed=1, split=split, rare=rarest(folders[3:4], 1.0))
    assert not any((source[number][1] == 2).any() for number in range(40))


def side(seed: int, k: int) -> str:
    return Split((), (), settings=SplitSettings(kind="slice", seed=seed, validation=0.5)).slice_side("both", k)


def test_the_recipe_says_the_shares(tmp_path):
    file = tiny.recipe(tmp_path / "recipe.yaml", tiny.data_set(tmp_path / "data"))
    recipe = config.load(file, ["train.rare=0.25", "train.small=0.75", "train.foreground=0.5"])
    made = material.assemble(recipe, None, announce=lambda text: None)
    source = train._patches(recipe, made, world=1)
    assert (source.foreground_share, source.small_share, source.rare.share) == (0.5, 0.75, 0.25)
    assert {cache.open_case(folder).id for folder in source.rare.folders} == set(made.split.train)
    assert train._patches(config.load(file), made, world=1).rare is None
    with pytest.raises(Refusal, match=r"train\.rare"):
        config.load(file, ["train.rare=1.5"])
