"""The viewer as a user meets it: what it draws, what a click tells, what the legend does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

from tests.pages import pixels
from tests.tiny import AFFINE, medseg_command, nifti, phantom

Open = Callable[[Path], Page]
TURNED = AFFINE[:, [2, 0, 1, 3]]
"""Voxel axes in another order: what a click tells must not depend on it."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of a scan whose axes run head, left, front, and of its two labels."""
    folder = tmp_path_factory.mktemp("view")
    image, label = (array.transpose(2, 0, 1) for array in phantom(0))
    scan = nifti(folder / "scan.nii.gz", image, TURNED)
    labels = nifti(folder / "truth.nii.gz", label, TURNED)
    (folder / "labels.yaml").write_text("labels: {left ball: 1, '</script><b>right': 2}\n", encoding="utf-8")
    done = medseg_command(
        "view", scan, labels, "--labels", folder / "labels.yaml", "--out", folder / "page.html", "--no-open"
    )
    assert done.code == 0 and "page.html: " in done.out and " MB" in done.out
    return folder / "page.html"


def ready(page: Page) -> Page:
    page.wait_for_selector("body[data-ready]", timeout=20_000)
    return page


def seen(page: Page) -> np.ndarray:
    return pixels(page.locator("canvas").screenshot())


def of_colour(picture: np.ndarray, swatch: str) -> np.ndarray:
    """(n, 2) rows and columns of the pixels that have the colour of a swatch."""
    colour = [int(part) for part in swatch.removeprefix("rgb(").removesuffix(")").split(",")]
    return np.argwhere(np.abs(picture.astype(int) - colour).max(axis=-1) < 12)


def test_a_click_tells_the_label_and_where_it_is(opened: Open, written: Path) -> None:
    page = ready(opened(written))
    page.locator("#view").select_option("axial")
    page.locator("#opacity").fill("1")
    page.get_by_role("button", name="Go to left ball").click()
    assert page.locator("#label-0").inner_text() == "left ball", "it leads into the label"
    swatch = page.locator(".swatch").nth(0).evaluate("swatch => swatch.style.backgroundColor")
    ball = of_colour(seen(page), swatch)
    assert len(ball) > 100
    row, at = ball.mean(axis=0)
    page.locator("canvas").click(position={"x": int(at), "y": int(row) - 300 if row > 400 else int(row) + 300})
    assert page.locator("#label-0").inner_text() == "background"
    page.locator("canvas").click(position={"x": int(at), "y": int(row)})
    assert page.locator("#label-0").inner_text() == "left ball"
    place = [float(part.removesuffix(" mm")) for part in page.locator("#position").inner_text().split(", ")]
    voxel = np.rint(np.linalg.solve(AFFINE, [*place, 1])[:3]).astype(int)
    image, label = phantom(0)
    assert label[tuple(voxel)] == 1
    assert float(page.locator("#value").inner_text()) == image[tuple(voxel)]


def test_hiding_a_label_takes_it_out_of_the_picture(opened: Open, written: Path) -> None:
    page = ready(opened(written))
    page.locator("#opacity").fill("1")
    page.get_by_role("button", name="Go to </script><b>right").click()
    swatch = page.locator(".swatch").nth(1).evaluate("swatch => swatch.style.backgroundColor")
    with_it = seen(page)
    assert with_it.std() > 5, "something is drawn"
    page.get_by_label("</script><b>right", exact=True).uncheck()
    without = seen(page)
    assert len(of_colour(with_it, swatch)) > 100 and len(of_colour(without, swatch)) == 0
    page.get_by_role("button", name="show all").click()
    assert len(of_colour(seen(page), swatch)) > 100


def test_a_window_and_the_opacity_change_the_picture(opened: Open, written: Path) -> None:
    page = ready(opened(written))
    first = seen(page)
    page.locator("#preset").select_option("bone")
    assert page.locator("#black").input_value() == "-450"
    bone = seen(page)
    page.locator("#opacity").fill("0")
    assert (first != bone).any() and (bone != seen(page)).any()


def test_a_photograph_is_shown_upright_in_its_colours(opened: Open, tmp_path: Path) -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:20], picture[20:, :30], picture[20:, 30:] = (200, 40, 40), (40, 200, 40), (40, 40, 200)
    Image.fromarray(picture).save(tmp_path / "eye.png")
    mask = np.zeros((40, 60), np.uint8)
    mask[5:15, 5:15] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    done = medseg_command(
        "view", tmp_path / "eye.png", tmp_path / "mask.png", "--out", tmp_path / "v.html", "--no-open"
    )
    assert done.code == 0
    page = ready(opened(tmp_path / "v.html"))
    page.locator("#opacity").fill("0")
    shown = seen(page)
    red, green, blue = (of_colour(shown, f"rgb({colour})") for colour in ("200,40,40", "40,200,40", "40,40,200"))
    assert len(red) > 1000 and len(green) > 1000 and len(blue) > 1000
    assert red[:, 0].mean() < green[:, 0].mean() and green[:, 1].mean() < blue[:, 1].mean()
    top, left = red.min(axis=0)
    scale = (blue[:, 1].max() - left) / 60
    page.locator("canvas").click(position={"x": float(left + 10 * scale), "y": float(top + 10 * scale)})
    assert page.locator("#label-0").inner_text() == "number 1"
    assert page.locator("#position").inner_text() in ("9, 9", "10, 10", "9, 10", "10, 9")
