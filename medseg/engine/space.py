"""What a sweep tries: `key=low:high`, `key=log:low:high` or `key=one,another`, each a key of the recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from medseg.config import Recipe
from medseg.refusal import Refusal

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
RANGE = re.compile(rf"(log:)?({NUMBER}):({NUMBER})")
PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
"""Texts that need no quotes, unless they are words such as yes."""
WHOLE = re.compile(r"[+-]?\d+")
FORMS = "KEY=LOW:HIGH, KEY=log:LOW:HIGH or KEY=VALUE,VALUE,... such as train.lr=log:1e-4:1e-2"
SAME = ("dataset", "labels", "paint", "split")
"""Parts of a recipe that decide what trials are measured on."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole numbers where both ends are written as such."""

    key: str
    low: float
    high: float
    log: bool
    whole: bool

    def samples(self) -> tuple[str, ...]:
        """Values to see whether a recipe takes them."""
        return self.text(self.low), self.text(self.high)

    def text(self, value: Any) -> str:
        """A value as an override has it."""
        return repr(int(value) if self.whole else float(value))

    def distribution(self, optuna: Any) -> Any:
        kind = optuna.distributions.IntDistribution if self.whole else optuna.distributions.FloatDistribution
        ends = (int(self.low), int(self.high)) if self.whole else (self.low, self.high)
        return kind(*ends, log=self.log)

    def __str__(self) -> str:
        scale = ", tried evenly on a logarithmic scale" if self.log else ""
        return f"{self.key}: {'whole ' * self.whole}numbers from {self.low:g} to {self.high:g}{scale}"


@dataclass(frozen=True)
class Choice:
    """Values without an order, each as an override has it."""

    key: str
    values: tuple[str, ...]

    def samples(self) -> tuple[str, ...]:
        return self.values

    def text(self, value: Any) -> str:
        return str(value)

    def distribution(self, optuna: Any) -> Any:
        return optuna.distributions.CategoricalDistribution(self.values)

    def __str__(self) -> str:
        return f"{self.key}: {' or '.join(self.values)}"


Parameter = Range | Choice


def parse(text: str) -> Parameter:
    """One parameter from a word of the command line.

    Example:
        >>> str(parse("train.lr=log:1e-4:1e-2"))
        'train.lr: numbers from 0.0001 to 0.01, tried evenly on a logarithmic scale'
        >>> str(parse("model.channels=[8,16],[16,32]"))
        'model.channels: [8, 16] or [16, 32]'

    Raises:
        Refusal: it is none of the three forms, or leaves nothing to choose.
    """
    key, _, value = text.partition("=")
    found = RANGE.fullmatch(value)
    if found:
        log, low, high = bool(found[1]), float(found[2]), float(found[3])
        if low >= high or (log and low <= 0):
            needed = "the lower end above 0, for a logarithmic scale" if low < high else "the lower end first"
            raise _refusal(text, f"{found[2]} to {found[3]}", needed)
        return Range(key, low, high, log, all(WHOLE.fullmatch(end) for end in found.groups()[1:]))
    try:
        values = yaml.safe_load(f"[{value}]")
    except yaml.YAMLError:
        values = []
    texts = tuple(dict.fromkeys(_as_override(one) for one in values))
    if not key or len(texts) < 2 or value.startswith("log:"):
        raise _refusal(text, f"{len(texts)} value{'s' * (len(texts) != 1)}" if key else "no key", FORMS)
    return Choice(key, texts)


def parse_all(texts: Sequence[str]) -> tuple[Parameter, ...]:
    """All parameters of a sweep.

    Raises:
        Refusal: one is wrong, there is none, or two have one key; or trials would be measured on different cases.
    """
    parameters = tuple(parse(text) for text in texts)
    if not parameters:
        raise _refusal("--param", "none", f"one at least: {FORMS}")
    keys = [parameter.key for parameter in parameters]
    for key in keys:
        if keys.count(key) > 1:
            raise _refusal(key, "two parameters of one key", "one")
        if key.split(".")[0] in SAME:
            raise _refusal(key, "it as a parameter", "the same cases for all trials, or their scores say nothing")
    return parameters


def check(parameters: Sequence[Parameter], recipe: Callable[[Mapping[str, str]], Recipe]) -> None:
    """See that a recipe takes every value that is named, beside the first ones of the other parameters.

    Args:
        recipe: the recipe of a trial with these values, by key.

    Raises:
        Refusal: it does not.
    """
    first = {parameter.key: parameter.samples()[0] for parameter in parameters}
    for parameter in parameters:
        for text in parameter.samples():
            recipe({**first, parameter.key: text})


def _as_override(value: Any) -> str:
    if isinstance(value, str) and PLAIN.fullmatch(value) and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, default=str)


def _refusal(where: str, found: str, needed: str) -> Refusal:
    return Refusal(where, found=found, needed=needed, remedy="correct --param; --dry-run shows what would be tried")
