"""Pictures: columns are i, rows are j, bits are kept, and what is not the picture (alpha, EXIF) is dealt with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from medseg import readers
from medseg.geometry import orientation
from medseg.readers import picture
from medseg.refusal import Refusal

RNG = np.random.default_rng(0)
GREY, RGB = RNG.integers(0, 256, (5, 7)).astype(np.uint8), RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
def test_grey_and_colour(tmp_path: Path, suffix: str) -> None:
    for array in (GREY, RGB):
        Image.fromarray(array).save(tmp_path / f"a{suffix}")
        volume = readers.read(tmp_path / f"a{suffix}")
        assert (volume.unit, volume.shape, orientation(volume.affine)) == ("px", (7, 5, 1), "LPS")
        np.testing.assert_array_equal(volume.array[0, :, :, 0].T, array if array.ndim == 2 else array[..., 0])
        assert volume.array.dtype == np.uint8


def test_sixteen_bits_are_kept_or_refused(tmp_path: Path) -> None:
    grey = RNG.integers(0, 65536, (5, 7)).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    volume = readers.read(tmp_path / "a.png")
    assert volume.array.dtype == np.uint16
    np.testing.assert_array_equal(volume.array[0, :, :, 0].T, grey)
    colour = RNG.integers(0, 65536, (5, 7, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb")
    np.testing.assert_array_equal(readers.read(tmp_path / "a.tif").array[..., 0].transpose(2, 1, 0), colour)


def test_half_precision_is_widened(tmp_path: Path) -> None:
    """Neither NIfTI nor NRRD, into which it may be converted, can hold it."""
    tifffile.imwrite(tmp_path / "a.tif", (GREY / 8).astype(np.float16))
    volume = readers.read(tmp_path / "a.tif")
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array[0, :, :, 0].T, GREY / 8)


def test_alpha_is_dropped_and_palettes_are_the_callers_choice(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([RGB, GREY])).save(tmp_path / "a.png")
    np.testing.assert_array_equal(readers.read(tmp_path / "a.png").array[..., 0].transpose(2, 1, 0), RGB)
    indexed = Image.fromarray(GREY % 3).convert("P")
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    indexed.save(tmp_path / "p.png")
    assert len(readers.read(tmp_path / "p.png").array) == 3
    numbers = picture.read(tmp_path / "p.png", picture.Options(palette="numbers"))
    np.testing.assert_array_equal(numbers.array[0, :, :, 0].T, GREY % 3)


@pytest.mark.parametrize("tag", range(1, 9))
def test_exif_orientation(tmp_path: Path, tag: int) -> None:
    made = Image.fromarray(RGB)
    exif = made.getexif()
    exif[0x0112] = tag
    made.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(readers.read(tmp_path / "a.png").array[..., 0].transpose(2, 1, 0), expected)


def test_damaged_and_many_paged_pictures_are_refused(tmp_path: Path) -> None:
    noise = RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    Image.fromarray(noise).save(tmp_path / "cut.png")
    tifffile.imwrite(tmp_path / "cut.tif", noise)
    for name in ("cut.jpg", "cut.png", "cut.tif"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-3000])
        with pytest.raises(Refusal, match=name):
            readers.read(tmp_path / name)
    tifffile.imwrite(tmp_path / "pages.tif", np.zeros((3, 64, 64), np.uint8), photometric="minisblack")
    with pytest.raises(Refusal, match="3 pages"):
        readers.read(tmp_path / "pages.tif")
