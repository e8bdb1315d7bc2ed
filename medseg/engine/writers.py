"""What is written for each case of a batch: the outputs asked for, and what those refer to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medseg import plugins
from medseg.config import Chosen, output
from medseg.labels import LabelTable
from medseg.refusal import Refusal

MAPS = "maps"
"""What outputs say that they write if it is no labels, but shares from 0 to 1."""


def keeps(module: Any, options: Any) -> tuple[str, ...]:
    """Maps that an output with these options wants besides labels; those that never do need not say so."""
    asked = getattr(module, "keeps", None)
    return () if asked is None else tuple(asked(options))


def chosen(formats: Sequence[str], table: LabelTable, announce: Callable[[str], None]) -> list[Chosen]:
    """The outputs asked for, with their options; those for label maps are of no use to classes, and the other way
    round. What a module refers to (its NEEDS, with the options that fit) is written too, and before it.

    Args:
        formats: each a name alone or with options as in `config.output`; none: a NIfTI label map, or a table of
            probabilities where the model tells classes.
        announce: told of what is written beside what was asked for.

    Raises:
        Refusal: an unknown output, one twice, one of no use to the model, or two that do not fit each other.
    """
    wanted, usual = (("labels", MAPS), "nifti") if table.unit == "voxel" else (("classes",), "scores")
    writers = [output(text) for text in formats or [usual]]
    names = [one.name for one in writers]
    for name in names:
        if names.count(name) > 1:
            raise Refusal(
                f"--output {name}",
                found="the same format twice",
                needed="each once: their files would have one name",
                remedy="leave one out, or write the other into another folder",
            )
        if plugins.find("outputs", name).WRITES not in wanted:
            fitting = [one for one in plugins.names("outputs") if plugins.find("outputs", one).WRITES in wanted]
            raise Refusal(
                f"output {name}",
                found=f"a format for {plugins.find('outputs', name).WRITES}",
                needed=f"one for {wanted[0]}, which is what this model gives",
                remedy=f"choose {' or '.join(fitting)}",
            )
    return _with_needs(writers, announce)


def _with_needs(writers: Sequence[Chosen], announce: Callable[[str], None]) -> list[Chosen]:
    asked = {chosen.name: chosen for chosen in writers}
    ordered: dict[str, Chosen] = {}
    for chosen in writers:
        for needed, fitting in getattr(chosen.module(), "NEEDS", {}).items():
            if needed not in asked and needed not in ordered:
                announce(f"{needed} is written too, because {chosen.name} refers to it")
            ordered.setdefault(needed, asked.get(needed) or output(needed))
            _refuse_unfit(chosen.name, ordered[needed], fitting)
        ordered.setdefault(chosen.name, chosen)
    return list(ordered.values())


def _refuse_unfit(name: str, needed: Chosen, fitting: Mapping[str, Sequence[str]]) -> None:
    """What an output refers to must be of a kind that it can refer to."""
    for option, values in fitting.items():
        given = getattr(needed.options, option)
        if given not in values:
            raise Refusal(
                f"--output {needed.name}",
                found=f"{option}={given} beside the output {name}, which refers to it",
                needed=f"{option} {' or '.join(values)}",
                remedy=f"choose that, or leave {name} out",
            )
