"""medseg list"""

from __future__ import annotations

from typing import Annotated

import typer

from medseg import plugins


def command(
    kind: Annotated[str, typer.Argument(help="One of: " + ", ".join(plugins.KINDS) + ". [default: all]")] = "",
    name: Annotated[str, typer.Argument(help="One component of the kind.")] = "",
) -> None:
    """What there is to choose from in a recipe, each with a line; with a kind, all about it and its options."""
    from medseg.refusal import Refusal

    if (kind or name) and kind not in plugins.KINDS:
        raise Refusal(kind, found=f"'{kind}'", needed="a kind", remedy=plugins.nearest(kind, plugins.KINDS))
    if name and name not in plugins.names(kind):
        raise Refusal(name, found=f"'{name}'", needed=kind, remedy=plugins.nearest(name, plugins.names(kind)))
    for each in [kind] if kind else plugins.KINDS:
        print(f"{each}:")
        for one in [name] if name else plugins.names(each):
            print(f"  {one:<16} {plugins.summary(each, one)}")
            if kind:
                for line in [*plugins.description(each, one), *plugins.options(each, one), ""]:
                    print(f"      {line}".rstrip())
