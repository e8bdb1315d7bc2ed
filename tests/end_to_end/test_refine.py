"""`medseg refine`: maps of another method go in, refined ones come out, and what is no map is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medseg.engine.run import Run
from tests import tiny
from tests.tiny import medseg_command


@pytest.fixture(scope="module")
def refiner(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("refiner") / "run"
    return tiny.untrained_run(
        folder,
        channels=("red", "green", "blue"),
        labels={"artery": [1, 3], "vein": [2, 3], "vessel": [1, 2, 3]},
        changes=("model={name: rrwnet, base_channels: 4, iterations: 2}", "prepare.patch=[16, 16, 1]"),
    )


def maps(folder: Path, names: tuple[str, ...] = ("a", "b"), size: tuple[int, int] = (21, 35)) -> Path:
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize("orientation", ["LPS", "RAS"])
def test_maps_are_refined_as_the_network_does_it(refiner: Run, tmp_path: Path, orientation: str) -> None:
    """With a full 32 pixels of zeros around, as in RRWNet's original, and in the direction that the network learned
    pictures in: RAS is LPS turned by half a circle."""
    run = Run(shutil.copytree(refiner.folder, tmp_path / "run"))
    run.write("plan.json", {**run.read("plan.json"), "orientation": orientation})
    folder = maps(tmp_path / "maps", size=(32, 48))
    said = medseg_command("refine", run.folder, folder, tmp_path / "out")
    assert said.code == 0, said.err
    before = np.asarray(Image.open(folder / "a.png")).transpose(2, 0, 1).astype(np.float32) / 255
    turns = {"LPS": 0, "RAS": 2}[orientation]
    padded = np.pad(np.rot90(before, turns, (1, 2)), ((0, 0), (16, 16), (8, 8)))
    network, _ = run.load_network()
    with torch.inference_mode():
        expected = network.refine(torch.from_numpy(padded.copy())[None])[0][0].numpy()  # type: ignore[operator]
    expected = np.rot90(expected[:, 16:-16, 8:-8], turns, (1, 2))
    after = np.asarray(Image.open(tmp_path / "out" / "a.png")).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(after, expected, atol=0.502 / 255)
    np.testing.assert_allclose(after[2], before[2], atol=1e-6)  # all vessels are never refined


def test_a_mask_of_another_size_is_refused(refiner: Run, tmp_path: Path) -> None:
    folder, masks = maps(tmp_path / "maps", names=("a",)), tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.zeros((35, 21), np.uint8)).save(masks / "a.png")
    said = medseg_command("refine", refiner.folder, folder, tmp_path / "out", "--valid", masks)
    assert said.code == 1 and "found 21 x 35 pixels; needed 35 x 21" in said.err


def test_any_size_comes_back_and_outside_the_mask_is_nothing(refiner: Run, tmp_path: Path) -> None:
    folder, masks = maps(tmp_path / "maps"), tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros((21, 35), np.uint8)
    mask[4:15, 3:30] = 255
    for name in "ab":
        Image.fromarray(mask).save(masks / f"{name}.png")
    assert medseg_command("refine", refiner.folder, folder, tmp_path / "out", "--valid", masks).code == 0
    after = np.asarray(Image.open(tmp_path / "out" / "b.png"))
    assert after.shape == (21, 35, 3) and not after[mask == 0].any() and after[mask > 0].any()


def test_one_bad_map_does_not_stop_the_others(refiner: Run, tmp_path: Path) -> None:
    folder = maps(tmp_path / "maps")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "grey.png")
    said = medseg_command("refine", refiner.folder, folder, tmp_path / "out")
    assert said.code == 1 and "grey.png" in said.err and "colour picture" in said.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]


def test_a_network_that_does_not_refine_is_refused(untrained: Path, tmp_path: Path) -> None:
    said = medseg_command("refine", untrained, maps(tmp_path / "maps"), tmp_path / "out")
    assert said.code == 2 and "residual_unet" in said.err and "rrwnet" in said.err and not (tmp_path / "out").exists()


def test_maps_are_not_written_over(refiner: Run, tmp_path: Path) -> None:
    folder = maps(tmp_path / "maps")
    before = (folder / "a.png").read_bytes()
    said = medseg_command("refine", refiner.folder, folder, folder)
    assert said.code == 2 and "choose another folder" in said.err and (folder / "a.png").read_bytes() == before
