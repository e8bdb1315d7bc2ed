"""medseg import-weights"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    file: Annotated[Path, typer.Argument(help="Weights: .safetensors, a torch file, or a zip that holds one.")],
    name: Annotated[str, typer.Option("--as", help="A network of `medseg list models`, or an entry of `medseg get`.")],
    out: Annotated[Path, typer.Option(help="Run folder to make.")],
    sha256: Annotated[str | None, typer.Option(help="That the file must have, or how it begins.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Run folder or labels.yaml: what each class is, in the network's order.")
    ] = None,
    channels: Annotated[str, typer.Option(help="Names of the image channels in the network's order: flair,t1")] = "",
    outputs: Annotated[
        str, typer.Option(help="Names of the file's output channels in its order, if the labels have another.")
    ] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any recipe key: model.size=S prepare.spacing_mm=[1.5,1.5,1.5] licence=MIT"),
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="Recipe to take the other settings from.")] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Run a file that is a program. It can do whatever you can do.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="The file holds a part of the network, to be trained on.")
    ] = False,
) -> None:
    """Make a run folder from weights that were trained elsewhere; `predict`, `info` and `export` take it as any other.

    Every tensor must fit the network; what does not is listed and refused. The entry of a catalogue brings its options,
    labels and prepare settings along; without one, say them with --set. See docs/weights.md.
    """
    from medseg.engine.imported import Request, bring_in

    request = Request(
        file=file,
        name=name,
        out=out,
        sha256=sha256,
        labels=labels,
        channels=_names(channels),
        outputs=_names(outputs),
        settings=tuple(set_ or ()),
        recipe=recipe,
        allow_pickle=allow_pickle,
        partial=partial,
    )
    bring_in(request, lambda text: print(text, file=sys.stderr, flush=True))
    print(out)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
