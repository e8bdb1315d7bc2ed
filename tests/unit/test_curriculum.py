"""A curriculum: which patches a step has, how they are shrunk, and that all else stays as it was."""

import contextlib
import itertools
import json
import os
import re
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.optimizer import register_optimizer_step_pre_hook

from medseg import config
from medseg.data import cache
from medseg.data.patches import PatchSource
from medseg.engine import checkpoint, curriculum, validate
from medseg.engine import train as training
from medseg.engine.samples import Samples
from medseg.engine.train import train
from medseg.labels import LabelTable
from medseg.models.residual_unet import ResidualUNet
from medseg.plan import Normalisation, Plan
from medseg.refusal import Refusal
from medseg.transforms import prepare, shrink
from medseg.transforms.augment import Draw, Options, apply, draw
from medseg.volume import Volume
from tests import tiny

CURRICULUM = ("train.curriculum={}", "train.epochs=3", "train.steps=4", "train.validate_every=1")


def recipe(tmp_path, *changes: str) -> config.Recipe:
    return config.load(tiny.recipe(tmp_path / "recipe.yaml", tmp_path / "none"), [*CURRICULUM, *changes])


def plan(patch=(64, 64, 64), spacing=(1.0, 1.0, 1.0), context=0) -> Plan:
    how = (Normalisation(kind="none"),)
    return Plan(
        orientation="RAS", spacing_mm=spacing, patch=patch, batch=1, context=context, normalisation=how, crop="none",
        order=3, channels=("image",),
    )  # fmt: skip


# which patches


def test_sizes_grow_in_stages_up_to_the_whole_patch_and_say_so(tmp_path):
    found = curriculum.stages(recipe(tmp_path, "train.epochs=10", "train.steps=10"), plan())
    assert found == [(0, (32, 32, 32)), (30, (48, 48, 48)), (60, (64, 64, 64))]
    assert curriculum.in_words(found) == (
        "curriculum: patches of 32 x 32 x 32 until step 30, of 48 x 48 x 48 until step 60, then of 64 x 64 x 64"
    )
    assert curriculum.stages(config.load(tmp_path / "recipe.yaml"), plan()) == []


@pytest.mark.parametrize(
    ("patch", "spacing", "expected"),
    [
        ((64, 64, 64), (1, 1, 1), (32, 32, 32)),
        ((64, 64, 32), (1, 1, 1.5), (32, 32, 24)),  # voxels of 2 mm along all axes
        ((64, 64, 16), (0.8, 0.8, 5), (32, 32, 16)),  # slices that are thick enough already
        ((64, 64, 64), "native", (32, 32, 32)),
    ],
)
def test_thick_slices_are_shrunk_less(tmp_path, patch, spacing, expected):
    assert curriculum.stages(recipe(tmp_path), plan(patch, spacing))[0].patch == expected


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*(st.integers(1, 8) for _ in range(3))),
    st.tuples(*(st.sampled_from([1, 2, 8, 16]) for _ in range(3))),
    st.floats(0.05, 0.95),
    st.tuples(*(st.floats(0.5, 6) for _ in range(3))),
)
def test_sides_are_multiples_no_longer_than_before(times, divisor, share, spacing):
    patch = tuple(side * unit for side, unit in zip(times, divisor, strict=True))
    small = shrink.sides(patch, share, spacing_mm=spacing, divisor=divisor)
    larger = shrink.sides(patch, min(1.0, share * 1.3), spacing_mm=spacing, divisor=divisor)
    for side, more, whole, unit in zip(small, larger, patch, divisor, strict=True):
        assert side % unit == 0 and unit <= side <= more <= whole
        assert side >= whole * share - unit / 2


def test_a_2d_network_keeps_its_slices(tmp_path):
    made = recipe(tmp_path, "model={name: swtr_unet, neighbours: 1}")
    first = curriculum.stages(made, plan((256, 256, 1), (0.8, 0.8, 0.8), context=1))[0]
    assert first.patch == (128, 128, 1)


