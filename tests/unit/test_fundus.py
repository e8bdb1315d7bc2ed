"""Photographs of the retina, on pictures that can be checked on paper."""

from __future__ import annotations

import colorsys
import random

import numpy as np
import pytest

from medseg.refusal import Refusal
from medseg.transforms import fundus
from medseg.transforms.fundus import Affine, Box, Colour, Rectangle


def disc(rows: int, columns: int, radius: float) -> np.ndarray:
    """Mask of a disc in the middle."""
    row, column = np.ogrid[:rows, :columns]
    return (row - (rows - 1) / 2) ** 2 + (column - (columns - 1) / 2) ** 2 <= radius**2


def photograph(rows: int = 60, columns: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """A lit disc with some texture, and its mask."""
    mask = disc(rows, columns, 0.45 * rows)
    noise = np.random.default_rng(2).integers(60, 200, (rows, columns, 3))
    return np.where(mask[..., None], noise, 2).astype(np.uint8), mask


class TestFieldOfView:
    def test_is_the_lit_disc(self):
        image, mask = photograph()
        assert (fundus.field_of_view(image) == mask).all()

    def test_dark_spots_inside_belong_to_it_and_bright_ones_outside_do_not(self):
        image, mask = photograph()
        image[28:32, 38:42] = 0
        image[0, 0] = 255
        assert (fundus.field_of_view(image) == mask).all()

    def test_a_black_picture_has_none(self):
        with pytest.raises(Refusal, match="black everywhere"):
            fundus.field_of_view(np.zeros((4, 4, 3), np.uint8))

    def test_a_grey_picture_is_refused(self):
        with pytest.raises(Refusal, match="red, green, blue"):
            fundus.field_of_view(np.zeros((4, 4), np.uint8))


class TestEnhance:
    def test_the_mask_loses_its_rim_and_outside_is_black(self):
        image, mask = photograph()
        enhanced, inside = fundus.enhance(image, mask)
        assert not (inside & ~mask).any()
        assert (inside.any(1).sum(), inside.any(0).sum()) == (mask.any(1).sum() - 10, mask.any(0).sum() - 10)
        assert (enhanced[~inside] == 0).all()
        assert enhanced[inside].min() == 0
        assert enhanced.max() == 1

    def test_a_slope_of_light_goes(self):
        _, mask = photograph(200, 200)
        slope = np.broadcast_to(np.arange(40, 240)[:, None, None], (200, 200, 3)).astype(float)
        spots = slope + 10 * (np.indices((200, 200)).sum(0) % 8 < 2)[..., None]
        enhanced, inside = fundus.enhance(spots, mask)
        middle = inside & disc(200, 200, 60)
        upper, lower = middle.copy(), middle.copy()
        upper[100:], lower[:100] = False, False
        assert enhanced[upper].mean() == pytest.approx(enhanced[lower].mean(), abs=0.02)
        assert spots[upper].mean() < spots[lower].mean() - 40

    def test_whole_numbers_are_cut_off(self):
        image, mask = photograph()
        assert (fundus.enhance_uint8(image, mask)[0] == np.floor(255 * fundus.enhance(image, mask)[0])).all()

    def test_one_colour_becomes_black(self):
        enhanced, _ = fundus.enhance(np.zeros((40, 40, 3), np.uint8), np.ones((40, 40), bool))
        assert not enhanced.any()

    def test_a_mask_of_another_size_is_refused(self):
        with pytest.raises(Refusal, match=r"\(60, 80\)"):
            fundus.enhance(photograph()[0], np.ones((80, 60), bool))

    def test_the_input_stays_as_it_is(self):
        image, mask = photograph()
        before = image.copy(), mask.copy()
        fundus.enhance(image.astype(float), mask)
        assert (image == before[0]).all()
        assert (mask == before[1]).all()


def test_padding_is_never_nothing():
    assert fundus.padding(565, 16) == (5, 6)
    assert fundus.padding(592, 16) == (8, 8)
    assert fundus.padding(15, 16) == (0, 1)


class TestSquare:
    def test_around_a_whole_disc(self):
        assert fundus.square_box(disc(60, 80, 20.6)) == Box(9, 19, 42)

    def test_a_disc_that_is_cut_off_is_filled_up(self):
        mask = np.zeros((4, 10), bool)
        mask[:, 2:8] = True
        assert fundus.square_box(mask) == Box(-1, 2, 6)
        image = np.dstack([mask.astype(np.uint8) * 9] * 3)
        square = fundus.crop(image, fundus.square_box(mask))
        assert square.shape == (6, 6, 3)
        assert (square[1:5] == 9).all()
        assert not square[[0, 5]].any()
        assert fundus.crop(mask, Box(0, 0, 4)).shape == (4, 4)

    def test_nothing_has_no_square(self):
        with pytest.raises(Refusal, match="empty mask"):
            fundus.square_box(np.zeros((3, 3), bool))


class TestColour:
    def test_equals_the_standard_library(self):
        image = np.random.default_rng(1).random((20, 3))
        image[0], image[1], image[2] = (0, 0, 0), (1, 1, 1), (0.5, 0.5, 0.2)
        drawn = Colour(0.3, 0.1, -0.1, 0.9, 1.2)
        expected = []
        for pixel in image:
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
            changed = (0.9 * (saturation + 0.1), 1.2 * (value - 0.1))
            expected.append(colorsys.hsv_to_rgb((hue + 0.3) % 1, *(min(max(part, 0), 1) for part in changed)))
        assert fundus.recolour(image, drawn) == pytest.approx(np.array(expected), abs=1e-12)

    def test_on_paper(self):
        red = np.array([[1.0, 0, 0]])
        assert fundus.recolour(red, Colour(hue=1 / 3))[0] == pytest.approx([0, 1, 0])
        assert fundus.recolour(red, Colour(saturation_factor=0.5))[0] == pytest.approx([1, 0.5, 0.5])
        assert fundus.recolour(red, Colour(value_shift=-0.25))[0] == pytest.approx([0.75, 0, 0])

    def test_nothing_drawn_changes_nothing_and_the_type_stays(self):
        image = np.random.default_rng(1).random((4, 5, 3)).astype(np.float32)
        same = fundus.recolour(image, Colour())
        assert same.dtype == np.float32
        assert same == pytest.approx(image, abs=1e-6)

    @pytest.mark.parametrize("generator", [random.Random(1), np.random.default_rng(1)])
    def test_draws_stay_in_their_ranges(self, generator):
        draws = np.array([fundus.draw_colour(generator, hue=0.1, saturation=0.2, value=0) for _ in range(200)])
        assert np.abs(draws - [0, 0, 0, 1, 1]).max(0) == pytest.approx([0.1, 0.2, 0, 0.2, 0], abs=0.01)


class TestAffine:
    def test_a_quarter_turn_about_the_middle(self):
        image = np.arange(15.0).reshape(3, 5)
        turned = fundus.warp(image[:, 1:4], fundus.affine_matrix(Affine(90), (3, 3)), order=0)
        assert any((turned == np.rot90(image[:, 1:4], times)).all() for times in (1, 3))

    def test_zoom_reads_nearer_to_the_middle(self):
        matrix = fundus.affine_matrix(Affine(zoom=2), (5, 5))
        assert (matrix @ [4, 0, 1]).tolist() == [3, 1, 1]

    def test_shear_slants_columns(self):
        matrix = fundus.affine_matrix(Affine(shear_deg=45), (3, 3))
        assert matrix @ [1, 2, 1] == pytest.approx([0, 2, 1])

    def test_beyond_the_border_is_nothing_and_labels_stay_labels(self):
        labels = np.full((9, 7), 255, np.uint8)
        moved = fundus.warp(labels, fundus.affine_matrix(Affine(30, 0.7, 10), (9, 7)), order=0)
        assert moved.dtype == np.uint8
        assert set(np.unique(moved)) == {0, 255}


class TestCutout:
    def test_fills_a_copy(self):
        image = np.zeros((4, 5, 3))
        filled = fundus.cut_out(image, (Rectangle(1, 2, 2, 3, 0.5),))
        assert filled[1:3, 2:5].min() == 0.5
        assert filled.sum() == 0.5 * 2 * 3 * 3
        assert not image.any()

    def test_lies_inside_and_has_its_size(self):
        for seed in range(20):
            for row, column, height, width, fill in fundus.draw_cutout(random.Random(seed), (100, 50), side=0.1):
                assert (height, width) == (10, 5)
                assert 0 <= row <= 90 and 0 <= column <= 45 and 0.4 <= fill <= 0.6

    def test_happens_as_often_as_asked(self):
        happened = [bool(fundus.draw_cutout(random.Random(seed), (9, 9), p=0.3)) for seed in range(500)]
        assert np.mean(happened) == pytest.approx(0.3, abs=0.08)
