"""Every shipped recipe is valid, says what it means after a round trip, and names a network that can be built."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from medseg import config

RECIPES = sorted((Path(__file__).parents[2] / "pipelines").glob("*.yaml"))


def test_there_are_recipes() -> None:
    assert {"demo_ct", "stunet_ct", "swin_unetr_brats"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe(path: Path) -> None:
    recipe = config.load(path)
    assert recipe.name == path.stem
    assert config.parse(yaml.safe_load(config.dump(recipe)), where=path) == recipe
    module, options = recipe.model.module(), recipe.model.options
    with torch.device("meta"):
        network = module.build(options, in_channels=1, out_channels=3)
    assert sum(parameter.numel() for parameter in network.parameters()) > 0
    patch = recipe.prepare.patch
    assert patch != "auto" and all(side % step == 0 for side, step in zip(patch, module.divisor(options), strict=True))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_commented(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")
