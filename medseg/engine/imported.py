"""Weights that were trained elsewhere -> a run folder, which predicts, evaluates and is trained on like any other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import medseg
from medseg import atomic, card, catalogue, config, plugins
from medseg.catalogue import Entry
from medseg.config import Recipe
from medseg.engine import checkpoint, foreign, matching, networks
from medseg.engine.inputs import table_from
from medseg.engine.matching import Target
from medseg.engine.run import Run
from medseg.labels import LabelTable
from medseg.plan import Plan
from medseg.refusal import Refusal
from medseg.transforms import intensity

Announce = Callable[[str], None]
MINIMAL = Path(__file__).parent / "imported.yaml"
EXAMPLES = {
    "spacing_mm": "[1.5,1.5,1.5]",
    "patch": "[128,128,128]",
    "normalisation": "'[{kind: zscore}]'",
    "orientation": "RAS",
}
"""What must be known of how the weights were trained, because there are no data here to measure it on."""


@dataclass(frozen=True)
class Request:
    """What `medseg import-weights` was asked for.

    Attributes:
        file: the weights.
        name: a network of `medseg list models`, or an entry of the catalogue.
        out: run folder to make.
        sha256: that the file must have.
        labels: file with the label table.
        channels: names of the image channels, in the network's order.
        outputs: names of the file's output channels in its order, where that is not the label table's.
        settings: `key=value` settings of the recipe.
        recipe: to start from.
        allow_pickle: run the file if it is a program.
        partial: the file holds a part of the network.
    """

    file: Path
    name: str
    out: Path
    sha256: str | None = None
    labels: Path | None = None
    channels: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    recipe: Path | None = None
    allow_pickle: bool = False
    partial: bool = False


def bring_in(asked: Request, announce: Announce) -> Run:
    """Make the run folder. It appears complete or not at all.

    Raises:
        Refusal: a setting is missing, the file is damaged, a program or not what its checksum says, or its weights do
            not fit the network.
    """
    if asked.out.exists() and (asked.out.is_file() or any(asked.out.iterdir())):
        raise Refusal(asked.out, found="something there already", needed="a new folder", remedy="choose another --out")
    entry = catalogue.entries().get(asked.name)
    recipe = _recipe(asked, entry)
    partial = asked.partial or (entry is not None and entry.partial)
    matching.require_unseen(
        recipe.model, asked.file, how="--set model.{name}={value}, if that is how they were trained"
    )
    table = _table(asked, recipe, partial=partial)
    if table:
        networks.check_task(recipe.model, table)
    channels = asked.channels or (entry.channels if entry else ()) or ("image",)
    plan = None if partial else _plan(recipe, channels)
    digest = _checked(asked, entry)
    target = Target(recipe.model, len(channels), table.network_channels if table else 2)
    state = target.adapted(foreign.read(asked.file, allow_pickle=asked.allow_pickle, announce=announce))
    match = matching.compare(state, target.expected)
    for line in match.lines():
        announce(line)
    matching.require_fit(match, target, state, asked.file, partial=partial)
    tensors = dict(match.matched)
    outputs = asked.outputs or (entry.outputs if entry else ())
    if outputs and table:
        _reorder(tensors, target, outputs, table)
    if match.recomputed and not partial:
        whole = recipe.model.module().build(
            recipe.model.options, in_channels=len(channels), out_channels=target.out_channels
        )
        tensors |= {name: tensor for name, tensor in whole.state_dict().items() if name in match.recomputed}
    origin = {"file": asked.file.name, "sha256": digest, "source": entry.source if entry else "not stated"}
    with atomic.replacing_folder(asked.out) as folder:
        made = Run(folder)
        made.path("recipe.yaml").write_text(config.dump(recipe), encoding="utf-8")
        if plan and table:
            made.write("plan.json", plan.model_dump(mode="json"))
            made.write("labels.json", table.to_json())
        facts = {"imported": origin, "partial": partial, "channels": channels}
        checkpoint.save(made.path("weights.safetensors"), tensors, facts)
        card.write(made.path("card.md"), _card(recipe, table, plan, channels, origin, entry))
    return Run(asked.out)


def _recipe(asked: Request, entry: Entry | None) -> Recipe:
    """The recipe given, or the smallest one; over it what the catalogue says, over that the command line."""
    network = entry.network if entry else asked.name
    if "." not in network and network not in plugins.names("models"):
        known = (*plugins.names("models"), *catalogue.entries())
        raise Refusal(
            f"--as {asked.name}",
            found=f"'{network}'",
            needed="a network (`medseg list models`) or an entry of the catalogue (`medseg get`)",
            remedy=plugins.nearest(network, known),
        )
    settings: dict[str, object] = {}
    if asked.recipe is None:
        settings = {"name": asked.name, "model.name": network}
    else:
        named = config.load(asked.recipe).model.name
        if named != network:
            raise Refusal(
                asked.recipe,
                found=f"the network {named}",
                needed=network,
                remedy="correct --as, or leave --recipe out",
            )
    if entry:
        settings |= {f"model.{key}": value for key, value in entry.options.items()}
        settings |= {f"prepare.{key}": value for key, value in entry.prepare.items()}
        settings |= {f"predict.{key}": value for key, value in entry.predict.items()}
        settings["licence"] = entry.licence
        if entry.labels:
            settings |= {"labels": entry.labels, "paint": entry.paint}
        if asked.recipe is None:
            settings["dataset.trained_on"] = entry.trained_on
    if asked.labels:
        settings |= {"labels": None, "paint": None}
    given = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    return config.load(asked.recipe or MINIMAL, [*given, *asked.settings])


def _table(asked: Request, recipe: Recipe, *, partial: bool) -> LabelTable | None:
    if asked.labels:
        return table_from(asked.labels)
    if recipe.labels:
        return LabelTable.of(recipe.labels, paint=recipe.paint)
    if partial:
        return None
    raise Refusal(
        "--labels",
        found="no label table",
        needed="what each class of these weights means",
        remedy="give --labels labels.yaml, with `labels: {liver: 1, spleen: 2}` in the order of the network's classes",
    )


def _plan(recipe: Recipe, channels: tuple[str, ...]) -> Plan:
    """How scans are prepared; all of it must be said."""
    asked = recipe.prepare
    open_ = [name for name in EXAMPLES if getattr(asked, name) == "auto" or name not in asked.model_fields_set]
    if open_:
        raise Refusal(
            "prepare",
            found=f"no {', no '.join(open_)}",
            needed="how scans were prepared when these weights were trained; there are no data here to measure it on",
            remedy="take it from the original and give it, for example "
            + " ".join(f"--set prepare.{name}={EXAMPLES[name]}" for name in open_),
        )
    assert not isinstance(asked.patch, str) and not isinstance(asked.normalisation, str) and asked.spacing_mm != "auto"
    divisor = recipe.model.module().divisor(recipe.model.options)
    if any(size < 1 or size % unit for size, unit in zip(asked.patch, divisor, strict=True)):
        raise Refusal(
            "prepare.patch",
            found=f"{list(asked.patch)}",
            needed=f"multiples of {list(divisor)}, by which the network shrinks its input",
            remedy="give the patch that the weights were trained with, and the options of that network",
        )
    for key, given in (("normalisation", len(asked.normalisation)), ("modalities", len(asked.modalities))):
        if given != len(channels) and (given or key == "normalisation"):
            raise Refusal(
                f"prepare.{key}",
                found=f"{given} entries",
                needed=f"one for each of the {len(channels)} channels: {', '.join(channels)}",
                remedy="list them in this order, or name the channels with --channels",
            )
    for how in asked.normalisation:
        intensity.scale([np.zeros(1, np.float32)], how)  # refuses one that lacks a number
    context = networks.context(recipe.model)
    return Plan(
        orientation=asked.orientation,
        spacing_mm=asked.spacing_mm,
        size=asked.size,
        antialias=asked.antialias,
        steps=asked.steps,
        patch=asked.patch,
        batch=1 if asked.batch == "auto" else asked.batch,
        normalisation=asked.normalisation,
        crop="none" if asked.crop == "auto" else asked.crop,
        order=asked.order,
        channels=channels,
        modalities=asked.modalities,
        centres=asked.centres,
        context=context or 0,
        unit="mm" if context is None else None,  # a 2-D network may be one for photographs
        channels_on_other_grids=asked.channels_on_other_grids,
    )


def _checked(asked: Request, entry: Entry | None) -> str:
    """sha256 of the file, which must begin as the user and the catalogue say."""
    if asked.sha256 and not re.fullmatch("[0-9a-fA-F]{8,64}", asked.sha256):
        raise Refusal(
            "--sha256",
            found=asked.sha256,
            needed="64 hexadecimal digits, or the first 8 or more of them",
            remedy="copy it from the source",
        )
    found = foreign.sha256(asked.file)
    for needed, said in ((asked.sha256, "--sha256"), (entry.sha256 if entry else None, "the catalogue")):
        if needed and not found.startswith(needed.lower()):
            raise Refusal(
                asked.file,
                found=f"sha256 {found}",
                needed=f"{needed} ({said})",
                remedy="download it again; if it stays so, the file is another one than you think: do not use it",
            )
    return found


def _reorder(tensors: dict[str, Tensor], target: Target, outputs: tuple[str, ...], table: LabelTable) -> None:
    """Bring the file's output channels, named in its order, into the order of the label table."""
    wanted = table.channel_names
    given = outputs if len(outputs) == len(wanted) else ("background", *outputs)
    movable = all(target.expected[name].shape[0] == target.out_channels for name in target.heads)
    if sorted(given) != sorted(wanted) or not target.heads or not movable:
        raise Refusal(
            "--outputs",
            found=", ".join(outputs),
            needed=f"each of {', '.join(wanted)} once, for a network whose last layers alone know the classes",
            remedy="correct the names, or give the labels in the file's own order and leave --outputs out",
        )
    rows = torch.tensor([given.index(name) for name in wanted])
    for name in target.heads & set(tensors):
        tensors[name] = tensors[name][rows]


def _card(
    recipe: Recipe,
    table: LabelTable | None,
    plan: Plan | None,
    channels: tuple[str, ...],
    origin: dict[str, str],
    entry: Entry | None,
) -> card.Card:
    inputs = plan.inputs() if plan else {"channels": ", ".join(channels)}
    return card.Card(
        name=recipe.name,
        intended_use=recipe.intended_use,
        labels=table,
        licence=recipe.licence,
        summary=f"{recipe.model.name} with {dict(recipe.model.options)}, trained elsewhere and imported. "
        + (entry.about if entry else ""),
        inputs=inputs | ({"as published": entry.input} if entry else {}),
        data={"trained on": entry.trained_on if entry else "not stated"},
        limits=[
            "Nothing was measured here. Scans are prepared by medseg, whose resampling and statistics may differ from "
            "the original's in the last digits.",
            "Scans that differ from the training data in scanner, protocol, age or disease may fail silently.",
        ],
        provenance={"file": origin["file"], "sha256 of the file": origin["sha256"], "source": origin["source"]},
        versions={"medseg": medseg.__version__, "torch": torch.__version__},
    )
