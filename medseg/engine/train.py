"""From a recipe to a run folder: gather, split, prepare, build, fit. The loop itself is in fit.py."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import lightning_fabric
import numpy as np
import torch

import medseg
from medseg import card
from medseg.case import Case
from medseg.config import Recipe
from medseg.data.cache import PreparedCase, open_case
from medseg.data.patches import PatchSource, rarest
from medseg.data.splits import STAMP, Split
from medseg.engine import curriculum, fit, groups, journal, launch, precision, state, step, validate, weights
from medseg.engine import device as devices
from medseg.engine.claim import alone, claim
from medseg.engine.material import Announce, Material, assemble
from medseg.engine.run import Run, build_loss, build_network
from medseg.engine.samples import Samples
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.transforms.prepare import centre_code, with_planes


def train(recipe: Recipe, folder: Path, *, resume: bool = False, announce: Announce | None = None) -> Run:
    """Train a recipe into a run folder.

    The same call after a kill goes on from the last checkpoint. `resume` says that on purpose: then there must be
    something to resume, and the recipe's training settings may differ (more epochs, say).

    Raises:
        Refusal: bad data, a folder that holds another run, a full disk.
        interrupts.Interrupted: stopped by a signal; the state is saved.
    """
    announce = announce or (lambda text: print(text, file=sys.stderr, flush=True))
    repeating = devices.repeatable(devices.choose(recipe.train.device), wanted=recipe.train.deterministic)
    with repeating, launch.parting(), step.explained():
        return _train(recipe, folder, resume=resume, announce=announce)


def _train(recipe: Recipe, folder: Path, *, resume: bool, announce: Announce) -> Run:
    devices.tune_allocator()
    for name in ("train", "predict"):  # validation computes as prediction does
        wanted = getattr(recipe, name).precision
        devices.check_precision(devices.choose(recipe.train.device), wanted, where=f"{name}.precision")
    fabric = launch.launched(recipe.train)
    if not fabric.is_global_zero:  # one process speaks for all
        announce = _say_nothing
    with alone(folder) if fabric.is_global_zero else nullcontext():
        return _trained(recipe, folder, fabric, resume=resume, announce=announce)


def _trained(recipe: Recipe, folder: Path, fabric: lightning_fabric.Fabric, *, resume: bool, announce: Announce) -> Run:
    with fabric.rank_zero_first():  # the others find the run folder and the cache filled
        claim(folder, recipe, resume=resume and fabric.is_global_zero)
        material = assemble(recipe, folder, announce=announce)
        if material.plan.inference_precision and fabric.is_global_zero:  # of weights that may not be the last ones
            Run(folder).pin_precision(None)
    devices.tune_kernels(fabric.device)
    run = Run(folder)
    torch.manual_seed(recipe.seed)
    network = build_network(recipe, material.plan, material.cases.labels)
    if recipe.init and not state.started(folder):
        weights.initialise(network, recipe, material.plan, material.cases.labels, announce)
    groups.freeze(network, recipe, announce)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    announce(f"{recipe.model.name}: {parameters:,} parameters, on {devices.in_words(fabric.device)}")
    parts = fit.Parts(
        recipe=recipe,
        plan=material.plan,
        table=material.cases.labels,
        run=run,
        network=network,
        loss=build_loss(recipe, material.plan, material.cases.labels),
        samples=_samples(recipe, material, fabric.world_size, announce),
        validation=_validation(material),
        announce=announce,
        data=material.digest,
        slices=_by_slice(material),
    )
    position = fit.fit(parts, fabric)
    if fabric.is_global_zero:
        _write_card(run, recipe, material, position)
        if recipe.predict.precision == "auto":
            precision.settle_once(run, _held_out(parts), device=fabric.device, announce=announce)
        measure = journal.MEASURES[validate.measure(material.cases.labels)]
        announce(f"best validation {measure} {position.best:.4f}; the model is {folder}")
    return run


def _say_nothing(text: str) -> None:
    pass


def _samples(recipe: Recipe, material: Material, world: int, announce: Announce) -> Samples:
    stages = curriculum.stages(recipe, material.plan)
    if stages:
        announce(curriculum.in_words(stages))
    a_step = recipe.train.accumulate * material.plan.batch * world
    return Samples(
        _patches(recipe, material, world),
        recipe.augment,
        material.plan.orientation,
        _planes(material),
        [(stage.step * a_step, stage.patch) for stage in stages],
    )


def _patches(recipe: Recipe, material: Material, world: int) -> PatchSource:
    settings = recipe.train
    groups = _groups(recipe, material)
    return PatchSource(
        groups=groups,
        patch=material.plan.patch,
        length=settings.epochs * settings.steps * settings.accumulate * material.plan.batch * world,
        seed=recipe.seed,
        foreground_share=settings.foreground,
        context=material.plan.context,
        split=_by_slice(material),
        small_share=settings.small,
        rare=rarest([folder for group in groups for folder in group], settings.rare) if settings.rare else None,
    )


def _planes(material: Material) -> dict[str, tuple[float, ...]]:
    """What the channels of the centres hold, by case."""
    wanted = material.plan.centres
    return {case.id: centre_code(case.centre, wanted) for case in material.cases.cases} if wanted else {}


def _validation(material: Material) -> list[PreparedCase]:
    planes = _planes(material)
    opened = [open_case(material.prepared[case]) for case in material.split.validation]
    return [
        replace(case, image=with_planes(np.asarray(case.image), planes[case.id])) if case.id in planes else case
        for case in opened
    ]


def _held_out(parts: fit.Parts) -> precision.Images:
    """Images of the validation cases; of a split by slice, for networks that see single slices, those that validate."""
    images: dict[str, Callable[[], np.ndarray]] = {}
    for case in precision.telling(parts.validation):
        if parts.slices is None:
            images[case.id] = partial(np.asarray, case.image)
        elif places := [k for k in range(case.image.shape[3]) if parts.slices.slice_side(case.id, k) == "validation"]:
            images[case.id] = partial(np.take, case.image, places, axis=3)
    return images


def _groups(recipe: Recipe, material: Material) -> list[list[Path]]:
    """Prepared training cases in the groups that are drawn evenly."""
    groups: dict[object, list[Path]] = {}
    chosen = _with_training_slices(material)
    for case in sorted((case for case in material.cases.cases if case.id in chosen), key=lambda case: case.id):
        key = {"case": None, "centre": case.centre, "class": _class_of(case, material.cases.labels)}[
            recipe.train.balance
        ]
        groups.setdefault(key, []).append(material.prepared[case.id])
    return list(groups.values())


def _with_training_slices(material: Material) -> set[str]:
    """Training cases; of a split by slice, those of which it leaves a slice to train on."""
    split, chosen = _by_slice(material), set(material.split.train)
    if split is None:
        return chosen
    counts = {case: open_case(material.prepared[case]).image.shape[3] for case in chosen}
    left = {case for case in chosen if any(split.slice_side(case, k) == "train" for k in range(counts[case]))}
    if not left:
        raise Refusal(
            "split.kind",
            found=f"slice, and all {sum(counts.values())} slices validate",
            needed="some to train on",
            remedy="set split.validation lower, or add cases",
        )
    return left


def _class_of(case: Case, table: LabelTable) -> object:
    """What `balance: class` draws evenly: the classes of the label table, not the numbers in the files."""
    return None if case.classes is None else tuple(table.encode_classes(case.classes).ravel().tolist())


def _by_slice(material: Material) -> Split | None:
    """The split, if it divides the slices of a case; patches must then be single slices."""
    if material.split.settings.kind != "slice":
        return None
    if material.cases.labels.unit == "image":
        raise Refusal(
            "split.kind",
            found="slice, for classes of whole images",
            needed="kfold or holdout: a class of the whole image cannot be divided",
            remedy="set split.kind",
        )
    if material.plan.context:
        raise Refusal(
            "split.kind",
            found=f"slice, with a network that sees {material.plan.context} slices on each side",
            needed="a network that sees single slices, or training and validation would see each other's",
            remedy="set the model's neighbours to 0",
        )
    if material.plan.patch[2] != 1:
        raise Refusal(
            "split.kind",
            found=f"slice, with patches of {material.plan.patch[2]} slices",
            needed="patches of one slice, or slices of both sides would be seen together",
            remedy="set prepare.patch to [i, j, 1], with a network for it such as residual_unet with kernel [3, 3, 1] "
            "and strides of 1 along k",
        )
    return material.split


def _write_card(run: Run, recipe: Recipe, material: Material, position: state.Position) -> None:
    split, plan, measure = material.split, material.plan, validate.measure(material.cases.labels)
    training = [case for case in material.cases.cases if case.id in set(split.train)]
    content = card.Card(
        name=recipe.name,
        intended_use=recipe.intended_use,
        labels=material.cases.labels,
        licence=recipe.licence,
        stamp=split.stamp,
        summary=f"{recipe.model.name} with {dict(recipe.model.options)}, trained for {len(position.history)} epochs of "
        f"{recipe.train.steps} steps" + (f", from the weights {recipe.init.weights}." if recipe.init else "."),
        inputs=plan.inputs(),
        data={
            "data set adapter": recipe.dataset.name,
            "training cases": str(len(training)),
            "training patients": str(len({case.patient for case in training})),
            "validation cases": str(len(split.validation)),
        },
        split=recipe.split.kind if split.stamp == STAMP else f"{recipe.split.kind}, by patient",
        metrics=[
            {
                "measured on": "validation cases, as prepared; they also chose the weights",
                f"mean {measure}": position.best,
            }
        ],
        limits=[
            "Scans that differ from the training data in scanner, protocol, age or disease may fail silently.",
            *(f"It does not know {name}: no training case has it." for name in material.unseen),
        ],
        provenance={"seed": str(recipe.seed)},
        versions={"medseg": medseg.__version__, "torch": torch.__version__},
    )
    card.write(run.path("card.md"), content)
