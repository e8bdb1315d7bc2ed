"""The cases and the split that a recipe names."""

from __future__ import annotations

from dataclasses import replace

from medseg.case import CaseSet
from medseg.config import Recipe
from medseg.labels import LabelTable
from medseg.refusal import Refusal


def cases(recipe: Recipe) -> CaseSet:
    """The data set's cases, with the recipe's label table where it gives one.

    Raises:
        Refusal: the data set holds no case, or is not what its adapter expects.
    """
    found = recipe.dataset.module().cases(recipe.dataset.options)
    if not found.cases:
        raise Refusal(
            getattr(recipe.dataset.options, "root", recipe.dataset.name),
            found="no case",
            needed=f"at least one, laid out as the data set '{recipe.dataset.name}' expects",
            remedy=f"see `medseg list datasets` and the docstring of {recipe.dataset.name}",
        )
    if recipe.labels is None and recipe.paint is None:
        return found
    names = recipe.labels or {label.name: list(label.members) for label in found.labels.labels}
    before = found.labels
    if before.unit != "voxel":
        return replace(found, labels=LabelTable.classes(names, exclusive=before.exclusive, unit=before.unit))
    table = LabelTable.of(names, paint=recipe.paint)
    unknown = {label.name: label.unknown for label in before.labels}
    labels = tuple(replace(label, unknown=unknown.get(label.name, ())) for label in table.labels)
    exclusive = table.exclusive and before.exclusive
    return replace(found, labels=replace(table, labels=labels, exclusive=exclusive, ignore=before.ignore))
