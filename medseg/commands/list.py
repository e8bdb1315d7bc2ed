"""medseg list"""

from __future__ import annotations

from typing import Annotated

import typer

from medseg import plugins


def command(
    kind: Annotated[str, typer.Argument(help="One of: " + ", ".join(plugins.KINDS) + ". [default: all]")] = "",
) -> None:
    """What there is to choose from in a recipe, each with a line; with a kind, all about it and its options."""
    from medseg.refusal import Refusal

    if kind and kind not in plugins.KINDS:
        raise Refusal(kind, found=f"'{kind}'", needed="a kind", remedy=plugins.nearest(kind, plugins.KINDS))
    for each in [kind] if kind else plugins.KINDS:
        print(f"{each}:")
        for name in plugins.names(each):
            print(f"  {name:<16} {plugins.summary(each, name)}")
            if kind:
                for line in [*plugins.description(each, name), *plugins.options(each, name), ""]:
                    print(f"      {line}".rstrip())
