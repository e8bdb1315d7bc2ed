"""Whom to tell when something goes wrong."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medseg.settings import Settings


class Alerts(Settings):
    """A command, a web address, or both; each gets a JSON object without what a patient is known by."""

    command: tuple[str, ...] = ()
    """Program and arguments; the object comes on its standard input."""
    webhook: Annotated[str, Field(pattern=r"^(https?://.+|\$\{\w+\})?$")] = ""
    """Address that the object is posted to, past proxies of the environment; redirects are not followed. ${NAME} stands
    for an environment variable: who knows such an address can often write to it."""
    backlog: Annotated[int, Field(ge=0)] = 100
    """More waiting jobs than this are told of; 0: never."""
    every_s: Annotated[float, Field(gt=0)] = 300
    """The same trouble is told of again no sooner."""
