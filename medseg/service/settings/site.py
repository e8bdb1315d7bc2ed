"""`site.yaml`: what one installation is, from where its studies come to where its results go."""

from __future__ import annotations

import os
import re
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from medseg import plugins
from medseg.refusal import Refusal
from medseg.service.settings.alerts import Alerts
from medseg.service.settings.folders import refuse_unsayable
from medseg.service.settings.keep import Keep
from medseg.service.settings.listen import Listen
from medseg.service.settings.receivers import FolderReceiver, Receiver, StoreReceiver
from medseg.service.settings.routes import Route
from medseg.service.settings.serve import Serve
from medseg.service.settings.sources import Source
from medseg.service.settings.watch import Watch
from medseg.service.settings.work import Work
from medseg.settings import Settings, keys_at


class Site(Settings):
    """One installation. Relative paths are relative to the folder of `site.yaml`."""

    name: str = "medseg"
    """Of the installation; in logs and alerts."""
    data: Path = Path("data")
    """Folder of everything that is kept: studies, results, models, the journal."""
    journal: str = ""
    """postgresql://user:password@host/database, for several machines; empty: journal.sqlite in the data folder.
    ${NAME} stands for an environment variable, so that no password need be in this file."""
    listen: Listen = Listen()
    watch: tuple[Watch, ...] = ()
    sources: dict[str, Source] = Field(default_factory=dict)
    receivers: dict[str, Receiver] = Field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    work: Work = Work()
    serve: Serve = Serve()
    keep: Keep = Keep()
    alerts: Alerts = Alerts()
    folder: Path = Field(default=Path(), exclude=True)
    """In which `site.yaml` lies; not written in it."""

    def at(self, path: Path) -> Path:
        """A path of this file, from wherever the program runs."""
        return self.folder / path

    @property
    def journal_at(self) -> str:
        """Where the journal is, for `journal.Journal`."""
        return filled(self.journal) if self.journal else str(self.at(self.data) / "journal.sqlite")


def load(path: Path) -> Site:
    """Read and check a site's file; all mistakes are told at once.

    Raises:
        Refusal: no such file, no YAML, unknown or unfit settings, a route that names what is not there.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Refusal(
            path, found=error.strerror or "nothing", needed="a site's file", remedy="see docs/hospital.md for one"
        ) from error
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise Refusal(path, found=f"no YAML ({error})", needed="YAML", remedy="mend the line that it names") from error
    if not isinstance(values, dict) or "folder" in values:
        raise Refusal(path, found="no settings by name", needed="name: value", remedy="see docs/hospital.md")
    try:
        site = Site.model_validate(values | {"folder": path.absolute().parent})
    except ValidationError as error:
        raise Refusal(path, found=_told(error), needed="settings that fit", remedy="see docs/hospital.md") from error
    for one in (site.folder, site.at(site.data)):  # models may lie beside the one, results lie in the other
        refuse_unsayable(one)
    _refuse_dangling(path, site)
    for route in site.routes:
        _refuse_nothing_to_send(path, site, route)
    _refuse_shared_ports(path, site)
    return site


def _told(error: ValidationError) -> str:
    """A line a mistake, without the value, which may be a password."""
    lines = []
    for one in error.errors():
        *above, key = one["loc"] or ("",)
        words = {"missing": "not there, and needed"}
        if one["type"] == "extra_forbidden":
            words["extra_forbidden"] = f"no such setting; {plugins.nearest(str(key), keys_at(Site, above))}"
        lines.append(f"{'.'.join(map(str, one['loc']))}: {words.get(one['type'], one['msg'])}")
    return "\n  " + "\n  ".join(lines) + "\n"


def _refuse_dangling(path: Path, site: Site) -> None:
    """Names that lead to nothing: a route's receivers."""
    for route in site.routes:
        for name in route.send_to:
            if name not in site.receivers:
                raise Refusal(
                    path,
                    found=f"route {route.name} sends to '{name}'",
                    needed=f"one of the receivers: {', '.join(site.receivers) or 'there are none'}",
                    remedy="add it under receivers, or mend the name",
                )
    names = [route.name for route in site.routes]
    for name in names:
        if names.count(name) > 1:
            raise Refusal(path, found=f"two routes named {name}", needed="a name for each", remedy="rename one of them")


def _refuse_nothing_to_send(path: Path, site: Site, route: Route) -> None:
    """A route to an archive, of whose outputs an archive can take none."""
    archives = [name for name in route.send_to if not isinstance(site.receivers[name], FolderReceiver)]
    if archives and not any(_may_be_dicom(text.partition(":")[0]) for text in route.outputs):
        raise Refusal(
            path,
            found=f"route {route.name} sends {', '.join(route.outputs) or 'nothing'} to '{archives[0]}'",
            needed="an output that is DICOM, because archives take nothing else",
            remedy="add dicom_seg to its outputs, or send them to a folder",
        )


def _may_be_dicom(output: str) -> bool:
    """Of outputs that are not medseg's own, nobody knows before they are written."""
    known = output in plugins.names("outputs")
    return not known or str(plugins.constant("outputs", output, "SUFFIX")).endswith(".dcm")


def _refuse_shared_ports(path: Path, site: Site) -> None:
    """Ports for confirmations: each is opened by one receiver alone, as long as results are sent."""
    taken = {site.listen.port: "the listener"} if site.listen.port else {}
    for name, one in site.receivers.items():
        port = one.reports if isinstance(one, StoreReceiver) else 0
        if port in taken:
            raise Refusal(
                path,
                found=f"port {port} for {taken[port]}, and as reports of receiver {name}",
                needed="a port for each",
                remedy="choose another port for one of them, and tell its archive",
            )
        if port:
            taken[port] = f"reports of receiver {name}"


def filled(text: str) -> str:
    """With environment variables in place of ${NAME}."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise Refusal(
                f"${{{match[1]}}}",
                found="no environment variable of this name",
                needed="it, because site.yaml refers to it",
                remedy=f"export {match[1]}=...",
            )
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", value, text)
