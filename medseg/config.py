"""A YAML recipe plus `key=value` overrides -> one validation of everything -> a frozen, typed `Recipe`.

All mistakes are reported at once, each with its path; unknown names are answered with the nearest known one. Recipes
do not inherit and hold no expressions. `load(dump(recipe)) == recipe`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError

from medseg import plugins
from medseg.data.splits import SplitSettings
from medseg.dicom.settings import DicomSettings
from medseg.plan import PrepareSettings
from medseg.refusal import Refusal
from medseg.settings import Settings, keys_at
from medseg.transforms.augment import Options as AugmentSettings

S = TypeVar("S", bound=Settings)
AS_TEXT = BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)
"""Written without quotes, YAML makes 32 a number."""
Precision = Annotated[Literal["32", "bf16", "16"], AS_TEXT]
"""Number format."""


class Chosen(Settings):
    """A component by name with its own options; in YAML `{name: stunet, size: S}`."""

    kind: str
    name: str
    options: SerializeAsAny[Settings]

    def module(self) -> Any:
        return plugins.find(self.kind, self.name)

    def dump(self) -> dict[str, Any]:
        return {"name": self.name, **self.options.model_dump(mode="json")}


class CurriculumSettings(Settings):
    """Coarse patches first: the same field of view in fewer voxels, in stages up to whole patches."""

    start: float = Field(default=0.5, gt=0, lt=1)
    """Share of a patch's sides at the beginning; axes of thick slices are shrunk less. A step at 0.5 computes an eighth
    of the voxels."""
    stages: int = Field(default=2, ge=1)
    """Sizes before the whole one, evenly from `start` on, for as many steps each."""
    whole_from: float = Field(default=0.6, gt=0, le=0.7)
    """Share of all steps after which patches are whole."""


class TrainSettings(Settings):
    """The training loop."""

    epochs: int = Field(default=100, ge=1)
    steps: int = Field(default=250, ge=1)
    """Optimiser steps an epoch."""
    accumulate: int = Field(default=1, ge=1)
    """Batches (prepare.batch) that a step sums the gradients of: the result is that of one so many times as large. Not
    with networks and losses that look at all samples of a batch together; the training says so."""
    micro_batch: int = Field(default=0, ge=0)
    """Samples that a device computes at once; 0 = prepare.batch. Fewer need less memory for the same result, but as
    above. Halved by itself where memory runs out."""
    deterministic: bool = False
    """Take only operations that give the same bits each time, on a GPU too; slower. On a CPU they do so anyway."""
    compile: Literal["auto"] | bool = "auto"
    """Let PyTorch's compiler fuse network and loss. auto: on an NVIDIA GPU, for at least 1000 steps, unless the same
    bits are wanted each time. It starts a minute or two later and needs less memory."""
    optimiser: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """SGD's; Nesterov."""
    weight_decay: float = Field(default=3e-5, ge=0)
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    """poly: lr * (1 - progress)^0.9; cosine: to 0. Progress is counted in steps."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from 0."""
    clip_norm: float = Field(default=12.0, gt=0)
    """Gradient norm limit."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """For fine-tuning: each stage of the network learns at this times the rate of the next one towards the heads, which
    learn at `lr`. 1 = all alike."""
    freeze: tuple[str, ...] = ()
    """For fine-tuning: parts of the network, by the names of its modules (`swinViT`, `encoder.stages.0`), whose weights
    stay as `init` gives them, and whose norms and dropout work as in prediction."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the moving average of the weights that is validated and kept; 0 = none."""
    foreground: float = Field(default=0.33, ge=0, le=1)
    """Share of patches centred on a labelled voxel (or on a slice with a class)."""
    small: float = Field(default=0.0, ge=0, le=1)
    """Of the patches centred on a label, the share centred on one of its connected components, drawn evenly: small
    lesions are met as often as large ones. The rest is centred on any of the label's voxels."""
    rare: float = Field(default=0.0, ge=0, le=1)
    """Share of patches centred on the label that the fewest training cases have (of several, the one of the fewest
    voxels), in a case drawn from these; the other patches are drawn as if this were 0."""
    balance: Literal["case", "centre", "class"] = "case"
    """What is drawn evenly: cases, centres, or the classes of whole images."""
    precision: Precision = "32"
    """16 needs a GPU."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = Field(default=1, ge=1)
    """GPUs, or CPU processes."""
    shard: bool = False
    """Divide weights, gradients and optimiser state over the devices (FSDP), for a network too large for one. Not with
    precision 16 or ema."""
    validate_every: int = Field(default=5, ge=1)
    """Epochs between whole-volume validations; the last epoch is always validated."""
    patience: int = Field(default=0, ge=0)
    """Stop after this many validations without a better Dice; 0 = never."""
    curriculum: CurriculumSettings | None = None
    """Coarse patches first, which shortens training; null = whole ones from the start. {} takes its defaults."""
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    """Processes that cut and augment patches (on a GPU, that cut them); 0 = in the loop. The batches are the same."""
    save_every: int = Field(default=1, ge=1)
    """Epochs between resumable checkpoints."""
    save_minutes: float = Field(default=15, ge=0)
    """Minutes after which there is one in the middle of an epoch; 0 = never. No number depends on when that is."""
    loggers: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    """Where the log goes besides log.jsonl. mlflow: to the server that MLFLOW_TRACKING_URI names, else into the run
    folder."""
    examples: int = Field(default=2, ge=0)
    """Validation cases of which pictures with outlines are made at each validation; the last and the best are kept."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of each process; 0 = as OMP_NUM_THREADS says, else the cores, shared out."""