def test_a_network_for_one_size_is_refused(tmp_path):
    made = recipe(tmp_path, "model={name: swin_unet}")
    with pytest.raises(Refusal, match=r"train.curriculum: .*\[224, 224, 1\].*multiples of \[224, 224, 1\]"):
        curriculum.check(made, plan((224, 224, 1)), out_channels=3)


FIXED = """
from torch import nn
from medseg.settings import Settings

class Options(Settings):
    pass

def divisor(options):
    return 16, 16, 16

def build(options, *, in_channels, out_channels):
    return nn.Sequential(nn.Flatten(2), nn.Linear(64 ** 3, 8))
"""


def test_patches_that_a_network_cannot_compute_are_refused_before_data_are_read(tmp_path, monkeypatch):
    (tmp_path / "mynets").mkdir()
    (tmp_path / "mynets" / "fixed.py").write_text(FIXED)
    monkeypatch.syspath_prepend(tmp_path)
    tiny.data_set(tmp_path / "data")
    words = ["model={name: mynets.fixed}", "prepare.patch=[64,64,64]", f"dataset.root={tmp_path / 'data'}"]
    said = tiny.medseg_command("prepare", tiny.recipe(tmp_path / "recipe.yaml", tmp_path), *words)
    assert said.code == 0, said.err
    said = tiny.medseg_command("train", tmp_path / "recipe.yaml", *words, *CURRICULUM, "--out", tmp_path / "run")
    assert said.code == 2 and "train.curriculum: found patches of [32, 32, 48], which mynets.fixed cannot" in said.err
    assert "Traceback" not in said.err


def test_whole_patches_for_at_least_30_percent(tmp_path):
    with pytest.raises(Refusal, match=r"train\.curriculum\.whole_from"):
        recipe(tmp_path, "train.curriculum.whole_from=0.8")


# how they are shrunk


