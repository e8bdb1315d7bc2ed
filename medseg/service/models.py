"""Models of an installation, by name and version; one version of each is in use, and an earlier one can be again."""

from __future__ import annotations

from pathlib import Path

from medseg.refusal import Refusal
from medseg.service.settings.site import Site


def at(site: Site) -> Path:
    """The folder of a site's models."""
    return site.at(site.data) / "models"


def find(folder: Path, name: str, *, beside: Path = Path()) -> Path:
    """The run folder behind a path; relative ones begin at `beside`."""
    path = (beside / name).absolute()
    if path.exists():
        return path
    raise Refusal(f"model {name}", found="nothing there", needed="the path of a run", remedy="correct it", code="model")
