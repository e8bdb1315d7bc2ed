"""One runner for every batch of cases: a case that fails is recorded with its reason, and the others go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from medseg.case import Case
from medseg.refusal import Refusal


@dataclass(frozen=True)
class Outcome:
    """What became of one case: `done`, `refused` (the input's fault) or `failed` (ours, or the machine's)."""

    case: str
    state: str
    seconds: float
    files: tuple[str, ...] = ()
    reason: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run_all(cases: Iterable[Case], work: Callable[[Case], tuple[tuple[str, ...], dict[str, Any]]]) -> Iterable[Outcome]:
    """Yield an outcome per case. `work` returns the files it wrote and facts about them.

    A refusal or any other exception ends that case only; KeyboardInterrupt ends the batch.
    """
    for case in cases:
        started = time.monotonic()
        try:
            files, facts = work(case)
        except Refusal as refusal:
            yield Outcome(case.id, "refused", time.monotonic() - started, reason=str(refusal))
        except Exception as error:  # the border between one case and the next: whatever it was, it is put on record
            reason = f"{type(error).__name__}: {error}"
            yield Outcome(case.id, "failed", time.monotonic() - started, reason=reason)
        else:
            yield Outcome(case.id, "done", time.monotonic() - started, files, facts=facts)
