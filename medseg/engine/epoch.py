"""What people see of an epoch, besides its line on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import lightning_fabric

from medseg.engine import journal, loggers, validate
from medseg.engine.batches import Pace
from medseg.engine.examples import Examples

if TYPE_CHECKING:
    from medseg.engine.fit import Parts


def speed(parts: Parts, fabric: lightning_fabric.Fabric, pace: Pace) -> dict[str, float]:
    """For the history: how fast it went, on all devices together; nothing where the run was stopped after the last step
    of the epoch, and this process did none."""
    if pace.seconds_a_step <= 0:
        return {}
    samples = parts.plan.batch * parts.recipe.train.accumulate * fabric.world_size
    return {
        "wait": round(pace.wait, 3),
        "seconds_a_step": round(pace.seconds_a_step, 4),
        "samples_a_second": float(f"{samples / pace.seconds_a_step:.4g}"),
    }


def present(parts: Parts) -> list[str]:
    """Labels that some validation case has."""
    rows = zip(parts.table.names, *(case.voxels for case in parts.validation), strict=True)
    return [name for name, *voxels in rows if any(voxels)]


def examples(parts: Parts, number: int) -> Examples:
    """Those of this epoch; classes have no outlines to draw."""
    chosen = parts.validation[: parts.recipe.train.examples] if parts.table.unit == "voxel" else ()
    return Examples(parts.run, [case.id for case in chosen], parts.plan, parts.table, number)


def tell(parts: Parts, history: Sequence[Mapping[str, Any]], listeners: Sequence[loggers.Logger]) -> None:
    """Say the warnings of the last epoch, hand it to the loggers, and write the page of the training where there is a
    validation to show."""
    entry = history[-1]
    for text in entry.get("warnings", ()):
        parts.announce(text)
    validated = validate.measure(parts.table) in entry
    if validated:
        journal.page(parts.run, history)
    for listener in listeners:
        listener.write(history)
        if validated:
            listener.show(entry["epoch"], examples(parts, entry["epoch"]).pictures())
