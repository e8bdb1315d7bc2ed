"""Networks: one file a family, each with `Options`, `build` and `divisor`; and `build`, which makes any by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from medseg import plugins
from medseg.refusal import Refusal

if TYPE_CHECKING:
    from torch import nn


def build(name: str, *, in_channels: int, out_channels: int, **options: Any) -> nn.Module:
    """A network with fresh weights.

    Args:
        name: as `medseg list models` gives it, or a module outside medseg, such as "mylab.nets.thing".
        in_channels: channels of the image.
        out_channels: logits a voxel (or an image, for a classifier).
        options: those of `medseg list models NAME`.

    Raises:
        Refusal: no such network, or impossible options or channels.

    Example:
        >>> network = build("stunet", in_channels=1, out_channels=3, size="S", width=4)   # doctest: +SKIP
    """
    for which, number in (("in_channels", in_channels), ("out_channels", out_channels)):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise Refusal(which, found=repr(number), needed="a whole number from 1 on", remedy="correct it")
    module = plugins.find("models", name)
    try:
        chosen = module.Options(**options)
    except ValidationError as error:
        sentences = [(".".join(map(str, item["loc"])), item["msg"]) for item in error.errors()]
        found = "; ".join(f"{at}: {says}" if at else says.removeprefix("Value error, ") for at, says in sentences)
        raise Refusal(
            f"models: {name}", found=found, needed="options that it has", remedy=f"see `medseg list models {name}`"
        ) from error
    return module.build(chosen, in_channels=in_channels, out_channels=out_channels)
