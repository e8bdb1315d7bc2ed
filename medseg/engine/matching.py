"""Weights held against the network that they are meant for: name by name, shape by shape, nothing passed over."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args, get_origin

import torch
from torch import Tensor

from medseg import plugins
from medseg.config import Chosen
from medseg.refusal import Refusal
from medseg.settings import Settings

SHOWN = 4
"""Names that a list shows before it says how many more there are."""
KIN = 0.5
"""Share of a network's names that weights must have to count as meant for it."""


@dataclass(frozen=True)
class Target:
    """The network that weights are meant for. It is built without memory for its weights (torch's meta device).

    What it may say about itself, all optional: `adapt(state, options)`, published names and shapes -> its own; HEADS,
    prefixes of the names that depend on the number of classes; STEM, names that depend on the number of channels;
    UNSEEN, options that change what weights mean and no weight's shape.
    """

    chosen: Chosen
    in_channels: int
    out_channels: int

    @cached_property
    def expected(self) -> dict[str, Tensor]:
        """Its state_dict: names, shapes and types, no values."""
        return _without_memory(self.chosen, self.in_channels, self.out_channels)

    @cached_property
    def heads(self) -> frozenset[str]:
        """Names that depend on the number of classes; without HEADS, those whose shapes change with one class more."""
        prefixes = getattr(self.chosen.module(), "HEADS", None)
        if prefixes is None:
            return self._changing(0, 1)
        return frozenset(name for name in self.expected if name.startswith(prefixes))

    @cached_property
    def stem(self) -> frozenset[str]:
        """Names that depend on the number of channels; without STEM, those whose shapes change with one more."""
        names = getattr(self.chosen.module(), "STEM", None)
        return frozenset(names) if names is not None else self._changing(1, 0)

    def is_head(self, name: str) -> bool:
        """Also for a name that the network lacks, such as that of a further head of deep supervision."""
        return name in self.heads or name.startswith(getattr(self.chosen.module(), "HEADS", ()))

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Published names and shapes -> this network's."""
        adapt = getattr(self.chosen.module(), "adapt", None)
        return dict(adapt(state, self.chosen.options)) if adapt else state

    def _changing(self, more_in: int, more_out: int) -> frozenset[str]:
        try:
            other = _without_memory(self.chosen, self.in_channels + more_in, self.out_channels + more_out)
        except Refusal:  # a network for this number alone
            return frozenset()
        return frozenset(name for name, entry in self.expected.items() if other[name].shape != entry.shape)


@dataclass(frozen=True)
class Match:
    """Weights against what a network expects.

    Attributes:
        matched: same name and shape; the number format may be another, which loading changes.
        missing: the network's, and not in the weights.
        reshaped: in both, with another shape: name -> (in the weights, in the network).
        unexpected: in the weights, and not the network's.
        recomputed: tables of integers that the weights lack and the network makes by itself.
    """

    matched: dict[str, Tensor]
    missing: tuple[str, ...]
    reshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    unexpected: tuple[str, ...]
    recomputed: tuple[str, ...]

    def lines(self) -> list[str]:
        """For people: how many of each, and the first names."""
        shapes = [f"{name} {list(found)} for {list(needed)}" for name, (found, needed) in self.reshaped.items()]
        lists = {"missing": list(self.missing), "reshaped": shapes, "unexpected": list(self.unexpected)}
        if self.recomputed:
            lists["absent, but computed anew"] = list(self.recomputed)
        told = [f"{what} {len(names)}" + f": {some(names)}" * bool(names) for what, names in lists.items()]
        return [f"matched {len(self.matched)}", *told]


def some(names: list[str]) -> str:
    """The first few of a list of names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f", and {more} more" if more > 0 else "")


def compare(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Match:
    """Hold weights against a network's state_dict."""
    matched, reshaped, absent = {}, {}, []
    for name, entry in expected.items():
        if name not in state:
            absent.append(name)
        elif state[name].shape != entry.shape or state[name].is_floating_point() != entry.is_floating_point():
            reshaped[name] = (tuple(state[name].shape), tuple(entry.shape))
        else:
            matched[name] = state[name]
    recomputed = tuple(name for name in absent if not expected[name].is_floating_point())
    missing = tuple(name for name in absent if expected[name].is_floating_point())
    return Match(matched, missing, reshaped, tuple(name for name in state if name not in expected), recomputed)


