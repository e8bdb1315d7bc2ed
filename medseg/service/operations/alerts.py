"""Tells somebody when something goes wrong: a command, a web address, or both. Nothing in it leads to a patient."""

from __future__ import annotations

import http.client
import json
import logging
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medseg.refusal import Refusal
from medseg.service.journal import Journal
from medseg.service.settings.alerts import Alerts
from medseg.service.settings.site import Site, filled

log = logging.getLogger(__name__)
TELL_S = 30.0
"""Longest time that a command or an address may take."""
AGAIN_S = 60.0
"""What could not be told is tried again after so long."""
STALLED_S = 120.0
"""Jobs wait, and for so long nothing has moved: then nobody works."""
TRIES = 3
"""A receiver that does not take a result so often is down."""
NAMED = 20
"""Most jobs that are named at once."""
NEARLY = 2
"""Times keep.free_gib: there is less room, and somebody should look before nothing is taken in any more."""


class Untold(Exception):
    """An alert did not get through."""


@dataclass(frozen=True)
class Trouble:
    """Something that somebody should look at.

    Attributes:
        key: the same as long as it is the same trouble.
        what: a sentence.
        facts: numbers, job numbers, reason codes, names of this installation's settings.
        upto: last event of it, where it consists of events: then each is told once.
    """

    key: str
    what: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    upto: int = 0


class Watch:
    """Looks for troubles, one look after another."""

    def __init__(self, site: Site, journal: Journal, clock: Callable[[], float] = time.monotonic):
        self._site, self._journal, self._clock = site, journal, clock
        self._seen: tuple[Any, ...] = ()
        self._since = clock()

    def look(self) -> list[Trouble]:
        """What is wrong now, except for jobs that have ended badly."""
        counts = self._journal.jobs.counts()
        waiting = counts["received"] + counts["checked"] + counts["queued"]
        found = []
        most = self._site.alerts.backlog
        if most and waiting > most:
            found.append(Trouble("backlog", f"{waiting} jobs wait, more than {most}", {"count": waiting}))
        due, sign = self._journal.troubles.work()
        if not due or sign != self._seen:
            self._seen, self._since = sign, self._clock()
        if self._clock() - self._since >= STALLED_S:
            said = f"{due} jobs wait, and nobody has worked on any for {STALLED_S:.0f} s"
            found.append(Trouble("stalled", said, {"count": due}))
        for name, (count, tries) in self._journal.troubles.owed(TRIES).items():
            said = f"{name} has not taken {count} results"
            found.append(Trouble(f"receiver {name}", said, {"receiver": name, "count": count, "tries": tries}))
        free, least = shutil.disk_usage(_existing(self._site)).free / 2**30, self._site.keep.free_gib * NEARLY
        if free < least:
            said = f"{free:.1f} GiB are free on the disk of the data folder, less than {least:.1f}"
            found.append(Trouble("disk", said, {"free_gib": round(free, 1)}))
        return found


def tell(site: Site, journal: Journal, troubles: Sequence[Trouble], *, age: float, upto: int) -> int:
    """Tell of these troubles and of jobs that have ended badly, each way that the site has, and say how often that was
    done. What was told lately is not told again; what does not get through is logged and tried again.

    Args:
        age: of the installation, in seconds, see `journal.keeping`.
        upto: last event that may be told of: the last one of the look before. PostgreSQL may show one with a smaller
            number after it, which would never be told; by the next look all of these are there.
    """
    count, every_s = 0, site.alerts.every_s
    for way, send in _ways(site.alerts).items():
        ended = _ended_badly(journal, f"{way} failed", upto)
        for trouble in [*ended, *troubles]:
            key = f"{way} {trouble.key}"
            before = journal.troubles.upto(key)
            if not journal.troubles.claim(key, at=age, every_s=every_s, upto=trouble.upto):
                continue
            try:
                send(json.dumps(_message(site, trouble)))
                count += 1
            except Untold as error:
                log.warning("an alert was not told", extra={"facts": {"trouble": trouble.key, "why": str(error)}})
                journal.troubles.put_off(key, told=age - every_s + AGAIN_S, upto=before)
    return count


def _ended_badly(journal: Journal, key: str, upto: int) -> list[Trouble]:
    found = journal.troubles.ended_badly(journal.troubles.upto(key), upto, limit=1000)
    if not found:
        return []
    jobs = {job: {"job": job, "state": state, "reason": code} for _, job, state, code in found}
    codes: dict[str, int] = {}
    for one in jobs.values():
        codes[str(one["reason"])] = codes.get(str(one["reason"]), 0) + 1
    facts = {"count": len(jobs), "reasons": codes, "jobs": list(jobs.values())[:NAMED]}
    return [Trouble("failed", f"{len(jobs)} jobs failed or were put aside", facts, upto=found[-1][0])]


def _message(site: Site, trouble: Trouble) -> dict[str, Any]:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"site": site.name, "at": at, "trouble": trouble.key, "what": trouble.what, **trouble.facts}


def _existing(site: Site) -> str:
    path = site.at(site.data).absolute()
    return str(next(one for one in (path, *path.parents) if one.exists()))


def _ways(alerts: Alerts) -> dict[str, Callable[[str], None]]:
    ways: dict[str, Callable[[str], None]] = {}
    if alerts.command:
        ways["command"] = lambda text: _run(alerts.command, text)
    if alerts.webhook:
        ways["webhook"] = lambda text: _post(alerts.webhook, text)
    return ways


def _run(command: Sequence[str], text: str) -> None:
    """Start a program, without a shell, give it the text, and end it and all that it has started after the limit."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise Untold(f"{command[0]}: {error.strerror}") from error
    try:
        process.communicate(text.encode(), timeout=TELL_S)
    except subprocess.TimeoutExpired as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise Untold(f"{command[0]} did not end within {TELL_S:.0f} s") from error
    if process.returncode:
        raise Untold(f"{command[0]} ended with {process.returncode}")


class _Straight(urllib.request.HTTPRedirectHandler):
    """What is told goes to the address that the site names, and to no other."""

    def redirect_request(self, *_: Any) -> None:
        """None of these codes is followed: it stays an error."""


def _post(address: str, text: str) -> None:
    """Past proxies of the environment. The path of an address is often its password, and is not told."""
    try:
        whole = filled(address)
        scheme, host = urllib.parse.urlsplit(whole).scheme, urllib.parse.urlsplit(whole).hostname
        if scheme not in ("http", "https"):
            raise ValueError(scheme)
        request = urllib.request.Request(whole, text.encode(), {"Content-Type": "application/json"})
    except (Refusal, ValueError) as error:
        raise Untold(
            f"alerts.webhook: {error.found if isinstance(error, Refusal) else 'no address of http or https'}"
        ) from error
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Straight)
    try:
        with opener.open(request, timeout=TELL_S):
            return
    except urllib.error.HTTPError as error:
        raise Untold(f"{host} answers {error.code}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Untold(f"{host}: {getattr(error, 'strerror', None) or type(error).__name__}") from error
