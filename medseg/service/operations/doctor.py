"""Looks at everything that an installation needs, and says what is amiss and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from medseg.refusal import Refusal
from medseg.service.journal import Journal, schema
from medseg.service.operations.checks import installation, machine, network, software
from medseg.service.operations.checks.finding import Finding, Verdict, trying
from medseg.service.settings.site import Site

Check = tuple[str, Callable[[], Iterator[Finding]]]


def examine(site: Site | None) -> Iterator[Finding]:
    """Each finding as soon as it is there; none stops another.

    Args:
        site: its data folder, journal, models, ports, receivers and sources are looked at, too; None: only the machine.
    """
    yield from _all(
        ("versions", software.versions),
        ("extras", software.extras),
        ("telemetry", software.environment),
        ("codecs", software.codecs),
        ("GPU", machine.gpus),
        ("memory", machine.memory),
    )
    if site is None:
        yield from trying("clock", partial(machine.clock, None))
        return
    yield from trying("disk", partial(machine.disk, site.at(site.data), site.keep))
    yield from _recorded(site)
    yield from _all(
        ("models", partial(installation.installed, site)),
        ("routes", partial(installation.routes, site)),
        ("ports", partial(network.ports, site)),
        ("others", partial(network.others, site)),
    )


def _all(*checks: Check) -> Iterator[Finding]:
    for what, check in checks:
        yield from trying(what, check)


def _recorded(site: Site) -> Iterator[Finding]:
    """The journal, and the clock beside it. One that is not there yet is not made by looking for it."""
    file = Path(site.journal_at) if "://" not in site.journal_at else None
    if file and not file.exists():
        yield Finding("journal", "look", f"{file}: none yet", "nothing: the first program of the installation makes it")
        yield from trying("clock", partial(machine.clock, None))
        return
    try:
        journal = Journal(site.journal_at, upgrade=False)
    except Refusal as refusal:
        verdict: Verdict = "look" if isinstance(refusal, schema.Earlier) else "bad"
        yield Finding("journal", verdict, f"{refusal.where}: {refusal.found}", refusal.remedy)
        yield from trying("clock", partial(machine.clock, None))
        return
    try:
        yield from trying("journal", partial(installation.journal, journal))
        yield from trying("clock", partial(machine.clock, journal))
    finally:
        journal.close()