def require_fit(match: Match, target: Target, state: Mapping[str, Tensor], where: Path, *, partial: bool) -> None:
    """Refuse weights that do not fit, with the likeliest cause in a sentence.

    A part of a network (`partial`) may lack anything but one tensor, may hold more than the network, and may have heads
    for other classes; what else it has in common with the network must still have its shapes.

    Args:
        match: from `compare`.
        target: the network.
        state: the weights in its names.
        where: they come from.
        partial: a part is enough.

    Raises:
        Refusal: another network, another number of classes or channels, other options, NaN.
    """
    name = target.chosen.name
    weights = {key for key, entry in target.expected.items() if entry.is_floating_point()}
    common = len(weights & set(state))
    if not common or (common < KIN * len(weights) and not partial):
        raise Refusal(
            where,
            found=f"weights of another network: {common} of the {len(weights)} names of {name} are in it",
            needed=f"those of {name}" + " (or a part of it, with --partial)" * bool(common),
            remedy=_likelier(state, target) or f"name the network that they belong to; they begin {some(list(state))}",
        )
    refuse_other_counts(match, target, where, heads=not partial)
    allowed = target.heads if partial else frozenset()
    lacking = () if partial else (*match.missing, *match.unexpected)
    if set(match.reshaped) - allowed or lacking or not match.matched:
        raise Refusal(
            where,
            found=f"weights that do not fit {name} as it is set: {'; '.join(match.lines())}",
            needed="every tensor of the network in its shape, and none beside"
            if not partial
            else "at least one tensor, and the network's shapes for all that have its names",
            remedy=_other_option(state, target)
            or f"set {name}'s options as the weights need them (--set model.OPTION=VALUE; `medseg list models`)"
            + "; or --partial, if the file holds a part of the network on purpose"
            * (not match.reshaped and not partial),
        )
    refuse_not_finite(match.matched, where)


def refuse_other_counts(match: Match, target: Target, where: Path, *, heads: bool) -> None:
    """Refuse another number of channels, and (`heads`) of classes, each in a sentence.

    Raises:
        Refusal: it is so.
    """
    for name, (theirs, ours) in match.reshaped.items():
        if name in target.stem and len(theirs) > 1 and theirs[:1] + theirs[2:] == ours[:1] + ours[2:]:
            raise Refusal(
                where,
                found=f"{theirs[1]} input channels in the file, {ours[1]} in the network ({name})",
                needed="the same number",
                remedy=f"import with the {theirs[1]} channels of the file (--channels)"
                + f", then train on {ours[1]} with `init: {{weights: ..., stem: repeat}}`, which repeats the stem"
                * (ours[1] % theirs[1] == 0),
            )
        if heads and name in target.heads and theirs[1:] == ours[1:]:
            raise Refusal(
                where,
                found=f"{theirs[0]} classes in the file, {ours[0]} in the label table (background counted, {name})",
                needed="the same number",
                remedy="give the label table of the weights; to train other labels from them, use `init` in a recipe",
            )


def refuse_not_finite(state: Mapping[str, Tensor], where: Path) -> None:
    """Refuse NaN and infinity among weights.

    Raises:
        Refusal: the first tensor that has any.
    """
    for name, tensor in state.items():
        bad = 0 if bool(torch.isfinite(tensor).all()) else int((~torch.isfinite(tensor)).sum())
        if bad:
            raise Refusal(
                where,
                found=f"{bad} values in {name} that are NaN or infinite",
                needed="finite weights",
                remedy="do not use this file; ask for another checkpoint of that training",
            )


def require_unseen(chosen: Chosen, where: str | Path, *, how: str) -> None:
    """See that options which no weight's shape shows were given, and not left to their defaults.

    Args:
        chosen: the network with its options.
        where: the weights come from.
        how: to give one, with {name} and {value} in it.

    Raises:
        Refusal: one was not given.
    """
    for name in getattr(chosen.module(), "UNSEEN", ()):
        if name not in chosen.options.model_fields_set:
            about = " ".join((type(chosen.options).model_fields[name].description or "").split()).rstrip(".")
            value = chosen.options.model_dump(mode="json")[name]
            raise Refusal(
                where,
                found=f"model.{name} not given",
                needed=f"it, because weights load into any {name} and are right in one only. {about}",
                remedy=how.format(name=name, value=str(value).replace(" ", "")),
            )


def _without_memory(chosen: Chosen, in_channels: int, out_channels: int) -> dict[str, Tensor]:
    with torch.device("meta"):
        network = chosen.module().build(chosen.options, in_channels=in_channels, out_channels=out_channels)
    return network.state_dict()


def _likelier(state: Mapping[str, Tensor], target: Target) -> str:
    """The remedy, if the names of the weights are those of another network (with its default options)."""
    best, share = "", KIN
    for name, classes in itertools.product(plugins.names("models"), dict.fromkeys((target.out_channels, 3))):
        module = plugins.find("models", name)
        try:
            other = Target(Chosen(kind="models", name=name, options=module.Options()), 1, classes)
            names = set(other.adapted(dict(state)))
            fits = len(names & set(other.expected)) / max(len(names), len(other.expected))
        except Exception:  # not for so many classes, or its `adapt` knows nothing of such names: it is not meant
            continue
        if fits > share and name != target.chosen.name:
            best, share = name, fits
    return f"they look like {best} ({share:.0%} of the names agree): --as {best}" if best else ""


def _other_option(state: Mapping[str, Tensor], target: Target) -> str:
    """The remedy, if one option with a list of values has one that fits."""
    for name, value, options in _alternatives(target.chosen.options):
        try:
            other = Target(
                target.chosen.model_copy(update={"options": options}), target.in_channels, target.out_channels
            )
            match = compare(state, other.expected)
        except Refusal:
            continue
        if not (match.missing or match.reshaped or match.unexpected):
            return f"they fit with --set model.{name}={value}"
    return ""


def _alternatives(options: Settings) -> Iterator[tuple[str, object, Settings]]:
    for name, field in type(options).model_fields.items():
        if get_origin(field.annotation) is Literal:
            for value in get_args(field.annotation):
                if value != getattr(options, name):
                    yield name, value, options.model_copy(update={name: value})
