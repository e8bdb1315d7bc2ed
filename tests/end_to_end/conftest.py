"""One tiny data set and one tiny training, shared by the tests of this folder; none of them changes these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import tiny


@dataclass(frozen=True)
class Trained:
    """Where things are, and what the training said."""

    data: Path
    recipe: Path
    run: Path
    said: tiny.Said


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Trained:
    root = tmp_path_factory.mktemp("tiny")
    data = tiny.data_set(root / "data")
    recipe = tiny.recipe(root / "recipe.yaml", data)
    said = tiny.medseg_command("train", recipe, "--out", root / "run")
    assert said.code == 0, said.err
    return Trained(data, recipe, root / "run", said)


@pytest.fixture(scope="session")
def untrained(tmp_path_factory) -> Path:
    """A run with random weights, which labels every voxel of a scan with one of its classes at random."""
    return tiny.untrained_run(tmp_path_factory.mktemp("untrained") / "run", spacing=(2, 2, 2)).folder
