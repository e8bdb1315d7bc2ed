"""`medseg serve` as a process on this machine."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from medseg.service.journal import Journal
from medseg.service.settings.site import load
from medseg.service.web import tokens
from tests.tiny import ENVIRONMENT

WAIT_S = 60


@dataclass
class Process:
    """A running `medseg serve`."""

    running: subprocess.Popen[str]
    address: str
    token: str
    site: Path

    @property
    def port(self) -> int:
        return int(self.address.rstrip("/").rpartition(":")[2])

    @property
    def logged(self) -> str:
        return (self.site.parent / "serve.log").read_text(encoding="utf-8")

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    @contextmanager
    def journal(self) -> Iterator[Journal]:
        journal = Journal(load(self.site).journal_at)
        yield journal
        journal.close()

    def end(self) -> str:
        """Ask it to end; what it has logged."""
        self.running.send_signal(signal.SIGTERM)
        assert self.running.wait(timeout=WAIT_S) == 0, self.logged
        return self.logged


@contextmanager
def process(folder: Path, *, name: str = "medseg", **serve: Any) -> Iterator[Process]:
    site = folder / "site.yaml"
    site.write_text(yaml.safe_dump({"name": name, "serve": {"port": 0, **serve}, "keep": {"free_gib": 0}}))
    token = tokens.add(folder / "tokens.yaml", "me", "admin")
    command = [sys.executable, "-m", "medseg", "serve", str(site)]
    with (
        (folder / "serve.log").open("w") as log,
        subprocess.Popen(
            command, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=log, cwd=folder
        ) as running,
    ):
        started = Process(running, "", token, site)
        try:
            assert running.stdout
            found = re.search(r"listening at (\S+)", running.stdout.readline())
            assert found, started.logged
            yield replace(started, address=found[1])
        finally:
            running.kill()
            running.wait(timeout=WAIT_S)
