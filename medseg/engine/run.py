"""A run folder is the model: everything that is needed to use it, and where it came from.

recipe.yaml  plan.json  labels.json  split.json  fingerprint.json      what it was made from
weights.safetensors                                                    the best weights, with their checksum
last.safetensors  former.safetensors                                   resumable training state, and the one before
calibration.json  quality.json                                         whether its answers are to be believed
log.jsonl  card.md  precision.json  metrics.json  report.html          what came out
training.html  validation/  tensorboard/  mlflow/  mlflow.json         how the training went, to look at
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import zipfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch import nn

from medseg import atomic, config
from medseg.boundary import parsing
from medseg.engine import checkpoint
from medseg.labels import LabelTable
from medseg.losses import Loss
from medseg.plan import Plan
from medseg.refusal import Refusal
from medseg.settings import Settings

S = TypeVar("S", bound=Settings)
CALIBRATION, PLAUSIBLE = "calibration.json", "quality.json"
FOLDS = "folds.json"
"""In a folder that is no run but holds those of a cross-validation."""


@dataclass(frozen=True)
class Run:
    """A run folder that exists. Its parts are read when asked for."""

    folder: Path

    @classmethod
    def open(cls, path: Path) -> Run:
        """A run folder, or the same folder zipped.

        Raises:
            Refusal: it is neither.
        """
        if path.suffix == ".zip" and path.is_file():
            path = _unzip(path)
        if (path / FOLDS).is_file():
            raise Refusal(
                path,
                found="the folds of a cross-validation",
                needed="one run: each has weights and validation cases of its own",
                remedy=f"name one, such as {path / 'fold0'}; `medseg predict` takes all as an ensemble",
            )
        if not (path / "recipe.yaml").is_file():
            raise Refusal(
                path,
                found="no recipe.yaml in it" if path.is_dir() else "a file" if path.exists() else "no such folder",
                needed="a run folder as `medseg train` makes it, or one zipped",
                remedy="check the path",
            )
        return cls(path)

    def path(self, name: str) -> Path:
        return self.folder / name

    def write(self, name: str, data: Any) -> None:
        """JSON that people can read, atomically."""
        with atomic.replacing(self.path(name)) as temporary:
            temporary.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def read(self, name: str) -> Any:
        path = self.path(name)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise Refusal(
                path, found="no such file", needed="a complete run folder", remedy="run `medseg train` to the end"
            ) from error
        except json.JSONDecodeError as error:
            raise Refusal(
                path, found=f"damaged JSON ({error})", needed="the file as it was written", remedy="restore the folder"
            ) from error

    def parsed(self, name: str, kind: type[S]) -> S:
        """A JSON file as the settings that it holds."""
        with self._parsing(name):
            return kind.model_validate(self.read(name))

    @cached_property
    def recipe(self) -> config.Recipe:
        return config.load(self.path("recipe.yaml"))

    @cached_property
    def plan(self) -> Plan:
        return self.parsed("plan.json", Plan)

    def pin_precision(self, precision: Literal["32", "bf16"] | None) -> None:
        """Write into the plan in which number format predictions are made; None: it is not settled."""
        plan = self.plan.model_copy(update={"inference_precision": precision})
        self.write("plan.json", plan.model_dump(mode="json"))
        vars(self)["plan"] = plan  # where cached_property keeps what it has read

    @cached_property
    def table(self) -> LabelTable:
        with self._parsing("labels.json"):
            return LabelTable.from_json(self.read("labels.json"))

    @property
    def learned_from(self) -> frozenset[str]:
        """Ids of its training cases; none where it does not say, as an exported run does not."""
        if not self.path("split.json").exists():
            return frozenset()
        with self._parsing("split.json"):
            split = self.read("split.json")
            return frozenset(split["folds"][split["fold"]]["train"] if split["folds"] else ())

    def _parsing(self, name: str) -> AbstractContextManager[None]:
        return parsing(self.path(name), needed="the file as it was written", remedy="restore the run folder")

    def build(self) -> nn.Module:
        """The network with fresh weights."""
        return build_network(self.recipe, self.plan, self.table)

    def load_network(self) -> tuple[nn.Module, str]:
        """The network with its best weights, in evaluation mode, and their sha256."""
        path = self.path("weights.safetensors")
        tensors, facts, sha256 = checkpoint.load(path)
        if facts.get("partial"):
            raise Refusal(
                path,
                found=f"{len(tensors)} tensors, a part of {self.recipe.model.name} that was imported with --partial",
                needed="a whole network",
                remedy=f"train from it: `init: {{weights: {self.folder}}}` in a recipe",
            )
        network = self.build()
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:  # torch's word for other names or shapes
            raise Refusal(
                path,
                found="weights of another network",
                needed=f"those of {self.recipe.model.name} as recipe.yaml describes it",
                remedy="restore recipe.yaml, plan.json, labels.json and weights.safetensors from the same run",
            ) from error
        return network.eval(), sha256


def build_network(recipe: config.Recipe, plan: Plan, table: LabelTable) -> nn.Module:
    chosen = recipe.model
    return chosen.module().build(chosen.options, in_channels=plan.in_channels, out_channels=table.network_channels)


def build_loss(recipe: config.Recipe, plan: Plan, table: LabelTable) -> Loss:
    module, spacing = recipe.loss.module(), plan.spacing_mm
    size = {"spacing_mm": spacing} if getattr(module, "IN_MM", False) and spacing != "native" else {}
    built: Loss = module.build(recipe.loss.options, exclusive=table.exclusive, **size)
    return built


PARTS = ("recipe.yaml", "plan.json", "labels.json", "weights.safetensors", "card.md")
"""What prediction needs. The split stays at home: it names cases, and so perhaps patients."""
EXTRAS = (CALIBRATION, PLAUSIBLE)
"""What it uses where it is there; neither names a case."""


def export(run: Run, path: Path) -> None:
    """Zip the parts of a run that its use needs. The same run gives the same bytes."""
    missing = [name for name in PARTS if not run.path(name).exists()]
    if missing:
        raise Refusal(
            run.folder,
            found=f"no {', '.join(missing)}",
            needed="a finished run",
            remedy="run `medseg train` to the end",
        )
    with atomic.replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in (*PARTS, *(name for name in EXTRAS if run.path(name).exists())):
            entry = zipfile.ZipInfo(name)  # a fixed date, so that the same run gives the same bytes
            archive.writestr(entry, run.path(name).read_bytes())


def _unzip(path: Path) -> Path:
    """Extract beside the system's temporary files until this process ends; names that point outside the folder are
    refused."""
    target = Path(tempfile.mkdtemp(prefix="medseg-run-"))
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    with parsing(path, needed="a zipped run", remedy="copy it again"), zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not (target / name).resolve().is_relative_to(target.resolve()):
                raise Refusal(
                    path, found=f"an entry '{name}' outside the folder", needed="a zipped run", remedy="do not use it"
                )
        archive.extractall(target)
    if (target / "recipe.yaml").exists():
        return target
    inner = [folder for folder in target.iterdir() if (folder / "recipe.yaml").exists()]
    return inner[0] if inner else target
