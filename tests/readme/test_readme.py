"""The front page tells the truth: its verbs, files and recipe exist, and its Python lines are the API's."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

import medseg
from medseg import config

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
VERBS = {path.stem.replace("_", "-") for path in (ROOT / "medseg" / "commands").glob("[a-z]*")}
"""Groups of verbs, which are folders, included."""


def test_verbs_exist_and_are_all_named() -> None:
    used = set(re.findall(r"^\s*medseg ([\w-]+)", README, flags=re.MULTILINE))
    used |= set(re.findall(r"`medseg ([\w-]+)", README))
    assert used and used <= VERBS
    table = README[README.index("## Verbs") : README.index("## To add something")]
    assert set(re.findall(r"`([\w-]+)`", table)) >= VERBS


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:tests|medseg|docs|sample_data)/[\w./]+)`", README))))
def test_files_named_exist(path: str) -> None:
    if not path.endswith("/x.py"):  # the name of what a reader would add
        assert (ROOT / path).exists()


def test_the_smallest_recipe_is_valid(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    assert block
    path = tmp_path / "liver.yaml"
    path.write_text(textwrap.dedent(block[1]), encoding="utf-8")
    assert config.load(path).name == "liver"


def test_python_names_exist() -> None:
    assert set(re.findall(r"medseg\.(\w+)\(", README)) == set(medseg.__all__)


@pytest.mark.parametrize("command", re.findall(r"python3 bootstrap\.py (\w+)", README))
def test_bootstrap_commands_exist(command: str) -> None:
    assert f'command == "{command}"' in (ROOT / "bootstrap.py").read_text(encoding="utf-8")
