"""Folds that papers prescribe by the order of a list."""

from __future__ import annotations

from collections.abc import Sequence

_RITE = (33, 24, 36, 30, 25, 29, 40, 21, 37, 34, 35, 32, 27, 39, 26, 38, 28, 23, 31, 22)
RITE = tuple(str(number) for number in _RITE)
"""Training photographs of RITE (numbers of DRIVE) in the order of RRWNet's four folds."""
HRF = tuple(f"{number:02}_{kind}" for number in range(6, 16) for kind in ("dr", "g", "h"))
"""Training photographs of HRF in the order of RRWNet's four folds; 01 to 05 are its test set."""


def consecutive(names: Sequence[str], folds: int) -> dict[str, int]:
    """Fold of each name: the first equal part of the list is fold 0, the next fold 1, ...

    What is left over when the list cannot be shared out evenly has no fold. In RRWNet's original such photographs (15_g
    and 15_h of HRF) are never used, neither to train nor to validate.
    """
    size = len(names) // folds
    return {name: place // size for place, name in enumerate(names[: size * folds])}
