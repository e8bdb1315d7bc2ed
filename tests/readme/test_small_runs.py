"""docs/small-runs.md: every small recipe has been run, and beat its baseline."""

from __future__ import annotations

import pytest

from tests.tiny import ROOT

TABLE = ROOT / "docs" / "small-runs.md"
RECIPES = sorted(path.stem for path in (ROOT / "pipelines" / "small").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_small_recipe_has_three_runs_better_than_its_baseline(recipe: str) -> None:
    rows = {line.split(" | ")[0].strip("| "): line for line in TABLE.read_text(encoding="utf-8").splitlines()}
    baseline, *seeds, mean, _ = (float(cell.strip("| ")) for cell in rows[recipe].split(" | ")[1:])
    assert len(seeds) == 3 and min(seeds) > baseline and mean >= baseline + 0.1
