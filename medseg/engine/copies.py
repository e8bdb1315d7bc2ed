"""One image under two patients: a split by patients cannot see that it puts one of them on two sides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medseg.case import Case, CaseSet
from medseg.data import cache
from medseg.refusal import Refusal

NEEDED, REMEDY = "each image once", "remove one of the two, or give both the same patient id"


def flat(image: np.ndarray) -> list[bool]:
    """Whether a channel has one value only, for each of an image (C, I, J, K). Images of such alone are alike, and tell
    of nobody."""
    return [bool(channel.min() == channel.max()) for channel in image]


def refuse(cases: CaseSet, prepared: Mapping[str, Path]) -> None:
    """
    Args:
        prepared: folder of every case in the cache.

    Raises:
        Refusal: two cases of different patients are the same, voxel by voxel, once they are prepared, and not blank.
    """
    seen: dict[str, Case] = {}
    for case in cases.cases:
        first = seen.setdefault(cache.image_hash(prepared[case.id]), case)
        if first.patient != case.patient and not all(flat(np.asarray(cache.open_case(prepared[case.id]).image))):
            raise Refusal(
                next(iter(case.images.values())),
                found=f"the voxels of {next(iter(first.images.values()))} (cases '{first.id}' and '{case.id}', "
                f"patients '{first.patient}' and '{case.patient}')",
                needed=NEEDED,
                remedy=f"{REMEDY}; `medseg check` lists all",
            )