class PredictSettings(Settings):
    """Inference on whole scans."""

    overlap: float = Field(default=0.5, ge=0, lt=1)
    """Share of a tile that neighbouring tiles cover again."""
    blend: Literal["gaussian", "constant"] = "gaussian"
    mirror: tuple[Literal["left-right", "anterior-posterior", "inferior-superior"], ...] = ()
    """Test-time mirroring along these patient axes; every combination is averaged. Not for left/right labels."""
    batch: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Most tiles a forward pass; fewer where memory is short. auto: up to 8 on a GPU, 1 elsewhere."""
    precision: Annotated[Literal["auto", "32", "bf16", "16"], AS_TEXT] = "auto"
    """Number format. auto: bf16 where the run has shown on its validation cases that labels stay the same (see
    precision.json in the run folder) and the device has instructions for it, else 32. While training, auto is 32."""
    skip_air: bool = True
    """Leave out tiles that see only air around the patient (CT), or the scan's lowest value (padding): background."""
    fit_body: bool = False
    """Lay the tiles over the patient alone, as if the air that `skip_air` finds were cut off. There are fewer of them,
    and they lie elsewhere, so that labels change where the network is in doubt. Without `skip_air` it has no effect."""
    coarse: Path | None = None
    """Run folder of a faster model that finds `--labels` first, so that this one sees only their surroundings."""
    coarse_margin_mm: float = Field(default=20.0, ge=0)
    """By how much the box around what `coarse` finds is enlarged."""
    backend: Literal["auto", "eager", "compile", "openvino"] = "auto"
    """What computes the network: eager (PyTorch as it is), compile (PyTorch's compiler) or openvino. auto: what `medseg
    tune` found the fastest for this model on this machine, else eager. Training always takes eager."""


class InitSettings(Settings):
    """Weights to start training from, in place of random ones."""

    weights: Path
    """A run folder (trained here, or made by `medseg import-weights`), one zipped, or a .safetensors file."""
    heads: Literal["skip", "load"] = "skip"
    """The last layers, which depend on the labels: skip leaves them random, even where their shapes would fit."""
    stem: Literal["exact", "repeat"] = "exact"
    """The first layers, which depend on the channels. repeat: where the network has more channels than the weights,
    theirs are repeated, undivided."""
    changed: tuple[str, ...] = ()
    """Options of the network that no weight's shape shows (`pools`, `patch_merging`) and that are meant to differ from
    those of the run that the weights come from."""


class Recipe(Settings):
    """Everything that decides a run."""

    name: str
    seed: int = Field(default=0, ge=0)
    dataset: Chosen
    labels: dict[str, int | list[int]] | None = None
    """Overrides the data set's own table: name -> number in the files, or a list of numbers for a region."""
    paint: list[int] | None = None
    """For regions: the number that each writes into a label map, later ones over earlier ones."""
    split: SplitSettings = SplitSettings()
    dicom: DicomSettings = DicomSettings()
    prepare: PrepareSettings = PrepareSettings()
    cache: Path = Path(".medseg-cache")
    """Folder of prepared cases; safe to delete, shared by all recipes."""
    model: Chosen
    init: InitSettings | None = None
    loss: Chosen
    augment: AugmentSettings = AugmentSettings()
    train: TrainSettings = TrainSettings()
    predict: PredictSettings = PredictSettings()
    postprocess: tuple[Chosen, ...] = ()
    metrics: tuple[Chosen, ...] = ()
    """None: those that suit the labels."""
    licence: str = "not stated"
    """Licence of the weights that this recipe makes; goes into the model card."""
    intended_use: str = "research only; not a medical device"


