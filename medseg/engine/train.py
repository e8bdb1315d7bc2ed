"""From a recipe to a run folder: gather, split, prepare, build, fit. The loop itself is in fit.py."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning_fabric
import torch

import medseg
from medseg import atomic, card, config, progress
from medseg.case import CaseSet
from medseg.config import Recipe
from medseg.data import splits
from medseg.data.cache import open_case
from medseg.data.patches import PatchSource
from medseg.data.splits import Split
from medseg.engine import device as devices
from medseg.engine import fit, footprint, gather
from medseg.engine.check import examine
from medseg.engine.fingerprint import fingerprint
from medseg.engine.planning import make_plan
from medseg.engine.prepare import prepare
from medseg.engine.run import Run, build_network
from medseg.engine.samples import Samples
from medseg.plan import Plan
from medseg.readers import read
from medseg.refusal import Refusal

Announce = Callable[[str], None]
RESUMABLE = ("train", "predict", "postprocess", "metrics", "cache")
"""Parts of a recipe that may change when a run is resumed on purpose."""
STATE = ("steps", "optimiser", "ema", "devices")
"""Training settings that may not: what was saved has no meaning under others (ema: whether there is one)."""
DECIDED = ("split.json", "plan.json", "labels.json", "fingerprint.json")


@dataclass(frozen=True)
class Material:
    """What a recipe's data amounts to: cases, split, plan and prepared arrays."""

    cases: CaseSet
    split: Split
    plan: Plan
    prepared: dict[str, Path]


def train(recipe: Recipe, folder: Path, *, resume: bool = False, announce: Announce | None = None) -> Run:
    """Train a recipe into a run folder.

    The same call after a kill goes on from the last checkpoint. `resume` says that on purpose: then there must be
    something to resume, and the recipe's training settings may differ (more epochs, say).

    Raises:
        Refusal: bad data, a folder that holds another run, a full disk.
        fit.Interrupted: stopped by a signal; the state is saved.
    """
    announce = announce or (lambda text: print(text, file=sys.stderr, flush=True))
    devices.tune_allocator()
    devices.set_threads(recipe.train.threads)
    for name in ("train", "predict"):  # validation computes as prediction does
        precision = getattr(recipe, name).precision
        devices.check_precision(devices.choose(recipe.train.device), precision, where=f"{name}.precision")
    fabric = _fabric(recipe)
    with fabric.rank_zero_first():  # the others find the run folder and the cache filled
        _claim(folder, recipe, resume=resume and fabric.is_global_zero)
        material = assemble(recipe, folder, announce=announce)
    run = Run(folder)
    torch.manual_seed(recipe.seed)
    network = build_network(recipe, material.plan, material.cases.labels)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    announce(f"{recipe.model.name}: {parameters:,} parameters, on {fabric.device}")
    parts = fit.Parts(
        recipe=recipe,
        plan=material.plan,
        table=material.cases.labels,
        run=run,
        network=network,
        loss=recipe.loss.module().build(recipe.loss.options, exclusive=material.cases.labels.exclusive),
        samples=Samples(_patches(recipe, material, fabric.world_size), recipe.augment, material.plan.orientation),
        validation=[open_case(material.prepared[case]) for case in material.split.validation],
        announce=announce,
        slices=_by_slice(material),
    )
    position = fit.fit(parts, fabric)
    if fabric.is_global_zero:
        _write_card(run, recipe, material, position.best)
        announce(f"best validation Dice {position.best:.4f}; the model is {folder}")
    return run


def assemble(recipe: Recipe, folder: Path | None, *, announce: Announce) -> Material:
    """Cases, split, plan and prepared arrays of a recipe. With a run folder, what was decided there before is kept,
    so that a resumed run has the same split and plan; without one, nothing is written but the cache."""
    cases = gather.cases(recipe)
    _need_targets(cases)
    split = _split(recipe, cases, folder)
    used = {*split.train, *split.validation}
    training = CaseSet(tuple(c for c in cases.cases if c.id in set(split.train)), cases.channels, cases.labels)
    wanted = CaseSet(tuple(c for c in cases.cases if c.id in used), cases.channels, cases.labels)
    plan = _plan(recipe, training, folder, announce)
    with progress.counting("preparing cases", total=len(wanted.cases)) as done:
        places = prepare(
            wanted,
            plan,
            folder=recipe.cache,
            read=read,
            unknown_labels=recipe.prepare.unknown_labels,
            workers=workers(recipe),
            progress=lambda number, total, case: done(),
        )
    return Material(cases, split, plan, places)


def workers(recipe: Recipe) -> int:
    """Processes for preparation; auto: one for each core."""
    return recipe.prepare.workers if recipe.prepare.workers != "auto" else devices.available_cores()


def _claim(folder: Path, recipe: Recipe, *, resume: bool) -> None:
    """Make the run folder this recipe's, or see that it already is."""
    if folder.exists() and not folder.is_dir():
        raise Refusal(folder, found="a file", needed="a new folder", remedy="choose another --out")
    atomic.remove_partial(folder)
    text = config.dump(recipe)
    path = folder / "recipe.yaml"
    started = (folder / "last.safetensors").exists()
    if resume and not started:
        raise Refusal(
            folder, found="no checkpoint to resume", needed="last.safetensors", remedy="train without --resume"
        )
    if path.exists() and path.read_text(encoding="utf-8") != text:
        changed = _changes(config.load(path), recipe)
        fixed = [key for key in changed if key not in RESUMABLE]
        if started and (fixed or not resume):
            raise Refusal(
                folder,
                found=f"a run of another recipe (it differs in: {', '.join(changed)})",
                needed="the recipe that it was started with"
                + ("" if fixed else ", or --resume to go on with changed training settings"),
                remedy="choose another --out folder",
            )
        if not started:  # what was decided for the other recipe does not hold for this one
            for name in DECIDED:
                (folder / name).unlink(missing_ok=True)
    elif folder.exists() and any(folder.iterdir()) and not path.exists():
        raise Refusal(folder, found="files that are not a run's", needed="a new folder", remedy="choose another --out")
    with atomic.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _changes(old: Recipe, new: Recipe) -> list[str]:
    """Keys that differ; of the training settings, those that the saved state hangs on one by one."""
    changed = [key for key in Recipe.model_fields if getattr(old, key) != getattr(new, key)]
    states = [{**vars(recipe.train), "ema": recipe.train.ema > 0} for recipe in (old, new)]
    return changed + [f"train.{key}" for key in STATE if states[0][key] != states[1][key]]


