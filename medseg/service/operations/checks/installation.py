"""The journal and the installed models of a site."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import update
from sqlalchemy.exc import DBAPIError

from medseg.service import logs, models
from medseg.service.journal import Journal, schema
from medseg.service.journal.tables import age
from medseg.service.operations.checks.finding import Finding
from medseg.service.settings.site import Site

UNLICENSED = "not stated"
BUSY = "locked"
"""In what SQLite says where another process writes for longer than is waited."""


def journal(found: Journal) -> Iterator[Finding]:
    """Whether it answers and can be written, and which version its tables are of."""
    with found.database.read() as connection:
        at = schema.version(connection)
    try:
        with found.database.write() as connection:
            connection.execute(update(age).values(at=age.c.at))  # as it is
    except DBAPIError as error:
        if BUSY not in logs.why(error):
            yield _unwritable(found, error)
            return
        yield Finding("journal", "look", f"{found.database.name}: it is busy", "ask again in a minute")
    counts = found.jobs.counts()
    waiting = counts["received"] + counts["checked"] + counts["queued"]
    total = sum(counts.values())
    said = f"{found.database.name}: version {at}, {total} jobs, {waiting} wait"
    bad = counts["failed"] + counts["quarantined"] + counts["unmatched"]
    if bad or counts["held"]:
        said += f"; {bad} ended badly or unmatched, {counts['held']} held"
        yield Finding("journal", "look", said, "see `medseg jobs list`")
    else:
        yield Finding("journal", "ok", said)


def _unwritable(found: Journal, error: DBAPIError) -> Finding:
    remedy = "see whose its file and its folder are, and whether its disk, or the database, is set to be read alone"
    return Finding("journal", "bad", f"{found.database.name}: it cannot be written ({logs.why(error)})", remedy)


def installed(site: Site) -> Iterator[Finding]:
    """Each model: its files against their checksums, and its licence; and each route's."""
    folder = models.at(site)
    found = models.listed(folder)
    for one in found:
        damage = models.damaged(one)
        name = f"model {one.name}@{one.version}"
        said = f"licence: {one.licence}" + ("; in use" if one.used else "")
        if damage:
            yield Finding(name, "bad", "; ".join(damage), "install it again under another version, and use that")
        elif one.licence == UNLICENSED:
            yield Finding(name, "look", said, "find out whether it may be used, and say so in its recipe")
        else:
            yield Finding(name, "ok", said)
    broken = models.broken(folder)
    for lost in broken:
        yield Finding(f"model {lost.name}@{lost.version}", "bad", lost.found, "install it again under another version")
    if not (found or broken):
        yield Finding("models", "look", "none are installed", "`medseg models install`, or name run folders in routes")


def routes(site: Site) -> Iterator[Finding]:
    """Whether each leads to a model."""
    for route in site.routes:
        model = models.find(models.at(site), route.model, beside=site.folder)
        yield Finding(f"route {route.name}", "ok", f"model {model}")
    if not site.routes:
        yield Finding("routes", "look", "there are none: every study ends as unmatched", "write some into site.yaml")
