"""The folder as registry: names, summaries and options without importing, and what a wrong name is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from medseg import plugins
from medseg.refusal import Refusal
from tests.tiny import ENVIRONMENT

EVERY = [(kind, name) for kind in plugins.KINDS for name in plugins.names(kind)]


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_names_are_the_files(kind):
    files = {file.stem for file in (plugins.PACKAGE / kind).glob("*.py")}
    assert set(plugins.names(kind)) == {stem for stem in files if not stem.startswith("_")} != set()
    assert list(plugins.names(kind)) == sorted(plugins.names(kind))


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_summary_and_options_read_from_the_source_are_those_of_the_module(kind, name):
    module = plugins.find(kind, name)
    assert plugins.summary(kind, name) == (module.__doc__ or "").splitlines()[0] != ""
    listed = [line.partition(":")[0] for line in plugins.options(kind, name)]
    assert listed == list(module.Options.model_fields)


@pytest.mark.parametrize("name", plugins.names("outputs"))
def test_a_constant_read_from_the_source_is_that_of_the_module(name):
    module = plugins.find("outputs", name)
    assert plugins.constant("outputs", name, "SUFFIX") == module.SUFFIX
    assert plugins.constant("outputs", name, "READ_BACK_BY") == module.READ_BACK_BY
    assert plugins.constant("outputs", name, "NONE_SUCH") is None


def test_nothing_is_imported_to_describe_a_component():
    script = (
        "import sys; from medseg import plugins\n"
        "for kind in plugins.KINDS:\n"
        "    for name in plugins.names(kind): plugins.summary(kind, name), plugins.options(kind, name)\n"
        "print([name for name in sys.modules if name.startswith('medseg.') and name.count('.') > 1])"
    )
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_mistyped_name_is_answered_with_the_nearest():
    with pytest.raises(Refusal, match=r"losses: dice_cee: found 'dice_cee'.*did you mean 'dice_ce'"):
        plugins.find("losses", "dice_cee")
    with pytest.raises(Refusal, match="choose one of: boundary, ce, cldice, dice, dice_ce, focal"):
        plugins.find("losses", "zzz")
    with pytest.raises(Refusal, match="importable module"):
        plugins.find("losses", "no_such_package.loss")


def test_private_files_are_no_components():
    assert "_files" not in plugins.names("datasets") and "__init__" not in plugins.names("models")
