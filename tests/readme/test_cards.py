"""The models' cards tell the truth: sizes, recipes, commands, files and the names of the catalogue exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from medseg import catalogue, config, plugins

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "models"
CARDS = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
PAGES = [*CARDS, FOLDER / "README.md"]
OVERVIEW = (FOLDER / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(
    r"^\| \[.*?\]\((\w+\.md)\).*? \| `(\w+)` \|.*\| `(\w+)` \| (\d+) \| (\d+) \| ([\d,]+) \|$", OVERVIEW, re.MULTILINE
)
VERBS = {path.stem.replace("_", "-") for path in (ROOT / "medseg" / "commands").glob("[a-z]*.py")}
LONGEST = 70
LISTED = re.compile(r"`(?:--as )?((?:rrwnet|stunet|swin-unetr)-[\w-]+)`")


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def commands(path: Path) -> list[list[str]]:
    """Words of every command shown, without remarks."""
    blocks = re.findall(r"^```\n(.*?)^```", text(path), flags=re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("medseg ")]


def test_every_card_is_in_the_table_and_every_network_is_named() -> None:
    assert sorted(row[0] for row in ROWS) == [card.name for card in CARDS]
    assert all(f"`{name}`" in OVERVIEW for name in plugins.names("models"))


@pytest.mark.parametrize(("card", "network", "recipe", "inputs", "outputs", "parameters"), ROWS, ids=lambda it: it)
def test_the_table_of_sizes(card: str, network: str, recipe: str, inputs: str, outputs: str, parameters: str) -> None:
    model = config.load(ROOT / "pipelines" / f"{recipe}.yaml").model
    assert model.name == network and f"pipelines/{recipe}.yaml" in text(FOLDER / card)
    with torch.device("meta"):
        built = model.module().build(model.options, in_channels=int(inputs), out_channels=int(outputs))
    assert sum(each.numel() for each in built.parameters()) == int(parameters.replace(",", ""))


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_card_is_short_and_says_what_it_must(path: Path) -> None:
    content = text(path)
    assert len(content.splitlines()) <= LONGEST
    assert "Not a medical device" in content and "## Published numbers" in content and "## Weights" in content
    assert "Limits" in content and "## What medseg does differently" in content


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_files_named_exist(path: Path) -> None:
    content = text(path)
    for link in re.findall(r"\]\(([^)#:]+)\)", content):
        assert (FOLDER / link).exists(), link
    for name in re.findall(r"`((?:tests|medseg|docs|pipelines)/[\w./]+)`", content):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_commands_are_possible(path: Path) -> None:
    shown = commands(path)
    assert {words[1] for words in shown} <= VERBS and any(words[1] == "train" for words in shown)
    for words in shown:
        if words[1] in ("train", "leakage"):
            config.load(ROOT / words[2], [word for word in words[3:] if "=" in word])
        if words[1] == "get":
            entry = catalogue.entries()[words[2]]
            imported = next(other for other in shown if other[1] == "import-weights")
            assert Path(imported[2]).name == entry.file
            assert imported[imported.index("--as") + 1] in (words[2], path.stem)
        if "--recipe" in words:
            config.load(ROOT / words[words.index("--recipe") + 1])


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_names_of_the_catalogue_exist(path: Path) -> None:
    known = catalogue.entries()
    for name in LISTED.findall(text(path)):
        assert name in known
