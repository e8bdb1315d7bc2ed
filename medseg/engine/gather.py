"""The cases and the split that a recipe names."""

from __future__ import annotations

import logging
from dataclasses import replace

from medseg.case import CaseSet
from medseg.config import Recipe
from medseg.labels import LabelTable
from medseg.refusal import Refusal

log = logging.getLogger(__name__)


def cases(recipe: Recipe) -> CaseSet:
    """The data set's cases, with the recipe's label table where it gives one. Patients' ids that differ in upper and
    lower case alone are told, and made one: nobody must be learned from as P01 and be validated as p01.

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
    found = _one_spelling(found)
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


def _one_spelling(cases: CaseSet) -> CaseSet:
    """Each patient under the spelling that comes first in the alphabet."""
    spelt: dict[str, str] = {}
    for patient in sorted({case.patient for case in cases.cases}):
        first = spelt.setdefault(patient.casefold(), patient)
        if first != patient:
            log.warning("patients '%s' and '%s' are taken for one: only upper and lower case differ", first, patient)
    return replace(cases, cases=tuple(replace(case, patient=spelt[case.patient.casefold()]) for case in cases.cases))
