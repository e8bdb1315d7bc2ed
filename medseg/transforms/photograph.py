"""Photographs of the retina in the pipeline's form, (3, I, J, 1), through the pure functions of `fundus`."""

from __future__ import annotations

import numpy as np

from medseg.refusal import Refusal
from medseg.transforms import fundus
from medseg.volume import Volume


def lit(array: np.ndarray) -> np.ndarray:
    """Boolean (1, I, J, 1): the field of view of a photograph (3, I, J, 1)."""
    return np.ascontiguousarray(fundus.field_of_view(rows_and_columns(array)).T)[None, ..., None]


def rows_and_columns(array: np.ndarray) -> np.ndarray:
    """(3, I, J, 1) as (rows, columns, 3)."""
    return np.ascontiguousarray(array[..., 0].transpose(2, 1, 0))


def enhanced(volume: Volume, canonical: np.ndarray, field: np.ndarray | None) -> np.ndarray:
    """A photograph (3, I, J, 1) with even illumination, 0 to 255; see `fundus.enhance`."""
    if len(canonical) != 3 or canonical.shape[3] != 1:
        raise Refusal(
            volume.source.path,
            found=f"an image of {len(canonical)} channels and {canonical.shape[3]} slices",
            needed="a colour photograph (red, green and blue) for the step fundus_enhance",
            remedy="give a photograph, or leave the step out of the recipe",
        )
    picture = rows_and_columns(canonical)
    field = fundus.field_of_view(picture) if field is None else field.T
    return fundus.enhance(picture, field)[0].transpose(2, 1, 0)[..., None] * 255


def enhanced_part(field: np.ndarray) -> np.ndarray:
    """Boolean (1, I, J, 1): where `enhanced` leaves something of a photograph with this field of view."""
    return fundus.eroded(field[0, ..., 0])[None, ..., None]


def square(canonical: np.ndarray) -> np.ndarray:
    """The smallest square around the field of view of a photograph (3, I, J, 1); 0 where it reaches beyond."""
    picture = rows_and_columns(canonical)
    return fundus.crop(picture, fundus.square_box(fundus.field_of_view(picture))).transpose(2, 1, 0)[..., None]
