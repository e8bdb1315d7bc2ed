"""What an evaluation found, as tables for a terminal."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from medseg.engine import assess, summary
from medseg.engine.scores import Scores, word

WIDE = 120
"""Columns of text where there is no terminal."""
INTERVAL = "  95 % by patient"
CELL, SHORTEST = 18, len(INTERVAL)
"""Widths of a number with its interval below it, and of the first column."""
COUNTS = len("   cases   undefined")


def as_text(scores: Scores) -> str:
    """A row a label with the mean over cases, how many values were not defined, and below it the interval by patient;
    then a row a stratum. Numbers that do not fit beside one another stand below, under a heading of their own; those of
    which none is better (volumes) are in the files alone, and those that no case has (mm of photographs) are named."""
    lines: list[str] = []
    for heads in _side_by_side(scores):
        lines += ["", *_means(scores, heads), *_strata(scores, heads)]
    lines = lines[1:]
    nowhere = _nowhere(scores)
    lines += [f"undefined in every case: {', '.join(nowhere)}"] if nowhere else []
    lines += ["", assess.as_text(scores.pooled)] if scores.pooled else []
    lines += [scores.stamp] * bool(scores.stamp) + list(scores.notes)
    if scores.missing and (scores.rows or scores.evidence):
        scored = {row.case for row in scores.rows} | {one.case for one in scores.evidence}
        over = f"the {len(scored)} cases that were" if len(scored) != 1 else "the one case that was"
        lines.append(f"All numbers are over {over} scored, and leave out {len(scores.missing)}:")
    return "\n".join([*lines, *(f"not scored: {case}" for case in scores.missing)])


def _side_by_side(scores: Scores) -> Iterator[dict[str, str]]:
    """Numbers with their headings, as many at a time as fit."""
    nowhere = _nowhere(scores)
    heads = {
        name: f"{name} [{number.unit}]" if number.unit else name
        for name, number in scores.numbers.items()
        if number.better != "neither" and name not in nowhere
    }
    room = shutil.get_terminal_size((WIDE, 24)).columns - _first(scores) - COUNTS
    names: list[str] = []
    for name in heads if scores.rows else ():
        if names and sum(_wide(heads[each]) for each in [*names, name]) > room:
            yield {each: heads[each] for each in names}
            names = []
        names.append(name)
    if names:
        yield {each: heads[each] for each in names}


def _nowhere(scores: Scores) -> list[str]:
    """Numbers that are undefined in all rows."""
    return [name for name, count in scores.undefined().items() if scores.rows and count == len(scores.rows)]


def _means(scores: Scores, heads: Mapping[str, str]) -> Iterator[str]:
    first = _first(scores)
    yield "label".ljust(first) + _cells(heads.values(), heads) + "   cases   undefined"
    bounds = {(row["label"], row["number"]): row for row in scores.statistics if row["over"] == summary.ALL}
    labels = scores.labels()
    for label in [*labels, *([None] if len(labels) > 1 else [])]:
        cases = len({row.case for row in scores.rows if label in (None, row.label)})
        odd = max(scores.undefined(label)[name] for name in heads)
        means = _cells([word(scores.mean(name, label)) for name in heads], heads)
        yield f"{(label or summary.MEAN).ljust(first)}{means}{cases:8d}{odd:12d}"
        between = [_between(bounds.get((label or summary.MEAN, name))) for name in heads]
        if any(between):
            yield (INTERVAL.ljust(first) + _cells(between, heads)).rstrip()


def _strata(scores: Scores, heads: Mapping[str, str]) -> list[str]:
    """A row a stratum: the mean of labels, or each label where there is no such mean."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    whole = {row["over"] for row in scores.statistics if row["label"] == summary.MEAN}
    for row in scores.statistics:
        if row["over"] != summary.ALL and (row["label"] == summary.MEAN or row["over"] not in whole):
            label = "" if row["over"] in whole or len(scores.labels()) == 1 else row["label"]
            rows.setdefault((row["over"], label), {})[row["number"]] = row
    names = {key: " ".join(filter(None, key)) for key in rows}
    first = max([_first(scores), *(len(name) + 1 for name in names.values())])
    lines = []
    for key, found in rows.items():
        means = _cells([word(found[name]["mean"]) for name in heads], heads)
        lines.append(f"{names[key].ljust(first)}{means}{max(found[name]['cases'] for name in heads):8d}")
    return ["", *lines] if lines else []


def _first(scores: Scores) -> int:
    return max([SHORTEST, *(len(label) + 1 for label in [*scores.labels(), summary.MEAN])])


def _cells(texts: Iterable[str], heads: Mapping[str, str]) -> str:
    return "".join(text.rjust(_wide(head)) for text, head in zip(texts, heads.values(), strict=True))


def _wide(head: str) -> int:
    return max(CELL, len(head) + 2)


def _between(row: Mapping[str, Any] | None) -> str:
    return "" if row is None or math.isnan(row["low"]) else f"{row['low']:.4f} to {row['high']:.4f}"
