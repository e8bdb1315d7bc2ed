"""Draw, then apply: repeatable, aligned, label-preserving, and quick enough for a CPU."""

import dataclasses
import json
import math
import time
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import AdjustContrast
from scipy import ndimage

from medseg.refusal import Refusal
from medseg.transforms import places
from medseg.transforms.augment import Draw, Options, apply, draw
from medseg.transforms.fundus import Colour

ALWAYS = Options(
    rotate_p=1, scale_p=1, elastic_p=1, noise_p=1, blur_p=1, brightness_p=1, contrast_p=1, low_resolution_p=1,
    gamma_p=1, inverted_gamma_p=1, mirror=("left-right", "anterior-posterior", "inferior-superior"),
    shear_deg=25, cutout=3, cutout_side=0.3, cutout_p=1,
)  # fmt: skip
PICTURE = Options(
    rotate_p=0, scale_p=0, noise_p=0, blur_p=0, brightness_p=0, contrast_p=0, low_resolution_p=0, gamma_p=0,
    inverted_gamma_p=0,
)  # fmt: skip
sizes = st.tuples(*(st.integers(1, 12) for _ in range(3)))
seeds = st.integers(0, 10_000)


def patch(shape, seed=0, channels=2, regions=1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(seed)
    image = torch.from_numpy(generator.normal(size=(channels, *shape)).astype(np.float32))
    return image, torch.from_numpy(generator.choice([0, 2, 5, 9], (regions, *shape)).astype(np.uint8))


@settings(max_examples=40, deadline=None)
@given(sizes, seeds)
def test_the_same_draw_gives_the_same_patch_and_leaves_its_input_alone(shape, seed):
    image, target = patch(shape, seed)
    copy = image.clone(), target.clone()
    drawn = draw(np.random.default_rng(seed), ALWAYS, patch=shape, channels=2)
    first, again = apply(drawn, image, target), apply(drawn, image, target)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert torch.equal(image, copy[0]) and torch.equal(target, copy[1])
    assert first[0].shape == image.shape and first[0].dtype == torch.float32 and torch.isfinite(first[0]).all()
    assert first[1].shape == target.shape and first[1].dtype == target.dtype
    assert type(first[0]) is torch.Tensor
    assert set(first[1].unique().tolist()) <= set(target.unique().tolist())
    drawn_again = Draw(**json.loads(json.dumps(dataclasses.asdict(drawn))))
    assert torch.equal(apply(drawn_again, image, target)[0], first[0])


@settings(max_examples=20, deadline=None)
@given(sizes, seeds)
def test_nothing_drawn_changes_nothing(shape, seed):
    image, target = patch(shape, seed)
    same = apply(Draw(), image, target)
    assert same[0] is image and same[1] is target
    unit = apply(Draw(matrix=((1, 0, 0), (0, 1, 0), (0, 0, 1))), image, target)
    assert torch.allclose(unit[0], image, atol=1e-4) and torch.equal(unit[1], target)


@settings(max_examples=20, deadline=None)
@given(sizes, seeds, st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_flips_undo_themselves(shape, seed, flips):
    image, target = patch(shape, seed)
    twice = apply(Draw(flips=flips), *apply(Draw(flips=flips), image, target))
    assert torch.equal(twice[0], image) and torch.equal(twice[1], target)


@settings(max_examples=40, deadline=None)
@given(sizes, seeds, st.integers(1, 3))
def test_image_and_target_move_together(shape, seed, regions):
    # the image holds each voxel's own coordinates, so that afterwards it says where every voxel was read
    image = torch.stack(torch.meshgrid(*(torch.arange(size, dtype=torch.float32) for size in shape), indexing="ij"))
    _, target = patch(shape, seed, regions=regions)
    drawn = draw(np.random.default_rng(seed), ALWAYS, patch=shape, channels=3)
    spatial = Draw(flips=drawn.flips, matrix=drawn.matrix, elastic=drawn.elastic)
    read, moved = apply(spatial, image, target)
    clear = ((read - read.floor() - 0.5).abs() > 1e-3).all(0)  # not halfway between two voxels
    i, j, k = read.round().long()
    assert torch.equal(moved[:, clear], target[:, i, j, k][:, clear])


@settings(max_examples=30, deadline=None)
@given(sizes, seeds, st.sampled_from(["rotate", "zoom", "bend"]), st.sampled_from([1, 300, places.AT_ONCE]))
def test_images_are_read_where_the_formula_says(shape, seed, kind, at_once):
    image, target = patch(shape, seed)
    wanted = {"rotate": {"rotate_p": 1, "shear_deg": 20}, "zoom": {"scale_p": 1}, "bend": {"elastic_p": 1}}[kind]
    options = Options.model_validate({"rotate_p": 0, "scale_p": 0, **wanted})
    drawn = draw(np.random.default_rng(seed), options, patch=shape, channels=2)
    spatial = Draw(matrix=drawn.matrix, elastic=drawn.elastic)
    centre = (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    old = np.tensordot(drawn.matrix or np.eye(3), np.indices(shape) - centre, axes=1) + centre
    if drawn.elastic is not None:
        number, sd, moving = drawn.elastic
        points = torch.randn(3, 6, 6, 6, generator=torch.Generator().manual_seed(number)) * sd
        field = torch.nn.functional.interpolate(points[None], size=shape, mode="trilinear", align_corners=True)[0]
        old += field.numpy() * np.reshape(moving, (3, 1, 1, 1))
    with mock.patch.object(places, "AT_ONCE", at_once):
        read, moved = apply(spatial, image, target)
    for channel, expected in zip(read, image, strict=True):
        assert np.allclose(channel, ndimage.map_coordinates(expected.numpy(), old, order=1, mode="nearest"), atol=1e-4)
    nearest = [np.floor(axis.clip(0, size - 1) + 0.5).astype(int) for axis, size in zip(old, shape, strict=True)]
    clear = (np.abs(old % 1 - 0.5) > 1e-4).all(0)
    assert np.array_equal(moved[0].numpy()[clear], target[0].numpy()[tuple(nearest)][clear])


@settings(max_examples=20, deadline=None)
@given(sizes, seeds, st.floats(0.5, 2))
def test_gamma_is_that_of_monai(shape, seed, gamma):
    image, target = patch(shape, seed, channels=1)
    for name, inverted in (("gamma", False), ("inverted_gamma", True)):
        expected = (
            AdjustContrast(gamma, invert_image=inverted, retain_stats=True)(image) if image.numel() > 1 else image
        )
        assert torch.allclose(apply(Draw(**{name: (gamma,)}), image, target)[0], expected, atol=2e-5)


@settings(max_examples=20, deadline=None)
@given(sizes, seeds, st.sampled_from([0.5, 0.75, 1.0]))  # scipy cuts the others off elsewhere
def test_blur_is_that_of_scipy(shape, seed, sd):
    image, target = patch(shape, seed, channels=2)
    blurred = apply(Draw(blur=(sd, None)), image, target)[0]
    assert np.allclose(blurred[0], ndimage.gaussian_filter(image[0].numpy(), sd, mode="nearest"), atol=1e-5)
    assert torch.equal(blurred[1], image[1])


def test_rotation_and_zoom_on_paper():
    image = torch.arange(9.0).reshape(1, 3, 3, 1)
    quarter = apply(Draw(matrix=((0, -1, 0), (1, 0, 0), (0, 0, 1))), image, image.to(torch.uint8))
    assert torch.allclose(quarter[0], image.rot90(-1, (1, 2)), atol=1e-5) or torch.allclose(
        quarter[0], image.rot90(1, (1, 2)), atol=1e-5
    )
    assert torch.equal(quarter[0].round().to(torch.uint8), quarter[1])
    half = apply(Draw(matrix=((0.5, 0, 0), (0, 0.5, 0), (0, 0, 1))), image, image.to(torch.uint8))
    assert half[0][0, :, 1, 0].tolist() == pytest.approx([2.5, 4, 5.5], abs=1e-4)


def test_intensities_on_paper():
    image = torch.tensor([0.0, 1, 2, 5]).reshape(1, 4, 1, 1)
    target = torch.zeros(1, 4, 1, 1, dtype=torch.uint8)
    assert apply(Draw(brightness=(2.0,)), image, target)[0].flatten().tolist() == [0, 2, 4, 10]
    assert apply(Draw(contrast=(0.5,)), image, target)[0].flatten().tolist() == [1, 1.5, 2, 3.5]
    assert apply(Draw(contrast=(2.0,)), image, target)[0].flatten().tolist() == [0, 0, 2, 5]
    assert torch.allclose(apply(Draw(gamma=(1.0,)), image, target)[0], image, atol=1e-4)
    constant = torch.full((1, 4, 4, 4), 3.0)
    for drawn in (Draw(blur=(1.0,)), Draw(gamma=(0.7,)), Draw(low_resolution=(0.5,)), Draw(contrast=(1.2,))):
        assert torch.allclose(apply(drawn, constant, target)[0], constant, atol=1e-5)
    noisy = apply(Draw(noise=(1, 0.5)), torch.zeros(1, 20, 20, 20), target)[0]
    assert float(noisy.std()) == pytest.approx(0.5, rel=0.05)


def test_mirroring_follows_the_patient():
    options = Options(mirror=("left-right",))
    for orientation, axis in (("RAS", 0), ("SPL", 2), ("ALI", 1)):
        seen = [
            draw(np.random.default_rng(n), options, patch=(8, 8, 8), channels=1, orientation=orientation).flips
            for n in range(60)
        ]
        assert 15 < sum(flips[axis] for flips in seen) < 45
        assert not any(flips[other] for flips in seen for other in range(3) if other != axis)
    assert not any(draw(np.random.default_rng(n), Options(), patch=(8,) * 3, channels=1).flips[0] for n in range(60))


def test_thick_slices_stay_apart():
    options = Options(rotate_p=1, scale_p=1)
    matrix = np.array(draw(np.random.default_rng(1), options, patch=(64, 64, 8), channels=1).matrix)
    assert matrix[2].tolist() == [0, 0, 1] and matrix[:2, 2].tolist() == [0, 0] and matrix[0, 1] != 0


def test_probabilities_are_met():
    draws = [draw(np.random.default_rng(n), Options(), patch=(8, 8, 8), channels=1) for n in range(2000)]
    for name, probability in (("noise", 0.1), ("blur", 0.2), ("brightness", 0.15), ("low_resolution", 0.25),
                              ("gamma", 0.3), ("inverted_gamma", 0.1), ("elastic", 0.0), ("matrix", 0.36)):  # fmt: skip
        share = np.mean([getattr(one, name) is not None for one in draws])
        assert share == pytest.approx(probability, abs=0.04), name  # four standard errors


def test_further_steps_leave_all_other_draws_as_they_are():
    further = {"shear_deg": 25, "hue": 0.02, "saturation": 0.2, "value": 0.2, "cutout": 16}
    for seed in range(30):
        plain, more = (
            draw(np.random.default_rng(seed), Options(**chosen), patch=(64, 64, 1), channels=3)
            for chosen in ({}, further)
        )
        assert more.colour is not None and plain.colour is None and plain.cutout is None
        assert dataclasses.replace(more, matrix=plain.matrix, colour=None, cutout=None) == plain
    assert Draw() == draw(np.random.default_rng(0), PICTURE, patch=(64, 64, 1), channels=3)


def test_shear_slants_a_picture_in_its_plane():
    options = PICTURE.model_copy(update={"shear_deg": 40})
    slants = [draw(np.random.default_rng(n), options, patch=(32, 32, 1), channels=3).matrix[0][1] for n in range(200)]
    assert np.abs(slants).max() == pytest.approx(math.tan(math.radians(40)), rel=0.05)
    assert min(slants) < -0.5
    drawn = draw(np.random.default_rng(0), options, patch=(32, 32, 1), channels=3)
    assert drawn.matrix == ((1, drawn.matrix[0][1], 0), (0, 1, 0), (0, 0, 1))
    image = torch.arange(9.0).reshape(1, 3, 3, 1)  # new (i, j) comes from (i + j - 1, j), kept inside
    slanted = apply(Draw(matrix=((1, 1, 0), (0, 1, 0), (0, 0, 1))), image, image.to(torch.uint8))
    assert slanted[1][0, :, :, 0].tolist() == [[0, 1, 5], [0, 4, 8], [3, 7, 8]]
    assert torch.allclose(slanted[0], slanted[1].float(), atol=1e-5)


def test_colours_of_pictures():
    red = torch.zeros(3, 2, 2, 1)
    red[0] = 1
    target = torch.zeros(1, 2, 2, 1, dtype=torch.uint8)
    green = apply(Draw(colour=Colour(hue=1 / 3)), red, target)[0]
    assert green[:, 0, 0, 0].tolist() == pytest.approx([0, 1, 0], abs=1e-6)
    pale = apply(Draw(colour=Colour(saturation_factor=0.5)), red * 1.01 - 0.01, target)[0]
    assert pale[:, 0, 0, 0].tolist() == pytest.approx([1, 0.5, 0.5], abs=1e-6)
    assert red[0].min() == 1 and pale.dtype == torch.float32
    with pytest.raises(Refusal, match="from -2 to 3"):
        apply(Draw(colour=Colour(hue=0.1)), red * 5 - 2, target)


def test_colours_are_drawn_for_pictures_alone():
    options = PICTURE.model_copy(update={"hue": 0.1, "colour_p": 0.5})
    grey, coloured = (
        [draw(np.random.default_rng(n), options, patch=(9, 9, 1), channels=c).colour for n in range(400)]
        for c in (1, 3)
    )
    assert set(grey) == {None}
    hues = [one.hue for one in coloured if one is not None]
    assert len(hues) == pytest.approx(200, abs=40)
    assert max(hues) == pytest.approx(0.1, abs=0.01) and min(hues) == pytest.approx(-0.1, abs=0.01)
    assert {one[1:] for one in coloured if one is not None} == {(0, 0, 1, 1)}


def test_cutout_fills_the_image_alone():
    options = PICTURE.model_copy(update={"cutout": 4, "cutout_side": 0.25, "cutout_p": 0.5})
    draws = [draw(np.random.default_rng(n), options, patch=(40, 20, 1), channels=2).cutout for n in range(200)]
    drawn = [boxes for boxes in draws if boxes is not None]
    assert len(drawn) == pytest.approx(100, abs=30)
    assert all(len(boxes) == 4 for boxes in drawn)
    for start, size, fill in (box for boxes in drawn for box in boxes):
        assert size == (10, 5, 1) and start[2] == 0 and 0 <= start[0] <= 30 and 0 <= start[1] <= 15
        assert 0.4 <= fill <= 0.6
    image, target = patch((40, 20, 1))
    filled, same = apply(Draw(cutout=(((30, 15, 0), (10, 5, 1), 0.5),)), image, target)
    assert (filled[:, 30:, 15:] == 0.5).all() and torch.equal(filled[:, :30], image[:, :30]) and same is target
    assert not (image == 0.5).any()
    volume = draw(np.random.default_rng(1), options.model_copy(update={"cutout_p": 1}), patch=(40, 20, 20), channels=1)
    assert volume.cutout[0][1] == (10, 5, 5)


@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (2, 1, 1, 3)])
def test_what_has_no_places_stays(shape):
    image, _ = patch((8, 6, 3))
    target = torch.ones(shape, dtype=torch.uint8)
    drawn = draw(np.random.default_rng(3), ALWAYS, patch=(8, 6, 3), channels=2)
    drawn = dataclasses.replace(drawn, flips=(True, True, True))
    moved, same = apply(drawn, image, target)
    assert same is target and moved.shape == image.shape and not torch.equal(moved, image)


def test_a_patch_of_64_takes_little_time():
    image, target = patch((64, 64, 64), channels=1)
    draws = [draw(np.random.default_rng(n), Options(), patch=(64, 64, 64), channels=1) for n in range(40)]
    apply(Draw(gamma=(1.1,)), image, target)  # imports
    start = time.process_time()
    for one in draws:
        apply(one, image, target)
    assert (time.process_time() - start) / len(draws) < 0.2  # some 10 ms; twenty times that is a mistake, not a load
