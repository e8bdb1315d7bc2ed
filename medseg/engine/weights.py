"""Training from weights that exist: what `init` in a recipe names, put into a fresh network."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from medseg.config import Chosen, InitSettings, Recipe
from medseg.engine import checkpoint, foreign, matching
from medseg.engine.matching import Target
from medseg.engine.run import Run
from medseg.labels import LabelTable
from medseg.plan import Plan
from medseg.refusal import Refusal

Announce = Callable[[str], None]


def initialise(network: nn.Module, recipe: Recipe, plan: Plan, table: LabelTable, announce: Announce) -> None:
    """Put the weights that `recipe.init` names into a fresh network, in place; what they lack stays random.

    Raises:
        Refusal: they do not fit, or nothing but heads does.
    """
    init = recipe.init
    if init is None:
        return
    target = Target(recipe.model, plan.in_channels, table.network_channels)
    state, whole, seen = _source(init, target)
    heads = [name for name in state if target.is_head(name)]
    if init.heads == "skip":
        state = {name: tensor for name, tensor in state.items() if name not in heads}
    repeated = _repeat_stem(state, target) if init.stem == "repeat" else []
    match = matching.compare(state, target.expected)
    body = [name for name in match.matched if target.expected[name].is_floating_point() and not target.is_head(name)]
    if not body and not match.reshaped:
        raise Refusal(
            init.weights,
            found=f"nothing for {recipe.model.name}" + f" but {len(heads)} tensors of its heads" * bool(heads),
            needed="weights of its body",
            remedy="start from another run, or leave `init` out",
        )
    matching.refuse_other_counts(match, target, init.weights, heads=True)
    bare = [name for name in match.missing if init.heads == "load" or not target.is_head(name)] if whole else []
    if match.reshaped or match.unexpected or bare:
        raise Refusal(
            init.weights,
            found=f"weights that do not fit {recipe.model.name}: {'; '.join(match.lines())}",
            needed="every tensor of the network but its heads, and none beside",
            remedy="set the model's options as in the run that the weights come from; a part of a network is "
            "brought in by `medseg import-weights --partial`",
        )
    matching.refuse_not_finite(match.matched, init.weights)
    network.load_state_dict(match.matched, strict=False)
    told = f"init: {len(match.matched)} of {len(target.expected)} tensors from {init.weights}"
    if repeated:
        told += f"; repeated for {target.in_channels} channels: {matching.some(repeated)}"
    if match.missing:
        told += f"; {len(match.missing)} stay random: {matching.some(list(match.missing))}"
    announce(told)
    if seen and (differences := _prepared_otherwise(seen, plan)):
        announce(f"init: these weights were trained with {differences}")


def _source(init: InitSettings, target: Target) -> tuple[dict[str, Tensor], bool, Plan | None]:
    """The weights in the network's names, whether they are meant to be a whole network, and how their scans were
    prepared, where that is known."""
    path = init.weights
    if path.suffix == ".safetensors" and not (path.parent / "recipe.yaml").is_file():
        matching.require_unseen(target.chosen, path, how="write it into the recipe, for example {name}: {value}")
        return target.adapted(foreign.read(path)), True, None
    if path.is_file() and path.suffix not in (".safetensors", ".zip"):
        raise Refusal(
            path,
            found="a file that others made, which may be a program",
            needed="a run folder, one zipped, or .safetensors",
            remedy="bring it in by `medseg import-weights` and name the folder that this makes",
        )
    run = Run(path.parent) if path.suffix == ".safetensors" else Run.open(path)
    tensors, facts, _ = checkpoint.load(path if path.suffix == ".safetensors" else run.path("weights.safetensors"))
    _require_same_unseen(run.recipe.model, target.chosen, init)
    whole = not facts.get("partial")
    return tensors, whole, run.plan if whole else None


def _prepared_otherwise(before: Plan, now: Plan) -> str:
    """What the weights are used to and will not see: allowed, for training adapts to it, and good to know."""
    pairs = {
        "orientation": (before.orientation, now.orientation),
        "normalisation": tuple(", ".join(dict.fromkeys(how.kind for how in p.normalisation)) for p in (before, now)),
    }
    return "; ".join(f"{what} {theirs}, not {ours}" for what, (theirs, ours) in pairs.items() if theirs != ours)


def _require_same_unseen(theirs: Chosen, ours: Chosen, init: InitSettings) -> None:
    """Refuse options that no weight's shape shows and that differ, unless `init.changed` says that this is meant."""
    for name in getattr(ours.module(), "UNSEEN", ()) if theirs.name == ours.name else ():
        before, now = (chosen.options.model_dump(mode="json")[name] for chosen in (theirs, ours))
        if before != now and name not in init.changed:
            raise Refusal(
                f"model.{name}",
                found=f"{now}, while the weights of {init.weights} were made with {before}",
                needed="the same, because they load into any and are right in one only",
                remedy=f"set model.{name} as it was, or say that another is meant: init.changed=[{name}]",
            )


def _repeat_stem(state: dict[str, Tensor], target: Target) -> list[str]:
    """Repeat first layers along their input axis where the network has a multiple of their channels; their names.

    They are not divided by the number of repetitions, as in STU-Net's fine-tuning and in MONAI's `load_from`.
    """
    repeated = []
    for name in sorted(target.stem & set(state)):
        theirs, ours = tuple(state[name].shape), tuple(target.expected[name].shape)
        if len(theirs) > 1 and theirs[1] < ours[1] and ours[1] % theirs[1] == 0:
            state[name] = state[name].repeat(1, ours[1] // theirs[1], *[1] * (len(ours) - 2))
            repeated.append(name)
    return repeated
