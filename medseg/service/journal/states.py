"""States of a job, the ways between them, and what can be the reason of a bad end."""

from __future__ import annotations

from typing import Literal, get_args

from medseg.refusal import CODES

State = Literal[
    "received",
    "checked",
    "queued",
    "running",
    "written",
    "proven",
    "sent",
    "done",
    "held",
    "failed",
    "quarantined",
    "unmatched",
    "cancelled",
    "superseded",
]
"""received: it is here, whole; checked: its series were looked at, and a route was found; queued: waits for a worker;
running; written: its results lie under their final names; proven: they were read back; sent: every receiver took them;
done: every receiver that can has confirmed to keep them.

held: the quality control said what the route holds back; failed: it cannot be done, and trying again would not help;
quarantined: tried as often as is allowed; unmatched: no route wants it; cancelled: by a person; superseded: a later
revision of its study took its place before it was sent."""
STATES: tuple[State, ...] = get_args(State)
ENDS: frozenset[State] = frozenset({"done", "failed", "quarantined", "unmatched", "cancelled", "superseded"})
"""From where nothing goes on by itself; `held` waits for a person."""
GOOD: frozenset[State] = frozenset({"done"})

_STOPS: frozenset[State] = frozenset({"failed", "quarantined", "cancelled", "superseded"})
NEXT: dict[State, frozenset[State]] = {
    "received": _STOPS | {"checked", "queued", "unmatched"},
    "checked": _STOPS | {"queued"},
    "queued": _STOPS | {"running"},
    "running": _STOPS | {"written", "queued"},
    "written": _STOPS | {"proven", "queued"},
    "proven": _STOPS | {"sent", "held", "queued"},
    "held": frozenset({"proven", "cancelled", "superseded"}),
    "sent": frozenset({"done", "proven", "failed", "cancelled"}),
    "done": frozenset(),
    "failed": frozenset({"received", "queued", "proven"}),
    "quarantined": frozenset({"received", "queued"}),
    "unmatched": frozenset({"received"}),
    "cancelled": frozenset({"received", "queued"}),
    "superseded": frozenset(),
}
"""Where a job may go from each state. Backwards: a worker died or gave it back (running, written), results are not
as they were written (proven), a receiver does not have what it took (sent), a person tries again (the ends)."""

TAKEN_BACK_TO: dict[State, State] = {"running": "queued", "written": "queued"}
"""Where a job goes whose process is gone; from any other state it goes on where it stands."""

REASONS: dict[str, str] = CODES | {
    "crashed": "the worker's process died",
    "timeout": "longer than the time limit of a case",
    "memory": "more memory than there is, also with the smallest plan",
    "model": "the model cannot be loaded",
    "source": "an archive that is asked for studies does not answer as it should",
    "not-found": "an archive has nothing of what it was asked for",
    "incomplete": "an archive did not give all objects that it says to have, or not all could be kept",
    "no-route": "no route wants any of its series",
    "unproven": "a result could not be read back as it was written",
    "refused-by-receiver": "a receiver will never take the results; those for others were sent",
    "unreachable": "a receiver cannot be reached, or asks to come again; it is tried until it takes them",
    "unconfirmed": "a receiver has not said yet that it keeps the results",
    "cancelled": "a person cancelled it",
    "superseded": "a later revision of the study took its place",
}
"""Of a job, by its code: what refuses an input (`Refusal.code`), and what else may befall a job."""
