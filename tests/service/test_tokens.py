"""Tokens: shown once, kept as salted hashes in a file of their owner's, and taken back at once."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.refusal import Refusal
from medseg.service.web import tokens
from tests.tiny import medseg_command


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "keys" / "tokens.yaml"


def secret(token: str) -> str:
    return token.partition(".")[2]


def test_a_token_is_shown_once_and_kept_as_a_salted_hash(path):
    first, second = (tokens.add(path, name, "read") for name in ("a", "b"))
    text = path.read_text()
    assert secret(first) not in text and secret(second) not in text
    one, two = tokens.load(path)
    assert one.salt != two.salt and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert tokens.matches(one, secret(first)) and not tokens.matches(one, secret(second))
    assert len(secret(first)) >= 43, "256 bits"


def test_a_file_that_others_can_read_is_refused(path):
    tokens.add(path, "a", "read")
    path.chmod(0o640)
    with pytest.raises(Refusal, match="chmod 600"):
        tokens.load(path)


@pytest.mark.parametrize("text", ["tokens: [{name: a}]", "- 1", "tokens: {", "tokens: [{name: a, secret: hunter2}]"])
def test_a_file_of_something_else_is_refused_without_its_words(path, text):
    path.parent.mkdir()
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(Refusal) as refused:
        tokens.load(path)
    assert "hunter2" not in str(refused.value)


def test_a_name_is_used_once_and_has_no_odd_signs(path):
    tokens.add(path, "a", "read")
    with pytest.raises(Refusal, match="one of this name"):
        tokens.add(path, "a", "admin")
    for name in ("", "a.b", "../a", "a b", "é", "a" * 41):
        with pytest.raises(Refusal, match="will not do"):
            tokens.add(path, name, "read")
    assert [token.name for token in tokens.load(path)] == ["a"]


def test_those_who_add_at_once_all_get_theirs(path):
    names = [f"n{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda name: tokens.add(path, name, "submit"), names))
    found = {token.name: token for token in tokens.load(path)}
    assert set(found) == set(names)
    assert all(tokens.matches(found[name], secret(token)) for name, token in zip(names, made, strict=True))


def test_what_is_removed_is_not_known_any_more(path):
    known = tokens.Known(path)
    assert known.named("a") is None
    tokens.add(path, "a", "admin")
    tokens.add(path, "b", "read")
    assert known.named("a") and known.named("b")
    tokens.remove(path, "a")
    assert known.named("a") is None and known.named("b")
    with pytest.raises(Refusal, match="one of: b"):
        tokens.remove(path, "a")


@pytest.mark.parametrize(("role", "may"), [("read", 1), ("submit", 2), ("admin", 3)])
def test_each_role_may_what_those_before_it_may(role, may):
    token = tokens.NOBODY.model_copy(update={"role": role})
    assert [token.may(one) for one in tokens.ROLES] == [place < may for place in range(3)]


@settings(max_examples=15, deadline=None)
@given(st.text(max_size=50))
def test_no_text_is_the_secret_of_nobody(text):
    assert not tokens.matches(tokens.NOBODY, text)


def test_the_command_line_makes_lists_and_removes(tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("name: here\n")
    assert "medseg tokens add" in medseg_command("tokens", "list", site).out
    made = medseg_command("tokens", "add", site, "slicer", "--role", "submit")
    token = made.out.strip()
    assert made.code == 0 and token.startswith("slicer.") and token not in made.err
    assert tokens.matches(tokens.load(tmp_path / "tokens.yaml")[0], secret(token))
    assert medseg_command("tokens", "list", site).out.split() == ["slicer", "submit"]
    assert medseg_command("tokens", "remove", site, "slicer").code == 0
    assert medseg_command("tokens", "remove", site, "slicer").code == 2