def _need_targets(cases: CaseSet) -> None:
    lacking = [case.id for case in cases.cases if case.target is None]
    if lacking:
        raise Refusal(
            f"case {lacking[0]}",
            found="no label map" + (f", nor in {len(lacking) - 1} other cases" if len(lacking) > 1 else ""),
            needed="one for every case to train on",
            remedy="add it, or leave the case out of the data set",
        )


def _split(recipe: Recipe, cases: CaseSet, folder: Path | None) -> Split:
    path = folder / "split.json" if folder else None
    if path and path.exists():
        return splits.load(path, cases.cases)
    found = examine(cases).presence if recipe.split.stratify == "classes" else None
    split = splits.make(cases.cases, recipe.split, presence=found)
    if path:
        split.save(path)
    return split


def _plan(recipe: Recipe, training: CaseSet, folder: Path | None, announce: Announce) -> Plan:
    if folder and (folder / "plan.json").exists():
        return Run(folder).plan
    with progress.counting("measuring cases", total=len(training.cases)) as done:
        seen = fingerprint(
            training,
            read=read,
            orientation=recipe.prepare.orientation,
            policy=recipe.prepare.channels_on_other_grids,
            workers=workers(recipe),
            progress=lambda number, total, case: done(),
        )
    chosen, labels = recipe.model, training.labels
    plan = make_plan(
        seen,
        recipe.prepare,
        divisor=chosen.module().divisor(chosen.options),
        channels=training.channels,
        bytes_per_voxel_estimate=footprint.of_recipe(
            recipe, channels=len(training.channels), out_channels=labels.network_channels
        ),
        memory_gib=footprint.available_gib(devices.choose(recipe.train.device)),
    )
    announce(
        f"plan: spacing {plan.spacing_text()}, patch {plan.patch}, batch {plan.batch}, "
        f"normalisation {plan.normalisation_text()}"
    )
    if folder:
        run = Run(folder)
        run.write("fingerprint.json", seen.to_json())
        run.write("labels.json", labels.to_json())
        run.write("plan.json", plan.model_dump(mode="json"))
    return plan


def _fabric(recipe: Recipe) -> lightning_fabric.Fabric:
    settings = recipe.train
    chosen = devices.choose(settings.device)
    fabric = lightning_fabric.Fabric(
        accelerator=chosen.type,
        devices=settings.devices,
        strategy="ddp" if settings.devices > 1 else "auto",
        precision={"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[settings.precision],
    )
    fabric.launch()
    return fabric


def _patches(recipe: Recipe, material: Material, world: int) -> PatchSource:
    settings = recipe.train
    return PatchSource(
        folders=[material.prepared[case] for case in material.split.train],
        patch=material.plan.patch,
        length=settings.epochs * settings.steps * material.plan.batch * world,
        seed=recipe.seed,
        foreground_share=settings.foreground,
        split=_by_slice(material),
    )


def _by_slice(material: Material) -> Split | None:
    """The split, if it divides the slices of a case; patches must then be single slices."""
    if material.split.settings.kind != "slice":
        return None
    if material.plan.patch[2] != 1:
        raise Refusal(
            "split.kind",
            found=f"slice, with patches of {material.plan.patch[2]} slices",
            needed="patches of one slice, or slices of both sides would be seen together",
            remedy="set prepare.patch to [i, j, 1], with a network for it such as residual_unet with kernel [3, 3, 1] "
            "and strides of 1 along k",
        )
    return material.split


def _write_card(run: Run, recipe: Recipe, material: Material, best: float) -> None:
    split, plan = material.split, material.plan
    training = [case for case in material.cases.cases if case.id in set(split.train)]
    content = card.Card(
        name=recipe.name,
        intended_use=recipe.intended_use,
        labels=material.cases.labels,
        licence=recipe.licence,
        stamp=split.stamp,
        summary=f"{recipe.model.name} with {dict(recipe.model.options)}, trained for {recipe.train.epochs} epochs of "
        f"{recipe.train.steps} steps.",
        inputs={
            "channels": ", ".join(plan.channels),
            "spacing": plan.spacing_text(),
            "orientation": plan.orientation,
        },
        data={
            "data set adapter": recipe.dataset.name,
            "training cases": str(len(training)),
            "training patients": str(len({case.patient for case in training})),
            "validation cases": str(len(split.validation)),
        },
        split=f"{recipe.split.kind}, by patient" if not split.stamp else recipe.split.kind,
        metrics=[{"measured on": "validation cases, prepared grid", "mean Dice": best}],
        limits=["Scans that differ from the training data in scanner, protocol, age or disease may fail silently."],
        provenance={"seed": str(recipe.seed)},
        versions={"medseg": medseg.__version__, "torch": torch.__version__},
    )
    card.write(run.path("card.md"), content)