COMPONENTS = {"dataset": "datasets", "model": "models", "loss": "losses"}
COMPONENT_LISTS = {"postprocess": "postprocess", "metrics": "metrics"}
DEFAULTS: dict[str, Any] = {
    "loss": {"name": "dice_ce"},
}
DEFAULT_METRICS = {
    "voxel": ("dice", "iou", "volume", "hd95", "assd", "nsd"),
    "slice": ("auroc", "auprc", "classification", "calibration"),
    "image": ("auroc", "auprc", "classification", "calibration"),
}
"""Where a recipe names none, by what the labels are of."""


def load(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe file, apply `key.path=value` overrides, validate.

    Relative paths in the recipe are taken from the current folder, as on the command line.

    Raises:
        Refusal: no such file, not YAML, or one or more mistakes (all are listed).
    """
    if path.is_dir() or not path.exists():  # a pipe is as good as a file
        found = "a folder" if path.is_dir() else "no such file"
        raise Refusal(path, found=found, needed="a recipe (YAML)", remedy="check the path")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Refusal(
            path, found=" ".join(str(error).split()), needed="valid YAML", remedy="correct the line named"
        ) from error
    if not isinstance(data, dict):
        found = "nothing" if data is None else "a list" if isinstance(data, list) else f"'{data}' alone"
        raise Refusal(path, found=found, needed="keys with values", remedy="see pipelines/ for examples")
    for override in overrides:
        set_key(data, override)
    return parse(data, where=path)


def parse(data: Mapping[str, Any], *, where: str | Path) -> Recipe:
    """Validate a recipe given as plain data; `where` names it in messages."""
    merged = {**DEFAULTS, **data}
    problems: list[str] = []
    for key, kind in COMPONENTS.items():
        if key in merged:
            merged[key] = _choose(kind, merged[key], key, problems)
    for key, kind in COMPONENT_LISTS.items():
        entries = merged.get(key, [])
        if isinstance(entries, list | tuple):
            merged[key] = [_choose(kind, entry, f"{key}.{place}", problems) for place, entry in enumerate(entries)]
    recipe = None
    try:
        # a component that failed was reported above; a stand-in keeps the rest of the recipe checkable
        recipe = Recipe.model_validate(merged)
    except ValidationError as error:
        problems += _sentences(error, Recipe, "")
    if problems or recipe is None:
        listed = "\n".join(f"  {number}. {problem}" for number, problem in enumerate(problems, start=1))
        raise Refusal(
            where,
            found=f"{len(problems)} mistake{'s' * (len(problems) != 1)}:\n{listed}\n",
            needed="a recipe without mistakes",
            remedy="correct each line above; `medseg list` names what there is",
        )
    return recipe


def changed(settings: S, overrides: Iterable[str], *, key: str = "", where: str = "--set") -> S:
    """Settings with `key=value` changes. For messages: `key` is where they stand in the recipe, `where` whence they
    came."""
    data = settings.model_dump(mode="json")
    for override in overrides:
        set_key(data, override)
    try:
        return type(settings).model_validate(data)
    except ValidationError as error:
        raise Refusal(
            where,
            found="; ".join(_sentences(error, type(settings), key)),
            needed=f"settings that there are ({', '.join(key + name for name in type(settings).model_fields)})",
            remedy="correct it",
        ) from error


def dump(recipe: Recipe) -> str:
    """The recipe as YAML with every default written out."""
    data = recipe.model_dump(mode="json", exclude={*COMPONENTS, *COMPONENT_LISTS})
    data |= {key: getattr(recipe, key).dump() for key in COMPONENTS}
    data |= {key: [chosen.dump() for chosen in getattr(recipe, key)] for key in COMPONENT_LISTS}
    order = [field for field in Recipe.model_fields if field in data]
    return yaml.safe_dump({key: data[key] for key in order}, sort_keys=False, allow_unicode=True)


def choose(kind: str, entry: Any) -> Chosen:
    """One component from plain data, outside a recipe.

    Raises:
        Refusal: it names no component, or its options are wrong.
    """
    problems: list[str] = []
    chosen = _choose(kind, entry, kind, problems)
    if problems:
        raise Refusal(kind, found="; ".join(problems), needed="a valid component", remedy=f"see `medseg list {kind}`")
    return chosen


def output(text: str) -> Chosen:
    """An output from one word of the command line: its name, or `name:option=value,option=value`. Values are YAML.

    Example:
        >>> output("dicom_seg:series_number=400,series_description=Liver, venous").options.series_number
        400

    Raises:
        Refusal: no such output or option, or a value that it does not take.
    """
    name, _, rest = text.partition(":")
    entry: dict[str, Any] = {}
    problems: list[str] = []
    for word in re.split(r",(?=\s*\w+=)", rest) if rest else []:
        try:
            set_key(entry, word.strip())
        except Refusal as refusal:
            problems.append(f"'{word.strip()}' with {refusal.found}")
    if "name" in entry:
        problems.append("the option 'name', which no output has")
    chosen = _choose("outputs", {**entry, "name": name}, "output", problems)
    if problems:
        raise Refusal(
            f"--output {text}",
            found="; ".join(problems),
            needed="FORMAT, or FORMAT:option=value,option=value",
            remedy=f"see `medseg list outputs {name if name in plugins.names('outputs') else ''}".rstrip() + "`",
        )
    return chosen


def _choose(kind: str, entry: Any, key: str, problems: list[str]) -> Chosen:
    if isinstance(entry, str):
        entry = {"name": entry}
    stand_in = Chosen(kind=kind, name="", options=Settings())
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        problems.append(f"{key}: found {entry!r}; needed a name, such as {{name: {plugins.names(kind)[0]}}}")
        return stand_in
    name = entry["name"]
    try:
        options_class = plugins.find(kind, name).Options
    except (Refusal, AttributeError) as error:
        remedy = error.remedy if isinstance(error, Refusal) else "it has no class 'Options'"
        problems.append(f"{key}.name: no {kind} component '{name}'; {remedy}")
        return stand_in
    try:
        options = options_class.model_validate({k: v for k, v in entry.items() if k != "name"})
    except ValidationError as error:
        problems += _sentences(error, options_class, f"{key}.")
        return stand_in
    return Chosen(kind=kind, name=name, options=options)


def _sentences(error: ValidationError, model: type[Settings], prefix: str) -> list[str]:
    """One line a mistake: path, what was found, what was needed."""
    lines = []
    for item in error.errors():
        place = prefix + ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = keys_at(model, item["loc"][:-1])
            lines.append(f"{place}: no such key; {plugins.nearest(str(item['loc'][-1]), known)}")
        elif item["type"] == "missing":
            lines.append(f"{place}: missing")
        elif not item["loc"]:  # settings that do not fit one another; the sentence begins with one of them
            lines.append(prefix + item["msg"].removeprefix("Value error, "))
        else:
            said = item["msg"].removeprefix("Value error, ")
            found = "nothing" if item["input"] is None else repr(item["input"])
            lines.append(f"{place}: found {found}; {said[0].lower()}{said[1:]}")
    return lines


def set_key(data: dict[str, Any], text: str) -> None:
    """Set one key in plain data, from `key.path=value`. Texts become numbers where the settings want some: YAML 1.1
    reads 3e-4 as text.

    Raises:
        Refusal: no key and value, not YAML, or a path through what is no mapping.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise Refusal(
            text, found="no '='", needed="an override such as train.lr=3e-4", remedy="write it as key.path=value"
        )
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise Refusal(
            text, found=f"the value {value!r}, which is not YAML", needed="valid YAML", remedy="quote or correct it"
        ) from error
    node: Any = data
    *parents, last = key.split(".")
    for place, part in enumerate(parents, start=1):
        inner = node[_index(node, part, text)] if isinstance(node, list) else node.setdefault(part, {})
        if inner is None and isinstance(node, dict):  # a key without a value
            inner = node[part] = {}
        if not isinstance(inner, dict | list):
            found = ".".join(parents[:place])
            raise Refusal(
                text, found=f"'{found}' is a plain value", needed="a mapping", remedy=f"give it as {{name: {inner}}}"
            )
        node = inner
    node[_index(node, last, text) if isinstance(node, list) else last] = parsed


def _index(entries: list[Any], part: str, text: str) -> int:
    if not part.isdecimal() or int(part) >= len(entries):
        raise Refusal(
            text,
            found=f"'{part}' as a place in a list of {len(entries)}",
            needed=f"0 to {len(entries) - 1}" if entries else "a list that is not empty",
            remedy="correct the number, or give the whole list as key=[...]",
        )
    return int(part)
