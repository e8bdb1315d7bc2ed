"""`fast`, `standard` or `best`: overlap of the tiles and where they lie, mirrored passes and members of an ensemble in
one word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from medseg.config import PredictSettings, Recipe
from medseg.labels import LabelTable
from medseg.refusal import Refusal

Quality = Literal["fast", "standard", "best"]
LOW, HIGH = 0.25, 0.5
"""Overlap at most (fast) and at least (best)."""
SIDES = re.compile(r"(?<![a-z])(left|right)(?![a-z])")


def runs(quality: Quality, folders: Sequence[Path]) -> Sequence[Path]:
    """The run folders that take part: fast takes the first alone.

    Raises:
        Refusal: no such quality.
    """
    if quality not in get_args(Quality):
        raise Refusal(
            "quality", found=f"'{quality}'", needed="fast, standard or best", remedy="choose one of them, written so"
        )
    return folders[:1] if quality == "fast" else folders


def settings(quality: Quality, recipe: Recipe, table: LabelTable) -> PredictSettings:
    """The recipe's inference settings, changed as far as a quality says.

    best mirrors along the axes that training mirrored along: along others, a mirrored patient is new to the network.
    Never from left to right where labels are named so, because they would change places.
    """
    usual = recipe.predict
    if quality == "standard":
        return usual
    if quality == "fast":
        return usual.model_copy(update={"overlap": min(usual.overlap, LOW), "mirror": (), "fit_body": True})
    sided = any(SIDES.search(name.lower()) for name in table.names)
    learned = tuple(axis for axis in recipe.augment.mirror if not (sided and axis == "left-right"))
    mirror = tuple(dict.fromkeys((*usual.mirror, *learned)))
    return usual.model_copy(update={"overlap": max(usual.overlap, HIGH), "mirror": mirror})