def patch(shape, channels=1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(4)
    image = generator.normal(size=(channels, *shape)).astype(np.float32)
    return torch.from_numpy(image), torch.from_numpy(generator.integers(0, 5, (1, *shape)).astype(np.uint8))


def test_new_voxels_are_means_of_what_they_cover():
    image, target = patch((8, 12, 6), channels=2)
    small, labels = shrink.shrink(image, target, (4, 12, 3))
    expected = torch.nn.functional.avg_pool3d(image, (2, 1, 2))
    assert torch.allclose(small, expected, atol=1e-6) and small.is_contiguous()
    assert torch.equal(labels, target[:, 1::2, :, 1::2])


@settings(max_examples=30, deadline=None)
@given(st.tuples(*(st.integers(1, 12) for _ in range(3))), st.data())
def test_shrinking_keeps_means_constants_and_labels(shape, data):
    small = tuple(data.draw(st.integers(1, side)) for side in shape)
    image, target = patch(shape, channels=2)
    new, labels = shrink.shrink(image, target, small)
    assert new.shape == (2, *small) and labels.shape == (1, *small) and labels.dtype == target.dtype
    assert torch.allclose(new.mean((1, 2, 3)), image.mean((1, 2, 3)), atol=1e-5)
    assert set(labels.unique().tolist()) <= set(target.unique().tolist())
    flat, _ = shrink.shrink(torch.full_like(image, 3), target, small)
    assert torch.allclose(flat, torch.tensor(3.0))


def test_fine_structures_vanish_in_place_of_becoming_coarse_ones():
    stripes = (torch.arange(32) % 2).float().expand(1, 8, 8, 32).contiguous()
    small, _ = shrink.shrink(stripes, stripes.byte(), (8, 8, 16))
    assert torch.allclose(small, torch.tensor(0.5))


def test_regions_stay_inside_one_another_and_what_is_unknown_stays_so():
    image, numbers = patch((12, 12, 12))
    regions = torch.cat([(numbers > 0).byte(), (numbers > 2).byte()])
    regions[:, :6] = 255
    _, small = shrink.shrink(image, regions, (6, 6, 6))
    assert (small[:, :3] == 255).all() and (small[0, 3:] >= small[1, 3:]).all() and small[1, 3:].any()


def test_classes_of_whole_images_have_no_places():
    image, _ = patch((8, 8, 8))
    one = torch.full((1, 1, 1, 1), 2, dtype=torch.uint8)
    small, same = shrink.shrink(image, one, (4, 4, 4))
    assert small.shape == (1, 4, 4, 4) and same is one


ONLY = {name: 0.0 for name in Options.model_fields if name.endswith("_p")}
SMOOTH = {
    "turn": {"rotate_p": 1}, "zoom": {"scale_p": 1}, "bend": {"elastic_p": 1}, "blur": {"blur_p": 1},
    "flip": {"mirror": ("left-right",)}, "gamma": {"gamma_p": 1}, "coarse": {"low_resolution_p": 1},
    "box": {"cutout": 2, "cutout_p": 1, "cutout_side": 0.3},
}  # fmt: skip


@pytest.mark.parametrize("kind", SMOOTH)
@pytest.mark.parametrize("shape", [(20, 20, 20), (20, 24, 40)])
def test_shrunk_and_varied_is_varied_and_shrunk(kind, shape):
    """On an image without fine structures, far from the border; each change is much larger than the difference."""
    whole = (40, 40, 40)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in whole), indexing="ij")
    image = torch.stack([torch.sin(4 * axes[0] + 1) + axes[1] * 2, axes[2] * 3 + axes[0]])
    target = (image[:1] > 0).byte()
    wanted = Options(**{**ONLY, **SMOOTH[kind]})
    drawn = draw(np.random.default_rng(3), wanted, patch=whole, channels=2)
    assert drawn != Draw()
    late = shrink.shrink(*apply(drawn, image, target), shape)
    early = apply(shrink.smaller(drawn, whole, shape), *shrink.shrink(image, target, shape))
    plain = shrink.shrink(image, target, shape)
    inside = (slice(None), *(slice(side // 4, -side // 4) for side in shape))
    off, changed = (late[0] - early[0])[inside].abs().mean(), (late[0] - plain[0])[inside].abs().mean()
    assert off < 0.05 and (off < (0.4 if kind == "box" else 0.2) * changed or changed < 0.005)
    assert (late[1] != early[1])[inside].float().mean() < 0.1  # the centre of a new voxel lies between two old ones


@pytest.mark.parametrize("shape", [(20, 20, 20), (20, 40, 40)])
def test_noise_falls_as_its_mean_would(shape):
    drawn = draw(np.random.default_rng(3), Options(**{**ONLY, "noise_p": 1}), patch=(40, 40, 40), channels=1)
    image = torch.zeros(1, 40, 40, 40)
    late, _ = shrink.shrink(*apply(drawn, image, image.byte()), shape)
    early, _ = apply(shrink.smaller(drawn, (40, 40, 40), shape), *shrink.shrink(image, image.byte(), shape))
    assert float(early.std()) == pytest.approx(float(late.std()), rel=0.05)


def test_low_resolution_takes_no_more_than_is_still_there():
    drawn = Draw(low_resolution=(0.25, 0.75, None), blur=(None, 1.0, 0.5))
    small = shrink.smaller(drawn, (8, 8, 8), (4, 8, 8))
    assert small.low_resolution == (0.5, None, None) and small.blur == (None, 0.5, 0.25)


# training


def test_samples_are_shrunk_with_their_context_and_their_draws(tmp_path):
    table, made = LabelTable.of({"a": 1}), plan((16, 16, 1))
    scan, labels = patch((20, 20, 6))
    image, undo = prepare.image(Volume(scan.numpy(), np.eye(4)), made)
    target = prepare.target(Volume((labels.numpy() > 2).astype(np.uint8), np.eye(4)), undo, table)
    cache.write_case(tmp_path / "a", "a", image, target, undo, table)
    source = PatchSource([[tmp_path / "a"]], (16, 16, 1), 10, seed=3, context=1)
    often = Options(**{**ONLY, "noise_p": 1, "cutout": 2, "cutout_p": 1, "cutout_side": 0.3})
    whole = Samples(source, often, "RAS")
    coarse = replace(whole, stages=[(0, (8, 8, 1)), (5, (16, 16, 1))])
    cut = coarse.cut([4])
    varied = coarse.vary(cut)
    assert varied.images.shape == (1, 1, 8, 8, 3) and varied.targets.shape == (1, 1, 8, 8, 1)
    assert cut.draws == [shrink.smaller(whole.cut([4]).draws[0], (16, 16, 3), (8, 8, 3))] != whole.cut([4]).draws
    assert torch.equal(coarse[5][0], whole[5][0])


@contextlib.contextmanager
def seen():
    """Sides of the images that a network is trained on, step after step."""
    sides: list[tuple[int, ...]] = []

    def see(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if module.training and isinstance(module, ResidualUNet) and not given[0].is_meta:
            sides.append(tuple(given[0].shape[2:]))

    hook = torch.nn.modules.module.register_module_forward_pre_hook(see)
    try:
        yield sides
    finally:
        hook.remove()


def losses(run) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def small_first(tmp_path_factory):
    root = tmp_path_factory.mktemp("curriculum")
    made = tiny.recipe(root / "recipe.yaml", tiny.data_set(root / "data"))
    with seen() as sides:
        said = tiny.medseg_command("train", made, *CURRICULUM, "--out", root / "run")
    assert said.code == 0, said.err
    return made, root / "run", sides, said.err


def test_training_sees_small_patches_first(small_first):
    _, run, sides, said = small_first
    assert sides == [(8, 8, 10)] * 4 + [(12, 12, 16)] * 3 + [(16, 16, 16)] * 5
    assert "patches of 8 x 8 x 10 until step 4, of 12 x 12 x 16 until step 7, then of 16 x 16 x 16" in said
    assert len(losses(run)) == 3


@pytest.mark.parametrize("after", [3, 6, 8])
def test_interrupted_in_any_stage_it_goes_on_bit_for_bit(small_first, tmp_path, after):
    made, whole, sides, _ = small_first
    words = ["train", made, *CURRICULUM, "--out", tmp_path / "run"]
    steps = itertools.count(1)
    hook = register_optimizer_step_pre_hook(
        lambda *_: os.kill(os.getpid(), signal.SIGTERM) if next(steps) == after else None
    )
    said = tiny.medseg_command(*words)
    hook.remove()
    assert said.code == 75
    with seen() as again:
        said = tiny.medseg_command(*words)
    assert said.code == 0 and (going := re.search(r"going on after step (\d+) of 12", said.err))
    assert again == sides[int(going[1]) :]
    ends = [checkpoint.load(run / "weights.safetensors")[2] for run in (whole, tmp_path / "run")]
    assert ends[0] == ends[1] and losses(whole) == losses(tmp_path / "run")


def test_accumulated_batches_are_of_the_same_stage(small_first, tmp_path):
    made = config.load(small_first[0], [*CURRICULUM, "train.accumulate=2", "prepare.batch=2", "train.micro_batch=2"])
    with seen() as sides:
        train(made, tmp_path / "run", announce=lambda text: None)
    assert sides == [(8, 8, 10)] * 8 + [(12, 12, 16)] * 6 + [(16, 16, 16)] * 10


def test_a_step_has_the_samples_of_all_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_patches", lambda *_: None)
    made = recipe(tmp_path, "train.epochs=10", "train.steps=10", "train.accumulate=3")
    said: list[str] = []
    samples = training._samples(made, SimpleNamespace(plan=plan()), 2, said.append)
    assert samples.stages == [(0, (32, 32, 32)), (180, (48, 48, 48)), (360, (64, 64, 64))] and len(said) == 1


def test_patience_begins_with_whole_patches(small_first, tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "mean_dice", lambda sums: (0.0, [0.0, 0.0]))
    changes = [*CURRICULUM, "train.steps=1", "train.epochs=10", "train.patience=2"]
    train(config.load(small_first[0], changes), tmp_path / "run", announce=lambda text: None)
    assert len(losses(tmp_path / "run")) == 7  # six epochs are coarse; the sixth is followed by whole patches
