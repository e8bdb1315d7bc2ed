"""No data: for a model that was trained elsewhere and imported, whose cases are not here.

Training and evaluation need another data set; prediction needs none.
"""

from __future__ import annotations

from medseg.case import CaseSet
from medseg.refusal import Refusal
from medseg.settings import Settings


class Options(Settings):
    """What is known of the data in words."""

    trained_on: str = "not stated"
    """The data that the model was trained on."""


def cases(options: Options) -> CaseSet:
    """Nothing.

    Raises:
        Refusal: always.
    """
    raise Refusal(
        "dataset: none",
        found="a model without its data (it was trained elsewhere)",
        needed="a data set",
        remedy="name one, for example dataset.name=folder dataset.root=data/mine; see `medseg list datasets`",
    )
