"""What a check has found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from medseg.refusal import Refusal

Verdict = Literal["ok", "look", "bad"]


@dataclass(frozen=True)
class Finding:
    """
    Attributes:
        what: was looked at.
        verdict: ok; look: it works, and somebody should know; bad: it does not.
        found: in words.
        remedy: what to do; empty where it is ok.
    """

    what: str
    verdict: Verdict
    found: str
    remedy: str = ""


def trying(what: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; a check that fails itself is one, and stops no other."""
    try:
        yield from check()
    except Refusal as refusal:
        yield Finding(what, "bad", f"{refusal.where}: {refusal.found}", refusal.remedy)
    except Exception as error:  # a driver or a system in a state that nobody thought of is what doctors are for
        yield Finding(what, "bad", f"{type(error).__name__}: {error}", "see what this says")
