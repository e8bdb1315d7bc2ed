"""A model card: one Markdown page that travels with the weights and says what they are for, and what they are not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medseg import wording
from medseg.atomic import replacing
from medseg.labels import Label, LabelTable

NOT_A_DEVICE = (
    "This model is research software. It is **not a medical device**, has not been assessed by any authority, and must "
    "not be used for diagnosis, treatment or any other decision about a patient."
)
NOT_STATED = "Not stated."


@dataclass(frozen=True)
class Card:
    """What the card says. Everything is plain text: characters that mean something in Markdown or HTML are escaped.

    Attributes:
        name: of the model.
        intended_use: what it was made for, in a sentence or two.
        labels: what it segments; None for a part of a network, which has no say in that.
        licence: of the weights; an SPDX name where there is one.
        stamp: a warning about the numbers ("not an estimate of generalisation"); empty for none.
        summary: the network and the recipe, in a sentence or two.
        inputs: what it expects: channels, modality, spacing, orientation, ... as name and text.
        data: training data: source, cases, patients, centres, licence, ... as name and text.
        split: how patients were divided, and what the metrics were measured on.
        metrics: a row per label (or per anything else): any columns, NaN where undefined.
        limits: what it is known, or must be expected, to do badly; one sentence each.
        provenance: sha256 of the weights, recipe, seed, device, duration, ... as name and text.
        versions: of the software it was made with, as name and version.
    """

    name: str
    intended_use: str
    labels: LabelTable | None
    licence: str
    stamp: str = ""
    summary: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    split: str = ""
    metrics: Sequence[Mapping[str, str | float]] = ()
    limits: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def write(path: Path, card: Card) -> None:
    """Write the card as Markdown, complete or not at all.

    Raises:
        OSError: the folder cannot be written to.
    """
    page = render(card).encode("utf-8")
    with replacing(path) as temporary:
        temporary.write_bytes(page)


def state(path: Path, name: str, text: str) -> None:
    """Add a fact to the provenance of a card that is there, in place of a former one of this name. The rest of the
    page, which people may have written in, stays as it is.

    Raises:
        OSError: there is no such card, or the folder cannot be written to.
    """
    start, heading = f"- **{plain(name)}:**", "## Provenance"
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(start)]
    if heading not in lines:
        lines += ["", heading, ""]
    lines.insert(lines.index(heading) + 2, f"{start} {plain(text)}")
    with replacing(path) as temporary:
        temporary.write_bytes(("\n".join(lines) + "\n").encode("utf-8"))


def render(card: Card) -> str:
    """The card as Markdown text. What is unknown is said to be, and not left out."""
    parts = [f"# {plain(card.name)}"]
    if card.stamp:
        parts.append(f"> **Please note:** {plain(card.stamp)}")
    if card.summary:
        parts.append(plain(card.summary))
    parts += ["## Intended use", plain(card.intended_use) or NOT_STATED, NOT_A_DEVICE]
    parts += ["## Input", _facts(card.inputs)]
    parts += ["## Labels", _labels(card.labels)]
    parts += ["## Training data", _facts(card.data)]
    parts += ["## Split", plain(card.split) or NOT_STATED]
    parts += ["## Metrics", _metrics(card.metrics)]
    parts += ["## Limits", "\n".join(f"- {plain(limit)}" for limit in card.limits) or NOT_STATED]
    parts += ["## Licence", plain(card.licence) or NOT_STATED]
    parts += ["## Provenance", _facts(card.provenance)]
    parts += ["## Versions", _facts(card.versions)]
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Text that Markdown shows as it is: one line, with every character escaped that would start markup.

    Example:
        >>> print(plain("# hd95_mm *is* <b>low</b>\\n| really"))
        \\# hd95_mm \\*is\\* \\<b\\>low\\</b\\> \\| really
    """
    line = " ".join(text.split())
    line = re.sub(r"([\\`*\[\]<>|~&])", r"\\\1", line)
    # Inside a word an underscore means nothing, and labels are full of them.
    line = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", line)
    line = re.sub(r"^([#+-])(?=[#\s-]|$)", r"\\\1", line)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", line)


def _facts(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- **{plain(name)}:** {plain(text)}" for name, text in facts.items()) or NOT_STATED


def _labels(table: LabelTable | None) -> str:
    if table is None:
        return "None: this is a part of a network, to be trained on."
    rows = [
        [str(label.index), plain(label.name), _code(label), "#{:02x}{:02x}{:02x}".format(*label.colour)]
        for label in table.labels
    ]
    kind = "Labels exclude each other." if table.exclusive else "Labels are regions, which may overlap."
    return f"{kind}\n\n" + _table(["number", "name", "standard code", "colour"], rows, right={0})


def _code(label: Label) -> str:
    return plain(f"{label.code.scheme} {label.code.value} ({label.code.meaning})") if label.code else "–"


def _metrics(metrics: Sequence[Mapping[str, str | float]]) -> str:
    if not metrics:
        return "Not measured."
    columns = list(dict.fromkeys(name for row in metrics for name in row))
    digits = {name: wording.digits_for(row.get(name) for row in metrics) for name in columns}
    rows = [[plain(wording.value(row.get(name), digits=digits[name])) for name in columns] for row in metrics]
    right = {
        position
        for position, name in enumerate(columns)
        if all(wording.is_number(row[name]) for row in metrics if name in row)
    }
    return _table([plain(name) for name in columns], rows, right=right)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: set[int]) -> str:
    rule = ["---:" if position in right else "---" for position in range(len(columns))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, rule, *rows))
