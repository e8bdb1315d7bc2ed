"""Published weights: what they are, where they are, under which licence, and what they need; see catalogue.yaml."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from medseg import plugins
from medseg.refusal import Refusal
from medseg.settings import Settings

FILE = Path(__file__).parent / "catalogue.yaml"


class Entry(Settings):
    """One file of weights. What is not known is left out, and said to be unknown."""

    about: str
    """What it is, in a sentence."""
    network: str
    """As `medseg list models` names it."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the network."""
    source: str
    """Page of its makers."""
    file: str
    """Name of the file there."""
    url: str | None = None
    """Direct address; without one, the file is downloaded by hand from the source page."""
    licence: str
    """As published; 'not stated' where nothing is."""
    trained_on: str
    input: str
    """What the network expects, in words."""
    channels: tuple[str, ...] = ("image",)
    labels: dict[str, int | list[int]] | None = None
    """Label table, name -> number or numbers, in the order that it is painted."""
    paint: list[int] | None = None
    outputs: tuple[str, ...] = ()
    """The file's output channels in its order, where that is not the labels'."""
    prepare: dict[str, Any] = Field(default_factory=dict)
    """Settings of a recipe's `prepare`, as in the original."""
    predict: dict[str, Any] = Field(default_factory=dict)
    """Settings of a recipe's `predict`, as in the original."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")] | None = None
    """Of the file, or how it begins."""
    partial: bool = False
    """A part of the network, to be trained on: it cannot predict."""

    def facts(self) -> dict[str, str]:
        """For people."""
        if self.labels:
            names = list(self.labels)
            labels = ", ".join(names[:6]) + (f", ... ({len(names)} in all)" if len(names) > 6 else "")
        else:
            labels = "none: a part of a network, to be trained on" if self.partial else "not known: give --labels"
        return {
            "network": " ".join([self.network, *(f"{key}={value}" for key, value in self.options.items())]),
            "licence": self.licence,
            "source": self.source,
            "file": self.file,
            "address": self.url or "none: download it by hand from the source page",
            "trained on": self.trained_on,
            "input": self.input,
            "labels": labels,
            "sha256": f"{self.sha256}{'' if len(self.sha256) == 64 else '... (its beginning)'}"
            if self.sha256
            else "not known",
        }

    def to_json(self, name: str) -> dict[str, Any]:
        """For programs; `direct` says whether `medseg get` can download it, `labels` is null where none are known."""
        facts = self.model_dump(mode="json", exclude={"labels", "paint", "outputs", "prepare", "predict"})
        labels = None if self.labels is None else list(self.labels)
        return {"name": name, **facts, "labels": labels, "direct": self.url is not None}


@cache
def entries() -> dict[str, Entry]:
    """Every entry by name."""
    data = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {name: Entry.model_validate(entry) for name, entry in data.items()}


def find(name: str) -> Entry:
    """One entry.

    Raises:
        Refusal: there is none of that name.
    """
    if name not in entries():
        raise Refusal(
            name,
            found="no such entry",
            needed="a name of the catalogue",
            remedy=plugins.nearest(name, tuple(entries())),
        )
    return entries()[name]
