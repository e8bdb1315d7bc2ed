"""What the engine asks of every network, whatever its family: what it sees, and its answers in one form."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medseg.config import Chosen
from medseg.labels import LabelTable
from medseg.refusal import Refusal


def context(model: Chosen) -> int | None:
    """Slices that a 2-D network sees on each side of the one that it answers for; None for a 3-D network."""
    module = model.module()
    return int(module.context(model.options)) if hasattr(module, "context") else None


def answers(outputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """The outputs of a network, the final one first, each (B, N, i, j, k); a classifier's scores (B, N) become maps of
    one voxel, so that losses, tiles and the rest need not know the difference."""
    listed = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    return [output[..., None, None, None] if output.ndim == 2 else output for output in listed]


def check_centres(model: Chosen, centres: Sequence[str]) -> None:
    """Refuse a network that takes another number of channels for centres than the preparation adds."""
    expected = getattr(model.options, "centres", len(centres))
    if expected != len(centres):
        raise Refusal(
            "model.centres",
            found=f"{expected}, and {len(centres)} centres in prepare.centres",
            needed="the same number: the last channels would be taken for centres, or centres for images",
            remedy=f"set model.centres to {len(centres)}, or name the centres in prepare.centres",
        )


def check_task(model: Chosen, table: LabelTable) -> None:
    """Refuse a classifier for label maps, a segmentation network for classes, and a 3-D classifier for slices."""
    classifies = getattr(model.module(), "CLASSIFIES", False)
    flat = context(model) is not None
    if classifies == (table.unit != "voxel") and (table.unit != "slice" or flat):
        return
    kind = ("2-D " if flat else "3-D ") + ("classifier" if classifies else "segmentation network")
    needed = {"voxel": "a segmentation network", "slice": "a 2-D classifier", "image": "a classifier"}[table.unit]
    raise Refusal(
        f"model {model.name}",
        found=f"a {kind}",
        needed=f"{needed}, because the labels name a class for every {table.unit}",
        remedy="choose another model (`medseg list models`), or other labels",
    )
