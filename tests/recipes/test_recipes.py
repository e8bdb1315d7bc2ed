"""Every shipped recipe is valid, says what it means after a round trip, and names a network that can be built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml

from medseg import config
from medseg.config import Recipe

RECIPES = sorted((Path(__file__).parents[2] / "pipelines").glob("*.yaml"))
EXPECTED = {
    "att_swin_unet_isic2018",
    "demo_ct",
    "resnet18_dr",
    "resnet18_lymphoma",
    "rrwnet_rite",
    "stunet_ct",
    "swin_unetr_brats",
    "swtr_unet_lits",
    "unet_ct",
    "video_resnet_brats_grade",
}
TRIAL = re.compile(r"^# A small trial on a CPU:(.*\n(?:#   .*\n)*)", re.MULTILINE)


def trial(path: Path) -> list[str]:
    """The `key=value` words of the recipe's small trial."""
    said = TRIAL.search(path.read_text(encoding="utf-8"))
    return said[1].replace("#", " ").split() if said else []


def channels(recipe: Recipe) -> int:
    """As many as the recipe normalises, or names the modality of."""
    normalised = recipe.prepare.normalisation
    return len(recipe.prepare.modalities if normalised == "auto" else normalised) + len(recipe.prepare.centres)


def check(recipe: Recipe) -> None:
    """The network takes the recipe's channels and its patch, which a classifier needs no less than the size."""
    module, options = recipe.model.module(), recipe.model.options
    with torch.device("meta"):
        network = module.build(options, in_channels=channels(recipe), out_channels=3)
    assert sum(parameter.numel() for parameter in network.parameters()) > 0
    patch, size = recipe.prepare.patch, recipe.prepare.size
    assert patch != "auto" and all(side % step == 0 for side, step in zip(patch, module.divisor(options), strict=True))
    flat = hasattr(module, "context")
    assert not flat or patch[2] == 1
    if getattr(module, "CLASSIFIES", False):
        axes = 2 if flat else 3
        assert size is not None and size[:axes] == patch[:axes]


def test_there_are_recipes() -> None:
    assert {path.stem for path in RECIPES} >= EXPECTED


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe(path: Path) -> None:
    recipe = config.load(path)
    assert recipe.name == path.stem
    assert config.parse(yaml.safe_load(config.dump(recipe)), where=path) == recipe
    check(recipe)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_small_trial_is_valid_too(path: Path) -> None:
    if path.stem == "demo_ct":  # is one
        return
    words = trial(path)
    assert any(word.startswith("train.steps=") for word in words)
    recipe = config.load(path, words)
    assert recipe.train.precision == "32"
    check(recipe)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_commented(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")
