"""`Split`: which cases train and which validate, as settings, as an object and as a file one can read and edit.

The file (JSON or YAML, by suffix):

```
kind: kfold
stamp: ''
seed: 0
fold: 0
folds:
- train: [a1, a2, c1]
  validation: [b1]
- ...
```
Reused with `kind: file`, it is held against the case list: every name must be known and no patient may leak.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from medseg.atomic import replacing
from medseg.case import Case
from medseg.refusal import Refusal
from medseg.settings import Settings

STAMP = "not an estimate of generalisation"
Side = Literal["train", "validation"]


class SplitSettings(Settings):
    """How cases are divided between training and validation."""

    kind: Literal["kfold", "holdout", "none", "slice", "file"] = "kfold"
    """kfold: cross-validation by patient. holdout: one share of the patients. none: everything on both sides. slice:
    slices of one scan on both sides. The last two overstate quality, and every result of theirs is stamped so. file:
    as written in `file`."""
    folds: int = Field(default=5, ge=2)
    """Parts of a kfold; each validates once."""
    fold: int = Field(default=0, ge=0)
    """The part that validates now."""
    validation: float = Field(default=0.2, gt=0, lt=1)
    """Share of the patients (holdout) or of the slices (slice) that validate."""
    stratify: Literal["none", "classes", "centre"] = "none"
    """Spread evenly over the sides: which labels occur in a patient, or the centres."""
    seed: int = Field(default=0, ge=0)
    """Start of the random numbers. The order of the cases has no influence."""
    file: Path | None = None
    """A split written earlier, or by hand, for kind: file."""


@dataclass(frozen=True)
class Split:
    """Case ids by side, sorted.

    Attributes:
        train: cases to learn from.
        validation: cases to measure on, in no way learned from unless `stamp` says so.
        stamp: empty, or what every result from this split must carry.
        settings: how it was made.
        folds: (train, validation) of every fold, the chosen one included; written into the file.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    stamp: str = ""
    settings: SplitSettings = field(default_factory=SplitSettings)
    folds: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()

    def slice_side(self, case: str, k: int) -> Side:
        """Side of slice `k` of a case. Only kind 'slice' divides within a case; otherwise the case's own side.

        The side is a hash of seed, case and slice number: no list to store, and independent of every other slice.
        """
        if self.settings.kind != "slice":
            return "train" if case in self.train else "validation"
        digest = hashlib.sha256(f"{self.settings.seed}\0{case}\0{k}".encode()).digest()
        return "validation" if int.from_bytes(digest[:8], "big") / 2**64 < self.settings.validation else "train"

    def save(self, path: Path) -> None:
        """Write all folds, as JSON if the suffix is .json, else as YAML."""
        content = {
            "kind": self.settings.kind,
            "stamp": self.stamp,
            "seed": self.settings.seed,
            "fold": self.settings.fold,
            "folds": [{"train": list(train), "validation": list(validation)} for train, validation in self.folds],
        }
        if self.settings.kind == "slice":
            content["share"] = self.settings.validation
        with replacing(path) as temporary:
            temporary.write_text(_dump(content, path), encoding="utf-8")


def load(path: Path, cases: Sequence[Case], settings: SplitSettings | None = None) -> Split:
    """Read a split and hold it against the case list; `settings.fold` chooses among its folds.

    Raises:
        Refusal: unreadable, unknown case, a case or a patient on two sides, a fold that is not there.
    """
    content = _read(path)
    kind, stamp = content.get("kind", "file"), str(content.get("stamp", ""))
    folds = tuple(_sides(entry, path) for entry in content["folds"])
    if settings is None:
        settings = SplitSettings(kind="file", file=path, fold=int(content.get("fold", 0)))
    if settings.fold >= len(folds):
        refuse_fold(settings.fold, len(folds), str(path))
    if kind in ("none", "slice"):  # the stamp cannot be edited away while cases stand on both sides
        stamp = STAMP
    for train, validation in folds:
        validate(train, validation, cases, where=str(path), overlap=kind in ("none", "slice"))
    if kind == "slice":
        settings = settings.model_copy(
            update={
                "kind": "slice",
                "seed": int(content.get("seed", 0)),
                "validation": float(content.get("share", 0.2)),
            }
        )
    return Split(*folds[settings.fold], stamp, settings, folds)


def leaks(train: Iterable[str], validation: Iterable[str], cases: Sequence[Case]) -> list[tuple[str, str, str]]:
    """(patient, case in training, case in validation) for every patient on both sides, one pair each, sorted."""
    patients = {case.id: case.patient for case in cases}
    first: dict[str, str] = {}
    for case in sorted(train):
        first.setdefault(patients[case], case)
    found: dict[str, tuple[str, str, str]] = {}
    for case in sorted(validation):
        patient = patients[case]
        if patient in first and patient not in found:
            found[patient] = (patient, first[patient], case)
    return sorted(found.values())


def validate(
    train: Sequence[str], validation: Sequence[str], cases: Sequence[Case], *, where: str, overlap: bool = False
) -> None:
    """Refuse a split with unknown or repeated cases or empty sides and, unless `overlap`, with leaking patients."""
    known = {case.id for case in cases}
    for side, names in (("train", train), ("validation", validation)):
        unknown = sorted(set(names) - known)
        repeated = sorted(name for name, count in Counter(names).items() if count > 1)
        if unknown or repeated or not names:
            what = f"unknown case '{unknown[0]}'" if unknown else "no case"
            what = f"case '{repeated[0]}' twice" if repeated and not unknown else what
            raise Refusal(
                where,
                found=f"{what} on the side '{side}'",
                needed="known cases, each once, on either side",
                remedy="correct the split, or make a new one",
            )
    leaking = [] if overlap else leaks(train, validation, cases)
    if leaking:
        patient, one, other = leaking[0]
        same = (
            f"case '{one}' on both sides" if one == other else f"case '{one}' in train and case '{other}' in validation"
        )
        raise Refusal(
            where,
            found=f"patient '{patient}' on two sides: {same}"
            + (f"; {len(leaking) - 1} more patients likewise" if len(leaking) > 1 else ""),
            needed="all cases of a patient on one side",
            remedy="move one of them, or correct the data set's patient ids",
        )


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML too
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Refusal(
            path, found=f"{error}", needed="a readable split file", remedy="correct the path or the file"
        ) from error
    folds = content.get("folds") if isinstance(content, dict) else content
    if not isinstance(folds, list) or not folds:
        raise Refusal(
            path,
            found="no list of folds",
            needed="'folds' with train and validation each",
            remedy="write it as the docstring of medseg/data/split.py shows",
        )
    return content if isinstance(content, dict) else {"folds": folds}


def _sides(entry: Any, path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """One fold of a file; nnU-Net's splits_final.json calls the second side 'val'."""
    train = entry.get("train") if isinstance(entry, dict) else None
    validation = entry.get("validation", entry.get("val")) if isinstance(entry, dict) else None
    if not isinstance(train, list) or not isinstance(validation, list):
        raise Refusal(
            path,
            found=f"a fold {entry!r:.80}",
            needed="lists 'train' and 'validation' in each fold",
            remedy="correct the file",
        )
    return tuple(sorted(str(case) for case in train)), tuple(sorted(str(case) for case in validation))


def _dump(content: dict[str, Any], path: Path) -> str:
    import yaml

    if path.suffix == ".json":
        return json.dumps(content, indent=1) + "\n"
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)


def refuse_fold(fold: int, count: int, where: str) -> None:
    """Refuse a fold number that is not there."""
    raise Refusal(
        where,
        found=f"fold {fold} of {count}",
        needed=f"0 to {count - 1}",
        remedy=f"set split.fold to 0 ... {count - 1}",
    )
